//! The end at the source: release, a last look, the cleanup script.

use std::time::Duration;

use super::{Stage, Upload};
use crate::machine::desk::Timer;
use crate::machine::{Address, Cause, Effect, Kind, Level, Node, Reason, Release, Sight, Sighting, TransferId, Words};

const RETRY_FIRST: Duration = Duration::from_secs(10);
const RETRY_LAST: Duration = Duration::from_secs(600);
/// How often an item that changed under its cleanup script is looked at again.
const DISPUTED_EVERY: Duration = Duration::from_secs(60);
/// That a source is free is said on ticks of this length: nothing waits for it, and scripts end one by one.
const FREED_TICK: Duration = Duration::from_millis(100);

impl Upload {
    pub(super) fn on_release(&mut self, from: &Node, release: &Release) {
        let id = release.transfer;
        let Some(transfer) = self.transfers.get_mut(&id) else {
            // Over here long since, and central has missed it: without an answer it would ask for ever.
            self.desk.say(Address::Node(from.clone()), Words::Freed(vec![id]));
            return;
        };
        if transfer.stage == Stage::Freed {
            self.desk.timers.set(Timer::Say(id), self.desk.now);
            return;
        }
        let name = transfer.row.name.clone();
        let wrong = transfer.row.fingerprint != release.fingerprint || release.receivers.is_empty();
        if wrong || matches!(transfer.stage, Stage::Releasing | Stage::Cleaning) || !self.taken_by(from, id) {
            if wrong {
                let text = "ignored a release that is not about these bytes";
                self.desk.note(Level::Warn, Some(id), Some(&name), Some(from), text);
            }
            return;
        }
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        transfer.row.remark.clone_from(&release.remark);
        let from_withdrawn = transfer.stage == Stage::Withdrawing;
        let who = release.receivers.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        self.desk.note(Level::Info, Some(id), Some(&name), Some(from), format!("all receipts are in: {who}"));
        if from_withdrawn && transfer.row.is_ordered_away() {
            // An operator wants the source left alone, and it is kept already.
            self.move_to(id, Stage::Freed, None);
            return;
        }
        if from_withdrawn {
            self.latest.entry(name).or_insert(id);
        }
        self.dispatch.disown(&mut self.desk, id);
        self.move_to(id, Stage::Releasing, None);
        self.join_cleanups(id);
    }

    /// Stands in line for the end at its source, unless it is paused alone: then it comes back when that is over.
    pub(super) fn join_cleanups(&mut self, id: TransferId) {
        if self.transfers.get(&id).is_some_and(|transfer| transfer.row.paused.is_none()) {
            self.cleaning.join(id);
        }
    }

    pub(super) fn start_cleanups(&mut self) {
        // An order that holds all leaves the line as it is.
        while self.desk.held_by().is_none()
            && let Some(id) = self.cleaning.enter()
        {
            match self.transfers.get(&id) {
                Some(transfer) if transfer.stage == Stage::Releasing && transfer.row.paused.is_none() => {
                    self.desk.effect(Effect::Look { transfer: id, item: transfer.row.name.clone() });
                }
                _ => {
                    self.cleaning.leave(&id);
                }
            }
        }
    }

