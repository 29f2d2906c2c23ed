//! What the checker knows of room: nothing is asked for that there are not inodes for, and what there was no room for
//! is gone.

use synkler::machine::{Cause, Direction, Effect, Input, Message, PlaceId, Row, Run};

use crate::checker::Promise;
use crate::daemon::Role;
use crate::drivers::Op;
use crate::sabotage::Sabotage;
use crate::sim::Sim;
use crate::tally::Deed;
use crate::world::{Bytes, World};

impl Sim {
    /// Central is about to note that it has put something back.
    pub(crate) fn mark_put_back(&mut self, node: usize, row: &Row) {
        let before = self.nodes[node].journal.rows.get(&row.transfer);
        let granted = before.filter(|before| before.stage == "granted");
        let short = row.reason.as_ref().is_some_and(|reason| reason.cause() == Cause::Space);
        if let Some(place) = granted.and_then(|before| before.place).filter(|_| row.stage == "waiting" && short) {
            self.tally.count(Deed::PutBack);
            self.checker.put_back.push((place, self.world.name_index(&row.name)));
        }
    }

    /// After a drain of central: what is promised and what is held have their inodes, and what was put back is gone.
    pub(crate) fn check_room(&mut self, node: usize) {
        if node != 0 {
            return;
        }
        // What lies in a directory that is away is removed when that is back.
        let away = !self.is_home(node) || self.nodes[node].lacks_directory || self.nodes[node].lacked_directory;
        for (place, name) in std::mem::take(&mut self.checker.put_back).into_iter().filter(|_| !away) {
            let remade = self.is_being_sent(place, name);
            if !remade && self.world.spool.incoming.contains_key(&(place, name)) {
                self.violate(Promise::Room, node, || format!("{place} was put back, and something lies there still"));
            }
        }
        let Some(limit) = self.world.spool.inodes else { return };
        let held = &self.world.spool.held;
        let taken = |row: &Row| match &*row.stage {
            "granted" => row.entries,
            "held" | "released" => held.get(&row.transfer).map_or(0, |(_, copy)| copy.inodes),
            _ => 0,
        };
        let taken: u64 = self.nodes[node].journal.unfinished().map(taken).sum();
        if taken > limit {
            self.violate(Promise::Room, node, || format!("{taken} inodes are promised and held, of {limit}"));
        }
    }

    fn is_being_sent(&self, place: PlaceId, name: usize) -> bool {
        let item = &self.world.names[name];
        self.nodes.iter().flat_map(|daemon| daemon.ops.values()).any(|op| match op {
            Op::Run(running) => {
                let here = running.run.location.path().ends_with(&format!("/{place}"));
                here && running.run.batch.iter().any(|(_, sent)| sent == item)
            }
            _ => false,
        })
    }

    /// A run is about to fetch these: there are inodes for all of them, and for what is being fetched beside them.
    pub(crate) fn check_fetch(&mut self, node: usize, run: &Run) {
        let Role::Download(download) = self.nodes[node].role else { return };
        let receiver = &self.world.receivers[download];
        let Some(limit) = receiver.inodes.filter(|_| run.direction == Direction::Pull) else { return };
        let runs = self.nodes[node].ops.values().filter_map(|op| match op {
            Op::Run(running) => Some(&running.run),
            _ => None,
        });
        let fetched: Vec<_> = runs.chain([run]).flat_map(|run| &run.batch).map(|(transfer, _)| *transfer).collect();
        let rows = &self.nodes[node].journal.rows;
        let coming: u64 = fetched.iter().filter_map(|transfer| rows.get(transfer)).map(|row| row.entries).sum();
        let staged = receiver.staging.iter().filter(|(transfer, _)| !fetched.contains(transfer));
        let staged: u64 = staged.filter_map(|(_, copy)| copy.map(|(_, copy)| copy.inodes)).sum();
        let placed: u64 = receiver.finals.values().map(|entry| World::inodes(entry.bytes)).sum();
        if coming + staged + placed > limit {
            let text =
                format!("{coming} inodes are fetched beside {staged} in staging and {placed} placed, of {limit}");
            self.violate(Promise::Room, node, || text);
        }
    }

    /// Something is told about inodes.
    pub(crate) fn mark_lack(&mut self, message: &Message) {
        if let Message::Waiting(waits) = message
            && waits.iter().any(|wait| wait.reason.detail().contains(" inodes needed"))
        {
            self.tally.count(Deed::LacksInodes);
        }
    }

    /// A machine is told that more inodes are free than there are.
    pub(crate) fn sabotage_room(&mut self, node: usize, input: &mut Input) {
        let Input::Space(space) = input else { return };
        match self.sabotage {
            Some(Sabotage::InodesUnmeasured) => space.inodes = None,
            Some(Sabotage::InodesUnreserved) => {
                // As if nothing were promised to what is on its way.
                let on_its_way = |row: &&Row| matches!(&*row.stage, "granted" | "wanted");
                let rows = self.nodes[node].journal.unfinished().filter(on_its_way);
                let promised: u64 = rows.map(|row| row.entries + 2).sum();
                space.inodes = space.inodes.map(|mut inodes| {
                    inodes.free += promised;
                    inodes
                });
            }
            _ => {}
        }
    }

    /// What is put back is not removed.
    pub(crate) fn sabotage_removal(&self, effects: &mut Vec<Effect>) {
        if self.sabotage == Some(Sabotage::PutBackStays) {
            effects.retain(|effect| !matches!(effect, Effect::DropPlace(_) | Effect::DropArrival { .. }));
        }
    }

    /// Somebody removes what could not be removed and is nobody's any more.
    pub(crate) fn remove_unswept(&mut self) {
        for id in self.checker.unswept.clone() {
            let over = |node: usize| self.nodes[node].journal.rows.get(&id).is_none_or(|row| row.finished.is_some());
            if over(0) {
                self.world.spool.held.remove(&id);
            }
            for download in 0..self.plan.downloads {
                if over(1 + self.plan.uploads + download) {
                    self.world.receivers[download].staging.remove(&id);
                }
            }
        }
    }
}

impl World {
    /// How many inodes something has under its final name.
    pub(crate) fn inodes(bytes: Bytes) -> u64 {
        match bytes {
            Bytes::Whole(version) => Self::entries(version),
            Bytes::Spoilt(_) => 1,
        }
    }
}
