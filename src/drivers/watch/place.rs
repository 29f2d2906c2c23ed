//! The watched directory on the file system. Everything here blocks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags, fstat, fstatfs, openat, statx};
use rustix::io::Errno;

use super::Surveyed;
use super::hints::{Subscriber, below};
use crate::drivers::look::{enter, file_type, look};
use crate::machine::{Cause, ItemName, ReadyMarker, Reason, Signature, escaped};

/// The maximum number of permanent directories.
const DIRECTORY_LIMIT: usize = 10_000;
/// Why a mounted file system counts as no permanent directory.
const MOUNTED: &str =
    "another file system is mounted there; move the directory into file_dir, or give it its own group";

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// File systems that change without an action of this host, by their magic numbers (`linux/magic.h`, and the sources of
/// those that are not in it).
const REMOTE: &[(u32, &str)] = &[
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x00c3_6400, "ceph"),
    (0x7375_7245, "coda"),
    (0x0bd0_0bd0, "lustre"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
];

/// Why the directory may not show its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    #[error("it cannot be {action}: {}", io::Error::from(*errno))]
    Refused { action: &'static str, errno: Errno },
    #[error("another directory is there now")]
    Replaced,
    #[error("{}", Cause::Directory.text())]
    Elsewhere,
    #[error("the scan failed, which is a bug in synkler")]
    Panicked,
}

fn refused(action: &'static str) -> impl Fn(Errno) -> Lost {
    move |errno| Lost::Refused { action, errno }
}

/// The identity of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    /// Unknown in kernels before 5.8.
    mount: Option<u64>,
}

impl Identity {
    /// Whether it is the `earlier` directory, perhaps mounted again, or one created in its place. False for the
    /// directory below a missing mount: that has another device or, below a bind mount, another inode on another mount.
    pub(super) fn succeeds(self, earlier: Self) -> bool {
        self.device == earlier.device && (self.inode == earlier.inode || self.mount == earlier.mount)
    }
}

/// The result of checking one item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Present { signature: Signature, size: u64, unmarked: Option<Reason> },
    Gone,
}

/// The content of the directory.
#[derive(Default)]
pub(super) struct Listing {
    /// The items, in no order, up to the limit.
    pub(super) names: Vec<ItemName>,
    /// How many names start with a dot.
    pub(super) hidden: usize,
    /// How many names are no items otherwise.
    pub(super) unwanted: usize,
    /// How many names are longer than Linux allows.
    pub(super) unusable: usize,
    /// Whether there are more than the limit.
    pub(super) cut: bool,
    /// Why a permanent directory is not watched.
    pub(super) obstacle: Option<String>,
    /// The subscription for permanent directories, if it is complete.
    pub(super) subscribed: Option<io::Result<Subscriber>>,
}

/// A directory by its path, how to survey its items, and whether it is the one that the node works in.
pub(super) struct Place {
    path: PathBuf,
    /// How many levels of permanent directories it has.
    depth: usize,
    is_item: Box<IsItem>,
    marker: Option<ReadyMarker>,
    survey: Box<Survey>,
    knows: Option<Box<Knows>>,
}

