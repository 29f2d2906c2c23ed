//! The Promise, checked after every step against what really stands in the world.

use std::collections::{BTreeMap, BTreeSet};

use synkler::machine::{
    Address, Cause, Digest, ItemName, Machine, Message, Node, NodeName, PlaceId, Record, Row, Run, Selection,
    TransferId,
};

use crate::daemon::{Daemon, Role};
use crate::drivers::Op;
use crate::journal::Journal;
use crate::readiness::Says;
use crate::sim::Sim;
use crate::tally::Deed;
use crate::trace::{Trace, row as show_row};
use crate::world::{Bytes, Final, Instance, Source, Stamp, Version, World, stamp_of};

/// What can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    /// A source is cleaned up only when every required receiver holds exactly its bytes.
    Source,
    /// A final name only ever shows all of what a user wrote.
    FinalName,
    /// Nothing that synkler has not put there itself, and nothing newer, is overwritten.
    Overwritten,
    /// Central keeps what a required receiver lacks, and for keep_minutes after that.
    Copy,
    /// Everything is delivered once.
    Twice,
    /// What a cleanup script has left or made is not sent.
    Leftover,
    /// What waits for its user to say that it is complete is not sent before that.
    Early,
    /// What a message says is true when it is sent, and journalled before.
    Truth,
    /// What a cleanup script failed with does not count as cleaned up.
    Cleaned,
    /// While an order holds a node or a transfer, nothing new starts.
    Paused,
    /// Content that could be delivered was not.
    Lost,
    /// What came out equally wrong twice, or cannot be held, is not fetched again within the hour.
    Wasted,
    /// Nothing is asked for without inodes for it, and what there was no room for keeps none.
    Room,
    /// Modes are as announced, or it is told that they are not.
    Modes,
    /// Extras are those announced, or it is told that they are not; no run links different items.
    Extras,
    /// Nothing is done, confirmed or taken for gone while another directory is where the node's should be.
    Directory,
    /// The contract of inputs and effects.
    Protocol,
    /// Every unfinished transfer is shown, and has a next moment.
    Silent,
    /// No note of level error.
    ErrorLog,
    /// Everything ends in time once the faults have stopped.
    Liveness,
    /// Nobody works or talks for ever.
    Restless,
}

/// A broken promise.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) promise: Promise,
    pub(crate) node: String,
    pub(crate) text: String,
    pub(crate) at: u64,
}

/// What really became of a transfer.
pub(crate) struct Fate {
    pub(crate) upload: usize,
    pub(crate) name: usize,
    /// The state of its source that it carries; the last one counts, those before it were touched only.
    pub(crate) stamps: Vec<Stamp>,
    pub(crate) version: Version,
    /// The downloads that must have it, once central has decided.
    pub(crate) required: Option<Vec<usize>>,
    /// When it was placed at each download.
    pub(crate) placed: BTreeMap<usize, u64>,
    /// Central has said that it holds it.
    pub(crate) received: bool,
    /// Central has lawfully said that its source may go.
    released: bool,
    /// Its copy on central was spoilt from outside.
    rotted: bool,
    /// The same while central was down: its next start misses it.
    missed: bool,
    withdrawn: bool,
    /// Central holds it for nobody any more: its copy may go.
    given_up: bool,
    /// An operator has given it up.
    cancelled: bool,
    /// Where a cleanup script has been started for it: after that, nobody can tell what the script itself
    /// has changed.
    scripted: BTreeSet<usize>,
}

impl Fate {
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamps.last().copied().unwrap_or_default()
    }

    fn is_delivered(&self) -> bool {
        let everywhere = |required: &Vec<usize>| required.iter().all(|download| self.placed.contains_key(download));
        self.released || self.required.as_ref().is_some_and(everywhere)
    }

    /// Nothing more has to come of it.
    fn is_settled(&self) -> bool {
        self.cancelled || self.is_delivered()
    }
}

