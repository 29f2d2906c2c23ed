//! Cleanup scripts: runs one for an item and reports how it ended.
//!
//! A script runs without a shell, in `file_dir`, and may outlive the daemon. A script that is killed between two steps
//! is worse than one that continues, and the machine looks at the item again before it runs a script twice. (A script
//! that prints into the closed pipe after that gets SIGPIPE, as in any shell pipeline.) The daemon does not wait for
//! processes that a script leaves in the background.
//!
//! No code of ours runs between fork and exec, so that the standard library uses `posix_spawn`. An `mv` then takes 3 ms
//! in all; a fork of a daemon of 60 MB took 20 ms in a test.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::process::{self, DRAIN_LIMIT, Group, Ready, Tail};
use crate::machine::{Cause, Cleared, Input, ItemName, Mode, Reason, TransferId};

/// How long a script that has exceeded its time limit may take to end after SIGTERM; then it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Runs cleanup scripts. The machine limits how many run at once.
#[derive(Debug)]
pub struct Runner {
    mode: Mode,
    file_dir: PathBuf,
    events: mpsc::Sender<Input>,
    /// Called before a script starts; blocks.
    ready: Option<Ready>,
}

impl Runner {
    /// A runner for a node of this mode, which sends its answers to `events`.
    pub fn new(mode: Mode, file_dir: PathBuf, events: mpsc::Sender<Input>) -> Self {
        Self { mode, file_dir, events, ready: None }
    }

    /// The same, but a script starts only if `ready` returns no reason against it.
    pub fn only_if(mut self, ready: impl Fn() -> Result<(), Reason> + Send + Sync + 'static) -> Self {
        self.ready = Some(Ready(Arc::new(ready)));
        self
    }

    /// Starts `argv` for an item; the result, or the reason why it did not start, comes as [`Input::Cleaned`]. A script
    /// that runs longer than `timeout` is ended with its whole process group.
    ///
    /// The script gets `SYNKLER_MODE`, `SYNKLER_TRANSFER`, `SYNKLER_ITEM` (the name, byte for byte) and `SYNKLER_PATH`
    /// (the full path). Its standard input is empty. Only the last line of its output is used, to say why it failed.
    pub fn run(&self, transfer: TransferId, item: &ItemName, argv: &[OsString], timeout: Duration) {
        let (mode, file_dir, events) = (self.mode, self.file_dir.clone(), self.events.clone());
        let (item, argv) = (item.clone(), argv.to_vec());
        let ready = self.ready.clone();
        tokio::spawn(async move {
            if let Err(reason) = process::ready(ready).await {
                let _ = events.send(Input::Cleaned { transfer, outcome: Err(reason) }).await;
                return;
            }
            let outcome = match start(mode, &file_dir, transfer, &item, &argv).await {
                Ok((group, output)) => follow(group, output, timeout).await,
                Err(error) => Err(not_started(&argv.into_iter().next().unwrap_or_default(), &file_dir, &error)),
            };
            let outcome = outcome.map(|()| Cleared::Script).map_err(|text| Reason::with(Cause::Cleanup, &text));
            // Nobody listens any more only when the daemon is on its way out.
            let _ = events.send(Input::Cleaned { transfer, outcome }).await;
        });
    }
}

/// Starts a script. The starting thread blocks until the program has been loaded, which takes milliseconds: so it is
/// not the thread of the loop.
async fn start(
    mode: Mode,
    file_dir: &Path,
    transfer: TransferId,
    item: &ItemName,
    argv: &[OsString],
) -> io::Result<(Group, pipe::Receiver)> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    // One pipe for both outputs, so that the last line of either is the last one.
    let (output, input) = io::pipe()?;
    let item = OsStr::from_bytes(item.as_bytes());
    let mut command = process::command(program);
    command
        .args(arguments)
        .current_dir(file_dir)
        .env("SYNKLER_MODE", mode.as_str())
        .env("SYNKLER_TRANSFER", transfer.to_string())
        .env("SYNKLER_ITEM", item)
        .env("SYNKLER_PATH", file_dir.join(item))
        .stdout(input.try_clone()?)
        .stderr(input);
    let group = tokio::task::spawn_blocking(move || Group::start(&mut command)).await??;
    Ok((group, pipe::Receiver::from_owned_fd(output.into())?))
}

/// Waits for the end of the script itself, and reads its output, so that a full pipe can never block it.
async fn follow(mut group: Group, output: pipe::Receiver, timeout: Duration) -> Result<(), String> {
    let mut tail = Tail::default();
    let ended = {
        let mut reading = pin!(tail.follow(output));
        let mut all_read = false;
        let mut deadline = pin!(tokio::time::sleep(timeout));
        let ended = loop {
            tokio::select! {
                () = &mut reading, if !all_read => all_read = true,
                status = group.wait() => break status.map(Some),
                () = &mut deadline => break group.end_group(GRACE).await.map(|_| None),
            }
        };
        if !all_read {
            let _ = tokio::time::timeout(DRAIN_LIMIT, reading).await;
        }
        ended
    };
    let what = match ended {
        Ok(Some(status)) if status.success() => return Ok(()),
        Ok(Some(status)) => process::describe(status),
        Ok(None) => format!("killed after {} s: it ran longer than cleanup_timeout_minutes", timeout.as_secs()),
        Err(error) => format!("cannot wait for the script: {error}"),
    };
    let last_line = tail.last_line();
    Err(if last_line.is_empty() { what } else { format!("{what}: {last_line}") })
}

