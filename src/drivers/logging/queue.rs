//! The lines between the callers and the thread that writes them. Callers never wait: lines that do not fit are counted
//! instead, the least important ones first.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Level;

/// The maximum number of waiting lines.
pub(super) const LINES: usize = 4096;
/// The maximum number of waiting bytes.
const BYTES: usize = 1 << 20;

/// The levels, the most important first.
const RANKS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

/// A bounded queue with one reader.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// A line has come, or the queue has ended.
    more: Condvar,
    /// The reader has ended.
    ended: Condvar,
}

/// What the reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The next line.
    Line(Vec<u8>),
    /// The lines that were dropped before there was room again.
    LeftOut(LeftOut),
    /// The queue is closed and empty.
    End,
}

/// Dropped lines.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    counts: [u64; RANKS.len()],
    first: String,
    last: String,
}

#[derive(Debug, Default)]
struct State {
    ranks: [Rank; RANKS.len()],
    next: u64,
    left_out: LeftOut,
    /// How many lines the reader has taken since the first one was dropped.
    taken: usize,
    closed: bool,
    ended: bool,
}

/// The lines of one level.
#[derive(Debug, Default)]
struct Rank {
    lines: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
}

impl Queue {
    /// Adds a line, logged at `moment`. If there is no room, less important lines are dropped for it, the newest first;
    /// else the line itself is dropped.
    pub(super) fn push(&self, level: Level, moment: &str, line: Vec<u8>) {
        self.lock().push(rank(level), moment, line);
        self.more.notify_one();
    }