    pub(super) fn on_looked(&mut self, id: TransferId, sight: Sight) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        match transfer.stage {
            Stage::Checking => self.on_checked(id, sight),
            Stage::Cleaning if transfer.script_done => self.free(id, sight),
            Stage::Releasing if self.cleaning.is_inside(&id) => self.before_script(id, sight),
            _ => {}
        }
    }

    fn before_script(&mut self, id: TransferId, sight: Sight) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        if self.desk.holds(&transfer.row).is_some() {
            // The order came after the look had begun: there will be another one.
            self.cleaning.leave(&id);
            self.join_cleanups(id);
            return;
        }
        let row = &mut transfer.row;
        match sight {
            Sight::Present(signature) if row.signature == Some(signature) && self.settings.cleanup => {
                row.cleaned = true;
                let item = row.name.clone();
                self.desk.dirty.insert(id);
                self.desk.note(Level::Info, Some(id), Some(&item), None, "cleanup script starts");
                self.move_to(id, Stage::Cleaning, None);
                self.desk.effect(Effect::Cleanup { transfer: id, item });
            }
            // Half of a directory may be all that an interrupted script has left. Sent as a new item it
            // would replace the whole one at the receiver, so a person has to look.
            Sight::Present(signature)
                if row.signature != Some(signature) && row.cleaned && row.kind == Kind::Directory =>
            {
                let reason = Reason::new(Cause::Disputed);
                if row.reason.as_ref() != Some(&reason) {
                    self.desk.note(Level::Error, Some(id), Some(&row.name), None, reason.to_string());
                }
                self.put_off(id, reason, DISPUTED_EVERY);
            }
            Sight::Present(_) | Sight::Gone => {
                let why = match sight {
                    Sight::Gone => "it is gone already",
                    Sight::Present(signature) if row.signature == Some(signature) => "there is no cleanup script",
                    _ => "it has been changed since it was sent",
                };
                let name = row.name.clone();
                self.desk.note(Level::Info, Some(id), Some(&name), None, format!("the source is free: {why}"));
                self.free(id, sight);
            }
            Sight::Unreadable(reason) => {
                let name = row.name.clone();
                self.desk.note(Level::Warn, Some(id), Some(&name), None, format!("not cleaned up yet: {reason}"));
                row.attempts += 1;
                let wait = self.desk.backoff(RETRY_FIRST, row.attempts, RETRY_LAST);
                self.put_off(id, reason, wait);
            }
        }
    }

    pub(super) fn on_cleaned(&mut self, id: TransferId, outcome: Result<(), Reason>) {
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage == Stage::Cleaning) else {
            self.cleaning.leave(&id);
            self.desk.unexpected(None, Some(id), "the end of a cleanup script that was not started");
            return;
        };
        let name = transfer.row.name.clone();
        match outcome {
            Ok(()) => {
                transfer.script_done = true;
                // The look that follows needs no turn: another script can start meanwhile.
                self.cleaning.leave(&id);
                self.desk.note(Level::Info, Some(id), Some(&name), None, "cleanup script succeeded");
                self.desk.effect(Effect::Look { transfer: id, item: name });
            }
            Err(reason) => {
                let attempts = transfer.row.attempts;
                transfer.row.attempts += 1;
                let wait = self.desk.backoff(RETRY_FIRST, attempts, RETRY_LAST);
                self.desk.note(Level::Warn, Some(id), Some(&name), None, reason.to_string());
                self.put_off(id, reason, wait);
            }
        }
    }

    /// The source is free: what stands there now either stays as delivered, or is something new.
    fn free(&mut self, id: TransferId, sight: Sight) {
        self.cleaning.leave(&id);
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let row = &mut transfer.row;
        row.attempts = 0;
        let (name, fingerprint, delivered) = (row.name.clone(), row.fingerprint, row.signature);
        self.move_to(id, Stage::Freed, None);
        self.desk.timers.set(Timer::Say(id), self.desk.now.after(self.desk.until_tick(FREED_TICK)));
        match (sight, delivered) {
            (Sight::Present(signature), Some(delivered)) if signature != delivered => {
                self.on_seen(Sighting { name, signature, size: fingerprint.size, complete: false });
            }
            (Sight::Present(_) | Sight::Unreadable(_), Some(delivered)) => self.keep(&name, delivered, fingerprint),
            _ => {}
        }
    }

    fn put_off(&mut self, id: TransferId, reason: Reason, wait: Duration) {
        self.cleaning.leave(&id);
        self.move_to(id, Stage::Releasing, Some(reason));
        self.desk.timers.set(Timer::Retry(id), self.desk.now.after(wait));
    }
}
