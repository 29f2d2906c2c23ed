//! What files have beside content and permission bits (`keep`): hard links, extended attributes, ACLs and holes.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};

use super::mounts::{can_mount, exfat};
use super::view::client;
use crate::bed::Bed;
use crate::bed::node::{Node, wait_for};

const LONG: Duration = Duration::from_secs(120);
const ALL: &str = "keep = [\"hardlinks\", \"xattrs\", \"acls\", \"sparse\"]\n";
const ACL: &str = "system.posix_acl_access";
const DEFAULT_ACL: &str = "system.posix_acl_default";
/// `u::rw-,u:123:r--,g::r--,m::r--,o::---` in the form of the kernel, and with another user.
const SOME: [u8; 44] = acl(123);
const OTHER: [u8; 44] = acl(77);

const fn acl(user: u8) -> [u8; 44] {
    let mut acl = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4,
        0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
    ];
    acl[16] = user;
    acl
}

struct Trio {
    upload: Node,
    central: Node,
    download: Node,
}

impl Trio {
    fn new(bed: &Bed, lines: &str) -> Self {
        Self {
            upload: bed.upload("up", &format!("settle_seconds = 0\n{lines}")),
            central: bed.central("mid", "keep_minutes = 0\nreceivers = [\"down\"]\n"),
            download: bed.download("down", ""),
        }
    }

    /// After what is to be sent is there, so that nothing is seen half made.
    fn start(&mut self) {
        [&mut self.central, &mut self.download, &mut self.upload].into_iter().for_each(Node::start);
    }

    fn until_arrived(&self, name: &str) -> PathBuf {
        let said = |line: &str| line.contains(": delivered item=") && line.contains(&format!("item={name} "));
        assert!(self.download.log.wait(0, 1, LONG, said), "{name}: {:#}", self.upload.status(20));
        self.download.file_dir.join(name)
    }

    /// The remark of a finished item, as its journey shows it on central.
    fn remark(&self, name: &str) -> String {
        let transfer = || client(&self.central).transfer(name, false).ok().map(|told| told.journey.transfer);
        let is_closed = || transfer().is_some_and(|transfer| transfer.stage == "closed");
        assert!(wait_for(LONG, is_closed), "{:#?}\n{}", transfer(), self.central.log.text());
        transfer().and_then(|transfer| transfer.remark).unwrap_or_default()
    }

    fn receipt(&self, name: &str) -> String {
        let told = self.download.ctl().args(["receipt", name]).output().unwrap();
        String::from_utf8(told.stdout).unwrap()
    }
}

/// An item with everything, two of it in each directory, so that a list would show what belongs to which.
fn make(item: &Path) {
    fs::create_dir_all(item.join("sub")).unwrap();
    fs::write(item.join("one"), "linked").unwrap();
    fs::hard_link(item.join("one"), item.join("sub/another")).unwrap();
    fs::write(item.join("alone"), "linked").unwrap();
    for (path, value) in [("one", "a"), ("sub", "b"), ("", "c")] {
        setxattr(item.join(path), "user.origin", value.as_bytes(), XattrFlags::empty()).unwrap();
    }
    let sparse = File::create(item.join("sub/holes")).unwrap();
    sparse.write_all_at(b"end", 8 << 20).unwrap();
    sparse.sync_all().unwrap();
    for (path, name, value) in [("one", ACL, &SOME), ("sub/holes", ACL, &OTHER), ("sub", DEFAULT_ACL, &SOME)] {
        setxattr(item.join(path), name, value, XattrFlags::empty()).unwrap();
    }
}

/// Attributes and ACLs, the number of names, and the allocated blocks of a file with holes.
type Extras = (BTreeMap<String, Vec<u8>>, u64, u64);

/// Those of everything in an item.
fn extras(item: &Path) -> BTreeMap<String, Extras> {
    let mut found = BTreeMap::new();
    for path in ["", "one", "alone", "sub", "sub/another", "sub/holes"] {
        let at = item.join(path);
        let mut names = vec![0; 65536];
        let length = listxattr(&at, &mut *names).unwrap();
        let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let attributes = names.map(|name| {
            let mut value = vec![0; 65536];
            let length = getxattr(&at, CString::new(name).unwrap(), &mut *value).unwrap();
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        });
        let stat = at.symlink_metadata().unwrap();
        let links = if stat.is_file() { stat.nlink() } else { 0 };
        let blocks = if path.ends_with("holes") { stat.blocks() } else { 0 };
        found.insert(path.to_owned(), (attributes.collect(), links, blocks));
    }
    found
}

