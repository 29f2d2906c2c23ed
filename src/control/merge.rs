//! One view of the group out of what its nodes tell, made by central. Pure.
//!
//! Of a transfer that central knows, central's word counts. Where that word is only that another node has it in hand,
//! the other's reason says more, and is taken with its name before it; so is its rsync run. And where it needs a person on
//! any node, that is the reason, whatever central says ([`Cause::precedence`]). What central does not know, yet or any
//! more, comes from whoever has it: a transfer is under way until the last node is through with it.

use std::collections::{BTreeMap, BTreeSet};

use super::changes::{sort, urgency};
use super::types::{Count, List, Reason, Status, Transfer};
use crate::machine::{Cause, central, upload};

/// What each transfer is on the other nodes, by its id.
type Words<'a> = BTreeMap<&'a str, Vec<&'a Transfer>>;

/// The ids of what the others list or are late with and `own` does not list: central has to look these up before it merges.
pub fn unlisted<'a>(own: &[Transfer], others: impl Iterator<Item = (&'a Status, &'a [Transfer])>) -> BTreeSet<String> {
    let listed: BTreeSet<_> = own.iter().filter_map(|transfer| transfer.id.as_deref()).collect();
    let ids = others.flat_map(|(status, transfers)| {
        let late = status.late.iter().flat_map(|late| &late.ids);
        transfers.iter().filter_map(|transfer| transfer.id.as_ref()).chain(late)
    });
    ids.filter(|id| !listed.contains(id.as_str())).cloned().collect()
}

/// Central's status with those of the others. `looked_up` is what central knows of what only they list.
pub fn statuses(own: Status, looked_up: Vec<Transfer>, others: &[Status], limit: usize) -> Status {
    let words = words(others.iter().map(|other| other.transfers.as_slice()));
    let mut merged = own;
    let known = merged.transfers.drain(..).chain(looked_up);
    let mut transfers: Vec<_> = known.map(|transfer| with_words(transfer, &words)).collect();
    let mut ids: BTreeSet<_> = transfers.iter().filter_map(|transfer| transfer.id.clone()).collect();
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
                    transfers.push(with_words(transfer.clone(), &words));
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
    let mut stages = late(others.iter(), &ids);
    for transfer in elsewhere(&words, &ids, others.iter().any(|other| other.node.mode == "central")) {
        if let Some(id) = &transfer.id {
            stages.insert(id.clone(), transfer.stage.clone());
        }
        transfers.push(transfer);
    }
    stages.values().for_each(|stage| add(&mut merged.counts, stage, 1));
    merged.attention = attention(&merged, others.iter());
    merged.urgent.clear();
    merged.late.clear();
    merged.total = merged.counts.iter().map(|count| count.count).sum();
    sort(&mut transfers);
    transfers.truncate(limit);
    merged.transfers = transfers;
    merged
}

/// How many transfers and items need a person on some node, each counted once.
fn attention<'a>(own: &'a Status, others: impl Iterator<Item = &'a Status> + Clone) -> u64 {
    let all = || std::iter::once(own).chain(others.clone());
    let urgent: BTreeSet<_> = all().flat_map(|status| &status.urgent).collect();
    // What has no id is known to its upload only.
    let more: u64 = all().map(|status| status.attention.saturating_sub(status.urgent.len() as u64)).sum();
    more.saturating_add(urgent.len() as u64)
}

/// The stages of what nodes are late with and central is through with, by the id.
fn late<'a>(others: impl Iterator<Item = &'a Status> + Clone, known: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut stages = BTreeMap::new();
    // Another central may hold what this one does not know.
    if others.clone().any(|other| other.node.mode == "central") {
        return stages;
    }
    for late in others.flat_map(|other| &other.late) {
        for id in late.ids.iter().filter(|id| !known.contains(*id)) {
            stages.entry(id.clone()).or_insert_with(|| late.stage.clone());
        }
    }
    stages
}

