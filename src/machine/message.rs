//! What nodes say to each other. `wire` gives these their serialised shape; docs/protocol.md shows each.

use std::sync::Arc;

use super::{
    Fingerprint, GroupPause, ItemName, JournalId, Kind, Modes, Node, NodeName, Pause, PlaceId, Protocols, Reason, Time,
    TransferId,
};

/// The most entries one message carries.
pub const ENTRY_LIMIT: usize = 500;

/// The longest name of a host in a hello, in bytes.
pub const HOST_LIMIT: usize = 255;
/// The longest line about what a node does, in bytes.
pub const DOING_LIMIT: usize = 200;

/// Who a message is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// One node.
    Node(Node),
    /// Whichever central takes it first.
    AnyCentral,
    /// Every node of the group.
    All,
}

/// A node makes itself known: said at every connect and about once a minute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hello {
    /// The versions of the protocol that it speaks. Of a node that shares none with us only these, the journal, the
    /// version, `started`, `reply` and `now` are read; the rest is as if it had nothing to tell.
    pub protocols: Protocols,
    /// The journal it works from.
    pub journal: JournalId,
    /// When the daemon started; another value means that it has been restarted.
    pub started: Time,
    /// The program's version.
    pub version: String,
    /// How many rsync runs it allows at once.
    pub slots: u32,
    /// Whether it wants to hear the others' hello now.
    pub reply: bool,
    /// The host it runs on, one printable line of at most [`HOST_LIMIT`] bytes; may be empty.
    pub host: String,
    /// What its clock shows.
    pub now: Time,
    /// The order that holds the whole node.
    pub paused: Option<Pause>,
    /// The youngest order about the whole group that it knows of.
    pub group: GroupPause,
    /// Bytes free on the file system of its directory; `None` until known.
    pub free: Option<u64>,
    /// Inodes free there; `None` until known, and where that file system has no limit for them.
    pub free_inodes: Option<u64>,
    /// What it does, one printable line of at most [`DOING_LIMIT`] bytes.
    pub doing: String,
    /// Central: where its `in/` and `held/` are.
    pub spool: Option<Location>,
}

/// An item on offer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    /// The transfer that carries it.
    pub transfer: TransferId,
    /// Its name, at the source and at the destination.
    pub name: ItemName,
    /// What it is.
    pub kind: Kind,
    /// How many files, directories and links it consists of.
    pub entries: u64,
    /// What it is proven by.
    pub fingerprint: Fingerprint,
    /// The modes of its entries; empty where there are none or they are not told.
    pub modes: Modes,
    /// When its upload made the transfer; it grows with every transfer of that upload.
    pub minted: Time,
}

/// A directory on central that rsync reads from or writes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    // Shared, because thousands of transfers lie at the same one.
    host: Arc<str>,
    path: Arc<str>,
}

/// Why a host and path are no [`Location`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {found:?} is not allowed: {allowed}")]
pub struct InvalidLocation {
    what: &'static str,
    found: String,
    allowed: &'static str,
}

impl Location {
    /// A `[user@]host` and an absolute path. Both end up on a command line, and with an old rsync in a remote
    /// shell, so only characters that mean nothing there are allowed.
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

    /// `[user@]host`, as rsync takes it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The absolute path of a directory on that host.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// An item on central that a download is to fetch: it lies at `<location>/<transfer>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// The item.
    pub offer: Offer,
    /// The upload it comes from.
    pub upload: NodeName,
}

/// A receiver's word that it holds the item, verified and durable, under its final name. Who says it is
/// the message's sender.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt {
    /// The transfer received.
    pub transfer: TransferId,
    /// What the receiver found its own copy to be.
    pub fingerprint: Fingerprint,
    /// How its copy differs from the source other than in content, one line of at most
    /// [`DETAIL_LIMIT`](super::DETAIL_LIMIT) bytes.
    pub remark: Option<Box<str>>,
}

/// Central's word that every required receiver has given its receipt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// The transfer that is through.
    pub transfer: TransferId,
    /// What the receipts say.
    pub fingerprint: Fingerprint,
    /// Who gave them.
    pub receivers: Vec<NodeName>,
    /// What they remark, as in [`Receipt`].
    pub remark: Option<Box<str>>,
}

/// A transfer waits, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    /// The transfer.
    pub transfer: TransferId,
    /// What holds it up at the sender of this word.
    pub reason: Reason,
}

/// What one message says. Lists hold 1 to [`ENTRY_LIMIT`] entries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Message {
    /// Everyone to all: I am here.
    Hello(Box<Hello>),
    /// Upload to central: these items have settled.
    New(Vec<Offer>),
    /// Upload to central, central to download: these transfers are given up.
    Withdraw(Vec<TransferId>),
    /// Upload to central: an operator has given these up, whether or not central holds them.
    Cancel(Vec<TransferId>),
    /// Central to upload: send these transfers to this place.
    Upload {
        /// The spool directory's identity.
        place: PlaceId,
        /// Where it is; items go to `<location>/<name>`.
        location: Location,
        /// What to send.
        transfers: Vec<TransferId>,
    },
    /// Upload to central: rsync is through with these, and they still are what was announced.
    Sent {
        /// Where they were sent.
        place: PlaceId,
        /// What was sent.
        transfers: Vec<TransferId>,
    },
    /// Central to upload: central's copies are proven.
    Received(Vec<TransferId>),
    /// Central to download: fetch these.
    Download {
        /// The directory they lie below.
        location: Location,
        /// What to fetch.
        items: Vec<Forward>,
    },
    /// Download to central: receipts.
    Done(Vec<Receipt>),
    /// Central to download: these receipts are journalled.
    Noted(Vec<TransferId>),
    /// Central to upload: these are through.
    Release(Vec<Release>),
    /// Upload to central: nothing more is owed at the source.
    Freed(Vec<TransferId>),
    /// Central to upload: these are over.
    Closed(Vec<TransferId>),
    /// Anyone: these wait here, and why.
    Waiting(Vec<Wait>),
    /// Central to anyone: I know nothing of these.
    Unknown(Vec<TransferId>),
}

impl Message {
    /// The word as it stands in messages, routing keys and logs.
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

    /// How many entries it carries.
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

    /// Whether it carries nothing; such a message is never sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in the entries of another message of the same kind, to the same place; a hello replaces the one before.
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
