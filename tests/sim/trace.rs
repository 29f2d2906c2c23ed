//! What happened, one line each, for a person to read. Nothing is formatted unless somebody reads it.

use std::fmt::Write as _;

use synkler::machine::{Address, Effect, Input, ItemName, Message, Row, TransferId};

use crate::sim::Sim;

/// Writes a line of trace when tracing is on.
macro_rules! trace {
    ($sim:expr, $node:expr, $($format:tt)*) => {
        if $sim.trace.is_some() {
            let text = format!($($format)*);
            $sim.log($node, &text);
        }
    };
}
pub(crate) use trace;

/// The lines so far, and the short names of transfers.
#[derive(Default)]
pub(crate) struct Trace {
    pub(crate) lines: Vec<String>,
    short: Vec<String>,
}

impl Trace {
    pub(crate) fn write(&mut self, now: u64, who: &str, text: &str) {
        let line = format!("{:>9}.{:03} {who:<4} {text}", now / 1000, now % 1000);
        let line = self.shortened(&line);
        self.lines.push(line);
    }

    /// Transfers as T1, T2 ... in the order of their first appearance.
    pub(crate) fn shortened(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((start, id)) = first_uuid(rest) {
            out.push_str(&rest[..start]);
            let number = self.short.iter().position(|known| known == id).unwrap_or_else(|| {
                self.short.push(id.to_owned());
                self.short.len() - 1
            });
            let _ = write!(out, "T{}", number + 1);
            rest = &rest[start + 36..];
        }
        out.push_str(rest);
        let out = numbers(&out, "Signature([", |bytes| format!("s{}", u128::from_be_bytes(bytes)));
        let out = numbers(&out, "Digest([", |bytes| format!("v{}.{}", u128::from_be_bytes(bytes) >> 64, bytes[15]));
        let out = out.replace("TransferId(T", "(T").replace("PlaceId { journal: JournalId(", "PlaceId(");
        out.replace("Fingerprint ", "").replace("digest: ", "")
    }
}

/// Sixteen bytes in brackets, said shorter.
fn numbers(text: &str, mark: &str, show: impl Fn([u8; 16]) -> String) -> String {
    let mut parts = text.split(mark);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (list, rest) = part.split_once("])").unwrap_or((part, ""));
        let bytes: Vec<u8> = list.split(", ").filter_map(|byte| byte.parse().ok()).collect();
        out.push_str(&bytes.try_into().map(&show).unwrap_or_default());
        out.push_str(rest);
    }
    out
}

fn first_uuid(text: &str) -> Option<(usize, &str)> {
    let bytes = text.as_bytes();
    (0..bytes.len().saturating_sub(35)).find_map(|start| {
        let id = text.get(start..start + 36)?;
        id.parse::<TransferId>().is_ok().then_some((start, id))
    })
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn batch(items: &[(TransferId, ItemName)]) -> String {
    list(items, |(transfer, name)| format!("{transfer} {name:?}"))
}

pub(crate) fn message(message: &Message) -> String {
    let what = match message {
        Message::Hello(hello) => format!("journal {} reply {}", hello.journal, hello.reply),
        Message::New(offers) => list(offers, |offer| format!("{} {:?}", offer.transfer, offer.name)),
        Message::Upload { place, transfers, .. } => format!("to {place}: {}", list(transfers, ToString::to_string)),
        Message::Sent { place, transfers } => format!("to {place}: {}", list(transfers, ToString::to_string)),
        Message::Download { items, .. } => list(items, |item| format!("{} {:?}", item.offer.transfer, item.offer.name)),
        Message::Done(receipts) => list(receipts, |receipt| receipt.transfer.to_string()),
        Message::Release(releases) => list(releases, |release| release.transfer.to_string()),
        Message::Waiting(waits) => list(waits, |wait| format!("{} {}", wait.transfer, wait.reason)),
        Message::Withdraw(ids)
        | Message::Cancel(ids)
        | Message::Received(ids)
        | Message::Noted(ids)
        | Message::Freed(ids)
        | Message::Closed(ids)
        | Message::Unknown(ids) => list(ids, ToString::to_string),
    };
    format!("{} [{what}]", message.kind())
}

pub(crate) fn row(row: &Row) -> String {
    let reason = row.reason.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("{} {:?} {}", row.transfer, row.name, row.stage);
    let _ = write!(text, " since {} attempts {}", row.since, row.attempts);
    if let Some(place) = row.place {
        let _ = write!(text, " place {place}");
    }
    if !row.receivers.is_empty() {
        let receipts = list(&row.receivers, |(name, when)| format!("{name}{}", if when.is_some() { "+" } else { "-" }));
        let _ = write!(text, " receivers {receipts}");
    }
    let flags = [(row.acknowledged, "acknowledged"), (row.cleaned, "cleaned"), (row.finished.is_some(), "finished")];
    for (_, flag) in flags.iter().filter(|(on, _)| *on) {
        let _ = write!(text, " {flag}");
    }
    if !reason.is_empty() {
        let _ = write!(text, " ({reason})");
    }
    text
}

pub(crate) fn input(input: &Input) -> String {
    match input {
        Input::Received { from, message: sent } => format!("<- {from}: {}", message(sent)),
        Input::LookedUp { question, row: answer } => {
            format!("<- LookedUp {question:?}: {}", answer.as_ref().map_or("none".to_owned(), |answer| row(answer)))
        }
        other => format!("<- {other:?}"),
    }
}

pub(crate) fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Send { to, message: sent } => match to {
            Address::Node(node) => format!("-> {node}: {}", message(sent)),
            Address::AnyCentral => format!("-> any central: {}", message(sent)),
            Address::All => format!("-> all: {}", message(sent)),
        },
        Effect::Persist(synkler::machine::Record::Transfer(changed)) => format!("   journal {}", row(changed)),
        Effect::Persist(record) => format!("   journal {record:?}"),
        Effect::Run(run) => {
            format!("-> run {} {:?} {}: {}", run.id.0, run.direction, run.location.path(), batch(&run.batch))
        }
        Effect::Log(log) => format!("   note {:?} {}", log.level, log.text),
        other => format!("-> {other:?}"),
    }
}

impl Sim {
    /// A line of trace; call it through `trace!`.
    pub(crate) fn log(&mut self, node: Option<usize>, text: &str) {
        let who = node.map_or_else(|| "*".to_owned(), |node| self.nodes[node].label.clone());
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.write(now, &who, text);
        }
    }
}
