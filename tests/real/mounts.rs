//! File systems that do not keep all that a Linux disk keeps: made with FUSE, as root. Where the tests run without
//! either, they say so and leave it at that.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bed::node::Node;
use crate::bed::{Bed, tree};

const LONG: Duration = Duration::from_secs(120);
const HOUR_AND_MORE: u64 = 30 * 60 * 1000;

/// A mount that ends with the test.
pub struct Mount {
    at: PathBuf,
    /// The loop device below it.
    device: Option<String>,
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
        if let Some(device) = &self.device {
            let _ = Command::new("losetup").args(["--detach", device]).status();
        }
    }
}

/// Whether this machine lets us mount; where it does, a mount that fails is a failure.
pub fn can_mount() -> bool {
    let devices = ["/dev/fuse", "/dev/loop-control"].iter().all(|path| Path::new(path).exists());
    let may_mount = || {
        let mut trial = Command::new("unshare");
        trial.args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stdin(Stdio::null()).stderr(Stdio::null());
        trial.status().is_ok_and(|status| status.success())
    };
    let can = rustix::process::geteuid().is_root() && devices && may_mount();
    if !can {
        eprintln!("NOT RUN: mounts need root, the right to mount, /dev/fuse and /dev/loop-control");
    }
    can
}

pub fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A file system in memory.
pub fn tmpfs(at: &Path, options: &str) -> Mount {
    succeed(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at));
    Mount { at: at.to_owned(), device: None }
}

/// As SMB, NTFS and many NAS mounts are: every mode is 0777, and nobody is told.
fn without_modes(bed: &Bed, at: &Path) -> Mount {
    let below = bed.side("below the mount");
    let options = ["--perms=0755:a+rwx", "--chmod-ignore", "--chown-ignore", "--chgrp-ignore"];
    succeed(Command::new("bindfs").args(options).arg(below).arg(at));
    Mount { at: at.to_owned(), device: None }
}

