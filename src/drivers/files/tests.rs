use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, mkfifoat, openat};

use super::testing::{as_nobody, name, place, transfer, tree, with_mount};
use super::*;
use crate::drivers::clock::Clock;
use crate::machine::Digest;

fn spool() -> (tempfile::TempDir, Spool) {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path().to_owned(), "g".parse().unwrap());
    spool.prepare().unwrap();
    (dir, spool)
}

fn digest(outcome: &CopyOutcome) -> Digest {
    match outcome {
        CopyOutcome::Found { fingerprint, .. } => fingerprint.digest,
        other => panic!("{other:?}"),
    }
}

fn arrive(spool: &Spool, number: u64, content: &str) -> PathBuf {
    let dir = spool.in_dir(place(number));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("item"), content).unwrap();
    dir
}

#[test]
fn directories_are_private_unless_made_beforehand() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("g/in")).unwrap();
    fs::set_permissions(dir.path().join("g/in"), fs::Permissions::from_mode(0o2770)).unwrap();
    let spool = Spool::new(dir.path().to_owned(), "g".parse().unwrap());
    spool.prepare().unwrap();
    spool.prepare().unwrap();
    let found = tree(dir.path());
    assert_eq!((found["g/in"].as_str(), found["g/held"].as_str()), ("2770", "0700"));
    let staging = Staging::new(dir.path().to_owned(), "g".parse().unwrap());
    staging.prepare().unwrap();
    assert_eq!(tree(dir.path())[".synkler/g"], "0700");
    assert_eq!(staging.staging_dir(), dir.path().join(".synkler/g"));
}

#[test]
fn a_spool_that_is_no_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Spool::new(dir.path().join("none"), "g".parse().unwrap()).prepare().unwrap_err();
    assert!(missing.to_string().ends_with("/none: create it, or change file_dir"), "{missing}");
    // A link in place of the spool could lead anywhere.
    symlink("/tmp", dir.path().join("g")).unwrap();
    let error = Spool::new(dir.path().to_owned(), "g".parse().unwrap()).prepare().unwrap_err();
    assert!(error.to_string().contains("must be directories"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("/g: "));
}

#[test]
fn the_newer_arrival_counts() {
    let (_dir, spool) = spool();
    let item = name("item");
    let take = |number| spool.take(transfer(1), number, &item, Kind::File, &Attributes::default());
    assert_eq!(take(None), CopyOutcome::Missing);
    assert_eq!(take(Some(place(1))), CopyOutcome::Missing);
    arrive(&spool, 1, "bad");
    let bad = digest(&take(Some(place(1))));
    arrive(&spool, 2, "good");
    let good = digest(&take(Some(place(2))));
    assert_ne!(good, bad);
    // Done already, or only examined.
    assert_eq!(digest(&take(Some(place(2)))), good);
    assert_eq!(digest(&take(None)), good);
    spool.discard(transfer(1)).unwrap();
    spool.discard(transfer(1)).unwrap();
    assert_eq!(take(None), CopyOutcome::Missing);
    spool.discard_place(place(1)).unwrap();
    spool.discard_place(place(1)).unwrap();
    assert!(!spool.in_dir(place(1)).exists() && spool.in_dir(place(2)).exists());
}

#[test]
fn nothing_that_is_sent_can_make_us_hang_or_leave_the_spool() {
    let (dir, spool) = spool();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("item"), "precious").unwrap();
    let item = name("item");
    let take = |number, kind| spool.take(transfer(9), Some(place(number)), &item, kind, &Attributes::default());
    // The place itself is a link.
    symlink(&outside, spool.in_dir(place(1))).unwrap();
    assert_eq!(take(1, Kind::File), CopyOutcome::Missing);
    // A link, a fifo or a directory instead of the file.
    fs::create_dir(spool.in_dir(place(2))).unwrap();
    symlink(outside.join("item"), spool.in_dir(place(2)).join("item")).unwrap();
    assert_eq!(take(2, Kind::File), CopyOutcome::Missing);
    fs::create_dir(spool.in_dir(place(3))).unwrap();
    mkfifoat(CWD, spool.in_dir(place(3)).join("item"), Mode::RWXU).unwrap();
    assert_eq!(take(3, Kind::File), CopyOutcome::Missing);
    fs::create_dir_all(spool.in_dir(place(4)).join("item")).unwrap();
    assert_eq!(take(4, Kind::File), CopyOutcome::Missing);
    // A fifo and a link deep inside.
    let sub = spool.in_dir(place(5)).join("item/sub");
    fs::create_dir_all(&sub).unwrap();
    symlink(&outside, sub.join("link")).unwrap();
    let clean = digest(&take(5, Kind::Directory));
    mkfifoat(CWD, spool.held_dir().join(format!("{}/item/sub/pipe", transfer(9))), Mode::RWXU).unwrap();
    let with_pipe = digest(&spool.take(transfer(9), None, &item, Kind::Directory, &Attributes::default()));
    assert_ne!(with_pipe, clean);
    // No link is followed during the removal.
    for number in 1..=5 {
        spool.discard_place(place(number)).unwrap();
    }
    spool.discard(transfer(9)).unwrap();
    assert_eq!(fs::read_to_string(outside.join("item")).unwrap(), "precious");
    let left = tree(&dir.path().join("g"));
    assert_eq!(left.keys().collect::<Vec<_>>(), ["held", "in"]);
}

