//! The command line of `synkler`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::arguments::Mode;
use super::exit::{DAEMON_EXITS, exit_table};

/// Transfer files from upload over central to download, verified by MD5 on every hop
///
/// Without a verb, synkler runs the daemon of one node. synkler.conf(5) describes its config file. systemd starts the
/// daemon, the system journal holds its log, and synklerctl(1) shows and controls it.
#[derive(Debug, Parser)]
#[command(name = "synkler", version, after_help = exit_table(DAEMON_EXITS))]
pub struct DaemonArguments {
    /// Read only this config file
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Accepted for compatibility; has no effect
    #[arg(short, long)]
    pub verbose: bool,
    /// Log details for developers
    #[arg(short, long)]
    pub debug: bool,
    /// Print the settings in force and the source of each, then exit
    #[arg(long)]
    pub check: bool,
    /// The action instead of running the daemon.
    #[command(subcommand)]
    pub verb: Option<DaemonVerb>,
}

/// An action of `synkler` other than running the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum DaemonVerb {
    /// Check this node and print the findings as JSON
    ///
    /// Use it if the daemon does not run. synklerctl check prints the same findings as text, from the daemon if it
    /// runs.
    Check,
    /// Write the config of this node and print the next steps
    ///
    /// On a terminal, asks for every required value that no option gives. Writes /etc/synkler/synkler.toml, or the file
    /// given by --config, with mode 0640 and group synkler. Writes a password to /etc/synkler/credentials, which only
    /// root can read; systemd passes it to the service.
    #[command(after_help = "Example: synkler init upload --file-dir /srv/outgoing --server central.example.com")]
    Init(Box<InitArguments>),
    /// Create a broker account with minimal permissions for each node
    ///
    /// Prints a shell script for root on the broker host; with --apply, runs it. Generates the passwords and shows them
    /// only once. Existing accounts keep their password; their permissions are set again.
    #[command(after_help = "Example: synkler broker-setup --apply upload:alpha central:hub download:delta")]
    BrokerSetup {
        /// Nodes that get an account
        #[arg(value_name = "MODE:NAME", required = true)]
        nodes: Vec<String>,
        /// Group id of the nodes
        #[arg(long, value_name = "ID", default_value = "default")]
        id: String,
        /// Virtual host on the broker; created if it does not exist
        #[arg(long, value_name = "VHOST", default_value = "/")]
        vhost: String,
        /// Run the commands instead of printing them
        #[arg(long)]
        apply: bool,
        /// File with the password, for exactly one node, instead of a generated one; - reads standard input
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        password_file: Option<PathBuf>,
    },
    /// Print the systemd drop-in that gives the service access to the paths in the config
    ///
    /// These paths are file_dir, the directories named in the cleanup script, and those given by --also. Other
    /// directories in home directories stay hidden. For an instance, give --config /etc/synkler/INSTANCE.toml. The
    /// drop-in has the rights that owner and group need. --as and --read-others add rights; the drop-in states what each
    /// costs in systemd-analyze security.
    #[command(after_help = "Example: synkler drop-in --apply")]
    DropIn {
        /// Also give access to these paths, for the cleanup script
        #[arg(long, value_name = "PATH", num_args = 1.., value_hint = ValueHint::AnyPath)]
        also: Vec<PathBuf>,
        /// Run the service as this existing user; for uploads and downloads
        ///
        /// With --apply, also hands over the state directory (journal, keys) and what the service owns of the directories
        /// in the config. The service must be stopped. A later --apply without --as hands them back.
        #[arg(long = "as", value_name = "USER")]
        user: Option<String>,
        /// Let an upload read the files of every user (CAP_DAC_READ_SEARCH)
        #[arg(long)]
        read_others: bool,
        /// Install the drop-in as paths.conf where systemd reads it, replacing an older one
        #[arg(long)]
        apply: bool,
    },
    /// Create the SSH key pair of this node and print the line for authorized_keys on central
    ///
    /// Creates an ed25519 key pair without a passphrase as ssh_key in the state directory. Keeps an existing key pair.
    /// A key from systemd (/etc/synkler/credentials/ssh_key) has precedence. The printed line restricts the login to
    /// synkler gate for the spool of one group. Run by root, it acts as the owner of the state directory.
    #[command(
        after_help = "Example: synkler keys --spool /srv/synkler/default | ssh root@central 'cat >>~synkler/.ssh/authorized_keys'"
    )]
    Keys {
        /// Spool that the key may access: file_dir and id of central, such as /srv/synkler/default
        #[arg(long, value_name = "FILE_DIR/ID")]
        spool: Option<String>,
    },
    /// Show central's SSH host keys and add them to known_hosts
    ///
    /// Host keys are never accepted automatically: asks for confirmation, or compares them with --fingerprint. Writes
    /// them to known_hosts in the state directory and replaces older keys of that host. Run by root, it acts as the
    /// owner of the state directory.
    #[command(after_help = "Example: synkler trust central.example.com --fingerprint SHA256:...")]
    Trust {
        /// Host name or address of central, as in central_host
        host: String,
        /// Port of sshd on central
        #[arg(long, value_name = "PORT", default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// Do not ask; accept only the host key with this fingerprint
        #[arg(long, value_name = "SHA256:...")]
        fingerprint: Option<String>,
    },
    /// Run a node's rsync in one spool on central; this is the forced command in authorized_keys
    ///
    /// Reads the requested command from $SSH_ORIGINAL_COMMAND. Runs only the rsync commands of synkler: an upload
    /// writes to a directory in SPOOL/in, a download reads SPOOL/held. Landlock confines rsync to that directory.
    /// Refuses everything else with a message on standard error.
    Gate {
        /// Mode of the node that owns the key
        side: GateSide,
        /// Spool directory: file_dir and id of central, such as /srv/synkler/default
        spool: PathBuf,
        /// Path of the rsync program
        #[arg(long, value_name = "PATH", default_value = "/usr/bin/rsync")]
        rsync: PathBuf,
        /// Run without Landlock if the kernel lacks it; the owner of the key is then trusted to stay in the spool
        #[arg(long)]
        no_landlock: bool,
    },
}

