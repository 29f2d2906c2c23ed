//! The handle for questions to other nodes, and for answers to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::machine::{GroupId, Node};
use crate::wire::{Failure, Talk, TooLong, encode_talk};

use super::BrokerSettings;

/// The maximum number of questions and answers that wait to be published.
const QUEUE: usize = 64;

/// Sends questions and answers, without waiting. A clone uses the same session.
#[derive(Debug, Clone)]
pub struct Line {
    group: GroupId,
    me: Node,
    open: Arc<AtomicBool>,
    outgoing: mpsc::Sender<Outgoing>,
}

/// A question or an answer on its way to the session.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) to: Node,
    pub(super) kind: &'static str,
    /// The number of a question, to report that no node received it.
    pub(super) ask: Option<u64>,
    pub(super) body: Vec<u8>,
}

/// Why something was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// There is no session, or the broker accepts no messages.
    #[error("no session with the broker")]
    NoSession,
    /// Too many questions and answers wait already.
    #[error("too many questions and answers wait to be sent")]
    Full,
    /// It has more bytes than a message may have.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

impl Line {
    pub(super) fn new(settings: &BrokerSettings, open: Arc<AtomicBool>) -> (Self, mpsc::Receiver<Outgoing>) {
        let (outgoing, end) = mpsc::channel(QUEUE);
        (Self { group: settings.group.clone(), me: settings.me.clone(), open, outgoing }, end)
    }

    /// Asks a node. The result comes as [`BrokerEvent::Answered`](super::BrokerEvent::Answered) or
    /// [`Undelivered`](super::BrokerEvent::Undelivered), or not at all.
    ///
    /// # Errors
    /// If the question cannot be sent.
    pub fn ask(&self, to: Node, ask: u64, method: String, parameters: Map<String, Value>) -> Result<(), NotSent> {
        self.send(to, Some(ask), Talk::Ask { ask, method, parameters })
    }

    /// Answers a question of that node. It encodes the message here, so call it outside of a loop for long answers.
    ///
    /// # Errors
    /// If the answer cannot be sent; a shorter one may replace an answer that is too long.
    pub fn answer(&self, to: Node, ask: u64, outcome: Result<Map<String, Value>, Failure>) -> Result<(), NotSent> {
        self.send(to, None, Talk::Answer { ask, outcome })
    }

    fn send(&self, to: Node, ask: Option<u64>, talk: Talk) -> Result<(), NotSent> {
        if !self.open.load(Ordering::Acquire) {
            return Err(NotSent::NoSession);
        }
        let kind = talk.kind();
        let body = encode_talk(&self.group, &self.me, talk)?;
        self.outgoing.try_send(Outgoing { to, kind, ask, body }).map_err(|_| NotSent::Full)
    }
}