/// As a memory stick is: names that differ in case only are one, and there are neither modes nor links.
pub fn exfat(bed: &Bed, at: &Path) -> Mount {
    let image = bed.side("images").join("exfat");
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    succeed(Command::new("mkfs.exfat").arg(&image));
    let device = succeed(Command::new("losetup").args(["--find", "--show"]).arg(&image));
    let mount = Mount { at: at.to_owned(), device: Some(device.clone()) };
    succeed(Command::new("mount.exfat-fuse").arg(device).arg(at));
    mount
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn hand_in(upload: &Node, name: &str, make: impl FnOnce(&Path)) {
    let made = tree::workshop(&upload.file_dir).join(name);
    fs::create_dir(&made).unwrap();
    make(&made);
    fs::rename(&made, upload.file_dir.join(name)).unwrap();
}

/// Four entries of four modes, in this order in the manifest.
fn of_four_modes(dir: &Path) {
    for (name, mode) in [("a", 0o600), ("b", 0o755), ("c", 0o440)] {
        fs::write(dir.join(name), name).unwrap();
        set_mode(&dir.join(name), mode);
    }
    set_mode(dir, 0o750);
}

pub fn told(node: &Node, arguments: &[&str]) -> String {
    let output = node.ctl().args(arguments).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_a_mount_without_modes_does_not_keep_is_reported_and_all_arrives() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let (mut upload, mut central) =
        (bed.upload("up", "settle_seconds = 0\n"), bed.central("mid", "keep_minutes = 0\n"));
    let mut download = bed.download("down", "");
    let _mount = without_modes(&bed, &download.file_dir);
    hand_in(&upload, "four", of_four_modes);
    hand_in(&upload, "group", |dir| {
        fs::create_dir(dir.join("shared")).unwrap();
        fs::write(dir.join("shared/x"), "x").unwrap();
        set_mode(&dir.join("shared"), 0o2775);
    });
    hand_in(&upload, "linked", |dir| {
        fs::write(dir.join("to"), "to").unwrap();
        symlink("to", dir.join("link")).unwrap();
    });
    fs::write(upload.file_dir.join("one"), "1").unwrap();
    set_mode(&upload.file_dir.join("one"), 0o640);
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    assert!(upload.log.wait(0, 4, LONG, |line| line.contains("handed over")), "{}", download.log.text());
    let to = &download.file_dir;
    for (path, content) in
        [("four/a", "a"), ("four/c", "c"), ("group/shared/x", "x"), ("linked/link", "to"), ("one", "1")]
    {
        assert_eq!(fs::read_to_string(to.join(path)).unwrap(), content, "{path}");
    }
    assert_eq!(fs::read_link(to.join("linked/link")).unwrap(), Path::new("to"));
    let four = "modes differ in 4 of 4 entries, first `.`: 0750 announced, 0777 kept (fuse)";
    let group = "modes differ in 3 of 3 entries, first `.`: 0755 announced, 0777 kept (fuse)";
    let one = "mode 0640 announced, 0777 kept (fuse)";
    for text in [four, group, one] {
        let warned = download.log.count(|line| line.contains("WARN") && line.contains(text));
        assert_eq!(warned, 1, "{text}: {}", download.log.text());
    }
    // The receipt has told the others.
    central.until_idle(LONG);
    let of_all = format!("down: {four}");
    for (node, words) in [(&download, four), (&central, &of_all), (&upload, &of_all)] {
        let history = told(node, &["history", "--json"]);
        let mut entries = history.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let entry = entries.find(|entry| entry["item"] == "four").unwrap_or_else(|| panic!("{}: {history}", node.mode));
        assert_eq!(entry["remark"], words, "{}", node.mode);
    }
    assert!(told(&upload, &["receipt", "four"]).ends_with(&format!("# down: {four}\n")));
    let journey = in_one_line(&told(&upload, &["status", "four"]));
    assert!(journey.contains("modes differ in 4 of 4 entries"), "{journey}");
    assert_eq!(download.log.count(|line| line.contains(", announced ")), 0);
}

#[test]
fn who_asks_for_modes_gets_nothing_without_them() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let (mut upload, mut central) = (bed.upload("up", "settle_seconds = 0\n"), bed.central("mid", ""));
    let mut download = bed.download("down", "keep_modes = \"yes\"\n");
    let _mount = without_modes(&bed, &download.file_dir);
    hand_in(&upload, "four", of_four_modes);
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    download.until_reason(LONG, "modes", "first `.`: 0750 announced, 0777 kept (fuse)");
    assert!(!download.file_dir.join("four").exists(), "it is not delivered");
    assert!(in_one_line(&told(&download, &["check"])).contains("with keep_modes = \"yes\" most items are refused"));
    waits_long(&download, 1);
    // Whoever does without them gets it.
    download.set("keep_modes = \"try\"");
    assert!(told(&download, &["reload"]).contains("keep_modes"));
    told(&download, &["retry", "four"]);
    assert!(upload.log.wait(0, 1, LONG, |line| line.contains("handed over")), "{}", download.log.text());
    assert!(download.file_dir.join("four").is_dir());
}

#[test]
fn a_spool_without_modes_takes_none_away_from_a_download_that_keeps_them() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let (mut upload, mut central) = (bed.upload("up", "settle_seconds = 0\n"), bed.central("mid", ""));
    let mut download = bed.download("down", "keep_modes = \"yes\"\n");
    let _mount = without_modes(&bed, &central.file_dir);
    hand_in(&upload, "four", of_four_modes);
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    assert!(upload.log.wait(0, 1, LONG, |line| line.contains("handed over")), "{}", download.log.text());
    let mode = |path: &str| fs::metadata(download.file_dir.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(["four", "four/a", "four/b", "four/c"].map(mode), [0o750, 0o600, 0o755, 0o440]);
}

