//! From what the watch sees to a transfer on offer: quiet time, digest, announcement.

use std::sync::Arc;
use std::time::Duration;

use super::{Item, ItemState, Stage, Upload};
use crate::machine::desk::Timer;
use crate::machine::stage::Why;
use crate::machine::{
    Cause, Effect, Fingerprint, HashOutcome, ItemName, Kept, Kind, Level, Modes, Reason, Record, Row, Sighting,
    Signature, TransferId, TransferView,
};

const HELD_FIRST: Duration = Duration::from_secs(1);
const HELD_LAST: Duration = Duration::from_secs(60);
/// An item that stayed at its source and has gone is remembered this long, because a file system that was
/// not mounted for a while brings it back.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What hashing has found.
struct Proof {
    kind: Kind,
    entries: u64,
    fingerprint: Fingerprint,
    modes: Modes,
    manifest: Option<Arc<str>>,
}

impl Upload {
    pub(super) fn on_seen(&mut self, sighting: Sighting) {
        let Sighting { name, signature, size, complete } = sighting;
        if let Some(item) = self.items.get(&name)
            && item.signature == signature
            && !(complete && item.state == ItemState::Settling)
        {
            return;
        }
        let now = self.desk.now;
        self.desk.timers.stop(&Timer::Settle(name.clone()));
        let state = if self.kept.get(&name).is_some_and(|kept| kept.signature == signature) {
            self.desk.timers.stop(&Timer::Forget(name.clone()));
            ItemState::Kept
        } else if self.carrier(&name, signature).is_some() {
            ItemState::Bound
        } else {
            self.source_changed(&name, "the source changed");
            let quiet = if complete { Duration::ZERO } else { self.settings.settle };
            self.desk.timers.set(Timer::Settle(name.clone()), now.after(quiet));
            ItemState::Settling
        };
        self.hashing.give_up(&name);
        self.items.insert(name, Item { signature, size, state, since: now, attempts: 0 });
    }

    pub(super) fn on_vanished(&mut self, name: &ItemName) {
        self.items.remove(name);
        self.desk.timers.stop(&Timer::Settle(name.clone()));
        self.hashing.give_up(name);
        if self.kept.contains_key(name) {
            self.desk.timers.set(Timer::Forget(name.clone()), self.desk.now.after(FORGET_AFTER));
        }
        self.source_changed(name, "the source went away");
    }

    /// After the first full scan, what has not been seen is not there.
    pub(super) fn on_scanned(&mut self) {
        if std::mem::replace(&mut self.scanned, true) {
            return;
        }
        let unseen = |name: &&ItemName| !self.items.contains_key(*name);
        let gone: Vec<_> = self.latest.keys().chain(self.kept.keys()).filter(unseen).cloned().collect();
        for name in gone {
            self.on_vanished(&name);
        }
    }

    /// The transfer that carries just this content, if there is one.
    fn carrier(&self, name: &ItemName, signature: Signature) -> Option<TransferId> {
        let id = *self.latest.get(name)?;
        let transfer = self.transfers.get(&id)?;
        let same = transfer.row.signature == Some(signature) && transfer.stage != Stage::Withdrawing;
        same.then_some(id)
    }

    /// Gives up the transfer of this name unless central may already hold all of it.
    fn source_changed(&mut self, name: &ItemName, why: &str) {
        let Some(id) = self.latest.get(name).copied() else { return };
        let Some(transfer) = self.transfers.get(&id) else { return };
        if matches!(transfer.stage, Stage::Announced | Stage::Granted | Stage::Sending | Stage::Checking) {
            self.give_up(id, why);
        }
    }

