//! From an offer to a copy in staging.

use std::time::Duration;

use super::{Download, LOOKUPS, Offered, Short, Stage};
use crate::machine::room::{Estate, Room};
use crate::machine::shared::Timer;
use crate::machine::{
    Address, Cause, Effect, Forward, Level, Location, Message, Node, Offer, Question, Reason, Receipt, Row, RunId,
    RunOutcome, TransferId,
};

pub(super) const RETRY_FIRST: Duration = Duration::from_secs(2);
pub(super) const RETRY_LAST: Duration = Duration::from_secs(300);
/// How often the free space is measured while transfers are wanted.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// The space that stays free beyond the items themselves: for directories, journals, other programs.
const SPARE: Room = Room { bytes: 16 << 20, inodes: 16 };

impl Download {
    pub(super) fn on_offered(&mut self, from: &Node, item: Forward, location: &Location) {
        let id = item.offer.transfer;
        let Some(transfer) = self.transfers.get_mut(&id) else {
            let room = self.lookups.len() < LOOKUPS;
            let offered = Offered { item, location: location.clone(), central: from.name.clone() };
            if room && self.lookups.insert(id, offered).is_none() {
                self.shared.effect(Effect::Lookup(Question::Transfer(id)));
            }
            return;
        };
        let row = &mut transfer.row;
        if row.fingerprint != item.offer.fingerprint || row.name != item.offer.name {
            let text = "ignored an offer: its id belongs to another transfer";
            self.shared.log(Level::Warn, Some(id), Some(&item.offer.name), Some(from), text);
            return;
        }
        if row.central.as_ref() != Some(&from.name) || row.location.as_ref() != Some(location) {
            row.central = Some(from.name.clone());
            row.location = Some(location.clone());
            self.shared.dirty.insert(id);
        }
        if transfer.stage.is_delivered() {
            transfer.row.acknowledged = false;
        }
        transfer.sends = 0;
        self.shared.timers.set(Timer::Send(id), self.shared.now);
    }

    /// The journal has answered: download does not fetch a delivered transfer again.
    pub(super) fn on_transfer_looked_up(&mut self, id: TransferId, row: Option<Box<Row>>) {
        let Some(Offered { item, location, central }) = self.lookups.remove(&id) else { return };
        if self.transfers.contains_key(&id) {
            return;
        }
        if let Some(row) = row.as_ref().filter(|row| row.stage == Stage::Closed.as_str()) {
            if self.shared.lacks_directory() {
                // Without the directory download sends no receipt; central offers the item again.
            } else if row.fingerprint == item.offer.fingerprint {
                let to = Address::Node(Node::new(crate::machine::Mode::Central, central));
                self.shared.send(
                    to,
                    Message::Done(vec![Receipt {
                        transfer: id,
                        fingerprint: row.fingerprint,
                        remark: row.remark.clone(),
                    }]),
                );
            } else {
                let text = "ignored an offer: its id belongs to another transfer";
                self.shared.log(Level::Warn, Some(id), Some(&row.name), None, text);
            }
            return;
        }
        let now = self.shared.now;
        let Forward { offer, upload } = item;
        let (modes, created) = (self.shared.interned(offer.modes), self.shared.next_age());
        let new = Row::new(Offer { modes, ..offer }, upload, created, now);
        let mut new = Row { central: Some(central), location: Some(location), ..new };
        // The transfer was cancelled and offered again. This does not remove a cause that needs a person.
        if let Some(old) = row.filter(|old| old.wrong.is_some() && old.fingerprint == new.fingerprint) {
            (new.wrong, new.attempts) = (old.wrong, old.attempts);
            if old.attempts > 1 {
                new.reason = Some(Reason::with(Cause::Steady, "before the transfer was cancelled and offered again"));
            }
        }
        self.shared.log(
            Level::Info,
            Some(id),
            Some(&new.name),
            None,
            format!("offered by central: {}", new.fingerprint),
        );
        self.insert(new, Stage::Wanted);
        self.shared.dirty.insert(id);
        self.shared.timers.set(Timer::Send(id), now);
        self.line_up_restored(id);
    }

    pub(super) fn start_runs(&mut self) {
        if !self.dispatch.has_line() || self.shared.lacks_directory() {
            return;
        }
        if self.shared.timers.due(&Timer::Measure).is_none() {
            self.shared.effect(Effect::Measure);
            self.shared.timers.set(Timer::Measure, self.shared.now.after(MEASURE_EVERY));
            // An older measurement says little: other programs write to this file system too.
            self.space = None;
            self.arrived = Room::default();
        }
        let Some(space) = self.space else { return };
        let estate = Estate { space, arrived: self.arrived, kept: SPARE, promised: Room::default() };
        self.put_off_what_does_not_fit(&estate);
        for id in self.dispatch.start(&mut self.shared, estate.room()) {
            if let Some(transfer) = self.transfers.get_mut(&id) {
                transfer.emptied = false;
                let name = transfer.row.name.clone();
                self.shared.log(Level::Info, Some(id), Some(&name), None, "rsync starts to fetch the item");
            }
            self.move_to(id, Stage::Pulling, None);
        }
    }

