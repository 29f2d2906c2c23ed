//! The socket in the file system: who may use it, and when it is removed.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::caller::group_named;

/// The group whose members may use the socket, if that group exists.
const GROUP: &str = "synkler";
/// The longest path that the kernel accepts, without the NUL at its end.
const PATH_LIMIT: usize = 107;
/// How long a connect may take before the other side counts as hanging.
pub(crate) const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// How long to wait for another process that sets up a socket in the same directory.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Why the daemon cannot have the control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The kernel accepts no path of this length.
    #[error(
        "the path of the control socket {0:?} is longer than {PATH_LIMIT} bytes: set control_socket to a shorter one"
    )]
    TooLong(PathBuf),
    /// The directory cannot be created.
    #[error(
        "cannot create the directory {path:?} for the control socket: create it, or set control_socket to another path"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// Another process keeps the directory locked.
    #[error("cannot lock the directory {path:?} to set up the control socket: another process holds it")]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A daemon answers there.
    #[error("another daemon answers at the control socket {0:?}: stop it, or set control_socket to another path")]
    Live(PathBuf),
    /// The path is not a socket; it is left alone.
    #[error("{0:?} is not a socket: move it away, or set control_socket to another path")]
    Occupied(PathBuf),
    /// The socket from the service manager cannot be used.
    #[error("cannot use the socket from the service manager: it must be one Unix stream socket in the file system")]
    Passed(#[source] io::Error),
    /// The socket cannot be set up for another reason.
    #[error("cannot set up the control socket {path:?}: check control_socket and the permissions of its directory")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

impl ControlError {
    /// Whether only a person can fix it: a later start would fail in the same way.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::TooLong(_) | Self::Directory { .. } | Self::Occupied(_) | Self::Passed(_))
    }
}

/// The directory entry of a bound socket. Dropping it removes the entry if that is still the one that was created.
#[derive(Debug)]
pub(crate) struct Entry {
    path: PathBuf,
    identity: (u64, u64),
    gid: u32,
}

impl Entry {
    /// The group that owns it.
    pub(crate) fn gid(&self) -> u32 {
        self.gid
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // A failure has no consequence: the next start replaces a stale socket.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Binds and listens, with mode 0660. A stale socket is replaced; a socket on which a daemon answers, or a file of
/// another kind, is left alone. The lock on the directory prevents two daemons that start at once from removing the
/// same stale socket twice.
pub(crate) fn bind(path: &Path) -> Result<(UnixListener, Entry), ControlError> {
    if path.as_os_str().as_bytes().len() > PATH_LIMIT {
        return Err(ControlError::TooLong(path.to_owned()));
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory)
        .map_err(|source| ControlError::Directory { path: directory.to_owned(), source })?;
    let _lock = lock(directory).map_err(|source| ControlError::Locked { path: directory.to_owned(), source })?;
    remove_stale(path)?;
    let failed = |source| ControlError::Socket { path: path.to_owned(), source };
    let listener = UnixListener::bind(path).map_err(failed)?;
    let mut entry = Entry { path: path.to_owned(), identity: identity(path).map_err(failed)?, gid: 0 };
    if let Some(gid) = group_named(GROUP) {
        // Only root and members may give a file to a group; otherwise the socket keeps the daemon's own group.
        let _ = chown(path, None, Some(gid));
    }
    entry.gid = fs::symlink_metadata(path).map_err(failed)?.gid();
    fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok((listener, entry))
}

fn remove_stale(path: &Path) -> Result<(), ControlError> {
    let failed = |source| ControlError::Socket { path: path.to_owned(), source };
    let Err(refused) = connect(path) else {
        return Err(ControlError::Live(path.to_owned()));
    };
    match refused.kind() {
        io::ErrorKind::NotFound => Ok(()),
        // A daemon that is too busy to accept a connection is alive.
        io::ErrorKind::TimedOut => Err(ControlError::Live(path.to_owned())),
        io::ErrorKind::ConnectionRefused => {
            if !fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
                return Err(ControlError::Occupied(path.to_owned()));
            }
            fs::remove_file(path).map_err(failed)
        }
        _ => Err(failed(refused)),
    }
}

#[expect(clippy::disallowed_methods, reason = "a file lock tells nobody that it is free again")]
fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(err)) => return Err(err),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return Err(io::ErrorKind::TimedOut.into()),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Connects within [`CONNECT_WAIT`]. A stopped daemon with a full queue would block for ever, so the attempt has its
/// own thread.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let (sender, receiver) = mpsc::channel();
    let path = path.to_owned();
    thread::Builder::new().name("connect".to_owned()).spawn(move || {
        // The caller has timed out: the connection closes.
        let _ = sender.send(UnixStream::connect(path));
    })?;
    receiver.recv_timeout(CONNECT_WAIT).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_directory_is_made_and_the_entry_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/synkler/control.sock");
        let (_listener, entry) = bind(&path).unwrap();
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o750, 0o660));
        drop(entry);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, entry) = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(ControlError::Live(_))));
        assert!(connect(&path).is_ok());

        // Another process's socket has replaced it: leave that one.
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(entry);
        assert!(path.exists());
    }

    #[test]
    fn of_many_that_start_at_once_one_gets_the_stale_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        let results: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| bind(&path))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        assert!(connect(&path).is_ok());
    }

    #[test]
    fn what_is_no_socket_or_has_no_room_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        fs::write(&path, "mine").unwrap();
        assert!(
            bind(&path)
                .unwrap_err()
                .to_string()
                .ends_with("is not a socket: move it away, or set control_socket to another path")
        );
        assert_eq!(fs::read(&path).unwrap(), b"mine");

        let below = path.join("control.sock");
        assert!(matches!(bind(&below), Err(ControlError::Directory { .. })));

        let long = dir.path().join("x".repeat(PATH_LIMIT));
        assert!(bind(&long).unwrap_err().to_string().contains("set control_socket to a shorter one"));
    }
}
