//! One entry of a directory, and the way from `file_dir` to the directory of an item.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;

use super::disk::Refusal;
use crate::machine::ItemName;

/// The entry `name` in `dir`, without following a symbolic link.
pub(super) fn look(dir: impl AsFd, name: &[u8]) -> Result<Statx, Errno> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, wanted)
}

/// The type of an entry.
pub(super) fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

/// Distinguishes mounted file systems; a kernel before 5.8 distinguishes devices only.
pub(super) fn file_system(stat: &Statx) -> u64 {
    if StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID) {
        stat.stx_mnt_id
    } else {
        u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor)
    }
}

/// Opens a permanent directory in `dir`; `None` if there is no directory of that name.
///
/// # Errors
///
/// The file system refuses, or a file system is mounted there: what it hides is not gone, and what is on it would be,
/// as soon as it is unmounted. Then the error is [`Errno::XDEV`].
pub(super) fn enter(dir: impl AsFd, name: &[u8], flags: OFlags) -> Result<Option<OwnedFd>, Errno> {
    let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = match openat(&dir, name, flags, Mode::empty()) {
        Ok(below) => below,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let mount = |fd: &dyn AsFd| look_at(fd).map(|stat| file_system(&stat));
    if mount(&below)? == mount(&dir)? { Ok(Some(below)) } else { Err(Errno::XDEV) }
}

/// The directory of an item, from the open directory at `path` down the permanent directories above the item. `None` if
/// one of these is missing. The second value is the path of the directory, for errors.
pub(super) fn descend(mut dir: OwnedFd, path: &Path, item: &ItemName) -> Result<(Option<OwnedFd>, PathBuf), Refusal> {
    let mut path = path.to_owned();
    for name in item.above() {
        path.push(OsStr::from_bytes(name));
        match enter(&dir, name, OFlags::PATH).map_err(|errno| Refusal::new("enter", &path, errno))? {
            Some(below) => dir = below,
            None => return Ok((None, path)),
        }
    }
    Ok((Some(dir), path))
}

/// An open file or directory.
fn look_at(fd: impl AsFd) -> Result<Statx, Errno> {
    statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
}
