//! The checks of one node, end to end: what is wrong, and which command fixes it.
//!
//! One file per subject: first the examination, then the texts. The checks change nothing, except for probe files that
//! are removed at once. They decide nothing. Everything has a time limit, so that the check of a completely broken node
//! also ends within half a minute.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::config::Settings;
use crate::control::types::Finding;
use crate::machine::{Location, Node, Time};

mod broker;
mod cleanup;
mod clock;
mod config;
mod directories;
mod filesystem;
mod inotify;
mod journal;
mod keeps;
mod marker;
mod open_files;
mod others;
mod owner;
mod rsync;
mod space;
mod ssh;

pub(crate) use broker::broker_settings;
pub use clock::Reading;
pub use config::{bad_config, config};

/// The time limit of checks on this host.
const LOCAL_LIMIT: Duration = Duration::from_secs(10);
/// The time limit of the broker's check, after the connection is made.
const BROKER_LIMIT: Duration = Duration::from_secs(20);
/// When rsync must have reached central, counted from the beginning.
const SSH_LIMIT: Duration = Duration::from_secs(28);
/// The time limit of the journal's check.
const JOURNAL_LIMIT: Duration = Duration::from_secs(10);

/// What only the running daemon knows.
pub struct Running {
    /// The address of each central that has announced itself.
    pub centrals: Vec<(Node, Location)>,
    /// By how many milliseconds the daemon's time is ahead of the host's clock, which may have been set since the
    /// start.
    pub ahead: i64,
    /// The time on each of the other nodes that are alive.
    pub clocks: Pin<Box<dyn Future<Output = Vec<Reading>> + Send>>,
}

/// Checks the node, within half a minute; `running` is set if the daemon does this itself. Must be called in a tokio
/// runtime. Dropping the future ends the checks, except for threads that wait for a file system.
pub async fn examine(settings: &Settings, running: Option<Running>) -> Vec<Finding> {
    let (known, ahead, clocks) = match running {
        Some(Running { centrals, ahead, clocks }) => (Some(centrals), ahead, Some(clocks)),
        None => (None, 0, None),
    };
    let until = Instant::now() + SSH_LIMIT;
    let running = known.is_some();
    let journal_and_marker = async {
        let (journal, content) = journal::examine(settings, running).await;
        let marker = marker::examine(settings, content.directory).await;
        ((journal, marker), content.centrals)
    };
    let journal_and_ssh = async {
        match known {
            Some(known) => {
                let (journal, ssh) = tokio::join!(journal_and_marker, ssh::examine(settings, known, until));
                (journal.0, ssh)
            }
            // The journal also has the location of central.
            None => {
                let (journal, known) = journal_and_marker.await;
                (journal, ssh::examine(settings, known, until).await)
            }
        }
    };
    let (
        directories,
        ((journal, marker), ssh),
        broker,
        rsync,
        clock,
        inotify,
        filesystems,
        kept,
        owner,
        others,
        cleanup,
        spaces,
        open_files,
    ) = tokio::join!(
        directories::examine(settings),
        journal_and_ssh,
        broker::examine(settings),
        rsync::examine(settings),
        clock::examine(clocks, ahead),
        inotify::examine(settings),
        filesystem::examine(settings),
        keeps::examine(settings),
        owner::examine(settings),
        others::examine(settings),
        cleanup::examine(settings),
        space::examine(settings),
        open_files::examine(),
    );
    let mut findings = directories;
    findings.push(marker);
    findings.push(journal);
    findings.extend(broker);
    findings.extend([rsync, ssh, clock, inotify]);
    findings.extend(filesystems);
    findings.extend(kept);
    findings.extend(owner);
    findings.extend(others);
    findings.extend(cleanup);
    findings.extend(spaces);
    findings.push(open_files);
    findings
}

/// The same without a daemon, in a runtime of its own.
///
/// # Errors
///
/// If the system provides no event loop.
pub fn examine_alone(settings: &Settings) -> std::io::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(examine(settings, None));
    // A thread may still wait for a file system, and threads of the AMQP library use this runtime until the process
    // ends.
    std::mem::forget(runtime);
    Ok(findings)
}

/// Whether a person has to fix something.
pub fn has_failed(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.result == "failed")
}

fn ok(check: &str, text: impl AsRef<str>) -> Finding {
    finding(check, "ok", text.as_ref(), None)
}

fn warning(check: &str, text: impl AsRef<str>, cure: impl AsRef<str>) -> Finding {
    finding(check, "warning", text.as_ref(), Some(cure.as_ref()))
}

fn failed(check: &str, text: impl AsRef<str>, cure: impl AsRef<str>) -> Finding {
    finding(check, "failed", text.as_ref(), Some(cure.as_ref()))
}

/// Another check failed first, or this one does not apply here.
fn skipped(check: &str, text: impl AsRef<str>) -> Finding {
    finding(check, "skipped", text.as_ref(), None)
}

fn finding(check: &str, result: &str, text: &str, cure: Option<&str>) -> Finding {
    Finding { check: check.to_owned(), result: result.to_owned(), text: line(text), cure: cure.map(line) }
}

/// One printable line. It may be longer than a reason: a command that is cut is useless.
fn line(text: &str) -> String {
    const LIMIT: usize = 2000;
    text.chars().take(LIMIT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Runs blocking work in a thread of its own, with a time limit; `None` after the limit. The daemon's own threads are
/// not used, because a thread that waits for a dead file system does not come back.
async fn blocking<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    // The caller may have stopped waiting.
    let thread = std::thread::Builder::new().name("check".to_owned()).spawn(move || drop(done.send(work())));
    thread.ok()?;
    timeout(limit, result).await.ok()?.ok()
}

/// For work that does not end.
fn stuck(check: &str, what: &str, limit: Duration) -> Finding {
    failed(
        check,
        format!("{what} does not answer within {} s", limit.as_secs()),
        "look for errors of the disk and the network file system: journalctl -k -e",
    )
}

/// A path quoted for a shell.
fn quoted(path: &std::path::Path) -> String {
    let text = path.to_string_lossy();
    shlex::try_quote(&text).map_or_else(|_| text.to_string(), |quoted| quoted.into_owned())
}

/// The user of this process, in the form for `chown`.
fn account() -> String {
    let uid = rustix::process::geteuid().as_raw();
    account_of(uid)
}

fn account_of(uid: u32) -> String {
    // A user that only a directory service knows is shown by number, which the commands accept as well.
    let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_string())
}

/// Milliseconds between two times, negative if the first is the later one.
fn between(earlier: Time, later: Time) -> i64 {
    let (earlier, later) = (earlier.as_millis(), later.as_millis());
    let distance = i64::try_from(earlier.abs_diff(later)).unwrap_or(i64::MAX);
    if later >= earlier { distance } else { -distance }
}

/// Bytes for people.
fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or("B");
    if unit == 0 { format!("{count} {name}") } else { format!("{value:.1} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_one_line_and_paths_fit_a_shell() {
        let finding = failed("x", "a\nb", "c\x1b[2J");
        assert!(!finding.text.contains('\n') && !finding.cure.unwrap().contains('\x1b'));
        assert_eq!(quoted(std::path::Path::new("/srv/a b")), "'/srv/a b'");
        assert_eq!(account_of(0), "root");
        assert_eq!(account_of(4_000_000_000), "4000000000");
        assert_eq!(
            [bytes(999), bytes(1000), bytes(999_960), bytes(5_000_000_000)],
            ["999 B", "1.0 kB", "1.0 MB", "5.0 GB"]
        );
        assert_eq!(between(Time::from_millis(5), Time::from_millis(3)), -2);
    }
}
