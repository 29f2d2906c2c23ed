//! The shape of a hello, and of the part of it that never changes.

use serde::{Deserialize, Serialize};

use crate::machine::{DOING_LIMIT, GroupPause, HOST_LIMIT, Hello, JournalId, Pause, Protocols, Time};

use super::VERSION_LIMIT;
use super::field::{Directory, Giver, Line, Sender, Slots, Spelled};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Greeting {
    protocols: Range,
    journal: Spelled<JournalId>,
    started: u64,
    version: Line<VERSION_LIMIT>,
    slots: Slots,
    reply: bool,
    host: Line<HOST_LIMIT>,
    now: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused: Option<Order>,
    group: GroupOrder,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    free: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    free_inodes: Option<u64>,
    doing: Line<DOING_LIMIT>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spool: Option<Directory>,
}

/// The lowest and the highest protocol version that a node supports.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "(u64, u64)", into = "(u64, u64)")]
struct Range(Protocols);

impl TryFrom<(u64, u64)> for Range {
    type Error = String;
    fn try_from((min, max): (u64, u64)) -> Result<Self, String> {
        Protocols::new(min, max).map(Self).ok_or_else(|| format!("{min} to {max} are no versions of the protocol"))
    }
}

impl From<Range> for (u64, u64) {
    fn from(Range(protocols): Range) -> Self {
        (protocols.min(), protocols.max())
    }
}

/// The fields that never change, so that any node can tell which versions another one supports.
#[derive(Deserialize)]
pub(super) struct Stranger {
    hello: Lasting,
}

#[derive(Deserialize)]
struct Lasting {
    protocols: Range,
    journal: Spelled<JournalId>,
    started: u64,
    version: Line<VERSION_LIMIT>,
    reply: bool,
    now: u64,
}

impl Stranger {
    /// The hello of a node that shares no protocol version with us; `None` if it shares one.
    pub(super) fn into_hello(self) -> Option<Hello> {
        let Lasting { protocols, journal, started, version, reply, now } = self.hello;
        Protocols::OURS.fit(protocols.0).apart()?;
        Some(Hello {
            protocols: protocols.0,
            journal: journal.0,
            started: Time::from_millis(started),
            version: version.into_text(),
            slots: 1,
            reply,
            host: String::new(),
            now: Time::from_millis(now),
            paused: None,
            group: GroupPause::default(),
            free: None,
            free_inodes: None,
            doing: String::new(),
            spool: None,
        })
    }
}

/// An order that something is paused.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    since: u64,
    by: Giver,
    node: Sender,
}

/// The latest order about the whole group; without `paused` the group is not paused.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct GroupOrder {
    changed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused: Option<Order>,
    stop: bool,
}

impl From<Pause> for Order {
    fn from(pause: Pause) -> Self {
        Self { since: pause.since.as_millis(), by: Giver(pause.by.into()), node: pause.node.into() }
    }
}

impl From<Order> for Pause {
    fn from(order: Order) -> Self {
        Self::new(Time::from_millis(order.since), &order.by.0, order.node.into())
    }
}

impl From<Hello> for Greeting {
    fn from(hello: Hello) -> Self {
        Self {
            protocols: Range(hello.protocols),
            journal: Spelled(hello.journal),
            started: hello.started.as_millis(),
            version: Line::cut(&hello.version),
            slots: Slots::clamped(hello.slots),
            reply: hello.reply,
            host: Line::cut(&hello.host),
            now: hello.now.as_millis(),
            paused: hello.paused.map(Order::from),
            group: GroupOrder {
                changed: hello.group.changed.as_millis(),
                paused: hello.group.pause.map(Order::from),
                stop: hello.group.stop,
            },
            free: hello.free,
            free_inodes: hello.free_inodes,
            doing: Line::cut(&hello.doing),
            spool: hello.spool.map(Directory),
        }
    }
}

impl From<Greeting> for Hello {
    fn from(greeting: Greeting) -> Self {
        Self {
            protocols: greeting.protocols.0,
            journal: greeting.journal.0,
            started: Time::from_millis(greeting.started),
            version: greeting.version.into_text(),
            slots: greeting.slots.0,
            reply: greeting.reply,
            host: greeting.host.into_text(),
            now: Time::from_millis(greeting.now),
            paused: greeting.paused.map(Pause::from),
            group: GroupPause {
                changed: Time::from_millis(greeting.group.changed),
                pause: greeting.group.paused.map(Pause::from),
                stop: greeting.group.stop,
            },
            free: greeting.free,
            free_inodes: greeting.free_inodes,
            doing: greeting.doing.into_text(),
            spool: greeting.spool.map(|spool| spool.0),
        }
    }
}
