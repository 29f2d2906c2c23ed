//! The daemon's only source of time.
//!
//! The wall clock is read once, at the start. From then on the time is that reading plus what `CLOCK_BOOTTIME` has
//! counted, which never goes backwards and counts while the host is suspended. If the wall clock is stepped (a host
//! that boots in 1970 and gets NTP later), the daemon's time stays wrong by that step until its next start. That is on
//! purpose: following a step forward would shorten `keep_minutes` and every other wait by the size of the step. The
//! service is ordered after `time-sync.target` so that the first reading is a good one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::machine::Time;

/// A clock that never goes backwards.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Time,
    counted: Duration,
}

impl Clock {
    /// Reads the wall clock, for the only time.
    pub fn start() -> Self {
        Self { started: Time::default().after(wall_time()), counted: boot_time() }
    }

    /// The current time.
    pub fn now(&self) -> Time {
        self.started.after(boot_time().saturating_sub(self.counted))
    }

    /// A time of the host's wall clock, which may have been set since the start, converted to the daemon's time.
    pub fn of_wall(&self, wall: Time) -> Time {
        let ahead = self.ahead();
        let millis = wall.as_millis();
        Time::from_millis(millis.saturating_add_signed(ahead))
    }

    /// By how many milliseconds the daemon's time is ahead of the host's wall clock, which may have been set since the
    /// start.
    pub fn ahead(&self) -> i64 {
        let wall = wall_time();
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let now = Duration::from_millis(self.now().as_millis());
        millis(now.saturating_sub(wall)) - millis(wall.saturating_sub(now))
    }
}

fn wall_time() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn boot_time() -> Duration {
    // The kernel counts up from zero, so the conversion cannot fail.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_wall_clock_and_never_goes_back() {
        let clock = Clock::start();
        let mut earlier = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= earlier);
            earlier = now;
        }
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let off = u64::try_from(wall.as_millis()).unwrap().abs_diff(clock.now().as_millis());
        assert!(off < 1000, "{off} ms apart");
    }

    #[test]
    fn moments_of_a_clock_that_was_set_are_translated() {
        let hour = Duration::from_secs(3600);
        // As if the wall clock had been set one hour ahead since the start.
        let started = Time::from_millis(wall_time().saturating_sub(hour).as_millis() as u64);
        let clock = Clock { started, counted: boot_time() };
        let wall = Time::from_millis(wall_time().as_millis() as u64);
        let off = clock.of_wall(wall).as_millis().abs_diff(clock.now().as_millis());
        assert!(off < 1000, "{off} ms apart");
    }

    #[test]
    fn counts_from_its_start() {
        let started = Time::from_millis(1_700_000_000_000);
        let clock = Clock { started, counted: boot_time().saturating_sub(Duration::from_secs(90)) };
        let passed = clock.now().since(started);
        assert!(passed >= Duration::from_secs(90) && passed < Duration::from_secs(95), "{passed:?}");
        // If the count is ever in the future, nothing is subtracted.
        let ahead = Clock { started, counted: boot_time() + Duration::from_secs(90) };
        assert_eq!(ahead.now(), started);
    }
}
