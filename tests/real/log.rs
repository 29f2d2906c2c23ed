//! A log that nobody takes: the work goes on, and what was left out is told when somebody reads again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::handover::Trio;
use super::service::{entry, in_the_journal};
use crate::bed::node::Node;
use crate::bed::{self, Bed, tree};

const LONG: Duration = Duration::from_secs(120);
/// How much central says of an item at least.
const LINES_PER_ITEM: usize = 6;
/// How long nobody reads.
const STOPPED: Duration = Duration::from_secs(10);
/// What every answer of the control socket must stay below, apart from what a busy machine adds now and then.
const AT_ONCE: Duration = Duration::from_millis(200);

/// How long the best of a few questions took. A loop that is held answers none of them.
fn best_answer(node: &Node) -> Duration {
    let ask = || {
        let start = Instant::now();
        node.status(1);
        start.elapsed()
    };
    (0..5).map(|_| ask()).min().unwrap()
}

/// Hands in two hundred files after the `before` first ones, and waits until they have come out at the other end.
fn lot(trio: &Trio, before: usize) -> usize {
    let after = before + 200;
    for number in before..after {
        tree::hand_in(&trio.upload.file_dir, format!("item-{number:05}").as_bytes(), b"content");
    }
    trio.handed_over(after, LONG);
    let took = best_answer(&trio.central);
    assert!(took < AT_ONCE, "{took:?}");
    after
}

#[test]
fn nothing_waits_for_the_reader_of_stderr() {
    let bed = Bed::new();
    let mut trio = Trio::new(&bed, "keep_minutes = 0\n");
    let mut count = lot(&trio, 0);
    let mark = trio.central.log.mark();
    trio.central.log.stop_reading(true);
    let start = Instant::now();
    // What fits into the pipe and the queue are some 5000 lines.
    while count * LINES_PER_ITEM < 8000 || start.elapsed() < STOPPED {
        count = lot(&trio, count);
    }
    assert!(trio.central.log.mark() <= mark + 1, "nobody was to read");
    trio.central.log.stop_reading(false);
    trio.central.expect(mark, LONG, &["WARN", "lines were left out while nobody took the log: ", " info, from "]);
    tree::hand_in(&trio.upload.file_dir, b"afterwards", b"content");
    trio.central.expect(mark, LONG, &["afterwards", "offered"]);
    trio.handed_over(count + 1, LONG);
    // Once more, and then its end comes.
    trio.central.log.stop_reading(true);
    count = lot(&trio, count);
    lot(&trio, count);
    let (ended, took) = trio.central.stop();
    assert!(ended.success() && took < Duration::from_secs(5), "{ended} after {took:?}");
}

#[test]
fn nothing_waits_for_journald() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = bed::offline(dir.path(), "upload", "settle_seconds = 0\n");
    let socket = in_the_journal(&mut node, dir.path());
    let hear = |wanted: &dyn Fn(&str) -> bool| -> BTreeMap<String, String> {
        let mut buffer = [0; 8192];
        loop {
            let length = socket.recv(&mut buffer).unwrap();
            let fields = entry(&buffer[..length]);
            if fields.get("MESSAGE").is_some_and(|message| wanted(message)) {
                return fields;
            }
        }
    };
    node.child = Some(node.command().spawn().unwrap());
    hear(&|message| message.contains("unfinished transfers"));
    // More than the socket and the queue hold.
    let count = 6000;
    for number in 0..count {
        tree::hand_in(&node.file_dir, format!("item-{number:04}").as_bytes(), b"content");
    }
    node.until(LONG, "all announced", |status| status["total"] == count);
    let took = best_answer(&node);
    assert!(took < AT_ONCE, "{took:?}");
    let told = hear(&|message| message.contains(" lines were left out while nobody took the log: "));
    assert_eq!(told["PRIORITY"], "4");
    tree::hand_in(&node.file_dir, b"afterwards", b"content");
    let fields = hear(&|message| message.starts_with("afterwards: "));
    assert_eq!(fields["SYNKLER_ITEM"], "afterwards");
    // Nobody listens to its end.
    for number in 0..count / 10 {
        tree::hand_in(&node.file_dir, format!("more-{number:04}").as_bytes(), b"content");
    }
    node.until(LONG, "all announced", |status| status["total"] == count + 1 + count / 10);
    let (ended, took) = node.stop();
    assert!(ended.success() && took < Duration::from_secs(5), "{ended} after {took:?}");
}
