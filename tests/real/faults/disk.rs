//! Full disks: items wait with that reason, those that fit go on, and the rest follow when there is room.

use std::fs;
use std::path::{Path, PathBuf};

use super::LONG;
use crate::bed::node::{Node, wait_for};
use crate::bed::{Bed, tree, with_mount};
use crate::handover::{Trio, no_errors};

/// The program in place of ssh: the far side is here, but its files are in a namespace that sshd does not see.
pub(super) fn local_shell(bed: &Bed) -> String {
    let script = bed.script("rsh", "while [ \"$1\" != rsync ]; do shift; done; exec \"$@\"");
    format!("rsync_opts = [\"--rsh={}\"]", script.display())
}

/// A tmpfs of so many megabytes at `file_dir`, which only this node sees.
fn small_disk(node: &mut Node, megabytes: u32) {
    node.under = with_mount(&format!("-t tmpfs -o size={megabytes}m,mode=0755 none '{}'", node.file_dir.display()));
}

/// The words that start a program where `node` runs.
pub(super) fn beside(node: &Node) -> Vec<String> {
    let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["-U", "--preserve-credentials"] };
    let words = ["nsenter", "-m", "-t", &node.pid().to_string()].map(str::to_owned);
    words.into_iter().chain(user.iter().map(|word| (*word).to_owned())).collect()
}

/// A path as the node sees it.
pub(super) fn seen_by(node: &Node, path: &Path) -> PathBuf {
    Path::new("/proc").join(node.pid().to_string()).join("root").join(path.strip_prefix("/").unwrap())
}

#[test]
fn a_full_disk_on_central_holds_back_only_what_does_not_fit() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "keep_minutes = 0\nfree_percent = 0\n");
    small_disk(&mut trio.central, 16);
    for node in [&trio.upload, &trio.download] {
        node.set(&local_shell(&bed));
    }
    trio.central.start();
    trio.upload.under = beside(&trio.central);
    trio.download.under = beside(&trio.central);
    let filler = seen_by(&trio.central, &trio.central.file_dir.join("filler"));
    fs::write(&filler, vec![1; 10 << 20]).unwrap();
    trio.download.start();
    trio.upload.start();
    let large = tree::noise(1, 8 << 20);
    tree::hand_in(&trio.upload.file_dir, b"large", &large);
    trio.upload.until_reason(LONG, "space", "8388608 bytes needed");
    trio.central.until_reason(LONG, "space", "8388608 bytes needed");
    tree::hand_in(&trio.upload.file_dir, b"small", b"content");
    trio.handed_over(1, LONG);
    assert_eq!(fs::read(trio.arrived.join("small")).unwrap(), b"content");
    fs::remove_file(filler).unwrap();
    trio.handed_over(2, LONG);
    assert!(fs::read(trio.arrived.join("large")).unwrap() == large);
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn a_disk_that_fills_up_while_central_receives_loses_nothing() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "keep_minutes = 0\nfree_percent = 0\n");
    small_disk(&mut trio.central, 32);
    for node in [&trio.upload, &trio.download] {
        node.set(&local_shell(&bed));
    }
    trio.upload.set(&local_shell(&bed).replace("[\"", "[\"--bwlimit=4m\", \""));
    trio.central.start();
    trio.upload.under = beside(&trio.central);
    trio.download.under = beside(&trio.central);
    trio.download.start();
    trio.upload.start();
    let large = tree::noise(1, 16 << 20);
    tree::hand_in(&trio.upload.file_dir, b"large", &large);
    trio.upload.expect(0, LONG, &["large", "rsync starts"]);
    let filler = seen_by(&trio.central, &trio.central.file_dir.join("filler"));
    // Takes all there is, and fails for want of more.
    fs::write(&filler, vec![1; 40 << 20]).unwrap_err();
    trio.central.expect(0, LONG, &["large", "put back", "up: ", "No space left on device"]);
    // Nothing of it keeps the room from others.
    let arrivals = seen_by(&trio.central, &trio.central.file_dir.join("default/in"));
    assert!(wait_for(LONG, || fs::read_dir(&arrivals).unwrap().next().is_none()));
    trio.upload.until_reason(LONG, "space", "16777216 bytes needed");
    trio.central.until_reason(LONG, "space", "16777216 bytes needed");
    fs::remove_file(filler).unwrap();
    trio.handed_over(1, LONG);
    assert!(fs::read(trio.arrived.join("large")).unwrap() == large);
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn a_full_disk_on_download_holds_back_only_what_does_not_fit() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "keep_minutes = 0\n");
    // 16 MB stay free in any case.
    small_disk(&mut trio.download, 32);
    trio.start();
    let filler = seen_by(&trio.download, &trio.download.file_dir.join(".filler"));
    fs::write(&filler, vec![1; 10 << 20]).unwrap();
    let large = tree::noise(1, 8 << 20);
    tree::hand_in(&trio.upload.file_dir, b"large", &large);
    trio.download.until_reason(LONG, "space", "8388608 bytes needed");
    trio.central.until_reason(LONG, "space", "down: 8388608 bytes needed");
    tree::hand_in(&trio.upload.file_dir, b"small", b"content");
    trio.handed_over(1, LONG);
    assert_eq!(fs::read(trio.arrived.join("small")).unwrap(), b"content");
    assert!(trio.upload.file_dir.join("large").exists(), "its source waits");
    fs::remove_file(filler).unwrap();
    trio.handed_over(2, LONG);
    assert!(fs::read(trio.arrived.join("large")).unwrap() == large);
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}
