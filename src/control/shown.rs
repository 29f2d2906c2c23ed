//! From what the machine shows to what goes over the control socket.

use super::types::{Broker, Count, Member, Node, Progress, Reason, Receiver, Status, Transfer, View};
use crate::machine::{self, BrokerState, GroupId, PeerView, Snapshot, Time, TransferView};

/// Varlink's integers are signed, so what a peer claims beyond them is cut.
pub(super) fn int(value: u64) -> u64 {
    value.min(i64::MAX.unsigned_abs())
}

pub(super) fn moment(time: Time) -> u64 {
    int(time.as_millis())
}

impl Status {
    /// What the machine shows, as it is told to clients: this node's view alone. `now` is when the snapshot was
    /// taken, in milliseconds since 1970-01-01 UTC.
    pub fn new(snapshot: &Snapshot, group: &GroupId, now: u64) -> Self {
        let node = Node {
            mode: snapshot.node.mode.to_string(),
            name: snapshot.node.name.to_string(),
            group: group.to_string(),
            file_dir: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: moment(snapshot.started),
        };
        let own = Member {
            mode: node.mode.clone(),
            name: node.name.clone(),
            version: node.version.clone(),
            host: String::new(),
            first_heard: node.started,
            heard: int(now),
            alive: true,
            paused: None,
            free: None,
            doing: String::new(),
            clock_ahead: Some(0),
        };
        let mut members: Vec<_> = snapshot.peers.iter().map(Member::from).chain([own]).collect();
        members.sort_by_key(|member| (rank(&member.mode), member.name.clone()));
        Self {
            now: int(now),
            node,
            broker: Broker::from(&snapshot.broker),
            view: View { whole: false, from: snapshot.node.to_string(), why: None, silent: Vec::new() },
            group_paused: None,
            members,
            total: snapshot.counts.iter().fold(0, |sum, (_, count)| int(sum + int(*count))),
            counts: snapshot
                .counts
                .iter()
                .map(|(stage, count)| Count { stage: (*stage).to_owned(), count: int(*count) })
                .collect(),
            transfers: snapshot.transfers.iter().map(|view| Transfer::new(&snapshot.node, view)).collect(),
        }
    }
}

/// Uploads, centrals, downloads: the way of the bytes.
pub(super) fn rank(mode: &str) -> u8 {
    match mode {
        "upload" => 0,
        "central" => 1,
        _ => 2,
    }
}

impl From<&BrokerState> for Broker {
    fn from(state: &BrokerState) -> Self {
        match state {
            BrokerState::Connected(since) => Self { connected: true, since: moment(*since), reason: None },
            BrokerState::Disconnected(since, reason) => Self {
                connected: false,
                since: moment(*since),
                // The causes are worded for transfers: of the broker, the detail alone speaks.
                reason: reason.as_ref().map(|reason| Reason {
                    code: reason.cause().code().to_owned(),
                    text: if reason.detail().is_empty() { reason.to_string() } else { reason.detail().to_owned() },
                }),
            },
        }
    }
}

impl From<&machine::Reason> for Reason {
    fn from(reason: &machine::Reason) -> Self {
        Self { code: reason.cause().code().to_owned(), text: reason.to_string() }
    }
}

impl Progress {
    fn new(node: &machine::Node, progress: &machine::Progress) -> Self {
        Self {
            node: node.to_string(),
            bytes: int(progress.bytes),
            total: int(progress.total),
            rate: int(progress.rate),
            transfers: int(progress.transfers),
        }
    }
}

impl Transfer {
    /// One transfer, as `node` sees it.
    pub fn new(node: &machine::Node, view: &TransferView) -> Self {
        Self {
            id: view.transfer.map(|id| id.to_string()),
            item: view.name.to_string(),
            item_encoded: view.name.encoded(),
            upload: view.upload.to_string(),
            kind: None,
            entries: None,
            size: int(view.size),
            md5: view.fingerprint.map(|fingerprint| fingerprint.digest.to_string()),
            node: node.to_string(),
            stage: view.stage.to_owned(),
            reason: Reason::from(&view.reason),
            since: moment(view.since),
            next: view.next.map(moment),
            attempts: view.attempts,
            paused: None,
            progress: view.progress.as_ref().map(|progress| Progress::new(node, progress)),
            receivers: view
                .receivers
                .iter()
                .map(|(name, received)| Receiver { name: name.to_string(), received: received.map(moment) })
                .collect(),
        }
    }
}

impl From<&PeerView> for Member {
    fn from(view: &PeerView) -> Self {
        Self {
            mode: view.node.mode.to_string(),
            name: view.node.name.to_string(),
            version: view.version.clone(),
            host: String::new(),
            first_heard: moment(view.last_heard),
            heard: moment(view.last_heard),
            alive: view.alive,
            paused: None,
            free: None,
            doing: String::new(),
            clock_ahead: None,
        }
    }
}
