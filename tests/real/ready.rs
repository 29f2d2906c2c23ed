//! Items that count as complete only when somebody says so (`ready`): by a marker, or by submitting them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bed::node::{Node, wait_for};
use crate::bed::{Bed, tree};

const LONG: Duration = Duration::from_secs(180);

struct Trio {
    upload: Node,
    central: Node,
    download: Node,
}

impl Trio {
    /// An upload with these lines, and a central and a download that are running.
    fn new(bed: &Bed, lines: &str) -> Self {
        let mut trio = Self {
            upload: bed.upload("up", &format!("settle_seconds = 0\n{lines}")),
            central: bed.central("mid", "keep_minutes = 0\nreceivers = [\"down\"]\n"),
            download: bed.download("down", ""),
        };
        [&mut trio.central, &mut trio.download, &mut trio.upload].into_iter().for_each(Node::start);
        trio
    }

    fn file(&self, name: &str) -> PathBuf {
        self.upload.file_dir.join(name)
    }

    fn until_arrived(&self, name: &str, content: &str) {
        let path = self.download.file_dir.join(name);
        let is_there = || fs::read_to_string(&path).is_ok_and(|found| found == content);
        assert!(wait_for(LONG, is_there), "{name}: {:#}", self.upload.status(20));
    }

    /// The log of the upload says this of the item, after the mark.
    fn until_said(&self, mark: usize, name: &str, words: &str) {
        let said = |line: &str| line.contains(name) && line.contains(words);
        assert!(self.upload.log.wait(mark, 1, LONG, said), "{words}: {}", self.upload.log.text());
    }

    /// What `synklerctl submit` answers, and whether it succeeded.
    fn submit(&self, arguments: &[&str], path: &Path) -> (bool, String) {
        let told = self.upload.ctl().arg("submit").args(arguments).arg(path).env("COLUMNS", "1000").output().unwrap();
        let text = [told.stdout, told.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (told.status.success(), text)
    }

    fn refuses(&self, arguments: &[&str], path: &Path, words: &str) {
        let (done, text) = self.submit(arguments, path);
        assert!(!done && text.contains(words), "{path:?}: {text}");
    }

    fn accepts(&self, arguments: &[&str], path: &Path) {
        let (done, text) = self.submit(arguments, path);
        assert!(done && text.contains("submitted: the upload sends it"), "{path:?}: {text}");
    }

    fn explain(&self, path: &Path) -> (String, String) {
        let told = self.upload.ctl().args(["--json", "explain"]).arg(path).output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        let field = |name: &str| told["explanation"][name].as_str().unwrap().to_owned();
        (field("verdict"), field("text"))
    }

    fn delivered(&self) -> usize {
        self.download.log.count(|line| line.contains(": delivered item="))
    }
}

/// Opens the file once more, as writers do that no lease can show.
fn append(path: &Path, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn an_item_waits_for_its_marker_which_goes_with_it() {
    let bed = Bed::new();
    let mut trio = Trio::new(&bed, &format!("ready = \"marker\"\ncleanup_move = {:?}\n", bed.side("sent")));
    let missing = "waiting for the marker of the item (ready): a.done is missing";
    append(&trio.file("a"), "one half");
    trio.until_said(0, "item=a", missing);
    trio.upload.until_reason(LONG, "unmarked", missing);
    // The daemon is killed meanwhile, and the next one must not take the half either.
    trio.upload.kill();
    let mark = trio.upload.log.mark();
    trio.upload.start();
    trio.until_said(mark, "item=a", missing);
    append(&trio.file("a"), " and the other");
    append(&trio.file("a.done"), "");
    trio.until_arrived("a", "one half and the other");
    let is_gone = |name: &str| !trio.file(name).exists();
    assert!(wait_for(LONG, || is_gone("a") && is_gone("a.done")));

    // The marker of an earlier content says nothing of a later one.
    let mark = trio.upload.log.mark();
    append(&trio.file("b.done"), "");
    assert_eq!(trio.explain(&trio.file("b.done")).0, "marker");
    // A tick of the file system's clock has to pass between the two.
    let ctime = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        let found = trio.file(name).metadata().unwrap();
        (found.ctime(), found.ctime_nsec())
    };
    assert!(wait_for(LONG, || {
        let _ = fs::remove_file(trio.file("b"));
        append(&trio.file(".clock"), "");
        ctime(".clock") > ctime("b.done")
    }));
    append(&trio.file("b"), "half");
    trio.until_said(mark, "item=b", "b.done is older than the last change of the item");
    append(&trio.file("b"), " and half");
    append(&trio.file("b.done"), "again");
    append(&trio.file("b.done"), "and again");
    trio.until_arrived("b", "half and half");
    assert!(wait_for(LONG, || !trio.file("b").exists() && !trio.file("b.done").exists()));

    // A marker for nothing is nothing, and an order does without one.
    append(&trio.file("c.done"), "");
    append(&trio.file("d"), "without");
    trio.upload.until_reason(LONG, "unmarked", "d.done is missing");
    assert!(trio.upload.ctl().args(["retry", "d"]).status().unwrap().success());
    trio.until_arrived("d", "without");
    trio.upload.until_idle(LONG);
    assert!(trio.file("c.done").exists());
    assert_eq!(trio.delivered(), 3, "{}", trio.download.log.text());
    let told = trio.upload.ctl().args(["check", "--canary"]).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("[  ok   ] canary"), "{told}");
}

