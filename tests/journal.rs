//! The journal on real files: what it promises, what it refuses, what a kill leaves, how fast it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/journal_suite.rs"]
mod journal_suite;
#[path = "journal/taken.rs"]
mod taken;

use std::collections::BTreeSet;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use journal_suite::{JournalUnderTest, finished, full_row, id, name, pause, row, transfer};
use synkler::drivers::journal::{Journal, JournalError, Owner, Past, QUEUE_LIMIT, Sought};
use synkler::machine::{GroupPause, Mode, Node, Question, Record, Restored, Row, Time};
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn owner() -> Owner {
    Owner { group: "default".parse().unwrap(), node: Node::new(Mode::Central, "hub".parse().unwrap()) }
}

/// The suite's: only an upload remembers what its scripts may have left.
fn an_upload() -> Owner {
    Owner { node: Node::new(Mode::Upload, "hub".parse().unwrap()), ..owner() }
}

fn open(dir: &Path) -> (Journal, Restored) {
    Journal::open(dir, &owner()).unwrap()
}

fn refusal(dir: &Path) -> JournalError {
    Journal::open(dir, &owner()).map(|_| ()).unwrap_err()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What Debian's `sqlite3` program says.
fn sqlite3(dir: &Path, sql: &str) -> String {
    let out = Command::new("sqlite3").arg(dir.join("journal.db")).arg(sql).output().unwrap();
    assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

fn wal_bytes(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("journal.db-wal")).unwrap()
}

struct RealJournal {
    runtime: Runtime,
    dir: TempDir,
    journal: Option<Journal>,
}

impl RealJournal {
    fn journal(&self) -> &Journal {
        self.journal.as_ref().unwrap()
    }
}

impl JournalUnderTest for RealJournal {
    fn commit(&mut self, records: Vec<Record>) {
        self.runtime.block_on(self.journal().commit(records)).unwrap();
    }

    fn look_up(&mut self, question: Question) -> Option<Box<Row>> {
        self.runtime.block_on(self.journal().look_up(question)).unwrap()
    }

    fn restart(&mut self) -> Restored {
        self.journal = None;
        let (journal, restored) = Journal::open(self.dir.path(), &an_upload()).unwrap();
        self.journal = Some(journal);
        restored
    }
}

#[test]
fn it_does_what_every_journal_does() {
    journal_suite::check(|| {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), &an_upload()).unwrap();
        RealJournal { runtime: runtime(), dir, journal: Some(journal) }
    });
}

#[test]
fn a_new_one_is_for_its_user_alone() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("state/synkler/default-central");
    let (_journal, restored) = open(&dir);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for part in ["state", "state/synkler", "state/synkler/default-central"] {
        assert_eq!(mode(&base.path().join(part)), 0o700, "{part}");
    }
    for file in ["journal.db", "journal.db-wal", "lock"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
    let (_other, elsewhere) = open(&base.path().join("other"));
    assert_ne!(restored.journal, elsewhere.journal);
    assert_eq!(restored.next_place, 1);
}

#[test]
fn people_can_read_it_while_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, restored) = open(dir.path());
    let row = Row { name: synkler::machine::ItemName::new(b"a\x1b[31m\xff b").unwrap(), ..full_row(1) };
    runtime().block_on(journal.commit(vec![transfer(&row)])).unwrap();
    let line = sqlite3(
        dir.path(),
        "SELECT shown, hex(name), kind, reason, place, signature, receivers, finished IS NULL FROM transfers",
    );
    assert_eq!(
        line,
        "a\\u{1b}[31m\\xff b|611B5B33316DFF2062|directory|space|000000ab-12|fefefefefefefefefefefefefefefefe\
         |[[\"archive-2\",null],[\"archive-1\",1700000009000]]|1"
    );
    assert_eq!(sqlite3(dir.path(), "SELECT journal, group_id, mode, name FROM meta"), {
        format!("{}|default|central|hub", restored.journal)
    });
    assert_eq!(sqlite3(dir.path(), "PRAGMA integrity_check; PRAGMA journal_mode"), "ok\nwal");
}

