//! Scripts that get several items at once: one process, one exit status, and each item is judged by itself.

use synkler::machine::{Cause, CleanupItem, Cleared, Input, Reason, Record};

use crate::checker::Promise;
use crate::plan::Script;
use crate::sim::Sim;
use crate::tally::Deed;
use crate::trace::row as show_row;

/// For how long after a look a lot may start. Users keep their hands off until then.
const LOOK_LASTS: u64 = 450;
/// How a failure reads that says nothing of a single item.
pub(crate) const OF_SEVERAL: &str = "exit code 1, of several";

impl Sim {
    /// Whether the node may start this; each of its items is checked as if it were alone.
    pub(crate) fn check_lot(&mut self, node: usize, items: &[CleanupItem]) {
        if items.is_empty() || items.len() > self.plan.lots[node].map_or(1, |lot| lot.items) {
            self.violate(Promise::Protocol, node, || format!("{} items in one cleanup", items.len()));
        }
        if self.plan.scripts[node] == Script::None {
            self.violate(Promise::Protocol, node, || "a cleanup without a script".to_owned());
        }
        for item in items {
            self.check_held(node, item.transfer, "a cleanup script starts");
            // What synkler does itself is looked at when it touches the item: it may only finish what it began.
            if self.plan.scripts[node] != Script::Moves {
                self.check_cleanup(node, item.transfer, &item.item);
            }
        }
    }

    /// The script has gone through all its items, and fails if it could not do one of them.
    pub(crate) fn clean_lot(&mut self, node: usize, items: &[CleanupItem]) {
        let outcome = if self.enter(node) {
            self.tally.count(Deed::Together);
            let failed = items.iter().filter(|item| self.clean(node, item.transfer, &item.item).is_err()).count();
            if failed == 0 { Ok(Cleared::Script) } else { Err(Reason::with(Cause::Cleanup, OF_SEVERAL)) }
        } else {
            Err(Reason::new(Cause::Directory))
        };
        if outcome.as_ref().is_err_and(|reason| reason.cause() == Cause::Cleanup) {
            self.tally.count(Deed::TriedAlone);
        }
        for item in items {
            self.mark_cleaned(node, &Input::Cleaned { transfer: item.transfer, outcome: outcome.clone() });
            self.push(node, Input::Cleaned { transfer: item.transfer, outcome: outcome.clone() }, None);
        }
    }

    /// A crash strikes while a script works: it has gone through some of its items.
    pub(crate) fn break_off_lot(&mut self, node: usize, items: &[CleanupItem]) {
        if self.enter(node) {
            let through = self.rng.index(items.len() + 1);
            for item in &items[..through] {
                let _ = self.clean(node, item.transfer, &item.item);
            }
        }
    }

    /// How a script has really ended.
    pub(crate) fn mark_cleaned(&mut self, node: usize, answer: &Input) {
        let uncleaned = &mut self.nodes[node].uncleaned;
        match answer {
            Input::Cleaned { transfer, outcome: Ok(_) } => drop(uncleaned.remove(transfer)),
            Input::Cleaned { transfer, outcome: Err(_) } => drop(uncleaned.insert(*transfer)),
            _ => {}
        }
    }

    /// A machine hears what a look has found.
    pub(crate) fn mark_look(&mut self, node: usize, input: &Input) {
        let Input::Looked { transfer, .. } = input else { return };
        let Some(row) = self.nodes[node].journal.rows.get(transfer) else { return };
        let (name, is_last) = (self.world.name_index(&row.name), row.stage == "cleaning");
        if !is_last {
            self.nodes[node].uncleaned.remove(transfer);
        }
        if self.plan.lots[node].is_some() {
            let until = self.now + LOOK_LASTS;
            self.nodes[node].looked.insert(name, until);
        }
    }

    /// What a script failed with does not count as cleaned up before it was looked at again.
    pub(crate) fn check_uncleaned(&mut self, node: usize, record: &Record) {
        let Record::Transfer(row) = record else { return };
        let was_running = self.nodes[node].journal.rows.get(&row.transfer).is_some_and(|old| old.stage == "cleaning");
        let is_done = was_running && matches!(row.stage.as_str(), "freed" | "cleaned");
        if is_done && self.nodes[node].uncleaned.contains(&row.transfer) {
            self.violate(Promise::Cleaned, node, || format!("its script failed: {}", show_row(row)));
        }
    }
}
