//! An order to pause under load: what starts, what stops, what is kept, and how it goes on.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde_json::Value;
use synkler::control::Client;

use super::handover::{Trio, no_errors};
use crate::bed::counted::{Counted, TICK, partial, since_boot};
use crate::bed::node::{Node, wait_for};
use crate::bed::{Bed, sshd, tree};

const LONG: Duration = Duration::from_secs(120);
const TOTAL: usize = 64 << 20;
/// How soon after its answer an order holds.
const HOLDS: Duration = Duration::from_millis(100);
/// How soon what runs is stopped.
const STOPS: Duration = Duration::from_secs(2);
/// How many small items come while nothing may start: they take more than a second.
const MORE: u64 = 40;

/// A producer that hands in small items all the time.
struct Producer {
    work: JoinHandle<usize>,
    stop: Sender<()>,
}

impl Producer {
    fn start(dir: &Path) -> Self {
        let dir = dir.to_owned();
        let (stop, stopped): (_, Receiver<()>) = channel();
        let work = thread::spawn(move || {
            let mut count = 0;
            while stopped.recv_timeout(Duration::from_millis(30)) == Err(RecvTimeoutError::Timeout) {
                tree::hand_in(&dir, format!("small-{count}").as_bytes(), &tree::noise(count as u64, 3000));
                count += 1;
            }
            count
        });
        Self { work, stop }
    }

    /// How many there were.
    fn stop(self) -> usize {
        drop(self.stop);
        self.work.join().unwrap()
    }
}

fn runs(node: &Node) -> Vec<Pid> {
    let mut pids = sshd::descendants(node.pid());
    pids.retain(|pid| sshd::comm(*pid).as_deref() == Some("rsync"));
    pids
}

fn total(status: &Value) -> u64 {
    status["total"].as_u64().unwrap()
}

/// Waits until more items stand in line, and some of them because of the order; nothing may start meanwhile.
fn piles_up(node: &Node) {
    let before = total(&node.status(0));
    node.until(LONG, "held by the order", |status| {
        let held = |transfer: &Value| transfer["reason"]["code"] == "paused";
        total(status) >= before + MORE && status["transfers"].as_array().unwrap().iter().any(held)
    });
}

/// The order that holds a node, as it tells itself.
fn order(node: &Node) -> Value {
    let status = node.status(0);
    let members = status["members"].as_array().unwrap();
    members.iter().find(|member| member["name"] == node.name.as_str()).unwrap()["paused"].clone()
}

/// Pauses a node while much goes through it and a large file is on its way to where `target` tells.
fn paused_under_load(bed: &Bed, trio: &mut Trio, mode: &str, target: &Path, rsync: &Counted) {
    let from = trio.upload.file_dir.clone();
    let node = if mode == "upload" { &mut trio.upload } else { &mut trio.download };
    let place = format!("{} {}", node.mode, node.name);
    let size = || partial(target).and_then(|path| fs::metadata(path).ok()).map_or(0, |meta| meta.len());
    tree::hand_in(&from, b"large", &tree::noise(7, TOTAL));
    let producer = Producer::start(&from);
    assert!(wait_for(LONG, || size() > 4 << 20 && rsync.starts().len() > 5), "there is no load: {}", size());

    // Nothing new starts; the large one goes on.
    let deeds = Client::connect(&node.socket).unwrap().pause(None, false, false).unwrap().deeds;
    let answered = since_boot();
    assert!(deeds.iter().all(|deed| deed.done), "{deeds:?}");
    piles_up(node);
    let last = rsync.starts().into_iter().max().unwrap();
    assert!(last <= answered + HOLDS + TICK, "a run was started {:?} after the answer", last - answered);
    assert!(!runs(node).is_empty(), "what runs goes on");
    node.until(LONG, "moving the large one", |status| {
        let transfers = status["transfers"].as_array().unwrap();
        let large = transfers.iter().find(|transfer| transfer["item"] == "large");
        large.is_some_and(|large| large["progress"]["bytes"].as_u64().is_some_and(|bytes| bytes > 0))
    });

    // What runs stops too, and what it has moved stays.
    let ordered = Instant::now();
    let output = node.ctl().args(["pause", "--now"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(output.status.success() && said.contains("1 rsync run is stopped"), "{said}");
    assert!(wait_for(STOPS, || runs(node).is_empty()), "{:?} still run", runs(node));
    assert!(ordered.elapsed() < STOPS, "stopped after {:?}", ordered.elapsed());
    let kept = size();
    assert!(kept > 4 << 20 && kept < TOTAL as u64, "{kept}");

    // A restart changes nothing in that.
    let given = order(node);
    assert!(given["by"].is_string() && given["since"].is_u64() && given["node"] == place, "{given}");
    node.set(&bed.rsync_opts());
    node.stop();
    let (mark, restarted) = (node.log.mark(), since_boot());
    node.start();
    let by = format!("this node is still paused by {} on {place}", given["by"].as_str().unwrap());
    node.expect(mark, LONG, &[&by]);
    assert_eq!(order(node), given);
    piles_up(node);
    assert!(rsync.starts().into_iter().all(|start| start < restarted), "a run was started after the restart");
    assert_eq!(size(), kept, "what has been moved stays");

    // It goes on from there.
    let count = producer.stop() + 1;
    let output = node.ctl().arg("resume").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(order(node).is_null());
    trio.handed_over(count, LONG);
    let bytes = rsync.moved("large");
    assert!(bytes < TOTAL as u64 - kept + (1 << 20), "{bytes} moved, though {kept} of {TOTAL} were there");
    assert!(fs::read(trio.arrived.join("large")).unwrap() == tree::noise(7, TOTAL));
    assert_eq!(tree::survey(&trio.arrived).len(), count);
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn an_upload_that_is_paused_under_load_starts_nothing_and_loses_nothing() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "");
    let rsync = Counted::new(&bed);
    trio.upload.set(&rsync.setting);
    trio.upload.set(&bed.rsync_opts_at("4m"));
    trio.start();
    let spool = trio.central.file_dir.join("default/in");
    paused_under_load(&bed, &mut trio, "upload", &spool, &rsync);
}

#[test]
fn a_download_that_is_paused_under_load_starts_nothing_and_loses_nothing() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "");
    let rsync = Counted::new(&bed);
    trio.download.set(&rsync.setting);
    trio.download.set(&bed.rsync_opts_at("4m"));
    trio.start();
    let staging = trio.download.file_dir.join(".synkler");
    paused_under_load(&bed, &mut trio, "download", &staging, &rsync);
}
