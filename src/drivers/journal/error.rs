//! The errors of a journal, and what its owner can do about them.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::machine::one_line;

/// What happened to an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// No file is at its path.
    Removed,
    /// Another file is at its path.
    Replaced,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Removed => "removed",
            Self::Replaced => "replaced by another file",
        })
    }
}

/// Why the journal cannot be opened, written or read. Cheap to clone, because one failed transaction is the answer to
/// every commit in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// `state_dir` does not exist and cannot be created.
    #[error("cannot create state_dir {}: create it for synkler's user, or set state_dir to another directory", .path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: Arc<io::Error>,
    },
    /// `state_dir` or a file in it cannot be written.
    #[error("cannot write {}: state_dir and the files in it must be writable for synkler's user", .path.display())]
    NotWritable {
        /// The directory or file.
        path: PathBuf,
        /// The error of the system or SQLite.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A running daemon uses this `state_dir`.
    #[error("state_dir {} is in use by another synkler{}: stop that one, or give this one its own state_dir", .path.display(), pid(*.holder))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process id of the other daemon, if it could be read.
        holder: Option<u32>,
    },
    /// The journal was created for another group, mode or name.
    #[error("{} belongs to {found}, but this node is {wanted}: set its own state_dir, or restore id, mode and name", .path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
        /// The node in the journal.
        found: String,
        /// This node.
        wanted: String,
    },
    /// A later version of the program has written it.
    #[error("{} has version {found}, this synkler supports versions up to {known}: install the newer synkler again", .path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program supports.
        known: i64,
    },
    /// The file is not a database of ours, or its structure is damaged.
    #[error("{} is damaged ({what}): with synkler stopped, recover it (sqlite3 journal.db .recover) or put a backup in its place; without it this node forgets what it has delivered", .path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// The finding of SQLite, one line.
        what: String,
    },
    /// The database is undamaged, but one value in it is invalid.
    #[error("{}: table {table}, row {key}, column {column}: {what}: with synkler stopped, correct the value with sqlite3 or put a backup in its place", .path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The row's key, escaped and cut.
        key: String,
        /// The column.
        column: &'static str,
        /// What is wrong with the value.
        what: String,
    },
    /// No space is left for a commit; nothing of it was written.
    #[error("cannot write {}: no space left on its file system: free some space; nothing in the journal is lost", .path.display())]
    Full {
        /// The database.
        path: PathBuf,
        /// The error of the system or SQLite.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// Another program, such as an open `sqlite3`, kept the database locked for too long.
    #[error("{} is locked by another program: stop the sqlite3 or the backup that has it open", .path.display())]
    Busy {
        /// The database.
        path: PathBuf,
        /// The error of SQLite.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The open database is no longer the file at its path, so a later start would not find what is written.
    #[error("{} was {change} while synkler had it open: put state_dir back as it was, then start synkler; a start without it forgets what this node has delivered", .path.display())]
    Taken {
        /// The database, or the WAL if its loss is what cannot be repaired.
        path: PathBuf,
        /// What happened to it.
        change: Change,
    },
    /// One of the files beside the database is no longer the file at its path. The database is complete.
    #[error("{} was {change} while synkler had it open: the next start creates it again; keep other programs from removing files in state_dir", .path.display())]
    Beside {
        /// The file.
        path: PathBuf,
        /// What happened to it.
        change: Change,
    },
    /// Anything else, above all errors of the disk.
    #[error("cannot use {}: look for disk errors in the system log", .path.display())]
    Failed {
        /// The database.
        path: PathBuf,
        /// The error of the system or SQLite.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The journal's thread has ended, so nothing can be journalled any more.
    #[error("the journal has stopped")]
    Stopped,
}

fn pid(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl JournalError {
    /// Whether only a person can fix it: a later start would fail in the same way.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Create { .. }
            | Self::NotWritable { .. }
            | Self::Foreign { .. }
            | Self::Newer { .. }
            | Self::Damaged { .. }
            | Self::Corrupt { .. }
            | Self::Taken { .. } => true,
            Self::Locked { .. }
            | Self::Full { .. }
            | Self::Busy { .. }
            | Self::Beside { .. }
            | Self::Failed { .. }
            | Self::Stopped => false,
        }
    }

    /// Classifies an error of the system about a file in `state_dir`.
    pub(super) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path, source: Arc::new(source) },
            _ => Self::NotWritable { path, source: Arc::new(source) },
        }
    }

    /// Classifies SQLite's errors by who can fix them.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path, source: Arc::new(source) },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path, source: Arc::new(source) },
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::NotWritable { path, source: Arc::new(source) }
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path, what: one_line(&source.to_string()) }
            }
            _ => Self::Failed { path, source: Arc::new(source) },
        }
    }
}
