//! One view of the group out of what its nodes tell, made by central. Pure.
//!
//! Of a transfer that central knows, central's word counts. Where that word is only that another node has it in hand,
//! the other's reason says more, and is taken with its name before it; so is its rsync run. What central does not know
//! yet comes from the upload.

use std::collections::{BTreeMap, BTreeSet};

use super::changes::{sort, urgency};
use super::types::{Count, List, Reason, Status, Transfer};
use crate::machine::{Cause, central, upload};

/// What each transfer is on the other nodes, by its id.
type Words<'a> = BTreeMap<&'a str, Vec<&'a Transfer>>;

/// The ids of what the others list and `own` does not: central has to look these up before it merges.
pub(super) fn unlisted<'a>(own: &[Transfer], others: impl Iterator<Item = &'a [Transfer]>) -> BTreeSet<String> {
    let listed: BTreeSet<_> = own.iter().filter_map(|transfer| transfer.id.as_deref()).collect();
    let ids = others.flatten().filter_map(|transfer| transfer.id.as_deref());
    ids.filter(|id| !listed.contains(id)).map(str::to_owned).collect()
}

/// Central's status with those of the others. `looked_up` is what central knows of what only they list.
pub(super) fn statuses(own: Status, looked_up: Vec<Transfer>, others: &[Status], limit: usize) -> Status {
    let words = words(others.iter().map(|other| other.transfers.as_slice()));
    let mut merged = own;
    let known = merged.transfers.drain(..).chain(looked_up);
    let mut transfers: Vec<_> = known.map(|transfer| with_words(transfer, &words)).collect();
    let ids: BTreeSet<_> = transfers.iter().filter_map(|transfer| transfer.id.clone()).collect();
    for other in others {
        let is_central = other.node.mode == "central";
        for Count { stage, count } in &other.counts {
            if is_central || is_before_transfer(other, stage) {
                add(&mut merged.counts, stage, *count);
            }
        }
        for transfer in &other.transfers {
            let listed = transfer.id.as_ref().is_some_and(|id| ids.contains(id));
            if is_central && !listed {
                transfers.push(with_words(transfer.clone(), &words));
            } else if !listed && is_unknown(transfer) && other.node.mode == "upload" {
                if transfer.id.is_some() {
                    add(&mut merged.counts, &transfer.stage, 1);
                }
                transfers.push(transfer.clone());
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
            known.doing.clone_from(&heard.doing);
        }
    }
    merged.total = merged.counts.iter().map(|count| count.count).sum();
    sort(&mut transfers);
    transfers.truncate(limit);
    merged.transfers = transfers;
    merged
}

/// What `List` is asked for, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) stage: Option<&'a str>,
    pub(super) failed: bool,
    pub(super) limit: usize,
}

/// Central's page of a list with those of the others, each made by the same filter; beside each of theirs stands the
/// node's status, of which only the counts matter. Pages are by age, so together they reach as far as the shortest one
/// that is not the last.
pub(super) fn lists(own: List, looked_up: Vec<Transfer>, others: &[(Status, List)], wanted: Wanted<'_>) -> List {
    let words = words(others.iter().map(|(_, page)| page.transfers.as_slice()));
    let mut total = own.total;
    let mut more = own.more;
    let mut reach = end(&own);
    let known: BTreeSet<_> =
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
        if !is_central && !wanted.failed && status.node.mode != "upload" {
            continue;
        }
        more |= page.more;
        reach = [reach, end(page)].into_iter().flatten().min();
        let is_ours = |transfer: &&Transfer| {
            let known = transfer.id.as_ref().is_some_and(|id| known.contains(id));
            !known && (is_central || (is_unknown(transfer) && status.node.mode == "upload"))
        };
        let ours: Vec<_> = page.transfers.iter().filter(is_ours).cloned().collect();
        let before = ours.iter().filter(|transfer| transfer.id.is_none()).count() as u64;
        total += match () {
            () if is_central => page.total,
            () if wanted.failed => ours.len() as u64,
            () => {
                let counted = status.counts.iter().filter(|count| {
                    is_before_transfer(status, &count.stage) && wanted.stage.is_none_or(|stage| stage == count.stage)
                });
                ours.len() as u64 - before + counted.map(|count| count.count).sum::<u64>()
            }
        };
        transfers.extend(ours);
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
        transfer.reason =
            Reason { code: word.reason.code.clone(), text: format!("{}: {}", word.node, word.reason.text) };
        transfer.next = word.next.or(transfer.next);
        transfer.attempts = transfer.attempts.max(word.attempts);
        transfer.paused = transfer.paused.or_else(|| word.paused.clone());
    }
    transfer.progress = transfer.progress.or(running);
    transfer
}

