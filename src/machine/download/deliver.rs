//! From a verified copy to the receipt and the cleanup script.

use std::time::Duration;

use super::{Download, Stage, Transfer};
use crate::machine::cleanup::add_remark;
use crate::machine::shared::Timer;
use crate::machine::{
    Cause, Cleaner, CleanupItem, Cleared, Effect, ItemName, Level, Node, PlaceOutcome, Question, Reason, Row, Sight,
    Signature, TransferId,
};

const TAKEN_FIRST: Duration = Duration::from_secs(5);
const TAKEN_LAST: Duration = Duration::from_secs(60);
/// The delay of a retry while another transfer of the name is being placed or cleaned up.
const MEET_AGAIN: Duration = Duration::from_secs(1);
const SCRIPT_FIRST: Duration = Duration::from_secs(10);
const SCRIPT_LAST: Duration = Duration::from_secs(600);

impl Download {
    pub(super) fn start_places(&mut self) {
        while !self.shared.lacks_directory()
            && let Some(id) = self.placing.enter()
        {
            if self.same_name(id).any(|other| self.cleaning.is_inside(&other)) {
                // Its script may at any time move away the file that this item would get its name from.
                self.placing.leave(&id);
                self.shared.timers.set(Timer::Retry(id), self.shared.now.after(MEET_AGAIN));
            } else if !self.place(id, None) {
                self.placing.leave(&id);
            }
        }
    }

    /// The other unfinished transfers of the same name.
    fn same_name(&self, id: TransferId) -> impl Iterator<Item = TransferId> {
        let name = self.transfers.get(&id).map(|transfer| &transfer.row.name);
        let same = name.and_then(|name| self.by_name.get(name));
        same.into_iter().flatten().copied().filter(move |other| *other != id)
    }

