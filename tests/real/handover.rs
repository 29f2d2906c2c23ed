//! Everything that may be sent arrives as it was, both ends are cleaned, and central lets go in time.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bed::Bed;
use crate::bed::node::Node;
use crate::bed::tree::{self, Seen};

const LONG: Duration = Duration::from_secs(180);

/// One upload, one central, one download, with scripts that move what is through to a directory beside.
pub struct Trio {
    pub upload: Node,
    pub central: Node,
    pub download: Node,
    pub sent: PathBuf,
    pub arrived: PathBuf,
}

impl Trio {
    pub fn new(bed: &Bed, central: &str) -> Self {
        let mut trio = Self::resting(bed, central);
        trio.start();
        trio
    }

    /// Not started yet.
    pub fn resting(bed: &Bed, central: &str) -> Self {
        let (sent, arrived) = (bed.side("sent"), bed.side("arrived"));
        let script =
            |to: &Path| format!("cleanup_script = [\"mv\", \"-T\", \"--\", \"%F\", \"{}/%f\"]\n", to.display());
        Self {
            upload: bed.upload("up", &format!("settle_seconds = 0\n{}", script(&sent))),
            central: bed.central("mid", central),
            download: bed.download("down", &script(&arrived)),
            sent,
            arrived,
        }
    }

    pub fn start(&mut self) {
        self.central.start();
        self.download.start();
        self.upload.start();
    }

    /// Waits until `count` transfers are over at upload, and taken away by the download's script.
    pub fn handed_over(&self, count: usize, limit: Duration) {
        for (node, word) in [(&self.upload, "handed over"), (&self.download, "cleanup script succeeded")] {
            if !node.log.wait(0, count, limit, |line| line.contains(word)) {
                panic!("{count} transfers were not over within {limit:?}: {:#}", node.status(20));
            }
        }
    }
}

/// No step may have needed a person.
pub fn no_errors(nodes: &[&Node]) {
    for node in nodes {
        let errors = node.log.count(|line| line.contains("ERROR"));
        assert_eq!(errors, 0, "{} {} logged errors:\n{}", node.mode, node.name, node.log.text());
    }
}

/// What a node's log tells of an item, as `journalctl -o cat SYNKLER_ITEM=...` shows it.
fn story(node: &Node, item: &str) -> Vec<String> {
    let (text, field) = (node.log.text(), format!(" item={item} "));
    let told = text.lines().filter_map(|line| line.split_once(&field)?.0.split_once(" INFO "));
    told.map(|(_, text)| text.to_owned()).collect()
}

/// What the document for operators says that upload, central and download tell.
fn documented_stories() -> [Vec<String>; 3] {
    let document = include_str!("../../docs/operations.md");
    let (_, rest) = document.split_once("journalctl -u synkler -o cat SYNKLER_ITEM=results.tar\n").unwrap();
    let block = rest.split("\n```").next().unwrap();
    let mut stories = block.split("# on ").skip(1).map(|story| story.lines().skip(1).map(str::to_owned).collect());
    [(); 3].map(|()| stories.next().unwrap())
}

fn held_copies(central: &Node) -> usize {
    fs::read_dir(central.file_dir.join("default/held")).map_or(0, Iterator::count)
}

