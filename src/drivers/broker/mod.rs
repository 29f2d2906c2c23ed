//! The broker: RabbitMQ carries the messages.
//!
//! One task keeps one session at a time and restarts it after its end. The broker only carries messages, it stores
//! nothing for the machine. Messages that are published without a session are dropped: the machine repeats what it owes
//! after [`BrokerEvent::Connected`]. A delivery stays with the broker until the daemon acknowledges it, which the
//! daemon does when the journal has it.
//!
//! The contract, which the simulator's broker keeps as well: a message that is published while connected, to a node
//! whose queue exists, arrives there at least once. It may be duplicated or overtaken. After it is acknowledged it does
//! not come again.
//!
//! Besides messages there are questions ([`Line`]), which are valid for [`TALK_EXPIRY`] only: no node acknowledges or
//! repeats them, and each asker has a deadline.

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

/// The maximum number of unacknowledged deliveries of one queue.
pub const PREFETCH: u16 = 64;
/// The maximum number of published messages without a confirm.
pub const IN_FLIGHT_LIMIT: usize = 256;
/// The maximum number of messages that wait to be published; more are dropped.
pub const PUBLISH_QUEUE_LIMIT: usize = 4096;
/// The maximum number of messages in the dead-letter queue; the oldest are dropped.
pub const DEAD_LETTER_LIMIT: u32 = 10_000;
/// The maximum number of hellos that wait for one node; the oldest are dropped.
pub const HELLO_QUEUE_LIMIT: u32 = 1000;
/// How long a hello to all stays valid.
pub const HELLO_EXPIRY: Duration = Duration::from_secs(60);
/// The maximum number of questions and answers that wait for one node; the oldest are dropped.
pub const TALK_QUEUE_LIMIT: u32 = 256;
/// How long a question, and then its answer, stays valid.
pub const TALK_EXPIRY: Duration = Duration::from_secs(2);
/// Both sides send something at least twice in this time, or the session ends.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// The time limit of any single answer of the broker.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of a confirm while the broker accepts messages.
pub const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest delay between two attempts to connect; also the delay if a person has to act.
pub const RECONNECT_LIMIT: Duration = Duration::from_secs(30);
/// The time limit of [`Broker::close`].
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The address of the broker, and our account there.
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
    /// The TLS settings; `None` is plain TCP.
    pub tls: Option<Tls>,
    /// The group.
    pub group: GroupId,
    /// The node.
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

/// Identifies one delivery of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryTag {
    session: u64,
    number: u64,
}

/// Events of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerEvent {
    /// The queues are declared, bound and consumed: messages that are published from now on arrive.
    Connected,
    /// Messages that are published before the next `Connected` do not arrive, and why. Sent when a session ends, when
    /// an attempt fails for a new reason, and while the broker accepts no messages.
    Disconnected(Reason),
    /// A message of a peer. It comes again in the next session unless it is acknowledged.
    Delivery {
        /// The sender.
        from: Node,
        /// The message.
        message: Message,
        /// For [`Broker::acknowledge`].
        tag: DeliveryTag,
    },
    /// A question of a peer. It expects an answer by [`Line::answer`] within [`TALK_EXPIRY`].
    Asked {
        /// The asker.
        from: Node,
        /// The asker's number of the question.
        ask: u64,
        /// The method's full name.
        method: String,
        /// Its parameters by name.
        parameters: Map<String, Value>,
    },
    /// An answer of a peer.
    Answered {
        /// The sender.
        from: Node,
        /// Our number of the question.
        ask: u64,
        /// The parameters of the reply, or of the error.
        outcome: Result<Map<String, Value>, Failure>,
    },
    /// No node received a question: the node has no session with the broker.
    Undelivered {
        /// Our number of the question.
        ask: u64,
    },
}

/// The handle of the task that keeps the session. Dropping it ends the task at once.
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
    /// Holds at most what is delivered and unacknowledged, which [`PREFETCH`] limits.
    acknowledge: mpsc::UnboundedReceiver<DeliveryTag>,
    talk: mpsc::Receiver<line::Outgoing>,
    stop: oneshot::Receiver<()>,
    open: Arc<AtomicBool>,
    events: mpsc::Sender<BrokerEvent>,
}

impl Broker {
    /// Starts to connect, and retries until [`Broker::close`]. Must be called inside a tokio runtime with time and IO.
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

    /// A handle for questions and answers.
    pub fn line(&self) -> Line {
        self.line.clone()
    }

    /// Sends a message, without waiting. It is dropped without a session, if [`PUBLISH_QUEUE_LIMIT`] messages wait
    /// already, and if no such queue exists: the node repeats what it owes anyway.
    pub fn publish(&self, to: Address, message: Message) {
        let kind = message.kind();
        if !self.open.load(Ordering::Acquire) {
            debug!(kind, "not published: no session with the broker");
        } else if self.publish.try_send((to, message)).is_err() {
            debug!(kind, "not published: {PUBLISH_QUEUE_LIMIT} messages already wait");
        }
    }

    /// Acknowledges deliveries, after the journal has their results. Tags of an earlier session are ignored: those
    /// deliveries come again.
    pub fn acknowledge(&self, tags: impl IntoIterator<Item = DeliveryTag>) {
        for tag in tags {
            // A closed channel means that the task has ended, and with it the session.
            let _ = self.acknowledge.send(tag);
        }
    }

    /// Publishes and acknowledges what still waits, and closes the session; stops after [`CLOSE_TIMEOUT`].
    pub async fn close(self) {
        let Self { stop, mut task, .. } = self;
        // A task that has ended needs no request.
        let _ = stop.send(());
        if tokio::time::timeout(CLOSE_TIMEOUT, &mut task).await.is_err() {
            debug!("the broker did not close the session in time");
            task.abort();
        }
    }
}
