//! The broker: RabbitMQ carries the words.
//!
//! One task keeps one session at a time and starts it again when it ends. The broker is a doorbell, not a
//! database: what is published while there is no session is dropped, because the machine repeats whatever
//! is owed once [`BrokerEvent::Connected`] says that it can be heard. A delivery stays the broker's until it
//! is acknowledged, which the daemon does when the journal holds it.
//!
//! The contract, which the simulator's broker keeps as well: a word published while connected to a node whose
//! queue exists arrives there at least once; it may be doubled or overtaken; once acknowledged it does not
//! come again.
//!
//! Beside the words there are questions ([`Line`]), which are worth something for [`TALK_EXPIRY`] only: nobody
//! acknowledges or repeats them, and whoever asks has a deadline.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::debug;

use crate::machine::{Address, GroupId, Message, Node, Reason};
use crate::wire::Failure;

mod answered;
mod fault;
#[cfg(debug_assertions)]
mod future;
mod line;
mod link;
mod outbox;
mod probe;
mod reach;
mod receive;
mod rights;
mod session;
mod supervisor;
mod tls;
mod topology;

pub use line::{Line, NotSent};
pub use probe::{Probed, QueueSight, Trouble, TroubleKind, probe};
pub use reach::{Answer, Tried, told, try_all};
pub use rights::{Rights, role_kinds};
pub use tls::{Identity, Tls};

/// The most deliveries of one queue that wait for their acknowledgement.
pub const PREFETCH: u16 = 64;
/// The most messages that are published and not yet confirmed.
pub const IN_FLIGHT_LIMIT: usize = 256;
/// The most words that wait to be published; what is more is dropped.
pub const PUBLISH_QUEUE_LIMIT: usize = 4096;
/// The most messages that the dead-letter queue keeps; the oldest give way.
pub const DEAD_LETTER_LIMIT: u32 = 10_000;
/// The most hellos that wait for one node; the oldest give way.
pub const HELLO_QUEUE_LIMIT: u32 = 1000;
/// How long a hello to all stays worth hearing.
pub const HELLO_EXPIRY: Duration = Duration::from_secs(60);
/// The most questions and answers that wait for one node; the oldest give way.
pub const TALK_QUEUE_LIMIT: u32 = 256;
/// How long a question, and then its answer, stays worth hearing.
pub const TALK_EXPIRY: Duration = Duration::from_secs(2);
/// Both sides say something at least twice in this time, or the session is over.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// The longest wait for any single answer of the broker.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest a published message may stay unconfirmed while the broker takes messages.
pub const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest wait between two attempts to connect; also the wait when a person has to mend something.
pub const RECONNECT_LIMIT: Duration = Duration::from_secs(30);
/// The longest that [`Broker::close`] takes.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the broker is, and who we are there.
#[derive(Clone)]
pub struct BrokerSettings {
    /// Host name or address.
    pub host: String,
    /// Its AMQP port.
    pub port: u16,
    /// The virtual host.
    pub vhost: String,
    /// The account.
    pub username: String,
    /// Its password, never printed; `None` means that the client certificate logs in (SASL EXTERNAL).
    pub password: Option<String>,
    /// How the connection is kept private; `None` is plain TCP.
    pub tls: Option<Tls>,
    /// The group to speak in.
    pub group: GroupId,
    /// The node to speak as.
    pub me: Node,
}

impl fmt::Debug for BrokerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerSettings({self}, {} in group {})", self.me, self.group)
    }
}

impl fmt::Display for BrokerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls.is_some() { " by TLS" } else { "" };
        write!(f, "{}:{}{tls}, vhost {}, user {}", self.host, self.port, self.vhost, self.username)
    }
}

/// Names one delivery of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryTag {
    session: u64,
    number: u64,
}