/// What has happened so far.
#[derive(Default)]
pub(crate) struct Checker {
    pub(crate) fates: BTreeMap<TransferId, Fate>,
    /// Which writing of which user has been placed where.
    delivered: BTreeSet<(usize, u64)>,
    /// What could not be removed though it is over is swept at the next start.
    pub(crate) unswept: BTreeSet<TransferId>,
    /// Nodes that have lost their journal.
    forgetful: BTreeSet<usize>,
    /// Central knows what it held once, and not what has become of it.
    central_restored: bool,
    /// Downloads that an operator has had forgotten.
    forgotten: BTreeSet<usize>,
    looked: u32,
    /// Equally wrong copies in a row, by receiver and transfer: what they were, and when each came.
    pub(crate) wrong: BTreeMap<(usize, TransferId), (Digest, Vec<u64>)>,
    /// What central has put back in this drain: where it was sent, and its name.
    pub(crate) put_back: Vec<(PlaceId, usize)>,
    /// When a receiver has fetched what its file system cannot hold.
    pub(crate) refused: BTreeMap<(usize, TransferId), Vec<u64>>,
    /// Where the last copy of a transfer had not got its modes.
    pub(crate) unkept: BTreeSet<(usize, TransferId)>,
}

impl Checker {
    /// A node has died: whether a script that was to start has started, nobody knows.
    pub(crate) fn died(&mut self, node: usize, journal: &Journal) {
        self.put_back.clear();
        for row in journal.unfinished().filter(|row| row.cleaned) {
            if let Some(fate) = self.fates.get_mut(&row.transfer) {
                fate.scripted.insert(node);
            }
        }
    }

    /// A node has lost its journal: what it had promised to remember may happen again.
    pub(crate) fn forgot(&mut self, node: usize) {
        self.forgetful.insert(node);
        if node == 0 {
            for fate in self.fates.values_mut() {
                fate.required = None;
                fate.received = false;
            }
        }
    }

    pub(crate) fn rotted(&mut self, transfer: TransferId, missed: bool) {
        if let Some(fate) = self.fates.get_mut(&transfer) {
            fate.rotted = true;
            fate.missed |= missed;
        }
    }
}

/// What is not over yet.
pub(crate) enum Left {
    Down,
    Work,
    Letters,
    Row(TransferId),
    Copy(TransferId),
    Place(PlaceId),
    Source(usize),
}

impl Sim {
    /// Records the first broken promise.
    pub(crate) fn violate(&mut self, promise: Promise, node: usize, text: impl FnOnce() -> String) {
        if self.violation.is_some() {
            return;
        }
        let text = self.trace.get_or_insert_with(Trace::default).shortened(&text());
        self.log(Some(node), &format!("## broken promise {promise:?}: {text}"));
        self.violation = Some(Violation { promise, node: self.nodes[node].label.clone(), text, at: self.now });
    }

    fn download_number(&self, name: &NodeName) -> Option<usize> {
        (0..self.plan.downloads).find(|number| self.nodes[1 + self.plan.uploads + number].node.name == *name)
    }

    /// A record is about to be committed.
    pub(crate) fn check_record(&mut self, node: usize, record: &Record) {
        self.check_uncleaned(node, record);
        self.mark_submission(node, record);
        let row = match record {
            Record::Transfer(row) => row,
            Record::Kept(_) => return self.tally.count(Deed::Kept),
            _ => return,
        };
        // What was given up may come back by way of another central; what was handed over may not.
        let revived = |old: &Row| old.stage == "closed" && row.stage != "closed";
        if self.nodes[node].journal.rows.get(&row.transfer).is_some_and(revived) {
            return self.violate(Promise::Truth, node, || format!("finished, and begun again: {}", show_row(row)));
        }
        match self.nodes[node].role {
            Role::Upload(upload) => {
                self.check_upload_row(node, upload, row);
                self.check_vanished(node, upload, row);
                let ordered = row.reason.as_ref().is_some_and(|reason| reason.cause() == Cause::Withdrawn);
                if let Some(fate) = self.checker.fates.get_mut(&row.transfer).filter(|_| ordered) {
                    fate.withdrawn = true;
                    if !std::mem::replace(&mut fate.cancelled, true) {
                        self.tally.count(Deed::Cancelled);
                    }
                }
            }
            Role::Central => {
                let before = self.nodes[node].journal.rows.get(&row.transfer);
                if row.stage == "granted" && before.is_some_and(|before| before.stage == "waiting") {
                    self.check_started(node, row, "central asks for something");
                }
                self.check_central_row(node, row);
                self.check_given_up(node, row);
                self.mark_put_back(node, row);
            }
            Role::Download(_) => {
                // What central has forgotten meanwhile, and offers anew, begins anew.
                if row.finished.is_some() {
                    self.checker.wrong.remove(&(node, row.transfer));
                }
                if !self.checker.fates.contains_key(&row.transfer) {
                    self.violate(Promise::Truth, node, || format!("from nowhere: {}", show_row(row)));
                }
            }
        }
    }

