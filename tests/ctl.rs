//! `synklerctl` as people and scripts meet it: the real program, its verbs, exit codes and terminal.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "texts/group.rs"]
mod group;
mod node;
#[path = "ctl/peer.rs"]
mod peer;
#[path = "support/screen.rs"]
mod screen;
#[path = "ctl/watch.rs"]
mod watch;
#[path = "ctl/zones.rs"]
mod zones;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use node::{Daemon, crowded, idle, status};
use peer::{Peer, error};
use screen::Screen;
use serde_json::{Value, json};
use synkler::control::Limits;
use synkler::control::types::{Past, Status, Transfer};

fn synklerctl(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synklerctl"));
    command.arg("--socket").arg(socket).args(arguments).env_remove("COLUMNS").env("TZ", "UTC").stdin(Stdio::null());
    command
}

fn run(socket: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = synklerctl(socket, arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn the_program_shows_the_node_as_text_and_as_json() {
    let daemon = Daemon::start(crowded(20_000), Limits::default());
    let (code, text, complaints) = run(&daemon.path, &["status"]);
    assert_eq!((code, complaints.as_str()), (Some(0), ""));
    assert!(text.starts_with("● upload alpha, group default\n"), "{text}");
    assert!(text.ends_with("… and 19900 more\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "no terminal, so 80 wide");
    assert!(!text.contains('\x1b'), "no terminal, so no colour");

    let (code, text, complaints) = run(&daemon.path, &["status", "--json", "--limit", "2"]);
    assert_eq!((code, complaints.as_str()), (Some(0), ""));
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["total"], 20_000);
    assert_eq!(json["transfers"].as_array().unwrap().len(), 2);
    let status: Status = serde_json::from_value(json).unwrap();
    assert_eq!(status.node.name, "alpha");

    let mut wide = synklerctl(&daemon.path, &["status"]);
    let output = wide.env("COLUMNS", "200").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("  WHY\n"));
}

/// From its start to its end, answer and all; the best of as many as it takes within a minute, because others want the
/// processor too.
#[test]
fn it_takes_less_than_twenty_milliseconds() {
    let daemon = Daemon::start(idle(), Limits::default());
    let took = |arguments: &[&str]| {
        let mut command = synklerctl(&daemon.path, arguments);
        let began = Instant::now();
        assert!(command.output().unwrap().status.success());
        began.elapsed()
    };
    for arguments in [&["status"][..], &["--version"]] {
        let began = Instant::now();
        let mut quickest = Duration::MAX;
        while quickest >= Duration::from_millis(20) {
            quickest = quickest.min(took(arguments));
            assert!(began.elapsed() < Duration::from_secs(60), "{arguments:?} takes {quickest:?} at best");
        }
    }
}

#[test]
fn a_pipe_that_closes_early_ends_it_quietly() {
    let daemon = Daemon::start(crowded(20_000), Limits::default());
    let mut child = synklerctl(&daemon.path, &["status", "--json", "--limit", "1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let crowded_out = Daemon::start(idle(), Limits { clients: 0, ..Limits::default() });
    let (code, text, complaints) = run(&crowded_out.path, &["status"]);
    assert_eq!((code, text.as_str()), (Some(1), ""));
    assert_eq!(complaints, "synklerctl: 0 clients are already connected: try again\n");

    for wrong in
        [&["status", "--limit", "1001"][..], &["status", "--limit", "-1"], &["nonsense"], &[], &["status", "--id", "x"]]
    {
        assert_eq!(run(&crowded_out.path, wrong).0, Some(2), "{wrong:?}");
    }
    assert_eq!(run(&crowded_out.path, &["--version"]).0, Some(0));

    let mut stopped = Daemon::start(idle(), Limits::default());
    stopped.stop();
    let stale = stopped.directory.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    for path in [&stopped.path, &stale] {
        let (code, text, complaints) = run(path, &["status"]);
        assert_eq!((code, text.as_str()), (Some(3), ""));
        assert!(complaints.contains(&format!("no daemon answers at {path:?}")), "{complaints}");
        assert!(complaints.ends_with("start it with: systemctl start synkler\n"), "{complaints}");
    }
}

/// A daemon that answers each connection with these, one a request, and hangs up.
fn answering(socket: &Path, connections: Vec<Vec<Vec<u8>>>) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for replies in connections {
            let (mut stream, _) = listener.accept().unwrap();
            for reply in replies {
                let mut byte = [1];
                while byte != [0] {
                    stream.read_exact(&mut byte).unwrap();
                }
                stream.write_all(&reply).unwrap();
            }
        }
    })
}

fn info(version: &str) -> Vec<u8> {
    let info = json!({ "vendor": "", "product": "", "version": version, "url": "", "interfaces": [] });
    format!("{}\0", json!({ "parameters": info })).into_bytes()
}

#[test]
fn answers_that_break_off_or_make_no_sense_are_incomplete() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&[u8], &str); 4] = [
        (br#"{"parameters":{"status":"#, "is incomplete"),
        (b"", "is incomplete"),
        (b"no JSON\0", "is invalid"),
        (b"{\"parameters\":{\"status\":{}}}\0", "is invalid"),
    ];
    for (index, (reply, complaint)) in cases.into_iter().enumerate() {
        let socket = dir.path().join(format!("{index}.sock"));
        let daemon = answering(&socket, vec![vec![info("9.9.9"), reply.to_vec()]]);
        let (code, text, complaints) = run(&socket, &["status"]);
        assert_eq!((code, text.as_str()), (Some(4), ""));
        assert!(complaints.contains(complaint), "{complaints}");
        // Why it may be so is said as well.
        assert!(complaints.contains("the daemon is version 9.9.9"), "{complaints}");
        daemon.join().unwrap();
    }
    // One that does not even say who it is.
    let socket = dir.path().join("mute.sock");
    let daemon = answering(&socket, vec![vec![Vec::new()], vec![Vec::new()]]);
    assert_eq!(run(&socket, &["status"]).0, Some(4));
    daemon.join().unwrap();
}

