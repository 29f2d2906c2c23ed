//! The properties of stdout, and writing to it.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::line::Look;
use super::zone::Zone;

impl<'a> Look<'a> {
    /// The stdout of this process.
    pub(super) fn of_stdout(zone: &'a Zone) -> Self {
        let terminal = io::stdout().is_terminal();
        Self { width: width(terminal), colour: terminal && !is_dumb() && !no_color(), zone }
    }
}

/// Whether the terminal understands only text.
pub(super) fn is_dumb() -> bool {
    set("TERM").is_none_or(|term| term == "dumb")
}

/// Whether the user wants no colours: <https://no-color.org>.
pub(super) fn no_color() -> bool {
    set("NO_COLOR").is_some()
}

fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn width(terminal: bool) -> usize {
    let asked = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let measured = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    let width = asked.or_else(|| if terminal { measured() } else { None });
    width.filter(|width| (1..=1000).contains(width)).unwrap_or(80)
}

/// Milliseconds since 1970-01-01 UTC.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Realtime);
    u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1000) + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Writes to stdout. A closed pipe, as with `head`, is no error: the flag says whether stdout still has a reader.
pub(super) fn print(bytes: &[u8]) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

/// Waits until the reader of stdout has closed it; returns whether this can be detected.
pub(super) fn reader_leaves() -> bool {
    let stdout = io::stdout();
    // No event is requested, and the end of the other side is reported nevertheless. A file has no other side.
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    loop {
        match poll(&mut asked, None) {
            Err(Errno::INTR) => {}
            polled => return polled.is_ok(),
        }
    }
}

/// Writes a line to stderr.
pub(super) fn complain(text: &str) {
    // Without stderr, only the exit code reports the error.
    let _ = writeln!(io::stderr(), "synklerctl: {}", super::units::printable(text));
}
