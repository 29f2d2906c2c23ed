//! Decides which transfers go into which rsync run, and when: first come first served, small items together, a big item
//! alone. Big items never occupy all slots. After a host fails, runs to that host are delayed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::room::Room;
use super::shared::{Shared, Timer};
use super::{
    Cause, Direction, ENTRY_LIMIT, Effect, Extra, Fault, ItemName, Keep, Level, Location, Progress, Reason, Run, RunId,
    RunOutcome, Time, TransferId,
};

/// An item of this size in bytes or more gets an rsync run of its own.
pub(super) const BIG: u64 = 64 << 20;
/// The maximum size of a batch of small items, in bytes.
pub(super) const BATCH_BYTES: u64 = 256 << 20;
/// The maximum number of items in a batch: the limit of one message, so that one message can announce the whole batch.
pub(super) const BATCH_ITEMS: usize = ENTRY_LIMIT;
/// After this many failed runs a transfer gets a run of its own, so that it does not hold up others.
pub(super) const ALONE_AFTER: u32 = 3;
/// A run costs an ssh session. While another run is active, the next batch waits this long for more transfers.
pub(super) const GATHER: Duration = Duration::from_millis(250);
/// The first order number: the queue grows at both ends.
pub(super) const FIRST_ORDER: u64 = 1 << 40;
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_PASSING: Duration = Duration::from_secs(60);
const RETRY_LASTING: Duration = Duration::from_secs(300);

#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) transfer: TransferId,
    pub(super) name: ItemName,
    pub(super) room: Room,
    pub(super) attempts: u32,
    pub(super) location: Location,
    /// The extras to move with it.
    pub(super) keep: Keep,
}

#[derive(Debug)]
struct Running {
    transfers: Vec<TransferId>,
    room: Room,
    bytes: u64,
    rate: u64,
    host: String,
    /// Stopped by an order or because no transfer needs it: the end of the run says nothing about the host.
    halted: bool,
}

/// A run that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Those of its transfers that still exist.
    pub(super) transfers: Vec<TransferId>,
    /// The run was stopped, so it does not count as failed.
    pub(super) halted: bool,
    /// The space that the run may have used.
    pub(super) room: Room,
}

#[derive(Debug)]
struct HostBackoff {
    attempts: u32,
    until: Time,
    reason: Reason,
}

#[derive(Debug)]
pub(super) struct Dispatch {
    direction: Direction,
    slots: usize,
    next_run: u64,
    next_order: u64,
    /// The order of the transfer that was last moved to the front.
    first_order: u64,
    line: BTreeMap<u64, Ready>,
    /// How many queued transfers belong to each host.
    hosts: BTreeMap<String, usize>,
    /// When the last run started.
    started: Option<Time>,
    orders: BTreeMap<TransferId, u64>,
    running: BTreeMap<RunId, Running>,
    by_transfer: BTreeMap<TransferId, RunId>,
    backoffs: BTreeMap<String, HostBackoff>,
}

impl Dispatch {
    pub(super) fn new(direction: Direction, slots: u32) -> Self {
        Self {
            direction,
            slots: slots.max(1) as usize,
            next_run: 0,
            next_order: FIRST_ORDER,
            first_order: FIRST_ORDER,
            line: BTreeMap::new(),
            hosts: BTreeMap::new(),
            started: None,
            orders: BTreeMap::new(),
            running: BTreeMap::new(),
            by_transfer: BTreeMap::new(),
            backoffs: BTreeMap::new(),
        }
    }

    /// Adds a transfer at the end of the queue; a queued transfer keeps its place.
    pub(super) fn add(&mut self, ready: Ready) {
        let order = self.orders.get(&ready.transfer).copied().unwrap_or(self.next_order);
        self.leave_line(ready.transfer);
        self.next_order = self.next_order.max(order + 1);
        *self.hosts.entry(ready.location.host().to_owned()).or_default() += 1;
        self.orders.insert(ready.transfer, order);
        self.line.insert(order, ready);
    }

    /// Moves a queued transfer to the front. Returns whether it was queued.
    pub(super) fn put_first(&mut self, transfer: TransferId) -> bool {
        let Some(order) = self.orders.get_mut(&transfer) else { return false };
        let Some(ready) = self.line.remove(order) else { return false };
        self.first_order = self.first_order.saturating_sub(1);
        *order = self.first_order;
        self.line.insert(self.first_order, ready);
        true
    }

