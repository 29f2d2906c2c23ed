//! The one vocabulary between the machines and the world: [`Input`] comes in, [`Effect`] goes out.
//!
//! Every effect that can end is answered by exactly one input; the table is the contract that the drivers
//! and the simulator keep:
//!
//! | effect | answer |
//! |---|---|
//! | `Hash` | `Hashed` |
//! | `Look` | `Looked` |
//! | `Run` | `Progress` (any number), then `Ran` |
//! | `Halt` | none of its own: the halted run ends with `Ran` |
//! | `Take` | `Taken` |
//! | `Verify` | `Verified` |
//! | `Place` | `Placed` |
//! | `Drop` | `Dropped` |
//! | `Cleanup` | `Cleaned` |
//! | `Measure` | `Space` |
//! | `Recall` | `Recalled` |
//! | `Persist`, `Say`, `DropPlace`, `Sweep`, `Note` | none |

use std::collections::BTreeSet;

use super::{
    Address, Fingerprint, ItemName, JournalId, Kind, Location, Node, NodeName, PlaceId, Reason, Signature, Time,
    TransferId, Words,
};

/// One rsync run's number, unique while the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// What happens to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A deadline may have passed.
    Timeout,
    /// The broker session is up and the queues are bound.
    Connected,
    /// The broker session is gone; what was said last may not have arrived.
    Disconnected(Reason),
    /// A peer said something.
    Heard {
        /// Who, as the message says.
        from: Node,
        /// What.
        words: Words,
    },
    /// The watch sees an item for the first time, or sees it changed.
    Seen(Sighting),
    /// An item the watch had seen is gone from the directory.
    Vanished(ItemName),
    /// The watch has been through the whole directory once since the daemon started.
    Scanned,
    /// Answer to [`Effect::Hash`].
    Hashed {
        /// The item asked about.
        item: ItemName,
        /// What came of it.
        outcome: HashOutcome,
    },
    /// Answer to [`Effect::Look`].
    Looked {
        /// The transfer on whose behalf.
        transfer: TransferId,
        /// What stands there.
        sight: Sight,
    },
    /// How far a run is.
    Progress {
        /// Which.
        run: RunId,
        /// Bytes of file data moved so far.
        bytes: u64,
        /// Bytes a second, as rsync tells.
        rate: u64,
    },
    /// Answer to [`Effect::Run`].
    Ran {
        /// Which.
        run: RunId,
        /// How it ended.
        outcome: RunOutcome,
    },
    /// Answer to [`Effect::Take`].
    Taken {
        /// Which.
        transfer: TransferId,
        /// What central now holds.
        outcome: CopyOutcome,
    },
    /// Answer to [`Effect::Verify`].
    Verified {
        /// Which.
        transfer: TransferId,
        /// What lies in staging.
        outcome: CopyOutcome,
    },
    /// Answer to [`Effect::Place`].
    Placed {
        /// Which.
        transfer: TransferId,
        /// What came of it.
        outcome: PlaceOutcome,
    },
    /// Answer to [`Effect::Drop`].
    Dropped {
        /// Which.
        transfer: TransferId,
        /// Nothing is left of it, or why not.
        outcome: Result<(), Reason>,
    },
    /// Answer to [`Effect::Cleanup`].
    Cleaned {
        /// Which.
        transfer: TransferId,
        /// The script's exit, or why there was none.
        outcome: Result<(), Reason>,
    },
    /// Answer to [`Effect::Measure`]: the file system that holds `file_dir`.
    Space {
        /// Bytes free for us.
        free: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Answer to [`Effect::Recall`].
    Recalled {
        /// What was asked.
        question: Question,
        /// The finished transfer that answers it, newest first where there are several.
        row: Option<Box<Row>>,
    },
    /// An operator pauses or resumes this node: while paused, nothing new starts.
    Pause(bool),
}

/// What a machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write this to the journal. All records of one drain go into one transaction, which is durable before
    /// any other effect of that drain is carried out.
    Persist(Record),
    /// Tell a peer.
    Say {
        /// Whom.
        to: Address,
        /// What.
        words: Words,
    },
    /// Upload: check that nobody writes the item and that it still carries this signature, compute its
    /// fingerprint, look again.
    Hash {
        /// The item, in `file_dir`.
        item: ItemName,
        /// What the watch saw.
        signature: Signature,
    },
    /// Look at an item in `file_dir` again, entry by entry.
    Look {
        /// On whose behalf.
        transfer: TransferId,
        /// The item.
        item: ItemName,
    },
    /// Start one rsync run.
    Run(Run),
    /// Stop a run; what it moved stays, to be continued.
    Halt(RunId),
    /// Central: move `in/<place>/<name>` to `held/<transfer>/<name>` (where that has been done already, leave
    /// it), then compute the fingerprint of what is held.
    Take {
        /// Which.
        transfer: TransferId,
        /// Where it was sent; `None` looks at what is held only.
        place: Option<PlaceId>,
        /// Its name.
        name: ItemName,
        /// What it should be: decides what the fingerprint is computed of, see [`Fingerprint`].
        kind: Kind,
    },
    /// Download: compute the fingerprint of `staging/<transfer>/<name>` and make it durable.
    Verify {
        /// Which.
        transfer: TransferId,
        /// Its name.
        name: ItemName,
        /// What it should be.
        kind: Kind,
    },
    /// Download: give it its final name, without overwriting, durably.
    Place {
        /// Which.
        transfer: TransferId,
        /// Its name.
        name: ItemName,
        /// The inode of what was verified: where staging no longer holds it, it has been placed before.
        inode: u64,
        /// What may be replaced: what stands under the name, if it still carries this signature.
        replace: Option<Signature>,
    },
    /// Central: remove `held/<transfer>`. Download: remove `staging/<transfer>`. Done already is fine.
    Drop(TransferId),
    /// Central: remove `in/<place>` and what is left in it.
    DropPlace(PlaceId),
    /// At start: remove what the spool or staging directory holds beyond these, left over from before.
    Sweep {
        /// Transfers whose copies stay.
        transfers: BTreeSet<TransferId>,
        /// Places that are still in use.
        places: BTreeSet<PlaceId>,
    },
    /// Run the cleanup script for an item in `file_dir`.
    Cleanup {
        /// On whose behalf.
        transfer: TransferId,
        /// The item.
        item: ItemName,
    },
    /// How much space is there?
    Measure,
    /// Ask the journal about finished transfers.
    Recall(Question),
    /// Tell the log.
    Note(Note),
}

