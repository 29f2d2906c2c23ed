//! Files: watched, held, staged and delivered ones.
//!
//! [`Source`], [`Spool`] and [`Staging`] do the file operations of the three roles, as plain blocking calls. [`Files`]
//! carries out a machine's effects with them in threads of its own and sends the answers.

mod ahead;
mod copies;
mod directory;
mod disposal;
mod duplicate;
mod folder;
mod last_look;
mod ownership;
mod pool;
mod ready;
mod source;
mod spool;
mod staging;
mod steps;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::sync::mpsc;

pub use directory::{FileDir, Lookout};
pub use disposal::Disposal;
pub use folder::RESERVED;
pub use last_look::is_untouched;
pub use source::Source;
pub use spool::Spool;
pub use staging::{Staging, TAKEN};

use self::ahead::Ahead;
use self::folder::Folder;
use self::pool::{Lane, Pool};
use super::disk::{Refusal, shown, space};
use super::manifest::{Site, SurveyError};
use crate::machine::{
    Attributes, Cause, CopyOutcome, Digest, Direction, HashOutcome, Input, ItemName, Kind, KnownDirectory, Marker,
    PlaceId, PlaceOutcome, Reason, Run, Sight, Signature, Space, TransferId, escaped,
};

/// The maximum number of leftovers that one sweep examines in one directory; the next start does the rest.
const SWEEP_LIMIT: usize = 1_000_000;

/// The use of `file_dir` on this node.
#[derive(Debug, Clone)]
pub enum Layout {
    /// The watched directory.
    Upload(Source),
    /// It contains the spool.
    Central(Spool),
    /// The destination.
    Download(Staging),
}

impl Layout {
    /// Creates what is missing below `file_dir`, and fails if this node cannot work there.
    pub fn prepare(&self) -> Result<(), LayoutError> {
        match self {
            Self::Upload(source) => source.prepare(),
            Self::Central(spool) => spool.prepare(),
            Self::Download(staging) => staging.prepare(),
        }
    }

    /// The configured directory.
    pub fn file_dir(&self) -> &Path {
        match self {
            Self::Upload(source) => source.file_dir(),
            Self::Central(spool) => spool.file_dir(),
            Self::Download(staging) => staging.file_dir(),
        }
    }
}

/// `file_dir` cannot be used; the source says which operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot use file_dir {}: {}", shown(.path), advice(.source))]
pub struct LayoutError {
    path: PathBuf,
    source: Refusal,
}

impl LayoutError {
    fn new(file_dir: &Path, source: Refusal) -> Self {
        Self { path: file_dir.to_owned(), source }
    }

    /// Whether only a person can fix it.
    pub fn is_lasting(&self) -> bool {
        !matches!(
            self.source.errno(),
            Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::NOMEM | Errno::MFILE | Errno::NFILE
        )
    }
}

fn advice(refusal: &Refusal) -> &'static str {
    match refusal.errno() {
        Errno::NOENT => "create it, or change file_dir",
        Errno::NOTDIR | Errno::LOOP => "file_dir and the entries that synkler keeps in it must be directories",
        Errno::ACCESS | Errno::PERM => "give the user of synkler this permission",
        Errno::ROFS => "mount it read-write, or change file_dir",
        Errno::XDEV => "all of file_dir must be on one file system",
        Errno::NOSPC | Errno::DQUOT => "free some space",
        _ => "file system error",
    }
}

/// An entry in spool or staging that no transfer needs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leftover {
    /// A copy.
    Transfer(TransferId),
    /// The directory of a batch.
    Place(PlaceId),
}

fn leftovers_in<T: FromStr + Ord>(
    dir: &Folder,
    keep: &BTreeSet<T>,
    leftover: fn(T) -> Leftover,
) -> Result<Vec<Leftover>, Refusal> {
    let mut found = Vec::new();
    let mut strangers = Vec::new();
    for name in dir.names(SWEEP_LIMIT)? {
        match std::str::from_utf8(&name).ok().and_then(|name| name.parse().ok()) {
            Some(id) if keep.contains(&id) => {}
            Some(id) => found.push(leftover(id)),
            None => strangers.push(name),
        }
    }
    if let Some(first) = strangers.iter().min() {
        let count = strangers.len();
        tracing::warn!("{dir}: ignored {count} entries not created by synkler, such as {}", escaped(first));
    }
    found.sort_unstable();
    Ok(found)
}

