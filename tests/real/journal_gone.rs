//! A journal that is taken away under a running daemon: the daemon stops, says so, and nothing is lost or early.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::handover::Trio;

use crate::bed::node::{Node, signal, wait_for};
use crate::bed::{self, Bed, tree};

const LONG: Duration = Duration::from_secs(120);
const BAD_CONFIG: i32 = 78;

fn state_dir(node: &Node) -> PathBuf {
    node.config.parent().unwrap().join("state")
}

fn aside(node: &Node) -> PathBuf {
    node.config.parent().unwrap().join("aside")
}

/// Puts an empty directory in the place of the one with the journal.
fn take_away(node: &Node) {
    fs::rename(state_dir(node), aside(node)).unwrap();
    fs::create_dir(state_dir(node)).unwrap();
}

/// Waits until the daemon has ended by itself, as it must; no file is in its state_dir then.
fn stopped_by_itself(node: &mut Node, mark: usize) {
    let database = state_dir(node).join("journal.db").display().to_string();
    let words = ["ERROR", "the journal was removed", &database, "put state_dir back"];
    node.expect(mark, LONG, &words);
    let mut child = node.child.take().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(BAD_CONFIG), "systemd must not start it again");
    assert!(fs::read_dir(state_dir(node)).map_or(0, Iterator::count) == 0, "it writes nothing there");
}

fn put_back(node: &Node) {
    fs::remove_dir(state_dir(node)).unwrap();
    fs::rename(aside(node), state_dir(node)).unwrap();
}

fn of<'a>(trio: &'a mut Trio, mode: &str) -> &'a mut Node {
    match mode {
        "upload" => &mut trio.upload,
        "central" => &mut trio.central,
        _ => &mut trio.download,
    }
}

/// At which words of whom the journal is taken away: each time, something is to be confirmed after that.
const POINTS: [(&str, &str); 9] = [
    ("upload", "settled"),
    ("upload", "rsync starts"),
    ("upload", "sent to central"),
    ("central", "offered"),
    ("central", "received: verifying the copy"),
    ("central", "offered to the download"),
    ("download", "offered by central"),
    ("download", "rsync starts"),
    ("download", "fetched and verified"),
];

/// As which transfers the download has known an item.
fn transfers(trio: &Trio, name: &str) -> BTreeSet<String> {
    let (text, field) = (trio.download.log.text(), format!(" item={name} transfer="));
    text.lines().filter_map(|line| Some(line.split_once(&field)?.1.split(' ').next()?.to_owned())).collect()
}

/// Every point in turn; afterwards the journal is put back, or the node starts with none.
fn taken_at(points: &[(&str, &str)], back: bool) {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "keep_minutes = 0.02\nreceivers = [\"down\"]\n");
    // What is delivered a second time finds its place taken, and stays.
    let arrived = trio.arrived.display();
    trio.download.set(&format!("cleanup_script = [\"mv\", \"-n\", \"-T\", \"--\", \"%F\", \"{arrived}/%f\"]"));
    trio.start();
    let (mut expected, mut in_time) = (1, 0);
    tree::hand_in(&trio.upload.file_dir, b"warm", b"up");
    trio.handed_over(expected, LONG);
    for (number, (mode, point)) in points.iter().enumerate() {
        let name = format!("item-{number}");
        let content = tree::noise(number as u64, 4 << 20);
        let at = of(&mut trio, mode).log.mark();
        tree::hand_in(&trio.upload.file_dir, name.as_bytes(), &content);
        let node = of(&mut trio, mode);
        node.expect(at, LONG, &[&name, point]);
        take_away(node);
        stopped_by_itself(node, at);
        // Where central had not said so before, nobody has cleaned up.
        if trio.central.log.count(|line| line.contains(&name) && line.contains("all receipts are in")) == 0 {
            assert_eq!(fs::read(trio.upload.file_dir.join(&name)).unwrap(), content, "{mode} at {point:?}");
            in_time += 1;
        }
        let node = of(&mut trio, mode);
        if back {
            put_back(node);
        } else {
            fs::remove_dir_all(aside(node)).unwrap();
        }
        node.start();
        expected += 1;
        let (sent, arrived) = (trio.sent.join(&name), trio.arrived.join(&name));
        if !wait_for(LONG, || sent.exists() && arrived.exists()) {
            panic!("{mode} at {point:?}: not over: {:#}", trio.upload.status(20));
        }
        assert_eq!(fs::read(&sent).unwrap(), content);
        assert_eq!(fs::read(&arrived).unwrap(), content);
        assert_eq!(transfers(&trio, &name).len(), 1, "{mode} at {point:?}");
    }
    assert!(in_time >= points.len() / 2, "the journal was taken away too late: {in_time}");
    for node in [&trio.upload, &trio.central, &trio.download] {
        node.until_idle(LONG);
    }
    assert_eq!(fs::read_dir(&trio.arrived).unwrap().count(), expected);
    assert!(tree::survey(&trio.upload.file_dir).is_empty() && tree::survey(&trio.download.file_dir).is_empty());
}

#[test]
fn work_goes_on_when_it_is_put_back() {
    taken_at(&POINTS, true);
}

#[test]
fn work_begins_anew_without_it() {
    // An upload that has forgotten what it sent sends it again, and a download does not know what it has put in its place.
    let forgets = |point: &str| matches!(point, "sent to central" | "fetched and verified");
    taken_at(&POINTS.iter().copied().filter(|(_, point)| !forgets(point)).collect::<Vec<_>>(), false);
}

#[test]
fn an_idle_daemon_notices_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = bed::offline(dir.path(), "download", "");
    node.start();
    let mark = node.log.mark();
    fs::remove_dir_all(state_dir(&node)).unwrap();
    stopped_by_itself(&mut node, mark);
    assert!(!state_dir(&node).exists());
}

#[test]
fn what_stands_beside_it_is_made_anew_by_a_restart() {
    let bed = Bed::new();
    let mut trio = Trio::new(&bed, "");
    for (number, name) in ["journal.db-wal", "journal.db-shm", "lock"].into_iter().enumerate() {
        let path = state_dir(&trio.upload).join(name);
        let mark = trio.upload.log.mark();
        fs::remove_file(&path).unwrap();
        tree::hand_in(&trio.upload.file_dir, format!("item-{number}").as_bytes(), b"content");
        trio.upload.expect(mark, LONG, &["ERROR", &path.display().to_string()]);
        let mut child = trio.upload.child.take().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "systemd starts it again");
        trio.upload.start();
        trio.handed_over(number + 1, LONG);
    }
}

#[test]
fn a_journal_that_stays_is_no_news() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = bed::offline(dir.path(), "upload", "settle_seconds = 0\n");
    node.start();
    // The directory is moved, and a link leads to it: it is the same journal. Both change places at once, because the
    // daemon may look at any moment.
    std::os::unix::fs::symlink(aside(&node), aside(&node)).unwrap();
    renameat_with(CWD, state_dir(&node), CWD, aside(&node), RenameFlags::EXCHANGE).unwrap();
    tree::hand_in(&node.file_dir, b"item", b"content");
    node.until(LONG, "announced", |status| status["total"] == 1);
    signal(node.pid(), "HUP");
    let (ended, _) = node.stop();
    assert!(ended.success(), "{ended}");
}
