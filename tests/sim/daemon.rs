//! One node as its daemon runs it: inputs in, effects out, the journal in between, and a crash at any moment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use synkler::machine::{
    BadRow, CentralSettings, Cleaner, Directory, DownloadSettings, Effect, Input, ItemOrder, JournalId, KnownDirectory,
    Location, Machine, Mode, Node, NodeName, Order, Ownership, Pause, Record, Scope, TransferId, UploadSettings,
};

use crate::checker::Promise;
use crate::drivers::Op;
use crate::journal::Journal;
use crate::plan::Script;
use crate::sim::{Sim, What};
use crate::tally::Deed;
use crate::trace::{self, trace};
use crate::world::Stamp;

/// What a node does, and its number among those that do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Central,
    Upload(usize),
    Download(usize),
}

impl Role {
    pub(crate) fn node(self) -> Node {
        let (mode, name) = match self {
            Self::Central => (Mode::Central, "c".to_owned()),
            Self::Upload(number) => (Mode::Upload, format!("u{}", number + 1)),
            Self::Download(number) => (Mode::Download, format!("d{}", number + 1)),
        };
        Node::new(mode, name.parse().unwrap())
    }
}

/// One node: what survives a crash, and what does not.
pub(crate) struct Daemon {
    pub(crate) role: Role,
    pub(crate) node: Node,
    pub(crate) label: String,
    pub(crate) journal: Journal,
    /// `None` while the daemon is down.
    pub(crate) machine: Option<Machine>,
    /// Inputs, and the letters that brought them.
    pub(crate) inbox: VecDeque<(Input, Option<u64>)>,
    /// Counts starts.
    pub(crate) epoch: u32,
    pub(crate) awake: bool,
    alarm: Option<u64>,
    pub(crate) connected: bool,
    pub(crate) session: u32,
    pub(crate) ops: BTreeMap<u64, Op>,
    /// What the watch has told the machine.
    pub(crate) seen: BTreeMap<usize, Stamp>,
    pub(crate) scanned: bool,
    /// Drains without time going by.
    busy: (u64, u32),
    /// How far its daemon's clock is ahead: as far as the host's was at its start.
    pub(crate) skew: u64,
    /// When its host's clock was last set while its daemon ran.
    pub(crate) stepped: Option<u64>,
    /// Whether the peers heard in this drain, and those heard before, speak a version of the protocol that it speaks.
    pub(crate) hellos: BTreeMap<Node, bool>,
    pub(crate) known: BTreeMap<Node, bool>,
    /// When its daemon started.
    pub(crate) started: u64,
    /// An older copy of its journal.
    pub(crate) backup: Option<Journal>,
    /// Its host is away until then.
    pub(crate) away: u64,
    /// The orders that its journal held when the drain began: about itself, and about the group.
    pub(crate) was_held: [Option<Pause>; 2],
    /// The directory in which its drivers may do things, and what they told of it last.
    pub(crate) trusted: Option<KnownDirectory>,
    pub(crate) told: Option<Directory>,
    /// Its machine knows that another directory is there: now, and when the drain began.
    pub(crate) lacks_directory: bool,
    pub(crate) lacked_directory: bool,
    /// Names that were looked at for a lot that may still start, and until when.
    pub(crate) looked: BTreeMap<usize, u64>,
    /// Those whose last script failed and that were not looked at since.
    pub(crate) uncleaned: BTreeSet<TransferId>,
}

/// More drains at one moment than sound work needs.
const MOST_DRAINS: u32 = 1000;
/// More effects of one drain than sound work needs.
const MOST_EFFECTS: usize = 5000;
/// Where central's spool lies.
pub(crate) const SPOOL: &str = "/spool/g";

