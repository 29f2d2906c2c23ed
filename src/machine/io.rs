//! What the machines exchange with the rest of the program: [`Input`] comes in, [`Effect`] goes out.
//!
//! Exactly one input answers every effect that can end. This table is the contract that the drivers and the simulator
//! keep:
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
//! | `Sweep` | `Swept` |
//! | `Cleanup` | `Cleaned` for each item |
//! | `Measure` | `Space` |
//! | `Lookup` | `LookedUp` |
//! | `Explain` | `Explained` |
//! | `Persist`, `Send`, `DropPlace`, `DropArrival`, `Trust`, `Mark`, `Log` | none |
//!
//! Drivers work only in the directory of the last `Trust`. If another directory is at `file_dir`, they report it with
//! `Input::Directory`, and then answer with [`Cause::Directory`].

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{
    Address, Attributes, Cause, CleanupItem, Cleared, Differences, Digest, Directory, Extras, Fingerprint, ItemName,
    Keep, Kind, KnownDirectory, Location, Marker, Message, Modes, Mounts, Node, PlaceId, Reason, Record, Row,
    Signature, Time, TransferId,
};

/// The number of one rsync run, unique while the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// What happens to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A deadline may have passed.
    Timeout,
    /// The broker session is up and the queues are bound.
    Connected,
    /// The broker session has ended; the last messages may not have arrived.
    Disconnected(Reason),
    /// A message of a peer.
    Received {
        /// The sender, by the message.
        from: Node,
        /// The message.
        message: Message,
    },
    /// The watch sees an item for the first time, or sees that it changed.
    Seen(Sighting),
    /// An item is gone from the directory.
    Vanished(ItemName),
    /// The first scan of the whole directory since the start of the daemon has finished.
    Scanned,
    /// The directory at `file_dir`: the first input, repeated at each change.
    Directory(Directory),
    /// Answer to [`Effect::Hash`].
    Hashed {
        /// The item.
        item: ItemName,
        /// The result.
        outcome: HashOutcome,
    },
    /// Answer to [`Effect::Look`].
    Looked {
        /// The transfer.
        transfer: TransferId,
        /// What was found under the name.
        sight: Sight,
    },
    /// The progress of a run.
    Progress {
        /// The run.
        run: RunId,
        /// Bytes of file data moved so far.
        bytes: u64,
        /// Bytes per second, as rsync reports.
        rate: u64,
    },
    /// Answer to [`Effect::Run`].
    Ran {
        /// The run.
        run: RunId,
        /// How the run ended.
        outcome: RunOutcome,
    },
    /// Answer to [`Effect::Take`].
    Taken {
        /// The transfer.
        transfer: TransferId,
        /// What central now holds.
        outcome: CopyOutcome,
    },
    /// Answer to [`Effect::Verify`].
    Verified {
        /// The transfer.
        transfer: TransferId,
        /// What staging holds.
        outcome: CopyOutcome,
    },
    /// Answer to [`Effect::Place`].
    Placed {
        /// The transfer.
        transfer: TransferId,
        /// The result.
        outcome: PlaceOutcome,
    },
    /// Answer to [`Effect::Drop`].
    Dropped {
        /// The transfer.
        transfer: TransferId,
        /// Success, or why something is left.
        outcome: Result<(), Reason>,
    },
    /// Answer to [`Effect::Sweep`].
    Swept {
        /// Those copies of [`Effect::Sweep`] that do not exist.
        missing: BTreeSet<TransferId>,
    },
    /// Answer to [`Effect::Cleanup`].
    Cleaned {
        /// The transfer.
        transfer: TransferId,
        /// How it ended, or why it failed.
        outcome: Result<Cleared, Reason>,
    },
    /// Answer to [`Effect::Measure`]: the file system that holds `file_dir`.
    Space(Space),
    /// Answer to [`Effect::Lookup`].
    LookedUp {
        /// The question.
        question: Question,
        /// The finished transfers that answer the question, newest first.
        row: Option<Box<Row>>,
    },
    /// Answer to [`Effect::Explain`].
    Explained {
        /// The transfer.
        transfer: TransferId,
        /// How the copy differs; `None` if the peer did not send its manifest.
        differences: Option<Differences>,
    },
}

