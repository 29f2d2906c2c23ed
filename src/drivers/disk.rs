//! The free space of a file system, its properties, and its errors.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstatfs, fstatvfs, fsync, openat, renameat, statfs, unlinkat};
use rustix::io::{Errno, write};

use crate::machine::{Cause, Inodes, Reason, Space, escaped};

/// How much of a path an error shows; of a longer path the middle is left out.
const SHOWN_LIMIT: usize = 180;

/// Measures the file system that holds `dir`; space reserved for root does not count as free. Fails if `dir` does not
/// exist or cannot be opened.
pub fn space(dir: &Path) -> Result<Space, Refusal> {
    let refused = |errno| Refusal::new("measure", dir, errno);
    let dir = openat(CWD, dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(refused)?;
    let stat = fstatvfs(&dir).map_err(refused)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    // File systems that create inodes on demand report that they have none.
    let inodes = (stat.f_files > 0).then_some(Inodes { free: stat.f_favail, total: stat.f_files });
    Ok(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks), inodes })
}

/// Creates a file in `dir`, writes to it, renames and removes it: every hand-over needs these operations. Its name
/// begins with `.synkler-check`, which no item's name does.
pub fn probe(dir: &Path) -> Result<(), Refusal> {
    let refused = |doing: &'static str, name: &str| {
        let path = dir.join(name);
        move |errno| Refusal::new(doing, &path, errno)
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, dir, flags, Mode::empty()).map_err(|errno| Refusal::new("open", dir, errno))?;
    // Two checks at once must not use the same name.
    static LOOKS: AtomicU32 = AtomicU32::new(0);
    let (process, look) = (std::process::id(), LOOKS.fetch_add(1, Ordering::Relaxed));
    let [first, second] = ["a", "b"].map(|end| format!(".synkler-check-{process}-{look}-{end}"));
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&folder, &*first, flags, Mode::RUSR | Mode::WUSR).map_err(refused("create", &first))?;
    let used = write(&file, b"synkler looks whether it can write here\n")
        .map(drop)
        .map_err(refused("write", &first))
        .and_then(|()| fsync(&file).map_err(refused("make durable", &first)))
        .and_then(|()| renameat(&folder, &*first, &folder, &*second).map_err(refused("rename", &first)));
    let last = if used.is_ok() { second } else { first };
    let removed = unlinkat(&folder, &*last, AtFlags::empty()).map_err(refused("remove", &last));
    used.and(removed)
}

/// The kind of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// On a disk of this host; it has all properties that synkler needs.
    Local,
    /// On a server; other hosts may change it.
    Network,
    /// Served by a program of this host.
    Program,
    /// In memory, lost at a restart.
    Memory,
    /// Without links and permissions.
    Simple,
}

/// The name of the file system of an open file.
pub fn file_system_of(fd: impl AsFd) -> &'static str {
    // The type of the field differs between architectures.
    fstatfs(fd).map_or("unknown", |stat| file_system(stat.f_type as u32).0)
}

/// The name of the file system of a directory.
pub fn file_system_at(dir: &Path) -> &'static str {
    statfs(dir).map_or("unknown", |stat| file_system(stat.f_type as u32).0)
}

/// The name and kind of a file system, by its number in `statfs(2)`, of which the low 32 bits count.
pub fn file_system(magic: u32) -> (&'static str, Class) {
    match magic {
        0xef53 => ("ext4", Class::Local),
        0x5846_5342 => ("xfs", Class::Local),
        0x9123_683e => ("btrfs", Class::Local),
        0x2fc1_2fc1 => ("zfs", Class::Local),
        0xf2f5_2010 => ("f2fs", Class::Local),
        0xca45_1a4e => ("bcachefs", Class::Local),
        0x794c_7630 => ("overlayfs", Class::Local),
        0x6969 => ("nfs", Class::Network),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => ("smb", Class::Network),
        0x0102_1997 => ("9p", Class::Network),
        0x5346_414f | 0x6b41_4653 => ("afs", Class::Network),
        0x00c3_6400 => ("ceph", Class::Network),
        0x0bd0_0bd0 => ("lustre", Class::Network),
        0x0116_1970 => ("gfs2", Class::Network),
        0x7461_636f => ("ocfs2", Class::Network),
        0x6573_5546 => ("fuse", Class::Program),
        0x0102_1994 => ("tmpfs", Class::Memory),
        0x8584_58f6 => ("ramfs", Class::Memory),
        0x4d44 => ("vfat", Class::Simple),
        0x2011_bab0 => ("exfat", Class::Simple),
        _ => ("of another kind", Class::Local),
    }
}

