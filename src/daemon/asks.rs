//! Questions to other nodes that wait for their answers, and questions of other nodes that are being answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout};

use crate::control::{AskFailure, Refusal};
use crate::drivers::broker::{Line, NotSent, TALK_EXPIRY};
use crate::machine::{Node, Time};
use crate::wire::Failure;

/// The maximum number of our open questions, and of questions that are being answered.
const LIMIT: usize = 64;
/// How long each may wait. The broker does not deliver it later either.
const PATIENCE: Duration = TALK_EXPIRY;

/// The channel for the result of a question.
type Reply = oneshot::Sender<Result<Value, AskFailure>>;

/// The questions in both directions.
#[derive(Debug)]
pub struct Asks {
    line: Line,
    next: u64,
    /// Our open questions, oldest first.
    open: BTreeMap<u64, Open>,
    answering: Arc<Semaphore>,
}

#[derive(Debug)]
struct Open {
    to: Node,
    until: Instant,
    reply: Reply,
}

impl Asks {
    /// No question is open. The numbers begin with the time, so that an answer to an earlier process of this node is
    /// not taken for one to this process.
    pub fn new(line: Line, now: Time) -> Self {
        let answering = Arc::new(Semaphore::new(LIMIT));
        Self { line, next: now.as_millis().saturating_mul(1000), open: BTreeMap::new(), answering }
    }

    /// Asks a node. The caller gets the result within two seconds.
    pub fn ask(&mut self, to: Node, method: String, parameters: Map<String, Value>, reply: Reply) {
        // Questions whose caller has closed are removed, to make room.
        self.open.retain(|_, open| !open.reply.is_closed());
        if self.open.len() >= LIMIT {
            return fail(reply, format!("cannot ask {to}: {LIMIT} questions already wait for answers"));
        }
        self.next = self.next.saturating_add(1);
        match self.line.ask(to.clone(), self.next, method, parameters) {
            Ok(()) => {
                self.open.insert(self.next, Open { to, until: Instant::now() + PATIENCE, reply });
            }
            Err(not_sent) => fail(reply, format!("cannot ask {to}: {not_sent}")),
        }
    }

    /// Handles an answer. It has no effect if it comes too late, or from another node than the one that was asked.
    pub fn answered(&mut self, from: &Node, ask: u64, outcome: Result<Map<String, Value>, Failure>) {
        if self.open.get(&ask).is_none_or(|open| open.to != *from) {
            tracing::debug!(%from, ask, "an answer to an unknown question");
            return;
        }
        if let Some(Open { reply, .. }) = self.open.remove(&ask) {
            let outcome = outcome.map(Value::Object).map_err(|Failure { error, parameters }| {
                AskFailure::Refused(Refusal::read(&error, &Value::Object(parameters)))
            });
            // The caller may have closed.
            drop(reply.send(outcome));
        }
    }

    /// No node has received this question.
    pub fn undelivered(&mut self, ask: u64) {
        if let Some(Open { to, reply, .. }) = self.open.remove(&ask) {
            fail(reply, format!("{to} has no session with the broker"));
        }
    }

    /// The session has ended, and with it the queue for the answers.
    pub fn cut_off(&mut self) {
        for Open { to, reply, .. } in std::mem::take(&mut self.open).into_values() {
            fail(reply, format!("{to} has not answered: the session with the broker broke"));
        }
    }

    /// When the oldest question times out.
    pub fn due(&self) -> Option<Instant> {
        self.open.first_key_value().map(|(_, open)| open.until)
    }

    /// Ends the questions that have timed out.
    pub fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.open.first_entry() {
            if oldest.get().until > now {
                return;
            }
            let Open { to, reply, .. } = oldest.remove();
            fail(reply, format!("{to} has not answered within {} s", PATIENCE.as_secs()));
        }
    }

    /// Answers a question of another node with the result of `work`, in a task of its own. Too many questions at once,
    /// and those that cannot be answered in time, get no answer.
    pub fn answer(&self, to: Node, ask: u64, work: impl Future<Output = Result<Value, Refusal>> + Send + 'static) {
        let Ok(permit) = Arc::clone(&self.answering).try_acquire_owned() else {
            tracing::debug!(%to, ask, "question not answered: {LIMIT} questions are already being answered");
            return;
        };
        let line = self.line.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let Ok(outcome) = timeout(PATIENCE, work).await else { return };
            let said = match line.answer(to.clone(), ask, outcome.map(object).map_err(failure)) {
                Err(NotSent::TooLong(long)) => {
                    let text = format!("the answer is too long: {long}; ask for less");
                    line.answer(to.clone(), ask, Err(failure(Refusal::Refused(text))))
                }
                said => said,
            };
            if let Err(not_sent) = said {
                tracing::debug!(%to, ask, "question not answered: {not_sent}");
            }
        });
    }
}

fn failure(refusal: Refusal) -> Failure {
    Failure { error: refusal.name().to_owned(), parameters: object(refusal.parameters()) }
}

/// Parameters are always objects.
fn object(parameters: Value) -> Map<String, Value> {
    match parameters {
        Value::Object(parameters) => parameters,
        _ => Map::new(),
    }
}

fn fail(reply: Reply, why: String) {
    // The asker may have closed.
    drop(reply.send(Err(AskFailure::Silent(why))));
}