#[test]
fn a_second_daemon_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let error = refusal(dir.path());
    assert!(matches!(error, JournalError::Locked { holder: Some(pid), .. } if pid == std::process::id()));
    let text = error.to_string();
    assert!(text.contains(&format!("in use by another synkler (pid {})", std::process::id())), "{text}");
    std::fs::write(dir.path().join("lock"), "no number").unwrap();
    assert!(matches!(refusal(dir.path()), JournalError::Locked { holder: None, .. }));
    drop(journal);
    open(dir.path());
}

#[test]
fn what_a_killed_daemon_leaves_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let path = dir.path().join("lock");
    std::fs::write(&path, format!("{}\n", dead.id())).unwrap();
    let left = std::fs::File::open(&path).unwrap();
    left.lock().unwrap();
    let (opened, result) = std::sync::mpsc::channel();
    let state_dir = dir.path().to_owned();
    let opener = std::thread::spawn(move || {
        let journal = open(&state_dir);
        opened.send(()).unwrap();
        drop(journal);
    });
    assert!(result.recv_timeout(Duration::from_millis(200)).is_err(), "it has not waited");
    drop(left);
    result.recv_timeout(Duration::from_secs(20)).unwrap();
    opener.join().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));

    // What stays is another daemon, though its process cannot be seen from here.
    std::fs::write(&path, format!("{}\n", dead.id())).unwrap();
    let left = std::fs::File::open(&path).unwrap();
    left.lock().unwrap();
    assert!(matches!(refusal(dir.path()), JournalError::Locked { holder: Some(pid), .. } if pid == dead.id()));
}

#[test]
fn it_serves_one_identity() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let node = |mode, name: &str| Node::new(mode, name.parse().unwrap());
    for other in [
        Owner { group: "photos".parse().unwrap(), ..owner() },
        Owner { node: node(Mode::Upload, "hub"), ..owner() },
        Owner { node: node(Mode::Central, "hub2"), ..owner() },
    ] {
        let error = Journal::open(dir.path(), &other).map(|_| ()).unwrap_err();
        assert!(matches!(error, JournalError::Foreign { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("belongs to central hub of group default"), "{text}");
        assert!(text.contains(&format!("this node is {other}:")), "{text}");
    }
    open(dir.path());
}

#[test]
fn what_it_does_not_understand_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let newest: i64 = sqlite3(dir.path(), "PRAGMA user_version").parse().unwrap();
    sqlite3(dir.path(), &format!("PRAGMA user_version = {}", newest + 1));
    let before = std::fs::read(dir.path().join("journal.db")).unwrap();
    let error = refusal(dir.path());
    assert!(
        matches!(error, JournalError::Newer { found, known, .. } if (found, known) == (newest + 1, newest)),
        "{error:?}"
    );
    assert_eq!(std::fs::read(dir.path().join("journal.db")).unwrap(), before);

    sqlite3(dir.path(), "PRAGMA user_version = 0");
    let error = refusal(dir.path());
    assert!(matches!(&error, JournalError::Damaged { what, .. } if what.contains("none of synkler's")), "{error:?}");
    sqlite3(dir.path(), "PRAGMA user_version = -3");
    assert!(matches!(refusal(dir.path()), JournalError::Damaged { .. }));
}

#[test]
fn a_damaged_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let text = "this is a shopping list\n".repeat(400);
    std::fs::write(&path, &text).unwrap();
    let error = refusal(dir.path());
    assert!(
        matches!(&error, JournalError::Damaged { what, .. } if what.contains("file is not a database")),
        "{error:?}"
    );
    assert!(error.to_string().starts_with(path.to_str().unwrap()));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    std::fs::remove_file(&path).unwrap();

    let (journal, _) = open(dir.path());
    let rows = (0..500).map(|number| transfer(&full_row(number))).collect();
    runtime().block_on(journal.commit(rows)).unwrap();
    drop(journal);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, JournalError::Damaged { .. }), "{error:?}");
}

