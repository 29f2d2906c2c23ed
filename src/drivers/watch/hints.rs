//! inotify: which items may have changed. These are only hints; the watch always checks for itself.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, EventStream, Inotify, WatchMask};
use rustix::io::Errno;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::machine::ItemName;

/// The maximum number of names that are collected before the watch checks them.
const NAMES: usize = 4096;
/// Bytes of events read at once.
const BUFFER: usize = 64 * 1024;

/// What inotify has reported since the last call.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Items to check, and whether the last event of each was a rename to this name.
    pub(super) names: BTreeMap<ItemName, bool>,
    /// Events were lost.
    pub(super) overflow: bool,
    /// The directory itself was moved, removed or unmounted.
    pub(super) moved: bool,
}

impl Hints {
    fn add(&mut self, mask: EventMask, name: Option<&OsStr>) {
        let moved = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT | EventMask::IGNORED;
        self.overflow |= mask.contains(EventMask::Q_OVERFLOW);
        self.moved |= mask.intersects(moved);
        if let Some(name) = name
            && !name.as_bytes().starts_with(b".")
            && let Ok(name) = ItemName::new(name.as_bytes())
        {
            self.names.insert(name, mask.contains(EventMask::MOVED_TO));
        }
    }
}

/// A subscription for a directory, not yet registered with the runtime.
pub(super) struct Subscription(Inotify);

impl Subscription {
    /// Subscribes to everything that can change an item's signature. Blocks.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR
            | WatchMask::EXCL_UNLINK;
        let inotify = Inotify::init()?;
        inotify.watches().add(dir, mask)?;
        Ok(Self(inotify))
    }

    /// Starts to read events; must be called in the runtime.
    pub(super) fn listen(self) -> io::Result<Listener> {
        Ok(Listener(self.0.into_event_stream(vec![0; BUFFER])?))
    }
}

/// Why there is no subscription, and what to do.
pub(super) fn remedy(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC) => "the inotify watches of this user are used up: raise fs.inotify.max_user_watches \
         (sysctl -w fs.inotify.max_user_watches=524288)"
            .to_owned(),
        Some(Errno::MFILE) => "the inotify instances of this user are used up: raise fs.inotify.max_user_instances \
         (sysctl -w fs.inotify.max_user_instances=512), or LimitNOFILE= of the service for its open files"
            .to_owned(),
        _ => format!("inotify fails: {error}"),
    }
}

/// Receives the events of the directory.
pub(super) struct Listener(EventStream<Vec<u8>>);

impl Listener {
    /// Waits for the first event until `until`, then until `calm`, and collects all events up to then.
    pub(super) async fn next(&mut self, until: Instant, calm: Instant) -> io::Result<Hints> {
        let mut hints = Hints::default();
        let Ok(mut event) = timeout_at(until, self.0.next()).await else {
            return Ok(hints);
        };
        if Instant::now() < calm {
            sleep_until(calm).await;
        }
        loop {
            let found = event.ok_or(io::ErrorKind::UnexpectedEof)??;
            hints.add(found.mask, found.name.as_deref());
            if hints.names.len() >= NAMES {
                return Ok(hints);
            }
            match self.0.next().now_or_never() {
                Some(next) => event = next,
                None => return Ok(hints),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_with_a_rename_counts_as_renamed_in() {
        let mut hints = Hints::default();
        let mut add = |mask, name: &str| hints.add(mask, Some(OsStr::new(name)));
        add(EventMask::CREATE, "a");
        add(EventMask::MOVED_TO | EventMask::ISDIR, "a");
        add(EventMask::MOVED_TO, "b");
        add(EventMask::CLOSE_WRITE, "b");
        add(EventMask::MOVED_TO, ".c.XYZ");
        add(EventMask::DELETE, "d");
        let found: Vec<_> = hints.names.iter().map(|(name, renamed)| (name.as_bytes(), *renamed)).collect();
        assert_eq!(found, [(&b"a"[..], true), (b"b", false), (b"d", false)]);
        assert!(!hints.overflow && !hints.moved);
        hints.add(EventMask::Q_OVERFLOW, None);
        hints.add(EventMask::UNMOUNT, None);
        assert!(hints.overflow && hints.moved);
    }

    #[test]
    fn used_up_limits_are_named() {
        assert!(remedy(&Errno::NOSPC.into()).contains("fs.inotify.max_user_watches="));
        assert!(remedy(&Errno::MFILE.into()).contains("fs.inotify.max_user_instances="));
        assert!(remedy(&Errno::PERM.into()).contains("not permitted"));
    }
}
