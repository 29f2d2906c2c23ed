//! What cleanup scripts leave behind is no new item: everything is delivered once, and what was delivered stays.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::bed::node::{Node, wait_for};
use crate::bed::{Bed, tree};

const LONG: Duration = Duration::from_secs(120);
const CONTENT: &[u8] = b"what was handed over\n";

/// An upload with this script, written as a TOML list.
fn upload(bed: &Bed, name: &str, script: &str) -> Node {
    let mut node = bed.upload(name, &format!("settle_seconds = 0\ncleanup_script = {script}\n"));
    node.start();
    node
}

fn is_delivery(line: &str) -> bool {
    line.contains(": delivered item=")
}

/// A file, or a directory with files.
fn hand_in(node: &Node, name: &str, directory: bool) {
    if !directory {
        tree::hand_in(&node.file_dir, name.as_bytes(), CONTENT);
        return;
    }
    let made = tree::workshop(&node.file_dir).join(name);
    fs::create_dir_all(made.join("below")).unwrap();
    fs::write(made.join("below/file"), CONTENT).unwrap();
    fs::write(made.join("another"), CONTENT).unwrap();
    fs::rename(&made, node.file_dir.join(name)).unwrap();
}

fn assert_whole(path: &Path) {
    if path.is_dir() {
        assert_eq!(fs::read(path.join("below/file")).unwrap(), CONTENT, "{}", path.display());
        assert_eq!(fs::read(path.join("another")).unwrap(), CONTENT, "{}", path.display());
    } else {
        assert_eq!(fs::read(path).unwrap(), CONTENT, "{}", path.display());
    }
}

