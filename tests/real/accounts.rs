//! A hand-over between nodes that have an account of their own each, as `synkler broker-setup --apply` makes them.

use std::process::Stdio;
use std::time::Duration;

use crate::bed::tree;
use crate::bed::{Bed, binaries};
use crate::handover::{Trio, no_errors};

const LONG: Duration = Duration::from_secs(180);

/// What broker-setup says to put into the config of `node`: account and password.
fn login<'a>(said: &'a str, node: &str) -> Option<(&'a str, &'a str)> {
    let start = format!("On {node}: username = \"");
    let mut lines = said.lines().skip_while(|line| !line.starts_with(&start));
    let account = lines.next()?.strip_prefix(&start)?.split('"').next()?;
    Some((account, lines.next()?.trim()))
}

#[test]
fn a_handover_needs_no_more_than_broker_setup_gives() {
    let bed = Bed::new();
    let setup = |nodes: &[&str]| {
        let program = binaries().join("synkler");
        let mut command = bed.rabbit.lock().unwrap().command(program.to_str().unwrap());
        command.args(["broker-setup", "--apply", "--vhost", bed.vhost()]).args(nodes);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let (said, complaints) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{said} {complaints}");
        (said, complaints)
    };
    let nodes = ["upload:up", "central:mid", "download:down"];
    let (said, complaints) = setup(&nodes);
    assert_eq!(complaints, "");
    let mut trio = Trio::resting(&bed, "keep_minutes = 60\n");
    for node in [&trio.upload, &trio.central, &trio.download] {
        let (account, password) = login(&said, &format!("{} {}", node.mode, node.name)).unwrap();
        assert_eq!((account, password.len()), (format!("synkler.default.{}.{}", node.mode, node.name).as_str(), 24));
        node.set(&format!("username = \"{account}\""));
        node.set(&format!("password = \"{password}\""));
    }
    // Again: the accounts stay, and nothing of theirs is lost.
    let (said, complaints) = setup(&nodes);
    assert!(
        login(&said, "upload up").is_none() && complaints.contains("upload up already has an account"),
        "{complaints}"
    );

    trio.start();
    tree::hand_in(&trio.upload.file_dir, b"one of many", b"content");
    trio.handed_over(1, LONG);
    no_errors(&[&trio.upload, &trio.central, &trio.download]);
}
