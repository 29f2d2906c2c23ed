//! `synklerctl` as people meet it: its texts and exit codes through the real program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod node;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use node::{Daemon, crowded, idle, status};
use serde_json::Value;
use synkler::control::Limits;
use synkler::control::types::Status;

fn synklerctl(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synklerctl"));
    command.arg("--socket").arg(socket).args(arguments).env_remove("COLUMNS").stdin(Stdio::null());
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
    assert_eq!(complaints, "synklerctl: 0 clients are connected already: try again\n");

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

/// A daemon that answers each connection with the next of these, whatever it was asked, and hangs up.
fn answering(socket: &Path, replies: Vec<Vec<u8>>) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [1];
            while byte != [0] {
                stream.read_exact(&mut byte).unwrap();
            }
            stream.write_all(&reply).unwrap();
        }
    })
}

#[test]
fn answers_that_break_off_or_make_no_sense_are_incomplete() {
    let dir = tempfile::tempdir().unwrap();
    let info = br#"{"parameters":{"vendor":"","product":"","version":"9.9.9","url":"","interfaces":[]}}"#;
    let info = || [&info[..], b"\0"].concat();
    let cases: [(&[u8], &str); 4] = [
        (br#"{"parameters":{"status":"#, "is incomplete"),
        (b"", "is incomplete"),
        (b"no JSON\0", "cannot be understood"),
        (b"{\"parameters\":{\"status\":{}}}\0", "cannot be understood"),
    ];
    for (index, (reply, complaint)) in cases.into_iter().enumerate() {
        let socket = dir.path().join(format!("{index}.sock"));
        let daemon = answering(&socket, vec![reply.to_vec(), info()]);
        let (code, text, complaints) = run(&socket, &["status"]);
        assert_eq!((code, text.as_str()), (Some(4), ""));
        assert!(complaints.contains(complaint), "{complaints}");
        // Why it may be so is said as well.
        assert!(complaints.contains("the daemon is version 9.9.9"), "{complaints}");
        daemon.join().unwrap();
    }
}

#[test]
fn a_daemon_of_another_version_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let reply = serde_json::json!({ "parameters": { "status": status(&idle()), "new": "field" } });
    let daemon = answering(&socket, vec![format!("{reply}\0").into_bytes()]);
    let (code, text, complaints) = run(&socket, &["status"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("synkler 1.2.3, pid 4711"), "{text}");
    assert!(complaints.contains("the daemon is version 1.2.3, this is "), "{complaints}");
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
    assert!(complaints.contains("several daemons run here, choose one with --socket: "), "{complaints}");
    assert_eq!(search(&runtime, &["status", "--id", "b"]).0, Some(3));
}