#[test]
fn every_value_is_looked_at_before_it_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let run = runtime();
    let known = synkler::machine::KnownNode {
        node: Node::new(Mode::Upload, "box".parse().unwrap()),
        journal: synkler::machine::JournalId(1),
        started: Time::default(),
        slots: 1,
        version: String::new(),
        host: String::new(),
        spool: Some(synkler::machine::Location::new("hub", "/srv").unwrap()),
        first_heard: Time::default(),
        last_heard: Time::default(),
    };
    let kept = synkler::machine::Kept {
        name: name("left"),
        signature: synkler::machine::Signature([1; 16]),
        fingerprint: row(1).fingerprint,
        left: None,
        mounts: synkler::machine::Mounts::default(),
    };
    run.block_on(journal.commit(vec![
        transfer(&full_row(1)),
        Record::Node(known),
        Record::Kept(kept),
        Record::Paused(Some(pause(1))),
        Record::Group(GroupPause { changed: Time::from_millis(1), pause: Some(pause(1)), stop: false }),
    ]))
    .unwrap();
    drop(journal);
    let sound = std::fs::read(dir.path().join("journal.db")).unwrap();
    let key = id(1).to_string();
    for (table, key, column, value) in [
        ("transfers", "nonsense", "id", "'nonsense'"),
        ("transfers", &key, "name", "x'2e2e'"),
        ("transfers", &key, "name", "x'612f2f62'"),
        ("transfers", &key, "upload", "'../x'"),
        ("transfers", &key, "kind", "'fifo'"),
        ("transfers", &key, "digest", "'D41D'"),
        ("transfers", &key, "stage", "CAST(x'ff' AS TEXT)"),
        ("transfers", &key, "reason", "'moon phase'"),
        ("transfers", &key, "attempts", "4294967296"),
        ("transfers", &key, "attempts", "-1"),
        ("transfers", &key, "central", "''"),
        ("transfers", &key, "place", "'000000ab'"),
        ("transfers", &key, "location_host", "'-oProxyCommand=x'"),
        ("transfers", &key, "location_path", "NULL"),
        ("transfers", &key, "signature", "'0'"),
        ("transfers", &key, "receivers", "'[[\"a\"'"),
        ("transfers", &key, "receivers", "'[[\"a b\", null]]'"),
        ("transfers", &key, "receivers", "'[[\"a\", -1]]'"),
        ("transfers", &key, "acknowledged", "2"),
        ("transfers", &key, "cleaned", "-1"),
        ("nodes", "upload box", "journal", "'1'"),
        ("nodes", "uploader box", "mode", "'uploader'"),
        ("nodes", "upload box", "slots", "5000000000"),
        ("kept", "left", "signature", "'1'"),
        ("kept", "left", "digest", "'1'"),
        ("kept", ".", "name", "x'2e'"),
        ("meta", "1", "journal", "'xyz'"),
        ("meta", "1", "mode", "'up'"),
        ("meta", "1", "group_id", "'a b'"),
        ("meta", "1", "paused_on", "'nowhere'"),
        ("meta", "1", "group_on", "NULL"),
        ("meta", "1", "group_stop", "3"),
        ("transfers", &key, "paused_on", "'upload a b'"),
        ("nodes", "upload box", "spool_path", "NULL"),
        ("nodes", "upload box", "spool_host", "'-oProxyCommand=x'"),
    ] {
        std::fs::write(dir.path().join("journal.db"), &sound).unwrap();
        sqlite3(dir.path(), &format!("UPDATE {table} SET {column} = {value}"));
        let error = refusal(dir.path());
        let JournalError::Corrupt { .. } = &error else { panic!("{column} = {value}: {error:?}") };
        let text = error.to_string();
        assert!(text.contains(&format!("table {table}, row {key}, column ")), "{text}");
        assert!(text.contains(column), "{text}");
    }
    // A finished row is not looked at before it is asked for, and spoils nothing else.
    std::fs::write(dir.path().join("journal.db"), &sound).unwrap();
    sqlite3(dir.path(), "UPDATE transfers SET finished = 5, kind = 'fifo'");
    let (journal, _) = open(dir.path());
    let error = run.block_on(journal.look_up(Question::Transfer(id(1)))).unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { column: "kind", .. }), "{error:?}");
    run.block_on(journal.commit(vec![transfer(&row(2))])).unwrap();
}

