//! Upload's eyes: what is in `file_dir`, and what has changed since it was reported last.
//!
//! Looking is the truth and inotify only a hint where to look next: the whole directory is looked at again and again,
//! every item entry by entry, so an event that is lost, late or never sent (deep inside a directory, on a network
//! file system) costs time and nothing else. A directory that is away is not an empty one: while `file_dir` is
//! missing, or a mount below it is, nothing is reported at all.

mod hints;
mod place;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, error, info, warn};

use self::hints::{Hints, Listener, Subscription, remedy};
use self::place::{Identity, Look, Looks, Lost, Place};
use crate::machine::{Input, ItemName, Sighting, Signature, escaped, one_line};

/// The most items that are known at a time; what is beyond waits until others are gone.
pub const ITEM_LIMIT: usize = 1_000_000;

/// Items that are looked at in one go, before inotify is heard again.
const CHUNK: usize = 256;
/// The least time between two looks that inotify asks for, so that a busy writer costs little.
const CALM: Duration = Duration::from_millis(20);
/// The most.
const CALM_LIMIT: Duration = Duration::from_secs(1);

/// What a survey of one item found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surveyed {
    /// It is there.
    Present {
        /// What tells one state of it from another.
        signature: Signature,
        /// Bytes of all its files.
        size: u64,
    },
    /// It is not there.
    Gone,
    /// It is there, but not all of it can be looked at. It is reported all the same: why it cannot be sent is found
    /// out when it is hashed.
    Unreadable,
}

/// How a directory is watched, in words for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// inotify tells at once, and everything is looked at about once a minute.
    Inotify,
    /// Everything is looked at every few seconds, and why.
    Polling(String),
    /// Nothing is looked at, and why.
    Waiting(String),
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inotify => f.write_str("inotify"),
            Self::Polling(why) => write!(f, "polling: {why}"),
            Self::Waiting(why) => write!(f, "waiting: {why}"),
        }
    }
}

/// Asks inotify to watch `dir`, and lets it go again. Blocks.
///
/// # Errors
///
/// What inotify says: `ENOSPC` when this user's watches are used up, `EMFILE` when it is the instances or the
/// process's open files.
pub fn probe(dir: &Path) -> io::Result<()> {
    Subscription::new(dir).map(drop)
}

/// A watched directory; dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    task: JoinHandle<()>,
    mode: watch::Receiver<Mode>,
}

