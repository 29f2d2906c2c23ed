//! What a machine shows of itself: the stuff of `synklerctl status`.

use super::{Fingerprint, ItemName, Node, NodeName, Reason, Time, TransferId};

/// A node at one moment. Holds counts of everything and a bounded list of transfers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Who this is.
    pub node: Node,
    /// When the daemon started.
    pub started: Time,
    /// Whether an operator has paused it.
    pub paused: bool,
    /// Since when the broker session is up, or down and why.
    pub broker: BrokerState,
    /// How many unfinished transfers and unsent items are in each stage, by its stable word.
    pub counts: Vec<(&'static str, u64)>,
    /// Transfers and unsent items, those that need attention first, then those at work, then the rest,
    /// oldest first; at most as many as were asked for.
    pub transfers: Vec<TransferView>,
    /// The peers heard of.
    pub peers: Vec<PeerView>,
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
    /// Its size in bytes.
    pub size: u64,
    /// Its proof, once it has one.
    pub fingerprint: Option<Fingerprint>,
    /// The stage's stable word.
    pub stage: &'static str,
    /// Why it waits or what it does; never empty for what is unfinished.
    pub reason: Reason,
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
    /// When it was last heard.
    pub last_heard: Time,
    /// Whether it has been heard within the last few minutes.
    pub alive: bool,
}
