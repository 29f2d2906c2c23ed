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
    let (state, cause, word) = (standing.state, standing.cause, told.word(&transfer, standing));
    // If another node only waits for an answer, central's reason says more.
    let says_more = |cause| !matches!(cause, Cause::Receipts | Cause::Acknowledgement | Cause::Central | Cause::Broker);
    transfer.state = state.as_str().to_owned();
    let running = word.and_then(|word| word.progress.clone()).or_else(|| told.run(&transfer));
    if let Some(word) = word.filter(|_| says_more(cause)) {
        transfer.reason =
            Reason { code: word.reason.code.clone(), text: format!("{}: {}", word.node, word.reason.text) };
        transfer.next = word.next.or(transfer.next);
        transfer.attempts = transfer.attempts.max(word.attempts);
        transfer.paused = transfer.paused.take().or_else(|| word.paused.clone());
    }
    transfer.progress = transfer.progress.or(running);
    transfer
}

#[cfg(test)]
mod tests {
    use super::super::samples::{progress, seen, status, transfer};
    use super::super::types::{Receiver, Tallied, View};
    use super::*;

    const HUB: &str = "central hub";
    const ALPHA: &str = "upload alpha";
    const DELTA: &str = "download delta";
    const ECHO: &str = "download echo";

    fn receivers(names: &[(&str, Option<u64>)]) -> Vec<Receiver> {
        names.iter().map(|(name, received)| Receiver { name: (*name).to_owned(), received: *received }).collect()
    }

    fn held(number: u8) -> Transfer {
        let receivers = receivers(&[("delta", None), ("echo", Some(7))]);
        Transfer { receivers, ..seen(HUB, "receipts", transfer(number, "held")) }
    }

    #[test]
    fn what_needs_a_person_is_counted_once_and_more_than_is_listed_at_least() {
        let ids = |from: usize, count: usize| (from..from + count).map(|number| format!("id {number}")).collect();
        let with = |mode: &str, attention: u64, urgent: Vec<String>| Status {
            attention,
            urgent,
            ..status(&format!("{mode} node"), Vec::new())
        };
        let count = |own: &Status, others: &[Status]| attention(own, others.iter());
        let (own, download) = (with("central", 3, ids(0, 3)), with("download", 2, ids(2, 2)));
        let upload = with("upload", 5, ids(0, 1));
        assert_eq!(count(&own, &[download.clone(), upload.clone()]), 4 + 4, "four of which have no id");
        let many = with("download", 20_000, ids(0, TALLY_LIMIT));
        assert_eq!(count(&many, &[download.clone(), upload.clone()]), 20_000);
        assert_eq!(count(&own, &[many.clone(), many]), 20_000);
    }

    #[test]
    fn whoever_has_it_in_hand_says_more() {
        let granted = || seen(HUB, "running", transfer(1, "granted"));
        let cases = [
            (granted(), vec![seen(ALPHA, "queued", transfer(1, "granted"))], "upload alpha: queued for rsync"),
            (granted(), vec![seen(ALPHA, "receipts", transfer(1, "received"))], "rsync is running"),
            (granted(), vec![seen(DELTA, "transport", transfer(1, "wanted"))], "rsync is running"),
            (granted(), vec![], "rsync is running"),
            (held(1), vec![seen(DELTA, "transport", transfer(1, "wanted"))], "download delta: rsync failed"),
            (
                Transfer { receivers: receivers(&[("delta", None)]), ..seen(HUB, "queued", transfer(1, "held")) },
                vec![seen(DELTA, "paused", transfer(1, "wanted"))],
                "download delta: paused by an operator",
            ),
            // Its receipt is here, and what is wrong there needs a person.
            (held(1), vec![seen(ECHO, "cleanup", transfer(1, "delivered"))], "download echo: cleanup failed"),
            (held(1), vec![seen(ECHO, "cleaning", transfer(1, "cleaning"))], "waiting for receipts"),
            (
                seen(HUB, "keeping", transfer(1, "released")),
                vec![
                    seen(ECHO, "cleanup", transfer(1, "delivered")),
                    seen(ALPHA, "disputed", transfer(1, "releasing")),
                ],
                "upload alpha: the item changed between its receipts and the end of its cleanup: not sent automatically, retry sends it",
            ),
            (held(1), vec![seen(ALPHA, "receipts", transfer(1, "received"))], "waiting for receipts"),
            (
                held(1),
                vec![seen(DELTA, "hashing", transfer(1, "verifying")), seen(ECHO, "queued", transfer(1, "wanted"))],
                "download delta: computing the checksum",
            ),
            (
                seen(HUB, "queued", transfer(1, "waiting")),
                vec![seen(ALPHA, "paused", transfer(1, "announced"))],
                "upload alpha: paused by an operator",
            ),
            (
                seen(HUB, "space", transfer(1, "waiting")),
                vec![seen(ALPHA, "paused", transfer(1, "announced"))],
                "not enough free space",
            ),
            (
                seen(HUB, "hashing", transfer(1, "granted")),
                vec![seen(ALPHA, "acknowledgement", transfer(1, "sent"))],
                "computing the checksum",
            ),
        ];
        for (central, words, text) in cases {
            let told = told_by_all(central.clone(), &Told::of(&words.iter().collect::<Vec<_>>()));
            assert_eq!(told.reason.text, text);
            assert_eq!((&told.stage, &told.node), (&central.stage, &central.node));
        }
        let failing = Transfer { attempts: 3, next: Some(9), ..seen(ALPHA, "transport", transfer(1, "granted")) };
        let running = Transfer { progress: progress(DELTA), ..seen(DELTA, "running", transfer(1, "pulling")) };
        let told = told_by_all(granted(), &Told::of(&[&failing]));
        assert_eq!((told.attempts, told.next, told.reason.code.as_str()), (3, Some(9), "transport"));
        let told = told_by_all(held(1), &Told::of(&[&failing, &running]));
        assert_eq!((told.progress, told.reason.code.as_str()), (progress(DELTA), "running"));
    }

