//! The schedule: a virtual clock that jumps from event to event, and the run from the first fault to the
//! moment when everything is over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use synkler::machine::JournalId;

use crate::broker::Broker;
use crate::checker::{Checker, Promise, Violation};
use crate::daemon::{Daemon, Role};
use crate::faults::Act;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use crate::tally::Tally;
use crate::trace::{Trace, trace};
use crate::world::World;

/// What comes due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A daemon has inputs to handle.
    Wake { node: usize, epoch: u32 },
    /// A machine asked to be called.
    Timer { node: usize, epoch: u32 },
    /// A letter arrives.
    Deliver(u64),
    /// A driver's work goes on or ends.
    Step { node: usize, epoch: u32, op: u64 },
    /// A daemon tries the broker.
    Connect { node: usize, epoch: u32 },
    /// A daemon starts.
    Start(usize),
    /// The watch is told of a change.
    Notice { node: usize, epoch: u32, name: usize },
    /// The watch goes through the whole directory.
    Scan { node: usize, epoch: u32 },
    /// The driver looks which directory is there.
    Glance { node: usize, epoch: u32 },
    /// A fault, a user, an owner.
    Act(Act),
    /// From now on nothing goes wrong.
    Calm,
    /// Owners take away what stands in the way.
    Tidy,
    /// Is everything over?
    Look,
}

/// The virtual time at which every schedule begins, in milliseconds since 1970.
const START: u64 = 1_800_000_000_000;
/// How long everything may take once the faults have stopped, besides keep_minutes.
const PATIENCE: u64 = 7_200_000;
/// How long it must then stay quiet: longer than the longest wait between two repetitions.
const QUIET: u64 = 400_000;
/// More events than any sound schedule has.
const MOST_EVENTS: u64 = 400_000;

/// One schedule.
pub(crate) struct Sim {
    pub(crate) rng: Rng,
    /// Milliseconds since the schedule began.
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, What)>>,
    count: u64,
    pub(crate) plan: Plan,
    pub(crate) nodes: Vec<Daemon>,
    pub(crate) world: World,
    pub(crate) broker: Broker,
    pub(crate) checker: Checker,
    pub(crate) trace: Option<Trace>,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) violation: Option<Violation>,
    pub(crate) calm: bool,
    pub(crate) tally: Tally,
    /// How many acts are still to come.
    acts: u32,
    deadline: u64,
    quiet: Option<(u64, u64)>,
}

/// What came of a schedule.
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    pub(crate) trace: Vec<String>,
    pub(crate) events: u64,
    pub(crate) tally: Tally,
}

/// Runs the schedule of a seed.
pub(crate) fn run(seed: u64, sabotage: Option<Sabotage>, tracing: bool) -> Outcome {
    let mut sim = Sim::new(seed, sabotage, tracing);
    sim.set_up();
    while sim.violation.is_none() && sim.step() {}
    Outcome {
        violation: sim.violation,
        trace: sim.trace.map(|trace| trace.lines).unwrap_or_default(),
        events: sim.count,
        tally: sim.tally,
    }
}

impl Sim {
    pub(crate) fn new(seed: u64, sabotage: Option<Sabotage>, tracing: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut plan = Plan::of(&mut rng);
        plan.more(&mut Rng::new(!seed));
        let mut nodes = vec![Daemon::new(Role::Central, JournalId(rng.next() as u32))];
        for number in 0..plan.uploads {
            nodes.push(Daemon::new(Role::Upload(number), JournalId(rng.next() as u32)));
        }
        for number in 0..plan.downloads {
            nodes.push(Daemon::new(Role::Download(number), JournalId(rng.next() as u32)));
        }
        let mut world = World::new(plan.uploads, plan.downloads, plan.depth);
        world.spool.inodes = plan.spool_inodes;
        for (ground, read_only) in world.grounds.iter_mut().zip(&plan.read_only) {
            ground.read_only = *read_only;
        }
        for (receiver, inodes) in world.receivers.iter_mut().zip(&plan.inodes) {
            receiver.inodes = *inodes;
        }
        Self {
            world,
            rng,
            now: 0,
            queue: BinaryHeap::new(),
            count: 0,
            plan,
            nodes,
            broker: Broker::default(),
            checker: Checker::default(),
            trace: tracing.then(Trace::default),
            sabotage,
            violation: None,
            calm: false,
            tally: Tally::default(),
            acts: 0,
            deadline: u64::MAX,
            quiet: None,
        }
    }