/// An error of the file system: the operation, the path, and the reason. `Display` is one line with the path escaped
/// and shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing} {}: {}", shown(.path), errno_text(*.errno))]
pub struct Refusal {
    doing: &'static str,
    path: PathBuf,
    errno: Errno,
}

impl Refusal {
    /// `doing` completes "cannot ...", such as `read` or `rename`.
    pub fn new(doing: &'static str, path: &Path, errno: Errno) -> Self {
        Self { doing, path: path.to_owned(), errno }
    }

    /// What failed.
    pub(crate) fn doing(&self) -> &'static str {
        self.doing
    }

    /// The error of the system call.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The reason of a wait: [`Cause::Space`] for a full disk or quota, [`Cause::Unfit`] for a name or a size that this
    /// file system cannot store, else [`Cause::Storage`].
    pub fn reason(&self) -> Reason {
        let cause = match self.errno {
            Errno::NOSPC | Errno::DQUOT => Cause::Space,
            Errno::NAMETOOLONG | Errno::ILSEQ | Errno::FBIG => Cause::Unfit,
            _ => Cause::Storage,
        };
        Reason::with(cause, &self.to_string())
    }
}

/// A path as one printable line, the middle of a long one left out.
pub(crate) fn shown(path: &Path) -> String {
    let text = escaped(path.as_os_str().as_encoded_bytes());
    let count = text.chars().count();
    if count <= SHOWN_LIMIT {
        return text;
    }
    let half = SHOWN_LIMIT / 2;
    text.chars().take(half).chain("...".chars()).chain(text.chars().skip(count - half)).collect()
}

fn errno_text(errno: Errno) -> String {
    let known = match errno {
        Errno::ACCESS => "permission denied",
        Errno::PERM => "not permitted",
        Errno::NOSPC => "no space left on the file system",
        Errno::DQUOT => "disk quota used up",
        Errno::ROFS => "the file system is mounted read-only",
        Errno::NOENT => "no such file or directory",
        Errno::NOTDIR => "it is not a directory",
        Errno::NAMETOOLONG => "the name is too long for the file system",
        Errno::LOOP => "it is a symbolic link",
        Errno::XDEV => "it is on another file system",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.chars().enumerate().map(|(at, c)| if at == 0 { c.to_ascii_lowercase() } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_what_df_tells() {
        let dir = tempfile::tempdir().unwrap();
        let space = space(dir.path()).unwrap();
        let df = std::process::Command::new("df")
            .args(["--block-size=1", "--output=size,avail"])
            .arg(dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8(df.stdout).unwrap();
        let numbers: Vec<u64> = text.lines().nth(1).unwrap().split_whitespace().map(|n| n.parse().unwrap()).collect();
        assert_eq!(space.total, numbers[0]);
        assert!(space.free.abs_diff(numbers[1]) < space.total / 20, "{space:?} {numbers:?}");
    }

    #[test]
    fn refusals_name_the_path_in_one_short_line() {
        let missing = space(Path::new("/nowhere/at\nall")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot measure /nowhere/at\\nall: no such file or directory");
        let path = PathBuf::from(format!("/{}/end", "long".repeat(1000)));
        let reason = Refusal::new("write", &path, Errno::NOSPC).reason();
        assert_eq!(reason.cause(), Cause::Space);
        assert!(reason.detail().ends_with("/end: no space left on the file system"), "{reason}");
        assert_eq!(Refusal::new("write", &path, Errno::ROFS).reason().cause(), Cause::Storage);
        let other = Refusal::new("read", Path::new("/x"), Errno::IO);
        assert_eq!(other.to_string(), "cannot read /x: input/output error");
    }
}
