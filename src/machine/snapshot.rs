//! What a machine shows of itself: the stuff of `synklerctl status`.

use std::collections::BTreeMap;

use super::{
    Cause, Fingerprint, ItemName, Kind, Location, Node, NodeName, Pause, Protocols, Reason, State, Time, TransferId,
};

/// What is asked of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only what is in this state, as this node alone sees it.
    pub state: Option<State>,
    /// Only what comes from this upload.
    pub upload: Option<NodeName>,
    /// Only what fails or needs a person.
    pub failed: bool,
    /// Also what is delivered.
    pub all: bool,
    /// Oldest first, by transfer id, and items that are no transfers yet at the end; otherwise the most urgent
    /// first.
    pub by_age: bool,
    /// Only what comes behind this transfer; means something with `by_age` only.
    pub after: Option<TransferId>,
    /// The most transfers to show.
    pub limit: usize,
    /// Whether the ids in [`Tally`] are wanted, and with them the tally where nothing is shown.
    pub tally: bool,
}

impl Selection {
    /// Everything, the most urgent first, at most `limit`.
    pub fn urgent(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Nothing is to be shown but the counts of everything.
    pub(super) fn is_counts_only(&self) -> bool {
        self.limit == 0 && !self.tally && self.state.is_none() && self.upload.is_none() && !self.failed
    }
}

/// A node at one moment. Holds counts of everything and a bounded list of transfers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Who this is.
    pub node: Node,
    /// When the daemon started.
    pub started: Time,
    /// The host it runs on; may be empty.
    pub host: String,
    /// The order that holds this node.
    pub paused: Option<Pause>,
    /// The order that holds the whole group.
    pub group_paused: Option<Pause>,
    /// Why nothing is done in its directory, where that is not the one that its journal knows.
    pub astray: Option<Reason>,
    /// Bytes free on the file system of its directory; `None` until known.
    pub free: Option<u64>,
    /// Inodes free there; `None` until known, and where that file system has no limit for them.
    pub free_inodes: Option<u64>,
    /// What it does, in one line.
    pub doing: String,
    /// Central: where its `in/` and `held/` are.
    pub spool: Option<Location>,
    /// Since when the broker session is up, or down and why.
    pub broker: BrokerState,
    /// How many unfinished transfers and unsent items are in each stage, by its stable word.
    pub counts: Vec<(&'static str, u64)>,
    /// How many transfers and unsent items are what was asked for, before the limit.
    pub matching: u64,
    /// Whether more of them follow than are shown.
    pub more: bool,
    /// Transfers and unsent items: those that need attention first, then those at work, then the rest, oldest
    /// first; or by age. At most as many as were asked for.
    pub transfers: Vec<TransferView>,
    /// What of everything needs a person, or may be over elsewhere; nothing where only counts were asked for.
    pub tally: Tally,
    /// The peers heard of.
    pub peers: Vec<PeerView>,
}

/// Of what only waits for its turn, as central presumes, no more than this many are in a [`Tally`]: else none, because the
/// answers would be long, and little in them news.
pub(super) const PRESUMED_LIMIT: usize = 200;
/// The most ids in [`Tally::standings`]: central looks each of them up.
pub(super) const STANDINGS_LIMIT: usize = 500;
/// The most ids in [`Tally::urgent`].
pub const TALLY_LIMIT: usize = 4000;

/// What of all that is unfinished needs attention, whatever is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many transfers and unsent items fail or need a person.
    pub attention: u64,
    /// Which transfers those are; at most [`TALLY_LIMIT`].
    pub urgent: Vec<TransferId>,
    /// How many transfers are in each state, as this node alone sees them.
    pub states: BTreeMap<State, u64>,
    /// How many items that are no transfers yet are in each state.
    pub unsent: BTreeMap<State, u64>,
    /// Where transfers stand here; at most 500 of them, and of what only waits for its turn at most 200 or none.
    pub standings: BTreeMap<Tallied, Vec<TransferId>>,
}

/// What transfers have in common that stand here alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tallied {
    /// The stage's stable word.
    pub stage: &'static str,
    /// What this node alone says.
    pub state: State,
    /// Why they wait, or what they do.
    pub cause: Cause,
}

/// How the broker is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerState {
    /// The session is up since then.
    Connected(Time),
    /// The session is down since then, for this reason (none before the first attempt has ended).
    Disconnected(Time, Option<Reason>),
}

/// One transfer, or one item that is not a transfer yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferView {
    /// Its id, once it has one.
    pub transfer: Option<TransferId>,
    /// Its item.
    pub name: ItemName,
    /// The upload it comes from.
    pub upload: NodeName,
    /// What it is, once that is known.
    pub kind: Option<Kind>,
    /// How many files, directories and links, once that is known.
    pub entries: Option<u64>,
    /// Its size in bytes.
    pub size: u64,
    /// Its proof, once it has one.
    pub fingerprint: Option<Fingerprint>,
    /// The stage's stable word.
    pub stage: &'static str,
    /// What this node alone says.
    pub state: State,
    /// Why it waits or what it does; never empty for what is unfinished.
    pub reason: Reason,
    /// When this node first knew of it.
    pub created: Time,
    /// When its bytes began to move from or to here, or were asked for; `None` before.
    pub began: Option<Time>,
    /// When they had moved and were proven; `None` before.
    pub arrived: Option<Time>,
    /// The order that holds it alone.
    pub paused: Option<Pause>,
    /// Since when it has been in this stage.
    pub since: Time,
    /// When something is tried next, where that is by the clock.
    pub next: Option<Time>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// The run that moves it, when one does.
    pub progress: Option<Progress>,
    /// Central: who must give a receipt, and when they did.
    pub receivers: Vec<(NodeName, Option<Time>)>,
    /// How copies differ from the source other than in content.
    pub remark: Option<Box<str>>,
}

/// How far the run that carries a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of file data moved by the run.
    pub bytes: u64,
    /// Bytes of all items in the run.
    pub total: u64,
    /// Bytes a second.
    pub rate: u64,
    /// How many transfers the run carries.
    pub transfers: u64,
}

/// A peer as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// Who.
    pub node: Node,
    /// Its program's version.
    pub version: String,
    /// The host it runs on; empty where it does not tell.
    pub host: String,
    /// When it was first heard.
    pub first_heard: Time,
    /// When it was last heard.
    pub last_heard: Time,
    /// Whether it has been heard within the last few minutes.
    pub alive: bool,
    /// The order that holds it, as it last told.
    pub paused: Option<Pause>,
    /// Bytes free on the file system of its directory, as it last told; `None` until known.
    pub free: Option<u64>,
    /// Inodes free there, as it last told; `None` until known, and where that file system has no limit for them.
    pub free_inodes: Option<u64>,
    /// What it does, in one line, as it last told; may be empty.
    pub doing: String,
    /// By how many milliseconds its clock is ahead of ours, as far as its last hello's way allows to tell; `None`
    /// until known.
    pub clock_ahead: Option<i64>,
    /// The versions of the protocol that it speaks; `None` until it has been heard since the start.
    pub protocols: Option<Protocols>,
    /// Where it shares none with this node: `too-old` or `too-new`, and what to do in one line.
    pub apart: Option<(&'static str, String)>,
    /// Central: where its `in/` and `held/` are.
    pub spool: Option<Location>,
}
