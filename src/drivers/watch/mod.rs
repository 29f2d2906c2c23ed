//! The watch of an upload: what `file_dir` contains, and what has changed since the last report.
//!
//! Scans find every change, and inotify only says where to look next. The whole directory is scanned again and again,
//! every item entry by entry. So an event that is lost, late or never sent (deep inside a directory, on a network file
//! system) costs only time. A directory that is not available is not empty: while `file_dir` is missing, or a mount
//! below it, the watch reports nothing.

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
use crate::machine::{Input, ItemName, ReadyMarker, Reason, Sighting, Signature, escaped, one_line};

/// The maximum number of known items; further ones wait until others are gone.
pub const ITEM_LIMIT: usize = 1_000_000;

/// How many items are checked before inotify's events are read again.
const CHUNK: usize = 256;
/// The minimum interval between two checks after inotify events, so that a busy writer costs little.
const CALM: Duration = Duration::from_millis(20);
/// The maximum interval.
const CALM_LIMIT: Duration = Duration::from_secs(1);

/// The result of surveying one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Surveyed {
    /// The item exists.
    Present {
        /// Its signature: it distinguishes one state from another.
        signature: Signature,
        /// Bytes of all its files.
        size: u64,
        /// Why it does not count as complete for lack of its marker; `None` if it counts.
        unmarked: Option<Reason>,
    },
    /// The item does not exist.
    Gone,
    /// The item exists, but a part of it cannot be examined. It is reported nevertheless: hashing finds out why it
    /// cannot be sent.
    Unreadable,
}

/// How a directory is watched, for status texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// inotify reports changes at once, and a full scan runs about once a minute.
    Inotify,
    /// A full scan runs every few seconds, and why.
    Polling(String),
    /// Nothing is checked, and why.
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