#[test]
fn names_that_become_one_are_named_and_fetched_twice_at_most() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let (mut upload, mut central) = (bed.upload("up", "settle_seconds = 0\n"), bed.central("mid", ""));
    let mut download = bed.download("down", "");
    let _mount = exfat(&bed, &download.file_dir);
    hand_in(&upload, "both", |dir| {
        fs::write(dir.join("A"), "large").unwrap();
        fs::write(dir.join("a"), "small letter").unwrap();
    });
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    let words = "`A` and `a` differ in case only, and the file system takes them for one name";
    download.until_reason(LONG, "unfit", words);
    waits_long(&download, 2);
    // What else there is passes.
    tree::hand_in(&upload.file_dir, b"other", b"other");
    assert!(upload.log.wait(0, 1, LONG, |line| line.contains("handed over")), "{}", download.log.text());
    waits_long(&download, 2);
    // Another start is no attempt.
    download.stop();
    let mark = download.log.mark();
    download.start();
    download.until_reason(LONG, "unfit", words);
    tree::hand_in(&upload.file_dir, b"another", b"another");
    assert!(upload.log.wait(0, 2, LONG, |line| line.contains("handed over")), "{}", download.log.text());
    let fetched = |line: &str| line.contains("item=both") && line.contains("rsync starts to fetch");
    assert!(!download.log.wait(mark, 1, Duration::ZERO, fetched), "{}", download.log.text());
    told(&download, &["retry", "both"]);
    assert!(download.log.wait(mark, 1, LONG, fetched), "{}", download.log.text());
}

#[test]
fn what_a_file_system_cannot_hold_is_told_and_not_fetched_again() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let (mut upload, mut central) = (bed.upload("up", "settle_seconds = 0\n"), bed.central("mid", ""));
    let mut download = bed.download("down", "");
    let _mount = exfat(&bed, &download.file_dir);
    hand_in(&upload, "linked", |dir| {
        fs::write(dir.join("to"), "to").unwrap();
        symlink("to", dir.join("link")).unwrap();
    });
    hand_in(&upload, "named", |dir| fs::write(dir.join("a:b"), "b").unwrap());
    fs::write(upload.file_dir.join("c:d"), "d").unwrap();
    tree::hand_in(&upload.file_dir, b"whole", b"whole");
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    for text in [
        "`linked/link`: the file system does not support symbolic links",
        "`named/a:b`: the file system does not support this name",
        "`c:d`: the file system does not support this name",
    ] {
        download.until_reason(LONG, "unfit", text);
    }
    // What else there is passes, also what was on its way with them.
    tree::hand_in(&upload.file_dir, b"other", b"other");
    assert!(upload.log.wait(0, 2, LONG, |line| line.contains("handed over")), "{}", download.log.text());
    for item in ["linked", "named", "c:d"] {
        let fetched = |line: &str| line.contains(&format!("item={item}")) && line.contains("rsync starts to fetch");
        assert_eq!(download.log.count(fetched), 1, "{item}: {}", download.log.text());
    }
    // The examination knows it beforehand, and leaves nothing.
    let check = in_one_line(&told(&download, &["check"]));
    for words in ["no permission bits", "no symbolic links", "no difference between `A` and `a`", "no names with :"] {
        assert!(check.contains(words), "{check}");
    }
    let left = fs::read_dir(download.file_dir.join(".synkler")).into_iter().flatten();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("check")), "{left:?}");
}

/// The one thing that fails is tried next in more than half an hour, and has been fetched so many times at most.
fn waits_long(download: &Node, most: usize) {
    let status = download.until(LONG, "a long wait", |status| {
        let first = &status["transfers"][0];
        let now = status["now"].as_u64().unwrap();
        first["next"].as_u64().is_some_and(|next| next >= now + HOUR_AND_MORE)
    });
    let item = status["transfers"][0]["item"].as_str().unwrap().to_owned();
    let fetched = |line: &str| line.contains(&format!("item={item}")) && line.contains("rsync starts to fetch");
    let count = download.log.count(fetched);
    assert!((1..=most).contains(&count), "{item} was fetched {count} times: {}", download.log.text());
}
