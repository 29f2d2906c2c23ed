//! A directory of ours, kept open: spool, staging, destination. All names are relative to the descriptor, symbolic
//! links are never followed, and nothing outside of it is ever removed.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Statx, accessat, chmod, chownat, fsync, linkat,
    mkdirat, mknodat, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::drivers::disk::{Refusal, shown};
use crate::drivers::look::{enter, file_type, look};
use crate::drivers::manifest::{Site, SurveyError};
use crate::machine::ItemName;

/// How many names are read at once from a directory that is being emptied.
const NAMES_AT_ONCE: usize = 10_000;
/// How many directories a path may have above it.
const PATH_DEPTH: usize = 2048;
/// What synkler puts beside an item begins with this, and no item may.
pub const RESERVED: &[u8] = b".synkler";

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What a rename does with an existing entry of the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onto {
    /// Fail if there is one.
    Nothing,
    /// Exchange the two.
    Exchange,
}

#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.path))
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Folder {
    /// An open directory; `path` is used in errors.
    pub(super) fn within(fd: OwnedFd, path: &Path) -> Self {
        Self { fd, path: path.to_owned() }
    }

    /// Opens a directory by its configured path, which may contain symbolic links.
    pub(super) fn open(path: &Path) -> Result<Self, Refusal> {
        let fd = openat(CWD, path, OPEN, Mode::empty()).map_err(|errno| Refusal::new("open", path, errno))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Fails unless this process may list it and, with `write`, create and remove entries in it.
    pub(super) fn check(&self, write: bool) -> Result<(), Refusal> {
        let (doing, wanted) = if write {
            ("write to", Access::READ_OK | Access::EXEC_OK | Access::WRITE_OK)
        } else {
            ("read", Access::READ_OK | Access::EXEC_OK)
        };
        accessat(&self.fd, c".", wanted, AtFlags::EACCESS).map_err(|errno| self.refusal(doing, b"", errno))
    }

    /// A directory in it; `None` if the entry is missing or of another kind.
    pub(super) fn child(&self, name: &[u8]) -> Result<Option<Self>, Refusal> {
        match openat(&self.fd, name, OPEN | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: self.path_of(name) })),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.refusal("open", name, errno)),
        }
    }

    /// A file in it, for reading; `None` if there is none.
    pub(super) fn open_file(&self, name: &[u8]) -> Result<Option<OwnedFd>, Refusal> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.refusal("open", name, errno)),
        }
    }

    /// Reads up to `limit` bytes of a file in it; `None` if the file is missing.
    pub(super) fn read_file(&self, name: &[u8], limit: usize) -> Result<Option<Vec<u8>>, Refusal> {
        let Some(fd) = self.open_file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        File::from(fd)
            .take(limit as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| self.refused_io("read", name, &error))?;
        Ok(Some(bytes))
    }

    /// Writes a small file that every user may read, durably and by a rename.
    pub(super) fn write_file(&self, name: &[u8], bytes: &[u8]) -> Result<(), Refusal> {
        let begun = [name, b".new"].concat();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let fd = openat(&self.fd, &*begun, flags, mode).map_err(|errno| self.refusal("create", &begun, errno))?;
        let mut file = File::from(fd);
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| self.refused_io("write", &begun, &error))?;
        renameat(&self.fd, &*begun, &self.fd, name).map_err(|errno| self.refusal("create", name, errno))?;
        self.sync()
    }

    fn refused_io(&self, doing: &'static str, name: &[u8], error: &io::Error) -> Refusal {
        self.refusal(doing, name, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    /// A directory in it, created with mode 0700 if it is missing; an existing one keeps its mode.
    pub(super) fn make(&self, name: &[u8]) -> Result<Self, Refusal> {
        match mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.refusal("create", name, errno)),
        }
        self.child(name)?.ok_or_else(|| self.refusal("open", name, Errno::NOTDIR))
    }

    /// Creates an empty file for the sake of its name; an existing entry is fine.
    pub(super) fn mark(&self, name: &[u8]) -> Result<(), Refusal> {
        match mknodat(&self.fd, name, FileType::RegularFile, Mode::RUSR | Mode::WUSR, 0) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(self.refusal("create", name, errno)),
        }
    }

    /// The entry of a name.
    pub(super) fn stat(&self, name: &[u8]) -> Result<Option<Statx>, Refusal> {
        match look(&self.fd, name) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.refusal("look at", name, errno)),
        }
    }

    /// The inode of the entry of a name.
    pub(super) fn inode(&self, name: &[u8]) -> Result<Option<u64>, Refusal> {
        Ok(self.stat(name)?.map(|stat| stat.stx_ino))
    }

    /// Whether both are on one file system, so that a rename between them can work.
    pub(super) fn shares_file_system(&self, other: &Self) -> Result<bool, Refusal> {
        Ok(self.device()? == other.device()?)
    }

    /// The item of that name below it.
    pub(super) fn site(&self, name: &ItemName) -> Result<Site, SurveyError> {
        Site::within(self.duplicate()?, &self.path, name)
    }

    /// The directory below it in which an item is; `None` if it is missing. A mounted file system is refused.
    pub(super) fn around(&self, item: &ItemName) -> Result<Option<Self>, Refusal> {
        let mut folder = Self { fd: self.duplicate()?, path: self.path.clone() };
        for name in item.above() {
            let refused = |errno| folder.refusal("enter", name, errno);
            match enter(&folder.fd, name, OPEN).map_err(refused)? {
                Some(fd) => folder = Self { fd, path: folder.path_of(name) },
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    /// The same, with missing directories created as the umask wants them, and made durable.
    pub(super) fn make_around(&self, item: &ItemName) -> Result<Self, Refusal> {
        self.make_around_as(item, |_, _| Ok(()))
    }

    /// The same; `dress` gets the place of each created directory, to give it mode and group.
    pub(super) fn make_around_as<E: From<Refusal>>(
        &self,
        item: &ItemName,
        dress: impl Fn(&Self, &[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut folder = Self { fd: self.duplicate()?, path: self.path.clone() };
        for name in item.above() {
            let mode = Mode::RWXU | Mode::RWXG | Mode::RWXO;
            match mkdirat(&folder.fd, name, mode) {
                Ok(()) => {
                    dress(&folder, name)?;
                    folder.sync()?;
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(folder.refusal("create", name, errno).into()),
            }
            let refused = |errno| folder.refusal("enter", name, errno);
            let below = enter(&folder.fd, name, OPEN).map_err(refused)?;
            let fd = below.ok_or_else(|| folder.refusal("enter", name, Errno::NOTDIR))?;
            folder = Self { fd, path: folder.path_of(name) };
        }
        Ok(folder)
    }

    fn duplicate(&self) -> Result<OwnedFd, Refusal> {
        self.fd.try_clone().map_err(|error| self.refused_io("open", b"", &error))
    }

    /// At most `limit` names in it, in no order.
    pub(super) fn names(&self, limit: usize) -> Result<Vec<Vec<u8>>, Refusal> {
        let refused = |errno| self.refusal("read", b"", errno);
        let mut names = Vec::new();
        for found in Dir::read_from(&self.fd).map_err(refused)? {
            let found = found.map_err(refused)?;
            let name = found.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
            if names.len() >= limit {
                break;
            }
        }
        Ok(names)
    }

    /// Makes the entries that were created, renamed and removed in it durable.
    pub(super) fn sync(&self) -> Result<(), Refusal> {
        match fsync(&self.fd) {
            // Some network file systems do not support fsync of directories, and keep them durable themselves.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(self.refusal("make durable", b"", errno)),
        }
    }

    /// Renames an entry into another directory of the same file system. If the file system does not support `onto`,
    /// fails with [`Errno::INVAL`].
    pub(super) fn rename(&self, name: &[u8], to: &Self, new_name: &[u8], onto: Onto) -> Result<(), Errno> {
        let flags = match onto {
            Onto::Nothing => RenameFlags::NOREPLACE,
            Onto::Exchange => RenameFlags::EXCHANGE,
        };
        match renameat_with(&self.fd, name, &to.fd, new_name, flags) {
            Err(Errno::NOSYS) => Err(Errno::INVAL),
            other => other,
        }
    }

    /// [`Onto::Nothing`] on any file system.
    pub(super) fn rename_anyhow(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<(), Errno> {
        match self.rename(name, to, new_name, Onto::Nothing) {
            Err(Errno::INVAL) => self.rename_by_hand(name, to, new_name),
            other => other,
        }
    }

    /// [`Onto::Nothing`] for a file system that does not support it: a second link, which is equally safe. If links are
    /// impossible (directories; FAT), it looks first; then for an instant an empty directory or a file that was just
    /// created could be replaced.
    pub(super) fn rename_by_hand(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<(), Errno> {
        match linkat(&self.fd, name, &to.fd, new_name, AtFlags::empty()) {
            Ok(()) => return unlinkat(&self.fd, name, AtFlags::empty()),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
            Err(errno) => return Err(errno),
        }
        match look(&to.fd, new_name) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => renameat(&self.fd, name, &to.fd, new_name),
            Err(errno) => Err(errno),
        }
    }

    /// Renames an entry into another directory, in which the new name must be free. A directory of ours without write
    /// permission becomes writable for the rename, because its `..` changes.
    pub(super) fn rename_to(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<(), Refusal> {
        let rename = || self.rename_anyhow(name, to, new_name);
        let refused = |errno| self.refusal("rename", name, errno);
        match rename() {
            Err(Errno::ACCESS) => {}
            other => return other.map_err(refused),
        }
        let read_only = |stat: &Statx| file_type(stat) == FileType::Directory && stat.stx_mode & 0o200 == 0;
        let Some(stat) = self.stat(name)?.filter(read_only) else { return Err(refused(Errno::ACCESS)) };
        let mode = stat.stx_mode & 0o7777;
        self.set_mode(name, mode | 0o200)?;
        let renamed = rename();
        let (place, name) = if renamed.is_ok() { (to, new_name) } else { (self, name) };
        place.set_mode(name, mode)?;
        renamed.map_err(refused)
    }

    /// Whether it is another directory or below it.
    pub(super) fn is_within(&self, other: &Self) -> Result<bool, Refusal> {
        let identity = |fd: &OwnedFd| {
            let stat = look(fd, b".").map_err(|errno| self.refusal("look at", b"", errno))?;
            Ok((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
        };
        let wanted = identity(&other.fd)?;
        let mut above = None;
        for _ in 0..PATH_DEPTH {
            let fd = above.as_ref().unwrap_or(&self.fd);
            let here = identity(fd)?;
            if here == wanted {
                return Ok(true);
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let parent = openat(fd, c"..", flags, Mode::empty()).map_err(|errno| self.refusal("open", b"..", errno))?;
            if identity(&parent)? == here {
                break;
            }
            above = Some(parent);
        }
        Ok(false)
    }

    /// Its descriptor, for what is done in it by others.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Sets the permissions of a directory in it.
    pub(super) fn set_mode(&self, name: &[u8], mode: u16) -> Result<(), Refusal> {
        let refused = |errno| self.refusal("change the mode of", name, errno);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty()).map_err(refused)?;
        // chmod follows symbolic links, and fchmod needs a descriptor that requires read permission; the link in /proc
        // leads to exactly the opened file.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        chmod(path, Mode::from_raw_mode(mode.into())).map_err(refused)
    }

    /// Removes an entry with everything below it. A missing entry is fine.
    pub(super) fn remove(&self, name: &[u8]) -> Result<(), Refusal> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(self.refusal("remove", name, errno)),
        }
        let Some(dir) = self.enter(name)? else {
            return Err(self.refusal("remove", name, Errno::PERM));
        };
        dir.clear()?;
        self.remove_empty(name)
    }

    /// Removes everything in it. Directories in it are moved up to it before they are emptied, so that no depth can
    /// exhaust the stack or the descriptors.
    pub(super) fn clear(&self) -> Result<(), Refusal> {
        let mut moved = 0;
        loop {
            let names = self.names(NAMES_AT_ONCE)?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                match unlinkat(&self.fd, &*name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(Errno::ISDIR | Errno::PERM) => {}
                    Err(errno) => return Err(self.refusal("remove", &name, errno)),
                }
                let Some(dir) = self.enter(&name)? else {
                    return Err(self.refusal("remove", &name, Errno::PERM));
                };
                dir.hoist_into(self, &mut moved)?;
                self.remove_empty(&name)?;
            }
        }
    }

    /// Removes files, and moves directories up under numbered names.
    fn hoist_into(&self, top: &Self, moved: &mut u64) -> Result<(), Refusal> {
        loop {
            let names = self.names(NAMES_AT_ONCE)?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                match unlinkat(&self.fd, &*name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(Errno::ISDIR | Errno::PERM) => {}
                    Err(errno) => return Err(self.refusal("remove", &name, errno)),
                }
                if self.enter(&name)?.is_none() {
                    return Err(self.refusal("remove", &name, Errno::PERM));
                }
                loop {
                    *moved += 1;
                    let free = [RESERVED, format!("-{moved}").as_bytes()].concat();
                    match renameat(&self.fd, &*name, &top.fd, &*free) {
                        Ok(()) => break,
                        Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                        Err(errno) => return Err(self.refusal("remove", &name, errno)),
                    }
                }
            }
        }
    }

    /// Opens a directory that has to be emptied, and gives its owner (us) the permissions for that. `None` if there is
    /// no directory; refuses a mount point of another file system.
    fn enter(&self, name: &[u8]) -> Result<Option<Self>, Refusal> {
        let Some(stat) = self.stat(name)?.filter(|stat| file_type(stat) == FileType::Directory) else {
            return Ok(None);
        };
        if stat.stx_uid != geteuid().as_raw() {
            // A download has given it away. Without the right to that, the access decides.
            let (user, flags) = (Some(geteuid()), AtFlags::SYMLINK_NOFOLLOW);
            let _ = chownat(&self.fd, name, user, None, flags);
        }
        if stat.stx_mode & 0o700 != 0o700 {
            self.set_mode(name, 0o700)?;
        }
        let Some(dir) = self.child(name)? else { return Ok(None) };
        if !dir.shares_file_system(self)? {
            return Err(self.refusal("remove", name, Errno::XDEV));
        }
        Ok(Some(dir))
    }

    fn remove_empty(&self, name: &[u8]) -> Result<(), Refusal> {
        match unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.refusal("remove", name, errno)),
        }
    }

    fn device(&self) -> Result<(u32, u32), Refusal> {
        let stat = look(self.fd.as_fd(), b".").map_err(|errno| self.refusal("look at", b"", errno))?;
        Ok((stat.stx_dev_major, stat.stx_dev_minor))
    }

    pub(super) fn refusal(&self, doing: &'static str, name: &[u8], errno: Errno) -> Refusal {
        match name {
            b"" => Refusal::new(doing, &self.path, errno),
            _ => Refusal::new(doing, &self.path_of(name), errno),
        }
    }

    pub(super) fn path_of(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }
}
