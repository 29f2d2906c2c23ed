//! Examines a journal without writing, whether or not a daemon has it open.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::store::{BUSY_LIMIT, MIGRATIONS, damaged, quick_check};
use super::{JournalError, Owner};
use crate::machine::{DirectoryId, GroupId, KnownDirectory, Location, Mode, Node, NodeName};

/// The result of the examination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The process that has the journal open.
    pub holder: Option<u32>,
    /// The content; `None` if there is no database yet.
    pub content: Option<Content>,
}

/// The content of an undamaged journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The number of unfinished transfers.
    pub unfinished: u64,
    /// The number of finished transfers.
    pub finished: u64,
    /// The address of each central that has announced itself.
    pub centrals: Vec<(Node, Location)>,
    /// The directory of the node.
    pub directory: Option<KnownDirectory>,
}

/// Checks the structure of the journal in `state_dir`, and whose it is. Blocks for milliseconds, with hundreds of
/// thousands of rows for part of a second.
///
/// # Errors
///
/// Every [`JournalError`] but `Create`, `Locked`, `Full` and `Stopped`.
pub fn inspect(state_dir: &Path, owner: &Owner) -> Result<Inspected, JournalError> {
    let holder = holder(state_dir)?;
    let path = state_dir.join("journal.db");
    if !path.try_exists().map_err(|error| JournalError::from_io(&path, error))? {
        return Ok(Inspected { holder, content: None });
    }
    let connection = connect(&path).map_err(|error| JournalError::from_sqlite(&path, error))?;
    let failed = |error| JournalError::from_sqlite(&path, error);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if found > known {
        return Err(JournalError::Newer { path, found, known });
    }
    quick_check(&path, &connection)?;
    if found == 0 {
        return Ok(Inspected { holder, content: None });
    }
    check_owner(&path, &connection, owner)?;
    let count = |clause: &str| {
        let sql = format!("SELECT count(*) FROM transfers WHERE finished IS {clause}");
        connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map_err(failed)
    };
    let content = Content {
        unfinished: count("NULL")?.unsigned_abs(),
        finished: count("NOT NULL")?.unsigned_abs(),
        centrals: centrals(&connection).map_err(failed)?,
        directory: directory(&connection),
    };
    Ok(Inspected { holder, content: Some(content) })
}

/// The process that holds the journal's lock. The examination does not take the lock.
fn holder(state_dir: &Path) -> Result<Option<u32>, JournalError> {
    let path = state_dir.join("lock");
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::from_io(&path, error)),
    };
    match file.try_lock_shared() {
        Ok(()) => {
            // Closed explicitly, so that a child process that is just being started does not keep the lock.
            drop(file.unlock());
            Ok(None)
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = (&mut file).take(20).read_to_string(&mut text);
            Ok(Some(read.ok().and_then(|_| text.trim_end().parse().ok()).unwrap_or(0)))
        }
        Err(TryLockError::Error(error)) => Err(JournalError::from_io(&path, error)),
    }
}

/// If no process has the database open, SQLite would create files beside it even for reading, unless it is told that
/// nothing changes.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let wal = path.with_extension("db-wal");
    let still = if wal.exists() { "" } else { "?immutable=1" };
    let mut name = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => name.push(char::from(*byte)),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    name.push_str(still);
    let connection = Connection::open_with_flags(name, flags)?;
    connection.busy_timeout(BUSY_LIMIT)?;
    Ok(connection)
}

fn check_owner(path: &Path, connection: &Connection, owner: &Owner) -> Result<(), JournalError> {
    let row = connection
        .query_row("SELECT group_id, mode, name FROM meta", [], |row| {
            Ok([row.get::<_, String>(0)?, row.get(1)?, row.get(2)?])
        })
        .optional()
        .map_err(|error| JournalError::from_sqlite(path, error))?;
    let Some([group, mode, name]) = row else { return Err(damaged(path, "table meta is empty")) };
    let read = || {
        let group: GroupId = group.parse().ok()?;
        let mode: Mode = mode.parse().ok()?;
        let name: NodeName = name.parse().ok()?;
        Some(Owner { group, node: Node::new(mode, name) })
    };
    match read() {
        Some(found) if found == *owner => Ok(()),
        Some(found) => {
            let (found, wanted) = (found.to_string(), owner.to_string());
            Err(JournalError::Foreign { path: path.to_owned(), found, wanted })
        }
        None => Err(damaged(path, "table meta names no node")),
    }
}

/// `None` in an older journal, which gets these columns at the next start.
fn directory(connection: &Connection) -> Option<KnownDirectory> {
    let sql = "SELECT directory_token, directory_file_system, directory_inode FROM meta";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let (token, file_system, inode) = connection.query_row(sql, [], read).ok()?;
    let id = DirectoryId { file_system: file_system.cast_unsigned(), inode: inode.cast_unsigned() };
    Some(KnownDirectory { token: u64::from_str_radix(&token, 16).ok()?, id })
}

fn centrals(connection: &Connection) -> rusqlite::Result<Vec<(Node, Location)>> {
    // An older journal does not have these columns until the next start.
    let sql = "SELECT name, spool_host, spool_path FROM nodes WHERE mode = 'central' AND spool_host IS NOT NULL \
               ORDER BY last_heard DESC";
    let Ok(mut statement) = connection.prepare(sql) else { return Ok(Vec::new()) };
    let rows = statement.query_map([], |row| Ok([row.get::<_, String>(0)?, row.get(1)?, row.get(2)?]))?;
    let mut found = Vec::new();
    for row in rows {
        let [name, host, path] = row?;
        if let (Ok(name), Ok(location)) = (name.parse(), Location::new(&host, &path)) {
            found.push((Node::new(Mode::Central, name), location));
        }
    }
    Ok(found)
}
