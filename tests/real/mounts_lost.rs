//! A `file_dir` that is a mount, and the mount is lost: before a start, at run time, in the middle of a run. Nothing is
//! written beneath it, nothing counts as gone, no receipt is given, and all goes on when it is back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::handover::Trio;
use super::mounts::{can_mount, in_one_line, succeed, told};
use crate::bed::node::{Node, wait_for};
use crate::bed::{self, Bed, tree};

const LONG: Duration = Duration::from_secs(120);
const NOT_THE_ONE: &str = "file_dir is not the one it was: is something not mounted?";

/// A directory of its own that is mounted on another one, and can go away and come back.
struct Disk {
    source: PathBuf,
    at: PathBuf,
    read_only: bool,
}

impl Disk {
    fn mounted(bed: &Bed, at: &Path) -> Self {
        let source = bed.side(&format!("disk of {}", at.parent().unwrap().file_name().unwrap().to_str().unwrap()));
        let disk = Self { source, at: at.to_owned(), read_only: false };
        disk.mount();
        disk
    }

    fn mount(&self) {
        succeed(Command::new("mount").arg("--bind").args([&self.source, &self.at]));
        if self.read_only {
            succeed(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&self.at));
        }
    }

    /// Whatever has it open keeps it open.
    fn lose(&self) {
        succeed(Command::new("umount").arg("--lazy").arg(&self.at));
    }

    /// What stands in the mount point: only while the mount is away.
    fn beneath(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.at).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", "--quiet"]).arg(&self.at).status();
    }
}

/// The node says that its directory is away, in all places where one would look.
fn says_so(node: &Node) {
    let status = node.until(LONG, "without its directory", |status| status["directory"]["code"] == "directory");
    assert!(status["directory"]["text"].as_str().unwrap().contains(NOT_THE_ONE), "{status:#}");
    node.expect(0, LONG, &["ERROR", "nothing is done in file_dir", NOT_THE_ONE]);
    let text = in_one_line(&told(node, &["status", "--here"]));
    assert!(text.contains(NOT_THE_ONE) && text.contains("synklerctl adopt"), "{text}");
    let check = in_one_line(&told(node, &["check"]));
    assert!(
        check.contains(&format!("{NOT_THE_ONE} (another directory is there, without a marker of this node)")),
        "{check}"
    );
}

fn works_again(node: &Node) {
    node.until(LONG, "with its directory", |status| status["directory"].is_null());
}

#[test]
fn a_download_delivers_nothing_beneath_a_mount_that_is_lost_before_its_start() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "keep_minutes = 60\n");
    let disk = Disk::mounted(&bed, &trio.download.file_dir);
    trio.start();
    tree::hand_in(&trio.upload.file_dir, b"first", b"first");
    trio.handed_over(1, LONG);
    trio.download.stop();
    disk.lose();
    trio.download.start();
    says_so(&trio.download);
    let source = tree::hand_in(&trio.upload.file_dir, b"second", b"second");
    trio.download.until_reason(LONG, "directory", NOT_THE_ONE);
    trio.central.until_reason(LONG, "directory", NOT_THE_ONE);
    // A restart changes nothing.
    trio.download.kill();
    trio.download.start();
    trio.download.until_reason(LONG, "directory", NOT_THE_ONE);
    assert_eq!(disk.beneath(), Vec::<String>::new(), "nothing is written beneath the mount");
    assert_eq!(fs::read(&source).unwrap(), b"second", "the source is not freed");
    assert_eq!(trio.download.log.count(|line| line.contains("item=second") && line.contains("rsync starts")), 0);
    disk.mount();
    works_again(&trio.download);
    trio.handed_over(2, LONG);
    assert_eq!(fs::read(trio.arrived.join("second")).unwrap(), b"second");
}

