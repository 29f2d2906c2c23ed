//! Merges the reports of all nodes to one view of the group, on central. Pure.
//!
//! [`decisive`] chooses the node whose state and reason count for a transfer that central knows: these are taken, with
//! the node's name before the text, and the rsync run of that node. What central does not know yet, or no longer, comes
//! from the nodes that have it: a transfer is unfinished until the last node has finished it.

use std::collections::{BTreeMap, BTreeSet};

use super::changes::sort;
use super::told::Told;
use super::types::{Count, List, Reason, StateCount, Status, Transfer};
use crate::machine::{Cause, State, TALLY_LIMIT, decisive, upload};

/// The ids that the other nodes list or tally and `own` does not list. Central has to look these up before it merges.
pub fn unlisted<'a>(own: &[Transfer], others: impl Iterator<Item = (&'a Status, &'a [Transfer])>) -> BTreeSet<String> {
    let listed: BTreeSet<_> = own.iter().filter_map(|transfer| transfer.id.as_deref()).collect();
    let ids = others.flat_map(|(status, transfers)| {
        let tallied = status.tallied.iter().flat_map(|tallied| &tallied.ids);
        transfers.iter().filter_map(|transfer| transfer.id.as_ref()).chain(tallied)
    });
    ids.filter(|id| !listed.contains(id.as_str())).cloned().collect()
}

/// Merges central's status with those of the others. `looked_up` is what central knows of the transfers that only they
/// list or tally. The list contains delivered transfers only with `all`.
pub fn statuses(own: Status, looked_up: Vec<Transfer>, others: &[Status], limit: usize, all: bool) -> Status {
    let told = Told::new(others.iter().map(|other| (other, other.transfers.as_slice())));
    let known = || own.transfers.iter().chain(&looked_up);
    let states = states(&own, known(), others.iter(), &told);
    let mut transfers: Vec<_> = known().map(|transfer| told_by_all(transfer.clone(), &told)).collect();
    let mut ids: BTreeSet<_> = transfers.iter().filter_map(|transfer| transfer.id.clone()).collect();
    let mut merged = Status { transfers: Vec::new(), ..own };
    for other in others {
        let is_central = other.node.mode == "central";
        for Count { stage, count } in &other.counts {
            if is_central || is_before_transfer(other, stage) {
                add(&mut merged.counts, stage, *count);
            }
        }
        for transfer in &other.transfers {
            match &transfer.id {
                Some(id) if is_central && ids.insert(id.clone()) => {
                    transfers.push(told_by_all(transfer.clone(), &told))
                }
                None if other.node.mode == "upload" => transfers.push(transfer.clone()),
                _ => {}
            }
        }
        let heard =
            other.members.iter().find(|member| (&member.mode, &member.name) == (&other.node.mode, &other.node.name));
        let known = merged
            .members
            .iter_mut()
            .find(|member| (&member.mode, &member.name) == (&other.node.mode, &other.node.name));
        if let (Some(heard), Some(known)) = (heard, known) {
            known.version.clone_from(&heard.version);
            known.host.clone_from(&heard.host);
            known.paused.clone_from(&heard.paused);
            known.free = heard.free;
            known.free_inodes = heard.free_inodes;
            known.doing.clone_from(&heard.doing);
        }
    }
    let more_centrals = has_central(others.iter());
    for (id, standings) in told.unknown(&ids) {
        let stage = decisive(standings).map(|standing| standing.stage);
        if let Some(stage) = stage.filter(|_| !more_centrals) {
            add(&mut merged.counts, stage, 1);
        }
        transfers.extend(told.elsewhere(id, more_centrals));
    }
    merged.attention = attention(&merged, others.iter());
    merged.urgent.clear();
    merged.unsent.clear();
    merged.tallied.clear();
    merged.total = states.iter().filter(|(state, _)| **state != State::Delivered).map(|(_, count)| count).sum();
    merged.states = StateCount::of(&states);
    transfers.retain(|transfer| all || transfer.state != State::Delivered.as_str());
    sort(&mut transfers);
    transfers.truncate(limit);
    merged.transfers = transfers;
    merged
}

