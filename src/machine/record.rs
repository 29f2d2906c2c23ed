//! What the journal holds.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Cause, Digest, Fingerprint, GroupPause, ItemName, JournalId, Kind, KnownDirectory, Location, Modes, Mounts, Node,
    NodeName, Offer, Pause, PlaceId, Reason, Signature, Time, TransferId,
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
    /// Central: the number of the next place.
    NextPlace(u64),
    /// The order that holds this node; `None` when there is none.
    Paused(Option<Pause>),
    /// The youngest order about the whole group.
    Group(GroupPause),
    /// The manifest text of a directory, by its transfer.
    Manifest(TransferId, Arc<str>),
    /// A peer is forgotten.
    Forgotten(Node),
    /// The directory that `file_dir` is.
    Directory(KnownDirectory),
}

/// One transfer as a node's journal holds it: the same columns for every role, each using what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The transfer.
    pub transfer: TransferId,
    /// Its item.
    pub name: ItemName,
    /// The upload it comes from.
    pub upload: NodeName,
    /// What the item is.
    pub kind: Kind,
    /// How many files, directories and links.
    pub entries: u64,
    /// Its proof.
    pub fingerprint: Fingerprint,
    /// The modes of its entries, as announced.
    pub modes: Modes,
    /// The role's stage, by its stable word.
    pub stage: String,
    /// When its upload made it. It grows with every transfer of an upload: of two contents of one name, the one with the
    /// greater is the later.
    pub minted: Time,
    /// When this node first knew of it.
    pub created: Time,
    /// Since when it has been in this stage.
    pub since: Time,
    /// Why it waits.
    pub reason: Option<Reason>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// Upload: the central that took it.
    pub central: Option<NodeName>,
    /// Upload, central: the place it was or is to be sent to.
    pub place: Option<PlaceId>,
    /// Upload: where that is. Download: where to fetch it.
    pub location: Option<Location>,
    /// Upload: the source as fingerprinted. Download: the item as placed.
    pub signature: Option<Signature>,
    /// Upload: the top entry of the source as fingerprinted. Download: that of what was verified.
    pub inode: Option<u64>,
    /// Upload: when that inode was made, where the file system tells: a later file may be given its number.
    pub born: Option<Time>,
    /// Upload: where in the source another file system began.
    pub mounts: Mounts,
    /// Central: who must give a receipt, and when they did.
    pub receivers: Vec<(NodeName, Option<Time>)>,
    /// Central: the source is free. Download: the receipt is noted.
    pub acknowledged: bool,
    /// Upload, download: the cleanup script has been started. Central: the copy has been removed.
    pub cleaned: bool,
    /// When its bytes began to move from here (upload), were asked for (central) or began to move to here
    /// (download).
    pub began: Option<Time>,
    /// When they had moved and were proven: by central (upload, central) or here (download).
    pub arrived: Option<Time>,
    /// The order that holds it alone.
    pub paused: Option<Box<Pause>>,
    /// Central, download: what the last copy was found to be that was not what was announced.
    pub wrong: Option<Box<Digest>>,
    /// How what receivers hold differs from the source other than in content: one line for people.
    pub remark: Option<Box<str>>,
    /// When it was over; a finished row is history and is not loaded at start.
    pub finished: Option<Time>,
}

impl Row {
    /// A transfer as it begins: known here since `created` (which no two transfers of one journal share) and in its first
    /// stage since `since`.
    pub fn new(offer: Offer, upload: NodeName, created: Time, since: Time) -> Self {
        Self {
            transfer: offer.transfer,
            name: offer.name,
            upload,
            kind: offer.kind,
            entries: offer.entries,
            fingerprint: offer.fingerprint,
            modes: offer.modes,
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
    /// Who.
    pub node: Node,
    /// The journal it showed last.
    pub journal: JournalId,
    /// When its daemon started.
    pub started: Time,
    /// How many rsync runs it allows at once.
    pub slots: u32,
    /// Its program's version.
    pub version: String,
    /// The host it runs on; empty where it does not tell.
    pub host: String,
    /// Central: where its `in/` and `held/` are.
    pub spool: Option<Location>,
    /// When it was first heard.
    pub first_heard: Time,
    /// When it was last heard; the journal may lag behind.
    pub last_heard: Time,
}

/// An item that stays at its source and is not sent again until somebody changes its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: ItemName,
    /// As it was when its content was last known.
    pub signature: Signature,
    /// What was handed over last under this name.
    pub fingerprint: Fingerprint,
    /// What stands there instead, where a cleanup script has had its hands on it; `None` while it is what was handed
    /// over.
    pub left: Option<Left>,
    /// Where in it another file system began.
    pub mounts: Mounts,
}

/// What stands at a source after a cleanup script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// What it is; `None` until it has been read.
    pub fingerprint: Option<Fingerprint>,
    /// Why a person has to decide about it; `None` where the script itself is known to have left it so.
    pub aside: Option<Cause>,
}

/// How long what a cleanup script may have made is told from what users write.
pub const RECENT: Duration = Duration::from_secs(60 * 60);
/// The most cleanup scripts that are remembered for that.
pub const RECENT_LIMIT: usize = 5_000;

/// What the journal holds at start.
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
    /// Finished transfers whose cleanup scripts were started within the last [`RECENT`] before the end of the newest,
    /// newest first, at most [`RECENT_LIMIT`].
    pub recent: Vec<Row>,
    /// The number of the next place.
    pub next_place: u64,
    /// The order that holds this node.
    pub paused: Option<Pause>,
    /// The youngest order about the whole group.
    pub group: GroupPause,
    /// The directory that `file_dir` was last; nothing in a new journal, and in one of an older version.
    pub directory: Option<KnownDirectory>,
}