#[test]
fn a_download_delivers_nothing_beneath_a_mount_that_is_lost_in_the_middle_of_a_run() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let (mut upload, mut central) = (bed.upload("up", "settle_seconds = 0\n"), bed.central("mid", ""));
    let mut download = bed.download("down", "");
    download.set(bed.rsync_opts_at("2M").lines().next().unwrap());
    let disk = Disk::mounted(&bed, &download.file_dir);
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    let content = tree::noise(1, 24 << 20);
    tree::hand_in(&upload.file_dir, b"large", &content);
    download.until(LONG, "fetching", |status| status["transfers"][0]["progress"]["bytes"].as_u64() > Some(0));
    disk.lose();
    says_so(&download);
    download.until_reason(LONG, "directory", NOT_THE_ONE);
    assert_eq!(disk.beneath(), Vec::<String>::new(), "nothing is written beneath the mount");
    assert_eq!(download.log.count(|line| line.contains(": delivered")), 0);
    disk.mount();
    works_again(&download);
    assert!(upload.log.wait(0, 1, LONG, |line| line.contains("handed over")), "{}", download.log.text());
    assert_eq!(fs::read(disk.source.join("large")).unwrap(), content);
}

#[test]
fn an_upload_takes_nothing_for_gone_while_its_mount_is_lost() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let (mut upload, mut central) = (bed.upload("up", "settle_seconds = 0\n"), bed.central("mid", ""));
    let mut download = bed.download("down", "");
    let disk = Disk::mounted(&bed, &upload.file_dir);
    for name in ["a", "b"] {
        fs::write(disk.source.join(name), name).unwrap();
    }
    upload.start();
    upload.until(LONG, "both announced", |status| {
        status["counts"].as_array().unwrap().iter().any(|count| count["stage"] == "announced" && count["count"] == 2)
    });
    disk.lose();
    says_so(&upload);
    // At the start, too, an empty directory is not one from which all has gone.
    upload.stop();
    upload.start();
    says_so(&upload);
    central.start();
    download.start();
    // Central requests what it is offered, and hears why it does not come.
    upload.until_reason(LONG, "directory", NOT_THE_ONE);
    assert_eq!(upload.log.count(|line| line.contains("disappeared") || line.contains("rsync starts")), 0);
    assert_eq!(disk.beneath(), Vec::<String>::new());
    disk.mount();
    works_again(&upload);
    assert!(upload.log.wait(0, 2, LONG, |line| line.contains("handed over")), "{}", upload.log.text());
    assert!(download.file_dir.join("a").exists() && download.file_dir.join("b").exists());
}

#[test]
fn an_upload_that_cannot_mark_its_directory_knows_it_all_the_same() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let mut upload = bed.upload("reader", "settle_seconds = 0\n");
    let mut disk = Disk::mounted(&bed, &upload.file_dir);
    fs::write(disk.source.join("a"), "a").unwrap();
    disk.lose();
    disk.read_only = true;
    disk.mount();
    upload.start();
    let announced = |status: &serde_json::Value| status["transfers"][0]["stage"] == "announced";
    upload.until(LONG, "announced", announced);
    upload.expect(0, LONG, &["recognised by its file system and inode"]);
    assert!(in_one_line(&told(&upload, &["check"])).contains("it has no marker"));
    upload.stop();
    disk.lose();
    upload.start();
    says_so(&upload);
    disk.mount();
    works_again(&upload);
    upload.until(LONG, "announced", announced);
    assert_eq!(upload.log.count(|line| line.contains("disappeared")), 0);
}

#[test]
fn a_central_takes_nothing_in_and_offers_nothing_while_its_mount_is_lost() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let (mut upload, mut central) =
        (bed.upload("up", "settle_seconds = 0\n"), bed.central("mid", "receivers = [\"down\"]\n"));
    let mut download = bed.download("down", "");
    let disk = Disk::mounted(&bed, &central.file_dir);
    central.start();
    upload.start();
    tree::hand_in(&upload.file_dir, b"held", b"held");
    upload.expect(0, LONG, &["held", "central holds a verified copy"]);
    disk.lose();
    says_so(&central);
    let mark = central.log.mark();
    tree::hand_in(&upload.file_dir, b"next", b"next");
    download.start();
    upload.until_reason(LONG, "directory", NOT_THE_ONE);
    central.stop();
    central.start();
    central.until_reason(LONG, "directory", NOT_THE_ONE);
    assert_eq!(disk.beneath(), Vec::<String>::new(), "no spool beneath the mount");
    for words in ["requested from the upload", "offered to the download"] {
        assert!(!central.log.wait(mark, 1, Duration::ZERO, |line| line.contains(words)), "{}", central.log.text());
    }
    disk.mount();
    works_again(&central);
    assert!(upload.log.wait(0, 2, LONG, |line| line.contains("handed over")), "{}", central.log.text());
    assert_eq!(upload.log.count(|line| line.contains("item=held") && line.contains("rsync starts")), 1);
    assert!(download.file_dir.join("held").exists() && download.file_dir.join("next").exists());
    // An empty disk in its place is accepted on purpose.
    disk.lose();
    central.until(LONG, "without its directory", |status| !status["directory"].is_null());
    tree::hand_in(&upload.file_dir, b"last", b"last");
    upload.until_reason(LONG, "directory", NOT_THE_ONE);
    assert!(central.ctl().arg("adopt").status().unwrap().success());
    works_again(&central);
    assert!(upload.log.wait(0, 3, LONG, |line| line.contains("handed over")), "{}", central.log.text());
    assert_eq!(disk.beneath(), ["default"]);
}

