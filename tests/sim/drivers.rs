//! The drivers over the fake world: each effect is carried out after some virtual time, and answered as the
//! table in machine::io says.

use std::collections::BTreeSet;

use synkler::machine::{
    Attributes, Cause, CleanupItem, CopyOutcome, Differences, Effect, Fault, HashOutcome, Input, ItemName, Kind, Level,
    Mounts, Origin, PlaceId, PlaceOutcome, Question, Reason, Run, RunId, RunOutcome, Sight, Sighting, Signature, Space,
    TransferId,
};

use crate::checker::Promise;
use crate::daemon::Role;
use crate::plan::Script;
use crate::sabotage::Sabotage;
use crate::sim::{Sim, What};
use crate::tally::Deed;
use crate::trace::trace;
use crate::world::{signature, stamp_of};

/// Work that a driver has begun.
#[derive(Debug)]
pub(crate) enum Op {
    Hash { item: ItemName, signature: Signature },
    Look { transfer: TransferId, item: ItemName },
    Run(Running),
    Take { transfer: TransferId, place: Option<PlaceId>, name: ItemName, kind: Kind, attributes: Attributes },
    Verify { transfer: TransferId, name: ItemName, kind: Kind, attributes: Attributes },
    Place { transfer: TransferId, name: ItemName, inode: u64, replace: Option<Signature> },
    Drop(TransferId),
    Cleanup { transfer: TransferId, item: ItemName, signature: Option<Signature> },
    CleanupLot(Vec<CleanupItem>),
    Measure,
    Missing(BTreeSet<TransferId>),
    Lookup(Question),
    Explain { transfer: TransferId },
}

/// What a person has to mend; the machines are to say so at level error.
const LASTING: &str = "host key unknown";

/// An rsync run under way.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) run: Run,
    /// How many items it is through with.
    pub(crate) through: usize,
    pub(crate) halted: bool,
    /// It fails when it gets to this item.
    fails_at: Option<usize>,
    /// It has left something out, and says so.
    pub(crate) partial: bool,
    /// It has left something out for want of space, and says that.
    pub(crate) short: bool,
    /// What the receiving file system cannot hold.
    pub(crate) refused: Vec<TransferId>,
}

fn no_space() -> Reason {
    Reason::with(Cause::Space, "No space left on device (28)")
}

/// What is told of something that was not done, because another directory is there.
fn refused(op: Op) -> Input {
    let why = Reason::new(Cause::Directory);
    match op {
        Op::Hash { item, .. } => Input::Hashed { item, outcome: HashOutcome::Held(why) },
        Op::Look { transfer, .. } => Input::Looked { transfer, sight: Sight::Unreadable(why) },
        Op::Take { transfer, .. } => Input::Taken { transfer, outcome: CopyOutcome::Failed(why) },
        Op::Verify { transfer, .. } => Input::Verified { transfer, outcome: CopyOutcome::Failed(why) },
        Op::Place { transfer, .. } => Input::Placed { transfer, outcome: PlaceOutcome::Failed(why) },
        Op::Drop(transfer) => Input::Dropped { transfer, outcome: Err(why) },
        Op::Cleanup { transfer, .. } => Input::Cleaned { transfer, outcome: Err(why) },
        Op::Missing(_) => Input::Swept { missing: BTreeSet::new() },
        Op::Run(Running { run: Run { id: run, .. }, .. }) => {
            Input::Ran { run, outcome: RunOutcome::Failed(Fault::Passing, why) }
        }
        Op::Measure | Op::Lookup(_) | Op::Explain { .. } | Op::CleanupLot(_) => Input::Timeout,
    }
}

