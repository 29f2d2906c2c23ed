//! The control socket as any client meets it: raw bytes over a real Unix socket, well-meant and hostile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bed;
#[path = "control/daemon.rs"]
mod daemon;
mod node;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use node::{Daemon, crowded, documented, idle, troubled};
use serde_json::{Value, json};
use synkler::control::{
    Client, DESCRIPTION, ITEMS_LIMIT, LIST_DEFAULT, LIST_LIMIT, Limits, Query, REQUEST_LIMIT, STATUS_DEFAULT,
    STATUS_LIMIT,
};

const DOCUMENT: &str = include_str!("../docs/protocol.md");
/// Short enough for a test to wait for, long enough for a busy machine.
const SHORT: Duration = Duration::from_millis(400);
/// A request that has begun and is not over.
const HALF: &[u8] = br#"{"method":"io.synkler.Control.Get"#;

/// A client that can do anything.
struct Raw(BufReader<UnixStream>);

impl Raw {
    fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(BufReader::new(stream))
    }

    /// The daemon may have closed already, which is for the reading side to find out.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.get_mut().write_all(bytes);
    }

    /// The next reply, or nothing at the end.
    fn reply(&mut self) -> Option<Value> {
        let mut bytes = Vec::new();
        match self.0.read_until(0, &mut bytes) {
            Ok(0) => None,
            Ok(_) => {
                assert_eq!(bytes.pop(), Some(0), "a reply without its end: {}", String::from_utf8_lossy(&bytes));
                Some(serde_json::from_slice(&bytes).unwrap())
            }
            // That is how the end looks when the daemon leaves bytes unread.
            Err(err) if err.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(err) => panic!("{err}"),
        }
    }

    fn call(&mut self, call: &Value) -> Value {
        self.send(format!("{call}\0").as_bytes());
        self.reply().unwrap()
    }

    fn error(&mut self, call: &Value) -> (String, Value) {
        let reply = self.call(call);
        (reply["error"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned(), reply["parameters"].clone())
    }
}

fn control(method: &str, parameters: Value) -> Value {
    json!({ "method": format!("io.synkler.Control.{method}"), "parameters": parameters })
}

fn get_status(parameters: Value) -> Value {
    control("GetStatus", parameters)
}

/// The best of ten calls: one that waits for a stuck client would take as long as the client's time is, every time,
/// while a busy machine slows down some.
fn assert_quick(path: &Path) {
    let mut client = Client::connect(path).unwrap();
    let quickest = (0..10)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(client.status(None, false).unwrap().node.name, "alpha");
            start.elapsed()
        })
        .min();
    assert!(quickest.unwrap() < Duration::from_millis(50), "{quickest:?}");
}

#[test]
fn introspection_serves_the_interface_files() {
    let daemon = Daemon::start(idle(), Limits::default());
    let mut client = Raw::connect(&daemon.path);
    let info = client.call(&json!({ "method": "org.varlink.service.GetInfo" }));
    assert_eq!(info["parameters"]["product"], "synkler");
    assert_eq!(info["parameters"]["version"], env!("CARGO_PKG_VERSION"));
    let interfaces = info["parameters"]["interfaces"].as_array().unwrap();
    assert_eq!(interfaces, &[json!("org.varlink.service"), json!("io.synkler.Control")]);
    for interface in interfaces {
        let parameters = json!({ "interface": interface });
        let reply =
            client.call(&json!({ "method": "org.varlink.service.GetInterfaceDescription", "parameters": parameters }));
        let description = reply["parameters"]["description"].as_str().unwrap();
        assert!(description.contains(&format!("\ninterface {}\n", interface.as_str().unwrap())), "{description}");
    }
}

