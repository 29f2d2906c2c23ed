//! Verification: whether an upload has sent what it announced, and what follows if not.

use std::time::Duration;

use super::{Central, Stage, Transfer};
use crate::machine::cleanup::add_remark;
use crate::machine::lasting::{explained, mismatch};
use crate::machine::shared::Timer;
use crate::machine::{
    Attributes, Cause, CopyOutcome, Differences, Effect, KeepModes, Level, Mode, Node, Reason, Record, TransferId,
    one_line,
};

const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_LAST: Duration = Duration::from_secs(300);

impl Transfer {
    /// Whether only a person can continue the transfer.
    pub(super) fn is_lasting(&self) -> bool {
        self.row.reason.as_ref().is_some_and(|reason| reason.cause().is_lasting())
    }
}

impl Central {
    /// Loaded from the journal: a transfer that waits for a person still waits after a restart.
    pub(super) fn line_up_restored(&mut self, id: TransferId) {
        if !self.wait_for_person(id) {
            self.line_up(id);
        }
    }

    /// The copy waits here for a person: central examines it again when that is due. Returns whether it does.
    pub(super) fn wait_for_person(&mut self, id: TransferId) -> bool {
        let Some(transfer) = self.transfers.get(&id).filter(|transfer| transfer.is_lasting()) else { return false };
        let when = self.shared.end_of_patience(transfer.row.attempts, transfer.row.since);
        self.shared.timers.set(Timer::Retry(id), when);
        true
    }

    pub(super) fn start_takes(&mut self) {
        while !self.shared.lacks_directory()
            && let Some(id) = self.taking.enter()
        {
            let Some(transfer) = self.transfers.get(&id) else {
                self.taking.leave(&id);
                continue;
            };
            let place = match transfer.stage {
                Stage::Granted => transfer.row.place,
                Stage::Held => None,
                _ => {
                    self.taking.leave(&id);
                    continue;
                }
            };
            let (name, kind) = (transfer.row.name.clone(), transfer.row.kind);
            let modes = Some(&transfer.row.modes)
                .filter(|modes| self.settings.keep_modes != KeepModes::No && !modes.is_empty());
            let attributes = Attributes { modes: modes.cloned(), extras: transfer.row.extras.clone() };
            let text = if place.is_some() { "received: verifying the copy" } else { "verifying the copy again" };
            self.shared.log(Level::Info, Some(id), Some(&name), None, text);
            self.shared.effect(Effect::Take { transfer: id, place, name, kind, attributes });
        }
    }

    pub(super) fn on_taken(&mut self, id: TransferId, outcome: CopyOutcome) {
        if !self.taking.leave(&id) {
            self.shared.unexpected(None, Some(id), "a verified copy that was not requested");
            return;
        }
        if matches!(&outcome, CopyOutcome::Failed(reason) if reason.cause() == Cause::Directory) {
            return self.taking.join(id);
        }
        if !matches!(outcome, CopyOutcome::Failed(_)) {
            self.unseen.remove(&id);
        }
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        if !matches!(transfer.stage, Stage::Granted | Stage::Held) {
            return;
        }
        let name = transfer.row.name.clone();
        let was_held = transfer.stage == Stage::Held;
        let reason = match outcome {
            // A held copy stays held, whatever happens to its modes.
            CopyOutcome::Found { fingerprint, .. } if fingerprint == transfer.row.fingerprint && was_held => return,
            CopyOutcome::Found { fingerprint, manifest, unkept, lost, .. }
                if fingerprint == transfer.row.fingerprint =>
            {
                if let Some(unkept) = unkept {
                    if self.settings.keep_modes == KeepModes::Yes {
                        return self.look_again_later(id, Reason::with(Cause::Modes, &unkept));
                    }
                    self.log_unkept(id, unkept);
                }
                if let Some(lost) = lost {
                    self.log_lost(id, &lost);
                }
                if self.hold(id) {
                    if let Some(text) = manifest {
                        self.shared.persist(Record::Manifest(id, text));
                    }
                } else {
                    // An operator has removed the receivers that were known at the request. A copy for no receiver
                    // would only take space.
                    self.drop_and_wait(id, Cause::Receivers.into());
                }
                return;
            }
            CopyOutcome::Found { fingerprint, manifest, .. } => {
                let row = &mut transfer.row;
                let reason =
                    mismatch(fingerprint, row.fingerprint, row.kind, row.wrong.replace(fingerprint.digest.into()));
                if let Some(found) = manifest {
                    let peer = Node::new(Mode::Upload, row.upload.clone());
                    self.shared.effect(Effect::Explain { transfer: id, peer, found });
                }
                reason
            }
            CopyOutcome::Missing => Reason::new(Cause::Missing),
            CopyOutcome::Failed(reason) if reason.cause() == Cause::Space && !was_held => {
                return self.put_back(id, reason);
            }
            CopyOutcome::Failed(reason) => return self.look_again_later(id, reason),
        };
        transfer.row.attempts += 1;
        self.shared.log(Level::Warn, Some(id), Some(&name), None, format!("{reason}; central requests the item again"));
        self.drop_and_wait(id, reason);
    }

