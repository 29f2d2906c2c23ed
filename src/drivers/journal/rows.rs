//! Converts records to table rows and back. Writing accepts every value. Reading trusts none: the constructor of its
//! type checks each value, and the error names row and column.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, ToSql, named_params, params};

use super::JournalError;
use crate::machine::{
    Cause, Digest, DirectoryId, Fingerprint, GroupPause, ItemName, Kept, KnownDirectory, KnownNode, Left, Location,
    Mounts, Node, NodeName, Pause, Reason, Record, Row, Time, decode_bytes, encode_bytes, escaped, one_line,
};

/// Every column of `transfers` that is read back.
pub(super) const TRANSFER_COLUMNS: &str = "id, name, upload, kind, size, entries, digest, stage, created, since, \
     reason, detail, attempts, central, place, location_host, location_path, signature, inode, receivers, \
     acknowledged, cleaned, began, arrived, paused_since, paused_by, paused_on, mounts, minted, born, modes, extras, wrong, remark, finished";

const PUT_TRANSFER: &str = "INSERT INTO transfers (id, name, shown, upload, kind, size, entries, digest, stage, \
     created, since, reason, detail, attempts, central, place, location_host, location_path, signature, inode, \
     receivers, acknowledged, cleaned, began, arrived, paused_since, paused_by, paused_on, mounts, minted, born, modes, extras, wrong, remark, finished) \
     VALUES (:id, :name, :shown, :upload, :kind, :size, :entries, :digest, :stage, :created, :since, :reason, \
     :detail, :attempts, :central, :place, :location_host, :location_path, :signature, :inode, :receivers, \
     :acknowledged, :cleaned, :began, :arrived, :paused_since, :paused_by, :paused_on, :mounts, :minted, \
     :born, :modes, :extras, :wrong, :remark, :finished) \
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, shown = excluded.shown, upload = excluded.upload, \
     kind = excluded.kind, size = excluded.size, entries = excluded.entries, digest = excluded.digest, \
     stage = excluded.stage, created = excluded.created, since = excluded.since, reason = excluded.reason, \
     detail = excluded.detail, attempts = excluded.attempts, central = excluded.central, place = excluded.place, \
     location_host = excluded.location_host, location_path = excluded.location_path, \
     signature = excluded.signature, inode = excluded.inode, receivers = excluded.receivers, \
     acknowledged = excluded.acknowledged, cleaned = excluded.cleaned, began = excluded.began, \
     arrived = excluded.arrived, paused_since = excluded.paused_since, paused_by = excluded.paused_by, \
     paused_on = excluded.paused_on, mounts = excluded.mounts, minted = excluded.minted, born = excluded.born, modes = excluded.modes, extras = excluded.extras, \
     wrong = excluded.wrong, remark = excluded.remark, finished = excluded.finished";

const PUT_NODE: &str = "INSERT OR REPLACE INTO nodes (mode, name, journal, started, slots, version, first_heard, \
     last_heard, host, spool_host, spool_path) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

const PUT_KEPT: &str = "INSERT OR REPLACE INTO kept (name, shown, signature, size, digest, mounts, is_left, left_size, \
     left_digest, aside) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

