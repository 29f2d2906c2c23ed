//! System calls without a safe wrapper: whether a process writes a file, the groups of a socket's client, and the
//! socket that the service manager has passed.
//!
//! **Writers.** The kernel refuses a read lease (`fcntl(F_SETLEASE, F_RDLCK)`) while any process has the file open for
//! writing, or has it mapped writable with the descriptor already closed. The lease is given back at once. A process
//! that opens the file for writing in that instant waits until then (with `O_NONBLOCK` it gets `EWOULDBLOCK`), and the
//! kernel notifies the lease holder by a signal. The default is SIGIO, which ends a process that does not expect it. So
//! the lease is set to use SIGURG, which is ignored by default: no signal disposition of the process has to change, and
//! its children inherit none.

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::fstatfs;
use rustix::io::Errno;

/// `<fcntl.h>`, the same on every Linux; the libc crate does not have it for all of them.
const F_SETSIG: libc::c_int = 10;

/// File systems on which a server decides about leases, so that a refusal proves nothing: NFS, SMB (three generations),
/// FUSE, Ceph, 9p, AFS, GFS2, OCFS2. The numbers are those of `statfs(2)`.
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
    /// No process has it open for writing.
    None,
    /// A process has it open for writing.
    Some,
    /// Unknown: leases do not work on this file system, or the file belongs to another user and this process lacks
    /// CAP_LEASE.
    Unknown(Errno),
}

/// Requests a read lease on `file` and gives it back. The caller has just opened the file read-only and closes it soon.
/// Never blocks.
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
    // Only the low 32 bits hold the number; the type of the field differs between architectures.
    fstatfs(file).map_or(true, |stat| REMOTE.contains(&(stat.f_type as u32)))
}

fn control(file: BorrowedFd<'_>, command: libc::c_int, argument: libc::c_int) -> Result<(), Errno> {
    // SAFETY: `fcntl` is called with commands that take one `int` (F_SETSIG and F_SETLEASE are the only ones
    // passed, both by the function above), so the kernel neither reads nor writes memory of this process. The
    // descriptor is open for the whole call because `file` borrows it. F_SETSIG and F_SETLEASE change the
    // open file description only, which the caller owns alone.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
        _ => Ok(()),
    }
}

/// The supplementary groups of the process at the other end of a Unix stream socket, at the time of the connection.
///
/// # Errors
///
/// If the kernel does not report them: before Linux 4.13, or for another kind of socket.
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
        // The kernel reports the required size, once.
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
///
/// If the descriptor is not such a socket, or was taken over before.
pub fn passed_listener(number: RawFd) -> io::Result<UnixListener> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let is = |option, wanted| socket_option(number, option).map(|found| found == wanted);
    let fits =
        is(libc::SO_DOMAIN, libc::AF_UNIX)? && is(libc::SO_TYPE, libc::SOCK_STREAM)? && is(libc::SO_ACCEPTCONN, 1)?;
    if !fits {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a listening Unix stream socket"));
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the socket is already in use"));
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

    /// A child of another test shares our descriptors until exec.
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
        // With O_NONBLOCK the writer gets an error instead of waiting, but the signal is sent nevertheless.
        let dd = |flags: &str| {
            let target = format!("of={}", path.display());
            let input = Command::new("dd").args(["if=/dev/zero", "count=1", "status=none", flags, &target]).output();
            input.unwrap().status.success()
        };
        assert!(!dd("oflag=nonblock"));
        control(file.as_fd(), libc::F_SETLEASE, libc::F_UNLCK).unwrap();
        assert!(dd("oflag=nonblock"));
    }
}