    /// Removes transfers without enough space from the queue; they come back after a while. Those that only wait for
    /// space used by running transfers stay in the queue.
    fn put_off_what_does_not_fit(&mut self, estate: &Estate) {
        for ready in self.dispatch.first_too_big(estate.room()) {
            let Some(short) = estate.shortage(ready.room, &self.settings.directory) else { continue };
            let Some(transfer) = self.transfers.get(&ready.transfer) else { continue };
            // The reason is checked again and again; log it only once.
            if transfer.row.reason.as_ref().is_none_or(|reason| reason.cause() != Cause::Space) {
                let text = format!("not fetched yet: {}", short.text);
                self.shared.log(Level::Warn, Some(ready.transfer), Some(&ready.name), None, text);
            }
            self.dispatch.leave_line(ready.transfer);
            self.move_to(ready.transfer, Stage::Wanted, Some(Reason::with(Cause::Space, &short.text)));
            // A partial copy may occupy just the missing space, for this transfer or for others.
            if self.empty_staging(ready.transfer) {
                continue;
            }
            let wait = self.shared.backoff(RETRY_FIRST, ready.attempts.max(3), RETRY_LAST);
            self.shared.timers.set(Timer::Retry(ready.transfer), self.shared.now.after(wait));
        }
    }

    /// Empties the staging directory of a waiting transfer. Returns whether there may be something to remove; the
    /// transfer then continues after the removal.
    fn empty_staging(&mut self, id: TransferId) -> bool {
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| !transfer.emptied) else { return false };
        transfer.emptied = true;
        transfer.dropping = true;
        self.shared.effect(Effect::Drop(id));
        true
    }

    pub(super) fn on_ran(&mut self, run: RunId, outcome: &RunOutcome) {
        let load = self.dispatch.load(run);
        let alone = load.len() == 1;
        for id in load {
            // Cancelled during a run: the run may have written into staging after the removal.
            if !self.transfers.contains_key(&id) {
                self.shared.effect(Effect::Drop(id));
            }
        }
        let ended = self.dispatch.on_ran(&mut self.shared, run, outcome);
        self.arrived = self.arrived.plus(ended.room);
        let of_run = ended.transfers.clone();
        for id in ended.transfers {
            let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage == Stage::Pulling) else {
                continue;
            };
            match outcome {
                RunOutcome::Partial(_) | RunOutcome::Failed(..) | RunOutcome::Unfit(_) if ended.halted => {
                    let name = transfer.row.name.clone();
                    self.shared.log(
                        Level::Info,
                        Some(id),
                        Some(&name),
                        None,
                        "rsync stopped: the transfer continues later",
                    );
                    self.move_to(id, Stage::Wanted, None);
                    self.line_up(id);
                }
                RunOutcome::Unfit(refused) if refused.iter().any(|(refused, _)| of_run.contains(refused)) => {
                    match refused.iter().find(|(refused, _)| *refused == id) {
                        Some((_, reason)) => self.put_off(id, reason.clone()),
                        // rsync may have left the item out; the next run continues it.
                        None => {
                            self.move_to(id, Stage::Wanted, None);
                            self.line_up(id);
                        }
                    }
                }
                RunOutcome::Failed(_, reason) if reason.cause() == Cause::Space => self.put_off(id, reason.clone()),
                RunOutcome::Complete | RunOutcome::Partial(_) | RunOutcome::Unfit(_) => {
                    transfer.short = match outcome {
                        RunOutcome::Partial(reason) if reason.cause() == Cause::Space => {
                            Some(Short { reason: reason.clone(), alone }.into())
                        }
                        _ => None,
                    };
                    self.move_to(id, Stage::Verifying, None);
                    self.verifying.join(id);
                }
                RunOutcome::Failed(_, reason) => {
                    transfer.row.attempts += 1;
                    let (name, reason) = (transfer.row.name.clone(), reason.clone());
                    self.shared.log(Level::Info, Some(id), Some(&name), None, format!("not fetched: {reason}"));
                    self.move_to(id, Stage::Wanted, Some(reason));
                    self.line_up(id);
                }
            }
        }
    }

    pub(super) fn on_retry(&mut self, id: TransferId) {
        match self.transfers.get(&id).map(|transfer| transfer.stage) {
            Some(Stage::Wanted) => self.line_up(id),
            Some(Stage::Placing) => self.placing.join(id),
            Some(Stage::Delivered) => self.join_cleanups(id),
            _ => {}
        }
    }

    pub(super) fn on_withdrawn(&mut self, from: &Node, id: TransferId, why: &str) {
        self.lookups.remove(&id);
        let Some(transfer) = self.transfers.get(&id) else { return };
        if transfer.row.central.as_ref() != Some(&from.name) {
            return;
        }
        let name = transfer.row.name.clone();
        let taken = transfer.row.reason.as_ref().is_some_and(|reason| reason.cause() == Cause::NameTaken);
        let only_waits = taken && !self.placing.is_inside(&id);
        match transfer.stage {
            Stage::Placing if !only_waits => {}
            Stage::Wanted | Stage::Pulling | Stage::Verifying | Stage::Placing => {
                self.shared.log(Level::Info, Some(id), Some(&name), Some(from), format!("not fetched: {why}"));
                self.move_to(id, Stage::Withdrawn, Some(Reason::with(Cause::Acknowledgement, why)));
                self.finish(id);
                self.shared.effect(Effect::Drop(id));
            }
            // The item is verified and about to be delivered, or delivered: the receipt follows.
            _ => {}
        }
    }
}
