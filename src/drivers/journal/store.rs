//! The database itself: opened, checked, converted to the present version; one method per transaction.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, ToSql, TransactionBehavior, params};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::pins::Pins;
use super::rows::{self, Fields, TRANSFER_COLUMNS};
use super::{HISTORY_LIMIT, JournalError, Owner, Past, Sought};
use crate::machine::{
    GroupId, ItemName, MATCHES_LIMIT, Mode, Node, Question, RECENT, RECENT_LIMIT, Record, Restored, Row, Time,
    TransferId,
};

/// The steps from each version to the next; the first one starts from nothing. They are never edited, only appended to.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
];
/// How long another program may keep the database locked.
pub(super) const BUSY_LIMIT: Duration = Duration::from_secs(5);
/// How long processes that a killed daemon left behind may keep the lock.
const LEFT_OVER_LIMIT: Duration = Duration::from_secs(2);
/// SQLite's page cache, in KiB.
const CACHE_KIB: i64 = 2048;
/// The size to which the WAL file is truncated after many writes, in bytes.
const WAL_LIMIT: i64 = 8 << 20;

/// The open database and its lock.
pub(super) struct Store {
    path: PathBuf,
    // Fields are dropped in this order: the database is closed before the lock is released.
    connection: Connection,
    pins: Pins,
    _lock: Lock,
}

/// A lock on an open file, which the system releases however the process ends.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave the lock to a child process that is just being started, until its exec.
        drop(self.0.unlock());
    }
}

impl Store {
    pub(super) fn open(state_dir: &Path, owner: &Owner) -> Result<(Self, Restored), JournalError> {
        create_state_dir(state_dir)
            .map_err(|source| JournalError::Create { path: state_dir.to_owned(), source: Arc::new(source) })?;
        let lock = lock(state_dir)?;
        let path = state_dir.join("journal.db");
        // SQLite would make it readable for every user; its WAL gets the mode of this file.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| JournalError::from_io(&path, error))?;
        let mut connection = connect(&path).map_err(|error| JournalError::from_sqlite(&path, error))?;
        migrate(&path, &mut connection)?;
        let pins = Pins::new(state_dir)?;
        let store = Self { path, connection, pins, _lock: lock };
        let restored = store.restore(owner)?;
        Ok((store, restored))
    }

