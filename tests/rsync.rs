//! The rsync driver against the real thing: rsync, ssh and an sshd of our own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support {
    pub mod sshd;
}

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use rustix::process::{Pid, Signal};
use support::sshd::{HOST, Sshd, alive, comm, descendants, make_key};
use synkler::drivers::rsync::{Rsync, Settings, VersionError};
use synkler::machine::{
    Cause, Direction, Fault, Input, ItemName, Location, Reason, Run, RunId, RunOutcome, TransferId,
};
use tokio::sync::mpsc;

/// Longer than anything here takes on a loaded machine.
const LONG: Duration = Duration::from_secs(120);

const BIG: usize = 60_000_000;

/// A driver between `files` and `staging` on one side and `spool` on the other, all in one directory.
struct Bench {
    dir: tempfile::TempDir,
    settings: Settings,
    rsync: Rsync,
    events: mpsc::Receiver<Input>,
    runs: u64,
}

impl Bench {
    fn new(options: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["files", "staging", "spool", "spool/in", "spool/held"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let settings = Settings {
            program: "/usr/bin/rsync".into(),
            options: options.to_vec(),
            file_dir: dir.path().join("files"),
            staging_dir: dir.path().join("staging"),
        };
        let (sender, events) = mpsc::channel(64);
        Self { rsync: Rsync::new(settings.clone(), sender), dir, settings, events, runs: 0 }
    }

    fn over(sshd: &Sshd, more: &[&str]) -> Self {
        let mut options = vec![format!("--rsh={}", sshd.ssh())];
        options.extend(more.iter().map(|option| (*option).to_owned()));
        Self::new(&options)
    }

    /// The same directories with other settings.
    fn change(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        let (sender, events) = mpsc::channel(64);
        self.rsync = Rsync::new(self.settings.clone(), sender);
        self.events = events;
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    fn location(&self, name: &str) -> Location {
        Location::new(HOST, self.path(name).to_str().unwrap()).unwrap()
    }

    fn start_at(&mut self, direction: Direction, location: Location, names: &[&[u8]]) -> RunId {
        self.runs += 1;
        let id = RunId(self.runs);
        let batch = names.iter().map(|name| (transfer(), ItemName::new(name).unwrap())).collect();
        self.rsync.start(Run { id, direction, location, batch });
        id
    }

    /// Pushes to `spool/in/1` or pulls from `spool/held`.
    fn start(&mut self, direction: Direction, names: &[&[u8]]) -> RunId {
        let location = match direction {
            Direction::Push => self.location("spool/in/1"),
            Direction::Pull => self.location("spool/held"),
        };
        self.start_at(direction, location, names)
    }

    async fn next(&mut self) -> Input {
        tokio::time::timeout(LONG, self.events.recv()).await.expect("an answer in time").unwrap()
    }

    async fn ran(&mut self) -> RunOutcome {
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
    async fn under_way(&mut self) {
        loop {
            match self.next().await {
                Input::Progress { bytes, .. } if bytes > 5_000_000 => return,
                Input::Progress { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn push(&mut self, names: &[&[u8]]) -> RunOutcome {
        self.start(Direction::Push, names);
        self.ran().await
    }

    /// The run must fail, for this host, and as no fault of storage.
    async fn failure(&mut self) -> (Fault, String) {
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
    fn big_file(&self, direction: Direction) -> PathBuf {
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

    fn held(&self) -> PathBuf {
        self.path("spool/held").join(transfer().to_string())
    }

    fn staged(&self) -> PathBuf {
        self.path("staging").join(transfer().to_string())
    }

    /// The local rsync and all that it has started.
    fn local(&self) -> Vec<Pid> {
        let dir = self.dir.path().as_os_str().as_bytes();
        let of_this_test = |pid: &Pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(dir.len()).any(|part| part == dir) && !line.windows(8).any(|part| part == b"--server")
        };
        descendants(std::process::id()).into_iter().filter(of_this_test).collect()
    }
}

fn transfer() -> TransferId {
    TransferId::mint(1_700_000_000_000, [7; 10])
}

fn stopped() -> RunOutcome {
    RunOutcome::Failed(Fault::Passing, Reason::with(Cause::Transport, "stopped"))
}

/// Path, kind and mode, mtime, and bytes or link target.
type Entry = (PathBuf, u32, SystemTime, Vec<u8>);

/// Every entry below a directory.
fn tree(dir: &Path) -> Vec<Entry> {
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
fn assert_same(found: &[Entry], expected: &[Entry]) {
    let only = |these: &[Entry], those: &[Entry]| -> Vec<String> {
        let other = these.iter().filter(|entry| !those.contains(entry));
        other.map(|(path, mode, time, content)| format!("{path:?} {mode:o} {time:?} {} bytes", content.len())).collect()
    };
    assert!(found == expected, "found {:#?}\nexpected {:#?}", only(found, expected), only(expected, found));
}

async fn gone(pids: &[Pid], limit: Duration) {
    let deadline = Instant::now() + limit;
    while let Some(pid) = pids.iter().find(|pid| alive(**pid)) {
        assert!(Instant::now() < deadline, "{pid} ({:?}) is still there", comm(*pid));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn kill(pids: &[Pid], signal: Signal) {
    assert!(!pids.is_empty());
    for pid in pids {
        let _ = rustix::process::kill_process(*pid, signal);
    }
}

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

const ODD_NAMES: &[&[u8]] = &[
    b"plain",
    b"two  words",
    b" lead and trail ",
    b"a [b] c.txt",
    b"a b c.txt",
    b"*",
    b"?",
    b"-n",
    b"--delete",
    b"#comment",
    b";comment",
    b"new\nline",
    b"\r",
    b"\ttab",
    b"'single'",
    b"\"double\"",
    b"`id`",
    b"$(id)",
    b"$HOME",
    b"~",
    b"back\\slash",
    b"\\#012",
    b"%F",
    b"host:file",
    b"...",
    b"-",
    b"\xff\xfe\x80",
    "é\u{301}\u{202e}日本".as_bytes(),
    b"{a,b}",
    b"!x",
    b"&;|<>",
    b"@",
    b"long-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789\
      -0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789",
];

#[tokio::test]
async fn odd_names_and_trees_arrive_exactly_both_ways() {
    let sshd = Sshd::start();
    let mut bench = Bench::over(&sshd, &[]);
    let files = bench.path("files");
    let mut names = ODD_NAMES.to_vec();
    for (count, name) in ODD_NAMES.iter().enumerate() {
        fs::write(files.join(OsStr::from_bytes(name)), vec![b'x'; count]).unwrap();
    }
    names.extend([&b"-tree"[..], b"dangling", b"shut"]);
    let tree_dir = files.join("-tree");
    fs::create_dir_all(tree_dir.join("sub/empty")).unwrap();
    for name in ODD_NAMES {
        fs::write(tree_dir.join("sub").join(OsStr::from_bytes(name)), name).unwrap();
    }
    symlink("../nowhere", files.join("dangling")).unwrap();
    symlink("sub/plain", tree_dir.join("link")).unwrap();
    let odd_link = tree_dir.join("sub/odd\nlink");
    symlink(OsStr::from_bytes(b"\xff\n"), &odd_link).unwrap();
    script(&tree_dir.join("run"), "true");
    fs::write(files.join("shut"), "read-only").unwrap();
    fs::set_permissions(files.join("shut"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(tree_dir.join("sub/empty"), fs::Permissions::from_mode(0o750)).unwrap();
    // rsync does not bother about the nanoseconds of a link or directory that is no older than its copy.
    for link in ["dangling", "-tree/link"].map(|name| files.join(name)).iter().chain([&odd_link]) {
        let long_ago = Timespec { tv_sec: 1_200_000_000, tv_nsec: 1 };
        let times = Timestamps { last_access: long_ago, last_modification: long_ago };
        rustix::fs::utimensat(CWD, link, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    for (dir, age) in [("-tree/sub/empty", 1), ("-tree/sub", 2), ("-tree", 3), ("plain", 4)] {
        let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000 * age / 2, 123_456_789);
        fs::File::open(files.join(dir)).unwrap().set_modified(long_ago).unwrap();
    }
    let expected = tree(&files);
    // What the directories themselves look like is nobody's business.
    fs::set_permissions(&files, fs::Permissions::from_mode(0o710)).unwrap();
    let own_mode = fs::metadata(bench.path("spool/in")).unwrap().mode();

    fs::write(bench.path("files/not-sent"), "x").unwrap();
    assert_eq!(bench.push(&names).await, RunOutcome::Complete);
    assert_same(&tree(&bench.path("spool/in/1")), &expected);
    assert_eq!(fs::metadata(bench.path("spool/in/1")).unwrap().mode(), own_mode);

    fs::rename(bench.path("spool/in/1"), bench.held()).unwrap();
    fs::set_permissions(bench.held(), fs::Permissions::from_mode(0o700)).unwrap();
    bench.start(Direction::Pull, &names);
    assert_eq!(bench.ran().await, RunOutcome::Complete);
    assert_same(&tree(&bench.staged()), &expected);
    assert_eq!(fs::metadata(bench.staged()).unwrap().mode(), own_mode);

    // A second run finds nothing to do and changes nothing.
    bench.start(Direction::Pull, &names);
    assert_eq!(bench.ran().await, RunOutcome::Complete);
    assert_same(&tree(&bench.staged()), &expected);
}

#[tokio::test]
async fn a_long_list_and_much_output_do_not_block_each_other() {
    let sshd = Sshd::start();
    let mut bench = Bench::over(&sshd, &["-vv"]);
    let names: Vec<String> = (0..8_000).map(|number| format!("{number:-<240}")).collect();
    for name in &names {
        fs::write(bench.path("files").join(name), name).unwrap();
    }
    let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    assert_eq!(bench.push(&names).await, RunOutcome::Complete);
    assert_eq!(fs::read_dir(bench.path("spool/in/1")).unwrap().count(), names.len());
    // Nobody takes the list.
    bench.change(|settings| settings.options = vec!["--rsh=/bin/false".to_owned()]);
    let RunOutcome::Failed(..) = bench.push(&names).await else { panic!("no ssh, but it ran") };
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Local,
    Remote,
    Sshd,
}

/// Kills one side in the middle of a big file; the next run has to need far fewer bytes.
async fn resumes(victim: Victim, direction: Direction) {
    let sshd = Sshd::start();
    let mut bench = Bench::over(&sshd, &["--bwlimit=15000"]);
    let target = bench.big_file(direction);
    bench.start(direction, &[b"big"]);
    bench.under_way().await;
    let local = bench.local();
    let remote = sshd.running("rsync");
    match victim {
        Victim::Local => kill(&local[..1], Signal::KILL),
        Victim::Remote => kill(&remote, Signal::KILL),
        Victim::Sshd => sshd.kill_sessions(),
    }
    let outcome = bench.ran().await;
    let RunOutcome::Failed(Fault::Passing, _) = outcome else { panic!("{outcome:?}") };
    gone(&local, Duration::from_secs(2)).await;
    gone(&remote, Duration::from_secs(10)).await;
    let left: Vec<_> = tree(&target).into_iter().map(|(path, _, _, content)| (path, content.len())).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].0, Path::new("big"));
    assert!(left[0].1 < BIG && left[0].1 > BIG / 20, "{left:?}");

    let log = bench.path("log");
    bench.change(|settings| {
        settings.options.pop();
        settings.options.push(format!("--log-file={}", log.display()));
        settings.options.push("--log-file-format=moved %b".to_owned());
    });
    bench.start(direction, &[b"big"]);
    assert_eq!(bench.ran().await, RunOutcome::Complete);
    let log = fs::read_to_string(log).unwrap();
    let moved: usize = log.lines().find_map(|line| line.split_once("moved ")?.1.parse().ok()).unwrap();
    assert!(moved < BIG - left[0].1 + BIG / 50, "{moved} moved, {} were there", left[0].1);
    let source = if direction == Direction::Push { bench.path("files") } else { bench.held() };
    assert_same(&tree(&target), &tree(&source));
}

#[tokio::test]
async fn a_push_resumes_after_the_local_rsync_was_killed() {
    resumes(Victim::Local, Direction::Push).await;
}

#[tokio::test]
async fn a_push_resumes_after_the_remote_rsync_was_killed() {
    resumes(Victim::Remote, Direction::Push).await;
}

#[tokio::test]
async fn a_push_resumes_after_sshd_was_killed() {
    resumes(Victim::Sshd, Direction::Push).await;
}

#[tokio::test]
async fn a_pull_resumes_after_the_local_rsync_was_killed() {
    resumes(Victim::Local, Direction::Pull).await;
}

#[tokio::test]
async fn a_pull_resumes_after_the_remote_rsync_was_killed() {
    resumes(Victim::Remote, Direction::Pull).await;
}

#[tokio::test]
async fn a_pull_resumes_after_sshd_was_killed() {
    resumes(Victim::Sshd, Direction::Pull).await;
}

#[tokio::test]
async fn a_halted_run_leaves_no_process_and_keeps_what_it_has() {
    let sshd = Sshd::start();
    let mut bench = Bench::over(&sshd, &["--bwlimit=15000"]);
    let target = bench.big_file(Direction::Push);
    let run = bench.start(Direction::Push, &[b"big"]);
    bench.under_way().await;
    let processes = [bench.local(), sshd.running("rsync")].concat();
    bench.rsync.halt(run);
    assert_eq!(bench.ran().await, stopped());
    gone(&processes, Duration::from_secs(5)).await;
    assert!(fs::metadata(target.join("big")).unwrap().len() > 0);
    // Too late, and never there: both are nothing.
    bench.rsync.halt(run);
    bench.rsync.halt(RunId(99));
    bench.rsync.halt_all().await;
    assert!(bench.events.try_recv().is_err());
}

#[tokio::test]
async fn stubborn_runs_are_gone_within_three_seconds_though_nobody_listens() {
    let mut bench = Bench::new(&[]);
    let rsh = bench.path("rsh");
    script(&rsh, "trap '' TERM INT HUP USR1; echo >&2; (trap '' TERM; sleep 1000) & wait; sleep 1000");
    let program = bench.path("rsync");
    script(&program, "trap '' TERM; /usr/bin/rsync \"$@\"; sleep 1000");
    bench.change(|settings| {
        settings.program = program;
        settings.options = vec![format!("--rsh={}", rsh.display())];
    });
    // Fills the queue, so that no answer can be given.
    bench.events = {
        let (sender, events) = mpsc::channel(1);
        sender.try_send(Input::Timeout).unwrap();
        bench.rsync = Rsync::new(bench.settings.clone(), sender);
        events
    };
    for _ in 0..3 {
        bench.start(Direction::Push, &[b"x"]);
    }
    let processes = loop {
        let processes = descendants(std::process::id());
        let ours =
            |pid: &&Pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok() && comm(**pid).as_deref() == Some("sleep");
        if processes.iter().filter(ours).count() >= 3 {
            break bench.local();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(processes.len() >= 6, "{processes:?}");
    let start = Instant::now();
    bench.rsync.halt_all().await;
    assert!(start.elapsed() < Duration::from_millis(3500), "{:?}", start.elapsed());
    gone(&processes, Duration::from_millis(500)).await;
}

#[tokio::test]
async fn a_background_process_that_keeps_the_output_does_not_hold_a_run_up() {
    let mut bench = Bench::new(&[]);
    let rsh = bench.path("rsh");
    script(&rsh, "setsid sleep 60 </dev/null >/dev/null & echo $! >\"$0.pid\"; exit 255");
    bench.change(|settings| settings.options = vec![format!("--rsh={}", rsh.display())]);
    let start = Instant::now();
    let (fault, _) = bench.failure().await;
    assert_eq!(fault, Fault::Passing);
    assert!(start.elapsed() < Duration::from_secs(30));
    let pid = fs::read_to_string(bench.path("rsh.pid")).unwrap().trim().parse().unwrap();
    kill(&[Pid::from_raw(pid).unwrap()], Signal::KILL);
}

#[tokio::test]
async fn ssh_failures_say_what_to_do() {
    let sshd = Sshd::start();
    let (key, known) = (sshd.path("client_key"), sshd.path("known_hosts"));
    let mut bench = Bench::new(&[]);
    let mut with = async |ssh: String| {
        bench.change(|settings| settings.options = vec![format!("--rsh={ssh}")]);
        bench.failure().await
    };

    let refused = with(sshd.ssh_with(1, &key, &known)).await;
    assert_eq!(
        refused,
        (Fault::Passing, format!("{HOST} refuses the connection: check that sshd runs there, and on which port"))
    );

    let other_key = sshd.path("other_key");
    make_key(&other_key);
    let (fault, text) = with(sshd.ssh_with(sshd.port(), &other_key, &known)).await;
    assert_eq!(fault, Fault::Lasting);
    assert!(text.starts_with(&format!("{HOST} rejects the login: add the public key")), "{text}");

    let empty = sshd.path("empty");
    fs::write(&empty, "").unwrap();
    let unknown = format!("the host key of {HOST} is not known: add it to ~/.ssh/known_hosts");
    let (fault, text) = with(sshd.ssh_with(sshd.port(), &key, &empty)).await;
    assert_eq!(fault, Fault::Lasting);
    assert!(text.starts_with(&unknown), "{text}");

    // An ssh that would like to ask has nobody to ask, and says so at once.
    let asking = format!("ssh -F /dev/null -p {} -o UserKnownHostsFile={}", sshd.port(), empty.display());
    let (fault, text) = with(asking).await;
    assert_eq!(fault, Fault::Lasting);
    assert!(text.starts_with(&unknown), "{text}");

    let changed = sshd.path("changed");
    let public = fs::read_to_string(sshd.path("other_key.pub")).unwrap();
    fs::write(&changed, format!("[{HOST}]:{} {public}", sshd.port())).unwrap();
    let (fault, text) = with(sshd.ssh_with(sshd.port(), &key, &changed)).await;
    assert_eq!(fault, Fault::Lasting);
    let place = format!("replace the old one in {}:1", changed.display());
    assert!(text.starts_with(&format!("the host key of {HOST} has changed")) && text.ends_with(&place), "{text}");

    let (fault, text) = with("/no/such/ssh".to_owned()).await;
    assert_eq!(fault, Fault::Lasting);
    assert!(text.contains("/no/such/ssh") && text.ends_with("check rsync_opts"), "{text}");
}

#[tokio::test]
async fn the_default_ssh_names_an_unknown_host() {
    let mut bench = Bench::new(&[]);
    fs::write(bench.path("files/x"), "x").unwrap();
    let location = Location::new("no-such-host.invalid", "/srv").unwrap();
    bench.start_at(Direction::Push, location, &[b"x"]);
    let RunOutcome::Failed(_, reason) = bench.ran().await else { panic!() };
    assert!(reason.detail().starts_with("the name no-such-host.invalid "), "{reason}");
}

#[tokio::test]
async fn an_ipv6_address_reaches_ssh_without_brackets() {
    let mut bench = Bench::new(&[]);
    let rsh = bench.path("rsh");
    // Stands in for ssh, so that the test does not depend on the machine's network.
    script(&rsh, "echo \"$1 $2 $3\" >\"$0.said\"; shift 3; exec \"$@\"");
    bench.change(|settings| settings.options = vec!["-e".to_owned(), rsh.to_str().unwrap().to_owned()]);
    fs::write(bench.path("files/x"), "x").unwrap();
    let location = Location::new("syn@[::1]", bench.path("spool/in/1").to_str().unwrap()).unwrap();
    bench.start_at(Direction::Push, location, &[b"x"]);
    assert_eq!(bench.ran().await, RunOutcome::Complete);
    assert_eq!(fs::read_to_string(bench.path("rsh.said")).unwrap(), "-l syn ::1\n");
    assert_eq!(fs::read(bench.path("spool/in/1/x")).unwrap(), b"x");
}

#[tokio::test]
async fn remote_failures_say_what_to_do() {
    let sshd = Sshd::start();

    let mut bench = Bench::over(&sshd, &["--rsync-path=/no/such/rsync"]);
    let (fault, text) = bench.failure().await;
    assert_eq!(fault, Fault::Lasting);
    assert!(text.starts_with(&format!("rsync cannot be started on {HOST}: ")), "{text}");
    assert!(text.contains("/no/such/rsync") && text.ends_with("install it there"), "{text}");

    let mut bench = Bench::over(&sshd, &["--rsync-path=echo welcome; rsync"]);
    let (fault, text) = bench.failure().await;
    assert_eq!(fault, Fault::Lasting);
    assert!(text.ends_with("its login scripts must print nothing"), "{text}");

    let mut bench = Bench::over(&sshd, &["--no-such-option"]);
    let (fault, text) = bench.failure().await;
    assert_eq!(fault, Fault::Lasting);
    assert_eq!(
        text,
        "rsync does not take its options: --no-such-option: unknown option (exit status 1): check rsync_opts"
    );

    // The directory that central should have made is not there.
    let mut bench = Bench::over(&sshd, &[]);
    fs::remove_dir(bench.path("spool/in")).unwrap();
    let (fault, text) = bench.failure().await;
    assert_eq!(fault, Fault::Lasting);
    assert!(text.contains("spool/in/1") && text.contains("No such file or directory"), "{text}");

    // The copies that should be fetched are not there, all of them or one.
    fs::remove_dir(bench.path("spool/held")).unwrap();
    bench.start(Direction::Pull, &[b"x"]);
    let RunOutcome::Partial(reason) = bench.ran().await else { panic!() };
    assert_eq!(reason.cause(), Cause::Missing, "{reason}");
}

#[tokio::test]
async fn what_is_missing_does_not_hold_back_the_rest() {
    let sshd = Sshd::start();
    let mut bench = Bench::over(&sshd, &[]);
    fs::write(bench.path("files/a"), "a").unwrap();
    fs::write(bench.path("files/c"), "c").unwrap();
    let outcome = bench.push(&[b"a", b"b", b"c"]).await;
    let RunOutcome::Partial(reason) = outcome else { panic!("{outcome:?}") };
    assert!(reason.detail().contains("files/b\" failed: No such file or directory"), "{reason}");
    assert_eq!(tree(&bench.path("spool/in/1")).len(), 2);

    fs::create_dir(bench.held()).unwrap();
    fs::write(bench.held().join("a"), "a").unwrap();
    bench.start(Direction::Pull, &[b"a", b"b"]);
    let outcome = bench.ran().await;
    let RunOutcome::Partial(reason) = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason.cause(), Cause::Missing);
    assert_eq!(tree(&bench.staged()).len(), 1);
}

#[tokio::test]
async fn a_stalled_far_side_is_given_up() {
    let sshd = Sshd::start();
    let mut bench = Bench::over(&sshd, &["--bwlimit=15000", "--timeout=2"]);
    bench.big_file(Direction::Push);
    bench.start(Direction::Push, &[b"big"]);
    bench.under_way().await;
    let remote = sshd.running("rsync");
    kill(&remote, Signal::STOP);
    let outcome = bench.ran().await;
    let expected = format!("{HOST} has sent nothing for too long, so rsync gave up");
    assert_eq!(outcome, RunOutcome::Failed(Fault::Passing, Reason::with(Cause::Transport, &expected)));
    kill(&remote, Signal::KILL);
}

/// An rsync that sees a file system of 1 MB, and only for itself, at `dir`; an ordinary user becomes root of a
/// namespace of his own for it.
fn rsync_on_small_disk(path: &Path, dir: &Path) {
    let user = if rustix::process::geteuid().is_root() { "" } else { "--map-root-user" };
    let inner = format!("mount -t tmpfs -o size=1m small '{}' && exec /usr/bin/rsync \"$@\"", dir.display());
    script(path, &format!("exec unshare {user} --mount sh -c '{}' rsync \"$@\"", inner.replace('\'', "'\\''")));
}

#[tokio::test]
async fn a_full_disk_is_told_as_such_on_either_side() {
    let sshd = Sshd::start();
    let mut bench = Bench::over(&sshd, &[]);
    let small = bench.path("rsync");
    fs::create_dir_all(bench.path("spool/in/1")).unwrap();
    rsync_on_small_disk(&small, &bench.path("spool/in/1"));
    bench.change(|settings| settings.options.push(format!("--rsync-path={}", small.display())));
    fs::write(bench.path("files/x"), vec![b'x'; 3_000_000]).unwrap();
    let outcome = bench.push(&[b"x"]).await;
    let RunOutcome::Failed(Fault::Passing, reason) = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason.cause(), Cause::Space);
    assert!(reason.detail().starts_with(&format!("on {HOST}: ")), "{reason}");

    rsync_on_small_disk(&small, &bench.path("staging"));
    bench.change(|settings| {
        settings.options.pop();
        settings.program = small;
    });
    fs::create_dir(bench.held()).unwrap();
    fs::copy(bench.path("files/x"), bench.held().join("x")).unwrap();
    bench.start(Direction::Pull, &[b"x"]);
    let outcome = bench.ran().await;
    let RunOutcome::Failed(Fault::Passing, reason) = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason.cause(), Cause::Space);
    assert!(reason.detail().starts_with("here: "), "{reason}");
    assert_eq!(fs::read_dir(bench.path("staging")).unwrap().count(), 0, "it was somebody else's file system");
}

#[tokio::test]
async fn an_rsync_that_will_not_do_is_named() {
    let mut bench = Bench::new(&[]);
    assert!(bench.rsync.check_version().await.is_ok());
    let program = bench.path("rsync");
    let shown = program.display().to_string();

    bench.change(|settings| settings.program = program.clone());
    let missing = bench.rsync.check_version().await.unwrap_err();
    assert!(matches!(missing, VersionError::NotStarted { .. }));
    let text = missing.to_string();
    assert_eq!(text, format!("cannot run {shown} --version: install rsync, or set the key rsync to where it is"));

    script(&program, "echo 'rsync  version 3.0.9  protocol version 30'");
    let old = bench.rsync.check_version().await.unwrap_err();
    assert_eq!(old.to_string(), format!("{shown} is rsync 3.0.9, but 3.1.3 or newer is needed: upgrade it"));

    script(&program, "echo 'something else'; exit 1");
    let strange = bench.rsync.check_version().await.unwrap_err();
    assert!(strange.to_string().contains("says \"something else\", which is not rsync"), "{strange}");

    fs::remove_file(&program).unwrap();
    let (fault, text) = bench.failure().await;
    assert_eq!(fault, Fault::Lasting);
    assert!(text.starts_with(&format!("cannot start {shown}: ")), "{text}");
}

/// Names the directions to the process that plays the daemon.
const PLAY: &str = "PLAY_DAEMON";

/// What the daemon started is gone by itself when the daemon is killed in the middle of a run.
async fn ends_with_the_daemon(direction: Direction, test: &str) {
    if let Ok(ssh) = std::env::var(PLAY) {
        let mut bench = Bench::new(&[format!("--rsh={ssh}"), "--bwlimit=5000".to_owned()]);
        bench.big_file(direction);
        bench.start(direction, &[b"big"]);
        bench.under_way().await;
        println!("dir {}", bench.dir.path().display());
        std::future::pending::<()>().await;
    }
    let sshd = Sshd::start();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(PLAY, sshd.ssh())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines().map(Result::unwrap);
    let dir = lines.find_map(|line| Some(line.split_once("dir ")?.1.to_owned())).expect("it is under way");
    let local = descendants(daemon.id());
    let remote = sshd.running("rsync");
    assert!(local.iter().any(|pid| comm(*pid).as_deref() == Some("ssh")), "{local:?}");
    // The sender is one process, the receiver two.
    assert_eq!((local.len(), remote.len()), if direction == Direction::Push { (2, 2) } else { (3, 1) });
    daemon.kill().unwrap();
    gone(&local, Duration::from_secs(1)).await;
    gone(&remote, Duration::from_secs(5)).await;
    daemon.wait().unwrap();
    fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_push_ends_with_a_killed_daemon() {
    ends_with_the_daemon(Direction::Push, "a_push_ends_with_a_killed_daemon").await;
}

#[tokio::test]
async fn a_pull_ends_with_a_killed_daemon() {
    ends_with_the_daemon(Direction::Pull, "a_pull_ends_with_a_killed_daemon").await;
}