/// What no central knows and others have, each once: as it is where a person is needed most.
fn elsewhere(words: &Words<'_>, known: &BTreeSet<String>, more_centrals: bool) -> Vec<Transfer> {
    let unknown = words.iter().filter(|(id, _)| !known.contains(**id));
    let mine = unknown.filter(|(_, words)| !more_centrals || words.iter().any(|word| is_unknown(word)));
    mine.filter_map(|(_, words)| most_urgent(words).cloned()).collect()
}

/// Of what several nodes say of a transfer, the word of the one where a person is needed most.
pub(super) fn most_urgent<'a>(words: &[&'a Transfer]) -> Option<&'a Transfer> {
    words.iter().copied().min_by_key(|word| (rank(word), word.node.clone()))
}

/// What counts among the reasons for one transfer.
fn rank(transfer: &Transfer) -> (bool, u8) {
    (urgency(transfer) != 0, cause(transfer).map_or(u8::MAX, Cause::precedence))
}

/// What `List` is asked for, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) stage: Option<&'a str>,
    pub(super) upload: bool,
    pub(super) failed: bool,
    pub(super) limit: usize,
}

/// Central's page of a list with those of the others, each made by the same filter; beside each page stands the
/// node's status, of which only the counts and the tally matter. Pages are by age, so together they reach as far as the
/// shortest one that is not the last.
pub(super) fn lists(
    (own_status, own): (&Status, List),
    looked_up: Vec<Transfer>,
    others: &[(Status, List)],
    wanted: Wanted<'_>,
) -> List {
    let words = words(others.iter().map(|(_, page)| page.transfers.as_slice()));
    let statuses = || others.iter().map(|(status, _)| status);
    let mut total = own.total;
    let mut more = own.more;
    let mut reach = end(&own);
    let mut known: BTreeSet<_> =
        own.transfers.iter().chain(&looked_up).filter_map(|transfer| transfer.id.clone()).collect();
    let mut transfers = own.transfers;
    // What fails elsewhere is as it should be in central's eyes.
    let failing = looked_up
        .into_iter()
        .filter(|transfer| wanted.failed && wanted.stage.is_none_or(|stage| stage == transfer.stage));
    for transfer in failing {
        total += 1;
        transfers.push(transfer);
    }
    for (status, page) in others {
        let is_central = status.node.mode == "central";
        more |= page.more;
        reach = [reach, end(page)].into_iter().flatten().min();
        for transfer in &page.transfers {
            match &transfer.id {
                Some(id) if is_central && known.insert(id.clone()) => transfers.push(transfer.clone()),
                None if status.node.mode == "upload" => transfers.push(transfer.clone()),
                _ => {}
            }
        }
        if is_central {
            total += page.total;
        } else if wanted.failed {
            total += page.transfers.iter().filter(|transfer| transfer.id.is_none()).count() as u64;
        } else {
            let is_wanted =
                |stage: &str| is_before_transfer(status, stage) && wanted.stage.is_none_or(|it| it == stage);
            total += status.counts.iter().filter(|count| is_wanted(&count.stage)).map(|count| count.count).sum::<u64>();
        }
    }
    let mut stages = BTreeMap::new();
    if !wanted.failed && !wanted.upload {
        stages = late(statuses(), &known);
        stages.retain(|_, stage| wanted.stage.is_none_or(|it| it == stage));
    }
    for transfer in elsewhere(&words, &known, statuses().any(|status| status.node.mode == "central")) {
        if let Some(id) = &transfer.id {
            stages.insert(id.clone(), transfer.stage.clone());
        }
        transfers.push(transfer);
    }
    total += stages.len() as u64;
    if wanted.failed && !wanted.upload && wanted.stage.is_none() {
        total = attention(own_status, statuses());
    }
    if let Some(reach) = &reach {
        transfers.retain(|transfer| transfer.id.as_ref().is_some_and(|id| id <= reach));
    }
    transfers.sort_by(|a, b| {
        let rank = |transfer: &Transfer| (transfer.id.is_none(), transfer.id.clone());
        rank(a).cmp(&rank(b)).then_with(|| a.item_encoded.cmp(&b.item_encoded))
    });
    more |= transfers.len() > wanted.limit;
    transfers.truncate(wanted.limit);
    let transfers = transfers.into_iter().map(|transfer| with_words(transfer, &words)).collect();
    List { view: own.view, transfers, total, more }
}

