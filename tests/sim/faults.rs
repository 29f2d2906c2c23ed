//! What befalls the world: users who change their minds, owners who tidy up, links and hosts that die.

use std::time::Duration;

use synkler::machine::{Cause, Handle, Input, ItemOrder, JournalId, Order, Scope, Selection};

use crate::daemon::Role;
use crate::directory::Stands;
use crate::drivers::Op;
use crate::journal::Journal;
use crate::readiness::Says;
use crate::sim::{Sim, What};
use crate::tally::Deed;
use crate::trace::trace;
use crate::world::{Bytes, Final};

/// One thing that befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    /// A user puts an item there in one go, or begins to write one slowly.
    Write {
        upload: usize,
        name: usize,
    },
    /// A user goes on writing, so many more times.
    Append {
        upload: usize,
        name: usize,
        left: u64,
    },
    /// A user touches an item.
    Touch {
        upload: usize,
        name: usize,
    },
    /// A user says that an item is complete.
    Ready {
        upload: usize,
        name: usize,
    },
    /// A user takes an item away.
    Remove {
        upload: usize,
        name: usize,
    },
    /// An item becomes unreadable, or a fifo stands in it.
    Unfit {
        upload: usize,
        name: usize,
        special: bool,
    },
    /// An owner puts something of their own under a final name.
    Foreign {
        download: usize,
        name: usize,
    },
    /// An owner takes away or touches what stands under a final name.
    Take {
        download: usize,
        name: usize,
        touch: bool,
    },
    Crash(usize),
    /// A node crashes and its journal is lost.
    Wipe(usize),
    /// Somebody copies a node's journal.
    Copy(usize),
    /// A node crashes, and its journal is replaced by the copy.
    Restore(usize),
    /// A node forgets what has been over for long.
    Prune(usize),
    /// A host's clock is set while its daemon runs.
    Step {
        node: usize,
        ahead: bool,
        by: u64,
    },
    Session(usize),
    Broker {
        down: bool,
    },
    Ssh {
        down: bool,
    },
    /// A file system fills up, or has room again: central's (0) or a download's.
    Full {
        node: usize,
        full: bool,
    },
    /// An operator pauses a node, or resumes it.
    Pause {
        node: usize,
        paused: bool,
        now: bool,
    },
    /// An operator pauses the group, or resumes it, on that node.
    GroupPause {
        node: usize,
        paused: bool,
        now: bool,
    },
    /// An operator pauses whatever has a name, or resumes it: on one node, or on all that can be reached.
    ItemPause {
        name: usize,
        only: Option<usize>,
        paused: bool,
        now: bool,
    },
    /// An operator has something tried again.
    Retry {
        name: usize,
    },
    /// An operator has something sent next.
    Bump {
        name: usize,
    },
    /// An operator gives something up.
    Withdraw {
        upload: usize,
        name: usize,
    },
    /// A download's host goes away for long.
    Leave {
        download: usize,
        away: u64,
    },
    /// An operator has a download forgotten.
    Forget {
        download: usize,
    },
    /// A copy on central rots or disappears.
    Rot {
        vanish: bool,
    },
    /// Another directory is where a node's should be, or its own is there again; a crash may come with it.
    Ground {
        node: usize,
        stands: Stands,
        crash: bool,
    },
}