/// Writes one record within the open transaction.
pub(super) fn put(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    let put = |sql, values: &[&dyn ToSql]| connection.prepare_cached(sql)?.execute(values).map(drop);
    match record {
        Record::Transfer(row) => put_transfer(connection.prepare_cached(PUT_TRANSFER)?, row),
        Record::Node(known) => put(
            PUT_NODE,
            params![
                known.node.mode.as_str(),
                known.node.name.as_str(),
                known.journal.to_string(),
                signed(known.started.as_millis()),
                known.slots,
                known.version,
                signed(known.first_heard.as_millis()),
                signed(known.last_heard.as_millis()),
                known.host,
                known.spool.as_ref().map(Location::host),
                known.spool.as_ref().map(Location::path),
            ],
        ),
        Record::Kept(kept) => {
            let left = kept.left.and_then(|left| left.fingerprint);
            put(
                PUT_KEPT,
                params![
                    kept.name.as_bytes(),
                    kept.name.to_string(),
                    kept.signature.to_string(),
                    signed(kept.fingerprint.size),
                    kept.fingerprint.digest.to_string(),
                    paths(&kept.mounts)?,
                    kept.left.is_some(),
                    left.map(|left| signed(left.size)),
                    left.map(|left| left.digest.to_string()),
                    kept.left.and_then(|left| left.aside).map(Cause::code),
                ],
            )
        }
        Record::Unkept(name) => put("DELETE FROM kept WHERE name = ?1", params![name.as_bytes()]),
        Record::Submitted(name) => put("INSERT OR IGNORE INTO submitted (name) VALUES (?1)", params![name.as_bytes()]),
        Record::Unsubmitted(name) => put("DELETE FROM submitted WHERE name = ?1", params![name.as_bytes()]),
        Record::NextPlace(number) => put("UPDATE meta SET next_place = ?1", params![signed(*number)]),
        Record::Paused(pause) => {
            let (since, by, on) = order(pause.as_ref());
            put("UPDATE meta SET paused_since = ?1, paused_by = ?2, paused_on = ?3", params![since, by, on])
        }
        Record::Group(group) => {
            let (since, by, on) = order(group.pause.as_ref());
            let changed = signed(group.changed.as_millis());
            let set = "UPDATE meta SET group_changed = ?1, group_stop = ?2, group_since = ?3, group_by = ?4, \
                 group_on = ?5";
            put(set, params![changed, group.stop, since, by, on])
        }
        Record::Manifest(transfer, text) => {
            put("INSERT OR REPLACE INTO manifests (id, text) VALUES (?1, ?2)", params![transfer.to_string(), &**text])
        }
        Record::Directory(KnownDirectory { token, id }) => {
            let set = "UPDATE meta SET directory_token = ?1, directory_file_system = ?2, directory_inode = ?3";
            put(set, params![format!("{token:016x}"), signed(id.file_system), signed(id.inode)])
        }
        Record::Forgotten(node) => {
            put("DELETE FROM nodes WHERE mode = ?1 AND name = ?2", params![node.mode.as_str(), node.name.as_str()])
        }
    }
}

/// Paths as JSON texts.
fn paths(mounts: &Mounts) -> rusqlite::Result<String> {
    let paths: Vec<_> = mounts.paths().map(encode_bytes).collect();
    serde_json::to_string(&paths).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// An order in its three columns.
fn order(pause: Option<&Pause>) -> (Option<i64>, Option<&str>, Option<String>) {
    let Some(pause) = pause else { return (None, None, None) };
    (Some(signed(pause.since.as_millis())), Some(&pause.by), Some(pause.node.to_string()))
}

fn put_transfer(mut statement: CachedStatement<'_>, row: &Row) -> rusqlite::Result<()> {
    let receivers: Vec<_> = row.receivers.iter().map(|(name, at)| (name.as_str(), at.map(Time::as_millis))).collect();
    let receivers =
        serde_json::to_string(&receivers).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let (since, by, on) = order(row.paused.as_deref());
    let changed = statement.execute(named_params! {
        ":id": row.transfer.to_string(),
        ":name": row.name.as_bytes(),
        ":shown": row.name.to_string(),
        ":upload": row.upload.as_str(),
        ":kind": row.kind.as_str(),
        ":size": signed(row.fingerprint.size),
        ":entries": signed(row.entries),
        ":digest": row.fingerprint.digest.to_string(),
        ":stage": row.stage,
        ":created": signed(row.created.as_millis()),
        ":since": signed(row.since.as_millis()),
        ":reason": row.reason.as_ref().map(|reason| reason.cause().code()),
        ":detail": row.reason.as_ref().map(Reason::detail),
        ":attempts": row.attempts,
        ":central": row.central.as_ref().map(NodeName::as_str),
        ":place": row.place.map(|place| place.to_string()),
        ":location_host": row.location.as_ref().map(Location::host),
        ":location_path": row.location.as_ref().map(Location::path),
        ":signature": row.signature.map(|signature| signature.to_string()),
        ":inode": row.inode.map(signed),
        ":receivers": receivers,
        ":acknowledged": row.acknowledged,
        ":cleaned": row.cleaned,
        ":began": row.began.map(|at| signed(at.as_millis())),
        ":arrived": row.arrived.map(|at| signed(at.as_millis())),
        ":paused_since": since,
        ":paused_by": by,
        ":paused_on": on,
        ":modes": row.modes.as_str(),
        ":extras": row.extras.to_string(),
        ":wrong": row.wrong.as_deref().map(|digest| digest.to_string()),
        ":remark": row.remark,
        ":mounts": paths(&row.mounts)?,
        ":minted": signed(row.minted.as_millis()),
        ":born": row.born.map(|at| signed(at.as_millis())),
        ":finished": row.finished.map(|at| signed(at.as_millis())),
    })?;
    debug_assert_eq!(changed, 1);
    Ok(())
}

/// The signed number with the same bits: SQLite has no unsigned numbers, and peers may send any `u64`.
pub(super) fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// One row that is being read.
pub(super) struct Fields<'a> {
    pub(super) path: &'a Path,
    pub(super) table: &'static str,
    /// The columns that identify the row for a person.
    pub(super) key: &'static [&'static str],
    pub(super) row: &'a rusqlite::Row<'a>,
}