    /// Writes all records in one transaction. When this returns, the transaction is durable, and in the journal at its
    /// path.
    pub(super) fn commit<'a>(&mut self, records: impl Iterator<Item = &'a Record>) -> Result<(), JournalError> {
        let mut records = records.peekable();
        if records.peek().is_some() {
            self.write(records)?;
        }
        // Checked afterwards: then the file at the path has the records.
        self.pins.look(&self.connection)
    }

    fn write<'a>(&mut self, records: impl Iterator<Item = &'a Record>) -> Result<(), JournalError> {
        let write = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for record in records {
                rows::put(&transaction, record)?;
            }
            transaction.commit()
        };
        write().map_err(|error| JournalError::from_sqlite(&self.path, error))
    }

    pub(super) fn look_up(&self, question: &Question) -> Result<Option<Box<Row>>, JournalError> {
        let rows = match question {
            Question::Transfer(transfer) => self.transfers("WHERE id = ?1", params![transfer.to_string()]),
            // A download records a signature only when it has placed an item.
            Question::Name { name, transfer } => self.transfers(
                "WHERE name = ?1 AND signature IS NOT NULL AND id <> ?2 ORDER BY created DESC, id DESC LIMIT 1",
                params![name.as_bytes(), transfer.to_string()],
            ),
        };
        Ok(rows?.pop().map(Box::new))
    }

    pub(super) fn history(&self, past: &Past) -> Result<(Vec<Row>, bool), JournalError> {
        let limit = past.limit.min(HISTORY_LIMIT);
        let since = past.since.map_or(0, Time::as_millis);
        let mut rows = match &past.name {
            // The largest possible time here: later ones are stored as negative numbers.
            None => self.transfers(
                "WHERE finished IS NOT NULL AND finished >= ?1 AND (finished, id) < (?2, ?3) \
                 ORDER BY finished DESC, id DESC LIMIT ?4",
                params![rows::signed(since), past.end().0, past.end().1, limit + 1],
            ),
            Some(name) => self.transfers(
                "WHERE shown = ?5 AND finished IS NOT NULL AND finished >= ?1 AND (finished, id) < (?2, ?3) \
                 ORDER BY finished DESC, id DESC LIMIT ?4",
                params![rows::signed(since), past.end().0, past.end().1, limit + 1, name.to_string()],
            ),
        }?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        Ok((rows, more))
    }

    pub(super) fn find(&self, text: &str) -> Result<Sought, JournalError> {
        if text.is_empty() {
            return Ok(Sought::Nothing);
        }
        let one = |mut rows: Vec<Row>| rows.pop().map(|row| Sought::One(Box::new(row)));
        let decoded = ItemName::decode(text).ok().map(|name| name.to_string());
        let names: Vec<&str> = std::iter::once(text).chain(decoded.as_deref()).collect();
        for name in &names {
            let latest = "WHERE shown = ?1 AND finished IS NOT NULL ORDER BY finished DESC, id DESC LIMIT 1";
            if let Some(found) = one(self.transfers(latest, params![name])?) {
                return Ok(found);
            }
        }
        if let Some(found) = one(self.transfers("WHERE id = ?1 AND finished IS NOT NULL", params![text])?) {
            return Ok(found);
        }
        let most = MATCHES_LIMIT as i64;
        let mut matches = Vec::new();
        for name in &names {
            let begins = "SELECT DISTINCT shown FROM transfers \
                 WHERE finished IS NOT NULL AND shown >= ?1 AND shown < ?2 ORDER BY shown LIMIT ?3";
            let read = |fields: &Fields<'_>| Ok((fields.text("shown")?.to_owned(), true));
            matches.extend(self.query("transfers", &["shown"], begins, params![name, after(name), most], read)?);
        }
        let begins =
            "SELECT id FROM transfers WHERE id >= ?1 AND id < ?2 AND finished IS NOT NULL ORDER BY id LIMIT ?3";
        let read = |fields: &Fields<'_>| Ok((fields.text("id")?.to_owned(), false));
        matches.extend(self.query("transfers", &["id"], begins, params![text, after(text), most], read)?);
        matches.sort_unstable();
        matches.dedup();
        match matches.as_slice() {
            [] => Ok(Sought::Nothing),
            [(name, is_name)] => {
                let clause = if *is_name {
                    "WHERE shown = ?1 AND finished IS NOT NULL ORDER BY finished DESC, id DESC LIMIT 1"
                } else {
                    "WHERE id = ?1"
                };
                Ok(one(self.transfers(clause, params![name])?).unwrap_or(Sought::Nothing))
            }
            _ => Ok(Sought::Several(matches.into_iter().map(|(name, _)| name).take(MATCHES_LIMIT).collect())),
        }
    }

    pub(super) fn manifest(&self, transfer: TransferId) -> Result<Option<String>, JournalError> {
        let sql = "SELECT id, text FROM manifests WHERE id = ?1";
        let read = |fields: &Fields<'_>| Ok(fields.text("text")?.to_owned());
        Ok(self.query("manifests", &["id"], sql, params![transfer.to_string()], read)?.pop())
    }

    pub(super) fn prune(&mut self, before: Time, limit: u32) -> Result<usize, JournalError> {
        let mut delete = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let old =
                "(SELECT id FROM transfers WHERE finished IS NOT NULL AND finished < ?1 ORDER BY finished LIMIT ?2)";
            let values = params![rows::signed(before.as_millis()), limit];
            transaction.prepare_cached(&format!("DELETE FROM manifests WHERE id IN {old}"))?.execute(values)?;
            let count =
                transaction.prepare_cached(&format!("DELETE FROM transfers WHERE id IN {old}"))?.execute(values)?;
            transaction.commit()?;
            Ok(count)
        };
        delete().map_err(|error| JournalError::from_sqlite(&self.path, error))
    }

    fn restore(&self, owner: &Owner) -> Result<Restored, JournalError> {
        // Only the first opening finds no row: the database is new.
        let begin = "INSERT OR IGNORE INTO meta (one, journal, group_id, mode, name, next_place) \
             VALUES (1, printf('%08x', random() & 0xffffffff), ?1, ?2, ?3, 1)";
        self.connection
            .execute(begin, params![owner.group.as_str(), owner.node.mode.as_str(), owner.node.name.as_str()])
            .map_err(|error| JournalError::from_sqlite(&self.path, error))?;

        let meta = "SELECT one, journal, group_id, mode, name, next_place, paused_since, paused_by, paused_on, \
             group_changed, group_stop, group_since, group_by, group_on, directory_token, directory_file_system, \
             directory_inode FROM meta";
        let meta = self.query("meta", &["one"], meta, params![], |fields| {
            let found = Owner {
                group: fields.parse::<GroupId>("group_id")?,
                node: Node::new(fields.parse("mode")?, fields.parse("name")?),
            };
            if found != *owner {
                let (found, wanted) = (found.to_string(), owner.to_string());
                return Err(JournalError::Foreign { path: self.path.clone(), found, wanted });
            }
            let paused = fields.pause("paused_since", "paused_by", "paused_on")?;
            Ok((fields.parse("journal")?, fields.number("next_place")?, paused, fields.group()?, fields.directory()?))
        })?;
        let Some((journal, next_place, paused, group, directory)) = meta.into_iter().next() else {
            return Err(damaged(&self.path, "table meta is empty"));
        };
        let nodes = "SELECT mode, name, journal, started, slots, version, first_heard, last_heard, \
             host, spool_host, spool_path FROM nodes ORDER BY mode, name";
        let kept = "SELECT name, signature, size, digest, mounts, is_left, left_size, left_digest, aside \
             FROM kept ORDER BY name";
        let submitted = "SELECT name FROM submitted ORDER BY name";
        // Only uploads can meet leftovers of their scripts again.
        let clause = "WHERE finished IS NOT NULL AND cleaned = 1 AND finished >= ?1 AND ?2 \
             ORDER BY finished DESC, id DESC LIMIT ?3";
        let newest = self.newest_finished()?;
        let since = rows::signed(newest.as_millis().saturating_sub(RECENT.as_millis() as u64));
        let recent = params![since, owner.node.mode == Mode::Upload, RECENT_LIMIT as i64];
        Ok(Restored {
            journal,
            rows: self.transfers("WHERE finished IS NULL ORDER BY created, id", params![])?,
            nodes: self.query("nodes", &["mode", "name"], nodes, params![], |fields| fields.node())?,
            kept: self.query("kept", &["name"], kept, params![], |fields| fields.kept())?,
            submitted: self.query("submitted", &["name"], submitted, params![], |fields| fields.item_name())?,
            recent: self.transfers(clause, recent)?,
            next_place,
            paused,
            group,
            directory,
        })
    }

    fn newest_finished(&self) -> Result<Time, JournalError> {
        let sql =
            "SELECT id, finished FROM transfers WHERE finished IS NOT NULL ORDER BY finished DESC, id DESC LIMIT 1";
        let read =
            |fields: &Fields<'_>| Ok(fields.optional_number("finished")?.map_or(Time::default(), Time::from_millis));
        Ok(self.query("transfers", &["id"], sql, params![], read)?.pop().unwrap_or_default())
    }

    fn transfers(&self, clause: &str, values: &[&dyn ToSql]) -> Result<Vec<Row>, JournalError> {
        let sql = format!("SELECT {TRANSFER_COLUMNS} FROM transfers {clause}");
        self.query("transfers", &["id"], &sql, values, |fields| fields.transfer())
    }

    fn query<T>(
        &self,
        table: &'static str,
        key: &'static [&'static str],
        sql: &str,
        values: &[&dyn ToSql],
        read: impl Fn(&Fields<'_>) -> Result<T, JournalError>,
    ) -> Result<Vec<T>, JournalError> {
        let failed = |error| JournalError::from_sqlite(&self.path, error);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(values).map_err(failed)?;
        let mut read_so_far = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            read_so_far.push(read(&Fields { path: &self.path, table, key, row })?);
        }
        Ok(read_so_far)
    }
}

