//! Upload: items in `file_dir`, which belong to users and are only ever read. Only the marker of an item goes with it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use super::folder::Folder;
use super::ready::{lack, unmark};
use super::{LayoutError, look_at};
use crate::drivers::clock::Clock;
use crate::drivers::disk::Refusal;
use crate::drivers::extras::extras;
use crate::drivers::manifest::{Entry, Site, Survey, SurveyError};
use crate::drivers::modes::modes;
use crate::drivers::sys::{Writers, writers};
use crate::machine::{
    Cause, Digest, Extra, Extras, HashOutcome, ItemName, Keep, Origin, Readiness, Reason, Sight, Sighting, Signature,
    escaped,
};

/// Longer than a tick of a file system's clock (10 ms if the kernel runs at 100 Hz): after a change at least this long
/// ago, every later change shows in the time stamps.
const TICK: Duration = Duration::from_millis(25);

/// The watched directory.
#[derive(Debug, Clone)]
pub struct Source {
    file_dir: PathBuf,
    /// How many levels of permanent directories are above items.
    depth: usize,
    clock: Clock,
    is_unfinished: Unfinished,
    ready: Readiness,
    keep: Keep,
}

/// Tells of a path below `file_dir` whether a writer has not finished what is there.
#[derive(Clone)]
struct Unfinished(Arc<IsUnfinished>);

type IsUnfinished = dyn Fn(&[u8]) -> bool + Send + Sync;

impl fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unfinished")
    }
}

impl Source {
    /// The items below `depth` levels of directories in `file_dir`. `is_unfinished` is asked for the path below it of
    /// everything that a directory holds: one that holds such a thing waits.
    pub fn new(
        file_dir: PathBuf,
        depth: usize,
        clock: Clock,
        is_unfinished: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            file_dir,
            depth,
            clock,
            is_unfinished: Unfinished(Arc::new(is_unfinished)),
            ready: Readiness::Settled,
            keep: Keep::default(),
        }
    }

    /// The same, with another rule for when items count as complete.
    pub fn with_ready(self, ready: Readiness) -> Self {
        Self { ready, ..self }
    }

    /// The same, if these extras travel.
    pub fn with_keep(self, keep: Keep) -> Self {
        Self { keep, ..self }
    }

    /// The watched directory.
    pub fn file_dir(&self) -> &Path {
        &self.file_dir
    }

    /// Fails unless `file_dir` can be listed. It need not be writable: only the cleanup script knows what it needs.
    pub fn prepare(&self) -> Result<(), LayoutError> {
        let checked = Folder::open(&self.file_dir).and_then(|dir| dir.check(false));
        checked.map_err(|refusal| LayoutError::new(&self.file_dir, refusal))
    }

    /// Looks at an item in this open directory, and why it does not count as complete for lack of its marker.
    ///
    /// # Errors
    /// Those of [`Site::survey`].
    pub fn survey(&self, dir: BorrowedFd<'_>, item: &ItemName) -> Result<(Survey, Option<Reason>), SurveyError> {
        let own = || dir.try_clone_to_owned();
        let refused = |error: std::io::Error| {
            let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
            SurveyError::from(Refusal::new("open", &self.file_dir, errno))
        };
        let survey = Site::within(own().map_err(refused)?, &self.file_dir, item)?.survey()?;
        let Some(marker) = self.ready.marker() else { return Ok((survey, None)) };
        let top = Folder::within(own().map_err(refused)?, &self.file_dir);
        let unmarked = lack(&top, marker, item, &survey);
        Ok((survey, unmarked))
    }

    /// Carries out [`crate::machine::Effect::Unmark`]. What cannot be removed is logged: it does no harm, because a
    /// marker counts only for what is older than itself.
    pub fn unmark(&self, item: &ItemName) {
        let Some(marker) = self.ready.marker() else { return };
        let done = Folder::open(&self.file_dir).map_err(|refusal| refusal.to_string());
        if let Err(why) = done.and_then(|top| unmark(&top, marker, item)) {
            tracing::warn!("the marker of {item} stays: {why}");
        }
    }

    /// Carries out [`crate::machine::Effect::Look`].
    pub fn look(&self, item: &ItemName) -> Sight {
        look_at(&self.file_dir, item)
    }

    /// Carries out [`crate::machine::Effect::Hash`]: no process may have a file of the item open for writing, and the
    /// item must have `signature` before its bytes are read and after. If the kernel does not report writers, the quiet
    /// time has to be enough.
    pub fn hash(&self, item: &ItemName, signature: Signature) -> HashOutcome {
        match self.try_hash(item, signature) {
            Ok(outcome) => outcome,
            Err(SurveyError::Gone) => HashOutcome::Gone,
            Err(error) => HashOutcome::Held(Reason::with(Cause::Unreadable, &error.to_string())),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "file times are wall-clock times, and nothing tells when a tick is over"
    )]
    fn try_hash(&self, item: &ItemName, signature: Signature) -> Result<HashOutcome, SurveyError> {
        let site = Site::open(&self.file_dir, item)?;
        let mut survey = site.survey()?;
        if item.depth() < self.depth {
            return Ok(HashOutcome::Held(Reason::new(Cause::TooHigh)));
        }
        if survey.is_fresh(SystemTime::now(), TICK) {
            std::thread::sleep(TICK);
            survey = site.survey()?;
        }
        if survey.signature() != signature {
            return Ok(self.changed(item, &survey));
        }
        let Some(kind) = survey.kind().filter(|_| survey.special().is_none()) else {
            let path = survey.special().map(|entry| escaped(&entry.path)).unwrap_or_default();
            return Ok(HashOutcome::Held(Reason::with(Cause::Special, &path)));
        };
        if let Some(path) = self.unfinished(item, &survey) {
            return Ok(HashOutcome::Held(Reason::with(Cause::Incomplete, &format!("it contains {path}"))));
        }
        let proof = match written(&site, &survey) {
            Ok(Some(path)) => Ok(Err(Reason::with(Cause::Busy, &path))),
            Ok(None) => self.prove(&site, &survey).map(Ok),
            Err(error) => Err(error),
        };
        // Whatever the result, a source that has changed meanwhile has to settle first.
        let again = site.survey()?;
        if again.signature() != signature {
            return Ok(self.changed(item, &again));
        }
        Ok(match proof? {
            Ok((digest, manifest, extras)) => HashOutcome::Proven {
                kind,
                entries: survey.entries().len() as u64,
                fingerprint: survey.fingerprint(digest),
                modes: modes(&survey),
                extras,
                manifest,
                origin: Origin {
                    made: survey.origin().born.map(|born| self.clock.of_wall(born)),
                    ..survey.origin().clone()
                },
            },
            Err(busy) => HashOutcome::Held(busy),
        })
    }
}

