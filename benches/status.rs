//! Answers with fifty thousand transfers known: a central that finds them in its journal is asked for its status and for
//! a page of its list, and how long its loop was held up meanwhile is read from its log. Prints the figures, and fails
//! where a target is missed.

#![allow(unreachable_pub, reason = "the bed is shared by several programs")]
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../tests/bed/mod.rs"]
mod bed;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bed::Bed;
use synkler::control::Client;
use synkler::control::types::Filter;
use synkler::drivers::journal::{Journal, Owner};
use synkler::machine::{
    Digest, Fingerprint, ItemName, Kind, Mode, Node, Offer, Record, Row, Time, TransferId, central,
};

const TRANSFERS: u64 = 50_000;
const TARGET: Duration = Duration::from_millis(100);
const CALLS: usize = 100;
/// The most that a small call may take beside the large ones: what a client meets whose call comes while the loop does
/// something else.
const HELD_UP: Duration = Duration::from_millis(100);
/// Between two small calls: without a rest they alone would keep one of two cores busy, and be what is measured.
const REST: Duration = Duration::from_millis(2);

fn row(number: u64) -> Row {
    let [.., a, b, c] = number.to_be_bytes();
    let stage = [central::Stage::Waiting, central::Stage::Held][usize::from(number % 2 == 1)];
    let at = Time::from_millis(1_795_000_000_000 + number);
    let offer = Offer {
        transfer: TransferId::mint(at.as_millis(), [a, b, c, 3, 4, 5, 6, 7, 8, 9]),
        name: ItemName::new(format!("an-item-with-a-name-of-usual-length-{number:05}.dat").as_bytes()).unwrap(),
        kind: Kind::File,
        entries: 1,
        fingerprint: Fingerprint { size: number, digest: Digest([7; 16]) },
        modes: Default::default(),
        extras: Default::default(),
        minted: Time::default(),
    };
    Row {
        stage: stage.as_str().to_owned(),
        receivers: if stage == central::Stage::Held { vec![("away".parse().unwrap(), None)] } else { Vec::new() },
        ..Row::new(offer, "up".parse().unwrap(), at, at)
    }
}

/// How long calls took: in the middle, 95 of 100, and the slowest.
#[derive(Clone, Copy)]
struct Took {
    median: Duration,
    most: Duration,
    slowest: Duration,
}

impl Took {
    fn of(mut took: Vec<Duration>) -> Self {
        took.sort();
        Self { median: took[took.len() / 2], most: took[took.len() * 95 / 100], slowest: took[took.len() - 1] }
    }
}

fn main() -> ExitCode {
    let bed = Bed::new();
    let mut central = bed.central("mid", "receivers = [\"away\"]\n");
    let state = central.file_dir.parent().unwrap().join("state");
    let owner = Owner { group: "default".parse().unwrap(), node: Node::new(Mode::Central, "mid".parse().unwrap()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (journal, _) = Journal::open(&state, &owner).unwrap();
    let records = (0..TRANSFERS).map(|number| Record::Transfer(Box::new(row(number)))).collect();
    runtime.block_on(journal.commit(records)).unwrap();
    drop(journal);
    // Copies that are there: central would look for missing ones and request them again, and that is not what is measured.
    for row in (0..TRANSFERS).map(row).filter(|row| !row.receivers.is_empty()) {
        let held = central.file_dir.join("default/held").join(row.transfer.to_string());
        std::fs::create_dir_all(&held).unwrap();
        std::fs::write(held.join(row.name.to_string()), "").unwrap();
    }
    central.start();
    // A peer that is alive, so that the view is the group's.
    let mut download = bed.download("down", "");
    download.start();
    let client = || Client::connect(&central.socket).unwrap();
    assert!(bed::node::wait_for(Duration::from_secs(60), || {
        let status = client().status(Some(0), false).unwrap();
        status.members.iter().filter(|member| member.alive).count() == 2
    }));
    client().set_log_level("debug").unwrap();

    let ask = |call: &dyn Fn(&mut Client)| {
        let mut client = client();
        let mut took = Vec::new();
        for _ in 0..CALLS {
            let start = Instant::now();
            call(&mut client);
            took.push(start.elapsed());
        }
        Took::of(took)
    };
    let over = std::sync::atomic::AtomicBool::new(false);
    let (rows, small) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| {
            let mut client = client();
            let mut took = Vec::new();
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let start = Instant::now();
                client.info().unwrap();
                took.push(start.elapsed());
                #[allow(clippy::disallowed_methods, reason = "the pause is the measurement's own")]
                std::thread::sleep(REST);
            }
            Took::of(took)
        });
        let all = Filter { limit: Some(50), ..Filter::default() };
        let filtered = Filter { failed: Some(true), state: Some("queued".to_owned()), ..all.clone() };
        let rows = [
            ("GetStatus, the group", ask(&|client| assert!(client.status(None, false).unwrap().total >= TRANSFERS))),
            ("GetStatus, this node", ask(&|client| assert!(client.status(None, true).unwrap().total >= TRANSFERS))),
            ("List, 50 of all", ask(&|client| assert_eq!(client.list(&all).unwrap().transfers.len(), 50))),
            ("List, those that fail", ask(&|client| assert!(client.list(&filtered).unwrap().view.whole))),
            (
                "GetTransfer, by its name's beginning",
                ask(&|client| {
                    client.transfer("an-item-with-a-name-of-usual-length-31415", false).unwrap();
                }),
            ),
        ];
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        (rows, beside.join().unwrap())
    });

    let mut missed = false;
    println!("{TRANSFERS} transfers known, {CALLS} calls each: median, 95 of 100, slowest");
    let show = |what: &str, took: Took| {
        println!("{what:<38} {:>10.1?} {:>10.1?} {:>10.1?}", took.median, took.most, took.slowest)
    };
    for (what, took) in rows {
        show(what, took);
        // What people look at all the time; the others are for one item, or for those that fail.
        let quick = what.starts_with("GetStatus") || what.starts_with("List, 50");
        missed |= took.median > TARGET || quick && took.most > TARGET;
    }
    let held_up = central.log.text();
    let held_up: Vec<u64> = held_up
        .lines()
        .filter_map(|line| line.split("the event loop was blocked for ").nth(1)?.split(' ').next()?.parse().ok())
        .collect();
    let longest = held_up.iter().max().copied();
    show("a small call beside them", small);
    match longest {
        None => println!("the loop was never held up for more than 100 ms"),
        Some(longest) => println!("the loop was held up {} times, {longest} ms at the longest", held_up.len()),
    }
    missed |= small.slowest > HELD_UP || longest.is_some();
    if missed {
        println!("missed: answers within {TARGET:?}, and a loop that nothing holds up for longer than that");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
