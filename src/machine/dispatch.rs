//! Which transfers go into which rsync run, and when: first come first served, small items together, one big
//! item alone, never all slots to big items, and patience with a host that fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::room::Room;
use super::shared::{Shared, Timer};
use super::{
    Cause, Direction, ENTRY_LIMIT, Effect, Fault, ItemName, Level, Location, Progress, Reason, Run, RunId, RunOutcome,
    Time, TransferId,
};

/// An item of this many bytes or more travels alone.
pub(super) const BIG: u64 = 64 << 20;
/// A batch of small items holds at most this many bytes.
pub(super) const BATCH_BYTES: u64 = 256 << 20;
/// A batch holds at most this many items: as many as one message names, so that what upload is asked to send
/// together is heard together.
pub(super) const BATCH_ITEMS: usize = ENTRY_LIMIT;
/// After this many failed runs a transfer travels alone, so that it cannot hold up others.
pub(super) const ALONE_AFTER: u32 = 3;
/// A run costs an ssh session, so beside one that is under way the next one waits this long for more to join it.
pub(super) const GATHER: Duration = Duration::from_millis(250);
/// Where a line begins to grow at both ends.
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
}

#[derive(Debug)]
struct Running {
    transfers: Vec<TransferId>,
    room: Room,
    bytes: u64,
    rate: u64,
    host: String,
    /// Stopped, because nobody needs it or by an order: its end tells nothing of the host.
    halted: bool,
}

/// A run that has come to its end.
#[derive(Debug)]
pub(super) struct Ended {
    /// What it carried that still is somebody's.
    pub(super) transfers: Vec<TransferId>,
    /// It was stopped, so that a failure is none.
    pub(super) halted: bool,
    /// The room that it may have filled.
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
    /// The order of the one that was put first last.
    first_order: u64,
    line: BTreeMap<u64, Ready>,
    /// How many in line are for each host.
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

    /// Puts a transfer at the end of the line; one that stands there already keeps its turn.
    pub(super) fn add(&mut self, ready: Ready) {
        let order = self.orders.get(&ready.transfer).copied().unwrap_or(self.next_order);
        self.leave_line(ready.transfer);
        self.next_order = self.next_order.max(order + 1);
        *self.hosts.entry(ready.location.host().to_owned()).or_default() += 1;
        self.orders.insert(ready.transfer, order);
        self.line.insert(order, ready);
    }

    /// Puts one that stands in line before all others. Tells whether it stood there.
    pub(super) fn put_first(&mut self, transfer: TransferId) -> bool {
        let Some(order) = self.orders.get_mut(&transfer) else { return false };
        let Some(ready) = self.line.remove(order) else { return false };
        self.first_order = self.first_order.saturating_sub(1);
        *order = self.first_order;
        self.line.insert(self.first_order, ready);
        true
    }

    /// Tries the host of one that stands in line now, though it has failed. Tells whether that was what it waited for.
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

    /// Stops every run that carries one of these, or every run; what they carry goes back into line at their ends.
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

    /// How many runs there may be at once from now on.
    pub(super) fn set_slots(&mut self, slots: u32) {
        self.slots = slots.max(1) as usize;
    }

    /// Takes a transfer out of the line; a run that carries it goes on.
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

    /// What a run under way was started with, whether or not it still is somebody's.
    pub(super) fn load(&self, run: RunId) -> Vec<TransferId> {
        self.running.get(&run).map(|running| running.transfers.clone()).unwrap_or_default()
    }

    /// Whether a run is moving this transfer, whether or not it still is somebody's.
    pub(super) fn is_moving(&self, transfer: TransferId) -> bool {
        self.running.values().any(|running| running.transfers.contains(&transfer))
    }

    /// Makes the result of a run that carries this transfer nobody's, and stops the run when it carries nothing
    /// else that is wanted.
    pub(super) fn disown(&mut self, shared: &mut Shared, transfer: TransferId) {
        let Some(id) = self.by_transfer.remove(&transfer) else { return };
        let Some(running) = self.running.get_mut(&id) else { return };
        let wanted = running.transfers.iter().any(|other| self.by_transfer.get(other) == Some(&id));
        if !wanted && !std::mem::replace(&mut running.halted, true) {
            shared.effect(Effect::Halt(id));
        }
    }

