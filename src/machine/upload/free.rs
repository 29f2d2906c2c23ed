//! The end at the source: release, a last look, the cleanup script.

use std::time::Duration;

use super::{ItemState, Stage, Transfer, Upload};
use crate::machine::shared::Timer;
use crate::machine::{
    Address, Cause, Cleaner, CleanupItem, Cleared, Effect, Kept, Left, Level, Message, Node, Reason, Release, Sight,
    TransferId,
};

const RETRY_FIRST: Duration = Duration::from_secs(10);
const RETRY_LAST: Duration = Duration::from_secs(600);
/// How often upload examines again a source that was touched before its cleanup, if its digest does not come.
const TOUCHED_EVERY: Duration = Duration::from_secs(60);
/// How long a source that was touched at the last moment is left alone.
const CHANGED_EVERY: Duration = Duration::from_secs(1);
/// That a source is free is said on ticks of this length: nothing waits for it, and scripts end one by one.
const FREED_TICK: Duration = Duration::from_millis(100);

impl Upload {
    pub(super) fn on_release(&mut self, from: &Node, release: &Release) {
        let id = release.transfer;
        let Some(transfer) = self.transfers.get_mut(&id) else {
            // The transfer finished here long ago, and central missed that: without an answer central would repeat its
            // message for ever.
            self.shared.send(Address::Node(from.clone()), Message::Freed(vec![id]));
            return;
        };
        if transfer.stage == Stage::Freed {
            self.shared.timers.set(Timer::Send(id), self.shared.now);
            return;
        }
        let name = transfer.row.name.clone();
        let wrong = transfer.row.fingerprint != release.fingerprint || release.receivers.is_empty();
        if wrong || matches!(transfer.stage, Stage::Releasing | Stage::Cleaning) || !self.taken_by(from, id) {
            if wrong {
                let text = "ignored a release with a different checksum";
                self.shared.log(Level::Warn, Some(id), Some(&name), Some(from), text);
            }
            return;
        }
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        transfer.row.remark.clone_from(&release.remark);
        transfer.receivers.clone_from(&release.receivers);
        let from_withdrawn = transfer.stage == Stage::Withdrawing;
        let who = release.receivers.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        self.shared.log(Level::Info, Some(id), Some(&name), Some(from), format!("all receipts are in: {who}"));
        if from_withdrawn && transfer.row.is_ordered_away() {
            // An operator cancelled the transfer, and its source is already kept.
            self.move_to(id, Stage::Freed, None);
            return;
        }
        if from_withdrawn {
            self.latest.entry(name).or_insert(id);
        }
        self.dispatch.disown(&mut self.shared, id);
        self.move_to(id, Stage::Releasing, None);
        self.join_cleanups(id);
    }

    /// Queues the transfer for the end at its source. A transfer that is paused alone is queued after the pause.
    pub(super) fn join_cleanups(&mut self, id: TransferId) {
        if self.transfers.get(&id).is_some_and(|transfer| transfer.row.paused.is_none()) {
            self.cleaning.join(id);
        }
    }

    pub(super) fn start_cleanups(&mut self) {
        // A pause of all transfers leaves the queue as it is, and so does a directory that is not there.
        while self.shared.held_by().is_none()
            && !self.shared.lacks_directory()
            && let Some(id) = self.cleaning.enter(self.shared.now)
        {
            match self.transfers.get(&id) {
                Some(transfer) if transfer.stage == Stage::Releasing && transfer.row.paused.is_none() => {
                    self.shared.effect(Effect::Look { transfer: id, item: transfer.row.name.clone() });
                }
                _ => {
                    self.cleaning.leave(&id);
                }
            }
        }
        self.start_lot();
        if let Some(at) = self.cleaning.wakes(self.shared.now) {
            self.shared.timers.set(Timer::Cleanups, at);
        }
    }

    fn start_lot(&mut self) {
        if self.shared.held_by().is_some() || self.shared.lacks_directory() {
            return self.cleaning.put_back();
        }
        let transfers = &self.transfers;
        let fit = |id| {
            let transfer: Option<&Transfer> = transfers.get(&id);
            transfer.is_some_and(|transfer| transfer.stage == Stage::Releasing && transfer.row.paused.is_none())
        };
        let lot = self.cleaning.start_lot(self.shared.now, fit);
        let items: Vec<_> = lot.into_iter().filter_map(|id| self.begin(id)).collect();
        if !items.is_empty() {
            self.shared.effect(Effect::Cleanup(items));
        }
    }