/// What the broker tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerEvent {
    /// The queues are declared, bound and consumed: what is published from now on is heard.
    Connected,
    /// Nothing that is published is heard until the next `Connected`, and why. Told when a session ends, when
    /// an attempt fails in another way than the one before, and while the broker takes no messages.
    Disconnected(Reason),
    /// A peer said something. It comes again in the next session unless it is acknowledged.
    Delivery {
        /// Who.
        from: Node,
        /// What.
        message: Message,
        /// For [`Broker::acknowledge`].
        tag: DeliveryTag,
    },
    /// A peer asks something. It wants an answer by [`Line::answer`] within [`TALK_EXPIRY`].
    Asked {
        /// Who.
        from: Node,
        /// Its number for the question.
        ask: u64,
        /// The method's full name.
        method: String,
        /// Its parameters by name.
        parameters: Map<String, Value>,
    },
    /// A peer answers.
    Answered {
        /// Who.
        from: Node,
        /// Our number for the question.
        ask: u64,
        /// The reply's parameters, or why there are none.
        outcome: Result<Map<String, Value>, Failure>,
    },
    /// Nobody has heard a question: the node it is for has no session with the broker.
    Undelivered {
        /// Our number for the question.
        ask: u64,
    },
}

/// The handle on the task that keeps the session. Dropping it ends the task without ceremony.
#[derive(Debug)]
pub struct Broker {
    publish: mpsc::Sender<(Address, Message)>,
    acknowledge: mpsc::UnboundedSender<DeliveryTag>,
    line: Line,
    stop: oneshot::Sender<()>,
    open: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// The task's ends of the handle's channels.
struct Ends {
    publish: mpsc::Receiver<(Address, Message)>,
    /// Holds at most what has been delivered and not acknowledged, which [`PREFETCH`] bounds.
    acknowledge: mpsc::UnboundedReceiver<DeliveryTag>,
    talk: mpsc::Receiver<line::Outgoing>,
    stop: oneshot::Receiver<()>,
    open: Arc<AtomicBool>,
    events: mpsc::Sender<BrokerEvent>,
}

impl Broker {
    /// Starts connecting, and keeps at it until [`Broker::close`]. Must be called inside a tokio runtime with
    /// time and IO.
    pub fn start(settings: BrokerSettings, events: mpsc::Sender<BrokerEvent>) -> Self {
        let (publish, publish_end) = mpsc::channel(PUBLISH_QUEUE_LIMIT);
        let (acknowledge, acknowledge_end) = mpsc::unbounded_channel();
        let (stop, stop_end) = oneshot::channel();
        let open = Arc::new(AtomicBool::new(false));
        let (line, talk_end) = Line::new(&settings, Arc::clone(&open));
        let ends = Ends {
            publish: publish_end,
            acknowledge: acknowledge_end,
            talk: talk_end,
            stop: stop_end,
            open: Arc::clone(&open),
            events,
        };
        let task = tokio::spawn(supervisor::run(settings, ends));
        Self { publish, acknowledge, line, stop, open, task }
    }

    /// A handle to ask and to answer with.
    pub fn line(&self) -> Line {
        self.line.clone()
    }

    /// Says something, without waiting. Dropped while there is no session, when [`PUBLISH_QUEUE_LIMIT`] words
    /// wait already, and when nobody has such a queue: what is owed has to be said again anyway.
    pub fn publish(&self, to: Address, message: Message) {
        let kind = message.kind();
        if !self.open.load(Ordering::Acquire) {
            debug!(kind, "not published: no session with the broker");
        } else if self.publish.try_send((to, message)).is_err() {
            debug!(kind, "not published: {PUBLISH_QUEUE_LIMIT} messages already wait");
        }
    }

    /// Gives deliveries back as dealt with, once the journal holds what came of them. Tags of an earlier
    /// session are ignored: those deliveries come again.
    pub fn acknowledge(&self, tags: impl IntoIterator<Item = DeliveryTag>) {
        for tag in tags {
            // A closed channel means that the task is over, and with it the session.
            let _ = self.acknowledge.send(tag);
        }
    }

    /// Publishes and acknowledges what is still waiting, and closes the session; gives up after
    /// [`CLOSE_TIMEOUT`].
    pub async fn close(self) {
        let Self { stop, mut task, .. } = self;
        // A task that is over needs no telling.
        let _ = stop.send(());
        if tokio::time::timeout(CLOSE_TIMEOUT, &mut task).await.is_err() {
            debug!("the broker did not close the session in time");
            task.abort();
        }
    }
}