#[test]
fn a_daemon_of_another_version_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let reply = json!({ "parameters": { "status": status(&idle()), "new": "field" } });
    let replies = vec![info("1.2.3\x1b[2J"), format!("{reply}\0").into_bytes()];
    let daemon = answering(&socket, vec![replies]);
    let (code, text, complaints) = run(&socket, &["status"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("synkler 1.2.3, pid 4711"), "{text}");
    assert!(complaints.contains("the daemon is version 1.2.3\\u{1b}[2J, this is "), "{complaints}");
    daemon.join().unwrap();
}

#[test]
fn without_a_socket_it_looks_where_daemons_put_them() {
    let daemon = Daemon::start(idle(), Limits::default());
    let search = |variables: &[(&str, &Path)], arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_synklerctl"));
        command.args(arguments).env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let found = search(&[("SYNKLER_CONTROL_SOCKET", &daemon.path)], &["status"]);
    assert_eq!(found, (Some(0), String::new()));
    let found = search(&[("RUNTIME_DIRECTORY", daemon.directory.path())], &["status"]);
    assert_eq!(found, (Some(0), String::new()));

    // Two daemons of one user: it must be told which.
    let user = tempfile::tempdir().unwrap();
    for below in ["a-upload", "a-download"] {
        let directory = user.path().join("synkler").join(below);
        fs::create_dir_all(&directory).unwrap();
        std::os::unix::fs::symlink(&daemon.path, directory.join("control.sock")).unwrap();
    }
    let runtime = [("RUNTIME_DIRECTORY", user.path().join("synkler"))];
    let runtime: Vec<_> = runtime.iter().map(|(name, path)| (*name, path.as_path())).collect();
    let (code, complaints) = search(&runtime, &["status", "--id", "a"]);
    assert_eq!(code, Some(1));
    assert!(complaints.contains("several daemons run on this host, choose one with --socket: "), "{complaints}");
    assert_eq!(search(&runtime, &["status", "--id", "b"]).0, Some(3));
}

fn deeds() -> Value {
    json!({ "deeds": [{ "node": "upload alpha", "item": null, "done": true, "text": "done" }], "silent": [] })
}

