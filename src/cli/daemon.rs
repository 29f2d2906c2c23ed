//! The command line of `synkler`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::exit::{DAEMON_EXITS, exit_table};

/// Hands files over: upload -> central -> download, proven by MD5 on every hop
///
/// The daemon of one node. What it does is in its config file, synkler.conf(5); it is started by systemd, tells the
/// journal what it does, and is looked at and steered with synklerctl(1).
#[derive(Debug, Parser)]
#[command(name = "synkler", version, after_help = exit_table(DAEMON_EXITS))]
pub struct DaemonArguments {
    /// Read this config file and no other
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Accepted from older command lines: what it asked for is logged anyway
    #[arg(short, long)]
    pub verbose: bool,
    /// Log what only a developer wants to know
    #[arg(short, long)]
    pub debug: bool,
    /// Print the settings in force and where each came from, then end
    #[arg(long)]
    pub check: bool,
    /// What to do instead of running the daemon.
    #[command(subcommand)]
    pub verb: Option<DaemonVerb>,
}

/// What `synkler` does instead of running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum DaemonVerb {
    /// Examine this node from end to end and print the findings as JSON
    ///
    /// For when the daemon does not run; synklerctl check shows the same to people, and asks the daemon when it runs.
    Check,
}
