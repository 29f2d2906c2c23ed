//! A group that is upgraded node by node, under load: old and new work together, both ways round.
//!
//! The other version is the previous release, where `PREVIOUS_BIN` names the directory of its programs (`.ci/previous`
//! makes it from the release's tag). Where there is none yet it is this build with the switch for a message of the future
//! (`src/drivers/broker/future.rs`): one field more in every message, and one kind more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use synkler::drivers::broker::{Broker, BrokerEvent, BrokerSettings};
use synkler::machine::{Address, GroupPause, Hello, Message, Mode, Node as Peer, Protocols, Time};
use tokio::sync::mpsc;

use crate::bed::node::{Node, wait_for};
use crate::bed::{Bed, binaries, tree};

const LONG: Duration = Duration::from_secs(180);
/// How many more are to arrive before the next node is upgraded.
const STEP: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Version {
    This,
    Other,
}

fn previous() -> Option<PathBuf> {
    std::env::var_os("PREVIOUS_BIN").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn be(node: &mut Node, version: Version) {
    node.binaries = binaries();
    node.variables.clear();
    match (version, previous()) {
        (Version::This, _) => {}
        (Version::Other, Some(previous)) => node.binaries = previous,
        (Version::Other, None) => node.variables.push(("FUTURE_SYNKLER", "1".to_owned())),
    }
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// Drops a small file every now and then, until it is told to end. Tells how many it has dropped.
fn load(upload: &Path, dropped: &AtomicUsize, over: &AtomicBool) {
    while !over.load(Ordering::Acquire) {
        let number = dropped.fetch_add(1, Ordering::AcqRel);
        tree::hand_in(upload, format!("item {number}").as_bytes(), format!("content {number}").as_bytes());
        // A load is a pace, so this waits for the clock, at most as long as it takes to be told to end.
        wait_for(Duration::from_millis(100), || over.load(Ordering::Acquire));
    }
}

/// One node after the other becomes `to`, in this order, while files keep coming.
fn upgraded(from: Version, to: Version, order: [usize; 3]) {
    let bed = Bed::new();
    let (sent, arrived) = (bed.side("sent"), bed.side("arrived"));
    // A second delivery of the same item would find its place taken and fail for ever.
    let script =
        |to: &Path| format!("cleanup_script = [\"mv\", \"-n\", \"-T\", \"--\", \"%F\", \"{}/%f\"]\n", to.display());
    let mut nodes = [
        bed.upload("up", &format!("settle_seconds = 0\n{}", script(&sent))),
        bed.central("mid", "keep_minutes = 0.02\nreceivers = [\"down\"]\n"),
        bed.download("down", &script(&arrived)),
    ];
    for node in &mut nodes {
        be(node, from);
        node.start();
    }
    let (source, dropped, over) = (nodes[0].file_dir.clone(), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(&source, &dropped, &over));
        let upgrade = || {
            let more = |nodes: &[Node; 3]| {
                let wanted = entries(&arrived) + STEP;
                if !wait_for(LONG, || entries(&arrived) >= wanted) {
                    over.store(true, Ordering::Release);
                    panic!("no {STEP} more arrive: {:#?}", nodes.each_ref().map(|node| node.status(20)));
                }
            };
            more(&nodes);
            for index in order {
                nodes[index].stop();
                be(&mut nodes[index], to);
                nodes[index].start();
                more(&nodes);
            }
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(upgrade));
        over.store(true, Ordering::Release);
        loading.join().unwrap();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let dropped = dropped.into_inner();
    assert!(
        wait_for(LONG, || entries(&arrived) == dropped && entries(&sent) == dropped),
        "{} of {dropped} arrived, {} handed over: {:#?}",
        entries(&arrived),
        entries(&sent),
        nodes.each_ref().map(|node| node.status(20))
    );
    nodes.iter().for_each(|node| node.until_idle(LONG));
    for number in 0..dropped {
        assert_eq!(fs::read(arrived.join(format!("item {number}"))).unwrap(), format!("content {number}").as_bytes());
    }
    for node in &nodes {
        assert!(tree::survey(&node.file_dir).is_empty() || node.mode == "central", "{}: delivered twice", node.name);
        let bad = |line: &str| line.contains("ERROR") || line.contains("refused a message");
        assert_eq!(node.log.count(bad), 0, "{}:\n{}", node.name, node.log.text());
        // Noted once for each sender, by each start of the daemon that has known no such kind.
        let noted = node.log.count(|line| line.contains("good-morning"));
        assert!(noted <= 4, "{}: {noted} lines:\n{}", node.name, node.log.text());
    }
    if previous().is_none() {
        let noted = nodes.iter().map(|node| node.log.count(|line| line.contains("good-morning"))).sum::<usize>();
        assert!(noted > 0, "the kind that only the future knows was said and noted");
    }
    let queues =
        bed.rabbit.lock().unwrap().tool("rabbitmqctl", &["-q", "list_queues", "-p", bed.vhost(), "name", "messages"]);
    let left: BTreeSet<_> = queues.lines().filter(|line| line.contains(".dead") && !line.ends_with("\t0")).collect();
    assert!(left.is_empty(), "dead letters: {left:?}");
}

#[test]
fn a_group_is_upgraded_to_this_version_under_load() {
    upgraded(Version::Other, Version::This, [2, 1, 0]);
}

#[test]
fn a_group_is_upgraded_from_this_version_under_load() {
    upgraded(Version::This, Version::Other, [0, 1, 2]);
}

/// What a node of another age does, as far as it matters: it says hello, and tells what it is told.
async fn ancient(
    settings: BrokerSettings,
    mut speaks: tokio::sync::watch::Receiver<Protocols>,
    told: Arc<AtomicUsize>,
) {
    let (events, mut heard) = mpsc::channel(64);
    let broker = Broker::start(settings, events);
    let hello = |protocols| {
        Message::Hello(Box::new(Hello {
            protocols,
            journal: "00c0ffee".parse().unwrap(),
            started: Time::from_millis(1),
            version: "0.0.9".to_owned(),
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
        }))
    };
    loop {
        tokio::select! {
            changed = speaks.changed() => match changed {
                Ok(()) => broker.publish(Address::All, hello(*speaks.borrow())),
                Err(_) => break,
            },
            event = heard.recv() => match event.unwrap() {
                BrokerEvent::Connected => broker.publish(Address::All, hello(*speaks.borrow())),
                BrokerEvent::Delivery { message, tag, .. } => {
                    broker.acknowledge([tag]);
                    told.fetch_add(usize::from(!matches!(message, Message::Hello(_))), Ordering::AcqRel);
                }
                _ => {}
            },
        }
    }
    broker.close().await;
}

#[test]
fn a_node_that_is_too_old_is_shown_everywhere_and_waited_for() {
    let bed = Bed::new();
    let mut upload = bed.upload("up", "settle_seconds = 0\n");
    let mut central = bed.central("mid", "receivers = [\"old\"]\n");
    central.start();
    upload.start();
    let settings = bed.broker_settings(Peer::new(Mode::Download, "old".parse().unwrap()));
    let (speaks, protocols) = tokio::sync::watch::channel(Protocols::new(1, 1).unwrap());
    let told = Arc::new(AtomicUsize::new(0));
    let peer = std::thread::spawn({
        let told = Arc::clone(&told);
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(ancient(settings, protocols, told));
        }
    });
    let todo = "too old: upgrade synkler on download old (it speaks protocol 1, central mid protocol 2)";
    central.expect(0, LONG, &["WARN", todo, "no transfers until then"]);
    tree::hand_in(&upload.file_dir, b"waits", b"content");
    for node in [&upload, &central] {
        let shown = || {
            serde_json::from_slice::<serde_json::Value>(&node.ctl().args(["status", "--json"]).output().unwrap().stdout)
                .unwrap()
        };
        assert!(
            wait_for(LONG, || {
                let status = shown();
                let old = status["members"].as_array().unwrap().iter().find(|member| member["name"] == "old").cloned();
                old.is_some_and(|old| old["apart"]["code"] == "too-old" && old["apart"]["text"] == todo)
                    && status["transfers"][0]["reason"]["code"] == "protocol"
                    && status["transfers"][0]["reason"]["text"].as_str().is_some_and(|text| text.contains(todo))
            }),
            "{:#}",
            shown()
        );
        for verb in ["status", "nodes"] {
            let output = node.ctl().arg(verb).env("COLUMNS", "240").output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).replace('\n', " ");
            assert_eq!(output.status.code(), Some(0), "{text}");
            assert!(text.contains("too old"), "{verb}: {text}");
        }
    }
    assert_eq!(told.load(Ordering::Acquire), 0, "nothing but hellos is said to it");
    speaks.send(Protocols::new(2, 2).unwrap()).unwrap();
    assert!(wait_for(LONG, || told.load(Ordering::Acquire) > 0), "now it is told to fetch");
    let again = |line: &str| line.contains("WARN") && line.contains("too old");
    assert_eq!(central.log.count(again), 1, "{}", central.log.text());
    drop(speaks);
    peer.join().unwrap();
}
