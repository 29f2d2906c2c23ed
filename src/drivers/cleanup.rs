//! Cleanup scripts: runs one for an item, or for several, and reports how it ended.
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
use crate::machine::{Cause, CleanupItem, Cleared, Input, Node, NodeName, Reason, TransferId};

/// How long a script that has exceeded its time limit may take to end after SIGTERM; then it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Where a node's scripts run, and what they are told of the node.
#[derive(Debug, Clone)]
pub struct Place {
    /// The node.
    pub node: Node,
    /// Its group.
    pub group: String,
    /// The directory of its items.
    pub file_dir: PathBuf,
}

/// Runs cleanup scripts. The machine limits how many run at once. A clone is the same.
#[derive(Debug, Clone)]
pub struct Runner {
    place: Arc<Place>,
    events: mpsc::Sender<Input>,
    /// Called before a script starts; blocks.
    ready: Option<Ready>,
}

/// A command and what it is told.
struct Job {
    argv: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
    timeout: Duration,
}

impl Runner {
    /// A runner for the scripts of a node, which sends its answers to `events`.
    pub fn new(place: Place, events: mpsc::Sender<Input>) -> Self {
        Self { place: Arc::new(place), events, ready: None }
    }

    /// The same, but a script starts only if `ready` returns no reason against it.
    pub fn only_if(mut self, ready: impl Fn() -> Result<(), Reason> + Send + Sync + 'static) -> Self {
        self.ready = Some(Ready(Arc::new(ready)));
        self
    }

    /// Starts `argv` for an item; the result, or the reason why it did not start, comes as [`Input::Cleaned`]. A script
    /// that runs longer than `timeout` is ended with its whole process group.
    ///
    /// The script gets what is known of the item in `SYNKLER_*` variables, `SYNKLER_ITEM` (the name) and `SYNKLER_PATH`
    /// (the full path) byte for byte. Its standard input is empty. Only the last line of its output is used, to say why
    /// it failed.
    pub fn run(&self, item: &CleanupItem, argv: &[OsString], timeout: Duration) {
        let variables = about(item, &self.place.file_dir);
        self.spawn(vec![item.transfer], Job { argv: argv.to_vec(), variables, timeout });
    }

    /// Starts `argv` once for all these items; each gets the result as an answer. The variables of a single item are
    /// not set.
    pub fn run_for_all(&self, items: &[CleanupItem], argv: &[OsString], timeout: Duration) {
        let variables = vec![("SYNKLER_COUNT", items.len().to_string().into())];
        let transfers = items.iter().map(|item| item.transfer).collect();
        self.spawn(transfers, Job { argv: argv.to_vec(), variables, timeout });
    }

    fn spawn(&self, transfers: Vec<TransferId>, job: Job) {
        let (place, events, ready) = (Arc::clone(&self.place), self.events.clone(), self.ready.clone());
        tokio::spawn(async move {
            let outcome = match process::ready(ready).await {
                Err(reason) => Err(reason),
                Ok(()) => perform(&place, job).await.map_err(|text| Reason::with(Cause::Cleanup, &text)),
            };
            for transfer in transfers {
                let outcome = outcome.clone().map(|()| Cleared::Script);
                // Nobody listens any more only when the daemon is on its way out.
                let _ = events.send(Input::Cleaned { transfer, outcome }).await;
            }
        });
    }
}

async fn perform(place: &Place, job: Job) -> Result<(), String> {
    match start(place, &job).await {
        Ok((group, output)) => follow(group, output, job.timeout).await,
        Err(error) => Err(not_started(&job.argv.into_iter().next().unwrap_or_default(), &place.file_dir, &error)),
    }
}

/// What is known of one item.
fn about(item: &CleanupItem, file_dir: &Path) -> Vec<(&'static str, OsString)> {
    let name = OsStr::from_bytes(item.item.as_bytes());
    let mut variables = vec![
        ("SYNKLER_COUNT", "1".into()),
        ("SYNKLER_TRANSFER", item.transfer.to_string().into()),
        ("SYNKLER_ITEM", name.to_owned()),
        ("SYNKLER_PATH", file_dir.join(name).into_os_string()),
        ("SYNKLER_SIZE", item.fingerprint.size.to_string().into()),
        ("SYNKLER_MD5", item.fingerprint.digest.to_string().into()),
        ("SYNKLER_UPLOAD", item.upload.as_str().into()),
    ];
    if !item.receivers.is_empty() {
        let receivers: Vec<_> = item.receivers.iter().map(NodeName::as_str).collect();
        variables.push(("SYNKLER_RECEIVERS", receivers.join(",").into()));
    }
    variables
}

