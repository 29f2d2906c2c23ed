//! Admission of items: offers, their order, the space for them, and what uploads report about them.

use std::time::Duration;

use super::forward::release_of;
use super::{Central, Stage, Transfer};
use crate::machine::dispatch::{BATCH_BYTES, BATCH_ITEMS, BIG, GATHER};
use crate::machine::room::{Estate, Room, Shortage};
use crate::machine::shared::Timer;
use crate::machine::{
    Address, Cause, Effect, Extra, Level, Location, Message, Mode, Node, NodeName, Offer, PlaceId, Question, Reason,
    Record, Row, TransferId, Wait,
};

/// How many offers may wait for the journal's answer; uploads send the others again.
const LOOKUPS: usize = 2000;
/// How many transfers at the front of a queue are examined for one that fits.
const LOOK_AHEAD: usize = 100;
/// After this long a wait for space, smaller items behind an item no longer take the space that it needs.
const PATIENCE: Duration = Duration::from_secs(600);
/// After this many failures in a row, central requests a transfer alone.
const ALONE_AFTER: u32 = 2;
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// The location of a place.
pub(super) fn place_location(spool: &Location, place: PlaceId) -> Option<Location> {
    Location::new(spool.host(), &format!("{}/in/{place}", spool.path())).ok()
}

impl Central {
    pub(super) fn on_offer(&mut self, from: &Node, offer: Offer) {
        let id = offer.transfer;
        if let Some(known) = self.transfers.get(&id) {
            let row = &known.row;
            let same = row.upload == from.name && row.name == offer.name && row.fingerprint == offer.fingerprint;
            if same {
                self.answer(id);
            } else {
                let text = "ignored an offer: its id belongs to another transfer";
                self.shared.log(Level::Warn, Some(id), Some(&offer.name), Some(from), text);
            }
            return;
        }
        // A late copy of an old offer must not start a finished transfer again: the journal is asked first.
        if self.lookups.len() < LOOKUPS && self.lookups.insert(id, (from.name.clone(), offer)).is_none() {
            self.shared.effect(Effect::Lookup(Question::Transfer(id)));
        }
    }

    /// The journal has answered. A transfer that was handed over stays finished.
    pub(super) fn on_looked_up(&mut self, id: TransferId, row: Option<Box<Row>>) {
        let Some((upload, offer)) = self.lookups.remove(&id) else { return };
        let from = Node::new(Mode::Upload, upload);
        if self.transfers.contains_key(&id) {
            self.on_offer(&from, offer);
        } else if let Some(row) = row.filter(|row| row.stage == Stage::Closed.as_str()) {
            // An old message, or an upload whose journal is an older copy: central releases the source again.
            let message = match row.receivers.is_empty() {
                true => Message::Closed(vec![id]),
                false => Message::Release(vec![release_of(&row)]),
            };
            self.shared.send(Address::Node(from), message);
        } else {
            self.take_up(&from, offer);
        }
    }

    fn take_up(&mut self, from: &Node, offer: Offer) {
        let (id, now) = (offer.transfer, self.shared.now);
        let created = self.shared.next_age();
        let modes = self.shared.interned(offer.modes);
        let extras = if self.settings.links { offer.extras } else { offer.extras.without(Extra::Hardlinks) };
        let row = Row::new(Offer { modes, extras, ..offer }, from.name.clone(), created, now);
        self.shared.log(Level::Info, Some(id), Some(&row.name), Some(from), format!("offered: {}", row.fingerprint));
        self.insert(row, Stage::Waiting);
        self.shared.dirty.insert(id);
        self.line_up(id);
    }

    /// Requests the transfers for which there is space, a receiver and a turn. Tells the others why they wait.
    pub(super) fn admit(&mut self) {
        let uploads: Vec<_> =
            self.lines.iter().filter(|(_, line)| !line.is_empty()).map(|(name, _)| name.clone()).collect();
        let busy = !uploads.is_empty() || !self.places.is_empty();
        if busy && self.shared.timers.due(&Timer::Measure).is_none() {
            self.shared.timers.set(Timer::Measure, self.shared.now.after(MEASURE_EVERY));
            self.shared.effect(Effect::Measure);
            // An older measurement says little: other programs write to this file system too.
            self.space = None;
            self.arrived = Room::default();
        }
        for upload in uploads {
            while self.admit_batch(&upload) {}
            self.tell_reasons(&upload);
        }
    }

