//! Child processes: their start, their end, and the part of their output that is kept.
//!
//! Every child leads a process group of its own, gets no environment of the daemon's own, and is reaped. There are two
//! kinds. A child from [`Group::start`] may outlive the daemon: a cleanup script that is killed halfway is worse than
//! one that continues. A child from [`Group::start_bound`] may not, however the daemon dies, and neither may any
//! process in its group.
//!
//! A bound child inherits the read end of a pipe whose write end only the daemon has. The pipe is set to send SIGKILL
//! to the whole group at any event. Nothing is ever written, so the only possible event is that the daemon's end is
//! closed, by the kernel if necessary. The usual `PR_SET_PDEATHSIG` is not enough here, because it is not inherited. In
//! a test, the receiving half of an rsync that pulls continued to the end of its file after its parent had been killed
//! that way. The pipe also does not depend on the thread that starts the child.

#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;

use crate::machine::Reason;

/// How much of a child's output is kept, in bytes: the end, which contains the error.
pub const TAIL_LIMIT: usize = 4096;

/// How long to wait for output after the child has ended. What the child wrote is available at once, and a process that
/// it left in the background may keep the pipe open for ever.
pub const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// How often a child that got SIGTERM is checked.
const END_INTERVAL: Duration = Duration::from_millis(20);

/// Called before a child process starts; returns a reason against the start. Blocks.
#[derive(Clone)]
pub struct Ready(pub Arc<dyn Fn() -> Result<(), Reason> + Send + Sync>);

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ready")
    }
}

/// Calls `ready` on a thread of its own. Without it, the child may start.
pub async fn ready(ready: Option<Ready>) -> Result<(), Reason> {
    match ready {
        // The runtime is shutting down.
        Some(Ready(ask)) => spawn_blocking(move || ask()).await.unwrap_or(Ok(())),
        None => Ok(()),
    }
}

/// A command that inherits neither the daemon's descriptors nor variables that are meant for the daemon alone:
/// systemd's sockets and watchdog, and our own settings, among them the password. Standard input, output and error are
/// null until the caller sets them.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    for (key, _) in std::env::vars_os() {
        let name = key.as_encoded_bytes();
        let ours = name == b"NOTIFY_SOCKET"
            || [&b"WATCHDOG_"[..], b"LISTEN_", b"SYNKLER_"].iter().any(|prefix| name.starts_with(prefix));
        if ours {
            command.env_remove(key);
        }
    }
    command
}

/// A child and the process group it leads.
#[derive(Debug)]
pub struct Group {
    child: Child,
    /// Closing it kills a bound group, so that dropping a [`Group`] does.
    _lifeline: Option<OwnedFd>,
}

impl Group {
    /// Starts a child that may outlive the daemon. The caller runs inside the runtime; this also applies to
    /// [`Group::start_bound`].
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self { child: command.process_group(0).spawn()?, _lifeline: None })
    }

    /// Starts a child without a terminal that is killed, with its whole group, when this value is dropped or this
    /// process ends in any way. Takes the command, which cannot be started twice.
    pub fn start_bound(mut command: Command) -> io::Result<Self> {
        let (held, lifeline) = io::pipe()?;
        hang_on(&mut command, held.into());
        Ok(Self { child: command.spawn()?, _lifeline: Some(lifeline.into()) })
    }

    /// The same for a program that closes the descriptors that it inherits, as ssh does, and so would close its pipe.
    /// Its standard input is the pipe too; the program must not read it.
    pub fn start_bound_by_stdin(mut command: Command) -> io::Result<Self> {
        let (held, lifeline) = io::pipe()?;
        command.stdin(held.try_clone()?);
        hang_on(&mut command, held.into());
        Ok(Self { child: command.spawn()?, _lifeline: Some(lifeline.into()) })
    }

    /// The child itself, for access to its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until the child has ended, but not for processes that it left in the background; those of a bound group
    /// continue until this value is dropped. Can be cancelled and called again.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the whole group: sends SIGTERM, and after the end of the child or after `grace`, SIGKILL to the rest.
    pub async fn end_group(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let _ = tokio::time::timeout(grace, async {
            while !self.ended() {
                tokio::time::sleep(END_INTERVAL).await;
            }
        })
        .await;
        self.signal(Signal::KILL);
        self.wait().await
    }

    /// Signals the whole group. As long as the child has an id it has not been reaped, so no other process has that
    /// number.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // Fails only if no process is left.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }

    /// Whether the child has ended, without reaping it.
    fn ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.pid().is_none_or(|pid| !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None)))
    }

    fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }
}