#[test]
fn places_where_it_cannot_be_are_named() {
    let base = tempfile::tempdir().unwrap();
    std::fs::write(base.path().join("file"), "").unwrap();
    let below_a_file = base.path().join("file/state");
    let error = refusal(&below_a_file);
    assert!(matches!(error, JournalError::Create { .. }), "{error:?}");
    assert!(error.to_string().contains(below_a_file.to_str().unwrap()));
    assert!(error.source().unwrap().to_string().contains("Not a directory"));

    // Not even root can make files here.
    let error = refusal(Path::new("/sys/kernel"));
    assert!(matches!(error, JournalError::NotWritable { .. }), "{error:?}");
    assert!(error.to_string().contains("/sys/kernel/lock"));
    assert!(error.source().is_some());
}

/// Runs this test again as a process of its own, with `dir` to tell it so; `before` are the words of a
/// program that starts it.
fn again(test: &str, dir: &Path, before: &[&str]) -> Command {
    let mut words = before.iter().copied().map(PathBuf::from).collect::<Vec<_>>();
    words.push(std::env::current_exe().unwrap());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["--exact", test, "--nocapture", "--test-threads=1"]).env("JOURNAL_CHILD", dir);
    command
}

fn child_dir() -> Option<PathBuf> {
    std::env::var_os("JOURNAL_CHILD").map(PathBuf::from)
}

#[test]
fn a_full_disk_fails_the_commit_and_loses_nothing() {
    let Some(dir) = child_dir() else {
        // A file system of eight megabytes, which only the child sees.
        let dir = tempfile::tempdir().unwrap();
        let mount = "mount -t tmpfs -o size=8m none \"$JOURNAL_CHILD\" && exec \"$@\"";
        let test = "a_full_disk_fails_the_commit_and_loses_nothing";
        let out = again(test, dir.path(), &["unshare", "-rm", "sh", "-c", mount, "sh"]).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && text.contains("the disk was full"), "{text}");
        return;
    };
    let run = runtime();
    let (journal, _) = open(&dir);
    let mut number = 0;
    let error = loop {
        number += 1;
        match run.block_on(journal.commit(vec![transfer(&row(number))])) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, JournalError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("no space left on its file system"), "{error}");
    assert_eq!(run.block_on(journal.look_up(Question::Transfer(id(number)))).unwrap(), None);
    drop(journal);
    let (_journal, restored) = open(&dir);
    assert!(number > 500);
    assert_eq!(u64::try_from(restored.rows.len()).unwrap(), number - 1);
    println!("the disk was full");
}

