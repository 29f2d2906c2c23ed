//! Whether the fetched copy matches the announced item, and what follows if not.

use super::fetch::{RETRY_FIRST, RETRY_LAST};
use super::{Download, Stage, Transfer};
use crate::machine::cleanup::add_remark;
use crate::machine::lasting::{explained, mismatch};
use crate::machine::shared::Timer;
use crate::machine::{
    Attributes, Cause, CopyOutcome, Differences, Effect, Extra, Extras, KeepModes, Level, Mode, Node, Reason, Record,
    TransferId,
};

impl Transfer {
    /// Whether only a person can continue the transfer.
    fn is_lasting(&self) -> bool {
        self.row.reason.as_ref().is_some_and(|reason| reason.cause().is_lasting())
    }
}

impl Download {
    /// The extras to fetch and compare. ACLs are permissions: `keep_modes = "no"` leaves them alone, too.
    pub(super) fn kept(&self, extras: &Extras) -> Extras {
        if self.settings.keep_modes == KeepModes::No { extras.without(Extra::Acls) } else { extras.clone() }
    }

    pub(super) fn start_verifies(&mut self) {
        while !self.shared.lacks_directory()
            && let Some(id) = self.verifying.enter()
        {
            match self.transfers.get(&id) {
                Some(transfer) if transfer.stage == Stage::Verifying => {
                    let (name, kind) = (transfer.row.name.clone(), transfer.row.kind);
                    let digest = transfer.row.fingerprint.digest;
                    let modes = Some(&transfer.row.modes);
                    let modes = modes.filter(|modes| self.settings.keep_modes != KeepModes::No && !modes.is_empty());
                    let attributes = Attributes { modes: modes.cloned(), extras: self.kept(&transfer.row.extras) };
                    self.shared.effect(Effect::Verify { transfer: id, name, kind, digest, attributes });
                }
                _ => {
                    self.verifying.leave(&id);
                }
            }
        }
    }