/// The fields of each `type`, `method` and `error` of the interface file; every one must have a comment above it.
fn declared(name: &str) -> BTreeSet<String> {
    let mut lines = DESCRIPTION.lines().skip_while(|line| *line != format!("type {name} ("));
    assert!(lines.next().is_some(), "no type {name}");
    lines
        .take_while(|line| *line != ")")
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| line.trim().split(':').next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_field_is_declared_and_every_declaration_has_a_comment() {
    let mut commented = false;
    for line in DESCRIPTION.lines() {
        let trimmed = line.trim();
        let is_continued = matches!(trimmed, "" | ")") || trimmed.starts_with("->");
        assert!(commented || is_continued || trimmed.starts_with('#'), "no comment above: {line}");
        commented = trimmed.starts_with('#');
    }

    let daemon = Daemon::start(troubled(), Limits::default());
    // Central alone, whose peers are silent: the list is in the machine's order.
    let reply = Raw::connect(&daemon.path).call(&get_status(json!({ "here": true })));
    assert_eq!(reply.as_object().unwrap().keys().collect::<Vec<_>>(), ["parameters"]);
    let status = &reply["parameters"]["status"];
    for (name, value) in [
        ("Status", status),
        ("Node", &status["node"]),
        ("Broker", &status["broker"]),
        ("View", &status["view"]),
        ("Paused", &status["members"][2]["paused"]),
        ("Reason", &status["broker"]["reason"]),
        ("Count", &status["counts"][0]),
        ("Member", &status["members"][0]),
        ("Transfer", &status["transfers"][0]),
        ("Progress", &status["transfers"][2]["progress"]),
        ("Receiver", &status["transfers"][4]["receivers"][0]),
    ] {
        let found: BTreeSet<_> = value.as_object().unwrap_or_else(|| panic!("{name}")).keys().cloned().collect();
        assert_eq!(found, declared(name), "{name}");
    }
    // What does not apply is null, not missing.
    assert_eq!(status["transfers"][7]["id"], Value::Null);
    assert_eq!(status["transfers"][5]["item"], r"latin-1: caf\xe9 \xff\xfe");
    assert_eq!(status["transfers"][5]["item_encoded"], "latin-1: caf%E9 %FF%FE");
    assert_eq!(status["broker"]["reason"]["text"].as_str().unwrap().find("the broker at"), Some(0));
}

/// What the daemon calls the user of this process.
fn user() -> String {
    let uid = rustix::process::getuid().as_raw();
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let mut users = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    users.find(|user| user[2] == uid.to_string()).map_or(format!("uid {uid}"), |user| user[0].to_owned())
}

#[test]
fn the_documented_calls_get_the_documented_replies() {
    let daemon = Daemon::start(documented(), Limits::default());
    let mut client = Raw::connect(&daemon.path);
    let (_, section) = DOCUMENT.split_once("## The control socket").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let examples: Vec<Value> = section
        .split("```json\n")
        .skip(1)
        .map(|block| serde_json::from_str(block.split("```").next().unwrap()).unwrap())
        .collect();
    assert!(examples.len() >= 20);
    for pair in examples.chunks(2) {
        let [call, documented] = pair else { panic!("a call without a reply") };
        let mut reply = client.call(call);
        let mut documented = documented.clone();
        // What differs from run to run.
        if let Some(status) = reply.pointer_mut("/parameters/status") {
            assert_eq!(status["node"]["pid"], std::process::id());
            status["node"]["pid"] = json!(4711);
            let told = &mut documented["parameters"]["status"];
            told["node"]["version"] = json!(env!("CARGO_PKG_VERSION"));
            told["members"][0]["version"] = json!(env!("CARGO_PKG_VERSION"));
        } else if let Some(version) = documented.pointer_mut("/parameters/version") {
            *version = json!(env!("CARGO_PKG_VERSION"));
        } else if let Some(text) = reply.pointer_mut("/parameters/deeds/0/text") {
            *text = text.as_str().unwrap().replace(&user(), "root").into();
        }
        assert!(reply == documented, "{call} has another reply:\n{reply:#}");
    }
    let defaults = Limits::default();
    for limit in [
        format!("| clients at once | {} |", defaults.clients),
        format!("| bytes in a request | {REQUEST_LIMIT} |"),
        format!("| from a request's first byte to its last | {} s |", defaults.request_wait.as_secs()),
        format!("| between two requests | {} min |", defaults.idle_wait.as_secs() / 60),
        format!("| until a reply is taken | {} s |", defaults.reply_wait.as_secs()),
        format!("| until the daemon's loop answers | {} s |", defaults.answer_wait.as_secs()),
        format!("| transfers in one status | {STATUS_LIMIT}, {STATUS_DEFAULT} when not said |"),
        format!("| transfers in one list or history | {LIST_LIMIT}, {LIST_DEFAULT} when not said |"),
        format!("| items in one order | {ITEMS_LIMIT} |"),
    ] {
        assert!(section.contains(&limit), "{limit}");
    }
}

#[test]
fn a_status_lists_as_many_transfers_as_asked_for() {
    let daemon = Daemon::start(crowded(20_000), Limits::default());
    let mut client = Raw::connect(&daemon.path);
    for (parameters, listed) in [
        (json!({}), 100),
        (json!({ "limit": null }), 100),
        (json!({ "limit": 0 }), 0),
        (json!({ "limit": 7 }), 7),
        (json!({ "limit": 1000 }), 1000),
    ] {
        let reply = client.call(&get_status(parameters));
        let status = &reply["parameters"]["status"];
        assert_eq!(status["transfers"].as_array().unwrap().len(), listed);
        assert_eq!(status["total"], 20_000);
        assert_eq!(status["counts"], json!([{ "stage": "announced", "count": 20_000 }]));
    }
    assert_eq!(Client::connect(&daemon.path).unwrap().status(Some(3), false).unwrap().transfers.len(), 3);
}

#[test]
fn wrong_calls_get_the_standard_errors_and_the_connection_lives_on() {
    let daemon = Daemon::start(idle(), Limits::default());
    let mut client = Raw::connect(&daemon.path);
    let describe =
        |parameters| json!({ "method": "org.varlink.service.GetInterfaceDescription", "parameters": parameters });
    let upgrade = json!({ "method": "io.synkler.Control.GetStatus", "upgrade": true });
    for (call, error, parameters) in [
        (
            json!({ "method": "io.synkler.Control.Nonsense", "parameters": {} }),
            "MethodNotFound",
            json!({ "method": "io.synkler.Control.Nonsense" }),
        ),
        (
            json!({ "method": "org.varlink.service.Nonsense" }),
            "MethodNotFound",
            json!({ "method": "org.varlink.service.Nonsense" }),
        ),
        (
            json!({ "method": "com.example.Other.GetStatus" }),
            "InterfaceNotFound",
            json!({ "interface": "com.example.Other" }),
        ),
        (json!({ "method": "nonsense" }), "InterfaceNotFound", json!({ "interface": "nonsense" })),
        (json!({ "method": "" }), "InterfaceNotFound", json!({ "interface": "" })),
        (get_status(json!({ "limit": -1 })), "InvalidParameter", json!({ "parameter": "limit" })),
        (get_status(json!({ "limit": 1001 })), "InvalidParameter", json!({ "parameter": "limit" })),
        (get_status(json!({ "limit": 1.5 })), "InvalidParameter", json!({ "parameter": "limit" })),
        (get_status(json!({ "limit": "7" })), "InvalidParameter", json!({ "parameter": "limit" })),
        (get_status(json!({ "limt": 7 })), "InvalidParameter", json!({ "parameter": "limt" })),
        (describe(json!({})), "InvalidParameter", json!({ "parameter": "interface" })),
        (describe(json!({ "interface": 7 })), "InvalidParameter", json!({ "parameter": "interface" })),
        (describe(json!({ "interface": "com.example" })), "InterfaceNotFound", json!({ "interface": "com.example" })),
        (upgrade, "InvalidParameter", json!({ "parameter": "upgrade" })),
        (control("GetStatus", json!({ "here": "yes" })), "InvalidParameter", json!({ "parameter": "here" })),
        (control("List", json!({ "upload": "a b" })), "InvalidParameter", json!({ "parameter": "upload" })),
        (control("List", json!({ "after": "x" })), "InvalidParameter", json!({ "parameter": "after" })),
        (control("List", json!({ "limit": 1001 })), "InvalidParameter", json!({ "parameter": "limit" })),
        (control("GetTransfer", json!({})), "InvalidParameter", json!({ "parameter": "item" })),
        (control("Monitor", json!({})), "ExpectedMore", json!({})),
        (control("Pause", json!({ "items": [] })), "InvalidParameter", json!({ "parameter": "items" })),
        (
            control("Pause", json!({ "items": ["x"], "group": true })),
            "InvalidParameter",
            json!({ "parameter": "group" }),
        ),
        (control("Resume", json!({ "now": true })), "InvalidParameter", json!({ "parameter": "now" })),
        (control("Retry", json!({})), "InvalidParameter", json!({ "parameter": "items" })),
        (control("Retry", json!({ "items": "x" })), "InvalidParameter", json!({ "parameter": "items" })),
        (control("Bump", json!({ "items": [7] })), "InvalidParameter", json!({ "parameter": "items" })),
        (control("Bump", json!({ "items": [""] })), "InvalidParameter", json!({ "parameter": "items" })),
        (
            control("Bump", json!({ "items": vec!["x"; ITEMS_LIMIT + 1] })),
            "InvalidParameter",
            json!({ "parameter": "items" }),
        ),
        // What only another node may say.
        (control("Withdraw", json!({ "items": ["x"], "by": "me" })), "InvalidParameter", json!({ "parameter": "by" })),
        (
            control("Withdraw", json!({ "items": ["x"], "here": true })),
            "InvalidParameter",
            json!({ "parameter": "here" }),
        ),
        (control("GetHistory", json!({ "since": -1 })), "InvalidParameter", json!({ "parameter": "since" })),
        (control("GetHistory", json!({ "item": "a//b" })), "InvalidParameter", json!({ "parameter": "item" })),
        (control("GetHistory", json!({ "behind": "x" })), "InvalidParameter", json!({ "parameter": "behind" })),
        (control("GetReceipt", json!({ "item": 7 })), "InvalidParameter", json!({ "parameter": "item" })),
        (
            control("ForgetNode", json!({ "mode": "hub", "name": "x" })),
            "InvalidParameter",
            json!({ "parameter": "mode" }),
        ),
        (
            control("ForgetNode", json!({ "mode": "upload", "name": "a/b" })),
            "InvalidParameter",
            json!({ "parameter": "name" }),
        ),
        (control("SetLogLevel", json!({ "level": "loud" })), "InvalidParameter", json!({ "parameter": "level" })),
        (control("Reload", json!({ "x": 1 })), "InvalidParameter", json!({ "parameter": "x" })),
        (control("Explain", json!({ "path": 7 })), "InvalidParameter", json!({ "parameter": "path" })),
        (control("Explain", json!({ "path": "%4" })), "InvalidParameter", json!({ "parameter": "path" })),
        (control("Check", json!({ "x": 1 })), "InvalidParameter", json!({ "parameter": "x" })),
    ] {
        assert_eq!(client.error(&call), (format!("org.varlink.service.{error}"), parameters), "{call}");
    }
    assert_eq!(client.call(&get_status(json!({})))["parameters"]["status"]["node"]["name"], "alpha");
}

#[test]
fn flags_are_honoured_and_calls_may_stand_in_line() {
    let daemon = Daemon::start(idle(), Limits::default());
    let mut client = Raw::connect(&daemon.path);
    // Neither the answer nor the error of a oneway call comes back; a call with "more" gets its one reply.
    client.send(
        b"{\"method\":\"io.synkler.Control.GetStatus\",\"oneway\":true}\0{\"method\":\"nonsense\",\"oneway\":true}\0",
    );
    client.send(b"{\"method\":\"io.synkler.Control.GetStatus\",\"more\":true}\0{\"method\":\"last\"}\0");
    let reply = client.reply().unwrap();
    assert_eq!(reply["parameters"]["status"]["node"]["name"], "alpha");
    assert_eq!(reply.get("continues"), None);
    assert_eq!(client.reply().unwrap()["parameters"]["interface"], "last");

    // One byte at a time is slow, but a request all the same.
    for byte in b"{\"method\":\"slow\"}\0" {
        client.send(&[*byte]);
    }
    assert_eq!(client.reply().unwrap()["parameters"]["interface"], "slow");
}

#[test]
fn bytes_that_are_no_call_end_the_connection_with_a_word() {
    let daemon = Daemon::start(idle(), Limits::default());
    let deep = "[".repeat(60_000);
    let wrong: [&[u8]; 8] = [
        b"\0",
        b"hello\0",
        b"\xff\xfe\0",
        b"{\"method\":\"\xff\"}\0",
        b"[]\0",
        b"{}\0",
        b"{\"method\":7}\0",
        deep.as_bytes(),
    ];
    for bytes in wrong {
        let mut client = Raw::connect(&daemon.path);
        client.send(bytes);
        client.send(b"\0");
        let reply = client.reply().unwrap();
        assert_eq!(reply["error"], "io.synkler.Control.InvalidRequest", "{reply}");
        assert!(!reply["parameters"]["reason"].as_str().unwrap().is_empty());
        assert_eq!(client.reply(), None);
    }

    // 64 KiB are a request, one byte more is none.
    let mut client = Raw::connect(&daemon.path);
    let padded = |room: usize| format!("{{\"method\":\"{}\"}}\0", "x".repeat(room - 13));
    client.send(padded(64 * 1024).as_bytes());
    assert_eq!(client.reply().unwrap()["error"], "org.varlink.service.InterfaceNotFound");
    client.send(padded(64 * 1024 + 1).as_bytes());
    assert_eq!(
        client.reply().unwrap(),
        json!({ "error": "io.synkler.Control.RequestTooLarge", "parameters": { "limit": 65536 } })
    );
    assert_eq!(client.reply(), None);
}

#[test]
fn a_request_without_its_end_is_never_answered() {
    let daemon = Daemon::start(idle(), Limits::default());
    let mut client = Raw::connect(&daemon.path);
    client.send(get_status(json!({})).to_string().as_bytes());
    client.0.get_mut().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.reply(), None);
}