/// The smallest text after all texts with this beginning.
fn after(beginning: &str) -> String {
    format!("{beginning}{}", char::MAX)
}

impl Past {
    /// What finished before this, in the form of the columns.
    fn end(&self) -> (i64, String) {
        // Ids are hex digits and hyphens: this text is greater than any of them, and the empty one smaller.
        match (self.before, self.behind) {
            (None, _) => (i64::MAX, "~".to_owned()),
            (Some(before), behind) => {
                (rows::signed(before.as_millis()), behind.map(|id| id.to_string()).unwrap_or_default())
            }
        }
    }
}

/// Creates the directory and its parents, for this user alone, and makes that durable: a journal whose directory
/// disappears after a power failure is useless.
fn create_state_dir(state_dir: &Path) -> std::io::Result<()> {
    let missing: Vec<_> =
        state_dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    for parent in missing.iter().filter_map(|dir| dir.parent()) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn lock(state_dir: &Path) -> Result<Lock, JournalError> {
    let path = state_dir.join("lock");
    let failed = |error| JournalError::from_io(&path, error);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = (&file).take(20).read_to_string(&mut text);
            let holder = read.ok().and_then(|_| text.trim_end().parse().ok());
            // A child of a killed daemon may still exist and not have reached its exec.
            if !holder.is_some_and(is_gone) || !comes_free(&file) {
                return Err(JournalError::Locked { path: state_dir.to_owned(), holder });
            }
            file.rewind().map_err(failed)?;
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(Lock(file))
}

fn is_gone(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// Takes the lock if it becomes free soon.
fn comes_free(file: &File) -> bool {
    let (taken, result) = channel();
    // Both use one lock. A thread that waits in vain ends with the process, which then does not start.
    let Ok(shared) = file.try_clone() else { return false };
    std::thread::spawn(move || taken.send(shared.lock().is_ok()));
    result.recv_timeout(LEFT_OVER_LIMIT) == Ok(true)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_LIMIT)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    Ok(connection)
}

/// Examines the file before writing: a file that is not ours, or of a newer version, stays unchanged.
fn migrate(path: &Path, connection: &mut Connection) -> Result<(), JournalError> {
    let failed = |error| JournalError::from_sqlite(path, error);
    let count = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found = count("PRAGMA user_version")?;
    if found > known {
        return Err(JournalError::Newer { path: path.to_owned(), found, known });
    }
    let done = usize::try_from(found).map_err(|_| damaged(path, "its version is negative"))?;
    if done == 0 && count("SELECT count(*) FROM sqlite_schema")? > 0 {
        return Err(damaged(path, "its tables are none of synkler's"));
    }
    quick_check(path, connection)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT).map_err(failed)?;
    let mut write = || {
        for (version, step) in (1_i64..).zip(MIGRATIONS).skip(done) {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()?;
        }
        Ok(())
    };
    write().map_err(failed)
}

