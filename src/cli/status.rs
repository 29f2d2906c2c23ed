//! The group as text: first the node and its connections, then a table of the transfers.

use super::line::{Ink, LABEL, Line, Look, Text};
use super::transfers::{self, is_delivered};
use super::units::{ago, cut, few_inodes, printable, size, span};
use super::zone::Zone;
use crate::control::types::{Broker, Member, Paused, Status, View};

/// The maximum number of nodes shown.
const MEMBER_LINES: usize = 20;

/// The whole text of `synklerctl status` at this width.
pub fn status_text(status: &Status, look: Look<'_>) -> Text {
    let room = look.room();
    let mut page = Page { text: Text::default(), room, now: status.now, zone: look.zone };
    page.node(status);
    page.broker(&status.broker);
    page.directory(status);
    page.view(&status.view);
    if let Some(pause) = &status.group_paused {
        page.field("Group", &format!("paused {}", page.order(pause)), Ink::Yellow);
    }
    page.members(status);
    page.counts(status);
    if !status.transfers.is_empty() {
        page.text.push(Line::default());
        let node = format!("{} {}", status.node.mode, status.node.name);
        transfers::lay(&mut page.text, look, &status.transfers, status.now, &node);
    }
    let all = status.transfers.iter().any(|transfer| is_delivered(&transfer.state));
    let known = status.total + if all { delivered(status) } else { 0 };
    let hidden = known.saturating_sub(status.transfers.len() as u64);
    if hidden > 0 {
        page.text.push(Line::new(Ink::Dim, &format!("… and {hidden} more")));
    }
    page.text
}

/// The number of delivered transfers.
fn delivered(status: &Status) -> u64 {
    status.states.iter().filter(|count| is_delivered(&count.state)).map(|count| count.count).sum()
}

/// `incomplete: central hub does not answer; this is what upload alpha knows`; `None` if the view is complete.
pub(super) fn incomplete(view: &View) -> Option<String> {
    if view.whole {
        return None;
    }
    let mut text = format!("incomplete: {}", view.why.as_deref().unwrap_or("this node alone was asked"));
    if !view.silent.is_empty() {
        text.push_str(&format!("; no answer from {}", view.silent.join(", ")));
    }
    text.push_str(&format!("; this is what {} knows", view.from));
    Some(text)
}

fn is_own(status: &Status, member: &Member) -> bool {
    (&member.mode, &member.name) == (&status.node.mode, &status.node.name)
}

/// The dot before a node.
pub(super) fn dot(member: &Member) -> (&'static str, Ink) {
    match (member.alive, &member.paused) {
        (false, _) => ("○", Ink::Red),
        (true, _) if member.apart.is_some() => ("●", Ink::Red),
        (true, Some(_)) => ("●", Ink::Yellow),
        (true, None) => ("●", Ink::Green),
    }
}

struct Page<'a> {
    text: Text,
    room: usize,
    now: u64,
    zone: &'a Zone,
}