#[test]
fn each_verb_asks_for_what_it_says() {
    let peer = Peer::start(|method, _| match method {
        "GetStatus" => json!({ "status": group::well() }),
        "List" => json!(group::list()),
        "GetTransfer" => json!(group::journey()),
        "GetHistory" => json!({ "entries": group::history().entries, "more": false }),
        "GetReceipt" => json!({ "id": "x", "item": "a", "lines": "9e10  a\n", "encoded": false }),
        "SetLogLevel" => json!({ "previous": "info" }),
        "Reload" => json!(group::reload()),
        "Explain" => json!({ "explanation": group::ignored().explanation }),
        "Check" => json!({ "findings": [{ "check": "config", "result": "ok", "text": "fine", "cure": null }] }),
        _ => deeds(),
    });
    let here = json!({ "here": true });
    let cases: &[(&[&str], &str, Value, i32)] = &[
        (&["status"], "GetStatus", json!({}), 0),
        (&["status", "--limit", "7", "--here"], "GetStatus", json!({ "limit": 7, "here": true }), 0),
        (&["status", "run-42"], "GetTransfer", json!({ "item": "run-42" }), 4),
        (&["status", "run-42", "--here"], "GetTransfer", json!({ "item": "run-42", "here": true }), 0),
        (&["list", "--limit", "9"], "List", json!({ "limit": 9 }), 0),
        (
            &["list", "--state", "cleaning up", "--from", "alpha", "--failed", "--limit", "0"],
            "List",
            json!({ "state": "cleaning-up", "upload": "alpha", "failed": true, "limit": 0 }),
            0,
        ),
        (&["pause"], "Pause", json!({}), 0),
        (&["pause", "--now"], "Pause", json!({ "now": true }), 0),
        (&["pause", "--group"], "Pause", json!({ "group": true }), 0),
        (&["pause", "a", "b", "--now"], "Pause", json!({ "items": ["a", "b"], "now": true }), 0),
        (&["resume"], "Resume", json!({}), 0),
        (&["resume", "--group"], "Resume", json!({ "group": true }), 0),
        (&["resume", "a"], "Resume", json!({ "items": ["a"] }), 0),
        (&["retry", "a", "-x"], "", json!({}), 2),
        (&["retry", "--", "-x"], "Retry", json!({ "items": ["-x"] }), 0),
        (&["bump", "a"], "Bump", json!({ "items": ["a"] }), 0),
        (&["withdraw", "a", "b"], "Withdraw", json!({ "items": ["a", "b"] }), 0),
        (&["history"], "GetHistory", json!({ "limit": 50 }), 0),
        (
            &["history", "--since", "2026-11-23 18:11", "--item", "x", "--limit", "3"],
            "GetHistory",
            json!({ "limit": 3, "since": group::NOW, "item": "x" }),
            0,
        ),
        (&["nodes"], "GetStatus", json!({ "limit": 0 }), 0),
        (&["nodes", "--here"], "GetStatus", json!({ "limit": 0, "here": here["here"] }), 0),
        (&["receipt", "a"], "GetReceipt", json!({ "item": "a" }), 0),
        (&["log-level", "debug"], "SetLogLevel", json!({ "level": "debug" }), 0),
        (&["reload"], "Reload", json!({}), 0),
        (&["check"], "Check", json!({}), 0),
        (&["explain", "a/b.part"], "Explain", json!({ "path": "a/b.part" }), 0),
        (&["explain", "/"], "Explain", json!({ "path": "/" }), 0),
    ];
    for (arguments, method, parameters, code) in cases {
        for json in [false, true] {
            let arguments: Vec<_> = arguments.iter().copied().chain(json.then_some("--json")).collect();
            // Behind `--`, it would be an item.
            let arguments: Vec<_> = if arguments.contains(&"--") && json { continue } else { arguments };
            let (found, text, complaints) = run(&peer.path, &arguments);
            assert_eq!(found, Some(*code), "{arguments:?}: {text} {complaints}");
            if method.is_empty() {
                continue;
            }
            assert_eq!(peer.calls(), [((*method).to_owned(), parameters.clone())], "{arguments:?}");
            if json && ["List", "GetHistory"].contains(method) {
                let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                assert!(!lines.is_empty() && lines.iter().all(Value::is_object), "{text}");
            } else if json {
                assert!(serde_json::from_str::<Value>(&text).unwrap().is_object(), "{arguments:?}: {text}");
            } else {
                assert!(!text.is_empty() && !text.contains('\x1b'), "{arguments:?}");
            }
        }
    }
    let (_, text, _) = run(&peer.path, &["receipt", "a"]);
    assert_eq!(text, "9e10  a\n", "as md5sum reads it, and nothing else");
    for wrong in [
        &["pause", "--group", "x"][..],
        &["retry"],
        &["log-level", "loud"],
        &["history", "--since", "soon"],
        &["status", "x", "--limit", "3"],
        &["nodes", "forget"],
        &["receipt"],
    ] {
        assert_eq!(run(&peer.path, wrong).0, Some(2), "{wrong:?}");
    }
}

