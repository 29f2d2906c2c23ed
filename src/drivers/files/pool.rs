//! Threads for blocking work. Long work (reading whole items) and short work have separate threads, so that an item of
//! a terabyte never delays a rename. Tasks of one transfer run one after the other, in the order of the requests.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::machine::TransferId;

/// How many threads do short work; several, because file systems combine concurrent requests into one commit.
const SHORT_WORKERS: usize = 4;

type Task = Box<dyn FnOnce() + Send>;

/// The kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Reads whole items, or makes them durable.
    Long,
    /// Anything else.
    Short,
}

/// The threads. When this is dropped, each ends after its current task, and queued tasks are forgotten. The queue has
/// no limit of its own: machines request at most one task per transfer at a time.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    long: Condvar,
    short: Condvar,
}

#[derive(Default)]
struct State {
    long: VecDeque<(Option<TransferId>, Task)>,
    short: VecDeque<(Option<TransferId>, Task)>,
    /// For each transfer with a queued or running task: the tasks after it.
    after: BTreeMap<TransferId, VecDeque<(Lane, Task)>>,
    closed: bool,
}

impl Pool {
    /// Starts `workers` threads for long work, at least one, and four for short work.
    pub(super) fn start(workers: usize) -> io::Result<Self> {
        let state = Mutex::new(State::default());
        let pool = Self { shared: Arc::new(Shared { state, long: Condvar::new(), short: Condvar::new() }) };
        let lanes = [(Lane::Long, workers.max(1)), (Lane::Short, SHORT_WORKERS)];
        for lane in lanes.into_iter().flat_map(|(lane, count)| std::iter::repeat_n(lane, count)) {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new().name("files".to_owned()).spawn(move || shared.work(lane))?;
        }
        Ok(pool)
    }

    /// Queues a task. Tasks of the same transfer never run at the same time.
    pub(super) fn submit(&self, lane: Lane, transfer: Option<TransferId>, task: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.lock();
        if let Some(transfer) = transfer {
            if let Some(after) = state.after.get_mut(&transfer) {
                after.push_back((lane, Box::new(task)));
                return;
            }
            state.after.insert(transfer, VecDeque::new());
        }
        self.shared.enqueue(&mut state, lane, transfer, Box::new(task));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.long.notify_all();
        self.shared.short.notify_all();
    }
}

impl Shared {
    fn work(&self, lane: Lane) {
        while let Some((transfer, task)) = self.next(lane) {
            task();
            if let Some(transfer) = transfer {
                self.finished(transfer);
            }
        }
    }

    fn next(&self, lane: Lane) -> Option<(Option<TransferId>, Task)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let (queue, ready) = match lane {
                Lane::Long => (&mut state.long, &self.long),
                Lane::Short => (&mut state.short, &self.short),
            };
            if let Some(next) = queue.pop_front() {
                return Some(next);
            }
            state = ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finished(&self, transfer: TransferId) {
        let mut state = self.lock();
        match state.after.get_mut(&transfer).and_then(VecDeque::pop_front) {
            Some((lane, task)) => self.enqueue(&mut state, lane, Some(transfer), task),
            None => {
                state.after.remove(&transfer);
            }
        }
    }

    fn enqueue(&self, state: &mut State, lane: Lane, transfer: Option<TransferId>, task: Task) {
        match lane {
            Lane::Long => {
                state.long.push_back((transfer, task));
                self.long.notify_one();
            }
            Lane::Short => {
                state.short.push_back((transfer, task));
                self.short.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Tasks run outside of the lock, so a panic in one cannot leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn long_work_does_not_hold_up_short_work() {
        let pool = Pool::start(2).unwrap();
        let (done, results) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..4 {
            let (held, done) = (Arc::clone(&held), done.clone());
            pool.submit(Lane::Long, None, move || {
                held.lock().unwrap().recv().unwrap();
                done.send("long").unwrap();
            });
        }
        let short = done.clone();
        pool.submit(Lane::Short, None, move || short.send("short").unwrap());
        assert_eq!(results.recv_timeout(LIMIT).unwrap(), "short");
        for _ in 0..4 {
            release.send(()).unwrap();
            assert_eq!(results.recv_timeout(LIMIT).unwrap(), "long");
        }
    }

    #[test]
    fn one_transfer_is_dealt_with_in_order() {
        let pool = Pool::start(3).unwrap();
        let (done, results) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let (one, two) = (TransferId::mint(1, [1; 10]), TransferId::mint(2, [2; 10]));
        let first = done.clone();
        pool.submit(Lane::Long, Some(one), move || {
            held.recv().unwrap();
            first.send(1).unwrap();
        });
        for (number, lane) in [(2, Lane::Short), (3, Lane::Long), (4, Lane::Short)] {
            let done = done.clone();
            pool.submit(lane, Some(one), move || done.send(number).unwrap());
        }
        let other = done.clone();
        pool.submit(Lane::Long, Some(two), move || other.send(10).unwrap());
        assert_eq!(results.recv_timeout(LIMIT).unwrap(), 10);
        release.send(()).unwrap();
        let order: Vec<i32> = (0..4).map(|_| results.recv_timeout(LIMIT).unwrap()).collect();
        assert_eq!(order, [1, 2, 3, 4]);
        // Nothing is kept of a transfer without tasks.
        let through = done.clone();
        pool.submit(Lane::Short, Some(one), move || through.send(5).unwrap());
        assert_eq!(results.recv_timeout(LIMIT).unwrap(), 5);
    }
}
