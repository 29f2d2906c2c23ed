//! What the stages of all roles have in common: their words, their tables of moves, and the order in which a status
//! shows them.

use std::collections::BTreeMap;

use super::shared::{Peer, Shared};
use super::snapshot::{PRESUMED_LIMIT, STANDINGS_LIMIT, TALLY_LIMIT, Tally, Tallying};
use super::{
    Cause, ItemName, Mode, Node, NodeName, Offer, Pause, PeerView, Reason, Row, Selection, Snapshot, State, Tallied,
    Time, TransferId, TransferView,
};

/// From, to, and when.
pub type Move<S> = (S, S, &'static str);

macro_rules! stages {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every stage, in the order of a transfer's life.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|stage| stage.as_str() == word)
            }
        }
    };
}
pub(super) use stages;

/// A journal row that is not valid for this role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("journal: transfer {transfer}: column {column} has the value {found:?}, which is not valid for this mode")]
pub struct BadRow {
    transfer: String,
    column: &'static str,
    found: String,
}

impl BadRow {
    pub(super) fn stage(row: &Row) -> Self {
        Self { transfer: row.transfer.to_string(), column: "stage", found: row.stage.clone() }
    }

    pub(super) fn column(row: &Row, column: &'static str) -> Self {
        Self { transfer: row.transfer.to_string(), column, found: "nothing".to_owned() }
    }
}

/// How many transfers are in each stage, kept up to date with each move.
#[derive(Debug)]
pub(super) struct Counts<S>(BTreeMap<S, u64>);

impl<S: Ord + Copy> Counts<S> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn enter(&mut self, stage: S) {
        *self.0.entry(stage).or_default() += 1;
    }

    pub(super) fn leave(&mut self, stage: S) {
        if let Some(count) = self.0.get_mut(&stage) {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn of(&self, stages: &[S]) -> u64 {
        stages.iter().filter_map(|stage| self.0.get(stage)).sum()
    }

    /// The stages with at least one transfer, by their words.
    pub(super) fn message(&self, word: fn(S) -> &'static str) -> BTreeMap<&'static str, u64> {
        self.0.iter().filter(|(_, count)| **count > 0).map(|(stage, count)| (word(*stage), *count)).collect()
    }
}

/// What a node does, in one line, such as `sending 2, 41 queued`.
fn doing(parts: &[(u64, &str)]) -> String {
    let parts: Vec<_> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| what.replace('#', &count.to_string()))
        .collect();
    if parts.is_empty() { "idle".to_owned() } else { parts.join(", ") }
}

/// Why something waits, without a copy of the reason.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why<'a> {
    Given(&'a Reason),
    Paused(&'a Pause),
    /// A peer that shares no protocol version with the second one, this node.
    Apart(&'a Peer, &'a Node),
    Plain(Cause),
}

impl Why<'_> {
    pub(super) fn cause(self) -> Cause {
        match self {
            Self::Given(reason) => reason.cause(),
            Self::Paused(_) => Cause::Paused,
            Self::Apart(..) => Cause::Protocol,
            Self::Plain(cause) => cause,
        }
    }

    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Given(reason) => reason.clone(),
            Self::Paused(pause) => Reason::with(Cause::Paused, &pause.to_string()),
            Self::Apart(peer, me) => {
                let text = peer.apart(me).map(|(_, text)| text).unwrap_or_default();
                Reason::with(Cause::Protocol, &format!("{} is {text}", peer.known.node))
            }
            Self::Plain(cause) => Reason::new(cause),
        }
    }
}

/// The data that decides whether and where a transfer or an item is shown. Candidates are made of all; views cost more,
/// so they are made only of those shown.
pub(super) struct Candidate<'a> {
    pub(super) transfer: Option<TransferId>,
    pub(super) name: &'a ItemName,
    pub(super) upload: &'a NodeName,
    pub(super) stage: &'static str,
    pub(super) state: State,
    pub(super) since: Time,
    pub(super) attempts: u32,
    pub(super) cause: Cause,
}

impl<'a> Candidate<'a> {
    /// A transfer.
    pub(super) fn of(row: &'a Row, stage: &'static str, state: State, cause: Cause) -> Self {
        let Row { transfer, name, upload, since, attempts, .. } = row;
        Self { transfer: Some(*transfer), name, upload, stage, state, since: *since, attempts: *attempts, cause }
    }
}

impl Candidate<'_> {
    /// First what needs attention, then what is running, then the rest.
    fn urgency(&self) -> u8 {
        self.cause.urgency(self.attempts)
    }

    fn is_selected(&self, selection: &Selection) -> bool {
        selection.state.is_none_or(|state| state == self.state)
            && (selection.all || selection.state.is_some() || self.state != State::Delivered)
            && selection.upload.as_ref().is_none_or(|upload| upload == self.upload)
            && (!selection.failed || self.urgency() == 0)
    }
}

impl Tally {
    fn take(&mut self, candidate: &Candidate<'_>, selection: &Selection) {
        let urgent = candidate.urgency() == 0;
        self.attention += u64::from(urgent);
        if selection.tally == Tallying::Attention {
            return;
        }
        let &Candidate { transfer, stage, state, cause, .. } = candidate;
        let Some(id) = transfer else {
            *self.unsent.entry(state).or_default() += 1;
            return;
        };
        *self.states.entry(state).or_default() += 1;
        if selection.tally == Tallying::States {
            return;
        }
        if urgent && self.urgent.len() < TALLY_LIMIT {
            self.urgent.push(id);
        }
        // These stages occur on central only, and no node asks central for its tally.
        if matches!(stage, "waiting" | "held" | "released") {
            return;
        }
        let tallied = self.standings.values().map(Vec::len).sum::<usize>();
        let alike = self.standings.entry(Tallied { stage, state, cause }).or_default();
        let presumed = is_presumed(stage, cause) && alike.len() > PRESUMED_LIMIT;
        if tallied < STANDINGS_LIMIT && !presumed {
            alike.push(id);
        }
    }
}

