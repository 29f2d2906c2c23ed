use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::super::steps::{interrupted_at, meddled_at};
use super::*;
use crate::drivers::manifest::Site;

const NAME: &str = "item 1";

/// What an item is made of: path, mode, and content or target.
type Tree = BTreeMap<String, (u32, String)>;

struct Bench {
    file_dir: tempfile::TempDir,
    into: tempfile::TempDir,
    /// The permanent directory of the item, or nothing.
    inbox: &'static str,
    transfer: TransferId,
    fingerprint: Fingerprint,
    moves: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Rename,
    Copy,
    Delete,
}

const WAYS: [Way; 3] = [Way::Rename, Way::Copy, Way::Delete];

impl Bench {
    fn new(way: Way, directory: bool) -> Self {
        Self::in_inbox("", way, directory)
    }

    fn in_inbox(inbox: &'static str, way: Way, directory: bool) -> Self {
        let file_dir = tempfile::tempdir().unwrap();
        let into = match way {
            Way::Rename | Way::Delete => tempfile::tempdir_in(file_dir.path().parent().unwrap()).unwrap(),
            Way::Copy => tempfile::tempdir_in("/dev/shm").unwrap(),
        };
        let device = |dir: &tempfile::TempDir| dir.path().metadata().unwrap().dev();
        assert_eq!(
            device(&file_dir) == device(&into),
            way != Way::Copy,
            "two file systems are needed: /tmp and /dev/shm"
        );
        fs::create_dir_all(file_dir.path().join(inbox)).unwrap();
        let item = file_dir.path().join(inbox).join(NAME);
        if directory {
            fs::create_dir(&item).unwrap();
            fs::create_dir(item.join("deep")).unwrap();
            fs::write(item.join("deep/a"), "aaa").unwrap();
            fs::write(item.join("b"), "").unwrap();
            symlink("../nowhere", item.join("link")).unwrap();
            fs::set_permissions(item.join("deep"), fs::Permissions::from_mode(0o750)).unwrap();
        } else {
            fs::write(&item, "content").unwrap();
            fs::set_permissions(&item, fs::Permissions::from_mode(0o640)).unwrap();
        }
        let site = Site::open(file_dir.path(), &name_in(inbox)).unwrap();
        let survey = site.survey().unwrap();
        let fingerprint = survey.fingerprint(site.prove(&survey, &mut |_| {}).unwrap());
        Self { file_dir, into, inbox, transfer: TransferId::mint(1, [1; 10]), fingerprint, moves: way != Way::Delete }
    }

    fn disposal(&self) -> Disposal {
        let into = self.moves.then(|| self.into.path().to_owned());
        Disposal::new(self.file_dir.path().to_owned(), into)
    }

    /// What the machine knows of the item: what its last look has seen, if its content is still what was delivered.
    fn signature(&self) -> Option<Signature> {
        let site = Site::open(self.file_dir.path(), &name_in(self.inbox)).unwrap();
        site.survey().ok().map(|survey| survey.signature())
    }

    fn run(&self) -> Result<Cleared, Reason> {
        self.run_closed(self.signature())
    }

    fn run_once(&self, signature: Option<Signature>) -> Result<Cleared, Reason> {
        self.disposal().run(self.transfer, &name_in(self.inbox), signature, &self.fingerprint)
    }

    /// After all writers are gone: a child of another test shares our descriptors until exec.
    fn run_closed(&self, signature: Option<Signature>) -> Result<Cleared, Reason> {
        let start = std::time::Instant::now();
        loop {
            match self.run_once(signature) {
                Err(reason) if reason.cause() == Cause::Busy => {
                    assert!(start.elapsed() < std::time::Duration::from_secs(30), "{reason}");
                }
                outcome => return outcome,
            }
        }
    }

    /// The directories in which the item is, and to which it goes.
    fn sides(&self) -> [PathBuf; 2] {
        [self.file_dir.path().join(self.inbox), self.into.path().join(self.inbox)]
    }

    fn names(dir: impl AsRef<Path>) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir.as_ref()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Every whole copy of the item there, by where it is.
    fn whole(&self, tree: &Tree) -> Vec<String> {
        let own = format!(".synkler-{}", self.transfer);
        let named = self.sides().into_iter().flat_map(|dir| [dir.join(NAME), dir.join(format!("{NAME}.~1~"))]);
        let hidden = [self.file_dir.path(), self.into.path()].map(|dir| dir.join(&own).join(NAME));
        let places = named.chain(hidden);
        let content =
            |tree: &Tree| tree.iter().map(|(path, (_, text))| (path.clone(), text.clone())).collect::<Vec<_>>();
        let is_whole = |place: &PathBuf| place.symlink_metadata().is_ok() && content(&tree_of(place)) == content(tree);
        places.filter(is_whole).map(|place| place.display().to_string()).collect()
    }
}