    /// Retries the host of a queued transfer now, although the host failed before. Returns whether the transfer waited
    /// for that.
    pub(super) fn end_backoff(&mut self, shared: &mut Shared, transfer: TransferId) -> bool {
        let ready = self.orders.get(&transfer).and_then(|order| self.line.get(order));
        let Some(host) = ready.map(|ready| ready.location.host().to_owned()) else { return false };
        let Some(backoff) = self.backoffs.get_mut(&host).filter(|backoff| backoff.until > shared.now) else {
            return false;
        };
        backoff.until = shared.now;
        shared.timers.stop(&Timer::Host(host));
        true
    }

    /// Stops every run that carries one of these transfers, or every run. When a run ends, its transfers are queued
    /// again.
    pub(super) fn halt(&mut self, shared: &mut Shared, chosen: impl Fn(TransferId) -> bool) -> u64 {
        let mut halted = 0;
        for (id, running) in &mut self.running {
            if running.transfers.iter().any(|transfer| chosen(*transfer))
                && !std::mem::replace(&mut running.halted, true)
            {
                shared.effect(Effect::Halt(*id));
                halted += 1;
            }
        }
        halted
    }

    /// Sets the maximum number of concurrent runs.
    pub(super) fn set_slots(&mut self, slots: u32) {
        self.slots = slots.max(1) as usize;
    }

    /// Removes a transfer from the queue; a run that carries it continues.
    pub(super) fn leave_line(&mut self, transfer: TransferId) {
        let Some(order) = self.orders.remove(&transfer) else { return };
        let Some(ready) = self.line.remove(&order) else { return };
        if let Some(count) = self.hosts.get_mut(ready.location.host()) {
            *count -= 1;
            if *count == 0 {
                self.hosts.remove(ready.location.host());
            }
        }
    }

    /// The transfers with which a run was started, also those that no longer exist.
    pub(super) fn load(&self, run: RunId) -> Vec<TransferId> {
        self.running.get(&run).map(|running| running.transfers.clone()).unwrap_or_default()
    }

    /// Whether a run carries this transfer, even if the transfer no longer exists.
    pub(super) fn is_moving(&self, transfer: TransferId) -> bool {
        self.running.values().any(|running| running.transfers.contains(&transfer))
    }

    /// Ignores the result of the run for this transfer, and stops the run if it carries no other wanted transfer.
    pub(super) fn disown(&mut self, shared: &mut Shared, transfer: TransferId) {
        let Some(id) = self.by_transfer.remove(&transfer) else { return };
        let Some(running) = self.running.get_mut(&id) else { return };
        let wanted = running.transfers.iter().any(|other| self.by_transfer.get(other) == Some(&id));
        if !wanted && !std::mem::replace(&mut running.halted, true) {
            shared.effect(Effect::Halt(id));
        }
    }

    /// Starts the runs that can start, within this space for everything that is being moved. Returns the transfers that
    /// are being moved now.
    pub(super) fn start(&mut self, shared: &mut Shared, room: Room) -> Vec<TransferId> {
        let mut started = Vec::new();
        while shared.held_by().is_none() && !shared.lacks_directory() && self.running.len() < self.slots {
            let Some(batch) = self.next_batch(shared.now, room.minus(self.under_way())) else { break };
            if let Some(until) = self.gathers(&batch, shared.now) {
                shared.timers.set(Timer::Gather, until);
                break;
            }
            let batch: Vec<_> = batch.into_iter().cloned().collect();
            let Some(first) = batch.first() else { break };
            self.started = Some(shared.now);
            let id = RunId(self.next_run);
            self.next_run += 1;
            let (location, keep) = (first.location.clone(), first.keep);
            let transfers: Vec<_> = batch.iter().map(|ready| ready.transfer).collect();
            for transfer in &transfers {
                self.leave_line(*transfer);
                self.by_transfer.insert(*transfer, id);
            }
            let room = batch.iter().fold(Room::default(), |sum, ready| sum.plus(ready.room));
            let running = Running {
                transfers: transfers.clone(),
                room,
                bytes: 0,
                rate: 0,
                host: location.host().to_owned(),
                halted: false,
            };
            self.running.insert(id, running);
            let batch = batch.into_iter().map(|ready| (ready.transfer, ready.name)).collect();
            shared.effect(Effect::Run(Run { id, direction: self.direction, location, batch, keep }));
            started.extend(transfers);
        }
        started
    }

