//! The command line of `synkler`.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

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
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum DaemonVerb {
    /// Examine this node from end to end and print the findings as JSON
    ///
    /// For when the daemon does not run; synklerctl check shows the same to people, and asks the daemon when it runs.
    Check,
    /// Make the key with which this node logs in to central, and print the line for central's authorized_keys
    ///
    /// The key is ssh_key in the state directory, an ed25519 pair without a passphrase; one that is there is kept, and one
    /// that systemd hands over (/etc/synkler/credentials/ssh_key) goes first. With the printed line it opens nothing on
    /// central but the gate to one group's spool (see gate). Root acts as the owner of the state directory.
    #[command(
        after_help = "Example: synkler keys --spool /srv/synkler/default | ssh root@central 'cat >>~synkler/.ssh/authorized_keys'"
    )]
    Keys {
        /// The spool that the key opens: file_dir and id as central has them, such as /srv/synkler/default
        #[arg(long, value_name = "FILE_DIR/ID")]
        spool: Option<String>,
    },
    /// Show the host keys of central and have this node believe them from now on
    ///
    /// Asks whether they are the right ones, or takes --fingerprint for an answer; then they stand in known_hosts in the
    /// state directory, in place of older ones of that host. Root acts as the owner of the state directory.
    #[command(after_help = "Example: synkler trust central.example.com --fingerprint SHA256:...")]
    Trust {
        /// Name or address of the host, as central_host has it
        host: String,
        /// The port of its sshd
        #[arg(long, value_name = "PORT", default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// Do not ask: believe the key with this fingerprint and no other
        #[arg(long, value_name = "SHA256:...")]
        fingerprint: Option<String>,
    },
    /// Let a node's rsync into one spool on central: the forced command in authorized_keys
    ///
    /// sshd says in $SSH_ORIGINAL_COMMAND what the node asks for. Allowed is the rsync of synkler's own runs: an upload
    /// writes to a place in SPOOL/in, a download reads SPOOL/held, and rsync is confined to that directory by the kernel
    /// (Landlock). All else is refused on standard error.
    Gate {
        /// Whose key it is
        side: GateSide,
        /// file_dir and id of central, such as /srv/synkler/default
        spool: PathBuf,
        /// The rsync program
        #[arg(long, value_name = "PATH", default_value = "/usr/bin/rsync")]
        rsync: PathBuf,
        /// Go on where the kernel has no Landlock: whoever has the key is then trusted to stay in the spool
        #[arg(long)]
        no_landlock: bool,
    },
}

/// Whose key opens the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GateSide {
    /// It writes
    Upload,
    /// It reads
    Download,
}
