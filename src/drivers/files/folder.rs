//! A directory of ours, held open: spool, staging, destination. Everything in it is named relative to the
//! descriptor, symbolic links in it are never followed, and what is removed never lies outside it.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Statx, accessat, chmod, fsync, linkat, mkdirat,
    mknodat, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;

use crate::drivers::disk::{Refusal, shown};
use crate::drivers::manifest::{Site, file_type, look};
use crate::machine::ItemName;

/// How many names are read at once from a directory that is being emptied.
const NAMES_AT_ONCE: usize = 10_000;
/// What synkler puts beside an item begins with this, and no item may.
pub(super) const RESERVED: &[u8] = b".synkler";

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How a rename treats what stands under the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onto {
    /// Fail if there is something.
    Nothing,
    /// Swap the two.
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
    /// What is open already, by the path it has.
    pub(super) fn within(fd: OwnedFd, path: &Path) -> Self {
        Self { fd, path: path.to_owned() }
    }

    /// Opens a directory by its configured path, in which symbolic links are fine.
    pub(super) fn open(path: &Path) -> Result<Self, Refusal> {
        let fd = openat(CWD, path, OPEN, Mode::empty()).map_err(|errno| Refusal::new("open", path, errno))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Fails unless this process may list it and, where `write`, create and remove entries in it.
    pub(super) fn check(&self, write: bool) -> Result<(), Refusal> {
        let (doing, wanted) = if write {
            ("write to", Access::READ_OK | Access::EXEC_OK | Access::WRITE_OK)
        } else {
            ("read", Access::READ_OK | Access::EXEC_OK)
        };
        accessat(&self.fd, c".", wanted, AtFlags::EACCESS).map_err(|errno| self.refusal(doing, b"", errno))
    }

    /// A directory in it; `None` where nothing or something else stands there.
    pub(super) fn child(&self, name: &[u8]) -> Result<Option<Self>, Refusal> {
        match openat(&self.fd, name, OPEN | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: self.path_of(name) })),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.refusal("open", name, errno)),
        }
    }

    /// A file in it, for reading; `None` where there is none.
    pub(super) fn open_file(&self, name: &[u8]) -> Result<Option<OwnedFd>, Refusal> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.refusal("open", name, errno)),
        }
    }

    /// At most so many bytes of a file in it; `None` where there is none.
    pub(super) fn read_file(&self, name: &[u8], limit: usize) -> Result<Option<Vec<u8>>, Refusal> {
        let Some(fd) = self.open_file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        File::from(fd)
            .take(limit as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| self.refused_io("read", name, &error))?;
        Ok(Some(bytes))
    }

    /// Puts a small file into it, durably and in one go, for everyone to read.
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

    /// A directory in it, made with mode 0700 where it is not there; one that is there keeps its mode.
    pub(super) fn make(&self, name: &[u8]) -> Result<Self, Refusal> {
        match mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.refusal("create", name, errno)),
        }
        self.child(name)?.ok_or_else(|| self.refusal("open", name, Errno::NOTDIR))
    }

    /// Puts an empty file into it, for the sake of its name; whatever is there already will do.
    pub(super) fn mark(&self, name: &[u8]) -> Result<(), Refusal> {
        match mknodat(&self.fd, name, FileType::RegularFile, Mode::RUSR | Mode::WUSR, 0) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(self.refusal("create", name, errno)),
        }
    }

    /// What stands under a name.
    pub(super) fn stat(&self, name: &[u8]) -> Result<Option<Statx>, Refusal> {
        match look(&self.fd, name) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.refusal("look at", name, errno)),
        }
    }

    /// The inode of what stands under a name.
    pub(super) fn inode(&self, name: &[u8]) -> Result<Option<u64>, Refusal> {
        Ok(self.stat(name)?.map(|stat| stat.stx_ino))
    }

    /// Whether both are on one file system, so that a rename between them can work.
    pub(super) fn shares_file_system(&self, other: &Self) -> Result<bool, Refusal> {
        Ok(self.device()? == other.device()?)
    }

    /// The item of that name in it.
    pub(super) fn site(&self, name: &ItemName) -> Result<Site, Refusal> {
        let fd = self.fd.try_clone().map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::MFILE);
            self.refusal("open", b"", errno)
        })?;
        Ok(Site::within(fd, &self.path, name))
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

    /// Makes what was created, renamed and removed in it durable.
    pub(super) fn sync(&self) -> Result<(), Refusal> {
        match fsync(&self.fd) {
            // Some network file systems do not know it for directories, and keep them in step by themselves.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(self.refusal("make durable", b"", errno)),
        }
    }

    /// Renames an entry into another directory of the same file system. Where the file system does not know
    /// `onto`, fails with [`Errno::INVAL`].
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

    /// [`Onto::Nothing`] for a file system that does not know it: by a second link, which is as good, and
    /// where that is impossible (directories; FAT) by looking first, which leaves an instant in which an
    /// empty directory or a file that has just been put there is replaced.
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

    /// Sets the permissions of a directory in it.
    pub(super) fn set_mode(&self, name: &[u8], mode: u16) -> Result<(), Refusal> {
        let refused = |errno| self.refusal("change the mode of", name, errno);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty()).map_err(refused)?;
        // chmod itself follows symbolic links, and fchmod wants a descriptor that can be had only with read
        // permission; the link in /proc leads to exactly what was opened.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        chmod(path, Mode::from_raw_mode(mode.into())).map_err(refused)
    }

    /// Removes an entry with everything below it. Nothing there is fine.
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

    /// Removes everything in it. Directories are emptied by moving those inside them up to here first, so
    /// that no depth can use up the stack or the descriptors.
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

    /// Removes what is no directory, and moves directories up under numbered names.
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

    /// Opens a directory that is to be emptied, and gives its owner (us) the right to do so. `None` where no
    /// directory stands there; another file system mounted there is refused.
    fn enter(&self, name: &[u8]) -> Result<Option<Self>, Refusal> {
        let Some(stat) = self.stat(name)?.filter(|stat| file_type(stat) == FileType::Directory) else {
            return Ok(None);
        };
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

    fn path_of(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }
}
