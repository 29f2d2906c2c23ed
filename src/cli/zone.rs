//! Times in the user's time zone, or in UTC on request.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::units::ago;

/// The text for a time outside the calendar.
const BEYOND: &str = "after year 9999";

/// A time zone for showing and reading times.
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

impl Zone {
    /// UTC.
    pub const fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The zone of this process: `TZ`, else `/etc/localtime`. UTC if this host does not know the zone; the texts then
    /// say `UTC`, so that no reader takes them for local time.
    pub fn local() -> Self {
        Self(TimeZone::try_system().unwrap_or(TimeZone::UTC))
    }

    /// A zone by its name, such as `Europe/Berlin`, if this host knows it.
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    pub(super) fn tz(&self) -> &TimeZone {
        &self.0
    }

    /// `Mon 2026-11-23 19:11:00 CET`.
    pub(super) fn moment(&self, millis: u64) -> String {
        self.format(millis, "%a %Y-%m-%d %H:%M:%S %Z")
    }

    /// `2026-11-23 19:11`, for columns.
    pub(super) fn minute(&self, millis: u64) -> String {
        self.format(millis, "%Y-%m-%d %H:%M")
    }

    /// `Mon 2026-11-23 19:11:00 CET; 5min 3s ago`.
    pub(super) fn at(&self, then: u64, now: u64) -> String {
        format!("{}; {}", self.moment(then), ago(then, now))
    }

    /// `since Mon 2026-11-23 19:11:00 CET; 5min 3s ago`.
    pub(super) fn since(&self, then: u64, now: u64) -> String {
        format!("since {}", self.at(then, now))
    }

    fn format(&self, millis: u64, format: &str) -> String {
        let moment = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
        moment.map_or_else(
            || BEYOND.to_owned(),
            |moment| moment.to_zoned_datetime(self.0.clone()).strftime(format).to_string(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_in_utc() {
        let zone = Zone::utc();
        for (seconds, text) in [
            (0, "Thu 1970-01-01 00:00:00 UTC"),
            (951_782_400, "Tue 2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "Thu 2024-02-29 23:59:59 UTC"),
            (1_795_457_460, "Mon 2026-11-23 18:11:00 UTC"),
            (4_107_542_400, "Mon 2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(zone.moment(seconds * 1000 + 999), text);
        }
        assert_eq!(zone.minute(1_795_457_460_000), "2026-11-23 18:11");
        // The largest numbers of the interface can be printed too, within the width of a column.
        for millis in [300_000_000_000_000, i64::MAX.unsigned_abs(), u64::MAX] {
            assert_eq!((zone.moment(millis), zone.minute(millis)), (BEYOND.to_owned(), BEYOND.to_owned()));
        }
        assert!(BEYOND.len() <= "2026-11-23 18:11".len());
    }

    #[test]
    fn moments_follow_the_clock_of_the_reader() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        for (seconds, text) in [
            (1_795_457_460, "Mon 2026-11-23 19:11:00 CET"),
            (1_782_000_000, "Sun 2026-06-21 02:00:00 CEST"),
            // The hour that occurs twice.
            (1_792_888_200, "Sun 2026-10-25 02:30:00 CEST"),
            (1_792_891_800, "Sun 2026-10-25 02:30:00 CET"),
        ] {
            assert_eq!(berlin.moment(seconds * 1000), text);
        }
        let kathmandu = Zone::named("Asia/Kathmandu").unwrap();
        assert_eq!(kathmandu.moment(1_795_457_460_000), "Mon 2026-11-23 23:56:00 +0545");
        assert!(Zone::named("Nowhere/Else").is_none());
    }
}
