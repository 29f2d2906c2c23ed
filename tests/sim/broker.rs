//! The broker, hostile where at-least-once delivery allows it, and a little beyond: words get lost, doubled,
//! late and out of order; what a lost session had not confirmed may be gone; what was not acknowledged comes again.

use std::collections::BTreeMap;

use synkler::machine::{Address, Cause, ENTRY_LIMIT, Input, Message, Mode, Node, Reason};

use crate::checker::Promise;
use crate::sim::{Sim, What};
use crate::tally::Deed;
use crate::trace::trace;

/// Where a letter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// On its way to its receiver's queue.
    Flying,
    /// In the queue of a receiver that is not there.
    Queued,
    /// Handed over in this session, and not acknowledged yet.
    Handed(u32),
}

struct Letter {
    from: usize,
    to: usize,
    message: Message,
    /// When the broker has confirmed it to its sender.
    confirmed: u64,
    place: Where,
}

/// Every letter that is not acknowledged.
#[derive(Default)]
pub(crate) struct Broker {
    letters: BTreeMap<u64, Letter>,
    count: u64,
    pub(crate) down: bool,
    /// Messages sent that were no hello.
    pub(crate) sent: u64,
}

impl Broker {
    /// Whether anything but a hello is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.letters.values().any(|letter| !matches!(letter.message, Message::Hello(_)))
    }
}

fn entries(message: &Message) -> usize {
    match message {
        Message::Hello(_) => 1,
        Message::New(list) => list.len(),
        Message::Upload { transfers, .. } | Message::Sent { transfers, .. } => transfers.len(),
        Message::Download { items, .. } => items.len(),
        Message::Done(list) => list.len(),
        Message::Release(list) => list.len(),
        Message::Waiting(list) => list.len(),
        Message::Withdraw(ids)
        | Message::Cancel(ids)
        | Message::Received(ids)
        | Message::Noted(ids)
        | Message::Freed(ids)
        | Message::Closed(ids)
        | Message::Unknown(ids) => ids.len(),
    }
}

impl Sim {
    /// [`synkler::machine::Effect::Send`].
    pub(crate) fn send(&mut self, from: usize, to: &Address, message: &Message) {
        self.check_sent(from, to, message);
        if !(1..=ENTRY_LIMIT).contains(&entries(message)) {
            self.violate(Promise::Protocol, from, || format!("{} with {} entries", message.kind(), entries(message)));
        }
        if !matches!(message, Message::Hello(_)) {
            self.broker.sent += 1;
        }
        if !self.nodes[from].connected {
            trace!(self, Some(from), "   (no session: not sent)");
            return;
        }
        for receiver in 0..self.nodes.len() {
            let meant = match to {
                Address::Node(node) => self.nodes[receiver].node == *node,
                Address::AnyCentral => self.nodes[receiver].node.mode == Mode::Central,
                Address::All => receiver != from,
            };
            if !meant {
                continue;
            }
            if self.rng.chance(self.plan.loss) {
                self.tally.count(Deed::MessageLost);
                trace!(self, Some(from), "   (lost on the way to {})", self.nodes[receiver].label);
                continue;
            }
            self.post(from, receiver, message.clone());
            if self.rng.chance(self.plan.twice) {
                self.tally.count(Deed::MessageDoubled);
                self.post(from, receiver, message.clone());
            }
        }
    }

    fn post(&mut self, from: usize, to: usize, message: Message) {
        self.broker.count += 1;
        let id = self.broker.count;
        let confirmed = self.now + self.rng.wait(20, 2000, self.plan.late);
        let delay = self.rng.wait(20, self.plan.late_ms, self.plan.late);
        self.broker.letters.insert(id, Letter { from, to, message, confirmed, place: Where::Flying });
        self.at(delay, What::Deliver(id));
    }

    /// A letter reaches its receiver, or its receiver's queue.
    pub(crate) fn deliver(&mut self, id: u64) {
        let Some(letter) = self.broker.letters.get_mut(&id) else { return };
        let receiver = &self.nodes[letter.to];
        if self.broker.down || !receiver.connected {
            letter.place = Where::Queued;
            return;
        }
        letter.place = Where::Handed(receiver.session);
        let (sender, to, message) = (letter.from, letter.to, letter.message.clone());
        let Some(message) = self.as_read(sender, to, &message) else {
            // A dead letter.
            self.broker.letters.remove(&id);
            return;
        };
        let from: Node = self.nodes[sender].node.clone();
        self.push(to, Input::Received { from, message }, Some(id));
    }

    /// The daemon has journalled what a delivery brought.
    pub(crate) fn acknowledge(&mut self, node: usize, id: u64) {
        let current = self.nodes[node].connected.then_some(self.nodes[node].session);
        if let Some(Where::Handed(session)) = self.broker.letters.get(&id).map(|letter| letter.place)
            && current == Some(session)
        {
            self.broker.letters.remove(&id);
        }
    }

    /// A session ends: unconfirmed words may be gone, unacknowledged ones go back to the queue.
    pub(crate) fn end_session(&mut self, node: usize) {
        if !self.nodes[node].connected {
            return;
        }
        self.nodes[node].connected = false;
        self.tally.count(Deed::SessionLost);
        let (now, rng) = (self.now, &mut self.rng);
        let mut lost = Vec::new();
        for (id, letter) in &mut self.broker.letters {
            if letter.from == node && letter.place == Where::Flying && letter.confirmed > now && rng.chance(500) {
                lost.push(*id);
            }
            if letter.to == node && matches!(letter.place, Where::Handed(_)) {
                self.tally.count(Deed::MessageRedelivered);
                letter.place = Where::Queued;
            }
        }
        for id in lost {
            self.tally.count(Deed::UnconfirmedLost);
            self.broker.letters.remove(&id);
        }
    }

    /// The session of a running daemon breaks.
    pub(crate) fn drop_session(&mut self, node: usize) {
        if self.nodes[node].machine.is_some() && self.nodes[node].connected {
            trace!(self, Some(node), "-- session lost");
            self.end_session(node);
            self.push(node, Input::Disconnected(Reason::with(Cause::Transport, "session lost")), None);
            self.reconnect(node);
        }
    }

    /// A daemon tries the broker after a while.
    pub(crate) fn reconnect(&mut self, node: usize) {
        let epoch = self.nodes[node].epoch;
        let wait = self.rng.wait(1000, 10_000, 300);
        self.at(wait, What::Connect { node, epoch });
    }

    /// A daemon tries the broker now.
    pub(crate) fn connect(&mut self, node: usize) {
        if self.nodes[node].connected {
            return;
        }
        if self.broker.down {
            self.reconnect(node);
            return;
        }
        self.nodes[node].connected = true;
        self.nodes[node].session += 1;
        self.push(node, Input::Connected, None);
        let queued: Vec<u64> = self
            .broker
            .letters
            .iter()
            .filter(|(_, letter)| letter.to == node && letter.place == Where::Queued)
            .map(|(id, _)| *id)
            .collect();
        for id in queued {
            let delay = self.rng.between(1, 50);
            if let Some(letter) = self.broker.letters.get_mut(&id) {
                letter.place = Where::Flying;
                letter.confirmed = 0;
            }
            self.at(delay, What::Deliver(id));
        }
    }

    /// The broker goes down or comes up.
    pub(crate) fn set_broker(&mut self, down: bool) {
        trace!(self, None, "-- broker {}", if down { "down" } else { "up" });
        self.broker.down = down;
        if down {
            (0..self.nodes.len()).for_each(|node| self.drop_session(node));
        }
    }
}
