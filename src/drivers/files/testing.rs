//! Helpers for the tests of this directory.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::machine::{ItemName, JournalId, PlaceId, TransferId};

pub(super) fn name(text: &str) -> ItemName {
    ItemName::new(text.as_bytes()).unwrap()
}

pub(super) fn transfer(number: u8) -> TransferId {
    TransferId::mint(1_700_000_000_000, [number; 10])
}

pub(super) fn place(number: u64) -> PlaceId {
    PlaceId { journal: JournalId(7), number }
}

/// Every path below `dir` with the permissions of directories and the content of files.
pub(super) fn tree(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let stat = path.symlink_metadata().unwrap();
            let shown = path.strip_prefix(dir).unwrap().display().to_string();
            if stat.is_dir() {
                found.insert(shown, format!("{:04o}", stat.mode() & 0o7777));
                pending.push(path);
            } else {
                found.insert(shown, std::fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }
    found
}

/// Runs `check` as an unprivileged user: here, if the tests run as one; else in a copy of this program that runs the
/// test `path` as `nobody`.
pub(super) fn as_nobody(path: &str, check: impl FnOnce()) {
    if !rustix::process::geteuid().is_root() {
        check();
        return;
    }
    run_as_nobody(path, &[]);
}

/// The same, with capabilities as `setpriv` names them. An unprivileged user who has none checks nothing.
pub(super) fn as_nobody_with(path: &str, capabilities: &str, check: impl FnOnce()) {
    if rustix::process::geteuid().is_root() {
        run_as_nobody(path, &[&format!("--inh-caps={capabilities}"), &format!("--ambient-caps={capabilities}")]);
    } else if std::env::var_os(CAPABLE).is_some() {
        check();
    }
}

/// Set for a process that has got its capabilities.
const CAPABLE: &str = "SYNKLER_TEST_CAPABLE";

fn run_as_nobody(path: &str, more: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(more)
        .arg(&program)
        .args(["--exact", path, "--nocapture"])
        .env(CAPABLE, "1")
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

/// Runs `check` with a separate file system mounted at `below`: in a copy of this program that runs the test `path` in
/// a mount namespace, so that nothing stays behind. `check` gets the directory above. If the host allows no such
/// namespaces, nothing is checked.
pub(super) fn with_mount(path: &str, options: &str, below: &str, check: impl FnOnce(&Path)) {
    const INNER: &str = "SYNKLER_TEST_MOUNTED";
    if let Some(dir) = std::env::var_os(INNER) {
        check(Path::new(&dir));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join(below)).unwrap();
    let script = "mount -t tmpfs -o \"$1\" none \"$2\" && exec \"$0\" --exact \"$3\" --nocapture";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(options)
        .arg(dir.path().join(below))
        .arg(path)
        .env(INNER, dir.path())
        .output()
        .unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if errors.starts_with("unshare: unshare failed") {
        return;
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}
