//! The INI format of the original program: what Python's `configparser` reads without interpolation. Keys are
//! lower-cased, and `=` or `:` separates. Comments are whole lines that begin with `#` or `;`. A line that is indented
//! deeper continues the value above. Quotes and `%` have no meaning.

use std::collections::BTreeSet;

/// One key of a section.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
    /// The line of the key, counted from 1.
    pub(super) line: usize,
}

/// A line that cannot be read, counted from 1, and why. It never contains the line itself, which may be a password.
pub(super) type Fault = (usize, String);

/// Reads a whole file. Returns everything that is wrong with it, not only the first error.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Vec<Fault>> {
    let mut parser = Parser::default();
    for (index, line) in lines(text).enumerate() {
        parser.line(index + 1, line);
    }
    if !parser.faults.is_empty() {
        return Err(parser.faults);
    }
    for entry in &mut parser.entries {
        let end = entry.value.trim_end_matches(space).len();
        entry.value.truncate(end);
    }
    Ok(parser.entries)
}

#[derive(Default)]
struct Parser {
    entries: Vec<Entry>,
    faults: Vec<Fault>,
    section: Option<String>,
    /// Whether a deeper line continues the last entry.
    open: bool,
    indent: usize,
    sections: BTreeSet<String>,
    keys: BTreeSet<(String, String)>,
}

impl Parser {
    fn line(&mut self, number: usize, line: &str) {
        let content = line.trim_matches(space);
        if content.starts_with(['#', ';']) {
            return;
        }
        if content.is_empty() {
            self.go_on("");
            return;
        }
        let indent = line.chars().take_while(|c| space(*c)).count();
        if self.open && indent > self.indent {
            self.go_on(content);
            return;
        }
        self.indent = indent;
        if let Some(name) = section_name(content) {
            self.section(number, name);
        } else if let Some(section) = self.section.clone() {
            self.option(number, section, content);
        } else {
            // The keys below have no section either; one report is enough.
            if self.faults.is_empty() {
                self.faults.push((
                    number,
                    "a key before any [default] line; in an INI file put the keys below [default], in a TOML file put \
                     text in quotes"
                        .to_owned(),
                ));
            }
        }
    }

    fn go_on(&mut self, content: &str) {
        if let Some(entry) = self.entries.last_mut().filter(|_| self.open) {
            entry.value.push('\n');
            entry.value.push_str(content);
        }
    }

    fn section(&mut self, number: usize, name: &str) {
        self.open = false;
        // In configparser only the special section may occur twice.
        if !self.sections.insert(name.to_owned()) && name != "DEFAULT" {
            self.faults.push((number, format!("duplicate section [{}]", name.escape_debug())));
        }
        self.section = Some(name.to_owned());
    }

    fn option(&mut self, number: usize, section: String, content: &str) {
        let Some((key, value)) = content.split_once(['=', ':']) else {
            self.faults.push((number, "neither \"key = value\" nor \"[section]\"".to_owned()));
            return;
        };
        let key = key.trim_matches(space).to_lowercase();
        if key.is_empty() {
            self.faults.push((number, "no key before the separator".to_owned()));
            return;
        }
        if !self.keys.insert((section.clone(), key.clone())) {
            self.faults.push((number, format!("{} is set twice", key.escape_debug())));
        }
        self.open = true;
        let value = value.trim_matches(space).to_owned();
        self.entries.push(Entry { section, key, value, line: number });
    }
}

fn section_name(content: &str) -> Option<&str> {
    let (name, _) = content.strip_prefix('[')?.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}