fn name() -> ItemName {
    name_in("")
}

fn name_in(inbox: &str) -> ItemName {
    ItemName::new(Path::new(inbox).join(NAME).as_os_str().as_encoded_bytes()).unwrap()
}

fn tree_of(path: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut pending = vec![path.to_owned()];
    while let Some(at) = pending.pop() {
        let stat = at.symlink_metadata().unwrap();
        let text = if stat.is_dir() {
            pending.extend(fs::read_dir(&at).unwrap().map(|it| it.unwrap().path()));
            String::new()
        } else if stat.is_symlink() {
            fs::read_link(&at).unwrap().display().to_string()
        } else {
            fs::read_to_string(&at).unwrap()
        };
        let mode = if stat.is_symlink() { 0 } else { stat.mode() };
        let relative = at.strip_prefix(path).unwrap().display().to_string();
        tree.insert(relative, (mode, text));
    }
    tree
}

/// Whatever the step at which the daemon dies, once or twice: the next run finishes the work, nothing is lost, nothing
/// is overwritten, and nothing is left over.
#[test]
fn a_run_that_is_killed_at_any_step_loses_and_overwrites_nothing() {
    assert!(stop_at_every_step("") > 500);
}

/// The same in a permanent directory, which stays, and which `cleanup_move` gets too.
#[test]
fn an_inbox_stays_whatever_the_step_at_which_the_daemon_dies() {
    assert!(stop_at_every_step("in box/deep") > 500);
}

fn stop_at_every_step(inbox: &'static str) -> usize {
    let mut stops = 0;
    for way in WAYS {
        for directory in [false, true] {
            for taken in [false, true] {
                for first in 0.. {
                    let mut finished = true;
                    for second in 0.. {
                        let bench = Bench::in_inbox(inbox, way, directory);
                        let [home, goal] = bench.sides();
                        let tree = tree_of(&home.join(NAME));
                        if taken {
                            fs::create_dir_all(&goal).unwrap();
                            fs::write(goal.join(NAME), "older").unwrap();
                        }
                        let label = format!("{way:?} directory {directory} taken {taken} {first} {second}");
                        finished = interrupted_at(first, || bench.run()).is_some();
                        assert!(finished || way == Way::Delete || !bench.whole(&tree).is_empty(), "{label}: lost");
                        let again = interrupted_at(second, || bench.run());
                        assert!(
                            again.is_some() || way == Way::Delete || !bench.whole(&tree).is_empty(),
                            "{label}: lost"
                        );
                        stops += usize::from(!finished) + usize::from(again.is_none());
                        bench.run().unwrap();
                        assert_eq!(Bench::names(&home), [""; 0], "{label}");
                        assert_eq!(Bench::names(&bench.file_dir).len(), usize::from(!inbox.is_empty()), "{label}");
                        let beside = format!("{NAME}.~1~");
                        let wanted = match (way, taken) {
                            (Way::Delete, true) | (Way::Rename | Way::Copy, false) => vec![NAME],
                            (Way::Delete, false) => vec![],
                            (Way::Rename | Way::Copy, true) => vec![NAME, &beside],
                        };
                        let found = if goal.exists() { Bench::names(&goal) } else { Vec::new() };
                        assert_eq!(found, wanted, "{label}");
                        if taken {
                            assert_eq!(fs::read_to_string(goal.join(NAME)).unwrap(), "older", "{label}");
                        }
                        if way != Way::Delete {
                            let arrived = goal.join(if taken { &beside } else { NAME });
                            assert_eq!(tree_of(&arrived), tree, "{label}");
                        }
                        if again.is_some() {
                            break;
                        }
                    }
                    if finished {
                        break;
                    }
                }
            }
        }
    }
    stops
}

