//! What goes over the control socket, shared by server and client. The shapes are those of
//! `io.synkler.Control.varlink`, field by field; the core's own types stay without serde.

use serde::{Deserialize, Serialize};

use crate::machine::{BrokerState, GroupId, PeerView, Reason, Snapshot, Time, TransferView};

/// Answer to `org.varlink.service.GetInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Who makes it.
    pub vendor: String,
    /// What it is.
    pub product: String,
    /// The daemon's version.
    pub version: String,
    /// Where to read more.
    pub url: String,
    /// What it serves.
    pub interfaces: Vec<String>,
}

/// Answer to `GetStatus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The node.
    pub status: Status,
}

/// A node at one moment. Moments are milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// When this was so, by the node's clock.
    pub now: u64,
    /// The daemon that answers.
    pub node: NodeStatus,
    /// Its session with the broker.
    pub broker: BrokerStatus,
    /// Whether an operator has paused it.
    pub paused: bool,
    /// How many transfers are unfinished.
    pub total: u64,
    /// The same by stage.
    pub counts: Vec<CountStatus>,
    /// The first of them, most in need of attention first.
    pub transfers: Vec<TransferStatus>,
    /// The other nodes it has heard of.
    pub peers: Vec<PeerStatus>,
}

/// The daemon that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// `upload`, `central` or `download`.
    pub mode: String,
    /// What it is called.
    pub name: String,
    /// The group it belongs to.
    pub group: String,
    /// The version of its program.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: u64,
}

/// The session with the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// Whether it is up.
    pub connected: bool,
    /// Since when it is up or down.
    pub since: u64,
    /// Why it is down.
    pub reason: Option<ReasonStatus>,
}

/// Why something waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonStatus {
    /// The stable word.
    pub code: String,
    /// One line for people.
    pub text: String,
}

/// How many transfers are in one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountStatus {
    /// The stage's stable word.
    pub stage: String,
    /// How many.
    pub count: u64,
}

/// One unfinished transfer, or an item that is to become one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferStatus {
    /// Its id, once it has one.
    pub id: Option<String>,
    /// The item's name, printable.
    pub item: String,
    /// The item's name without loss; [`crate::machine::ItemName::decode`] reads it.
    pub item_encoded: String,
    /// The upload it comes from.
    pub upload: String,
    /// Bytes.
    pub size: u64,
    /// 32 hex digits, once known.
    pub md5: Option<String>,
    /// The stage's stable word.
    pub stage: String,
    /// Why it waits, or what it does.
    pub reason: ReasonStatus,
    /// Since when it has been in this stage.
    pub since: u64,
    /// When something is tried next, where that is by the clock.
    pub next: Option<u64>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// The rsync run that moves it, when one does.
    pub progress: Option<ProgressStatus>,
    /// Central: who must give a receipt.
    pub receivers: Vec<ReceiverStatus>,
}

/// How far the rsync run that carries a transfer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressStatus {
    /// Bytes moved so far.
    pub bytes: u64,
    /// Bytes of all items in the run.
    pub total: u64,
    /// Bytes a second.
    pub rate: u64,
    /// How many transfers the run carries.
    pub transfers: u64,
}

/// Who must give a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverStatus {
    /// The download's name.
    pub name: String,
    /// When its receipt came.
    pub received: Option<u64>,
}

/// Another node of the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// `upload`, `central` or `download`.
    pub mode: String,
    /// What it is called.
    pub name: String,
    /// The version of its program.
    pub version: String,
    /// When it was last heard.
    pub heard: u64,
    /// Whether that was within the last few minutes.
    pub alive: bool,
}

/// Varlink's integers are signed, so what a peer claims beyond them is cut.
fn int(value: u64) -> u64 {
    value.min(i64::MAX.unsigned_abs())
}

fn moment(time: Time) -> u64 {
    int(time.as_millis())
}

impl Status {
    /// What the machine shows, as it is told to clients. `now` is when the snapshot was taken, in milliseconds
    /// since 1970-01-01 UTC.
    pub fn new(snapshot: &Snapshot, group: &GroupId, now: u64) -> Self {
        Self {
            now: int(now),
            node: NodeStatus {
                mode: snapshot.node.mode.to_string(),
                name: snapshot.node.name.to_string(),
                group: group.to_string(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started: moment(snapshot.started),
            },
            broker: BrokerStatus::from(&snapshot.broker),
            paused: snapshot.paused.is_some(),
            total: snapshot.counts.iter().fold(0, |sum, (_, count)| int(sum + int(*count))),
            counts: snapshot
                .counts
                .iter()
                .map(|(stage, count)| CountStatus { stage: (*stage).to_owned(), count: int(*count) })
                .collect(),
            transfers: snapshot.transfers.iter().map(TransferStatus::from).collect(),
            peers: snapshot.peers.iter().map(PeerStatus::from).collect(),
        }
    }
}

impl From<&BrokerState> for BrokerStatus {
    fn from(state: &BrokerState) -> Self {
        match state {
            BrokerState::Connected(since) => Self { connected: true, since: moment(*since), reason: None },
            BrokerState::Disconnected(since, reason) => Self {
                connected: false,
                since: moment(*since),
                // The causes are worded for transfers: of the broker, the detail alone speaks.
                reason: reason.as_ref().map(|reason| ReasonStatus {
                    code: reason.cause().code().to_owned(),
                    text: if reason.detail().is_empty() { reason.to_string() } else { reason.detail().to_owned() },
                }),
            },
        }
    }
}

impl From<&Reason> for ReasonStatus {
    fn from(reason: &Reason) -> Self {
        Self { code: reason.cause().code().to_owned(), text: reason.to_string() }
    }
}

impl From<&TransferView> for TransferStatus {
    fn from(view: &TransferView) -> Self {
        Self {
            id: view.transfer.map(|id| id.to_string()),
            item: view.name.to_string(),
            item_encoded: view.name.encoded(),
            upload: view.upload.to_string(),
            size: int(view.size),
            md5: view.fingerprint.map(|fingerprint| fingerprint.digest.to_string()),
            stage: view.stage.to_owned(),
            reason: ReasonStatus::from(&view.reason),
            since: moment(view.since),
            next: view.next.map(moment),
            attempts: view.attempts,
            progress: view.progress.map(|progress| ProgressStatus {
                bytes: int(progress.bytes),
                total: int(progress.total),
                rate: int(progress.rate),
                transfers: int(progress.transfers),
            }),
            receivers: view
                .receivers
                .iter()
                .map(|(name, received)| ReceiverStatus { name: name.to_string(), received: received.map(moment) })
                .collect(),
        }
    }
}

impl From<&PeerView> for PeerStatus {
    fn from(view: &PeerView) -> Self {
        Self {
            mode: view.node.mode.to_string(),
            name: view.node.name.to_string(),
            version: view.version.clone(),
            heard: moment(view.last_heard),
            alive: view.alive,
        }
    }
}
