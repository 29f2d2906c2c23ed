//! System calls for which no safe wrapper exists: is anyone writing this file, a box for this process, which groups has the
//! client of a socket, and the socket that the service manager has passed.
//!
//! **Writers.** A read lease (`fcntl(F_SETLEASE, F_RDLCK)`) is refused while any process has the file open for writing, or
//! has it mapped writable with the descriptor already closed. It is given back at once. Who opens the file for
//! writing in that instant waits until then (with `O_NONBLOCK` it gets `EWOULDBLOCK`), and the kernel tells the
//! holder by a signal: by default SIGIO, which ends a process that does not expect it. The lease is
//! therefore set to tell by SIGURG, whose default is to be ignored: no signal disposition of the process has
//! to change, and none is inherited by its children.
//!
//! **The box** is Landlock: from [`confine`] on, this process and whatever it becomes can open, make and remove only
//! what lies below the directories it was given, links or not; it opens no TCP connection and signals nobody outside.
//! What needs no opening (looking at a file's metadata, changing its mode or times) the kernel does not restrict.

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, fstat, fstatfs};
use rustix::io::Errno;

/// `<fcntl.h>`, the same on every Linux; the libc crate does not have it for all of them.
const F_SETSIG: libc::c_int = 10;

/// File systems that grant leases only at the will of their server, so that a refusal tells nothing: NFS,
/// SMB (three generations), FUSE, Ceph, 9p, AFS, GFS2, OCFS2. The numbers are those of `statfs(2)`.
const REMOTE: [u32; 10] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x00c3_6400,
    0x0102_1997,
    0x5346_414f,
    0x0116_1970,
    0x7461_636f,
];

/// Whether a file is open for writing anywhere on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Nobody has it open for writing.
    None,
    /// Somebody has.
    Some,
    /// The kernel does not say: leases do not work on this file system, or the file belongs to another user
    /// and this process lacks CAP_LEASE.
    Unknown(Errno),
}

/// Asks for a read lease on `file`, which the caller has just opened read-only and closes soon, and gives it
/// back. Never blocks.
pub fn writers(file: BorrowedFd<'_>) -> Writers {
    let asked = control(file, F_SETSIG, libc::SIGURG).and_then(|()| control(file, libc::F_SETLEASE, libc::F_RDLCK));
    match asked {
        Ok(()) => match control(file, libc::F_SETLEASE, libc::F_UNLCK) {
            Ok(()) => Writers::None,
            Err(errno) => Writers::Unknown(errno),
        },
        Err(errno @ Errno::AGAIN) if is_remote(file) => Writers::Unknown(errno),
        Err(Errno::AGAIN) => Writers::Some,
        Err(errno) => Writers::Unknown(errno),
    }
}

fn is_remote(file: BorrowedFd<'_>) -> bool {
    // Only the low 32 bits carry the number; its type differs between architectures.
    fstatfs(file).map_or(true, |stat| REMOTE.contains(&(stat.f_type as u32)))
}

fn control(file: BorrowedFd<'_>, command: libc::c_int, argument: libc::c_int) -> Result<(), Errno> {
    // SAFETY: `fcntl` is called with commands that take one `int` (F_SETSIG and F_SETLEASE are the only ones
    // passed, both by the function above), so the kernel neither reads nor writes memory of this process. The
    // descriptor is open for the whole call because `file` borrows it. F_SETSIG and F_SETLEASE change the
    // open file description only, which the caller owns alone.
    number(libc::c_long::from(unsafe { libc::fcntl(file.as_raw_fd(), command, argument) })).map(drop)
}

/// What a process in a box may do with a file, or with everything below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// List directories.
    List,
    /// Read files and list directories.
    Read,
    /// The same, and start programs.
    Run,
    /// Read, write, make and remove files, directories and links.
    Change,
}

impl Reach {
    /// As `<linux/landlock.h>` counts; of a file, only what is about files.
    fn bits(self, directory: bool) -> u64 {
        const EXECUTE: u64 = 1 << 0;
        const WRITE_FILE: u64 = 1 << 1;
        const READ_FILE: u64 = 1 << 2;
        const READ_DIR: u64 = 1 << 3;
        const REMOVE_DIR: u64 = 1 << 4;
        const REMOVE_FILE: u64 = 1 << 5;
        const MAKE_DIR: u64 = 1 << 7;
        const MAKE_REG: u64 = 1 << 8;
        const MAKE_SYM: u64 = 1 << 12;
        const REFER: u64 = 1 << 13;
        const TRUNCATE: u64 = 1 << 14;
        let all = match self {
            Self::List => READ_DIR,
            Self::Read => READ_FILE | READ_DIR,
            Self::Run => READ_FILE | READ_DIR | EXECUTE,
            Self::Change => {
                READ_FILE
                    | READ_DIR
                    | WRITE_FILE
                    | TRUNCATE
                    | REMOVE_DIR
                    | REMOVE_FILE
                    | MAKE_DIR
                    | MAKE_REG
                    | MAKE_SYM
                    | REFER
            }
        };
        if directory { all } else { all & (EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE) }
    }
}

