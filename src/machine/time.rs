//! Time as a value: the caller passes the time to the machine, which never reads a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// A moment, in milliseconds since 1970-01-01 UTC. The daemon's clock never goes backwards while the daemon runs.
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

    /// The time since `earlier`; zero if that is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Named deadlines: at most one per key, the earliest first.
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
    /// Sets the deadline of `key`; it replaces an earlier one.
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

    /// Removes the deadline of `key`.
    pub fn stop(&mut self, key: &K) {
        if let Some(when) = self.by_key.remove(key) {
            self.by_time.remove(&(when, key.clone()));
        }
    }

    /// The deadline of `key`.
    pub fn due(&self, key: &K) -> Option<Time> {
        self.by_key.get(key).copied()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<(Time, &K)> {
        self.by_time.first().map(|(when, key)| (*when, key))
    }

    /// Removes and returns the earliest deadline that has passed.
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
