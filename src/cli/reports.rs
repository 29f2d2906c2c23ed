//! The results of orders, checks, reloads and version queries.

use super::exit::Exit;
use super::line::{Ink, Line, Look, Text};
use super::units::{cut, pad, printable, width, wrap};
use crate::control::types::{Deed, Finding, Orders, Reload};

/// The maximum number of lines of one finding or its fix.
const FINDING_LINES: usize = 6;

/// One line for each deed of a node.
pub fn orders_text(orders: &Orders, look: Look<'_>) -> Text {
    let room = look.room();
    let mut text = Text::default();
    for deed in &orders.deeds {
        let ink = if deed.done { None } else { Some(Ink::Yellow) };
        let item = deed.item.as_ref().map_or_else(String::new, |item| format!("{item}: "));
        let line = format!("{}: {item}{}", deed.node, deed.text);
        told(&mut text, room, &line, ink);
    }
    for node in &orders.silent {
        told(&mut text, room, &format!("{node}: did not answer, and does not know of this yet"), Some(Ink::Red));
    }
    text
}

fn told(text: &mut Text, room: usize, line: &str, ink: Option<Ink>) {
    for (index, part) in wrap(&printable(line), room - 2, 3).iter().enumerate() {
        text.push(Line::new(None, if index == 0 { "" } else { "  " }).and(ink, part));
    }
}

/// The exit code of an order: refused if no node carried it out for one of the items.
pub fn orders_exit(orders: &Orders) -> Exit {
    let done = |item: &Option<String>| orders.deeds.iter().any(|deed| deed.item == *item && deed.done);
    let refused = |deed: &Deed| !done(&deed.item);
    if orders.deeds.is_empty() || orders.deeds.iter().any(refused) {
        Exit::Refused
    } else if orders.silent.is_empty() {
        Exit::Done
    } else {
        Exit::Incomplete
    }
}

/// A line for one finding, with the fix below it.
pub fn finding_text(finding: &Finding, look: Look<'_>) -> Text {
    let room = look.room();
    /// The column at which the names of the checks end.
    const NAME: usize = 14;
    let (word, ink) = match finding.result.as_str() {
        "ok" => ("ok", Ink::Green),
        "warning" => ("warning", Ink::Yellow),
        "failed" => ("failed", Ink::Red),
        _ => ("skipped", Ink::Dim),
    };
    let mut text = Text::default();
    let name = pad(&cut(&printable(&finding.check), NAME), NAME);
    let head = Line::new(None, "[").and(ink, &centred(word, 7)).and(None, &format!("] {name} "));
    let indent = head.width();
    let mut head = Some(head);
    for line in wrap(&printable(&finding.text), room - indent, FINDING_LINES) {
        let start = head.take().unwrap_or_else(|| Line::new(None, &" ".repeat(indent)));
        text.push(start.and(None, &line));
    }
    if let Some(cure) = &finding.cure {
        for (index, line) in wrap(&printable(cure), room - indent - 3, FINDING_LINES).iter().enumerate() {
            let arrow = if index == 0 { "-> " } else { "   " };
            text.push(Line::new(None, &" ".repeat(indent)).and(Ink::Bold, arrow).and(Ink::Bold, line));
        }
    }
    text
}

fn centred(word: &str, room: usize) -> String {
    let before = room.saturating_sub(width(word)) / 2;
    pad(&format!("{}{word}", " ".repeat(before)), room)
}

/// Progress towards a finding.
pub(super) fn step_text(step: &str, look: Look<'_>) -> Text {
    let mut text = Text::default();
    for line in wrap(&printable(step), look.room() - 10, FINDING_LINES) {
        text.push(Line::new(None, "          ").and(Ink::Dim, &line));
    }
    text
}

/// `12 checks: 10 ok, 1 warning, 1 failed`
pub fn findings_summary(findings: &[Finding]) -> Text {
    let count = |result: &str| findings.iter().filter(|finding| finding.result == result).count();
    let counts: Vec<_> = ["ok", "warning", "failed", "skipped"]
        .into_iter()
        .map(|result| (count(result), result))
        .filter(|(count, _)| *count > 0)
        .map(|(count, result)| format!("{count} {result}"))
        .collect();
    let ink = if count("failed") > 0 { Ink::Red } else { Ink::Green };
    Text { lines: vec![Line::new(ink, &format!("{} checks: {}", findings.len(), counts.join(", ")))] }
}

/// Refused if a check has failed.
pub fn findings_exit(findings: &[Finding]) -> Exit {
    if findings.iter().any(|finding| finding.result == "failed") { Exit::Refused } else { Exit::Done }
}

/// What a reload has changed.
pub fn reload_text(reload: &Reload, look: Look<'_>) -> Text {
    let room = look.room();
    let mut text = Text::default();
    if reload.changed.is_empty() && reload.restart.is_empty() {
        text.push(Line::new(None, "nothing has changed"));
    }
    if !reload.changed.is_empty() {
        text.field(room, "Changed", &reload.changed.join(", "), None);
    }
    if !reload.restart.is_empty() {
        let keys = reload.restart.join(", ");
        text.field(room, "Restart", &format!("{keys}: in force after systemctl restart synkler"), Ink::Yellow);
    }
    text
}

/// The versions of both programs.
pub fn version_text(program: &str, daemon: Option<&str>) -> Text {
    let mut text = Text::default();
    text.push(Line::new(None, &format!("synklerctl {program}")));
    let daemon = daemon.map_or_else(|| "not running".to_owned(), |version| format!("{version}, running"));
    text.push(Line::new(None, &format!("synkler    {daemon}")));
    text
}
