//! The steps from staging to the final name for an item that is given to another user or group.
//!
//! No entry may appear before it belongs to its owner. A directory of another user cannot be renamed out of staging,
//! because its `..` changes, and staging cannot be the directory of the final name. So a directory moves, while it is
//! still ours, to a reserved name beside the final one. There it is given away, and one more rename within `file_dir`
//! gives it the final name. Nothing in it is open to more users than later.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{MODE_MARK, Placing, SWAP_MARK, Staging};
use crate::drivers::disk::Refusal;
use crate::drivers::files::folder::{Folder, Onto};
use crate::drivers::files::ownership::{GIVING, Owners, claim};
use crate::drivers::files::steps::step;
use crate::drivers::look::file_type;
use crate::drivers::manifest::{Site, Survey, SurveyError};
use crate::machine::ItemName;

/// The path of the item itself in its site.
const ITSELF: &[u8] = b".";

impl Staging {
    /// Tries whether items can be given away, with a directory of its own in staging, which is removed afterwards.
    /// Returns whether this process can still read a directory that is given away.
    ///
    /// # Errors
    /// Why they cannot, in one line.
    pub fn try_giving(&self) -> Result<bool, String> {
        // Two checks at once must not use the same name.
        static LOOKS: AtomicU32 = AtomicU32::new(0);
        let look = LOOKS.fetch_add(1, Ordering::Relaxed);
        let name = format!(".synkler-check-{}-{look}-o", std::process::id());
        let tried = Folder::open(&self.staging_dir()).map_err(SurveyError::from).and_then(|staging| {
            let tried = self.give_probe(&staging, &name);
            staging.remove(name.as_bytes())?;
            tried
        });
        tried.map_err(|error| match error {
            SurveyError::Refused(refusal) if refusal.doing() == GIVING => self.not_given(&refusal).detail().to_owned(),
            other => other.to_string(),
        })
    }

    fn give_probe(&self, staging: &Folder, name: &str) -> Result<bool, SurveyError> {
        let dir = staging.make(name.as_bytes())?;
        let Ok(item) = ItemName::new(b"item") else { return Ok(true) };
        dir.make(item.as_bytes())?;
        dir.set_mode(item.as_bytes(), self.ownership.dir_mode.unwrap_or(0o755))?;
        if let Some(owners) = Owners::of(&self.ownership) {
            owners.give_top(&dir.site(&item)?)?;
        }
        let can_read = |item: Folder| item.check(false).is_ok();
        Ok(dir.child(item.as_bytes()).ok().flatten().is_some_and(can_read))
    }
}

