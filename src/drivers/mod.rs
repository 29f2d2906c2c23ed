//! The outside world, one thing a file. Drivers decide nothing; they do not know each other or the roles.

pub mod broker;
pub mod cleanup;
pub mod clock;
pub mod disk;
pub mod files;
pub mod journal;
pub mod keeps;
pub mod logging;
pub mod manifest;
pub mod modes;
pub mod process;
pub mod rsync;
pub mod sys;
pub mod systemd;
pub mod watch;