#[test]
fn what_a_process_has_open_for_writing_stays() {
    for way in WAYS {
        for directory in [false, true] {
            let bench = Bench::new(way, directory);
            let item = bench.file_dir.path().join(NAME);
            let (file, told) = if directory { (item.join("deep/a"), "deep/a") } else { (item, ".") };
            let open = fs::File::options().append(true).open(&file).unwrap();
            assert_eq!(bench.run_once(bench.signature()), Err(Reason::with(Cause::Busy, told)), "{way:?}");
            assert_eq!(Bench::names(&bench.file_dir), [NAME], "{way:?}");
            assert_eq!(Bench::names(&bench.into), [""; 0], "{way:?}");
            drop(open);
            bench.run().unwrap();
            assert_eq!(Bench::names(&bench.file_dir), [""; 0], "{way:?}");
        }
    }
}

/// A process opens the file at the last moment, or after a run that was killed.
#[test]
fn what_is_opened_in_between_gets_its_name_back() {
    let open = |path: &Path| fs::File::options().append(true).open(path).ok();
    let mut met = 0;
    for (way, is_killed) in WAYS.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        for number in 0.. {
            let bench = Bench::new(way, false);
            let item = bench.file_dir.path().join(NAME);
            let own = bench.file_dir.path().join(format!(".synkler-{}", bench.transfer));
            let (opened, delivered) = (Rc::new(Cell::new(None)), bench.signature());
            let outcome = if is_killed {
                if interrupted_at(number, || bench.run()).is_some() {
                    break;
                }
                let is_done = own.join(std::str::from_utf8(DONE_MARK).unwrap()).exists();
                opened.set(open(&item).or_else(|| if is_done { None } else { open(&own.join(NAME)) }));
                bench.run_once(delivered.filter(|_| item.exists()))
            } else {
                let (opened, item) = (Rc::clone(&opened), item.clone());
                let Some(outcome) = meddled_at(number, move || opened.set(open(&item)), || bench.run_once(delivered))
                else {
                    break;
                };
                outcome
            };
            let Some(mut file) = opened.take() else { continue };
            assert_eq!(outcome.unwrap_err().cause(), Cause::Busy, "{way:?} {is_killed} {number}");
            file.write_all(b" and more").unwrap();
            drop(file);
            assert_eq!(bench.run_closed(delivered), Ok(Cleared::Changed), "{way:?} {is_killed} {number}");
            assert_eq!(fs::read_to_string(&item).unwrap(), "content and more", "{way:?} {is_killed} {number}");
            met += 1;
        }
    }
    assert!(met > 15, "{met}");
}

#[test]
fn an_item_that_went_with_its_inbox_is_gone() {
    for way in WAYS {
        let bench = Bench::in_inbox("in box", way, false);
        let signature = bench.signature();
        fs::remove_dir_all(bench.file_dir.path().join("in box")).unwrap();
        assert_eq!(bench.run_once(signature), Ok(Cleared::Done("it is already gone".to_owned())), "{way:?}");
        assert_eq!(Bench::names(&bench.file_dir), [""; 0]);
    }
}

#[test]
fn what_was_done_is_told() {
    let bench = Bench::new(Way::Rename, false);
    let path = bench.into.path().join(NAME).display().to_string();
    assert_eq!(bench.run(), Ok(Cleared::Done(format!("moved to {path}"))));
    assert_eq!(bench.run(), Ok(Cleared::Done("it is already gone".to_owned())));
    for number in 1..4 {
        fs::write(bench.file_dir.path().join(NAME), "content").unwrap();
        let told = format!("moved to {path}.~{number}~: the name {NAME} was taken there");
        assert_eq!(bench.run(), Ok(Cleared::Remarkable(told)));
    }
    assert_eq!(Bench::new(Way::Delete, true).run(), Ok(Cleared::Done("deleted".to_owned())));
}

#[test]
fn a_copy_has_what_mv_would_give_it() {
    let bench = Bench::new(Way::Copy, true);
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let deep = bench.file_dir.path().join(NAME).join("deep");
    let link = bench.file_dir.path().join(NAME).join("link");
    let touched = std::process::Command::new("touch").args(["-h", "-d", "2001-02-03"]).arg(link).status().unwrap();
    assert!(touched.success());
    fs::File::open(deep.join("a")).unwrap().set_modified(old).unwrap();
    fs::File::open(&deep).unwrap().set_modified(old).unwrap();
    bench.run().unwrap();
    let moved = bench.into.path().join(NAME).join("deep");
    assert_eq!(moved.metadata().unwrap().modified().unwrap(), old);
    assert!(moved.join("../link").symlink_metadata().unwrap().modified().unwrap() < old);
    assert_eq!(moved.join("a").metadata().unwrap().modified().unwrap(), old);
}

