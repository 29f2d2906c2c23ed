//! Which directory stands where a node's should: mounts that go away, before a start and at run time, and come back.
//! And what the checker knows of it: nothing is done, said or taken for gone while another directory is there.

use synkler::machine::{Directory, DirectoryId, Effect, Input, Marker, Message, Verdict, judge};

use crate::checker::Promise;
use crate::sabotage::Sabotage;
use crate::sim::{Sim, What};
use crate::tally::Deed;
use crate::trace::trace;

/// How soon it is noticed that another directory is there.
const GLANCE: u64 = 5000;

/// What stands at the path of a node's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stands {
    /// The directory that holds everything.
    Home,
    /// The empty directory on which it is mounted.
    Bare,
    /// Nothing.
    Nothing,
}

/// The directory of one node.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) stands: Stands,
    marker: Option<Marker>,
    /// This user may not write there.
    pub(crate) read_only: bool,
}

impl Default for Ground {
    fn default() -> Self {
        Self { stands: Stands::Home, marker: None, read_only: false }
    }
}

/// Whether it is done in the directory.
fn is_act(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Hash { .. }
            | Effect::Look { .. }
            | Effect::Unmark(_)
            | Effect::Run(_)
            | Effect::Take { .. }
            | Effect::Verify { .. }
            | Effect::Place { .. }
            | Effect::Drop(_)
            | Effect::DropPlace(_)
            | Effect::DropArrival { .. }
            | Effect::Sweep { .. }
            | Effect::Cleanup(_)
    )
}

impl Sim {
    /// What a look at a node's directory finds.
    pub(crate) fn found(&self, node: usize) -> Directory {
        let ground = &self.world.grounds[node];
        let id = |inode| DirectoryId { file_system: 1 + node as u64, inode };
        match ground.stands {
            Stands::Home => Directory::Present { id: id(2), marker: ground.marker.clone() },
            Stands::Bare => Directory::Present { id: id(77), marker: None },
            Stands::Nothing => Directory::Missing("no such directory".into()),
        }
    }

    pub(crate) fn is_home(&self, node: usize) -> bool {
        self.world.grounds[node].stands == Stands::Home
    }

    /// The daemon looks at its directory before anything else.
    pub(crate) fn first_look(&mut self, node: usize) {
        // A new journal would take the wrong directory for its own, and nobody could know.
        if self.nodes[node].journal.directory.is_none() {
            self.world.grounds[node].stands = Stands::Home;
        }
        if !self.is_home(node) {
            self.tally.count(Deed::StartedWithoutDirectory);
        }
        let (found, now) = (self.found(node), self.clock(node));
        self.nodes[node].trusted = None;
        self.nodes[node].told = Some(found.clone());
        let mut input = Input::Directory(found);
        self.mark_directory(node, &input);
        self.sabotage_input(node, &mut input);
        trace!(self, Some(node), "{}", crate::trace::input(&input));
        if let Some(machine) = &mut self.nodes[node].machine {
            machine.handle(now, input);
        }
    }

    /// What stands there changes.
    pub(crate) fn set_ground(&mut self, node: usize, stands: Stands) {
        if stands != Stands::Home && self.nodes[node].journal.directory.is_none() {
            return;
        }
        if stands != Stands::Home && self.is_home(node) && self.nodes[node].machine.is_some() {
            self.tally.count(Deed::DirectoryLost);
        }
        self.world.grounds[node].stands = stands;
        let (wait, epoch) = (self.rng.below(GLANCE), self.nodes[node].epoch);
        self.at(wait, What::Glance { node, epoch });
    }

    /// The driver tells what is there, if that is news.
    pub(crate) fn glance(&mut self, node: usize) {
        let found = self.found(node);
        if self.nodes[node].told.as_ref() != Some(&found) {
            self.nodes[node].told = Some(found.clone());
            self.push(node, Input::Directory(found), None);
        }
    }

    pub(crate) fn mark_home(&mut self, node: usize, marker: Marker) {
        if self.is_trusted(node) && self.is_home(node) && !self.world.grounds[node].read_only {
            self.world.grounds[node].marker = Some(marker);
            self.nodes[node].told = Some(self.found(node));
        }
    }

    pub(crate) fn is_trusted(&self, node: usize) -> bool {
        let daemon = &self.nodes[node];
        // Where no daemon has ever looked, nobody has said anything.
        daemon.told.is_none() || daemon.trusted.is_some_and(|known| known.is(&daemon.node, &self.found(node)))
    }

    /// The driver makes sure that it is the right directory before it does something; tells where it is not.
    pub(crate) fn enter(&mut self, node: usize) -> bool {
        let blind = matches!(self.sabotage, Some(Sabotage::DirectoryIgnored | Sabotage::EnteredBlindly));
        if blind || self.is_trusted(node) {
            if !self.is_home(node) {
                self.violate(Promise::Directory, node, || "done in another directory".to_owned());
            }
            return true;
        }
        self.tally.count(Deed::NotEntered);
        self.glance(node);
        false
    }

    /// A machine is about to hear of its directory.
    pub(crate) fn mark_directory(&mut self, node: usize, input: &Input) {
        let Input::Directory(found) = input else { return };
        let daemon = &self.nodes[node];
        let verdict = judge(daemon.journal.directory.as_ref(), &daemon.node, found);
        let is_wrong = matches!(verdict, Verdict::Wrong(_));
        self.nodes[node].lacks_directory = is_wrong;
        // Found in this drain, if only for a moment: what was queued in that moment is refused by the driver.
        self.nodes[node].lacked_directory &= is_wrong;
    }

    /// What a machine does while it knows that its directory is not there, since before this drain.
    pub(crate) fn check_without_directory(&mut self, node: usize, effect: &Effect) {
        let daemon = &self.nodes[node];
        if !(daemon.lacked_directory && daemon.lacks_directory) {
            return;
        }
        let says = |message: &Message| {
            matches!(
                message,
                Message::Done(_) | Message::Upload { .. } | Message::Download { .. } | Message::Received(_)
            )
        };
        if is_act(effect) || matches!(effect, Effect::Send { message, .. } if says(message)) {
            let text = crate::trace::effect(effect);
            self.violate(Promise::Directory, node, || format!("without its directory: {text}"));
        }
    }

    /// An upload gives something up, because its source has gone: then it must not stand in the directory that is away.
    pub(crate) fn check_vanished(&mut self, node: usize, upload: usize, row: &synkler::machine::Row) {
        let name = self.world.name_index(&row.name);
        let gone = row.reason.as_ref().is_some_and(|reason| reason.detail().contains("disappeared"));
        if gone && row.stage == "withdrawing" && !self.is_home(node) {
            let stands = self.world.sources[upload].get(&name).map(|source| source.stamp);
            if stands.is_some() && stands == row.signature.map(crate::world::stamp_of) {
                self.violate(Promise::Directory, node, || format!("taken for gone: {}", crate::trace::row(row)));
            }
        }
    }
}
