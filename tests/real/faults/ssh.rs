//! ssh refuses: the transfer waits with the reason, shown at both ends of the hop, and goes on when it is mended.

use std::fs;

use super::LONG;
use crate::bed::node::Node;
use crate::bed::{Bed, sshd, tree};
use crate::handover::Trio;

/// Both the node that runs rsync and central show why it does not go on.
fn until_both_say(node: &Node, central: &Node, words: &str) {
    node.until_reason(LONG, "transport", words);
    central.until_reason(LONG, "transport", words);
    central.until_reason(LONG, "transport", &node.name);
}

#[test]
fn an_upload_waits_for_ssh_with_the_reason_and_goes_on_when_it_is_mended() {
    let mut bed = Bed::new();
    let trio = Trio::new(&bed, "");
    let item = |number: u8| {
        tree::hand_in(&trio.upload.file_dir, format!("item {number}").as_bytes(), &tree::noise(number.into(), 5000));
    };
    let (known_hosts, authorized_keys) = (bed.sshd.path("known_hosts"), bed.sshd.path("authorized_keys"));

    bed.sshd.kill();
    item(1);
    until_both_say(&trio.upload, &trio.central, "refuses the connection: check that sshd runs there");
    bed.sshd.restart();
    trio.handed_over(1, LONG);

    let known = fs::read(&known_hosts).unwrap();
    fs::write(&known_hosts, "").unwrap();
    item(2);
    until_both_say(&trio.upload, &trio.central, "is not known: add it to known_hosts");
    fs::write(&known_hosts, &known).unwrap();
    trio.handed_over(2, LONG);

    let authorized = fs::read(&authorized_keys).unwrap();
    fs::write(&authorized_keys, "").unwrap();
    item(3);
    until_both_say(&trio.upload, &trio.central, "rejects the login: add the public key");
    fs::write(&authorized_keys, &authorized).unwrap();
    trio.handed_over(3, LONG);
    assert_eq!(tree::survey(&trio.arrived).len(), 3);
}

#[test]
fn a_download_waits_for_ssh_with_the_reason_and_goes_on_when_it_is_mended() {
    let bed = Bed::new();
    let mut trio = Trio::resting(&bed, "");
    // Keys of its own, so that the upload is not disturbed.
    let (key, known_hosts) = (bed.dir.path().join("key"), bed.dir.path().join("known_hosts"));
    sshd::make_key(&key);
    fs::write(&known_hosts, "").unwrap();
    let ssh = bed.sshd.ssh_with(bed.sshd.port(), &key, &known_hosts);
    trio.download.set(&format!("rsync_opts = [\"--rsh={ssh}\"]"));
    trio.start();
    tree::hand_in(&trio.upload.file_dir, b"item", b"content");
    until_both_say(&trio.download, &trio.central, "is not known: add it to known_hosts");
    fs::copy(bed.sshd.path("known_hosts"), &known_hosts).unwrap();
    until_both_say(&trio.download, &trio.central, "rejects the login: add the public key");
    let authorized = bed.sshd.path("authorized_keys");
    let both = fs::read_to_string(&authorized).unwrap() + &fs::read_to_string(key.with_extension("pub")).unwrap();
    fs::write(&authorized, both).unwrap();
    trio.handed_over(1, LONG);
    assert_eq!(fs::read(trio.arrived.join("item")).unwrap(), b"content");
}
