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
            vec![seen(ECHO, "cleanup", transfer(1, "delivered")), seen(ALPHA, "disputed", transfer(1, "releasing"))],
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
    download.tallied =
        vec![Tallied { stage: "delivered".to_owned(), state: "failed".to_owned(), code: "cleanup".to_owned(), ids }];
    download.members[0].doing = "fetching 1".to_owned();
    let mut own = own;
    own.members.extend(download.members.iter().cloned().map(|member| super::super::types::Member {
        doing: String::new(),
        heard: 77,
        ..member
    }));
    own.counts = vec![Count { stage: "granted".to_owned(), count: 2 }, Count { stage: "held".to_owned(), count: 1 }];
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
    let central =
        |numbers: &[u8]| -> Vec<_> { numbers.iter().map(|n| seen(HUB, "queued", transfer(*n, "waiting"))).collect() };
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
    let failing = |node, number, stage| Transfer { attempts: 1, ..seen(node, "transport", transfer(number, stage)) };
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
