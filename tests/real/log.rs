//! A log that nobody takes: the work goes on, and what was left out is told when somebody reads again.

use std::time::{Duration, Instant};

use super::handover::Trio;
use super::service::{entries, in_the_journal};
use crate::bed::node::Node;
use crate::bed::{self, Bed, tree};

const LONG: Duration = Duration::from_secs(120);
/// How much central says of an item at least.
const LINES_PER_ITEM: usize = 6;
/// How long nobody reads.
const STOPPED: Duration = Duration::from_secs(10);
/// What every answer of the control socket must stay below, apart from what a busy machine adds now and then.
const AT_ONCE: Duration = Duration::from_millis(200);

/// How long each of a few questions took. A loop that is held answers none of them at once.
fn answers(node: &Node) -> Vec<Duration> {
    let ask = || {
        let start = Instant::now();
        node.status(1);
        start.elapsed()
    };
    let took: Vec<_> = (0..5).map(|_| ask()).collect();
    assert!(took.iter().any(|took| *took < AT_ONCE), "{took:?}");
    took
}

/// Hands in two hundred files after the `before` first ones, and waits until they have come out at the other end.
/// Central is asked while they are on the way and afterwards.
fn lot(trio: &Trio, before: usize) -> (usize, Vec<Duration>) {
    let after = before + 200;
    for number in before..after {
        tree::hand_in(&trio.upload.file_dir, format!("item-{number:05}").as_bytes(), b"content");
    }
    let mut took = answers(&trio.central);
    trio.handed_over(after, LONG);
    took.extend(answers(&trio.central));
    (after, took)
}

/// How many lines a message says were left out; none where it says nothing of that.
fn left_out(message: &str) -> usize {
    let Some((before, _)) = message.split_once(" were dropped while the log could not be written: ") else { return 0 };
    let number = before.strip_suffix(" lines").unwrap().split(' ').next_back().unwrap();
    number.parse().unwrap()
}

#[test]
fn nothing_waits_for_the_reader_of_stderr() {
    let bed = Bed::new();
    let mut trio = Trio::new(&bed, "keep_minutes = 0\n");
    let (mut count, _) = lot(&trio, 0);
    let mark = trio.central.log.mark();
    trio.central.log.stop_reading(true);
    let (start, mut took) = (Instant::now(), Vec::new());
    // What fits into the pipe and the queue are some 5000 lines.
    while count * LINES_PER_ITEM < 8000 || start.elapsed() < STOPPED {
        let (after, answers) = lot(&trio, count);
        count = after;
        took.extend(answers);
    }
    took.sort();
    let (half, most, stopped) = (took[took.len() / 2], took[took.len() - 1], start.elapsed());
    println!(
        "{count} items in {stopped:?} without a reader; {} answers: half within {half:?}, all within {most:?}",
        took.len()
    );
    assert!(trio.central.log.mark() <= mark + 1, "nobody was to read");
    trio.central.log.stop_reading(false);
    trio.central.expect(
        mark,
        LONG,
        &["WARN", "lines were dropped while the log could not be written: ", " info, from "],
    );
    tree::hand_in(&trio.upload.file_dir, b"afterwards", b"content");
    trio.central.expect(mark, LONG, &["afterwards", "offered"]);
    trio.handed_over(count + 1, LONG);
    // Every line is there or counted.
    let text = trio.central.log.text();
    let (lines, missing) = (text.lines().count(), text.lines().map(left_out).sum::<usize>());
    println!("{lines} lines in the log, {missing} left out");
    assert!(
        missing > 0 && lines + missing > count * LINES_PER_ITEM,
        "{lines} lines, {missing} left out of {count} items"
    );
    // Once more, and then its end comes.
    trio.central.log.stop_reading(true);
    let (count, _) = lot(&trio, count);
    lot(&trio, count);
    let (ended, took) = trio.central.stop();
    println!("ended after {took:?}");
    assert!(ended.success() && took < Duration::from_secs(5), "{ended} after {took:?}");
}

#[test]
fn nothing_waits_for_journald() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = bed::offline(dir.path(), "upload", "settle_seconds = 0\n");
    let socket = in_the_journal(&mut node, dir.path());
    node.child = Some(node.command().spawn().unwrap());
    entries(&socket, "unfinished transfers");
    // More than the socket and the queue hold.
    let count = 6000;
    for number in 0..count {
        tree::hand_in(&node.file_dir, format!("item-{number:04}").as_bytes(), b"content");
    }
    node.until(LONG, "all announced", |status| announced(status) == count);
    answers(&node);
    let mut told = entries(&socket, " lines were dropped while the log could not be written: ");
    assert_eq!(told.last().unwrap()["PRIORITY"], "4");
    tree::hand_in(&node.file_dir, b"afterwards", b"content");
    told.extend(entries(&socket, "afterwards: "));
    let missing = told.iter().map(|fields| left_out(&fields["MESSAGE"])).sum::<usize>();
    assert!(missing > 0 && told.len() + missing > count, "{} lines, {missing} left out of {count} items", told.len());
    let fields = told.pop().unwrap();
    assert_eq!(fields["SYNKLER_ITEM"], "afterwards");
    // Nobody listens to its end.
    for number in 0..count / 10 {
        tree::hand_in(&node.file_dir, format!("more-{number:04}").as_bytes(), b"content");
    }
    node.until(LONG, "all announced", |status| announced(status) == count + 1 + count / 10);
    let (ended, took) = node.stop();
    assert!(ended.success() && took < Duration::from_secs(5), "{ended} after {took:?}");
}

/// How many items have been logged as settled; before that they count as unfinished too.
fn announced(status: &serde_json::Value) -> usize {
    let counts = status["counts"].as_array().into_iter().flatten();
    counts.filter(|count| count["stage"] == "announced").filter_map(|count| count["count"].as_u64()).sum::<u64>()
        as usize
}