#[test]
fn trees_of_any_depth_are_removed() {
    let (_dir, spool) = spool();
    let top = spool.in_dir(place(1));
    fs::create_dir_all(top.join("item")).unwrap();
    fs::write(top.join("item/.synkler-1"), "in the way").unwrap();
    let mut at = openat(CWD, top.join("item"), OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..1_800 {
        for sub in ["d", "e"] {
            mkdirat(&at, sub, Mode::RWXU).unwrap();
        }
        at = openat(&at, "d", OFlags::PATH, Mode::empty()).unwrap();
    }
    let outcome = spool.take(transfer(1), Some(place(1)), &name("item"), Kind::Directory, &Attributes::default());
    assert!(matches!(outcome, CopyOutcome::Failed(_)), "{outcome:?}");
    spool.discard(transfer(1)).unwrap();
    assert!(tree(&spool.held_dir()).is_empty());
}

#[test]
fn directories_that_their_owner_may_not_write_are_taken_and_removed() {
    as_nobody("drivers::files::tests::directories_that_their_owner_may_not_write_are_taken_and_removed", || {
        let (_dir, spool) = spool();
        for (number, mode) in [(1, 0o555), (2, 0o500), (3, 0o755)] {
            let item = spool.in_dir(place(number)).join("item");
            fs::create_dir_all(item.join("sub/deep")).unwrap();
            fs::write(item.join("sub/deep/file"), "x").unwrap();
            for dir in [item.join("sub/deep"), item.join("sub"), item] {
                fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
            }
            let outcome =
                spool.take(transfer(1), Some(place(number)), &name("item"), Kind::Directory, &Attributes::default());
            assert!(matches!(outcome, CopyOutcome::Found { .. }), "{outcome:?}");
            let held = tree(&spool.held_dir());
            assert_eq!(held[&format!("{}/item", transfer(1))], format!("{mode:04o}"));
        }
        let closed = spool.in_dir(place(1)).join("item/closed");
        fs::create_dir_all(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        spool.discard_place(place(1)).unwrap();
        spool.discard(transfer(1)).unwrap();
        assert!(!spool.in_dir(place(1)).exists());
        assert!(tree(&spool.held_dir()).is_empty());

        fs::set_permissions(spool.held_dir(), fs::Permissions::from_mode(0o500)).unwrap();
        arrive(&spool, 4, "x");
        let outcome = spool.take(transfer(4), Some(place(4)), &name("item"), Kind::File, &Attributes::default());
        let CopyOutcome::Failed(reason) = outcome else { panic!("{outcome:?}") };
        assert_eq!(reason.cause(), Cause::Storage);
        assert!(reason.detail().starts_with("cannot create /"), "{reason}");
        assert!(reason.detail().ends_with("permission denied"), "{reason}");
        fs::set_permissions(spool.held_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    });
}

#[test]
fn a_sweep_removes_what_no_transfer_needs_and_nothing_else() {
    let (dir, spool) = spool();
    for number in 1..=3 {
        fs::create_dir_all(spool.held_dir().join(transfer(number).to_string()).join("item/sub")).unwrap();
        arrive(&spool, u64::from(number), "x");
    }
    fs::create_dir(spool.held_dir().join("lost+found")).unwrap();
    fs::write(spool.held_dir().parent().unwrap().join("in/note"), "x").unwrap();
    let (transfers, places) = (BTreeSet::from([transfer(2), transfer(9)]), BTreeSet::from([place(3)]));
    let (events, mut inputs) = mpsc::channel(16);
    let files = Files::new(Layout::Central(spool.clone()), events, 1).unwrap();
    files.sweep(transfers, &places);
    // What is created after the call is no leftover; and answers about a transfer come after its removal.
    arrive(&spool, 4, "late");
    files.take(transfer(3), Some(place(4)), name("item"), Kind::File, Attributes::default());
    for _ in 0..2 {
        match inputs.blocking_recv().unwrap() {
            Input::Swept { missing } => assert_eq!(missing, BTreeSet::from([transfer(9)])),
            Input::Taken { outcome: CopyOutcome::Found { .. }, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let left = tree(&dir.path().join("g"));
    let expected = [
        "held".to_owned(),
        format!("held/{}", transfer(2)),
        format!("held/{}/item", transfer(2)),
        format!("held/{}/item/sub", transfer(2)),
        format!("held/{}", transfer(3)),
        format!("held/{}/item", transfer(3)),
        "held/lost+found".to_owned(),
        "in".to_owned(),
        format!("in/{}", place(3)),
        format!("in/{}/item", place(3)),
        format!("in/{}", place(4)),
        "in/note".to_owned(),
    ];
    assert_eq!(left.into_keys().collect::<Vec<_>>(), expected);
}

#[test]
fn another_file_system_inside_is_left_alone() {
    let inner = format!("g/in/{}/item/mounted", place(1));
    with_mount("drivers::files::tests::another_file_system_inside_is_left_alone", "mode=0700", &inner, |dir| {
        let spool = Spool::new(dir.to_owned(), "g".parse().unwrap());
        fs::write(dir.join(&inner).join("kept"), "x").unwrap();
        let reason = spool.discard_place(place(1)).unwrap_err();
        assert_eq!(reason.cause(), Cause::Storage, "{reason}");
        assert_eq!(fs::read_to_string(dir.join(&inner).join("kept")).unwrap(), "x");
    });
}

#[test]
fn a_read_only_mount_is_refused_where_we_have_to_write() {
    with_mount("drivers::files::tests::a_read_only_mount_is_refused_where_we_have_to_write", "ro", "dir", |dir| {
        let (dir, group) = (dir.join("dir"), || "g".parse().unwrap());
        Source::new(dir.clone(), 0, Clock::start(), |_| false).prepare().unwrap();
        for layout in
            [Layout::Central(Spool::new(dir.clone(), group())), Layout::Download(Staging::new(dir.clone(), group()))]
        {
            let error = layout.prepare().unwrap_err();
            assert!(error.to_string().ends_with("mount it read-write, or change file_dir"), "{error}");
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.ends_with("the file system is mounted read-only"), "{cause}");
        }
    });
}

#[test]
fn staging_on_another_file_system_is_refused() {
    with_mount("drivers::files::tests::staging_on_another_file_system_is_refused", "mode=0700", ".synkler", |dir| {
        let error = Staging::new(dir.to_owned(), "g".parse().unwrap()).prepare().unwrap_err();
        assert!(error.to_string().ends_with("all of file_dir must be on one file system"), "{error}");
    });
}

#[test]
fn a_full_file_system_says_so() {
    with_mount("drivers::files::tests::a_full_file_system_says_so", "nr_inodes=12", "dir", |dir| {
        let spool = Spool::new(dir.join("dir"), "g".parse().unwrap());
        spool.prepare().unwrap();
        arrive(&spool, 1, "x");
        let full = (0..20).any(|number| fs::write(dir.join(format!("dir/{number}")), "").is_err());
        assert!(full);
        let CopyOutcome::Failed(reason) =
            spool.take(transfer(1), Some(place(1)), &name("item"), Kind::File, &Attributes::default())
        else {
            panic!()
        };
        assert_eq!(reason.cause(), Cause::Space);
        assert!(reason.detail().ends_with(": no space left on the file system"), "{reason}");
        fs::remove_file(dir.join("dir/0")).unwrap();
        let outcome = spool.take(transfer(1), Some(place(1)), &name("item"), Kind::File, &Attributes::default());
        assert!(matches!(outcome, CopyOutcome::Found { .. }), "{outcome:?}");
    });
}
