//! What a machine shows of itself: the data of `synklerctl status`.

use std::collections::BTreeMap;

use super::{
    Cause, Fingerprint, ItemName, Kind, Location, Node, NodeName, Pause, Protocols, Reason, State, Time, TransferId,
};

/// The query for a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only transfers and items in this state, as this node alone sees it.
    pub state: Option<State>,
    /// Only those from this upload.
    pub upload: Option<NodeName>,
    /// Only those that fail or need a person.
    pub failed: bool,
    /// Also delivered ones.
    pub all: bool,
    /// Oldest first, by transfer id, with items that are not transfers yet at the end; otherwise the most urgent first.
    pub by_age: bool,
    /// Only those after this transfer; used only with `by_age`.
    pub after: Option<TransferId>,
    /// The maximum number of transfers to show.
    pub limit: usize,
    /// How much of [`Tally`] is wanted.
    pub tally: Tallying,
}

/// How much of [`Tally`] is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tallying {
    /// Only how many need attention, and that only if something is shown.
    #[default]
    Attention,
    /// Also how many are in each state.
    States,
    /// Everything.
    Ids,
}

impl Selection {
    /// Everything, the most urgent first, at most `limit`.
    pub fn urgent(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Whether only the counts of everything are needed.
    pub(super) fn is_counts_only(&self) -> bool {
        self.limit == 0
            && self.tally == Tallying::Attention
            && self.state.is_none()
            && self.upload.is_none()
            && !self.failed
    }
}

/// A node at one moment: counts of everything, and a bounded list of transfers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The node.
    pub node: Node,
    /// When the daemon started.
    pub started: Time,
    /// The host on which it runs; may be empty.
    pub host: String,
    /// The order that pauses this node.
    pub paused: Option<Pause>,
    /// The order that pauses the whole group.
    pub group_paused: Option<Pause>,
    /// Why the node does nothing in `file_dir`: it is not the directory that the journal knows.
    pub no_directory: Option<Reason>,
    /// Free bytes on the file system of its directory; `None` until known.
    pub free: Option<u64>,
    /// Free inodes there; `None` until known, and if that file system has no limit for them.
    pub free_inodes: Option<u64>,
    /// What the node does, in one line.
    pub doing: String,
    /// Central: the directory of its `in/` and `held/`.
    pub spool: Option<Location>,
    /// The state of the broker session, since when, and why.
    pub broker: BrokerState,
    /// How many unfinished transfers and unsent items are in each stage, by its stable word.
    pub counts: Vec<(&'static str, u64)>,
    /// How many transfers and unsent items match the query, before the limit.
    pub matching: u64,
    /// Whether more of them exist than are shown.
    pub more: bool,
    /// Transfers and unsent items: first those that need attention, then the running ones, then the rest, oldest first;
    /// or by age. At most as many as requested.
    pub transfers: Vec<TransferView>,
    /// Which of all transfers need a person, or may be finished elsewhere; empty if only counts were requested.
    pub tally: Tally,
    /// The known peers.
    pub peers: Vec<PeerView>,
}

/// The maximum number of transfers in a [`Tally`] that only wait for their turn, as central presumes. If there are
/// more, the tally has none of them: the answers would be long and contain little news.
pub(super) const PRESUMED_LIMIT: usize = 200;
/// The most ids in [`Tally::standings`]: central looks each of them up.
pub(super) const STANDINGS_LIMIT: usize = 500;
/// The most ids in [`Tally::urgent`]: each answer to central carries them.
pub const TALLY_LIMIT: usize = 500;

/// Which of all unfinished transfers need attention, whatever the list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many transfers and unsent items fail or need a person.
    pub attention: u64,
    /// Which transfers those are; at most [`TALLY_LIMIT`].
    pub urgent: Vec<TransferId>,
    /// How many transfers are in each state, as this node alone sees them.
    pub states: BTreeMap<State, u64>,
    /// How many items that are not transfers yet are in each state.
    pub unsent: BTreeMap<State, u64>,
    /// The stages of transfers on this node: at most 500 ids; of those that only wait for their turn at most 200, or
    /// none.
    pub standings: BTreeMap<Tallied, Vec<TransferId>>,
}

/// The common stage, state and reason of several transfers on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tallied {
    /// The stable word of the stage.
    pub stage: &'static str,
    /// The state, as this node alone sees it.
    pub state: State,
    /// Why they wait, or what they do.
    pub cause: Cause,
}

/// The session with the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerState {
    /// The session is up since then.
    Connected(Time),
    /// The session is down since then, for this reason (`None` before the first attempt has ended).
    Disconnected(Time, Option<Reason>),
}

/// One transfer, or one item that is not a transfer yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferView {
    /// The id of the transfer, once it has one.
    pub transfer: Option<TransferId>,
    /// The item.
    pub name: ItemName,
    /// The upload that sends the item.
    pub upload: NodeName,
    /// The kind of the item, once known.
    pub kind: Option<Kind>,
    /// The number of files, directories and links, once known.
    pub entries: Option<u64>,
    /// Its size in bytes.
    pub size: u64,
    /// The fingerprint, once known.
    pub fingerprint: Option<Fingerprint>,
    /// The stable word of the stage.
    pub stage: &'static str,
    /// The state, as this node alone sees it.
    pub state: State,
    /// Why the transfer waits or what it does; never empty for an unfinished one.
    pub reason: Reason,
    /// When this node first knew the transfer.
    pub created: Time,
    /// When rsync began to move the item from or to this node, or when central requested it; `None` before that.
    pub began: Option<Time>,
    /// When the item was moved and verified; `None` before that.
    pub arrived: Option<Time>,
    /// The order that pauses this transfer alone.
    pub paused: Option<Pause>,
    /// Since when the transfer has been in this stage.
    pub since: Time,
    /// When the next attempt starts, if one is scheduled.
    pub next: Option<Time>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// The run that carries the transfer, if there is one.
    pub progress: Option<Progress>,
    /// Central: who must send a receipt, and when it arrived.
    pub receivers: Vec<(NodeName, Option<Time>)>,
    /// How copies differ from the source except in content.
    pub remark: Option<Box<str>>,
}

/// The progress of the run that carries a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of file data moved by the run.
    pub bytes: u64,
    /// Bytes of all items in the run.
    pub total: u64,
    /// Bytes per second.
    pub rate: u64,
    /// How many transfers the run carries.
    pub transfers: u64,
}

/// A peer, as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// The peer.
    pub node: Node,
    /// The version of its program.
    pub version: String,
    /// The host on which it runs; empty if it did not say.
    pub host: String,
    /// When its first message arrived.
    pub first_heard: Time,
    /// When its last message arrived.
    pub last_heard: Time,
    /// Whether a message arrived within the last few minutes.
    pub alive: bool,
    /// The order that pauses the peer, by its last hello.
    pub paused: Option<Pause>,
    /// Free bytes on the file system of its directory, by its last hello; `None` until known.
    pub free: Option<u64>,
    /// Free inodes there, by its last hello; `None` until known, and if that file system has no limit for them.
    pub free_inodes: Option<u64>,
    /// What the peer does, in one line, by its last hello; may be empty.
    pub doing: String,
    /// By how many milliseconds its clock is ahead of ours, as precisely as its last hello allows; `None` until known.
    pub clock_ahead: Option<i64>,
    /// Its protocol versions; `None` until its first message since the start.
    pub protocols: Option<Protocols>,
    /// If it shares no version with this node: `too-old` or `too-new`, and what to do in one line.
    pub apart: Option<(&'static str, String)>,
    /// Central: the directory of its `in/` and `held/`.
    pub spool: Option<Location>,
}
