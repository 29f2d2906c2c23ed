//! A copy of an item on another file system, as `mv` makes it: bytes, links, modes, times, and owners and extended
//! attributes as far as they can be set.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Statx, StatxFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fgetxattr, flistxattr, fsetxattr, futimens, mkdirat, openat, statx, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::folder::Folder;
use super::steps::step;
use crate::drivers::disk::Refusal;
use crate::drivers::manifest::{Entry, Form, Site, SurveyError};
use crate::machine::ItemName;

/// The most bytes of the names of a file's extended attributes, and of a value: what Linux allows.
const ATTRIBUTES_LIMIT: usize = 64 * 1024;

/// Copies the item at `site` into a directory of ours, in which its name is free. The later verification of the copy
/// finds a change of the source.
pub(super) fn duplicate(site: &Site, into: &Folder, name: &ItemName) -> Result<(), SurveyError> {
    let survey = site.survey()?;
    let mut opener = site.opener();
    let mut directories = Vec::new();
    for entry in survey.entries() {
        let path = path_of(name, entry);
        let refused = |doing| {
            let to = into.path_of(&path);
            move |errno| SurveyError::from(Refusal::new(doing, &to, errno))
        };
        step();
        match &entry.form {
            Form::Directory => {
                mkdirat(into.fd(), &*path, Mode::RWXU).map_err(refused("create"))?;
                directories.push(entry);
            }
            Form::File => {
                let from = opener.open(entry)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let to = openat(into.fd(), &*path, flags, Mode::RUSR | Mode::WUSR).map_err(refused("create"))?;
                let (mut from, mut to) = (File::from(from), File::from(to));
                io::copy(&mut from, &mut to)
                    .map_err(|error| refused("write")(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
                dress(from.as_fd(), to.as_fd()).map_err(refused("write"))?;
            }
            Form::Symlink(target) => {
                symlinkat(&**target, into.fd(), &*path).map_err(refused("create"))?;
                let from = opener.try_open(&entry.path, OFlags::PATH).map_err(refused("read"))?;
                let stat = statx(&from, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map_err(refused("read"))?;
                let (to, link) = (into.fd(), AtFlags::SYMLINK_NOFOLLOW);
                let owned = chownat(to, &*path, Some(owner(&stat)), Some(group(&stat)), link);
                tolerate(owned).map_err(refused("write"))?;
                tolerate(utimensat(to, &*path, &times(&stat), link)).map_err(refused("write"))?;
            }
            Form::Special => return Err(SurveyError::Changed(site.to_string())),
        }
    }
    // Last, because what is made in a directory changes its times, and may need a mode that it will not have.
    for entry in directories.into_iter().rev() {
        let path = path_of(name, entry);
        let refused = |errno| SurveyError::from(Refusal::new("write", &into.path_of(&path), errno));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to: OwnedFd = openat(into.fd(), &*path, flags, Mode::empty()).map_err(refused)?;
        dress(opener.open(entry)?, to).map_err(refused)?;
    }
    Ok(())
}

fn path_of(name: &ItemName, entry: &Entry) -> Vec<u8> {
    if &*entry.path == b"." { name.as_bytes().to_vec() } else { [name.as_bytes(), b"/", &entry.path].concat() }
}

/// Gives a copy what the original has beside its bytes. Not every file system keeps all of it, and not everybody may
/// set it.
fn dress(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    let stat = statx(&from, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    tolerate(fchown(&to, Some(owner(&stat)), Some(group(&stat))))?;
    attributes(&from, &to);
    // After the owner, whose change takes set-user-ID away.
    tolerate(fchmod(&to, Mode::from_raw_mode((stat.stx_mode & 0o7777).into())))?;
    tolerate(futimens(&to, &times(&stat)))
}

fn owner(stat: &Statx) -> Uid {
    Uid::from_raw(stat.stx_uid)
}

fn group(stat: &Statx) -> Gid {
    Gid::from_raw(stat.stx_gid)
}

fn times(stat: &Statx) -> Timestamps {
    let time = |seconds, nanoseconds: u32| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps {
        last_access: time(stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec),
        last_modification: time(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
    }
}

fn attributes(from: impl AsFd, to: impl AsFd) {
    let mut names = vec![0; ATTRIBUTES_LIMIT];
    let Ok(length) = flistxattr(&from, &mut *names) else { return };
    let mut value = vec![0; ATTRIBUTES_LIMIT];
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if let Ok(length) = fgetxattr(&from, name, &mut *value)
            && let Some(value) = value.get(..length)
        {
            let _ = fsetxattr(&to, name, value, XattrFlags::empty());
        }
    }
}

fn tolerate(done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(()),
        other => other,
    }
}