type IsItem = dyn Fn(&ItemName) -> bool + Send + Sync;
type Knows = dyn Fn(BorrowedFd<'_>) -> bool + Send + Sync;

type Survey = dyn Fn(BorrowedFd<'_>, &ItemName) -> Surveyed + Send + Sync;

impl Place {
    pub(super) fn new(
        path: &Path,
        is_item: impl Fn(&ItemName) -> bool + Send + Sync + 'static,
        survey: impl Fn(BorrowedFd<'_>, &ItemName) -> Surveyed + Send + Sync + 'static,
    ) -> Self {
        let (is_item, survey) = (Box::new(is_item), Box::new(survey));
        Self { path: path.to_owned(), depth: 0, is_item, marker: None, survey, knows: None }
    }

    /// The same, with this many levels of permanent directories.
    pub(super) fn with_depth(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    /// The same, with markers that say which items are complete.
    pub(super) fn marked_by(self, marker: Option<ReadyMarker>) -> Self {
        Self { marker, ..self }
    }

    /// Whether markers lie where inotify does not report them.
    pub(super) fn has_inner_markers(&self) -> bool {
        matches!(self.marker, Some(ReadyMarker::Inside(_)))
    }

    /// The item to check after an event of that name: its own, or the one whose marker it is.
    pub(super) fn item_of(&self, name: ItemName, is_hidden: bool) -> Option<ItemName> {
        let item = self.marker.as_ref().and_then(|marker| marker.item(&name)).or((!is_hidden).then_some(name))?;
        (!item.leaf().as_bytes().starts_with(b".") && self.is_item(&item)).then_some(item)
    }

    /// How many levels of permanent directories it has.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The same, with another test than the file system for the right directory.
    pub(super) fn known_by(self, knows: impl Fn(BorrowedFd<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self { knows: Some(Box::new(knows)), ..self }
    }

    /// Whether this directory can be the earlier one.
    pub(super) fn succeeds(&self, now: Identity, earlier: Identity) -> bool {
        self.knows.is_some() || now.succeeds(earlier)
    }

    /// Whether an entry of that name can be an item or, further up, a permanent directory.
    pub(super) fn is_item(&self, name: &ItemName) -> bool {
        let is_marker = self.marker.as_ref().is_some_and(|marker| marker.item(name).is_some());
        !(is_marker && name.depth() == self.depth) && (self.is_item)(name)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the directory at the path. The descriptor is not kept, because it would prevent the file system from being
    /// unmounted.
    fn open(&self) -> Result<(OwnedFd, Identity), Lost> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let dir = openat(CWD, &self.path, flags, Mode::empty()).map_err(refused("opened"))?;
        if self.knows.as_ref().is_some_and(|knows| !knows(dir.as_fd())) {
            return Err(Lost::Elsewhere);
        }
        let stat = fstat(&dir).map_err(refused("looked at"))?;
        let mount = statx(&dir, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .ok()
            .filter(|found| found.stx_mask & StatxFlags::MNT_ID.bits() != 0)
            .map(|found| found.stx_mnt_id);
        Ok((dir, Identity { device: stat.st_dev, inode: stat.st_ino, mount }))
    }

    fn open_as(&self, home: Identity) -> Result<OwnedFd, Lost> {
        let (dir, identity) = self.open()?;
        // Mounting and unmounting changes the mount, not the directory.
        match (identity.device == home.device, identity.inode == home.inode) {
            (true, true) => Ok(dir),
            (true, false) => Err(Lost::Replaced),
            (false, _) => Err(Lost::Elsewhere),
        }
    }

    /// The identity of the directory, and the name of its file system if other hosts may change it.
    pub(super) fn identify(&self) -> Result<(Identity, Option<&'static str>), Lost> {
        let (dir, identity) = self.open()?;
        let magic = fstatfs(&dir).map_err(refused("looked at"))?.f_type;
        Ok((identity, remote(magic)))
    }

    /// Reads the whole directory, which must be `home`, and its permanent directories, up to `limit` items.
    pub(super) fn list(&self, home: Identity, limit: usize, subscriber: Option<Subscriber>) -> Result<Listing, Lost> {
        let mut listing = Listing { subscribed: subscriber.map(Ok), ..Listing::default() };
        let top = self.open_as(home)?;
        let mut found = 0;
        let mut pending = vec![Vec::new()];
        while let Some(path) = pending.pop() {
            match self.read(top.as_fd(), &path, limit, &mut listing) {
                Ok(directories) => {
                    found += directories.len();
                    pending.extend(directories);
                }
                Err(errno) if path.is_empty() => return Err(refused("read")(errno)),
                // Gone since it was listed.
                Err(Errno::NOENT) => {}
                Err(errno) => {
                    let shown = escaped(&path);
                    let why =
                        if errno == Errno::XDEV { MOUNTED.to_owned() } else { io::Error::from(errno).to_string() };
                    listing.obstacle.get_or_insert(format!("cannot look into {shown}: {why}"));
                }
            }
            if found > DIRECTORY_LIMIT {
                let why = format!("it contains more than {DIRECTORY_LIMIT} directories of item_depth: the rest waits");
                listing.obstacle.get_or_insert(why);
                break;
            }
            if listing.cut {
                break;
            }
        }
        Ok(listing)
    }

    /// Adds the items of one directory to the listing, and returns the permanent directories in it.
    fn read(
        &self,
        top: BorrowedFd<'_>,
        path: &[u8],
        limit: usize,
        listing: &mut Listing,
    ) -> Result<Vec<Vec<u8>>, Errno> {
        let mut dir = openat(top, c".", OPEN, Mode::empty())?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            dir = enter(&dir, name, OFlags::RDONLY)?.ok_or(Errno::NOENT)?;
        }
        // Before its entries are read, so that none is missed. The directory itself has its own subscription.
        if let Some(Ok(subscriber)) = &mut listing.subscribed
            && !path.is_empty()
            && let Err(error) = subscriber.add(dir.as_fd(), path)
        {
            listing.subscribed = Some(Err(error));
        }
        let mut directories = Vec::new();
        let mut dir = Dir::new(dir)?;
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            match name {
                // The last entry is our own marker.
                b"." | b".." | b".synkler" => continue,
                [b'.', ..] => {
                    listing.hidden += 1;
                    continue;
                }
                _ => {}
            }
            let path = below(path, name);
            let Ok(item) = ItemName::new(&path) else {
                listing.unusable += 1;
                continue;
            };
            if !self.is_item(&item) {
                listing.unwanted += 1;
            } else if item.depth() < self.depth && is_directory(dir.fd()?, name, entry.file_type()) {
                directories.push(path);
            } else if listing.names.len() >= limit {
                listing.cut = true;
                break;
            } else {
                listing.names.push(item);
            }
        }
        Ok(directories)
    }

    /// Checks items of the directory, which must be `home`.
    pub(super) fn look(&self, home: Identity, names: impl Iterator<Item = ItemName>) -> Result<Looks, Lost> {
        let dir = self.open_as(home)?;
        let look = |name| {
            let look = self.look_at(dir.as_fd(), &name);
            (name, look)
        };
        Ok(names.map(look).collect())
    }

    fn look_at(&self, dir: BorrowedFd<'_>, name: &ItemName) -> Look {
        if name.depth() < self.depth && is_directory(dir, name.as_bytes(), FileType::Unknown) {
            // A permanent directory, in place of an item that was too high up.
            return Look::Gone;
        }
        match (self.survey)(dir, name) {
            Surveyed::Present { signature, size, unmarked } => Look::Present { signature, size, unmarked },
            Surveyed::Gone => Look::Gone,
            Surveyed::Unreadable => at_a_glance(dir, name),
        }
    }
}

/// Each checked item, and the result.
pub(super) type Looks = Vec<(ItemName, Look)>;

/// Whether the entry is a directory; `listed` is the type of the listing.
fn is_directory(dir: BorrowedFd<'_>, name: &[u8], listed: FileType) -> bool {
    match listed {
        FileType::Unknown => look(dir, name).is_ok_and(|stat| file_type(&stat) == FileType::Directory),
        listed => listed == FileType::Directory,
    }
}

/// The report on an item that cannot be surveyed: its signature covers its top entry alone, so that it is reported
/// once, and again when that entry changes.
fn at_a_glance(dir: BorrowedFd<'_>, item: &ItemName) -> Look {
    let glance = || {
        let mut dir = openat(dir, c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for name in item.above() {
            dir = enter(&dir, name, OFlags::PATH)?.ok_or(Errno::NOENT)?;
        }
        look(dir, item.leaf().as_bytes())
    };
    let (text, size) = match glance() {
        Err(Errno::NOENT) => return Look::Gone,
        Err(errno) => (format!("refused {}", errno.raw_os_error()), 0),
        Ok(stat) => {
            let text = format!(
                "unreadable {} {} {}.{} {}.{}",
                stat.stx_ino,
                stat.stx_size,
                stat.stx_mtime.tv_sec,
                stat.stx_mtime.tv_nsec,
                stat.stx_ctime.tv_sec,
                stat.stx_ctime.tv_nsec
            );
            (text, if file_type(&stat) == FileType::RegularFile { stat.stx_size } else { 0 })
        }
    };
    Look::Present { signature: Signature(Md5::digest(text).into()), size, unmarked: None }
}

fn remote(magic: impl Into<i128>) -> Option<&'static str> {
    // The type of the number differs between architectures, its lower half does not.
    let magic = magic.into() & 0xffff_ffff;
    REMOTE.iter().find(|(known, _)| i128::from(*known) == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_mount_is_not_taken_for_the_directory() {
        let home = Identity { device: 8, inode: 100, mount: Some(30) };
        assert!(home.succeeds(home));
        assert!(Identity { mount: Some(31), ..home }.succeeds(home), "mounted again");
        assert!(Identity { inode: 200, ..home }.succeeds(home), "made again");
        assert!(!Identity { device: 9, ..home }.succeeds(home), "what lies below a mount");
        assert!(!Identity { inode: 200, mount: Some(29), ..home }.succeeds(home), "what lies below a bind mount");
    }

    #[test]
    fn network_file_systems_are_known_by_their_magic() {
        assert_eq!(remote(0x6969), Some("nfs"));
        assert_eq!(remote(0xfe53_4d42_u32), Some("smb2"));
        assert_eq!(remote(i64::from(0xff53_4d42_u32.cast_signed())), Some("cifs"));
        assert_eq!(remote(0xef53), None);
    }

    #[test]
    fn what_cannot_be_surveyed_still_has_a_stable_signature() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "12345").unwrap();
        let place = Place::new(dir.path(), |_| true, |_, _| Surveyed::Unreadable);
        let (home, _) = place.identify().unwrap();
        let look = || place.look(home, [ItemName::new(b"a").unwrap()].into_iter()).unwrap().remove(0).1;
        let first = look();
        assert!(matches!(first, Look::Present { size: 5, .. }));
        assert_eq!(look(), first);
        std::fs::write(dir.path().join("a"), "123456").unwrap();
        assert_ne!(look(), first);
        std::fs::remove_file(dir.path().join("a")).unwrap();
        assert_eq!(look(), Look::Gone);
    }

    #[test]
    fn a_listing_tells_items_from_the_rest_and_stops_at_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", ".b", "c d", "..e", "f", "g"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let place = Place::new(dir.path(), |name| name.as_bytes() != b"g", |_, _| Surveyed::Gone);
        let (home, _) = place.identify().unwrap();
        let mut listing = place.list(home, 10, None).unwrap();
        listing.names.sort();
        let names: Vec<_> = listing.names.iter().map(ItemName::as_bytes).collect();
        assert_eq!((names, listing.hidden, listing.cut), (vec![&b"a"[..], b"c d", b"f"], 2, false));
        assert_eq!(listing.unwanted, 1);
        let listing = place.list(home, 2, None).unwrap();
        assert_eq!((listing.names.len(), listing.cut), (2, true));
    }
}
