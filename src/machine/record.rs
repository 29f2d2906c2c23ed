//! The rows of the journal.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Cause, Digest, Extras, Fingerprint, GroupPause, ItemName, JournalId, Kind, KnownDirectory, Location, Modes, Mounts,
    Node, NodeName, Offer, Pause, PlaceId, Reason, Signature, Time, TransferId, one_line,
};

/// One journal entry; each replaces the earlier one of the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A transfer, by its id.
    Transfer(Box<Row>),
    /// A peer, by its mode and name.
    Node(KnownNode),
    /// Upload: an item that stays at its source and is not sent again, by its name.
    Kept(Kept),
    /// Upload: such an item is gone for good.
    Unkept(ItemName),
    /// Upload: an item that an operator has submitted.
    Submitted(ItemName),
    /// Upload: a submitted item that is sent now, or gone.
    Unsubmitted(ItemName),
    /// Central: the number of the next place.
    NextPlace(u64),
    /// The order that pauses this node; `None` if there is none.
    Paused(Option<Pause>),
    /// The latest order about the whole group.
    Group(GroupPause),
    /// The manifest text of a directory, by its transfer.
    Manifest(TransferId, Arc<str>),
    /// A peer was removed from the group.
    Forgotten(Node),
    /// The directory of the node.
    Directory(KnownDirectory),
}

/// One transfer in the journal of a node: the same columns for every role; each role uses what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The transfer.
    pub transfer: TransferId,
    /// Its item.
    pub name: ItemName,
    /// The upload it comes from.
    pub upload: NodeName,
    /// The kind of the item.
    pub kind: Kind,
    /// The number of files, directories and links.
    pub entries: u64,
    /// The announced fingerprint.
    pub fingerprint: Fingerprint,
    /// The modes of its entries, as announced.
    pub modes: Modes,
    /// Its extras, as announced, and which of them travel.
    pub extras: Extras,
    /// The stage of the role, by its stable word.
    pub stage: String,
    /// When its upload made the transfer. The value grows with every transfer of an upload: of two contents of one
    /// name, the one with the greater value is the later one.
    pub minted: Time,
    /// When this node first knew the transfer.
    pub created: Time,
    /// Since when the transfer has been in this stage.
    pub since: Time,
    /// Why the transfer waits.
    pub reason: Option<Reason>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// Upload: the central that took it.
    pub central: Option<NodeName>,
    /// Upload, central: the place to which the item was sent or has to be sent.
    pub place: Option<PlaceId>,
    /// Upload: the location of that place. Download: the location to fetch from.
    pub location: Option<Location>,
    /// Upload: the source when it was hashed. Download: the item under its final name.
    pub signature: Option<Signature>,
    /// Upload: the top entry of the source when it was hashed. Download: the top entry of the verified copy.
    pub inode: Option<u64>,
    /// Upload: when that inode was created, if the file system records it. A later file may get the same inode number.
    pub born: Option<Time>,
    /// Upload: the mount points in the source.
    pub mounts: Mounts,
    /// Central: who must send a receipt, and when it arrived.
    pub receivers: Vec<(NodeName, Option<Time>)>,
    /// Central: the source is free. Download: central has noted the receipt.
    pub acknowledged: bool,
    /// Upload, download: the cleanup script has been started. Central: the copy has been removed.
    pub cleaned: bool,
    /// When rsync began to move the item from here (upload) or to here (download), or when central requested it.
    pub began: Option<Time>,
    /// When the item was moved and verified: by central (upload, central) or here (download).
    pub arrived: Option<Time>,
    /// The order that pauses this transfer alone.
    pub paused: Option<Box<Pause>>,
    /// Central, download: the digest of the last copy that differed from the announced item.
    pub wrong: Option<Box<Digest>>,
    /// How the receivers' copies differ from the source except in content: one line for people.
    pub remark: Option<Box<str>>,
    /// When the transfer finished; a finished row is history and is not loaded at the start.
    pub finished: Option<Time>,
}

impl Row {
    /// What people should know about the hand-over: what was not carried, and how copies differ; one line.
    pub fn remarks(&self) -> Option<Box<str>> {
        let parts = [self.extras.not_carried(), self.remark.as_deref().map(str::to_owned)];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| one_line(&parts.join("; ")).into())
    }

    /// A transfer at its beginning: known here since `created` (which no two transfers of one journal share) and in its
    /// first stage since `since`.
    pub fn new(offer: Offer, upload: NodeName, created: Time, since: Time) -> Self {
        Self {
            transfer: offer.transfer,
            name: offer.name,
            upload,
            kind: offer.kind,
            entries: offer.entries,
            fingerprint: offer.fingerprint,
            modes: offer.modes,
            extras: offer.extras,
            stage: String::new(),
            minted: offer.minted,
            created,
            since,
            reason: None,
            attempts: 0,
            central: None,
            place: None,
            location: None,
            signature: None,
            inode: None,
            born: None,
            mounts: Mounts::default(),
            receivers: Vec::new(),
            acknowledged: false,
            cleaned: false,
            began: None,
            arrived: None,
            paused: None,
            wrong: None,
            remark: None,
            finished: None,
        }
    }
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNode {
    /// The peer.
    pub node: Node,
    /// The journal id in its last hello.
    pub journal: JournalId,
    /// When its daemon started.
    pub started: Time,
    /// How many rsync runs it allows at once.
    pub slots: u32,
    /// The version of its program.
    pub version: String,
    /// The host on which the peer runs; empty if it did not say.
    pub host: String,
    /// Central: the directory of its `in/` and `held/`.
    pub spool: Option<Location>,
    /// When its first message arrived.
    pub first_heard: Time,
    /// When its last message arrived; the journal may have an older value.
    pub last_heard: Time,
}

/// An item that stays at its source and is not sent again until its content changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The name of the item.
    pub name: ItemName,
    /// The item when its content was last known.
    pub signature: Signature,
    /// The content that was last handed over under this name.
    pub fingerprint: Fingerprint,
    /// What has that name now, if a cleanup script may have changed it; `None` if that is still what was handed over.
    pub left: Option<Left>,
    /// The mount points in the item.
    pub mounts: Mounts,
}

/// What a cleanup script left at a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Its content; `None` until it has been read.
    pub fingerprint: Option<Fingerprint>,
    /// Why a person has to decide about it; `None` if the script certainly left it in this state.
    pub aside: Option<Cause>,
}

/// How long upload can distinguish files that a cleanup script may have made from files of users.
pub const RECENT: Duration = Duration::from_secs(60 * 60);
/// The maximum number of cleanup scripts that are remembered for that.
pub const RECENT_LIMIT: usize = 5_000;

/// The content of the journal at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The journal's identity.
    pub journal: JournalId,
    /// Unfinished transfers, oldest first.
    pub rows: Vec<Row>,
    /// Peers.
    pub nodes: Vec<KnownNode>,
    /// Items that stay at their source.
    pub kept: Vec<Kept>,
    /// Submitted items that no transfer carries yet.
    pub submitted: Vec<ItemName>,
    /// Finished transfers whose cleanup scripts were started within the last [`RECENT`] before the end of the newest,
    /// newest first, at most [`RECENT_LIMIT`].
    pub recent: Vec<Row>,
    /// The number of the next place.
    pub next_place: u64,
    /// The order that pauses this node.
    pub paused: Option<Pause>,
    /// The latest order about the whole group.
    pub group: GroupPause,
    /// The directory of the node; `None` in a new journal, and in one of an older version.
    pub directory: Option<KnownDirectory>,
}