impl Sim {
    /// Carries out one effect, or begins to.
    pub(crate) fn perform(&mut self, node: usize, effect: Effect) {
        self.check_without_directory(node, &effect);
        let (op, short, long) = match effect {
            Effect::Trust(known) => {
                self.nodes[node].trusted = known;
                return;
            }
            Effect::Mark(marker) => return self.mark_home(node, marker),
            Effect::DropPlace(_) | Effect::DropArrival { .. } if !self.enter(node) => return,
            // The daemon's loop has committed it already.
            Effect::Persist(_) => return,
            Effect::Send { to, message } => return self.send(node, &to, &message),
            Effect::Halt(run) => return self.halt(node, run),
            Effect::DropPlace(place) => {
                return self.world.spool.incoming.retain(|(used, _), _| *used != place);
            }
            Effect::DropArrival { place, name } => {
                let name = self.world.name_index(&name);
                self.world.spool.incoming.remove(&(place, name));
                return;
            }
            Effect::Sweep { transfers, places } => {
                if self.enter(node) {
                    self.sweep(node, &transfers, &places);
                }
                (Op::Missing(transfers), 5, 2_000)
            }
            Effect::Log(log) => {
                let for_a_person = [LASTING, Cause::Disputed.text(), Cause::Directory.text()];
                let for_a_person = for_a_person.iter().any(|text| log.text.contains(text));
                if log.level == Level::Error && !for_a_person {
                    self.violate(Promise::ErrorLog, node, || log.text);
                }
                return;
            }
            Effect::Run(run) => {
                self.check_run(node, &run);
                return self.begin_run(node, run);
            }
            Effect::Hash { item, signature } => (Op::Hash { item, signature }, 500, 120_000),
            Effect::Unmark(item) => return self.unmark(node, self.world.name_index(&item)),
            Effect::Look { transfer, item } => (Op::Look { transfer, item }, 20, 5_000),
            Effect::Take { transfer, place, name, kind, attributes } => {
                (Op::Take { transfer, place, name, kind, attributes }, 500, 120_000)
            }

            Effect::Verify { transfer, name, kind, digest: _, attributes } => {
                (Op::Verify { transfer, name, kind, attributes }, 500, 120_000)
            }

            Effect::Place { transfer, name, inode, replace } => {
                (Op::Place { transfer, name, inode, replace }, 20, 5_000)
            }
            Effect::Drop(transfer) => (Op::Drop(transfer), 20, 5_000),
            Effect::Cleanup(items) => {
                self.check_lot(node, &items);
                let op = match <[CleanupItem; 1]>::try_from(items) {
                    Ok([CleanupItem { transfer, item, signature, .. }]) => Op::Cleanup { transfer, item, signature },
                    Err(items) => Op::CleanupLot(items),
                };
                (op, 200, 60_000)
            }
            Effect::Measure => (Op::Measure, 5, 50),
            Effect::Lookup(question) => (Op::Lookup(question), 5, 500),
            Effect::Explain { transfer, .. } => (Op::Explain { transfer }, 20, 2_000),
        };
        let wait = self.rng.wait(short, long, self.plan.slow);
        self.begin(node, op, wait);
    }

    fn begin(&mut self, node: usize, op: Op, wait: u64) {
        let id = self.world.stamp();
        self.nodes[node].ops.insert(id, op);
        let epoch = self.nodes[node].epoch;
        self.at(wait, What::Step { node, epoch, op: id });
    }

    /// A driver's work goes on, or ends with its answer.
    pub(crate) fn step_op(&mut self, node: usize, id: u64) {
        let Some(op) = self.nodes[node].ops.remove(&id) else { return };
        let answer = match op {
            Op::Run(running) => match self.step_run(node, id, running) {
                Some(answer) => answer,
                None => return,
            },
            Op::CleanupLot(items) => return self.clean_lot(node, &items),
            other => self.finish(node, other),
        };
        self.mark_cleaned(node, &answer);
        self.push(node, answer, None);
    }

    /// A crash strikes: what had been begun has happened or not, and nobody is told.
    pub(crate) fn abandon(&mut self, node: usize, op: Op) {
        if self.rng.chance(500) {
            trace!(self, Some(node), "   (still happened: {op:?})");
            match op {
                Op::Run(running) => self.break_off(node, &running),
                Op::CleanupLot(items) => self.break_off_lot(node, &items),
                Op::Cleanup { transfer, item, signature } if self.plan.scripts[node] == Script::Moves => {
                    self.hide(node, transfer, &item, signature);
                }
                other => drop(self.finish(node, other)),
            }
        }
    }

