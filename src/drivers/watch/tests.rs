//! The watch on real directories.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use md5::{Digest, Md5};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

const NEVER: Duration = Duration::from_secs(24 * 3600);
const SOON: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything but inotify is far in the future, and a missing directory is tried again soon.
fn hints_only() -> Pace {
    Pace { hinted: (NEVER, 0), polling: (NEVER, 0), retry: SOON, ..Pace::default() }
}

fn survey(dir: BorrowedFd<'_>, name: &ItemName) -> Surveyed {
    fn walk(path: &Path, hasher: &mut Md5, size: &mut u64) -> io::Result<()> {
        let stat = fs::symlink_metadata(path)?;
        let times = [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()];
        hasher.update(format!("{:?} {} {} {times:?}", path.file_name(), stat.ino(), stat.size()));
        if stat.is_dir() {
            let mut below: Vec<_> = fs::read_dir(path)?.map(|entry| entry.unwrap().path()).collect();
            below.sort();
            below.iter().try_for_each(|path| walk(path, hasher, size))?;
        } else {
            *size += stat.size();
        }
        Ok(())
    }
    let path =
        PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let (mut hasher, mut size) = (Md5::new(), 0);
    match walk(&path, &mut hasher, &mut size) {
        Ok(()) => Surveyed::Present { signature: Signature(hasher.finalize().into()), size, unmarked: None },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Surveyed::Gone,
        Err(_) => Surveyed::Unreadable,
    }
}

struct Watched {
    root: TempDir,
    dir: PathBuf,
    events: mpsc::Receiver<Input>,
    watch: Watch,
}

impl Watched {
    /// Starts to watch a directory with these files, one byte each.
    fn start(pace: Pace, files: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("in");
        fs::create_dir(&dir).unwrap();
        files.iter().for_each(|name| fs::write(dir.join(name), "1").unwrap());
        Self::start_in(root, pace, 0)
    }

    /// Watches `in` with this many levels of permanent directories.
    fn start_in(root: TempDir, pace: Pace, depth: usize) -> Self {
        let dir = root.path().join("in");
        let (sender, events) = mpsc::channel(100);
        let is_item = |name: &ItemName| !name.as_bytes().ends_with(b".part");
        let watch = Watch::start_at(pace, Place::new(&dir, is_item, survey).with_depth(depth), sender);
        Self { root, dir, events, watch }
    }

    async fn next(&mut self) -> Input {
        timeout(PATIENCE, self.events.recv()).await.expect("nothing was reported").expect("the watch has ended")
    }

    async fn seen(&mut self) -> (String, u64, bool) {
        match self.next().await {
            Input::Seen(Sighting { name, size, complete, .. }) => (name.to_string(), size, complete),
            other => panic!("{other:?}"),
        }
    }

    async fn vanished(&mut self) -> String {
        match self.next().await {
            Input::Vanished(name) => name.to_string(),
            other => panic!("{other:?}"),
        }
    }

    async fn scanned(&mut self) {
        assert_eq!(self.next().await, Input::Scanned);
    }

    /// Skips the sightings of a file on its way to this size.
    async fn seen_with(&mut self, name: &str, size: u64) {
        loop {
            let seen = self.seen().await;
            assert_eq!((&*seen.0, seen.2), (name, false));
            if seen.1 == size {
                return;
            }
        }
    }

    async fn mode(&mut self, wanted: impl Fn(&Mode) -> bool) {
        timeout(PATIENCE, self.watch.mode.wait_for(wanted)).await.expect("the mode stays").unwrap();
    }

    fn aside(&self) -> PathBuf {
        self.root.path().join("aside")
    }
}

fn file(name: &str) -> (String, u64, bool) {
    (name.to_owned(), 1, false)
}

fn waits(mode: &Mode) -> bool {
    matches!(mode, Mode::Waiting(why) if why != "it has just started")
}

#[tokio::test]
async fn what_is_there_is_reported_once_and_then_that_this_was_all() {
    let mut watched = Watched::start(hints_only(), &["b", "a", ".hidden", "c d", "e.part"]);
    for name in ["a", "b", "c d"] {
        assert_eq!(watched.seen().await, file(name));
    }
    watched.scanned().await;
    assert_eq!(watched.watch.mode(), Mode::Inotify);
    let Watched { mut events, watch, .. } = watched;
    drop(watch);
    assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap(), None, "dropping it ends the watch");
}

