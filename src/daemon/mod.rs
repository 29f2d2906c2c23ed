//! The loop between the machine and the drivers.
//!
//! One round: take every input that is ready (bounded) and feed the inputs to the machine one by one. Commit all its
//! records in one transaction, acknowledge the messages that led to them, then carry out the other effects in order. So
//! one fsync serves many items, and a message is acknowledged only when it is journalled. No effect runs before the
//! state that justifies it is on disk, in the journal that the next start will find. After a round the loop pauses for
//! a moment, so that the next round takes more inputs. The loop never waits for a driver: the machine limits the work
//! of each driver, and answers come back as inputs.

mod answers;
mod asks;
mod drivers;
mod explain;
mod reload;
mod settings;
mod start;
mod status;
mod submit;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::config::Settings;
use crate::control::{Query, Service};
use crate::drivers::broker::BrokerEvent;
use crate::drivers::clock::Clock;
use crate::drivers::journal::{Journal, JournalError};
use crate::drivers::{broker, logging, systemd};
use crate::machine::{Effect, Input, Level, Log, Machine, Node, Record, Time, TransferId};

pub use asks::Asks;
use drivers::Drivers;
pub use explain::explain;
pub use settings::Origin;
pub use start::{StartError, run};

/// After a round the loop pauses as long as the round took, but not longer than this. So inputs that come one by one
/// share transactions and messages, and rounds take at most half of the time.
const REST_LIMIT: Duration = Duration::from_millis(10);
/// The maximum number of inputs of one kind in a round, so that timers and clients get their turn.
const ROUND: usize = 512;
/// The minimum interval between two updates of STATUS=.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// The loop logs a warning if something other than the journal's disk blocks it for longer than this.
const HELD_UP: Duration = Duration::from_millis(100);
/// How often the loop checks that the journal is still in its place, even without writes.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const PRUNE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
const PRUNE_BATCH: u32 = 1000;
/// How often the loop wakes up even if the machine has no deadline.
const IDLE: Duration = Duration::from_secs(60);

