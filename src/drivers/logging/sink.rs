//! Where the lines are written: stderr, or journald's own socket. Only the log's thread writes here, so it may block.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing::Level;

use super::queue::Queue;

/// The socket of journald for entries in its native form.
const JOURNALD: &str = "/run/systemd/journal/socket";
/// How long a missing journald is not tried again.
const AWAY: Duration = Duration::from_secs(1);

/// Writes one line after the other.
#[derive(Debug)]
pub(super) enum Sink {
    /// This process's stderr.
    Stderr,
    /// journald, addressed anew with each entry, so that a restarted journald gets the next one.
    Journald(UnixDatagram),
}

impl Sink {
    /// journald's socket, if journald listens there. Does not block.
    pub(super) fn journald() -> io::Result<Self> {
        UnixDatagram::unbound()?.connect(JOURNALD)?;
        Ok(Self::Journald(UnixDatagram::unbound()?))
    }

    /// Writes one line, however long that takes. What stderr refuses is lost: a closed stderr is not an error of the
    /// daemon. While journald is missing, it is tried again until the queue is closed.
    pub(super) fn write(&self, line: &[u8], queue: &Queue) {
        match self {
            Self::Stderr => to_stderr(line),
            Self::Journald(socket) => {
                while let Err(error) = socket.send_to(line, JOURNALD) {
                    let away = matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
                    if error.kind() != io::ErrorKind::Interrupted && !(away && queue.rest(AWAY)) {
                        return;
                    }
                }
            }
        }
    }
}

/// By the descriptor, without the standard library's lock: a blocked thread here must not prevent another one from
/// writing its last lines. One write per line, so that lines of several processes do not mix.
fn to_stderr(mut line: &[u8]) {
    let stderr = io::stderr();
    while !line.is_empty() {
        match rustix::io::write(&stderr, line) {
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Another process that shares it has made it non-blocking.
            Err(Errno::AGAIN) => {
                let mut writable = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)];
                if poll(&mut writable, None).is_err_and(|error| error != Errno::INTR) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// One event, before it has the form of its sink.
pub(super) struct Entry<'a> {
    pub(super) level: Level,
    pub(super) target: &'a str,
    pub(super) source: Option<(&'a str, u32)>,
    pub(super) message: &'a str,
    pub(super) fields: &'a [(&'static str, String)],
}

/// The entry in journald's form: each field is its name, a line break, the length of its value as 64 bits
/// (little-endian), the value and a line break. `moment` is the time of the event; journald's own time is that of the
/// arrival.
pub(super) fn for_journald(entry: &Entry<'_>, moment: &str, identifier: &str, limit: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    let mut put = |name: &str, value: &str| {
        let end = (0..=limit.min(value.len())).rev().find(|at| value.is_char_boundary(*at));
        let value = value.get(..end.unwrap_or(0)).unwrap_or_default();
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    };
    put("MESSAGE", entry.message);
    put("PRIORITY", priority(entry.level));
    put("SYSLOG_IDENTIFIER", identifier);
    put("SYSLOG_TIMESTAMP", moment);
    put("TARGET", entry.target);
    if let Some((file, line)) = entry.source {
        put("CODE_FILE", file);
        put("CODE_LINE", &line.to_string());
    }
    for (name, value) in entry.fields {
        put(&format!("SYNKLER_{}", name.to_ascii_uppercase()), value);
    }
    bytes
}

/// The numbers of syslog.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journald_gets_lengths_and_whole_characters() {
        let entry = Entry {
            level: Level::WARN,
            target: "synkler",
            source: Some(("a.rs", 7)),
            message: "two\nlines",
            fields: &[("item", "\u{e9}".repeat(100))],
        };
        let bytes = for_journald(&entry, "now", "synkler", 11);
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with("MESSAGE\n\u{9}\0\0\0\0\0\0\0two\nlines\nPRIORITY\n\u{1}\0\0\0\0\0\0\x004\n"),
            "{text:?}"
        );
        assert!(text.contains("CODE_LINE\n\u{1}\0\0\0\0\0\0\x007\n"), "{text:?}");
        let cut = format!("SYNKLER_ITEM\n\u{a}\0\0\0\0\0\0\0{}\n", "\u{e9}".repeat(5));
        assert!(text.ends_with(&cut), "{text:?}");
    }
}
