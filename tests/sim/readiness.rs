//! Items that count as complete only when their user says so: by a marker, or by submitting them.

use synkler::machine::{Cause, Order, Readiness, Reason, Record, Selection};

use crate::checker::Promise;
use crate::daemon::Role;
use crate::faults::Act;
use crate::sim::{Sim, What};
use crate::tally::Deed;
use crate::world::{Stamp, signature};

/// How users of a schedule say that an item is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// They do not say it.
    Nothing,
    Marker,
    Submit,
}

impl Says {
    pub(crate) fn readiness(self) -> Readiness {
        match self {
            Self::Nothing => Readiness::Settled,
            Self::Marker => Readiness::Marker("%f.ready".parse().unwrap()),
            Self::Submit => Readiness::Submit,
        }
    }
}

impl Sim {
    /// What the watch sees of the marker of an item that is there.
    pub(crate) fn unmarked(&self, upload: usize, name: usize) -> Option<Reason> {
        if self.plan.says != Says::Marker {
            return None;
        }
        let source = self.world.sources[upload].get(&name)?;
        match self.world.markers[upload].get(&name) {
            None => Some(Reason::with(Cause::Unmarked, "it is missing")),
            Some(marker) if *marker < source.stamp => Some(Reason::with(Cause::Unmarked, "it is older")),
            Some(_) => None,
        }
    }

    /// What the watch goes by: an item is seen anew when its marker comes or goes.
    pub(crate) fn sight_of(&self, upload: usize, name: usize) -> Option<Stamp> {
        let source = self.world.sources[upload].get(&name)?;
        let marker = self.world.markers[upload].get(&name).copied().unwrap_or_default();
        Some(source.stamp.max(marker))
    }

    /// A user has written all of an item, and will say so; now and then that was said too early, or is forgotten.
    pub(crate) fn has_written(&mut self, upload: usize, name: usize) {
        if self.plan.says == Says::Nothing || self.rng.chance(100) {
            return;
        }
        let wait = self.rng.below(8000);
        self.at(wait, What::Act(Act::Ready { upload, name }));
    }

    /// A user says that what is there now is complete, or makes a marker for nothing.
    pub(crate) fn say_ready(&mut self, upload: usize, name: usize) {
        match self.plan.says {
            Says::Nothing => {}
            Says::Marker => {
                let stamp = self.world.stamp();
                self.world.markers[upload].insert(name, stamp);
                self.world.count_as_ready(upload, name);
                self.changed(1 + upload, name);
            }
            Says::Submit => {
                let Some(source) = self.world.sources[upload].get(&name).copied() else { return };
                if !self.is_home(1 + upload) {
                    return;
                }
                // What was put aside is wanted, whatever has made it.
                self.insists(1 + upload, name);
                // The order counts before its answer does.
                self.world.count_as_ready(upload, name);
                if self
                    .order(1 + upload, Order::Submit(vec![(self.world.names[name].clone(), signature(source.stamp))]))
                {
                    self.tally.count(Deed::Submitted);
                }
            }
        }
    }

    /// In the end, users say it of everything that was written and not delivered.
    pub(crate) fn say_all(&mut self) {
        for upload in 0..self.plan.uploads {
            for name in 0..self.world.names.len() {
                let Some(source) = self.world.sources[upload].get(&name).copied() else { continue };
                let is_leftover = self.world.instances.get(&source.stamp).is_some_and(|instance| instance.leftover);
                let is_waited_for = match self.plan.says {
                    Says::Nothing => false,
                    Says::Marker => self.unmarked(upload, name).is_some(),
                    Says::Submit => !self.is_instance_delivered(source.stamp),
                };
                let is_shown = self.is_shown_waiting(upload, name);
                if is_shown && (is_leftover || self.is_instance_delivered(source.stamp)) {
                    // What a script has left, or what was delivered before a journal was lost: its user takes it away.
                    if !self.is_guarded(1 + upload, name) {
                        self.world.take_away(upload, name);
                        self.changed(1 + upload, name);
                    }
                } else if is_waited_for && !is_leftover && !source.writer {
                    self.say_ready(upload, name);
                }
            }
        }
    }

    fn is_shown_waiting(&self, upload: usize, name: usize) -> bool {
        let machine = self.nodes[1 + upload].machine.as_ref();
        let views = machine.map(|machine| machine.snapshot(&Selection::urgent(1000)).transfers).unwrap_or_default();
        let waits = |cause| matches!(cause, Cause::Unmarked | Cause::Unsubmitted);
        views.iter().any(|view| view.name == self.world.names[name] && waits(view.reason.cause()))
    }

    /// An item that is gone takes its marker with it.
    pub(crate) fn unmark(&mut self, node: usize, name: usize) {
        let Role::Upload(upload) = self.nodes[node].role else {
            return self.violate(Promise::Protocol, node, || "Unmark is for uploads".to_owned());
        };
        if self.plan.says != Says::Marker {
            return self.violate(Promise::Protocol, node, || "Unmark without markers".to_owned());
        }
        if self.enter(node) && !self.world.sources[upload].contains_key(&name) {
            self.tally.count(Deed::Unmarked);
            self.world.markers[upload].remove(&name);
        }
    }

    /// A journal that knows less has other submissions, and they count for what stands there now.
    pub(crate) fn restore_submissions(&mut self, node: usize) {
        let Role::Upload(upload) = self.nodes[node].role else { return };
        self.world.submitted.retain(|(of, _)| *of != upload);
        for name in self.nodes[node].journal.submitted.clone() {
            let name = self.world.name_index(&name);
            self.world.submitted.insert((upload, name));
            self.world.count_as_ready(upload, name);
        }
    }

    /// What an upload remembers of submissions: until it makes a transfer, whatever stands there is submitted.
    pub(crate) fn mark_submission(&mut self, node: usize, record: &Record) {
        let Role::Upload(upload) = self.nodes[node].role else { return };
        match record {
            Record::Submitted(name) => {
                let name = self.world.name_index(name);
                self.world.submitted.insert((upload, name));
                self.world.count_as_ready(upload, name);
            }
            Record::Unsubmitted(name) => {
                let name = self.world.name_index(name);
                self.world.submitted.remove(&(upload, name));
            }
            _ => {}
        }
    }
}
