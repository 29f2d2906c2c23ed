//! What passes between the machines and the world: [`Input`] comes in, [`Effect`] goes out.
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
//! | `Sweep` | `Swept` |
//! | `Cleanup` | `Cleaned` |
//! | `Measure` | `Space` |
//! | `Lookup` | `LookedUp` |
//! | `Explain` | `Explained` |
//! | `Persist`, `Send`, `DropPlace`, `DropArrival`, `Trust`, `Mark`, `Log` | none |
//!
//! What concerns `file_dir` is done only in the directory that `Trust` named last. Elsewhere it is answered with
//! [`Cause::Directory`](super::Cause::Directory), after an `Input::Directory` that tells what was found.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{
    Address, Cause, Differences, Digest, Directory, Fingerprint, ItemName, Kind, KnownDirectory, Location, Marker,
    Message, Modes, Mounts, Node, PlaceId, Reason, Record, Row, Signature, Time, TransferId,
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
    Received {
        /// Who, as the message says.
        from: Node,
        /// What.
        message: Message,
    },
    /// The watch sees an item for the first time, or sees it changed.
    Seen(Sighting),
    /// An item the watch had seen is gone from the directory.
    Vanished(ItemName),
    /// The watch has been through the whole directory once since the daemon started.
    Scanned,
    /// What is at `file_dir`: told before anything else, and whenever that has changed.
    Directory(Directory),
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
    /// Answer to [`Effect::Sweep`].
    Swept {
        /// Which of the copies that should stay are not there.
        missing: BTreeSet<TransferId>,
    },
    /// Answer to [`Effect::Cleanup`].
    Cleaned {
        /// Which.
        transfer: TransferId,
        /// The script's exit, or why there was none.
        outcome: Result<(), Reason>,
    },
    /// Answer to [`Effect::Measure`]: the file system that holds `file_dir`.
    Space(Space),
    /// Answer to [`Effect::Lookup`].
    LookedUp {
        /// What was asked.
        question: Question,
        /// The finished transfer that answers it, newest first where there are several.
        row: Option<Box<Row>>,
    },
    /// Answer to [`Effect::Explain`].
    Explained {
        /// Which.
        transfer: TransferId,
        /// In what the copy differs; nothing where the peer has not told what it announced.
        differences: Option<Differences>,
    },
}

/// What a machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write this to the journal. All records of one drain go into one transaction, which is durable before
    /// any other effect of that drain is carried out.
    Persist(Record),
    /// Tell a peer.
    Send {
        /// Whom.
        to: Address,
        /// What.
        message: Message,
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
        /// The modes that are set and compared; nothing leaves them alone.
        modes: Option<Modes>,
    },
    /// Download: compute the fingerprint of `staging/<transfer>/<name>` and make it durable.
    Verify {
        /// Which.
        transfer: TransferId,
        /// Its name.
        name: ItemName,
        /// What it should be.
        kind: Kind,
        /// What its digest should be: the only one that is believed of bytes that were read while they arrived.
        digest: Digest,
        /// The modes that are set and compared; nothing leaves them alone.
        modes: Option<Modes>,
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
    /// Central: remove `in/<place>/<name>` and what is below it; the rest of the place stays.
    DropArrival {
        /// Where it was sent.
        place: PlaceId,
        /// Its name.
        name: ItemName,
    },
    /// At start: remove what the spool or staging directory holds beyond these, left over from before, and look which
    /// of these it does not hold.
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
    /// From now on, things are done in this directory only, or in none.
    Trust(Option<KnownDirectory>),
    /// Put this marker into `file_dir`, if this user may.
    Mark(Marker),
    /// How much space is there, in bytes and inodes?
    Measure,
    /// Ask the node that announced a directory for its manifest, and tell in what the copy differs. Nothing is decided
    /// by it but how soon it is worth trying again.
    Explain {
        /// Which.
        transfer: TransferId,
        /// Who announced it.
        peer: Node,
        /// The manifest of the copy.
        found: Arc<str>,
    },
    /// Ask the journal about finished transfers.
    Lookup(Question),
    /// Tell the log.
    Log(Log),
}

impl Effect {
    /// Whether nothing is decided before it is done, and nothing goes wrong when it is done later.
    pub(super) fn can_wait_for_directory(&self) -> bool {
        matches!(
            self,
            Self::Look { .. } | Self::Drop(_) | Self::DropPlace(_) | Self::DropArrival { .. } | Self::Sweep { .. }
        )
    }
}

/// What a file system has, and what of it is free for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Bytes free.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
    /// Nothing where the file system has no limit for them.
    pub inodes: Option<Inodes>,
}

/// How many files, directories and links a file system can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inodes {
    /// Free for us.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// The longest manifest text that is kept, in bytes.
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

impl Sight {
    /// Whether nobody has looked, because the directory was not there.
    pub(super) fn is_of_no_directory(&self) -> bool {
        matches!(self, Self::Unreadable(reason) if reason.cause() == Cause::Directory)
    }
}

/// Where a source comes from: what tells one that a user has written from one that a cleanup script has left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The inode of the item itself.
    pub inode: u64,
    /// When that inode was made, as the file system has it: only good for telling inodes apart. `None` where the file
    /// system does not keep it.
    pub born: Option<Time>,
    /// The same by the daemon's time, which goes on where the host's clock is set.
    pub made: Option<Time>,
    /// It belongs to the user that the daemon and its scripts run as.
    pub ours: bool,
    /// Where in it another file system begins.
    pub mounts: Mounts,
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
        /// The modes of its entries.
        modes: Modes,
        /// Of a directory: the manifest text that the digest is of, at most [`MANIFEST_LIMIT`] bytes.
        manifest: Option<Arc<str>>,
        /// What tells whether a cleanup script has made it.
        origin: Origin,
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
    /// The file system that receives cannot hold these, each with what it has refused. Of the others nothing is said.
    Unfit(Vec<(TransferId, Reason)>),
    /// Nothing can be said of any item.
    Failed(Fault, Reason),
}

impl RunOutcome {
    /// Whether it was not started, because the directory was not there.
    pub(super) fn has_no_directory(&self) -> bool {
        matches!(self, Self::Failed(_, reason) if reason.cause() == Cause::Directory)
    }
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
        /// Of a directory: the manifest text that the digest is of, at most [`MANIFEST_LIMIT`] bytes.
        manifest: Option<Arc<str>>,
        /// Which of the modes asked for it has not got, in one line; nothing where all are as asked, or none were.
        unkept: Option<Box<str>>,
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
pub struct Log {
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