/// Tries an inotify watch on `dir`, and removes it again. Blocks.
///
/// # Errors
///
/// The error of inotify: `ENOSPC` if this user's watches are used up, `EMFILE` for its instances or the process's open
/// files.
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
    /// Watches `file_dir`, of which `depth` levels are permanent directories; must be called in a tokio runtime. `survey`
    /// gets the open directory and an item's name; it runs on blocking threads.
    ///
    /// What is new or changed goes to `events` as [`Input::Seen`], what is gone as [`Input::Vanished`], the end of
    /// the first look at everything as [`Input::Scanned`]. Names that start with `.` are never reported, nor those of
    /// which `is_item` says that they are no items, nor markers of items. There are no errors: while the directory cannot be read, or `knows`
    /// says that it is another one, nothing is reported, and the log says so.
    pub fn start(
        file_dir: &Path,
        depth: usize,
        marker: Option<ReadyMarker>,
        is_item: impl Fn(&ItemName) -> bool + Send + Sync + 'static,
        survey: impl Fn(BorrowedFd<'_>, &ItemName) -> Surveyed + Send + Sync + 'static,
        knows: impl Fn(BorrowedFd<'_>) -> bool + Send + Sync + 'static,
        events: mpsc::Sender<Input>,
    ) -> Self {
        let place = Place::new(file_dir, is_item, survey).with_depth(depth).marked_by(marker).known_by(knows);
        Self::start_at(Pace::default(), place, events)
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
            obstacle: None,
        };
        Self { task: tokio::spawn(watcher.run()), mode }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The timing and size of scans.
struct Pace {
    /// Whether inotify may be used.
    inotify: bool,
    /// The minimum interval between two scans with inotify, as a time and as a multiple of the scan's duration.
    hinted: (Duration, u32),
    /// The same without inotify.
    polling: (Duration, u32),
    /// The delay before a missing directory is tried again.
    retry: Duration,
    items: usize,
}

impl Pace {
    /// The delay after a scan of this duration.
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

/// Why the watch has to start again.
enum Stop {
    /// The receiver is gone.
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

/// A running scan.
struct Scan {
    names: std::vec::IntoIter<ItemName>,
    /// Its duration so far, without interruptions.
    took: Duration,
}

struct Watcher {
    pace: Pace,
    place: Arc<Place>,
    events: mpsc::Sender<Input>,
    mode: watch::Sender<Mode>,
    /// The reported items.
    known: BTreeMap<ItemName, (Signature, Option<Reason>)>,
    /// The directory of `known`.
    home: Option<Identity>,
    remote: Option<&'static str>,
    listener: Option<Listener>,
    /// When inotify events may cause the next check.
    calm: Instant,
    scanned: bool,
    overfull: bool,
    /// Why not all permanent directories are watched, as last reported.
    obstacle: Option<String>,
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

    /// Watches the directory as long as it stays in its place.
    async fn follow(&mut self) -> Result<Infallible, Stop> {
        let (home, remote) = self.block(|place| place.identify()).await?;
        if self.home.is_some_and(|earlier| !self.place.succeeds(home, earlier)) {
            return Err(Lost::Elsewhere.into());
        }
        self.home = Some(home);
        self.remote = remote;
        let mut due = Instant::now();
        let mut scan: Option<Scan> = None;
        // Other permanent directories need another scan, which must not start before the present one is through.
        let mut again = false;
        loop {
            if again && scan.is_none() {
                due = due.min(self.calm);
            }
            let until = if scan.is_some() { Instant::now() } else { due };
            let hints = self.hints(until).await?;
            if hints.moved {
                return Err(Stop::Moved);
            }
            again |= hints.regrouped;
            if hints.overflow {
                debug!("inotify lost events in file_dir {}: scanning the whole directory", self.shown());
                due = Instant::now();
                scan = None;
            }
            let named = hints.names.into_iter().map(|(name, renamed)| (name, renamed, false));
            let hidden = hints.hidden.into_iter().map(|name| (name, false, true));
            let of_item = |(name, renamed, hidden): (ItemName, bool, bool)| {
                let item = self.place.item_of(name.clone(), hidden)?;
                // The rename of a marker says nothing of its item.
                Some((item == name && renamed, item))
            };
            let names = named.chain(hidden).filter_map(of_item).map(|(renamed, item)| (item, renamed));
            let names: Vec<_> = names.collect();
            if !names.is_empty() {
                let took = self.look(home, names).await?;
                self.calm = Instant::now() + (2 * took).clamp(CALM, CALM_LIMIT);
            }
            let Some(going) = &mut scan else {
                if Instant::now() >= due {
                    again = false;
                    scan = Some(self.list(home).await?);
                }
                continue;
            };
            let chunk: Vec<_> = going.names.by_ref().take(CHUNK).map(|name| (name, false)).collect();
            if !chunk.is_empty() {
                going.took += self.look(home, chunk).await?;
                continue;
            }
            self.calm = Instant::now() + (2 * going.took).clamp(CALM, CALM_LIMIT);
            due = Instant::now() + self.pace.interval(self.has_hints(), going.took);
            scan = None;
            if !self.scanned {
                self.scanned = true;
                self.say(Input::Scanned).await?;
            }
        }
    }

    /// Whether inotify reports what is waited for.
    fn has_hints(&self) -> bool {
        let waits_inside =
            self.place.has_inner_markers() && self.known.values().any(|(_, unmarked)| unmarked.is_some());
        self.listener.is_some() && !waits_inside
    }

    async fn hints(&mut self, until: Instant) -> Result<Hints, Stop> {
        let Some(listener) = &mut self.listener else {
            sleep_until(until).await;
            return Ok(Hints::default());
        };
        let errno = |error: io::Error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        let lost = |error| Stop::Lost(Lost::Refused { action: "listened to", errno: errno(error) });
        listener.next(until, self.calm, self.place.depth()).await.map_err(lost)
    }

    /// Starts a scan of everything that exists or was known.
    async fn list(&mut self, home: Identity) -> Result<Scan, Stop> {
        let mut mode = self.subscribe().await?;
        let started = Instant::now();
        let limit = self.pace.items;
        let subscriber = self.listener.as_ref().filter(|_| self.place.depth() > 0).map(Listener::subscriber);
        let mut listing = self.block(move |place| place.list(home, limit, subscriber)).await?;
        match (listing.subscribed.take(), &mut self.listener) {
            (Some(Ok(added)), Some(listener)) => listener.listen_to(added),
            (Some(Err(error)), _) => {
                self.listener = None;
                mode = Mode::Polling(remedy(&error));
            }
            _ => {}
        }
        self.change_mode(mode);
        if let Some(obstacle) = listing.obstacle.as_ref().filter(|obstacle| self.obstacle.as_ref() != Some(obstacle)) {
            warn!("not all of file_dir {} is watched: {obstacle}", self.shown());
        }
        self.obstacle = listing.obstacle.take();
        if !self.scanned && listing.hidden > 0 {
            info!("ignored {} names in file_dir {} that start with a dot", listing.hidden, self.shown());
        }
        if !self.scanned && listing.unwanted > 0 {
            info!("ignored {} names in file_dir {} because of ignore and only", listing.unwanted, self.shown());
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

    /// Sets up inotify, if it is possible and not done yet: the obstacle may be gone.
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

    /// Checks items, reports changes, and returns the duration.
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
        let Look::Present { signature, size, unmarked } = look else {
            return match self.known.remove(&name) {
                Some(_) => self.say(Input::Vanished(name)).await,
                None => Ok(()),
            };
        };
        let earlier = self.known.get(&name);
        let seen = (signature, unmarked.clone());
        if earlier == Some(&seen) {
            return Ok(());
        }
        if earlier.is_none() && self.known.len() >= self.pace.items {
            self.bound(true);
            return Ok(());
        }
        self.known.insert(name.clone(), seen);
        self.say(Input::Seen(Sighting { name, signature, size, complete: renamed, unmarked })).await
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

    /// Changes the mode, and logs that if it is a new one.
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