impl Sim {
    /// Spreads the schedule's acts over its time.
    pub(crate) fn schedule_acts(&mut self) {
        let (uploads, downloads, names) = (self.plan.uploads, self.plan.downloads, self.plan.names);
        let nodes = self.nodes.len();
        let counts = &self.plan.acts;
        let (writes, touches, removals, unfit) = (counts.writes, counts.touches, counts.removals, counts.unfit);
        let (foreign, takes, crashes, sessions) = (counts.foreign, counts.takes, counts.crashes, counts.sessions);
        let (broker, ssh, full, pauses, rot) =
            (counts.broker_down, counts.ssh_down, counts.full, counts.pauses, counts.rot);
        let (group_pauses, item_pauses, retries) = (counts.group_pauses, counts.item_pauses, counts.retries);
        let (bumps, withdrawals, forgets) = (counts.bumps, counts.withdrawals, counts.forgets);
        for _ in 0..writes {
            let (upload, name) = (self.rng.index(uploads), self.rng.index(names));
            let when = if self.rng.chance(500) { 0 } else { self.some_time() };
            self.at(when, What::Act(Act::Write { upload, name }));
        }
        self.spread(touches, |sim| Act::Touch { upload: sim.rng.index(uploads), name: sim.rng.index(names) });
        self.spread(removals, |sim| Act::Remove { upload: sim.rng.index(uploads), name: sim.rng.index(names) });
        self.spread(unfit, |sim| {
            let special = sim.rng.chance(500);
            Act::Unfit { upload: sim.rng.index(uploads), name: sim.rng.index(names), special }
        });
        self.spread(foreign, |sim| Act::Foreign { download: sim.rng.index(downloads), name: sim.rng.index(names) });
        self.spread(takes, |sim| {
            let touch = sim.rng.chance(300);
            Act::Take { download: sim.rng.index(downloads), name: sim.rng.index(names), touch }
        });
        self.spread(crashes, |sim| Act::Crash(sim.rng.index(nodes)));
        let wipes = self.plan.acts.wipes;
        self.spread(wipes, |sim| Act::Wipe(sim.rng.index(nodes)));
        let (prunes, steps, restores) = (self.plan.acts.prunes, self.plan.acts.steps, self.plan.acts.restores);
        for _ in 0..prunes {
            let (when, node) = (self.rng.below(self.plan.faults_ms + 3_600_000), self.rng.index(nodes));
            self.at(when, What::Act(Act::Prune(node)));
        }
        self.spread(steps, |sim| {
            let (node, ahead) = (sim.rng.index(nodes), sim.rng.chance(500));
            Act::Step { node, ahead, by: sim.rng.between(1, 7_200_000) }
        });
        self.spans(restores, |sim| {
            let node = sim.rng.index(nodes);
            (Act::Copy(node), Act::Restore(node))
        });
        self.spread(sessions, |sim| Act::Session(sim.rng.index(nodes)));
        self.spread(rot, |sim| Act::Rot { vanish: sim.rng.chance(300) });
        self.spans(broker, |_| (Act::Broker { down: true }, Act::Broker { down: false }));
        self.spans(ssh, |_| (Act::Ssh { down: true }, Act::Ssh { down: false }));
        self.spans(full, |sim| {
            let node = if sim.rng.chance(500) { 0 } else { 1 + uploads + sim.rng.index(downloads) };
            (Act::Full { node, full: true }, Act::Full { node, full: false })
        });
        self.spans(pauses, |sim| {
            let node = sim.rng.index(nodes);
            let now = sim.rng.chance(500);
            (Act::Pause { node, paused: true, now }, Act::Pause { node, paused: false, now })
        });
        self.spans(group_pauses, |sim| {
            let (one, other, now) = (sim.rng.index(nodes), sim.rng.index(nodes), sim.rng.chance(500));
            (Act::GroupPause { node: one, paused: true, now }, Act::GroupPause { node: other, paused: false, now })
        });
        self.spans(item_pauses, |sim| {
            let (name, now) = (sim.rng.index(names), sim.rng.chance(500));
            let only = if sim.rng.chance(400) { Some(sim.rng.index(nodes)) } else { None };
            (Act::ItemPause { name, only, paused: true, now }, Act::ItemPause { name, only, paused: false, now })
        });
        self.spread(retries, |sim| Act::Retry { name: sim.rng.index(names) });
        let no_directory = self.plan.acts.no_directory;
        self.spans(no_directory, |sim| {
            let (node, crash) = (sim.rng.index(nodes), sim.rng.chance(400));
            let stands = sim.rng.pick(&[Stands::Bare, Stands::Bare, Stands::Nothing]);
            (Act::Ground { node, stands, crash }, Act::Ground { node, stands: Stands::Home, crash: false })
        });
        self.spread(bumps, |sim| Act::Bump { name: sim.rng.index(names) });
        self.spread(withdrawals, |sim| Act::Withdraw { upload: sim.rng.index(uploads), name: sim.rng.index(names) });
        for _ in 0..forgets {
            let (when, download) = (self.some_time(), self.rng.index(downloads));
            let away = self.rng.between(250_000, 900_000);
            self.at(when, What::Act(Act::Leave { download, away }));
            let wait = self.rng.between(170_000, 400_000);
            self.at(when + wait, What::Act(Act::Forget { download }));
        }
    }

