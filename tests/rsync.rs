//! The rsync driver against the real thing: rsync, ssh and an sshd of our own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support {
    pub mod rsync;
    pub mod sshd;
}

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use rustix::process::{Pid, Signal};
use support::rsync::{BIG, Bench, assert_same, gone, kill, script, tree};
use support::sshd::{Sshd, comm, descendants};
use synkler::drivers::rsync::Rsync;
use synkler::machine::{Cause, Direction, Fault, Input, Location, Reason, RunId, RunOutcome};
use tokio::sync::mpsc;

fn stopped() -> RunOutcome {
    RunOutcome::Failed(Fault::Passing, Reason::with(Cause::Transport, "stopped"))
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
