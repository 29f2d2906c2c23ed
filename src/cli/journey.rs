//! One transfer on all nodes, node by node.

use super::line::{Ink, Look, Text};
use super::status::incomplete;
use super::transfers::{outlook, outlook_of, run, state, why};
use super::units::{size, span};
use crate::control::types::{GetTransfer, Step, Transfer};

/// The text of `synklerctl status ITEM` at this width.
pub fn journey_text(answer: &GetTransfer, now: u64, look: Look<'_>) -> Text {
    let (room, zone) = (look.room(), look.zone);
    let mut text = Text::default();
    let transfer = &answer.journey.transfer;
    let over = ["closed", "withdrawn"].contains(&transfer.stage.as_str());
    let ink = match (over, transfer.attempts, &transfer.paused) {
        (true, ..) | (false, 0, None) => Ink::Green,
        (false, ..) => Ink::Yellow,
    };
    text.title(room, (if over { "○" } else { "●" }, ink), &transfer.item);
    text.field(room, "Transfer", transfer.id.as_deref().unwrap_or("none yet: it has not settled"), None);
    text.field(room, "From", &format!("upload {}", transfer.upload), None);
    text.field(room, "Size", &measure(transfer), None);
    text.field(room, "MD5", transfer.md5.as_deref().unwrap_or("not known yet"), None);
    text.field(room, "State", &format!("{} {}", state(transfer), zone.since(transfer.since, now)), None);
    if !over {
        let ink = if transfer.attempts > 0 || transfer.paused.is_some() { Some(Ink::Yellow) } else { None };
        text.field(room, "Why", &why(transfer, now, "", look.colour), ink);
        let outlook = outlook(transfer, now);
        if !outlook.is_empty() {
            text.field(room, "Outlook", &outlook, ink);
        }
    }
    for (index, receiver) in transfer.receivers.iter().enumerate() {
        let (state, ink) = match receiver.received {
            Some(then) => (format!("received {}", zone.moment(then)), Ink::Green),
            None => ("not yet".to_owned(), Ink::Yellow),
        };
        let label = if index == 0 { "Receipts" } else { "" };
        text.field(room, label, &format!("{}: {state}", receiver.name), ink);
    }
    if let Some(remark) = &transfer.remark {
        text.field(room, "Remark", remark, Ink::Yellow);
    }
    if let Some(why) = incomplete(&answer.view) {
        text.field(room, "View", &why, Ink::Yellow);
    }
    for step in &answer.journey.steps {
        text.push(super::line::Line::default());
        lay(&mut text, look, step, transfer, now);
    }
    text
}

/// `4.7 GB, a directory with 2113 entries`
fn measure(transfer: &Transfer) -> String {
    let what = match (transfer.kind.as_deref(), transfer.entries) {
        (Some("directory"), Some(1)) => ", an empty directory".to_owned(),
        (Some("directory"), Some(entries)) => format!(", a directory with {entries} entries"),
        (Some("symlink"), _) => ", a symbolic link".to_owned(),
        (Some(kind), _) => format!(", a {kind}"),
        (None, _) => String::new(),
    };
    format!("{}{what}", size(transfer.size))
}

fn lay(text: &mut Text, look: Look<'_>, step: &Step, transfer: &Transfer, now: u64) {
    let (room, zone) = (look.room(), look.zone);
    let dot = match (step.finished, step.attempts, &step.paused) {
        (Some(_), ..) => ("○", Ink::Green),
        (None, 0, None) => ("●", Ink::Green),
        (None, ..) => ("●", Ink::Yellow),
    };
    text.title(room, dot, &format!("{}: {}", step.node, step.stage));
    text.field(room, "Known", &zone.at(step.created, now), None);
    if let Some(began) = step.began {
        text.field(room, "Began", &zone.moment(began), None);
    }
    if let Some(arrived) = step.arrived {
        let took = step.began.and_then(|began| arrived.checked_sub(began));
        let rate = took.and_then(|took| transfer.size.saturating_mul(1000).checked_div(took));
        let speed = match (took, rate) {
            (Some(took), Some(rate)) => format!("; took {}, {}/s", lasted(took), size(rate)),
            _ => String::new(),
        };
        text.field(room, "Verified", &format!("{}{speed}", zone.moment(arrived)), None);
    }
    if let Some(md5) = &step.md5 {
        let (verdict, ink) = match &transfer.md5 {
            Some(announced) if announced == md5 => (", as announced", Some(Ink::Green)),
            Some(_) => (", NOT as announced", Some(Ink::Red)),
            None => ("", None),
        };
        text.field(room, "MD5", &format!("{md5}{verdict}"), ink);
    }
    if let Some(remark) = step.remark.as_ref().filter(|remark| transfer.remark.as_ref() != Some(remark)) {
        text.field(room, "Remark", remark, Ink::Yellow);
    }
    match step.finished {
        Some(finished) => text.field(room, "Finished", &zone.at(finished, now), None),
        None => text.field(room, "Stage", &format!("{} {}", step.stage, zone.since(step.since, now)), None),
    }
    let ink = if step.attempts > 0 || step.paused.is_some() { Some(Ink::Yellow) } else { None };
    match (&step.progress, &step.reason) {
        (Some(progress), _) => text.field(room, "Runs", &run(progress, &step.node, look.colour), Ink::Green),
        (None, Some(reason)) => text.field(room, "Why", &reason.text, ink),
        (None, None) => {}
    }
    if let Some(pause) = &step.paused {
        let order = format!("{}, by {} on {}", zone.since(pause.since, now), pause.by, pause.node);
        text.field(room, "Paused", &order, Ink::Yellow);
    }
    let outlook = outlook_of(step.attempts, step.next, now);
    if !outlook.is_empty() {
        text.field(room, "Outlook", &outlook, ink);
    }
}

fn lasted(millis: u64) -> String {
    if millis < 1000 { format!("{millis}ms") } else { span(millis, 2) }
}