    /// The copy is unusable. Central removes it first and then queues the transfer again, so that the removal cannot
    /// hit the next copy.
    pub(super) fn drop_and_wait(&mut self, id: TransferId, reason: Reason) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        transfer.dropping = true;
        self.move_to(id, Stage::Waiting, Some(reason));
        self.shared.effect(Effect::Drop(id));
    }

    /// There was too little space for the whole copy. Central removes what has arrived, so that other items can use the
    /// space, and queues the transfer again.
    pub(super) fn put_back(&mut self, id: TransferId, reason: Reason) {
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage == Stage::Granted) else {
            return;
        };
        transfer.row.attempts += 1;
        let (name, place) = (transfer.row.name.clone(), transfer.row.place);
        self.shared.log(
            Level::Warn,
            Some(id),
            Some(&name),
            None,
            format!("put back into the queue, the partial copy is deleted: {reason}"),
        );
        self.drop_and_wait(id, reason);
        // Other items of the same place are still being sent there.
        if let Some(place) = place.filter(|place| self.places.contains_key(place)) {
            self.shared.effect(Effect::DropArrival { place, name });
        }
        self.answer(id);
    }

    /// Queues the transfer again, after nothing is left of the unusable copy.
    pub(super) fn line_up_clean(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        if std::mem::take(&mut transfer.undropped) {
            transfer.dropping = true;
            self.shared.effect(Effect::Drop(id));
        } else {
            self.line_up(id);
        }
    }

    /// The copy stays where it is, and is examined again.
    fn look_again_later(&mut self, id: TransferId, reason: Reason) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        transfer.row.attempts += 1;
        let (name, attempts) = (transfer.row.name.clone(), transfer.row.attempts);
        let lasting = reason.cause().is_lasting();
        self.shared.log(Level::Warn, Some(id), Some(&name), None, reason.to_string());
        transfer.row.reason = Some(reason);
        self.shared.dirty.insert(id);
        let wait = if lasting {
            self.shared.patience(attempts)
        } else {
            self.shared.backoff(AGAIN_FIRST, attempts, AGAIN_LAST)
        };
        self.shared.timers.set(Timer::Retry(id), self.shared.now.after(wait));
    }

    /// The bad copy is removed: request the item again, with increasing delay.
    pub(super) fn ask_again(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        let (attempts, cause) = (transfer.row.attempts, transfer.row.reason.as_ref().map(Reason::cause));
        let wait = match cause {
            Some(cause) if cause.is_lasting() => self.shared.patience(attempts),
            _ => self.shared.backoff(AGAIN_FIRST, attempts.saturating_sub(1), AGAIN_LAST),
        };
        self.shared.timers.set(Timer::Retry(id), self.shared.now.after(wait));
    }

    /// Upload has sent its manifest.
    pub(super) fn on_explained(&mut self, id: TransferId, differences: Option<Differences>) {
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage == Stage::Waiting) else {
            return;
        };
        let Some(reason) = explained(transfer.row.reason.as_ref(), differences) else { return };
        let (name, dropping) = (transfer.row.name.clone(), transfer.dropping);
        let lasting = reason.cause().is_lasting() && !transfer.is_lasting();
        self.shared.log(Level::Warn, Some(id), Some(&name), None, reason.to_string());
        transfer.row.reason = Some(reason);
        transfer.told = None;
        self.shared.dirty.insert(id);
        if lasting && !dropping {
            self.leave_line(id);
            self.ask_again(id);
        }
        self.answer(id);
    }

    /// On this file system the copy has other modes than announced. If the modes were announced one by one, downloads
    /// set them nevertheless.
    fn log_unkept(&mut self, id: TransferId, unkept: Box<str>) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let name = transfer.row.name.clone();
        if transfer.row.modes.list().is_some() {
            let text = format!("{unkept}; downloads get the announced permission bits");
            self.shared.log(Level::Info, Some(id), Some(&name), None, text);
        } else {
            self.shared.log(Level::Warn, Some(id), Some(&name), None, unkept.as_ref());
            transfer.row.remark = Some(one_line(&format!("on central: {unkept}")).into());
        }
    }
    /// On this file system the copy has not got all extras. So no download gets them.
    fn log_lost(&mut self, id: TransferId, lost: &str) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let name = transfer.row.name.clone();
        self.shared.log(Level::Warn, Some(id), Some(&name), None, lost);
        let remark = format!("on central: {lost}");
        if transfer.row.remark.as_ref().is_none_or(|known| !known.contains(&remark)) {
            add_remark(&mut transfer.row.remark, &remark);
        }
    }
}
