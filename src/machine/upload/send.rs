//! Messages of central, and the runs that follow from them.

use std::time::Duration;

use super::{ItemState, Stage, Transfer, Upload};
use crate::machine::room::Room;
use crate::machine::shared::Timer;
use crate::machine::{
    Address, Cause, Effect, Extra, Level, Location, Message, Node, PlaceId, Reason, Row, RunId, RunOutcome, Sight,
    Signature, TransferId, Wait,
};

const UNREADABLE_FIRST: Duration = Duration::from_secs(5);
const UNREADABLE_LAST: Duration = Duration::from_secs(300);
/// How long central has to answer that it had too little space.
const NO_ROOM_FIRST: Duration = Duration::from_secs(60);
const NO_ROOM_LAST: Duration = Duration::from_secs(600);

impl Transfer {
    /// Whether the last run ended for lack of space on central.
    fn lacks_room(&self) -> bool {
        self.row.reason.as_ref().is_some_and(|reason| reason.cause() == Cause::Space)
    }
}

impl Upload {
    pub(super) fn on_central(&mut self, from: &Node, message: Message) {
        match message {
            Message::Hello(_) => {}
            Message::Waiting(waits) => waits.into_iter().for_each(|wait| self.on_waiting(from, wait)),
            Message::Upload { place, location, links, transfers } => {
                transfers.into_iter().for_each(|id| self.on_granted(from, id, place, &location, links));
            }
            Message::Received(list) => list.into_iter().for_each(|id| self.on_received(from, id)),
            Message::Release(list) => list.into_iter().for_each(|release| self.on_release(from, &release)),
            Message::Closed(list) => list.into_iter().for_each(|id| self.on_closed(id)),
            Message::Unknown(list) => {
                self.announce_again(|row| list.contains(&row.transfer), from);
            }
            other => self.shared.unexpected(Some(from), None, other.kind()),
        }
    }

    /// Whether this central is the one that took the transfer: the first one that answers an offer.
    pub(super) fn taken_by(&mut self, from: &Node, id: TransferId) -> bool {
        let Some(transfer) = self.transfers.get_mut(&id) else { return false };
        match &transfer.row.central {
            Some(name) => *name == from.name,
            None => {
                transfer.row.central = Some(from.name.clone());
                self.shared.dirty.insert(id);
                true
            }
        }
    }

    fn on_waiting(&mut self, from: &Node, wait: Wait) {
        let id = wait.transfer;
        if !self.taken_by(from, id) {
            self.refuse(from, id);
            return;
        }
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        match transfer.stage {
            Stage::Announced if transfer.row.reason.as_ref() != Some(&wait.reason) => {
                transfer.row.reason = Some(wait.reason);
                self.shared.dirty.insert(id);
            }
            // Central asks only for transfers that it does not hold. Either its copy is lost, or this message is late
            // and the answer to the offer shows that.
            Stage::Sent | Stage::Received => {
                self.move_to(id, Stage::Announced, Some(wait.reason));
                self.reconsider(id);
            }
            // Central knows that its space was too small for this transfer, and requests it again when there is more.
            Stage::Granted if transfer.lacks_room() => {
                self.move_to(id, Stage::Announced, Some(wait.reason));
                self.reconsider(id);
            }
            _ => {}
        }
        let Some(transfer) = self.transfers.get(&id) else { return };
        if transfer.stage == Stage::Announced && transfer.sends > 0 {
            let wait = self.shared.repeat_answered();
            self.shared.timers.set(Timer::Send(id), self.shared.now.after(wait));
        }
    }

    /// Central requests an item that it already had. If the source has changed by now, central cannot get that content
    /// any more, and later items must not wait for it.
    pub(super) fn reconsider(&mut self, id: TransferId) {
        let Some(row) = self.transfers.get(&id).filter(|transfer| transfer.stage.is_early()).map(|found| &found.row)
        else {
            return;
        };
        let name = row.name.clone();
        if !self.is_last(&name, id) {
            return self.give_up(id, "the source was replaced");
        }
        match self.items.get(&name) {
            None if self.scanned => self.give_up(id, "the source disappeared"),
            Some(item) if row.signature != Some(item.signature) => self.look_closer(id, item.signature, item.size),
            _ => {}
        }
    }