/// Those transfers whose directory does not exist. A directory that cannot be examined counts as existing: reading it
/// gives the error.
fn missing_in(dir: &Path, transfers: &BTreeSet<TransferId>) -> BTreeSet<TransferId> {
    let Ok(dir) = Folder::open(dir) else { return BTreeSet::new() };
    let is_missing = |id: &&TransferId| matches!(dir.child(id.to_string().as_bytes()), Ok(None));
    transfers.iter().filter(is_missing).copied().collect()
}

fn look_at(file_dir: &Path, item: &ItemName) -> Sight {
    match Site::open(file_dir, item).and_then(|site| site.survey()) {
        Ok(survey) => Sight::Present(survey.signature()),
        Err(SurveyError::Gone) => Sight::Gone,
        Err(error) => Sight::Unreadable(Reason::with(Cause::Unreadable, &error.to_string())),
    }
}

/// Carries out the effects that concern files. No call blocks, except for [`Files::sweep`]. Every answer is one
/// [`Input`], and the answers about one transfer come in the order of the calls. Dropping it ends its threads, each
/// after its current task, whose answer is then lost.
pub struct Files {
    layout: Arc<Layout>,
    /// Says whether drivers may work in `file_dir`; without it, they always may.
    directory: Option<FileDir>,
    events: mpsc::Sender<Input>,
    pool: Pool,
    ahead: Arc<Ahead>,
}

/// Larger batches consist of small files, which are read quickly.
const BATCH_READ_ALONG: usize = 4;

impl Files {
    /// Starts `workers` threads (at least one) for work that reads whole items, and four for the rest. Fails if the
    /// system allows no more threads.
    pub fn new(layout: Layout, events: mpsc::Sender<Input>, workers: usize) -> io::Result<Self> {
        Ok(Self {
            layout: Arc::new(layout),
            directory: None,
            events,
            pool: Pool::start(workers)?,
            ahead: Arc::default(),
        })
    }

    /// The same, if another directory may be at `file_dir` at times.
    pub fn within(mut self, directory: FileDir) -> Self {
        self.directory = Some(directory);
        self
    }

    /// [`crate::machine::Effect::Trust`]. Creates missing entries there before it returns.
    pub fn trust(&self, known: Option<KnownDirectory>) {
        let Some(directory) = &self.directory else { return };
        directory.trust(known);
        if let Err(error) = directory.make(|| self.layout.prepare()) {
            tracing::warn!("{error}");
        }
    }

    /// [`crate::machine::Effect::Mark`]. The marker is written when this returns, because later effects rely on it.
    pub fn mark(&self, marker: &Marker) {
        let Some(directory) = self.directory.clone() else { return };
        directory.mark(marker);
        self.pool.submit(Lane::Short, None, move || directory.tell());
    }

    /// Upload: [`crate::machine::Effect::Hash`].
    pub fn hash(&self, item: ItemName, signature: Signature) {
        let away = item.clone();
        let refused = move |why| Input::Hashed { item: away, outcome: HashOutcome::Held(why) };
        self.submit(Lane::Long, None, refused, move |layout| {
            let outcome = match layout {
                Layout::Upload(source) => source.hash(&item, signature),
                Layout::Central(_) | Layout::Download(_) => HashOutcome::Held(misplaced()),
            };
            Input::Hashed { item, outcome }
        });
    }

    /// Upload: [`crate::machine::Effect::Unmark`].
    pub fn unmark(&self, item: ItemName) {
        self.submit_silently(Lane::Short, None, move |layout| {
            if let Layout::Upload(source) = layout {
                source.unmark(&item);
            }
        });
    }

    /// Upload and download: [`crate::machine::Effect::Look`].
    pub fn look(&self, transfer: TransferId, item: ItemName) {
        let refused = move |why| Input::Looked { transfer, sight: Sight::Unreadable(why) };
        self.submit(Lane::Short, Some(transfer), refused, move |layout| {
            let sight = look_at(layout.file_dir(), &item);
            Input::Looked { transfer, sight }
        });
    }