impl Watch {
    /// Watches `file_dir`; must be called on a tokio runtime. `survey` is given the directory, open, and an item's
    /// name; it runs on blocking threads.
    ///
    /// What is new or changed goes to `events` as [`Input::Seen`], what is gone as [`Input::Vanished`], the end of
    /// the first look at everything as [`Input::Scanned`]. Names that start with `.` are never reported. There are no
    /// errors: while the directory cannot be read, or `knows` says that it is another one, nothing is reported, and the
    /// log says so.
    pub fn start(
        file_dir: &Path,
        survey: impl Fn(BorrowedFd<'_>, &ItemName) -> Surveyed + Send + Sync + 'static,
        knows: impl Fn(BorrowedFd<'_>) -> bool + Send + Sync + 'static,
        events: mpsc::Sender<Input>,
    ) -> Self {
        Self::start_at(Pace::default(), Place::new(file_dir, survey).known_by(knows), events)
    }

    /// How it watches at present.
    pub fn mode(&self) -> Mode {
        self.mode.borrow().clone()
    }

    fn start_at(pace: Pace, place: Place, events: mpsc::Sender<Input>) -> Self {
        let (sender, mode) = watch::channel(Mode::Waiting("it has just started".to_owned()));
        let watcher = Watcher {
            pace,
            place: Arc::new(place),
            events,
            mode: sender,
            known: BTreeMap::new(),
            home: None,
            remote: None,
            listener: None,
            calm: Instant::now(),
            scanned: false,
            overfull: false,
        };
        Self { task: tokio::spawn(watcher.run()), mode }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How often everything is looked at, and how much of it.
struct Pace {
    /// Whether inotify may be used.
    inotify: bool,
    /// The least time between two scans where inotify helps, and how many times longer than the scan itself that is.
    hinted: (Duration, u32),
    /// The same where it does not.
    polling: (Duration, u32),
    /// How long a directory that is away is left alone.
    retry: Duration,
    items: usize,
}

impl Pace {
    /// How long after a scan that took so long the next one begins.
    fn interval(&self, hinted: bool, took: Duration) -> Duration {
        let (least, times) = if hinted { self.hinted } else { self.polling };
        least.max(took.saturating_mul(times))
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            inotify: true,
            hinted: (Duration::from_secs(60), 200),
            polling: (Duration::from_secs(2), 50),
            retry: Duration::from_secs(2),
            items: ITEM_LIMIT,
        }
    }
}

/// Why the watch does not go on as it did.
enum Stop {
    /// Nobody listens any more.
    Closed,
    /// The directory was moved, removed or unmounted.
    Moved,
    /// The directory cannot be trusted.
    Lost(Lost),
}

impl From<Lost> for Stop {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

/// A look at everything, on its way.
struct Scan {
    names: std::vec::IntoIter<ItemName>,
    /// The time it has taken so far, without that for which it was left aside.
    took: Duration,
}

struct Watcher {
    pace: Pace,
    place: Arc<Place>,
    events: mpsc::Sender<Input>,
    mode: watch::Sender<Mode>,
    /// What has been reported.
    known: BTreeMap<ItemName, Signature>,
    /// The directory that `known` is about.
    home: Option<Identity>,
    remote: Option<&'static str>,
    listener: Option<Listener>,
    /// When inotify may ask for the next look.
    calm: Instant,
    scanned: bool,
    overfull: bool,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            let Err(stop) = self.follow().await;
            self.listener = None;
            match stop {
                Stop::Closed => return,
                Stop::Moved => {}
                Stop::Lost(lost) => {
                    self.change_mode(Mode::Waiting(lost.to_string()));
                    sleep(self.pace.retry).await;
                }
            }
        }
    }

    /// Follows the directory for as long as it stays where it is.
    async fn follow(&mut self) -> Result<Infallible, Stop> {
        let (home, remote) = self.block(|place| place.identify()).await?;
        if self.home.is_some_and(|earlier| !self.place.succeeds(home, earlier)) {
            return Err(Lost::Elsewhere.into());
        }
        self.home = Some(home);
        self.remote = remote;
        let mut due = Instant::now();
        let mut scan: Option<Scan> = None;
        loop {
            let until = if scan.is_some() { Instant::now() } else { due };
            let hints = self.hints(until).await?;
            if hints.moved {
                return Err(Stop::Moved);
            }
            if hints.overflow {
                debug!("inotify lost events in file_dir {}: scanning the whole directory", self.shown());
                due = Instant::now();
                scan = None;
            }
            if !hints.names.is_empty() {
                let took = self.look(home, hints.names.into_iter().collect()).await?;
                self.calm = Instant::now() + (2 * took).clamp(CALM, CALM_LIMIT);
            }
            let Some(going) = &mut scan else {
                if Instant::now() >= due {
                    scan = Some(self.list(home).await?);
                }
                continue;
            };
            let chunk: Vec<_> = going.names.by_ref().take(CHUNK).map(|name| (name, false)).collect();
            if !chunk.is_empty() {
                going.took += self.look(home, chunk).await?;
                continue;
            }
            due = Instant::now() + self.pace.interval(self.listener.is_some(), going.took);
            scan = None;
            if !self.scanned {
                self.scanned = true;
                self.say(Input::Scanned).await?;
            }
        }
    }

    async fn hints(&mut self, until: Instant) -> Result<Hints, Stop> {
        let Some(listener) = &mut self.listener else {
            sleep_until(until).await;
            return Ok(Hints::default());
        };
        let errno = |error: io::Error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        let lost = |error| Stop::Lost(Lost::Refused { action: "listened to", errno: errno(error) });
        listener.next(until, self.calm).await.map_err(lost)
    }

    /// Begins a scan with everything that is there or was.
    async fn list(&mut self, home: Identity) -> Result<Scan, Stop> {
        let mode = self.subscribe().await?;
        let started = Instant::now();
        let limit = self.pace.items;
        let mut listing = self.block(move |place| place.list(home, limit)).await?;
        self.change_mode(mode);
        if !self.scanned && listing.hidden > 0 {
            info!("ignored {} names in file_dir {} that start with a dot", listing.hidden, self.shown());
        }
        if !self.scanned && listing.unusable > 0 {
            warn!("ignored {} names in file_dir {} that are too long", listing.unusable, self.shown());
        }
        self.bound(listing.cut);
        listing.names.extend(self.known.keys().cloned());
        listing.names.sort_unstable();
        listing.names.dedup();
        Ok(Scan { names: listing.names.into_iter(), took: started.elapsed() })
    }

    /// Makes inotify tell, where it can and does not yet: what kept it from telling may be over by now.
    async fn subscribe(&mut self) -> Result<Mode, Stop> {
        if self.listener.is_some() {
            return Ok(Mode::Inotify);
        }
        if let Some(name) = self.remote {
            return Ok(Mode::Polling(format!("it is on {name}, which does not report changes made on other hosts")));
        }
        if !self.pace.inotify {
            return Ok(Mode::Polling("inotify is not used".to_owned()));
        }
        let subscription = self.block(|place| Ok(Subscription::new(place.path()))).await?;
        Ok(match subscription.and_then(Subscription::listen) {
            Ok(listener) => {
                self.listener = Some(listener);
                Mode::Inotify
            }
            Err(error) => Mode::Polling(remedy(&error)),
        })
    }

    /// Looks at items, reports what is not as it was, and tells how long looking took.
    async fn look(&mut self, home: Identity, items: Vec<(ItemName, bool)>) -> Result<Duration, Stop> {
        let mut took = Duration::ZERO;
        for chunk in items.chunks(CHUNK) {
            let names: Vec<_> = chunk.iter().map(|(name, _)| name.clone()).collect();
            let started = Instant::now();
            let looks: Looks = self.block(move |place| place.look(home, names.into_iter())).await?;
            took += started.elapsed();
            for ((name, look), (_, renamed)) in looks.into_iter().zip(chunk) {
                self.report(name, look, *renamed).await?;
            }
        }
        Ok(took)
    }

    async fn report(&mut self, name: ItemName, look: Look, renamed: bool) -> Result<(), Stop> {
        let Look::Present(signature, size) = look else {
            return match self.known.remove(&name) {
                Some(_) => self.say(Input::Vanished(name)).await,
                None => Ok(()),
            };
        };
        let earlier = self.known.get(&name);
        if earlier == Some(&signature) {
            return Ok(());
        }
        if earlier.is_none() && self.known.len() >= self.pace.items {
            self.bound(true);
            return Ok(());
        }
        self.known.insert(name.clone(), signature);
        self.say(Input::Seen(Sighting { name, signature, size, complete: renamed })).await
    }

    async fn say(&self, input: Input) -> Result<(), Stop> {
        self.events.send(input).await.map_err(|_| Stop::Closed)
    }

    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> Result<T, Lost> + Send + 'static,
    ) -> Result<T, Stop> {
        let place = Arc::clone(&self.place);
        match spawn_blocking(move || work(&place)).await {
            Ok(done) => Ok(done?),
            Err(failed) if failed.is_panic() => {
                error!("bug: the scan of file_dir {} failed: {failed}", self.shown());
                Err(Lost::Panicked.into())
            }
            // The runtime is shutting down.
            Err(_) => Err(Stop::Closed),
        }
    }

    fn bound(&mut self, overfull: bool) {
        if overfull && !self.overfull {
            warn!("file_dir {} contains more than {} items: the rest waits", self.shown(), self.pace.items);
        }
        self.overfull = overfull;
    }

    /// Changes the mode, and says so where it is another one.
    fn change_mode(&self, mode: Mode) {
        if *self.mode.borrow() == mode {
            return;
        }
        let shown = self.shown();
        match &mode {
            Mode::Inotify => info!("watching file_dir {shown} with inotify"),
            Mode::Polling(why) => warn!("watching file_dir {shown} with a scan every few seconds: {why}"),
            Mode::Waiting(why) => {
                warn!("cannot watch file_dir {shown}, its items are kept and the scan is retried: {why}");
            }
        }
        self.mode.send_replace(mode);
    }

    fn shown(&self) -> String {
        one_line(&escaped(self.place.path().as_os_str().as_encoded_bytes()))
    }
}

#[cfg(test)]
mod tests;