/// Why a running daemon ends without a signal.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The journal cannot be written, so the daemon must not continue.
    #[error("cannot write the journal; nothing is lost, transfers continue from its last entry after a restart")]
    Journal(#[source] JournalError),
    /// The journal was removed or replaced.
    #[error("the journal was removed, and synkler cannot work without it")]
    Taken(#[source] JournalError),
    /// A part that must run all the time has ended.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
    /// The kernel refuses signal handlers.
    #[error("cannot handle signals")]
    Signals(#[source] std::io::Error),
}

impl From<JournalError> for DaemonError {
    fn from(error: JournalError) -> Self {
        if matches!(error, JournalError::Taken { .. }) { Self::Taken(error) } else { Self::Journal(error) }
    }
}

struct Daemon {
    machine: Machine,
    settings: Settings,
    origin: Origin,
    logging: logging::Logging,
    clock: Clock,
    journal: Arc<Journal>,
    drivers: Drivers,
    service: Service,
    asks: Asks,
    /// One check at a time.
    examining: Arc<Semaphore>,
    reads: mpsc::Sender<reload::Read>,
    inputs: mpsc::Receiver<Input>,
    broker_events: mpsc::Receiver<BrokerEvent>,
    queries: mpsc::Receiver<Query>,
    configs: mpsc::Receiver<reload::Read>,
    status: status::Reporter,
    /// When the journal's place is checked next, even without writes.
    look_at: Instant,
}

/// The event that woke the loop.
enum Event {
    Input(Input),
    Broker(BrokerEvent),
    Query(Query),
    Config(Box<reload::Read>),
    Deadline,
    Stop(&'static str),
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, DaemonError> {
        let handler = |kind| signal(kind).map_err(DaemonError::Signals);
        Ok(Self {
            terminate: handler(SignalKind::terminate())?,
            interrupt: handler(SignalKind::interrupt())?,
            hangup: handler(SignalKind::hangup())?,
        })
    }
}

impl Daemon {
    /// Works until a signal ends it or the journal fails. The caller stops the drivers.
    async fn work(&mut self, signals: &mut Signals) -> Result<&'static str, DaemonError> {
        let watchdog = systemd::watchdog_interval();
        let mut feed_at = Instant::now();
        let mut prune_at = Instant::now() + PRUNE_EVERY;
        let mut tags = Vec::new();
        let mut done = Vec::new();
        let mut rested = Instant::now();
        self.round(Instant::now(), &mut tags, Vec::new()).await?;
        loop {
            sleep_until(rested).await;
            self.asks.expire(Instant::now());
            let mut wake = self.deadline().min(self.look_at);
            if let Some(interval) = watchdog {
                if Instant::now() >= feed_at {
                    systemd::alive();
                    feed_at = Instant::now() + interval;
                }
                wake = wake.min(feed_at);
            }
            for due in [self.status.due(), self.asks.due()].into_iter().flatten() {
                wake = wake.min(due);
            }
            let event = tokio::select! {
                biased;
                _ = signals.terminate.recv() => Event::Stop("SIGTERM"),
                _ = signals.interrupt.recv() => Event::Stop("SIGINT"),
                _ = signals.hangup.recv() => Event::Reload,
                Some(config) = self.configs.recv() => Event::Config(Box::new(config)),
                Some(query) = self.queries.recv() => Event::Query(query),
                Some(input) = self.inputs.recv() => Event::Input(input),
                Some(event) = self.broker_events.recv() => Event::Broker(event),
                () = sleep_until(wake) => Event::Deadline,
                else => return Err(DaemonError::Ended("every driver")),
            };
            let woken = Instant::now();
            let mut inputs = Vec::new();
            match event {
                Event::Stop(signal) => return Ok(signal),
                Event::Reload => self.read_config(None),
                Event::Config(config) => self.take_config(*config),
                // One per round, so that a client that asks all the time does not stop the work.
                Event::Query(query) => self.answer(query, &mut done),
                Event::Deadline => inputs.push(Input::Timeout),
                Event::Input(input) => inputs.push(input),
                Event::Broker(event) => self.take_broker_event(event, &mut inputs, &mut tags),
            }
            while inputs.len() < ROUND
                && let Ok(input) = self.inputs.try_recv()
            {
                inputs.push(input);
            }
            while inputs.len() < 2 * ROUND
                && let Ok(event) = self.broker_events.try_recv()
            {
                self.take_broker_event(event, &mut inputs, &mut tags);
            }
            let began = Instant::now();
            self.round(woken, &mut tags, inputs).await?;
            rested = Instant::now() + began.elapsed().min(REST_LIMIT);
            for (reply, deeds) in done.drain(..) {
                // The client may have closed; the order is in force nevertheless.
                drop(reply.send(deeds));
            }
            if Instant::now() >= prune_at {
                prune_at = Instant::now() + PRUNE_EVERY;
                let before = self.clock.now().as_millis().saturating_sub(millis(self.settings.history));
                tokio::spawn(prune(Arc::clone(&self.journal), Time::from_millis(before)));
            }
        }
    }

    fn take_broker_event(&mut self, event: BrokerEvent, inputs: &mut Vec<Input>, tags: &mut Vec<broker::DeliveryTag>) {
        match event {
            BrokerEvent::Connected => inputs.push(Input::Connected),
            BrokerEvent::Disconnected(why) => {
                self.asks.cut_off();
                inputs.push(Input::Disconnected(why));
            }
            BrokerEvent::Delivery { from, message, tag } => {
                tags.push(tag);
                inputs.push(Input::Received { from, message });
            }
            BrokerEvent::Asked { from, ask, method, parameters } => {
                let (service, node) = (self.service.clone(), from.clone());
                let work = async move { service.answer_peer(&node, &method, parameters).await };
                self.asks.answer(from, ask, work);
            }
            BrokerEvent::Answered { from, ask, outcome } => self.asks.answered(&from, ask, outcome),
            BrokerEvent::Undelivered { ask } => self.asks.undelivered(ask),
        }
    }

    /// Feeds the machine, commits, acknowledges, then carries out the effects.
    async fn round(
        &mut self,
        woken: Instant,
        tags: &mut Vec<broker::DeliveryTag>,
        inputs: Vec<Input>,
    ) -> Result<(), DaemonError> {
        let now = self.clock.now();
        for input in inputs {
            self.drivers.overhear(&input);
            self.machine.handle(now, input);
        }
        let mut records: Vec<Record> = Vec::new();
        let mut effects = Vec::new();
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Persist(record) => records.push(record),
                other => effects.push(other),
            }
        }
        let decided = Instant::now();
        // A journal that was removed confirms and justifies nothing, even if this round writes nothing to it.
        if decided >= self.look_at || !(records.is_empty() && effects.is_empty() && tags.is_empty()) {
            self.journal.commit(records).await?;
            self.look_at = Instant::now() + LOOK_EVERY;
        }
        let committed = Instant::now();
        if !tags.is_empty() {
            self.drivers.acknowledge(std::mem::take(tags));
        }
        for effect in effects {
            match effect {
                Effect::Log(log) => logging::log(&log),
                Effect::Lookup(question) => self.drivers.look_up(&self.journal, question),
                Effect::Explain { transfer, peer, found } => self.explain(transfer, peer, found),
                other => self.drivers.carry_out(other),
            }
        }
        self.status.report(&self.machine);
        let held_up = (decided - woken) + committed.elapsed();
        if held_up > HELD_UP {
            tracing::debug!("the event loop was blocked for {} ms", held_up.as_millis());
        }
        Ok(())
    }

    /// Asks the peer for its manifest, in a task of its own; the answer comes as an input.
    fn explain(&self, transfer: TransferId, peer: Node, found: Arc<str>) {
        let (service, inputs) = (self.service.clone(), self.drivers.inputs.clone());
        tokio::spawn(async move {
            let differences = service.explain(&peer, transfer, &found).await;
            // When the daemon stops, no receiver is left.
            let _ = inputs.send(Input::Explained { transfer, differences }).await;
        });
    }

    /// When the machine has its next deadline, in the runtime's time.
    fn deadline(&self) -> Instant {
        let now = self.clock.now();
        let wait = self.machine.poll_timeout().map_or(IDLE, |(when, _)| when.since(now).min(IDLE));
        Instant::now() + wait
    }
}

async fn prune(journal: Arc<Journal>, before: Time) {
    loop {
        match journal.prune(before, PRUNE_BATCH).await {
            Ok(count) if count >= PRUNE_BATCH as usize => {}
            Ok(_) => return,
            Err(error) => {
                let text = format!("cannot delete old history from the journal: {error}");
                logging::log(&Log { level: Level::Warn, transfer: None, item: None, peer: None, text });
                return;
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