#[test]
fn json_keeps_the_shapes_of_the_interface() {
    let peer = Peer::start(|method, _| match method {
        "List" => json!(group::list()),
        "GetHistory" => json!(group::history()),
        "GetTransfer" => json!(group::journey()),
        _ => json!({ "status": group::cut_off() }),
    });
    let lines = |arguments: &[&str]| {
        let (code, text, complaints) = run(&peer.path, arguments);
        (code, text.lines().map(ToOwned::to_owned).collect::<Vec<_>>(), complaints)
    };
    let (_, list, _) = lines(&["list", "--json", "--limit", "9"]);
    let list: Vec<Transfer> = list.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(list, group::list().transfers);
    let (_, history, _) = lines(&["history", "--json", "--limit", "4"]);
    let history: Vec<Past> = history.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(history, group::history().entries);
    let (code, journeys, _) = lines(&["status", "--json", "a", "b"]);
    let journeys: Value = serde_json::from_str(&journeys.join("\n")).unwrap();
    assert_eq!((code, &journeys["journeys"][1]), (Some(4), &json!(group::journey())));
    let (code, nodes, _) = lines(&["nodes", "--json"]);
    let nodes: Value = serde_json::from_str(&nodes.join("\n")).unwrap();
    assert_eq!(
        (code, &nodes["members"], &nodes["now"]),
        (Some(4), &json!(group::cut_off().members), &json!(group::NOW))
    );
    let (code, text, complaints) = run(&peer.path, &["status"]);
    assert!(code == Some(4) && complaints.is_empty() && text.contains("View: incomplete: "), "{text} {complaints}");
}

#[test]
fn refusals_are_told_in_words_and_codes() {
    let peer = Peer::start(|_, parameters| match parameters["item"].as_str() {
        Some("none") => error("NotFound", json!({ "item": "none\u{1b}[2J" })),
        Some("two") => error("Ambiguous", json!({ "item": "two", "matches": ["two a", "two b"] })),
        Some("busy") => error("Busy", json!({})),
        Some("forbidden") => json!({ "error": "org.varlink.service.PermissionDenied", "parameters": {} }),
        Some("old") => json!({ "error": "org.varlink.service.MethodNotFound", "parameters": { "method": "x" } }),
        _ => error("Refused", json!({ "reason": "every receiver already has the item" })),
    });
    for (item, code, words) in [
        ("none", 1, "none\\u{1b}[2J"),
        ("two", 1, "two a"),
        ("busy", 4, ""),
        ("forbidden", 1, "sudo"),
        ("old", 1, "x"),
        ("other", 1, "every receiver already has the item"),
    ] {
        let (found, text, complaints) = run(&peer.path, &["receipt", item]);
        assert_eq!((found, text.as_str()), (Some(code), ""), "{item}");
        assert!(complaints.starts_with("synklerctl: ") && complaints.contains(words), "{item}: {complaints}");
        assert!(complaints.lines().all(|line| line.starts_with("synklerctl: ")), "{complaints}");
    }
    // What can be told is told, and what cannot be is said.
    let peer = Peer::start(|_, parameters| match parameters["item"].as_str() {
        Some("none") => error("NotFound", json!({ "item": "none" })),
        _ => json!(group::unsettled()),
    });
    let (code, text, complaints) = run(&peer.path, &["status", "none", "there"]);
    assert!(code == Some(1) && text.contains("settling") && complaints.contains("none"), "{text} {complaints}");
}

#[test]
fn orders_that_not_everybody_heard_are_incomplete() {
    let silent = Peer::start(|_, _| {
        let mut orders = deeds();
        orders["silent"] = json!(["download zeta"]);
        orders
    });
    let (code, text, _) = run(&silent.path, &["pause", "--group"]);
    assert!(code == Some(4) && text.contains("download zeta: did not answer"), "{text}");
    let refusing = Peer::start(|_, _| json!(group::orders()));
    assert_eq!(run(&refusing.path, &["withdraw", "results.tar"]).0, Some(1));
}

/// A peer with so many records, a page at a time, as the interface says.
fn paged(count: u64) -> Peer {
    Peer::start(move |method, parameters| {
        let limit = parameters["limit"].as_u64().unwrap();
        assert!(limit <= 1000, "{parameters}");
        let reason = || synkler::control::types::Reason { code: "queued".to_owned(), text: "in line".to_owned() };
        let id = |number: u64| format!("01936f2a-5c00-7a31-9d42-{number:012x}");
        if method == "List" {
            let after =
                parameters["after"].as_str().map_or(0, |after| u64::from_str_radix(&after[24..], 16).unwrap() + 1);
            let end = (after + limit).min(count);
            let transfer = |number| Transfer { id: Some(id(number)), ..group::transfer(0, "x", "waiting", reason()) };
            let transfers: Vec<_> = (after..end).map(transfer).collect();
            return json!({ "view": group::whole(), "transfers": transfers, "total": count, "more": end < count });
        }
        // Many have ended at the same moment, the latest first.
        let all = (0..count).map(|number| (number, 1_000_000 - number / 70 * 10));
        let before = parameters["before"].as_u64().unwrap_or(u64::MAX);
        let past = |(number, finished)| Past { id: id(number), finished, ..group::history().entries.remove(0) };
        let mut entries: Vec<_> = all.filter(|(_, finished)| *finished < before).map(past).collect();
        let more = entries.len() as u64 > limit;
        entries.truncate(limit.try_into().unwrap());
        json!({ "entries": entries, "more": more })
    })
}