    fn some_time(&mut self) -> u64 {
        self.rng.below(self.plan.faults_ms)
    }

    fn spread(&mut self, count: u64, choose: impl Fn(&mut Self) -> Act) {
        for _ in 0..count {
            let (when, act) = (self.some_time(), choose(self));
            self.at(when, What::Act(act));
        }
    }

    fn spans(&mut self, count: u64, choose: impl Fn(&mut Self) -> (Act, Act)) {
        for _ in 0..count {
            let (first, last) = choose(self);
            let (from, to) = (self.some_time(), self.some_time());
            self.at(from.min(to), What::Act(first));
            self.at(from.max(to), What::Act(last));
        }
    }

    pub(crate) fn act(&mut self, act: Act) {
        trace!(self, None, "-- {act:?}");
        match act {
            Act::Write { upload, name } => self.write(upload, name),
            Act::Append { upload, name, left } => self.append(upload, name, left),
            Act::Touch { upload, name } => {
                if self.user_may(upload, name, act).is_some() {
                    self.world.touch(upload, name);
                    self.user_changed(upload, name);
                }
            }
            Act::Ready { upload, name } => self.say_ready(upload, name),
            Act::Remove { upload, name } => {
                if self.user_may(upload, name, act).is_some() {
                    self.world.take_away(upload, name);
                    self.user_changed(upload, name);
                }
            }
            Act::Unfit { .. } if self.calm => {}
            Act::Unfit { upload, name, special } => {
                if self.user_may(upload, name, act).is_some() {
                    let stamp = self.world.touch(upload, name);
                    if let Some(instance) = stamp.and_then(|stamp| self.world.instances.get_mut(&stamp)) {
                        instance.unfit = true;
                    }
                    if let Some(source) = self.world.sources[upload].get_mut(&name) {
                        source.special = special;
                        source.unreadable = !special;
                    }
                    self.user_changed(upload, name);
                }
            }
            Act::Foreign { download, name } => {
                if self.owner_may(download, name, act) {
                    let number = self.world.stamp();
                    let bytes = Bytes::Spoilt(number);
                    let entry = Final { bytes, inode: number, stamp: number, from: None, touched: false };
                    self.world.receivers[download].finals.insert(name, entry);
                }
            }
            Act::Take { download, name, touch } => {
                if self.owner_may(download, name, act) {
                    let stamp = self.world.stamp();
                    let finals = &mut self.world.receivers[download].finals;
                    if !touch {
                        finals.remove(&name);
                    } else if let Some(entry) = finals.get_mut(&name) {
                        entry.stamp = stamp;
                        entry.touched = true;
                    }
                }
            }
            Act::Crash(node) => self.crash(node),
            Act::Wipe(node) => self.wipe(node),
            Act::Copy(node) => self.nodes[node].backup = Some(self.nodes[node].journal.clone()),
            Act::Restore(node) => {
                if let Some(journal) = self.nodes[node].backup.clone() {
                    self.lose_journal(node, journal);
                }
            }
            Act::Prune(node) => {
                let (now, after) = (self.clock(node), Duration::from_millis(self.plan.history_ms));
                let count = self.nodes[node].journal.prune(now, after);
                if count > 0 {
                    self.tally.count(Deed::Pruned);
                }
            }
            // Central's is not set ahead here, because retention would be shorter by as much at its next start.
            Act::Step { node, ahead, by } => {
                self.tally.count(Deed::Stepped);
                self.nodes[node].stepped = Some(self.now);
                let skew = &mut self.plan.skew_ms[node];
                *skew = if ahead && node != 0 { *skew + by } else { skew.saturating_sub(by) };
            }
            Act::Session(node) => self.drop_session(node),
            Act::Broker { down } => self.set_broker(down),
            Act::Ssh { down } => self.world.ssh_down = down,
            Act::Full { node, full } => {
                self.tally.count(Deed::DiskFull);
                let (bytes, inodes) = match self.nodes[node].role {
                    Role::Download(download) => {
                        let receiver = &mut self.world.receivers[download];
                        (&mut receiver.full, &mut receiver.crowded)
                    }
                    Role::Central | Role::Upload(_) => {
                        let spool = &mut self.world.spool;
                        (&mut spool.full, &mut spool.crowded)
                    }
                };
                *(if self.plan.crowds { inodes } else { bytes }) = full;
            }
            Act::Pause { node, paused, now } => {
                if self.set_paused(node, Scope::Node, paused, now) {
                    self.tally.count(Deed::Paused);
                }
            }
            Act::GroupPause { node, paused, now } => {
                if self.set_paused(node, Scope::Group, paused, now) {
                    self.tally.count(Deed::GroupPaused);
                }
            }
            Act::ItemPause { name, only, paused, now } => {
                for node in self.reached(only) {
                    let scope = Scope::Items(vec![self.handle(name)]);
                    if self.set_paused(node, scope, paused, now) {
                        self.tally.count(Deed::ItemPaused);
                    }
                }
            }
            Act::Retry { name } => {
                for node in self.reached(None) {
                    self.insists(node, name);
                    let order = Order::Items(ItemOrder::Retry, vec![self.handle(name)]);
                    if self.order(node, order) {
                        self.tally.count(Deed::Retried);
                    }
                }
            }
            Act::Bump { name } => {
                for node in self.reached(None) {
                    let order = Order::Items(ItemOrder::Bump, vec![self.handle(name)]);
                    if self.order(node, order) {
                        self.tally.count(Deed::Bumped);
                    }
                }
            }
            Act::Withdraw { upload, name } => {
                let order = Order::Items(ItemOrder::Withdraw, vec![self.handle(name)]);
                self.order(1 + upload, order.clone());
                // It is the upload's to do; the others have to leave it alone.
                for node in self.reached(None) {
                    if node == 0 || node > self.plan.uploads {
                        self.order(node, order.clone());
                    }
                }
            }
            Act::Leave { download, away } => {
                let node = 1 + self.plan.uploads + download;
                self.nodes[node].away = self.now + away;
                self.crash(node);
                self.at(away, What::Start(node));
            }
            Act::Forget { download } => {
                let gone = self.nodes[1 + self.plan.uploads + download].node.clone();
                for node in self.reached(None) {
                    self.order(node, Order::Forget(gone.clone()));
                }
            }
            Act::Rot { vanish } => self.rot(vanish),
            Act::Ground { node, stands, crash } => {
                self.set_ground(node, stands);
                if crash && !self.calm {
                    self.crash(node);
                }
            }
        }
    }