    /// The source of a transfer that central may not hold yet has another signature. Upload finds out whether its
    /// content changed before the transfer continues.
    fn look_closer(&mut self, id: TransferId, signature: Signature, size: Option<u64>) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let name = transfer.row.name.clone();
        if size.is_some_and(|size| size != transfer.row.fingerprint.size) {
            return self.give_up(id, "the source changed");
        }
        transfer.doubted = true;
        self.dispatch.leave_line(id);
        self.see(name.clone(), signature, size, false);
        if self.items.get(&name).is_some_and(|item| item.state != ItemState::Hashing) {
            self.on_settled(&name);
        }
    }

    /// Answers a central that requests a transfer which this node does not have, or which another central took.
    fn refuse(&mut self, from: &Node, id: TransferId) {
        self.shared.send(Address::Node(from.clone()), Message::Withdraw(vec![id]));
    }

    fn on_granted(&mut self, from: &Node, id: TransferId, place: PlaceId, location: &Location, links: bool) {
        if !self.taken_by(from, id) {
            self.refuse(from, id);
            return;
        }
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let stale = transfer.row.place.is_some_and(|known| place.is_before(known));
        let known = transfer.row.place == Some(place);
        match transfer.stage {
            Stage::Announced => {}
            Stage::Granted | Stage::Sending | Stage::Checking if !known && !stale => {}
            Stage::Received if !known && !stale => {}
            Stage::Sent if !known && !stale => {}
            // This message is late, or an old `received` was, or central's journal is an older copy: its answer shows
            // which.
            Stage::Received => {
                if let Some(place) = transfer.row.place {
                    self.shared.send(Address::Node(from.clone()), Message::Sent { place, transfers: vec![id] });
                }
                return;
            }
            Stage::Sent | Stage::Freed | Stage::Withdrawing => {
                self.shared.timers.set(Timer::Send(id), self.shared.now);
                return;
            }
            _ => return,
        }
        transfer.row.place = Some(place);
        transfer.row.location = Some(location.clone());
        let name = transfer.row.name.clone();
        if !links && transfer.row.extras.carried().has(Extra::Hardlinks) {
            transfer.row.extras = transfer.row.extras.without(Extra::Hardlinks);
            let text = "central cannot keep hard links: its file system has none, or its version is older";
            self.shared.log(Level::Warn, Some(id), Some(&name), Some(from), text);
        }
        self.shared.log(Level::Info, Some(id), Some(&name), Some(from), "central requests the item");
        self.shared.dirty.insert(id);
        self.dispatch.disown(&mut self.shared, id);
        self.move_to(id, Stage::Granted, None);
        self.reconsider(id);
        self.line_up(id);
    }

    pub(super) fn start_runs(&mut self) {
        for id in self.dispatch.start(&mut self.shared, Room::ENDLESS) {
            if let Some(transfer) = self.transfers.get(&id) {
                let name = transfer.row.name.clone();
                self.shared.log(Level::Info, Some(id), Some(&name), None, "rsync starts to send the item");
            }
            self.move_to(id, Stage::Sending, None);
        }
    }

    pub(super) fn on_ran(&mut self, run: RunId, outcome: &RunOutcome) {
        let load = self.dispatch.load(run);
        let ended = self.dispatch.on_ran(&mut self.shared, run, outcome);
        for id in ended.transfers {
            let Some(transfer) = self.transfers.get_mut(&id) else { continue };
            if transfer.stage != Stage::Sending {
                continue;
            }
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
                    self.move_to(id, Stage::Granted, None);
                    self.line_up(id);
                }
                // Upload tells central, which removes the partial copy and requests the item again when it has space.
                // If central does not answer, upload tries the same place once more.
                RunOutcome::Partial(reason) | RunOutcome::Failed(_, reason) if reason.cause() == Cause::Space => {
                    transfer.row.attempts += 1;
                    let (name, attempts) = (transfer.row.name.clone(), transfer.row.attempts);
                    self.shared.log(Level::Warn, Some(id), Some(&name), None, format!("not sent: {reason}"));
                    self.move_to(id, Stage::Granted, Some(reason.clone()));
                    let wait = self.shared.backoff(NO_ROOM_FIRST, attempts.saturating_sub(1), NO_ROOM_LAST);
                    self.shared.timers.set(Timer::Retry(id), self.shared.now.after(wait));
                }
                // If central's file system cannot store the item, central finds that when it compares the copy.
                RunOutcome::Complete | RunOutcome::Partial(_) | RunOutcome::Unfit(_) => {
                    let reason = if let RunOutcome::Partial(reason) = outcome { Some(reason.clone()) } else { None };
                    let item = transfer.row.name.clone();
                    self.move_to(id, Stage::Checking, reason);
                    self.shared.effect(Effect::Look { transfer: id, item });
                }
                RunOutcome::Failed(_, reason) => {
                    transfer.row.attempts += 1;
                    let (name, reason) = (transfer.row.name.clone(), reason.clone());
                    self.shared.log(Level::Info, Some(id), Some(&name), None, format!("not sent: {reason}"));
                    self.move_to(id, Stage::Granted, Some(reason));
                    self.line_up(id);
                }
            }
        }
        for id in load {
            if self.transfers.get(&id).is_some_and(|transfer| transfer.stage == Stage::Withdrawing) {
                self.shared.timers.set(Timer::Send(id), self.shared.now);
            }
        }
    }

    /// The look after a run: only a source that still matches the announcement counts as sent.
    pub(super) fn on_checked(&mut self, id: TransferId, sight: Sight) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let name = transfer.row.name.clone();
        match sight {
            Sight::Present(signature) if transfer.row.signature == Some(signature) => {
                transfer.row.attempts = 0;
                let (name, reason) = (transfer.row.name.clone(), transfer.row.reason.clone());
                self.shared.log(Level::Info, Some(id), Some(&name), None, "sent to central");
                self.move_to(id, Stage::Sent, reason);
            }
            Sight::Present(signature) => {
                self.move_to(id, Stage::Granted, Some(Reason::with(Cause::Hashing, "the source was touched")));
                if self.is_last(&name, id) {
                    self.look_closer(id, signature, None);
                } else {
                    self.give_up(id, "the source was replaced");
                }
            }
            Sight::Gone => {
                self.give_up(id, "the source disappeared");
            }
            Sight::Unreadable(reason) => {
                let name = transfer.row.name.clone();
                self.shared.log(Level::Warn, Some(id), Some(&name), None, format!("not sent: {reason}"));
                transfer.row.attempts += 1;
                let wait = self.shared.backoff(UNREADABLE_FIRST, transfer.row.attempts, UNREADABLE_LAST);
                self.move_to(id, Stage::Granted, Some(reason));
                self.shared.timers.set(Timer::Retry(id), self.shared.now.after(wait));
            }
        }
    }

    pub(super) fn on_retry(&mut self, id: TransferId) {
        match self.transfers.get(&id).map(|transfer| transfer.stage) {
            Some(Stage::Granted) => self.line_up(id),
            Some(Stage::Releasing) => self.join_cleanups(id),
            _ => {}
        }
    }

    fn on_received(&mut self, from: &Node, id: TransferId) {
        if !self.taken_by(from, id) {
            return;
        }
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        match transfer.stage {
            Stage::Announced | Stage::Granted | Stage::Sending | Stage::Checking | Stage::Sent => {
                let name = transfer.row.name.clone();
                self.shared.log(Level::Info, Some(id), Some(&name), Some(from), "central holds a verified copy");
                self.dispatch.disown(&mut self.shared, id);
                self.move_to(id, Stage::Received, None);
            }
            // Central cancels a transfer that an operator has cancelled, as soon as the message arrives.
            Stage::Withdrawing if transfer.row.is_ordered_away() => {}
            // This may be an old message, so upload goes on asking: central closes the transfer, or says when it can
            // end.
            Stage::Withdrawing => {
                let reason = Reason::with(Cause::Receipts, "central already holds the copy");
                if transfer.row.reason.as_ref() != Some(&reason) {
                    let name = transfer.row.name.clone();
                    transfer.row.reason = Some(reason);
                    self.shared.dirty.insert(id);
                    self.let_go(&name);
                }
            }
            _ => {}
        }
    }

    fn on_closed(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        let name = transfer.row.name.clone();
        match transfer.stage {
            Stage::Freed => {
                self.shared.log(Level::Info, Some(id), Some(&name), None, "handed over");
                self.move_to(id, Stage::Closed, None);
            }
            Stage::Withdrawing => {
                let reason = transfer.row.reason.clone();
                self.move_to(id, Stage::Withdrawn, reason);
            }
            _ => {}
        }
    }

    /// Central does not know these: upload offers them again, to any central.
    pub(super) fn announce_again(&mut self, forgotten: impl Fn(&Row) -> bool, from: &Node) {
        let chosen: Vec<_> = self
            .transfers
            .iter()
            .filter(|(_, transfer)| forgotten(&transfer.row))
            .filter(|(_, transfer)| transfer.row.central.as_ref().is_none_or(|central| *central == from.name))
            .map(|(id, transfer)| (*id, transfer.stage))
            .collect();
        for (id, stage) in chosen {
            match stage {
                Stage::Granted | Stage::Sending | Stage::Checking | Stage::Sent | Stage::Received => {
                    let reason = Reason::with(Cause::Central, "central no longer knows the transfer; offered again");
                    if let Some(transfer) = self.transfers.get_mut(&id) {
                        transfer.row.central = None;
                        transfer.row.place = None;
                        transfer.row.location = None;
                        let name = transfer.row.name.clone();
                        self.shared.log(Level::Warn, Some(id), Some(&name), Some(from), reason.detail().to_owned());
                    }
                    self.dispatch.disown(&mut self.shared, id);
                    self.move_to(id, Stage::Announced, Some(reason));
                    self.reconsider(id);
                }
                Stage::Announced => {
                    if let Some(transfer) = self.transfers.get_mut(&id) {
                        transfer.row.central = None;
                        transfer.sends = 0;
                        self.shared.dirty.insert(id);
                    }
                    self.shared.timers.set(Timer::Send(id), self.shared.now);
                }
                _ => {}
            }
        }
    }
}