#[test]
fn all_that_is_asked_for_arrives_and_is_proven() {
    let bed = Bed::new();
    let mut trio = Trio::new(&bed, &format!("{ALL}transfers = 1\n"));
    for name in ["tree", "other"] {
        make(&trio.upload.file_dir.join(name));
    }
    // Another name of a file of another item is no link inside one.
    fs::hard_link(trio.upload.file_dir.join("tree/one"), trio.upload.file_dir.join("name")).unwrap();
    trio.start();
    for name in ["tree", "other"] {
        let arrived = trio.until_arrived(name);
        let mut wanted = extras(&trio.upload.file_dir.join(name));
        for path in ["one", "sub/another"] {
            wanted.get_mut(path).unwrap().1 = 2;
        }
        assert_eq!(extras(&arrived), wanted, "{name}");
        assert_eq!(trio.remark(name), "", "{}", trio.download.log.text());
    }
    let name = trio.until_arrived("name");
    assert_eq!(name.metadata().unwrap().nlink(), 1);
    assert_eq!(trio.remark("name"), "");
}

#[test]
fn what_is_not_asked_for_is_said_once() {
    let bed = Bed::new();
    let mut trio = Trio::new(&bed, "keep = \"xattrs\"\n");
    make(&trio.upload.file_dir.join("tree"));
    fs::write(trio.upload.file_dir.join("plain"), "x").unwrap();
    trio.start();
    let arrived = extras(&trio.until_arrived("tree"));
    assert_eq!(arrived["one"].0.keys().collect::<Vec<_>>(), ["user.origin"]);
    assert_eq!((arrived["one"].1, arrived["sub"].0.len()), (1, 1));
    let text = "not carried: hard links (2 entries), ACLs (4 entries), holes (1 entry)";
    assert_eq!(trio.remark("tree"), text);
    assert_eq!(trio.receipt("tree").matches(text).count(), 1, "{}", trio.receipt("tree"));
    for node in [&trio.upload, &trio.central, &trio.download] {
        let shown = node.ctl().args(["status", "tree"]).env("COLUMNS", "200").output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(shown.matches("not carried").count(), 1, "{shown}");
    }
    assert_eq!(trio.upload.log.count(|line| line.contains(text)), 1);
    trio.until_arrived("plain");
    assert_eq!(trio.remark("plain"), "");
}

#[test]
fn what_a_file_system_cannot_keep_is_reported_and_stops_nothing() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let mut trio = Trio::new(&bed, ALL);
    let _mount = exfat(&bed, &trio.download.file_dir);
    make(&trio.upload.file_dir.join("tree"));
    trio.start();
    let arrived = trio.until_arrived("tree");
    assert_eq!(fs::read(arrived.join("sub/another")).unwrap(), b"linked");
    let lost = "hard links differ: announced for 2 entries, found for 0, extended attributes differ: announced for 4 entries, \
                found for 0, ACLs differ: announced for 4 entries, found for 0 (fuse)";
    let remark = trio.remark("tree");
    assert!(remark.starts_with("down: modes differ in ") && remark.ends_with(&format!("; {lost}")), "{remark}");
    assert_eq!(trio.download.log.count(|line| line.contains("WARN") && line.contains(lost)), 1);
    // One run was enough.
    assert_eq!(trio.upload.log.count(|line| line.contains("central requests the item")), 1);
    assert_eq!(trio.download.log.count(|line| line.contains("rsync starts")), 1, "{}", trio.download.log.text());
}

#[test]
fn a_spool_that_cannot_keep_it_passes_the_rest_on() {
    if !can_mount() {
        return;
    }
    let bed = Bed::new();
    let mut trio = Trio::new(&bed, ALL);
    let _mount = exfat(&bed, &trio.central.file_dir);
    make(&trio.upload.file_dir.join("tree"));
    trio.start();
    let arrived = trio.until_arrived("tree");
    assert_eq!(fs::read(arrived.join("sub/another")).unwrap(), b"linked");
    let remark = trio.remark("tree");
    let lost = "on central: extended attributes differ: announced for 4 entries, found for 0, ACLs differ: announced for 4 \
                entries, found for 0 (fuse)";
    assert!(remark.starts_with("not carried: hard links (2 entries); ") && remark.contains(lost), "{remark}");
    trio.upload.expect(0, LONG, &["WARN", "central cannot keep hard links"]);
    assert_eq!(trio.upload.log.count(|line| line.contains("central requests the item")), 1);
}