    fn check_upload_row(&mut self, node: usize, upload: usize, row: &Row) {
        let stamp = row.signature.map(stamp_of);
        if self.checker.fates.get(&row.transfer).is_some_and(|fate| Some(fate.stamp()) == stamp) {
            return;
        }
        let instance = stamp.and_then(|stamp| self.world.instances.get(&stamp)).copied();
        let name = self.world.name_index(&row.name);
        let same = instance.filter(|instance| instance.upload == upload && instance.name == name);
        let (Some(stamp), Some(instance)) = (stamp, same) else {
            return self.violate(Promise::Truth, node, || format!("never stood there: {}", show_row(row)));
        };
        let is_new = !self.checker.fates.contains_key(&row.transfer);
        if instance.leftover && is_new && !self.checker.forgetful.contains(&node) {
            // Where the clock was set between its birth and its digest, or the daemon has taken over a clock that was
            // set, its age tells nothing: it is sent, once.
            let Daemon { stepped, started, .. } = self.nodes[node];
            if stepped <= Some(instance.since) && (stepped.is_none() || started <= instance.since) {
                let show = || format!("left by a cleanup, and sent: {}", show_row(row));
                return self.violate(Promise::Leftover, node, show);
            }
            self.world.instances.insert(stamp, Instance { leftover: false, ..instance });
        }
        if is_new && self.plan.says != Says::Nothing && !self.world.ready.contains(&(upload, instance.version)) {
            let show = || format!("nobody has said that it is complete: {}", show_row(row));
            return self.violate(Promise::Early, node, show);
        }
        let proof = self.world.fingerprint(Bytes::Whole(instance.version), None);
        if proof != row.fingerprint || World::kind(instance.version) != row.kind {
            return self.violate(Promise::Truth, node, || format!("not what was hashed: {}", show_row(row)));
        }
        let fate = self.checker.fates.entry(row.transfer).or_insert_with(|| Fate {
            upload,
            name,
            stamps: Vec::new(),
            version: instance.version,
            required: None,
            placed: BTreeMap::new(),
            received: false,
            released: false,
            rotted: false,
            missed: false,
            withdrawn: false,
            given_up: false,
            cancelled: false,
            scripted: BTreeSet::new(),
        });
        fate.stamps.push(stamp);
    }

    fn check_central_row(&mut self, node: usize, row: &Row) {
        let Some(fate) = self.checker.fates.get(&row.transfer) else {
            return self.violate(Promise::Truth, node, || format!("said before it was journalled: {}", show_row(row)));
        };
        if row.receivers.is_empty() {
            // All that had to have it are forgotten: it waits for others.
            let gone = |required: &Vec<usize>| required.iter().all(|number| self.checker.forgotten.contains(number));
            if fate.required.as_ref().is_some_and(gone)
                && let Some(fate) = self.checker.fates.get_mut(&row.transfer)
            {
                fate.required = None;
            }
            return;
        }
        let numbers: Option<Vec<usize>> = row.receivers.iter().map(|(name, _)| self.download_number(name)).collect();
        let Some(mut numbers) = numbers else {
            return self.violate(Promise::Truth, node, || format!("a receiver that is none: {}", show_row(row)));
        };
        numbers.sort_unstable();
        let early = row.receivers.iter().find(|(name, when)| {
            when.is_some() && !self.download_number(name).is_some_and(|number| fate.placed.contains_key(&number))
        });
        if early.is_some() {
            return self.violate(Promise::Truth, node, || format!("a receipt from nowhere: {}", show_row(row)));
        }
        let forgotten = |number: &usize| self.checker.forgotten.contains(number);
        let fewer = |required: &Vec<usize>| {
            numbers.iter().all(|number| required.contains(number))
                && required.iter().all(|number| numbers.contains(number) || forgotten(number))
        };
        // Where nobody was left, others take their place.
        let replaced = |required: &Vec<usize>| required.iter().all(forgotten);
        match &fate.required {
            Some(required) if fewer(required) || replaced(required) => {
                if let Some(fate) = self.checker.fates.get_mut(&row.transfer) {
                    fate.required = Some(numbers);
                }
            }
            // What is over is offered anew by an upload whose journal is an older copy.
            Some(required) if *required != numbers && self.checker.forgetful.contains(&(1 + fate.upload)) => {
                if let Some(fate) = self.checker.fates.get_mut(&row.transfer) {
                    fate.required = Some(numbers);
                }
            }
            Some(required) if *required != numbers => {
                self.violate(Promise::Truth, node, || format!("other receivers than before: {}", show_row(row)));
            }
            Some(_) => {}
            None => {
                let known = &self.nodes[node].journal.nodes;
                let is_known = |number: &usize| known.contains_key(&self.nodes[1 + self.plan.uploads + number].node);
                let mut all = (0..self.plan.downloads).filter(|number| self.plan.receivers || is_known(number));
                if all.any(|number| !numbers.contains(&number) && !forgotten(&number)) {
                    return self.violate(Promise::Truth, node, || format!("receivers left out: {}", show_row(row)));
                }
                if let Some(fate) = self.checker.fates.get_mut(&row.transfer) {
                    fate.required = Some(numbers);
                }
            }
        }
    }