/// Boxes this thread in, and whatever program it becomes, for good: nothing but what `rules` names can be opened from
/// now on; what is open stays so. To be called before there are other threads, which it does not reach.
///
/// # Errors
///
/// `ENOSYS` and `EOPNOTSUPP` where the kernel has no Landlock or does not use it; nothing is changed then.
pub fn confine(rules: &[(BorrowedFd<'_>, Reach)]) -> Result<(), Errno> {
    /// `struct landlock_ruleset_attr`, of which an old kernel reads only the beginning.
    #[repr(C)]
    struct Ruleset {
        files: u64,
        net: u64,
        scoped: u64,
    }
    /// `struct landlock_path_beneath_attr`.
    #[repr(C, packed)]
    struct Beneath {
        allowed: u64,
        parent: i32,
    }
    const VERSION: libc::c_ulong = 1;
    const PATH_BENEATH: libc::c_ulong = 1;
    // SAFETY: with this flag the call takes no pointer and returns the version.
    let version = number(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, VERSION) })?;
    // What the first version restricts, and what later ones have added: moving elsewhere, truncating, devices.
    let files: u64 = match version {
        ..=1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        5.. => (1 << 16) - 1,
    };
    let ruleset = Ruleset { files, net: if version >= 4 { 3 } else { 0 }, scoped: if version >= 6 { 3 } else { 0 } };
    let size = match version {
        ..=3 => 8_usize,
        4 | 5 => 16,
        6.. => 24,
    };
    // SAFETY: the kernel reads `size` bytes of `ruleset`, which is as long as that or longer, and returns a new
    // descriptor that nobody else owns.
    let ruleset = unsafe {
        let made = libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0 as libc::c_ulong);
        OwnedFd::from_raw_fd(number(made)?)
    };
    for (place, reach) in rules {
        let directory = FileType::from_raw_mode(fstat(place)?.st_mode) == FileType::Directory;
        let rule = Beneath { allowed: reach.bits(directory) & files, parent: place.as_raw_fd() };
        // SAFETY: the kernel reads one `landlock_path_beneath_attr`; both descriptors are open for the whole call.
        number(unsafe {
            let rule = &raw const rule;
            libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, rule, 0 as libc::c_ulong)
        })?;
    }
    // SAFETY: neither call takes a pointer. The first keeps this thread from gaining rights by a set-user-id program,
    // without which the second is refused; the second takes rights away only.
    unsafe {
        number(libc::c_long::from(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))?;
        number(libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0 as libc::c_ulong))?;
    }
    Ok(())
}

/// What a system call has returned.
fn number(result: libc::c_long) -> Result<i32, Errno> {
    if result == -1 {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL));
    }
    i32::try_from(result).map_err(|_| Errno::RANGE)
}

/// The supplementary groups that the process at the other end of a Unix stream socket had when it connected.
///
/// # Errors
/// When the kernel does not tell: before Linux 4.13, or for another kind of socket.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let room = groups.len() * size_of::<libc::gid_t>();
        let mut length = libc::socklen_t::try_from(room).map_err(|_| io::ErrorKind::InvalidData)?;
        // SAFETY: the kernel writes at most `length` bytes, which is the size of `groups`, whose elements are plain
        // numbers; and it writes to `length`. Both live until the call is over, and the descriptor is borrowed.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let told = length as usize / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(told);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // The kernel tells how much room there must be, once.
        if error.raw_os_error() != Some(libc::ERANGE) || told <= groups.len() {
            return Err(error);
        }
        groups.resize(told, 0);
    }
}

