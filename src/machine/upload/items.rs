//! From a sighting of the watch to an offered transfer: quiet time, digest, announcement.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Item, ItemState, Stage, Transfer, Upload};
use crate::machine::shared::Timer;
use crate::machine::stage::Why;
use crate::machine::{
    Cause, Cleaner, Effect, Extras, Fingerprint, HashOutcome, ItemName, Kept, Kind, Level, Mode, Modes, Mounts, Offer,
    Origin, Readiness, Reason, Record, Row, Sighting, Signature, State, Time, TransferId, TransferView,
};

const HELD_FIRST: Duration = Duration::from_secs(1);
const HELD_LAST: Duration = Duration::from_secs(60);
/// How long upload remembers an item that stayed at its source and is gone. A file system that was not mounted for a
/// while brings such an item back.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The result of hashing.
pub(super) struct Proof {
    pub(super) kind: Kind,
    pub(super) entries: u64,
    pub(super) fingerprint: Fingerprint,
    pub(super) modes: Modes,
    pub(super) extras: Extras,
    pub(super) manifest: Option<Arc<str>>,
    pub(super) origin: Origin,
}

impl Upload {
    pub(super) fn on_seen(&mut self, sighting: Sighting) {
        let Sighting { name, signature, size, complete, unmarked } = sighting;
        self.on_sight(name.clone(), signature, Some(size), complete, unmarked);
        if let Some(item) = self.items.get_mut(&name) {
            item.watched = true;
        }
    }

    /// A look under a name does not measure the size; the size here decides nothing.
    pub(super) fn see(&mut self, name: ItemName, signature: Signature, size: Option<u64>, complete: bool) {
        let unmarked = self.unmarked(&name, signature);
        self.on_sight(name, signature, size, complete, unmarked);
    }

    fn on_sight(
        &mut self,
        name: ItemName,
        signature: Signature,
        size: Option<u64>,
        complete: bool,
        unmarked: Option<Reason>,
    ) {
        if let Some(item) = self.items.get_mut(&name).filter(|item| item.signature == signature) {
            let is_marked_anew = item.unmarked != unmarked && item.state.waits_for_marker();
            item.unmarked.clone_from(&unmarked);
            if !(is_marked_anew || complete && item.state == ItemState::Settling) {
                return;
            }
        }
        let known = self.items.get(&name);
        let now = self.shared.now;
        // An order is about what was there then, where somebody has to say that an item is complete.
        let stays = |item: &Item| item.signature == signature || self.settings.ready == Readiness::Settled;
        let insist = known.is_some_and(|item| item.insist && stays(item));
        let mounts = known.map_or_else(Mounts::default, |item| item.mounts.clone());
        let watched = known.is_some_and(|item| item.watched);
        let is_submitted = known.is_none() && self.submitted.contains(&name);
        let since = known.filter(|item| item.signature == signature).map_or(now, |item| item.since);
        self.shared.timers.stop(&Timer::Settle(name.clone()));
        self.hashing.give_up(&name);
        let kept = self.kept.get(&name).filter(|kept| kept.signature == signature).map(Kept::state);
        let state = if let Some(state) = kept {
            self.shared.timers.stop(&Timer::Forget(name.clone()));
            state
        } else if self.carrier(&name, signature).is_some() {
            ItemState::Bound
        } else if self.doubt(&name, size) {
            ItemState::Hashing
        } else {
            self.source_changed(&name, "the source changed");
            // A marker or a submission says that the item is complete.
            let is_marked = self.settings.ready.marker().is_some() && unmarked.is_none();
            let quiet = if complete || is_marked || is_submitted { Duration::ZERO } else { self.settings.settle };
            self.shared.timers.set(Timer::Settle(name.clone()), now.after(quiet));
            ItemState::Settling
        };
        if state == ItemState::Hashing {
            self.hashing.join(name.clone());
        }
        self.items.insert(name, Item { signature, size, state, since, attempts: 0, insist, mounts, unmarked, watched });
    }

    pub(super) fn on_vanished(&mut self, name: &ItemName) {
        self.items.remove(name);
        self.shared.timers.stop(&Timer::Settle(name.clone()));
        self.hashing.give_up(name);
        if self.kept.contains_key(name) {
            self.shared.timers.set(Timer::Forget(name.clone()), self.shared.now.after(FORGET_AFTER));
        }
        if self.submitted.contains(name) {
            self.shared.log(Level::Warn, None, Some(name), None, "submitted, but it disappeared before it was sent");
            self.end_submission(name);
        }
        self.source_changed(name, "the source disappeared");
    }

