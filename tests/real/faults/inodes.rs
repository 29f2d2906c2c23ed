//! Inodes that run out before bytes do: what needs more than there are waits with that reason and keeps nothing, and the
//! rest goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::LONG;
use super::disk::{beside, local_shell, seen_by};
use crate::bed::node::Node;
use crate::bed::{Bed, tree, with_mount};
use crate::handover::{Trio, no_errors};

const FILES: usize = 400;
/// Its entries, itself, the directory where it arrives and the one that holds it.
const NEEDED: &str = "403 inodes needed";

/// A tmpfs with so many inodes at `file_dir`, which only this node sees.
fn few_inodes(node: &mut Node, inodes: u32) {
    let options = format!("size=64m,nr_inodes={inodes},mode=0755");
    node.under = with_mount(&format!("-t tmpfs -o {options} none '{}'", node.file_dir.display()));
}

/// The same tmpfs with more inodes.
fn more_inodes(node: &Node, inodes: u32) {
    let words = beside(node);
    let remounted = Command::new(&words[0])
        .args(&words[1..])
        .args(["mount", "-o", &format!("remount,nr_inodes={inodes}")])
        .arg(&node.file_dir)
        .status()
        .unwrap();
    assert!(remounted.success());
}

/// Hands in a directory of many small files.
fn hand_in_many(trio: &Trio) {
    let made = tree::workshop(&trio.upload.file_dir).join("many");
    fs::create_dir(&made).unwrap();
    (0..FILES).for_each(|number| fs::write(made.join(number.to_string()), number.to_string()).unwrap());
    fs::rename(&made, trio.upload.file_dir.join("many")).unwrap();
}

fn arrived_whole(trio: &Trio) {
    let many = trio.arrived.join("many");
    assert_eq!(fs::read_dir(&many).unwrap().count(), FILES);
    assert_eq!(fs::read_to_string(many.join("399")).unwrap(), "399");
}

/// Takes all inodes but so many; tells where they are.
fn take_inodes(dir: &Path, but: usize) -> PathBuf {
    let filler = dir.join(".filler");
    fs::create_dir(&filler).unwrap();
    let file = |number: usize| filler.join(number.to_string());
    let taken = (0..).find(|number| fs::write(file(*number), "").is_err()).unwrap();
    assert!(taken > but);
    (taken - but..taken).for_each(|number| fs::remove_file(file(number)).unwrap());
    filler
}

/// Waits until nothing lies in the directories below this one.
fn until_empty(dir: &Path) {
    let empty = || fs::read_dir(dir).unwrap().next().is_none();
    assert!(crate::bed::node::wait_for(LONG, empty), "{:?}", fs::read_dir(dir).unwrap().collect::<Vec<_>>());
}

/// A shell as [`local_shell`] is one, which starts nothing before the file `go` beside it is there.
fn patient_shell(bed: &Bed) -> (String, PathBuf) {
    let go = bed.side("signs").join("go");
    let wait = format!("until [ -e '{}' ]; do sleep 0.05; done", go.display());
    let script = bed.script("rsh-patient", &format!("{wait}; while [ \"$1\" != rsync ]; do shift; done; exec \"$@\""));
    (format!("rsync_opts = [\"--rsh={}\"]", script.display()), go)
}

/// Central, with so many inodes, runs; the others are about to start where they see its files.
fn central_with(bed: &Bed, inodes: u32) -> Trio {
    let mut trio = Trio::resting(bed, "keep_minutes = 0\nfree_percent = 0\n");
    few_inodes(&mut trio.central, inodes);
    for node in [&trio.upload, &trio.download] {
        node.set(&local_shell(bed));
    }
    trio.central.start();
    trio.upload.under = beside(&trio.central);
    trio.download.under = beside(&trio.central);
    trio
}