    fn set_up(&mut self) {
        if self.trace.is_some() {
            let plan = format!("{:?}", self.plan);
            self.log(None, &plan);
        }
        for node in 0..self.nodes.len() {
            let wait = self.rng.wait(500, 120_000, 100);
            self.at(wait, What::Start(node));
        }
        self.schedule_acts();
        self.at(self.plan.faults_ms, What::Calm);
    }

    /// `what` comes due after `wait` milliseconds.
    pub(crate) fn at(&mut self, wait: u64, what: What) {
        self.count += 1;
        self.acts += u32::from(matches!(what, What::Act(_)));
        self.queue.push(Reverse((self.now + wait, self.count, what)));
    }

    /// The time as a node's daemon has it.
    pub(crate) fn clock(&self, node: usize) -> synkler::machine::Time {
        synkler::machine::Time::from_millis(START + self.now + self.nodes[node].skew)
    }

    /// A moment that a clock has shown.
    pub(crate) fn shown(moment: u64) -> synkler::machine::Time {
        synkler::machine::Time::from_millis(START + moment)
    }

    /// A moment that a host's clock has shown, by the time of its daemon, as its clock stands now.
    pub(crate) fn translated(&self, node: usize, moment: u64) -> synkler::machine::Time {
        let (host, daemon) = (self.plan.skew_ms[node], self.nodes[node].skew);
        synkler::machine::Time::from_millis((START + moment + daemon).saturating_sub(host))
    }

    fn tell_time(&mut self) {
        self.world.now = self.now;
        for (upload, clock) in self.world.clocks.iter_mut().enumerate() {
            *clock = self.now + self.plan.skew_ms[1 + upload];
        }
    }

    /// Takes the next event; false when the schedule is over.
    fn step(&mut self) -> bool {
        let Some(Reverse((when, _, what))) = self.queue.pop() else { return false };
        self.now = when;
        self.tell_time();
        if self.count > MOST_EVENTS {
            self.violate(Promise::Restless, 0, || format!("more than {MOST_EVENTS} events"));
        }
        match what {
            What::Wake { node, epoch } if self.is_current(node, epoch) => {
                self.nodes[node].awake = false;
                self.drain(node);
            }
            What::Timer { node, epoch } if self.is_current(node, epoch) => self.ring(node),
            What::Deliver(letter) => self.deliver(letter),
            What::Step { node, epoch, op } if self.is_current(node, epoch) => self.step_op(node, op),
            What::Connect { node, epoch } if self.is_current(node, epoch) => self.connect(node),
            What::Start(node) => self.start(node),
            What::Notice { node, epoch, name } if self.is_current(node, epoch) => self.notice(node, name),
            What::Scan { node, epoch } if self.is_current(node, epoch) => self.scan(node),
            What::Glance { node, epoch } if self.is_current(node, epoch) => self.glance(node),
            What::Act(act) => {
                self.acts -= 1;
                self.act(act);
            }
            What::Calm => self.calm_down(),
            What::Tidy => self.tidy(),
            What::Look => return self.look(),
            What::Wake { .. }
            | What::Timer { .. }
            | What::Step { .. }
            | What::Connect { .. }
            | What::Notice { .. }
            | What::Scan { .. }
            | What::Glance { .. } => {}
        }
        true
    }

    fn is_current(&self, node: usize, epoch: u32) -> bool {
        self.nodes[node].machine.is_some() && self.nodes[node].epoch == epoch
    }

    fn calm_down(&mut self) {
        trace!(self, None, "== from here on nothing goes wrong");
        self.calm = true;
        self.plan.calm();
        self.end_faults();
        if let Some(odd) = self.plan.odd {
            trace!(self, Some(odd), "-- is upgraded");
            self.crash(odd);
        }
        self.deadline = self.now + PATIENCE + 2 * self.plan.keep_ms + self.plan.late_ms;
        self.at(1000, What::Tidy);
        self.at(5000, What::Look);
    }

    /// Ends the schedule when everything is over and stays quiet.
    fn look(&mut self) -> bool {
        if let Some((until, sent)) = self.quiet {
            if self.broker.sent > sent {
                let more = self.broker.sent - sent;
                self.violate(Promise::Restless, 0, || format!("{more} messages sent though everything is over"));
            } else if self.now < until {
                self.at(20_000, What::Look);
                return true;
            }
            self.check_group();
            return false;
        }
        match self.left() {
            None if self.acts > 0 => {}
            None => {
                trace!(self, None, "== everything is over");
                self.check_end();
                self.quiet = Some((self.now + QUIET, self.broker.sent));
            }
            Some((node, left)) if self.now > self.deadline => {
                let text = self.show_left(node, &left);
                self.violate(Promise::Liveness, node, || text);
                return false;
            }
            Some(_) => {}
        }
        self.at(5000, What::Look);
        true
    }
}
