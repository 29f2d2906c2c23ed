//! The raw stage: one config file, in TOML or INI, as keys, values and lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};

use super::keys::{known, nearest};
use super::{ini, shown_path};

/// The largest config file, in bytes.
const CONFIG_LIMIT: u64 = 256 * 1024;
/// The table or section that may contain the keys.
const TABLE: &str = "default";
/// Keys whose quotes have a meaning and therefore stay.
const QUOTES_MEAN_SOMETHING: [&str; 2] = ["rsync_opts", "cleanup_script"];

/// The content of a config file: known keys only.
#[derive(Debug)]
pub(super) struct RawFile {
    pub(super) path: PathBuf,
    pub(super) values: Dict,
    /// The line of each key, counted from 1; a line that could not be found is missing.
    pub(super) lines: BTreeMap<String, usize>,
}

/// Reads a config file; `None` if it cannot be read at all. Unknown keys are reported as problems and left out.
pub(super) fn read(path: &Path, problems: &mut Vec<String>, notices: &mut Vec<String>) -> Option<RawFile> {
    let text = match read_text(path, CONFIG_LIMIT) {
        Ok(text) => text,
        Err(problem) => {
            problems.push(format!("{}: {problem}", shown_path(path)));
            return None;
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut raw = RawFile { path: path.to_owned(), values: Dict::new(), lines: BTreeMap::new() };
    let read = match spelling(path, text) {
        Spelling::Toml => raw.take_toml(text, problems),
        Spelling::Ini => raw.take_ini(text, problems, notices),
    };
    read.then_some(raw)
}

/// A small regular file as text, or what is wrong with it.
pub(super) fn read_text(path: &Path, limit: u64) -> Result<String, String> {
    let unreadable = |error| format!("cannot be read: {error}");
    // Checked before the file is opened: opening a fifo would block.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(format!("is larger than the {limit} bytes allowed"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let start = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(start).filter(|byte| **byte == b'\n').count() + 1;
        format!("is not UTF-8, first on line {line}")
    })
}

impl RawFile {
    fn place(&self, line: Option<usize>) -> String {
        let path = shown_path(&self.path);
        line.map_or(path.clone(), |line| format!("{path}:{line}"))
    }

    fn take_ini(&mut self, text: &str, problems: &mut Vec<String>, notices: &mut Vec<String>) -> bool {
        let mut entries = match ini::parse(text) {
            Ok(entries) => entries,
            Err(faults) => {
                problems.extend(faults.into_iter().map(|(line, fault)| format!("{}: {fault}", self.place(Some(line)))));
                return false;
            }
        };
        // configparser's special section gives defaults to every other one.
        entries.sort_by_key(|entry| entry.section != "DEFAULT");
        for entry in entries {
            let place = self.place(Some(entry.line));
            if entry.section != TABLE && entry.section != "DEFAULT" {
                let section = entry.section.escape_debug();
                problems.push(format!("{place}: unknown section [{section}]; put the keys below [{TABLE}]"));
            } else if self.accept(&entry.key, &place, problems) {
                let mut value = entry.value.as_str();
                if let Some(inner) = unquoted(&entry.key, value) {
                    value = inner;
                    notices.push(format!("{place}: {}: the quotes around the value are removed", entry.key));
                }
                self.lines.insert(entry.key.clone(), entry.line);
                self.values.insert(entry.key, Value::from(value));
            }
        }
        true
    }

    fn take_toml(&mut self, text: &str, problems: &mut Vec<String>) -> bool {
        // The parser's own message would contain the line, which may be a password.
        let mut top = match Toml::from_str::<Dict>(text) {
            Ok(top) => top,
            Err(error) => {
                let before = error.span().and_then(|span| text.get(..span.start));
                let line = before.map(|before| before.matches('\n').count() + 1);
                let mut message = error.message().lines().collect::<Vec<_>>().join(", ");
                if message.is_empty() {
                    message.push_str("unreadable");
                }
                problems.push(format!(
                    "{}: not TOML: {message} (put text in quotes; the name of an INI file may end in .ini)",
                    self.place(line)
                ));
                return false;
            }
        };
        let lines = toml_lines(text);
        let nested = match top.remove(TABLE) {
            Some(Value::Dict(_, nested)) => nested,
            Some(other) => {
                top.insert(TABLE.to_owned(), other);
                Dict::new()
            }
            None => Dict::new(),
        };
        for (table, values) in [("", top), (TABLE, nested)] {
            for (key, value) in values {
                let line = lines.get(&(table.to_owned(), key.clone())).copied();
                let place = self.place(line);
                if self.values.contains_key(&key) {
                    problems.push(format!("{place}: {key} is set twice, above and in [{TABLE}]"));
                } else if known(&key).is_none() && matches!(value, Value::Dict(..)) {
                    let table = key.escape_debug();
                    problems
                        .push(format!("{place}: unknown table [{table}]; put the keys at the top or below [{TABLE}]"));
                } else if self.accept(&key, &place, problems) {
                    self.lines.extend(line.map(|line| (key.clone(), line)));
                    self.values.insert(key, value);
                }
            }
        }
        true
    }

    fn accept(&self, key: &str, place: &str, problems: &mut Vec<String>) -> bool {
        if known(key).is_none() {
            let near = nearest(&key.to_lowercase());
            let key = key.escape_debug();
            problems.push(format!("{place}: unknown key {key}; the nearest known key is {near}"));
        }
        known(key).is_some()
    }
}

enum Spelling {
    Toml,
    Ini,
}

/// By extension, else by content. If neither format parses without an error, the values decide which error is more
/// useful: TOML has quotes around text, INI has not.
fn spelling(path: &Path, text: &str) -> Spelling {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => return Spelling::Toml,
        Some("ini") => return Spelling::Ini,
        _ => {}
    }
    if Toml::from_str::<Dict>(text).is_ok() {
        return Spelling::Toml;
    }
    let (mut bare, mut quoted) = (0, 0);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';', '['])) {
        let value = line.split_once(['=', ':']).map_or("", |(_, value)| value.trim());
        match value.chars().next() {
            Some('"' | '\'' | '[') => quoted += 1,
            Some(first) if !first.is_ascii_digit() && !matches!(value, "true" | "false") => bare += 1,
            _ => {}
        }
    }
    if bare > quoted { Spelling::Ini } else { Spelling::Toml }
}

/// The value without a matching pair of quotes around it, if it has one. The INI format keeps quotes. But the original
/// sample shows credentials in quotes, and no broker accepts a login with these.
fn unquoted<'a>(key: &str, value: &'a str) -> Option<&'a str> {
    if QUOTES_MEAN_SOMETHING.contains(&key) {
        return None;
    }
    let between = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote).filter(|inner| !inner.contains(quote));
    between('\'').or_else(|| between('"'))
}

/// The lines of the keys in a valid TOML file, by table (`None` for the top) and key. This is good enough for messages:
/// keys in an unusual form are left out.
fn toml_lines(text: &str) -> BTreeMap<(String, String), usize> {
    let mut lines = BTreeMap::new();
    let mut table = String::new();
    let mut open: Option<&str> = None;
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if let Some(quotes) = open {
            if line.contains(quotes) {
                open = None;
            }
            continue;
        }
        if let Some((name, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            table = name.trim_start_matches('[').trim().to_owned();
            lines.entry((String::new(), table.clone())).or_insert(number);
        } else if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with(['#', '"', '\''])) {
            lines.entry((table.clone(), name.trim().to_owned())).or_insert(number);
            open = ["\"\"\"", "'''"].into_iter().find(|quotes| value.matches(quotes).count() == 1);
        }
    }
    lines
}
