//! What a file system stores of an item, found by trial.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags, fchmod, fsetxattr, fstat, futimens,
    linkat, mkdirat, openat, renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::disk::Refusal;

/// The results of the trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeps {
    /// Permission bits.
    pub modes: bool,
    /// The set-group-id bit of a directory.
    pub set_group_id: bool,
    /// Modification times, to two seconds.
    pub times: bool,
    /// Symbolic links.
    pub links: bool,
    /// Hard links.
    pub hard_links: bool,
    /// Extended attributes of the user's namespace.
    pub xattrs: bool,
    /// POSIX ACLs.
    pub acls: bool,
    /// Names that differ in case only, as two names.
    pub case: bool,
    /// A name that Windows does not allow.
    pub names: bool,
    /// A rename that replaces nothing.
    pub noreplace: bool,
}

const MTIME: i64 = 1_000_000_000;
const COARSEST: u64 = 2;
const FILE: &str = "file";
const TRIED: [&str; 6] = [FILE, "link", "second", "case", "a:b?", "other"];
/// `u::rw-,u:1:r--,g::r--,m::r--,o::---` in the form of the kernel.
const SOME_ACL: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 1, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0,
    255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];

/// Tries it in a directory of its own in `dir`, which is removed afterwards. The name of that directory begins with
/// `.synkler-check`, which no item's name does.
///
/// # Errors
/// If no directory or file can be created in `dir`, or cannot be removed again.
pub fn try_out(dir: &Path) -> Result<Keeps, Refusal> {
    // Two checks at once must not use the same name.
    static LOOKS: AtomicU32 = AtomicU32::new(0);
    let name = format!(".synkler-check-{}-{}-d", std::process::id(), LOOKS.fetch_add(1, Ordering::Relaxed));
    let place = dir.join(&name);
    let refused = |doing: &'static str| {
        let place = place.clone();
        move |errno| Refusal::new(doing, &place, errno)
    };
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above =
        openat(CWD, dir, flags | OFlags::PATH, Mode::empty()).map_err(|errno| Refusal::new("open", dir, errno))?;
    mkdirat(&above, &*name, Mode::RWXU).map_err(refused("create"))?;
    let inside = openat(&above, &*name, flags | OFlags::RDONLY, Mode::empty()).map_err(refused("open"));
    let kept = inside.and_then(|inside| {
        let kept = observe(&inside).map_err(refused("create a file in"));
        for name in TRIED {
            let _ = unlinkat(&inside, name, AtFlags::empty());
        }
        kept
    });
    unlinkat(&above, &*name, AtFlags::REMOVEDIR).map_err(refused("remove"))?;
    kept
}

fn observe(inside: &OwnedFd) -> Result<Keeps, Errno> {
    let file = create(inside, FILE)?;
    // A file system that gives all files the same modes keeps at most one of two.
    let keeps = |mode: u32| {
        fchmod(&file, Mode::from_raw_mode(mode)).is_ok()
            && fstat(&file).is_ok_and(|stat| Mode::from_raw_mode(stat.st_mode) == Mode::from_raw_mode(mode))
    };
    let modes = keeps(0o640) && keeps(0o751);
    let set_group_id = fchmod(inside, Mode::RWXU | Mode::SGID).is_ok()
        && fstat(inside).is_ok_and(|stat| Mode::from_raw_mode(stat.st_mode).contains(Mode::SGID));
    let moment = Timespec { tv_sec: MTIME, tv_nsec: 0 };
    let set = futimens(&file, &Timestamps { last_access: moment, last_modification: moment });
    let times = set.is_ok() && fstat(&file).is_ok_and(|stat| stat.st_mtime.abs_diff(MTIME) < COARSEST);
    let links = symlinkat(FILE, inside, "link").is_ok();
    let hard_links = linkat(inside, FILE, inside, "second", AtFlags::empty()).is_ok();
    let holds = |name: &str, value: &[u8]| fsetxattr(&file, name, value, XattrFlags::empty()).is_ok();
    let (xattrs, acls) = (holds("user.synkler-check", b"1"), holds("system.posix_acl_access", &SOME_ACL));
    let case = create(inside, "case").is_ok() && statat(inside, "CASE", AtFlags::SYMLINK_NOFOLLOW).is_err();
    let names = create(inside, "a:b?").is_ok();
    // The target exists: the file system has to refuse.
    let onto =
        create(inside, "other").and_then(|_| renameat_with(inside, FILE, inside, "other", RenameFlags::NOREPLACE));
    let noreplace = onto == Err(Errno::EXIST);
    Ok(Keeps { modes, set_group_id, times, links, hard_links, xattrs, acls, case, names, noreplace })
}

fn create(inside: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(inside, name, flags, Mode::RUSR | Mode::WUSR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linux_file_system_keeps_all_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let kept = try_out(dir.path()).unwrap();
        let all = Keeps {
            modes: true,
            set_group_id: kept.set_group_id,
            times: true,
            links: true,
            hard_links: true,
            xattrs: kept.xattrs,
            acls: kept.acls,
            case: true,
            names: true,
            noreplace: true,
        };
        assert_eq!(kept, all);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(try_out(&dir.path().join("none")).unwrap_err().to_string().contains("none: no such file or directory"));
    }
}