    fn admit_batch(&mut self, upload: &NodeName) -> bool {
        let peer = Node::new(Mode::Upload, upload.clone());
        let slots = self.shared.peers.get(&peer).map_or(1, |peer| peer.known.slots.clamp(1, 64)) as usize;
        let (open, big_open) = self.open_places(upload);
        if self.shared.held_by().is_some()
            || self.shared.lacks_directory()
            || open > slots
            || !self.shared.speaks_with(&peer)
            || self.required().is_none()
        {
            return false;
        }
        let Some(estate) = self.estate() else { return false };
        let mut room = estate.room();
        let big_allowed = big_open < slots.saturating_sub(1).max(1);
        let mut batch = Vec::new();
        let mut bytes = 0;
        let Some(line) = self.lines.get(upload) else { return false };
        let mut misfits = 0;
        for (order, id) in line {
            let Some(transfer) = self.transfers.get(id) else { continue };
            if self.follows_a_cleanup(transfer) {
                continue;
            }
            let (size, needed) = (transfer.row.fingerprint.size, transfer.row.room());
            let big = size >= BIG;
            if !needed.fits_in(room) {
                misfits += 1;
                let patient = self.shared.now.since(transfer.row.since) < PATIENCE;
                if misfits > LOOK_AHEAD || !(patient || estate.is_hopeless(needed)) {
                    break;
                }
                continue;
            }
            // A transfer that failed before must not make others fail with it.
            let alone = big || transfer.row.attempts >= ALONE_AFTER;
            if big && !big_allowed || alone && !batch.is_empty() {
                continue;
            }
            if batch.len() >= BATCH_ITEMS || bytes + size > BATCH_BYTES && !batch.is_empty() {
                break;
            }
            room = room.minus(needed);
            bytes += size;
            batch.push((*order, *id));
            if alone {
                break;
            }
        }
        if batch.is_empty() {
            return false;
        }
        // Beside an active batch, the next batch waits a moment for more transfers.
        let until = self.granted.get(upload).map(|granted| granted.after(GATHER));
        if let Some(until) = until.filter(|until| *until > self.shared.now)
            && open > 0
            && batch.len() < BATCH_ITEMS
            && bytes < BIG
        {
            self.shared.timers.set_at_most(Timer::Gather, until);
            return false;
        }
        self.granted.insert(upload.clone(), self.shared.now);
        self.grant(upload, batch);
        true
    }

    /// Whether an earlier transfer of the same name has not freed its source yet. The file there may be the result of
    /// its cleanup.
    fn follows_a_cleanup(&self, transfer: &Transfer) -> bool {
        let key = (transfer.row.upload.clone(), transfer.row.name.clone());
        let Some(same) = self.by_name.get(&key).filter(|same| same.len() > 1) else { return false };
        let mut earlier = same.range(..(transfer.order, transfer.row.transfer));
        earlier.any(|(_, earlier)| {
            let earlier = self.transfers.get(earlier);
            earlier.is_some_and(|earlier| earlier.stage == Stage::Released && !earlier.row.acknowledged)
        })
    }

    fn grant(&mut self, upload: &NodeName, batch: Vec<(u64, TransferId)>) {
        let place = PlaceId { journal: self.shared.journal, number: self.next_place };
        let peer = Node::new(Mode::Upload, upload.clone());
        self.next_place += 1;
        self.shared.persist(Record::NextPlace(self.next_place));
        for entry in batch {
            if let Some(line) = self.lines.get_mut(upload) {
                line.remove(&entry);
            }
            let id = entry.1;
            if let Some(transfer) = self.transfers.get_mut(&id) {
                transfer.row.place = Some(place);
                transfer.undropped = false;
                self.reserved = self.reserved.plus(transfer.row.room());
                self.places.entry(place).or_default().insert(id);
                let name = transfer.row.name.clone();
                self.shared.log(Level::Info, Some(id), Some(&name), Some(&peer), "requested from the upload");
                self.move_to(id, Stage::Granted, None);
            }
        }
    }

