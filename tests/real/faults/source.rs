//! Sources that cannot be read, are no files, or change and vanish at the worst moment.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::LONG;
use crate::bed::node::wait_for;
use crate::bed::{Bed, powerless, tree};
use crate::handover::{Trio, no_errors};

const LARGE: usize = 24 << 20;

/// A trio whose upload is slow enough to be met on the way: some three seconds for [`LARGE`].
fn slow(bed: &Bed) -> Trio {
    let trio = Trio::resting(bed, "keep_minutes = 0\n");
    trio.upload.set(&bed.rsync_opts().replace("[\"", "[\"--bwlimit=8m\", \""));
    trio
}

/// Makes content elsewhere on the same file system.
fn made(trio: &Trio, content: &[u8]) -> PathBuf {
    let path = tree::workshop(&trio.upload.file_dir).join("made");
    fs::write(&path, content).unwrap();
    path
}

/// Only this content has arrived and been cleaned up, and nothing is left anywhere.
fn assert_only(trio: &Trio, content: &[u8]) {
    assert!(fs::read(trio.arrived.join("item")).unwrap() == content, "something else has arrived");
    assert!(fs::read(trio.sent.join("item")).unwrap() == content, "something else has been cleaned up");
    assert_eq!(trio.download.log.count(|line| line.contains("cleanup script succeeded")), 1);
    assert_nothing_left(trio);
}

fn assert_nothing_left(trio: &Trio) {
    for node in [&trio.upload, &trio.central, &trio.download] {
        node.until_idle(LONG);
    }
    for dir in ["in", "held"] {
        let dir = trio.central.file_dir.join("default").join(dir);
        let empty = || fs::read_dir(&dir).unwrap().count() == 0;
        assert!(wait_for(LONG, empty), "{} is not empty", dir.display());
    }
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn what_cannot_be_read_waits_with_that_reason_until_it_can() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "");
    trio.upload.under = powerless();
    trio.start();
    let workshop = tree::workshop(&trio.upload.file_dir);
    let item = workshop.join("closed");
    fs::write(&item, "content").unwrap();
    fs::set_permissions(&item, fs::Permissions::from_mode(0o000)).unwrap();
    let item = {
        let target = trio.upload.file_dir.join("closed");
        fs::rename(item, &target).unwrap();
        target
    };
    trio.upload.until_reason(LONG, "unreadable", "permission denied");
    // It holds nothing else up.
    tree::hand_in(&trio.upload.file_dir, b"open", b"content");
    trio.handed_over(1, LONG);
    fs::set_permissions(&item, fs::Permissions::from_mode(0o600)).unwrap();
    trio.handed_over(2, LONG);
    assert_eq!(fs::read(trio.arrived.join("closed")).unwrap(), b"content");
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn a_fifo_waits_with_that_reason_and_hangs_nothing() {
    let bed = Bed::new();
    let trio = Trio::new(&bed, "");
    let workshop = tree::workshop(&trio.upload.file_dir).join("directory");
    fs::create_dir(&workshop).unwrap();
    fs::write(workshop.join("plain"), "content").unwrap();
    let fifos = [workshop.join("fifo"), trio.upload.file_dir.join("bare fifo")];
    assert!(Command::new("mkfifo").args(&fifos).status().unwrap().success());
    fs::rename(&workshop, trio.upload.file_dir.join("directory")).unwrap();
    trio.upload.until(LONG, "holding both", |status| {
        let transfers = status["transfers"].as_array().unwrap();
        transfers.iter().filter(|transfer| transfer["reason"]["code"] == "special").count() == 2
    });
    tree::hand_in(&trio.upload.file_dir, b"plain", b"content");
    trio.handed_over(1, LONG);
    fs::remove_file(trio.upload.file_dir.join("directory/fifo")).unwrap();
    fs::remove_file(&fifos[1]).unwrap();
    trio.handed_over(2, LONG);
    trio.upload.until_idle(LONG);
    assert_eq!(fs::read(trio.arrived.join("directory/plain")).unwrap(), b"content");
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn what_changes_while_it_is_hashed_is_sent_as_it_is_in_the_end() {
    let bed = Bed::new();
    let trio = Trio::new(&bed, "keep_minutes = 0\n");
    let path = made(&trio, b"");
    // Holes are fast to make and slow to read.
    File::options().write(true).open(&path).unwrap().set_len(3 << 30).unwrap();
    fs::rename(path, trio.upload.file_dir.join("item")).unwrap();
    trio.upload.until_reason(LONG, "hashing", "");
    fs::rename(made(&trio, b"new"), trio.upload.file_dir.join("item")).unwrap();
    trio.handed_over(1, LONG);
    assert_eq!(trio.upload.log.count(|line| line.contains("settled")), 1, "the old content was not even offered");
    assert_only(&trio, b"new");
}

#[test]
fn what_changes_while_it_is_queued_is_sent_as_it_is_in_the_end() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "keep_minutes = 0\n");
    trio.upload.start();
    tree::hand_in(&trio.upload.file_dir, b"item", b"old");
    trio.upload.until(LONG, "announced", |status| status["transfers"][0]["stage"] == "announced");
    fs::rename(made(&trio, b"new"), trio.upload.file_dir.join("item")).unwrap();
    trio.upload.expect(0, LONG, &["item", "cancelled before it was sent: the source changed"]);
    trio.central.start();
    trio.download.start();
    trio.handed_over(1, LONG);
    assert_only(&trio, b"new");
}