impl Source {
    fn changed(&self, item: &ItemName, survey: &Survey) -> HashOutcome {
        let unmarked = self.ready.marker().and_then(|marker| match Folder::open(&self.file_dir) {
            Ok(top) => lack(&top, marker, item, survey),
            Err(refusal) => Some(Reason::with(Cause::Unmarked, &refusal.to_string())),
        });
        let (name, signature, size) = (item.clone(), survey.signature(), survey.size());
        HashOutcome::Changed(Sighting { name, signature, size, complete: false, unmarked })
    }

    /// The digest, the manifest and the extras. Nobody misses an ACL at the destination that only lets us in here.
    fn prove(&self, site: &Site, survey: &Survey) -> Result<(Digest, Option<Arc<str>>, Extras), SurveyError> {
        let (digest, manifest) = site.prove_with_manifest(survey)?;
        let us = (!self.keep.has(Extra::Acls)).then(|| rustix::process::geteuid().as_raw());
        Ok((digest, manifest, extras(site, survey, Extra::ALL.into_iter().collect(), us)?))
    }

    /// The first thing in a directory that is not finished.
    fn unfinished(&self, item: &ItemName, survey: &Survey) -> Option<String> {
        let below = survey.entries().iter().filter(|entry| &*entry.path != b".");
        let mut path = item.as_bytes().to_vec();
        path.push(b'/');
        let start = path.len();
        let mut is_unfinished = |entry: &&Entry| {
            path.truncate(start);
            path.extend_from_slice(&entry.path);
            (self.is_unfinished.0)(&path)
        };
        below.into_iter().find(|entry| is_unfinished(entry)).map(|entry| escaped(&entry.path))
    }
}