    pub(super) fn give_up(&mut self, id: TransferId, why: &str) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let name = transfer.row.name.clone();
        self.desk.note(Level::Warn, Some(id), Some(&name), None, format!("given up: {why} before it was sent"));
        self.dispatch.disown(&mut self.desk, id);
        if self.latest.get(&name) == Some(&id) {
            self.latest.remove(&name);
        }
        self.move_to(id, Stage::Withdrawing, Some(Reason::with(Cause::Acknowledgement, why)));
    }

    pub(super) fn on_settled(&mut self, name: &ItemName) {
        let behind = self.latest.get(name).and_then(|id| self.transfers.get(id)).is_some_and(|earlier| {
            // Central orders what it holds itself; before that, and while a script may be touching the
            // name, two transfers of one name would meet at the source.
            !matches!(earlier.stage, Stage::Received | Stage::Freed | Stage::Withdrawing)
        });
        let Some(item) = self.items.get_mut(name) else { return };
        if matches!(item.state, ItemState::Bound | ItemState::Kept) {
            return;
        }
        if behind {
            item.state = ItemState::Behind;
            return;
        }
        item.state = ItemState::Hashing;
        self.hashing.join(name.clone());
    }

    /// Lets an item that stands behind an earlier transfer of its name try again.
    pub(super) fn let_go(&mut self, name: &ItemName) {
        if self.items.get(name).is_some_and(|item| item.state == ItemState::Behind) {
            self.desk.timers.set(Timer::Settle(name.clone()), self.desk.now);
        }
    }

    pub(super) fn start_hashes(&mut self) {
        while let Some(name) = self.hashing.enter() {
            let Some(item) = self.items.get(&name) else {
                self.hashing.leave(&name);
                continue;
            };
            self.asked.insert(name.clone(), item.signature);
            self.desk.effect(Effect::Hash { item: name, signature: item.signature });
        }
    }

    pub(super) fn on_hashed(&mut self, name: &ItemName, outcome: HashOutcome) {
        self.hashing.leave(name);
        let Some(asked) = self.asked.remove(name) else {
            self.desk.unexpected(None, None, "a digest nobody asked for");
            return;
        };
        let Some(item) = self.items.get_mut(name) else { return };
        if item.signature != asked || item.state != ItemState::Hashing {
            // It has been seen again since; its own quiet time runs, or it stands in line already.
            if item.state == ItemState::Hashing {
                self.hashing.join(name.clone());
            }
            return;
        }
        match outcome {
            HashOutcome::Proven { kind, entries, fingerprint, modes, manifest } => {
                self.on_proven(name, asked, Proof { kind, entries, fingerprint, modes, manifest });
            }
            HashOutcome::Changed(sighting) => {
                if sighting.name == *name && sighting.signature != asked {
                    self.on_seen(Sighting { complete: false, ..sighting });
                } else {
                    self.hold(name, Reason::with(Cause::Settling, "it kept changing while it was read"));
                }
            }
            HashOutcome::Gone => self.on_vanished(name),
            HashOutcome::Held(reason) => self.hold(name, reason),
        }
    }

    fn hold(&mut self, name: &ItemName, reason: Reason) {
        let Some(item) = self.items.get_mut(name) else { return };
        let wait = self.desk.backoff(HELD_FIRST, item.attempts, HELD_LAST);
        let when = self.desk.now.after(wait.max(self.settings.settle.min(HELD_LAST)));
        item.attempts += 1;
        let held = ItemState::Held(reason);
        if item.state != held {
            let ItemState::Held(reason) = &held else { return };
            // A writer at work is what uploads wait for all day; the rest needs somebody's attention.
            let level = if reason.cause() == Cause::Busy { Level::Info } else { Level::Warn };
            if item.attempts == 1 {
                self.desk.note(level, None, Some(name), None, format!("not sent yet: {reason}"));
            }
            item.state = held;
        }
        self.desk.timers.set(Timer::Settle(name.clone()), when);
    }

    fn on_proven(&mut self, name: &ItemName, signature: Signature, proof: Proof) {
        let Proof { kind, fingerprint, .. } = proof;
        if self.kept.get(name).is_some_and(|kept| kept.fingerprint == fingerprint) {
            self.keep(name, signature, fingerprint);
            return;
        }
        // Touched, but the same content: it is still what the transfer under way carries.
        if let Some(id) = self.latest.get(name).copied()
            && let Some(transfer) = self.transfers.get_mut(&id)
            && transfer.stage == Stage::Received
            && transfer.row.kind == kind
            && transfer.row.fingerprint == fingerprint
        {
            transfer.row.signature = Some(signature);
            self.desk.dirty.insert(id);
            self.set_state(name, ItemState::Bound);
            return;
        }
        self.announce(name, signature, proof);
    }

    fn announce(&mut self, name: &ItemName, signature: Signature, proof: Proof) {
        let Proof { kind, entries, fingerprint, modes, manifest } = proof;
        let id = self.desk.mint();
        let now = self.desk.now;
        let created = self.desk.next_age();
        let row = Row {
            transfer: id,
            name: name.clone(),
            upload: self.settings.me.clone(),
            kind,
            entries,
            fingerprint,
            modes,
            stage: String::new(),
            created,
            since: now,
            reason: None,
            attempts: 0,
            central: None,
            place: None,
            location: None,
            signature: Some(signature),
            inode: None,
            receivers: Vec::new(),
            acknowledged: false,
            cleaned: false,
            began: None,
            arrived: None,
            paused: None,
            wrong: None,
            remark: None,
            finished: None,
        };
        let text = format!("settled: {} of {} bytes, md5 {}", kind.as_str(), fingerprint.size, fingerprint.digest);
        self.desk.note(Level::Info, Some(id), Some(name), None, text);
        self.insert(row, Stage::Announced);
        if let Some(text) = manifest {
            self.desk.persist(Record::Manifest(id, text));
        }
        self.latest.insert(name.clone(), id);
        self.set_state(name, ItemState::Bound);
        self.desk.dirty.insert(id);
        self.desk.timers.set(Timer::Say(id), self.desk.now);
        if self.kept.remove(name).is_some() {
            self.desk.persist(Record::Unkept(name.clone()));
        }
    }

    /// Remembers that an item has been delivered and stays, so that it is not sent again until it changes.
    pub(super) fn keep(&mut self, name: &ItemName, signature: Signature, fingerprint: Fingerprint) {
        let kept = Kept { name: name.clone(), signature, fingerprint };
        self.desk.persist(Record::Kept(kept.clone()));
        self.kept.insert(name.clone(), kept);
        match self.items.get_mut(name) {
            Some(item) if item.signature == signature => item.state = ItemState::Kept,
            Some(_) => {}
            None => self.desk.timers.set(Timer::Forget(name.clone()), self.desk.now.after(FORGET_AFTER)),
        }
    }

    pub(super) fn forget_kept(&mut self, name: &ItemName) {
        if !self.items.contains_key(name) && self.kept.remove(name).is_some() {
            self.desk.persist(Record::Unkept(name.clone()));
        }
    }

    fn set_state(&mut self, name: &ItemName, state: ItemState) {
        if let Some(item) = self.items.get_mut(name) {
            item.state = state;
        }
    }

    /// What a status shows of an item that is no transfer yet.
    pub(super) fn item_view(&self, name: &ItemName, item: &Item) -> Option<TransferView> {
        let (stage, why) = item.shown()?;
        Some(TransferView {
            transfer: None,
            name: name.clone(),
            upload: self.settings.me.clone(),
            kind: None,
            entries: None,
            size: item.size,
            fingerprint: None,
            stage,
            reason: why.reason(),
            created: item.since,
            began: None,
            arrived: None,
            paused: None,
            since: item.since,
            next: self.desk.timers.due(&Timer::Settle(name.clone())),
            attempts: item.attempts,
            progress: None,
            receivers: Vec::new(),
            remark: None,
        })
    }
}

impl Item {
    /// The word for what an item does that is no transfer yet, and why; `None` for every other.
    pub(super) fn shown(&self) -> Option<(&'static str, Why<'_>)> {
        match &self.state {
            ItemState::Settling => Some(("settling", Why::Plain(Cause::Settling))),
            ItemState::Hashing => Some(("hashing", Why::Plain(Cause::Hashing))),
            ItemState::Held(reason) => Some(("blocked", Why::Said(reason))),
            ItemState::Behind => Some(("blocked", Why::Plain(Cause::Predecessor))),
            ItemState::Bound | ItemState::Kept => None,
        }
    }
}