impl Placing {
    /// Gives the item to its owner, then its final name; false if another file has the name that may not be replaced.
    pub(super) fn give_away(&self, owners: Owners, old: Option<&Survey>) -> Result<bool, SurveyError> {
        let is_directory = match self.own.stat(self.name())? {
            Some(stat) if stat.stx_ino == self.inode => {
                owners.give(&self.own.site(&self.name)?, false)?;
                file_type(&stat) == FileType::Directory
            }
            _ => true,
        };
        if !is_directory && old.is_none() {
            return self.try_rename(|| self.rename(Onto::Nothing));
        }
        self.hide()?;
        if is_directory {
            self.give_top(owners)?;
        }
        let hidden = self.hidden.as_bytes();
        let Some(old) = old else {
            let rename = || self.base.rename_anyhow(hidden, &self.base, self.name());
            return self.try_rename(|| rename().map_err(|errno| self.base.refusal("rename", hidden, errno)));
        };
        step();
        self.own.mark(SWAP_MARK)?;
        self.own.sync()?;
        let exchange = || {
            step();
            let exchanged = self.base.rename(hidden, &self.base, self.name(), Onto::Exchange);
            exchanged.map_err(|errno| self.base.refusal("rename", hidden, errno))
        };
        match exchange() {
            Ok(()) => {}
            Err(error) if error.errno() == Errno::NOENT => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        step();
        if self.hidden_site()?.survey()?.same_but_moved(old) {
            return Ok(true);
        }
        exchange()?;
        Ok(false)
    }

    fn try_rename(&self, rename: impl FnOnce() -> Result<(), Refusal>) -> Result<bool, SurveyError> {
        step();
        match rename() {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Errno::EXIST => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves the item out of staging to the reserved name.
    fn hide(&self) -> Result<(), SurveyError> {
        let (name, hidden) = (self.name(), self.hidden.as_bytes());
        if self.own.inode(name)? != Some(self.inode) {
            return Ok(());
        }
        if self.base.inode(hidden)?.is_some() && self.own.inode(SWAP_MARK)?.is_none() {
            // A copy that was fetched earlier and never placed.
            self.base.remove(hidden)?;
        }
        step();
        let rename = || self.own.rename_anyhow(name, &self.base, hidden);
        let refused = |errno| self.own.refusal("rename", name, errno);
        match rename() {
            Err(Errno::ACCESS) => {
                // Left by an interrupted run with other settings.
                let site = self.own.site(&self.name)?;
                claim(&site, &mut site.opener(), ITSELF)?;
                self.make_movable(Onto::Nothing)?;
                rename().map_err(refused)?;
            }
            other => other.map_err(refused)?,
        }
        Ok(())
    }

    /// Gives away the directory under the reserved name, with the mode that it had before it was made movable.
    fn give_top(&self, owners: Owners) -> Result<(), SurveyError> {
        let site = self.hidden_site()?;
        if let Some(mode) = self.mode_mark()? {
            claim(&site, &mut site.opener(), ITSELF)?;
            step();
            self.base.set_mode(self.hidden.as_bytes(), mode)?;
            owners.give_top(&site)?;
            step();
            self.own.remove(format!("{MODE_MARK}{mode:04o}").as_bytes())?;
            return Ok(());
        }
        owners.give_top(&site)
    }

    pub(super) fn hidden_site(&self) -> Result<Site, SurveyError> {
        self.base.site(&self.hidden)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::drivers::files::staging::TAKEN;
    use crate::drivers::files::steps::interrupted_at;
    use crate::drivers::files::testing::{as_nobody, as_nobody_with, name, transfer};
    use crate::machine::{Account, Attributes, Cause, CopyOutcome, Kind, Ownership, PlaceOutcome, Signature};

    const RIGHTS: &str = "+chown,+fowner";
    /// The user and the group to whom items are given: `daemon` on most hosts.
    const OTHER: u32 = 1;

    struct Bed {
        dir: tempfile::TempDir,
        staging: Staging,
    }

    impl Bed {
        fn new(ownership: Ownership) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let staging = Staging::new(dir.path().to_owned(), "g".parse().unwrap()).giving(ownership);
            staging.prepare().unwrap();
            Self { dir, staging }
        }

        fn item(&self) -> PathBuf {
            self.dir.path().join("item")
        }

        fn stage(&self, number: u8, kind: Kind, content: &str, dir_mode: u32) -> u64 {
            let own = self.staging.staging_dir().join(transfer(number).to_string());
            fs::create_dir_all(&own).unwrap();
            let item = own.join("item");
            match kind {
                Kind::File => fs::write(&item, content).unwrap(),
                Kind::Symlink => symlink(content, &item).unwrap(),
                Kind::Directory => {
                    fs::create_dir_all(item.join("sub/deep")).unwrap();
                    fs::write(item.join("sub/deep/file"), content).unwrap();
                    fs::write(item.join("sub-file"), content).unwrap();
                    symlink("/etc/passwd", item.join("link")).unwrap();
                    for dir in ["sub/deep", "sub", ""] {
                        fs::set_permissions(item.join(dir), Permissions::from_mode(dir_mode)).unwrap();
                    }
                }
            }
            match self.staging.verify(transfer(number), &name("item"), kind, &Attributes::default(), |_, _, _| None) {
                CopyOutcome::Found { inode, unkept: None, .. } => inode,
                other => panic!("{other:?}"),
            }
        }

        fn place(&self, number: u8, inode: u64, replace: Option<Signature>) -> PlaceOutcome {
            self.staging.place(transfer(number), &name("item"), inode, replace)
        }

        /// Repeated where a child of another test seems to write the replaced file.
        fn placed(&self, number: u8, inode: u64, replace: Option<Signature>) -> Signature {
            let start = std::time::Instant::now();
            loop {
                match self.place(number, inode, replace) {
                    PlaceOutcome::Placed(signature) => return signature,
                    PlaceOutcome::Occupied if start.elapsed().as_secs() < 30 => {}
                    other => panic!("{other:?}"),
                }
            }
        }

        /// What is in `file_dir` beside the reserved names that stay.
        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
            names.retain(|name| name != ".synkler");
            names.sort();
            names
        }
    }

    fn given(file_mode: u16, dir_mode: u16) -> Ownership {
        let account = || Some(Account { name: "other".into(), id: OTHER });
        Ownership { owner: account(), group: account(), file_mode: Some(file_mode), dir_mode: Some(dir_mode) }
    }

    /// Fails unless every entry belongs to the other user and has the mode for its kind.
    fn is_given(path: &Path, file_mode: u32, dir_mode: u32) {
        let stat = path.symlink_metadata().unwrap();
        assert_eq!((stat.uid(), stat.gid()), (OTHER, OTHER), "{path:?}");
        let wanted = if stat.is_dir() { dir_mode } else { file_mode };
        assert!(stat.is_symlink() || stat.mode() & 0o7777 == wanted, "{path:?}: {:o}", stat.mode());
        if stat.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| is_given(&entry.unwrap().path(), file_mode, dir_mode));
        }
    }

