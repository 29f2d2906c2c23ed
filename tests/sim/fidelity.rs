//! What the checker knows of modes, and of copies that come out wrong in the same way each time.

use synkler::machine::{Digest, Handle, ItemOrder, KeepModes, Order, TransferId};

use crate::checker::Promise;
use crate::daemon::Role;
use crate::sim::Sim;
use crate::tally::Deed;

const HOUR: u64 = 3_600_000;

impl Sim {
    /// A receiver is told what it has fetched.
    pub(crate) fn mark_verified(&mut self, node: usize, id: TransferId, found: Digest, unkept: bool) {
        if unkept {
            self.tally.count(Deed::Unkept);
            self.checker.unkept.insert((node, id));
        } else {
            self.checker.unkept.remove(&(node, id));
        }
        let right = self.nodes[node].journal.rows.get(&id).is_some_and(|row| row.fingerprint.digest == found);
        if right {
            self.checker.wrong.remove(&(node, id));
            return;
        }
        let now = self.now;
        let (digest, moments) = self.checker.wrong.entry((node, id)).or_insert((found, Vec::new()));
        if *digest != found {
            (*digest, *moments) = (found, Vec::new());
        }
        moments.push(now);
        moments.retain(|moment| now < moment + HOUR);
        // Nobody can count an hour with a clock that is set meanwhile.
        if moments.len() > 2 && !self.plan.clock_jumps {
            self.violate(Promise::Wasted, node, || format!("{id} is fetched a third time within an hour"));
        }
    }

    /// A receiver is told what it cannot hold.
    pub(crate) fn mark_refused(&mut self, node: usize, id: TransferId) {
        self.tally.count(Deed::Refused);
        let (now, clock_jumps) = (self.now, self.plan.clock_jumps);
        let moments = self.checker.refused.entry((node, id)).or_default();
        moments.push(now);
        moments.retain(|moment| now < moment + HOUR);
        if moments.len() > 2 && !clock_jumps {
            self.violate(Promise::Wasted, node, || format!("{id} is fetched a third time, though it cannot be held"));
        }
    }

    /// What had been fetched last may not have come into the journal.
    pub(crate) fn forget_latest_wrong(&mut self, node: usize) {
        let of_node = self.checker.wrong.iter_mut().filter(|((at, _), _)| *at == node);
        for (_, (_, moments)) in of_node {
            moments.pop();
        }
        for (_, moments) in self.checker.refused.iter_mut().filter(|((at, _), _)| *at == node) {
            moments.pop();
        }
    }

    /// An operator has it tried again, or what was known of it is lost.
    pub(crate) fn forget_wrong(&mut self, node: usize) {
        self.checker.wrong.retain(|(at, _), _| *at != node);
        self.checker.refused.retain(|(at, _), _| *at != node);
    }

    /// It stands under its final name, with these modes.
    pub(crate) fn check_modes(&mut self, node: usize, download: usize, id: TransferId, modes: bool) {
        let flat = self.plan.flat[download];
        match self.plan.keep_modes {
            KeepModes::Yes if !modes => {
                self.violate(Promise::Modes, node, || format!("{id} is placed without its modes"))
            }
            KeepModes::Try if !modes && !flat && !self.checker.unkept.contains(&(node, id)) => {
                self.violate(Promise::Modes, node, || format!("{id} has not got its modes, and could have"));
            }
            _ => {}
        }
    }

    /// File systems are mended, and operators have tried again what waits for a person.
    pub(crate) fn mend(&mut self) {
        self.remove_unswept();
        self.plan.spool_flat = false;
        self.plan.flat.fill(false);
        self.plan.spool_bare = false;
        self.plan.bare.fill(false);
        self.plan.folds.fill(false);
        self.plan.refuses.fill(false);
        for node in 0..self.nodes.len() {
            if matches!(self.nodes[node].role, Role::Upload(_)) {
                continue;
            }
            let rows = self.nodes[node].journal.unfinished();
            let waits = rows.filter(|row| row.reason.as_ref().is_some_and(|reason| reason.cause().is_lasting()));
            let waiting: Vec<_> = waits.map(|row| Handle::Transfer(row.transfer)).collect();
            if !waiting.is_empty() {
                self.order(node, Order::Items(ItemOrder::Retry, waiting));
            }
        }
    }
}