    /// How many places an upload has been asked to fill, and how many of these have one big item.
    fn open_places(&self, upload: &NodeName) -> (usize, usize) {
        let mut counts = (0, 0);
        // Transfers that an operator paused at their upload occupy no slot.
        let moves = |transfer: &&Transfer| {
            let row = &transfer.row;
            row.paused.is_none()
                && !transfer.is_lasting()
                && row.reason.as_ref().is_none_or(|reason| reason.cause() != Cause::Paused)
        };
        for ids in self.places.values() {
            let Some(first) = ids.iter().filter_map(|id| self.transfers.get(id)).find(moves) else { continue };
            if first.row.upload == *upload {
                counts.0 += 1;
                counts.1 += usize::from(first.row.fingerprint.size >= BIG);
            }
        }
        counts
    }

    /// Tells upload why the first transfers in its queue wait, if the cause has changed.
    fn tell_reasons(&mut self, upload: &NodeName) {
        let Some(line) = self.lines.get(upload) else { return };
        let head: Vec<_> = line.iter().take(LOOK_AHEAD).map(|(_, id)| *id).collect();
        let no_receivers = self.required().is_none();
        let no_directory = self.shared.no_directory.clone();
        if no_directory.is_none() && !no_receivers && self.space.is_none() {
            // A measurement is running: the last reported cause still counts.
            return;
        }
        let to = Address::Node(Node::new(Mode::Upload, upload.clone()));
        for id in head {
            let short = self.shortage(id);
            let behind = self.transfers.get(&id).is_some_and(|transfer| self.follows_a_cleanup(transfer));
            let Some(transfer) = self.transfers.get_mut(&id) else { continue };
            let reason = if let Some(no_directory) = &no_directory {
                no_directory.clone()
            } else if no_receivers {
                Reason::new(Cause::Receivers)
            } else if behind {
                Reason::new(Cause::Predecessor)
            } else if let Some(short) = &short {
                Reason::with(Cause::Space, &short.text)
            } else {
                self.shared.why(&transfer.row, Cause::Queued).reason()
            };
            let lacks = short.filter(|_| reason.cause() == Cause::Space).map(|short| (short.what, short.hopeless));
            if transfer.told != Some(reason.cause()) || transfer.lacks != lacks {
                transfer.told = Some(reason.cause());
                transfer.lacks = lacks;
                if reason.cause() == Cause::Space {
                    let name = transfer.row.name.clone();
                    self.shared.log(Level::Warn, Some(id), Some(&name), None, reason.to_string());
                }
                transfer.row.reason = Some(reason.clone());
                self.shared.send(to.clone(), Message::Waiting(vec![Wait { transfer: id, reason }]));
            }
        }
    }

    /// The space here, once it has been measured.
    fn estate(&self) -> Option<Estate> {
        let space = self.space?;
        let kept = Room::share_of(space, self.settings.free_millipercent);
        Some(Estate { space, arrived: self.arrived, kept, promised: self.reserved })
    }

    fn shortage(&self, id: TransferId) -> Option<Shortage> {
        let needed = self.transfers.get(&id)?.row.room();
        self.estate()?.shortage(needed, &format!("{} on central", self.settings.spool.path()))
    }

    pub(super) fn on_withdraw(&mut self, from: &Node, id: TransferId) {
        let to = Address::Node(from.clone());
        let Some(transfer) = self.transfers.get(&id).filter(|transfer| transfer.row.upload == from.name) else {
            self.shared.send(to, Message::Closed(vec![id]));
            return;
        };
        match transfer.stage {
            Stage::Waiting | Stage::Granted if !self.taking.is_inside(&id) => {
                self.give_up(from, id, "cancelled by the upload")
            }
            Stage::Held | Stage::Released => self.answer(id),
            // Central examines the copy now. If the copy matches, the transfer goes on; upload asks again.
            _ => {}
        }
    }