/// What Python's `str.strip` removes: Rust's white space and four separators.
fn space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// Lines with any of the three line ends, as Python's text mode splits them.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text).filter(|text| !text.is_empty());
    std::iter::from_fn(move || {
        let text = rest?;
        let Some((line, tail)) = text.split_once(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let tail = if text.get(line.len()..).is_some_and(|end| end.starts_with("\r\n")) {
            tail.strip_prefix('\n').unwrap_or(tail)
        } else {
            tail
        };
        rest = Some(tail).filter(|tail| !tail.is_empty());
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::machine::Random;

    type Sections = BTreeMap<String, BTreeMap<String, String>>;

    #[test]
    fn faults_name_their_lines_and_hide_them() {
        let faults = parse("[default]\na = 1\nhunter2\nA: 2\n= x\n[default]\n").unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.0).collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert!(!format!("{faults:?}").contains("hunter2"));
        let faults = parse("# c\n\nfile_dir = /x\nmode = upload\n").unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.0).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn entries_know_their_lines() {
        let entries = parse("\r\n[default]\r\n# c\r\nA = x\r\n  y\r\nb: z").unwrap();
        let found: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.value.as_str(), e.line)).collect();
        assert_eq!(found, [("a", "x\ny", 4), ("b", "z", 6)]);
    }

    /// The same files, read by Python's own parser.
    fn python(texts: &[String]) -> Vec<Option<Sections>> {
        const SCRIPT: &str = "
import configparser, io, json, sys
out = []
for text in json.load(sys.stdin):
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read_file(io.TextIOWrapper(io.BytesIO(text.encode()), encoding='utf-8'))
    except configparser.Error:
        out.append(None)
        continue
    sections = {'DEFAULT': dict(config._defaults)}
    sections.update({name: dict(config._sections[name]) for name in config._sections})
    out.append({name: keys for name, keys in sections.items() if keys})
json.dump(out, sys.stdout)
";
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        child.stdin.take().unwrap().write_all(&serde_json::to_vec(texts).unwrap()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn ours(text: &str) -> Option<Sections> {
        let mut sections = Sections::new();
        for entry in parse(text).ok()? {
            sections.entry(entry.section).or_default().insert(entry.key, entry.value);
        }
        Some(sections)
    }

    #[test]
    fn tricky_files_read_as_python_reads_them() {
        let mut texts: Vec<String> = [
            "",
            "[default]",
            "[default]\n",
            "[default]\nKey = Value ; no comment\nother=a#b\n",
            "[default]\nk = v\n  # comment inside\n  more\n\n  after a blank\nl = w\n",
            "[default]\nk = v\n\n\n\n",
            "[default]\nk =\n  a\n  b\nl :\n",
            "[default]\nk\n",
            "[default]\nk = 1\nK = 2\n",
            "[default]\na: b = c\nd = e : f\n",
            "[DEFAULT]\na = 1\n[default]\na = 2\n[DEFAULT]\nb = 3\n",
            "[DEFAULT]\na = 1\n[DEFAULT]\na = 3\n",
            "[default]\n  a = 1\n  b = 2\nc = 3\n",
            "  [default]\n  a = 1\n [x]\nb = 2\n",
            "[default]\r\na = 1\r\n b\rc = 3\r",
            "[default] trailing\nü = Ä ö\nİ = x\n",
            "[]\na = 1\n",
            "[default\na = 1\n",
            "[default]\na b c = %F %(x)s %%\n'q' = 'quoted'\n",
            "[default]\na = 1\n\u{a0}\u{a0}b\nc\u{2003}=\u{2003}d\u{1f}\n",
            "\u{feff}[default]\na = 1\n",
            "[default]\na = 1\x0c\n\x0b\n=\n",
            "; c\n# d\na = 1\n",
        ]
        .map(str::to_owned)
        .to_vec();
        // And many random files from relevant parts; the numbers come from a fixed seed.
        let pieces = [
            "[default]",
            "[x]",
            "[DEFAULT]",
            "[",
            "]",
            "a",
            "B",
            "=",
            ":",
            " = ",
            " : ",
            "\n",
            "\n",
            "\n",
            "\n ",
            "\n  ",
            "\n\t",
            "\r\n",
            "\r",
            " ",
            "#",
            ";",
            "'",
            "\"",
            "%F",
            "é",
            "\u{a0}",
            "\x1c",
            "c = 1\n",
            "[default]\n",
        ];
        let mut random = Random(1);
        for _ in 0..3000 {
            let mut text = String::from(if random.below(2) == 0 { "[default]\n" } else { "" });
            for _ in 0..random.below(23) {
                text.push_str(pieces[random.index(pieces.len())]);
            }
            texts.push(text);
        }
        let mut readable = 0;
        for (text, expected) in texts.iter().zip(python(&texts)) {
            readable += usize::from(expected.is_some());
            assert_eq!(ours(text), expected, "{text:?}");
        }
        assert!(readable > 300 && readable < texts.len() - 300, "{readable} of {} readable", texts.len());
    }
}
