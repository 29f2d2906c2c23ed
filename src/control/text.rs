//! A status as people read it: the node and its surroundings first, then a table of its transfers. Everything in it
//! came over a socket, so every text is made printable here, whatever the daemon promises.

use super::types::{Broker, Member, Progress, Status, Transfer};
use super::units::{cut, cut_middle, moment, pad, printable, size, span, width, wrap};

/// The narrowest layout; a narrower terminal breaks the lines itself.
const NARROWEST: usize = 40;
/// With less room than this beside the other columns, what a transfer waits for gets lines of its own.
const WHY_ROOM: usize = 48;
/// The least room for item names beside it.
const ITEM_ROOM: usize = 24;
/// The most lines one reason takes, without what follows from it.
const WHY_LINES: usize = 3;
/// The most peers shown.
const PEER_LINES: usize = 20;
/// The labels of the first block end here.
const LABEL: usize = 11;
/// Cells of a progress bar.
const BAR: usize = 20;

/// What the text is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Cells in a line.
    pub width: usize,
    /// Whether escape sequences for colours are understood and wanted.
    pub colour: bool,
}

#[derive(Debug, Clone, Copy)]
enum Ink {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

impl Look {
    fn ink(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Red => "31",
            Ink::Green => "32",
            Ink::Yellow => "33",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The whole text of `synklerctl status`, with a line feed at its end.
pub fn status_text(status: &Status, look: Look) -> String {
    let look = Look { width: look.width.max(NARROWEST), ..look };
    let mut page = Page { lines: Vec::new(), look };
    page.node(status);
    page.broker(&status.broker, status.now);
    page.peers(&peers(status), status.now);
    page.counts(status);
    if !status.transfers.is_empty() {
        page.lines.push(String::new());
        page.table(status);
    }
    let hidden = status.total.saturating_sub(status.transfers.len() as u64);
    if hidden > 0 {
        page.lines.push(look.ink(Ink::Dim, &format!("… and {hidden} more")));
    }
    let mut text = page.lines.join("\n");
    text.push('\n');
    text
}

/// `2026-11-23 18:11:00 UTC; 5min 3s ago`
fn since(then: u64, now: u64) -> String {
    format!("{}; {} ago", moment(then), span(now.saturating_sub(then), 2))
}

fn is_own(status: &Status, member: &Member) -> bool {
    (&member.mode, &member.name) == (&status.node.mode, &status.node.name)
}

fn is_paused(status: &Status) -> bool {
    status.group_paused.is_some()
        || status.members.iter().any(|member| is_own(status, member) && member.paused.is_some())
}

fn peers(status: &Status) -> Vec<&Member> {
    status.members.iter().filter(|member| !is_own(status, member)).collect()
}

struct Page {
    lines: Vec<String>,
    look: Look,
}

impl Page {
    /// A labelled text, wrapped below itself.
    fn field(&mut self, label: &str, text: &str, ink: Option<Ink>) {
        let lines = wrap(&printable(text), self.look.width - LABEL, WHY_LINES);
        for (index, line) in lines.iter().enumerate() {
            let label = if index == 0 && !label.is_empty() { format!("{label}:") } else { String::new() };
            let line = ink.map_or_else(|| line.clone(), |ink| self.look.ink(ink, line));
            self.lines.push(format!("{label:>width$} {line}", width = LABEL - 1));
        }
    }

    fn node(&mut self, status: &Status) {
        let node = &status.node;
        let ink = match (status.broker.connected, is_paused(status)) {
            (false, _) => Ink::Red,
            (true, true) => Ink::Yellow,
            (true, false) => Ink::Green,
        };
        let title = printable(&format!("{} {}, group {}", node.mode, node.name, node.group));
        let title = cut(&title, self.look.width - 2);
        self.lines.push(format!("{} {}", self.look.ink(ink, "●"), self.look.ink(Ink::Bold, &title)));
        self.field("Running", &format!("since {}", since(node.started, status.now)), None);
        self.field("Daemon", &format!("synkler {}, pid {}", node.version, node.pid), None);
        if is_paused(status) {
            self.field("Paused", "by an operator: nothing new starts", Some(Ink::Yellow));
        }
    }

    fn broker(&mut self, broker: &Broker, now: u64) {
        let when = since(broker.since, now);
        if broker.connected {
            self.field("Broker", &format!("connected since {when}"), None);
            return;
        }
        self.field("Broker", &format!("not connected since {when}"), Some(Ink::Red));
        let why = broker.reason.as_ref().map_or("the first attempt is under way", |reason| &reason.text);
        self.field("", why, Some(Ink::Red));
    }

    fn peers(&mut self, peers: &[&Member], now: u64) {
        if peers.is_empty() {
            self.field("Peers", "none heard of yet", None);
        }
        let shown = peers.get(..PEER_LINES).unwrap_or(peers);
        for (index, peer) in shown.iter().enumerate() {
            let (dot, ink) = if peer.alive { ("●", Ink::Green) } else { ("○", Ink::Red) };
            let heard = span(now.saturating_sub(peer.heard), 1);
            let heard = if peer.alive { format!("heard {heard} ago") } else { format!("silent for {heard}") };
            let text = printable(&format!("{} {}, {heard}, synkler {}", peer.mode, peer.name, peer.version));
            let text = cut(&text, self.look.width - LABEL - 2);
            let label = if index == 0 { "Peers:" } else { "" };
            self.lines.push(format!("{label:>width$} {} {text}", self.look.ink(ink, dot), width = LABEL - 1));
        }
        if peers.len() > shown.len() {
            self.field("", &format!("… and {} more", peers.len() - shown.len()), Some(Ink::Dim));
        }
    }

    fn counts(&mut self, status: &Status) {
        if status.total == 0 {
            self.field("Transfers", "none on the way", None);
            return;
        }
        let stages: Vec<_> = status
            .counts
            .iter()
            .filter(|count| count.count > 0)
            .map(|count| format!("{} {}", count.count, count.stage))
            .collect();
        self.field("Transfers", &format!("{} ({})", status.total, stages.join(", ")), None);
    }

    fn table(&mut self, status: &Status) {
        // Where items come from says something on the other two only, and needs room.
        let with_upload = status.node.mode != "upload" && self.look.width >= 80;
        let rows: Vec<_> = status.transfers.iter().map(|transfer| Row::new(transfer, status.now)).collect();
        let widest = |cell: fn(&Row) -> &str, header: &str, most: usize| {
            rows.iter().map(|row| width(cell(row))).max().unwrap_or(0).max(header.len()).min(most)
        };
        let mut columns = Columns {
            item: widest(|row| &row.item, "ITEM", usize::MAX),
            upload: if with_upload { widest(|row| &row.upload, "FROM", 16) } else { 0 },
            size: widest(|row| &row.size, "SIZE", 9),
            stage: widest(|row| &row.stage, "STAGE", 12),
            since: widest(|row| &row.since, "SINCE", 8),
            why: None,
        };
        let room = self.look.width.saturating_sub(columns.beside_item());
        let one_line = room >= ITEM_ROOM + 2 + WHY_ROOM;
        let item_room = if one_line { (room * 2 / 5).max(room.min(ITEM_ROOM)) } else { room };
        columns.item = columns.item.min(item_room);
        columns.why = one_line.then(|| room - 2 - columns.item);

        let header = Row { item: "ITEM", upload: "FROM", size: "SIZE", stage: "STAGE", since: "SINCE" }.line(&columns);
        let header = if one_line { format!("{header}  WHY") } else { header.trim_end().to_owned() };
        self.lines.push(self.look.ink(Ink::Bold, &header));
        for (row, transfer) in rows.iter().zip(&status.transfers) {
            self.row(&row.as_str().line(&columns), transfer, &columns, status.now);
        }
    }

    fn row(&mut self, line: &str, transfer: &Transfer, columns: &Columns, now: u64) {
        let (room, indent) = match columns.why {
            Some(room) => (room, width(line) + 2),
            None => (self.look.width - 4, 4),
        };
        let ink = match (&transfer.progress, transfer.attempts) {
            (Some(_), _) => Some(Ink::Green),
            (None, 0) => None,
            (None, _) => Some(Ink::Yellow),
        };
        let mut lines = wrap(&why(transfer), room, WHY_LINES);
        let outlook = outlook(transfer, now);
        match lines.last_mut().filter(|last| width(last) + width(&outlook) + 2 <= room) {
            _ if outlook.is_empty() => {}
            Some(last) => last.push_str(&format!("; {outlook}")),
            None => lines.push(cut(&outlook, room)),
        }
        let mut why = lines.into_iter().map(|part| ink.map_or_else(|| part.clone(), |ink| self.look.ink(ink, &part)));
        if columns.why.is_some() {
            let first = why.next().unwrap_or_default();
            self.lines.push(format!("{line}  {first}"));
        } else {
            self.lines.push(line.trim_end().to_owned());
        }
        let below: Vec<_> = why.map(|part| format!("{}{part}", " ".repeat(indent))).collect();
        self.lines.extend(below);
    }
}

struct Columns {
    item: usize,
    /// 0 leaves the column out.
    upload: usize,
    size: usize,
    stage: usize,
    since: usize,
    /// On the same line, this much.
    why: Option<usize>,
}

impl Columns {
    fn beside_item(&self) -> usize {
        let upload = if self.upload > 0 { self.upload + 2 } else { 0 };
        upload + self.size + self.stage + self.since + 6
    }
}

/// The cells of one line, uncut.
struct Row<T = String> {
    item: T,
    upload: T,
    size: T,
    stage: T,
    since: T,
}

impl Row {
    fn new(transfer: &Transfer, now: u64) -> Self {
        Self {
            item: printable(&transfer.item),
            upload: printable(&transfer.upload),
            size: size(transfer.size),
            stage: printable(&transfer.stage),
            since: span(now.saturating_sub(transfer.since), 1),
        }
    }

    fn as_str(&self) -> Row<&str> {
        Row { item: &self.item, upload: &self.upload, size: &self.size, stage: &self.stage, since: &self.since }
    }
}

impl Row<&str> {
    fn line(&self, columns: &Columns) -> String {
        let fit = |text: &str, room| pad(&cut(text, room), room);
        let right = |text: &str, room: usize| format!("{}{text}", " ".repeat(room.saturating_sub(width(text))));
        let upload = if columns.upload > 0 { format!("  {}", fit(self.upload, columns.upload)) } else { String::new() };
        format!(
            "{}{upload}  {}  {}  {}",
            pad(&cut_middle(self.item, columns.item), columns.item),
            right(&cut(self.size, columns.size), columns.size),
            fit(self.stage, columns.stage),
            right(&cut(self.since, columns.since), columns.since),
        )
    }
}

/// What it waits for, or how far it is; on central with the receipts that are missing.
fn why(transfer: &Transfer) -> String {
    if let Some(progress) = &transfer.progress {
        return bar(progress);
    }
    let mut why = transfer.reason.text.clone();
    let missing: Vec<_> = transfer
        .receivers
        .iter()
        .filter(|receiver| receiver.received.is_none())
        .map(|receiver| receiver.name.as_str())
        .collect();
    if !missing.is_empty() {
        let all = transfer.receivers.len();
        why.push_str(&format!("; {} of {all} receipts, not yet from {}", all - missing.len(), missing.join(", ")));
    }
    printable(&why)
}

/// What has failed and when it goes on; empty when neither is to be told.
fn outlook(transfer: &Transfer, now: u64) -> String {
    let failed = match transfer.attempts {
        0 => None,
        1 => Some("failed once".to_owned()),
        times => Some(format!("failed {times} times")),
    };
    let next = transfer.next.map(|next| match next.saturating_sub(now) {
        0..1000 => "next now".to_owned(),
        wait => format!("next in {}", span(wait, 1)),
    });
    [failed, next].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// `██████░░░░░░░░░░░░░░  31 %  12 MB/s  17s left`
fn bar(progress: &Progress) -> String {
    let share = match progress.total {
        0 => 1.0,
        total => (progress.bytes as f64 / total as f64).min(1.0),
    };
    let full = (share * BAR as f64) as usize;
    let mut text = format!(
        "{}{} {:>3.0} %  {}/s",
        "█".repeat(full),
        "░".repeat(BAR.saturating_sub(full)),
        (share * 100.0).floor(),
        size(progress.rate)
    );
    let left = progress.total.saturating_sub(progress.bytes);
    if let Some(seconds) = left.checked_div(progress.rate).filter(|_| left > 0) {
        text.push_str(&format!("  {} left", span(seconds.saturating_add(1).saturating_mul(1000), 1)));
    }
    match progress.transfers {
        0 | 1 => {}
        2 => text.push_str("  with 1 other"),
        transfers => text.push_str(&format!("  with {} others", transfers - 1)),
    }
    text
}