    /// Until when a batch waits for more transfers. A batch with one place as its target is complete: central has
    /// gathered it.
    fn gathers(&self, batch: &[&Ready], now: Time) -> Option<Time> {
        let until = self.started.map(|started| started.after(GATHER)).filter(|until| *until > now)?;
        let bytes: u64 = batch.iter().map(|ready| ready.room.bytes).sum();
        let full =
            batch.len() >= BATCH_ITEMS || bytes >= BIG || batch.iter().any(|ready| ready.attempts >= ALONE_AFTER);
        (self.direction == Direction::Pull && !self.running.is_empty() && !full).then_some(until)
    }

    fn next_batch(&self, now: Time, room: Room) -> Option<Vec<&Ready>> {
        let open = |host: &String| self.backoffs.get(host).is_none_or(|backoff| backoff.until <= now);
        if !self.hosts.keys().any(open) {
            return None;
        }
        let big_running = self.running.values().filter(|run| run.room.bytes >= BIG && run.transfers.len() == 1).count();
        let big_allowed = big_running < self.slots.saturating_sub(1).max(1);
        let backing_off =
            |ready: &Ready| self.backoffs.get(ready.location.host()).is_some_and(|backoff| backoff.until > now);
        let big = |ready: &Ready| ready.room.bytes >= BIG;
        // rsync would also link files of different items.
        let has_links = |ready: &Ready| ready.keep.has(Extra::Hardlinks);
        let alone = |ready: &Ready| big(ready) || ready.attempts >= ALONE_AFTER || has_links(ready);
        let may_go = |ready: &Ready| !backing_off(ready) && (!big(ready) || big_allowed) && ready.room.fits_in(room);
        let first = self.line.values().find(|ready| may_go(ready))?;
        let mut batch = vec![first];
        if alone(first) {
            return Some(batch);
        }
        let mut taken = first.room;
        let after = self.orders.get(&first.transfer).copied().unwrap_or(0) + 1;
        for ready in self.line.range(after..).map(|(_, ready)| ready) {
            if batch.len() >= BATCH_ITEMS || taken.bytes >= BATCH_BYTES {
                break;
            }
            let more = taken.plus(ready.room);
            let alike = ready.location == first.location && ready.keep == first.keep;
            if alike && !alone(ready) && more.bytes <= BATCH_BYTES && more.fits_in(room) {
                taken = more;
                batch.push(ready);
            }
        }
        Some(batch)
    }

    pub(super) fn on_progress(&mut self, run: RunId, bytes: u64, rate: u64) {
        if let Some(running) = self.running.get_mut(&run) {
            running.bytes = bytes;
            running.rate = rate;
        }
    }

    /// Handles the end of a run.
    pub(super) fn on_ran(&mut self, shared: &mut Shared, run: RunId, outcome: &RunOutcome) -> Ended {
        let Some(running) = self.running.remove(&run) else {
            shared.unexpected(None, None, "the end of a run that was not started");
            return Ended { transfers: Vec::new(), halted: false, room: Room::default() };
        };
        let halted = running.halted || outcome.has_no_directory();
        let lacks_room = matches!(outcome, RunOutcome::Failed(_, reason) if reason.cause() == Cause::Space);
        if halted || lacks_room {
            // The end of the run says nothing about its host.
        } else if let RunOutcome::Failed(fault, reason) = outcome {
            self.back_off(shared, &running.host, *fault, reason);
        } else {
            self.backoffs.remove(&running.host);
            shared.timers.stop(&Timer::Host(running.host.clone()));
        }
        let by_transfer = &mut self.by_transfer;
        let mut mine = |transfer: &TransferId| {
            let same = by_transfer.get(transfer) == Some(&run);
            if same {
                by_transfer.remove(transfer);
            }
            same
        };
        let transfers = running.transfers.into_iter().filter(|transfer| mine(transfer)).collect();
        Ended { transfers, halted, room: running.room }
    }