#[test]
fn half_sent_and_never_reading_clients_are_dropped_and_hold_up_nobody() {
    let limits = Limits { request_wait: SHORT, reply_wait: SHORT, ..Limits::default() };
    let daemon = Daemon::start(crowded(1000), limits);
    let start = Instant::now();
    let mut half = Raw::connect(&daemon.path);
    half.send(HALF);
    let never_reading = Raw::connect(&daemon.path);
    let flood = thread::spawn(move || {
        // Large replies fill the buffers; the write ends only when the daemon has closed the connection.
        let mut never_reading = never_reading;
        let call = format!("{}\0", get_status(json!({ "limit": 1000 })));
        let stream = never_reading.0.get_mut();
        while stream.write_all(call.as_bytes()).is_ok() {}
        never_reading
    });
    assert_quick(&daemon.path);
    assert_eq!(half.reply(), None);
    assert!(start.elapsed() >= SHORT, "dropped too early");
    let mut never_reading = flood.join().unwrap().0;
    let mut rest = Vec::new();
    let _ = never_reading.read_to_end(&mut rest);
    assert!(rest.len() > 1000, "it was answered while there was room");
    assert_quick(&daemon.path);
}

#[test]
fn an_idle_connection_stays_longer_than_half_a_request() {
    let limits = Limits { request_wait: Duration::from_millis(1), idle_wait: SHORT, ..Limits::default() };
    let daemon = Daemon::start(idle(), limits);
    let start = Instant::now();
    let mut client = Raw::connect(&daemon.path);
    assert_eq!(client.reply(), None);
    assert!(start.elapsed() >= SHORT);
}