    /// After the first full scan, an item that was not seen does not exist.
    pub(super) fn on_scanned(&mut self) {
        if std::mem::replace(&mut self.scanned, true) {
            return;
        }
        let unseen = |name: &&ItemName| !self.items.contains_key(*name);
        let known = self.latest.keys().chain(self.kept.keys()).chain(&self.submitted);
        let gone: BTreeSet<_> = known.filter(unseen).cloned().collect();
        for name in gone {
            self.on_vanished(&name);
        }
    }

    /// The transfer that carries exactly this content, if there is one.
    fn carrier(&self, name: &ItemName, signature: Signature) -> Option<TransferId> {
        let id = *self.latest.get(name)?;
        let transfer = self.transfers.get(&id)?;
        let same = transfer.row.signature == Some(signature) && transfer.stage != Stage::Withdrawing;
        same.then_some(id)
    }

    /// Whether this transfer is the last one of its name: no other transfer followed, and nothing that stays or was
    /// left.
    pub(super) fn is_last(&self, name: &ItemName, id: TransferId) -> bool {
        self.latest.get(name) == Some(&id) && !self.kept.contains_key(name)
    }

    /// The source of a transfer that central may not hold yet was touched, and its size may be the same. Upload
    /// examines its content before the transfer continues. Returns whether there is such a transfer.
    fn doubt(&mut self, name: &ItemName, size: Option<u64>) -> bool {
        let Some(id) = self.latest.get(name).copied() else { return false };
        let Some(transfer) = self.transfers.get_mut(&id) else { return false };
        if !transfer.stage.is_early() || size.is_some_and(|size| size != transfer.row.fingerprint.size) {
            return false;
        }
        transfer.doubted = true;
        self.dispatch.leave_line(id);
        true
    }

    /// Withdraws the transfer of this name unless central may already hold all of it.
    pub(super) fn source_changed(&mut self, name: &ItemName, why: &str) {
        let Some(id) = self.latest.get(name).copied() else { return };
        let Some(transfer) = self.transfers.get(&id) else { return };
        if transfer.stage.is_early() {
            self.give_up(id, why);
        }
    }