    /// The next line; waits for one.
    pub(super) fn take(&self) -> Taken {
        let mut state = self.lock();
        loop {
            if let Some(taken) = state.take() {
                return taken;
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for this long, or until the queue is closed. Returns whether it is still open.
    pub(super) fn rest(&self, pause: Duration) -> bool {
        let state = self.lock();
        let waited = self.more.wait_timeout_while(state, pause, |state| !state.closed);
        !waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// The reader has ended: it takes no more lines.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.ended.notify_all();
    }

    /// Closes the queue and waits until the reader has taken everything, but no longer than `limit`.
    pub(super) fn close(&self, limit: Duration) {
        let mut state = self.lock();
        state.closed = true;
        self.more.notify_all();
        // If the reader does not end in time, the process ends without it.
        drop(self.ended.wait_timeout_while(state, limit, |state| !state.ended));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, rank: usize, moment: &str, line: Vec<u8>) {
        let (mut lines, mut bytes) = (1, line.len());
        for important in self.ranks.iter().take(rank + 1) {
            lines += important.lines.len();
            bytes += important.bytes;
        }
        if lines > LINES || bytes > BYTES {
            return self.leave_out(rank, moment);
        }
        for less in self.ranks.iter().skip(rank + 1) {
            lines += less.lines.len();
            bytes += less.bytes;
        }
        for least in (rank + 1..RANKS.len()).rev() {
            while (lines > LINES || bytes > BYTES)
                && let Some(freed) = self.ranks.get_mut(least).and_then(Rank::pop_newest)
            {
                lines -= 1;
                bytes -= freed;
                self.leave_out(least, moment);
            }
        }
        if let Some(own) = self.ranks.get_mut(rank) {
            own.bytes += line.len();
            own.lines.push_back((self.next, line));
        }
        self.next += 1;
    }

    fn leave_out(&mut self, rank: usize, moment: &str) {
        if self.left_out.is_empty() {
            self.left_out.first = moment.to_owned();
            self.taken = 0;
        }
        self.left_out.last = moment.to_owned();
        if let Some(count) = self.left_out.counts.get_mut(rank) {
            *count += 1;
        }
    }

    /// `None` if there is nothing to take yet.
    fn take(&mut self) -> Option<Taken> {
        let lines: usize = self.ranks.iter().map(|rank| rank.lines.len()).sum();
        // Reported once per series, not once per line, even if the log grows faster than it is written.
        if !self.left_out.is_empty() && (lines <= LINES / 2 || self.taken >= LINES) {
            return Some(Taken::LeftOut(std::mem::take(&mut self.left_out)));
        }
        let oldest = self.ranks.iter_mut().filter(|rank| !rank.lines.is_empty()).min_by_key(|rank| rank.oldest());
        match oldest.and_then(Rank::pop_oldest) {
            Some(line) => {
                self.taken += 1;
                Some(Taken::Line(line))
            }
            None if self.closed => Some(Taken::End),
            None => None,
        }
    }
}

impl Rank {
    fn oldest(&self) -> Option<u64> {
        self.lines.front().map(|(number, _)| *number)
    }

    fn pop_oldest(&mut self) -> Option<Vec<u8>> {
        let (_, line) = self.lines.pop_front()?;
        self.bytes -= line.len();
        Some(line)
    }

    /// The length of the line.
    fn pop_newest(&mut self) -> Option<usize> {
        let (_, line) = self.lines.pop_back()?;
        self.bytes -= line.len();
        Some(line.len())
    }
}

impl LeftOut {
    fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    /// The text for people.
    pub(super) fn text(&self) -> String {
        let total: u64 = self.counts.iter().sum();
        let by_level: Vec<_> = RANKS
            .iter()
            .zip(self.counts)
            .filter(|(_, count)| *count > 0)
            .map(|(level, count)| format!("{count} {}", level.as_str().to_lowercase()))
            .collect();
        let (lines, were) = if total == 1 { ("line", "was") } else { ("lines", "were") };
        format!(
            "{total} {lines} {were} dropped while the log could not be written: {}, from {} to {}",
            by_level.join(", "),
            self.first,
            self.last
        )
    }
}

fn rank(level: Level) -> usize {
    RANKS.iter().position(|known| *known == level).unwrap_or(RANKS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next line, without waiting.
    fn drained(queue: &Queue) -> Vec<Taken> {
        std::iter::from_fn(|| queue.lock().take().filter(|taken| *taken != Taken::End)).collect()
    }

    fn texts(taken: &[Taken]) -> Vec<String> {
        let text = |taken: &Taken| match taken {
            Taken::Line(line) => String::from_utf8(line.clone()).unwrap(),
            Taken::LeftOut(left_out) => left_out.text(),
            Taken::End => "end".to_owned(),
        };
        taken.iter().map(text).collect()
    }

    #[test]
    fn lines_of_all_levels_leave_in_the_order_they_came() {
        let queue = Queue::default();
        for (at, level) in RANKS.into_iter().cycle().take(12).enumerate() {
            queue.push(level, "now", at.to_string().into_bytes());
        }
        assert_eq!(texts(&drained(&queue)), (0..12).map(|at| at.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn what_does_not_fit_is_counted_the_least_important_first_and_told_once() {
        let queue = Queue::default();
        for at in 0..LINES - 1 {
            queue.push(if at % 2 == 0 { Level::DEBUG } else { Level::INFO }, "10:00", at.to_string().into_bytes());
        }
        queue.push(Level::ERROR, "10:01", b"error".to_vec());
        // Full. Each of these takes the place of a debug line; a debug line can take no place.
        queue.push(Level::WARN, "10:02", b"warn".to_vec());
        queue.push(Level::ERROR, "10:03", b"error again".to_vec());
        queue.push(Level::DEBUG, "10:04", b"debug".to_vec());
        let taken = texts(&drained(&queue));
        let told = "3 lines were dropped while the log could not be written: 3 debug, from 10:02 to 10:04";
        assert_eq!(taken.iter().filter(|line| *line == told).count(), 1, "{taken:?}");
        assert_eq!(taken.len(), LINES + 1);
        for kept in ["error", "warn", "error again", "0"] {
            assert!(taken.iter().any(|line| line == kept), "{kept}");
        }
        assert!(taken.iter().position(|line| line == "error") < taken.iter().position(|line| line == "warn"));
        assert!(!taken.iter().any(|line| line == "debug" || *line == (LINES - 2).to_string()));
        queue.push(Level::INFO, "10:05", b"on".to_vec());
        assert_eq!(texts(&drained(&queue)), ["on"], "told once");
    }

    #[test]
    fn bytes_are_bounded_too_and_a_line_that_can_never_fit_takes_nobodys_place() {
        let queue = Queue::default();
        queue.push(Level::DEBUG, "1", b"small".to_vec());
        queue.push(Level::ERROR, "2", vec![b'x'; BYTES + 1]);
        queue.push(Level::ERROR, "3", vec![b'x'; BYTES]);
        let taken = drained(&queue);
        assert!(matches!(&taken[0], Taken::LeftOut(left_out) if left_out.text()
            == "2 lines were dropped while the log could not be written: 1 error, 1 debug, from 2 to 3"));
        assert!(matches!(&taken[1], Taken::Line(line) if line.len() == BYTES));
        assert_eq!(taken.len(), 2);
    }

    #[test]
    fn a_log_that_is_always_taken_too_slowly_tells_now_and_then() {
        let queue = Queue::default();
        let mut told = 0;
        for _ in 0..3 * LINES {
            queue.push(Level::INFO, "now", b"one".to_vec());
            queue.push(Level::INFO, "now", b"two".to_vec());
            if let Some(Taken::LeftOut(_)) = queue.lock().take() {
                told += 1;
            }
        }
        assert_eq!(told, 1, "a queue's length of lines lies between two of them");
    }

    #[test]
    fn closing_waits_for_the_reader_but_not_for_ever() {
        let queue = std::sync::Arc::new(Queue::default());
        queue.push(Level::INFO, "now", b"last".to_vec());
        let reader = std::sync::Arc::clone(&queue);
        let reading = std::thread::spawn(move || {
            let mut taken = Vec::new();
            loop {
                match reader.take() {
                    Taken::End => break,
                    other => taken.push(other),
                }
            }
            reader.end();
            taken
        });
        queue.close(Duration::from_secs(60));
        assert_eq!(texts(&reading.join().unwrap()), ["last"]);
        assert!(!queue.rest(Duration::from_secs(60)), "nobody rests once it is closed");
        Queue::default().close(Duration::from_millis(1));
    }
}
