//! The settings, valid by construction: what the rest of the program sees of a config.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::cleanup::Cleanup;
use super::patterns::ItemPatterns;
use crate::machine::{GroupId, KeepModes, Mode, Node, NodeName};

/// Everything a daemon needs to know. Directories are absolute paths; that they exist is for the daemon to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Who this node is.
    pub node: Node,
    /// The group it belongs to.
    pub group: GroupId,
    /// Watched (upload), spool (central, below it `<group>/`), or destination (download).
    pub file_dir: PathBuf,
    /// Where the words go.
    pub broker: Broker,
    /// How long what is over stays in the journal.
    pub history: Duration,
    /// Where the journal lies.
    pub state_dir: PathBuf,
    /// Where the control socket is to be, short enough for a socket address.
    pub control_socket: PathBuf,
    /// How rsync is run on upload and download; central leaves it alone.
    pub rsync: Rsync,
    /// What only one of the modes needs.
    pub role: Role,
}

impl Settings {
    /// What this node does.
    pub fn mode(&self) -> Mode {
        self.node.mode
    }
}

/// The broker, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// A host name, or an address; an IPv6 address without brackets.
    pub host: String,
    /// The port, not 0.
    pub port: u16,
    /// The virtual host.
    pub vhost: String,
    /// The account's name.
    pub username: String,
    /// The account's password; `None` means that the client certificate logs in (SASL EXTERNAL), which there is then.
    pub password: Option<Secret>,
    /// How the connection is kept private; `None` is plain TCP.
    pub tls: Option<Tls>,
}

/// What TLS is to trust and to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The only authorities whose certificate the broker may have, in DER, not empty; `None` are the system's.
    pub authorities: Option<Vec<Vec<u8>>>,
    /// What the broker is shown of us.
    pub identity: Option<Identity>,
}

/// A certificate and its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Our certificate first, then those that lead to its authority, in DER; not empty.
    pub chain: Vec<Vec<u8>>,
    /// The private key, in DER; never shown.
    pub key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.chain.len())
    }
}

/// A text that neither `Debug` nor `Display` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

/// How rsync is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rsync {
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Further options, one a word (`--name` or `--name=value`), each known to leave the Promise alone. They belong
    /// before our own, so that ours win.
    pub options: Vec<String>,
}

/// What only one of the modes needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Watches a directory and hands over what appears there.
    Upload {
        /// How long an item must have been quiet; may be zero.
        settle: Duration,
        /// How many rsync runs at once, 1 to 64.
        slots: u32,
        /// What is done with delivered items.
        cleanup: Option<Cleanup>,
        /// Which entries of the directory are items.
        items: ItemPatterns,
    },
    /// Takes items in, proves them, and passes them on.
    Central {
        /// `[user@]host` under which the others reach `file_dir` by ssh. Together with `<file_dir>/<group>` it makes
        /// a valid [`Location`](crate::machine::Location).
        host: String,
        /// The downloads that must all give a receipt; `None` is every download known. Never empty.
        receivers: Option<BTreeSet<NodeName>>,
        /// How long a copy stays after the last receipt; may be zero.
        keep: Duration,
        /// How much of the filesystem that holds `file_dir` stays free.
        free: Percent,
        /// What is done about the modes of its copies.
        keep_modes: KeepModes,
    },
    /// Receives items under their final names.
    Download {
        /// How many rsync runs at once, 1 to 64.
        slots: u32,
        /// What is done with delivered items.
        cleanup: Option<Cleanup>,
        /// What is done about modes.
        keep_modes: KeepModes,
    },
}

/// A share, exact to a thousandth of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent {
    thousandths: u32,
}

impl Percent {
    /// From thousandths of a percent; more than all is all.
    pub const fn from_thousandths(thousandths: u32) -> Self {
        Self { thousandths: if thousandths > 100_000 { 100_000 } else { thousandths } }
    }

    /// In thousandths of a percent.
    pub fn thousandths(self) -> u32 {
        self.thousandths
    }

    /// That share of `total`, rounded up.
    pub fn of(self, total: u64) -> u64 {
        let share = (u128::from(total) * u128::from(self.thousandths)).div_ceil(100_000);
        u64::try_from(share).unwrap_or(total)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.thousandths / 1000, self.thousandths % 1000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let broker = Broker {
            host: "h".into(),
            port: 1,
            vhost: "/".into(),
            username: "u".into(),
            password: Some(Secret::new("hunter2")),
            tls: Some(Tls {
                authorities: None,
                identity: Some(Identity { chain: vec![vec![1]], key: b"hunter2".to_vec() }),
            }),
        };
        let secret = broker.password.clone().unwrap();
        let shown = format!("{broker:?} {secret:?} {secret}");
        let key = format!("{:?}", b"hunter2").replace(['[', ']'], "");
        assert!(!shown.contains("hunter2") && !shown.contains(&key), "{shown}");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_percent_is_exact() {
        assert_eq!(Percent::from_thousandths(5_000).of(1_000), 50);
        assert_eq!(Percent::from_thousandths(2_500).of(1_001), 26);
        assert_eq!(Percent::from_thousandths(99_000).of(u64::MAX), u64::MAX / 100 * 99 + 15);
        assert_eq!(Percent::from_thousandths(0).of(u64::MAX), 0);
        assert_eq!(Percent::from_thousandths(2_500).to_string(), "2.5");
        assert_eq!(Percent::from_thousandths(10_000).to_string(), "10");
    }
}
