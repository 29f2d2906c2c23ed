//! The difference between two statuses, and its application: both ends of a monitor stream. Pure.

use std::collections::BTreeMap;

use super::types::{Member, Monitor, Status, Transfer};
use crate::machine::Cause;

/// The key of a transfer, or of an item that is not a transfer yet.
pub(super) fn key(transfer: &Transfer) -> String {
    match &transfer.id {
        Some(id) => id.clone(),
        None => format!("{}/{}", transfer.upload, transfer.item_encoded),
    }
}

/// First what needs attention, then what is running, then the rest; delivered transfers come last.
pub(super) fn urgency(transfer: &Transfer) -> u8 {
    let cause = transfer.reason.code.parse::<Cause>().ok();
    match cause {
        Some(cause) if cause.needs_person() => 0,
        _ if transfer.progress.is_some() => 1,
        Some(cause) => cause.urgency(transfer.attempts),
        None if transfer.attempts > 0 => 0,
        None => 2,
    }
}

/// The order of transfers in a status.
pub(super) fn sort(transfers: &mut [Transfer]) {
    transfers.sort_by(|a, b| {
        let rank = |transfer: &Transfer| (urgency(transfer), transfer.since);
        rank(a).cmp(&rank(b)).then_with(|| a.item_encoded.cmp(&b.item_encoded)).then_with(|| a.id.cmp(&b.id))
    });
}

/// The first reply of a stream, with the complete status.
pub(super) fn whole(status: Status) -> Monitor {
    Monitor { full: true, status, gone: Vec::new() }
}

/// What has changed from `old` to `new`; `None` if only the clock has changed.
pub(super) fn difference(old: &Status, new: &Status) -> Option<Monitor> {
    let before: BTreeMap<_, _> = old.transfers.iter().map(|transfer| (key(transfer), transfer)).collect();
    let mut gone: BTreeMap<_, _> = before.clone();
    let mut transfers = Vec::new();
    for transfer in &new.transfers {
        let key = key(transfer);
        gone.remove(&key);
        if before.get(&key).is_none_or(|before| *before != transfer) {
            transfers.push(transfer.clone());
        }
    }
    let quiet = transfers.is_empty() && gone.is_empty() && head(old) == head(new);
    (!quiet).then(|| Monitor {
        full: false,
        status: Status { transfers, ..new.clone() },
        gone: gone.into_keys().collect(),
    })
}

/// A reply without changes, which shows the client that the daemon is alive.
pub(super) fn nothing_new(status: &Status) -> Monitor {
    Monitor { full: false, status: Status { transfers: Vec::new(), ..status.clone() }, gone: Vec::new() }
}

/// Everything but the transfers, without values that change all the time and tell nothing new.
fn head(status: &Status) -> Status {
    let still = |member: &Member| Member { heard: 0, clock_ahead: None, ..member.clone() };
    Status {
        now: 0,
        members: status.members.iter().map(still).collect(),
        transfers: Vec::new(),
        node: status.node.clone(),
        broker: status.broker.clone(),
        directory: status.directory.clone(),
        view: status.view.clone(),
        group_paused: status.group_paused.clone(),
        total: status.total,
        counts: status.counts.clone(),
        attention: status.attention,
        states: status.states.clone(),
        urgent: Vec::new(),
        unsent: Vec::new(),
        tallied: Vec::new(),
    }
}

impl Monitor {
    /// The status after this reply of a stream: the client's side.
    pub fn apply(self, status: &mut Status) {
        let Self { full, status: mut new, gone } = self;
        if !full {
            let mut transfers: BTreeMap<_, _> =
                std::mem::take(&mut status.transfers).into_iter().map(|transfer| (key(&transfer), transfer)).collect();
            for key in &gone {
                transfers.remove(key);
            }
            transfers.extend(new.transfers.into_iter().map(|transfer| (key(&transfer), transfer)));
            new.transfers = transfers.into_values().collect();
        }
        sort(&mut new.transfers);
        *status = new;
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{status, transfer};
    use super::*;

    fn sorted(mut status: Status) -> Status {
        sort(&mut status.transfers);
        status
    }

    #[test]
    fn the_difference_applied_to_the_old_gives_the_new() {
        let states: Vec<Vec<Transfer>> = vec![
            vec![],
            vec![transfer(1, "held"), transfer(2, "granted")],
            vec![transfer(2, "held"), transfer(3, "waiting"), Transfer { id: None, ..transfer(4, "settling") }],
            vec![Transfer { id: None, ..transfer(4, "settling") }, Transfer { attempts: 3, ..transfer(3, "waiting") }],
            vec![transfer(4, "waiting"), transfer(3, "waiting")],
        ];
        for from in &states {
            for to in &states {
                let old = sorted(status("central hub", from.clone()));
                let mut new = sorted(status("central hub", to.clone()));
                new.now += 1000;
                let update = difference(&old, &new);
                assert_eq!(update.is_none(), from == to);
                let mut shown = old.clone();
                update.unwrap_or_else(|| nothing_new(&new)).apply(&mut shown);
                assert_eq!(shown, new);
                whole(new.clone()).apply(&mut shown);
                assert_eq!(shown, new);
            }
        }
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let old = sorted(status("central hub", vec![transfer(1, "held"), transfer(2, "granted")]));
        let mut new = old.clone();
        new.now += 1;
        new.members[0].heard += 60_000;
        assert_eq!(difference(&old, &new), None);
        new.transfers.remove(0);
        let update = difference(&old, &new).unwrap();
        assert_eq!((update.full, update.status.transfers.len()), (false, 0));
        assert_eq!(update.gone, [key(&old.transfers[0])]);
        new = Status { total: 7, ..old.clone() };
        assert_eq!(difference(&old, &new).map(|update| update.status.total), Some(7));
    }
}