    #[test]
    fn the_merged_status_holds_everything_once() {
        let own = status(HUB, vec![seen(HUB, "running", transfer(1, "granted")), held(2)]);
        let upload = status(
            ALPHA,
            vec![
                Transfer { progress: progress(ALPHA), ..seen(ALPHA, "running", transfer(1, "sending")) },
                seen(ALPHA, "receipts", transfer(2, "received")),
                seen(ALPHA, "central", transfer(3, "announced")),
                Transfer { id: None, ..seen(ALPHA, "settling", transfer(4, "settling")) },
                // Central knows the transfer and does not list it: central looked it up.
                Transfer { attempts: 2, ..seen(ALPHA, "transport", transfer(5, "granted")) },
                // Central has finished these.
                seen(ALPHA, "acknowledgement", transfer(6, "freed")),
                seen(ALPHA, "acknowledgement", transfer(7, "freed")),
            ],
        );
        let failing = Transfer { attempts: 9, ..seen(DELTA, "cleanup", transfer(7, "delivered")) };
        let mut download = status(DELTA, vec![seen(DELTA, "queued", transfer(2, "wanted")), failing]);
        // More than the list has.
        let ids = [7, 8].map(|number| transfer(number, "delivered").id.unwrap()).to_vec();
        download.tallied = vec![Tallied {
            stage: "delivered".to_owned(),
            state: "failed".to_owned(),
            code: "cleanup".to_owned(),
            ids,
        }];
        download.members[0].doing = "fetching 1".to_owned();
        let mut own = own;
        own.members.extend(download.members.iter().cloned().map(|member| super::super::types::Member {
            doing: String::new(),
            heard: 77,
            ..member
        }));
        own.counts =
            vec![Count { stage: "granted".to_owned(), count: 2 }, Count { stage: "held".to_owned(), count: 1 }];
        own.states = states_of(&[("uploading", 2), ("waiting", 1), ("delivered", 3)]);
        let others = [upload, download];
        let missing = unlisted(&own.transfers, others.iter().map(|other| (other, other.transfers.as_slice())));
        assert_eq!(missing.len(), 5);
        let looked_up = vec![seen(HUB, "running", transfer(5, "granted"))];
        let merged = statuses(own, looked_up, &others, 100, false);

        let listed: Vec<_> = merged
            .transfers
            .iter()
            .map(|transfer| (transfer.item.as_str(), transfer.node.as_str(), transfer.stage.as_str()))
            .collect();
        assert_eq!(
            listed,
            [
                ("item 5", HUB, "granted"),
                ("item 7", DELTA, "delivered"),
                ("item 1", HUB, "granted"),
                ("item 2", HUB, "held"),
                ("item 3", ALPHA, "announced"),
                ("item 4", ALPHA, "settling"),
                ("item 6", ALPHA, "freed"),
            ]
        );
        assert_eq!(merged.transfers[2].progress, progress(ALPHA));
        assert_eq!(merged.transfers[0].reason.text, "upload alpha: rsync failed");
        let counts: Vec<_> = merged.counts.iter().map(|count| (count.stage.as_str(), count.count)).collect();
        let expected = [("granted", 2), ("held", 1), ("settling", 1), ("announced", 1), ("freed", 1), ("delivered", 2)];
        assert_eq!(counts.iter().copied().collect::<BTreeMap<_, _>>(), BTreeMap::from(expected));
        let states = [
            ("settling", 1),
            ("queued", 1),
            ("uploading", 1),
            ("waiting", 1),
            ("cleaning-up", 1),
            ("delivered", 3),
            ("failed", 3),
        ];
        assert_eq!(merged.states, states_of(&states));
        assert_eq!((merged.total, merged.attention), (8, 2));
        let member = merged.members.iter().find(|member| member.name == "delta").unwrap();
        assert_eq!((member.doing.as_str(), member.heard), ("fetching 1", 77));
    }

