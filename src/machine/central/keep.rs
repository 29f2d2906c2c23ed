//! Retention: from the last receipt to the deletion of the copy.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Central, Stage};
use crate::machine::shared::Timer;
use crate::machine::{Cause, Effect, Level, Reason, TransferId};

const DROP_FIRST: Duration = Duration::from_secs(10);
const DROP_LAST: Duration = Duration::from_secs(600);

impl Central {
    /// Every required receiver has given its receipt.
    pub(super) fn release(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        let (name, upload, turn) = (transfer.row.name.clone(), transfer.row.upload.clone(), transfer.turn);
        if let Some(line) = self.lines.get_mut(&upload) {
            line.remove(&(turn, id));
        }
        self.taking.give_up(&id);
        self.shared.log(Level::Info, Some(id), Some(&name), None, "all receipts are in: upload may release the source");
        self.move_to(id, Stage::Released, None);
        self.shared.timers.set(Timer::Keep(id), self.shared.now.after(self.settings.keep));
    }

    /// The retention has ended. This is the only place where a verified copy is dropped.
    pub(super) fn on_keep(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        let through = transfer.stage == Stage::Released && transfer.pending().next().is_none();
        if !through || transfer.row.cleaned {
            return;
        }
        self.shared.effect(Effect::Drop(id));
    }

    pub(super) fn on_dropped(&mut self, id: TransferId, outcome: Result<(), Reason>) {
        if matches!(&outcome, Err(reason) if reason.cause() == Cause::Directory) {
            return self.shared.effect(Effect::Drop(id));
        }
        self.shared.timers.set_at_most(Timer::Measure, self.shared.now);
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        transfer.dropping = false;
        let name = transfer.row.name.clone();
        match (transfer.stage, outcome) {
            (Stage::Released, Ok(())) => {
                transfer.row.cleaned = true;
                transfer.row.attempts = 0;
                transfer.row.reason = None;
                self.shared.dirty.insert(id);
                self.shared.log(Level::Info, Some(id), Some(&name), None, "copy on central deleted");
                self.close_if_over(id);
            }
            (Stage::Released, Err(reason)) => {
                transfer.row.attempts += 1;
                let wait = self.shared.backoff(DROP_FIRST, transfer.row.attempts, DROP_LAST);
                self.shared.log(Level::Warn, Some(id), Some(&name), None, reason.to_string());
                transfer.row.reason = Some(reason);
                self.shared.dirty.insert(id);
                self.shared.timers.set(Timer::Retry(id), self.shared.now.after(wait));
            }
            (Stage::Waiting, outcome) => {
                if let Err(reason) = outcome {
                    // Otherwise it would keep its reserved space.
                    transfer.undropped = true;
                    transfer.row.attempts += 1;
                    self.shared.log(Level::Warn, Some(id), Some(&name), None, reason.to_string());
                    self.shared.dirty.insert(id);
                }
                self.ask_again(id);
            }
            _ => {}
        }
    }

    /// A journal restored from an older copy lists copies that were dropped since, and a spool can be lost.
    pub(super) fn on_swept(&mut self, missing: &BTreeSet<TransferId>) {
        self.sweeps = self.sweeps.saturating_sub(1);
        if self.sweeps > 0 {
            return;
        }
        let held = |id: &&TransferId| self.transfers.get(id).is_some_and(|transfer| transfer.stage == Stage::Held);
        self.unseen = missing.iter().filter(held).copied().collect();
        self.unseen.iter().for_each(|id| self.taking.join(*id));
    }

    pub(super) fn close_if_over(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        if transfer.stage == Stage::Released && transfer.row.cleaned && transfer.row.acknowledged {
            self.move_to(id, Stage::Closed, None);
            self.finish(id);
        }
    }
}
