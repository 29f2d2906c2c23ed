//! Permanent directories (`item_depth`): they stay, and what lies in them arrives under its path.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::bed::node::{Node, wait_for};
use crate::bed::{Bed, tree};

const LONG: Duration = Duration::from_secs(180);
const INBOXES: [&str; 3] = ["customerA", "customer B", "-c"];

/// A group whose items move away at both ends.
struct Inboxes {
    upload: Node,
    central: Node,
    download: Node,
    sent: PathBuf,
    arrived: PathBuf,
}

impl Inboxes {
    fn new(bed: &Bed) -> Self {
        let (sent, arrived) = (bed.side("sent"), bed.side("arrived"));
        let moved = |to: &Path| format!("cleanup_move = {to:?}\n");
        let mut inboxes = Self {
            upload: bed.upload("up", &format!("settle_seconds = 0.2\nitem_depth = 1\n{}", moved(&sent))),
            central: bed.central("mid", "keep_minutes = 0\nreceivers = [\"down\"]\n"),
            download: bed.download("down", &moved(&arrived)),
            sent,
            arrived,
        };
        INBOXES.iter().for_each(|inbox| fs::create_dir(inboxes.upload.file_dir.join(inbox)).unwrap());
        inboxes.nodes().into_iter().for_each(Node::start);
        inboxes
    }

    fn nodes(&mut self) -> [&mut Node; 3] {
        [&mut self.central, &mut self.download, &mut self.upload]
    }

    /// Waits until both ends have exactly these files in the directories to which they move.
    fn until_moved(&self, expected: &BTreeMap<PathBuf, Vec<u8>>) {
        let is_over = || files(&self.sent).len() >= expected.len() && files(&self.arrived).len() >= expected.len();
        if !wait_for(LONG, is_over) {
            panic!("not over within {LONG:?}: {:#}\n{:#}", self.upload.status(20), self.download.status(20));
        }
        for dir in [&self.sent, &self.arrived] {
            assert!(files(dir) == *expected, "{}: {:?}", dir.display(), files(dir).keys());
        }
    }
}

/// The content of every file below a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if !path.strip_prefix(dir).unwrap().starts_with(".synkler")
                && !path.to_string_lossy().contains("/.synkler-")
            {
                // Files vanish here only while a cleanup is at work.
                found.extend(fs::read(&path).ok().map(|bytes| (path.strip_prefix(dir).unwrap().to_owned(), bytes)));
            }
        }
    }
    found
}