/// What a machine requests from the rest of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write this to the journal. One transaction holds all records of one drain. It is durable before any other effect
    /// of that drain is carried out.
    Persist(Record),
    /// Send a message to a peer.
    Send {
        /// The receiver.
        to: Address,
        /// The message.
        message: Message,
    },
    /// Upload: check that no process writes the item and that it still has this signature, compute its fingerprint,
    /// then check the signature again.
    Hash {
        /// The item, in `file_dir`.
        item: ItemName,
        /// What the watch saw.
        signature: Signature,
    },
    /// Look at an item in `file_dir` again, entry by entry.
    Look {
        /// The transfer.
        transfer: TransferId,
        /// The item.
        item: ItemName,
    },
    /// Upload: remove the marker of this item, if the item is gone.
    Unmark(ItemName),
    /// Start one rsync run.
    Run(Run),
    /// Stop a run; a later run continues from the data already moved.
    Halt(RunId),
    /// Central: rename `in/<place>/<name>` to `held/<transfer>/<name>`, unless that was done before. Then compute the
    /// fingerprint of what `held` has.
    Take {
        /// The transfer.
        transfer: TransferId,
        /// The place to which it was sent; `None` examines only what `held` has.
        place: Option<PlaceId>,
        /// The name of the item.
        name: ItemName,
        /// The announced kind: it decides what the fingerprint is computed of, see [`Fingerprint`].
        kind: Kind,
        /// What to set and compare.
        attributes: Attributes,
    },
    /// Download: compute the fingerprint of `staging/<transfer>/<name>` and make it durable.
    Verify {
        /// The transfer.
        transfer: TransferId,
        /// The name of the item.
        name: ItemName,
        /// The announced kind.
        kind: Kind,
        /// The announced digest. Bytes that were read while they arrived count only if they have this digest.
        digest: Digest,
        /// What to set and compare.
        attributes: Attributes,
    },
    /// Download: give the item its final name, without overwriting, durably.
    Place {
        /// The transfer.
        transfer: TransferId,
        /// The name of the item.
        name: ItemName,
        /// The inode of the verified copy. If staging no longer holds it, the item already has its final name.
        inode: u64,
        /// The signature of the item that may be replaced, if it is unchanged.
        replace: Option<Signature>,
    },
    /// Central: remove `held/<transfer>`. Download: remove `staging/<transfer>`. It is no error if that is already
    /// gone.
    Drop(TransferId),
    /// Central: remove `in/<place>` and everything in it.
    DropPlace(PlaceId),
    /// Central: remove `in/<place>/<name>` with everything in it; the rest of the place stays.
    DropArrival {
        /// The place.
        place: PlaceId,
        /// The name of the item.
        name: ItemName,
    },
    /// At the start: remove everything else from the spool or the staging directory, and report which of these copies
    /// do not exist.
    Sweep {
        /// Transfers whose copies stay.
        transfers: BTreeSet<TransferId>,
        /// Places that are in use.
        places: BTreeSet<PlaceId>,
    },
    /// Clean up items in `file_dir`: run the script once for all of them, or move or delete the item. There are several
    /// only for [`Cleaner::Lots`](super::Cleaner::Lots). Each gets an answer.
    Cleanup(Vec<CleanupItem>),
    /// From now on, work in this directory only, or in none.
    Trust(Option<KnownDirectory>),
    /// Write this marker into `file_dir`, if this user may.
    Mark(Marker),
    /// Measure the free bytes and inodes.
    Measure,
    /// Ask the node that announced a directory for its manifest, and report how the copy differs. The answer affects
    /// only the text of the reason and the delay of the next attempt.
    Explain {
        /// The transfer.
        transfer: TransferId,
        /// The node that announced it.
        peer: Node,
        /// The manifest of the copy.
        found: Arc<str>,
    },
    /// Ask the journal about finished transfers.
    Lookup(Question),
    /// Write a line to the log.
    Log(Log),
}

impl Effect {
    /// Whether the effect can be delayed until the directory is back.
    pub(super) fn can_wait_for_directory(&self) -> bool {
        matches!(
            self,
            Self::Look { .. } | Self::Drop(_) | Self::DropPlace(_) | Self::DropArrival { .. } | Self::Sweep { .. }
        )
    }
}

/// The size of a file system, and the part that is free for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Free bytes.
    pub free: u64,
    /// All bytes.
    pub total: u64,
    /// Inodes; `None` if the file system has no limit for them.
    pub inodes: Option<Inodes>,
}

/// How many files, directories and links a file system can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inodes {
    /// Free inodes for us.
    pub free: u64,
    /// All inodes.
    pub total: u64,
}

/// The longest manifest text that the journal keeps, in bytes.
pub const MANIFEST_LIMIT: usize = 8 << 20;

/// What the watch saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The item.
    pub name: ItemName,
    /// Its signature now.
    pub signature: Signature,
    /// Bytes of all its files.
    pub size: u64,
    /// The item came by a rename, so it needs no quiet time.
    pub complete: bool,
    /// Why it does not count as complete for lack of its marker (`ready = "marker"`); `None` if it counts.
    pub unmarked: Option<Reason>,
}

/// The result of a second look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// The item exists and has this signature.
    Present(Signature),
    /// The item does not exist.
    Gone,
    /// The item cannot be examined.
    Unreadable(Reason),
}

