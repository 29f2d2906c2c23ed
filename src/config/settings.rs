//! The settings, valid by construction: the only form of a config that the rest of the program sees.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::cleanup::Cleanup;
use super::patterns::ItemPatterns;
use crate::machine::{GroupId, Keep, KeepModes, Mode, Node, NodeName, Ownership};

/// All settings of a daemon. Directories are absolute paths; the daemon checks that they exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This node.
    pub node: Node,
    /// Its group.
    pub group: GroupId,
    /// The watched directory (upload), the spool (central, with `<group>/` below it), or the destination (download).
    pub file_dir: PathBuf,
    /// The broker.
    pub broker: Broker,
    /// How long finished transfers stay in the journal.
    pub history: Duration,
    /// The directory of the journal.
    pub state_dir: PathBuf,
    /// The path of the control socket, short enough for a socket address.
    pub control_socket: PathBuf,
    /// How upload and download run rsync; central does not use it.
    pub rsync: Rsync,
    /// The settings of one mode only.
    pub role: Role,
}

impl Settings {
    /// The mode of this node.
    pub fn mode(&self) -> Mode {
        self.node.mode
    }
}

/// The broker, and our account there.
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
    /// The password of the account; `None` means a login by client certificate (SASL EXTERNAL), which then exists.
    pub password: Option<Secret>,
    /// The TLS settings; `None` is plain TCP.
    pub tls: Option<Tls>,
}

/// What TLS trusts, and our own certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The only authorities that the broker's certificate may come from, in DER, not empty; `None` means the system's.
    pub authorities: Option<Vec<Vec<u8>>>,
    /// Our own certificate.
    pub identity: Option<Identity>,
}

/// A certificate and its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Our certificate first, then the intermediate ones, in DER; not empty.
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

/// The rsync program and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rsync {
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Further options, one per word (`--name` or `--name=value`), none of which affects the Promise. They come before
    /// our own options, so that ours count.
    pub options: Vec<String>,
    /// The extras that the options ask for.
    pub keep: Keep,
}

/// The settings of one mode only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Watches a directory and sends what appears there.
    Upload {
        /// How long an item must stay unchanged; may be zero.
        settle: Duration,
        /// The number of parallel rsync runs, 1 to 64.
        slots: u32,
        /// What is done with delivered items.
        cleanup: Option<Cleanup>,
        /// Which entries of the directory are items.
        items: ItemPatterns,
        /// What travels beside content and modes.
        keep: Keep,
    },
    /// Receives items, verifies them, and passes them on.
    Central {
        /// `[user@]host` at which other nodes reach `file_dir` by ssh. With `<file_dir>/<group>` it is a valid
        /// [`Location`](crate::machine::Location).
        host: String,
        /// The downloads that must all send a receipt; `None` means every known download. Never empty.
        receivers: Option<BTreeSet<NodeName>>,
        /// How long a copy stays after the last receipt; may be zero.
        keep: Duration,
        /// The part of the file system of `file_dir` that stays free.
        free: Percent,
        /// What central does with the modes of its copies.
        keep_modes: KeepModes,
    },
    /// Receives items under their final names.
    Download {
        /// The number of parallel rsync runs, 1 to 64.
        slots: u32,
        /// What is done with delivered items.
        cleanup: Option<Cleanup>,
        /// What download does with modes.
        keep_modes: KeepModes,
        /// Whose delivered items are, and their modes. With an owner, there is no cleanup that synkler does itself.
        ownership: Ownership,
    },
}

/// A share, exact to a thousandth of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent {
    thousandths: u32,
}

impl Percent {
    /// From thousandths of a percent; more than 100 % counts as 100 %.
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
