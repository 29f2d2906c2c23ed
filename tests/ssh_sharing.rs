//! The service's own key and host keys, made by its own commands, and the connection that its runs share: it makes them
//! faster, and no run needs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support {
    pub mod rsync;
    pub mod sshd;
}

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use support::rsync::{Bench, LONG, gone, kill, script};
use support::sshd::{HOST, Sshd, comm, descendants};
use synkler::drivers::rsync::Ssh;
use synkler::machine::{Direction, Fault, RunOutcome};

const PROGRAM: &str = env!("CARGO_BIN_EXE_synkler");

/// A driver that has only been told where the service's own files are.
struct Own {
    sshd: Sshd,
    bench: Bench,
}

impl Own {
    fn new() -> Self {
        let sshd = Sshd::start();
        let bench = own_bench(&sshd.path(""), sshd.port());
        Self { sshd, bench }
    }

    fn sockets(&self) -> PathBuf {
        self.bench.path("ssh-sockets")
    }

    async fn completes(&mut self) {
        fs::write(self.bench.path("files/x"), "x").unwrap();
        assert_eq!(self.bench.push(&[b"x"]).await, RunOutcome::Complete);
    }

    fn logins(&self) -> usize {
        self.sshd.log().matches("Accepted publickey").count()
    }

    /// The process that holds the shared connection.
    fn master(&self) -> Pid {
        let sockets = self.sockets();
        let is_master = |pid: &Pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("ControlMaster=yes") && line.contains(sockets.to_str().unwrap())
        };
        let found: Vec<_> = descendants(std::process::id()).into_iter().filter(is_master).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0]
    }
}

/// What reaches the test's sshd without anybody's settings; the port is the only thing that is not the driver's.
fn own_bench(sshd: &Path, port: u16) -> Bench {
    let mut bench = Bench::new(&[]);
    let program = bench.path("ssh");
    script(&program, &format!("exec ssh -F /dev/null -o GlobalKnownHostsFile=/dev/null -p {port} \"$@\""));
    let sockets = bench.path("ssh-sockets");
    let (key, known_hosts) = (sshd.join("client_key"), sshd.join("known_hosts"));
    bench.change(|settings| {
        settings.ssh = Ssh { program, keys: vec![key], known_hosts: Some(known_hosts), sockets: Some(sockets) };
    });
    bench
}

#[tokio::test]
async fn runs_share_one_connection() {
    let mut own = Own::new();
    let start = Instant::now();
    for _ in 0..20 {
        own.completes().await;
    }
    let shared = start.elapsed();
    assert_eq!(own.logins(), 1, "{}", own.sshd.log());
    let master = own.master();
    own.bench.rsync.halt_all().await;
    gone(&[master], Duration::from_secs(1)).await;
    assert!(!own.sockets().exists());

    own.bench.change(|settings| settings.ssh.sockets = None);
    let start = Instant::now();
    for _ in 0..20 {
        own.completes().await;
    }
    let alone = start.elapsed();
    assert_eq!(own.logins(), 21);
    println!("20 small runs: {shared:?} shared, {alone:?} alone, {:.2}", alone.as_secs_f64() / shared.as_secs_f64());
    assert!(shared < alone, "{shared:?}, alone {alone:?}");
}

#[tokio::test]
async fn an_ssh_of_the_users_is_shared_with_its_arguments() {
    let mut own = Own::new();
    let shell = format!("--rsh={}", own.sshd.ssh());
    own.bench.change(|settings| {
        // The way of the service does not lead anywhere.
        settings.ssh.program = "/nonexistent".into();
        settings.options = vec![shell];
    });
    for _ in 0..3 {
        own.completes().await;
    }
    assert_eq!(own.logins(), 1, "{}", own.sshd.log());
    kill(&[own.master()], Signal::KILL);
    own.completes().await;
    assert_eq!(own.logins(), 2, "a run needs no shared connection: {}", own.sshd.log());
    let wrapped = format!("--rsh={} -v", own.sshd.ssh());
    own.bench.change(|settings| settings.options = vec![wrapped]);
    for _ in 0..2 {
        own.completes().await;
    }
    assert_eq!(own.logins(), 4, "each by itself: {}", own.sshd.log());
}

