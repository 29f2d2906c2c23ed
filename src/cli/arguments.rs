//! The command line of `synklerctl`. Its short texts are what `-h` shows and the completions say, the long ones stand in
//! `--help` and in the man page.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::exit::{EXITS, exit_table};
use super::since::Since;

const DEEDS: &str =
    "JSON: one document, { deeds: [Deed], silent: [string] }; silent are the nodes that did not answer.";

/// See what synkler does, in the whole group, and steer it
///
/// Asks the synkler daemon of this host. What is told of the group comes from central; when central cannot be reached,
/// this node tells what it knows and says so. An ITEM is an item's name, a transfer's id, or the beginning of either
/// that no other has. Looking is for whoever may open the control socket; changing things is for root, the daemon's
/// own user and the members of its group.
#[derive(Debug, Parser)]
#[command(
    name = "synklerctl",
    version,
    arg_required_else_help = true,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    disable_help_subcommand = true,
    after_help = exit_table(EXITS)
)]
pub struct Arguments {
    /// The daemon's control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]
    #[arg(long, global = true, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// The daemon's group, where several run on this host
    #[arg(long, global = true, value_name = "ID")]
    pub id: Option<String>,
    /// Print JSON, which stays the same from version to version, instead of a text
    #[arg(long, global = true)]
    pub json: bool,
    /// What to show or do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What `synklerctl` shows or does.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show this node, its group, what is on the way and why it waits; with ITEM, its whole journey
    ///
    /// Without ITEM: this node, its broker, the nodes of the group, how many transfers are in which stage, and the
    /// first of them: those that need attention, then those at work with how far they are, then those in line, each
    /// with the reason why it waits. With ITEM: where it stands on each node that knows it, with digests, times, failed
    /// attempts and when the next one follows; finished transfers are found too.
    #[command(
        after_long_help = "JSON: one document. Without ITEM a Status; with ITEM { journeys: [{ view: View, journey: Journey }] }, in the order of the ITEMs."
    )]
    Status {
        /// Name, id, or the beginning of one
        #[arg(value_name = "ITEM")]
        items: Vec<String>,
        /// Show at most so many transfers, up to 1000 [default: 100]
        #[arg(long, value_name = "N", conflicts_with = "items", value_parser = clap::value_parser!(u64).range(0..=1000))]
        limit: Option<u64>,
        /// Show what this node knows, without asking any other
        #[arg(long)]
        here: bool,
    },
    /// List unfinished transfers, one line each, the oldest first
    #[command(after_long_help = "JSON: one line a transfer, each a Transfer.")]
    List {
        /// Only those in this stage, such as sending or held
        #[arg(long, value_name = "STAGE")]
        state: Option<String>,
        /// Only those of this upload
        #[arg(long, value_name = "NODE")]
        from: Option<String>,
        /// Only those that fail or are held up
        #[arg(long)]
        failed: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u64,
        /// Show what this node knows, without asking any other
        #[arg(long)]
        here: bool,
    },
    /// Show the status live, in place; q quits
    ///
    /// Where stdout is no terminal, a line is printed for each change instead. When the daemon restarts, it says so and
    /// goes on. Keys: q, Esc or Ctrl-C quit; the arrows, Page Up, Page Down, Home and End scroll.
    #[command(
        after_long_help = "JSON: one line a change, each { full: bool, status: Status, gone: [string] }: the first is full; in the others, status.transfers holds what is new or has changed, and gone what is no longer in the list."
    )]
    Watch {
        /// Show at most so many transfers, up to 1000 [default: 100]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1000))]
        limit: Option<u64>,
        /// Show what this node knows, without asking any other
        #[arg(long)]
        here: bool,
    },
    /// Let nothing new start: on this node, for these items, or in the whole group
    ///
    /// What runs is finished first, unless --now is given. The order survives restarts, is shown everywhere with who
    /// gave it and when, and ends with resume.
    #[command(after_long_help = DEEDS)]
    Pause {
        /// Only these items, on every node: name, id, or the beginning of one
        #[arg(value_name = "ITEM")]
        items: Vec<String>,
        /// Stop what runs, too; what it has moved stays and is continued later
        #[arg(long)]
        now: bool,
        /// The whole group
        #[arg(long, conflicts_with = "items")]
        group: bool,
    },
    /// End a pause: of this node, of these items, or of the whole group
    #[command(after_long_help = DEEDS)]
    Resume {
        /// Only these items, on every node: name, id, or the beginning of one
        #[arg(value_name = "ITEM")]
        items: Vec<String>,
        /// The whole group
        #[arg(long, conflicts_with = "items")]
        group: bool,
    },
    /// Try again now what waits for its next attempt
    #[command(after_long_help = DEEDS)]
    Retry(Items),
    /// Send or fetch these next
    #[command(after_long_help = DEEDS)]
    Bump(Items),
    /// Give these transfers up, without touching their sources
    ///
    /// The sources stay as they are and are not sent again until they change. What a receiver has got already stays
    /// there. Refused for what every receiver has got.
    #[command(after_long_help = DEEDS)]
    Withdraw(Items),
    /// Show what was handed over: when, how big, how fast, with which MD5
    ///
    /// As the journal of this node has it, the latest first; it is kept for history_days (synkler.conf(5)).
    #[command(after_long_help = "JSON: one line a transfer, each a Past.")]
    History {
        /// Only what ended since then: 90min, 2h, 3d, today, yesterday, 2026-11-23 or '2026-11-23 18:30' (UTC)
        #[arg(long, value_name = "T", value_parser = Since::parse)]
        since: Option<Since>,
        /// Only items of this name
        #[arg(long, value_name = "NAME")]
        item: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u64,
    },
    /// Show who belongs to the group, since when, and when it was last heard
    #[command(
        subcommand_value_name = "VERB",
        subcommand_help_heading = "Verbs",
        disable_help_subcommand = true,
        after_long_help = "JSON: one document, { now: int, view: View, members: [Member] }."
    )]
    Nodes {
        /// Show whom this node knows, without asking any other
        #[arg(long)]
        here: bool,
        /// What to do with a node, instead of showing all.
        #[command(subcommand)]
        verb: Option<NodesVerb>,
    },
    /// Print the proof of a transfer, as md5sum -c reads it
    ///
    /// One line a file, also for a directory. To be checked in the directory that holds the item: synklerctl receipt
    /// ITEM | (cd /where/it/is && md5sum -c)
    #[command(
        after_long_help = "JSON: one document, { id: string, item: string, lines: string, encoded: bool }; where encoded is true, each % and two hex digits in lines stand for one byte."
    )]
    Receipt {
        /// Name, id, or the beginning of one
        item: String,
    },
    /// Examine this node from end to end, and say what to do about what is wrong
    ///
    /// Config, directories and their rights, journal, broker, ssh to central, rsync, clock, limits of inotify, free
    /// space. The daemon examines itself; when it does not run, the synkler program does it as the user who calls.
    #[command(after_long_help = "JSON: one document, { findings: [Finding] }.")]
    Check {
        /// Send a small file through the whole group, too, and follow it (on an upload)
        #[arg(long)]
        canary: bool,
    },
    /// Log from now on until the next start only what is as important as this
    #[command(after_long_help = "JSON: one document, { previous: string }.")]
    LogLevel {
        /// The least important kind of message to log
        level: LogLevel,
    },
    /// Have the daemon read its config again
    ///
    /// Says which keys now have another value, and which would have one after a restart only.
    #[command(after_long_help = "JSON: one document, { changed: [string], restart: [string] }.")]
    Reload,
    /// Show the versions of this program and of the daemon
    #[command(
        after_long_help = "JSON: one document, { program: string, daemon: ?string }; daemon is null when it does not run."
    )]
    Version,
}

/// The items an order is about.
#[derive(Debug, Args)]
pub struct Items {
    /// Name, id, or the beginning of one
    #[arg(value_name = "ITEM", required = true)]
    pub items: Vec<String>,
}

/// What to do with a node.
#[derive(Debug, Subcommand)]
pub enum NodesVerb {
    /// No longer count on a node that will not come back: a download's receipts are not waited for any more
    ///
    /// Asks first, unless --yes is given. Refused while the node is alive. A node that comes back all the same belongs
    /// to the group again.
    #[command(after_long_help = DEEDS)]
    Forget {
        /// What the node is called
        name: String,
        /// What it does, where several nodes have that name
        #[arg(long)]
        mode: Option<Mode>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// What a node does in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// It sends
    Upload,
    /// It holds copies on their way
    Central,
    /// It fetches
    Download,
}

impl Mode {
    /// As the interface calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Central => "central",
            Self::Download => "download",
        }
    }
}

/// How important a message must be to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// A bug, or a human is needed
    Error,
    /// Bad, but handled
    Warn,
    /// One line for each step of a transfer
    Info,
    /// What only a developer wants to know
    Debug,
    /// All there is
    Trace,
}

impl LogLevel {
    /// As the interface calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
