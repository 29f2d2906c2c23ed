//! The transfers that wait for their cleanup, and the lots in which a script gets several items at once.
//!
//! A lot is made of what gathers in a second or while another lot runs. Each item is looked at just before, as if it
//! were alone. A lot that fails is no failure of its items: each is looked at again, and what is still there is cleaned
//! up alone from then on.

use std::collections::BTreeSet;
use std::time::Duration;

use super::dispatch::Limiter;
use super::{Cleaner, LOT_LIMIT, Lot, Time, TransferId};

/// How many scripts for one item run at once.
const SINGLE: usize = 8;
/// How long the first item waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long a lot waits for the looks at its last items. An item whose look takes longer is cleaned up alone.
const LATE: Duration = Duration::from_millis(200);
/// How old a look may be when the lot starts: it can be older than `LATE` only if the daemon was held up.
const STALE: Duration = Duration::from_millis(400);

/// The cleanups of a node, those that wait and those that run.
#[derive(Debug)]
pub(super) struct Cleanings {
    lot: Option<Lot>,
    /// Those that are cleaned up alone.
    single: Limiter<TransferId>,
    /// Those that are cleaned up in lots.
    joint: Limiter<TransferId>,
    /// Those that a lot has failed with.
    alone: BTreeSet<TransferId>,
    /// When the next lot is made, at the latest.
    gathered: Option<Time>,
    /// Whether the next lot takes in more items.
    open: bool,
    /// Those of the next lot that are being looked at.
    looking: BTreeSet<TransferId>,
    /// Those of an earlier lot that are still being looked at.
    late: BTreeSet<TransferId>,
    /// Those of the next lot that have been looked at.
    ready: Vec<Ready>,
    /// When the next lot starts, at the latest.
    starts: Option<Time>,
    running: BTreeSet<TransferId>,
    /// Whether more than one item was in the lot that runs.
    several: bool,
}

#[derive(Debug)]
struct Ready {
    transfer: TransferId,
    bytes: usize,
    looked: Time,
}

impl Cleanings {
    pub(super) fn new(cleaner: Cleaner) -> Self {
        Self {
            lot: cleaner.lot(),
            single: Limiter::new(SINGLE),
            joint: Limiter::new(LOT_LIMIT),
            alone: BTreeSet::new(),
            gathered: None,
            open: false,
            looking: BTreeSet::new(),
            late: BTreeSet::new(),
            ready: Vec::new(),
            starts: None,
            running: BTreeSet::new(),
            several: false,
        }
    }

    /// From now on another cleaner does it. What has begun ends as it began.
    pub(super) fn reconfigure(&mut self, cleaner: Cleaner) {
        self.lot = cleaner.lot();
        if self.lot.is_none() {
            while let Some(id) = self.joint.next() {
                self.single.join(id);
            }
        }
    }

    /// Queues a transfer, unless it is queued or active already.
    pub(super) fn join(&mut self, id: TransferId) {
        if self.is_inside(&id) {
            return;
        }
        if self.lot.is_none() || self.alone.contains(&id) {
            self.joint.give_up(&id);
            self.single.join(id);
        } else {
            self.joint.join(id);
        }
    }

    /// The next transfer whose item the role looks at now; it is active from now on.
    pub(super) fn enter(&mut self, now: Time) -> Option<TransferId> {
        if let Some(id) = self.single.enter() {
            return Some(id);
        }
        let lot = self.lot?;
        if self.joint.waiting() == 0 {
            self.gathered = None;
        }
        if !self.running.is_empty() || self.joint.waiting() == 0 {
            self.open = false;
            return None;
        }
        if !self.open {
            if !self.looking.is_empty() || !self.ready.is_empty() {
                return None;
            }
            // A clock that was set back does not make it longer.
            let latest = now.after(GATHER);
            let gathered = self.gathered.map_or(latest, |at| at.min(latest));
            self.gathered = Some(gathered);
            if now < gathered && self.joint.waiting() < lot.items {
                return None;
            }
            self.gathered = None;
            self.open = true;
        }
        let full = self.looking.len() + self.ready.len() >= lot.items;
        let next = if full { None } else { self.joint.enter() };
        self.open = next.is_some();
        self.looking.extend(next);
        next
    }