    /// Central gives up what it holds for nobody: all that had to have it are forgotten, and it is asked for anew.
    fn check_given_up(&mut self, node: usize, row: &Row) {
        let before = self.nodes[node].journal.rows.get(&row.transfer);
        let held = before.is_some_and(|before| matches!(&*before.stage, "held" | "granted"));
        let nobody = row.reason.as_ref().is_some_and(|reason| reason.cause() == Cause::Receivers);
        if row.stage != "waiting" || !held || !nobody {
            return;
        }
        let forgotten = &self.checker.forgotten;
        let Some(fate) = self.checker.fates.get_mut(&row.transfer) else { return };
        self.tally.count(Deed::HeldForNobody);
        let lawful = fate.required.as_ref().is_none_or(|all| all.iter().all(|number| forgotten.contains(number)));
        fate.required = None;
        fate.received = false;
        fate.given_up = true;
        if !lawful {
            self.violate(Promise::Copy, node, || format!("given up though somebody lacks it: {}", show_row(row)));
        }
    }

    /// Something is about to be said.
    pub(crate) fn check_sent(&mut self, node: usize, to: &Address, message: &Message) {
        self.mark_lack(message);
        self.check_apart(node, to, message);
        match message {
            Message::Received(ids) => ids.iter().for_each(|id| self.check_received(node, *id)),
            Message::Release(list) => list.iter().for_each(|release| self.check_release(node, release.transfer)),
            Message::Freed(ids) => ids.iter().for_each(|id| self.check_release(node, *id)),
            Message::Download { items, .. } => {
                for item in items {
                    self.check_held(node, item.offer.transfer, "central offers something");
                    self.check_offered(node, to, item.offer.transfer);
                }
            }
            Message::Withdraw(ids) if node != 0 => ids.iter().for_each(|id| self.mark_withdrawn(node, *id)),
            Message::Done(list) => {
                for receipt in list {
                    let Role::Download(number) = self.nodes[node].role else { continue };
                    if receipt.remark.is_none() && self.checker.unkept.contains(&(node, receipt.transfer)) {
                        let id = receipt.transfer;
                        self.violate(Promise::Modes, node, || format!("done is said of {id} as if it had its modes"));
                    }
                    let fate = self.checker.fates.get(&receipt.transfer);
                    if !fate.is_some_and(|fate| fate.placed.contains_key(&number)) {
                        let id = receipt.transfer;
                        self.violate(Promise::Truth, node, || format!("done is said, and {id} was never placed"));
                    }
                }
            }
            Message::Unknown(ids) => {
                // An offer may come in together with an older word about it, so only what is held counts.
                let rows = &self.nodes[node].journal.rows;
                let known =
                    |id: &&TransferId| rows.get(id).is_some_and(|row| matches!(&*row.stage, "held" | "released"));
                if let Some(id) = ids.iter().find(known) {
                    self.violate(Promise::Truth, node, || format!("unknown is said of {id}, which is in the journal"));
                }
            }
            _ => {}
        }
    }