    pub(super) fn on_verified(&mut self, id: TransferId, outcome: CopyOutcome) {
        if !self.verifying.leave(&id) {
            self.shared.unexpected(None, Some(id), "a checksum that was not requested");
            return;
        }
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage == Stage::Verifying) else {
            return;
        };
        if matches!(&outcome, CopyOutcome::Failed(reason) if reason.cause() == Cause::Directory) {
            return self.verifying.join(id);
        }
        let announced = transfer.row.fingerprint;
        let name = transfer.row.name.clone();
        let short = transfer.short.take();
        let reason = match outcome {
            CopyOutcome::Found { fingerprint, unkept: Some(unkept), .. }
                if fingerprint == announced && self.settings.keep_modes == KeepModes::Yes =>
            {
                Reason::with(Cause::Modes, &unkept)
            }
            CopyOutcome::Found { fingerprint, inode, manifest, unkept, lost } if fingerprint == announced => {
                if let Some(text) = manifest {
                    self.shared.persist(Record::Manifest(id, text));
                }
                transfer.row.inode = Some(inode);
                transfer.row.arrived = Some(self.shared.now);
                transfer.row.attempts = 0;
                transfer.row.wrong = None;
                transfer.row.remark = unkept;
                if let Some(lost) = lost {
                    add_remark(&mut transfer.row.remark, &lost);
                }
                match &transfer.row.remark {
                    Some(unkept) => {
                        let text = format!("fetched and verified, but {unkept}");
                        self.shared.log(Level::Warn, Some(id), Some(&name), None, text);
                    }
                    None => self.shared.log(Level::Info, Some(id), Some(&name), None, "fetched and verified"),
                }
                self.move_to(id, Stage::Placing, None);
                self.placing.join(id);
                return;
            }
            // The copy lacks what the run left out for lack of space; nothing else is wrong with it.
            CopyOutcome::Found { .. } | CopyOutcome::Missing if short.as_ref().is_some_and(|short| short.alone) => {
                short.map_or_else(|| Cause::Space.into(), |short| short.reason)
            }
            CopyOutcome::Found { fingerprint, manifest, .. } => {
                let row = &mut transfer.row;
                let reason = mismatch(fingerprint, announced, row.kind, row.wrong.replace(fingerprint.digest.into()));
                match short {
                    // Another transfer of the batch may have been the cause. Only a copy with the same difference twice
                    // is not explained by missing space.
                    Some(short) if reason.cause() == Cause::Mismatch => short.reason,
                    _ => {
                        if let Some((found, central)) = manifest.zip(row.central.clone()) {
                            let peer = Node::new(Mode::Central, central);
                            self.shared.effect(Effect::Explain { transfer: id, peer, found });
                        }
                        reason
                    }
                }
            }
            CopyOutcome::Missing => short.map_or_else(|| Cause::Missing.into(), |short| short.reason),
            CopyOutcome::Failed(reason) => reason,
        };
        self.put_off(id, reason);
    }

    /// Queues the transfer again, after a delay that grows with each failure.
    pub(super) fn put_off(&mut self, id: TransferId, reason: Reason) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        transfer.row.attempts += 1;
        let name = transfer.row.name.clone();
        // A wrong file may have the right size and time, so that rsync would skip it. So download removes the copy
        // before the next run: a late removal would hit the next copy. Removal also frees the space for other
        // transfers.
        transfer.dropping = matches!(reason.cause(), Cause::Mismatch | Cause::Steady | Cause::Unfit | Cause::Space);
        let dropping = transfer.dropping;
        transfer.emptied |= dropping;
        self.shared.log(Level::Warn, Some(id), Some(&name), None, reason.to_string());
        self.move_to(id, Stage::Wanted, Some(reason));
        if dropping {
            self.shared.effect(Effect::Drop(id));
        } else {
            self.retry_later(id);
        }
    }

    /// The removal from staging has ended. After the removal of a bad copy, a new one is fetched.
    pub(super) fn on_dropped(&mut self, id: TransferId, outcome: Result<(), Reason>) {
        if matches!(&outcome, Err(reason) if reason.cause() == Cause::Directory) {
            return self.shared.effect(Effect::Drop(id));
        }
        self.shared.timers.set_at_most(Timer::Measure, self.shared.now);
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        if let Err(reason) = outcome
            && transfer.dropping
        {
            transfer.emptied = false;
            transfer.row.attempts += 1;
            let name = transfer.row.name.clone();
            self.shared.log(Level::Warn, Some(id), Some(&name), None, reason.to_string());
        }
        if std::mem::take(&mut transfer.dropping) && transfer.stage == Stage::Wanted {
            self.retry_later(id);
        }
    }

    fn retry_later(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        let (attempts, lasting) = (transfer.row.attempts, transfer.is_lasting());
        let wait = if lasting {
            self.shared.patience(attempts)
        } else {
            self.shared.backoff(RETRY_FIRST, attempts.saturating_sub(1), RETRY_LAST)
        };
        self.shared.timers.set(Timer::Retry(id), self.shared.now.after(wait));
    }

    /// Central has sent the announced manifest.
    pub(super) fn on_explained(&mut self, id: TransferId, differences: Option<Differences>) {
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage == Stage::Wanted) else {
            return;
        };
        let Some(reason) = explained(transfer.row.reason.as_ref(), differences) else { return };
        let (name, waits) = (transfer.row.name.clone(), !transfer.dropping);
        self.shared.log(Level::Warn, Some(id), Some(&name), None, reason.to_string());
        let lasting = reason.cause().is_lasting() && !transfer.is_lasting();
        transfer.row.reason = Some(reason);
        transfer.sends = 0;
        self.shared.dirty.insert(id);
        self.shared.timers.set(Timer::Send(id), self.shared.now);
        if lasting && waits {
            self.dispatch.leave_line(id);
            self.retry_later(id);
        }
    }

    /// Loaded from the journal: a transfer that waits for a person still waits after a restart.
    pub(super) fn line_up_restored(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id).filter(|transfer| transfer.is_lasting()) else {
            return self.line_up(id);
        };
        let when = self.shared.end_of_patience(transfer.row.attempts, transfer.row.since);
        self.shared.timers.set(Timer::Retry(id), when);
    }
}