#[test]
fn a_marker_may_lie_in_the_directory_or_be_hidden_beside_it() {
    let bed = Bed::new();
    let trio = Trio::new(&bed, "ready = \"marker\"\nmarker = \"%f/.complete\"\n");
    fs::create_dir(trio.file("set")).unwrap();
    append(&trio.file("set/x"), "x");
    append(&trio.file("file"), "never complete");
    trio.upload.until_reason(LONG, "unmarked", "set/.complete is missing");
    trio.upload.until_reason(LONG, "unmarked", "file/.complete is missing");
    append(&trio.file("set/y"), "y");
    append(&trio.file("set/.complete"), "");
    trio.until_arrived("set/x", "x");
    trio.until_arrived("set/y", "y");
    trio.until_arrived("set/.complete", "");
    assert!(wait_for(LONG, || trio.delivered() == 1));

    let bed = Bed::new();
    let trio = Trio::new(&bed, "item_depth = 1\nready = \"marker\"\nmarker = \".ready-%f\"\n");
    fs::create_dir(trio.file("in")).unwrap();
    append(&trio.file("in/a"), "a");
    trio.upload.until_reason(LONG, "unmarked", ".ready-a is missing");
    append(&trio.file("in/.ready-a"), "");
    assert_eq!(trio.explain(&trio.file("in/.ready-a")).0, "marker");
    trio.until_arrived("in/a", "a");
    trio.upload.until_idle(LONG);
    // Without a cleanup both stay.
    assert!(trio.file("in/a").exists() && trio.file("in/.ready-a").exists());
    assert_eq!(trio.delivered(), 1);
}

