//! A moment as people write it: how long ago, or a date. Like everything `synklerctl` prints, in UTC.

use super::units::day;

const DAY: u64 = 86_400_000;

/// A moment, before it is known when now is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So many milliseconds ago.
    Ago(u64),
    /// The midnight that began today, or so many days before.
    Midnight(u64),
    /// Milliseconds since 1970-01-01 UTC.
    At(u64),
}

impl Since {
    /// Reads `90min`, `2h`, `1d 12h`, `today`, `yesterday`, `2026-11-23` or `2026-11-23 18:30[:15]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let read = match text {
            "today" => Some(Self::Midnight(0)),
            "yesterday" => Some(Self::Midnight(1)),
            _ if text.contains('-') => moment(text).map(Self::At),
            _ => span(text).map(Self::Ago),
        };
        read.ok_or_else(|| "use 90min, 2h, 3d, today, yesterday, 2026-11-23 or '2026-11-23 18:30'".to_owned())
    }

    /// The moment in milliseconds since 1970-01-01 UTC.
    pub(super) fn resolve(self, now: u64) -> u64 {
        match self {
            Self::Ago(millis) => now.saturating_sub(millis),
            Self::Midnight(before) => ((now / DAY).saturating_sub(before)) * DAY,
            Self::At(moment) => moment,
        }
    }
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

fn moment(text: &str) -> Option<u64> {
    let text = text.trim_end_matches("UTC").trim_end().trim_end_matches('Z');
    let (date, clock) = text.split_once([' ', 'T']).unwrap_or((text, "00:00"));
    let numbers = |text: &str, by: char| -> Option<Vec<u64>> {
        let digits = |part: &str| (1..=4).contains(&part.len()) && part.chars().all(|c| c.is_ascii_digit());
        text.split(by).map(|part| if digits(part) { part.parse().ok() } else { None }).collect()
    };
    let (date, clock) = (numbers(date, '-')?, numbers(clock, ':')?);
    let [year, month, of_month] = *date.as_slice() else { return None };
    let (hour, minute, second) = match *clock.as_slice() {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(day(year, month, of_month)? * DAY + (hour * 3600 + minute * 60 + second) * 1000)
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
            ("2026-11-23T18:11:00Z", NOW),
            ("2026-11-23 18:11:00 UTC", NOW),
            ("1970-01-01", 0),
            ("100000w", 0),
        ] {
            assert_eq!(Since::parse(text).map(|since| since.resolve(NOW)), Ok(expected), "{text}");
        }
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
            "2026-11-23 24:00",
            "2026-11",
            "-",
            "2026-11-23 12",
            "99999999999999999999d",
            "9999999999999999d",
            "1969-12-31",
            "２h",
            "2026-1１-23",
        ] {
            assert!(Since::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
