//! The messages between nodes. `wire` serialises them; docs/protocol.md shows each.

use std::sync::Arc;

use super::{
    Extras, Fingerprint, GroupPause, ItemName, JournalId, Kind, Modes, Node, NodeName, Pause, PlaceId, Protocols,
    Reason, Time, TransferId,
};

/// The maximum number of entries in one message.
pub const ENTRY_LIMIT: usize = 500;

/// The longest host name in a hello, in bytes.
pub const HOST_LIMIT: usize = 255;
/// The longest text about what a node does, in bytes.
pub const DOING_LIMIT: usize = 200;

/// The receiver of a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// One node.
    Node(Node),
    /// The first central that takes the message.
    AnyCentral,
    /// Every node of the group.
    All,
}

/// A node announces itself: at every connect and about once a minute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hello {
    /// The protocol versions that the node supports. Of a node that shares none with us, only these fields are read:
    /// the journal, the version, `started`, `reply` and `now`. The others have the values of a node that sent none.
    pub protocols: Protocols,
    /// The identity of its journal.
    pub journal: JournalId,
    /// When the daemon started; another value than before shows a restart.
    pub started: Time,
    /// The version of its program.
    pub version: String,
    /// How many rsync runs it allows at once.
    pub slots: u32,
    /// Whether the other nodes should send their hellos now.
    pub reply: bool,
    /// The host on which the node runs, one printable line of at most [`HOST_LIMIT`] bytes; may be empty.
    pub host: String,
    /// The time of its clock.
    pub now: Time,
    /// The order that pauses the whole node.
    pub paused: Option<Pause>,
    /// The latest order about the whole group that the node knows.
    pub group: GroupPause,
    /// Free bytes on the file system of its directory; `None` until known.
    pub free: Option<u64>,
    /// Free inodes there; `None` until known, and if that file system has no limit for them.
    pub free_inodes: Option<u64>,
    /// What the node does, one printable line of at most [`DOING_LIMIT`] bytes.
    pub doing: String,
    /// Central: the directory of its `in/` and `held/`.
    pub spool: Option<Location>,
}

/// An offered item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    /// The transfer.
    pub transfer: TransferId,
    /// The name of the item, at the source and at the destination.
    pub name: ItemName,
    /// The kind of the item.
    pub kind: Kind,
    /// The number of files, directories and links in the item.
    pub entries: u64,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// The modes of its entries; empty if there are none or the sender does not know them.
    pub modes: Modes,
    /// Its extras, and which of them travel; empty if there are none or the sender does not know them.
    pub extras: Extras,
    /// When its upload made the transfer; the value grows with every transfer of that upload.
    pub minted: Time,
}

/// A directory on central that rsync reads from or writes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    // Shared, because thousands of transfers have the same location.
    host: Arc<str>,
    path: Arc<str>,
}

/// Why a host and path are not a [`Location`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {found:?} is not allowed: {allowed}")]
pub struct InvalidLocation {
    what: &'static str,
    found: String,
    allowed: &'static str,
}

impl Location {
    /// A `[user@]host` and an absolute path. Both appear on a command line, and with an old rsync in a remote shell. So
    /// only characters without a special meaning there are allowed.
    pub fn new(host: &str, path: &str) -> Result<Self, InvalidLocation> {
        let host_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | ':' | '[' | ']');
        let shape_ok = !host.is_empty()
            && host.len() <= 255
            && !host.starts_with(['-', '@', ':'])
            && host.matches('@').count() <= 1
            && !host.ends_with('@')
            && !host.contains("@-")
            && (!host.contains(':') || (host.contains('[') && host.ends_with(']')));
        if !shape_ok || !host.chars().all(host_ok) {
            return Err(InvalidLocation {
                what: "host",
                found: host.chars().take(100).collect(),
                allowed: "[user@]host, with an IPv6 address in brackets",
            });
        }
        let path_ok = |c: char| c.is_ascii_alphanumeric() || "/._+@=,-".contains(c);
        let climbs = path.split('/').any(|part| part == "..");
        if !path.starts_with('/') || path.len() > 1024 || climbs || !path.chars().all(path_ok) {
            return Err(InvalidLocation {
                what: "path",
                found: path.chars().take(100).collect(),
                allowed: "an absolute path of A-Z a-z 0-9 / . _ + @ = , -",
            });
        }
        Ok(Self { host: host.into(), path: path.into() })
    }

    /// `[user@]host`, in rsync's form.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The absolute path of a directory on that host.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// An item on central that a download fetches, from `<location>/<transfer>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// The item.
    pub offer: Offer,
    /// The upload it comes from.
    pub upload: NodeName,
}

/// The statement of a receiver that it holds the item, verified and durable, under its final name. The receiver is the
/// sender of the message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt {
    /// The transfer received.
    pub transfer: TransferId,
    /// The fingerprint that the receiver computed of its own copy.
    pub fingerprint: Fingerprint,
    /// How its copy differs from the source except in content, one line of at most
    /// [`DETAIL_LIMIT`](super::DETAIL_LIMIT) bytes.
    pub remark: Option<Box<str>>,
}

/// Central's statement that every required receiver has given its receipt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// The transfer.
    pub transfer: TransferId,
    /// The fingerprint in the receipts.
    pub fingerprint: Fingerprint,
    /// The receivers that sent the receipts.
    pub receivers: Vec<NodeName>,
    /// The remarks of the receivers, as in [`Receipt`].
    pub remark: Option<Box<str>>,
}

