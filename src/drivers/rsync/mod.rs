//! rsync: one run transfers one batch and reports its outcome. No run outlives the daemon.
//!
//! The command line, and why:
//!
//! - `-rltp` (without the `p` if `keep_modes` is `no`), as root also `-go`: the meaning of `--archive`, except for
//!   devices and special files, which no item contains. Owners go by name if both sides know the name, by number
//!   otherwise: this is rsync's own rule, which `--numeric-ids` among the user's options changes.
//! - `--files-from=- --from0`, each name as `./<name>`: names travel on standard input only, byte for byte, and
//!   none looks like an option or a comment. It turns `-R` on and `-r` off, hence `-r`.
//! - `--no-implied-dirs`: otherwise the receiving directory gets the mode and mtime of the sending one.
//! - `--inplace`: spool and staging are ours, and no file there has its final name yet. However a run ends, also by
//!   SIGKILL of the receiver, the arrived data stays where the next run looks for it, and nothing else stays.
//!   `--partial` loses everything when the receiver is killed, and leaves its temporary file;
//!   `--partial-dir` even discards files with the restricted shell `rrsync`.
//! - `--timeout`, with ssh's own keep-alive: the only limits on a stall. A run may take days.
//! - `-H`, `-A`, `-X`, `-S` for the extras that the run carries. ACLs and owners then go by number: central need not know
//!   the names. Of extended attributes only `user.*` travel, also if root runs it.
//! - `-s` is not used: `rrsync` refuses it, and no name is on a command line anyway.
//!
//! The user's options come after these, so theirs count. A remote shell among them is the user's responsibility;
//! otherwise `shell` says how ssh is called. If the remote shell is ssh, in either case, the runs share a connection.

mod probe;
mod progress;
mod refused;
mod shared;
mod shell;
mod verdict;
mod version;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::probe::OLDEST_PROTOCOL;
use self::progress::Lines;
use self::shared::{Connections, Share};
pub use self::shell::Ssh;
use self::shell::names_remote_shell;
pub use self::version::{OLDEST_VERSION, Version, VersionError};
use super::keeps;
use super::process::{self, DRAIN_LIMIT, Group, Ready, Tail};
use crate::machine::{Cause, Direction, Extra, Fault, Input, Keep, Location, Reason, Run, RunId, RunOutcome};

/// How long a run may take to end after SIGTERM; then it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// How long all runs together may take to end.
const HALT_LIMIT: Duration = Duration::from_secs(3);

/// The minimum interval between two reports of a run's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The time limit of `rsync --version`.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// The options of each extra.
const EXTRAS: &[(Extra, &[&str])] = &[
    (Extra::Hardlinks, &["--hard-links"]),
    (Extra::Xattrs, &["--xattrs", "--filter=-x! user.*"]),
    (Extra::Acls, &["--acls", "--numeric-ids"]),
    (Extra::Sparse, &["--sparse"]),
];

/// The settings that all runs share.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rsync program (config key `rsync`).
    pub program: PathBuf,
    /// The user's options (config key `rsync_opts`), already checked.
    pub options: Vec<String>,
    /// The directory that pushes read from.
    pub file_dir: PathBuf,
    /// The directory that pulls write to, below it one for each transfer; must exist.
    pub staging_dir: PathBuf,
    /// Whether runs transfer modes.
    pub modes: bool,
    /// How to call ssh, unless the options name a remote shell.
    pub ssh: Ssh,
}

impl Settings {
    /// Whether the user's options name the remote shell.
    fn own_shell(&self) -> bool {
        self.options.iter().any(|option| names_remote_shell(option))
    }
}

/// Starts and stops rsync runs. The machine limits how many run at once.
#[derive(Debug)]
pub struct Rsync {
    settings: Arc<Settings>,
    events: mpsc::Sender<Input>,
    runs: BTreeMap<RunId, AtWork>,
    /// Called before a run starts; blocks.
    ready: Option<Ready>,
    /// `None` if the user has a remote shell that runs cannot share.
    connections: Option<Connections>,
}

/// A run that may still be active.
#[derive(Debug)]
struct AtWork {
    /// Requests its end, once.
    stop: Option<oneshot::Sender<()>>,
    /// Resolves when no process of the run is left.
    gone: oneshot::Receiver<()>,
    task: JoinHandle<()>,
}