/// How far a page reaches that is not the last one.
fn end(page: &List) -> Option<String> {
    page.more.then(|| page.transfers.iter().filter_map(|transfer| transfer.id.clone()).max()).flatten()
}

fn words<'a>(lists: impl Iterator<Item = &'a [Transfer]>) -> Words<'a> {
    let mut words = Words::new();
    for transfer in lists.flatten() {
        if let Some(id) = &transfer.id {
            words.entry(id).or_default().push(transfer);
        }
    }
    words
}

fn add(counts: &mut Vec<Count>, stage: &str, count: u64) {
    match counts.iter_mut().find(|known| known.stage == stage) {
        Some(known) => known.count = known.count.saturating_add(count),
        None => counts.push(Count { stage: stage.to_owned(), count }),
    }
}

/// Whether a stage of an upload is one of items that are to become transfers.
fn is_before_transfer(status: &Status, stage: &str) -> bool {
    status.node.mode == "upload" && !upload::Stage::ALL.iter().any(|known| known.as_str() == stage)
}

/// Whether central can have heard nothing of it, or lost what it has heard.
fn is_unknown(transfer: &Transfer) -> bool {
    transfer.id.is_none() || transfer.stage == upload::Stage::Announced.as_str()
}

fn with_words(transfer: Transfer, words: &Words<'_>) -> Transfer {
    match transfer.id.as_deref().and_then(|id| words.get(id)) {
        Some(words) => told_by_all(transfer, words),
        None => transfer,
    }
}

/// Central's word on a transfer with those of the nodes that have it in hand.
pub(super) fn told_by_all(mut transfer: Transfer, words: &[&Transfer]) -> Transfer {
    let upload = format!("upload {}", transfer.upload);
    let has_receipt = |word: &Transfer| {
        let name = word.node.strip_prefix("download ");
        transfer.receivers.iter().any(|receiver| Some(receiver.name.as_str()) == name && receiver.received.is_some())
    };
    let central = |stage: central::Stage| transfer.stage == stage.as_str();
    let in_hand = |word: &&&Transfer| match cause(&transfer) {
        Some(Cause::Paused | Cause::Hashing | Cause::Storage) => false,
        Some(Cause::Queued) if central(central::Stage::Waiting) => {
            word.node == upload && cause(word) == Some(Cause::Paused)
        }
        // What it told central last may be long ago.
        Some(Cause::Running | Cause::Queued | Cause::Transport) if central(central::Stage::Granted) => {
            word.node == upload
        }
        _ => central(central::Stage::Held) && word.node.starts_with("download ") && !has_receipt(word),
    };
    let says_more = |word: &&&Transfer| {
        !matches!(cause(word), None | Some(Cause::Receipts | Cause::Acknowledgement | Cause::Central | Cause::Broker))
    };
    let telling = words.iter().filter(in_hand).filter(says_more).min_by_key(|word| (urgency(word), word.node.clone()));
    let running = telling.iter().copied().chain(words).find_map(|word| word.progress.clone());
    if let Some(word) = telling {
        take_reason(&mut transfer, word);
    }
    // What nobody but a person can end is told wherever it is, and however much else goes on.
    let needing = words.iter().copied().filter(|word| cause(word).is_some_and(Cause::needs_person));
    let needing: Vec<_> = needing.collect();
    if let Some(word) = most_urgent(&needing).filter(|word| rank(word) < rank(&transfer)) {
        take_reason(&mut transfer, word);
    }
    transfer.progress = transfer.progress.or(running);
    transfer
}