    /// Only who is required is offered anything, and never what is older than what it has had of that name.
    fn check_offered(&mut self, node: usize, to: &Address, id: TransferId) {
        let Address::Node(to) = to else { return };
        let (Some(number), Some(fate)) = (self.download_number(&to.name), self.checker.fates.get(&id)) else { return };
        let later =
            |other: &&Fate| other.upload == fate.upload && other.name == fate.name && other.stamp() > fate.stamp();
        let had = |other: &Fate| other.placed.contains_key(&number);
        let has_later = self.checker.fates.values().filter(later).any(had) && !fate.placed.contains_key(&number);
        let required = fate.required.as_ref().is_some_and(|required| required.contains(&number));
        // A download knows better than a central or an upload whose journal is an older copy.
        let forgetful = [1 + fate.upload, 1 + self.plan.uploads + number];
        let forgetful = forgetful.iter().any(|node| self.checker.forgetful.contains(node));
        if has_later && !forgetful && !self.checker.central_restored {
            self.violate(Promise::Overwritten, node, || {
                format!("{id} is offered to {to}, which has had a later content")
            });
        } else if !required {
            self.violate(Promise::Truth, node, || {
                format!("{id} is offered to {to}, which does not have to receive it")
            });
        }
    }

    fn check_received(&mut self, node: usize, id: TransferId) {
        let Some(fate) = self.checker.fates.get_mut(&id) else { return };
        let held = self.world.spool.held.get(&id).map(|(_, copy)| copy.bytes);
        let proven = held == Some(Bytes::Whole(fate.version));
        fate.given_up = false;
        // A copy that rots is found when it is read next, but one that is not there at the start is missed then.
        let first = !std::mem::replace(&mut fate.received, true);
        fate.missed &= held.is_none();
        if fate.missed || (held.is_none() || first && !proven) && !fate.rotted {
            self.violate(Promise::Truth, node, || format!("received is said of {id}, and it is {held:?}"));
        }
    }

    fn check_release(&mut self, node: usize, id: TransferId) {
        if let Some(fate) = self.checker.fates.get_mut(&id).filter(|fate| fate.is_delivered()) {
            fate.released = true;
        } else {
            self.violate(Promise::Truth, node, || format!("{id} is released before it is delivered"));
        }
    }

    /// Upload may give up what central has, when an old word has misled it; central knows better.
    fn mark_withdrawn(&mut self, node: usize, id: TransferId) {
        let forgot = self.checker.forgetful.contains(&node);
        let Some(fate) = self.checker.fates.get_mut(&id) else { return };
        if !fate.is_delivered() && (!fate.received || fate.rotted || forgot) {
            fate.withdrawn = true;
            self.tally.count(Deed::Withdrawn);
        }
    }

    /// A cleanup script begins, or does its work.
    pub(crate) fn check_cleanup(&mut self, node: usize, id: TransferId, item: &ItemName) {
        let name = self.world.name_index(item);
        let Some(fate) = self.checker.fates.get(&id) else {
            return self.violate(Promise::Source, node, || format!("a cleanup for {id}, which nobody knows"));
        };
        match self.nodes[node].role {
            Role::Upload(upload) => {
                let Some(source) = self.world.sources[upload].get(&name) else { return };
                if source.stamp != fate.stamp() {
                    self.violate(Promise::Source, node, || format!("a cleanup for {id} of something newer"));
                } else if !fate.is_delivered() {
                    self.violate(Promise::Source, node, || format!("a cleanup for {id} before it is delivered"));
                } else if fate.cancelled && !self.checker.forgetful.contains(&node) {
                    self.violate(Promise::Source, node, || format!("a cleanup for {id}, which was given up"));
                }
            }
            Role::Download(download) => {
                let Some(entry) = self.world.receivers[download].finals.get(&name) else { return };
                let (ours, whole) = (entry.from == Some(id), entry.bytes == Bytes::Whole(fate.version));
                if ours && !whole {
                    self.violate(Promise::FinalName, node, || format!("a cleanup for {id}, which is not whole"));
                } else if !ours && !fate.scripted.contains(&node) {
                    self.violate(Promise::Overwritten, node, || format!("a cleanup for {id} of something else"));
                }
            }
            Role::Central => self.violate(Promise::Protocol, node, || "a cleanup on central".to_owned()),
        }
        if let Some(fate) = self.checker.fates.get_mut(&id) {
            fate.scripted.insert(node);
        }
    }