    pub(crate) fn finish(&mut self, node: usize, op: Op) -> Input {
        let fails = self.rng.chance(self.plan.storage_fails);
        if fails {
            self.tally.count(Deed::StorageFailed);
        }
        let is_elsewhere = matches!(op, Op::Run(_) | Op::Measure | Op::Lookup(_) | Op::Explain { .. });
        if !is_elsewhere && !self.enter(node) {
            return refused(op);
        }
        match op {
            Op::Hash { item, signature } => Input::Hashed { outcome: self.hash(node, &item, signature), item },
            Op::Look { transfer, item } => Input::Looked { transfer, sight: self.look_at(node, &item) },
            Op::Take { transfer, place, name, kind, attributes } => {
                Input::Taken { transfer, outcome: self.take(transfer, place, &name, kind, &attributes, fails) }
            }
            Op::Verify { transfer, name, kind, attributes } => {
                let outcome = self.verify(node, transfer, &name, kind, &attributes, fails);
                Input::Verified { transfer, outcome }
            }
            Op::Place { transfer, name, inode, replace } => {
                Input::Placed { transfer, outcome: self.place(node, transfer, &name, inode, replace, fails) }
            }
            Op::Drop(transfer) => Input::Dropped { transfer, outcome: self.drop_copy(node, transfer, fails) },
            Op::Cleanup { transfer, item, signature } => {
                let outcome = if self.plan.scripts[node] == Script::Moves {
                    self.move_away(node, transfer, &item, signature)
                } else {
                    self.clean(node, transfer, &item)
                };
                Input::Cleaned { transfer, outcome }
            }
            Op::Missing(transfers) => Input::Swept { missing: self.missing(node, transfers) },
            Op::Measure => Input::Space(match self.nodes[node].role {
                Role::Central => self.world.spool_space(),
                Role::Download(number) => self.world.receiver_space(number),
                Role::Upload(_) => Space::of_bytes(1 << 30, 1 << 30),
            }),
            Op::Lookup(question) => {
                let row = self.nodes[node].journal.look_up(&question);
                Input::LookedUp { question, row }
            }
            Op::Explain { transfer } => {
                let differences = Differences { text: "`a` is missing".to_owned(), folded: self.rng.chance(300) };
                let differences = Some(differences).filter(|_| self.rng.chance(700));
                Input::Explained { transfer, differences }
            }
            // Runs end in `step_run`.
            Op::Run(running) => Input::Ran { run: running.run.id, outcome: RunOutcome::Complete },
            // And these in `clean_lot`.
            Op::CleanupLot(_) => Input::Timeout,
        }
    }

    fn hash(&mut self, node: usize, item: &ItemName, expected: Signature) -> HashOutcome {
        let Role::Upload(upload) = self.nodes[node].role else {
            self.violate(Promise::Protocol, node, || "Hash is for uploads".to_owned());
            return HashOutcome::Gone;
        };
        let name = self.world.name_index(item);
        let Some(source) = self.world.sources[upload].get(&name).copied() else { return HashOutcome::Gone };
        let cause = match source {
            _ if source.special => Some(Cause::Special),
            _ if source.unreadable => Some(Cause::Unreadable),
            _ if source.writer => Some(if name.is_multiple_of(2) { Cause::Busy } else { Cause::Incomplete }),
            _ => None,
        };
        if let Some(cause) = cause {
            return HashOutcome::Held(cause.into());
        }
        if source.stamp != stamp_of(expected) {
            return HashOutcome::Changed(self.sighting(upload, name));
        }
        let whole = crate::world::Bytes::Whole(source.version);
        HashOutcome::Proven {
            kind: crate::world::World::kind(source.version),
            entries: crate::world::World::entries(source.version),
            fingerprint: self.world.fingerprint(whole, None),
            modes: "f0644".parse().unwrap(),
            extras: crate::world::World::extras(source.version),
            manifest: None,
            origin: Origin {
                inode: source.inode,
                born: Some(Self::shown(source.born)),
                made: Some(self.translated(node, source.born)),
                ours: source.ours,
                mounts: Mounts::default(),
            },
        }
    }

    fn sighting(&self, upload: usize, name: usize) -> Sighting {
        let source = &self.world.sources[upload][&name];
        Sighting {
            name: self.world.names[name].clone(),
            signature: signature(source.stamp),
            size: self.world.size(crate::world::Bytes::Whole(source.version)),
            complete: source.renamed,
            unmarked: self.unmarked(upload, name),
        }
    }

    fn look_at(&mut self, node: usize, item: &ItemName) -> Sight {
        let name = self.world.name_index(item);
        let stamp = match self.nodes[node].role {
            Role::Upload(upload) => match self.world.sources[upload].get(&name) {
                Some(source) if source.unreadable => return Sight::Unreadable(Cause::Unreadable.into()),
                source => source.map(|source| source.stamp),
            },
            Role::Download(download) => self.world.receivers[download].finals.get(&name).map(|entry| entry.stamp),
            Role::Central => {
                self.violate(Promise::Protocol, node, || "Look is not for central".to_owned());
                None
            }
        };
        stamp.map_or(Sight::Gone, |stamp| Sight::Present(signature(stamp)))
    }

    /// The watch is told that something has happened to a name.
    pub(crate) fn notice(&mut self, node: usize, name: usize) {
        let Role::Upload(upload) = self.nodes[node].role else { return };
        let blind = self.sabotage == Some(Sabotage::BareIsEmpty);
        if !blind && !self.is_trusted(node) {
            return self.glance(node);
        }
        let there = self.is_home(node);
        let now = self.sight_of(upload, name).filter(|_| there);
        let before = self.nodes[node].seen.get(&name).copied();
        if now == before {
            return;
        }
        let input = match now {
            Some(stamp) => {
                self.nodes[node].seen.insert(name, stamp);
                if self.unmarked(upload, name).is_some_and(|lack| lack.detail() == "it is older") {
                    self.tally.count(Deed::StaleMarker);
                }
                Input::Seen(self.sighting(upload, name))
            }
            None => {
                self.nodes[node].seen.remove(&name);
                Input::Vanished(self.world.names[name].clone())
            }
        };
        self.push(node, input, None);
    }