#[test]
fn what_was_answered_survives_a_kill() {
    if let Some(dir) = child_dir() {
        return commit_for_ever(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut answered = BTreeSet::new();
    for stop_after in [1, 37, 300, 900, 2500] {
        let mut child = again("what_was_answered_survives_a_kill", dir.path(), &[]);
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut heard = 0;
        for line in lines.by_ref() {
            answered.extend(line.strip_prefix("committed ").map(str::to_owned));
            heard += usize::from(line.starts_with("committed "));
            if heard == stop_after {
                break;
            }
        }
        assert_eq!(heard, stop_after);
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still said before it died counts as well; a torn last line does not.
        answered.extend(lines.filter_map(|line| line.strip_prefix("committed ").map(str::to_owned)));
        answered.retain(|id| id.len() == 36);

        assert_eq!(sqlite3(dir.path(), "PRAGMA integrity_check"), "ok");
        let (_journal, restored) = open(dir.path());
        let found: BTreeSet<_> = restored.rows.iter().map(|row| row.transfer.to_string()).collect();
        let lost: Vec<_> = answered.difference(&found).collect();
        assert!(lost.is_empty(), "lost after {stop_after}: {lost:?}");
    }
    assert!(answered.len() >= 3738);
}

/// Eight callers commit rows and say so, until someone kills the process.
fn commit_for_ever(dir: &Path) {
    let (journal, restored) = open(dir);
    let journal = Arc::new(journal);
    let first = u64::try_from(restored.rows.len()).unwrap();
    runtime().block_on(async {
        let callers = (0..8).map(|caller| {
            let journal = journal.clone();
            tokio::spawn(async move {
                for number in (first + caller..).step_by(8) {
                    journal.commit(vec![transfer(&full_row(number))]).await.unwrap();
                    println!("committed {}", id(number));
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    });
}

/// How many transactions the WAL file holds: each ends with a frame that tells the database's new size.
fn transactions(dir: &Path) -> usize {
    let wal = wal_bytes(dir);
    let salt = &wal[16..24];
    wal[32..].chunks_exact(24 + 4096).filter(|frame| frame[8..16] == *salt && frame[4..8] != [0; 4]).count()
}

#[test]
fn commits_that_wait_together_share_one_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let before = transactions(dir.path());
    // While someone else writes, the first commit waits in SQLite and the others in the queue.
    let other = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let journal = Arc::new(journal);
    let callers = u64::try_from(QUEUE_LIMIT).unwrap() * 3;
    runtime().block_on(async {
        let commit = |number| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.commit(vec![transfer(&row(number))]).await })
        };
        let pending: Vec<_> = (0..callers).map(commit).collect();
        tokio::task::yield_now().await;
        other.execute_batch("COMMIT").unwrap();
        for commit in pending {
            commit.await.unwrap().unwrap();
        }
    });
    let made = transactions(dir.path()) - before;
    assert!((1..=20).contains(&made), "{callers} commits made {made} transactions");
    drop(journal);
    assert_eq!(u64::try_from(open(dir.path()).1.rows.len()).unwrap(), callers);
}

#[test]
fn history_is_newest_first_and_pruned_in_steps() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    runtime().block_on(async {
        let over = |number: u64| transfer(&finished(full_row(number), 1000 + number));
        journal.commit((0..10).map(over).chain([transfer(&row(50))]).collect()).await.unwrap();
        let ids = |rows: Vec<Row>| rows.into_iter().map(|row| row.transfer).collect::<Vec<_>>();
        assert_eq!(ids(journal.history(Past { limit: 3, ..Past::default() }).await.unwrap().0), [id(9), id(8), id(7)]);
        let before = Time::from_millis(1005);
        assert_eq!(journal.prune(before, 3).await.unwrap(), 3);
        assert_eq!(journal.look_up(Question::Transfer(id(2))).await.unwrap(), None);
        assert_eq!(journal.prune(before, 3).await.unwrap(), 2);
        assert_eq!(journal.prune(before, 3).await.unwrap(), 0);
        let left = ids(journal.history(Past { limit: u32::MAX, ..Past::default() }).await.unwrap().0);
        assert_eq!(left, [id(9), id(8), id(7), id(6), id(5)]);
        assert!(journal.look_up(Question::Transfer(id(50))).await.unwrap().is_some());
    });
}

#[test]
fn history_is_asked_by_time_and_name_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    runtime().block_on(async {
        // Many are over at one moment, and every third has another name.
        let over = |number: u64| {
            let text = if number.is_multiple_of(3) { "every third\n" } else { "the others" };
            transfer(&finished(Row { name: name(text), ..full_row(number) }, 1000 + number / 4))
        };
        journal.commit((0..20).map(over).collect()).await.unwrap();
        let ask = async |past: Past| {
            let (rows, more) = journal.history(past).await.unwrap();
            (rows.into_iter().map(|row| row.transfer).collect::<Vec<_>>(), more)
        };
        let ids = |numbers: &[u64]| numbers.iter().map(|number| id(*number)).collect::<Vec<_>>();
        let since = Some(Time::from_millis(1003));
        assert_eq!(
            ask(Past { since, limit: 50, ..Past::default() }).await,
            (ids(&[19, 18, 17, 16, 15, 14, 13, 12]), false)
        );
        let third = Some(name("every third\n"));
        assert_eq!(ask(Past { name: third.clone(), limit: 3, ..Past::default() }).await, (ids(&[18, 15, 12]), true));
        let before = Some(Time::from_millis(1003));
        assert_eq!(ask(Past { name: third, before, limit: 4, ..Past::default() }).await, (ids(&[9, 6, 3, 0]), false));
        let mut page = Past { limit: 3, ..Past::default() };
        let mut all = Vec::new();
        loop {
            let (rows, more) = journal.history(page.clone()).await.unwrap();
            all.extend(rows.iter().map(|row| row.transfer));
            let last = rows.last().unwrap();
            page = Past { before: last.finished, behind: Some(last.transfer), ..page };
            if !more {
                break;
            }
        }
        assert_eq!(all, (0..20).rev().map(id).collect::<Vec<_>>());
    });
}

#[test]
fn what_is_over_is_found_by_name_id_or_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    runtime().block_on(async {
        let over = |number: u64, text: &[u8]| {
            let name = synkler::machine::ItemName::new(text).unwrap();
            transfer(&finished(Row { name, ..full_row(number) }, 1000 + number))
        };
        let past = [(1, &b"report"[..]), (2, b"report"), (3, b"results 1"), (4, b"results 2"), (5, b"caf\xe9")];
        journal.commit(past.iter().map(|(number, text)| over(*number, text)).collect()).await.unwrap();
        journal.commit(vec![transfer(&Row { name: name("recent"), ..row(60) })]).await.unwrap();
        let find = async |text: &str| match journal.find(text.to_owned()).await.unwrap() {
            Sought::One(row) => Ok(row.transfer),
            Sought::Nothing => Err(Vec::new()),
            Sought::Several(matches) => Err(matches),
        };
        assert_eq!(find("report").await, Ok(id(2)), "the last one of its name");
        assert_eq!(find("caf\\xe9").await, Ok(id(5)), "as shown");
        assert_eq!(find("caf%E9").await, Ok(id(5)), "as encoded");
        assert_eq!(find("ca").await, Ok(id(5)));
        assert_eq!(find("rep").await, Ok(id(2)));
        assert_eq!(find("res").await, Err(vec!["results 1".to_owned(), "results 2".to_owned()]));
        assert_eq!(find(&id(3).to_string()).await, Ok(id(3)));
        assert_eq!(find("recent").await, Err(Vec::new()), "it is not over");
        assert_eq!(find("").await, Err(Vec::new()));
        let beginning: String = id(1).to_string().chars().take(11).collect();
        assert!(find(&beginning).await.is_err_and(|matches| matches.len() == 5), "{beginning}");
    });
}

