//! Transfers as lines: why each waits, or its progress.

use super::line::{Ink, Line, Look, Text};
use super::table::{Column, Row, Table, Tail};
use super::units::{ago, size, span};
use crate::control::State;
use crate::control::types::{List, Paused, Progress, Transfer};

/// If the other columns leave less room than this, the reason of a transfer gets lines of its own.
const WHY_ROOM: usize = 48;
/// The maximum number of lines of one reason, without the outlook.
const WHY_LINES: usize = 3;
/// The width of a progress bar in cells.
const BAR: usize = 20;

const COLUMNS: &[Column] = &[
    Column::left("ITEM", usize::MAX),
    Column::left("FROM", 16).from(80),
    Column::right("SIZE", 9),
    Column::left("STATE", 24),
    Column::right("SINCE", 8),
];

/// A table of transfers as `node` shows them. A run of this node needs no node name. On an upload, the column with the
/// upload is left out.
pub(super) fn lay(text: &mut Text, look: Look<'_>, transfers: &[Transfer], now: u64, node: &str) {
    let from_here = |transfer: &Transfer| node == format!("upload {}", transfer.upload);
    let all_from_here = transfers.iter().all(from_here);
    let row = |transfer: &Transfer| Row {
        cells: vec![
            transfer.item.clone(),
            if all_from_here { String::new() } else { transfer.upload.clone() },
            size(transfer.size),
            state(transfer),
            span(now.saturating_sub(transfer.since), 1),
        ],
        mark: None,
        tail: Tail { text: why(transfer, now, node, look.colour), end: outlook(transfer, now), ink: ink(transfer) },
    };
    let rows = transfers.iter().map(row).collect();
    Table { columns: COLUMNS, tail: ("WHY", WHY_ROOM, WHY_LINES), rows }.lay(text, look.room());
}

/// The text of `synklerctl list`: one page, with the heads on top.
pub fn list_text(list: &List, now: u64, look: Look<'_>) -> Text {
    let room = look.room();
    let mut text = Text::default();
    if list.transfers.is_empty() {
        text.push(Line::new(Ink::Dim, "no matching transfers"));
        return text;
    }
    let row = |transfer: &Transfer| {
        let end = outlook(transfer, now);
        let why = why(transfer, now, "", look.colour);
        Row {
            cells: vec![
                transfer.item.clone(),
                transfer.upload.clone(),
                size(transfer.size),
                state(transfer),
                span(now.saturating_sub(transfer.since), 1),
                if room >= 110 { String::new() } else { transfer.reason.code.clone() },
            ],
            mark: None,
            // One line per transfer: if the text of the reason does not fit, a column shows its code.
            tail: Tail {
                text: match (room >= 110, end.is_empty()) {
                    (false, _) => String::new(),
                    (true, true) => why,
                    (true, false) => format!("{why}; {end}"),
                },
                end: String::new(),
                ink: ink(transfer),
            },
        }
    };
    let columns: Vec<_> = COLUMNS.iter().copied().chain([Column::left("WHY", 15)]).collect();
    let rows = list.transfers.iter().map(row).collect();
    Table { columns: &columns, tail: ("WHY", 24, 1), rows }.lay(&mut text, room);
    let hidden = list.total.saturating_sub(list.transfers.len() as u64);
    if list.more && hidden > 0 {
        text.push(Line::new(Ink::Dim, &format!("… and {hidden} more: see --limit")));
    }
    text
}

fn ink(transfer: &Transfer) -> Option<Ink> {
    match (&transfer.progress, transfer.attempts, &transfer.paused) {
        (Some(_), ..) => Some(Ink::Green),
        (None, 0, None) => None,
        (None, ..) => Some(Ink::Yellow),
    }
}

