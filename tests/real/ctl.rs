//! `synklerctl` on the hosts of a real group.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::bed::node::{Node, wait_for};
use crate::bed::{Bed, tree};
use crate::screen::Screen;

const LONG: Duration = Duration::from_secs(120);

struct Trio {
    upload: Node,
    central: Node,
    download: Node,
    bed: Bed,
}

impl Trio {
    fn start() -> Self {
        let bed = Bed::new();
        let cleanup = |side: &Path| format!("cleanup_script = \"mv %F {}/\"\n", side.display());
        let settings = format!("settle_seconds = 0\n{}", cleanup(&bed.side("sent")));
        let upload = bed.upload("alpha", &settings);
        let central = bed.central("hub", "keep_minutes = 0\nreceivers = [\"delta\"]\n");
        let download = bed.download("delta", "");
        let mut trio = Self { upload, central, download, bed };
        for node in [&mut trio.upload, &mut trio.central, &mut trio.download] {
            node.start();
        }
        for node in [&trio.upload, &trio.central, &trio.download] {
            let alive = |status: &Value| {
                status["members"].as_array().unwrap().iter().filter(|member| member["alive"] == true).count()
            };
            assert!(wait_for(LONG, || {
                let (code, text) = run(node, &["status", "--json"]);
                code == Some(0) && alive(&serde_json::from_str(&text).unwrap()) == 3
            }));
        }
        trio
    }
}

/// How it ended, and what it said on stdout or else on stderr.
fn run(node: &Node, arguments: &[&str]) -> (Option<i32>, String) {
    let output = node.ctl().args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// What it said, having done what it was asked for.
fn done(node: &Node, arguments: &[&str]) -> String {
    let (code, text) = run(node, arguments);
    assert_eq!(code, Some(0), "{} {arguments:?}: {text}", node.name);
    text
}

/// Waits until what it says is as wanted.
fn until(node: &Node, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let told = std::cell::RefCell::new(&mut text);
    let came = wait_for(LONG, || {
        let (_, now) = run(node, arguments);
        let as_wanted = wanted(&now);
        **told.borrow_mut() = now;
        as_wanted
    });
    assert!(came, "{} {arguments:?}: {text}", node.name);
    text
}

#[test]
fn an_operator_sees_and_steers_from_any_host() {
    let mut trio = Trio::start();
    let (upload, central, download) = (&trio.upload, &trio.central, &trio.download);

    // Paused on the one that fetches: everything waits, and every node says why.
    assert!(done(download, &["pause"]).starts_with("download delta: "));
    for name in ["results.tar", "run-42", "naïve 100%"] {
        tree::hand_in(&upload.file_dir, name.as_bytes(), name.as_bytes());
    }
    for node in [upload, central, download] {
        let text = until(node, &["status"], |text| text.contains("3 paused") && text.contains("paused by an operator"));
        assert!(text.contains("download delta") && !text.contains("incomplete"), "{text}");
        let list = done(node, &["list", "--state", "paused", "--from", "alpha"]);
        assert_eq!(list.lines().count(), 4, "{list}");
        let journey = done(node, &["status", "results"]);
        for line in ["● upload alpha: received", "● central hub: held", "● download delta: wanted", ", as announced"]
        {
            assert!(journey.contains(line), "{journey}");
        }
        let nodes = done(node, &["nodes"]);
        assert!(nodes.contains("download delta") && nodes.contains("paused"), "{nodes}");
        assert!(done(node, &["version"]).contains(", running"));
    }
    assert_eq!(run(upload, &["status", "nothing"]).0, Some(1));
    assert_eq!(run(upload, &["nodes", "forget", "delta", "--yes"]).0, Some(1), "it is alive");

    // One goes on alone? No: the node is paused. One is given up, the others go on.
    let withdrawn = done(central, &["withdraw", "results.tar"]);
    assert!(withdrawn.contains("upload alpha: results.tar: "), "{withdrawn}");
    done(upload, &["pause", "run-42"]);
    done(download, &["resume"]);
    until(upload, &["history", "--item", "naïve 100%"], |text| text.contains("naïve 100%"));
    let text = done(download, &["status", "run-42"]);
    assert!(text.contains("paused") && text.contains("on upload alpha"), "{text}");
    done(download, &["resume", "run-42"]);
    until(download, &["list"], |text| text.starts_with("no matching transfers"));
    assert!(upload.file_dir.join("results.tar").exists(), "the source of what was given up stays");
    assert!(!download.file_dir.join("results.tar").exists());

    // The proof, where the item is.
    let history = done(download, &["history", "--since", "1h", "--json"]);
    assert_eq!(history.lines().filter(|line| line.contains("\"closed\"")).count(), 2, "{history}");
    let receipt = done(download, &["receipt", "run-42"]);
    let mut md5sum = Command::new("md5sum");
    md5sum.args(["--check", "--strict"]).current_dir(&download.file_dir).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = md5sum.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), receipt.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{receipt}");

    assert_eq!(done(upload, &["log-level", "debug"]), "log level debug, was info\n");
    central.set("keep_minutes = 0.5");
    assert_eq!(done(central, &["reload"]), "  Changed: keep_minutes\n");

    // Without central, the others say what they know, and that it is not all.
    trio.central.kill();
    for node in [&trio.upload, &trio.download] {
        let (code, text) = run(node, &["status"]);
        assert!(code == Some(4) && text.contains("View: incomplete: "), "{text}");
        assert_eq!(run(node, &["status", "--here"]).0, Some(0));
    }
    let (code, text) = run(&trio.central, &["status"]);
    assert!(code == Some(3) && text.contains("start it with: systemctl start synkler"), "{text}");
}

