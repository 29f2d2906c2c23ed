//! From the machine's data to the data on the control socket.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::types::{
    Broker, Count, Deed, Journey, Member, Node, Past, Paused, Progress, Reason, Receiver, StateCount, Status, Step,
    Tallied, Transfer, View,
};
use crate::machine::{
    self, BrokerState, GroupId, NodeName, PeerView, Protocols, Row, Snapshot, State, Time, TransferId, TransferView,
    decode_bytes, encode_bytes,
};

/// Varlink's integers are signed, so larger values of a peer are cut.
fn int(value: u64) -> u64 {
    value.min(i64::MAX.unsigned_abs())
}

fn moment(time: Time) -> u64 {
    int(time.as_millis())
}

fn range(protocols: Protocols) -> Vec<u64> {
    vec![int(protocols.min()), int(protocols.max())]
}

/// Uploads, centrals, downloads: the order in which an item passes them.
pub(super) fn rank(mode: &str) -> u8 {
    match mode {
        "upload" => 0,
        "central" => 1,
        _ => 2,
    }
}

impl Node {
    /// Its `file_dir` as bytes; `None` if the daemon's encoding is invalid.
    pub fn directory(&self) -> Option<PathBuf> {
        decode_bytes(&self.file_dir).map(|bytes| OsString::from_vec(bytes).into())
    }
}