/// Starts a script. The starting thread blocks until the program has been loaded, which takes milliseconds: so it is
/// not the thread of the loop.
async fn start(place: &Place, job: &Job) -> io::Result<(Group, pipe::Receiver)> {
    let (program, arguments) = job.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    // One pipe for both outputs, so that the last line of either is the last one.
    let (output, input) = io::pipe()?;
    let mut command = process::command(program);
    command
        .args(arguments)
        .current_dir(&place.file_dir)
        .env("SYNKLER_MODE", place.node.mode.as_str())
        .env("SYNKLER_NODE", place.node.name.as_str())
        .env("SYNKLER_GROUP", &place.group)
        .envs(job.variables.iter().map(|(key, value)| (key, value)))
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
    use crate::machine::{Digest, Fingerprint, ItemName, Mode};

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
            let node = Node::new(Mode::Upload, "alpha".parse().unwrap());
            let place = Place { node, group: "default".to_owned(), file_dir: dir.path().to_owned() };
            let cleanup = Runner::new(place, sender);
            Self { dir, cleanup, events, transfer: TransferId::mint(1, [1; 10]) }
        }

        fn start(&self, name: &[u8], argv: &[&str], timeout: Duration) {
            let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
            self.cleanup.run(&item(self.transfer, name), &argv, timeout);
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

    fn item(transfer: TransferId, name: &[u8]) -> CleanupItem {
        CleanupItem {
            transfer,
            item: ItemName::new(name).unwrap(),
            signature: None,
            fingerprint: Fingerprint { size: 12345, digest: Digest([0xab; 16]) },
            upload: "beta".parse().unwrap(),
            receivers: ["gamma", "delta"].map(|name| name.parse().unwrap()).to_vec(),
        }
    }

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

    /// The variables of a script, sorted.
    fn told(bench: &Bench) -> Vec<String> {
        let text = fs::read_to_string(bench.dir.path().join("told")).unwrap();
        let mut lines: Vec<String> =
            text.lines().filter(|line| line.starts_with("SYNKLER_")).map(String::from).collect();
        lines.sort();
        lines
    }

    #[tokio::test]
    async fn a_script_is_told_all_that_is_known() {
        let mut bench = Bench::new();
        assert_eq!(bench.shell("env >told", LONG).await, Ok(()));
        let dir = bench.dir.path().display().to_string();
        let expected = [
            "SYNKLER_COUNT=1".to_owned(),
            "SYNKLER_GROUP=default".to_owned(),
            "SYNKLER_ITEM=item".to_owned(),
            format!("SYNKLER_MD5={}", "ab".repeat(16)),
            "SYNKLER_MODE=upload".to_owned(),
            "SYNKLER_NODE=alpha".to_owned(),
            format!("SYNKLER_PATH={dir}/item"),
            "SYNKLER_RECEIVERS=gamma,delta".to_owned(),
            "SYNKLER_SIZE=12345".to_owned(),
            format!("SYNKLER_TRANSFER={}", bench.transfer),
            "SYNKLER_UPLOAD=beta".to_owned(),
        ];
        assert_eq!(told(&bench), expected);
    }

    #[tokio::test]
    async fn one_script_for_several_items_answers_for_each() {
        let mut bench = Bench::new();
        let transfers = [TransferId::mint(1, [1; 10]), TransferId::mint(2, [2; 10])];
        let items = transfers.map(|transfer| item(transfer, b"item"));
        let argv = ["sh", "-c", "env >told; echo \"$1 $2\"; exit 3", "x", "/a b", "/c"].map(OsString::from);
        bench.cleanup.run_for_all(&items, &argv, LONG);
        for transfer in transfers {
            bench.transfer = transfer;
            assert_eq!(bench.end().await.unwrap_err(), "exit status 3: /a b /c");
        }
        let expected = ["SYNKLER_COUNT=2", "SYNKLER_GROUP=default", "SYNKLER_MODE=upload", "SYNKLER_NODE=alpha"];
        assert_eq!(told(&bench), expected);
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
        let gone = Place { file_dir: bench.dir.path().join("gone"), ..(*bench.cleanup.place).clone() };
        bench.cleanup.place = Arc::new(gone);
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
