//! The command line of `synkler`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::arguments::Mode;
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
    /// Write this node's config, and say what is to be done next
    ///
    /// Asks for what the options leave out, where there is a terminal. The config is /etc/synkler/synkler.toml, or what
    /// --config names, with mode 0640 for the group synkler. A password goes to /etc/synkler/credentials, which root
    /// alone can read and from where systemd hands it to the service.
    #[command(after_help = "Example: synkler init upload --file-dir /srv/outgoing --server central.example.com")]
    Init(Box<InitArguments>),
    /// Make an account at the broker for each node, which can say and hear what its role needs and nothing else
    ///
    /// Prints a script for sh, or with --apply runs it, which is for root on the broker's host. Passwords are generated,
    /// and shown this once. Accounts that are there keep their passwords and get their rights anew.
    #[command(after_help = "Example: synkler broker-setup --apply upload:alpha central:hub download:delta")]
    BrokerSetup {
        /// The nodes
        #[arg(value_name = "MODE:NAME", required = true)]
        nodes: Vec<String>,
        /// Their group
        #[arg(long, value_name = "ID", default_value = "default")]
        id: String,
        /// The virtual host, which is made if it is not there
        #[arg(long, value_name = "VHOST", default_value = "/")]
        vhost: String,
        /// Run the commands instead of printing them
        #[arg(long)]
        apply: bool,
        /// A file with the password of the one node named, instead of a generated one; - is standard input
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        password_file: Option<PathBuf>,
    },
    /// Print the systemd drop-in that opens the service's box for what the config names
    ///
    /// That is file_dir, the directories that the cleanup script names, and what --also adds. Homes stay hidden but for
    /// what is named. The drop-in of an instance comes with --config /etc/synkler/INSTANCE.toml.
    #[command(after_help = "Example: synkler drop-in --apply")]
    DropIn {
        /// Open these too, for what a cleanup script touches
        #[arg(long, value_name = "PATH", num_args = 1.., value_hint = ValueHint::AnyPath)]
        also: Vec<PathBuf>,
        /// Put it where systemd reads it, as paths.conf, in place of what is there
        #[arg(long)]
        apply: bool,
    },
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

/// What `synkler init` is told; what is missing is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct InitArguments {
    /// What this node does
    pub mode: Mode,
    /// The directory that is watched (upload), the spool (central) or the destination (download)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub file_dir: Option<PathBuf>,
    /// Host name or address of the broker
    #[arg(long, value_name = "HOST")]
    pub server: Option<String>,
    /// The group [default: default]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// This node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where central is reached by ssh [default: on central synkler at the host name, else the broker's host]
    #[arg(long, value_name = "[USER@]HOST")]
    pub central_host: Option<String>,
    /// The virtual host at the broker [default: /]
    #[arg(long, value_name = "VHOST")]
    pub vhost: Option<String>,
    /// The account at the broker [default: the one that broker-setup makes for this node]
    #[arg(long, value_name = "ACCOUNT")]
    pub username: Option<String>,
    /// A file with the account's password, on one line; - is standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
    /// Speak to the broker by TLS
    #[arg(long)]
    pub tls: bool,
    /// The authorities that the broker's certificate may be of, in PEM; with it goes --tls
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca_file: Option<PathBuf>,
    /// What to run for an item that is through, on upload and download
    #[arg(long, value_name = "COMMAND")]
    pub cleanup_script: Option<String>,
    /// Make the directory, for the service's user, if it is not there
    #[arg(long)]
    pub make_dir: bool,
    /// Replace a config that sets something already
    #[arg(long)]
    pub force: bool,
}

/// Whose key opens the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GateSide {
    /// It writes
    Upload,
    /// It reads
    Download,
}