/// The state: `uploading 60 %`, `downloading 18 % (delta)`, `waiting`.
pub(super) fn state(transfer: &Transfer) -> String {
    let state = words(&transfer.state);
    match &transfer.progress {
        Some(progress) if is_moving(transfer) => {
            let by = progress.node.strip_prefix("download ").map(|name| format!(" ({name})")).unwrap_or_default();
            format!("{state} {:.0} %{by}", (share(progress) * 100.0).floor())
        }
        _ => state,
    }
}

fn is_moving(transfer: &Transfer) -> bool {
    matches!(transfer.state.parse(), Ok(State::Uploading | State::Downloading))
}

/// The word of a state for people.
pub(super) fn words(state: &str) -> String {
    // A newer daemon may have further states.
    state.parse::<State>().map_or_else(|_| state.to_owned(), |state| state.shown().to_owned())
}

/// Whether a transfer in this state is finished.
pub(super) fn is_delivered(state: &str) -> bool {
    state == State::Delivered.as_str()
}

fn share(progress: &Progress) -> f64 {
    match progress.total {
        0 => 1.0,
        total => (progress.bytes as f64 / total as f64).min(1.0),
    }
}

/// The reason of the wait, or the progress, with a bar if bars are wanted; on central with the missing receipts.
pub(super) fn why(transfer: &Transfer, now: u64, node: &str, bars: bool) -> String {
    if let Some(progress) = &transfer.progress {
        // The state shows the progress, and the download.
        return if is_moving(transfer) { pace(progress, bars) } else { run(progress, node, bars) };
    }
    if let Some(next) = transfer.next.filter(|_| is_delivered(&transfer.state)) {
        return format!("central's copy goes in {}", span(next.saturating_sub(now), 1));
    }
    let mut why = match &transfer.paused {
        Some(pause) if transfer.reason.code == "paused" => paused(pause, now),
        Some(pause) => format!("{}; {}", transfer.reason.text, paused(pause, now)),
        None => transfer.reason.text.clone(),
    };
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
    why
}

/// `paused 5min ago by root on upload alpha`
pub(super) fn paused(pause: &Paused, now: u64) -> String {
    format!("paused {} by {} on {}", ago(pause.since, now), pause.by, pause.node)
}

/// The number of failures and the next attempt; empty if there are none.
pub(super) fn outlook(transfer: &Transfer, now: u64) -> String {
    // While a run is active, the repetition of messages is of no interest; for delivered transfers, why() says
    // everything.
    let is_told = transfer.progress.is_some() || is_delivered(&transfer.state);
    outlook_of(transfer.attempts, transfer.next.filter(|_| !is_told), now)
}

/// The same, for data that is not a complete transfer.
pub(super) fn outlook_of(attempts: u32, next: Option<u64>, now: u64) -> String {
    let failed = match attempts {
        0 => None,
        1 => Some("failed once".to_owned()),
        times => Some(format!("failed {times} times")),
    };
    let next = next.map(|next| match next.saturating_sub(now) {
        0..1000 => "next now".to_owned(),
        wait => format!("next in {}", span(wait, 1)),
    });
    [failed, next].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// `██████░░░░░░░░░░░░░░  31 %  12 MB/s  17s left  by upload alpha`; the node is named if it is not the one that shows
/// this.
pub(super) fn run(progress: &Progress, node: &str, bars: bool) -> String {
    let percent = (share(progress) * 100.0).floor();
    let percent = if bars { format!("{} {percent:>3.0} %", bar(progress)) } else { format!("{percent:.0} %") };
    let mut text = format!("{percent}  {}", pace(progress, false));
    if progress.node != node {
        text.push_str(&format!("  by {}", progress.node));
    }
    text
}

/// `██████░░░░░░░░░░░░░░  12 MB/s  17s left  with 2 others`
fn pace(progress: &Progress, bars: bool) -> String {
    let mut text = if bars { format!("{}  ", bar(progress)) } else { String::new() };
    text.push_str(&format!("{}/s", size(progress.rate)));
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

fn bar(progress: &Progress) -> String {
    let full = (share(progress) * BAR as f64) as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(BAR.saturating_sub(full)))
}
