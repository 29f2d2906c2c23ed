//! The data for a status.

use std::collections::BTreeSet;

use super::{Central, Stage, Transfer};
use crate::machine::shared::{Peer, Timer};
use crate::machine::snapshot::PRESUMED_LIMIT;
use crate::machine::stage::{self, Candidate, Why};
use crate::machine::{
    Cause, Handle, Mode, Node, NodeName, Reason, Selection, Snapshot, State, TransferId, TransferView,
};

impl Central {
    pub(super) fn doing(&self) -> String {
        self.shared.doing(&[
            (self.counts.of(&[Stage::Granted]), "receiving #"),
            (self.counts.of(&[Stage::Waiting]), "# queued"),
            (self.counts.of(&[Stage::Held]), "holding # for receivers"),
            (self.counts.of(&[Stage::Released]), "keeping #"),
        ])
    }

    pub(in crate::machine) fn snapshot(&self, selection: &Selection) -> Snapshot {
        let alive = self.alive_downloads();
        let candidates = self.transfers.iter().map(|(id, transfer)| {
            let cause = self.why(*id, transfer).0.cause();
            Candidate::of(&transfer.row, transfer.stage.as_str(), self.state(transfer, cause, &alive), cause)
        });
        let snapshot = self.shared.snapshot(self.counts.message(Stage::as_str), self.doing());
        stage::selected(snapshot, candidates, selection, |id, _| self.view(&Handle::Transfer(id?)))
    }

    pub(in crate::machine) fn view(&self, handle: &Handle) -> Option<TransferView> {
        let (id, transfer) = match handle {
            Handle::Transfer(id) => (id, self.transfers.get(id)?),
            Handle::Item(name) => {
                let of_name = self.transfers.iter().filter(|(_, transfer)| transfer.row.name == *name);
                of_name.max_by_key(|(_, transfer)| transfer.order)?
            }
        };
        let row = &transfer.row;
        let (why, receiver) = self.why(*id, transfer);
        let timers = &self.shared.timers;
        let next = match transfer.stage {
            Stage::Waiting => timers.due(&Timer::Retry(*id)),
            Stage::Granted if self.taking.is_inside(id) => None,
            Stage::Held => None,
            Stage::Released if !row.cleaned => timers.due(&Timer::Keep(*id)),
            _ => timers.due(&Timer::Send(*id)),
        };
        let reason = match (why, receiver) {
            (Why::Given(reason), Some(name)) => Reason::with(reason.cause(), &format!("{name}: {}", reason.detail())),
            (Why::Plain(Cause::Receipts), _) => {
                let pending: Vec<_> = transfer.pending().map(NodeName::as_str).collect();
                Reason::with(Cause::Receipts, &pending.join(", "))
            }
            (Why::Plain(Cause::Acknowledgement), _) => {
                let node = Node::new(Mode::Upload, row.upload.clone());
                let silence = if self.shared.alive(&node) { "" } else { " is silent" };
                Reason::with(Cause::Acknowledgement, &format!("{node}{silence}"))
            }
            (why, _) => why.reason(),
        };
        let state = self.state(transfer, reason.cause(), &self.alive_downloads());
        Some(TransferView { next, ..TransferView::of(row, transfer.stage.as_str(), state, reason) })
    }

    fn alive_downloads(&self) -> BTreeSet<&NodeName> {
        let downloads = self.shared.peers.keys().filter(|node| node.mode == Mode::Download && self.shared.alive(node));
        downloads.map(|node| &node.name).collect()
    }

    fn state(&self, transfer: &Transfer, cause: Cause, alive: &BTreeSet<&NodeName>) -> State {
        match (transfer.stage, cause) {
            // Offered, and the receiver has reported no obstacle.
            (Stage::Held, Cause::Receipts) if transfer.pending().any(|name| alive.contains(name)) => State::Queued,
            // Most of so many transfers wait for their turn, and the upload does not report these.
            (Stage::Granted, Cause::Running) if self.counts.of(&[Stage::Granted]) > PRESUMED_LIMIT as u64 => {
                State::Queued
            }
            (stage, cause) => State::of(Mode::Central, stage.as_str(), cause, transfer.row.attempts),
        }
    }

    /// A receiver that shares no protocol with us.
    fn estranged_receiver(&self, transfer: &Transfer) -> Option<&Peer> {
        if !self.shared.any_apart {
            return None;
        }
        let nodes = transfer.pending().map(|name| Node::new(Mode::Download, name.clone()));
        let peers = nodes.filter_map(|node| self.shared.peers.get(&node));
        peers.into_iter().find(|peer| self.shared.is_apart(&peer.known.node))
    }

    /// Why it waits, and the receiver that says so.
    fn why<'a>(&'a self, id: TransferId, transfer: &'a Transfer) -> (Why<'a>, Option<&'a NodeName>) {
        let row = &transfer.row;
        let unsaid =
            || transfer.pending().any(|name| transfer.receivers.get(name).is_none_or(|state| state.sends == 0));
        let held = match transfer.stage {
            Stage::Waiting => self.shared.holds(row),
            Stage::Granted => row.paused.as_deref(),
            Stage::Held if unsaid() => self.shared.holds(row),
            _ => None,
        };
        if let Some(pause) = held {
            return (Why::Paused(pause), None);
        }
        let needs_directory = match transfer.stage {
            Stage::Released => !row.cleaned,
            Stage::Waiting | Stage::Granted | Stage::Held => true,
            Stage::Closed | Stage::Withdrawn => false,
        };
        if let Some(reason) = self.shared.no_directory.as_ref().filter(|_| needs_directory) {
            return (Why::Given(reason), None);
        }
        let told = || transfer.pending().find_map(|name| Some((name, transfer.receivers.get(name)?.reason.as_ref()?)));
        match (&row.reason, transfer.stage) {
            (Some(reason), _) => return (Why::Given(reason), None),
            (None, Stage::Held) => {
                if let Some(peer) = self.estranged_receiver(transfer) {
                    return (Why::Apart(peer, &self.shared.me), None);
                }
                if let Some((name, reason)) = told() {
                    return (Why::Given(reason), Some(name));
                }
            }
            _ => {}
        }
        let cause = match transfer.stage {
            Stage::Waiting => Cause::Queued,
            Stage::Granted if self.taking.is_inside(&id) => Cause::Hashing,
            Stage::Granted if !self.shared.alive(&Node::new(Mode::Upload, row.upload.clone())) => {
                Cause::Acknowledgement
            }
            Stage::Granted => Cause::Running,
            Stage::Held if row.receivers.is_empty() => Cause::Receivers,
            Stage::Held => Cause::Receipts,
            Stage::Released if row.cleaned || !row.acknowledged => Cause::Acknowledgement,
            _ => Cause::Keeping,
        };
        (self.shared.why(row, cause), None)
    }
}