/// What the watch saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The item.
    pub name: ItemName,
    /// Its signature now.
    pub signature: Signature,
    /// Bytes of all its files.
    pub size: u64,
    /// It came in by a rename, so it needs no quiet time.
    pub complete: bool,
}

/// What a second look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// It is there and carries this signature.
    Present(Signature),
    /// It is not there.
    Gone,
    /// It cannot be looked at.
    Unreadable(Reason),
}

/// What came of hashing a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOutcome {
    /// Nobody wrote it, and it stayed the same from the first look to the last.
    Proven {
        /// What it is.
        kind: Kind,
        /// How many files, directories and links.
        entries: u64,
        /// Its proof.
        fingerprint: Fingerprint,
    },
    /// It is not what the watch saw; this is what it is now.
    Changed(Sighting),
    /// It went away.
    Gone,
    /// It cannot be sent as it is: somebody writes, something is unreadable or special.
    Held(Reason),
}

/// Which way a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From `file_dir/<name>` to `<location>/<name>`.
    Push,
    /// From `<location>/<transfer>/<name>` to `staging/<transfer>/<name>`.
    Pull,
}

/// One rsync run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// Which way.
    pub direction: Direction,
    /// The far side.
    pub location: Location,
    /// What to move.
    pub batch: Vec<(TransferId, ItemName)>,
}

/// Who can do something about a failed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It may pass by itself: a connection, a time-out.
    Passing,
    /// A person is needed: host key, login, rsync itself.
    Lasting,
}

/// How a run ended. rsync's exit proves nothing: the digests on the far side do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// rsync says that everything was moved.
    Complete,
    /// rsync says that some of it was not moved.
    Partial(Reason),
    /// Nothing can be said of any item.
    Failed(Fault, Reason),
}

/// What a copy of ours was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyOutcome {
    /// Its fingerprint and the inode of its top entry.
    Found {
        /// What it is.
        fingerprint: Fingerprint,
        /// Its top entry.
        inode: u64,
    },
    /// It is not there.
    Missing,
    /// It cannot be read, moved or made durable.
    Failed(Reason),
}

/// What came of placing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceOutcome {
    /// It stands under its final name, durably, and carries this signature there.
    Placed(Signature),
    /// Something else stands under its name and was left alone.
    Occupied,
    /// Staging does not hold it and never gave it away: fetch it again.
    Lost,
    /// The file system refused.
    Failed(Reason),
}

/// A question about finished transfers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Has this one been here?
    Transfer(TransferId),
    /// Which one was placed last under this name?
    Name {
        /// The name.
        name: ItemName,
        /// On whose behalf.
        transfer: TransferId,
    },
}

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
    /// Whether an operator has paused this node.
    Paused(bool),
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
    /// The role's stage, by its stable word.
    pub stage: String,
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
    /// Download: the top entry of what was verified.
    pub inode: Option<u64>,
    /// Central: who must give a receipt, and when they did.
    pub receivers: Vec<(NodeName, Option<Time>)>,
    /// Central: the source is free. Download: the receipt is noted.
    pub acknowledged: bool,
    /// Upload, download: the cleanup script has been started. Central: the copy has been removed.
    pub cleaned: bool,
    /// When it was over; a finished row is history and is not loaded at start.
    pub finished: Option<Time>,
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
    /// When it was first heard.
    pub first_heard: Time,
    /// When it was last heard; the journal may lag behind.
    pub last_heard: Time,
}

/// An item that stays at its source though delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: ItemName,
    /// As it was when it was delivered.
    pub signature: Signature,
    /// What was delivered.
    pub fingerprint: Fingerprint,
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For those who look closely.
    Debug,
    /// One line a step of a transfer.
    Info,
    /// Bad, but handled.
    Warn,
    /// A bug, or a person is needed.
    Error,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// The transfer it is about.
    pub transfer: Option<TransferId>,
    /// The item it is about.
    pub item: Option<ItemName>,
    /// The peer it is about.
    pub peer: Option<Node>,
    /// What happened, lower case, no full stop, one line.
    pub text: String,
}

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
    /// The number of the next place.
    pub next_place: u64,
    /// Whether an operator has paused this node.
    pub paused: bool,
}