/// Makes the child the leader of a session without a terminal, whose group is killed when the other end of the pipe
/// `held` is closed.
fn hang_on(command: &mut Command, held: OwnedFd) {
    // From `asm-generic/fcntl.h`; the libc crate does not name it.
    const F_SETSIG: libc::c_int = 10;
    let in_child = move || {
        // ssh asks for passwords and host keys on the terminal, where no user would answer.
        let leader = rustix::process::setsid()?;
        let fd = held.as_raw_fd();
        // SAFETY: plain system calls with integer arguments, on a descriptor that `held` keeps open.
        let results = unsafe {
            [
                libc::fcntl(fd, libc::F_SETOWN, -leader.as_raw_nonzero().get()),
                libc::fcntl(fd, F_SETSIG, libc::SIGKILL),
                libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC),
                libc::fcntl(fd, libc::F_SETFD, 0),
            ]
        };
        // If the daemon has died meanwhile, its end of the pipe is not closed yet: this process has that end too, and
        // closes it in exec.
        if results.contains(&-1) { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec only async-signal-safe functions may be called. The closure calls setsid
    // and fcntl, which are, allocates nothing (an error is made from a number) and takes no lock; `held` was
    // moved into it before the fork.
    unsafe {
        command.pre_exec(in_child);
    }
}

/// The last [`TAIL_LIMIT`] bytes of an output.
#[derive(Debug, Default)]
pub struct Tail(Vec<u8>);

impl Tail {
    /// Reads `output` until it ends or fails; both count as the end. Can be cancelled at any time; what was read by
    /// then stays.
    pub async fn follow(&mut self, mut output: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = output.read(&mut buffer).await {
            self.push(buffer.get(..count).unwrap_or_default());
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let bytes = bytes.get(bytes.len().saturating_sub(TAIL_LIMIT)..).unwrap_or_default();
        let excess = (self.0.len() + bytes.len()).saturating_sub(TAIL_LIMIT);
        self.0.drain(..excess);
        self.0.extend_from_slice(bytes);
    }

    /// The kept output, with U+FFFD for bytes that are not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// The last line that is not blank; empty if there is none.
    pub fn last_line(&self) -> String {
        self.text().lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned()
    }
}

/// How a child ended, for people: `exit status 1`, `killed by signal 9`.
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::print_stdout)]

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command("/bin/sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        command
    }

    /// Reads until every process with the output open has closed it, that is, has ended.
    async fn output(group: &mut Group) -> String {
        let mut tail = Tail::default();
        tail.follow(group.child().stdout.take().unwrap()).await;
        tail.text()
    }

    async fn first_line(group: &mut Group) {
        let mut byte = [0];
        group.child().stdout.as_mut().unwrap().read_exact(&mut byte).await.unwrap();
    }

    #[tokio::test]
    async fn a_bound_group_is_killed_with_all_its_members_when_dropped() {
        // The members ignore every signal that can be ignored; the inner one is not a child of ours.
        let script = "trap '' TERM IO HUP; (trap '' TERM IO HUP; echo; sleep 1000) & sleep 1000";
        let mut group = Group::start_bound(shell(script)).unwrap();
        first_line(&mut group).await;
        let stdout = group.child().stdout.take().unwrap();
        drop(group);
        tokio::time::timeout(Duration::from_secs(10), Tail::default().follow(stdout)).await.unwrap();
    }

    #[tokio::test]
    async fn a_bound_program_that_closes_all_but_its_standard_descriptors_is_killed_too() {
        // Not every sh can name a descriptor above 9.
        let mut closing = command("bash");
        let script = "for fd in /proc/self/fd/*; do fd=${fd##*/}; [ $fd -gt 2 ] && eval \"exec $fd<&-\"; done; \
                      echo; sleep 1000 & sleep 1000";
        closing.args(["-c", script]).stdout(Stdio::piped());
        let mut group = Group::start_bound_by_stdin(closing).unwrap();
        first_line(&mut group).await;
        let stdout = group.child().stdout.take().unwrap();
        drop(group);
        tokio::time::timeout(Duration::from_secs(10), Tail::default().follow(stdout)).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_bound_child_left_behind_ends_with_it() {
        let mut group = Group::start_bound(shell("sleep 1000 & exit 3")).unwrap();
        let stdout = group.child().stdout.take().unwrap();
        assert_eq!(group.wait().await.unwrap().code(), Some(3));
        drop(group);
        tokio::time::timeout(Duration::from_secs(10), Tail::default().follow(stdout)).await.unwrap();
    }

    #[tokio::test]
    async fn a_bound_child_has_no_terminal_and_leads_its_group() {
        let mut group = Group::start_bound(shell("cut -d' ' -f1,5,6,7 /proc/self/stat; echo $$")).unwrap();
        let text = output(&mut group).await;
        let (stat, leader) = text.trim_end().split_once('\n').unwrap();
        let fields: Vec<&str> = stat.split(' ').collect();
        assert_eq!(fields[1..], [leader, leader, "0"], "group, session and terminal in {text:?}");
        assert!(group.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn ending_asks_first_and_kills_then() {
        let mut polite = Group::start(&mut shell("trap 'exit 7' TERM; echo; while :; do sleep 0.05; done")).unwrap();
        first_line(&mut polite).await;
        assert_eq!(polite.end_group(Duration::from_secs(30)).await.unwrap().code(), Some(7));

        let script = "trap '' TERM; (trap '' TERM; sleep 1000) & echo; sleep 1000";
        let mut stubborn = Group::start(&mut shell(script)).unwrap();
        first_line(&mut stubborn).await;
        let status = stubborn.end_group(Duration::from_millis(100)).await.unwrap();
        assert_eq!(describe(status), "killed by signal 9");
        tokio::time::timeout(Duration::from_secs(10), output(&mut stubborn)).await.unwrap();
    }

    #[tokio::test]
    async fn children_see_nothing_that_is_meant_for_the_daemon() {
        const OURS: [&str; 5] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "SYNKLER_PASSWORD", "NOT_OURS"];
        if std::env::var_os(OURS[3]).is_some() {
            let mut group = Group::start(command("env").stdout(Stdio::piped())).unwrap();
            println!("{}", output(&mut group).await);
            return;
        }
        // The same test again, with an environment to hide.
        let name = "drivers::process::tests::children_see_nothing_that_is_meant_for_the_daemon";
        let mut again = command(std::env::current_exe().unwrap());
        again.args(["--exact", "--nocapture", name]).stdout(Stdio::piped()).envs(OURS.map(|key| (key, "x")));
        let text = output(&mut Group::start(&mut again).unwrap()).await;
        let seen = OURS.map(|key| text.lines().any(|line| line == format!("{key}=x")));
        assert_eq!(seen, [false, false, false, false, true], "{text}");
    }

    #[test]
    fn a_tail_keeps_the_end() {
        let mut tail = Tail::default();
        tail.push(&vec![b'a'; 3 * TAIL_LIMIT]);
        tail.push(b"\nlast \xff line\n\n");
        assert_eq!(tail.0.len(), TAIL_LIMIT);
        assert_eq!(tail.last_line(), "last \u{fffd} line");
        assert_eq!(Tail::default().last_line(), "");
    }
}