#[test]
fn five_hundred_items_arrive_under_their_paths_while_everybody_is_killed_and_writers_never_stop() {
    const EACH: usize = 167;
    let bed = Bed::new();
    let mut inboxes = Inboxes::new(&bed);
    let from = inboxes.upload.file_dir.clone();
    let inodes = |dir: &Path| INBOXES.map(|inbox| dir.join(inbox).metadata().unwrap().ino());
    let before = inodes(&from);
    let expected: BTreeMap<PathBuf, Vec<u8>> = (0..INBOXES.len() * EACH)
        .map(|number| {
            let path = Path::new(INBOXES[number % INBOXES.len()]).join(format!("item {number}"));
            (path, tree::noise(number as u64, 3000))
        })
        .collect();
    let written = AtomicUsize::new(0);
    thread::scope(|scope| {
        for inbox in INBOXES {
            let (from, expected, written) = (&from, &expected, &written);
            scope.spawn(move || {
                for (path, content) in expected.iter().filter(|(path, _)| path.starts_with(inbox)) {
                    // As applications do it: in place, in two pieces. It must never fail.
                    let mut options = OpenOptions::new();
                    let file = options.write(true).create_new(true).mode(0o640).open(from.join(path));
                    let mut file = file.unwrap_or_else(|error| panic!("{path:?}: {error}"));
                    file.write_all(&content[..1000]).unwrap();
                    file.write_all(&content[1000..]).unwrap();
                    drop(file);
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Everybody is killed, in turns, while items are at every stage.
        for round in 1..=9 {
            let moved = || files(&inboxes.arrived).len() >= round * expected.len() / 12;
            assert!(wait_for(LONG, moved), "round {round}: {:#}", inboxes.upload.status(20));
            let [central, download, upload] = inboxes.nodes();
            let victim = [upload, central, download].into_iter().nth(round % 3).unwrap();
            victim.kill();
            victim.start();
        }
    });
    assert_eq!(written.into_inner(), expected.len());
    inboxes.until_moved(&expected);
    assert_eq!(inodes(&from), before, "the inboxes were never touched");
    assert_eq!(files(&from), BTreeMap::new());
    inboxes.nodes().into_iter().for_each(|node| node.until_idle(LONG));
    assert_eq!(files(&inboxes.arrived).len(), expected.len(), "nothing arrived twice");
    let ours = || fs::read_dir(&inboxes.download.file_dir).unwrap().flatten().map(|entry| entry.file_name());
    assert!(ours().all(|name| name == ".synkler" || INBOXES.iter().any(|inbox| name == *inbox)), "{:?}", ours());
    for node in inboxes.nodes() {
        assert_eq!(
            node.log.count(|line| line.contains("ERROR")),
            0,
            "{} logged errors:\n{}",
            node.mode,
            node.log.text()
        );
    }
}

#[test]
fn inboxes_come_and_go_and_what_is_none_says_so() {
    let bed = Bed::new();
    let inboxes = Inboxes::new(&bed);
    let from = inboxes.upload.file_dir.clone();
    // The same name in two inboxes, in one batch; a directory; hostile names.
    let mut expected = BTreeMap::new();
    let mut hand_in = |path: &str, content: &[u8]| {
        let path = PathBuf::from(path);
        fs::create_dir_all(from.join(path.parent().unwrap())).unwrap();
        fs::write(from.join(&path), content).unwrap();
        expected.insert(path, content.to_vec());
    };
    hand_in("customerA/one.csv", b"of A");
    hand_in("customer B/one.csv", b"of B");
    hand_in("-c/-rf *", b"options");
    hand_in("new \u{202e}inbox\n/item", b"in a new one");
    hand_in("customerA/set/deep/file", b"below");
    fs::write(from.join("stray"), "beside the inboxes").unwrap();
    symlink("customerA", from.join("link")).unwrap();
    inboxes.until_moved(&expected);
    let high = "the item lies above the level of items (item_depth): move it into a directory";
    inboxes.upload.until_reason(LONG, "too-high", high);
    let shown = inboxes.upload.status(20);
    assert_eq!(shown.to_string().matches("\"too-high\"").count(), 2, "{shown:#}");
    // Moved to where it belongs, it goes.
    fs::rename(from.join("stray"), from.join("customerA/stray")).unwrap();
    fs::remove_file(from.join("link")).unwrap();
    expected.insert("customerA/stray".into(), b"beside the inboxes".to_vec());
    inboxes.until_moved(&expected);
    // An inbox that its owner removes, and makes again.
    fs::remove_dir(from.join("customer B")).unwrap();
    fs::create_dir(from.join("customer B")).unwrap();
    fs::write(from.join("customer B/two.csv"), "again").unwrap();
    expected.insert("customer B/two.csv".into(), b"again".to_vec());
    inboxes.until_moved(&expected);
    inboxes.upload.until_idle(LONG);
    // All three explain what became of it.
    let explain = |node: &Node, path: &Path| {
        let told = node.ctl().args(["--json", "explain"]).arg(path).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&told.stdout).unwrap()
    };
    let up = explain(&inboxes.upload, &from.join("customerA/set/deep/file"));
    assert_eq!(
        (&up["explanation"]["verdict"], &up["transfer"]["journey"]["transfer"]["item"]),
        (&"inside".into(), &"customerA/set".into()),
        "{up:#}"
    );
    let down = explain(&inboxes.download, &inboxes.download.file_dir.join("customer B/two.csv"));
    assert_eq!(
        (&down["explanation"]["verdict"], &down["transfer"]["journey"]["transfer"]["item"]),
        (&"name".into(), &"customer B/two.csv".into())
    );
    let mid = explain(&inboxes.central, Path::new("customerA/one.csv"));
    assert_eq!(
        (&mid["explanation"]["verdict"], &mid["transfer"]["journey"]["transfer"]["stage"]),
        (&"name".into(), &"closed".into()),
        "{mid:#}"
    );
}

#[test]
fn a_file_in_the_place_of_an_inbox_holds_its_items_up_and_nothing_else() {
    let bed = Bed::new();
    let inboxes = Inboxes::new(&bed);
    let (from, to) = (&inboxes.upload.file_dir, &inboxes.download.file_dir);
    fs::write(to.join("customerA"), "of the receiver").unwrap();
    fs::write(from.join("customerA/one"), "1").unwrap();
    fs::write(from.join("-c/two"), "2").unwrap();
    let mut expected = BTreeMap::from([(PathBuf::from("-c/two"), b"2".to_vec())]);
    inboxes.download.until_reason(LONG, "storage", "customerA: it is not a directory");
    inboxes.until_moved(&expected);
    assert_eq!(fs::read_to_string(to.join("customerA")).unwrap(), "of the receiver");
    fs::remove_file(to.join("customerA")).unwrap();
    assert!(inboxes.download.ctl().args(["retry", "customerA/one"]).status().unwrap().success());
    expected.insert("customerA/one".into(), b"1".to_vec());
    inboxes.until_moved(&expected);
    // The test file of an operator needs an inbox, too.
    let told = inboxes.upload.ctl().args(["check", "--canary"]).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("[  ok   ] canary         -c/synkler-canary-up-"), "{told}");
}