    /// The watch goes through the whole directory, as it does at start and every minute.
    pub(crate) fn scan(&mut self, node: usize) {
        (0..self.world.names.len()).for_each(|name| self.notice(node, name));
        let looked = self.is_trusted(node) || self.sabotage == Some(Sabotage::BareIsEmpty);
        if looked && !std::mem::replace(&mut self.nodes[node].scanned, true) {
            self.push(node, Input::Scanned, None);
        }
        let epoch = self.nodes[node].epoch;
        self.at(60_000, What::Scan { node, epoch });
    }

    fn begin_run(&mut self, node: usize, run: Run) {
        let running = self.nodes[node].ops.values().filter(|op| matches!(op, Op::Run(_))).count();
        if running >= self.plan.slots as usize {
            self.violate(Promise::Protocol, node, || format!("{} rsync runs at once", running + 1));
        }
        if run.batch.is_empty() || matches!(self.nodes[node].role, Role::Central) {
            self.violate(Promise::Protocol, node, || "a run of nothing, or on central".to_owned());
        }
        let end = run.batch.len() + 1;
        let fails = self.world.ssh_down || self.rng.chance(self.plan.runs_fail);
        let fails_at = fails.then(|| self.rng.index(end));
        let wait = self.rng.wait(500, 10_000, self.plan.slow);
        self.begin(
            node,
            Op::Run(Running {
                run,
                through: 0,
                halted: false,
                fails_at,
                partial: false,
                short: false,
                refused: Vec::new(),
            }),
            wait,
        );
    }

    fn halt(&mut self, node: usize, id: RunId) {
        let epoch = self.nodes[node].epoch;
        let mut found = None;
        for (op, work) in &mut self.nodes[node].ops {
            if let Op::Run(running) = work
                && running.run.id == id
            {
                running.halted = true;
                found = Some(*op);
            }
        }
        if let Some(op) = found {
            self.at(100, What::Step { node, epoch, op });
        }
    }

    fn step_run(&mut self, node: usize, id: u64, mut running: Running) -> Option<Input> {
        let run = running.run.id;
        let failed = |fault, text: &str| {
            let outcome = RunOutcome::Failed(fault, Reason::with(Cause::Transport, text));
            Some(Input::Ran { run, outcome })
        };
        if running.halted {
            self.break_off(node, &running);
            self.tally.count(Deed::RunHalted);
            return failed(Fault::Passing, "stopped");
        }
        if running.through == 0 && !self.enter(node) {
            return Some(refused(Op::Run(running)));
        }
        let pair = [node, 0];
        if pair.iter().any(|end| !self.is_home(*end)) && self.violation.is_none() {
            return failed(Fault::Passing, "no such file or directory");
        }
        if self.world.ssh_down || running.fails_at == Some(running.through) {
            self.break_off(node, &running);
            self.tally.count(Deed::RunFailed);
            return if self.rng.chance(300) {
                failed(Fault::Lasting, LASTING)
            } else {
                failed(Fault::Passing, "connection lost")
            };
        }
        if running.through == running.run.batch.len() {
            let outcome = if !running.refused.is_empty() {
                running.refused.iter().for_each(|id| self.mark_refused(node, *id));
                let why = || Reason::with(Cause::Unfit, "`a`: the file system does not support symbolic links");
                RunOutcome::Unfit(running.refused.iter().map(|id| (*id, why())).collect())
            } else if running.short {
                RunOutcome::Partial(no_space())
            } else if running.partial {
                RunOutcome::Partial(Reason::with(Cause::Transport, "some files were not moved"))
            } else {
                RunOutcome::Complete
            };
            return Some(Input::Ran { run, outcome });
        }
        self.move_item(node, &mut running);
        if running.short && running.refused.is_empty() && self.rng.chance(500) {
            return Some(Input::Ran { run, outcome: RunOutcome::Failed(Fault::Passing, no_space()) });
        }
        running.through += 1;
        if self.rng.chance(100) {
            self.push(node, Input::Progress { run, bytes: running.through as u64, rate: 1 }, None);
        }
        self.nodes[node].ops.insert(id, Op::Run(running));
        let wait = self.rng.wait(200, 120_000, self.plan.slow);
        let epoch = self.nodes[node].epoch;
        self.at(wait, What::Step { node, epoch, op: id });
        None
    }
}
