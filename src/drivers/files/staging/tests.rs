use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::drivers::files::testing::{as_nobody, name, transfer, tree};

struct Bed {
    dir: tempfile::TempDir,
    staging: Staging,
}

fn bed() -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::new(dir.path().to_owned(), "g".parse().unwrap());
    staging.prepare().unwrap();
    Bed { dir, staging }
}

impl Bed {
    fn own(&self, number: u8) -> PathBuf {
        self.staging.staging_dir().join(transfer(number).to_string())
    }

    /// A verified file as rsync left it: its inode.
    fn stage_file(&self, number: u8, content: &str) -> u64 {
        fs::create_dir_all(self.own(number)).unwrap();
        fs::write(self.own(number).join("item"), content).unwrap();
        self.verified(number, Kind::File)
    }

    fn stage_dir(&self, number: u8, content: &str, mode: u32) -> u64 {
        let item = self.own(number).join("item");
        fs::create_dir_all(item.join("sub")).unwrap();
        fs::write(item.join("sub/file"), content).unwrap();
        symlink("/etc", item.join("link")).unwrap();
        for dir in [item.join("sub"), item] {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        }
        self.verified(number, Kind::Directory)
    }

    fn verified(&self, number: u8, kind: Kind) -> u64 {
        match self.staging.verify(transfer(number), &name("item"), kind, &Attributes::default(), |_, _, _| None) {
            CopyOutcome::Found { inode, .. } => inode,
            other => panic!("{other:?}"),
        }
    }

    fn place(&self, number: u8, inode: u64, replace: Option<Signature>) -> PlaceOutcome {
        self.staging.place(transfer(number), &name("item"), inode, replace)
    }

    fn placed(&self, number: u8, inode: u64, replace: Option<Signature>) -> Signature {
        let start = std::time::Instant::now();
        let mut outcome = self.place(number, inode, replace);
        // A child of another test shares our descriptors until exec, and so may seem to write the file that is to be
        // replaced.
        while outcome == PlaceOutcome::Occupied && start.elapsed().as_secs() < 30 {
            outcome = self.place(number, inode, replace);
        }
        match outcome {
            PlaceOutcome::Placed(signature) => {
                let left = fs::read_dir(self.own(number)).unwrap().flatten().map(|entry| entry.file_name());
                let left: Vec<_> = left.filter(|name| !name.to_string_lossy().starts_with(".synkler-")).collect();
                assert!(left.is_empty(), "{left:?}");
                signature
            }
            other => panic!("{other:?}"),
        }
    }

    fn steps(&self, number: u8, item: &ItemName, inode: u64) -> Placing {
        let base = Folder::open(self.dir.path()).unwrap();
        let (own, hidden) = (Folder::open(&self.own(number)).unwrap(), hidden_name(transfer(number)).unwrap());
        Placing { base, own, name: item.clone(), inode, hidden, owners: None }
    }

    /// The renames only, as if a crash followed.
    fn swap(&self, number: u8, item: &ItemName, inode: u64, replace: Signature) {
        let start = std::time::Instant::now();
        while !self.steps(number, item, inode).give_name(Some(replace)).unwrap() {
            assert!(start.elapsed().as_secs() < 30, "not swapped");
        }
    }

    fn item(&self) -> PathBuf {
        self.dir.path().join("item")
    }

    fn sight(&self) -> Sight {
        self.staging.look(&name("item"))
    }
}

#[test]
fn the_signature_is_what_a_later_look_finds() {
    let bed = bed();
    let inode = bed.stage_dir(1, "one", 0o755);
    let before = tree(&bed.own(1).join("item"));
    let signature = bed.placed(1, inode, None);
    assert_eq!(bed.sight(), Sight::Present(signature));
    assert_eq!(tree(&bed.item()), before);
    assert_eq!(bed.placed(1, inode, None), signature);
    bed.staging.discard(transfer(1)).unwrap();
    assert_eq!(bed.place(1, inode, None), PlaceOutcome::Lost);
    assert_eq!(bed.sight(), Sight::Present(signature));
}