#[test]
fn what_is_replaced_while_it_is_sent_is_sent_as_it_is_in_the_end() {
    let bed = Bed::new();
    let mut trio = slow(&bed);
    trio.start();
    tree::hand_in(&trio.upload.file_dir, b"item", &tree::noise(1, LARGE));
    trio.upload.expect(0, LONG, &["item", "rsync starts"]);
    fs::rename(made(&trio, b"new"), trio.upload.file_dir.join("item")).unwrap();
    trio.handed_over(1, LONG);
    assert_only(&trio, b"new");
}

#[test]
fn what_is_written_to_while_it_is_sent_is_sent_as_it_is_in_the_end() {
    let bed = Bed::new();
    let mut trio = slow(&bed);
    trio.start();
    let path = tree::hand_in(&trio.upload.file_dir, b"item", &tree::noise(1, LARGE));
    trio.upload.expect(0, LONG, &["item", "rsync starts"]);
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(b"more").unwrap();
    // A writer at work: nothing is offered before it has closed the file.
    trio.upload.until_reason(LONG, "busy", "");
    file.write_all(b" and more").unwrap();
    drop(file);
    trio.handed_over(1, LONG);
    let mut expected = tree::noise(1, LARGE);
    expected.extend(b"more and more");
    assert_only(&trio, &expected);
}

#[test]
fn what_vanishes_is_given_up_everywhere_wherever_it_was() {
    let bed = Bed::new();
    let mut trio = slow(&bed);
    trio.upload.start();
    let queued = tree::hand_in(&trio.upload.file_dir, b"queued", b"content");
    trio.upload.until(LONG, "announced", |status| status["transfers"][0]["stage"] == "announced");
    fs::remove_file(queued).unwrap();
    trio.upload.expect(0, LONG, &["queued", "cancelled before it was sent: the source disappeared"]);
    trio.central.start();
    trio.download.start();
    let sent = tree::hand_in(&trio.upload.file_dir, b"sent", &tree::noise(1, LARGE));
    trio.upload.expect(0, LONG, &["sent", "rsync starts"]);
    fs::remove_file(sent).unwrap();
    trio.upload.expect(0, LONG, &["sent", "cancelled before it was sent: the source disappeared"]);
    let path = made(&trio, b"");
    File::options().write(true).open(&path).unwrap().set_len(3 << 30).unwrap();
    let hashed = trio.upload.file_dir.join("hashed");
    fs::rename(path, &hashed).unwrap();
    trio.upload.until_reason(LONG, "hashing", "");
    fs::remove_file(hashed).unwrap();
    assert_nothing_left(&trio);
    assert_eq!(tree::survey(&trio.arrived).len() + tree::survey(&trio.download.file_dir).len(), 0);
    // Nothing is in the way of what comes next.
    tree::hand_in(&trio.upload.file_dir, b"sent", b"next");
    trio.handed_over(1, LONG);
    assert_eq!(fs::read(trio.arrived.join("sent")).unwrap(), b"next");
}

#[test]
fn what_changes_after_central_has_proven_it_is_sent_once_more() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "keep_minutes = 0\nreceivers = [\"down\"]\n");
    trio.upload.start();
    trio.central.start();
    tree::hand_in(&trio.upload.file_dir, b"item", b"old");
    trio.upload.expect(0, LONG, &["item", "central holds a verified copy"]);
    fs::rename(made(&trio, b"new"), trio.upload.file_dir.join("item")).unwrap();
    trio.upload.expect(0, LONG, &["item", "settled: file of 3 bytes"]);
    // The first has left; the second is what the source's script gets.
    trio.download.set(&format!(
        "cleanup_script = [\"mv\", \"--backup=numbered\", \"-T\", \"--\", \"%F\", \"{}/%f\"]",
        trio.arrived.display()
    ));
    trio.download.start();
    trio.handed_over(2, LONG);
    trio.download.until_idle(LONG);
    assert_eq!(fs::read(trio.arrived.join("item")).unwrap(), b"new");
    assert_eq!(fs::read(trio.arrived.join("item.~1~")).unwrap(), b"old", "what was proven is delivered");
    assert_eq!(fs::read(trio.sent.join("item")).unwrap(), b"new", "the old content was never cleaned up");
    assert_eq!(trio.upload.log.count(|line| line.contains("cleanup script succeeded")), 1);
    assert!(wait_for(Duration::from_secs(1), || tree::survey(&trio.upload.file_dir).is_empty()));
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}