#[test]
fn the_client_beyond_the_limit_is_told_and_the_next_one_gets_in_again() {
    let daemon = Daemon::start(idle(), Limits::default());
    let mut clients: Vec<_> = (0..64).map(|_| Raw::connect(&daemon.path)).collect();
    for client in &mut clients {
        assert_eq!(client.call(&json!({ "method": "x" }))["error"], "org.varlink.service.InterfaceNotFound");
    }
    let mut late = Raw::connect(&daemon.path);
    assert_eq!(
        late.error(&get_status(json!({}))),
        ("io.synkler.Control.TooManyClients".to_owned(), json!({ "limit": 64 }))
    );
    assert_eq!(late.reply(), None);
    let refusal = Client::connect(&daemon.path).unwrap().status(None, false).unwrap_err();
    assert_eq!(refusal.to_string(), "64 clients are already connected: try again");

    // The daemon learns of a client's end at about the time that the next one comes.
    clients.truncate(32);
    let until = Instant::now() + Duration::from_secs(30);
    while Client::connect(&daemon.path).unwrap().status(None, false).is_err() {
        assert!(Instant::now() < until);
    }
}

#[test]
fn a_daemon_that_does_not_answer_is_busy() {
    let limits = Limits { answer_wait: SHORT, ..Limits::default() };
    let silent = Daemon::with_loop(limits, |mut queries| async move {
        let mut kept = Vec::new();
        while let Some(Query::Snapshot { reply, .. }) = queries.recv().await {
            kept.push(reply);
        }
    });
    let gone = Daemon::with_loop(limits, |queries| async move { drop(queries) });
    for daemon in [&silent, &gone] {
        let mut client = Raw::connect(&daemon.path);
        assert_eq!(client.error(&get_status(json!({}))), ("io.synkler.Control.Busy".to_owned(), json!({})));
        assert_eq!(client.call(&json!({ "method": "x" }))["error"], "org.varlink.service.InterfaceNotFound");
    }
}

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
    let mut daemon = Daemon::start(idle(), Limits::default());
    let mode = daemon.path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut client = Raw::connect(&daemon.path);
    assert_eq!(client.call(&json!({ "method": "x" }))["error"], "org.varlink.service.InterfaceNotFound");
    daemon.stop();
    assert_eq!(client.reply(), None);
    assert!(!daemon.path.exists());
}