/// How many transfers and items are in each state: as central alone sees them, corrected for those that other nodes
/// reported.
fn states<'a>(
    own: &Status,
    known: impl Iterator<Item = &'a Transfer>,
    others: impl Iterator<Item = &'a Status> + Clone,
    told: &Told<'_>,
) -> BTreeMap<State, u64> {
    let mut states = BTreeMap::<State, u64>::new();
    let centrals = others.clone().filter(|other| other.node.mode == "central").map(|other| &other.states);
    let unsent = others.clone().filter(|other| other.node.mode == "upload").map(|other| &other.unsent);
    for StateCount { state, count } in std::iter::once(&own.states).chain(centrals).chain(unsent).flatten() {
        *states.entry(state.parse().unwrap_or(State::Waiting)).or_default() += count;
    }
    let mut ids = BTreeSet::new();
    for transfer in known {
        let (alone, together) = (Told::state(transfer), told.together(transfer));
        ids.extend(transfer.id.clone());
        if alone != together {
            states.entry(alone).and_modify(|count| *count = count.saturating_sub(1));
            *states.entry(together).or_default() += 1;
        }
    }
    // Another central may hold a transfer that this one does not know.
    if !has_central(others) {
        let unknown = told.unknown(&ids).filter_map(|(_, standings)| decisive(standings));
        unknown.for_each(|standing| *states.entry(standing.state).or_default() += 1);
    }
    states
}

fn has_central<'a>(mut others: impl Iterator<Item = &'a Status>) -> bool {
    others.any(|other| other.node.mode == "central")
}

/// How many transfers and items need a person on some node, each counted once; at least so many, where a node has more
/// than it lists.
fn attention<'a>(own: &'a Status, others: impl Iterator<Item = &'a Status> + Clone) -> u64 {
    let all = || std::iter::once(own).chain(others.clone());
    let is_cut = |status: &&Status| status.urgent.len() >= TALLY_LIMIT;
    let urgent: BTreeSet<_> = all().flat_map(|status| &status.urgent).collect();
    // What has no id is known to its upload only.
    let without_id = |status: &Status| status.attention.saturating_sub(status.urgent.len() as u64);
    let more: u64 = all().filter(|status| !is_cut(status)).map(without_id).sum();
    let most = all().filter(is_cut).map(|status| status.attention).max().unwrap_or_default();
    most.max(more.saturating_add(urgent.len() as u64))
}

/// The query of `List`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) state: Option<State>,
    pub(super) upload: Option<&'a str>,
    pub(super) failed: bool,
    pub(super) after: Option<&'a str>,
    pub(super) all: bool,
    pub(super) limit: usize,
}