    fn states_of(states: &[(&str, u64)]) -> Vec<StateCount> {
        states.iter().map(|(state, count)| StateCount { state: (*state).to_owned(), count: *count }).collect()
    }

    fn page(transfers: Vec<Transfer>, total: u64, more: bool) -> List {
        let view = View { whole: true, from: HUB.to_owned(), why: None, silent: Vec::new() };
        List { view, transfers, total, more }
    }

    fn items(list: &List) -> Vec<&str> {
        list.transfers.iter().map(|transfer| transfer.item.as_str()).collect()
    }

    #[test]
    fn pages_reach_as_far_as_all_of_them_do() {
        let wanted = Wanted { state: None, upload: None, failed: false, after: None, all: false, limit: 3 };
        let central = |numbers: &[u8]| -> Vec<_> {
            numbers.iter().map(|n| seen(HUB, "queued", transfer(*n, "waiting"))).collect()
        };
        let settling = Transfer { id: None, ..seen(ALPHA, "settling", transfer(9, "settling")) };
        let announced = |n| seen(ALPHA, "central", transfer(n, "announced"));
        let alpha = status(ALPHA, vec![settling.clone()]);

        // Central has more, so the list must not show anything after its page; central does not know transfer 5.
        let hub = status(HUB, central(&[1, 2, 3, 4]));
        let first = lists(
            (&hub, page(central(&[1, 2, 3]), 4, true)),
            vec![],
            &[(alpha.clone(), page(vec![announced(5), settling.clone()], 2, false))],
            wanted,
        );
        assert_eq!((items(&first), first.more, first.total), (vec!["item 1", "item 2", "item 3"], true, 6));
        let next = lists(
            (&hub, page(central(&[4]), 4, false)),
            vec![],
            &[(alpha.clone(), page(vec![announced(5), settling.clone()], 2, false))],
            wanted,
        );
        assert_eq!((items(&next), next.more), (vec!["item 4", "item 5", "item 9"], false));
        // The upload's page ends before central's.
        let short = lists(
            (&hub, page(central(&[1, 4]), 2, false)),
            vec![],
            &[(alpha, page(vec![announced(2), announced(3)], 9, true))],
            wanted,
        );
        assert_eq!((items(&short), short.more), (vec!["item 1", "item 2", "item 3"], true));
    }

    #[test]
    fn what_fails_elsewhere_fails_in_the_group() {
        let wanted = Wanted { state: None, upload: None, failed: true, after: None, all: false, limit: 10 };
        let failing =
            |node, number, stage| Transfer { attempts: 1, ..seen(node, "transport", transfer(number, stage)) };
        let looked_up = || vec![seen(HUB, "running", transfer(1, "granted")), held(2)];
        let others = || {
            let upload = status(ALPHA, vec![failing(ALPHA, 1, "granted")]);
            let download = status(DELTA, vec![failing(DELTA, 2, "wanted")]);
            [
                (upload, page(vec![failing(ALPHA, 1, "granted")], 1, false)),
                (download, page(vec![failing(DELTA, 2, "wanted")], 1, false)),
            ]
        };
        let list = lists((&status(HUB, vec![]), page(vec![], 0, false)), looked_up(), &others(), wanted);
        assert_eq!((items(&list), list.total), (vec!["item 1", "item 2"], 2));
        assert!(list.transfers.iter().all(|transfer| transfer.node == HUB && transfer.attempts == 1));
        let list = lists(
            (&status(HUB, vec![]), page(vec![], 0, false)),
            looked_up(),
            &others(),
            Wanted { state: Some(State::Queued), ..wanted },
        );
        assert!(items(&list).is_empty());
    }
}