#[tokio::test]
async fn what_is_no_item_is_not_reported_before_it_has_another_name() {
    for pace in [hints_only(), Pace { inotify: false, polling: (Duration::ZERO, 0), ..hints_only() }] {
        let mut watched = Watched::start(pace, &[]);
        watched.scanned().await;
        let (unfinished, whole) = (watched.dir.join("big.iso.part"), watched.dir.join("big.iso"));
        fs::write(&unfinished, "1").unwrap();
        fs::write(watched.dir.join("other"), "1").unwrap();
        assert_eq!(watched.seen().await.0, "other");
        fs::rename(&unfinished, &whole).unwrap();
        assert_eq!(watched.seen().await.0, "big.iso");
        fs::rename(&whole, &unfinished).unwrap();
        assert_eq!(watched.vanished().await, "big.iso");
    }
}

#[tokio::test]
async fn inotify_tells_of_every_kind_of_change() {
    let mut watched = Watched::start(hints_only(), &[]);
    watched.scanned().await;
    let path = |name: &str| watched.dir.join(name);
    let (a, b, hidden, moved_in) = (path("a"), path("b"), path(".c.X1"), path("c"));
    fs::write(&a, "12345").unwrap();
    watched.seen_with("a", 5).await;
    fs::write(&a, "123456789").unwrap();
    watched.seen_with("a", 9).await;
    fs::set_permissions(&a, fs::Permissions::from_mode(0o600)).unwrap();
    watched.seen_with("a", 9).await;
    fs::rename(&a, &b).unwrap();
    assert_eq!(watched.vanished().await, "a");
    assert_eq!(watched.seen().await, ("b".to_owned(), 9, true));
    fs::remove_file(&b).unwrap();
    assert_eq!(watched.vanished().await, "b");
    fs::write(&hidden, "12").unwrap();
    fs::rename(&hidden, &moved_in).unwrap();
    assert_eq!(watched.seen().await, ("c".to_owned(), 2, true));
    fs::create_dir(&a).unwrap();
    watched.seen_with("a", 0).await;
}

#[tokio::test]
async fn a_burst_of_renames_is_seen_completely() {
    let mut watched = Watched::start(hints_only(), &[]);
    watched.scanned().await;
    let aside = watched.aside();
    fs::create_dir(&aside).unwrap();
    let names: Vec<_> = (0..5000).map(|number| format!("{number:04}")).collect();
    names.iter().for_each(|name| fs::write(aside.join(name), "1").unwrap());
    names.iter().for_each(|name| fs::rename(aside.join(name), watched.dir.join(name)).unwrap());
    let mut seen = Vec::new();
    for _ in &names {
        let (name, size, complete) = watched.seen().await;
        assert!(complete && size == 1, "{name}");
        seen.push(name);
    }
    seen.sort();
    assert_eq!(seen, names);
}

#[tokio::test]
async fn events_that_did_not_fit_are_made_up_for() {
    let mut watched = Watched::start(hints_only(), &["a"]);
    assert_eq!(watched.seen().await, file("a"));
    watched.scanned().await;
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let (one, other) = (watched.dir.join(".one"), watched.dir.join(".other"));
    fs::write(&one, "").unwrap();
    // The watch runs in this thread, so it reads none of these before the last one. Each rename causes two events.
    for _ in 0..limit.trim().parse::<u32>().unwrap() / 4 + 100 {
        fs::rename(&one, &other).unwrap();
        fs::rename(&other, &one).unwrap();
    }
    fs::remove_file(watched.dir.join("a")).unwrap();
    fs::write(watched.dir.join("late"), "1").unwrap();
    assert_eq!(watched.vanished().await, "a");
    assert_eq!(watched.seen().await, file("late"));
}

#[tokio::test]
async fn changes_deep_inside_are_found_by_looking_again() {
    let mut watched = Watched::start(Pace { hinted: (SOON, 0), ..hints_only() }, &[]);
    watched.scanned().await;
    let aside = watched.aside();
    fs::create_dir_all(aside.join("sub")).unwrap();
    fs::write(aside.join("sub/file"), "1").unwrap();
    fs::rename(&aside, watched.dir.join("d")).unwrap();
    let seen = watched.seen().await;
    assert_eq!((&*seen.0, seen.1), ("d", 1));
    fs::write(watched.dir.join("d/sub/file"), "12345678").unwrap();
    watched.seen_with("d", 8).await;
}

#[tokio::test]
async fn without_inotify_it_looks_again_and_again() {
    let pace = Pace { inotify: false, polling: (SOON, 0), ..hints_only() };
    let mut watched = Watched::start(pace, &["a"]);
    assert_eq!(watched.seen().await, file("a"));
    watched.scanned().await;
    assert_eq!(watched.watch.mode().to_string(), "polling: inotify is not used");
    fs::rename(watched.dir.join("a"), watched.dir.join("b")).unwrap();
    let (one, other) = (watched.next().await, watched.next().await);
    assert_eq!(one, Input::Vanished(ItemName::new(b"a").unwrap()));
    assert!(matches!(other, Input::Seen(Sighting { complete: false, .. })));
}

