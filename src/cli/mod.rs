//! The command lines of both programs, and everything `synklerctl` does.
//!
//! The definitions here are the only ones: `--help`, the man pages and the shell completions are made from them. Of the
//! rest of the crate this knows the control interface alone, so that `synklerctl` stays small and starts at once.

mod arguments;
mod daemon;
mod exit;

pub use arguments::{Arguments, Items, LogLevel, Mode, NodesVerb, Verb};
pub use daemon::{DaemonArguments, DaemonVerb, GateSide, InitArguments};
pub use exit::{DAEMON_EXITS, EXITS, Exit, exit_table};