impl Rsync {
    /// A driver that sends its answers to `events`.
    pub fn new(settings: Settings, events: mpsc::Sender<Input>) -> Self {
        let connections = Connections::new(&settings.ssh, &settings.options);
        Self { settings: Arc::new(settings), events, runs: BTreeMap::new(), ready: None, connections }
    }

    /// The same, but a run starts only if `ready` returns no reason against it.
    pub fn only_if(mut self, ready: impl Fn() -> Result<(), Reason> + Send + Sync + 'static) -> Self {
        self.ready = Some(Ready(Arc::new(ready)));
        self
    }

    /// Starts a run. Its progress comes as [`Input::Progress`], at most once a second, and its end, or the reason why
    /// it did not start, as [`Input::Ran`].
    pub fn start(&mut self, run: Run) {
        self.runs.retain(|_, at_work| !at_work.task.is_finished());
        let id = run.id;
        let (stop, stopped) = oneshot::channel();
        let (end, gone) = oneshot::channel();
        let share = self.connections.as_mut().and_then(|connections| connections.share(run.location.host()));
        let settings = Arc::clone(&self.settings);
        let events = self.events.clone();
        let ready = self.ready.clone();
        let task = tokio::spawn(async move {
            let outcome = match process::ready(ready).await {
                Ok(()) => carry_out(&run, &settings, share, stopped, &events).await,
                Err(reason) => RunOutcome::Failed(Fault::Passing, reason),
            };
            drop(end);
            // The receiver is gone only when the daemon ends.
            let _ = events.send(Input::Ran { run: run.id, outcome }).await;
        });
        self.runs.insert(id, AtWork { stop: Some(stop), gone, task });
    }

    /// Sets whether later runs transfer modes.
    pub fn carry_modes(&mut self, modes: bool) {
        if self.settings.modes != modes {
            Arc::make_mut(&mut self.settings).modes = modes;
        }
    }

    /// Stops a run; the arrived data stays, and a later run continues it. A run that has already ended is ignored.
    pub fn halt(&mut self, run: RunId) {
        if let Some(stop) = self.runs.get_mut(&run).and_then(|at_work| at_work.stop.take()) {
            // Fails only if the run has just ended.
            let _ = stop.send(());
        }
    }

    /// Stops all runs and returns when none of their processes is left, within 3 s at most. Does not wait until the
    /// answers are read.
    pub async fn halt_all(&mut self) {
        let ids: Vec<RunId> = self.runs.keys().copied().collect();
        for id in ids {
            self.halt(id);
        }
        let deadline = Instant::now() + HALT_LIMIT;
        for at_work in self.runs.values_mut() {
            if tokio::time::timeout_at(deadline, &mut at_work.gone).await.is_err() {
                // Drops the group, which kills it.
                at_work.task.abort();
            }
        }
        self.runs.clear();
        if let Some(connections) = &mut self.connections {
            connections.close().await;
        }
    }

    /// Checks that the program exists and is new enough, and returns its version.
    pub async fn check_version(&self) -> Result<Version, VersionError> {
        let program = &self.settings.program;
        let mut command = process::command(program);
        command.arg("--version").stdout(Stdio::piped()).stderr(Stdio::piped());
        let not_started = |source| VersionError::NotStarted { program: program.clone(), source };
        let mut group = Group::start_bound(command).map_err(not_started)?;
        let (output, complaints) = (group.child().stdout.take(), group.child().stderr.take());
        // The first line counts, and must be among the last 4 KiB: newer versions print about 1.5 KiB.
        let (mut said, mut complained) = (Tail::default(), Tail::default());
        let reading = async {
            tokio::join!(follow_some(&mut said, output), follow_some(&mut complained, complaints), group.wait()).2
        };
        let ended = tokio::time::timeout(VERSION_LIMIT, reading).await;
        let ended = ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(not_started)?;
        let said = said.text();
        let Some(version) = said.lines().next().and_then(Version::parse).filter(|_| ended.success()) else {
            let heard = [said.lines().next().unwrap_or_default(), &complained.last_line(), &process::describe(ended)]
                .into_iter()
                .find(|text| !text.trim().is_empty())
                .map(crate::machine::one_line)
                .unwrap_or_default();
            return Err(VersionError::Strange { program: program.clone(), heard });
        };
        if version < OLDEST_VERSION {
            return Err(VersionError::Old { program: program.clone(), found: version });
        }
        Ok(version)
    }
}

