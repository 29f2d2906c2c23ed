//! Items that synkler itself moves away or deletes: nothing is overwritten, and a directory that cannot be used costs
//! nothing but time.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::LONG;
use crate::bed::{Bed, tree};
use crate::handover::{Trio, no_errors};
use crate::mounts::{can_mount, succeed, tmpfs};

/// Both ends move to the trio's directories.
fn moving(bed: &Bed) -> Trio {
    let trio = Trio::resting(bed, "keep_minutes = 0\n");
    for (node, to) in [(&trio.upload, &trio.sent), (&trio.download, &trio.arrived)] {
        node.set("cleanup_script = \"\"");
        node.set(&format!("cleanup_move = {to:?}"));
    }
    trio
}

fn all_over(trio: &Trio, count: usize) {
    for (node, word) in [(&trio.upload, "handed over"), (&trio.download, "cleanup succeeded")] {
        assert!(node.log.wait(0, count, LONG, |line| line.contains(word)), "{:#}", node.status(20));
        node.until_idle(LONG);
    }
}

#[test]
fn two_thousand_items_are_moved_at_both_ends() {
    const ITEMS: usize = 2000;
    let bed = Bed::new();
    let mut trio = moving(&bed);
    let workshop = tree::workshop(&trio.upload.file_dir);
    for number in 0..ITEMS {
        fs::write(workshop.join(format!("item {number}")), number.to_string()).unwrap();
    }
    let expected = tree::survey(&workshop);
    for entry in fs::read_dir(&workshop).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), trio.upload.file_dir.join(entry.file_name())).unwrap();
    }
    trio.start();
    all_over(&trio, ITEMS);
    assert!(tree::survey(&trio.sent) == expected && tree::survey(&trio.arrived) == expected);
    assert!(tree::survey(&trio.upload.file_dir).is_empty() && tree::survey(&trio.download.file_dir).is_empty());
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn an_item_whose_name_is_taken_gets_a_number_and_the_history_tells() {
    let bed = Bed::new();
    let mut trio = moving(&bed);
    for dir in [&trio.sent, &trio.arrived] {
        fs::write(dir.join("report"), "older").unwrap();
    }
    trio.start();
    for (number, content) in ["first", "second"].into_iter().enumerate() {
        tree::hand_in(&trio.upload.file_dir, b"report", content.as_bytes());
        all_over(&trio, number + 1);
    }
    for dir in [&trio.sent, &trio.arrived] {
        let text = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!([text("report"), text("report.~1~"), text("report.~2~")], ["older", "first", "second"]);
    }
    for (node, dir) in [(&trio.upload, &trio.sent), (&trio.download, &trio.arrived)] {
        let told = format!("moved to {}/report.~2~: the name report was taken there", dir.display());
        assert_eq!(node.log.count(|line| line.contains(&told)), 1, "{}", node.log.text());
        let history = succeed(node.ctl().args(["history", "--json"]));
        assert!(history.contains(&told), "{history}");
    }
}

#[test]
fn items_are_deleted_without_a_script() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "keep_minutes = 0\n");
    for node in [&trio.upload, &trio.download] {
        node.set("cleanup_script = \"\"");
        node.set("cleanup_delete = true");
    }
    tree::rich_directory(&trio.upload.file_dir.join("rich"));
    tree::hand_in(&trio.upload.file_dir, b"item", b"content");
    trio.start();
    all_over(&trio, 2);
    assert!(tree::survey(&trio.upload.file_dir).is_empty() && tree::survey(&trio.download.file_dir).is_empty());
    assert_eq!(trio.download.log.count(|line| line.contains("cleanup succeeded: deleted")), 2);
}

/// The item waits where it is, with the reason, and moves as soon as it can.
fn waits_for(trio: &Trio, why: &str, mend: impl FnOnce()) {
    let item = trio.upload.file_dir.join("item");
    let delivered = trio.download.file_dir.join("item");
    for node in [&trio.upload, &trio.download] {
        node.until_reason(LONG, "cleanup", why);
    }
    assert!(item.exists() && delivered.exists());
    mend();
    for node in [&trio.upload, &trio.download] {
        // It may have been tried again meanwhile, and be over.
        node.ctl().args(["retry", "item"]).output().unwrap();
    }
    all_over(trio, 1);
    assert!(!item.exists() && !delivered.exists());
    for dir in [&trio.sent, &trio.arrived] {
        let names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["item"]);
    }
}

#[test]
fn a_directory_that_is_missing_is_waited_for() {
    let bed = Bed::new();
    let mut trio = moving(&bed);
    for dir in [&trio.sent, &trio.arrived] {
        fs::remove_dir(dir).unwrap();
    }
    trio.start();
    tree::hand_in(&trio.upload.file_dir, b"item", b"content");
    waits_for(&trio, "no such file or directory", || {
        fs::create_dir(&trio.sent).unwrap();
        fs::create_dir(&trio.arrived).unwrap();
    });
}

#[test]
fn a_file_system_that_is_full_or_read_only_is_waited_for() {
    if !can_mount() {
        return;
    }
    let remount = |dir: &Path, options: &str| {
        succeed(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(dir));
    };
    for (before, why, after) in [
        ("size=1m", "no space left on the file system", "size=64m"),
        ("size=64m,ro", "the file system is mounted read-only", "rw,size=64m"),
    ] {
        let bed = Bed::new();
        let mut trio = moving(&bed);
        let _mounts = [tmpfs(&trio.sent, before), tmpfs(&trio.arrived, before)];
        trio.start();
        tree::hand_in(&trio.upload.file_dir, b"item", &tree::noise(7, 8 << 20));
        waits_for(&trio, why, || [&trio.sent, &trio.arrived].into_iter().for_each(|dir| remount(dir, after)));
    }
}