#[test]
fn manifests_stay_as_long_as_their_transfers() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    runtime().block_on(async {
        let text: Arc<str> = "d 0755 - - .\n".repeat(100_000).into();
        let records = vec![
            transfer(&finished(full_row(1), 1000)),
            Record::Manifest(id(1), "old".into()),
            Record::Manifest(id(1), Arc::clone(&text)),
            transfer(&row(2)),
            Record::Manifest(id(2), "new".into()),
        ];
        journal.commit(records).await.unwrap();
        assert_eq!(journal.manifest(id(1)).await.unwrap().as_deref(), Some(&*text));
        assert_eq!(journal.manifest(id(3)).await.unwrap(), None);
        assert_eq!(journal.prune(Time::from_millis(5000), 10).await.unwrap(), 1);
        assert_eq!(journal.manifest(id(1)).await.unwrap(), None);
        assert_eq!(journal.manifest(id(2)).await.unwrap().as_deref(), Some("new"));
    });
}

/// A journal of the first version comes along, with its pause.
#[test]
fn a_journal_of_the_first_version_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let old = include_str!("../src/drivers/journal/schema_1.sql");
    let fill = "INSERT INTO meta VALUES (1, '00c0ffee', 'default', 'central', 'hub', 7, 1); \
         INSERT INTO nodes VALUES ('upload', 'alpha', '00000001', 1, 2, '0.1', 3, 4);";
    sqlite3(dir.path(), &format!("PRAGMA user_version = 1;\n{old}{fill}"));
    let (_journal, restored) = open(dir.path());
    assert_eq!(restored.next_place, 7);
    let pause = restored.paused.expect("it was paused");
    assert_eq!((&*pause.by, pause.node.to_string()), ("unknown", "central hub".to_owned()));
    assert_eq!(restored.group, GroupPause::default());
    let [known] = restored.nodes.as_slice() else { panic!("{:?}", restored.nodes) };
    assert_eq!((known.host.as_str(), &known.spool, known.slots), ("", &None, 2));
}

