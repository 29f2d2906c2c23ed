//! Reads merged values one by one. It collects every problem, and what `--check` shows of each key.

use std::path::{Component, PathBuf};
use std::time::Duration;

use crate::machine::{Mode, escaped};

use super::environment::Environment;
use super::keys::{KEYS, Preset, known};
use super::merged::{Found, Merged, Origin};
use super::{shown_path, shown_value};

/// The maximum length of a text, in bytes.
const TEXT_LIMIT: usize = 4096;
/// The maximum length of a path, in bytes: synkler needs room for the names that it appends.
const PATH_LIMIT: usize = 800;

/// One line of the report.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) shown: String,
    pub(super) origin: String,
}

/// A reading in progress. Every method that returns `None` for a set or required key has recorded the problem.
pub(super) struct Reading<'a> {
    pub(super) environment: &'a Environment,
    pub(super) problems: &'a mut Vec<String>,
    pub(super) notices: &'a mut Vec<String>,
    merged: &'a Merged,
    rows: Vec<Row>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        merged: &'a Merged,
        environment: &'a Environment,
        problems: &'a mut Vec<String>,
        notices: &'a mut Vec<String>,
    ) -> Self {
        Self { environment, problems, notices, merged, rows: Vec::new() }
    }

    /// The lines of the report, in the order of the table; keys that this mode does not use are marked.
    pub(super) fn into_rows(mut self, mode: Mode) -> Vec<Row> {
        self.rows.sort_by_key(|row| KEYS.iter().position(|key| key.name == row.key));
        for row in &mut self.rows {
            if known(row.key).is_some_and(|key| !key.modes.contains(&mode)) {
                row.origin.push_str(&format!(", not used on {mode}"));
            }
        }
        self.rows
    }

    /// The value of a key, and its origin.
    pub(super) fn find(&self, key: &str) -> Option<(Found, Origin)> {
        self.merged.find(key)
    }

    /// The origin of a key's value, if the key is set.
    pub(super) fn origin(&self, key: &str) -> Option<Origin> {
        self.find(key).map(|(_, origin)| origin)
    }

    /// Records a problem with a key.
    pub(super) fn refuse(&mut self, key: &str, what: &str) {
        let problem = match self.origin(key) {
            Some(Origin::Default) | None => format!("{key}: {what}"),
            Some(origin) => format!("{origin}: {key}: {what}"),
        };
        self.problems.push(problem);
    }

    /// Records the value in force of a key.
    pub(super) fn show(&mut self, key: &'static str, shown: impl Into<String>, origin: &Origin) {
        self.rows.push(Row { key, shown: shown.into(), origin: origin.to_string() });
    }

    /// A key's value as text that `parse` understands. Its error says what was found and what is allowed.
    pub(super) fn parse<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        // The operator's spelling is lost: 1.0 has become 1.
        if let Some((Found::Number(_), _)) = self.find(key) {
            self.refuse(key, "found a number, allowed is text in quotes");
            return None;
        }
        self.parse_number(key, parse, show)
    }

    /// Like [`Reading::parse`], for keys that also accept a TOML number.
    pub(super) fn parse_number<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let Some((found, origin)) = self.find(key) else {
            if known(key).is_some_and(|key| key.preset == Preset::Required) {
                let missing = self.missing(key);
                self.refuse(key, &missing);
            }
            return None;
        };
        let parsed = match found {
            Found::Text(text) if text.len() > TEXT_LIMIT => {
                Err(format!("found {} bytes, allowed are up to {TEXT_LIMIT}", text.len()))
            }
            Found::Text(text) if text.contains('\0') => Err("found a NUL character, allowed is any other".to_owned()),
            Found::Text(text) => parse(&text),
            Found::Number(number) => parse(&number),
            Found::List(_) => Err("found a list, allowed is one value".to_owned()),
            Found::Other(what) => Err(format!("found {what}, allowed is text in quotes or a number")),
        };
        match parsed {
            Ok(value) => {
                self.show(key, show(&value), &origin);
                Some(value)
            }
            Err(problem) => {
                self.refuse(key, &problem);
                None
            }
        }
    }

    /// A key's value as non-empty text.
    pub(super) fn text(&mut self, key: &'static str, limit: usize) -> Option<String> {
        let secret = known(key).is_some_and(|key| key.secret);
        let parse = |text: &str| match text.len() {
            0 => Err("found nothing, allowed is a text".to_owned()),
            length if length > limit => Err(format!("found {length} bytes, allowed are up to {limit}")),
            _ => Ok(text.to_owned()),
        };
        self.parse(key, parse, |text| if secret { "hidden".to_owned() } else { one_line(text) })
    }

    /// A key's value as true or false, in TOML's form or as text.
    pub(super) fn truth(&mut self, key: &'static str) -> Option<bool> {
        let (found, origin) = self.find(key)?;
        let word = match &found {
            Found::Text(text) | Found::Number(text) => text.as_str(),
            Found::Other(what) => what,
            Found::List(_) => "a list",
        };
        let Ok(value) = word.parse::<bool>() else {
            self.refuse(key, &format!("found {}, allowed is true or false", shown_value(word)));
            return None;
        };
        self.show(key, word, &origin);
        Some(value)
    }

    /// A key's value as an absolute path.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.parse(key, absolute, |path| shown_path(path))
    }

    /// A list, or text that `split` takes apart; empty where it is not set or blank.
    pub(super) fn list(
        &mut self,
        key: &'static str,
        split: impl FnOnce(&str) -> Result<Vec<String>, String>,
    ) -> Option<Vec<String>> {
        let words = match self.find(key).map(|(found, _)| found) {
            None => Ok(Vec::new()),
            Some(Found::Text(text)) => split(&text),
            Some(Found::List(words)) => Ok(words),
            Some(Found::Number(number)) => Err(format!("found {number}, allowed is a list or text")),
            Some(Found::Other(what)) => Err(format!("found {what}, allowed is a list of texts or text")),
        };
        words.map_err(|problem| self.refuse(key, &problem)).ok()
    }

    /// A key's value as a whole number.
    pub(super) fn whole(&mut self, key: &'static str, low: u32, high: u32) -> Option<u32> {
        let parse = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
            let number = text.parse().ok().filter(|number| plain && (low..=high).contains(number));
            number.ok_or_else(|| format!("found {}, allowed is a whole number from {low} to {high}", shown_value(text)))
        };
        self.parse_number(key, parse, u32::to_string)
    }

    /// A key's value as a decimal number of at most `high`, in millionths; further digits are cut off. Zero only if
    /// `zero` allows it.
    pub(super) fn decimal(&mut self, key: &'static str, high: u32, zero: bool) -> Option<u64> {
        let parse = |text: &str| {
            let fits = |number: &u64| *number <= u64::from(high) * MILLION && (zero || *number > 0);
            decimal(text).filter(fits).ok_or_else(|| {
                let low = if zero { "from 0" } else { "above 0 and" };
                format!("found {}, allowed is a decimal number {low} up to {high}", shown_value(text))
            })
        };
        self.parse_number(key, parse, |number| shown_decimal(*number))
    }

    /// A key's value as a duration, in units of this many seconds.
    pub(super) fn duration(&mut self, key: &'static str, unit: u64, high: u32, zero: bool) -> Option<Duration> {
        self.decimal(key, high, zero).map(|number| Duration::from_micros(number.saturating_mul(unit)))
    }

    fn missing(&self, key: &str) -> String {
        let variable = known(key).map(super::keys::Key::variable).unwrap_or_default();
        match self.merged.file() {
            Some(path) => {
                format!("is not set; set it in {} or as {variable} in the environment", shown_path(path))
            }
            None => {
                let looked = self.environment.search().iter().map(|path| shown_path(path)).collect::<Vec<_>>();
                format!(
                    "is not set and there is no config file; set it in one of {} or as {variable} in the environment",
                    looked.join(", ")
                )
            }
        }
    }
}