/// A run with a connection of its own, or with `shared` as its remote shell.
fn command(settings: &Settings, run: &Run, keep: Keep, shared: Option<String>) -> Command {
    let Settings { program, options, file_dir, staging_dir, modes, ssh } = settings;
    let mut command = process::command(program);
    for (key, _) in std::env::vars_os() {
        // Variables of rsync that would change the meaning of the options above.
        if key.as_encoded_bytes().starts_with(b"RSYNC_") {
            command.env_remove(key);
        }
    }
    never_ask(&mut command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let owners = rustix::process::geteuid().is_root();
    command.arg(format!("-rlt{}{}", if *modes { "p" } else { "" }, if owners { "go" } else { "" }));
    command.args(["--from0", "--files-from=-", "--no-implied-dirs", "--inplace"]);
    command.args(["--timeout=60", "--outbuf=L", "--no-h", "--info=progress2"]);
    for (extra, words) in EXTRAS {
        command.args(words.iter().filter(|_| keep.has(*extra)));
    }
    if shared.is_none() && !settings.own_shell() {
        command.arg(ssh.remote_shell(None));
    }
    command.args(options).args(shared);
    let far = far_dir(&run.location);
    match run.direction {
        Direction::Push => command.arg(with_slash(file_dir)).arg(far),
        Direction::Pull => command.arg(far).arg(with_slash(staging_dir)),
    };
    command
}

/// What of the extras this node can receive. Without hard links, rsync would leave out all names of a file but one;
/// attributes and ACLs cost nothing but a message.
async fn storable(run: &Run, settings: &Settings) -> Keep {
    if run.direction == Direction::Push || !run.keep.has(Extra::Hardlinks) {
        return run.keep;
    }
    let dir = settings.staging_dir.clone();
    let tried = tokio::task::spawn_blocking(move || keeps::try_out(&dir)).await;
    match tried {
        Ok(Ok(kept)) if !kept.hard_links => run.keep.without(Extra::Hardlinks),
        _ => run.keep,
    }
}

/// ssh must not open a window either, and the texts of messages must be in English.
fn never_ask(command: &mut Command) {
    command.env("SSH_ASKPASS_REQUIRE", "never").env("LC_ALL", "C.UTF-8");
    for variable in ["SSH_ASKPASS", "DISPLAY", "WAYLAND_DISPLAY"] {
        command.env_remove(variable);
    }
}

/// One run from the connection to its outcome.
async fn carry_out(
    run: &Run,
    settings: &Settings,
    mut share: Option<Share>,
    mut stopped: oneshot::Receiver<()>,
    events: &mpsc::Sender<Input>,
) -> RunOutcome {
    let shared = match &mut share {
        Some(share) => tokio::select! {
            shared = share.remote_shell() => shared,
            _ = &mut stopped => return failed(Fault::Passing, "stopped"),
        },
        None => None,
    };
    let keep = storable(run, settings).await;
    match Group::start_bound(command(settings, run, keep, shared)) {
        Ok(group) => follow(run, settings.own_shell(), group, stopped, events).await,
        Err(error) => not_started(&settings.program, &error),
    }
}

/// Feeds a run its list, reads its output, and returns its outcome; when it returns, no process of the run is left.
async fn follow(
    run: &Run,
    own_shell: bool,
    mut group: Group,
    mut stopped: oneshot::Receiver<()>,
    events: &mpsc::Sender<Input>,
) -> RunOutcome {
    let child = group.child();
    let (list, output, complaints) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut tail = Tail::default();
    let mut halted = false;
    let ended = {
        let mut exchange = pin!(async {
            tokio::join!(
                feed(list, file_list(run)),
                follow_progress(run.id, output, events),
                follow_some(&mut tail, complaints)
            );
        });
        let mut exchanged = false;
        let ended = loop {
            tokio::select! {
                () = &mut exchange, if !exchanged => exchanged = true,
                status = group.wait() => break status,
                // Also if the driver itself is gone.
                _ = &mut stopped => {
                    halted = true;
                    break group.end_group(GRACE).await;
                }
            }
        };
        if !exchanged {
            // The receiving half of a pull may still be about to report the reason.
            let _ = tokio::time::timeout(DRAIN_LIMIT, exchange).await;
        }
        ended
    };
    drop(group);
    match ended {
        Ok(status) if halted && !status.success() => failed(Fault::Passing, "stopped"),
        Ok(status) if !status.success() && run.direction == Direction::Pull => {
            let text = tail.text();
            let refused = refused::refused(&text, &run.batch);
            if refused.is_empty() {
                verdict::verdict(status, &text, run.direction, &run.location, own_shell)
            } else {
                RunOutcome::Unfit(refused)
            }
        }
        Ok(status) => verdict::verdict(status, &tail.text(), run.direction, &run.location, own_shell),
        Err(error) => failed(Fault::Passing, &format!("cannot wait for rsync: {error}")),
    }
}

/// Writes the list of names, and closes it. A run that ends before it has read everything reports the reason itself.
async fn feed(list: Option<ChildStdin>, names: Vec<u8>) {
    if let Some(mut list) = list {
        let _ = list.write_all(&names).await;
    }
}

async fn follow_progress(run: RunId, output: Option<impl AsyncRead + Unpin>, events: &mpsc::Sender<Input>) {
    let Some(mut output) = output else { return };
    let mut lines = Lines::default();
    let mut told: Option<Instant> = None;
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        let Some(moved) = lines.feed(buffer.get(..count).unwrap_or_default()) else { continue };
        if told.is_none_or(|told| told.elapsed() >= PROGRESS_INTERVAL) {
            told = Some(Instant::now());
            // If the loop is behind, a progress report that is soon out of date can be dropped: rsync must not wait.
            let _ = events.try_send(Input::Progress { run, bytes: moved.bytes, rate: moved.rate });
        }
    }
}