    /// An operator has cancelled these at their upload. Receivers keep the copies that they have; the others are told.
    pub(super) fn on_cancel(&mut self, from: &Node, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id).filter(|transfer| transfer.row.upload == from.name) else {
            self.shared.send(Address::Node(from.clone()), Message::Closed(vec![id]));
            return;
        };
        match transfer.stage {
            // Central examines the copy now; upload asks again.
            _ if self.taking.is_inside(&id) => {}
            Stage::Released => self.answer(id),
            _ => self.give_up(from, id, "cancelled by an operator"),
        }
    }

    fn give_up(&mut self, from: &Node, id: TransferId, why: &str) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        let name = transfer.row.name.clone();
        let told: Vec<_> = transfer.pending().cloned().collect();
        self.shared.log(Level::Info, Some(id), Some(&name), Some(from), why);
        for receiver in told {
            self.shared.send(Address::Node(Node::new(Mode::Download, receiver)), Message::Withdraw(vec![id]));
        }
        self.move_to(id, Stage::Withdrawn, Some(Reason::with(Cause::Acknowledgement, why)));
        self.shared.effect(Effect::Drop(id));
        self.finish(id);
        self.shared.send(Address::Node(from.clone()), Message::Closed(vec![id]));
    }

    pub(super) fn on_freed(&mut self, from: &Node, id: TransferId) {
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.row.upload == from.name) else {
            self.shared.send(Address::Node(from.clone()), Message::Closed(vec![id]));
            return;
        };
        match transfer.stage {
            Stage::Waiting | Stage::Granted => {
                // A late offer brought a finished transfer back: nothing has to be fetched.
                if !self.taking.is_inside(&id) {
                    self.give_up(from, id, "the upload has already released the source");
                }
                return;
            }
            Stage::Released if !transfer.row.acknowledged => {
                transfer.row.acknowledged = true;
                self.shared.dirty.insert(id);
                self.shared.timers.stop(&Timer::Send(id));
                let name = transfer.row.name.clone();
                self.shared.log(Level::Info, Some(id), Some(&name), Some(from), "source released");
                self.close_if_over(id);
            }
            _ => {}
        }
        self.shared.send(Address::Node(from.clone()), Message::Closed(vec![id]));
    }

    pub(super) fn on_sender_waits(&mut self, from: &Node, wait: Wait) {
        let id = wait.transfer;
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.row.upload == from.name) else {
            self.shared.send(Address::Node(from.clone()), Message::Unknown(vec![id]));
            return;
        };
        match transfer.stage {
            Stage::Granted => {
                let cause = wait.reason.cause();
                let reason = Reason::with(cause, &format!("{}: {}", from.name, wait.reason.detail()));
                let looked_at = transfer.is_lasting() || self.shared.timers.due(&Timer::Retry(id)).is_some();
                if cause == Cause::Space && looked_at {
                    // The item was sent before, and that copy waits here: remove only what came later.
                    if let Some(place) = transfer.row.place {
                        let name = transfer.row.name.clone();
                        self.shared.effect(Effect::DropArrival { place, name });
                    }
                } else if cause == Cause::Space && !self.taking.is_inside(&id) {
                    self.put_back(id, reason);
                } else {
                    transfer.row.reason = Some(reason);
                }
            }
            _ => self.answer(id),
        }
    }

    pub(super) fn on_sent(&mut self, from: &Node, id: TransferId, place: PlaceId) {
        let Some(transfer) = self.transfers.get(&id).filter(|transfer| transfer.row.upload == from.name) else {
            self.shared.send(Address::Node(from.clone()), Message::Unknown(vec![id]));
            return;
        };
        match transfer.stage {
            // Central has examined the copy; a person has to act.
            Stage::Granted if transfer.is_lasting() && self.shared.timers.due(&Timer::Retry(id)).is_some() => {}
            Stage::Granted if transfer.row.place == Some(place) => self.taking.join(id),
            // Upload sent the item to a later place that this journal does not know: the journal is an older copy.
            Stage::Granted if transfer.row.place.is_some_and(|known| known.is_before(place)) => {
                let number = place.number.saturating_add(1);
                self.next_place = self.next_place.max(number);
                self.drop_and_wait(id, Cause::Missing.into());
            }
            _ => self.answer(id),
        }
    }

    pub(super) fn on_retry(&mut self, id: TransferId) {
        match self.transfers.get(&id).map(|transfer| transfer.stage) {
            Some(Stage::Waiting) => self.line_up_clean(id),
            Some(Stage::Granted | Stage::Held) => self.taking.join(id),
            Some(Stage::Released) => self.on_keep(id),
            _ => {}
        }
    }
}