pub(super) fn quick_check(path: &Path, connection: &Connection) -> Result<(), JournalError> {
    let check = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("PRAGMA quick_check(3)")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    let found = check().map_err(|error| JournalError::from_sqlite(path, error))?;
    if found.iter().any(|line| line != "ok") { Err(damaged(path, &found.join("; "))) } else { Ok(()) }
}

pub(super) fn damaged(path: &Path, what: &str) -> JournalError {
    JournalError::Damaged { path: path.to_owned(), what: crate::machine::one_line(what) }
}

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;

    use super::*;
    use crate::machine::Mode;

    fn owner() -> Owner {
        Owner { group: "default".parse().unwrap(), node: Node::new(Mode::Central, "hub".parse().unwrap()) }
    }

    #[test]
    fn the_connection_is_durable_and_small() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), &owner()).unwrap();
        for (pragma, value) in [
            ("synchronous", Value::Integer(2)),
            ("foreign_keys", Value::Integer(0)),
            ("cache_size", Value::Integer(-2048)),
            ("journal_size_limit", Value::Integer(8 << 20)),
            ("wal_autocheckpoint", Value::Integer(1000)),
            ("journal_mode", Value::Text("wal".to_owned())),
            ("user_version", Value::Integer(MIGRATIONS.len() as i64)),
        ] {
            let found: Value = store.connection.pragma_query_value(None, pragma, |row| row.get(0)).unwrap();
            assert_eq!(found, value, "{pragma}");
        }
    }

    #[test]
    fn every_question_has_its_index() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), &owner()).unwrap();
        let transfer = TransferId::mint(1, [1; 10]);
        store.look_up(&Question::Transfer(transfer)).unwrap();
        store.look_up(&Question::Name { name: ItemName::new(b"a").unwrap(), transfer }).unwrap();
        for (clause, index) in [
            ("id = 'x'", "sqlite_autoindex_transfers_1 (id=?)"),
            ("name = x'61' AND signature IS NOT NULL AND id <> 'x' ORDER BY created DESC, id DESC", "transfers_placed"),
            ("finished IS NULL ORDER BY created, id", "transfers_unfinished"),
            ("finished IS NOT NULL ORDER BY finished DESC, id DESC", "transfers_finished"),
            ("finished IS NOT NULL AND finished < 5 ORDER BY finished", "transfers_finished"),
            (
                "finished IS NOT NULL AND finished >= 1 AND (finished, id) < (5, 'x') ORDER BY finished DESC, id DESC",
                "transfers_finished",
            ),
            (
                "shown = 'a' AND finished IS NOT NULL AND finished >= 1 AND (finished, id) < (5, 'x') \
                 ORDER BY finished DESC, id DESC",
                "transfers_past",
            ),
            ("shown = 'a' AND finished IS NOT NULL ORDER BY finished DESC, id DESC", "transfers_past"),
            ("finished IS NOT NULL AND shown >= 'a' AND shown < 'b' ORDER BY shown", "transfers_past"),
            (
                "id >= 'a' AND id < 'b' AND finished IS NOT NULL ORDER BY id",
                "sqlite_autoindex_transfers_1 (id>? AND id<?)",
            ),
        ] {
            let sql = format!("EXPLAIN QUERY PLAN SELECT {TRANSFER_COLUMNS} FROM transfers WHERE {clause}");
            let mut statement = store.connection.prepare(&sql).unwrap();
            let plan: Vec<String> = statement.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
            assert!(plan.len() == 1 && plan[0].contains(index), "{clause}: {plan:?}");
        }
    }

    #[test]
    fn a_refused_transaction_leaves_nothing_and_the_next_one_works() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(dir.path(), &owner()).unwrap();
        store.connection.busy_timeout(Duration::from_millis(20)).unwrap();
        let other = Connection::open(dir.path().join("journal.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let error = store.commit([Record::NextPlace(7)].iter()).unwrap_err();
        assert!(matches!(error, JournalError::Busy { .. }), "{error:?}");
        other.execute_batch("ROLLBACK").unwrap();
        store.commit([Record::NextPlace(8)].iter()).unwrap();
        assert_eq!(store.restore(&owner()).unwrap().next_place, 8);
    }
}
