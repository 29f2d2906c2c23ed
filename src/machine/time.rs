//! Time as a value: the machine is told what time it is and never asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// A moment, in milliseconds since 1970-01-01 UTC. The clock that makes it never goes backwards while the
/// daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// From milliseconds since 1970-01-01 UTC.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `wait` later.
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The moment as people write it, to the second: `2026-11-23 14:05:09 UTC`.
    pub fn in_words(self) -> String {
        let (days, second) = (self.0 / 86_400_000, self.0 / 1000 % 86_400);
        // Days in eras of 400 years that begin on a 1 March, so that a leap day is the last of its year.
        let shifted = days.saturating_add(719_468);
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
        let year = year + era * 400 + u64::from(month <= 2);
        format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Named deadlines: at most one moment a key, the earliest first.
#[derive(Debug, Clone)]
pub struct Timers<K> {
    by_time: BTreeSet<(Time, K)>,
    by_key: BTreeMap<K, Time>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets the deadline of `key`, in place of an earlier one.
    pub fn set(&mut self, key: K, when: Time) {
        self.stop(&key);
        self.by_time.insert((when, key.clone()));
        self.by_key.insert(key, when);
    }

    /// Sets the deadline of `key` unless it has an earlier one already.
    pub fn set_at_most(&mut self, key: K, when: Time) {
        if self.by_key.get(&key).is_none_or(|due| *due > when) {
            self.set(key, when);
        }
    }

    /// Forgets the deadline of `key`.
    pub fn stop(&mut self, key: &K) {
        if let Some(when) = self.by_key.remove(key) {
            self.by_time.remove(&(when, key.clone()));
        }
    }

    /// When `key` is due.
    pub fn due(&self, key: &K) -> Option<Time> {
        self.by_key.get(key).copied()
    }

    /// The earliest deadline of all.
    pub fn next(&self) -> Option<(Time, &K)> {
        self.by_time.first().map(|(when, key)| (*when, key))
    }

    /// Takes out the earliest deadline that has passed.
    pub fn expire(&mut self, now: Time) -> Option<K> {
        if self.by_time.first()?.0 > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_people_write_them() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_868_799, "2000-02-29 23:59:59 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_795_457_460, "2026-11-23 18:11:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(Time::from_millis(seconds * 1000 + 999).in_words(), text);
        }
        assert!(Time::from_millis(u64::MAX).in_words().ends_with("UTC"));
    }

    #[test]
    fn timers_come_in_order_and_can_move() {
        let mut timers = Timers::default();
        let at = Time::from_millis;
        timers.set("b", at(20));
        timers.set("a", at(30));
        timers.set("a", at(10));
        timers.set_at_most("b", at(25));
        assert_eq!(timers.next(), Some((at(10), &"a")));
        assert_eq!(timers.expire(at(9)), None);
        assert_eq!(timers.expire(at(50)), Some("a"));
        assert_eq!(timers.due(&"b"), Some(at(20)));
        timers.stop(&"b");
        assert_eq!(timers.expire(at(50)), None);
    }
}