#[test]
fn dropping_it_finishes_what_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    runtime().block_on(async {
        // The caller gives up as soon as the commit is queued.
        let mut commit = pin!(journal.commit(vec![transfer(&row(1))]));
        poll_fn(|context| {
            let _ = commit.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
    });
    drop(journal);
    assert_eq!(open(dir.path()).1.rows, [row(1)]);
}

/// The resident set, in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn it_is_fast_small_and_bounded() {
    let Some(dir) = child_dir() else {
        let dir = tempfile::tempdir().unwrap();
        let out = again("it_is_fast_small_and_bounded", dir.path(), &[]).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && text.contains("rows/s"), "{text}");
        return print!("{text}");
    };
    let run = runtime();
    let (journal, _) = open(&dir);
    let before = resident();

    let mut waits: Vec<Duration> = (0..500)
        .map(|number| {
            let start = Instant::now();
            run.block_on(journal.commit(vec![transfer(&full_row(number))])).unwrap();
            start.elapsed()
        })
        .collect();
    waits.sort();
    println!("one durable commit: p50 {:?}, p99 {:?}", waits[250], waits[495]);

    let batches = |of: &dyn Fn(u64) -> Row, first: u64, last: u64| {
        let start = Instant::now();
        for batch in (first..last).step_by(100) {
            run.block_on(journal.commit((batch..batch + 100).map(|number| transfer(&of(number))).collect())).unwrap();
        }
        start.elapsed()
    };
    let over = |number| finished(full_row(number), 2_000_000_000_000 + number);
    let took = batches(&full_row, 0, 20_000) + batches(&full_row, 0, 20_000);
    println!("40,000 row upserts in batches of 100: {:.0} rows/s", 40_000.0 / took.as_secs_f64());
    batches(&over, 20_000, 70_000);
    println!("resident: {before} kB before, {} kB after", resident());
    assert!(resident() < before + 10_000);
    assert!(wal_bytes(&dir).len() <= 9 << 20, "{}", wal_bytes(&dir).len());
    drop(journal);

    let size = std::fs::metadata(dir.join("journal.db")).unwrap().len();
    let start = Instant::now();
    let (journal, restored) = open(&dir);
    let took = start.elapsed();
    println!("opened with 20,000 open and 50,000 finished rows ({} MB): {took:?}", size >> 20);
    assert_eq!(restored.rows.len(), 20_000);
    let start = Instant::now();
    let found = run.block_on(journal.look_up(Question::Name { name: name("item 66000"), transfer: id(0) }));
    println!("a name looked up: {:?}", start.elapsed());
    assert_eq!(found.unwrap().map(|row| row.transfer), Some(id(66_000)));
    // Far above what an idle machine needs, far below what a scan or a lost group commit would take.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(waits[250] < Duration::from_millis(50), "{:?}", waits[250]);
}