impl Daemon {
    pub(crate) fn new(role: Role, journal: JournalId) -> Self {
        let node = role.node();
        Self {
            role,
            label: node.name.to_string(),
            node,
            journal: Journal::new(journal),
            machine: None,
            inbox: VecDeque::new(),
            epoch: 0,
            awake: false,
            alarm: None,
            connected: false,
            session: 0,
            ops: BTreeMap::new(),
            seen: BTreeMap::new(),
            scanned: false,
            busy: (0, 0),
            skew: 0,
            stepped: None,
            hellos: BTreeMap::new(),
            known: BTreeMap::new(),
            started: 0,
            backup: None,
            away: 0,
            was_held: [None, None],
            trusted: None,
            told: None,
            lacks_directory: false,
            lacked_directory: false,
            looked: BTreeMap::new(),
            uncleaned: BTreeSet::new(),
        }
    }
}

impl Sim {
    /// The daemon starts from its journal.
    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].machine.is_some() || self.now < self.nodes[node].away {
            return;
        }
        trace!(self, Some(node), "== starts");
        self.set_clock(node);
        self.nodes[node].skew = self.plan.skew_ms[node];
        self.nodes[node].started = self.now;
        let seed = self.rng.next();
        let machine = match self.machine(node, seed) {
            Ok(machine) => machine,
            Err(bad) => return self.violate(Promise::Protocol, node, || bad.to_string()),
        };
        let daemon = &mut self.nodes[node];
        daemon.machine = Some(machine);
        daemon.epoch += 1;
        daemon.awake = false;
        daemon.alarm = None;
        daemon.seen.clear();
        daemon.hellos.clear();
        daemon.known.clear();
        daemon.scanned = false;
        let epoch = daemon.epoch;
        if matches!(daemon.role, Role::Upload(_)) {
            let wait = self.rng.between(1, 1000);
            self.at(wait, What::Scan { node, epoch });
        }
        self.first_look(node);
        self.reconnect(node);
        self.drain(node);
    }

    /// The clock goes on while a daemon runs; while it is down, somebody may set it. Central's is never set
    /// ahead here, because retention would be shorter by as much.
    fn set_clock(&mut self, node: usize) {
        if self.plan.clock_jumps && !self.calm && self.rng.chance(500) {
            let ahead = if node == 0 { 0 } else { 1_800_000 };
            let low = self.plan.skew_ms[node].saturating_sub(600_000);
            self.plan.skew_ms[node] = self.rng.between(low, self.plan.skew_ms[node] + ahead);
        }
    }

    fn machine(&self, node: usize, seed: u64) -> Result<Machine, BadRow> {
        let daemon = &self.nodes[node];
        let (plan, now) = (&self.plan, self.clock(node));
        let restored = daemon.journal.restored();
        let me: NodeName = daemon.node.name.clone();
        let version = "1.0".to_owned();
        let cleanup = match plan.scripts[node] {
            Script::None => Cleaner::None,
            Script::Moves => Cleaner::Own,
            _ => plan.lots[node].map_or(Cleaner::Script, Cleaner::Lots),
        };
        match daemon.role {
            Role::Central => {
                let all = || (0..plan.downloads).map(|number| Role::Download(number).node().name).collect();
                let settings = CentralSettings {
                    me,
                    receivers: plan.receivers.then(all),
                    keep: Duration::from_millis(plan.keep_ms),
                    free_millipercent: plan.free_permille * 100,
                    keep_modes: plan.central_modes,
                    links: plan.spool_links,
                    spool: Location::new("c", SPOOL).unwrap(),
                    version,
                    host: String::new(),
                };
                Machine::central(settings, restored, seed, now)
            }
            Role::Upload(_) => {
                let settle = Duration::from_millis(plan.settle_ms);
                let (slots, depth, host) = (plan.slots, plan.depth, String::new());
                let ready = plan.says.readiness();
                let settings =
                    UploadSettings { me, settle, depth, ready, keep: plan.keep, slots, cleanup, version, host };
                Machine::upload(settings, restored, seed, now)
            }
            Role::Download(_) => Machine::download(
                DownloadSettings {
                    me,
                    slots: plan.slots,
                    cleanup,
                    keep_modes: plan.keep_modes,
                    ownership: Ownership::default(),
                    version,
                    directory: "/srv".to_owned(),
                    host: String::new(),
                },
                restored,
                seed,
                now,
            ),
        }
    }

    /// The daemon is killed, or its host dies.
    pub(crate) fn crash(&mut self, node: usize) {
        if self.nodes[node].machine.is_none() {
            return;
        }
        trace!(self, Some(node), "== crashes");
        self.tally.count(Deed::Crash);
        self.end_session(node);
        let ops = std::mem::take(&mut self.nodes[node].ops);
        for op in ops.into_values() {
            self.abandon(node, op);
        }
        self.checker.died(node, &self.nodes[node].journal);
        self.forget_latest_wrong(node);
        let daemon = &mut self.nodes[node];
        daemon.machine = None;
        daemon.inbox.clear();
        daemon.looked.clear();
        daemon.uncleaned.clear();
        let wait = self.rng.wait(3000, 600_000, if self.calm { 0 } else { 200 });
        self.at(wait, What::Start(node));
    }

    /// Something happens to a machine; its daemon wakes up for it.
    pub(crate) fn push(&mut self, node: usize, input: Input, letter: Option<u64>) {
        let lag = self.plan.lag;
        let wait = self.rng.wait(3, 5000, lag);
        let daemon = &mut self.nodes[node];
        if daemon.machine.is_none() {
            return;
        }
        daemon.inbox.push_back((input, letter));
        let epoch = daemon.epoch;
        if !std::mem::replace(&mut daemon.awake, true) {
            self.at(wait, What::Wake { node, epoch });
        }
    }

    /// An operator orders something on a node; nobody is there to hear it when its daemon is down. Tells whether
    /// something was done.
    pub(crate) fn order(&mut self, node: usize, order: Order) -> bool {
        let now = self.clock(node);
        let Some(machine) = &mut self.nodes[node].machine else { return false };
        let deeds = machine.order(now, "root", order.clone());
        trace!(self, Some(node), "-- {order:?}");
        for deed in &deeds {
            trace!(self, Some(node), "   {deed:?}");
        }
        let done = deeds.iter().any(|deed| deed.done);
        if let (Order::Forget(gone), true) = (&order, done) {
            self.tally.count(Deed::ForgotPeer);
            self.nodes[node].known.remove(gone);
            self.nodes[node].hellos.remove(gone);
            self.checker_forgets(gone);
        }
        if matches!(order, Order::Items(ItemOrder::Retry, _)) {
            self.forget_wrong(node);
        }
        self.sabotage_order(node, &order, done);
        self.drain(node);
        if let Order::Pause { scope: Scope::Node | Scope::Group, now: true } = order {
            self.check_stopped(node);
        }
        done
    }

    /// The moment has come that a machine asked for, or has been moved.
    pub(crate) fn ring(&mut self, node: usize) {
        self.nodes[node].alarm = None;
        let now = self.clock(node);
        let due = self.nodes[node].machine.as_ref().and_then(Machine::poll_timeout);
        if due.is_some_and(|(when, _)| when <= now) {
            self.nodes[node].inbox.push_back((Input::Timeout, None));
            self.drain(node);
        } else {
            self.set_alarm(node);
        }
    }

    fn set_alarm(&mut self, node: usize) {
        let now = self.clock(node);
        let Some((due, _)) = self.nodes[node].machine.as_ref().and_then(Machine::poll_timeout) else { return };
        let wait = u64::try_from(due.since(now).as_millis()).unwrap();
        let when = self.now + wait;
        if self.nodes[node].alarm.is_none_or(|alarm| alarm > when) {
            self.nodes[node].alarm = Some(when);
            let late = if wait == 0 { 0 } else { self.rng.below(3) };
            let epoch = self.nodes[node].epoch;
            self.at(wait + late, What::Timer { node, epoch });
        }
    }

    /// The daemon's loop, once: some inputs, all effects; the journal's part of them in one commit, then the
    /// others one by one. It may die before the commit and after every step.
    pub(crate) fn drain(&mut self, node: usize) {
        if self.nodes[node].busy.0 != self.now {
            self.nodes[node].busy = (self.now, 0);
        }
        self.nodes[node].busy.1 += 1;
        if self.nodes[node].busy.1 > MOST_DRAINS {
            self.violate(Promise::Restless, node, || "it works without end and time stands still".to_owned());
            return;
        }
        self.nodes[node].was_held = self.nodes[node].journal.orders();
        self.nodes[node].lacked_directory = self.nodes[node].lacks_directory;
        let letters = self.feed(node);
        let (records, others) = self.effects(node);
        let dies = self.plan.crash > 0 && self.rng.below(100_000) < self.plan.crash;
        // A line in the log is no step: with it or without, the schedule of a seed is the same.
        let is_step = |effect: &Effect| !matches!(effect, Effect::Log(_) | Effect::Trust(_) | Effect::Mark(_));
        let steps = others.iter().filter(|effect| is_step(effect)).count();
        let mut left = if dies { self.rng.index(steps + 3) } else { usize::MAX };
        let mut alive = || {
            left = left.saturating_sub(1);
            left > 0 || !dies
        };
        if !alive() {
            trace!(self, Some(node), "   (before the commit)");
            self.tally.count(Deed::CrashBeforeCommit);
            return self.crash(node);
        }
        let mut peers = Vec::new();
        for record in records {
            trace!(self, Some(node), "{}", trace::effect(&Effect::Persist(record.clone())));
            self.check_record(node, &record);
            match record {
                // Who was heard of in this drain may have come too late to be reckoned with in it.
                Record::Node(_) | Record::Forgotten(_) => peers.push(record),
                other => self.nodes[node].journal.write(other),
            }
        }
        peers.into_iter().for_each(|record| self.nodes[node].journal.write(record));
        if !alive() {
            trace!(self, Some(node), "   (before any effect)");
            return self.crash(node);
        }
        for letter in letters {
            self.acknowledge(node, letter);
        }
        for effect in others {
            trace!(self, Some(node), "{}", trace::effect(&effect));
            let step = is_step(&effect);
            self.perform(node, effect);
            if step && !alive() {
                self.tally.count(Deed::CrashBetweenEffects);
                return self.crash(node);
            }
            if self.violation.is_some() {
                return;
            }
        }
        self.check_machine(node);
        self.check_room(node);
        self.set_alarm(node);
        let daemon = &mut self.nodes[node];
        if !daemon.inbox.is_empty() && !std::mem::replace(&mut daemon.awake, true) {
            let epoch = daemon.epoch;
            self.at(0, What::Wake { node, epoch });
        }
    }

    /// Hands some of the waiting inputs to the machine; returns the letters that brought them.
    fn feed(&mut self, node: usize) -> Vec<u64> {
        let most = 1 + self.rng.below(self.plan.batch);
        let now = self.clock(node);
        let mut letters = Vec::new();
        let heard = std::mem::take(&mut self.nodes[node].hellos);
        self.nodes[node].known.extend(heard);
        for _ in 0..most {
            let Some((mut input, letter)) = self.nodes[node].inbox.pop_front() else { break };
            self.mark_hello(node, &input);
            self.mark_directory(node, &input);
            self.mark_look(node, &input);
            self.sabotage_input(node, &mut input);
            trace!(self, Some(node), "{}", trace::input(&input));
            letters.extend(letter);
            if let Some(machine) = &mut self.nodes[node].machine {
                machine.handle(now, input);
            }
        }
        letters
    }

    fn effects(&mut self, node: usize) -> (Vec<Record>, Vec<Effect>) {
        let mut effects = Vec::new();
        if let Some(machine) = &mut self.nodes[node].machine {
            while let Some(effect) = machine.poll_effect() {
                effects.push(effect);
                if effects.len() > MOST_EFFECTS {
                    break;
                }
            }
        }
        if effects.len() > MOST_EFFECTS {
            self.violate(Promise::Restless, node, || "effects without end".to_owned());
        }
        self.sabotage_effects(node, &mut effects);
        let (mut records, mut others) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Persist(record) => records.push(record),
                other => others.push(other),
            }
        }
        (records, others)
    }
}