/// The values for `synkler init`; it asks for missing ones.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct InitArguments {
    /// Mode of this node
    pub mode: Mode,
    /// Watched directory (upload), spool (central) or destination (download)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub file_dir: Option<PathBuf>,
    /// Host name or address of the broker
    #[arg(long, value_name = "HOST")]
    pub server: Option<String>,
    /// Group id [default: default]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Name of this node [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// SSH address of central (default: on central synkler@ and the host name, else the broker host)
    #[arg(long, value_name = "[USER@]HOST")]
    pub central_host: Option<String>,
    /// Virtual host on the broker [default: /]
    #[arg(long, value_name = "VHOST")]
    pub vhost: Option<String>,
    /// Account on the broker [default: the one that broker-setup creates for this node]
    #[arg(long, value_name = "ACCOUNT")]
    pub username: Option<String>,
    /// File with the password of the account, on one line; - reads standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
    /// Connect to the broker with TLS
    #[arg(long)]
    pub tls: bool,
    /// CA certificates for the broker's certificate, in PEM; implies --tls
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca_file: Option<PathBuf>,
    /// Levels of directories below file_dir that stay where they are, on upload: with 1, each directory in it is an inbox
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=8))]
    pub item_depth: Option<u8>,
    /// When an item counts as complete, on upload: settled, marker or submit
    #[arg(long, value_name = "WHEN", value_parser = ["settled", "marker", "submit"])]
    pub ready: Option<String>,
    /// User who writes into file_dir (upload) or reads from it (download), for whom the next steps propose permissions
    #[arg(long, value_name = "USER")]
    pub used_by: Option<String>,
    /// Directory to which each delivered item moves, on upload and download
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, group = "cleanup")]
    pub cleanup_move: Option<PathBuf>,
    /// Delete each delivered item, on upload and download
    #[arg(long, group = "cleanup")]
    pub cleanup_delete: bool,
    /// Command to run for each delivered item, on upload and download
    #[arg(long, value_name = "COMMAND", group = "cleanup")]
    pub cleanup_script: Option<String>,
    /// Create the directory for the user of the service, if it does not exist
    #[arg(long)]
    pub make_dir: bool,
    /// Overwrite a config file that already sets keys
    #[arg(long)]
    pub force: bool,
}

/// The mode of the node that owns the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GateSide {
    /// Writes to the spool
    Upload,
    /// Reads from the spool
    Download,
}
