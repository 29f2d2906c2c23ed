//! The loop between the machine and the drivers.
//!
//! One round: take every input that is ready (bounded), feed them to the machine one by one, commit all its
//! records in one transaction, acknowledge the messages that led to them, then carry out the other effects in
//! order. So one fsync serves many items, a message is acknowledged only when it is journalled, and no effect
//! runs before the state that justifies it is on disk. The loop never waits for a driver: what is handed to
//! one is bounded by the machine, and answers come back as inputs.

mod asks;
mod drivers;
mod start;
mod status;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::control::{Query, Refusal};
use crate::drivers::broker::BrokerEvent;
use crate::drivers::clock::Clock;
use crate::drivers::journal::{Journal, JournalError};
use crate::drivers::{broker, logging, systemd};
use crate::machine::{Effect, Input, Level, Machine, Note, Record, Time};

pub use asks::Asks;
use drivers::Drivers;
pub use start::{StartError, run};

/// The most inputs of one kind in a round, so that timers and clients get their turn.
const ROUND: usize = 512;
/// STATUS= is renewed at most this often.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Finished transfers older than this leave the journal.
const HISTORY_MILLIS: u64 = 90 * 24 * 60 * 60 * 1000;
const PRUNE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
const PRUNE_BATCH: u32 = 1000;
/// When the machine asks for nothing, the loop looks in this often all the same.
const IDLE: Duration = Duration::from_secs(60);

/// Why a running daemon ends other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The journal takes nothing any more, so nothing may go on.
    #[error("the journal cannot be written; nothing is lost, work goes on from its last entry after a restart")]
    Journal(#[from] JournalError),
    /// A part that must not end has ended.
    #[error("{0} has ended by itself")]
    Ended(&'static str),
    /// The kernel refuses signal handlers.
    #[error("signals cannot be handled")]
    Signals(#[source] std::io::Error),
}

struct Daemon {
    machine: Machine,
    clock: Clock,
    journal: Arc<Journal>,
    drivers: Drivers,
    asks: Asks,
    inputs: mpsc::Receiver<Input>,
    words: mpsc::Receiver<BrokerEvent>,
    queries: mpsc::Receiver<Query>,
    status: status::Reporter,
}

/// What woke the loop.
enum Event {
    Input(Input),
    Word(BrokerEvent),
    Query(Query),
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
    /// Works until a signal ends it or the journal fails. The drivers are left to the caller to stop.
    async fn work(&mut self, signals: &mut Signals) -> Result<&'static str, DaemonError> {
        let watchdog = systemd::watchdog_interval();
        let mut feed_at = Instant::now();
        let mut prune_at = Instant::now() + PRUNE_EVERY;
        let mut tags = Vec::new();
        self.round(&mut tags, Vec::new()).await?;
        loop {
            self.asks.expire(Instant::now());
            let mut wake = self.deadline();
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
                Some(query) = self.queries.recv() => Event::Query(query),
                Some(input) = self.inputs.recv() => Event::Input(input),
                Some(word) = self.words.recv() => Event::Word(word),
                () = sleep_until(wake) => Event::Deadline,
                else => return Err(DaemonError::Ended("every driver")),
            };
            let mut inputs = Vec::new();
            match event {
                Event::Stop(signal) => return Ok(signal),
                Event::Reload => {
                    tracing::warn!("SIGHUP: settings are read at start only; use `systemctl restart synkler`");
                    continue;
                }
                Event::Query(query) => {
                    self.answer(query);
                    continue;
                }
                Event::Deadline => inputs.push(Input::Timeout),
                Event::Input(input) => inputs.push(input),
                Event::Word(word) => self.take_word(word, &mut inputs, &mut tags),
            }
            while inputs.len() < ROUND
                && let Ok(input) = self.inputs.try_recv()
            {
                inputs.push(input);
            }
            while inputs.len() < 2 * ROUND
                && let Ok(word) = self.words.try_recv()
            {
                self.take_word(word, &mut inputs, &mut tags);
            }
            self.round(&mut tags, inputs).await?;
            if Instant::now() >= prune_at {
                prune_at = Instant::now() + PRUNE_EVERY;
                self.prune().await;
            }
        }
    }

    fn take_word(&mut self, word: BrokerEvent, inputs: &mut Vec<Input>, tags: &mut Vec<broker::DeliveryTag>) {
        match word {
            BrokerEvent::Connected => inputs.push(Input::Connected),
            BrokerEvent::Disconnected(why) => {
                self.asks.cut_off();
                inputs.push(Input::Disconnected(why));
            }
            BrokerEvent::Delivery { from, words, tag } => {
                tags.push(tag);
                inputs.push(Input::Heard { from, words });
            }
            BrokerEvent::Asked { from, ask, method, parameters: _ } => {
                self.asks.answer(from, ask, async { Err(Refusal::MethodNotFound(method)) });
            }
            BrokerEvent::Answered { from, ask, outcome } => self.asks.answered(&from, ask, outcome),
            BrokerEvent::Unheard { ask } => self.asks.unheard(ask),
        }
    }

    /// Feeds the machine, commits, acknowledges, then acts.
    async fn round(&mut self, tags: &mut Vec<broker::DeliveryTag>, inputs: Vec<Input>) -> Result<(), DaemonError> {
        let now = self.clock.now();
        for input in inputs {
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
        self.journal.commit(records).await?;
        if !tags.is_empty() {
            self.drivers.acknowledge(std::mem::take(tags));
        }
        for effect in effects {
            match effect {
                Effect::Note(note) => logging::note(&note),
                Effect::Recall(question) => self.drivers.recall(&self.journal, question),
                other => self.drivers.carry_out(other),
            }
        }
        self.status.report(&self.machine);
        Ok(())
    }

    /// When the machine wants to be asked again, in the runtime's time.
    fn deadline(&self) -> Instant {
        let now = self.clock.now();
        let wait = self.machine.poll_timeout().map_or(IDLE, |(when, _)| when.since(now).min(IDLE));
        Instant::now() + wait
    }

    fn answer(&self, query: Query) {
        match query {
            // A client that has gone does not miss the answer.
            Query::Status { limit, reply } => drop(reply.send(self.machine.snapshot(limit))),
        }
    }

    async fn prune(&self) {
        let before = Time::from_millis(self.clock.now().as_millis().saturating_sub(HISTORY_MILLIS));
        loop {
            match self.journal.prune(before, PRUNE_BATCH).await {
                Ok(count) if count >= PRUNE_BATCH as usize => {}
                Ok(_) => return,
                Err(error) => {
                    let text = format!("old history stays in the journal: {error}");
                    logging::note(&Note { level: Level::Warn, transfer: None, item: None, peer: None, text });
                    return;
                }
            }
        }
    }
}