#[test]
fn what_its_owner_has_taken_is_placed_all_the_same() {
    let bed = bed();
    let inode = bed.stage_file(1, "one");
    bed.placed(1, inode, None);
    fs::remove_file(bed.item()).unwrap();
    assert_eq!(bed.placed(1, inode, None), TAKEN);
    // A user's file under the same name is not ours and stays untouched, although it may get the same inode.
    for _ in 0..20 {
        fs::write(bed.item(), "foreign").unwrap();
        assert_eq!(bed.placed(1, inode, None), TAKEN);
        assert_eq!(fs::read_to_string(bed.item()).unwrap(), "foreign");
        fs::remove_file(bed.item()).unwrap();
    }
}

#[test]
fn only_the_untouched_earlier_placement_is_replaced() {
    let bed = bed();
    let inode = bed.stage_dir(1, "one", 0o755);
    let first = bed.placed(1, inode, None);
    let inode = bed.stage_dir(2, "two", 0o755);
    assert_eq!(bed.place(2, inode, None), PlaceOutcome::Occupied);
    assert_eq!(bed.place(2, inode, Some(TAKEN)), PlaceOutcome::Occupied);
    fs::write(bed.item().join("sub/mine"), "x").unwrap();
    assert_eq!(bed.place(2, inode, Some(first)), PlaceOutcome::Occupied);
    let Sight::Present(touched) = bed.sight() else { panic!() };
    let writer = fs::OpenOptions::new().append(true).open(bed.item().join("sub/mine")).unwrap();
    assert_eq!(bed.place(2, inode, Some(touched)), PlaceOutcome::Occupied);
    drop(writer);
    assert_eq!(tree(&bed.item())["sub/file"], "one");
    bed.placed(2, inode, Some(touched));
    assert_eq!(tree(&bed.item())["sub/file"], "two");
    assert!(!bed.item().join("sub/mine").exists());
    // A file in place of a directory, and a link in place of the file.
    let Sight::Present(second) = bed.sight() else { panic!() };
    let inode = bed.stage_file(3, "three");
    let third = bed.placed(3, inode, Some(second));
    fs::create_dir(bed.own(4)).unwrap();
    symlink("/etc/passwd", bed.own(4).join("item")).unwrap();
    let inode = bed.verified(4, Kind::Symlink);
    bed.placed(4, inode, Some(third));
    assert_eq!(fs::read_link(bed.item()).unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn an_exchange_that_came_too_late_is_taken_back() {
    let bed = bed();
    let inode = bed.stage_dir(1, "one", 0o755);
    bed.placed(1, inode, None);
    let inode = bed.stage_dir(2, "two", 0o755);
    let item = name("item");
    let steps = bed.steps(2, &item, inode);
    let old = steps.base.site(&item).unwrap().survey().unwrap();
    fs::write(bed.item().join("sub/late"), "x").unwrap();
    assert!(!steps.exchange(&old).unwrap());
    assert!(steps.is_staged().unwrap());
    assert_eq!(tree(&bed.item())["sub/late"], "x");
    assert_eq!(bed.place(2, inode, None), PlaceOutcome::Occupied);
    // Fetched again, and the name has become free.
    fs::remove_dir_all(bed.own(2).join("item")).unwrap();
    fs::rename(bed.item(), bed.dir.path().join("away")).unwrap();
    let inode = bed.stage_dir(2, "two", 0o755);
    let signature = bed.placed(2, inode, None);
    assert_eq!(bed.sight(), Sight::Present(signature));
}

#[test]
fn a_crash_after_any_step_is_made_good() {
    let item = name("item");
    // After the first rename.
    let bed1 = bed();
    let inode = bed1.stage_dir(1, "one", 0o755);
    assert!(bed1.steps(1, &item, inode).give_name(None).unwrap());
    let first = bed1.placed(1, inode, None);
    assert_eq!(bed1.sight(), Sight::Present(first));
    // After an exchange, with the new item in place, and with the new item already taken.
    for taken in [false, true] {
        let inode = bed1.stage_dir(2, "two", 0o755);
        let Sight::Present(first) = bed1.sight() else { panic!() };
        bed1.swap(2, &item, inode, first);
        assert!(bed1.own(2).join("item").exists());
        if taken {
            fs::rename(bed1.item(), bed1.dir.path().join("away")).unwrap();
        }
        let signature = bed1.placed(2, inode, Some(first));
        assert_eq!(signature == TAKEN, taken);
        assert_eq!(bed1.sight() == Sight::Gone, taken);
    }
    // After the second link of a file, before the first is removed.
    let bed2 = bed();
    let inode = bed2.stage_file(1, "one");
    fs::hard_link(bed2.own(1).join("item"), bed2.item()).unwrap();
    bed2.placed(1, inode, None);
    assert_eq!(fs::read_to_string(bed2.item()).unwrap(), "one");
    // During the removal of the replaced file.
    let inode = bed2.stage_dir(2, "two", 0o755);
    let Sight::Present(first) = bed2.sight() else { panic!() };
    bed2.swap(2, &item, inode, first);
    bed2.steps(2, &item, inode).own.remove(b"item").unwrap();
    bed2.placed(2, inode, Some(first));
    assert_eq!(tree(&bed2.item())["sub/file"], "two");
}

#[test]
fn a_staged_item_whose_inode_is_unknown_is_never_removed() {
    let bed = bed();
    let inode = bed.stage_file(1, "one");
    assert_eq!(bed.place(1, inode + 1_000_000, None), PlaceOutcome::Lost);
    assert_eq!(fs::read_to_string(bed.own(1).join("item")).unwrap(), "one");
}

#[test]
fn file_systems_without_the_newer_renames_do_too() {
    let bed = bed();
    let item = name("item");
    for (number, kind) in [(1, Kind::File), (2, Kind::Directory)] {
        let inode = if kind == Kind::File { bed.stage_file(number, "x") } else { bed.stage_dir(number, "x", 0o755) };
        let steps = bed.steps(number, &item, inode);
        if number == 2 {
            assert_eq!(steps.own.rename_by_hand(b"item", &steps.base, b"item"), Err(Errno::EXIST));
            assert!(steps.replace_by_hand().unwrap());
        } else {
            steps.own.rename_by_hand(b"item", &steps.base, b"item").unwrap();
        }
        bed.placed(number, inode, None);
        assert_eq!(bed.item().is_dir(), kind == Kind::Directory);
    }
    // A crash between the two halves of a replacement.
    let inode = bed.stage_file(3, "three");
    let steps = bed.steps(3, &item, inode);
    steps.base.rename_by_hand(b"item", &steps.own, ASIDE).unwrap();
    bed.placed(3, inode, None);
    assert_eq!(fs::read_to_string(bed.item()).unwrap(), "three");
}

#[test]
fn read_only_directories_keep_their_mode() {
    as_nobody("drivers::files::staging::tests::read_only_directories_keep_their_mode", || {
        let bed = bed();
        let item = name("item");
        let inode = bed.stage_dir(1, "one", 0o555);
        let before = tree(&bed.own(1));
        let first = bed.placed(1, inode, None);
        assert_eq!(bed.sight(), Sight::Present(first));
        assert_eq!(tree(bed.dir.path())["item"], "0555");
        assert_eq!(tree(&bed.item())["sub"], before["item/sub"]);
        // Replaced by another item of the same kind, with a crash right after the exchange.
        let inode = bed.stage_dir(2, "two", 0o555);
        bed.swap(2, &item, inode, first);
        assert_eq!(tree(bed.dir.path())["item"], "0755");
        let second = bed.placed(2, inode, Some(first));
        assert_eq!(tree(bed.dir.path())["item"], "0555");
        assert_eq!(bed.sight(), Sight::Present(second));
        bed.stage_dir(3, "three", 0o500);
        bed.staging.discard(transfer(3)).unwrap();
        assert!(!bed.own(3).exists());
        fs::set_permissions(bed.item(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(bed.item().join("sub"), fs::Permissions::from_mode(0o755)).unwrap();
    });
}

#[test]
fn a_file_dir_that_cannot_be_written_is_refused() {
    as_nobody("drivers::files::staging::tests::a_file_dir_that_cannot_be_written_is_refused", || {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
        let staging = Staging::new(dir.path().to_owned(), "g".parse().unwrap());
        let error = staging.prepare().unwrap_err();
        assert!(error.to_string().contains("give the user"), "{error}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.starts_with("cannot write to /") && cause.ends_with("permission denied"), "{cause}");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    });
    let bed = bed();
    let file = bed.dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Staging::new(file, "g".parse().unwrap()).prepare().unwrap_err();
    assert!(error.to_string().contains("must be directories"), "{error}");
}

#[test]
fn names_of_synkler_itself_are_refused() {
    let bed = bed();
    for reserved in [".synkler", ".synkler-swap"] {
        let outcome = bed.staging.place(transfer(1), &name(reserved), 1, None);
        assert!(matches!(outcome, PlaceOutcome::Failed(_)), "{outcome:?}");
    }
    assert!(bed.staging.staging_dir().is_dir());
}

#[test]
#[allow(clippy::print_stdout)] // The figure is for whoever runs it with --nocapture.
fn many_small_files_are_made_durable_together() {
    let bed = bed();
    let item = bed.own(1).join("item");
    for sub in 0..5 {
        let sub = item.join(format!("{sub}"));
        fs::create_dir_all(&sub).unwrap();
        (0..100).for_each(|file| fs::write(sub.join(format!("{file}")), vec![1; 5_000]).unwrap());
    }
    let start = std::time::Instant::now();
    bed.verified(1, Kind::Directory);
    println!("500 files of 5 kB: proven and made durable in {:?}", start.elapsed());
    fs::remove_file(item.join("3/4")).unwrap();
    symlink("5", item.join("3/4")).unwrap();
    bed.verified(1, Kind::Directory);
}

#[test]
fn an_item_of_an_inbox_arrives_in_it_and_a_missing_inbox_is_created() {
    let bed = bed();
    let inode = bed.stage_file(1, "one");
    let item = ItemName::new(b"in box/deep/item").unwrap();
    let place = |item: &ItemName, inode| bed.staging.place(transfer(1), item, inode, None);
    let PlaceOutcome::Placed(signature) = place(&item, inode) else { panic!() };
    assert_eq!(fs::read_to_string(bed.dir.path().join("in box/deep/item")).unwrap(), "one");
    assert_eq!(bed.staging.look(&item), Sight::Present(signature));
    // Again, as after a crash.
    assert_eq!(place(&item, inode), PlaceOutcome::Placed(signature));
    // Taken by its owner, together with the inbox.
    fs::remove_dir_all(bed.dir.path().join("in box")).unwrap();
    assert_eq!(place(&item, inode), PlaceOutcome::Placed(TAKEN));
    assert_eq!(bed.staging.look(&item), Sight::Gone);
}

#[test]
fn what_is_no_directory_is_no_inbox() {
    let bed = bed();
    let outside = tempfile::tempdir().unwrap();
    fs::write(bed.dir.path().join("file"), "x").unwrap();
    symlink(outside.path(), bed.dir.path().join("link")).unwrap();
    let inode = bed.stage_file(1, "one");
    for (inbox, why) in [("file", "it is not a directory"), ("link", "it is not a directory")] {
        let item = ItemName::new(format!("{inbox}/item").as_bytes()).unwrap();
        let PlaceOutcome::Failed(reason) = bed.staging.place(transfer(1), &item, inode, None) else { panic!() };
        assert!(reason.detail().ends_with(why), "{reason}");
        assert!(reason.detail().contains(inbox), "{reason}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    let ours = ItemName::new(b".synkler/g/item").unwrap();
    assert!(matches!(bed.staging.place(transfer(1), &ours, inode, None), PlaceOutcome::Failed(_)));
    // Still in staging.
    bed.placed(1, inode, None);
}
