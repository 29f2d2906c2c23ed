//! Central's side of a node's key: checks the command, opens the directory, confines the process, and starts rsync.
//!
//! The check of the command alone is not enough. The other side sends file names over the connection, where no command
//! line shows them. An rsync that gets `../x`, or a name below a link that an earlier run left, follows it. So the
//! directory is opened without following a link, rsync works in it as `./`, and Landlock prevents rsync from opening
//! anything else.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::confine::{Reach, Unconfined, confine};
use super::gate::{Refusal, Side, Target, judge};

/// What rsync needs of the system: programs and libraries, and files for names and time zones.
const PROGRAMS: &[&str] = &["/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt", "/nix/store", "/gnu/store"];
const TABLES: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/dev/urandom",
    "/dev/random",
];

/// What one key in `authorized_keys` gives access to.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// The mode of the node that owns the key.
    pub side: Side,
    /// One group's directory on this host, `<file_dir>/<id>`, as central announces it: absolute.
    pub spool: PathBuf,
    /// The rsync program.
    pub rsync: PathBuf,
    /// Whether to continue if the kernel has no Landlock; then only rsync itself stays in the directory.
    pub without_landlock: bool,
}

/// Why access is refused.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The requested command is not allowed.
    #[error("refused")]
    Refused(#[from] Refusal),
    /// A directory of the spool does not exist, or is not a directory.
    #[error("cannot open {}: start central once, which creates it, or use the directory that central announces in \
     authorized_keys", path.display())]
    Spool {
        /// The directory.
        path: PathBuf,
        /// The error.
        source: Errno,
    },
    /// The kernel cannot confine rsync.
    #[error(
        "the kernel cannot confine rsync to the spool (Landlock, Linux 5.13): enable Landlock, allow it in the \
         container, or add --no-landlock to the command in authorized_keys, which trusts the owner of this key to \
         stay in the spool"
    )]
    Landlock(#[source] Unconfined),
    /// rsync does not exist.
    #[error("cannot start {}: install rsync, or give its path with --rsync in authorized_keys", program.display())]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// The error.
        source: std::io::Error,
    },
}

/// Turns this process into the rsync that `command` (sshd's `$SSH_ORIGINAL_COMMAND`) requests, if that is allowed. Must
/// be called first, while the process has one thread.
///
/// # Errors
///
/// Returns only with the reason of a refusal.
pub fn enter(entrance: &Entrance, command: Option<&OsStr>) -> Result<Infallible, EnterError> {
    let Entrance { side, spool, rsync, without_landlock } = entrance;
    let command = command.map_or(Some(""), OsStr::to_str).ok_or(Refusal::Unreadable)?;
    let permit = judge(command, *side, &spool.to_string_lossy())?;
    let dir = open_target(permit.target, *side, spool)?;
    let entered = rustix::process::fchdir(&dir);
    entered.map_err(|source| EnterError::Spool { path: spool.clone(), source })?;
    match box_in(permit.target, dir.as_fd(), rsync) {
        Err(Unconfined::Missing) if *without_landlock => {}
        boxed => boxed.map_err(EnterError::Landlock)?,
    }
    let source = Command::new(rsync).arg0("rsync").args(permit.arguments).env_clear().exec();
    Err(EnterError::NotStarted { program: rsync.clone(), source })
}

/// The directory to work in; no link below the spool is followed. A missing place is created, with the mode that rsync
/// would give it.
fn open_target(target: Target, side: Side, spool: &Path) -> Result<OwnedFd, EnterError> {
    const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    let failed = |path: &Path, source| EnterError::Spool { path: path.to_owned(), source };
    let mut path = spool.to_owned();
    let base = openat(CWD, &path, OPEN, Mode::empty()).map_err(|errno| failed(&path, errno))?;
    let half = match (target, side) {
        (Target::ListSpool, _) => return Ok(base),
        (Target::Arrival(_), _) | (Target::ListHalf, Side::Upload) => "in",
        (Target::Held, _) | (Target::ListHalf, Side::Download) => "held",
    };
    path.push(half);
    let half = openat(&base, half, OPEN | OFlags::NOFOLLOW, Mode::empty()).map_err(|errno| failed(&path, errno))?;
    let Target::Arrival(place) = target else { return Ok(half) };
    let place = place.to_string();
    path.push(&place);
    match mkdirat(&half, &place, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(&path, errno)),
    }
    openat(&half, &place, OPEN | OFlags::NOFOLLOW, Mode::empty()).map_err(|errno| failed(&path, errno))
}

fn box_in(target: Target, dir: BorrowedFd<'_>, rsync: &Path) -> Result<(), Unconfined> {
    let look = |path: &Path| openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
    let mut opened = Vec::new();
    opened.extend(PROGRAMS.iter().filter_map(|path| Some((look(Path::new(path))?, Reach::Run))));
    opened.extend(look(rsync).map(|fd| (fd, Reach::Run)));
    opened.extend(TABLES.iter().filter_map(|path| Some((look(Path::new(path))?, Reach::Read))));
    opened.extend(look(Path::new("/dev/null")).map(|fd| (fd, Reach::Change)));
    let reach = match target {
        Target::Arrival(_) => Reach::Change,
        Target::Held => Reach::Read,
        Target::ListSpool | Target::ListHalf => Reach::List,
    };
    let mut rules: Vec<_> = opened.iter().map(|(fd, reach)| (fd.as_fd(), *reach)).collect();
    rules.push((dir, reach));
    confine(&rules)
}