#[test]
fn what_is_not_the_delivered_item_is_left_alone() {
    for way in WAYS {
        let bench = Bench::new(way, false);
        let other = Some(Signature([7; 16]));
        let run = || bench.disposal().run(bench.transfer, &name(), other, &bench.fingerprint);
        assert_eq!(run(), Ok(Cleared::Changed));
        assert_eq!(fs::read_to_string(bench.file_dir.path().join(NAME)).unwrap(), "content");
        assert_eq!(Bench::names(&bench.file_dir), [NAME]);
        assert_eq!(Bench::names(&bench.into), [""; 0]);
    }
}

/// An open file can be written to wherever it is.
#[test]
fn what_was_changed_out_of_sight_gets_its_name_back() {
    for way in [Way::Copy, Way::Delete] {
        for steps in 0.. {
            let bench = Bench::new(way, false);
            if interrupted_at(steps, || bench.run()).is_some() {
                break;
            }
            let hidden = bench.file_dir.path().join(format!(".synkler-{}", bench.transfer));
            let is_done = hidden.join(std::str::from_utf8(DONE_MARK).unwrap()).exists();
            if !hidden.join(NAME).exists() || is_done {
                continue;
            }
            fs::write(hidden.join(NAME), "more content").unwrap();
            assert_eq!(bench.run(), Ok(Cleared::Changed), "{way:?} {steps}");
            assert_eq!(Bench::names(&bench.file_dir), [NAME]);
            assert_eq!(fs::read_to_string(bench.file_dir.path().join(NAME)).unwrap(), "more content");
        }
    }
}

/// Where a writer has made a new item meanwhile, neither of the two may go.
#[test]
fn a_new_item_of_the_name_is_not_touched_by_what_was_begun() {
    for way in [Way::Copy, Way::Delete] {
        let mut seen = 0;
        for steps in 0.. {
            let bench = Bench::new(way, false);
            if interrupted_at(steps, || bench.run()).is_some() {
                break;
            }
            let hidden = bench.file_dir.path().join(format!(".synkler-{}", bench.transfer));
            if !hidden.join(NAME).exists() {
                continue;
            }
            fs::write(bench.file_dir.path().join(NAME), "new").unwrap();
            bench.run().unwrap();
            assert_eq!(Bench::names(&bench.file_dir), [NAME], "{way:?} {steps}");
            assert_eq!(fs::read_to_string(bench.file_dir.path().join(NAME)).unwrap(), "new");
            seen += 1;
        }
        assert!(seen > 1, "{way:?} {seen}");
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_named_and_nothing_happens() {
    let bench = Bench::new(Way::Rename, true);
    let refused = |into: &Path| {
        let disposal = Disposal::new(bench.file_dir.path().to_owned(), Some(into.to_owned()));
        let reason = disposal.run(bench.transfer, &name(), None, &bench.fingerprint).unwrap_err();
        assert_eq!(reason.cause(), Cause::Cleanup);
        assert_eq!(Bench::names(&bench.file_dir), [NAME]);
        reason.detail().to_owned()
    };
    let missing = bench.into.path().join("missing");
    assert_eq!(refused(&missing), format!("cannot open {}: no such file or directory", missing.display()));
    // By its path it is somewhere else.
    let link = bench.into.path().join("link");
    symlink(bench.file_dir.path().join(NAME), &link).unwrap();
    assert!(refused(&link).ends_with("it is file_dir or below it; change cleanup_move"));
    fs::remove_file(&link).unwrap();
    symlink(bench.file_dir.path(), &link).unwrap();
    assert!(refused(&link).ends_with("it is file_dir or below it; change cleanup_move"));
}

#[test]
fn a_name_that_has_no_room_for_a_number_waits() {
    let long = ItemName::new(&[b'x'; 254]).unwrap();
    let bench = Bench::new(Way::Rename, false);
    let text = std::str::from_utf8(long.as_bytes()).unwrap();
    fs::write(bench.file_dir.path().join(text), "content").unwrap();
    fs::write(bench.into.path().join(text), "older").unwrap();
    let reason = bench.disposal().run(bench.transfer, &long, None, &bench.fingerprint).unwrap_err();
    assert!(reason.detail().contains("longer than 255 bytes"), "{reason}");
    assert_eq!(fs::read_to_string(bench.file_dir.path().join(text)).unwrap(), "content");
    assert_eq!(fs::read_to_string(bench.into.path().join(text)).unwrap(), "older");
}