    /// Starts what can be started, in so much room for all that is on its way. Returns the transfers that are on their way
    /// now.
    pub(super) fn start(&mut self, shared: &mut Shared, room: Room) -> Vec<TransferId> {
        let mut started = Vec::new();
        while shared.held_by().is_none() && !shared.is_astray() && self.running.len() < self.slots {
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
            let location = first.location.clone();
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
            shared.effect(Effect::Run(Run { id, direction: self.direction, location, batch }));
            started.extend(transfers);
        }
        started
    }

    /// Until when a batch waits for more. What is pushed to one place has been gathered by central.
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
        let alone = |ready: &Ready| big(ready) || ready.attempts >= ALONE_AFTER;
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
            if ready.location == first.location && !alone(ready) && more.bytes <= BATCH_BYTES && more.fits_in(room) {
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

    /// Takes note of a run's end.
    pub(super) fn on_ran(&mut self, shared: &mut Shared, run: RunId, outcome: &RunOutcome) -> Ended {
        let Some(running) = self.running.remove(&run) else {
            shared.unexpected(None, None, "the end of a run that was not started");
            return Ended { transfers: Vec::new(), halted: false, room: Room::default() };
        };
        let halted = running.halted || outcome.has_no_directory();
        let lacks_room = matches!(outcome, RunOutcome::Failed(_, reason) if reason.cause() == Cause::Space);
        if halted || lacks_room {
            // How it ended says nothing of its host.
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

    /// Why a transfer in line does not start yet, beyond the line itself, and when it may.
    pub(super) fn held_up(&self, transfer: TransferId, now: Time) -> Option<(&Reason, Time)> {
        if self.backoffs.is_empty() {
            return None;
        }
        let ready = self.line.get(self.orders.get(&transfer)?)?;
        let backoff = self.backoffs.get(ready.location.host()).filter(|backoff| backoff.until > now)?;
        Some((&backoff.reason, backoff.until))
    }

    /// Whether anything stands in line.
    pub(super) fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    /// Those near the head of the line for which there is no room.
    pub(super) fn first_too_big(&self, room: Room) -> Vec<Ready> {
        self.line.values().take(BATCH_ITEMS).filter(|ready| !ready.room.fits_in(room)).cloned().collect()
    }

    /// The room for everything that is on its way.
    pub(super) fn under_way(&self) -> Room {
        self.running.values().fold(Room::default(), |sum, run| sum.plus(run.room))
    }
}

/// Takes turns: at most `limit` at once, the others stand in line.
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

    /// Stands in line, unless it does so already or is inside.
    pub(super) fn join(&mut self, key: K) {
        if !self.inside.contains(&key) && self.waiting.insert(key.clone()) {
            self.line.push_back(key);
        }
    }

    /// The next whose turn it is.
    pub(super) fn enter(&mut self) -> Option<K> {
        if self.inside.len() >= self.limit {
            return None;
        }
        loop {
            let key = self.line.pop_front()?;
            if self.waiting.remove(&key) {
                self.inside.insert(key.clone());
                return Some(key);
            }
        }
    }

    /// Is through. Tells whether it was inside.
    pub(super) fn leave(&mut self, key: &K) -> bool {
        self.inside.remove(key)
    }

    /// Gives up its turn while it stands in line.
    pub(super) fn give_up(&mut self, key: &K) {
        self.waiting.remove(key);
    }

    /// How many stand in line or are inside.
    pub(super) fn busy(&self) -> u64 {
        (self.waiting.len() + self.inside.len()) as u64
    }

    /// Whether nobody is inside or in line.
    pub(super) fn is_idle(&self) -> bool {
        self.inside.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn is_inside(&self, key: &K) -> bool {
        self.inside.contains(key)
    }
}
