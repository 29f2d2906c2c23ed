//! How a daemon gets on with whoever runs it: the service manager, signals, the command line.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::handover::{Trio, no_errors};
use crate::bed::counted::{Counted, partial};
use crate::bed::node::{Node, signal, wait_for};
use crate::bed::{self, Bed, sshd, tree};

const LONG: Duration = Duration::from_secs(120);
const TOTAL: usize = 48 << 20;

/// Listens until a message is the wanted one; returns all up to it.
fn hear(socket: &UnixDatagram, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error} after {heard:?}"));
        let message = std::str::from_utf8(&buffer[..length]).unwrap().trim_end().to_owned();
        heard.push(message);
        if wanted(heard.last().unwrap()) {
            return heard;
        }
    }
}

#[test]
fn the_service_manager_hears_of_every_step_though_there_is_no_broker() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut node = bed::offline(dir.path(), "upload", "settle_seconds = 0\n");
    node.variables = vec![("NOTIFY_SOCKET", path.display().to_string()), ("WATCHDOG_USEC", "1000000".to_owned())];
    node.start();
    assert_eq!(hear(&socket, |_| true), ["READY=1"]);
    let status = |words: &'static str| move |message: &str| message.starts_with("STATUS=") && message.contains(words);
    let heard = hear(&socket, status("no broker: "));
    let last = heard.last().unwrap();
    assert!(last.starts_with("STATUS=upload alone: nothing to do; no broker: "), "{last}");
    assert!(last.contains("cannot be reached"), "{last}");
    tree::hand_in(&node.file_dir, b"item", b"content");
    hear(&socket, status("upload alone: 1 announced; no broker: "));
    for _ in 0..3 {
        hear(&socket, |message| message == "WATCHDOG=1");
    }
    let (ended, took) = node.stop();
    assert!(ended.success() && took < Duration::from_secs(5), "{ended} after {took:?}");
    hear(&socket, |message| message == "STOPPING=1");
}

/// An entry as the journal takes it: `NAME=VALUE`, or the name, the value's length as 64 bits, and the value.
pub fn entry(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut fields = BTreeMap::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(at) => {
                bytes = rest;
                (&line[..at], &line[at + 1..])
            }
            None => {
                let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
                bytes = &rest[8 + length + 1..];
                (line, &rest[8..8 + length])
            }
        };
        fields.insert(text(name), text(value));
    }
    fields
}

/// What the journal gets until an entry's message has the words, which is the last one.
pub fn entries(socket: &UnixDatagram, words: &str) -> Vec<BTreeMap<String, String>> {
    let (deadline, mut heard) = (Instant::now() + LONG, Vec::new());
    let mut buffer = [0; 8192];
    loop {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {words:?} ({error}) in {heard:?}"));
        heard.push(entry(&buffer[..length]));
        if heard.last().and_then(|fields| fields.get("MESSAGE")).is_some_and(|message| message.contains(words)) {
            return heard;
        }
        assert!(Instant::now() < deadline, "no {words:?} within {LONG:?} in {heard:?}");
    }
}

/// As the service manager has it: stderr is the stream that the variable names, and the journal listens at what is given
/// back.
pub fn in_the_journal(node: &mut Node, dir: &Path) -> UnixDatagram {
    let journal = dir.join("journal");
    fs::create_dir(&journal).unwrap();
    let socket = UnixDatagram::bind(journal.join("socket")).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    node.under = bed::with_mount(&format!(
        "-t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind '{}' /run/systemd/journal \
         && export JOURNAL_STREAM=\"$(stat -L -c %d:%i /proc/self/fd/2)\"",
        journal.display()
    ));
    socket
}

#[test]
fn the_journal_gets_fields_by_which_an_items_story_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = bed::offline(dir.path(), "upload", "settle_seconds = 0\n");
    let socket = in_the_journal(&mut node, dir.path());
    node.child = Some(node.command().spawn().unwrap());
    let hear = |words: &str| entries(&socket, words).pop().unwrap();
    hear("unfinished transfers");
    tree::hand_in(&node.file_dir, "caf\u{e9} 100%.tar".as_bytes(), b"content");
    let fields = hear("settled: file of 7 bytes");
    assert!(fields["MESSAGE"].starts_with("caf\u{e9} 100%.tar: settled: "), "{fields:?}");
    assert_eq!(fields["SYNKLER_ITEM"], "caf\u{e9} 100%25.tar");
    assert_eq!((&*fields["PRIORITY"], &*fields["SYSLOG_IDENTIFIER"]), ("6", "synkler"));
    assert_eq!(node.status(1)["transfers"][0]["id"], fields["SYNKLER_TRANSFER"]);
    let mut stderr = String::new();
    let mut child = node.child.take().unwrap();
    signal(child.id(), "TERM");
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(stderr, "", "nothing is told twice");
}