/// Takes over the listening Unix stream socket that the service manager has passed under this number, once in the life
/// of the process.
///
/// # Errors
/// When it is no such socket, or was taken before.
pub fn passed_listener(number: RawFd) -> io::Result<UnixListener> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let is = |option, wanted| socket_option(number, option).map(|found| found == wanted);
    let fits =
        is(libc::SO_DOMAIN, libc::AF_UNIX)? && is(libc::SO_TYPE, libc::SOCK_STREAM)? && is(libc::SO_ACCEPTCONN, 1)?;
    if !fits {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a listening Unix stream socket"));
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it was taken before"));
    }
    // SAFETY: a number that the service manager passes stands for a descriptor which this process has had since its
    // start and nobody else in it has taken; the guard above makes this the only owner.
    Ok(UnixListener::from(unsafe { OwnedFd::from_raw_fd(number) }))
}

fn socket_option(number: RawFd, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the options asked for are `int`s, so the kernel writes at most the `length` bytes of `value`, and to
    // `length`. A number that is no socket's is refused.
    let result =
        unsafe { libc::getsockopt(number, libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut length) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;

    /// A child that another test starts shares our descriptors until it is another program.
    fn until_closed(ask: impl Fn() -> Writers) {
        let start = std::time::Instant::now();
        while ask() != Writers::None {
            assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", ask());
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_groups_of_a_client_are_those_of_its_process() {
        use std::os::unix::net::UnixStream;
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut told = peer_groups(ours.as_fd()).unwrap();
        told.sort_unstable();
        let mut own: Vec<_> = rustix::process::getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).collect();
        own.sort_unstable();
        assert_eq!(told, own);
        assert!(peer_groups(File::open("/dev/null").unwrap().as_fd()).is_err());
        assert!(passed_listener(theirs.as_raw_fd()).is_err());
    }

    #[test]
    fn a_writer_is_seen_until_it_closes() {
        for place in ["/tmp", "/dev/shm"] {
            let dir = tempfile::tempdir_in(place).unwrap();
            let path = dir.path().join("file");
            std::fs::write(&path, "x").unwrap();
            let ask = || writers(File::open(&path).unwrap().as_fd());
            let reader = File::open(&path).unwrap();
            until_closed(ask);
            let writer = OpenOptions::new().append(true).open(&path).unwrap();
            assert_eq!(ask(), Writers::Some, "{place}");
            drop(writer);
            until_closed(ask);
            drop(reader);
        }
    }

    #[test]
    fn a_writable_map_is_seen_though_its_descriptor_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![0; 4096]).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        // SAFETY: a fresh mapping of one page of our own file, never read or written, unmapped below.
        let map = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(map, libc::MAP_FAILED);
        drop(file);
        let ask = || writers(File::open(&path).unwrap().as_fd());
        assert_eq!(ask(), Writers::Some);
        // SAFETY: the mapping made above, which nothing refers to.
        assert_eq!(unsafe { libc::munmap(map, 4096) }, 0);
        until_closed(ask);
    }

    #[test]
    fn a_broken_lease_does_not_end_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        control(file.as_fd(), F_SETSIG, libc::SIGURG).unwrap();
        control(file.as_fd(), libc::F_SETLEASE, libc::F_RDLCK).unwrap();
        // With O_NONBLOCK the writer is refused instead of made to wait, but the signal is sent all the same.
        let dd = |flags: &str| {
            let target = format!("of={}", path.display());
            let input = Command::new("dd").args(["if=/dev/zero", "count=1", "status=none", flags, &target]).output();
            input.unwrap().status.success()
        };
        assert!(!dd("oflag=nonblock"));
        control(file.as_fd(), libc::F_SETLEASE, libc::F_UNLCK).unwrap();
        assert!(dd("oflag=nonblock"));
    }

    #[test]
    fn a_box_holds_whatever_the_links_in_it_point_to() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        for place in [&inside, &outside] {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("file"), "x").unwrap();
        }
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        let open = |path: &std::path::Path| File::open(path).unwrap();
        let (own, other) = (open(&inside), open(&outside));
        // The box is for good, so a thread of its own goes into it.
        let tried = std::thread::spawn(move || {
            confine(&[(own.as_fd(), Reach::Change), (other.as_fd(), Reach::List)]).unwrap();
            [
                std::fs::write(inside.join("new"), "x").is_ok(),
                std::fs::read(inside.join("file")).is_ok(),
                std::fs::read_dir(inside.join("link")).is_ok(),
                std::fs::read(inside.join("link/file")).is_ok(),
                std::fs::write(inside.join("link/new"), "x").is_ok(),
                std::fs::remove_file(outside.join("file")).is_ok(),
                std::fs::read_dir("/").is_ok(),
            ]
        });
        assert_eq!(tried.join().unwrap(), [true, true, true, false, false, false, false]);
    }
}
