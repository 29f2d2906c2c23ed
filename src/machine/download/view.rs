//! The data for a status.

use super::{Download, Stage, Transfer};
use crate::machine::shared::Timer;
use crate::machine::stage::{self, Candidate, Why};
use crate::machine::{Cause, Handle, Mode, Selection, Snapshot, State, Time, TransferId, TransferView};

impl Download {
    pub(super) fn doing(&self) -> String {
        self.shared.doing(&[
            (self.counts.of(&[Stage::Pulling]), "fetching #"),
            (self.counts.of(&[Stage::Wanted]), "# queued"),
            (self.counts.of(&[Stage::Verifying]), "verifying #"),
            (self.counts.of(&[Stage::Placing]), "delivering #"),
            (self.counts.of(&[Stage::Delivered, Stage::Cleaning]), "# to clean up"),
            (self.counts.of(&[Stage::Cleaned]), "# to be acknowledged"),
        ])
    }

    pub(in crate::machine) fn snapshot(&self, selection: &Selection) -> Snapshot {
        let candidates = self.transfers.iter().map(|(id, transfer)| {
            let cause = self.why(*id, transfer).0.cause();
            Candidate::of(&transfer.row, transfer.stage.as_str(), Self::state(transfer, cause), cause)
        });
        let snapshot = self.shared.snapshot(self.counts.message(Stage::as_str), self.doing());
        stage::selected(snapshot, candidates, selection, |id, _| self.view(&Handle::Transfer(id?)))
    }

    pub(in crate::machine) fn view(&self, handle: &Handle) -> Option<TransferView> {
        let id = match handle {
            Handle::Transfer(id) => *id,
            Handle::Item(name) => {
                let created = |id: &&TransferId| self.transfers.get(id).map(|transfer| transfer.row.created);
                *self.by_name.get(name)?.iter().max_by_key(created)?
            }
        };
        let transfer = self.transfers.get(&id)?;
        let (why, backoff) = self.why(id, transfer);
        let timers = &self.shared.timers;
        // Before the delivery, the next message is an answer that no node waits for.
        let receipt = || timers.due(&Timer::Send(id)).filter(|_| transfer.stage.is_delivered());
        Some(TransferView {
            next: backoff.or_else(|| timers.due(&Timer::Retry(id))).or_else(receipt),
            progress: self.dispatch.progress(id),
            ..TransferView::of(&transfer.row, transfer.stage.as_str(), Self::state(transfer, why.cause()), why.reason())
        })
    }

    fn state(transfer: &Transfer, cause: Cause) -> State {
        State::of(Mode::Download, transfer.stage.as_str(), cause, transfer.row.attempts)
    }

    /// Why the transfer waits, and until when if a host is the cause.
    fn why<'a>(&'a self, id: TransferId, transfer: &'a Transfer) -> (Why<'a>, Option<Time>) {
        let row = &transfer.row;
        if let Stage::Wanted | Stage::Delivered = transfer.stage
            && let Some(pause) = self.shared.holds(row)
        {
            return (Why::Paused(pause), None);
        }
        let is_at_work = matches!(transfer.stage, Stage::Pulling | Stage::Cleaning);
        if let Some(reason) = self.shared.no_directory.as_ref().filter(|_| !is_at_work) {
            return (Why::Given(reason), None);
        }
        if let Some((reason, until)) = self.dispatch.held_up(id, self.shared.now) {
            return (Why::Given(reason), Some(until));
        }
        (row.reason.as_ref().map_or_else(|| self.shared.why(row, transfer.stage.cause()), Why::Given), None)
    }
}
