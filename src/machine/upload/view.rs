//! The data for a status.

use super::{Stage, Transfer, Upload};
use crate::machine::shared::Timer;
use crate::machine::stage::{self, Candidate, Why};
use crate::machine::{Cause, Handle, ItemName, Mode, Selection, Snapshot, State, Time, TransferId, TransferView};

impl Upload {
    pub(super) fn doing(&self) -> String {
        self.shared.doing(&[
            (self.counts.of(&[Stage::Sending, Stage::Checking]), "sending #"),
            (self.counts.of(&[Stage::Granted]), "# queued"),
            (self.counts.of(&[Stage::Announced]), "# offered"),
            (self.hashing.busy(), "hashing #"),
            (self.counts.of(&[Stage::Sent, Stage::Received]), "# at central"),
            (self.counts.of(&[Stage::Releasing, Stage::Cleaning]), "# to clean up"),
        ])
    }

    pub(in crate::machine) fn snapshot(&self, selection: &Selection) -> Snapshot {
        let mut counts = self.counts.message(Stage::as_str);
        let mut items = Vec::new();
        for (name, item) in &self.items {
            if let Some((stage, why)) = self.shown(item) {
                *counts.entry(stage).or_default() += 1;
                let (since, attempts, cause) = (item.since, item.attempts, why.cause());
                items.push(Candidate {
                    transfer: None,
                    name,
                    upload: &self.settings.me,
                    stage,
                    state: State::of(Mode::Upload, stage, cause, attempts),
                    since,
                    attempts,
                    cause,
                });
            }
        }
        let transfers = self.transfers.iter().map(|(id, transfer)| {
            let cause = self.why(*id, transfer).0.cause();
            Candidate::of(&transfer.row, transfer.stage.as_str(), Self::state(transfer, cause), cause)
        });
        let snapshot = self.shared.snapshot(counts, self.doing());
        stage::selected(snapshot, items.into_iter().chain(transfers), selection, |id, name| self.view_of(id, name))
    }

    pub(in crate::machine) fn view(&self, handle: &Handle) -> Option<TransferView> {
        match handle {
            Handle::Transfer(id) => self.transfers.get(id).map(|transfer| self.transfer_view(*id, transfer)),
            Handle::Item(name) => {
                let of_name = self.transfers.iter().filter(|(_, transfer)| transfer.row.name == *name);
                let youngest = of_name.max_by_key(|(_, transfer)| transfer.row.created);
                let item = || self.items.get(name).and_then(|item| self.item_view(name, item));
                youngest.map(|(id, transfer)| self.transfer_view(*id, transfer)).or_else(item)
            }
        }
    }

    fn view_of(&self, id: Option<TransferId>, name: &ItemName) -> Option<TransferView> {
        match id {
            Some(id) => self.transfers.get(&id).map(|transfer| self.transfer_view(id, transfer)),
            None => self.items.get(name).and_then(|item| self.item_view(name, item)),
        }
    }

    fn state(transfer: &Transfer, cause: Cause) -> State {
        State::of(Mode::Upload, transfer.stage.as_str(), cause, transfer.row.attempts)
    }

    /// Why the transfer waits, and until when if a host is the cause.
    fn why<'a>(&'a self, id: TransferId, transfer: &'a Transfer) -> (Why<'a>, Option<Time>) {
        let row = &transfer.row;
        let held = match transfer.stage {
            Stage::Granted | Stage::Releasing => self.shared.holds(row),
            Stage::Announced => row.paused.as_deref(),
            _ => None,
        };
        if let Some(pause) = held {
            return (Why::Paused(pause), None);
        }
        let needs_directory = matches!(transfer.stage, Stage::Granted | Stage::Checking | Stage::Releasing);
        if let Some(reason) = self.shared.no_directory.as_ref().filter(|_| needs_directory) {
            return (Why::Given(reason), None);
        }
        if let Some((reason, until)) = self.dispatch.held_up(id, self.shared.now) {
            return (Why::Given(reason), Some(until));
        }
        let cause = match transfer.stage {
            Stage::Announced => Cause::Central,
            Stage::Granted | Stage::Releasing => Cause::Queued,
            Stage::Sending => Cause::Running,
            Stage::Cleaning => Cause::Cleaning,
            Stage::Received => Cause::Receipts,
            _ => Cause::Acknowledgement,
        };
        (row.reason.as_ref().map_or_else(|| self.shared.why(row, cause), Why::Given), None)
    }

    fn transfer_view(&self, id: TransferId, transfer: &Transfer) -> TransferView {
        let row = &transfer.row;
        let (why, backoff) = self.why(id, transfer);
        let timers = &self.shared.timers;
        let next = backoff.or_else(|| timers.due(&Timer::Retry(id))).or_else(|| timers.due(&Timer::Send(id)));
        // The transfer waits for receipts, and upload has nothing to do.
        let next = next.filter(|_| transfer.stage != Stage::Received);
        TransferView {
            next,
            progress: self.dispatch.progress(id),
            ..TransferView::of(row, transfer.stage.as_str(), Self::state(transfer, why.cause()), why.reason())
        }
    }
}
