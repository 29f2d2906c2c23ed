//! Bad input and broken surroundings: each is met with a clear error, and nothing is lost.

mod broker;
mod cleanup;
mod disk;
mod inodes;
mod moved;
mod source;
mod ssh;
mod start;
mod unfinished;

use std::time::Duration;

/// For what takes several attempts.
const LONG: Duration = Duration::from_secs(120);