#[test]
fn what_scripts_leave_is_not_sent() {
    let bed = Bed::new();
    let mut central = bed.central("mid", "keep_minutes = 60\n");
    central.start();
    let mut download = bed.download("down", "");
    download.start();
    let aside = bed.side("aside");
    let back = bed.script("back", &format!("mv \"$1\" {0}/kept && cp {0}/kept \"$1\"", aside.display()));
    let scripts = [
        ("truncate", r#"["truncate", "-s", "0", "%F"]"#.to_owned(), false),
        ("chmod", r#"["chmod", "0440", "%F"]"#.to_owned(), false),
        ("touch", r#"["touch", "%F"]"#.to_owned(), false),
        ("rename", r#"["mv", "%F", "%F.done"]"#.to_owned(), false),
        ("delete", r#"["find", "%F", "-type", "f", "-delete"]"#.to_owned(), true),
        ("rename-dir", r#"["mv", "%F", "%F.done"]"#.to_owned(), true),
        ("link", r#"["ln", "-f", "%F", "%F.link"]"#.to_owned(), false),
        ("copy", r#"["cp", "%F", "%F.copy"]"#.to_owned(), false),
        ("gzip", r#"["gzip", "%F"]"#.to_owned(), false),
        ("back", format!("[\"{}\", \"%F\"]", back.display()), false),
    ];
    let mut uploads: Vec<_> = scripts.iter().map(|(name, script, _)| upload(&bed, name, script)).collect();
    for (node, (name, _, directory)) in uploads.iter().zip(&scripts) {
        hand_in(node, &format!("item-{name}"), *directory);
    }
    for node in &uploads {
        assert!(node.log.wait(0, 1, LONG, |line| line.contains("handed over")), "{}: {:#}", node.name, node.status(20));
    }
    // A new start looks at everything that stands there, with what the journal knows.
    for node in &mut uploads {
        node.stop();
        node.start();
    }
    // What comes last is looked at last: anything else that was to be sent has been before it.
    for node in &uploads {
        hand_in(node, &format!("last-{}", node.name), false);
    }
    let all = 2 * uploads.len();
    assert!(download.log.wait(0, all, LONG, is_delivery), "{:#}", download.status(30));
    for node in &uploads {
        let over = || node.status(20)["total"] == 0 || node.status(20)["transfers"][0]["reason"]["code"] == "leftover";
        assert!(wait_for(LONG, over), "{}: {:#}", node.name, node.status(20));
    }
    assert_eq!(download.log.count(is_delivery), all, "{}", download.log.text());
    for (name, _, _) in &scripts {
        for item in [format!("item-{name}"), format!("last-{name}")] {
            assert_whole(&download.file_dir.join(item));
        }
    }
    let arrived = fs::read_dir(&download.file_dir)
        .unwrap()
        .filter(|entry| !entry.as_ref().unwrap().file_name().as_encoded_bytes().starts_with(b"."));
    assert_eq!(arrived.count(), all);
}

#[test]
fn a_chmod_of_everything_sends_nothing_again() {
    let bed = Bed::new();
    let mut central = bed.central("mid", "keep_minutes = 60\n");
    let mut download = bed.download("down", "");
    let mut node = bed.upload("up", "settle_seconds = 0\n");
    central.start();
    download.start();
    node.start();
    const FILES: usize = 60;
    for number in 0..FILES {
        tree::hand_in(&node.file_dir, format!("file-{number}").as_bytes(), format!("{number}\n").as_bytes());
    }
    let made = tree::workshop(&node.file_dir).join("directory");
    fs::create_dir_all(made.join("below")).unwrap();
    fs::write(made.join("below/x"), "x").unwrap();
    fs::write(made.join("y"), "y").unwrap();
    fs::rename(made, node.file_dir.join("directory")).unwrap();
    // As a cron job would, from the first moment on and until all is over.
    let file_dir = node.file_dir.clone();
    let chmod = |mode: &str| {
        assert!(Command::new("chmod").args(["-R", mode]).arg(&file_dir).status().unwrap().success());
    };
    let all = FILES + 1;
    let rounds = Cell::new(0);
    let over = || {
        rounds.set(rounds.get() + 1);
        chmod(if rounds.get() % 2 == 0 { "g-w" } else { "g+w" });
        node.log.count(|line| line.contains("handed over")) >= all
    };
    assert!(wait_for(LONG, over), "{:#}", node.status(20));
    chmod("g+w");
    node.stop();
    node.start();
    chmod("g-w");
    tree::hand_in(&node.file_dir, b"last", CONTENT);
    assert!(download.log.wait(0, all + 1, LONG, is_delivery), "{:#}", download.status(30));
    assert!(node.log.wait(0, all + 1, LONG, |line| line.contains("handed over")));
    node.until_idle(LONG);
    assert_eq!(download.log.count(is_delivery), all + 1, "{}", download.log.text());
}

#[test]
fn a_source_that_a_failing_script_has_emptied_is_put_aside_until_somebody_decides() {
    let bed = Bed::new();
    let mut central = bed.central("mid", "keep_minutes = 60\n");
    let mut download = bed.download("down", "");
    central.start();
    download.start();
    let breaks = bed.script("breaks", "truncate -s 0 \"$1\"; exit 1");
    let mut node = upload(&bed, "up", &format!("[\"{}\", \"%F\"]", breaks.display()));
    tree::hand_in(&node.file_dir, b"item", CONTENT);
    node.until_reason(LONG, "disputed", "");
    node.stop();
    node.start();
    node.until_reason(LONG, "disputed", "");
    assert_eq!(fs::read(download.file_dir.join("item")).unwrap(), CONTENT);
    assert_eq!(download.log.count(is_delivery), 1);
    // What a user writes there is sent.
    tree::hand_in(&node.file_dir, b"item", b"new");
    assert!(download.log.wait(0, 2, LONG, is_delivery), "{:#}", node.status(20));
    node.until_reason(LONG, "disputed", "");
    assert_eq!(fs::read(download.file_dir.join("item")).unwrap(), b"new");
    // So is what an operator insists on.
    assert!(node.ctl().args(["retry", "item"]).status().unwrap().success());
    assert!(download.log.wait(0, 3, LONG, is_delivery), "{:#}", node.status(20));
    assert_eq!(fs::read(download.file_dir.join("item")).unwrap(), b"");
}

#[test]
fn a_directory_that_lost_its_mount_is_put_aside() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: only root may mount");
        return;
    }
    let bed = Bed::new();
    let mut central = bed.central("mid", "keep_minutes = 60\n");
    let mut download = bed.download("down", "");
    let mut node = bed.upload("up", "settle_seconds = 0\n");
    let usb = node.file_dir.join("usb");
    let mount = Mounted::new(&usb);
    fs::create_dir(usb.join("pictures")).unwrap();
    fs::write(usb.join("pictures/one"), CONTENT).unwrap();
    fs::set_permissions(usb.join("pictures"), fs::Permissions::from_mode(0o755)).unwrap();
    central.start();
    download.start();
    node.start();
    assert!(download.log.wait(0, 1, LONG, is_delivery), "{:#}", node.status(20));
    node.until_idle(LONG);
    drop(mount);
    node.until_reason(LONG, "unmounted", "");
    node.stop();
    node.start();
    node.until_reason(LONG, "unmounted", "");
    assert_eq!(fs::read(download.file_dir.join("usb/pictures/one")).unwrap(), CONTENT);
    assert_eq!(download.log.count(is_delivery), 1);
}

/// A file system in memory, mounted for as long as this lives.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        assert!(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(at).status().unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