    /// What was put aside at an upload is wanted by the operator who has it tried again, whatever has made it.
    pub(crate) fn insists(&mut self, node: usize, name: usize) {
        let Role::Upload(upload) = self.nodes[node].role else { return };
        let machine = self.nodes[node].machine.as_ref();
        let views = machine.map(|machine| machine.snapshot(&Selection::urgent(1000)).transfers).unwrap_or_default();
        let is_aside =
            |cause| matches!(cause, Cause::Disputed | Cause::Leftover | Cause::Unmarked | Cause::Unsubmitted);
        let aside = views.iter().any(|view| view.name == self.world.names[name] && is_aside(view.reason.cause()));
        let stamp = self.world.sources[upload].get(&name).map(|source| source.stamp).filter(|_| aside);
        if let Some(instance) = stamp.and_then(|stamp| self.world.instances.get_mut(&stamp)) {
            instance.leftover = false;
            self.world.count_as_ready(upload, name);
        }
    }

    fn handle(&self, name: usize) -> Handle {
        Handle::Item(self.world.names[name].clone())
    }

    /// The nodes that an operator's order gets to.
    fn reached(&mut self, only: Option<usize>) -> Vec<usize> {
        let up = |node: &usize| self.nodes[*node].machine.is_some() && only.is_none_or(|only| only == *node);
        let up: Vec<usize> = (0..self.nodes.len()).filter(up).collect();
        up.into_iter().filter(|_| only.is_some() || self.rng.chance(900)).collect()
    }

    fn set_paused(&mut self, node: usize, scope: Scope, paused: bool, now: bool) -> bool {
        self.order(node, if paused { Order::Pause { scope, now } } else { Order::Resume { scope } }) && paused
    }

    /// Operators resume whatever is paused, wherever that shows.
    fn resume_all(&mut self) {
        for node in 0..self.nodes.len() {
            let journal = &self.nodes[node].journal;
            let (paused, group) = (journal.paused.is_some(), journal.group.pause.is_some());
            let items: Vec<_> =
                journal.unfinished().filter(|row| row.paused.is_some()).map(|row| row.transfer).collect();
            if paused {
                self.order(node, Order::Resume { scope: Scope::Node });
            }
            if group {
                self.order(node, Order::Resume { scope: Scope::Group });
            }
            if !items.is_empty() {
                let items = items.into_iter().map(Handle::Transfer).collect();
                self.order(node, Order::Resume { scope: Scope::Items(items) });
            }
        }
    }