#[test]
fn only_what_is_submitted_is_sent() {
    let bed = Bed::new();
    let mut trio = Trio::new(&bed, "ready = \"submit\"\n");
    for name in ["x", "y", "part/of"] {
        fs::create_dir_all(trio.file(name).parent().unwrap()).unwrap();
        append(&trio.file(name), name);
    }
    // Before the watch can have seen the last one.
    trio.accepts(&[], &trio.file("part"));
    trio.until_arrived("part/of", "part/of");
    // By its name below file_dir.
    trio.accepts(&[], Path::new("x"));
    trio.until_arrived("x", "x");
    trio.upload.until_idle(LONG);
    assert_eq!((trio.delivered(), trio.download.file_dir.join("y").exists()), (2, false));
    assert!(trio.explain(&trio.file("y")).1.contains("sent when synklerctl submit names it"));

    let elsewhere = bed.side("elsewhere");
    append(&elsewhere.join("z"), "moved");
    symlink(elsewhere.join("z"), trio.file("out")).unwrap();
    trio.refuses(&[], &trio.file("x"), "this content was handed over already");
    trio.refuses(&[], &elsewhere.join("z"), "--move moves it there first");
    trio.refuses(&[], &trio.file("out"), "a link that leads out of file_dir");
    trio.refuses(&[], &trio.file("part/of"), "a part of the item part");
    trio.refuses(&[], &trio.file("nothing"), "there is no such file");
    trio.refuses(&[], &trio.upload.file_dir, "file_dir itself");
    // Moved in by a rename, and nothing else.
    append(&elsewhere.join("y"), "another");
    trio.refuses(&["--move"], &elsewhere.join("y"), "exists");
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    append(&shm.path().join("far"), "far");
    trio.refuses(&["--move"], &shm.path().join("far"), "is on another file system");
    assert!(elsewhere.join("y").exists() && shm.path().join("far").exists());
    // What was moved before another cannot be is submitted.
    let mut several = trio.upload.ctl();
    let several =
        several.args(["submit", "--move"]).args(["z", "y"].map(|name| elsewhere.join(name))).output().unwrap();
    let text = [several.stdout, several.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(!several.status.success() && text.contains("z: submitted: the upload sends it"), "{text}");
    assert!(text.contains("cannot move ") && text.contains("exists"), "{text}");
    trio.until_arrived("z", "moved");

    // What is being sent; and what changes before central has it, which nobody has submitted.
    let (exit, _) = trio.central.stop();
    assert!(exit.success());
    let mark = trio.upload.log.mark();
    trio.accepts(&[], &trio.file("y"));
    trio.until_said(mark, "item=y", "settled: file");
    trio.refuses(&[], &trio.file("y"), "it is being sent");
    append(&trio.file("y"), " and more");
    trio.until_said(mark, "item=y", "cancelled before it was sent");
    trio.upload.until_reason(LONG, "unsubmitted", "it has changed since it was submitted");
    trio.accepts(&[], &trio.file("y"));
    trio.central.start();
    trio.until_arrived("y", "y and more");

    // A submission of what somebody still writes outlives the daemon.
    let mark = trio.upload.log.mark();
    let mut open = OpenOptions::new().create(true).append(true).open(trio.file("open")).unwrap();
    open.write_all(b"one ").unwrap();
    trio.accepts(&[], &trio.file("open"));
    trio.upload.until_reason(LONG, "busy", "a process has the file open for writing");
    trio.refuses(&[], &trio.file("open"), "it is submitted already");
    trio.upload.kill();
    open.write_all(b"two").unwrap();
    trio.upload.start();
    trio.upload.until_reason(LONG, "busy", "a process has the file open for writing");
    drop(open);
    trio.until_arrived("open", "one two");
    trio.until_said(mark, "item=open", "settled: file of 7 bytes");
    trio.upload.until_idle(LONG);
    assert_eq!(trio.delivered(), 5, "{}", trio.download.log.text());
    let told = trio.upload.ctl().args(["check", "--canary"]).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("[  ok   ] canary"), "{told}");
}

#[test]
fn submit_is_for_uploads_that_wait_for_it() {
    let bed = Bed::new();
    let trio = Trio::new(&bed, "");
    let noise = tree::noise(1, 10);
    fs::write(bed.side("elsewhere").join("a"), noise).unwrap();
    trio.refuses(&["--move"], &bed.side("elsewhere").join("a"), "refused: ready is settled");
    assert!(bed.side("elsewhere").join("a").exists());
    let told = trio.download.ctl().args(["submit", "a"]).output().unwrap();
    assert!(!told.status.success());
}