#[test]
fn every_kind_of_item_arrives_as_it_was() {
    let bed = Bed::new();
    let trio = Trio::new(&bed, "keep_minutes = 60\n");
    let from = &trio.upload.file_dir;
    let mut count = 0;
    let mut expected: BTreeMap<PathBuf, Seen> = BTreeMap::new();
    for (number, name) in tree::hostile_names().iter().enumerate() {
        let content = format!("{number}: {name:?}\n");
        let made = tree::workshop(from).join(OsStr::from_bytes(name));
        fs::write(&made, content).unwrap();
        tree::age(&made, number as u64);
        count += 1;
    }
    let workshop = tree::workshop(from);
    fs::write(workshop.join("empty file"), "").unwrap();
    tree::rich_directory(&workshop.join("rich directory"));
    fs::create_dir(workshop.join("empty directory")).unwrap();
    std::os::unix::fs::symlink("nowhere", workshop.join("dangling link")).unwrap();
    count += 4;
    expected.extend(tree::survey(&workshop));
    for entry in fs::read_dir(&workshop).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), from.join(entry.file_name())).unwrap();
    }
    trio.handed_over(count, LONG);
    let arrived = tree::survey(&trio.arrived);
    for (path, seen) in &expected {
        assert_eq!(arrived.get(path), Some(seen), "{path:?}");
    }
    assert_eq!(arrived.len(), expected.len());
    assert_eq!(tree::survey(&trio.sent), expected, "the source's own script has got the very same");
    assert!(tree::survey(from).is_empty(), "the source is free");
    assert!(tree::survey(&trio.download.file_dir).is_empty(), "the destination is free");
    assert_eq!(held_copies(&trio.central), count, "central keeps its copies for keep_minutes");
    assert!(!Path::new("pwned").exists() && !trio.download.file_dir.join("pwned").exists());
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn two_thousand_small_files_and_a_large_one() {
    let bed = Bed::new();
    let trio = Trio::new(&bed, "keep_minutes = 60\n");
    let from = &trio.upload.file_dir;
    let workshop = tree::workshop(from);
    for number in 0..2000 {
        fs::write(workshop.join(format!("small-{number:04}")), tree::noise(number, 500)).unwrap();
    }
    fs::write(workshop.join("large"), tree::noise(99, 300 << 20)).unwrap();
    let expected = tree::survey(&workshop);
    for name in expected.keys() {
        fs::rename(workshop.join(name), from.join(name)).unwrap();
    }
    trio.handed_over(2001, LONG);
    assert!(tree::survey(&trio.arrived) == expected, "every file arrived with its md5, mode and mtime");
    assert!(tree::survey(from).is_empty());
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn central_drops_its_copy_after_keep_minutes_and_not_before() {
    let bed = Bed::new();
    let trio = Trio::new(&bed, "keep_minutes = 0.1\n");
    tree::hand_in(&trio.upload.file_dir, b"results.tar", b"content");
    trio.central.expect(0, LONG, &["results.tar", "all receipts are in"]);
    let released = Instant::now();
    trio.handed_over(1, LONG);
    assert_eq!(held_copies(&trio.central), 1);
    trio.central.expect(0, LONG, &["results.tar", "copy on central deleted"]);
    let kept = released.elapsed();
    assert!(kept >= Duration::from_millis(5900), "dropped after {kept:?} already");
    assert!(kept < Duration::from_secs(20), "dropped after {kept:?} only");
    assert_eq!(held_copies(&trio.central), 0);
    let nodes = [&trio.upload, &trio.central, &trio.download];
    // Central's note of the receipt and the script go on beside each other.
    trio.download.expect(0, LONG, &["results.tar", "central acknowledged the receipt"]);
    let noted = |story: &mut Vec<String>| {
        let at = story.iter().position(|line| line.contains("central acknowledged the receipt")).unwrap();
        assert!(at > story.iter().position(|line| line.contains("delivered")).unwrap());
        story.remove(at)
    };
    for (node, mut told) in nodes.into_iter().zip(documented_stories()) {
        let mut story = story(node, "results.tar");
        if node.mode == "download" {
            assert_eq!(noted(&mut story), noted(&mut told));
        }
        assert_eq!(story, told, "{} {}", node.mode, node.name);
    }
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn an_item_without_a_script_stays_and_is_sent_again_only_when_it_changes() {
    let bed = Bed::new();
    let mut upload = bed.upload("up", "settle_seconds = 0\n");
    let mut central = bed.central("mid", "");
    let mut download = bed.download("down", "");
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    tree::hand_in(&upload.file_dir, b"stays", b"one");
    upload.expect(0, LONG, &["stays", "handed over"]);
    upload.stop();
    let mark = upload.log.mark();
    upload.start();
    tree::hand_in(&upload.file_dir, b"other", b"x");
    upload.expect(mark, LONG, &["other", "handed over"]);
    assert_eq!(download.log.count(|line| line.contains("stays") && line.contains("delivered")), 1);
    // The new content replaces what synkler itself put there, and nothing else would.
    tree::hand_in(&upload.file_dir, b"stays", b"two");
    assert!(
        upload.log.wait(0, 2, LONG, |line| line.contains("stays") && line.contains("handed over")),
        "the second content was not handed over"
    );
    assert_eq!(fs::read(download.file_dir.join("stays")).unwrap(), b"two");
    no_errors(&[&upload, &central, &download]);
}
