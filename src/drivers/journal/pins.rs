//! Whether the files that a journal has open are still the ones at their paths. If a user or a job removes or replaces
//! them, what the daemon writes is lost when it ends. Decides nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::fs::{Mode, OFlags, fstat, open, stat};
use rustix::io::Errno;

use super::error::{Change, JournalError};

/// The files of an open journal.
pub(super) struct Pins {
    database: Pin,
    /// Without the WAL, commits are missing; without the others, another program or daemon writes at the same time.
    beside: [Pin; 3],
}

/// One file, pinned by a handle that can neither read nor write: closing one that can would release the locks that
/// SQLite holds for this process.
struct Pin {
    path: PathBuf,
    handle: OwnedFd,
}

impl Pins {
    /// All of them exist while the database is open in WAL mode.
    pub(super) fn new(state_dir: &Path) -> Result<Self, JournalError> {
        let pin = |name| Pin::new(state_dir.join(name));
        Ok(Self {
            database: pin("journal.db")?,
            beside: [pin("journal.db-wal")?, pin("journal.db-shm")?, pin("lock")?],
        })
    }

    /// Checks that the next start will find the commits.
    pub(super) fn look(&self, connection: &Connection) -> Result<(), JournalError> {
        if let Some(change) = self.database.change()? {
            return Err(JournalError::Taken { path: self.database.path.clone(), change });
        }
        for pin in &self.beside {
            if let Some(change) = pin.change()? {
                let path = pin.path.clone();
                // Commits that are only in a removed WAL would be lost with this process.
                let gathered = gather(connection);
                return Err(if gathered {
                    JournalError::Beside { path, change }
                } else {
                    JournalError::Taken { path, change }
                });
            }
        }
        Ok(())
    }
}

impl Pin {
    fn new(path: PathBuf) -> Result<Self, JournalError> {
        let handle = open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let handle = handle.map_err(|error| JournalError::from_io(&path, error.into()))?;
        Ok(Self { path, handle })
    }

    /// `None` while it is still the file at its path, whatever links lead there.
    fn change(&self) -> Result<Option<Change>, JournalError> {
        let failed = |error: Errno| JournalError::from_io(&self.path, io::Error::from(error));
        let there = match stat(&self.path) {
            Ok(there) => there,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE) => return Ok(Some(Change::Removed)),
            Err(error) => return Err(failed(error)),
        };
        // Read each time: some file systems give a file another number while it is open.
        let ours = fstat(&self.handle).map_err(failed)?;
        let same = (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino);
        Ok((!same).then_some(Change::Replaced))
    }
}

/// Copies everything in the WAL into the database; returns whether that succeeded.
fn gather(connection: &Connection) -> bool {
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    matches!(busy, Ok(0))
}