    const THIS: &str = "drivers::files::staging::giving::tests";

    #[test]
    fn every_kind_of_item_belongs_to_its_owner() {
        as_nobody_with(&format!("{THIS}::every_kind_of_item_belongs_to_its_owner"), RIGHTS, || {
            assert_eq!(Bed::new(given(0o640, 0o755)).staging.try_giving(), Ok(true));
            assert_eq!(Bed::new(given(0o640, 0o750)).staging.try_giving(), Ok(false));
            for kind in [Kind::File, Kind::Directory, Kind::Symlink] {
                let bed = Bed::new(given(0o640, 0o2755));
                let target = bed.dir.path().join("target");
                fs::write(&target, "not touched").unwrap();
                let inode = bed.stage(1, kind, target.to_str().unwrap(), 0o700);
                assert_ne!(bed.placed(1, inode, None), TAKEN, "{kind:?}");
                is_given(&bed.item(), 0o640, 0o2755);
                assert_eq!(bed.names(), ["item", "target"]);
                assert_ne!(target.metadata().unwrap().uid(), OTHER, "a link was followed");
                assert_ne!(Path::new("/etc/passwd").metadata().unwrap().uid(), OTHER);
            }
        });
    }

    #[test]
    fn a_directory_that_its_owner_closes_is_delivered_and_never_replaced_unseen() {
        let path = format!("{THIS}::a_directory_that_its_owner_closes_is_delivered_and_never_replaced_unseen");
        as_nobody_with(&path, RIGHTS, || {
            let bed = Bed::new(given(0o640, 0o750));
            let inode = bed.stage(1, Kind::Directory, "one", 0o700);
            assert_eq!(bed.placed(1, inode, None), TAKEN);
            let stat = bed.item().metadata().unwrap();
            assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (OTHER, OTHER, 0o750));
            bed.staging.discard(transfer(1)).unwrap();
            let later = bed.stage(2, Kind::Directory, "two", 0o700);
            let PlaceOutcome::Failed(reason) = bed.place(2, later, Some(TAKEN)) else { panic!("replaced") };
            assert!(reason.detail().contains("permission denied"), "{reason}");
            assert_eq!(bed.item().metadata().unwrap().ino(), inode);
            bed.staging.discard(transfer(2)).unwrap();
            assert_eq!(bed.names(), ["item"]);
        });
    }

    #[test]
    fn a_run_that_is_killed_at_any_step_shows_nothing_half() {
        as_nobody_with(&format!("{THIS}::a_run_that_is_killed_at_any_step_shows_nothing_half"), RIGHTS, || {
            for (kind, replaces, dir_mode) in [
                (Kind::File, false, 0),
                (Kind::File, true, 0),
                (Kind::Directory, false, 0o750),
                (Kind::Directory, true, 0o755),
            ] {
                let mut steps = 0;
                for second in [None, Some(0), Some(2), Some(5), Some(8)] {
                    for first in 0.. {
                        let bed = Bed::new(given(0o640, if dir_mode == 0 { 0o755 } else { dir_mode }));
                        let old = replaces.then(|| {
                            let inode = bed.stage(1, kind, "old", 0o700);
                            let signature = bed.placed(1, inode, None);
                            bed.staging.discard(transfer(1)).unwrap();
                            (inode, signature)
                        });
                        let inode = bed.stage(2, kind, "new", 0o700);
                        let replace = old.map(|(_, signature)| signature);
                        let is_whole = || match bed.item().symlink_metadata() {
                            Ok(stat) if stat.ino() == inode || old.is_some_and(|(old, _)| stat.ino() == old) => {
                                let mode = if stat.is_dir() { u32::from(dir_mode) } else { 0o640 };
                                let seen = (stat.uid(), stat.gid(), stat.mode() & 0o7777);
                                assert_eq!(seen, (OTHER, OTHER, mode), "{kind:?} {first} {second:?}");
                            }
                            Ok(stat) => panic!("{kind:?} {first} {second:?}: {stat:?}"),
                            Err(_) => assert!(old.is_none(), "{kind:?} {first} {second:?}"),
                        };
                        let through = interrupted_at(first, || bed.placed(2, inode, replace)).is_some();
                        is_whole();
                        if let Some(second) = second.filter(|_| !through) {
                            let _ = interrupted_at(second, || bed.placed(2, inode, replace));
                            is_whole();
                        }
                        bed.placed(2, inode, replace);
                        assert_eq!(bed.item().symlink_metadata().unwrap().ino(), inode);
                        if dir_mode != 0o750 {
                            is_given(&bed.item(), 0o640, 0o755);
                        }
                        assert_eq!(bed.names(), ["item"], "{kind:?} {first} {second:?}");
                        if through {
                            steps = first;
                            break;
                        }
                    }
                }
                assert!(steps > 1, "{kind:?}: {steps} steps");
            }
        });
    }

    #[test]
    fn what_was_begun_can_be_given_up() {
        as_nobody_with(&format!("{THIS}::what_was_begun_can_be_given_up"), RIGHTS, || {
            for stop in 0.. {
                let bed = Bed::new(given(0o600, 0o700));
                let inode = bed.stage(1, Kind::Directory, "one", 0o700);
                let through = interrupted_at(stop, || bed.placed(1, inode, None)).is_some();
                bed.staging.discard(transfer(1)).unwrap();
                if through {
                    break;
                }
                let own = bed.staging.staging_dir().join(transfer(1).to_string());
                assert!(!own.exists());
                assert!(bed.names().is_empty() || bed.names() == ["item"], "{:?}", bed.names());
            }
        });
    }

    #[test]
    fn in_an_inbox_too_nothing_is_left_of_what_was_begun() {
        as_nobody_with(&format!("{THIS}::in_an_inbox_too_nothing_is_left_of_what_was_begun"), RIGHTS, || {
            for stop in 0.. {
                let bed = Bed::new(given(0o600, 0o710));
                let inode = bed.stage(1, Kind::Directory, "one", 0o700);
                let item = ItemName::new(b"in box/deep/item").unwrap();
                let place = || bed.staging.place(transfer(1), &item, inode, None);
                let through = interrupted_at(stop, place).is_some();
                if through {
                    assert_eq!(place(), PlaceOutcome::Placed(TAKEN));
                }
                bed.staging.discard(transfer(1)).unwrap();
                let inbox = bed.dir.path().join("in box/deep");
                let left = fs::read_dir(&inbox).map_or_else(|_| Vec::new(), |dir| dir.flatten().collect());
                assert!(left.iter().all(|entry| entry.file_name() == "item"), "{stop}: {left:?}");
                if through {
                    // Our inboxes have the mode and the group.
                    let stat = inbox.metadata().unwrap();
                    assert_eq!((stat.uid() == OTHER, stat.gid(), stat.mode() & 0o7777), (false, OTHER, 0o710));
                    break;
                }
            }
        });
    }

    #[test]
    fn without_the_right_the_item_stays_in_staging() {
        as_nobody(&format!("{THIS}::without_the_right_the_item_stays_in_staging"), || {
            for kind in [Kind::File, Kind::Directory, Kind::Symlink] {
                let bed = Bed::new(given(0o640, 0o750));
                let inode = bed.stage(1, kind, "one", 0o700);
                let PlaceOutcome::Failed(reason) = bed.place(1, inode, None) else { panic!("delivered") };
                assert_eq!(reason.cause(), Cause::Storage);
                for words in ["has no right to set owner = other, group = other", "synkler drop-in --apply", "item"] {
                    assert!(reason.detail().contains(words), "{reason}");
                }
                assert!(bed.names().is_empty());
                let told = bed.staging.try_giving().unwrap_err();
                assert!(told.contains("synkler drop-in --apply"), "{told}");
                assert_eq!(fs::read_dir(bed.staging.staging_dir()).unwrap().count(), 1, "the probe is gone");
                // Modes alone need no right.
                let modes = Ownership { owner: None, group: None, ..given(0o640, 0o750) };
                let staging = bed.staging.clone().giving(modes);
                assert!(matches!(staging.place(transfer(1), &name("item"), inode, None), PlaceOutcome::Placed(_)));
                let stat = bed.item().symlink_metadata().unwrap();
                let mode = if stat.is_dir() { 0o750 } else { 0o640 };
                assert!(stat.is_symlink() || stat.mode() & 0o7777 == mode, "{:o}", stat.mode());
            }
        });
    }
}
