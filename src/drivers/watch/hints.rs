//! inotify: which items may have changed. These are only hints; the watch always checks for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, EventStream, Inotify, WatchMask, Watches};
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
    /// Names that start with a dot, which may be markers of items.
    pub(super) hidden: BTreeSet<ItemName>,
    /// Events were lost.
    pub(super) overflow: bool,
    /// The directory itself was moved, removed or unmounted.
    pub(super) moved: bool,
    /// There are other permanent directories than before.
    pub(super) regrouped: bool,
}

impl Hints {
    /// `path` is that of the directory in which it happened, empty for `file_dir`; `depth` counts the levels of
    /// permanent directories.
    fn add(&mut self, mask: EventMask, path: &[u8], name: Option<&OsStr>, depth: usize) {
        let ended = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT | EventMask::IGNORED;
        self.overflow |= mask.contains(EventMask::Q_OVERFLOW);
        if mask.intersects(ended) {
            self.moved |= path.is_empty();
            self.regrouped |= !path.is_empty();
        }
        let Some(entry) = name.map(OsStr::as_bytes) else { return };
        let Ok(name) = ItemName::new(&below(path, entry)) else { return };
        if entry.starts_with(b".") {
            self.hidden.insert(name);
            return;
        }
        if name.depth() < depth && mask.contains(EventMask::ISDIR) {
            self.regrouped = true;
            return;
        }
        self.names.insert(name, mask.contains(EventMask::MOVED_TO));
    }
}

/// The path of an entry, both below `file_dir`.
pub(super) fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// Everything that can change an item's signature.
const CHANGES: WatchMask = WatchMask::CLOSE_WRITE
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR)
    .union(WatchMask::EXCL_UNLINK);

/// A subscription for a directory, not yet registered with the runtime.
pub(super) struct Subscription {
    inotify: Inotify,
    /// The descriptor of the directory itself.
    home: i32,
}

impl Subscription {
    /// Subscribes to the changes in a directory. Blocks.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let home = inotify.watches().add(dir, CHANGES)?.get_watch_descriptor_id();
        Ok(Self { inotify, home })
    }

    /// Starts to read events; must be called in the runtime.
    pub(super) fn listen(self) -> io::Result<Listener> {
        let events = self.inotify.into_event_stream(vec![0; BUFFER])?;
        Ok(Listener { events, paths: Paths::from([(self.home, Box::default())]) })
    }
}

/// Adds permanent directories to a subscription.
pub(super) struct Subscriber {
    watches: Watches,
    paths: Paths,
}

/// The paths below `file_dir` of watched directories by their watch descriptors; that of `file_dir` itself is empty.
type Paths = BTreeMap<i32, Box<[u8]>>;

impl Subscriber {
    /// Adds an open directory, which is at this path below `file_dir`. Adding it again changes the path. Blocks.
    pub(super) fn add(&mut self, dir: BorrowedFd<'_>, path: &[u8]) -> io::Result<()> {
        // The link in /proc leads to exactly the opened directory.
        let descriptor = self.watches.add(format!("/proc/self/fd/{}", dir.as_raw_fd()), CHANGES)?;
        self.paths.insert(descriptor.get_watch_descriptor_id(), path.into());
        Ok(())
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

/// Receives the events of the directory, and of the permanent directories below it.
pub(super) struct Listener {
    events: EventStream<Vec<u8>>,
    paths: Paths,
}

impl Listener {
    /// For the permanent directories.
    pub(super) fn subscriber(&self) -> Subscriber {
        Subscriber { watches: self.events.watches(), paths: BTreeMap::new() }
    }

    /// Takes over what a subscriber has added.
    pub(super) fn listen_to(&mut self, added: Subscriber) {
        self.paths.extend(added.paths);
    }

    /// Waits for the first event until `until`, then until `calm`, and collects all events up to then.
    pub(super) async fn next(&mut self, until: Instant, calm: Instant, depth: usize) -> io::Result<Hints> {
        let mut hints = Hints::default();
        let Ok(mut event) = timeout_at(until, self.events.next()).await else {
            return Ok(hints);
        };
        if Instant::now() < calm {
            sleep_until(calm).await;
        }
        loop {
            let found = event.ok_or(io::ErrorKind::UnexpectedEof)??;
            let descriptor = found.wd.get_watch_descriptor_id();
            match self.paths.get(&descriptor) {
                Some(path) => hints.add(found.mask, path, found.name.as_deref(), depth),
                None => hints.overflow |= found.mask.contains(EventMask::Q_OVERFLOW),
            }
            if found.mask.contains(EventMask::IGNORED) {
                self.paths.remove(&descriptor);
            }
            if hints.names.len() + hints.hidden.len() >= NAMES {
                return Ok(hints);
            }
            match self.events.next().now_or_never() {
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
        let mut add = |mask, name: &str| hints.add(mask, b"", Some(OsStr::new(name)), 0);
        add(EventMask::CREATE, "a");
        add(EventMask::MOVED_TO | EventMask::ISDIR, "a");
        add(EventMask::MOVED_TO, "b");
        add(EventMask::CLOSE_WRITE, "b");
        add(EventMask::MOVED_TO, ".c.XYZ");
        add(EventMask::DELETE, "d");
        let found: Vec<_> = hints.names.iter().map(|(name, renamed)| (name.as_bytes(), *renamed)).collect();
        assert_eq!(found, [(&b"a"[..], true), (b"b", false), (b"d", false)]);
        assert_eq!(hints.hidden.iter().map(ItemName::as_bytes).collect::<Vec<_>>(), [b".c.XYZ"]);
        assert!(!hints.overflow && !hints.moved);
        hints.add(EventMask::Q_OVERFLOW, b"", None, 0);
        hints.add(EventMask::UNMOUNT, b"", None, 0);
        assert!(hints.overflow && hints.moved);
    }

    #[test]
    fn permanent_directories_are_told_from_items() {
        let mut hints = Hints::default();
        let mut add = |mask, path: &[u8], name: &str| hints.add(mask, path, Some(OsStr::new(name)), 1);
        add(EventMask::CREATE, b"", "too-high");
        add(EventMask::MOVED_TO, b"in", "a");
        add(EventMask::CREATE | EventMask::ISDIR, b"in", "b");
        add(EventMask::CREATE, b"in", ".c");
        let found: Vec<_> = hints.names.iter().map(|(name, renamed)| (name.as_bytes(), *renamed)).collect();
        assert_eq!(found, [(&b"in/a"[..], true), (b"in/b", false), (b"too-high", false)]);
        assert!(!hints.moved && !hints.regrouped);
        hints.add(EventMask::CREATE | EventMask::ISDIR, b"", Some(OsStr::new("new")), 1);
        assert!(!hints.moved && hints.regrouped);
        let mut hints = Hints::default();
        hints.add(EventMask::MOVE_SELF, b"in", None, 1);
        assert!(!hints.moved && hints.regrouped);
    }

    #[test]
    fn used_up_limits_are_named() {
        assert!(remedy(&Errno::NOSPC.into()).contains("fs.inotify.max_user_watches="));
        assert!(remedy(&Errno::MFILE.into()).contains("fs.inotify.max_user_instances="));
        assert!(remedy(&Errno::PERM.into()).contains("not permitted"));
    }
}