#[test]
fn an_operator_adopts_another_directory() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "");
    let disk = Disk::mounted(&bed, &trio.download.file_dir);
    trio.start();
    tree::hand_in(&trio.upload.file_dir, b"first", b"first");
    trio.handed_over(1, LONG);
    let refused = trio.download.ctl().arg("adopt").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("nothing to do"), "{refused:?}");
    disk.lose();
    says_so(&trio.download);
    tree::hand_in(&trio.upload.file_dir, b"second", b"second");
    trio.download.until_reason(LONG, "directory", NOT_THE_ONE);
    let adopted = trio.download.ctl().arg("adopt").output().unwrap();
    assert!(adopted.status.success(), "{adopted:?}");
    trio.download.expect(0, LONG, &["file_dir adopted by "]);
    trio.handed_over(2, LONG);
    assert!(trio.download.file_dir.join(".synkler/download@default").exists(), "it is marked");
    // The earlier one is the wrong one now, though it has a marker of this node.
    trio.download.stop();
    disk.mount();
    trio.download.start();
    let status = trio.download.until(LONG, "another directory", |status| !status["directory"].is_null());
    assert!(status["directory"]["text"].as_str().unwrap().contains("which this node marked earlier"), "{status:#}");
    disk.lose();
    works_again(&trio.download);
}

#[test]
fn a_marker_that_was_removed_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = bed::offline(dir.path(), "upload", "settle_seconds = 0\n");
    node.start();
    let marker = node.file_dir.join(".synkler/upload@default");
    let is_marked = || wait_for(LONG, || marker.exists());
    assert!(is_marked());
    fs::remove_dir_all(node.file_dir.join(".synkler")).unwrap();
    assert!(is_marked(), "{}", node.log.text());
    // Also by an older journal, or none.
    node.stop();
    fs::remove_dir_all(node.config.parent().unwrap().join("state")).unwrap();
    node.start();
    node.expect(0, LONG, &["file_dir was marked by an earlier journal of this node"]);
    tree::hand_in(&node.file_dir, b"item", b"content");
    node.until(LONG, "announced", |status| status["total"] == 1);
    assert_eq!(node.log.count(|line| line.contains("ERROR")), 0, "{}", node.log.text());
}

#[test]
fn two_nodes_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = bed::offline(dir.path(), "download", "");
    one.start();
    let marker = one.file_dir.join(".synkler/download@default");
    assert!(wait_for(LONG, || marker.exists()));
    let mut other = bed::offline(&dir.path().join("other"), "download", "");
    other.set("name = \"other\"");
    other.set(&format!("file_dir = \"{}\"", one.file_dir.display()));
    other.start();
    let status = other.until(LONG, "refused", |status| !status["directory"].is_null());
    let text = status["directory"]["text"].as_str().unwrap();
    assert!(text.contains("download alone uses it: give each node its own file_dir"), "{text}");
    assert!(in_one_line(&told(&other, &["check"])).contains("download alone uses it"));
    assert!(one.status(0)["directory"].is_null());
    // One of them leaves.
    one.stop();
    assert!(other.ctl().arg("adopt").status().unwrap().success());
    works_again(&other);
    one.start();
    one.until(LONG, "refused", |status| !status["directory"].is_null());
}