#[test]
fn a_directory_of_more_files_than_central_has_inodes_is_not_tried() {
    let bed = Bed::new();
    let mut trio = central_with(&bed, 150);
    trio.download.start();
    trio.upload.start();
    hand_in_many(&trio);
    for node in [&trio.upload, &trio.central] {
        node.until_reason(LONG, "space", NEEDED);
        node.until_reason(LONG, "space", "has 150 in total");
    }
    tree::hand_in(&trio.upload.file_dir, b"small", b"content");
    trio.handed_over(1, LONG);
    assert_eq!(fs::read(trio.arrived.join("small")).unwrap(), b"content");
    let spool = seen_by(&trio.central, &trio.central.file_dir.join("default"));
    until_empty(&spool.join("in"));
    until_empty(&spool.join("held"));
    let asked = |line: &str| line.contains("item=many") && line.contains("requested from the upload");
    assert_eq!(trio.central.log.count(asked), 0, "{}", trio.central.log.text());
    let status = trio.upload.status(10);
    let members = status["members"].as_array().unwrap();
    let central = members.iter().find(|member| member["mode"] == "central").unwrap();
    assert!(central["free_inodes"].as_u64().is_some_and(|free| (100..150).contains(&free)), "{central}");
    more_inodes(&trio.central, 2000);
    trio.handed_over(2, LONG);
    arrived_whole(&trio);
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn inodes_that_others_take_while_central_receives_are_given_back() {
    let bed = Bed::new();
    let mut trio = central_with(&bed, 1000);
    let (shell, go) = patient_shell(&bed);
    trio.upload.set(&shell);
    trio.download.start();
    trio.upload.start();
    hand_in_many(&trio);
    trio.upload.expect(0, LONG, &["many", "rsync starts"]);
    let filler = take_inodes(&seen_by(&trio.central, &trio.central.file_dir), 60);
    fs::write(go, "").unwrap();
    trio.central.expect(0, LONG, &["many", "put back", "No space left on device"]);
    let spool = seen_by(&trio.central, &trio.central.file_dir.join("default"));
    until_empty(&spool.join("in"));
    for node in [&trio.upload, &trio.central] {
        node.until_reason(LONG, "space", NEEDED);
    }
    tree::hand_in(&trio.upload.file_dir, b"small", b"content");
    trio.handed_over(1, LONG);
    assert_eq!(fs::read(trio.arrived.join("small")).unwrap(), b"content");
    fs::remove_dir_all(filler).unwrap();
    trio.handed_over(2, LONG);
    arrived_whole(&trio);
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn a_directory_of_more_files_than_a_download_has_inodes_is_not_fetched() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "keep_minutes = 0\n");
    few_inodes(&mut trio.download, 150);
    trio.start();
    hand_in_many(&trio);
    trio.download.until_reason(LONG, "space", NEEDED);
    trio.central.until_reason(LONG, "space", &format!("down: {NEEDED}"));
    tree::hand_in(&trio.upload.file_dir, b"small", b"content");
    trio.handed_over(1, LONG);
    assert_eq!(fs::read(trio.arrived.join("small")).unwrap(), b"content");
    until_empty(&seen_by(&trio.download, &trio.download.file_dir.join(".synkler/default")));
    let fetched = |line: &str| line.contains("item=many") && line.contains("rsync starts to fetch");
    assert_eq!(trio.download.log.count(fetched), 0, "{}", trio.download.log.text());
    assert!(trio.upload.file_dir.join("many").exists(), "its source waits");
    more_inodes(&trio.download, 2000);
    trio.handed_over(2, LONG);
    arrived_whole(&trio);
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn inodes_that_others_take_while_a_download_fetches_are_given_back() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "keep_minutes = 0\n");
    few_inodes(&mut trio.download, 1000);
    let (shell, go) = patient_shell(&bed);
    trio.download.set(&shell);
    trio.start();
    hand_in_many(&trio);
    trio.download.expect(0, LONG, &["many", "rsync starts"]);
    let filler = take_inodes(&seen_by(&trio.download, &trio.download.file_dir), 60);
    fs::write(go, "").unwrap();
    trio.download.expect(0, LONG, &["many", "WARN", "No space left on device"]);
    until_empty(&seen_by(&trio.download, &trio.download.file_dir.join(".synkler/default")));
    trio.download.until_reason(LONG, "space", NEEDED);
    trio.central.until_reason(LONG, "space", &format!("down: {NEEDED}"));
    tree::hand_in(&trio.upload.file_dir, b"small", b"content");
    trio.handed_over(1, LONG);
    assert_eq!(fs::read(trio.arrived.join("small")).unwrap(), b"content");
    fs::remove_dir_all(filler).unwrap();
    trio.handed_over(2, LONG);
    arrived_whole(&trio);
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}