/// Stops a node, as systemd does, while it moves a large file to where `target` tells; then starts it again.
fn stopped_on_the_way(bed: &Bed, node: &mut Node, target: &Path, rsync: &Counted) {
    let size = || partial(target).and_then(|path| fs::metadata(path).ok()).map_or(0, |meta| meta.len());
    node.expect(0, LONG, &["large", "rsync starts"]);
    assert!(wait_for(LONG, || size() > 6 << 20), "nothing arrives");
    let children = sshd::descendants(node.pid());
    assert!(!children.is_empty());
    let (ended, took) = node.stop();
    assert!(ended.success(), "{ended}");
    assert!(took < Duration::from_secs(5), "stopped after {took:?}");
    let left: Vec<_> = children.into_iter().filter(|pid| sshd::alive(*pid)).collect();
    assert!(left.is_empty(), "{left:?} outlived the daemon");
    assert!(wait_for(LONG, || bed.sshd.running("rsync").is_empty()), "an rsync lives on at the far side");
    let path = partial(target).expect("what has been moved stays");
    let (kept, inode) = (size(), fs::metadata(&path).unwrap().ino());
    assert!(kept > 6 << 20 && kept < TOTAL as u64, "{kept}");
    // At full speed this time.
    node.set(&bed.rsync_opts());
    let mark = node.log.mark();
    node.start();
    let moved = if node.mode == "upload" { "sent to central" } else { "fetched and verified" };
    node.expect(mark, LONG, &["large", moved]);
    let bytes = rsync.moved("large");
    assert!(bytes < TOTAL as u64 - kept + (1 << 20), "{bytes} moved, though {kept} of {TOTAL} were there");
    if node.mode == "upload" {
        let held = partial(target).unwrap();
        assert_eq!(fs::metadata(held).unwrap().ino(), inode, "the same file has been continued");
    }
}

#[test]
fn sigterm_while_it_sends_keeps_what_has_been_sent() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "");
    let rsync = Counted::new(&bed);
    trio.upload.set(&rsync.setting);
    trio.upload.set(&bed.rsync_opts_at("6m"));
    trio.start();
    tree::hand_in(&trio.upload.file_dir, b"large", &tree::noise(1, TOTAL));
    let spool = trio.central.file_dir.clone();
    stopped_on_the_way(&bed, &mut trio.upload, &spool, &rsync);
    trio.handed_over(1, LONG);
    assert!(fs::read(trio.arrived.join("large")).unwrap() == tree::noise(1, TOTAL));
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn sigterm_while_it_fetches_keeps_what_has_been_fetched() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "");
    let rsync = Counted::new(&bed);
    trio.download.set(&rsync.setting);
    trio.download.set(&bed.rsync_opts_at("6m"));
    trio.start();
    tree::hand_in(&trio.upload.file_dir, b"large", &tree::noise(2, TOTAL));
    let staging = trio.download.file_dir.join(".synkler");
    stopped_on_the_way(&bed, &mut trio.download, &staging, &rsync);
    trio.handed_over(1, LONG);
    assert!(fs::read(trio.arrived.join("large")).unwrap() == tree::noise(2, TOTAL));
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn sighup_is_answered_with_a_word_and_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = bed::offline(dir.path(), "central", "");
    node.start();
    signal(node.pid(), "HUP");
    node.expect(0, LONG, &["config reloaded: changed: nothing"]);
    assert_eq!(node.status(1)["node"]["pid"], node.pid());
    let (ended, _) = node.stop();
    assert!(ended.success());
}

#[test]
fn sigint_ends_it_like_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = bed::offline(dir.path(), "download", "");
    node.start();
    signal(node.pid(), "INT");
    assert!(node.child.take().unwrap().wait().unwrap().success());
    node.expect(0, LONG, &["SIGINT: stopping"]);
    assert!(!node.socket.exists(), "the control socket goes with its daemon");
}

fn run(program: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(bed::binaries().join(program)).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn check_tells_the_settings_and_where_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let node = bed::offline(dir.path(), "upload", "password = \"very-hidden\"\n");
    let config = node.config.to_str().unwrap();
    let (code, told, complaints) = run("synkler", &["--config", config, "--check"]);
    assert_eq!((code, complaints.as_str()), (Some(0), ""));
    let line = |key: &str| {
        let found = told.lines().find(|line| line.split(' ').next() == Some(key));
        found.unwrap_or_else(|| panic!("no {key} in\n{told}"))
    };
    assert!(line("mode").contains("upload") && line("mode").contains(config), "{}", line("mode"));
    assert!(line("settle_seconds").contains("default"), "{}", line("settle_seconds"));
    assert!(!told.contains("very-hidden"), "{told}");
    assert!(!dir.path().join("upload-alone/state").exists(), "it only looks");
}

#[test]
fn a_bad_config_ends_with_78_and_names_file_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let node = bed::offline(dir.path(), "central", "settle_second = 1\nkeep_minutes = \"soon\"\n");
    let config = node.config.to_str().unwrap();
    for check in [&["--config", config, "--check"][..], &["-c", config]] {
        let (code, told, complaints) = run("synkler", check);
        assert_eq!((code, told.as_str()), (Some(78), ""), "{complaints}");
        for words in [config, "settle_second", "settle_seconds", "keep_minutes", "soon"] {
            assert!(complaints.contains(words), "no {words} in {complaints}");
        }
    }
    let (code, _, complaints) = run("synkler", &["--config", "/nowhere/synkler.conf"]);
    assert_eq!(code, Some(78));
    assert!(complaints.contains("/nowhere/synkler.conf"), "{complaints}");
}

#[test]
fn help_names_every_option() {
    let expected: [(&str, &[&str]); 2] = [
        ("synkler", &["-c, --config <FILE>", "-v, --verbose", "-d, --debug", "--check", "-V, --version"]),
        ("synklerctl", &["--socket <PATH>", "status", "-V, --version"]),
    ];
    for (program, options) in expected {
        let (code, told, _) = run(program, &["--help"]);
        assert_eq!(code, Some(0));
        for option in options {
            assert!(told.contains(option), "{program}: no {option} in\n{told}");
        }
        assert_eq!(run(program, &["--version"]).1, format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(run(program, &["--nonsense"]).0, Some(2), "a wrong command line is no bad config");
    }
}