async fn follow_some(tail: &mut Tail, output: Option<impl AsyncRead + Unpin>) {
    if let Some(output) = output {
        tail.follow(output).await;
    }
}

/// The batch in rsync's form: relative to `file_dir`, or to central's directory of held copies.
fn file_list(run: &Run) -> Vec<u8> {
    let mut list = Vec::new();
    for (transfer, name) in &run.batch {
        list.extend_from_slice(b"./");
        if run.direction == Direction::Pull {
            list.extend_from_slice(transfer.to_string().as_bytes());
            list.push(b'/');
            list.extend_from_slice(name.leaf().as_bytes());
        } else {
            list.extend_from_slice(name.as_bytes());
        }
        list.push(0);
    }
    list
}

/// `host:path/`, in rsync's form.
fn far_dir(location: &Location) -> String {
    format!("{}:{}/", location.host(), location.path().trim_end_matches('/'))
}

/// With a slash at the end, rsync uses the content of the directory.
fn with_slash(dir: &Path) -> OsString {
    let mut path = dir.as_os_str().to_owned();
    if !path.as_bytes().ends_with(b"/") {
        path.push("/");
    }
    path
}

fn failed(fault: Fault, text: &str) -> RunOutcome {
    RunOutcome::Failed(fault, Reason::with(Cause::Transport, text))
}

fn not_started(program: &Path, error: &io::Error) -> RunOutcome {
    let lasting = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
    let fault = if lasting { Fault::Lasting } else { Fault::Passing };
    let program = program.display();
    failed(fault, &format!("cannot start {program}: {error}: install rsync, or set rsync to its path"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{ItemName, TransferId};

    #[test]
    fn names_are_on_standard_input_only() {
        let transfer = TransferId::mint(1, [1; 10]);
        let run = Run {
            id: RunId(1),
            direction: Direction::Push,
            location: Location::new("me@[::1]", "/srv/in/").unwrap(),
            batch: vec![(transfer, ItemName::new(b"-rf \xff\n").unwrap()), (transfer, ItemName::new(b"#b").unwrap())],
            keep: Keep::default().with(Extra::Xattrs),
        };
        assert_eq!(file_list(&run), b"./-rf \xff\n\0./#b\0");
        let pull = Run { direction: Direction::Pull, ..run.clone() };
        assert_eq!(
            file_list(&pull),
            format!("./{transfer}/-rf X\n\0./{transfer}/#b\0")
                .into_bytes()
                .as_slice()
                .iter()
                .map(|&byte| if byte == b'X' { 0xff } else { byte })
                .collect::<Vec<u8>>()
        );
        let settings = Settings {
            program: "rsync".into(),
            options: vec!["-z".to_owned()],
            file_dir: "/files".into(),
            staging_dir: "/staging".into(),
            modes: true,
            ssh: Ssh::default(),
        };
        let words = |run| {
            let command = command(&settings, run, run.keep, None);
            command.as_std().get_args().map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let shell = Ssh::default().remote_shell(None);
        assert_eq!(words(&run)[words(&run).len() - 4..], [&shell, "-z", "/files/", "me@[::1]:/srv/in/"]);
        assert_eq!(words(&pull)[words(&pull).len() - 2..], ["me@[::1]:/srv/in/", "/staging/"]);
    }
}
