//! The journal: the state of a node, in a SQLite database that survives crashes of the process and the host, and power
//! failures.
//!
//! One thread owns the connection, because SQLite blocks. Commits that wait for it together become one transaction, so
//! that one fsync serves them all. The file is `state_dir/journal.db`; the `sqlite3` program can read it even while the
//! daemon runs.
//!
//! Invariant: a commit that succeeded is in the files at the journal's paths.

mod error;
mod inspect;
mod pins;
mod rows;
mod store;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

pub use error::{Change, JournalError};
pub use inspect::{Content, Inspected, inspect};

use store::Store;

use crate::machine::{GroupId, ItemName, Node, Question, Record, Restored, Row, Time, TransferId};

/// The maximum number of requests that wait for the journal's thread; further callers wait. Also the maximum number of
/// commits in one transaction.
pub const QUEUE_LIMIT: usize = 64;
/// The maximum number of rows in one answer about the history.
pub const HISTORY_LIMIT: u32 = 1000;

/// A query about the history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// Only what finished at that time or later.
    pub since: Option<Time>,
    /// Only what finished before that time.
    pub before: Option<Time>,
    /// With `before`: also what finished at exactly that time, if its transfer's id is smaller than this. With both
    /// from the last entry of one page, the next page begins where that one ended, even if many finished at the same
    /// time.
    pub behind: Option<TransferId>,
    /// Only items of this name.
    pub name: Option<ItemName>,
    /// The maximum number of entries, up to [`HISTORY_LIMIT`].
    pub limit: u32,
}

/// What a text means in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sought {
    /// Exactly this transfer.
    One(Box<Row>),
    /// Nothing finished.
    Nothing,
    /// Several names and ids begin with it; at most [`crate::machine::MATCHES_LIMIT`].
    Several(Vec<String>),
}

/// The owner of a journal. A journal belongs to one node for its whole life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The group.
    pub group: GroupId,
    /// The node in it.
    pub node: Node,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of group {}", self.node, self.group)
    }
}

/// An open journal. Dropping it finishes queued work, closes the database and releases the lock.
#[derive(Debug)]
pub struct Journal {
    // `None` only while it is being dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    Commit(Vec<Record>, oneshot::Sender<Result<(), JournalError>>),
    Ask(Box<dyn FnOnce(&mut Store) + Send>),
}

impl Journal {
    /// Opens the journal in `state_dir`, creates both if they are missing (mode 0700, files 0600), and reads unfinished
    /// transfers. Blocks for milliseconds, with tens of thousands of rows for part of a second.
    ///
    /// # Errors
    ///
    /// Every [`JournalError`] but `Stopped`. A retry helps only for `Full` and `Busy`.
    pub fn open(state_dir: &Path, owner: &Owner) -> Result<(Self, Restored), JournalError> {
        let (store, restored) = Store::open(state_dir, owner)?;
        let (sender, receiver) = mpsc::channel(QUEUE_LIMIT);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || work(store, receiver))
            .map_err(|source| JournalError::Failed { path: state_dir.to_owned(), source: Arc::new(source) })?;
        Ok((Self { jobs: Some(sender), thread: Some(thread) }, restored))
    }

    /// Writes all records in one transaction, in their order. When this returns, they are durable, and the journal is
    /// still the file at its path; that is checked even without records. Commits of one caller are applied in the order
    /// in which they were first polled.
    ///
    /// # Errors
    ///
    /// Nothing of it may be relied on. The daemon ends, because its state is ahead of its journal.
    pub async fn commit(&self, records: Vec<Record>) -> Result<(), JournalError> {
        let (answer, answered) = oneshot::channel();
        self.send(Job::Commit(records, answer)).await?;
        answered.await.map_err(|_| JournalError::Stopped)?
    }

    /// Looks up a transfer, finished or not. [`Question::Transfer`] finds the row of that id. [`Question::Name`] finds
    /// the newest row (by `created`, then id) of that name that has a signature, other than the asking transfer's own:
    /// on a download these are the items that it has placed.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Damaged` or `Failed` if the row cannot be read.
    pub async fn look_up(&self, question: Question) -> Result<Option<Box<Row>>, JournalError> {
        self.ask(move |store| store.look_up(&question)).await
    }

    /// Finished transfers, the newest first, and whether there are more.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Damaged` or `Failed` if a row cannot be read.
    pub async fn history(&self, past: Past) -> Result<(Vec<Row>, bool), JournalError> {
        self.ask(move |store| store.history(&past)).await
    }

    /// What a text means among all finished transfers: an item's name, as shown or encoded (its last transfer counts);
    /// a transfer's id; or an unambiguous beginning of either.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Damaged` or `Failed` if a row cannot be read.
    pub async fn find(&self, text: String) -> Result<Sought, JournalError> {
        self.ask(move |store| store.find(&text)).await
    }

    /// The manifest text of a directory, finished or not. `None` if it was longer than
    /// [`crate::machine::MANIFEST_LIMIT`], if it was verified before manifests were kept, or if the item is not a
    /// directory.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Damaged` or `Failed` if it cannot be read.
    pub async fn manifest(&self, transfer: TransferId) -> Result<Option<String>, JournalError> {
        self.ask(move |store| store.manifest(transfer)).await
    }

    /// Removes at most `limit` rows that finished before `before`, the oldest first, with their manifests, and returns
    /// the number. Call it again while the number is `limit`, so that no commit waits long behind it.
    ///
    /// # Errors
    ///
    /// As for [`Journal::commit`], except that the daemon may continue.
    pub async fn prune(&self, before: Time, limit: u32) -> Result<usize, JournalError> {
        self.ask(move |store| store.prune(before, limit)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Store) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (answer, answered) = oneshot::channel();
        // The caller may have stopped waiting; then the answer is dropped.
        let job = Job::Ask(Box::new(move |store| drop(answer.send(question(store)))));
        self.send(job).await?;
        answered.await.map_err(|_| JournalError::Stopped)?
    }

    async fn send(&self, job: Job) -> Result<(), JournalError> {
        let jobs = self.jobs.as_ref().ok_or(JournalError::Stopped)?;
        jobs.send(job).await.map_err(|_| JournalError::Stopped)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and every caller has got `Stopped`.
            drop(thread.join());
        }
    }
}

/// The journal's thread. It answers commits before queries, so an answer never depends on something that is not
/// durable.
fn work(mut store: Store, mut jobs: mpsc::Receiver<Job>) {
    let mut queue = Vec::with_capacity(QUEUE_LIMIT);
    while jobs.blocking_recv_many(&mut queue, QUEUE_LIMIT) > 0 {
        let mut commits = Vec::new();
        let mut questions = Vec::new();
        for job in queue.drain(..) {
            match job {
                Job::Commit(records, answer) => commits.push((records, answer)),
                Job::Ask(question) => questions.push(question),
            }
        }
        if !commits.is_empty() {
            let outcome = store.commit(commits.iter().flat_map(|(records, _)| records));
            for (_, answer) in commits {
                drop(answer.send(outcome.clone()));
            }
        }
        for question in questions {
            question(&mut store);
        }
    }
}
