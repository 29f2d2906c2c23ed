//! One ssh connection per host, which the runs share: a handshake costs more than a small batch.
//!
//! ssh's own way, a master that puts itself into the background, leaves a process without an owner. So the driver
//! starts the master in the foreground, as a child that dies with the daemon, and the runs use its socket. No run
//! depends on it: if it is not ready in time, does not greet or has died, a run connects by itself. If sshd allows no
//! further session on it, ssh does the same on its own. A connection that no run has used for a minute is closed.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::GRACE;
use super::shell::{Shell, Ssh, config_word};
use crate::drivers::process::{self, Group, Tail};

/// How long a run waits for the connection before it opens its own.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How often the socket of a starting connection is tried.
const READY_INTERVAL: Duration = Duration::from_millis(20);
/// How long a connection may take to greet; a hanging one is ended.
const GREETING_LIMIT: Duration = Duration::from_secs(2);
/// How long a connection stays when no run uses it.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// The minimum interval between the starts of two connections to one host.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// The maximum number of hosts at once; there is one central, or few.
const HOST_LIMIT: usize = 16;
/// The maximum length of a socket's path, in bytes: what an address can hold, without what ssh appends while it creates
/// the socket.
const PATH_LIMIT: usize = 107 - 17;

/// The connections, by host.
#[derive(Debug)]
pub(super) struct Connections {
    shell: Arc<Shell>,
    /// The directory of their sockets.
    sockets: Option<PathBuf>,
    /// Those of the user's options that ssh must have too: `-4`, `-6`.
    family: Option<&'static str>,
    by_host: BTreeMap<String, Shared>,
    /// Numbers the sockets, so that no two have the same name.
    made: u64,
}

#[derive(Debug)]
struct Shared {
    state: Arc<State>,
    started: Instant,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    socket: PathBuf,
    phase: watch::Sender<Phase>,
    /// A run has found it hanging.
    hangs: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Up,
    Gone,
}

/// A run's share in a connection, which stays up while any share exists.
#[derive(Debug)]
pub(super) struct Share {
    shell: Arc<Shell>,
    state: Arc<State>,
    phase: watch::Receiver<Phase>,
}

impl Share {
    /// The remote shell for a run over the connection, when the connection is up; waits for that, 12 s at most.
    pub(super) async fn remote_shell(&mut self) -> Option<String> {
        let ready = self.phase.wait_for(|phase| *phase != Phase::Connecting);
        match tokio::time::timeout(READY_LIMIT, ready).await {
            Ok(Ok(phase)) if *phase == Phase::Up => {}
            _ => return None,
        }
        let greeting = tokio::time::timeout(GREETING_LIMIT, greeting(&self.state.socket));
        if !matches!(greeting.await, Ok(Ok(()))) {
            self.state.hangs.notify_one();
            return None;
        }
        Some(self.shell.over(&self.state.socket))
    }
}

impl Connections {
    /// `None` if each run has to connect by itself.
    pub(super) fn new(ssh: &Ssh, options: &[String]) -> Option<Self> {
        let shell = Arc::new(Shell::to_share(ssh, options)?);
        let family = options.iter().rev().find_map(|option| match option.as_str() {
            "--ipv4" => Some("-4"),
            "--ipv6" => Some("-6"),
            _ => None,
        });
        Some(Self { shell, sockets: ssh.sockets.clone(), family, by_host: BTreeMap::new(), made: 0 })
    }

    /// A share in the connection to `[user@]host`, which is started if necessary; `None` if runs should connect by
    /// themselves for now. The caller runs inside the runtime.
    pub(super) fn share(&mut self, host: &str) -> Option<Share> {
        let dir = self.sockets.clone()?;
        self.by_host.retain(|_, shared| !shared.is_gone() || shared.started.elapsed() < AGAIN_AFTER);
        if let Some(shared) = self.by_host.get(host) {
            return (!shared.is_gone()).then(|| self.share_of(&shared.state));
        }
        if self.by_host.len() >= HOST_LIMIT {
            return None;
        }
        let shared = match self.start(&dir, host) {
            Ok(shared) => shared,
            Err(error) => {
                tracing::info!(
                    "ssh connections are not shared, each rsync run opens its own: {}: {error}",
                    dir.display()
                );
                self.sockets = None;
                return None;
            }
        };
        let share = self.share_of(&shared.state);
        self.by_host.insert(host.to_owned(), shared);
        Some(share)
    }

