//! Names that browsers and download programs give to what they have not finished.

use std::fs;

use super::LONG;
use crate::bed::{Bed, tree};
use crate::handover::{Trio, no_errors};

#[test]
fn what_is_not_finished_is_not_sent_and_a_directory_waits_for_it() {
    let bed = Bed::new();
    let trio = Trio::new(&bed, "keep_minutes = 0\n");
    let from = &trio.upload.file_dir;
    fs::write(from.join("big.iso.part"), "first half").unwrap();
    let workshop = tree::workshop(from);
    fs::create_dir(workshop.join("set")).unwrap();
    fs::write(workshop.join("set/a"), "a").unwrap();
    fs::write(workshop.join("set/b.crdownload"), "half of b").unwrap();
    fs::rename(workshop.join("set"), from.join("set")).unwrap();
    tree::hand_in(from, b"whole", b"whole");
    trio.handed_over(1, LONG);
    trio.upload.until_reason(LONG, "incomplete", "the directory is not complete: it contains b.crdownload");
    assert_eq!(trio.upload.log.count(|line| line.contains("big.iso")), 0);

    fs::write(from.join("big.iso.part"), "first half and second half").unwrap();
    fs::rename(from.join("big.iso.part"), from.join("big.iso")).unwrap();
    fs::write(from.join("set/b.crdownload"), "all of b").unwrap();
    fs::rename(from.join("set/b.crdownload"), from.join("set/b")).unwrap();
    trio.handed_over(3, LONG);
    let text = |name: &str| fs::read_to_string(trio.arrived.join(name)).unwrap();
    assert_eq!(text("big.iso"), "first half and second half");
    assert_eq!([text("set/a"), text("set/b")], ["a", "all of b"]);
    assert_eq!(fs::read_dir(trio.arrived.join("set")).unwrap().count(), 2);
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn only_what_is_wanted_is_sent() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "keep_minutes = 0\n");
    trio.upload.set("only = [\"*.csv\", \"report-?\"]");
    trio.upload.set("ignore = []");
    trio.start();
    for name in ["a.csv", "b.txt", "report-1", "report-10", "c.part"] {
        tree::hand_in(&trio.upload.file_dir, name.as_bytes(), b"content");
    }
    trio.handed_over(2, LONG);
    trio.upload.until_idle(LONG);
    let mut names: Vec<_> = fs::read_dir(&trio.arrived).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.csv", "report-1"]);
    // The others are there, and nobody knows them, also after a restart.
    trio.upload.stop();
    trio.upload.start();
    assert!(trio.upload.log.wait(0, 1, LONG, |line| line.contains("because of ignore and only")));
    trio.upload.until_idle(LONG);
    assert_eq!(tree::survey(&trio.upload.file_dir).len(), 3);
}
