//! Is anyone writing this file? The one system call for which no safe wrapper exists, and the crate's only
//! `unsafe`.
//!
//! A read lease (`fcntl(F_SETLEASE, F_RDLCK)`) is refused while any process has the file open for writing, or
//! has it mapped writable with the descriptor already closed. It is given back at once. Who opens the file for
//! writing in that instant waits until then (with `O_NONBLOCK` it gets `EWOULDBLOCK`), and the kernel tells the
//! holder by a signal: by default SIGIO, which ends a process that does not expect it. The lease is
//! therefore set to tell by SIGURG, whose default is to be ignored: no signal disposition of the process has
//! to change, and none is inherited by its children.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::fstatfs;
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
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if result == -1 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL));
    }
    Ok(())
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
}