    /// Something takes the place of what stands under a final name.
    pub(crate) fn check_replaced(&mut self, node: usize, id: TransferId, old: Final) {
        let fates = &self.checker.fates;
        let before = old.from.and_then(|old| fates.get(&old));
        let lawful = match (before, fates.get(&id)) {
            (Some(before), Some(new)) => before.upload == new.upload && before.stamp() <= new.stamp() && !old.touched,
            _ => false,
        };
        // A receiver that has lost its journal does not know what came first; nor does one that was forgotten, where
        // old offers overtake new ones.
        let number = node.checked_sub(1 + self.plan.uploads);
        let forgotten = number.is_some_and(|number| self.checker.forgotten.contains(&number));
        // An upload whose journal is an older copy takes the same content, written anew, for what it knows.
        let upload = self.checker.fates.get(&id).map(|fate| 1 + fate.upload);
        let forgetful = [Some(node), upload].into_iter().flatten().any(|node| self.checker.forgetful.contains(&node));
        if !lawful && (old.touched || !(forgotten || forgetful)) {
            self.violate(Promise::Overwritten, node, || format!("{id} takes the place of {old:?}"));
        }
    }

    /// Something stands under its final name.
    pub(crate) fn check_placed(&mut self, node: usize, download: usize, id: TransferId, name: usize, bytes: Bytes) {
        let now = self.now;
        let Some(fate) = self.checker.fates.get_mut(&id) else {
            return self.violate(Promise::FinalName, node, || format!("{id} is placed, and nobody knows it"));
        };
        if bytes != Bytes::Whole(fate.version) || fate.name != name {
            return self.violate(Promise::FinalName, node, || format!("{id} shows {bytes:?}"));
        }
        let first = !fate.placed.contains_key(&download);
        fate.placed.entry(download).or_insert(now);
        let instances = &self.world.instances;
        let writings = fate.stamps.iter().filter_map(|stamp| Some((download, instances.get(stamp)?.writing)));
        let writings: Vec<_> = writings.collect();
        let again = writings.iter().any(|writing| self.checker.delivered.contains(writing));
        self.checker.delivered.extend(writings);
        // A receiver or a source that has lost its journal may have it delivered again.
        let upload = 1 + fate.upload;
        // So does a central that does not know what it has received, when the source cannot be read just then.
        let excused = self.checker.forgetful.contains(&node)
            || first && (self.checker.forgetful.contains(&upload) || self.checker.central_restored);
        if (again || !first) && !excused {
            self.violate(Promise::Twice, node, || format!("{id} is delivered again"));
        }
    }

    /// Central's copy is removed.
    pub(crate) fn check_drop(&mut self, node: usize, id: TransferId) {
        let Some(fate) = self.checker.fates.get(&id) else { return };
        let held = self.world.spool.held.get(&id).map(|(_, copy)| copy.bytes);
        // What central has not proven, or has refused, is no copy yet.
        let row = self.nodes[node].journal.rows.get(&id);
        let unproven = !fate.received && row.is_some_and(|row| matches!(&*row.stage, "waiting" | "granted"));
        let lawful = fate.withdrawn || fate.given_up || unproven;
        if held != Some(Bytes::Whole(fate.version)) || lawful || self.checker.forgetful.contains(&node) {
            return;
        }
        // Who was forgotten and comes back counts no more.
        let required = fate.required.iter().flatten();
        let last = required.filter_map(|number| fate.placed.get(number)).max().copied().unwrap_or_default();
        if !fate.is_delivered() {
            self.violate(Promise::Copy, node, || format!("the copy of {id} is dropped before it is delivered"));
        } else if self.now < last + self.plan.keep_ms {
            self.violate(Promise::Copy, node, || format!("the copy of {id} is dropped before keep_minutes are over"));
        }
    }

    /// After each drain: what is unfinished has a next moment, and is shown.
    pub(crate) fn check_machine(&mut self, node: usize) {
        let daemon = &self.nodes[node];
        let Some(machine) = &daemon.machine else { return };
        // What waits for the broker or for a driver is called by them.
        let called = !daemon.connected || !daemon.ops.is_empty() || !daemon.inbox.is_empty();
        if !called && machine.poll_timeout().is_none() && daemon.journal.unfinished().next().is_some() {
            return self.violate(Promise::Silent, node, || "unfinished transfers, and no deadline".to_owned());
        }
        self.checker.looked += 1;
        if !self.checker.looked.is_multiple_of(16) {
            return;
        }
        let snapshot = machine.snapshot(&Selection { all: true, ..Selection::urgent(1000) });
        let shown: BTreeSet<TransferId> = snapshot.transfers.iter().filter_map(|view| view.transfer).collect();
        let missing = daemon.journal.unfinished().find(|row| !shown.contains(&row.transfer)).map(|row| row.transfer);
        if let Some(id) = missing {
            return self.violate(Promise::Silent, node, || format!("{id} is unfinished, and not shown"));
        }
        if self.checker.looked.is_multiple_of(64) {
            self.check_view();
        }
    }