/// A transfer waits, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    /// The transfer.
    pub transfer: TransferId,
    /// Why it waits at the sender of the message.
    pub reason: Reason,
}

/// One message. Lists have 1 to [`ENTRY_LIMIT`] entries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Message {
    /// Every node to all: I am present.
    Hello(Box<Hello>),
    /// Upload to central: these items have settled.
    New(Vec<Offer>),
    /// Upload to central, central to download: the sender gives these transfers up.
    Withdraw(Vec<TransferId>),
    /// Upload to central: an operator has cancelled these transfers, whether or not central holds them.
    Cancel(Vec<TransferId>),
    /// Central to upload: send these transfers to this place.
    Upload {
        /// The identity of the spool directory.
        place: PlaceId,
        /// The location of the place; items go to `<location>/<name>`.
        location: Location,
        /// Whether hard links can be kept there.
        links: bool,
        /// The transfers to send.
        transfers: Vec<TransferId>,
    },
    /// Upload to central: rsync has sent these transfers, and their sources still match the announcement.
    Sent {
        /// The place to which they were sent.
        place: PlaceId,
        /// The transfers that were sent.
        transfers: Vec<TransferId>,
    },
    /// Central to upload: central has verified its copies.
    Received(Vec<TransferId>),
    /// Central to download: fetch these.
    Download {
        /// The directory that contains them.
        location: Location,
        /// The items to fetch.
        items: Vec<Forward>,
    },
    /// Download to central: receipts.
    Done(Vec<Receipt>),
    /// Central to download: central has journalled these receipts.
    Noted(Vec<TransferId>),
    /// Central to upload: every required receiver has these transfers.
    Release(Vec<Release>),
    /// Upload to central: upload has finished with the source.
    Freed(Vec<TransferId>),
    /// Central to upload: these transfers are finished.
    Closed(Vec<TransferId>),
    /// Any node: these transfers wait here, and why.
    Waiting(Vec<Wait>),
    /// Central to any node: central does not know these transfers.
    Unknown(Vec<TransferId>),
}

impl Message {
    /// The kind, as in messages, routing keys and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::New(_) => "new",
            Self::Withdraw(_) => "withdraw",
            Self::Cancel(_) => "cancel",
            Self::Upload { .. } => "upload",
            Self::Sent { .. } => "sent",
            Self::Received(_) => "received",
            Self::Download { .. } => "download",
            Self::Done(_) => "done",
            Self::Noted(_) => "noted",
            Self::Release(_) => "release",
            Self::Freed(_) => "freed",
            Self::Closed(_) => "closed",
            Self::Waiting(_) => "waiting",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The number of its entries.
    pub fn len(&self) -> usize {
        match self {
            Self::Hello(_) => 1,
            Self::New(list) => list.len(),
            Self::Upload { transfers, .. } | Self::Sent { transfers, .. } => transfers.len(),
            Self::Download { items, .. } => items.len(),
            Self::Done(list) => list.len(),
            Self::Release(list) => list.len(),
            Self::Waiting(list) => list.len(),
            Self::Withdraw(list)
            | Self::Cancel(list)
            | Self::Received(list)
            | Self::Noted(list)
            | Self::Freed(list)
            | Self::Closed(list)
            | Self::Unknown(list) => list.len(),
        }
    }

    /// Whether it has no entries; such a message is never sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the entries of another message of the same kind, to the same place; a hello replaces the earlier one.
    pub(super) fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Hello(mine), Self::Hello(theirs)) => {
                let reply = mine.reply || theirs.reply;
                *mine = theirs;
                mine.reply = reply;
            }
            (Self::New(mine), Self::New(theirs)) => mine.extend(theirs),
            (Self::Upload { transfers: mine, .. }, Self::Upload { transfers: theirs, .. })
            | (Self::Sent { transfers: mine, .. }, Self::Sent { transfers: theirs, .. })
            | (Self::Withdraw(mine), Self::Withdraw(theirs))
            | (Self::Cancel(mine), Self::Cancel(theirs))
            | (Self::Received(mine), Self::Received(theirs))
            | (Self::Noted(mine), Self::Noted(theirs))
            | (Self::Freed(mine), Self::Freed(theirs))
            | (Self::Closed(mine), Self::Closed(theirs))
            | (Self::Unknown(mine), Self::Unknown(theirs)) => mine.extend(theirs),
            (Self::Download { items: mine, .. }, Self::Download { items: theirs, .. }) => mine.extend(theirs),
            (Self::Done(mine), Self::Done(theirs)) => mine.extend(theirs),
            (Self::Release(mine), Self::Release(theirs)) => mine.extend(theirs),
            (Self::Waiting(mine), Self::Waiting(theirs)) => mine.extend(theirs),
            (mine, theirs) => *mine = theirs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_cannot_carry_options_or_shell_words() {
        assert!(Location::new("syn@central.example.com", "/srv/spool/default/in/0-1").is_ok());
        assert!(Location::new("[2001:db8::1]", "/srv").is_ok());
        assert!(Location::new("me@[::1]", "/srv").is_ok());
        for host in ["", "-oProxyCommand=x", "a b", "a;b", "a:b", "u@-x", "@h", "h@", "a@b@c", "$(x)"] {
            assert!(Location::new(host, "/srv").is_err(), "{host}");
        }
        for path in ["", "srv", "/a b", "/a;b", "/a/../b", "/$(x)", "/a\n", "/*", "/~"] {
            assert!(Location::new("h", path).is_err(), "{path}");
        }
    }
}