#[tokio::test]
async fn a_directory_that_is_away_is_not_an_empty_one() {
    let mut watched = Watched::start(hints_only(), &["a", "b"]);
    assert_eq!((watched.seen().await, watched.seen().await), (file("a"), file("b")));
    watched.scanned().await;
    fs::rename(&watched.dir, watched.aside()).unwrap();
    watched.mode(waits).await;
    fs::remove_file(watched.aside().join("a")).unwrap();
    fs::rename(watched.aside(), &watched.dir).unwrap();
    assert_eq!(watched.vanished().await, "a");
    watched.mode(|mode| *mode == Mode::Inotify).await;
    fs::write(watched.dir.join("c"), "1").unwrap();
    watched.seen_with("c", 1).await;
}

#[tokio::test]
async fn what_shows_where_a_mount_is_missing_is_not_the_directory() {
    for inotify in [true, false] {
        let pace = Pace { inotify, polling: (SOON, 0), ..hints_only() };
        let mut watched = Watched::start(pace, &["a"]);
        assert_eq!(watched.seen().await, file("a"));
        watched.scanned().await;
        fs::rename(&watched.dir, watched.aside()).unwrap();
        symlink("/proc", &watched.dir).unwrap();
        watched.mode(|mode| mode.to_string().contains("is something not mounted")).await;
        fs::remove_file(&watched.dir).unwrap();
        fs::rename(watched.aside(), &watched.dir).unwrap();
        watched.mode(|mode| !waits(mode)).await;
        fs::write(watched.dir.join("b"), "1").unwrap();
        watched.seen_with("b", 1).await;
    }
}

#[tokio::test]
async fn a_directory_made_in_its_place_counts() {
    let mut watched = Watched::start(hints_only(), &["a"]);
    assert_eq!(watched.seen().await, file("a"));
    watched.scanned().await;
    fs::rename(&watched.dir, watched.aside()).unwrap();
    fs::create_dir(&watched.dir).unwrap();
    fs::write(watched.dir.join("b"), "1").unwrap();
    assert_eq!(watched.vanished().await, "a");
    assert_eq!(watched.seen().await, file("b"));
}

#[tokio::test]
async fn a_directory_may_come_later() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("in");
    let (sender, events) = mpsc::channel(100);
    let watch =
        Watch::start_at(hints_only(), Place::new(&dir, |name| !name.as_bytes().ends_with(b".part"), survey), sender);
    let mut watched = Watched { root, dir, events, watch };
    watched.mode(waits).await;
    fs::create_dir(watched.aside()).unwrap();
    fs::write(watched.aside().join("a"), "1").unwrap();
    fs::rename(watched.aside(), &watched.dir).unwrap();
    assert_eq!(watched.seen().await, file("a"));
    watched.scanned().await;
}

#[tokio::test]
async fn what_is_beyond_the_limit_waits() {
    let pace = Pace { hinted: (SOON, 0), items: 2, ..hints_only() };
    let mut watched = Watched::start(pace, &["a", "b", "c"]);
    let (one, other) = (watched.seen().await.0, watched.seen().await.0);
    watched.scanned().await;
    let rest = ["a", "b", "c"].into_iter().find(|name| *name != one && *name != other).unwrap();
    fs::remove_file(watched.dir.join(&one)).unwrap();
    assert_eq!(watched.vanished().await, one);
    assert_eq!(watched.seen().await, file(rest));
}

#[tokio::test]
async fn a_survey_that_panics_does_not_end_the_watch() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "1").unwrap();
    let first = AtomicBool::new(true);
    let place = Place::new(
        root.path(),
        |_| true,
        move |dir, name| {
            assert!(!first.swap(false, Ordering::Relaxed), "intended");
            survey(dir, name)
        },
    );
    let (sender, events) = mpsc::channel(100);
    let watch = Watch::start_at(hints_only(), place, sender);
    let dir = root.path().to_owned();
    let mut watched = Watched { root, dir, events, watch };
    assert_eq!(watched.seen().await, file("a"));
    watched.scanned().await;
}

#[test]
fn looking_at_everything_takes_a_small_part_of_the_time() {
    let pace = Pace::default();
    let seconds = Duration::from_secs;
    assert_eq!(pace.interval(true, Duration::from_millis(10)), seconds(60));
    assert_eq!(pace.interval(true, seconds(1)), seconds(200));
    assert_eq!(pace.interval(false, Duration::from_millis(10)), seconds(2));
    assert_eq!(pace.interval(false, seconds(1)), seconds(50));
}