    /// In words.
    pub(crate) fn show_left(&self, node: usize, left: &Left) -> String {
        match left {
            Left::Down => "is down".to_owned(),
            Left::Work => "is still at work".to_owned(),
            Left::Letters => "letters are on their way".to_owned(),
            Left::Row(id) => self.nodes[node].journal.rows.get(id).map(show_row).unwrap_or_default(),
            Left::Copy(id) => format!("{id} still lies there"),
            Left::Place(place) => format!("something still lies at place {place}"),
            Left::Source(name) => format!("{:?} is not delivered", self.world.names[*name]),
        }
    }

    /// The first thing that is not over yet, and where.
    pub(crate) fn left(&self) -> Option<(usize, Left)> {
        for (node, daemon) in self.nodes.iter().enumerate() {
            if daemon.machine.is_none() || !daemon.connected {
                return Some((node, Left::Down));
            }
            if let Some(row) = daemon.journal.unfinished().next() {
                return Some((node, Left::Row(row.transfer)));
            }
            if !daemon.ops.is_empty() || !daemon.inbox.is_empty() {
                return Some((node, Left::Work));
            }
            if let Role::Upload(upload) = daemon.role
                && !self.has_looked(upload, daemon)
            {
                return Some((node, Left::Work));
            }
            let copy = match daemon.role {
                Role::Central => {
                    let held = self.world.spool.held.keys();
                    held.into_iter().find(|id| !self.checker.unswept.contains(id))
                }
                Role::Download(download) => {
                    let staged = self.world.receivers[download].staging.keys();
                    staged.into_iter().find(|id| !self.checker.unswept.contains(id))
                }
                Role::Upload(_) => None,
            };
            let hidden = self.world.hidden.iter().find(|(place, _)| *place == node).map(|(_, id)| id);
            if let Some(id) = copy.or(hidden) {
                return Some((node, Left::Copy(*id)));
            }
            if node == 0
                && let Some(((place, _), _)) = self.world.spool.incoming.first_key_value()
            {
                return Some((node, Left::Place(*place)));
            }
        }
        if self.broker.is_busy() {
            return Some((0, Left::Letters));
        }
        for (upload, sources) in self.world.sources.iter().enumerate() {
            for (name, source) in sources {
                let leftover = self.world.instances.get(&source.stamp).is_some_and(|instance| instance.leftover);
                if !leftover && !self.is_instance_delivered(source.stamp) {
                    return Some((1 + upload, Left::Source(*name)));
                }
            }
        }
        None
    }

    /// Whether an upload knows all that stands there, and has made a transfer of all that is one: what it has not
    /// looked at yet, what is settling, and what is put aside until its user decides may still become one.
    fn has_looked(&self, upload: usize, daemon: &Daemon) -> bool {
        let sources = &self.world.sources[upload];
        let current = |(name, _): (&usize, &Source)| daemon.seen.get(name).copied() == self.sight_of(upload, *name);
        let settled = |machine: &Machine| {
            let counts = machine.snapshot(&Selection::default()).counts;
            !counts.iter().any(|(stage, count)| *count > 0 && matches!(*stage, "settling" | "hashing" | "blocked"))
        };
        daemon.scanned && sources.iter().all(current) && daemon.machine.as_ref().is_some_and(settled)
    }

    /// Delivered as it is, or touched since, and its upload knows that it holds what was delivered.
    pub(crate) fn is_instance_delivered(&self, stamp: Stamp) -> bool {
        let Some(instance) = self.world.instances.get(&stamp) else { return false };
        let kept = self.nodes[1 + instance.upload].journal.kept.get(&self.world.names[instance.name]);
        let is_kept = kept.is_some_and(|kept| stamp_of(kept.signature) == stamp);
        // Who writes just what a cleanup has left there writes nothing new.
        let is_left = |other: &Instance| {
            let same = other.upload == instance.upload && other.name == instance.name;
            other.leftover && same && other.version == instance.version
        };
        if is_kept && self.world.instances.values().any(is_left) {
            return true;
        }
        let carries = |fate: &Fate| {
            let same = fate.upload == instance.upload && fate.name == instance.name && fate.version == instance.version;
            fate.stamps.contains(&stamp) || is_kept && same
        };
        self.checker.fates.values().any(|fate| carries(fate) && fate.is_settled())
    }