/// A text for one line of the report.
pub(super) fn one_line(text: &str) -> String {
    escaped(text.as_bytes())
}

/// An absolute path without `..`, not the root, without double and trailing slashes.
pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    let path: PathBuf = PathBuf::from(text).components().collect();
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || climbs || path.parent().is_none() || text.len() > PATH_LIMIT {
        return Err(format!(
            "found {}, allowed is an absolute path below /, without .. and of up to {PATH_LIMIT} bytes",
            shown_value(text)
        ));
    }
    Ok(path)
}

/// A list of words, as they are shown.
pub(super) fn shown_words(words: &[String]) -> String {
    words.iter().map(|word| shown_value(word)).collect::<Vec<_>>().join(", ")
}

const MILLION: u64 = 1_000_000;

fn decimal(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(part) || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() };
    let part = format!("{part:0<6}");
    number(whole)?.checked_mul(MILLION)?.checked_add(number(part.get(..6)?)?)
}

fn shown_decimal(millionths: u64) -> String {
    let text = format!("{}.{:06}", millionths / MILLION, millionths % MILLION);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (text, expected) in [
            ("5", Some(5_000_000)),
            ("0.1", Some(100_000)),
            (".5", Some(500_000)),
            ("5.", Some(5_000_000)),
            ("0.0000019", Some(1)),
            ("", None),
            (".", None),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("1.2.3", None),
            ("inf", None),
            ("99999999999999999999", None),
            ("18446744073710", None),
        ] {
            assert_eq!(decimal(text), expected, "{text}");
        }
        assert_eq!(shown_decimal(100_000), "0.1");
        assert_eq!(shown_decimal(30_000_000), "30");
        assert_eq!(shown_decimal(0), "0");
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        assert_eq!(absolute("/srv//in/./x/").unwrap(), PathBuf::from("/srv/in/x"));
        for text in ["", "srv", "~/x", "/", "//", "/srv/../etc", "./x"] {
            assert!(absolute(text).is_err(), "{text}");
        }
    }
}