impl Status {
    /// The machine's data for clients: this node's view alone. `now` is the time of the snapshot, by the clock of its
    /// times.
    pub fn new(snapshot: &Snapshot, group: &GroupId, file_dir: &Path, now: Time) -> Self {
        let node = Node {
            mode: snapshot.node.mode.to_string(),
            name: snapshot.node.name.to_string(),
            group: group.to_string(),
            file_dir: encode_bytes(file_dir.as_os_str().as_bytes()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: moment(snapshot.started),
        };
        let own = Member {
            mode: node.mode.clone(),
            name: node.name.clone(),
            version: node.version.clone(),
            host: snapshot.host.clone(),
            first_heard: node.started,
            heard: moment(now),
            alive: true,
            paused: snapshot.paused.as_ref().map(Paused::from),
            free: snapshot.free.map(int),
            free_inodes: snapshot.free_inodes.map(int),
            doing: snapshot.doing.clone(),
            clock_ahead: Some(0),
            protocols: Some(range(Protocols::OURS)),
            apart: None,
        };
        let mut members: Vec<_> = snapshot.peers.iter().map(Member::from).chain([own]).collect();
        members.sort_by(|a, b| rank(&a.mode).cmp(&rank(&b.mode)).then_with(|| a.name.cmp(&b.name)));
        Self {
            now: moment(now),
            node,
            broker: Broker::from(&snapshot.broker),
            directory: snapshot.no_directory.as_ref().map(Reason::from),
            view: View::alone(&snapshot.node),
            group_paused: snapshot.group_paused.as_ref().map(Paused::from),
            members,
            total: unfinished(snapshot),
            counts: snapshot
                .counts
                .iter()
                .map(|(stage, count)| Count { stage: (*stage).to_owned(), count: int(*count) })
                .collect(),
            attention: int(snapshot.tally.attention),
            urgent: snapshot.tally.urgent.iter().map(ToString::to_string).collect(),
            states: state_counts(snapshot.tally.states.iter().chain(&snapshot.tally.unsent)),
            unsent: state_counts(snapshot.tally.unsent.iter()),
            tallied: snapshot.tally.standings.iter().map(Tallied::from).collect(),
            transfers: snapshot.transfers.iter().map(|view| Transfer::new(&snapshot.node, view)).collect(),
        }
    }
}

impl View {
    /// The view of one node that asked no other.
    pub(super) fn alone(node: &machine::Node) -> Self {
        Self {
            whole: false,
            from: node.to_string(),
            why: Some("this node alone was asked".to_owned()),
            silent: Vec::new(),
        }
    }
}

impl From<&BrokerState> for Broker {
    fn from(state: &BrokerState) -> Self {
        match state {
            BrokerState::Connected(since) => Self { connected: true, since: moment(*since), reason: None },
            BrokerState::Disconnected(since, reason) => Self {
                connected: false,
                since: moment(*since),
                // The texts of causes are about transfers: for the broker, the detail alone is shown.
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

impl From<&machine::Pause> for Paused {
    fn from(pause: &machine::Pause) -> Self {
        Self { since: moment(pause.since), by: pause.by.to_string(), node: pause.node.to_string() }
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

/// The number of all but the delivered ones.
fn unfinished(snapshot: &Snapshot) -> u64 {
    let all: u64 = snapshot.counts.iter().map(|(_, count)| count).sum();
    int(all.saturating_sub(snapshot.tally.states.get(&State::Delivered).copied().unwrap_or_default()))
}

/// One count for each state, in the order of an item's life.
fn state_counts<'a>(counts: impl Iterator<Item = (&'a State, &'a u64)>) -> Vec<StateCount> {
    let mut sums = BTreeMap::<State, u64>::new();
    for (state, count) in counts {
        *sums.entry(*state).or_default() += count;
    }
    StateCount::of(&sums)
}

impl StateCount {
    /// The states that occur, in the order of an item's life.
    pub(super) fn of(counts: &BTreeMap<State, u64>) -> Vec<Self> {
        let there = counts.iter().filter(|(_, count)| **count > 0);
        there.map(|(state, count)| Self { state: state.as_str().to_owned(), count: int(*count) }).collect()
    }
}

impl From<(&machine::Tallied, &Vec<TransferId>)> for Tallied {
    fn from((tallied, ids): (&machine::Tallied, &Vec<TransferId>)) -> Self {
        Self {
            stage: tallied.stage.to_owned(),
            state: tallied.state.as_str().to_owned(),
            code: tallied.cause.code().to_owned(),
            ids: ids.iter().map(ToString::to_string).collect(),
        }
    }
}

fn receivers(receivers: &[(NodeName, Option<Time>)]) -> Vec<Receiver> {
    let receiver = |(name, received): &(NodeName, Option<Time>)| Receiver {
        name: name.to_string(),
        received: received.map(moment),
    };
    receivers.iter().map(receiver).collect()
}

impl Transfer {
    /// One transfer, as `node` sees it.
    pub fn new(node: &machine::Node, view: &TransferView) -> Self {
        Self {
            id: view.transfer.map(|id| id.to_string()),
            item: view.name.to_string(),
            item_encoded: view.name.encoded(),
            upload: view.upload.to_string(),
            kind: view.kind.map(|kind| kind.as_str().to_owned()),
            entries: view.entries.map(int),
            size: int(view.size),
            md5: view.fingerprint.map(|fingerprint| fingerprint.digest.to_string()),
            node: node.to_string(),
            state: view.state.as_str().to_owned(),
            stage: view.stage.to_owned(),
            reason: Reason::from(&view.reason),
            since: moment(view.since),
            next: view.next.map(moment),
            attempts: view.attempts,
            paused: view.paused.as_ref().map(Paused::from),
            progress: view.progress.as_ref().map(|progress| Progress::new(node, progress)),
            receivers: receivers(&view.receivers),
            remark: view.remark.as_deref().map(str::to_owned),
        }
    }
}

impl Journey {
    /// An unfinished transfer, as one node alone reports it.
    pub(super) fn of_view(node: &machine::Node, view: &TransferView) -> Self {
        let transfer = Transfer::new(node, view);
        let is_proven = node.mode == machine::Mode::Upload || view.arrived.is_some();
        let step = Step {
            node: transfer.node.clone(),
            stage: transfer.stage.clone(),
            reason: Some(transfer.reason.clone()),
            since: transfer.since,
            next: transfer.next,
            attempts: transfer.attempts,
            md5: transfer.md5.clone().filter(|_| is_proven),
            created: moment(view.created),
            began: view.began.map(moment),
            arrived: view.arrived.map(moment),
            finished: None,
            paused: transfer.paused.clone(),
            progress: transfer.progress.clone(),
            remark: transfer.remark.clone(),
        };
        Self { transfer, steps: vec![step] }
    }

    /// A finished transfer, as one node alone reports it.
    pub(super) fn of_row(node: &machine::Node, row: &Row) -> Self {
        let past = Past::from(row);
        let is_proven = node.mode == machine::Mode::Upload || row.arrived.is_some();
        let is_cancelled = row.stage == machine::central::Stage::Withdrawn.as_str();
        let (state, text) =
            if is_cancelled { (State::Cancelled, "cancelled") } else { (State::Delivered, "handed over") };
        let transfer = Transfer {
            id: Some(past.id),
            item: past.item,
            item_encoded: past.item_encoded,
            upload: past.upload,
            kind: Some(past.kind),
            entries: Some(past.entries),
            size: past.size,
            md5: Some(past.md5),
            node: node.to_string(),
            state: state.as_str().to_owned(),
            stage: past.stage.clone(),
            reason: Reason { code: past.stage, text: text.to_owned() },
            since: moment(row.since),
            next: None,
            attempts: row.attempts,
            paused: None,
            progress: None,
            receivers: past.receivers,
            remark: past.remark,
        };
        let step = Step {
            node: transfer.node.clone(),
            stage: transfer.stage.clone(),
            reason: None,
            since: transfer.since,
            next: None,
            attempts: transfer.attempts,
            md5: transfer.md5.clone().filter(|_| is_proven),
            created: past.created,
            began: past.began,
            arrived: past.arrived,
            finished: Some(past.finished),
            paused: None,
            progress: None,
            remark: transfer.remark.clone(),
        };
        Self { transfer, steps: vec![step] }
    }
}

impl From<&Row> for Past {
    fn from(row: &Row) -> Self {
        let taken = row.began.zip(row.arrived).map(|(began, arrived)| arrived.since(began).as_millis());
        let rate = taken.and_then(|millis| (u128::from(row.fingerprint.size) * 1000).checked_div(millis));
        Self {
            id: row.transfer.to_string(),
            item: row.name.to_string(),
            item_encoded: row.name.encoded(),
            upload: row.upload.to_string(),
            kind: row.kind.as_str().to_owned(),
            entries: int(row.entries),
            size: int(row.fingerprint.size),
            md5: row.fingerprint.digest.to_string(),
            stage: row.stage.clone(),
            created: moment(row.created),
            began: row.began.map(moment),
            arrived: row.arrived.map(moment),
            finished: moment(row.finished.unwrap_or(row.since)),
            rate: rate.map(|rate| int(u64::try_from(rate).unwrap_or(u64::MAX))),
            receivers: receivers(&row.receivers),
            remark: row.remarks().map(String::from),
        }
    }
}

impl Deed {
    pub(super) fn new(node: &machine::Node, deed: &machine::Deed) -> Self {
        Self {
            node: node.to_string(),
            item: deed.item.as_ref().map(ToString::to_string),
            done: deed.done,
            text: deed.text.clone(),
        }
    }
}

impl From<&PeerView> for Member {
    fn from(view: &PeerView) -> Self {
        Self {
            mode: view.node.mode.to_string(),
            name: view.node.name.to_string(),
            version: view.version.clone(),
            host: view.host.clone(),
            first_heard: moment(view.first_heard),
            heard: moment(view.last_heard),
            alive: view.alive,
            paused: view.paused.as_ref().map(Paused::from),
            free: view.free.map(int),
            free_inodes: view.free_inodes.map(int),
            doing: view.doing.clone(),
            clock_ahead: view.clock_ahead,
            protocols: view.protocols.map(range),
            apart: view.apart.as_ref().map(|(code, text)| Reason { code: (*code).to_owned(), text: text.clone() }),
        }
    }
}
