//! The hand of a writer: when it pauses, what it writes at once, and when it is killed.

#![allow(clippy::disallowed_methods, reason = "a writer's pauses are a part of what is tested")]

use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use synkler::machine::{Random, spread};

/// Longer than `settle_seconds` is by default.
const LONG: Duration = Duration::from_millis(5_500);

/// How many pauses were long, and how many of all found something unfinished.
pub static LONG_PAUSES: AtomicU64 = AtomicU64::new(0);
/// How many writers were killed.
pub static KILLS: AtomicU64 = AtomicU64::new(0);

pub struct Hand {
    pub random: Random,
    /// How many long pauses are left for this item.
    long: u32,
}

impl Hand {
    pub fn new(seed: u64, writer: &str, number: u64, long: u32) -> Self {
        let seed = writer.bytes().fold(spread(seed), |sum, byte| spread(sum ^ u64::from(byte)));
        Self { random: Random(spread(seed ^ number)), long }
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.random.below(count) == 0
    }

    /// Random bytes, at least 1 kB.
    pub fn bytes(&mut self) -> Vec<u8> {
        let length = 1_000 + self.random.index(200_000);
        crate::bed::tree::noise(self.random.next(), length)
    }

    /// Does nothing for a while, in the middle of the work.
    pub fn pause(&mut self) {
        let few = Duration::from_millis(self.random.below(300));
        let long = self.long > 0 && self.one_in(2);
        if long {
            self.long -= 1;
            LONG_PAUSES.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(if long { LONG + 8 * few } else { few });
    }

    /// What it writes between two pauses.
    pub fn pieces<'b>(&mut self, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        for _ in 0..2 + self.random.below(4) {
            let (piece, next) = rest.split_at(self.random.index(rest.len() + 1));
            pieces.push(piece);
            rest = next;
        }
        pieces.push(rest);
        pieces
    }

    /// Writes with pauses.
    pub fn feed(&mut self, to: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
        for (number, piece) in self.pieces(bytes).into_iter().enumerate() {
            if number > 0 {
                self.pause();
            }
            to.write_all(piece)?;
            to.flush()?;
        }
        Ok(())
    }

    /// Feeds a program by its standard input, and waits for its end. `None` if it was killed in the middle.
    pub fn feed_program(&mut self, mut child: Child, bytes: &[u8], kill: bool) -> Option<ExitStatus> {
        let mut stdin = child.stdin.take().unwrap();
        if kill {
            let half = bytes.split_at(1 + self.random.index(bytes.len() - 1)).0;
            drop(self.feed(&mut stdin, half));
            Self::kill(&mut child);
            return None;
        }
        self.feed(&mut stdin, bytes).unwrap();
        drop(stdin);
        Some(child.wait().unwrap())
    }

    /// Stops a program at random moments while `target` is there and not complete, and waits for its end. `None` if it
    /// was killed in the middle.
    pub fn stutter(&mut self, mut child: Child, target: &Path, kill: bool) -> Option<ExitStatus> {
        let mut met = 0;
        loop {
            thread::sleep(Duration::from_micros(500 + self.random.below(3_000)));
            if let Some(status) = child.try_wait().unwrap() {
                return Some(status);
            }
            if met == 3 || !target.exists() {
                continue;
            }
            if kill && self.one_in(2) {
                Self::kill(&mut child);
                return None;
            }
            met += 1;
            let pid = Pid::from_child(&child);
            kill_process(pid, Signal::STOP).unwrap();
            self.pause();
            kill_process(pid, Signal::CONT).unwrap();
        }
    }

    fn kill(child: &mut Child) {
        KILLS.fetch_add(1, Ordering::Relaxed);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