    fn write(&mut self, upload: usize, name: usize) {
        let act = Act::Write { upload, name };
        if self.is_guarded(1 + upload, name) {
            return self.at(1000, What::Act(act));
        }
        if self.rng.chance(300) {
            let left = self.rng.between(1, 4);
            return self.append(upload, name, left);
        }
        let version = self.new_content();
        self.world.put(upload, name, version, true, false);
        self.user_changed(upload, name);
        self.has_written(upload, name);
    }

    /// A slow writer: each time something more, until it closes the file.
    fn append(&mut self, upload: usize, name: usize, left: u64) {
        let again = |left| What::Act(Act::Append { upload, name, left });
        if self.is_guarded(1 + upload, name) {
            return self.at(1000, again(left));
        }
        let version = self.new_content();
        // Some open the file again for each part, and then only their word tells when it is complete.
        let is_open = left > 1 && (self.plan.says == Says::Nothing || self.rng.chance(500));
        self.world.put(upload, name, version, false, is_open);
        self.user_changed(upload, name);
        if left > 1 {
            let wait = self.rng.between(100, 6000);
            self.at(wait, again(left - 1));
        } else {
            self.has_written(upload, name);
        }
    }

    fn new_content(&mut self) -> u64 {
        if self.world.versions() > 0 && self.rng.chance(100) {
            return self.rng.below(self.world.versions());
        }
        let size = self.rng.between(0, if self.plan.big { 250_000 } else { 5_000 });
        self.world.fresh_version(size)
    }

    fn user_may(&mut self, upload: usize, name: usize, act: Act) -> Option<crate::world::Source> {
        let source = self.world.sources[upload].get(&name).copied()?;
        if self.is_guarded(1 + upload, name) {
            self.at(1000, What::Act(act));
            return None;
        }
        Some(source)
    }

    fn owner_may(&mut self, download: usize, name: usize, act: Act) -> bool {
        let guarded = self.is_guarded(1 + self.plan.uploads + download, name);
        if guarded {
            self.at(1000, What::Act(act));
        }
        !guarded
    }

    /// Between the last look and the end of the script nobody can tell a change from the script's own work:
    /// users keep their hands off, as the manual asks.
    pub(crate) fn is_guarded(&self, node: usize, name: usize) -> bool {
        let item = &self.world.names[name];
        // The look after a script, too, is part of it.
        let cleaning = |op: &Op| match op {
            Op::Cleanup { item: cleaned, .. } | Op::Look { item: cleaned, .. } => cleaned == item,
            Op::CleanupLot(items) => items.iter().any(|cleaned| cleaned.item == *item),
            _ => false,
        };
        let daemon = &self.nodes[node];
        daemon.ops.values().any(cleaning)
            || daemon.looked.get(&name).is_some_and(|until| self.now <= *until)
            || daemon.inbox.iter().any(|(input, _)| matches!(input, Input::Looked { .. } | Input::Cleaned { .. }))
    }

    fn user_changed(&mut self, upload: usize, name: usize) {
        self.changed(1 + upload, name);
    }

    /// The watch hears of a change, unless the hint gets lost.
    pub(crate) fn changed(&mut self, node: usize, name: usize) {
        if self.rng.chance(850) || self.calm {
            let wait = self.rng.wait(50, 3000, 200);
            let epoch = self.nodes[node].epoch;
            self.at(wait, What::Notice { node, epoch, name });
        }
    }

    /// A node loses its journal, and with it what it knew of others' transfers and of its own.
    fn wipe(&mut self, node: usize) {
        let id = JournalId(self.rng.next() as u32);
        self.lose_journal(node, Journal::new(id));
    }

