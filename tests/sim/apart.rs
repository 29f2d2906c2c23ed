//! A node that speaks no version of the protocol that the others speak, until somebody upgrades it: it is known, and no
//! work is exchanged with it. What is said all the same nobody there can read.

use synkler::machine::{Address, Input, Message, Node, Protocols};

use crate::checker::Promise;
use crate::sim::Sim;
use crate::tally::Deed;

impl Sim {
    /// Whether two nodes share no version of the protocol now.
    fn are_apart(&self, one: usize, other: usize) -> bool {
        let odd = |node| self.plan.odd == Some(node);
        !self.calm && one != other && (odd(one) || odd(other))
    }

    /// What the receiver reads of some words; nothing where it cannot.
    pub(crate) fn as_read(&mut self, from: usize, to: usize, message: &Message) -> Option<Message> {
        if !self.are_apart(from, to) {
            return Some(message.clone());
        }
        let Message::Hello(hello) = message else {
            self.tally.count(Deed::Unread);
            return None;
        };
        // One of them is of an older version. That is what each reads in the other's hello, whoever is which.
        let older = self.plan.odd == Some(from);
        let mut hello = hello.clone();
        hello.protocols = if older { Protocols::new(1, 1).unwrap() } else { Protocols::new(3, 3).unwrap() };
        Some(Message::Hello(hello))
    }

    /// A machine is about to be told something. It may say more in this drain to a node that it has just learnt not to
    /// understand.
    pub(crate) fn mark_hello(&mut self, node: usize, input: &Input) {
        let Input::Received { from, message: Message::Hello(hello) } = input else { return };
        let fits = hello.protocols == Protocols::OURS;
        self.nodes[node].hellos.insert(from.clone(), fits);
        if fits {
            self.nodes[node].known.insert(from.clone(), true);
        }
    }

    /// Nothing but a hello is said to a node that is known to read nothing else.
    pub(crate) fn check_apart(&mut self, node: usize, to: &Address, message: &Message) {
        let known = |to: &Node| self.nodes[node].known.get(to) == Some(&false);
        if let Address::Node(to) = to
            && !matches!(message, Message::Hello(_))
            && known(to)
        {
            self.violate(Promise::Protocol, node, || {
                format!("{} is said to {to}, which cannot read it", message.kind())
            });
        }
    }
}
