//! The drivers: one outside thing per file. Drivers decide nothing; they know neither each other nor the roles.

pub mod broker;
pub mod cleanup;
pub mod clock;
pub mod disk;
mod extras;
pub mod files;
pub mod journal;
pub mod keeps;
pub mod logging;
mod look;
pub mod manifest;
pub mod modes;
pub mod process;
pub mod rsync;
pub mod sys;
pub mod systemd;
pub mod watch;