fn take_reason(transfer: &mut Transfer, word: &Transfer) {
    transfer.reason = Reason { code: word.reason.code.clone(), text: format!("{}: {}", word.node, word.reason.text) };
    transfer.next = word.next.or(transfer.next);
    transfer.attempts = transfer.attempts.max(word.attempts);
    transfer.paused = transfer.paused.take().or_else(|| word.paused.clone());
}

fn cause(transfer: &Transfer) -> Option<Cause> {
    transfer.reason.code.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{progress, seen, status, transfer};
    use super::super::types::{Late, Receiver, View};
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
            (held(1), vec![seen(ECHO, "cleanup", transfer(1, "delivered"))], "download echo: cleanup script failed"),
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
            let told = told_by_all(central.clone(), &words.iter().collect::<Vec<_>>());
            assert_eq!(told.reason.text, text);
            assert_eq!((&told.stage, &told.node), (&central.stage, &central.node));
        }
        let failing = Transfer { attempts: 3, next: Some(9), ..seen(ALPHA, "transport", transfer(1, "granted")) };
        let running = Transfer { progress: progress(DELTA), ..seen(DELTA, "running", transfer(1, "pulling")) };
        let told = told_by_all(granted(), &[&failing]);
        assert_eq!((told.attempts, told.next, told.reason.code.as_str()), (3, Some(9), "transport"));
        let told = told_by_all(held(1), &[&failing, &running]);
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
                // Known to central, which does not list it: it was looked up.
                Transfer { attempts: 2, ..seen(ALPHA, "transport", transfer(5, "granted")) },
                // Central has finished these.
                seen(ALPHA, "acknowledgement", transfer(6, "freed")),
                seen(ALPHA, "acknowledgement", transfer(7, "freed")),
            ],
        );
        let failing = Transfer { attempts: 9, ..seen(DELTA, "cleanup", transfer(7, "delivered")) };
        let mut download = status(DELTA, vec![seen(DELTA, "queued", transfer(2, "wanted")), failing]);
        // More than are listed.
        let ids = [7, 8].map(|number| transfer(number, "delivered").id.unwrap()).to_vec();
        download.late = vec![Late { stage: "delivered".to_owned(), ids }];
        download.members[0].doing = "fetching 1".to_owned();
        let mut own = own;
        own.members.extend(download.members.iter().cloned().map(|member| super::super::types::Member {
            doing: String::new(),
            heard: 77,
            ..member
        }));
        own.counts =
            vec![Count { stage: "granted".to_owned(), count: 2 }, Count { stage: "held".to_owned(), count: 1 }];
        let others = [upload, download];
        let missing = unlisted(&own.transfers, others.iter().map(|other| (other, other.transfers.as_slice())));
        assert_eq!(missing.len(), 5);
        let looked_up = vec![seen(HUB, "running", transfer(5, "granted"))];
        let merged = statuses(own, looked_up, &others, 100);

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
        assert_eq!((merged.total, merged.attention), (8, 2));
        let member = merged.members.iter().find(|member| member.name == "delta").unwrap();
        assert_eq!((member.doing.as_str(), member.heard), ("fetching 1", 77));
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
        let wanted = Wanted { stage: None, upload: false, failed: false, limit: 3 };
        let central = |numbers: &[u8]| numbers.iter().map(|n| seen(HUB, "queued", transfer(*n, "waiting"))).collect();
        let settling = Transfer { id: None, ..seen(ALPHA, "settling", transfer(9, "settling")) };
        let announced = |n| seen(ALPHA, "central", transfer(n, "announced"));
        let alpha = status(ALPHA, vec![settling.clone()]);

        // Central has more, so nothing beyond its page may be shown; 5 is not known to it.
        let hub = status(HUB, vec![]);
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
        let wanted = Wanted { stage: None, upload: false, failed: true, limit: 10 };
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
            Wanted { stage: Some("held"), ..wanted },
        );
        assert_eq!(items(&list), ["item 2"]);
    }
}
