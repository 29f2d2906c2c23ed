//! The broker is away, refuses, or is something else: the daemon stays up, says why, and goes on when it is mended.

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use super::LONG;
use crate::bed::node::Node;
use crate::bed::{Bed, offline, tree};
use crate::handover::{Trio, no_errors};

fn until_broker_reason(node: &Node, words: &str) {
    node.until(LONG, &format!("without a broker because of {words:?}"), |status| {
        let broker = &status["broker"];
        broker["connected"] == false
            && broker["reason"]["code"] == "broker"
            && broker["reason"]["text"].as_str().unwrap().contains(words)
    });
}

#[test]
fn a_broker_that_is_away_holds_nothing_up_for_good() {
    let bed = Bed::alone();
    bed.rabbit.lock().unwrap().kill();
    // All three start without it.
    let trio = Trio::new(&bed, "");
    for node in [&trio.upload, &trio.central, &trio.download] {
        until_broker_reason(node, "cannot be reached: Connection refused");
    }
    tree::hand_in(&trio.upload.file_dir, b"patient", b"content");
    trio.upload.until_reason(LONG, "broker", "no session with the broker");
    bed.rabbit.lock().unwrap().restart();
    trio.handed_over(1, LONG);
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}

#[test]
fn an_account_and_a_vhost_that_are_made_later_are_used_then() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "");
    trio.upload.set("username = \"late\"");
    trio.start();
    let mut stranger = bed.upload("stranger", "");
    stranger.set("vhost = \"late\"");
    stranger.start();
    until_broker_reason(&trio.upload, "the login is refused: check username and password");
    until_broker_reason(&stranger, "the vhost is refused");
    tree::hand_in(&trio.upload.file_dir, b"patient", b"content");
    trio.upload.until_reason(LONG, "broker", "no session with the broker");
    {
        let rabbit = bed.rabbit.lock().unwrap();
        rabbit.tool("rabbitmqctl", &["add_vhost", "late"]);
        rabbit.tool("rabbitmqctl", &["set_permissions", "-p", "late", "syn", ".*", ".*", ".*"]);
        rabbit.tool("rabbitmqctl", &["add_user", "late", "secret"]);
        rabbit.tool("rabbitmqctl", &["set_permissions", "-p", bed.vhost(), "late", ".*", ".*", ".*"]);
    }
    trio.handed_over(1, LONG);
    stranger.until(LONG, "connected", |status| status["broker"]["connected"] == true);
    no_errors(&[&trio.upload, &trio.central, &trio.download, &stranger]);
}

#[test]
fn something_else_on_the_brokers_port_is_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut node = offline(dir.path(), "central", "");
    node.set(&format!("port = {}", listener.local_addr().unwrap().port()));
    // It ends with the program.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n"));
        }
    });
    node.start();
    until_broker_reason(&node, "is not an AMQP 0-9-1 broker");
    let (ended, took) = node.stop();
    assert!(ended.success() && took < Duration::from_secs(5), "{ended} after {took:?}");
}

#[test]
fn a_second_node_of_the_same_name_waits_and_says_so() {
    let bed = Bed::new();
    let trio = Trio::new(&bed, "");
    tree::hand_in(&trio.upload.file_dir, b"one", b"1");
    trio.handed_over(1, LONG);
    let dir = tempfile::tempdir().unwrap();
    let mut second = offline(dir.path(), "upload", "settle_seconds = 0\n");
    for line in std::fs::read_to_string(&trio.upload.config).unwrap().lines() {
        if ["name", "port", "vhost", "username", "password", "rsync_opts"].contains(&line.split(' ').next().unwrap()) {
            second.set(line);
        }
    }
    second.start();
    tree::hand_in(&second.file_dir, b"two", b"2");
    until_broker_reason(&second, "another node named upload up is in the group");
    // The first is not disturbed.
    tree::hand_in(&trio.upload.file_dir, b"three", b"3");
    trio.handed_over(2, LONG);
    assert_eq!(trio.download.log.count(|line| line.contains("two")), 0);
    second.set("name = \"other\"");
    second.set(&format!("state_dir = \"{}\"", dir.path().join("other").display()));
    second.stop();
    second.start();
    // Its directory has the marker of the old name, as if another node used it.
    second.expect(0, LONG, &["upload up uses it: give each node its own file_dir"]);
    assert!(second.ctl().arg("adopt").status().unwrap().success());
    second.expect(0, LONG, &["two", "handed over"]);
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}