    fn back_off(&mut self, shared: &mut Shared, host: &str, fault: Fault, reason: &Reason) {
        let attempts = self.backoffs.get(host).map_or(0, |backoff| backoff.attempts);
        let last = if fault == Fault::Lasting { RETRY_LASTING } else { RETRY_PASSING };
        let wait = shared.backoff(RETRY_FIRST, attempts, last);
        let until = shared.now.after(wait);
        if self.backoffs.get(host).is_none_or(|backoff| backoff.reason != *reason) {
            let level = if fault == Fault::Lasting { Level::Error } else { Level::Warn };
            shared.log(level, None, None, None, format!("{host}: {reason}"));
        }
        shared.timers.set(Timer::Host(host.to_owned()), until);
        self.backoffs.insert(host.to_owned(), HostBackoff { attempts: attempts + 1, until, reason: reason.clone() });
    }

    pub(super) fn progress(&self, transfer: TransferId) -> Option<Progress> {
        let running = self.running.get(self.by_transfer.get(&transfer)?)?;
        Some(Progress {
            bytes: running.bytes,
            total: running.room.bytes,
            rate: running.rate,
            transfers: running.transfers.len() as u64,
        })
    }

    /// Why a queued transfer does not start yet, apart from its place in the queue, and when it may.
    pub(super) fn held_up(&self, transfer: TransferId, now: Time) -> Option<(&Reason, Time)> {
        if self.backoffs.is_empty() {
            return None;
        }
        let ready = self.line.get(self.orders.get(&transfer)?)?;
        let backoff = self.backoffs.get(ready.location.host()).filter(|backoff| backoff.until > now)?;
        Some((&backoff.reason, backoff.until))
    }

    /// Whether any transfer is queued.
    pub(super) fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    /// The transfers near the front of the queue for which there is no space.
    pub(super) fn first_too_big(&self, room: Room) -> Vec<Ready> {
        self.line.values().take(BATCH_ITEMS).filter(|ready| !ready.room.fits_in(room)).cloned().collect()
    }

    /// The space that everything being moved still needs.
    pub(super) fn under_way(&self) -> Room {
        self.running.values().fold(Room::default(), |sum, run| sum.plus(run.room))
    }
}

/// Limits concurrent work: at most `limit` entries are active, the others are queued.
#[derive(Debug)]
pub(super) struct Limiter<K> {
    limit: usize,
    inside: BTreeSet<K>,
    waiting: BTreeSet<K>,
    line: VecDeque<K>,
}

impl<K: Ord + Clone> Limiter<K> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, inside: BTreeSet::new(), waiting: BTreeSet::new(), line: VecDeque::new() }
    }

    /// Queues an entry, unless it is queued or active already.
    pub(super) fn join(&mut self, key: K) {
        if !self.inside.contains(&key) && self.waiting.insert(key.clone()) {
            self.line.push_back(key);
        }
    }

    /// Takes the next entry from the queue and makes it active.
    pub(super) fn enter(&mut self) -> Option<K> {
        if self.inside.len() >= self.limit {
            return None;
        }
        let key = self.next()?;
        self.inside.insert(key.clone());
        Some(key)
    }

    /// Takes the next entry from the queue.
    pub(super) fn next(&mut self) -> Option<K> {
        loop {
            let key = self.line.pop_front()?;
            if self.waiting.remove(&key) {
                return Some(key);
            }
        }
    }

    /// Makes an entry active before those in the queue, if there is a place.
    pub(super) fn seize(&mut self, key: &K) -> bool {
        let has_place = self.inside.len() < self.limit;
        if has_place {
            self.inside.insert(key.clone());
        }
        has_place
    }

    /// How many entries are queued.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Ends an active entry. Returns whether it was active.
    pub(super) fn leave(&mut self, key: &K) -> bool {
        self.inside.remove(key)
    }

    /// Removes an entry from the queue.
    pub(super) fn give_up(&mut self, key: &K) {
        self.waiting.remove(key);
    }

    /// How many entries are queued or active.
    pub(super) fn busy(&self) -> u64 {
        (self.waiting.len() + self.inside.len()) as u64
    }

    /// Whether no entry is queued or active.
    pub(super) fn is_idle(&self) -> bool {
        self.inside.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn is_inside(&self, key: &K) -> bool {
        self.inside.contains(key)
    }
}