/// Whether central presumes this stage and cause of a transfer that central itself has in the matching stage.
fn is_presumed(stage: &str, cause: Cause) -> bool {
    matches!(
        (stage, cause),
        ("announced", Cause::Central) | ("granted" | "wanted", Cause::Queued) | ("received", Cause::Receipts)
    )
}

/// The snapshot with the selected candidates, in order.
pub(super) fn selected<'a>(
    snapshot: Snapshot,
    candidates: impl Iterator<Item = Candidate<'a>>,
    selection: &Selection,
    view: impl Fn(Option<TransferId>, &ItemName) -> Option<TransferView>,
) -> Snapshot {
    if selection.is_counts_only() {
        return snapshot;
    }
    let mut chosen = Vec::new();
    let mut matching = 0;
    let mut tally = Tally::default();
    for candidate in candidates {
        tally.take(&candidate, selection);
        if !candidate.is_selected(selection) {
            continue;
        }
        matching += 1;
        let Candidate { transfer, name, since, .. } = candidate;
        if !selection.by_age {
            chosen.push((candidate.urgency(), since, None, name, transfer));
        } else if selection.after.is_none() || transfer.is_none() || transfer > selection.after {
            chosen.push((u8::from(transfer.is_none()), Time::default(), transfer, name, transfer));
        }
    }
    tally.standings.retain(|tallied, ids| !is_presumed(tallied.stage, tallied.cause) || ids.len() <= PRESUMED_LIMIT);
    let more = chosen.len() > selection.limit;
    if more {
        chosen.select_nth_unstable(selection.limit);
        chosen.truncate(selection.limit);
    }
    chosen.sort_unstable();
    let transfers = chosen.into_iter().filter_map(|(_, _, _, name, transfer)| view(transfer, name)).collect();
    Snapshot { matching, more, tally, transfers, ..snapshot }
}

impl Offer {
    /// The offer of a transfer.
    pub(super) fn of(row: &Row) -> Self {
        Self {
            transfer: row.transfer,
            name: row.name.clone(),
            kind: row.kind,
            entries: row.entries,
            fingerprint: row.fingerprint,
            modes: row.modes.clone(),
            extras: row.extras.clone(),
            minted: row.minted,
        }
    }
}

impl TransferView {
    /// What is the same for every role.
    pub(super) fn of(row: &Row, stage: &'static str, state: State, reason: Reason) -> Self {
        Self {
            transfer: Some(row.transfer),
            name: row.name.clone(),
            upload: row.upload.clone(),
            kind: Some(row.kind),
            entries: Some(row.entries),
            size: row.fingerprint.size,
            fingerprint: Some(row.fingerprint),
            stage,
            state,
            reason,
            created: row.created,
            began: row.began,
            arrived: row.arrived,
            paused: row.paused.as_deref().cloned(),
            since: row.since,
            next: None,
            attempts: row.attempts,
            progress: None,
            receivers: row.receivers.clone(),
            remark: row.remarks(),
        }
    }
}

impl Shared {
    /// What a node does, in one line, such as `sending 2, 41 queued`, or why it does nothing.
    pub(super) fn doing(&self, parts: &[(u64, &str)]) -> String {
        self.no_directory.as_ref().map_or_else(|| doing(parts), |reason| reason.cause().text().to_owned())
    }

    /// The given cause. If the broker session or an order is the actual reason for the wait, that instead.
    pub(super) fn why<'a>(&'a self, row: &'a Row, cause: Cause) -> Why<'a> {
        match (cause, self.holds(row)) {
            (Cause::Queued | Cause::Receivers | Cause::Space, Some(pause)) => Why::Paused(pause),
            (Cause::Central | Cause::Acknowledgement, _) if !self.connected() => Why::Plain(Cause::Broker),
            (Cause::Central | Cause::Acknowledgement, _) => {
                self.estranged(row).map_or(Why::Plain(cause), |peer| Why::Apart(peer, &self.me))
            }
            (Cause::Queued, _) if self.me.mode == Mode::Central => {
                self.estranged(row).map_or(Why::Plain(cause), |peer| Why::Apart(peer, &self.me))
            }
            _ => Why::Plain(cause),
        }
    }

    pub(super) fn snapshot(&self, counts: BTreeMap<&'static str, u64>, doing: String) -> Snapshot {
        let view = |peer: &Peer| PeerView {
            node: peer.known.node.clone(),
            version: peer.known.version.clone(),
            host: peer.known.host.clone(),
            first_heard: peer.known.first_heard,
            last_heard: peer.known.last_heard,
            alive: self.alive(&peer.known.node),
            paused: peer.paused.clone(),
            free: peer.free,
            free_inodes: peer.free_inodes,
            doing: peer.doing.clone(),
            clock_ahead: peer.clock_ahead,
            protocols: peer.protocols,
            apart: peer.apart(&self.me),
            spool: peer.known.spool.clone(),
        };
        Snapshot {
            node: self.me.clone(),
            started: self.started,
            host: self.host.clone(),
            paused: self.paused.clone(),
            group_paused: self.group.pause.clone(),
            no_directory: self.no_directory.clone(),
            free: self.space.map(|space| space.free),
            free_inodes: self.free_inodes(),
            doing,
            spool: self.spool.clone(),
            broker: self.broker.clone(),
            matching: counts.values().sum(),
            counts: counts.into_iter().collect(),
            more: false,
            transfers: Vec::new(),
            tally: Tally::default(),
            peers: self.peers.values().map(view).collect(),
        }
    }
}
