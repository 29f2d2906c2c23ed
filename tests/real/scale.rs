//! With twenty thousand items waiting, a daemon stays small, idle and quick to answer.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use synkler::drivers::broker::{Broker, BrokerEvent};
use synkler::machine::{
    Address, Digest, ENTRY_LIMIT, Fingerprint, Forward, GroupPause, Hello, ItemName, JournalId, Kind, Location,
    Message, Mode, Node as Peer, Offer, Protocols, Time, TransferId,
};
use tokio::sync::mpsc;

use crate::bed::node::Node;
use crate::bed::{Bed, tree};

const ITEMS: usize = 20_000;
/// How many items a central that is played by the test is ahead of the answers.
const AHEAD: usize = 1000;
const LONG: Duration = Duration::from_secs(90);
/// The most of its own memory that a node may have with all items waiting. It was 46.4 MiB.
const OWN_KIB: u64 = 50 * 1024;
/// The same with the resident pages of its program: 14 MiB in the build for tests.
const MEMORY_KIB: u64 = 64 * 1024;
/// The share of one processor, in a window this long.
const IDLE_SHARE: f64 = 0.01;
const WINDOW: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_millis(200);

#[test]
fn twenty_thousand_items_wait_for_a_first_receiver() {
    let bed = Bed::new();
    let mut upload = bed.upload("up", "settle_seconds = 0\n");
    let mut central = bed.central("mid", "");
    let workshop = tree::workshop(&upload.file_dir);
    for number in 0..ITEMS {
        let name = format!("an-item-with-a-name-of-usual-length-{number:05}.dat");
        fs::write(workshop.join(&name), number.to_string()).unwrap();
        fs::rename(workshop.join(&name), upload.file_dir.join(&name)).unwrap();
    }
    central.start();
    upload.start();
    let all_offered = central.log.wait(0, ITEMS, LONG, |line| line.contains("offered: "));
    assert!(all_offered, "central has heard of {} items only", central.log.count(|line| line.contains("offered: ")));
    is_at_rest(&central, "waiting");
    is_at_rest(&upload, "announced");
}

#[test]
fn twenty_thousand_items_wait_for_a_host_that_is_away() {
    let mut bed = Bed::new();
    bed.sshd.kill();
    let mut download = bed.download("down", "");
    download.start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(offer_all(&bed));
    let all_wanted = download.log.wait(0, ITEMS, LONG, |line| line.contains("offered by central: "));
    assert!(
        all_wanted,
        "download has heard of {} items only",
        download.log.count(|line| line.contains("offered by central: "))
    );
    is_at_rest(&download, "wanted");
}

/// Speaks as a central that holds very many copies. It answers nothing and is gone when all is said.
async fn offer_all(bed: &Bed) {
    let (events, mut heard) = mpsc::channel(1024);
    let broker = Broker::start(bed.broker_settings(Peer::new(Mode::Central, "mid".parse().unwrap())), events);
    let download = Address::Node(Peer::new(Mode::Download, "down".parse().unwrap()));
    let location = Location::new("127.0.0.1", "/var/spool/synkler/default/held").unwrap();
    let forward = |number: usize| {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let name = format!("an-item-with-a-name-of-usual-length-{number:05}.dat");
        let offer = Offer {
            transfer: TransferId::mint(1_700_000_000_000 + number as u64, random),
            name: ItemName::new(name.as_bytes()).unwrap(),
            kind: Kind::File,
            entries: 1,
            fingerprint: Fingerprint { size: 5, digest: Digest([7; 16]) },
            modes: "f0644".parse().unwrap(),
            extras: Default::default(),
            minted: Time::default(),
        };
        Forward { offer, upload: "up".parse().unwrap() }
    };
    let mut next = 0;
    let mut answered = BTreeSet::new();
    while answered.len() < ITEMS {
        match heard.recv().await.expect("the session lasts") {
            BrokerEvent::Connected => {
                let journal: JournalId = "00c0ffee".parse().unwrap();
                let hello = Hello {
                    protocols: Protocols::OURS,
                    journal,
                    started: Time::from_millis(1),
                    version: "0".into(),
                    slots: 1,
                    reply: true,
                    host: String::new(),
                    now: Time::from_millis(1),
                    paused: None,
                    group: GroupPause::default(),
                    free: None,
                    free_inodes: None,
                    doing: String::new(),
                    spool: None,
                };
                broker.publish(Address::All, Message::Hello(Box::new(hello)));
            }
            BrokerEvent::Disconnected(why) => panic!("the broker: {why}"),
            // Nobody waits for an answer longer than a second.
            BrokerEvent::Asked { .. } | BrokerEvent::Answered { .. } | BrokerEvent::Undelivered { .. } => {}
            BrokerEvent::Delivery { message, tag, .. } => {
                broker.acknowledge(vec![tag]);
                if let Message::Waiting(waits) = message {
                    answered.extend(waits.into_iter().map(|wait| wait.transfer));
                }
                // A download drops what comes faster than it can ask its journal, and waits to be told again.
                while next < ITEMS && next < answered.len() + AHEAD {
                    let items = (next..next + ENTRY_LIMIT).map(forward).collect();
                    next += ENTRY_LIMIT;
                    broker.publish(download.clone(), Message::Download { location: location.clone(), items });
                }
            }
        }
    }
    broker.close().await;
}

/// Small, idle and quick, with all items in this stage.
fn is_at_rest(node: &Node, stage: &str) {
    let share = quiet_share(node);
    let (resident, anonymous) = (memory(node, "VmRSS:"), memory(node, "RssAnon:"));
    let start = Instant::now();
    let status = node.status(10);
    let took = start.elapsed();
    let who = format!("{} {}", node.mode, node.name);
    println!("{who}: {resident} KiB resident ({anonymous} KiB its own), {share:.4} of a processor, status in {took:?}");
    let waiting = status["counts"].as_array().unwrap().iter().find(|count| count["stage"] == stage);
    assert_eq!(waiting.map(|count| count["count"].as_u64()), Some(Some(ITEMS as u64)), "{who}: {}", status["counts"]);
    assert!(anonymous < OWN_KIB, "{who} has {anonymous} KiB of its own");
    assert!(resident < MEMORY_KIB, "{who} has {resident} KiB resident");
    assert!(share < IDLE_SHARE, "{who} uses {share} of a processor and does nothing");
    assert!(took < ANSWER, "{who} answered after {took:?}");
}

/// The share of a processor in the first window in which it is at rest, or in the last one of many.
#[expect(clippy::disallowed_methods, reason = "rest is measured over time: there is no event to wait for")]
fn quiet_share(node: &Node) -> f64 {
    let deadline = Instant::now() + LONG;
    loop {
        let (before, start) = (processor_time(node), Instant::now());
        // Nothing happens in it: that is what is measured.
        std::thread::sleep(WINDOW);
        let share = (processor_time(node) - before).as_secs_f64() / start.elapsed().as_secs_f64();
        if share < IDLE_SHARE || Instant::now() > deadline {
            return share;
        }
    }
}

fn processor_time(node: &Node) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", node.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // A tick as /proc counts is a hundredth of a second, whatever the kernel's own is.
    Duration::from_millis(ticks * 10)
}

fn memory(node: &Node, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