fn cause(transfer: &Transfer) -> Option<Cause> {
    transfer.reason.code.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{progress, seen, status, transfer};
    use super::super::types::{Receiver, View};
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
            (granted(), vec![seen(ALPHA, "queued", transfer(1, "granted"))], "upload alpha: in line for rsync"),
            (granted(), vec![seen(ALPHA, "receipts", transfer(1, "received"))], "rsync is at work"),
            (granted(), vec![seen(DELTA, "transport", transfer(1, "wanted"))], "rsync is at work"),
            (granted(), vec![], "rsync is at work"),
            (held(1), vec![seen(DELTA, "transport", transfer(1, "wanted"))], "download delta: rsync failed"),
            (
                Transfer { receivers: receivers(&[("delta", None)]), ..seen(HUB, "queued", transfer(1, "held")) },
                vec![seen(DELTA, "paused", transfer(1, "wanted"))],
                "download delta: paused by an operator",
            ),
            // Its receipt is here.
            (held(1), vec![seen(ECHO, "cleanup", transfer(1, "delivered"))], "waiting for receipts"),
            (held(1), vec![seen(ALPHA, "receipts", transfer(1, "received"))], "waiting for receipts"),
            (
                held(1),
                vec![seen(DELTA, "hashing", transfer(1, "verifying")), seen(ECHO, "queued", transfer(1, "wanted"))],
                "download delta: its digest is being computed",
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
                "its digest is being computed",
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
                // As good as over: central has finished it.
                seen(ALPHA, "acknowledgement", transfer(6, "freed")),
            ],
        );
        let mut download = status(DELTA, vec![seen(DELTA, "queued", transfer(2, "wanted"))]);
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
        let missing = unlisted(&own.transfers, others.iter().map(|other| other.transfers.as_slice()));
        assert_eq!(missing.len(), 3);
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
                ("item 1", HUB, "granted"),
                ("item 2", HUB, "held"),
                ("item 3", ALPHA, "announced"),
                ("item 4", ALPHA, "settling"),
            ]
        );
        assert_eq!(merged.transfers[1].progress, progress(ALPHA));
        assert_eq!(merged.transfers[0].reason.text, "upload alpha: rsync failed");
        let counts: Vec<_> = merged.counts.iter().map(|count| (count.stage.as_str(), count.count)).collect();
        assert_eq!(counts, [("granted", 2), ("held", 1), ("settling", 1), ("announced", 1)]);
        assert_eq!(merged.total, 5);
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
        let wanted = Wanted { stage: None, failed: false, limit: 3 };
        let central = |numbers: &[u8]| numbers.iter().map(|n| seen(HUB, "queued", transfer(*n, "waiting"))).collect();
        let settling = Transfer { id: None, ..seen(ALPHA, "settling", transfer(9, "settling")) };
        let announced = |n| seen(ALPHA, "central", transfer(n, "announced"));
        let alpha = status(ALPHA, vec![settling.clone()]);

        // Central has more, so nothing beyond its page may be shown; 5 is not known to it.
        let first = lists(
            page(central(&[1, 2, 3]), 4, true),
            vec![],
            &[(alpha.clone(), page(vec![announced(5), settling.clone()], 2, false))],
            wanted,
        );
        assert_eq!((items(&first), first.more, first.total), (vec!["item 1", "item 2", "item 3"], true, 6));
        let next = lists(
            page(central(&[4]), 4, false),
            vec![],
            &[(alpha.clone(), page(vec![announced(5), settling.clone()], 2, false))],
            wanted,
        );
        assert_eq!((items(&next), next.more), (vec!["item 4", "item 5", "item 9"], false));
        // The upload's page ends before central's.
        let short = lists(
            page(central(&[1, 4]), 2, false),
            vec![],
            &[(alpha, page(vec![announced(2), announced(3)], 9, true))],
            wanted,
        );
        assert_eq!((items(&short), short.more), (vec!["item 1", "item 2", "item 3"], true));
    }

    #[test]
    fn what_fails_elsewhere_fails_in_the_group() {
        let wanted = Wanted { stage: None, failed: true, limit: 10 };
        let failing =
            |node, number, stage| Transfer { attempts: 1, ..seen(node, "transport", transfer(number, stage)) };
        let looked_up = || vec![seen(HUB, "running", transfer(1, "granted")), held(2)];
        let others = || {
            let upload = status(ALPHA, vec![]);
            let download = status(DELTA, vec![]);
            [
                (upload, page(vec![failing(ALPHA, 1, "granted")], 1, false)),
                (download, page(vec![failing(DELTA, 2, "wanted")], 1, false)),
            ]
        };
        let list = lists(page(vec![], 0, false), looked_up(), &others(), wanted);
        assert_eq!((items(&list), list.total), (vec!["item 1", "item 2"], 2));
        assert!(list.transfers.iter().all(|transfer| transfer.node == HUB && transfer.attempts == 1));
        let list = lists(page(vec![], 0, false), looked_up(), &others(), Wanted { stage: Some("held"), ..wanted });
        assert_eq!(items(&list), ["item 2"]);
    }
}