    /// Closes all of them.
    pub(super) async fn close(&mut self) {
        for (_, Shared { task, .. }) in std::mem::take(&mut self.by_host) {
            task.abort();
            // Its group is killed when it is dropped.
            let _ = task.await;
        }
        if let Some(dir) = self.sockets.as_ref().filter(|_| self.made > 0) {
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    fn share_of(&self, state: &Arc<State>) -> Share {
        Share { shell: Arc::clone(&self.shell), state: Arc::clone(state), phase: state.phase.subscribe() }
    }

    fn start(&mut self, dir: &Path, host: &str) -> io::Result<Shared> {
        let socket = dir.join(self.made.to_string());
        let path = config_word(&socket).filter(|_| socket.as_os_str().as_bytes().len() <= PATH_LIMIT);
        let path = path.ok_or_else(|| {
            io::Error::other("its path is too long or has characters that a socket path may not have")
        })?;
        if self.made == 0 {
            // Sockets that a killed daemon has left.
            match std::fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => DirBuilder::new().recursive(true).mode(0o700).create(dir)?,
            }
        }
        self.made += 1;
        let (program, arguments) = self.shell.of_master();
        let mut command = process::command(program);
        super::never_ask(&mut command);
        command.args(arguments);
        for option in ["ControlMaster=yes", "ControlPersist=no", "ClearAllForwardings=yes", "PermitLocalCommand=no"] {
            command.args(["-o", option]);
        }
        command.args(["-o", &format!("ControlPath={path}"), "-N", "-T", "-x", "-a"]).args(self.family);
        add_host(&mut command, host);
        let group = Group::start_bound_by_stdin({
            command.stderr(Stdio::piped());
            command
        })?;
        let state = Arc::new(State { socket, phase: watch::Sender::new(Phase::Connecting), hangs: Notify::new() });
        let task = tokio::spawn(hold(group, Arc::clone(&state), host.to_owned()));
        Ok(Shared { state, started: Instant::now(), task })
    }
}

impl Shared {
    fn is_gone(&self) -> bool {
        *self.state.phase.borrow() == Phase::Gone
    }
}

/// Keeps one connection as long as it is used and works.
async fn hold(mut group: Group, state: Arc<State>, host: String) {
    let complaints = group.child().stderr.take();
    let mut tail = Tail::default();
    let was_up = async {
        let deadline = Instant::now() + READY_LIMIT;
        while !matches!(tokio::time::timeout_at(deadline, greeting(&state.socket)).await, Ok(Ok(()))) {
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep(READY_INTERVAL).await;
        }
        state.phase.send_replace(Phase::Up);
        while state.phase.receiver_count() > 0 {
            state.phase.closed().await;
            tokio::time::sleep(IDLE_LIMIT).await;
        }
    };
    let listening = async {
        if let Some(complaints) = complaints {
            tail.follow(complaints).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = was_up => {}
        _ = group.wait() => {}
        () = state.hangs.notified() => {}
        () = listening => {}
    }
    let before = state.phase.send_replace(Phase::Gone);
    let _ = group.end_group(GRACE).await;
    drop(group);
    let _ = std::fs::remove_file(&state.socket);
    match before {
        Phase::Connecting => {
            tracing::debug!(
                "cannot open a shared connection to {host}: {}",
                crate::machine::one_line(&tail.last_line())
            )
        }
        _ => tracing::debug!("the shared connection to {host} is closed"),
    }
}

/// ssh's greeting on the socket: it shows that ssh is up, and not stuck.
async fn greeting(socket: &Path) -> io::Result<()> {
    // The length of a message and its kind.
    let mut hello = [0; 8];
    UnixStream::connect(socket).await?.read_exact(&mut hello).await?;
    if hello[4..] == [0, 0, 0, 1] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// `[user@]host` as arguments, as rsync gives them to ssh: without brackets around an address.
fn add_host(command: &mut Command, host: &str) {
    let (user, host) = match host.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, host),
    };
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    command.arg(host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host));
}
