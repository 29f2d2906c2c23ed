//! The command line of `synklerctl`. `-h` and the completions show the first paragraph of a text; `--help` and the man
//! page show all of it.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::exit::{EXITS, exit_table};
use super::since::Since;
use crate::control::State;

const DEEDS: &str =
    "JSON: one document, { deeds: [Deed], silent: [string] }; silent lists the nodes that did not answer.";

/// Show and control the transfers of synkler in the whole group
///
/// synklerctl asks the synkler daemon of this host. Information about the group comes from central. When central cannot
/// be reached, the daemon shows what this node knows and says so. ITEM is an item name, a transfer id, or an
/// unambiguous beginning of either. Every user who can open the control socket can read. Changes are allowed for root,
/// the user of the daemon and the members of its group.
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
    /// Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]
    #[arg(long, global = true, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// Ask the daemon of this user (systemctl --user), not the one of the system
    #[arg(long, global = true, conflicts_with = "socket")]
    pub user: bool,
    /// Group id of the daemon, if several daemons run on this host
    #[arg(long, global = true, value_name = "ID")]
    pub id: Option<String>,
    /// Print JSON with a stable schema instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Show and read times in UTC instead of local time
    #[arg(long, global = true)]
    pub utc: bool,
    /// What to show or do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What `synklerctl` shows or does.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show this node, its group and the unfinished transfers; with ITEM, details of its transfers
    ///
    /// Without ITEM: shows this node, its broker, the nodes of the group, the number of transfers in each state, and
    /// the first transfers. Transfers that need attention come first, then running ones with their progress, then
    /// queued ones, each with the reason why it waits. With ITEM: shows its stage on each node that knows it, with
    /// checksums, times, failed attempts and the time of the next retry. Finished transfers are included.
    #[command(
        after_long_help = "JSON: one document. Without ITEM a Status; with ITEM { journeys: [{ view: View, journey: Journey }] }, in the order of the ITEMs."
    )]
    Status {
        /// Item name, transfer id, or the beginning of either
        #[arg(value_name = "ITEM")]
        items: Vec<String>,
        /// Show at most N transfers, up to 1000 [default: 100]
        #[arg(long, value_name = "N", conflicts_with = "items", value_parser = clap::value_parser!(u64).range(0..=1000))]
        limit: Option<u64>,
        /// Show only what this node knows, without asking other nodes
        #[arg(long)]
        here: bool,
        /// Show also delivered transfers, of which central still keeps a copy
        #[arg(long, conflicts_with = "items")]
        all: bool,
    },
    /// List unfinished transfers, one per line, oldest first
    #[command(after_long_help = "JSON: one line per transfer, each a Transfer.")]
    List {
        /// Only transfers in this state
        #[arg(long, value_name = "STATE", value_parser = states())]
        state: Option<String>,
        /// Only transfers from this upload node
        #[arg(long, value_name = "NODE")]
        from: Option<String>,
        /// Only transfers that need attention: what failed, and what only a person can continue
        #[arg(long)]
        failed: bool,
        /// List also delivered transfers, of which central still keeps a copy
        #[arg(long)]
        all: bool,
        /// Show at most N transfers
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u64,
        /// Show only what this node knows, without asking other nodes
        #[arg(long)]
        here: bool,
    },
    /// Show the status live; press q to quit
    ///
    /// If stdout is not a terminal, prints one line per change instead. If the daemon restarts, shows that and
    /// reconnects. Keys: q, Esc or Ctrl-C quit; the arrows, Page Up, Page Down, Home and End scroll.
    #[command(
        after_long_help = "JSON: one line per change, each { full: bool, status: Status, gone: [string] }. The first line is full. In the others, status.transfers holds new and changed transfers, and gone lists the ids that left the list."
    )]
    Watch {
        /// Show at most N transfers, up to 1000 [default: 100]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1000))]
        limit: Option<u64>,
        /// Show only what this node knows, without asking other nodes
        #[arg(long)]
        here: bool,
        /// Show also delivered transfers, of which central still keeps a copy
        #[arg(long)]
        all: bool,
    },
    /// Pause transfers on this node, for the given items, or for the whole group
    ///
    /// Running transfers are finished first, unless --now is given. A pause survives restarts and lasts until resume.
    /// Every node shows who paused the transfers and when.
    #[command(after_long_help = DEEDS)]
    Pause {
        /// Pause only these items, on every node: item name, transfer id, or the beginning of either
        #[arg(value_name = "ITEM")]
        items: Vec<String>,
        /// Also stop running transfers; they continue later from the data already moved
        #[arg(long)]
        now: bool,
        /// Pause the whole group
        #[arg(long, conflicts_with = "items")]
        group: bool,
    },
    /// Resume transfers on this node, for the given items, or for the whole group
    #[command(after_long_help = DEEDS)]
    Resume {
        /// Resume only these items, on every node: item name, transfer id, or the beginning of either
        #[arg(value_name = "ITEM")]
        items: Vec<String>,
        /// Resume the whole group
        #[arg(long, conflicts_with = "items")]
        group: bool,
    },
    /// An order about items.
    #[command(flatten)]
    Items(ItemVerb),
    /// Show finished transfers with time, size, speed and MD5
    ///
    /// Reads the journal of this node, latest transfers first. The journal keeps them for history_days (see
    /// synkler.conf(5)).
    #[command(after_long_help = "JSON: one line per transfer, each a Past.")]
    History {
        /// Only transfers that ended since T: 90min, 2h, 3d, today, yesterday, 2026-11-23 or '2026-11-23 18:30' (local
        /// time, or UTC with --utc)
        #[arg(long, value_name = "T", value_parser = Since::parse)]
        since: Option<Since>,
        /// Only items with this name
        #[arg(long, value_name = "NAME")]
        item: Option<String>,
        /// Show at most N transfers
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u64,
    },
    /// Show the nodes of the group, when each joined and when it was last seen
    #[command(
        subcommand_value_name = "VERB",
        subcommand_help_heading = "Verbs",
        disable_help_subcommand = true,
        after_long_help = "JSON: one document, { now: int, view: View, members: [Member] }."
    )]
    Nodes {
        /// Show only the nodes that this node knows, without asking other nodes
        #[arg(long)]
        here: bool,
        /// The action on a node, instead of showing all nodes.
        #[command(subcommand)]
        verb: Option<NodesVerb>,
    },
    /// Print the receipt of a transfer, in the format of md5sum -c
    ///
    /// Prints one line per file, also for a directory. To verify a copy, run it for the directory that holds the item:
    /// synklerctl receipt ITEM | (cd DIRECTORY && md5sum -c)
    #[command(
        after_long_help = "JSON: one document, { id: string, item: string, lines: string, encoded: bool }. If encoded is true, each % with two hex digits in lines stands for one byte."
    )]
    Receipt {
        /// Item name, transfer id, or the beginning of either
        item: String,
    },
    /// Explain what synkler makes of a file, and why
    ///
    /// Says whether PATH is an item, and if not, why: a hidden name, a pattern of ignore or only, its level (item_depth). Then
    /// shows the transfer that carries it or was the last to carry it, as status ITEM does. Names the processes that have it open for
    /// writing, as far as the calling user may see them. PATH is a path on this host, or below file_dir.
    #[command(
        after_long_help = "JSON: one document, { explanation: Explanation, writers: [{ pid: int, name: string, path: string }], transfer: ?{ view: View, journey: Journey } }."
    )]
    Explain {
        /// File or directory
        #[arg(value_hint = clap::ValueHint::AnyPath)]
        path: PathBuf,
    },
    /// Send these files or directories of this upload now
    ///
    /// For an upload with ready = "submit", which sends only what is submitted. PATH is an entry of file_dir, on this host or
    /// below file_dir. It is sent at once, without a quiet time; a file that a process has open for writing waits until it
    /// is closed. If it changes before it is sent, submit it again.
    #[command(after_long_help = DEEDS)]
    Submit {
        /// File or directory
        #[arg(required = true, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
        paths: Vec<PathBuf>,
        /// Move each PATH into file_dir first, from another directory of the same file system
        #[arg(long = "move")]
        moves: bool,
    },
    /// Check this node and print what is wrong and how to fix it
    ///
    /// Checks config, directories and their permissions, journal, broker, ssh to central, rsync, clock, inotify limits
    /// and free space. The daemon runs the checks. If it does not run, the synkler program runs them as the calling
    /// user.
    #[command(after_long_help = "JSON: one document, { findings: [Finding] }.")]
    Check {
        /// Also send a small test file through the whole group and follow it (upload only)
        #[arg(long)]
        canary: bool,
    },
    /// Accept the directory that is at file_dir now as the directory of this node
    ///
    /// A node does nothing in file_dir while another directory is there than before, because something may not be
    /// mounted. Use this only if the change is intended: after a disk was replaced, or file_dir was created anew.
    /// Refused if nothing is wrong.
    #[command(after_long_help = DEEDS)]
    Adopt,
    /// Set the log level until the daemon restarts
    #[command(after_long_help = "JSON: one document, { previous: string }.")]
    LogLevel {
        /// Log messages of this level and above
        level: LogLevel,
    },
    /// Reload the config of the daemon
    ///
    /// Prints the keys whose new value is now in force, and the keys whose new value needs a restart.
    #[command(after_long_help = "JSON: one document, { changed: [string], restart: [string] }.")]
    Reload,
    /// Show the versions of this program and of the daemon
    #[command(
        after_long_help = "JSON: one document, { program: string, daemon: ?string }; daemon is null if it does not run."
    )]
    Version,
}