/// The first file of an item that a process has open for writing, by its path inside the item.
pub(super) fn written(site: &Site, survey: &Survey) -> Result<Option<String>, SurveyError> {
    static UNKNOWN: Once = Once::new();
    let mut opener = site.opener();
    for entry in survey.files() {
        match writers(opener.open(entry)?.as_fd()) {
            Writers::None => {}
            Writers::Some => return Ok(Some(escaped(&entry.path))),
            Writers::Unknown(errno) => UNKNOWN.call_once(|| {
                let refusal = site.refusal("ask who writes", &entry.path, errno);
                tracing::warn!("{refusal}; only settle_seconds shows when such items are complete");
            }),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io::{Seek, Write};

    use super::*;
    use crate::drivers::files::testing::{as_nobody, name, with_mount};

    fn source() -> (tempfile::TempDir, Source) {
        let dir = tempfile::tempdir().unwrap();
        let source = Source::new(dir.path().to_owned(), 0, Clock::start(), |path| path.ends_with(b".part"));
        source.prepare().unwrap();
        (dir, source)
    }

    fn signature(source: &Source, item: &ItemName) -> Signature {
        match source.look(item) {
            Sight::Present(signature) => signature,
            other => panic!("{other:?}"),
        }
    }

    fn hash(source: &Source, item: &ItemName) -> HashOutcome {
        source.hash(item, signature(source, item))
    }

    /// After all writers are gone: a child of another test shares our descriptors until exec.
    fn hash_closed(source: &Source, item: &ItemName, signature: Signature) -> HashOutcome {
        let start = std::time::Instant::now();
        loop {
            match source.hash(item, signature) {
                HashOutcome::Held(reason) if reason.cause() == Cause::Busy => {
                    assert!(start.elapsed() < Duration::from_secs(30), "{reason}");
                }
                other => return other,
            }
        }
    }

    fn is_open(path: &Path) -> bool {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        open.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == path))
    }

    #[test]
    fn a_directory_that_holds_something_unfinished_waits_for_it() {
        let (dir, source) = source();
        fs::create_dir_all(dir.path().join("item/sub.part/x")).unwrap();
        let hash = || hash(&source, &name("item"));
        let held = |text: &str| HashOutcome::Held(Reason::with(Cause::Incomplete, text));
        assert_eq!(hash(), held("it contains sub.part"));
        fs::rename(dir.path().join("item/sub.part"), dir.path().join("item/sub")).unwrap();
        assert!(matches!(hash(), HashOutcome::Proven { .. }));
        fs::write(dir.path().join("item/sub/x/y.part"), "").unwrap();
        assert_eq!(hash(), held("it contains sub/x/y.part"));
        // Its own name is for the watch.
        fs::create_dir(dir.path().join("z.part")).unwrap();
        let item = name("z.part");
        assert!(matches!(source.hash(&item, signature(&source, &item)), HashOutcome::Proven { .. }));
    }

    #[test]
    fn an_item_is_below_the_permanent_directories_and_on_their_file_system() {
        let (dir, flat) = source();
        let source = Source { depth: 1, ..flat };
        fs::create_dir(dir.path().join("inbox")).unwrap();
        fs::write(dir.path().join("inbox/item"), "x").unwrap();
        fs::write(dir.path().join("stray"), "x").unwrap();
        let item = ItemName::new(b"inbox/item").unwrap();
        let seen = signature(&source, &item);
        let outcome = hash_closed(&source, &item, seen);
        assert!(matches!(outcome, HashOutcome::Proven { .. }), "{outcome:?}");
        assert_eq!(hash(&source, &name("stray")), HashOutcome::Held(Reason::new(Cause::TooHigh)));
        // A link is no permanent directory.
        fs::rename(dir.path().join("inbox"), dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("inbox")).unwrap();
        assert_eq!(source.look(&item), Sight::Gone);
        assert_eq!(source.hash(&item, seen), HashOutcome::Gone);
        fs::remove_file(dir.path().join("inbox")).unwrap();
        assert_eq!(source.look(&item), Sight::Gone);
    }

    #[test]
    fn what_a_mount_on_an_inbox_hides_is_not_gone() {
        let path = "drivers::files::source::tests::what_a_mount_on_an_inbox_hides_is_not_gone";
        with_mount(path, "mode=0700", "inbox", |dir| {
            let run = |program: &str, arguments: &[&str]| {
                let status = std::process::Command::new(program).args(arguments).arg(dir.join("inbox")).status();
                assert!(status.unwrap().success());
            };
            let source = Source::new(dir.to_owned(), 1, Clock::start(), |_| false);
            let item = ItemName::new(b"inbox/item").unwrap();
            assert!(matches!(source.look(&item), Sight::Unreadable(_)), "mounted, and empty");
            run("umount", &[]);
            fs::write(dir.join("inbox/item"), "x").unwrap();
            let seen = signature(&source, &item);
            run("mount", &["-t", "tmpfs", "none"]);
            let Sight::Unreadable(reason) = source.look(&item) else { panic!() };
            assert!(reason.detail().ends_with("inbox: it is on another file system"), "{reason}");
            assert!(matches!(source.hash(&item, seen), HashOutcome::Held(_)));
            run("umount", &[]);
            assert_eq!(source.look(&item), Sight::Present(seen));
        });
    }

    #[test]
    fn what_somebody_writes_is_busy() {
        let (dir, source) = source();
        fs::create_dir_all(dir.path().join("item/sub")).unwrap();
        fs::write(dir.path().join("item/a"), "a").unwrap();
        let open = File::create(dir.path().join("item/sub/b c")).unwrap();
        let item = name("item");
        let HashOutcome::Held(reason) = hash(&source, &item) else { panic!() };
        assert_eq!((reason.cause(), reason.detail()), (Cause::Busy, "sub/b c"));
        drop(open);
        let outcome = hash_closed(&source, &item, signature(&source, &item));
        assert!(matches!(outcome, HashOutcome::Proven { entries: 4, .. }), "{outcome:?}");
    }

    #[test]
    fn special_files_hold_an_item_and_never_hang_it() {
        let (dir, source) = source();
        fs::create_dir(dir.path().join("item")).unwrap();
        let fifo = dir.path().join("item/pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let HashOutcome::Held(reason) = hash(&source, &name("item")) else { panic!() };
        assert_eq!((reason.cause(), reason.detail()), (Cause::Special, "pipe"));
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let HashOutcome::Held(reason) = hash(&source, &name("socket")) else { panic!() };
        assert_eq!((reason.cause(), reason.detail()), (Cause::Special, "."));
    }

    #[test]
    fn a_file_that_changes_while_it_is_hashed_is_never_proven() {
        let (dir, source) = source();
        let path = dir.path().join("item");
        fs::write(&path, vec![b'a'; 32 << 20]).unwrap();
        let item = name("item");
        let before = signature(&source, &item);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The caller has surveyed the file before and is about to read it.
                while !is_open(&path) {
                    std::thread::yield_now();
                }
                let mut file = OpenOptions::new().write(true).open(&path).unwrap();
                file.seek(std::io::SeekFrom::End(-1)).unwrap();
                file.write_all(b"b").unwrap();
            });
            let outcome = source.hash(&item, before);
            assert!(matches!(outcome, HashOutcome::Changed(_)), "{outcome:?}");
        });
        let HashOutcome::Changed(sighting) = source.hash(&item, before) else { panic!() };
        assert_eq!((sighting.signature, sighting.size), (signature(&source, &item), 32 << 20));
        let outcome = hash_closed(&source, &item, signature(&source, &item));
        assert!(matches!(outcome, HashOutcome::Proven { .. }), "{outcome:?}");
    }

    #[test]
    fn a_change_within_one_tick_of_the_clock_is_seen() {
        let (dir, source) = source();
        let item = name("item");
        for round in 0..50 {
            fs::write(dir.path().join("item"), format!("{round:04}")).unwrap();
            let before = signature(&source, &item);
            fs::write(dir.path().join("item"), format!("{:04}", round + 1000)).unwrap();
            match hash_closed(&source, &item, before) {
                HashOutcome::Changed(_) => {}
                // The clock did not advance: then the present content is the one that is hashed.
                HashOutcome::Proven { fingerprint, .. } => {
                    let HashOutcome::Proven { fingerprint: now, .. } = hash_closed(&source, &item, before) else {
                        panic!()
                    };
                    assert_eq!(fingerprint, now);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_missing_file_dir_is_not_a_missing_item() {
        let (dir, source) = source();
        drop(dir);
        assert!(matches!(source.look(&name("item")), Sight::Unreadable(_)));
        assert!(matches!(source.hash(&name("item"), Signature([0; 16])), HashOutcome::Held(_)));
        let error = source.prepare().unwrap_err();
        assert!(error.to_string().contains("create it"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        as_nobody("drivers::files::source::tests::what_cannot_be_read_says_so", || {
            use std::os::unix::fs::PermissionsExt;
            let (dir, source) = source();
            fs::create_dir(dir.path().join("item")).unwrap();
            let secret = dir.path().join("item/secret");
            fs::write(&secret, "x").unwrap();
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
            let HashOutcome::Held(reason) = hash(&source, &name("item")) else { panic!() };
            assert_eq!(reason.cause(), Cause::Unreadable);
            assert!(reason.detail().ends_with("item/secret: permission denied"), "{reason}");

            fs::create_dir(dir.path().join("closed")).unwrap();
            fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
            let Sight::Unreadable(reason) = source.look(&name("closed")) else { panic!() };
            assert!(reason.detail().ends_with("closed: permission denied"), "{reason}");
            fs::remove_dir(dir.path().join("closed")).unwrap();

            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o300)).unwrap();
            let error = source.prepare().unwrap_err();
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
            assert!(error.to_string().contains("permission"), "{error}");
        });
    }
}