/// Two inboxes, one of them with an item, and a file beside them.
fn inboxes() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("in");
    fs::create_dir_all(dir.join("alpha/whole/below")).unwrap();
    fs::create_dir_all(dir.join("beta c")).unwrap();
    fs::create_dir_all(dir.join("off.part/x")).unwrap();
    fs::create_dir_all(dir.join(".hidden/x")).unwrap();
    fs::write(dir.join("alpha/one"), "1").unwrap();
    fs::write(dir.join("stray"), "1").unwrap();
    root
}

async fn seen_names(watched: &mut Watched, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(watched.seen().await.0);
    }
    names.sort();
    names
}

#[tokio::test]
async fn permanent_directories_are_no_items_and_what_is_in_them_is() {
    let mut watched = Watched::start_in(inboxes(), hints_only(), 1);
    assert_eq!(seen_names(&mut watched, 3).await, ["alpha/one", "alpha/whole", "stray"]);
    watched.scanned().await;
    watched.mode(|mode| *mode == Mode::Inotify).await;
    // In a known inbox, only inotify tells it.
    fs::write(watched.dir.join("beta c/two"), "1").unwrap();
    watched.seen_with("beta c/two", 1).await;
    fs::remove_file(watched.dir.join("alpha/one")).unwrap();
    assert_eq!(watched.vanished().await, "alpha/one");
    // What was in a new inbox before it was noticed, and after.
    fs::create_dir(watched.aside()).unwrap();
    fs::write(watched.aside().join("before"), "1").unwrap();
    fs::rename(watched.aside(), watched.dir.join("gamma")).unwrap();
    watched.seen_with("gamma/before", 1).await;
    fs::write(watched.dir.join("gamma/after"), "1").unwrap();
    watched.seen_with("gamma/after", 1).await;
    // With another name, everything in it has another name, and the old inotify watch knows it.
    fs::rename(watched.dir.join("gamma"), watched.dir.join("delta")).unwrap();
    let mut changes = Vec::new();
    for _ in 0..4 {
        changes.push(match watched.next().await {
            Input::Seen(sighting) => format!("+{}", sighting.name),
            Input::Vanished(name) => format!("-{name}"),
            other => panic!("{other:?}"),
        });
    }
    changes.sort();
    assert_eq!(changes, ["+delta/after", "+delta/before", "-gamma/after", "-gamma/before"]);
    fs::write(watched.dir.join("delta/last"), "1").unwrap();
    watched.seen_with("delta/last", 1).await;
}

#[tokio::test]
async fn an_inbox_that_becomes_a_file_and_a_file_that_becomes_an_inbox() {
    let mut watched = Watched::start_in(inboxes(), hints_only(), 1);
    seen_names(&mut watched, 3).await;
    watched.scanned().await;
    fs::remove_file(watched.dir.join("stray")).unwrap();
    assert_eq!(watched.vanished().await, "stray");
    fs::create_dir(watched.dir.join("stray")).unwrap();
    fs::write(watched.dir.join("stray/a"), "1").unwrap();
    watched.seen_with("stray/a", 1).await;
    fs::remove_dir_all(watched.dir.join("stray")).unwrap();
    assert_eq!(watched.vanished().await, "stray/a");
    symlink("alpha", watched.dir.join("stray")).unwrap();
    assert_eq!(watched.seen().await.0, "stray", "a link is no inbox");
}

#[tokio::test]
async fn polling_sees_inboxes_too_and_a_new_one_at_the_next_scan() {
    let pace = Pace { inotify: false, polling: (SOON, 0), ..Pace::default() };
    let mut watched = Watched::start_in(inboxes(), pace, 1);
    assert_eq!(seen_names(&mut watched, 3).await, ["alpha/one", "alpha/whole", "stray"]);
    watched.scanned().await;
    fs::create_dir_all(watched.dir.join("gamma/sub")).unwrap();
    assert_eq!(watched.seen().await.0, "gamma/sub");
    fs::remove_dir_all(watched.dir.join("gamma")).unwrap();
    assert_eq!(watched.vanished().await, "gamma/sub");
}

#[tokio::test]
async fn a_hundred_inboxes_that_come_while_it_scans_are_all_found() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("in")).unwrap();
    let dir = root.path().join("in");
    let mut watched = Watched::start_in(root, hints_only(), 2);
    watched.scanned().await;
    let writer = std::thread::spawn(move || {
        for number in 0..100 {
            let inbox = dir.join(format!("a{}/b{number}", number % 7));
            fs::create_dir_all(&inbox).unwrap();
            fs::write(inbox.join("item"), "1").unwrap();
        }
    });
    let mut found = std::collections::BTreeSet::new();
    while found.len() < 100 {
        found.insert(watched.seen().await.0);
    }
    writer.join().unwrap();
    assert!(found.iter().all(|name| name.ends_with("/item")), "{found:?}");
}