    pub(super) fn give_up(&mut self, id: TransferId, why: &str) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let name = transfer.row.name.clone();
        self.shared.log(Level::Warn, Some(id), Some(&name), None, format!("cancelled before it was sent: {why}"));
        self.dispatch.disown(&mut self.shared, id);
        if self.latest.get(&name) == Some(&id) {
            self.latest.remove(&name);
            self.leaving.insert(name, id);
        }
        self.move_to(id, Stage::Withdrawing, Some(Reason::with(Cause::Acknowledgement, why)));
    }

    pub(super) fn on_settled(&mut self, name: &ItemName) {
        let behind = self.latest.get(name).and_then(|id| self.transfers.get(id)).is_some_and(|earlier| {
            // Central puts the transfers that it holds into order. Before that, and while a script may change the file,
            // two transfers of one name would collide at the source. An item that is only touched stays the same
            // transfer.
            let may_be_same = earlier.stage.is_early() && earlier.doubted || earlier.stage == Stage::Releasing;
            let is_over = matches!(earlier.stage, Stage::Received | Stage::Freed | Stage::Withdrawing);
            self.is_being_cleaned(earlier) || !may_be_same && !is_over
        });
        let Some(item) = self.items.get_mut(name) else { return };
        if matches!(item.state, ItemState::Bound | ItemState::Kept) {
            return;
        }
        if behind {
            item.state = ItemState::Behind;
            return;
        }
        let is_new = ![&self.latest, &self.leaving].iter().any(|known| known.contains_key(name));
        if is_new && item.watched && !item.insist && !self.kept.contains_key(name) {
            // Nothing was announced under the name, so there is nothing to compare it with.
            if let Some(lack) = self.lack(name) {
                return self.wait_for(name, lack);
            }
        }
        let Some(item) = self.items.get_mut(name) else { return };
        item.state = ItemState::Hashing;
        self.hashing.join(name.clone());
    }

    /// Whether its cleanup runs, or must be finished: an item with its name waits for the end of that.
    fn is_being_cleaned(&self, transfer: &Transfer) -> bool {
        let is_begun = transfer.row.cleaned && self.settings.cleanup == Cleaner::Own;
        transfer.stage == Stage::Cleaning || transfer.stage == Stage::Releasing && is_begun
    }

    /// Lets an item try again that waits for an earlier transfer of its name.
    pub(super) fn let_go(&mut self, name: &ItemName) {
        if self.items.get(name).is_some_and(|item| item.state == ItemState::Behind) {
            self.shared.timers.set(Timer::Settle(name.clone()), self.shared.now);
        }
    }

    pub(super) fn start_hashes(&mut self) {
        while !self.shared.lacks_directory()
            && let Some(name) = self.hashing.enter()
        {
            let Some(item) = self.items.get(&name) else {
                self.hashing.leave(&name);
                continue;
            };
            self.asked.insert(name.clone(), item.signature);
            self.shared.effect(Effect::Hash { item: name, signature: item.signature });
        }
    }

    pub(super) fn on_hashed(&mut self, name: &ItemName, outcome: HashOutcome) {
        self.hashing.leave(name);
        let Some(asked) = self.asked.remove(name) else {
            self.shared.unexpected(None, None, "a checksum that was not requested");
            return;
        };
        let Some(item) = self.items.get_mut(name) else { return };
        if item.signature != asked || item.state != ItemState::Hashing {
            // The item was seen again since: its own quiet time runs, or it is queued already.
            if item.state == ItemState::Hashing {
                self.hashing.join(name.clone());
            }
            return;
        }
        match outcome {
            HashOutcome::Proven { kind, entries, fingerprint, modes, extras, manifest, origin } => {
                self.on_proven(name, asked, Proof { kind, entries, fingerprint, modes, extras, manifest, origin });
            }
            HashOutcome::Changed(sighting) => {
                // A process writes the item: nothing more is known of it before it has settled.
                self.end_doubt(name);
                if sighting.name == *name && sighting.signature != asked {
                    let Sighting { name, signature, size, unmarked, .. } = sighting;
                    self.on_sight(name, signature, Some(size), false, unmarked);
                } else {
                    self.hold(name, Reason::with(Cause::Settling, "the item changed while it was read"));
                }
            }
            HashOutcome::Gone => self.on_vanished(name),
            // The look was refused.
            HashOutcome::Held(reason) if reason.cause() == Cause::Directory => self.hashing.join(name.clone()),
            // A script may leave what nobody can read: then it is not read until it changes.
            HashOutcome::Held(reason) if !is_at_work(&reason) && self.is_unread_leftover(name, asked) => {
                self.set_state(name, ItemState::Kept);
            }
            HashOutcome::Held(reason) => {
                self.end_doubt(name);
                self.hold(name, reason);
            }
        }
    }

    /// Upload cannot tell now whether the source is still the announced item; another item may get its turn meanwhile.
    /// A copy that central had, or may have had, is waited for. Otherwise receivers that have it would get it a second
    /// time as another transfer.
    fn end_doubt(&mut self, name: &ItemName) {
        let is_new = |transfer: &Transfer| transfer.doubted && transfer.row.arrived.is_none() && !transfer.sent;
        let doubted = |id: &TransferId| self.transfers.get(id).is_some_and(is_new);
        if self.latest.get(name).is_some_and(doubted) {
            self.source_changed(name, "the source changed");
        }
    }

    pub(super) fn hold(&mut self, name: &ItemName, reason: Reason) {
        let Some(item) = self.items.get_mut(name) else { return };
        let wait = self.shared.backoff(HELD_FIRST, item.attempts, HELD_LAST);
        let when = self.shared.now.after(wait.max(self.settings.settle.min(HELD_LAST)));
        item.attempts += 1;
        let held = ItemState::Held(reason);
        if item.state != held {
            let ItemState::Held(reason) = &held else { return };
            // The rest needs somebody's attention.
            let is_early = matches!(reason.cause(), Cause::Unmarked | Cause::Unsubmitted);
            let level = if is_at_work(reason) || is_early { Level::Info } else { Level::Warn };
            if item.attempts == 1 {
                self.shared.log(level, None, Some(name), None, format!("waits: {reason}"));
            }
            item.state = held;
        }
        self.shared.timers.set(Timer::Settle(name.clone()), when);
    }

    fn on_proven(&mut self, name: &ItemName, signature: Signature, proof: Proof) {
        let Some(item) = self.items.get_mut(name) else { return };
        // An operator requests it, which overrides the following checks.
        let insist = std::mem::take(&mut item.insist);
        let seen = item.since;
        if !insist && let Some(lost) = self.lost_mount(name, &proof.origin.mounts) {
            return self.hold(name, Reason::with(Cause::Unmounted, &lost));
        }
        self.set_mounts(name, proof.origin.mounts.clone());
        if !insist && self.is_kept(name, signature, &proof) {
            return;
        }
        if self.is_carried(name, signature, &proof, seen, insist) {
            return;
        }
        if !insist && self.is_leaving(name, signature, &proof) {
            return;
        }
        if !insist && self.is_made_by_script(name, signature, &proof) {
            return;
        }
        if !insist && let Some(lack) = self.lack(name) {
            return self.wait_for(name, lack);
        }
        self.announce(name, signature, proof);
    }

    /// Touched with the same content: the item is still what the current transfer carries. Other content: that transfer
    /// ends, and if its cleanup may have caused the change, the item is put aside. Returns whether the item is dealt
    /// with.
    fn is_carried(&mut self, name: &ItemName, signature: Signature, proof: &Proof, seen: Time, insist: bool) -> bool {
        let Some(id) = self.latest.get(name).copied() else { return false };
        let is_being_cleaned = self.transfers.get(&id).is_some_and(|transfer| self.is_being_cleaned(transfer));
        let Some(transfer) = self.transfers.get_mut(&id) else { return false };
        let stage = transfer.stage;
        if is_being_cleaned {
            // The cleanup began while the item was read. Its end tells what the item is.
            self.set_state(name, ItemState::Behind);
            if let Some(item) = self.items.get_mut(name) {
                item.insist = insist;
            }
            return true;
        }
        if !stage.is_early() && !matches!(stage, Stage::Received | Stage::Releasing) {
            return false;
        }
        if transfer.row.kind == proof.kind && transfer.row.fingerprint == proof.fingerprint {
            transfer.row.signature = Some(signature);
            transfer.row.inode = Some(proof.origin.inode);
            transfer.row.born = proof.origin.born;
            let doubted = std::mem::take(&mut transfer.doubted);
            self.shared.dirty.insert(id);
            self.set_state(name, ItemState::Bound);
            match stage {
                Stage::Granted if doubted => self.line_up(id),
                Stage::Releasing => {
                    self.shared.timers.stop(&Timer::Retry(id));
                    self.join_cleanups(id);
                }
                _ => {}
            }
            return true;
        }
        match stage {
            Stage::Received => false,
            Stage::Releasing => {
                // A change before all receipts are in is a new version like any other.
                let written_before = seen < transfer.row.since && !transfer.row.cleaned;
                let aside = self.settings.cleanup.is_script() && !written_before && !insist;
                self.end_without_cleanup(id, "it changed after it was sent");
                if aside {
                    self.set_aside(name, signature, proof, Cause::Disputed);
                }
                aside
            }
            _ => {
                self.give_up(id, "the source changed");
                false
            }
        }
    }

    /// A transfer of the same content is being withdrawn, because its source was unreadable for a while. If central
    /// holds its copy, that transfer continues. Until upload knows that, the item waits.
    fn is_leaving(&mut self, name: &ItemName, signature: Signature, proof: &Proof) -> bool {
        let Some(id) = self.leaving.get(name).copied() else { return false };
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage == Stage::Withdrawing) else {
            return false;
        };
        let row = &mut transfer.row;
        if row.is_ordered_away() || row.kind != proof.kind || row.fingerprint != proof.fingerprint {
            return false;
        }
        if row.reason.as_ref().is_none_or(|reason| reason.cause() != Cause::Receipts) {
            self.set_state(name, ItemState::Behind);
            return true;
        }
        row.signature = Some(signature);
        row.inode = Some(proof.origin.inode);
        row.born = proof.origin.born;
        self.leaving.remove(name);
        self.latest.insert(name.clone(), id);
        self.set_state(name, ItemState::Bound);
        self.move_to(id, Stage::Received, None);
        true
    }

    fn announce(&mut self, name: &ItemName, signature: Signature, proof: Proof) {
        let Proof { kind, entries, fingerprint, modes, extras, manifest, origin } = proof;
        let id = self.shared.mint();
        self.leaving.remove(name);
        let now = self.shared.now;
        let created = self.shared.next_age();
        let modes = self.shared.interned(modes);
        let extras = extras.carrying(self.settings.keep);
        let not_carried = extras.not_carried();
        let name_of_item = name.clone();
        let offer =
            Offer { transfer: id, name: name_of_item, kind, entries, fingerprint, modes, extras, minted: created };
        let row = Row {
            signature: Some(signature),
            inode: Some(origin.inode),
            born: origin.born,
            mounts: origin.mounts,
            ..Row::new(offer, self.settings.me.clone(), created, now)
        };
        let text = format!("settled: {} of {} bytes, md5 {}", kind.as_str(), fingerprint.size, fingerprint.digest);
        self.shared.log(Level::Info, Some(id), Some(name), None, text);
        if let Some(text) = not_carried {
            self.shared.log(Level::Info, Some(id), Some(name), None, text);
        }
        self.insert(row, Stage::Announced);
        if let Some(text) = manifest {
            self.shared.persist(Record::Manifest(id, text));
        }
        self.latest.insert(name.clone(), id);
        self.end_submission(name);
        self.set_state(name, ItemState::Bound);
        self.shared.dirty.insert(id);
        self.shared.timers.set(Timer::Send(id), self.shared.now);
        if self.kept.remove(name).is_some() {
            self.shared.persist(Record::Unkept(name.clone()));
        }
    }

    pub(super) fn set_state(&mut self, name: &ItemName, state: ItemState) {
        if let Some(item) = self.items.get_mut(name) {
            item.state = state;
        }
    }

    /// The stage and reason of an item: those of [`Item::shown`], or that another directory is there.
    pub(super) fn shown<'a>(&'a self, item: &'a Item) -> Option<(&'static str, Why<'a>)> {
        let (stage, why) = item.shown()?;
        Some(self.shared.no_directory.as_ref().map_or((stage, why), |reason| ("blocked", Why::Given(reason))))
    }

    /// What a status shows of an item that is not a transfer yet.
    pub(super) fn item_view(&self, name: &ItemName, item: &Item) -> Option<TransferView> {
        let (stage, why) = self.shown(item)?;
        let state = State::of(Mode::Upload, stage, why.cause(), item.attempts);
        Some(TransferView {
            transfer: None,
            name: name.clone(),
            upload: self.settings.me.clone(),
            kind: None,
            entries: None,
            size: item.size.unwrap_or_default(),
            fingerprint: None,
            stage,
            state,
            reason: why.reason(),
            created: item.since,
            began: None,
            arrived: None,
            paused: None,
            since: item.since,
            next: self.shared.timers.due(&Timer::Settle(name.clone())),
            attempts: item.attempts,
            progress: None,
            receivers: Vec::new(),
            remark: None,
        })
    }
}

impl Item {
    /// The word for what an item does that is not a transfer yet, and why; `None` for every other.
    pub(super) fn shown(&self) -> Option<(&'static str, Why<'_>)> {
        match &self.state {
            ItemState::Settling => Some(("settling", Why::Plain(Cause::Settling))),
            ItemState::Hashing => Some(("hashing", Why::Plain(Cause::Hashing))),
            // What nobody has submitted is not to be sent, so it is not listed.
            ItemState::Held(reason) if reason.cause() == Cause::Unsubmitted && reason.detail().is_empty() => None,
            ItemState::Held(reason) => Some(("blocked", Why::Given(reason))),
            ItemState::Behind => Some(("blocked", Why::Plain(Cause::Predecessor))),
            ItemState::Aside(cause) => Some(("blocked", Why::Plain(*cause))),
            ItemState::Bound | ItemState::Kept => None,
        }
    }
}

impl ItemState {
    fn waits_for_marker(&self) -> bool {
        matches!(self, Self::Held(reason) if reason.cause() == Cause::Unmarked)
    }
}

/// Whether a writer has not finished, which uploads wait for all day.
fn is_at_work(reason: &Reason) -> bool {
    matches!(reason.cause(), Cause::Busy | Cause::Incomplete)
}