    /// A run is about to start.
    pub(crate) fn check_run(&mut self, node: usize, run: &Run) {
        self.check_fetch(node, run);
        self.check_extras_of_run(node, run);
        for (transfer, _) in &run.batch {
            self.check_held(node, *transfer, "a run starts");
        }
    }

    /// Something is about to start for a transfer: no order may hold it, nor the whole node. An order that came
    /// in the same drain may find it on its way.
    pub(crate) fn check_held(&mut self, node: usize, transfer: TransferId, what: &str) {
        if let Some(row) = self.nodes[node].journal.rows.get(&transfer).cloned() {
            self.check_started(node, &row, what);
        }
    }

    fn check_started(&mut self, node: usize, row: &Row, what: &str) {
        let daemon = &self.nodes[node];
        let orders = daemon.journal.orders();
        let throughout = orders.iter().zip(&daemon.was_held).any(|(now, before)| now.is_some() && now == before);
        if row.paused.is_some() || throughout {
            self.violate(Promise::Paused, node, || format!("{what} though it is paused: {}", row.transfer));
        }
    }

    /// An order to stop what runs has been carried out.
    pub(crate) fn check_stopped(&mut self, node: usize) {
        let runs = self.nodes[node].ops.values();
        let going = runs.filter(|op| matches!(op, Op::Run(running) if !running.halted)).count();
        if going > 0 {
            self.violate(Promise::Paused, node, || format!("{going} runs go on though they were to be stopped"));
        } else if self.nodes[node].ops.values().any(|op| matches!(op, Op::Run(_))) {
            self.tally.count(Deed::Stopped);
        }
    }

    /// Central knows what an older copy of its journal says: who has to receive what it held then.
    pub(crate) fn checker_restores(&mut self) {
        self.checker.central_restored |= !self.nodes[0].journal.rows.is_empty();
        let rows: Vec<Row> =
            self.nodes[0].journal.unfinished().filter(|row| !row.receivers.is_empty()).cloned().collect();
        for row in rows {
            let numbers: Option<Vec<usize>> =
                row.receivers.iter().map(|(name, _)| self.download_number(name)).collect();
            if let Some(fate) = self.checker.fates.get_mut(&row.transfer) {
                fate.required = numbers;
            }
        }
    }

    /// An operator has had a node forgotten.
    pub(crate) fn checker_forgets(&mut self, gone: &Node) {
        if let Some(number) = self.download_number(&gone.name) {
            self.checker.forgotten.insert(number);
        }
    }

    /// Long after everything is over: all know of the same order about the group.
    pub(crate) fn check_group(&mut self) {
        let told = &self.nodes[0].journal.group;
        if let Some(node) = (0..self.nodes.len()).find(|node| self.nodes[*node].journal.group != *told) {
            self.violate(Promise::Paused, node, || "it knows of another order about the group".to_owned());
        }
    }

    /// Everything is over: whatever central once held has arrived, unless it was spoilt from outside and its
    /// user had taken the source away.
    pub(crate) fn check_end(&mut self) {
        let fates = self.checker.fates.iter();
        let owed = |fate: &Fate| fate.received && !fate.rotted && !fate.withdrawn;
        let lost = fates.filter(|(_, fate)| owed(fate) && !fate.is_delivered()).map(|(id, _)| *id);
        if let Some(id) = lost.collect::<Vec<_>>().first() {
            self.violate(Promise::Lost, 0, || format!("central held {id}, and it was not delivered"));
        }
        let stamps: Vec<(Stamp, usize)> = self
            .world
            .instances
            .iter()
            .filter(|(_, instance)| !instance.gone && !instance.unfit && !instance.leftover)
            .map(|(stamp, instance)| (*stamp, instance.upload))
            .collect();
        for (stamp, upload) in stamps {
            if !self.is_instance_delivered(stamp) {
                self.violate(Promise::Lost, 1 + upload, || format!("what stood there as {stamp} was not delivered"));
            }
        }
    }
}