/// An order about unfinished items.
#[derive(Debug, Subcommand)]
pub enum ItemVerb {
    /// Retry transfers now, without waiting for the next scheduled attempt
    #[command(after_long_help = DEEDS)]
    Retry(Items),
    /// Move transfers to the front of the queue
    #[command(after_long_help = DEEDS)]
    Bump(Items),
    /// Cancel transfers; their source files are kept
    ///
    /// A cancelled source is not sent again until it changes. Copies that a receiver already has stay there. A transfer
    /// that every receiver already has cannot be cancelled.
    #[command(after_long_help = DEEDS)]
    Withdraw(Items),
}

impl ItemVerb {
    /// The method of the control interface, and the items.
    pub fn order(&self) -> (&'static str, &[String]) {
        match self {
            Self::Retry(items) => ("Retry", &items.items),
            Self::Bump(items) => ("Bump", &items.items),
            Self::Withdraw(items) => ("Withdraw", &items.items),
        }
    }
}

/// The values of `--state`; those with a hyphen may also have a space, as they are shown.
fn states() -> impl TypedValueParser<Value = String> {
    let value = |state: &State| match state.shown() {
        shown if shown == state.as_str() => PossibleValue::new(state.as_str()).help(state.text()),
        shown => PossibleValue::new(state.as_str()).alias(shown).help(state.text()),
    };
    PossibleValuesParser::new(State::ALL.iter().map(value)).map(|word| word.replace(' ', "-"))
}

/// The items of an order.
#[derive(Debug, Args)]
pub struct Items {
    /// Item name, transfer id, or the beginning of either
    #[arg(value_name = "ITEM", required = true)]
    pub items: Vec<String>,
}

/// An action on a node.
#[derive(Debug, Subcommand)]
pub enum NodesVerb {
    /// Remove a node from the group; its receipts are no longer required
    ///
    /// Asks for confirmation, unless --yes is given. A node that is alive cannot be removed. A removed node that comes
    /// back joins the group again.
    #[command(after_long_help = DEEDS)]
    Forget {
        /// Name of the node
        name: String,
        /// Mode of the node, if several nodes have that name
        #[arg(long)]
        mode: Option<Mode>,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
}

/// The mode of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Sends files
    Upload,
    /// Stores copies until every receiver has them
    Central,
    /// Receives files
    Download,
}

impl Mode {
    /// The word in the interface.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Central => "central",
            Self::Download => "download",
        }
    }
}

/// The level of log messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Bugs and failures that need an operator
    Error,
    /// Failures that synkler handles itself
    Warn,
    /// One line per step of a transfer
    Info,
    /// Details for developers
    Debug,
    /// Everything
    Trace,
}

impl LogLevel {
    /// The word in the interface.
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
