//! Nodes and finished transfers, one line each.

use super::line::{Ink, Line, Look, Text};
use super::status::{dot, incomplete};
use super::table::{Column, Row, Table, Tail};
use super::units::{ago, few_inodes, size, span};
use crate::control::types::{GetHistory, Member, Past, Status};

/// If the other columns leave less room than this, what a node does goes below its row.
const DOING_ROOM: usize = 24;
/// An MD5 is never cut.
const DIGEST_ROOM: usize = 32;
/// Clocks with a smaller difference count as equal.
const IN_STEP: u64 = 2000;

const NODES: &[Column] = &[
    Column::left("NODE", usize::MAX),
    Column::left("HOST", 24).from(100),
    Column::left("VERSION", 10).from(80),
    Column::left("SINCE", 16).from(80),
    Column::left("HEARD", 12),
    Column::right("FREE", 9),
    Column::right("CLOCK", 8).from(100),
];

const HISTORY: &[Column] = &[
    Column::left("ITEM", usize::MAX),
    Column::left("FROM", 16).from(100),
    Column::left("ENDED", 16),
    Column::right("SIZE", 9),
    Column::right("RATE", 11),
];

/// The text of `synklerctl nodes` at this width.
pub fn nodes_text(status: &Status, look: Look<'_>) -> Text {
    let room = look.room();
    let mut text = Text::default();
    let now = status.now;
    let row = |member: &Member| Row {
        cells: vec![
            format!("{} {}", member.mode, member.name),
            member.host.clone(),
            member.version.clone(),
            look.zone.minute(member.first_heard),
            match (&member.mode, &member.name) == (&status.node.mode, &status.node.name) {
                true => "this node".to_owned(),
                false => ago(member.heard, now),
            },
            member.free.map(size).unwrap_or_default(),
            member.clock_ahead.map(clock).unwrap_or_default(),
        ],
        mark: Some(dot(member)),
        tail: Tail { text: doing(member, now), end: String::new(), ink: ink(member) },
    };
    let rows = status.members.iter().map(row).collect();
    Table { columns: NODES, tail: ("DOING", DOING_ROOM, 2), rows }.lay(&mut text, room);
    if let Some(why) = incomplete(&status.view) {
        text.field(room, "View", &why, Ink::Yellow);
    }
    text
}

fn ink(member: &Member) -> Option<Ink> {
    match (member.alive, &member.paused) {
        (false, _) => Some(Ink::Red),
        (true, _) if member.apart.is_some() => Some(Ink::Red),
        (true, Some(_)) => Some(Ink::Yellow),
        (true, None) => None,
    }
}

fn doing(member: &Member, now: u64) -> String {
    let mut parts = Vec::new();
    if !member.alive {
        parts.push(format!("silent for {}", span(now.saturating_sub(member.heard), 2)));
    }
    if let Some(apart) = &member.apart {
        parts.push(apart.text.clone());
    }
    if let Some(pause) = &member.paused {
        parts.push(super::transfers::paused(pause, now));
    }
    if member.alive && !member.doing.is_empty() {
        parts.push(member.doing.clone());
    }
    parts.extend(few_inodes(member.free_inodes).filter(|_| member.alive));
    parts.join("; ")
}

fn clock(ahead: i64) -> String {
    let off = ahead.unsigned_abs();
    let sign = if ahead < 0 { '-' } else { '+' };
    if off < IN_STEP { "in step".to_owned() } else { format!("{sign}{}", span(off, 1)) }
}

/// The text of `synklerctl history` at this width.
pub fn history_text(history: &GetHistory, look: Look<'_>) -> Text {
    let room = look.room();
    let mut text = Text::default();
    if history.entries.is_empty() {
        text.push(Line::new(Ink::Dim, "no matching finished transfers"));
        return text;
    }
    let row = |past: &Past| Row {
        cells: vec![
            past.item.clone(),
            past.upload.clone(),
            look.zone.minute(past.finished),
            size(past.size),
            match (past.stage.as_str(), past.rate) {
                ("closed", Some(rate)) => format!("{}/s", size(rate)),
                ("closed", None) => "-".to_owned(),
                (other, _) => other.to_owned(),
            },
        ],
        mark: None,
        tail: Tail {
            text: past.md5.clone(),
            end: past.remark.as_ref().map(|remark| format!(" {remark}")).unwrap_or_default(),
            ink: if past.stage == "closed" { None } else { Some(Ink::Yellow) },
        },
    };
    let rows = history.entries.iter().map(row).collect();
    Table { columns: HISTORY, tail: ("MD5", DIGEST_ROOM, 1), rows }.lay(&mut text, room);
    if history.more {
        text.push(Line::new(Ink::Dim, "… and older ones: see --limit and --since"));
    }
    text
}
