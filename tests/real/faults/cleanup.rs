//! Cleanup scripts that are missing, fail, hang or will not stop talking: the item waits with the reason and is neither
//! lost nor sent twice.

use std::path::Path;

use super::LONG;
use crate::bed::node::{Node, wait_for};
use crate::bed::{Bed, script, tree};
use crate::handover::Trio;

/// Both ends with the same script, which is at `path`.
fn with_script(bed: &Bed, path: &Path, timeout_minutes: f64) -> Trio {
    let mut trio = Trio::resting(bed, "");
    for node in [&trio.upload, &trio.download] {
        node.set(&format!("cleanup_script = [\"{}\", \"%F\"]", path.display()));
        node.set(&format!("cleanup_timeout_minutes = {timeout_minutes}"));
    }
    trio.start();
    trio
}

fn both(trio: &Trio) -> [&Node; 2] {
    [&trio.download, &trio.upload]
}

#[test]
fn a_script_that_is_missing_then_fails_then_works_runs_until_it_does() {
    let bed = Bed::new();
    let path = bed.dir.path().join("script");
    let trio = with_script(&bed, &path, 10.0);
    let item = tree::hand_in(&trio.upload.file_dir, b"item", b"content");
    let delivered = trio.download.file_dir.join("item");
    for node in both(&trio) {
        node.until_reason(LONG, "cleanup", "no such program");
    }
    script(&path, "echo 'no room on the tape' >&2; exit 3");
    for node in both(&trio) {
        node.until_reason(LONG, "cleanup", "exit status 3: no room on the tape");
    }
    assert_eq!(std::fs::read(&item).unwrap(), b"content", "nobody has taken it away");
    assert_eq!(std::fs::read(&delivered).unwrap(), b"content");
    script(&path, "rm -- \"$1\"");
    trio.handed_over(1, LONG);
    for node in both(&trio) {
        node.until_idle(LONG);
    }
    assert!(!item.exists() && !delivered.exists());
    assert_eq!(trio.download.log.count(|line| line.contains("fetched and verified")), 1, "sent once");
}

#[test]
fn a_script_that_hangs_is_ended_with_all_it_has_started() {
    let bed = Bed::new();
    let pids = bed.dir.path().join("pids");
    let hang = format!("sleep 1000 & echo $! >>'{}'; echo 'waiting for the tape'; wait", pids.display());
    let path = bed.script("script", &hang);
    let trio = with_script(&bed, &path, 0.02);
    tree::hand_in(&trio.upload.file_dir, b"item", b"content");
    for node in both(&trio) {
        node.until_reason(LONG, "cleanup", "longer than cleanup_timeout_minutes: waiting for the tape");
    }
    script(&path, "rm -- \"$1\"");
    trio.handed_over(1, LONG);
    trio.download.until_idle(LONG);
    for pid in std::fs::read_to_string(&pids).unwrap().lines() {
        let process = Path::new("/proc").join(pid);
        let ended = || match std::fs::read_to_string(process.join("stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        assert!(wait_for(LONG, ended), "{pid} is left of it");
    }
}

#[test]
fn a_script_that_prints_megabytes_is_nothing_special() {
    let bed = Bed::new();
    let path = bed.script("script", "head -c 30000000 /dev/zero | tr '\\0' x; echo; echo done >&2; rm -- \"$1\"");
    let trio = with_script(&bed, &path, 10.0);
    tree::hand_in(&trio.upload.file_dir, b"item", b"content");
    trio.handed_over(1, LONG);
    trio.download.until_idle(LONG);
    for node in both(&trio) {
        assert!(node.log.text().len() < 100_000, "the log has got it all");
    }
}