fn not_started(program: &OsStr, file_dir: &Path, error: &io::Error) -> String {
    let program = program.display();
    match error.kind() {
        io::ErrorKind::InvalidInput => "cleanup_script names no program".to_owned(),
        // The kernel uses one error for both cases.
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if !file_dir.is_dir() => {
            format!("cannot start {program} in {}: not a directory", file_dir.display())
        }
        io::ErrorKind::NotFound => {
            format!("cannot start {program}: no such program, or the interpreter in its first line does not exist")
        }
        io::ErrorKind::PermissionDenied => {
            format!("cannot start {program}: the user of the service may not execute it")
        }
        _ if error.raw_os_error() == Some(libc::ENOEXEC) => {
            format!("cannot start {program}: not a program; a script must begin with #! and its interpreter")
        }
        _ => format!("cannot start {program}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;

    struct Bench {
        dir: tempfile::TempDir,
        cleanup: Runner,
        events: mpsc::Receiver<Input>,
        transfer: TransferId,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (sender, events) = mpsc::channel(8);
            let cleanup = Runner::new(Mode::Upload, dir.path().to_owned(), sender);
            Self { dir, cleanup, events, transfer: TransferId::mint(1, [1; 10]) }
        }

        fn start(&self, name: &[u8], argv: &[&str], timeout: Duration) {
            let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
            self.cleanup.run(self.transfer, &ItemName::new(name).unwrap(), &argv, timeout);
        }

        async fn end(&mut self) -> Result<(), String> {
            let input = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await.unwrap().unwrap();
            let Input::Cleaned { transfer, outcome } = input else { panic!("{input:?}") };
            assert_eq!(transfer, self.transfer);
            outcome.map(|cleared| assert_eq!(cleared, Cleared::Script)).map_err(|reason| {
                assert_eq!(reason.cause(), Cause::Cleanup);
                reason.detail().to_owned()
            })
        }

        async fn shell(&mut self, script: &str, timeout: Duration) -> Result<(), String> {
            self.start(b"item", &["sh", "-c", script], timeout);
            self.end().await
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_script_gets_names_byte_for_byte() {
        let mut bench = Bench::new();
        let name = b"a \xff\n'b'";
        fs::write(bench.dir.path().join(OsStr::from_bytes(name)), "x").unwrap();
        let script = "test \"$SYNKLER_MODE\" = upload &&
            test \"$SYNKLER_PATH\" = \"$PWD/$SYNKLER_ITEM\" && mv -- \"$SYNKLER_ITEM\" \"taken-$SYNKLER_TRANSFER\"";
        bench.start(name, &["sh", "-c", script], LONG);
        assert_eq!(bench.end().await, Ok(()));
        assert!(bench.dir.path().join(format!("taken-{}", bench.transfer)).exists());
    }

    #[tokio::test]
    async fn failures_say_what_and_the_last_line() {
        let mut bench = Bench::new();
        let failed = bench.shell("echo first; echo no room >&2; echo; exit 4", LONG).await;
        assert_eq!(failed.unwrap_err(), "exit status 4: no room");
        assert_eq!(bench.shell("kill -9 $$", LONG).await.unwrap_err(), "killed by signal 9");
        assert_eq!(bench.shell("exit 1", LONG).await.unwrap_err(), "exit status 1");
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_named() {
        let mut bench = Bench::new();
        let script = bench.dir.path().join("script");
        let path = script.to_str().unwrap();
        bench.start(b"item", &[path], LONG);
        assert!(bench.end().await.unwrap_err().contains("script: no such program"));
        fs::write(&script, "echo").unwrap();
        bench.start(b"item", &[path], LONG);
        assert!(bench.end().await.unwrap_err().contains("may not execute it"));
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        bench.start(b"item", &[path], LONG);
        assert!(bench.end().await.unwrap_err().contains("must begin with #!"));
        bench.start(b"item", &[], LONG);
        assert_eq!(bench.end().await.unwrap_err(), "cleanup_script names no program");
        bench.cleanup.file_dir = bench.dir.path().join("gone");
        bench.start(b"item", &["true"], LONG);
        assert!(bench.end().await.unwrap_err().ends_with("gone: not a directory"));
    }

    #[tokio::test]
    async fn a_script_that_hangs_is_ended_with_its_group() {
        let mut bench = Bench::new();
        let pid_file = bench.dir.path().join("pid");
        let hung = bench.shell("sleep 1000 & echo $! >pid; echo stuck; wait", Duration::from_millis(300)).await;
        assert_eq!(hung.unwrap_err(), "killed after 0 s: it ran longer than cleanup_timeout_minutes: stuck");
        let pid = fs::read_to_string(pid_file).unwrap();
        // Another process reaps an orphan, so it may be a zombie for a moment.
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }

    #[tokio::test]
    async fn neither_megabytes_nor_a_background_child_hold_it_up() {
        let mut bench = Bench::new();
        let flood = bench.shell("head -c 20000000 /dev/zero | tr '\\0' x; echo; echo end; exit 1", LONG).await;
        assert_eq!(flood.unwrap_err(), "exit status 1: end");
        let start = Instant::now();
        let left = bench.shell("sleep 1000 & echo $! >pid; exit 1", LONG).await;
        assert_eq!(left.unwrap_err(), "exit status 1");
        assert!(start.elapsed() < Duration::from_secs(10));
        let pid = fs::read_to_string(bench.dir.path().join("pid")).unwrap();
        let killed = std::process::Command::new("kill").arg(pid.trim()).status().unwrap();
        assert!(killed.success(), "it was left alone");
    }
}
