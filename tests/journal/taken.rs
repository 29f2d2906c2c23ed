//! A journal whose files are removed or replaced while it is open: no commit counts from then on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use synkler::drivers::journal::{Change, Journal, JournalError, inspect};

use super::journal_suite::{row, transfer};
use super::{open, runtime, sqlite3};

fn commit(journal: &Journal, number: u64) -> Result<(), JournalError> {
    runtime().block_on(journal.commit(vec![transfer(&row(number))]))
}

/// What even a commit of nothing says.
fn look(journal: &Journal) -> Result<(), JournalError> {
    runtime().block_on(journal.commit(Vec::new()))
}

fn rows(dir: &Path) -> usize {
    open(dir).1.rows.len()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Takes the journal away in one way, and tells what that is of the database.
type Taking = fn(&Path, &Path) -> Change;

const TAKINGS: [(&str, Taking); 6] = [
    ("directory removed", |state, _| {
        fs::remove_dir_all(state).unwrap();
        Change::Removed
    }),
    ("directory moved away", |state, aside| {
        fs::rename(state, aside).unwrap();
        Change::Removed
    }),
    ("directory replaced by an empty one", |state, aside| {
        fs::rename(state, aside).unwrap();
        fs::create_dir(state).unwrap();
        Change::Removed
    }),
    ("file removed", |state, _| {
        fs::remove_file(state.join("journal.db")).unwrap();
        Change::Removed
    }),
    ("file replaced by a copy", |state, _| {
        fs::copy(state.join("journal.db"), state.join("copy")).unwrap();
        fs::rename(state.join("copy"), state.join("journal.db")).unwrap();
        Change::Replaced
    }),
    ("directory replaced by a copy", |state, aside| {
        fs::rename(state, aside).unwrap();
        fs::create_dir(state).unwrap();
        for name in names(aside) {
            fs::copy(aside.join(&name), state.join(&name)).unwrap();
        }
        Change::Replaced
    }),
];

#[test]
fn no_commit_counts_once_it_is_taken_away() {
    for (way, take) in TAKINGS {
        for look_first in [false, true] {
            let base = tempfile::tempdir().unwrap();
            let (state, aside) = (base.path().join("state"), base.path().join("aside"));
            let (journal, _) = open(&state);
            commit(&journal, 1).unwrap();
            look(&journal).unwrap();
            let change = take(&state, &aside);
            let error = if look_first { look(&journal) } else { commit(&journal, 2) }.unwrap_err();
            assert!(error.is_lasting(), "{way}: {error:?}");
            let path = state.join("journal.db");
            let JournalError::Taken { path: named, change: found } = &error else { panic!("{way}: {error:?}") };
            assert_eq!((named, *found), (&path, change), "{way}");
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("{} was ", path.display())) && text.contains("put state_dir back"),
                "{text}"
            );
            // Nothing makes it good by itself, and the end of this one touches nothing of what stands there now.
            look(&journal).unwrap_err();
            let before = state.exists().then(|| names(&state));
            drop(journal);
            assert_eq!(state.exists().then(|| names(&state)), before, "{way}");
        }
    }
}

#[test]
fn what_was_committed_is_there_when_it_is_put_back() {
    let base = tempfile::tempdir().unwrap();
    let (state, aside) = (base.path().join("state"), base.path().join("aside"));
    let (journal, _) = open(&state);
    commit(&journal, 1).unwrap();
    fs::rename(&state, &aside).unwrap();
    // Another one begins there, and goes on beside the end of the first.
    let (other, restored) = open(&state);
    assert!(restored.rows.is_empty());
    for number in 11..14 {
        commit(&other, number).unwrap();
    }
    look(&journal).unwrap_err();
    drop(journal);
    commit(&other, 14).unwrap();
    assert_eq!(sqlite3(&state, "SELECT count(*) FROM transfers"), "4", "others see what it has committed");
    drop(other);
    assert_eq!(rows(&state), 4);
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&aside, &state).unwrap();
    assert_eq!(rows(&state), 1);
}

#[test]
fn the_way_to_it_may_lead_over_a_link_that_stays() {
    let base = tempfile::tempdir().unwrap();
    let (link, first, second) = (base.path().join("state"), base.path().join("first"), base.path().join("second"));
    for dir in [&first, &second] {
        fs::create_dir(dir).unwrap();
    }
    symlink(&first, &link).unwrap();
    let (journal, _) = open(&link);
    commit(&journal, 1).unwrap();
    // The same directory by another name is the same journal.
    fs::rename(&first, base.path().join("moved")).unwrap();
    fs::remove_file(&link).unwrap();
    symlink("moved", &link).unwrap();
    commit(&journal, 2).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(&second, &link).unwrap();
    assert!(matches!(commit(&journal, 3), Err(JournalError::Taken { change: Change::Removed, .. })));
    drop(journal);
    assert!(names(&second).is_empty());
    assert!(rows(&base.path().join("moved")) >= 2);
}

#[test]
fn a_file_beside_it_that_is_gone_ends_it_and_loses_nothing() {
    for name in ["journal.db-wal", "journal.db-shm", "lock"] {
        for replaced in [false, true] {
            let base = tempfile::tempdir().unwrap();
            let path = base.path().join(name);
            let (journal, _) = open(base.path());
            for number in 1..=50 {
                commit(&journal, number).unwrap();
            }
            fs::remove_file(&path).unwrap();
            if replaced {
                fs::write(&path, "something else").unwrap();
            }
            let error = commit(&journal, 51).unwrap_err();
            let JournalError::Beside { path: named, .. } = &error else { panic!("{name}: {error:?}") };
            assert_eq!(named, &path);
            assert!(!error.is_lasting(), "the next start does it: {error:?}");
            // Even a crash right then loses nothing that was committed.
            let copy = tempfile::tempdir().unwrap();
            fs::copy(base.path().join("journal.db"), copy.path().join("journal.db")).unwrap();
            assert!(rows(copy.path()) >= 50, "{name}");
            drop(journal);
            assert!(rows(base.path()) >= 50, "{name}");
            assert_eq!(sqlite3(base.path(), "PRAGMA integrity_check"), "ok", "{name}");
        }
    }
}

#[test]
fn what_other_programs_do_with_it_is_no_news() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    for (number, sql) in (1..).zip([
        "SELECT count(*) FROM transfers",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "DELETE FROM transfers",
        "VACUUM",
        "PRAGMA integrity_check",
    ]) {
        commit(&journal, number).unwrap();
        sqlite3(dir.path(), sql);
        look(&journal).unwrap();
    }
    inspect(dir.path(), &super::owner()).unwrap();
    commit(&journal, 9).unwrap();
}
