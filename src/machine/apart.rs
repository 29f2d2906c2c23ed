//! Peers that share no protocol version with this node. Nodes know and show them, but send them nothing except hellos.

use super::shared::{Peer, Shared};
use super::{Address, Fit, Level, Mode, Node, Protocols, Row};

impl Shared {
    /// Logs once that this node shares no protocol version with a peer, and once that it shares one again.
    pub(super) fn log_fit(&mut self, peer: &Node, was_apart: bool) {
        match self.peers.get(peer).and_then(|peer| peer.apart(&self.me)) {
            Some((_, text)) => {
                self.log(Level::Warn, None, None, Some(peer), format!("{text}; no transfers until then"));
            }
            None if was_apart => {
                self.log(
                    Level::Info,
                    None,
                    None,
                    Some(peer),
                    "protocol version is compatible again: transfers continue",
                );
            }
            None => {}
        }
    }

    /// Must be called whenever a peer joins, leaves or reports its protocols.
    pub(super) fn count_apart(&mut self) {
        self.any_apart = self.peers.values().any(|peer| peer.apart(&self.me).is_some());
    }

    /// Whether a node shares no protocol with us, as it said itself.
    pub(super) fn is_apart(&self, node: &Node) -> bool {
        self.any_apart && self.peers.get(node).is_some_and(|peer| peer.apart(&self.me).is_some())
    }

    /// The peer that a transfer needs and that shares no protocol version with us. On central this is the upload.
    /// Elsewhere it is the central that took the transfer, or any central if no compatible one is left.
    pub(super) fn estranged(&self, row: &Row) -> Option<&Peer> {
        if !self.any_apart {
            return None;
        }
        let node = match (self.me.mode, &row.central) {
            (Mode::Central, _) => Node::new(Mode::Upload, row.upload.clone()),
            (_, Some(central)) => Node::new(Mode::Central, central.clone()),
            (_, None) => {
                let mut centrals = self.peers.keys().filter(|node| node.mode == Mode::Central);
                let first = centrals.clone().next()?.clone();
                if !centrals.all(|node| self.is_apart(node)) {
                    return None;
                }
                first
            }
        };
        self.peers.get(&node).filter(|_| self.is_apart(&node))
    }

    /// The address of any central; the address of one compatible central while an incompatible central is in the group.
    pub(super) fn any_central(&self) -> Address {
        let centrals = || self.peers.keys().filter(|node| node.mode == Mode::Central);
        if !centrals().any(|node| self.is_apart(node)) {
            return Address::AnyCentral;
        }
        let fitting = || centrals().filter(|node| !self.is_apart(node));
        let chosen = fitting().find(|node| self.alive(node)).or_else(|| fitting().next());
        chosen.cloned().map_or(Address::AnyCentral, Address::Node)
    }

    /// Whether every node that may receive a message to this address shares a protocol version with us.
    pub(super) fn understands(&self, to: &Address) -> bool {
        match to {
            Address::Node(node) => !self.is_apart(node),
            Address::AnyCentral => !self.peers.keys().any(|node| node.mode == Mode::Central && self.is_apart(node)),
            Address::All => true,
        }
    }

    /// Whether a message from the node arrived lately and the node shares a protocol version with us.
    pub(super) fn speaks_with(&self, node: &Node) -> bool {
        self.alive(node) && !self.is_apart(node)
    }
}

impl Peer {
    /// Why `me` cannot exchange messages with the peer, and what to do: a stable word and a text.
    pub(super) fn apart(&self, me: &Node) -> Option<(&'static str, String)> {
        let (ours, theirs) = (Protocols::OURS, self.protocols?);
        let fit = ours.fit(theirs);
        let (what, whom) = match fit {
            Fit::Together(_) => return None,
            Fit::TooOld => ("too old", &self.known.node),
            Fit::TooNew => ("too new", me),
        };
        let text = format!("{what}: upgrade synkler on {whom} (it speaks {theirs}, {me} {ours})");
        fit.apart().map(|code| (code, text))
    }
}
