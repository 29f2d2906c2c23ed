//! A point in time as the user writes it: a duration before now, or a date in the user's time zone.

use jiff::Timestamp;
use jiff::civil::DateTime;

use super::zone::Zone;

const DAY: u64 = 86_400_000;

/// A point in time, before the current time and the time zone are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// This many milliseconds ago.
    Ago(u64),
    /// The midnight at which today began, or a number of days before that.
    Midnight(i8),
    /// A date and a time of day.
    Local(DateTime),
    /// The same with its offset from UTC.
    At(Timestamp),
}

impl Since {
    /// Reads `90min`, `2h`, `1d 12h`, `today`, `yesterday`, `2026-11-23` or `2026-11-23 18:30[:15][ UTC]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let read = match text {
            "today" => Some(Self::Midnight(0)),
            "yesterday" => Some(Self::Midnight(1)),
            _ if text.contains('-') => date(text),
            _ => span(text).map(Self::Ago),
        };
        read.ok_or_else(|| "use 90min, 2h, 3d, today, yesterday, 2026-11-23 or '2026-11-23 18:30'".to_owned())
    }

    /// Milliseconds since 1970-01-01 UTC; an earlier time counts as that. If clocks are set back and a date with its
    /// time of day occurs twice, the result is the earlier one.
    pub(super) fn resolve(self, now: u64, zone: &Zone) -> u64 {
        let moment = match self {
            Self::Ago(millis) => return now.saturating_sub(millis),
            Self::Midnight(before) => midnight(now, before, zone),
            Self::Local(local) => local.to_zoned_datetime(zone.tz().clone()).ok().map(|moment| moment.timestamp()),
            Self::At(moment) => Some(moment),
        };
        moment.map_or(0, |moment| u64::try_from(moment.as_millisecond()).unwrap_or(0))
    }
}

fn midnight(now: u64, before: i8, zone: &Zone) -> Option<Timestamp> {
    let now = Timestamp::from_millisecond(i64::try_from(now).ok()?).ok()?;
    let date = now.to_zoned_datetime(zone.tz().clone()).date();
    let date = (0..before).try_fold(date, |date, _| date.yesterday()).ok()?;
    // A day on which clocks are set forward at midnight begins later.
    Some(date.to_zoned_datetime(zone.tz().clone()).ok()?.timestamp())
}

fn span(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text.trim_end_matches("ago").trim_end();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, unit) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let unit = unit.trim_start();
        let end = unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit.len());
        let (unit, behind) = unit.split_at(end);
        let millis = match unit {
            "s" | "sec" | "second" | "seconds" => 1000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => DAY,
            "w" | "week" | "weeks" => 7 * DAY,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(millis)?)?;
        rest = behind.trim_start();
    }
    Some(total)
}

fn date(text: &str) -> Option<Since> {
    if let Some(utc) = text.strip_suffix("UTC") {
        return format!("{}Z", utc.trim_end()).parse().ok().map(Since::At);
    }
    // With an offset, the text means the same time in every zone.
    text.parse().map(Since::At).or_else(|_| text.parse().map(Since::Local)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_457_460_000;

    #[test]
    fn moments_are_read_as_people_write_them() {
        for (text, expected) in [
            ("90min", NOW - 5_400_000),
            ("2h", NOW - 7_200_000),
            ("1d 12h", NOW - 129_600_000),
            ("3 days ago", NOW - 3 * DAY),
            ("today", 1_795_392_000_000),
            ("yesterday", 1_795_305_600_000),
            ("2026-11-23", 1_795_392_000_000),
            ("2026-11-23 18:11", NOW),
            ("2026-11-23 18:11:30", NOW + 30_000),
            ("2026-11-23T18:11:00Z", NOW),
            ("2026-11-23 18:11:00 UTC", NOW),
            ("2026-11-23 18:11 UTC", NOW),
            ("1970-01-01", 0),
            ("1969-12-31", 0),
            ("100000w", 0),
        ] {
            assert_eq!(Since::parse(text).map(|since| since.resolve(NOW, &Zone::utc())), Ok(expected), "{text}");
        }
    }

    #[test]
    fn dates_are_those_of_the_writers_clock() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        const HOUR: u64 = 3_600_000;
        for (text, expected) in [
            ("today", 1_795_392_000_000 - HOUR),
            ("yesterday", 1_795_305_600_000 - HOUR),
            ("2026-11-23 19:11", NOW),
            ("2026-11-23 18:11 UTC", NOW),
            ("2026-11-23T18:11:00Z", NOW),
            ("2026-11-23 20:11+02:00", NOW),
            ("2h", NOW - 2 * HOUR),
            ("2026-06-21", 1_782_000_000_000 - 2 * HOUR),
            // The hour that occurs twice, and the one that does not occur.
            ("2026-10-25 02:30", 1_792_888_200_000),
            ("2026-03-29 02:30", 1_774_747_800_000),
            ("1970-01-01", 0),
        ] {
            assert_eq!(Since::parse(text).map(|since| since.resolve(NOW, &berlin)), Ok(expected), "{text}");
        }
        // In Beirut clocks are set forward at midnight: this day begins at one o'clock.
        let beirut = Zone::named("Asia/Beirut").unwrap();
        let begins = Since::parse("2026-03-29 01:00").unwrap().resolve(NOW, &beirut);
        assert_eq!(Since::Midnight(0).resolve(begins + 5 * HOUR, &beirut), begins);
        // Seen from the day after: that day had 23 hours.
        assert_eq!(Since::Midnight(1).resolve(begins + 24 * HOUR, &beirut), begins);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            "",
            "ago",
            "h",
            "2",
            "2x",
            "2h3",
            "-2h",
            "2026-13-01",
            "2026-02-30",
            "2026-11-23 25:00",
            "2026-11-23 12:60",
            "2026-11",
            "-",
            "UTC",
            "2026-11-23 UTC UTC",
            "99999999999999999999d",
            "9999999999999999d",
            "２h",
            "2026-1１-23",
        ] {
            assert!(Since::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