/// Merges central's page of a list with those of the others, all with the same filter. Beside each page is the node's
/// status, of which only the counts and the tally matter. Each state of the group is the state of some node alone, so
/// at least one page contains each transfer. Pages are sorted by age, so together they reach as far as the shortest one
/// that is not the last.
pub(super) fn lists(
    (own_status, own): (&Status, List),
    looked_up: Vec<Transfer>,
    others: &[(Status, List)],
    wanted: Wanted<'_>,
) -> List {
    let told = Told::new(others.iter().map(|(status, page)| (status, page.transfers.as_slice())));
    let statuses = || others.iter().map(|(status, _)| status);
    let more_centrals = has_central(statuses());
    let known = || own.transfers.iter().chain(&looked_up);
    let states = states(own_status, known(), statuses(), &told);
    let mut ids: BTreeSet<_> = known().filter_map(|transfer| transfer.id.clone()).collect();
    let is_wanted = |transfer: &Transfer| {
        let state = Told::state(transfer);
        wanted.state.map_or(wanted.all || state != State::Delivered, |it| it == state)
            && wanted.upload.is_none_or(|it| it == transfer.upload)
            && wanted.after.is_none_or(|after| transfer.id.as_deref().is_none_or(|id| id > after))
    };
    // A failure on another node looks normal from central.
    let is_urgent = |transfer: &&Transfer| !wanted.failed || told.is_listed(transfer);
    let mut transfers: Vec<_> = own
        .transfers
        .iter()
        .chain(looked_up.iter().filter(is_urgent))
        .map(|it| told_by_all(it.clone(), &told))
        .collect();
    let mut more = own.more;
    let mut reach = end(&own);
    for (status, page) in others {
        let is_central = status.node.mode == "central";
        more |= page.more;
        reach = [reach, end(page)].into_iter().flatten().min();
        for transfer in &page.transfers {
            match &transfer.id {
                Some(id) if is_central && ids.insert(id.clone()) => {
                    transfers.push(told_by_all(transfer.clone(), &told))
                }
                None if status.node.mode == "upload" => transfers.push(transfer.clone()),
                _ => {}
            }
        }
    }
    for (id, _) in told.unknown(&ids) {
        transfers.extend(told.elsewhere(id, more_centrals));
    }
    transfers.retain(is_wanted);
    let total = match wanted {
        Wanted { upload: Some(_), .. } => {
            // Transfers after the end of the others' pages may be known to central too.
            let own_rest = own.total.saturating_sub(own.transfers.len() as u64);
            own_rest.saturating_add(transfers.len() as u64)
        }
        Wanted { failed: true, state: None, .. } => attention(own_status, statuses()),
        Wanted { failed: true, .. } => transfers.len() as u64,
        Wanted { state: Some(state), .. } => states.get(&state).copied().unwrap_or_default(),
        Wanted { all, .. } => {
            states.iter().filter(|(state, _)| all || **state != State::Delivered).map(|(_, count)| count).sum()
        }
    };
    if let Some(reach) = &reach {
        transfers.retain(|transfer| transfer.id.as_ref().is_some_and(|id| id <= reach));
    }
    transfers.sort_by(|a, b| {
        let rank = |transfer: &Transfer| (transfer.id.is_none(), transfer.id.clone());
        rank(a).cmp(&rank(b)).then_with(|| a.item_encoded.cmp(&b.item_encoded))
    });
    more |= transfers.len() > wanted.limit;
    transfers.truncate(wanted.limit);
    List { view: own.view, transfers, total, more }
}

/// How far a page reaches that is not the last one.
fn end(page: &List) -> Option<String> {
    page.more.then(|| page.transfers.iter().filter_map(|transfer| transfer.id.clone()).max()).flatten()
}

fn add(counts: &mut Vec<Count>, stage: &str, count: u64) {
    match counts.iter_mut().find(|known| known.stage == stage) {
        Some(known) => known.count = known.count.saturating_add(count),
        None => counts.push(Count { stage: stage.to_owned(), count }),
    }
}

/// Whether a stage of an upload is one of items that are not transfers yet.
fn is_before_transfer(status: &Status, stage: &str) -> bool {
    status.node.mode == "upload" && !upload::Stage::ALL.iter().any(|known| known.as_str() == stage)
}

/// A transfer as one node, usually central, reports it, combined with the reports of the others.
pub(super) fn told_by_all(mut transfer: Transfer, told: &Told<'_>) -> Transfer {
    let standings = told.with(&transfer);
    let Some(standing) = decisive(&standings) else { return transfer };
    let (state, cause, report) = (standing.state, standing.cause, told.report(&transfer, standing));
    // If another node only waits for an answer, central's reason says more.
    let says_more = |cause| !matches!(cause, Cause::Receipts | Cause::Acknowledgement | Cause::Central | Cause::Broker);
    transfer.state = state.as_str().to_owned();
    let running = report.and_then(|report| report.progress.clone()).or_else(|| told.run(&transfer));
    if let Some(report) = report.filter(|_| says_more(cause)) {
        transfer.reason =
            Reason { code: report.reason.code.clone(), text: format!("{}: {}", report.node, report.reason.text) };
        transfer.next = report.next.or(transfer.next);
        transfer.attempts = transfer.attempts.max(report.attempts);
        transfer.paused = transfer.paused.take().or_else(|| report.paused.clone());
    }
    transfer.progress = transfer.progress.or(running);
    transfer
}

#[cfg(test)]
mod tests;