    /// The item was looked at, and `bytes` long is its name: whether its cleanup starts now. If not, it starts with the
    /// next lot, or after another look.
    pub(super) fn looked(&mut self, id: TransferId, bytes: usize, now: Time) -> bool {
        if self.looking.remove(&id) {
            self.ready.push(Ready { transfer: id, bytes, looked: now });
            self.starts.get_or_insert(now.after(LATE));
            return false;
        }
        if self.late.remove(&id) {
            self.joint.leave(&id);
            let starts = self.single.seize(&id);
            if !starts {
                self.join(id);
            }
            return starts;
        }
        true
    }

    /// The next lot, if it starts now. What is not `fit` any more is in no queue after that.
    pub(super) fn start_lot(&mut self, now: Time, fit: impl Fn(TransferId) -> bool) -> Vec<TransferId> {
        self.starts = self.starts.map(|starts| starts.min(now.after(LATE)));
        let waits = !self.looking.is_empty() && self.starts.is_none_or(|starts| now < starts);
        let Some(lot) = self.lot.or(Some(Lot::ONE)).filter(|_| !self.ready.is_empty() && !waits) else {
            return Vec::new();
        };
        self.starts = None;
        self.late.append(&mut self.looking);
        let mut room = lot.bytes;
        for Ready { transfer, bytes, looked } in std::mem::take(&mut self.ready) {
            if !fit(transfer) {
                self.joint.leave(&transfer);
                continue;
            }
            // The first name always has room.
            let has_room = self.running.is_empty() || (bytes <= room && self.running.len() < lot.items);
            if looked > now || now.since(looked) > STALE || !has_room {
                self.joint.leave(&transfer);
                self.join(transfer);
                continue;
            }
            room = room.saturating_sub(bytes);
            self.running.insert(transfer);
        }
        self.several = self.running.len() > 1;
        self.running.iter().copied().collect()
    }

    /// No lot starts now: what was looked at for it is queued again.
    pub(super) fn put_back(&mut self) {
        self.starts = None;
        for Ready { transfer, .. } in std::mem::take(&mut self.ready) {
            self.joint.leave(&transfer);
            self.join(transfer);
        }
    }

    /// A cleanup has failed. Whether that says nothing of this item, because others were in its lot; it is cleaned up
    /// alone from now on.
    pub(super) fn failed_with_others(&mut self, id: TransferId) -> bool {
        let with_others = self.running.contains(&id) && self.several;
        if self.running.contains(&id) {
            self.alone.insert(id);
        }
        with_others
    }

    /// When something can start that nothing else wakes up for.
    pub(super) fn wakes(&self, now: Time) -> Option<Time> {
        let next = if self.ready.is_empty() { self.gathered } else { self.starts };
        next.filter(|at| *at > now)
    }

    /// Ends what is active. Returns whether it was active.
    pub(super) fn leave(&mut self, id: &TransferId) -> bool {
        self.looking.remove(id);
        self.late.remove(id);
        self.running.remove(id);
        self.ready.retain(|ready| ready.transfer != *id);
        let (single, joint) = (self.single.leave(id), self.joint.leave(id));
        single || joint
    }

    /// The transfer needs no cleanup any more.
    pub(super) fn forget(&mut self, id: &TransferId) {
        self.alone.remove(id);
        self.single.give_up(id);
        self.joint.give_up(id);
    }