    /// A node crashes, and starts from another journal, which knows less.
    fn lose_journal(&mut self, node: usize, journal: Journal) {
        self.tally.count(Deed::Forgotten);
        self.crash(node);
        self.nodes[node].journal = journal;
        self.restore_submissions(node);
        // Nobody knows any more what this was about: an operator puts it away.
        self.world.hidden.retain(|(place, _)| *place != node);
        self.checker.forgot(node);
        if node == 0 {
            self.checker_restores();
        }
        // A central that knows nothing of a transfer ends it at the downloads too.
        let forgetful = if node == 0 { 0..self.nodes.len() } else { node..node + 1 };
        forgetful.for_each(|node| self.forget_wrong(node));
    }

    fn rot(&mut self, vanish: bool) {
        let count = self.world.spool.held.len();
        let number = self.rng.index(count);
        let Some(transfer) = self.world.spool.held.keys().nth(number).copied() else { return };
        self.checker.rotted(transfer, vanish && self.nodes[0].machine.is_none());
        self.tally.count(Deed::Rotted);
        let stamp = self.world.stamp();
        if vanish {
            self.world.spool.held.remove(&transfer);
        } else if let Some((_, copy)) = self.world.spool.held.get_mut(&transfer) {
            copy.bytes = Bytes::Spoilt(stamp);
        }
    }

    /// Everything that was broken is mended.
    pub(crate) fn end_faults(&mut self) {
        self.set_broker(false);
        self.world.ssh_down = false;
        let away: Vec<usize> = (0..self.nodes.len()).filter(|node| !self.is_home(*node)).collect();
        away.into_iter().for_each(|node| self.set_ground(node, Stands::Home));
        self.world.spool.full = false;
        self.world.spool.crowded = false;
        for receiver in &mut self.world.receivers {
            (receiver.full, receiver.crowded) = (false, false);
        }
        for node in 0..self.nodes.len() {
            let wait = self.rng.between(1, 60_000);
            self.at(wait, What::Start(node));
        }
        for upload in 0..self.plan.uploads {
            for name in 0..self.plan.names {
                let Some(source) = self.world.sources[upload].get(&name).copied() else { continue };
                if source.special {
                    self.world.take_away(upload, name);
                    self.user_changed(upload, name);
                } else if source.unreadable {
                    self.world.touch(upload, name);
                    if let Some(source) = self.world.sources[upload].get_mut(&name) {
                        source.unreadable = false;
                    }
                    self.user_changed(upload, name);
                }
            }
        }
    }

    /// Owners take away what is through and what stands in the way; users what is disputed.
    pub(crate) fn tidy(&mut self) {
        self.at(60_000, What::Tidy);
        self.resume_all();
        self.mend();
        self.say_all();
        for download in 0..self.plan.downloads {
            let node = 1 + self.plan.uploads + download;
            for name in 0..self.world.names.len() {
                let Some(entry) = self.world.receivers[download].finals.get(&name) else { continue };
                let rows = &self.nodes[node].journal.rows;
                let row = entry.from.and_then(|transfer| rows.get(&transfer));
                // Its name or its room is wanted, by what a lost journal has forgotten.
                let blocks = row.and_then(|row| row.reason.as_ref()).map(|why| why.cause());
                let blocks = matches!(blocks, Some(Cause::NameTaken | Cause::Space));
                if (blocks || row.is_none_or(|row| row.finished.is_some())) && !self.is_guarded(node, name) {
                    self.world.receivers[download].finals.remove(&name);
                }
            }
        }
        for upload in 0..self.plan.uploads {
            let node = 1 + upload;
            let Some(machine) = &self.nodes[node].machine else { continue };
            let views = machine.snapshot(&Selection::urgent(1000)).transfers;
            let asides = views.iter().filter(|view| matches!(view.reason.cause(), Cause::Disputed | Cause::Leftover));
            for view in asides.collect::<Vec<_>>() {
                let name = self.world.name_index(&view.name);
                // What a user has written is sent, and the rest is taken away.
                let stamp = self.world.sources[upload].get(&name).map(|source| source.stamp);
                let instance = stamp.and_then(|stamp| self.world.instances.get(&stamp));
                if instance.is_some_and(|instance| instance.leftover) {
                    if !self.is_guarded(node, name) {
                        trace!(self, Some(node), "-- its user takes {:?} away", view.name);
                        self.world.take_away(upload, name);
                        self.user_changed(upload, name);
                    }
                } else {
                    self.tally.count(Deed::Insisted);
                    self.order(node, Order::Items(ItemOrder::Retry, vec![Handle::Item(view.name.clone())]));
                }
            }
        }
    }
}