impl Fields<'_> {
    pub(super) fn transfer(&self) -> Result<Row, JournalError> {
        Ok(Row {
            transfer: self.parse("id")?,
            name: self.item_name()?,
            upload: self.parse("upload")?,
            kind: self.parse("kind")?,
            entries: self.number("entries")?,
            fingerprint: self.fingerprint()?,
            stage: self.text("stage")?.to_owned(),
            created: self.time("created")?,
            since: self.time("since")?,
            reason: self.reason()?,
            attempts: self.small("attempts")?,
            central: self.parse_optional("central")?,
            place: self.parse_optional("place")?,
            location: self.location(["location_host", "location_path", "location_host and location_path"])?,
            signature: self.parse_optional("signature")?,
            inode: self.optional_number("inode")?,
            receivers: self.receivers()?,
            acknowledged: self.flag("acknowledged")?,
            cleaned: self.flag("cleaned")?,
            began: self.optional_number("began")?.map(Time::from_millis),
            arrived: self.optional_number("arrived")?.map(Time::from_millis),
            paused: self.pause("paused_since", "paused_by", "paused_on")?.map(Box::new),
            modes: self.parse("modes")?,
            extras: self.parse("extras")?,
            wrong: self.parse_optional("wrong")?.map(Box::new),
            remark: self.optional_text("remark")?.map(|remark| one_line(remark).into()),
            mounts: self.mounts()?,
            minted: self.time("minted")?,
            born: self.optional_number("born")?.map(Time::from_millis),
            finished: self.optional_number("finished")?.map(Time::from_millis),
        })
    }

    pub(super) fn node(&self) -> Result<KnownNode, JournalError> {
        Ok(KnownNode {
            node: Node::new(self.parse("mode")?, self.parse("name")?),
            journal: self.parse("journal")?,
            started: self.time("started")?,
            slots: self.small("slots")?,
            version: self.text("version")?.to_owned(),
            host: self.text("host")?.to_owned(),
            spool: self.location(["spool_host", "spool_path", "spool_host and spool_path"])?,
            first_heard: self.time("first_heard")?,
            last_heard: self.time("last_heard")?,
        })
    }

    pub(super) fn kept(&self) -> Result<Kept, JournalError> {
        let size = self.optional_number("left_size")?;
        let digest = self.parse_optional("left_digest")?;
        let left = Left {
            fingerprint: size.zip(digest).map(|(size, digest)| Fingerprint { size, digest }),
            aside: self.parse_optional("aside")?,
        };
        Ok(Kept {
            name: self.item_name()?,
            signature: self.parse("signature")?,
            fingerprint: self.fingerprint()?,
            left: self.flag("is_left")?.then_some(left),
            mounts: self.mounts()?,
        })
    }

    pub(super) fn parse<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<T, JournalError> {
        self.text(column)?.parse().map_err(|error: T::Err| self.corrupt(column, &error))
    }

    fn parse_optional<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<Option<T>, JournalError> {
        let text = self.optional_text(column)?;
        text.map(|text| text.parse().map_err(|error: T::Err| self.corrupt(column, &error))).transpose()
    }

    pub(super) fn directory(&self) -> Result<Option<KnownDirectory>, JournalError> {
        let Some(text) = self.optional_text("directory_token")? else { return Ok(None) };
        let token = u64::from_str_radix(text, 16).map_err(|error| self.corrupt("directory_token", &error))?;
        let (file_system, inode) = (self.number("directory_file_system")?, self.number("directory_inode")?);
        Ok(Some(KnownDirectory { token, id: DirectoryId { file_system, inode } }))
    }

    pub(super) fn number(&self, column: &'static str) -> Result<u64, JournalError> {
        self.optional_number(column)?.ok_or_else(|| self.corrupt(column, &"it is null"))
    }

    pub(super) fn flag(&self, column: &'static str) -> Result<bool, JournalError> {
        match self.number(column)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.corrupt(column, &format_args!("{other} is neither 0 nor 1"))),
        }
    }

    pub(super) fn item_name(&self) -> Result<ItemName, JournalError> {
        match self.value("name")? {
            ValueRef::Blob(bytes) => ItemName::new(bytes).map_err(|error| self.corrupt("name", &error)),
            _ => Err(self.corrupt("name", &"not a blob")),
        }
    }

    fn fingerprint(&self) -> Result<Fingerprint, JournalError> {
        Ok(Fingerprint { size: self.number("size")?, digest: self.parse::<Digest>("digest")? })
    }

    fn reason(&self) -> Result<Option<Reason>, JournalError> {
        let cause: Option<Cause> = self.parse_optional("reason")?;
        let detail = self.optional_text("detail")?.unwrap_or_default();
        Ok(cause.map(|cause| Reason::with(cause, detail)))
    }

    fn location(&self, [host, path, both]: [&'static str; 3]) -> Result<Option<Location>, JournalError> {
        match (self.optional_text(host)?, self.optional_text(path)?) {
            (None, None) => Ok(None),
            (Some(host_text), Some(path_text)) => match Location::new(host_text, path_text) {
                Ok(location) => Ok(Some(location)),
                Err(error) => Err(self.corrupt(both, &error)),
            },
            _ => Err(self.corrupt(both, &"one is null and the other is not")),
        }
    }

    pub(super) fn group(&self) -> Result<GroupPause, JournalError> {
        let pause = self.pause("group_since", "group_by", "group_on")?;
        Ok(GroupPause { changed: self.time("group_changed")?, pause, stop: self.flag("group_stop")? })
    }

    pub(super) fn pause(
        &self,
        since: &'static str,
        by: &'static str,
        on: &'static str,
    ) -> Result<Option<Pause>, JournalError> {
        let Some(when) = self.optional_number(since)? else { return Ok(None) };
        let node = self
            .text(on)?
            .split_once(' ')
            .and_then(|(mode, name)| Some(Node::new(mode.parse().ok()?, name.parse().ok()?)));
        let node = node.ok_or_else(|| self.corrupt(on, &"not a mode and a name"))?;
        Ok(Some(Pause::new(Time::from_millis(when), self.text(by)?, node)))
    }

    fn receivers(&self) -> Result<Vec<(NodeName, Option<Time>)>, JournalError> {
        let pairs: Vec<(String, Option<u64>)> =
            serde_json::from_str(self.text("receivers")?).map_err(|error| self.corrupt("receivers", &error))?;
        let receiver = |(name, at): (String, Option<u64>)| match name.parse() {
            Ok(name) => Ok((name, at.map(Time::from_millis))),
            Err(error) => Err(self.corrupt("receivers", &error)),
        };
        pairs.into_iter().map(receiver).collect()
    }

    fn mounts(&self) -> Result<Mounts, JournalError> {
        let paths: Vec<String> =
            serde_json::from_str(self.text("mounts")?).map_err(|error| self.corrupt("mounts", &error))?;
        let path = |text: &String| decode_bytes(text).ok_or_else(|| self.corrupt("mounts", text));
        Ok(Mounts::new(paths.iter().map(path).collect::<Result<Vec<_>, _>>()?.into_iter().map(Into::into)))
    }

    fn time(&self, column: &'static str) -> Result<Time, JournalError> {
        self.number(column).map(Time::from_millis)
    }

    fn small(&self, column: &'static str) -> Result<u32, JournalError> {
        let number = self.number(column)?;
        u32::try_from(number).map_err(|_| self.corrupt(column, &format_args!("{number} is above {}", u32::MAX)))
    }

    pub(super) fn optional_number(&self, column: &'static str) -> Result<Option<u64>, JournalError> {
        match self.value(column)? {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(number) => Ok(Some(number.cast_unsigned())),
            _ => Err(self.corrupt(column, &"not an integer")),
        }
    }

    pub(super) fn text(&self, column: &'static str) -> Result<&str, JournalError> {
        self.optional_text(column)?.ok_or_else(|| self.corrupt(column, &"it is null"))
    }

    fn optional_text(&self, column: &'static str) -> Result<Option<&str>, JournalError> {
        match self.value(column)? {
            ValueRef::Null => Ok(None),
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(error) => Err(self.corrupt(column, &error)),
            },
            _ => Err(self.corrupt(column, &"not text")),
        }
    }

    fn value(&self, column: &'static str) -> Result<ValueRef<'_>, JournalError> {
        self.row.get_ref(column).map_err(|error| JournalError::from_sqlite(self.path, error))
    }

    fn corrupt(&self, column: &'static str, what: &dyn Display) -> JournalError {
        let part = |column: &&str| match self.row.get_ref(*column) {
            Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => escaped(bytes).chars().take(100).collect(),
            Ok(ValueRef::Integer(number)) => number.to_string(),
            _ => "without a key".to_owned(),
        };
        JournalError::Corrupt {
            path: self.path.to_owned(),
            table: self.table,
            key: self.key.iter().map(part).collect::<Vec<String>>().join(" "),
            column,
            what: one_line(&what.to_string()),
        }
    }
}