    pub(super) fn is_inside(&self, id: &TransferId) -> bool {
        self.single.is_inside(id) || self.joint.is_inside(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOT: Cleaner = Cleaner::Lots(Lot { items: 4, bytes: 100 });

    fn id(number: u64) -> TransferId {
        TransferId::mint(number, [0; 10])
    }

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    /// So many that wait for a lot, and have waited for long enough.
    fn gathered(count: u64) -> Cleanings {
        let mut cleanings = Cleanings::new(LOT);
        (0..count).for_each(|number| cleanings.join(id(number)));
        if count < 4 {
            assert_eq!(cleanings.enter(at(0)), None, "it waits for others");
            assert_eq!(cleanings.wakes(at(0)), Some(at(1000)));
        }
        cleanings
    }

    fn entered(cleanings: &mut Cleanings, now: Time) -> Vec<TransferId> {
        std::iter::from_fn(|| cleanings.enter(now)).collect()
    }

    fn looked(cleanings: &mut Cleanings, ids: &[TransferId], now: Time) {
        ids.iter().for_each(|id| assert!(!cleanings.looked(*id, 1, now)));
    }

    #[test]
    fn what_gathers_while_a_lot_runs_is_the_next() {
        let mut cleanings = gathered(6);
        let first = entered(&mut cleanings, at(0));
        assert_eq!(first, (0..4).map(id).collect::<Vec<_>>(), "a full lot waits for nothing");
        looked(&mut cleanings, &first, at(1));
        assert_eq!(cleanings.start_lot(at(1), |_| true), first);
        assert_eq!(cleanings.enter(at(5000)), None, "one lot at a time");
        first.iter().for_each(|id| assert!(cleanings.leave(id)));
        assert_eq!(cleanings.enter(at(5000)), None);
        assert_eq!(entered(&mut cleanings, at(6000)), [id(4), id(5)]);
    }

    #[test]
    fn a_slow_look_holds_nobody_up_and_its_item_goes_alone() {
        let mut cleanings = gathered(3);
        let all = entered(&mut cleanings, at(1000));
        looked(&mut cleanings, &all[..2], at(1010));
        assert!(cleanings.start_lot(at(1100), |_| true).is_empty());
        assert_eq!(cleanings.wakes(at(1100)), Some(at(1210)));
        assert_eq!(cleanings.start_lot(at(1210), |_| true), all[..2]);
        assert!(cleanings.looked(all[2], 1, at(1300)));
        assert!(cleanings.leave(&all[2]));
    }

    #[test]
    fn neither_an_old_look_nor_too_long_names_start() {
        let mut cleanings = gathered(3);
        let all = entered(&mut cleanings, at(1000));
        looked(&mut cleanings, &all[..1], at(1000));
        assert!(!cleanings.looked(all[1], 60, at(1500)));
        assert!(!cleanings.looked(all[2], 60, at(1500)));
        assert_eq!(cleanings.start_lot(at(1500), |_| true), all[1..2]);
        cleanings.leave(&all[1]);
        assert_eq!(cleanings.enter(at(1500)), None);
        assert_eq!(entered(&mut cleanings, at(2500)), [all[0], all[2]]);
    }

    #[test]
    fn what_fails_with_others_is_tried_alone() {
        let mut cleanings = gathered(2);
        let all = entered(&mut cleanings, at(1000));
        looked(&mut cleanings, &all, at(1000));
        assert_eq!(cleanings.start_lot(at(1000), |_| true), all);
        for id in &all {
            assert!(cleanings.failed_with_others(*id));
            cleanings.leave(id);
            cleanings.join(*id);
        }
        assert_eq!(entered(&mut cleanings, at(1000)), all, "at once");
        assert!(cleanings.looked(all[0], 1, at(1000)));
        assert!(!cleanings.failed_with_others(all[0]));
    }

    #[test]
    fn what_is_not_fit_any_more_or_put_back_does_not_start() {
        let mut cleanings = gathered(3);
        let all = entered(&mut cleanings, at(1000));
        looked(&mut cleanings, &all, at(1000));
        assert_eq!(cleanings.start_lot(at(1000), |id| id != all[1]), [all[0], all[2]]);
        assert!(!cleanings.is_inside(&all[1]));
        let mut cleanings = gathered(3);
        let all = entered(&mut cleanings, at(1000));
        looked(&mut cleanings, &all, at(1000));
        cleanings.put_back();
        assert!(cleanings.start_lot(at(9000), |_| true).is_empty());
        cleanings.reconfigure(Cleaner::Script);
        assert_eq!(entered(&mut cleanings, at(9000)), all);
        assert!(cleanings.looked(all[0], 1, at(9000)), "no lots any more");
    }
}
