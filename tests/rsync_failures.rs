//! What the rsync driver says when rsync, ssh or the far side fail, against the real thing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support {
    pub mod rsync;
    pub mod sshd;
}

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use support::rsync::{Bench, kill, script, tree};
use support::sshd::{HOST, Sshd, make_key};
use synkler::drivers::rsync::VersionError;
use synkler::machine::{Cause, Direction, Fault, Location, Reason, RunOutcome};

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
    assert!(text.starts_with(&format!("{HOST} rejects the login: add the public key to authorized_keys")), "{text}");

    let empty = sshd.path("empty");
    fs::write(&empty, "").unwrap();
    let unknown = format!("the host key of {HOST} is not known: add it to known_hosts");
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
    let place = format!("replace the old key in {}:1", changed.display());
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
    assert!(text.ends_with("login scripts must print nothing"), "{text}");

    let mut bench = Bench::over(&sshd, &["--no-such-option"]);
    let (fault, text) = bench.failure().await;
    assert_eq!(fault, Fault::Lasting);
    assert_eq!(text, "rsync rejects its options: --no-such-option: unknown option (exit status 1): check rsync_opts");

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
    let expected = format!("rsync timed out: no data from {HOST}");
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
    assert!(reason.detail().starts_with(&format!("on {HOST}")), "{reason}");

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
    assert_eq!(text, format!("cannot run {shown} --version: install rsync, or set rsync to its path"));

    script(&program, "echo 'rsync  version 3.0.9  protocol version 30'");
    let old = bench.rsync.check_version().await.unwrap_err();
    assert_eq!(old.to_string(), format!("{shown} is rsync 3.0.9, but 3.1.3 or newer is needed: upgrade it"));

    script(&program, "echo 'something else'; exit 1");
    let strange = bench.rsync.check_version().await.unwrap_err();
    assert!(strange.to_string().contains("prints \"something else\", which is not rsync"), "{strange}");

    fs::remove_file(&program).unwrap();
    let (fault, text) = bench.failure().await;
    assert_eq!(fault, Fault::Lasting);
    assert!(text.starts_with(&format!("cannot start {shown}: ")), "{text}");
}
