//! One line for `systemctl status`, updated after changes, at most once a second.

use tokio::time::Instant;

use super::STATUS_EVERY;
use crate::drivers::systemd;
use crate::machine::{BrokerState, Machine, Selection, Snapshot};

#[derive(Debug)]
pub(super) struct Reporter {
    last: String,
    next: Instant,
    /// Whether something has happened since the last update.
    stale: bool,
}

impl Reporter {
    pub(super) fn new() -> Self {
        Self { last: String::new(), next: Instant::now(), stale: false }
    }

    /// When the line may need an update without any event; `None` if it is up to date.
    pub(super) fn due(&self) -> Option<Instant> {
        self.stale.then_some(self.next)
    }

    pub(super) fn report(&mut self, machine: &Machine) {
        if Instant::now() < self.next {
            self.stale = true;
            return;
        }
        self.stale = false;
        let text = line(&machine.snapshot(&Selection::default()));
        if text != self.last {
            systemd::status(&text);
            self.last = text;
        }
        self.next = Instant::now() + STATUS_EVERY;
    }
}

fn line(snapshot: &Snapshot) -> String {
    let broker = match &snapshot.broker {
        BrokerState::Connected(_) => "broker connected".to_owned(),
        BrokerState::Disconnected(_, None) => "connecting to the broker".to_owned(),
        BrokerState::Disconnected(_, Some(why)) => format!("no broker: {why}"),
    };
    let is_paused = snapshot.paused.is_some() || snapshot.group_paused.is_some();
    let paused = if is_paused { ", paused" } else { "" };
    if let Some(reason) = &snapshot.no_directory {
        return format!("{}{paused}: {reason}", snapshot.node);
    }
    let total: u64 = snapshot.counts.iter().map(|(_, count)| count).sum();
    let stages: Vec<_> = snapshot.counts.iter().map(|(stage, count)| format!("{count} {stage}")).collect();
    let items = if total == 0 { "nothing to do".to_owned() } else { stages.join(", ") };
    format!("{}{paused}: {items}; {broker}", snapshot.node)
}
