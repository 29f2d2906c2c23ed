//! The rsync driver between two pairs of directories in one place.
//!
//! To use it: `mod support { pub mod rsync; pub mod sshd; }` in the test program.

#![allow(dead_code, unreachable_pub, reason = "no test program uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal};
use synkler::drivers::rsync::{Rsync, Settings, Ssh};
use synkler::machine::{Cause, Direction, Fault, Input, ItemName, Keep, Location, Run, RunId, RunOutcome, TransferId};
use tokio::sync::mpsc;

use super::sshd::{HOST, Sshd, alive, comm, descendants};

/// Longer than anything here takes on a loaded machine.
pub const LONG: Duration = Duration::from_secs(120);

pub const BIG: usize = 60_000_000;

/// A driver between `files` and `staging` on one side and `spool` on the other, all in one directory.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub settings: Settings,
    pub rsync: Rsync,
    pub events: mpsc::Receiver<Input>,
    pub runs: u64,
}

impl Bench {
    pub fn new(options: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["files", "staging", "spool", "spool/in", "spool/held"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let settings = Settings {
            modes: true,
            program: "/usr/bin/rsync".into(),
            options: options.to_vec(),
            file_dir: dir.path().join("files"),
            staging_dir: dir.path().join("staging"),
            ssh: Ssh::default(),
        };
        let (sender, events) = mpsc::channel(64);
        Self { rsync: Rsync::new(settings.clone(), sender), dir, settings, events, runs: 0 }
    }

    pub fn over(sshd: &Sshd, more: &[&str]) -> Self {
        let mut options = vec![format!("--rsh={}", sshd.ssh())];
        options.extend(more.iter().map(|option| (*option).to_owned()));
        Self::new(&options)
    }

    /// The same directories with other settings.
    pub fn change(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        let (sender, events) = mpsc::channel(64);
        self.rsync = Rsync::new(self.settings.clone(), sender);
        self.events = events;
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn location(&self, name: &str) -> Location {
        Location::new(HOST, self.path(name).to_str().unwrap()).unwrap()
    }

    pub fn start_at(&mut self, direction: Direction, location: Location, names: &[&[u8]]) -> RunId {
        self.runs += 1;
        let id = RunId(self.runs);
        let batch = names.iter().map(|name| (transfer(), ItemName::new(name).unwrap())).collect();
        self.rsync.start(Run { id, direction, location, batch, keep: Keep::default() });
        id
    }

    /// Pushes to `spool/in/1` or pulls from `spool/held`.
    pub fn start(&mut self, direction: Direction, names: &[&[u8]]) -> RunId {
        let location = match direction {
            Direction::Push => self.location("spool/in/1"),
            Direction::Pull => self.location("spool/held"),
        };
        self.start_at(direction, location, names)
    }

    pub async fn next(&mut self) -> Input {
        tokio::time::timeout(LONG, self.events.recv()).await.expect("an answer in time").unwrap()
    }

    pub async fn ran(&mut self) -> RunOutcome {
        loop {
            match self.next().await {
                Input::Progress { run, .. } => assert_eq!(run, RunId(self.runs)),
                Input::Ran { run, outcome } => {
                    assert_eq!(run, RunId(self.runs));
                    return outcome;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until the run is at work and not about to be done.
    pub async fn under_way(&mut self) {
        loop {
            match self.next().await {
                Input::Progress { bytes, .. } if bytes > 5_000_000 => return,
                Input::Progress { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub async fn push(&mut self, names: &[&[u8]]) -> RunOutcome {
        self.start(Direction::Push, names);
        self.ran().await
    }

    /// The run must fail, for this host, and as no fault of storage.
    pub async fn failure(&mut self) -> (Fault, String) {
        fs::write(self.path("files/x"), "x").unwrap();
        match self.push(&[b"x"]).await {
            RunOutcome::Failed(fault, reason) => {
                assert_eq!(reason.cause(), Cause::Transport);
                (fault, reason.detail().to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Puts one big file where a run of this direction takes it from; where it goes to is returned.
    pub fn big_file(&self, direction: Direction) -> PathBuf {
        let mut random = vec![0; BIG];
        let mut state = 1_u64;
        for chunk in random.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            chunk.copy_from_slice(&(state ^ (state >> 29)).to_le_bytes());
        }
        let (source, target) = match direction {
            Direction::Push => (self.path("files"), self.path("spool/in/1")),
            Direction::Pull => (self.held(), self.staged()),
        };
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("big"), random).unwrap();
        target
    }

    pub fn held(&self) -> PathBuf {
        self.path("spool/held").join(transfer().to_string())
    }

    pub fn staged(&self) -> PathBuf {
        self.path("staging").join(transfer().to_string())
    }

    /// The local rsync and all that it has started.
    pub fn local(&self) -> Vec<Pid> {
        let dir = self.dir.path().as_os_str().as_bytes();
        let of_this_test = |pid: &Pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(dir.len()).any(|part| part == dir) && !line.windows(8).any(|part| part == b"--server")
        };
        descendants(std::process::id()).into_iter().filter(of_this_test).collect()
    }
}

pub fn transfer() -> TransferId {
    TransferId::mint(1_700_000_000_000, [7; 10])
}

/// Path, kind and mode, mtime, and bytes or link target.
pub type Entry = (PathBuf, u32, SystemTime, Vec<u8>);

/// Every entry below a directory.
pub fn tree(dir: &Path) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_dir() {
                open.push(path.clone());
                Vec::new()
            } else if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_vec()
            } else {
                fs::read(&path).unwrap()
            };
            found.push((path.strip_prefix(dir).unwrap().to_owned(), meta.mode(), meta.modified().unwrap(), content));
        }
    }
    found.sort();
    found
}

/// Two trees must be the same; says only where they are not.
pub fn assert_same(found: &[Entry], expected: &[Entry]) {
    let only = |these: &[Entry], those: &[Entry]| -> Vec<String> {
        let other = these.iter().filter(|entry| !those.contains(entry));
        other.map(|(path, mode, time, content)| format!("{path:?} {mode:o} {time:?} {} bytes", content.len())).collect()
    };
    assert!(found == expected, "found {:#?}\nexpected {:#?}", only(found, expected), only(expected, found));
}

pub async fn gone(pids: &[Pid], limit: Duration) {
    let deadline = Instant::now() + limit;
    while let Some(pid) = pids.iter().find(|pid| alive(**pid)) {
        assert!(Instant::now() < deadline, "{pid} ({:?}) is still there", comm(*pid));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn kill(pids: &[Pid], signal: Signal) {
    assert!(!pids.is_empty());
    for pid in pids {
        let _ = rustix::process::kill_process(*pid, signal);
    }
}

pub fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