#[tokio::test]
async fn a_killed_connection_fails_what_is_on_it_and_nothing_after() {
    let mut own = Own::new();
    own.bench.change(|settings| settings.options = vec!["--bwlimit=15000".to_owned()]);
    own.bench.big_file(Direction::Push);
    own.bench.start(Direction::Push, &[b"big"]);
    own.bench.under_way().await;
    kill(&[own.master()], Signal::KILL);
    let start = Instant::now();
    let outcome = own.bench.ran().await;
    assert!(matches!(outcome, RunOutcome::Failed(Fault::Passing, _)), "{outcome:?}");
    own.completes().await;
    println!("killed: failed and done again after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_connection_that_hangs_is_left_alone() {
    let mut own = Own::new();
    own.completes().await;
    let master = own.master();
    kill(&[master], Signal::STOP);
    let start = Instant::now();
    own.completes().await;
    println!("hanging: done after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    gone(&[master], Duration::from_secs(10)).await;
    assert_eq!(own.logins(), 2);
}

#[tokio::test]
async fn a_server_that_starts_again_is_found() {
    let mut own = Own::new();
    own.completes().await;
    own.sshd.kill();
    fs::write(own.bench.path("files/x"), "x").unwrap();
    let outcome = own.bench.push(&[b"x"]).await;
    assert!(matches!(outcome, RunOutcome::Failed(Fault::Passing, _)), "{outcome:?}");
    own.sshd.restart();
    let start = Instant::now();
    own.completes().await;
    println!("server again: done after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_server_that_allows_no_second_session_gets_a_second_connection() {
    let mut own = Own::new();
    let config = fs::read_to_string(own.sshd.path("sshd_config")).unwrap();
    fs::write(own.sshd.path("sshd_config"), config.replace("MaxSessions 200", "MaxSessions 1")).unwrap();
    own.sshd.kill();
    own.sshd.restart();
    own.bench.change(|settings| settings.options = vec!["--bwlimit=15000".to_owned()]);
    own.bench.big_file(Direction::Push);
    own.bench.start(Direction::Push, &[b"big"]);
    own.bench.under_way().await;
    let first = own.bench.runs;
    fs::write(own.bench.path("files/x"), "x").unwrap();
    let second = own.bench.start(Direction::Push, &[b"x"]);
    loop {
        match own.bench.next().await {
            synkler::machine::Input::Ran { run, outcome } => {
                assert_eq!((run, outcome), (second, RunOutcome::Complete), "not of {first}");
                break;
            }
            other => assert!(matches!(other, synkler::machine::Input::Progress { .. }), "{other:?}"),
        }
    }
    assert_eq!(own.logins(), 2);
    own.bench.rsync.halt_all().await;
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_done_without() {
    let mut own = Own::new();
    let long = own.bench.path("d".repeat(100));
    own.bench.change(|settings| settings.ssh.sockets = Some(long));
    for _ in 0..2 {
        own.completes().await;
    }
    assert_eq!(own.logins(), 2);
}

/// Names the sshd's files to the process that plays the daemon.
const PLAY: &str = "PLAY_DAEMON";

#[tokio::test]
async fn a_shared_connection_ends_with_a_killed_daemon() {
    if let Ok(sshd) = std::env::var(PLAY) {
        let (dir, port) = sshd.split_once(' ').unwrap();
        let mut bench = own_bench(Path::new(dir), port.parse().unwrap());
        bench.change(|settings| settings.options = vec!["--bwlimit=5000".to_owned()]);
        bench.big_file(Direction::Push);
        bench.start(Direction::Push, &[b"big"]);
        bench.under_way().await;
        println!("dir {}", bench.dir.path().display());
        std::future::pending::<()>().await;
    }
    let sshd = Sshd::start();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "a_shared_connection_ends_with_a_killed_daemon"])
        .env(PLAY, format!("{} {}", sshd.path("").display(), sshd.port()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines().map(Result::unwrap);
    let dir = lines.find_map(|line| Some(line.split_once("dir ")?.1.to_owned())).expect("it is under way");
    let (local, remote) = (descendants(daemon.id()), sshd.running("rsync"));
    assert_eq!(local.iter().filter(|pid| comm(**pid).as_deref() == Some("ssh")).count(), 2, "{local:?}");
    daemon.kill().unwrap();
    gone(&local, Duration::from_secs(1)).await;
    gone(&remote, Duration::from_secs(5)).await;
    daemon.wait().unwrap();
    fs::remove_dir_all(dir).unwrap();
}

/// `synkler` with the config of an upload named u1.
fn synkler(dir: &Path, arguments: &[&str]) -> Output {
    synkler_at(Path::new(PROGRAM), dir, arguments)
}

fn synkler_at(program: &Path, dir: &Path, arguments: &[&str]) -> Output {
    let config = dir.join("synkler.toml");
    let text = "mode = \"upload\"\nname = \"u1\"\nsynkler_server = \"localhost\"\n";
    fs::write(&config, format!("{text}file_dir = {:?}\nstate_dir = {:?}\n", dir.join("files"), dir.join("state")))
        .unwrap();
    let mut command = Command::new(program);
    command.arg("--config").arg(config).args(arguments).stdin(Stdio::null()).env_remove("CREDENTIALS_DIRECTORY");
    command.output().unwrap()
}

#[tokio::test]
async fn keys_and_trust_make_a_node_ready() {
    let mut own = Own::new();
    let dir = own.bench.dir.path().to_owned();
    let state = dir.join("state");
    let (key, known_hosts) = (state.join("ssh_key"), state.join("known_hosts"));
    own.bench.change(|settings| {
        settings.ssh.keys = vec![key.clone()];
        settings.ssh.known_hosts = Some(known_hosts.clone());
    });

    let spool = own.bench.path("spool");
    let made = synkler(&dir, &["keys", "--spool", spool.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let line = String::from_utf8(made.stdout).unwrap();
    let gate = format!("restrict,command=\"/usr/bin/synkler gate upload {}\" ssh-ed25519 ", spool.display());
    assert!(line.starts_with(&gate) && line.ends_with(" synkler upload u1\n") && line.lines().count() == 1, "{line}");
    assert_eq!(synkler(&dir, &["keys", "--spool", spool.to_str().unwrap()]).stdout, line.as_bytes());
    fs::write(own.sshd.path("authorized_keys"), line.replace("/usr/bin/synkler", PROGRAM)).unwrap();

    // Nobody has looked at the host key yet.
    let refused = |outcome: RunOutcome| match outcome {
        RunOutcome::Failed(Fault::Lasting, reason) => reason.detail().to_owned(),
        other => panic!("{other:?}"),
    };
    fs::write(&known_hosts, "").unwrap();
    fs::write(own.bench.path("files/x"), "x").unwrap();
    let place = own.bench.location("spool/in/000000ab-1");
    own.bench.start_at(Direction::Push, place.clone(), &[b"x"]);
    let text = refused(own.bench.ran().await);
    assert!(text.contains("is not known: check it with synkler trust"), "{text}");

    let port = own.sshd.port().to_string();
    let trust = |more: &[&str]| synkler(&dir, &[&["trust", HOST, "--port", &port], more].concat());
    let asked = trust(&[]);
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    assert!(String::from_utf8_lossy(&asked.stderr).contains("--fingerprint"), "{asked:?}");
    let shown = String::from_utf8(asked.stdout).unwrap();
    let listed = Command::new("ssh-keygen").arg("-lf").arg(own.sshd.path("host_key.pub")).output().unwrap();
    let fingerprint = String::from_utf8(listed.stdout).unwrap().split(' ').nth(1).unwrap().to_owned();
    assert!(shown.contains("ssh-ed25519") && shown.contains(&fingerprint), "{shown}");
    assert_eq!(trust(&["--fingerprint", "SHA256:other"]).status.code(), Some(1));
    assert_eq!(fs::read(&known_hosts).unwrap(), b"");
    for _ in 0..2 {
        let trusted = trust(&["--fingerprint", &fingerprint]);
        assert!(trusted.status.success(), "{trusted:?}");
        assert_eq!(fs::read_to_string(&known_hosts).unwrap().lines().count(), 1);
    }

    own.bench.start_at(Direction::Push, place, &[b"x"]);
    let outcome = tokio::time::timeout(LONG, own.bench.ran()).await.unwrap();
    assert_eq!(outcome, RunOutcome::Complete);
    assert_eq!(fs::read(own.bench.path("spool/in/000000ab-1/x")).unwrap(), b"x");
    // The gate is the same over a connection that is shared.
    let elsewhere = own.bench.location("spool/held");
    own.bench.start_at(Direction::Push, elsewhere, &[b"x"]);
    let text = refused(own.bench.ran().await);
    assert!(text.contains("synkler gate: refused"), "{text}");
    own.bench.rsync.halt_all().await;
}

/// What root makes is the service's.
#[test]
fn the_key_belongs_to_the_owner_of_the_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    let mut owner = fs::metadata(&state).unwrap().uid();
    if owner == 0 {
        // Root's own directories may be closed to the other user.
        owner = 65534;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&state, Some(owner), Some(owner)).unwrap();
    }
    let program = dir.path().join("synkler");
    fs::copy(PROGRAM, &program).unwrap();
    for _ in 0..2 {
        let output = synkler_at(&program, dir.path(), &["keys"]);
        assert!(output.status.success(), "{output:?}");
        let line = String::from_utf8(output.stdout).unwrap();
        assert!(line.contains("gate upload /FILE_DIR_OF_CENTRAL/default\" ssh-ed25519 "), "{line}");
        for file in ["ssh_key", "ssh_key.pub"] {
            assert_eq!(fs::metadata(state.join(file)).unwrap().uid(), owner, "{file}");
        }
    }
}

#[test]
fn nobody_answers_for_a_host_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let port = support::sshd::free_port().to_string();
    let output = synkler(dir.path(), &["trust", HOST, "--port", &port, "--fingerprint", "SHA256:x"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("on port {port}")), "{said}");
}
