//! What a daemon does not start with: exit code 78 where only a person can mend it, so that systemd leaves it at that.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::bed::node::Node;
use crate::bed::{offline, powerless, script, with_mount};

const MODES: [&str; 3] = ["upload", "central", "download"];

fn assert_refused(node: &Node, code: i32, words: &[&str]) {
    let (found, text) = node.refused();
    assert_eq!(found, Some(code), "{}: {text}", node.mode);
    for word in words {
        assert!(text.contains(word), "{}: no {word:?} in {text}", node.mode);
    }
    assert!(text.contains("ERROR") && !text.contains("panicked"), "{text}");
}

fn each_mode(check: impl Fn(Node)) {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        check(offline(dir.path(), mode, ""));
    }
}

#[test]
fn a_file_dir_that_is_missing_or_no_directory_is_named() {
    each_mode(|node| {
        let shown = node.file_dir.display().to_string();
        fs::remove_dir(&node.file_dir).unwrap();
        assert_refused(&node, 78, &["file_dir", &shown, "create it, or change file_dir"]);
        fs::write(&node.file_dir, "").unwrap();
        assert_refused(&node, 78, &["file_dir", &shown, "must be directories"]);
    });
}

#[test]
fn a_file_dir_that_synkler_has_no_right_to_is_named() {
    each_mode(|mut node| {
        // An upload only reads.
        let mode = if node.mode == "upload" { 0o300 } else { 0o500 };
        fs::set_permissions(&node.file_dir, fs::Permissions::from_mode(mode)).unwrap();
        node.under = powerless();
        let shown = node.file_dir.display().to_string();
        assert_refused(&node, 78, &["file_dir", &shown, "permission denied", "give the user of synkler"]);
        fs::set_permissions(&node.file_dir, fs::Permissions::from_mode(0o700)).unwrap();
        node.start();
    });
}

#[test]
fn a_file_dir_on_a_read_only_mount_is_named() {
    for mode in ["central", "download"] {
        let dir = tempfile::tempdir().unwrap();
        let mut node = offline(dir.path(), mode, "");
        let shown = node.file_dir.display().to_string();
        node.under = with_mount(&format!("-t tmpfs -o ro none '{shown}'"));
        assert_refused(&node, 78, &["file_dir", &shown, "read-only", "mount it read-write"]);
    }
}

#[test]
fn an_upload_may_stand_on_a_read_only_mount() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = offline(dir.path(), "upload", "");
    node.under = with_mount(&format!("-t tmpfs -o ro none '{}'", node.file_dir.display()));
    node.start();
}

#[test]
fn an_rsync_that_is_missing_or_too_old_is_named() {
    for mode in ["upload", "download"] {
        let dir = tempfile::tempdir().unwrap();
        let node = offline(dir.path(), mode, "");
        let rsync = dir.path().join("rsync");
        let shown = rsync.display().to_string();
        node.set(&format!("rsync = \"{shown}\""));
        assert_refused(&node, 78, &["cannot run", &shown, "install rsync"]);
        script(&rsync, "echo 'rsync  version 3.1.2  protocol version 31'");
        assert_refused(&node, 78, &[&shown, "is rsync 3.1.2, but 3.1.3 or newer is needed"]);
        script(&rsync, "echo 'something else 1.0'");
        assert_refused(&node, 78, &[&shown, "which is not rsync"]);
    }
    // Central runs none.
    let dir = tempfile::tempdir().unwrap();
    let mut central = offline(dir.path(), "central", "rsync = \"/nowhere/rsync\"\n");
    central.start();
}

fn journal(node: &Node) -> std::path::PathBuf {
    node.config.with_file_name("state").join("journal.db")
}

fn sqlite3(path: &Path, sql: &str) {
    assert!(Command::new("sqlite3").arg(path).arg(sql).output().unwrap().status.success());
}

#[test]
fn a_journal_that_is_damaged_or_newer_is_left_as_it_is() {
    each_mode(|mut node| {
        node.start();
        node.stop();
        let path = journal(&node);
        let good = fs::read(&path).unwrap();
        let shown = path.display().to_string();
        sqlite3(&path, "PRAGMA user_version = 99");
        assert_refused(&node, 78, &[&shown, "has version 99", "install the newer synkler again"]);
        sqlite3(&path, "PRAGMA user_version");
        fs::write(&path, vec![b'x'; good.len()]).unwrap();
        assert_refused(&node, 78, &[&shown, "is damaged", "put a backup in its place"]);
        assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == b'x'), "it is somebody's last copy");
        fs::write(&path, good).unwrap();
        node.start();
    });
}

#[test]
fn a_row_that_its_role_cannot_take_up_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = offline(dir.path(), "upload", "settle_seconds = 0\n");
    node.start();
    crate::bed::tree::hand_in(&node.file_dir, b"item", b"content");
    node.expect(0, super::LONG, &["item", "settled"]);
    node.stop();
    sqlite3(&journal(&node), "UPDATE transfers SET stage = 'nonsense'");
    assert_refused(&node, 78, &["journal: transfer", "column stage", "nonsense"]);
}

#[test]
fn a_journal_or_a_socket_in_use_may_be_free_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = offline(dir.path(), "central", "");
    first.start();
    let pid = format!("(pid {})", first.pid());
    let second = offline(&dir.path().join("second"), "central", "");
    let state = journal(&first).parent().unwrap().display().to_string();
    second.set(&format!("state_dir = \"{state}\""));
    assert_refused(&second, 1, &[&state, "is in use by another synkler", &pid]);
    second.set(&format!("state_dir = \"{}\"", dir.path().join("own").display()));
    second.set(&format!("control_socket = \"{}\"", first.socket.display()));
    assert_refused(&second, 1, &["another daemon answers at the control socket", first.socket.to_str().unwrap()]);
    assert_eq!(first.status(1)["node"]["pid"], first.pid(), "the first is not disturbed");
}