    pub(super) fn on_looked(&mut self, id: TransferId, sight: Sight) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        if sight.is_of_no_directory() {
            transfer.unwatched = true;
            let item = transfer.row.name.clone();
            return self.shared.effect(Effect::Look { transfer: id, item });
        }
        match transfer.stage {
            Stage::Checking => self.on_checked(id, sight),
            Stage::Cleaning if transfer.cleared.is_some() => self.free(id, sight),
            Stage::Releasing if self.cleaning.is_inside(&id) => self.before_script(id, sight),
            _ => {}
        }
    }

    fn before_script(&mut self, id: TransferId, sight: Sight) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        if self.shared.lacks_directory() || self.shared.holds(&transfer.row).is_some() {
            // The order came after the look had begun: upload looks again later.
            self.cleaning.leave(&id);
            self.join_cleanups(id);
            return;
        }
        let row = &mut transfer.row;
        let is_latest = self.latest.get(&row.name) == Some(&id) && !self.kept.contains_key(&row.name);
        let cleanup = self.settings.cleanup;
        match sight {
            // It was an item when the config had another item_depth.
            Sight::Present(_) if row.name.depth() != self.settings.depth => {
                self.end_without_cleanup(id, "item_depth has changed since it was sent");
            }
            // An earlier run may have taken the item out of sight and stopped before its end.
            _ if row.cleaned && cleanup == Cleaner::Own => self.clean(id),
            Sight::Present(signature) if row.signature == Some(signature) && cleanup.is_set() => self.clean(id),
            // Touched, or changed: that takes a digest to tell, which either lets the script start or ends the
            // transfer.
            Sight::Present(signature) if row.signature != Some(signature) && cleanup.is_set() && is_latest => {
                let name = row.name.clone();
                let reason = Reason::with(Cause::Hashing, "the source was touched after it was sent");
                self.put_off(id, reason, TOUCHED_EVERY);
                self.see(name.clone(), signature, None, false);
                if self.items.get(&name).is_some_and(|item| item.state == ItemState::Behind) {
                    self.on_settled(&name);
                }
            }
            Sight::Present(signature) if row.signature != Some(signature) => {
                let name = row.name.clone();
                self.end_without_cleanup(id, "it changed after it was sent");
                self.see(name, signature, None, false);
            }
            Sight::Gone => {
                let name = row.name.clone();
                self.shared.log(Level::Info, Some(id), Some(&name), None, "source released: it is already gone");
                // An earlier run of this daemon has cleaned it up, and stopped before its end.
                if row.cleaned {
                    self.unmark(&name);
                }
                self.end(id);
            }
            Sight::Present(_) => self.end_without_cleanup(id, "no cleanup is set"),
            Sight::Unreadable(reason) => {
                let name = row.name.clone();
                self.shared.log(Level::Warn, Some(id), Some(&name), None, format!("cleanup waits: {reason}"));
                row.attempts += 1;
                let wait = self.shared.backoff(RETRY_FIRST, row.attempts, RETRY_LAST);
                self.put_off(id, reason, wait);
            }
        }
    }

    fn clean(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        let bytes = transfer.row.name.as_bytes().len();
        if self.cleaning.looked(id, bytes, self.shared.now)
            && let Some(item) = self.begin(id)
        {
            self.shared.effect(Effect::Cleanup(vec![item]));
        }
    }

    fn begin(&mut self, id: TransferId) -> Option<CleanupItem> {
        let transfer = self.transfers.get_mut(&id)?;
        transfer.unwatched = false;
        let row = &mut transfer.row;
        row.cleaned = true;
        let cleanup = self.settings.cleanup;
        if cleanup.is_script() {
            self.scripts.start(row, self.shared.now);
        }
        let item = CleanupItem {
            transfer: id,
            item: row.name.clone(),
            signature: row.signature,
            fingerprint: row.fingerprint,
            upload: row.upload.clone(),
            receivers: transfer.receivers.clone(),
        };
        self.shared.dirty.insert(id);
        self.shared.log(Level::Info, Some(id), Some(&item.item), None, format!("{} starts", cleanup.what()));
        self.move_to(id, Stage::Cleaning, None);
        Some(item)
    }

    pub(super) fn on_cleaned(&mut self, id: TransferId, outcome: Result<Cleared, Reason>) {
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage == Stage::Cleaning) else {
            self.cleaning.leave(&id);
            self.shared.unexpected(None, Some(id), "the end of a cleanup that was not started");
            return;
        };
        let name = transfer.row.name.clone();
        self.scripts.end(id, self.shared.now);
        match outcome {
            Ok(Cleared::Changed) => {
                let reason = Reason::with(Cause::Hashing, "the source was touched after it was sent");
                transfer.row.cleaned = false;
                self.shared.dirty.insert(id);
                self.put_off(id, reason, CHANGED_EVERY);
            }
            Ok(cleared) => {
                let by = if cleared == Cleared::Script { Cleaner::Script } else { Cleaner::Own };
                transfer.cleared = Some(by);
                cleared.add_to(&mut transfer.row.remark);
                // The look that follows needs no turn: another cleanup can start meanwhile.
                self.cleaning.leave(&id);
                self.shared.log(Level::Info, Some(id), Some(&name), None, cleared.text());
                self.shared.effect(Effect::Look { transfer: id, item: name });
            }
            // The cleanup did not start.
            Err(reason) if reason.cause() == Cause::Directory => {
                self.cleaning.leave(&id);
                self.move_to(id, Stage::Releasing, None);
                self.join_cleanups(id);
            }
            Err(reason) if self.cleaning.failed_with_others(id) => {
                let text = format!("the item is cleaned up alone, because the script failed for several: {reason}");
                self.cleaning.leave(&id);
                self.shared.log(Level::Info, Some(id), Some(&name), None, text);
                self.move_to(id, Stage::Releasing, None);
                self.join_cleanups(id);
            }
            Err(reason) => {
                let attempts = transfer.row.attempts;
                transfer.row.attempts += 1;
                let wait = self.shared.backoff(RETRY_FIRST, attempts, RETRY_LAST);
                self.shared.log(Level::Warn, Some(id), Some(&name), None, reason.to_string());
                self.put_off(id, reason, wait);
            }
        }
    }

    /// Nothing is cleaned up. What was handed over counts as handed over; the present file is sent only if it differs.
    pub(super) fn end_without_cleanup(&mut self, id: TransferId, why: &str) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        let row = &transfer.row;
        let (name, mounts, fingerprint, signature) =
            (row.name.clone(), row.mounts.clone(), row.fingerprint, row.signature);
        let is_latest = self.is_last(&name, id);
        self.shared.log(Level::Info, Some(id), Some(&name), None, format!("source released: {why}"));
        self.end(id);
        if let Some(signature) = signature.filter(|_| is_latest) {
            self.keep(&name, signature, fingerprint, mounts);
        }
    }

    /// The cleanup has succeeded. What is there now was left by the script, and is no item; after a cleanup of
    /// synkler's own it is a new one.
    fn free(&mut self, id: TransferId, sight: Sight) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        let row = &transfer.row;
        let (by, unwatched) = (transfer.cleared, transfer.unwatched);
        let (name, mounts, fingerprint, delivered) =
            (row.name.clone(), row.mounts.clone(), row.fingerprint, row.signature);
        self.end(id);
        if sight == Sight::Gone {
            self.unmark(&name);
        }
        let Some(delivered) = delivered else { return };
        if by == Some(Cleaner::Own) {
            if let Sight::Present(signature) = sight {
                self.see(name, signature, None, false);
            }
            return;
        }
        let unread = Some(Left { fingerprint: None, aside: None });
        let (seen, signature, left) = match sight {
            Sight::Gone => return,
            Sight::Present(seen) if seen == delivered => (seen, seen, None),
            // Whether the script left it or a user wrote it, nobody can tell: it counts as changed since the script.
            Sight::Present(seen) if unwatched => (seen, delivered, unread),
            Sight::Present(seen) => (seen, seen, unread),
            Sight::Unreadable(_) => (delivered, delivered, unread),
        };
        self.remember(Kept { name: name.clone(), signature, fingerprint, left, mounts });
        self.see(name, seen, None, true);
    }

    fn end(&mut self, id: TransferId) {
        self.cleaning.leave(&id);
        self.cleaning.forget(&id);
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        transfer.row.attempts = 0;
        self.move_to(id, Stage::Freed, None);
        self.shared.timers.set(Timer::Send(id), self.shared.now.after(self.shared.until_tick(FREED_TICK)));
    }

    fn put_off(&mut self, id: TransferId, reason: Reason, wait: Duration) {
        self.cleaning.leave(&id);
        self.move_to(id, Stage::Releasing, Some(reason));
        self.shared.timers.set(Timer::Retry(id), self.shared.now.after(wait));
    }
}