#[test]
fn long_lists_come_in_pages_and_lack_nothing() {
    let peer = paged(2345);
    for verb in ["list", "history"] {
        for (limit, expected) in [("10000", 2345), ("2345", 2345), ("1500", 1500), ("1000", 1000), ("1", 1), ("0", 0)] {
            let (code, text, _) = run(&peer.path, &[verb, "--json", "--limit", limit]);
            let ids: Vec<_> = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
                .collect();
            let ordered = ids.is_sorted_by(|a, b| a < b);
            assert_eq!((code, ids.len(), ordered), (Some(0), expected, true), "{verb} {limit}");
        }
        let (_, text, _) = run(&peer.path, &[verb, "--limit", "3"]);
        assert!(text.lines().last().unwrap().starts_with("… and "), "{text}");
    }
}

#[test]
fn a_node_is_forgotten_only_when_that_is_meant() {
    let peer = Peer::start(|method, _| match method {
        "GetStatus" => {
            let mut status = group::troubled();
            let mut twin = status.members[0].clone();
            twin.mode = "download".to_owned();
            status.members.push(twin);
            json!({ "status": status })
        }
        _ => deeds(),
    });
    let forgets = |arguments: &[&str]| {
        let found = run(&peer.path, arguments);
        let calls = peer.calls().into_iter().filter(|(method, _)| method == "ForgetNode").map(|(_, told)| told);
        (found.0, found.2, calls.collect::<Vec<_>>())
    };
    let (code, complaints, calls) = forgets(&["nodes", "forget", "zeta"]);
    assert!(code == Some(1) && complaints.contains("--yes") && calls.is_empty(), "{complaints}");
    let (code, complaints, calls) = forgets(&["nodes", "forget", "nobody", "--yes"]);
    assert!(code == Some(1) && complaints.contains("\"nobody\"") && calls.is_empty(), "{complaints}");
    let (code, complaints, calls) = forgets(&["nodes", "forget", "alpha", "--yes"]);
    assert!(code == Some(1) && complaints.contains("--mode") && calls.is_empty(), "{complaints}");
    let zeta = json!({ "mode": "download", "name": "zeta" });
    assert_eq!(forgets(&["nodes", "forget", "zeta", "--yes"]), (Some(0), String::new(), vec![zeta.clone()]));
    let (_, _, calls) = forgets(&["nodes", "forget", "alpha", "--mode", "download", "--yes"]);
    assert_eq!(calls, [json!({ "mode": "download", "name": "alpha" })]);

    // On a terminal it asks.
    for (answer, code) in [("n\r", 1), ("\r", 1), ("\u{4}", 1), ("yes\r", 0)] {
        let mut screen = Screen::start(&synklerctl(&peer.path, &["nodes", "forget", "zeta"]), 24, 100);
        screen.until("the question", |text| {
            text.contains(
                "forget download zeta, last seen 6min 40s ago; its receipts are then no longer required? [y/N]",
            )
        });
        screen.press(answer);
        assert_eq!(screen.end().code(), Some(code), "{answer:?}: {}", screen.text());
        let told = peer.calls().into_iter().filter(|(method, _)| method == "ForgetNode").count();
        assert_eq!(told, usize::from(code == 0));
    }
}

#[test]
fn a_terminal_gets_colours_and_bars_unless_it_wants_none() {
    let peer = Peer::start(|_, _| json!({ "status": group::well() }));
    let mut screen = Screen::start(&synklerctl(&peer.path, &["status"]), 40, 120);
    assert!(screen.end().success());
    screen.until("the status", |text| text.contains('█') && text.contains("notes.txt"));
    assert!(screen.raw().contains("\x1b[32m"));
    let mut plain = synklerctl(&peer.path, &["status"]);
    let mut screen = Screen::start(plain.env("NO_COLOR", "1"), 40, 120);
    assert!(screen.end().success());
    let text = screen.until("the status", |text| text.contains("notes.txt"));
    assert!(text.contains("31 %") && !text.contains('█') && !screen.raw().contains("\x1b["), "{text}");
}