    fn place(&mut self, id: TransferId, replace: Option<Signature>) -> bool {
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage == Stage::Placing) else {
            return false;
        };
        let Some(inode) = transfer.row.inode else { return false };
        transfer.replacing = replace.is_some();
        let name = transfer.row.name.clone();
        self.shared.effect(Effect::Place { transfer: id, name, inode, replace });
        true
    }

    pub(super) fn on_placed(&mut self, id: TransferId, outcome: PlaceOutcome) {
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage == Stage::Placing) else {
            self.placing.leave(&id);
            self.shared.unexpected(None, Some(id), "a delivery that was not requested");
            return;
        };
        let name = transfer.row.name.clone();
        match outcome {
            PlaceOutcome::Placed(signature) => {
                self.placing.leave(&id);
                transfer.row.signature = Some(signature);
                transfer.row.attempts = 0;
                let applied = self.settings.ownership.of(transfer.row.kind);
                let text = match &applied {
                    Some(applied) => format!("delivered: {applied}"),
                    None => "delivered".to_owned(),
                };
                if let Some(applied) = applied {
                    add_remark(&mut transfer.row.remark, &applied);
                }
                self.shared.log(Level::Info, Some(id), Some(&name), None, text);
                self.move_to(id, Stage::Delivered, None);
                self.join_cleanups(id);
                self.shared.effect(Effect::Drop(id));
            }
            PlaceOutcome::Occupied if transfer.replacing => {
                self.placing.leave(&id);
                let detail = format!("{name} changed at the destination since its delivery: move it away");
                self.wait_to_place(id, Reason::with(Cause::NameTaken, &detail));
            }
            PlaceOutcome::Occupied => {
                let question = Question::Name { name, transfer: id };
                self.shared.effect(Effect::Lookup(question));
            }
            PlaceOutcome::Lost => {
                self.placing.leave(&id);
                transfer.row.inode = None;
                self.put_off(id, Reason::with(Cause::Storage, "the staged copy is gone"));
            }
            PlaceOutcome::Failed(reason) if reason.cause() == Cause::Directory => {
                self.placing.leave(&id);
                self.placing.join(id);
            }
            PlaceOutcome::Failed(reason) => {
                self.placing.leave(&id);
                self.wait_to_place(id, reason);
            }
        }
    }

    pub(super) fn on_looked_up(&mut self, question: &Question, row: Option<Box<Row>>) {
        match question {
            Question::Transfer(id) => self.on_transfer_looked_up(*id, row),
            Question::Name { name, transfer } => self.on_name_looked_up(*transfer, name, row),
        }
    }

    /// Another file has the name. Download may replace it only if this node delivered it for an earlier, completely
    /// finished transfer from the same upload. The driver replaces it only if it is untouched.
    fn on_name_looked_up(&mut self, id: TransferId, name: &ItemName, row: Option<Box<Row>>) {
        if !self.placing.is_inside(&id) {
            return;
        }
        let Some(transfer) = self.transfers.get(&id).filter(|transfer| transfer.stage == Stage::Placing) else {
            self.placing.leave(&id);
            return;
        };
        let (upload, minted) = (transfer.row.upload.clone(), transfer.row.minted);
        let same = self.by_name.get(name);
        let under_way = same.into_iter().flatten().filter_map(|other| Some((other, self.transfers.get(other)?)));
        let delivered = under_way.filter(|(other, transfer)| **other != id && transfer.stage.is_delivered());
        let latest = delivered.map(|(_, transfer)| (&transfer.row, transfer.stage)).max_by_key(|(row, _)| row.since);
        // A later transfer is newer at the source too.
        let older = |row: &Row| row.upload == upload && row.minted <= minted;
        let ours = match (&latest, &row) {
            // A script that has not succeeded yet still needs its item.
            (Some((row, stage)), _) => (older(row) && *stage == Stage::Cleaned).then_some(row.signature),
            (None, Some(row)) => older(row).then_some(row.signature),
            (None, None) => None,
        };
        let holder = latest.map(|(row, _)| row.upload.clone()).or(row.as_ref().map(|row| row.upload.clone()));
        if let Some(signature) = ours.flatten() {
            self.place(id, Some(signature));
            return;
        }
        self.placing.leave(&id);
        let detail = match holder {
            Some(upload) => format!("{name} at the destination was delivered from {upload}: move it away"),
            None => format!("{name} at the destination was not delivered by synkler: move it away"),
        };
        self.wait_to_place(id, Reason::with(Cause::NameTaken, &detail));
    }

    fn wait_to_place(&mut self, id: TransferId, reason: Reason) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let attempts = transfer.row.attempts;
        transfer.row.attempts += 1;
        if transfer.row.reason.as_ref() != Some(&reason) {
            let name = transfer.row.name.clone();
            self.shared.log(Level::Warn, Some(id), Some(&name), None, format!("not delivered yet: {reason}"));
        }
        self.move_to(id, Stage::Placing, Some(reason));
        let wait = self.shared.backoff(TAKEN_FIRST, attempts, TAKEN_LAST);
        self.shared.timers.set(Timer::Retry(id), self.shared.now.after(wait));
    }

    /// Queues the transfer for its script. A transfer that is paused alone is queued after the pause.
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
            let Some(transfer) = self
                .transfers
                .get(&id)
                .filter(|transfer| transfer.stage == Stage::Delivered && transfer.row.paused.is_none())
            else {
                self.cleaning.leave(&id);
                continue;
            };
            if !self.settings.cleanup.is_set() {
                let name = transfer.row.name.clone();
                self.shared.log(Level::Info, Some(id), Some(&name), None, "kept at the destination: no cleanup is set");
                self.cleaned(id);
            } else if self.same_name(id).any(|other| self.placing.is_inside(&other) || self.cleaning.is_inside(&other))
            {
                self.cleaning.leave(&id);
                self.shared.timers.set(Timer::Retry(id), self.shared.now.after(MEET_AGAIN));
            } else {
                self.shared.effect(Effect::Look { transfer: id, item: transfer.row.name.clone() });
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
            transfer.is_some_and(|transfer| transfer.stage == Stage::Delivered && transfer.row.paused.is_none())
        };
        let lot = self.cleaning.start_lot(self.shared.now, fit);
        let items: Vec<_> = lot.into_iter().filter_map(|id| self.begin(id)).collect();
        if !items.is_empty() {
            self.shared.effect(Effect::Cleanup(items));
        }
    }

    pub(super) fn on_looked(&mut self, id: TransferId, sight: Sight) {
        let inside = self.cleaning.is_inside(&id);
        let Some(transfer) = self.transfers.get(&id).filter(|transfer| transfer.stage == Stage::Delivered && inside)
        else {
            return;
        };
        let row = &transfer.row;
        if sight.is_of_no_directory() {
            let item = row.name.clone();
            return self.shared.effect(Effect::Look { transfer: id, item });
        }
        if self.shared.lacks_directory() || self.shared.holds(row).is_some() {
            // The order came after the look had begun: download looks again later.
            self.cleaning.leave(&id);
            self.join_cleanups(id);
            return;
        }
        let cleanup = self.settings.cleanup;
        match sight {
            // An earlier run may have taken the item out of sight and stopped before its end.
            _ if row.cleaned && cleanup == Cleaner::Own => self.clean(id),
            Sight::Gone => self.cleaned_already(id),
            // Another transfer has got the name since, so this item is gone.
            Sight::Present(signature) if row.signature != Some(signature) && self.is_of_another(id, signature) => {
                self.cleaned_already(id);
            }
            // A script that has started may have changed the item itself. Without a started script, a changed item is
            // no longer the delivered one.
            Sight::Present(signature) if !row.cleaned && row.signature != Some(signature) => {
                self.cleaned_by(id, &Cleared::Changed);
            }
            Sight::Present(_) => self.clean(id),
            Sight::Unreadable(reason) => self.cleanup_failed(id, reason),
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
        let is_script = self.settings.cleanup.is_script();
        let row = &mut self.transfers.get_mut(&id)?.row;
        let began = std::mem::replace(&mut row.cleaned, true);
        let item = CleanupItem {
            transfer: id,
            item: row.name.clone(),
            // A script that failed may have changed the item.
            signature: row.signature.filter(|_| !(began && is_script)),
            fingerprint: row.fingerprint,
            upload: row.upload.clone(),
            receivers: Vec::new(),
        };
        let text = format!("{} starts", self.settings.cleanup.what());
        self.shared.log(Level::Info, Some(id), Some(&item.item), None, text);
        self.move_to(id, Stage::Cleaning, None);
        Some(item)
    }

    fn cleaned_already(&mut self, id: TransferId) {
        if let Some(transfer) = self.transfers.get(&id) {
            let name = transfer.row.name.clone();
            self.shared.log(Level::Info, Some(id), Some(&name), None, "cleanup skipped: the item is already gone");
        }
        self.cleaned(id);
    }

    fn is_of_another(&self, id: TransferId, signature: Signature) -> bool {
        let placed = |other| self.transfers.get(&other).and_then(|other| other.row.signature);
        self.same_name(id).any(|other| placed(other) == Some(signature))
    }

    pub(super) fn on_cleaned(&mut self, id: TransferId, outcome: Result<Cleared, Reason>) {
        if self.transfers.get(&id).is_none_or(|transfer| transfer.stage != Stage::Cleaning) {
            self.cleaning.leave(&id);
            self.shared.unexpected(None, Some(id), "the end of a cleanup that was not started");
            return;
        };
        match outcome {
            Ok(cleared) => self.cleaned_by(id, &cleared),
            // The cleanup did not start.
            Err(reason) if reason.cause() == Cause::Directory => {
                self.cleaning.leave(&id);
                self.move_to(id, Stage::Delivered, None);
                self.join_cleanups(id);
            }
            Err(reason) if self.cleaning.failed_with_others(id) => {
                let name = self.transfers.get(&id).map(|transfer| transfer.row.name.clone());
                let text = format!("the item is cleaned up alone, because the script failed for several: {reason}");
                self.cleaning.leave(&id);
                self.shared.log(Level::Info, Some(id), name.as_ref(), None, text);
                self.move_to(id, Stage::Delivered, None);
                self.join_cleanups(id);
            }
            Err(reason) => self.cleanup_failed(id, reason),
        }
    }

    fn cleaned_by(&mut self, id: TransferId, cleared: &Cleared) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        cleared.add_to(&mut transfer.row.remark);
        let name = transfer.row.name.clone();
        let level = if *cleared == Cleared::Changed { Level::Warn } else { Level::Info };
        self.shared.log(level, Some(id), Some(&name), None, cleared.text());
        self.cleaned(id);
    }

    fn cleanup_failed(&mut self, id: TransferId, reason: Reason) {
        self.cleaning.leave(&id);
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let attempts = transfer.row.attempts;
        transfer.row.attempts += 1;
        let name = transfer.row.name.clone();
        self.shared.log(Level::Warn, Some(id), Some(&name), None, reason.to_string());
        self.move_to(id, Stage::Delivered, Some(reason));
        let wait = self.shared.backoff(SCRIPT_FIRST, attempts, SCRIPT_LAST);
        self.shared.timers.set(Timer::Retry(id), self.shared.now.after(wait));
    }

    fn cleaned(&mut self, id: TransferId) {
        self.cleaning.leave(&id);
        self.cleaning.forget(&id);
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        transfer.row.attempts = 0;
        let name = transfer.row.name.clone();
        self.move_to(id, Stage::Cleaned, None);
        self.close_if_over(id);
        // The name may be free now for a transfer that waits for it.
        let waiting: Vec<_> = self.by_name.get(&name).into_iter().flatten().copied().collect();
        for other in waiting {
            if self.transfers.get(&other).is_some_and(|transfer| transfer.stage == Stage::Placing) {
                self.placing.join(other);
            }
        }
    }

    pub(super) fn on_noted(&mut self, from: &Node, id: TransferId) {
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage.is_delivered()) else {
            return;
        };
        if !transfer.row.acknowledged {
            transfer.row.acknowledged = true;
            let name = transfer.row.name.clone();
            self.shared.log(Level::Info, Some(id), Some(&name), Some(from), "central acknowledged the receipt");
            self.shared.dirty.insert(id);
            self.shared.timers.stop(&Timer::Send(id));
        }
        self.close_if_over(id);
    }

    fn close_if_over(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        if transfer.stage == Stage::Cleaned && transfer.row.acknowledged {
            self.move_to(id, Stage::Closed, None);
            self.finish(id);
        }
    }
}
