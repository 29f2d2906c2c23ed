//! The control socket as an independent client meets it: the `varlink` package of the Python registry, which reads the
//! interface from the daemon itself, and checks every call and reply against it.
//!
//! The package is installed below the build directory once, by this test's set-up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bed;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bed::node::wait_for;
use bed::tree;

/// Pinned: another version may be another client.
const VERSION: &str = "31.0.0";
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/varlink/client.py");

/// A Python that has the package.
fn python() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-varlink-{VERSION}"));
    let python = home.join("bin/python");
    let complete = home.join("complete");
    let lock = File::create(home.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !complete.exists() {
        let _ = fs::remove_dir_all(&home);
        let run = |program: &Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().unwrap();
            assert!(output.status.success(), "{program:?} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run("python3".as_ref(), &["-m", "venv", home.to_str().unwrap()]);
        let package = format!("varlink=={VERSION}");
        run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &package]);
        File::create(&complete).unwrap();
    }
    python
}

#[test]
fn an_independent_client_understands_all_it_is_told() {
    let python = python();
    let dir = tempfile::tempdir().unwrap();
    let mut node = bed::offline(dir.path(), "upload", "settle_seconds = 0\n");
    node.start();
    tree::hand_in(&node.file_dir, b"one", b"1");
    tree::hand_in(&node.file_dir, b"two", b"22");
    assert!(wait_for(Duration::from_secs(60), || {
        node.status(10)["transfers"].as_array().unwrap().iter().filter(|item| item["stage"] == "announced").count() == 2
    }));
    // The client hands in another item when its stream has begun.
    let made = tree::workshop(&node.file_dir).join("three");
    fs::write(&made, "333").unwrap();
    let mut client = Command::new(python);
    client.arg(CLIENT).arg(&node.socket).arg(&made).arg(node.file_dir.join("three"));
    let output = client.output().unwrap();
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("all well\n"), "{said}{complaints}");
}