#[test]
fn a_canary_travels_through_the_whole_group() {
    let trio = Trio::start();
    let (code, text) = run(&trio.upload, &["check", "--canary"]);
    let canary: Vec<_> = text.lines().filter(|line| line.contains("] canary ")).collect();
    assert!(canary.len() == 1 && canary[0].starts_with("[  ok   ] canary"), "{code:?} {text}");
    let steps = text.lines().filter(|line| line.starts_with("          ") && line.contains(": ")).count();
    assert!(steps >= 2, "its steps are told: {text}");
    assert!(tree::survey(&trio.upload.file_dir).is_empty(), "nothing stays where it started");
    assert!(fs::read_dir(trio.bed.side("sent")).unwrap().count() <= 1);
    let (_, text) = run(&trio.download, &["check", "--canary"]);
    assert!(text.contains("[skipped] canary"), "{text}");
    let (_, json) = run(&trio.download, &["check", "--json"]);
    let findings: Value = serde_json::from_str(&json).unwrap();
    assert!(findings["findings"].as_array().unwrap().len() > 5, "{json}");
}

#[test]
fn without_its_daemon_a_node_is_examined_all_the_same() {
    let bed = Bed::new();
    let upload = bed.upload("alpha", "settle_seconds = 0\n");
    let output = upload.ctl().arg("check").env("SYNKLER_CONF", &upload.config).stdin(Stdio::null()).output().unwrap();
    let (text, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(text.contains("[  ok   ] file-dir"), "{text} {said}");
    assert!(said.contains("no daemon answers") && said.contains("runs the checks instead"), "{said}");
    assert!(matches!(output.status.code(), Some(1 | 3)), "{text}");
}

#[test]
fn the_live_view_outlives_its_daemon() {
    let mut trio = Trio::start();
    let mut screen = Screen::start(trio.upload.ctl().arg("watch"), 30, 110);
    screen.until("the first answer", |text| text.contains("● download delta"));
    done(&trio.download, &["pause"]);
    tree::hand_in(&trio.upload.file_dir, b"one.txt", b"one");
    screen
        .until("the item and why it waits", |text| text.contains("one.txt") && text.contains("paused by an operator"));
    trio.upload.stop();
    screen.until("the loss", |text| text.contains("trying again"));
    trio.upload.start();
    screen.until("the daemon again", |text| !text.contains("trying again") && text.contains("one.txt"));
    done(&trio.download, &["resume"]);
    screen.until("the end", |text| text.contains("none unfinished"));
    screen.press("q");
    assert_eq!(screen.end().code(), Some(0));
    assert!(screen.is_restored());
}