    /// Central: [`crate::machine::Effect::Take`].
    pub fn take(
        &self,
        transfer: TransferId,
        place: Option<PlaceId>,
        name: ItemName,
        kind: Kind,
        attributes: Attributes,
    ) {
        let refused = move |why| Input::Taken { transfer, outcome: CopyOutcome::Failed(why) };
        self.submit(Lane::Long, Some(transfer), refused, move |layout| {
            let outcome = match layout {
                Layout::Central(spool) => spool.take(transfer, place, &name, kind, &attributes),
                Layout::Upload(_) | Layout::Download(_) => CopyOutcome::Failed(misplaced()),
            };
            Input::Taken { transfer, outcome }
        });
    }

    /// Download: a run is about to fetch these. New files are read while they arrive, see [`Files::read_on`].
    pub fn expect(&self, run: &Run) {
        if run.direction != Direction::Pull || run.batch.len() > BATCH_READ_ALONG {
            return;
        }
        for (transfer, name) in run.batch.clone() {
            let ahead = Arc::clone(&self.ahead);
            // If the run is faster, the file looks like one from an earlier run, which does no harm.
            self.submit_silently(Lane::Short, Some(transfer), move |layout| {
                ahead.end(transfer);
                if let Layout::Download(staging) = layout
                    && staging.lacks(transfer, &name)
                {
                    ahead.expect(transfer, name.leaf());
                }
            });
        }
    }

    /// Download: more bytes have arrived, so there may be more to read.
    pub fn read_on(&self) {
        for (transfer, item) in self.ahead.due() {
            self.submit_silently(Lane::Long, Some(transfer), move |layout| {
                if let Layout::Download(staging) = layout {
                    staging.read_on(transfer, &item);
                }
            });
        }
    }

    /// Download: [`crate::machine::Effect::Verify`].
    pub fn verify(&self, transfer: TransferId, name: ItemName, kind: Kind, digest: Digest, attributes: Attributes) {
        let ahead = Arc::clone(&self.ahead);
        let refused = move |why| Input::Verified { transfer, outcome: CopyOutcome::Failed(why) };
        self.submit(Lane::Long, Some(transfer), refused, move |layout| {
            let read = ahead.end(transfer);
            let read = |kind, inode, size| read?.digest(kind, inode, size).filter(|read| *read == digest);
            let outcome = match layout {
                Layout::Download(staging) => staging.verify(transfer, &name, kind, &attributes, read),
                Layout::Upload(_) | Layout::Central(_) => CopyOutcome::Failed(misplaced()),
            };
            Input::Verified { transfer, outcome }
        });
    }

    /// Download: [`crate::machine::Effect::Place`].
    pub fn place(&self, transfer: TransferId, name: ItemName, inode: u64, replace: Option<Signature>) {
        let refused = move |why| Input::Placed { transfer, outcome: PlaceOutcome::Failed(why) };
        self.submit(Lane::Short, Some(transfer), refused, move |layout| {
            let outcome = match layout {
                Layout::Download(staging) => staging.place(transfer, &name, inode, replace),
                Layout::Upload(_) | Layout::Central(_) => PlaceOutcome::Failed(misplaced()),
            };
            Input::Placed { transfer, outcome }
        });
    }

    /// Central and download: [`crate::machine::Effect::Drop`]. An upload has nothing of ours to remove.
    pub fn discard(&self, transfer: TransferId) {
        self.ahead.end(transfer);
        let refused = move |why| Input::Dropped { transfer, outcome: Err(why) };
        self.submit(Lane::Short, Some(transfer), refused, move |layout| {
            let outcome = match layout {
                Layout::Upload(_) => Ok(()),
                Layout::Central(spool) => spool.discard(transfer),
                Layout::Download(staging) => staging.discard(transfer),
            };
            Input::Dropped { transfer, outcome }
        });
    }

    /// Central: [`crate::machine::Effect::DropPlace`]. What cannot be removed is logged; the next sweep removes it.
    pub fn discard_place(&self, place: PlaceId) {
        self.submit_silently(Lane::Short, None, move |layout| {
            if let Layout::Central(spool) = layout
                && let Err(reason) = spool.discard_place(place)
            {
                tracing::warn!("cleanup of a leftover waits until the next start: {reason}");
            }
        });
    }

    /// Central: [`crate::machine::Effect::DropArrival`], likewise.
    pub fn discard_arrival(&self, place: PlaceId, name: ItemName) {
        self.submit_silently(Lane::Short, None, move |layout| {
            if let Layout::Central(spool) = layout
                && let Err(reason) = spool.discard_arrival(place, &name)
            {
                tracing::warn!("cleanup of a leftover waits until its directory is deleted: {reason}");
            }
        });
    }

