//! Statuses for the tests of what is made of them.

#![allow(clippy::unwrap_used)]

use super::changes::urgency;
use std::collections::BTreeMap;

use super::types::{Broker, Count, Member, Node, Progress, Reason, StateCount, Status, Transfer, View};
use crate::machine::{Cause, State};

pub(super) fn transfer(number: u8, stage: &str) -> Transfer {
    Transfer {
        id: Some(format!("01936f2a-5c00-7a31-9d42-6b1f0c8e2a{number:02x}")),
        item: format!("item {number}"),
        item_encoded: format!("item {number}"),
        upload: "alpha".to_owned(),
        kind: Some("file".to_owned()),
        entries: Some(1),
        size: 1000,
        md5: Some("9e107d9d372bb6826bd81d3542a419d6".to_owned()),
        node: "central hub".to_owned(),
        state: "queued".to_owned(),
        stage: stage.to_owned(),
        reason: Reason { code: "queued".to_owned(), text: "queued for rsync".to_owned() },
        since: 1000 + u64::from(number),
        next: None,
        attempts: 0,
        paused: None,
        progress: None,
        receivers: Vec::new(),
        remark: None,
    }
}

/// As that node alone sees it, for this reason.
pub(super) fn seen(node: &str, code: &str, transfer: Transfer) -> Transfer {
    let cause = code.parse::<Cause>().unwrap();
    let mode = node.split(' ').next().unwrap().parse().unwrap();
    let state = State::of(mode, &transfer.stage, cause, transfer.attempts).as_str().to_owned();
    let reason = Reason { code: code.to_owned(), text: cause.text().to_owned() };
    Transfer { node: node.to_owned(), state, reason, ..transfer }
}

/// A run that carries nothing else.
pub(super) fn progress(node: &str) -> Option<Progress> {
    Some(Progress { node: node.to_owned(), bytes: 10, total: 1000, rate: 5, transfers: 1 })
}

pub(super) fn member(node: &str) -> Member {
    let (mode, name) = node.split_once(' ').unwrap();
    Member {
        mode: mode.to_owned(),
        name: name.to_owned(),
        version: "1.2.3".to_owned(),
        host: String::new(),
        first_heard: 1,
        heard: 2,
        alive: true,
        paused: None,
        free: None,
        free_inodes: None,
        doing: String::new(),
        clock_ahead: None,
        protocols: None,
        apart: None,
    }
}

/// What that node alone tells; everything it lists is all it has.
pub(super) fn status(node: &str, transfers: Vec<Transfer>) -> Status {
    let own = member(node);
    let mut counts: Vec<Count> = Vec::new();
    for transfer in &transfers {
        match counts.iter_mut().find(|count| count.stage == transfer.stage) {
            Some(count) => count.count += 1,
            None => counts.push(Count { stage: transfer.stage.clone(), count: 1 }),
        }
    }
    let mut states = BTreeMap::<State, u64>::new();
    let mut unsent = BTreeMap::<State, u64>::new();
    for transfer in &transfers {
        let counts = if transfer.id.is_some() { &mut states } else { &mut unsent };
        *counts.entry(transfer.state.parse().unwrap()).or_default() += 1;
    }
    Status {
        now: 5000,
        node: Node {
            mode: own.mode.clone(),
            name: own.name.clone(),
            group: "default".to_owned(),
            file_dir: "/srv".to_owned(),
            version: own.version.clone(),
            pid: 1,
            started: 1,
        },
        broker: Broker { connected: true, since: 1, reason: None },
        directory: None,
        view: View { whole: false, from: node.to_owned(), why: None, silent: Vec::new() },
        group_paused: None,
        members: vec![own],
        total: transfers.len() as u64,
        counts,
        attention: transfers.iter().filter(|transfer| urgency(transfer) == 0).count() as u64,
        urgent: transfers.iter().filter(|it| urgency(it) == 0).filter_map(|it| it.id.clone()).collect(),
        states: StateCount::of(&states),
        unsent: StateCount::of(&unsent),
        tallied: Vec::new(),
        transfers,
    }
}
