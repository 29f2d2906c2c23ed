//! Orders about the whole node, the whole group, and other nodes.

use std::time::Duration;

use super::shared::{HELLO_EVERY, Shared};
use super::{Address, BrokerState, GroupPause, Level, Node, Pause, Record};

/// How long a node must have been connected before the silence of another node means anything: longer than the interval
/// of hellos.
const LISTENED: Duration = Duration::from_secs(HELLO_EVERY.as_secs() + 15);

impl Shared {
    pub(super) fn pause_node(&mut self, by: &str) -> String {
        if let Some(earlier) = &self.paused {
            return format!("already paused {earlier}");
        }
        let pause = Pause::new(self.now, by, self.me.clone());
        self.log(Level::Info, None, None, None, format!("paused by {}", pause.by));
        self.persist(Record::Paused(Some(pause.clone())));
        self.paused = Some(pause);
        self.hello(Address::All, false);
        "paused: this node starts no new transfers".to_owned()
    }

    pub(super) fn resume_node(&mut self, by: &str) -> String {
        if self.paused.take().is_none() {
            return match &self.group.pause {
                Some(pause) => format!("nothing to do: this node is not paused, but the group is paused {pause}"),
                None => "nothing to do: this node is not paused".to_owned(),
            };
        }
        self.log(Level::Info, None, None, None, format!("resumed by {by}"));
        self.persist(Record::Paused(None));
        self.hello(Address::All, false);
        match &self.group.pause {
            Some(pause) => format!("resumed, but the group is still paused {pause}"),
            None => "resumed".to_owned(),
        }
    }

    pub(super) fn pause_group(&mut self, by: &str, stop: bool) -> String {
        if let Some(earlier) = self.group.pause.clone() {
            if stop && !self.group.stop {
                self.order_group(Some(earlier), true);
                return "already paused; every node now stops its running transfers".to_owned();
            }
            return format!("the group is already paused {earlier}");
        }
        let pause = Pause::new(self.now, by, self.me.clone());
        self.order_group(Some(pause), stop);
        "paused: the group starts no new transfers; offline nodes follow when they reconnect".to_owned()
    }

    pub(super) fn resume_group(&mut self, by: &str) -> String {
        if self.group.pause.is_none() {
            return "nothing to do: the group is not paused".to_owned();
        }
        self.log(Level::Info, None, None, None, format!("group resumed by {by}"));
        self.order_group(None, false);
        match &self.paused {
            Some(pause) => format!("resumed, but this node is still paused {pause}"),
            None => "resumed; offline nodes follow when they reconnect".to_owned(),
        }
    }

    /// Sets the order about the group on this node and sends it to all.
    fn order_group(&mut self, pause: Option<Pause>, stop: bool) {
        let changed = self.now.max(self.group.changed.after(Duration::from_millis(1)));
        self.take_group_order(GroupPause { changed, pause, stop });
        self.hello(Address::All, false);
    }

    /// Removes a peer, unless it is alive or may be alive. Returns whether the peer was known.
    pub(super) fn forget(&mut self, node: &Node, by: &str) -> Result<bool, String> {
        if *node == self.me {
            return Err("a node cannot remove itself from the group".to_owned());
        }
        if self.alive(node) {
            let ago = self.peers.get(node).map_or(0, |peer| self.now.since(peer.known.last_heard).as_secs());
            return Err(format!("{node} is alive: last message {ago} s ago"));
        }
        let listened = match self.broker {
            BrokerState::Connected(since) => self.now.since(since),
            BrokerState::Disconnected(..) => Duration::ZERO,
        };
        if listened < LISTENED {
            let wait = LISTENED.saturating_sub(listened).as_secs() + 1;
            return Err(format!(
                "not known yet whether {node} is alive: retry after {wait} s with the broker connected"
            ));
        }
        let known = self.peers.remove(node).is_some();
        self.count_apart();
        if known {
            self.persist(Record::Forgotten(node.clone()));
            self.log(Level::Warn, None, None, Some(node), format!("removed from the group by {by}"));
        }
        Ok(known)
    }
}
