//! The peers of a node: what they told about themselves, and what the node tells them. Both are in hellos.

use super::shared::{HELLO_EVERY, Peer, SILENT_AFTER, Shared, Timer};
use super::{Address, Effect, Hello, KnownNode, Level, Message, Mode, Node, Protocols, Record};

/// What a message tells about its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The sender is new, was restarted, or had been silent: send it now what it is owed.
    pub(super) back: bool,
    /// The sender has another journal than before: it has lost its state.
    pub(super) forgot: bool,
    /// The sender knew a later order about the whole group.
    pub(super) ordered: bool,
    /// The sender shares no protocol version with us: ignore everything but its hello.
    pub(super) apart: bool,
}

impl Shared {
    /// Sends a hello in this drain.
    pub(super) fn hello(&mut self, to: Address, reply: bool) {
        if !self.connected() {
            return;
        }
        if to == Address::All {
            self.timers.set(Timer::Hello, self.now.after(HELLO_EVERY));
            // Measures the free space at the next opportunity.
            if self.timers.due(&Timer::Measure).is_none() {
                self.effect(Effect::Measure);
            }
        }
        *self.greetings.entry(to).or_default() |= reply;
    }

    /// How many inodes are free, if the file system has a limit for them.
    pub(super) fn free_inodes(&self) -> Option<u64> {
        self.space?.inodes.map(|inodes| inodes.free)
    }

    /// Whether hellos are due; they need to know what this node does.
    pub(super) fn greets(&self) -> bool {
        !self.greetings.is_empty()
    }

    pub(super) fn send_hellos(&mut self, doing: &str) {
        for (to, reply) in std::mem::take(&mut self.greetings) {
            let hello = Hello {
                protocols: Protocols::OURS,
                journal: self.journal,
                started: self.started,
                version: self.version.clone(),
                slots: self.slots,
                reply,
                host: self.host.clone(),
                now: self.now,
                paused: self.paused.clone(),
                group: self.group.clone(),
                free: self.space.map(|space| space.free),
                free_inodes: self.free_inodes(),
                doing: doing.to_owned(),
                spool: self.spool.clone(),
            };
            self.send(to, Message::Hello(Box::new(hello)));
        }
    }

    /// Notes that a peer is alive, and the content of its hello.
    pub(super) fn on_message(&mut self, from: &Node, hello: Option<&Hello>) -> Greeting {
        let now = self.now;
        let was_silent = self.peers.get(from).is_none_or(|peer| now.since(peer.known.last_heard) > SILENT_AFTER);
        let Some(hello) = hello else {
            if self.is_apart(from) {
                self.log(
                    Level::Debug,
                    None,
                    None,
                    Some(from),
                    "ignored a message: the node's protocol version is incompatible",
                );
                return Greeting { back: false, forgot: false, ordered: false, apart: true };
            }
            if let Some(peer) = self.peers.get_mut(from) {
                peer.known.last_heard = now;
            }
            let back = was_silent && self.peers.contains_key(from);
            return Greeting { back, forgot: false, ordered: false, apart: false };
        };
        let was_apart = self.is_apart(from);
        let apart = Protocols::OURS.fit(hello.protocols).apart().is_some();
        let before = self.peers.get(from).map(|peer| &peer.known);
        let forgot = !apart && before.is_some_and(|before| before.journal != hello.journal);
        // The node finds out later what the peer has lost: when both share a protocol version.
        let read = before.filter(|_| apart);
        let known = KnownNode {
            node: from.clone(),
            journal: read.map_or(hello.journal, |before| before.journal),
            started: hello.started,
            slots: read.map_or(hello.slots, |before| before.slots),
            version: hello.version.clone(),
            host: read.map_or(&hello.host, |before| &before.host).clone(),
            spool: read.map_or(&hello.spool, |before| &before.spool).clone(),
            first_heard: before.map_or(now, |before| before.first_heard),
            last_heard: now,
        };
        let changed = before.is_none_or(|before| KnownNode { last_heard: now, ..before.clone() } != known);
        if changed {
            self.persist(Record::Node(known.clone()));
            self.log(Level::Info, None, None, Some(from), "node announced itself");
        }
        let ahead = i128::from(hello.now.as_millis()) - i128::from(now.as_millis());
        let peer = Peer {
            known,
            protocols: Some(hello.protocols),
            paused: hello.paused.clone(),
            free: hello.free,
            free_inodes: hello.free_inodes,
            doing: hello.doing.clone(),
            clock_ahead: i64::try_from(ahead).ok(),
        };
        let told = self.peers.insert(from.clone(), peer).and_then(|before| before.protocols);
        self.count_apart();
        if told != Some(hello.protocols) {
            self.log_fit(from, was_apart);
        }
        if apart {
            if hello.reply {
                self.hello(Address::Node(from.clone()), false);
            }
            return Greeting { back: false, forgot: false, ordered: false, apart };
        }
        let ordered = hello.group > self.group;
        if ordered {
            self.take_group_order(hello.group.clone());
        }
        // Sends the latest order to a peer that does not know it yet.
        if hello.reply || hello.group < self.group {
            self.hello(Address::Node(from.clone()), false);
        }
        Greeting { back: changed || was_silent || was_apart, forgot, ordered, apart }
    }

    pub(super) fn alive(&self, node: &Node) -> bool {
        self.peers.get(node).is_some_and(|peer| self.now.since(peer.known.last_heard) <= SILENT_AFTER)
    }

    /// Whether it is useful to repeat a message now.
    pub(super) fn reachable(&self, to: &Address) -> bool {
        match to {
            Address::Node(node) => self.speaks_with(node),
            Address::AnyCentral => self.peers.keys().any(|node| node.mode == Mode::Central && self.speaks_with(node)),
            Address::All => true,
        }
    }
}
