//! Every method against the real daemon, whose broker is not there.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use synkler::control::types::{Filter, Orders, PastFilter, Shown, Status, Transfer};
use synkler::control::{Client, ClientError, Refusal};
use tempfile::TempDir;

use super::bed::node::{Node, wait_for};
use super::bed::{self, tree};
use super::{Raw, control, get_status, user};

const LONG: Duration = Duration::from_secs(60);

/// An upload that knows nobody. A cleanup script of its own would never run.
fn upload(settings: &str) -> (TempDir, Node) {
    let dir = tempfile::Builder::new().prefix("synkler-").tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let node = bed::offline(dir.path(), "upload", &format!("settle_seconds = 0\n{settings}"));
    (dir, node)
}

fn client(node: &Node) -> Client {
    Client::connect(&node.socket).unwrap()
}

fn status(node: &Node) -> Status {
    client(node).status(None, true).unwrap()
}

fn announced(node: &Node, count: u64) {
    let there = || status(node).counts.iter().any(|count_of| count_of.stage == "announced" && count_of.count == count);
    assert!(wait_for(LONG, there), "{:#?}", status(node));
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Refusal {
    match answer {
        Err(ClientError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn done(orders: Result<Orders, ClientError>) -> Vec<(Option<String>, bool)> {
    let orders = orders.unwrap();
    assert!(orders.silent.is_empty(), "{orders:?}");
    assert!(orders.deeds.iter().all(|deed| deed.node == "upload alone" && !deed.text.is_empty()), "{orders:?}");
    orders.deeds.into_iter().map(|deed| (deed.item, deed.done)).collect()
}

fn items(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn what_there_is_is_told() {
    let (_dir, mut node) = upload("");
    node.start();
    for name in ["report-1", "report-2", "re\nport", "caf\u{e9} 100%"] {
        tree::hand_in(&node.file_dir, name.as_bytes(), name.as_bytes());
    }
    announced(&node, 4);

    let whole = client(&node).status(None, false).unwrap();
    assert_eq!((whole.view.whole, whole.view.from.as_str()), (false, "upload alone"));
    assert_eq!(whole.view.why.as_deref(), Some("this node has no session with the broker"));
    assert_eq!(whole.node.file_dir, node.file_dir.to_str().unwrap());
    assert_eq!((whole.total, whole.members.len()), (4, 1));

    let mut after = None;
    let mut listed: Vec<Transfer> = Vec::new();
    for more in [true, true, true, false] {
        let filter = Filter { limit: Some(1), after: after.clone(), here: Some(true), ..Filter::default() };
        let page = client(&node).list(&filter).unwrap();
        assert_eq!((page.transfers.len(), page.total, page.more), (1, 4, more));
        after.clone_from(&page.transfers[0].id);
        listed.extend(page.transfers);
    }
    assert!(listed.is_sorted_by_key(|transfer| transfer.id.clone()));
    for (filter, count) in [
        (Filter { state: Some("waiting".to_owned()), ..Filter::default() }, 4),
        (Filter { state: Some("uploading".to_owned()), ..Filter::default() }, 0),
        (Filter { upload: Some("alone".to_owned()), ..Filter::default() }, 4),
        (Filter { upload: Some("other".to_owned()), ..Filter::default() }, 0),
        (Filter { failed: Some(true), ..Filter::default() }, 0),
    ] {
        let page = client(&node).list(&filter).unwrap();
        assert_eq!((page.total, page.transfers.len()), (count, count as usize), "{filter:?}");
    }

    let first = listed.iter().find(|transfer| transfer.item == "report-1").unwrap();
    let id = first.id.clone().unwrap();
    for text in ["report-1", &id] {
        let journey = client(&node).transfer(text, false).unwrap().journey;
        assert_eq!(journey.transfer.id.as_ref(), Some(&id));
        let [step] = &journey.steps[..] else { panic!("{journey:?}") };
        assert_eq!(
            (step.node.as_str(), step.stage.as_str(), step.md5.as_ref()),
            ("upload alone", "announced", first.md5.as_ref())
        );
        assert_eq!((step.arrived, step.finished), (None, None));
    }
    for text in ["re\\nport", "re%0Aport", "caf", "caf\u{e9} 100%25", "caf\u{e9} 100%"] {
        assert!(client(&node).transfer(text, true).is_ok(), "{text}");
    }
    assert!(matches!(
        refused(client(&node).transfer("report-", false)),
        Refusal::Ambiguous { item, matches } if item == "report-" && matches == ["report-1", "report-2"]
    ));
    assert_eq!(refused(client(&node).transfer("nothing", false)), Refusal::NotFound("nothing".to_owned()));

    let history = client(&node).history(&PastFilter::default()).unwrap();
    assert!(history.entries.is_empty() && !history.more);
}

#[test]
fn a_receipt_is_what_md5sum_reads() {
    let (_dir, mut node) = upload("");
    let workshop = tree::workshop(&node.file_dir);
    let make = "mkdir -p tree/sub 'tree/caf\u{e9}' && printf 1 >\"$(printf 'tree/latin \\351')\" && printf 2 >'tree/sub/a\\b' \
        && printf 3 >'tree/100%' && ln -s 100% tree/link && mv tree \"$1/\" && printf 4 >file && mv file \"$1/\"";
    let made = Command::new("sh").args(["-euc", make, "sh"]).arg(&node.file_dir).current_dir(&workshop).status();
    assert!(made.unwrap().success());
    node.start();
    announced(&node, 2);
    for (item, lines) in [("file", 1), ("tree", 3)] {
        let receipt = client(&node).receipt(item).unwrap();
        assert_eq!(
            (receipt.item.as_str(), receipt.lines.lines().count(), receipt.encoded),
            (item, lines, item == "tree")
        );
        let mut check = Command::new("md5sum");
        let mut check = check
            .args(["--strict", "-c"])
            .current_dir(&node.file_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        check.stdin.take().unwrap().write_all(&receipt.bytes().unwrap()).unwrap();
        let output = check.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.ends_with(": OK")).count(),
            lines
        );
    }
    assert_eq!(refused(client(&node).receipt("nothing")), Refusal::NotFound("nothing".to_owned()));
}

#[test]
fn orders_are_kept_and_say_what_they_did() {
    let (_dir, mut node) = upload("");
    node.start();
    tree::hand_in(&node.file_dir, b"one", b"1");
    tree::hand_in(&node.file_dir, b"two", b"22");
    announced(&node, 2);
    let own = |status: &Status| status.members[0].paused.clone();
    let of = |name: &str| {
        let status = status(&node);
        status.transfers.into_iter().find(|transfer| transfer.item == name).unwrap()
    };

    assert_eq!(done(client(&node).pause(None, false, false)), [(None, true)]);
    let paused = own(&status(&node)).unwrap();
    assert_eq!((paused.by.as_str(), paused.node.as_str()), (user().as_str(), "upload alone"));
    assert_eq!(done(client(&node).pause(Some(&items(&["one"])), false, true)), [(Some("one".to_owned()), true)]);
    assert_eq!(of("one").paused.map(|pause| pause.by), Some(user()));
    assert_eq!(done(client(&node).pause(None, true, false)), [(None, true)]);
    assert_eq!(status(&node).group_paused.map(|pause| pause.by), Some(user()));

    // All three survive what ends a daemon.
    node.kill();
    node.start();
    assert_eq!(own(&status(&node)), Some(paused));
    assert!(status(&node).group_paused.is_some());
    let of = |name: &str| {
        let status = status(&node);
        status.transfers.into_iter().find(|transfer| transfer.item == name).unwrap()
    };
    assert!(of("one").paused.is_some() && of("two").paused.is_none());
    assert_eq!(done(client(&node).resume(None, false)), [(None, true)]);
    assert_eq!(done(client(&node).resume(None, true)), [(None, true)]);
    assert_eq!(done(client(&node).resume(Some(&items(&["one"])), false)), [(Some("one".to_owned()), true)]);
    assert_eq!((own(&status(&node)), status(&node).group_paused, of("one").paused), (None, None, None));

    assert_eq!(done(client(&node).order("Bump", &items(&["two"]))), [(Some("two".to_owned()), true)]);
    let both = done(client(&node).order("Retry", &items(&["one", "tw", &of("two").id.unwrap()])));
    assert_eq!(
        both.iter().filter_map(|(item, _)| item.as_deref()).collect::<std::collections::BTreeSet<_>>(),
        ["one", "two"].into()
    );
    assert_eq!(done(client(&node).order("Withdraw", &items(&["o"]))), [(Some("one".to_owned()), true)]);
    assert_eq!(of("one").stage, "withdrawing");
    assert_eq!(fs::read(node.file_dir.join("one")).unwrap(), b"1", "its source stays");

    assert_eq!(refused(client(&node).order("Withdraw", &items(&["three"]))), Refusal::NotFound("three".to_owned()));
    assert!(
        matches!(refused(client(&node).forget_node("upload", "alone")), Refusal::Refused(why) if why.contains("itself"))
    );
    assert!(
        matches!(refused(client(&node).forget_node("download", "delta")), Refusal::Refused(why) if why.contains("not known yet"))
    );
}

#[test]
fn settings_and_log_level_change_while_it_runs() {
    let (_dir, mut node) = upload("");
    node.start();
    assert_eq!(client(&node).set_log_level("debug").unwrap(), "info");
    assert_eq!(client(&node).set_log_level("trace").unwrap(), "debug");
    assert_eq!(client(&node).set_log_level("info").unwrap(), "trace");

    let nothing = client(&node).reload().unwrap();
    assert!(nothing.changed.is_empty() && nothing.restart.is_empty(), "{nothing:?}");
    node.set("settle_seconds = 86400");
    node.set("transfers = 7");
    node.set("history_days = 7");
    node.set("cleanup_script = \"rm %F\"");
    node.set("username = \"other\"");
    let reload = client(&node).reload().unwrap();
    assert_eq!(reload.changed, ["cleanup_script", "settle_seconds", "transfers", "history_days"]);
    assert_eq!(reload.restart, ["username"]);
    // A file that is still open says that it is new, not that it is complete.
    fs::write(node.file_dir.join("slow"), "x").unwrap();
    assert!(wait_for(LONG, || status(&node).counts.iter().any(|count| count.stage == "settling" && count.count == 1)));
    node.set("settle_seconds = 0");

    // One error, and nothing of it is taken.
    node.set("transfers = 0");
    let refusal = refused(client(&node).reload()).to_string();
    assert!(refusal.contains("nothing has changed") && refusal.contains("transfers"), "{refusal}");
    let mark = node.log.mark();
    bed::node::signal(node.pid(), "HUP");
    node.expect(mark, LONG, &["config not reloaded", "transfers"]);
    node.set("transfers = 7");
    let mark = node.log.mark();
    bed::node::signal(node.pid(), "HUP");
    node.expect(mark, LONG, &["config reloaded: changed: settle_seconds; changed after a restart: username"]);
    fs::write(node.file_dir.join("quick"), "y").unwrap();
    announced(&node, 1);
}

#[test]
fn the_node_is_examined_by_itself() {
    let (_dir, mut node) = upload("");
    node.start();
    let findings = client(&node).check().unwrap();
    let broker = findings.iter().find(|finding| finding.check == "broker").unwrap_or_else(|| panic!("{findings:#?}"));
    assert_eq!(broker.result, "failed");
    assert!(broker.cure.is_some(), "{broker:?}");
    assert!(findings.iter().any(|finding| finding.result == "ok"), "{findings:#?}");
}

/// Every answer of `explain`, on an upload with a level of inboxes.
#[test]
fn an_upload_explains_what_it_makes_of_a_path() {
    let settings = "item_depth = 1\nignore = [\"*.part\", \"old/*\"]\nonly = [\"*.csv\", \"*.part\"]\n";
    let (dir, mut node) = upload(settings);
    let from = node.file_dir.clone();
    fs::create_dir_all(from.join("in/set.csv/deep")).unwrap();
    fs::create_dir_all(from.join("old")).unwrap();
    for name in ["in/a.csv", "in/b.txt", "in/c.part", "in/.d", "in/set.csv/deep/e.part", "old/f.csv", "stray.csv"] {
        fs::write(from.join(name), "x").unwrap();
    }
    let spelled = dir.path().join("link");
    std::os::unix::fs::symlink(&from, &spelled).unwrap();
    node.start();
    let known = || status(&node).transfers.iter().any(|it| it.item == "in/a.csv");
    assert!(wait_for(LONG, known), "{:#?}", status(&node));
    let waits = "ignore has *.part, which matches it: the item in/set.csv waits until the name is gone";
    let part = "a part of the item in/set.csv, which moves as a whole";
    let permanent = "a permanent directory (item_depth = 1): synkler watches it and never moves or removes it";
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("in/a.csv", "item", "an item of this upload", &["in/a.csv"]),
        ("in/gone.csv", "item", "an item of this upload", &["in/gone.csv"]),
        ("in/set.csv/deep/e.part", "inside", waits, &["in/set.csv"]),
        ("in/set.csv/deep", "inside", part, &["in/set.csv"]),
        ("in", "permanent", permanent, &[]),
        ("", "permanent", "file_dir itself: items are 1 level of directories below it (item_depth)", &[]),
        ("in/b.txt", "unwanted", "not an item: no pattern of only matches b.txt", &[]),
        ("in/c.part", "ignored", "not an item: ignore has *.part, which matches c.part", &[]),
        ("old/f.csv", "ignored", "not an item: ignore has old/*, which matches f.csv", &[]),
        ("in/.d", "hidden", "not an item: .d begins with a dot", &[]),
        (".synkler/upload@default", "own", "synkler's own: leave it there", &[]),
        ("stray.csv", "too_high", "waits: items are 1 level further down", &["stray.csv"]),
        ("nowhere", "too_high", "there is no such file now", &["nowhere"]),
    ];
    for (path, verdict, text, items) in cases {
        for asked in [Path::new(path).to_owned(), from.join(path), spelled.join(path)] {
            let told = client(&node).explain(&asked).unwrap();
            assert_eq!((&*told.verdict, &*told.text), (*verdict, *text), "{asked:?}");
            assert_eq!(told.items, *items, "{asked:?}");
        }
    }
    for outside in ["/etc/passwd", "../in", "/"] {
        assert_eq!(client(&node).explain(Path::new(outside)).unwrap().verdict, "outside", "{outside}");
    }
    // A marker is none of these.
    let ready = "marker = \"%f.ok\"\nready = \"marker\"\n";
    let (_dir, mut marked) = upload(ready);
    marked.start();
    for (path, verdict, text) in [
        ("a", "item", "an item of this upload, complete when its marker is there (%f.ok)"),
        ("a.ok", "marker", "the marker of the item a: it says that the item is complete, and goes with it"),
        (".ok", "hidden", "not an item: .ok begins with a dot"),
    ] {
        let told = client(&marked).explain(Path::new(path)).unwrap();
        assert_eq!((&*told.verdict, &*told.text), (verdict, text), "{path}");
    }
    // The program adds the transfer, and who writes.
    let _writer = fs::OpenOptions::new().append(true).open(from.join("in/set.csv/deep/e.part")).unwrap();
    let told = node.ctl().arg("explain").arg(from.join("in/set.csv")).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let writer = format!("process {} (", std::process::id());
    assert!(told.contains(&writer) && told.contains("the directory is not complete"), "{told}");
    let told = node.ctl().args(["explain", "in/b.txt"]).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("not an item: no pattern of only matches b.txt"), "{told}");
}

#[test]
fn a_stream_is_full_first_and_then_tells_what_changes() {
    let (_dir, mut node) = upload("");
    node.start();
    let mut stream = client(&node).monitor(Shown { here: true, ..Shown::default() }).unwrap();
    let first = stream.next().unwrap().unwrap();
    assert!(first.full && first.status.transfers.is_empty());
    let mut shown = first.status.clone();
    tree::hand_in(&node.file_dir, b"one", b"1");
    let mut last = Instant::now();
    while shown.transfers.first().is_none_or(|transfer| transfer.stage != "announced") {
        let update = stream.next().unwrap().unwrap();
        assert!(!update.full && last.elapsed() > Duration::from_millis(800), "{:?}", last.elapsed());
        last = Instant::now();
        update.apply(&mut shown);
    }
    client(&node).order("Withdraw", &items(&["one"])).unwrap();
    let update = stream.next().unwrap().unwrap();
    assert_eq!(
        update.status.transfers.iter().map(|transfer| transfer.stage.as_str()).collect::<Vec<_>>(),
        ["withdrawing"]
    );
    // Another stream begins with everything.
    let other = client(&node).monitor(Shown { limit: Some(0), ..Shown::default() }).unwrap().next().unwrap().unwrap();
    assert!(other.full && other.status.total == 1 && other.status.transfers.is_empty());
    node.kill();
    assert!(stream.next().unwrap().is_err());
    assert!(stream.next().is_none());
}

/// Ends what others do when it is dropped, however that comes.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn hostile_clients_all_at_once_hold_up_nobody() {
    let (_dir, mut node) = upload("");
    node.start();
    for number in 0..200 {
        tree::hand_in(&node.file_dir, format!("{number}-{}", "x".repeat(200)).as_bytes(), b"");
    }
    announced(&node, 200);
    let path = &node.socket;
    let mut kept = Vec::new();
    for _ in 0..8 {
        let mut half = Raw::connect(path);
        half.send(b"{\"method\":");
        let mut oversized = Raw::connect(path);
        oversized.send(&[b'x'; 100_000]);
        let mut never_reading = Raw::connect(path);
        never_reading.0.get_ref().set_write_timeout(Some(Duration::from_millis(10))).unwrap();
        let call = format!("{}\0", control("GetStatus", json!({ "limit": 1000, "here": true }))).repeat(500);
        never_reading.send(call.as_bytes());
        let mut never_listening = Raw::connect(path);
        never_listening.send(b"{\"method\":\"io.synkler.Control.Monitor\",\"more\":true}\0");
        kept.extend([half, oversized, never_reading, never_listening]);
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = Stop(&over);
        for wrong in [json!({ "method": "nonsense" }), get_status(json!({ "limit": [] }))] {
            let over = &over;
            scope.spawn(move || {
                let mut client = Raw::connect(path);
                while !over.load(Ordering::Relaxed) {
                    assert!(client.error(&wrong).0.starts_with("org.varlink.service."));
                }
            });
        }
        let mut client = Client::connect(path).unwrap();
        let mut took = Vec::new();
        for _ in 0..50 {
            let start = Instant::now();
            assert_eq!(client.status(Some(10), true).unwrap().total, 200);
            took.push(start.elapsed());
        }
        drop(stop);
        took.sort();
        println!("median {:?}, slowest {:?}", took[25], took[49]);
        assert!(took[25] < Duration::from_millis(50), "{took:?}");
    });
}

