//! The fakes pass the same lists as the real journal and the real file drivers: that is what lets anybody
//! believe the schedules.

use synkler::machine::{Effect, Input, JournalId, Keep, Mode, Question, Record, Restored, Row};

use crate::conformance_files::{Spot, World as FilesUnderTest, inodes_run_out, stories};
use crate::journal::Journal;
use crate::journal_suite::{self, JournalUnderTest};
use crate::sim::Sim;
use crate::world::{Bytes, Copy, Final};

impl JournalUnderTest for Journal {
    fn commit(&mut self, records: Vec<Record>) {
        records.into_iter().for_each(|record| self.write(record));
    }

    fn look_up(&mut self, question: Question) -> Option<Box<Row>> {
        Self::look_up(self, &question)
    }

    fn restart(&mut self) -> Restored {
        self.restored()
    }
}

#[test]
fn the_fake_journal_passes_the_real_ones_list() {
    journal_suite::check(|| Journal::new(JournalId(7)));
}

/// One host of each role, and nothing goes wrong.
struct FakeFiles(Sim);

impl FakeFiles {
    fn copy(&mut self, version: u64) -> Copy {
        let inode = self.0.world.stamp();
        Copy { bytes: Bytes::Whole(version), inode, looks: None, modes: false, extras: Keep::default(), inodes: 1 }
    }
}

impl FilesUnderTest for FakeFiles {
    fn perform(&mut self, mode: Mode, effect: Effect) -> Option<Input> {
        let node = match mode {
            Mode::Central => 0,
            Mode::Upload => 1,
            Mode::Download => 1 + self.0.plan.uploads,
        };
        self.0.perform(node, effect);
        let (_, op) = self.0.nodes[node].ops.pop_first()?;
        Some(self.0.finish(node, op))
    }

    fn write(&mut self, spot: &Spot, version: u64) {
        while self.0.world.versions() <= version {
            self.0.world.fresh_version(100);
        }
        let copy = self.copy(version);
        let world = &mut self.0.world;
        match spot {
            Spot::Source(item) => {
                let name = world.name_index(item);
                world.put(0, name, version, true, false);
            }
            Spot::Arrived(place, item) => {
                let name = world.name_index(item);
                world.spool.incoming.insert((*place, name), copy);
            }
            Spot::Held(transfer, item) => {
                let name = world.name_index(item);
                world.spool.held.insert(*transfer, (name, copy));
            }
            Spot::Staged(transfer, item) => {
                let name = world.name_index(item);
                world.receivers[0].staging.insert(*transfer, Some((name, copy)));
            }
            Spot::Final(item) => {
                let name = world.name_index(item);
                let entry =
                    Final { bytes: copy.bytes, inode: copy.inode, stamp: copy.inode, from: None, touched: false };
                world.receivers[0].finals.insert(name, entry);
            }
        }
    }

    fn remove(&mut self, spot: &Spot) {
        let world = &mut self.0.world;
        match spot {
            Spot::Source(item) => world.take_away(0, world.name_index(item)),
            Spot::Arrived(place, item) => {
                let name = world.name_index(item);
                world.spool.incoming.remove(&(*place, name));
            }
            Spot::Held(transfer, _) => {
                world.spool.held.remove(transfer);
            }
            Spot::Staged(transfer, _) => {
                world.receivers[0].staging.insert(*transfer, None);
            }
            Spot::Final(item) => {
                let name = world.name_index(item);
                world.receivers[0].finals.remove(&name);
            }
        }
    }

    fn version(&mut self, spot: &Spot) -> Option<u64> {
        let world = &self.0.world;
        let bytes = match spot {
            Spot::Source(item) => Bytes::Whole(world.sources[0].get(&world.name_index(item))?.version),
            Spot::Arrived(place, item) => world.spool.incoming.get(&(*place, world.name_index(item)))?.bytes,
            Spot::Held(transfer, _) => world.spool.held.get(transfer)?.1.bytes,
            Spot::Staged(transfer, _) => world.receivers[0].staging.get(transfer)?.as_ref()?.1.bytes,
            Spot::Final(item) => world.receivers[0].finals.get(&world.name_index(item))?.bytes,
        };
        match bytes {
            Bytes::Whole(version) => Some(version),
            Bytes::Spoilt(_) => None,
        }
    }
}

#[test]
fn the_fake_files_pass_the_real_ones_stories() {
    for (name, story) in stories() {
        eprintln!("files: {name}");
        let mut sim = Sim::new(1, None, false);
        sim.plan.calm();
        story(&mut FakeFiles(sim));
    }
}

#[test]
fn the_fake_files_run_out_of_inodes_as_the_real_ones_do() {
    let mut sim = Sim::new(1, None, false);
    sim.plan.calm();
    sim.world.spool.inodes = Some(40);
    inodes_run_out(&mut FakeFiles(sim));
}