impl Sight {
    /// Whether the look was refused because another directory is there.
    pub(super) fn is_of_no_directory(&self) -> bool {
        matches!(self, Self::Unreadable(reason) if reason.cause() == Cause::Directory)
    }
}

/// Where a source comes from: what distinguishes a file of a user from one that a cleanup script left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The inode of the item itself.
    pub inode: u64,
    /// When that inode was created, by the file system's clock: only good for telling inodes apart. `None` if the file
    /// system does not record it.
    pub born: Option<Time>,
    /// The same by the daemon's time, which continues when the host's clock is set.
    pub made: Option<Time>,
    /// Whether the item belongs to the user that the daemon and its scripts run as.
    pub ours: bool,
    /// The mount points in the item.
    pub mounts: Mounts,
}

/// The result of hashing a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOutcome {
    /// No process wrote the item, and it stayed the same from the first look to the last.
    Proven {
        /// The kind of the item.
        kind: Kind,
        /// The number of files, directories and links.
        entries: u64,
        /// The fingerprint.
        fingerprint: Fingerprint,
        /// The modes of its entries.
        modes: Modes,
        /// Its extras.
        extras: Extras,
        /// Of a directory: the manifest text of which the digest is computed, at most [`MANIFEST_LIMIT`] bytes.
        manifest: Option<Arc<str>>,
        /// What shows whether a cleanup script has made the item.
        origin: Origin,
    },
    /// The item differs from what the watch saw; this is its state now.
    Changed(Sighting),
    /// The item is gone.
    Gone,
    /// The item cannot be sent as it is: a process writes it, or an entry is unreadable or special.
    Held(Reason),
}

/// The direction of a run.
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
    /// The number of the run.
    pub id: RunId,
    /// The direction.
    pub direction: Direction,
    /// The remote host and directory.
    pub location: Location,
    /// The items to move.
    pub batch: Vec<(TransferId, ItemName)>,
    /// The extras to move with them.
    pub keep: Keep,
}

/// Who can fix the cause of a failed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The cause may end by itself: a connection, a timeout.
    Passing,
    /// A person has to act: host key, login, rsync itself.
    Lasting,
}

/// How a run ended. The exit code of rsync proves nothing; the receiver's digests do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// rsync reports that it moved everything.
    Complete,
    /// rsync reports that it did not move some of it.
    Partial(Reason),
    /// The receiving file system cannot store these items, each with the reason. About the other items the run says
    /// nothing.
    Unfit(Vec<(TransferId, Reason)>),
    /// The run says nothing about any item.
    Failed(Fault, Reason),
}

impl RunOutcome {
    /// Whether the run did not start because another directory is there.
    pub(super) fn has_no_directory(&self) -> bool {
        matches!(self, Self::Failed(_, reason) if reason.cause() == Cause::Directory)
    }
}

/// The result of examining a copy of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyOutcome {
    /// Its fingerprint and the inode of its top entry.
    Found {
        /// The kind of the copy.
        fingerprint: Fingerprint,
        /// Its top entry.
        inode: u64,
        /// Of a directory: the manifest text of which the digest is computed, at most [`MANIFEST_LIMIT`] bytes.
        manifest: Option<Arc<str>>,
        /// The requested modes that the copy does not have, in one line; `None` if it has all, or if none were
        /// requested.
        unkept: Option<Box<str>>,
        /// How its extras differ from those to compare, in one line; `None` if they do not.
        lost: Option<Box<str>>,
    },
    /// The copy does not exist.
    Missing,
    /// The copy cannot be read, moved or made durable.
    Failed(Reason),
}

/// The result of giving an item its final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceOutcome {
    /// The item has its final name, durably, and this signature.
    Placed(Signature),
    /// Another file has the name; it was left alone.
    Occupied,
    /// Staging does not hold the item, and did not rename it before: fetch the item again.
    Lost,
    /// The file system refused.
    Failed(Reason),
}

/// A question about finished transfers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Has this transfer been here?
    Transfer(TransferId),
    /// Which transfer was the last one under this name?
    Name {
        /// The name.
        name: ItemName,
        /// The transfer that needs the answer.
        transfer: TransferId,
    },
}

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details for developers.
    Debug,
    /// One line per step of a transfer.
    Info,
    /// A problem that synkler handles.
    Warn,
    /// A bug, or a person has to act.
    Error,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Its level.
    pub level: Level,
    /// The transfer it belongs to.
    pub transfer: Option<TransferId>,
    /// The item it belongs to.
    pub item: Option<ItemName>,
    /// The peer it belongs to.
    pub peer: Option<Node>,
    /// What happened, lower case, no full stop, one line.
    pub text: String,
}