/// `synklerctl` as that user, with these words of `setpriv`.
fn as_user(node: &Node, words: &[&str], arguments: &[&str]) -> Output {
    // The build may be where other users cannot look.
    let program = node.socket.parent().unwrap().join("synklerctl");
    fs::copy(bed::binaries().join("synklerctl"), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(words).arg(&program).arg("--socket").arg(&node.socket).args(arguments);
    command.output().unwrap()
}

#[test]
fn changing_is_for_the_owner_and_the_socket_s_group() {
    let (_dir, mut node) = upload("");
    node.start();
    if !rustix::process::getuid().is_root() {
        // Only root can be another user here; the own one may.
        assert_eq!(done(client(&node).pause(None, false, false)), [(None, true)]);
        return;
    }
    let home = node.socket.parent().unwrap().to_owned();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    let gid = fs::metadata(&node.socket).unwrap();
    let gid = std::os::unix::fs::MetadataExt::gid(&gid).to_string();
    let stranger = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let closed = as_user(&node, &stranger, &["status", "--here"]);
    assert_eq!(closed.status.code(), Some(1), "{closed:?}");
    assert!(String::from_utf8_lossy(&closed.stderr).contains("no permission for the control socket"), "{closed:?}");

    // Even where the socket is open to all, only reading is.
    fs::set_permissions(&node.socket, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(as_user(&node, &stranger, &["status", "--here"]).status.code(), Some(0));
    for order in [
        &["pause"][..],
        &["pause", "--group"],
        &["pause", "x"],
        &["resume"],
        &["retry", "x"],
        &["bump", "x"],
        &["withdraw", "x"],
        &["nodes", "forget", "--yes", "alone"],
        &["log-level", "debug"],
        &["reload"],
    ] {
        let denied = as_user(&node, &stranger, order);
        assert_eq!(denied.status.code(), Some(1), "{order:?}: {denied:?}");
        assert!(
            String::from_utf8_lossy(&denied.stderr).contains("permission denied for this user"),
            "{order:?}: {denied:?}"
        );
    }
    assert_eq!(status(&node).members[0].paused, None);
    let member = format!("--groups={gid}");
    let own_group = format!("--regid={gid}");
    for words in [["--reuid=65534", "--regid=65534", &member], ["--reuid=65534", &own_group, "--clear-groups"]] {
        let paused = as_user(&node, &words, &["pause"]);
        assert_eq!(paused.status.code(), Some(0), "{paused:?}");
        let by = status(&node).members[0].paused.clone().unwrap().by;
        assert_eq!(by, "nobody");
        assert_eq!(done(client(&node).resume(None, false)), [(None, true)]);
    }
}

/// Passes a socket of `kind` at the node's socket's place with `.passed` behind it, as the service manager does.
fn passing(node: &mut Node, kind: &str, pid: &str) -> PathBuf {
    let path = node.socket.with_extension("passed");
    let script = format!(
        "import os, socket, sys\ns = socket.socket(socket.AF_UNIX, socket.{kind})\ns.bind({:?})\n\
         if '{kind}' == 'SOCK_STREAM': s.listen()\nif s.fileno() != 3: os.dup2(s.fileno(), 3)\nos.set_inheritable(3, True)\n\
         os.environ.update(LISTEN_FDS='1', LISTEN_PID={pid})\nos.execv(sys.argv[1], sys.argv[1:])\n",
        path.to_str().unwrap()
    );
    node.under = vec!["python3".to_owned(), "-c".to_owned(), script];
    path
}

#[test]
fn a_passed_socket_is_taken_and_stays() {
    let (_dir, mut node) = upload("");
    let passed = passing(&mut node, "SOCK_STREAM", "str(os.getpid())");
    node.start();
    assert!(!node.socket.exists(), "it has one already");
    let mut direct = BufReader::new(UnixStream::connect(&passed).unwrap());
    direct.get_mut().write_all(b"{\"method\":\"org.varlink.service.GetInfo\"}\0").unwrap();
    let mut reply = Vec::new();
    direct.read_until(0, &mut reply).unwrap();
    assert!(String::from_utf8_lossy(&reply).contains("io.synkler.Control"));
    assert_eq!(done(Client::connect(&passed).unwrap().pause(None, false, false)), [(None, true)]);
    assert!(node.stop().0.success());
    assert!(passed.exists(), "it is the service manager's");

    // Meant for another process: the daemon makes its own.
    fs::remove_file(&passed).unwrap();
    passing(&mut node, "SOCK_STREAM", "'1'");
    node.start();
    assert!(status(&node).members[0].paused.is_some());
    assert!(node.stop().0.success());
    assert!(!node.socket.exists());

    fs::remove_file(&passed).unwrap();
    passing(&mut node, "SOCK_DGRAM", "str(os.getpid())");
    let (code, complaints) = node.refused();
    assert_eq!(code, Some(78), "{complaints}");
    assert!(complaints.contains("cannot use the socket from the service manager"), "{complaints}");
}