    /// Central and download: [`crate::machine::Effect::Sweep`]. Lists spool or staging before it returns, which blocks
    /// that long, so that nothing that is created after the call counts as a leftover. Removes leftovers, and looks for
    /// missing copies, in the background.
    pub fn sweep(&self, transfers: BTreeSet<TransferId>, places: &BTreeSet<PlaceId>) {
        if self.directory.as_ref().is_none_or(FileDir::is_there) {
            self.clear_leftovers(&transfers, places);
        }
        // Without a look, no copy counts as missing.
        let refused = |_| Input::Swept { missing: BTreeSet::new() };
        self.submit(Lane::Short, None, refused, move |layout| {
            let missing = match layout {
                Layout::Upload(_) => BTreeSet::new(),
                Layout::Central(spool) => missing_in(&spool.held_dir(), &transfers),
                Layout::Download(staging) => missing_in(&staging.staging_dir(), &transfers),
            };
            Input::Swept { missing }
        });
    }

    fn clear_leftovers(&self, transfers: &BTreeSet<TransferId>, places: &BTreeSet<PlaceId>) {
        let found = match &*self.layout {
            Layout::Upload(_) => return,
            Layout::Central(spool) => spool.leftovers(transfers, places),
            Layout::Download(staging) => staging.leftovers(transfers),
        };
        let found = match found {
            Ok(found) => found,
            Err(refusal) => {
                tracing::warn!("cleanup of leftovers waits until the next start: {refusal}");
                return;
            }
        };
        for leftover in found {
            let transfer = match leftover {
                Leftover::Transfer(transfer) => Some(transfer),
                Leftover::Place(_) => None,
            };
            self.submit_silently(Lane::Long, transfer, move |layout| {
                let removed = match (layout, leftover) {
                    (Layout::Central(spool), Leftover::Transfer(transfer)) => spool.discard(transfer),
                    (Layout::Central(spool), Leftover::Place(place)) => spool.discard_place(place),
                    (Layout::Download(staging), Leftover::Transfer(transfer)) => staging.discard(transfer),
                    (Layout::Upload(_), _) | (Layout::Download(_), Leftover::Place(_)) => Ok(()),
                };
                if let Err(reason) = removed {
                    tracing::warn!("cleanup of a leftover waits until the next start: {reason}");
                }
            });
        }
    }

    /// [`crate::machine::Effect::Measure`]. A file system that does not answer counts as full.
    pub fn measure(&self) {
        let (layout, events) = (Arc::clone(&self.layout), self.events.clone());
        self.pool.submit(Lane::Short, None, move || {
            let space = space(layout.file_dir()).unwrap_or_else(|refusal| {
                tracing::warn!("cannot read the free space: {refusal}");
                Space::default()
            });
            let _ = events.blocking_send(Input::Space(space));
        });
    }

    /// Submits work in the directory. If another directory is there, `refused` makes the answer instead.
    fn submit(
        &self,
        lane: Lane,
        transfer: Option<TransferId>,
        refused: impl FnOnce(Reason) -> Input + Send + 'static,
        work: impl FnOnce(&Layout) -> Input + Send + 'static,
    ) {
        let (layout, directory, events) = (Arc::clone(&self.layout), self.directory.clone(), self.events.clone());
        self.pool.submit(lane, transfer, move || {
            let answer = match directory.as_ref().map(FileDir::enter).transpose() {
                Ok(_entered) => work(&layout),
                Err(why) => refused(why),
            };
            // When the daemon stops, no receiver is left; the journal knows what is owed.
            let _ = events.blocking_send(answer);
        });
    }

    /// The same without an answer.
    fn submit_silently(&self, lane: Lane, transfer: Option<TransferId>, work: impl FnOnce(&Layout) + Send + 'static) {
        let (layout, directory) = (Arc::clone(&self.layout), self.directory.clone());
        self.pool.submit(lane, transfer, move || {
            if let Ok(_entered) = directory.as_ref().map(FileDir::enter).transpose() {
                work(&layout);
            }
        });
    }
}

/// Answers an effect that this node's role never requests.
fn misplaced() -> Reason {
    Reason::with(Cause::Storage, "this node has no such directory")
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