impl Page<'_> {
    /// `since Mon 2026-11-23 19:11:00 CET; 5min 3s ago`.
    fn since(&self, then: u64) -> String {
        self.zone.since(then, self.now)
    }

    fn order(&self, pause: &Paused) -> String {
        format!("{}, by {} on {}: no new transfers start", self.since(pause.since), pause.by, pause.node)
    }

    fn field(&mut self, label: &str, text: &str, ink: impl Into<Option<Ink>>) {
        self.text.field(self.room, label, text, ink);
    }

    fn node(&mut self, status: &Status) {
        let node = &status.node;
        let paused = status.members.iter().find(|member| is_own(status, member)).and_then(|own| own.paused.as_ref());
        let held = paused.is_some() || status.group_paused.is_some() || !status.view.whole;
        let works = status.broker.connected && status.directory.is_none();
        let ink = match (works, held) {
            (false, _) => Ink::Red,
            (true, true) => Ink::Yellow,
            (true, false) => Ink::Green,
        };
        self.text.title(self.room, ("●", ink), &format!("{} {}, group {}", node.mode, node.name, node.group));
        self.field("Running", &self.since(node.started), None);
        self.field("Daemon", &format!("synkler {}, pid {}", node.version, node.pid), None);
        if let Some(pause) = paused {
            self.field("Paused", &self.order(pause), Ink::Yellow);
        }
    }

    fn broker(&mut self, broker: &Broker) {
        let when = self.since(broker.since);
        if broker.connected {
            self.field("Broker", &format!("connected {when}"), None);
            return;
        }
        self.field("Broker", &format!("not connected {when}"), Ink::Red);
        let why = broker.reason.as_ref().map_or("the first attempt is under way", |reason| &reason.text);
        self.field("", why, Ink::Red);
    }

    fn directory(&mut self, status: &Status) {
        if let Some(reason) = &status.directory {
            self.field("Directory", &format!("{}: {}", status.node.file_dir, reason.text), Ink::Red);
            self.field("", "nothing is done there; if the change is intended: synklerctl adopt", Ink::Red);
        }
    }

    fn view(&mut self, view: &View) {
        if let Some(text) = incomplete(view) {
            self.field("View", &text, Ink::Yellow);
        }
    }

    fn members(&mut self, status: &Status) {
        let shown = status.members.get(..MEMBER_LINES).unwrap_or(&status.members);
        for (index, member) in shown.iter().enumerate() {
            let (dot, ink) = dot(member);
            let text = cut(&printable(&self.member(status, member)), self.room - LABEL - 2);
            let line = Line::new(ink, dot).and(None, " ").and(None, &text);
            self.text.labelled(if index == 0 { "Nodes" } else { "" }, line);
        }
        if status.members.len() > shown.len() {
            self.field("", &format!("… and {} more", status.members.len() - shown.len()), Ink::Dim);
        }
        if status.members.len() <= 1 {
            self.field(if shown.is_empty() { "Nodes" } else { "" }, "no other node seen yet", Ink::Dim);
        }
    }

    fn member(&self, status: &Status, member: &Member) -> String {
        let mut parts = vec![format!("{} {}", member.mode, member.name)];
        if is_own(status, member) {
            parts.push("this node".to_owned());
        } else if !member.alive {
            parts.push(format!("silent for {}", span(self.now.saturating_sub(member.heard), 1)));
        }
        if let Some(apart) = &member.apart {
            parts.push(apart.text.clone());
        }
        if let Some(pause) = &member.paused {
            parts.push(format!("paused {} by {}", ago(pause.since, self.now), pause.by));
        }
        if member.alive && !member.doing.is_empty() {
            parts.push(member.doing.clone());
        }
        if member.version != status.node.version {
            parts.push(format!("synkler {}", member.version));
        }
        if let Some(free) = member.free.filter(|_| member.alive) {
            parts.push(format!("{} free", size(free)));
            parts.extend(few_inodes(member.free_inodes));
        }
        parts.join(", ")
    }

    fn counts(&mut self, status: &Status) {
        let states = status.states.iter().filter(|count| count.count > 0 && !is_delivered(&count.state));
        let states: Vec<_> =
            states.map(|count| format!("{} {}", count.count, transfers::words(&count.state))).collect();
        let delivered = match delivered(status) {
            0 => String::new(),
            count => format!("; {count} delivered, central still has a copy"),
        };
        if status.total == 0 {
            self.field("Transfers", &format!("none unfinished{delivered}"), None);
            return;
        }
        let states = if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) };
        self.field("Transfers", &format!("{}{states}{delivered}", status.total), None);
        match status.attention {
            0 => {}
            1 => self.field("", "1 needs attention: see synklerctl list --failed", Ink::Red),
            more => self.field("", &format!("{more} need attention: see synklerctl list --failed"), Ink::Red),
        }
    }
}
