//! What is done with an item after the hand-over. A script's command line is words with places for the item's name,
//! filled in as raw bytes, never seen by a shell.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::machine::ItemName;

use super::merged::{Found, Origin};
use super::reading::{Reading, absolute, one_line, shown_words};
use super::{shown_path, shown_value};

/// The keys of which one may be set.
pub(super) const CLEANUP_KEYS: [&str; 3] = ["cleanup_script", "cleanup_move", "cleanup_delete"];
/// The longest `cleanup_timeout_minutes`: a week.
const MINUTES_LIMIT: u32 = 7 * 24 * 60;

/// The maximum number of words in a command.
const WORD_LIMIT: usize = 256;

/// What is done with an item after the hand-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleanup {
    /// A command runs.
    Script(Script),
    /// The item moves to this directory: an absolute path, not `file_dir` and not below it.
    Move(PathBuf),
    /// The item is deleted.
    Delete,
}

/// A command to run for an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    words: Vec<Vec<Piece>>,
    /// Its time limit; not zero.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name,
    FullPath,
    /// A word by itself.
    All,
}

impl Script {
    /// Whether it takes the items of a batch as separate words.
    pub fn takes_all(&self) -> bool {
        self.words.iter().any(|word| matches!(word.as_slice(), [Piece::All]))
    }

    /// The command for items with these full paths, program first.
    pub fn argv_of_all(&self, full_paths: &[PathBuf]) -> Vec<OsString> {
        let fill = |word: &Vec<Piece>| match word.as_slice() {
            [Piece::All] => full_paths.iter().map(|path| path.clone().into_os_string()).collect(),
            [Piece::Text(text)] => vec![OsString::from(text)],
            _ => vec![OsString::new()],
        };
        self.words.iter().flat_map(fill).collect()
    }

    /// The command for one item, program first, never empty. Each word stays one word, whatever the name holds.
    pub fn argv(&self, name: &ItemName, full_path: &Path) -> Vec<OsString> {
        let fill = |word: &Vec<Piece>| {
            let mut filled = OsString::new();
            for piece in word {
                match piece {
                    Piece::Text(text) => filled.push(text),
                    Piece::Name => filled.push(OsStr::from_bytes(name.as_bytes())),
                    Piece::FullPath | Piece::All => filled.push(full_path),
                }
            }
            filled
        };
        self.words.iter().map(fill).collect()
    }

    /// The constant beginning of each word, the program first.
    pub fn beginnings(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(|word| match word.first() {
            Some(Piece::Text(text)) => text.as_str(),
            Some(Piece::Name | Piece::FullPath | Piece::All) | None => "",
        })
    }

    /// The directory to which it only moves the item, and whether what has the item's name there stays; `None` where it
    /// does anything else.
    pub fn plain_move(&self) -> Option<(&Path, bool)> {
        let mut keeps = false;
        let (mut item, mut directory) = (false, None);
        let mut words = self.words.iter().map(Vec::as_slice);
        let program = words.next()?;
        if !matches!(program, [Piece::Text(program)] if Path::new(program).file_name() == Some(OsStr::new("mv"))) {
            return None;
        }
        for word in words {
            match word {
                [Piece::Text(option)] if option.starts_with('-') => {
                    let [_, letters @ ..] = option.as_bytes() else { return None };
                    let is_short = !letters.contains(&b'-');
                    keeps |= option == "--no-clobber" || option.starts_with("--backup");
                    keeps |= is_short && letters.iter().any(|letter| matches!(letter, b'n' | b'b'));
                    directory = option.strip_prefix("--target-directory=").map(Path::new).or(directory);
                }
                [Piece::FullPath | Piece::All] if !item => item = true,
                [Piece::Text(path)] | [Piece::Text(path), Piece::Name]
                    if directory.is_none() && path.starts_with('/') =>
                {
                    directory = Some(Path::new(path.as_str()));
                }
                _ => return None,
            }
        }
        directory.filter(|_| item).map(|directory| (directory, keeps))
    }

    /// Whether both run the same command, however long it may take.
    pub(super) fn is_same_command(&self, other: &Self) -> bool {
        self.words == other.words
    }

    /// From one text, split into words like in a shell.
    pub(super) fn split(text: &str, timeout: Duration) -> Result<Self, String> {
        let words = shlex::split(text)
            .ok_or_else(|| format!("found {}, allowed is a command whose quotes are closed", shown_value(text)))?;
        Self::from_words(&words, timeout)
    }

    /// From a list of words.
    pub(super) fn from_words(words: &[String], timeout: Duration) -> Result<Self, String> {
        match words.first() {
            None => return Err("found no word, allowed is a command".to_owned()),
            Some(program) if program.is_empty() || program.contains('%') => {
                let program = shown_value(program);
                return Err(format!("found {program} as the program to run, allowed is a name or path without %"));
            }
            Some(_) => {}
        }
        if words.len() > WORD_LIMIT {
            return Err(format!("found {} words, allowed are up to {WORD_LIMIT}", words.len()));
        }
        let words = words.iter().map(|word| pieces(word)).collect::<Result<Vec<_>, _>>()?;
        let count = |wanted: &[Piece]| words.iter().flatten().filter(|piece| wanted.contains(piece)).count();
        let all = count(&[Piece::All]);
        if all > 1 {
            return Err(format!("found %@ {all} times, allowed is once"));
        }
        if all == 1 && count(&[Piece::Name, Piece::FullPath]) > 0 {
            return Err("found %@ together with %f or %F, allowed is %@ alone: it stands for several items".to_owned());
        }
        Ok(Self { words, timeout })
    }
}

impl Reading<'_> {
    /// What is done after the hand-over of an item in `file_dir`.
    pub(super) fn cleanup(&mut self, file_dir: Option<&Path>) -> Option<Option<Cleanup>> {
        let script = self.cleanup_script();
        let directory = self.cleanup_move(file_dir);
        let delete = self.truth("cleanup_delete");
        let (script, directory, delete) = (script?, directory?, delete?);
        let [script_key, move_key, delete_key] = CLEANUP_KEYS;
        match (script, directory, delete) {
            (None, None, false) => Some(None),
            (Some(script), None, false) => Some(Some(Cleanup::Script(script))),
            (None, Some(directory), false) => Some(Some(Cleanup::Move(directory))),
            (None, None, true) => Some(Some(Cleanup::Delete)),
            (script, directory, _) => {
                let first = if script.is_some() { script_key } else { move_key };
                let second = if script.is_some() && directory.is_some() { move_key } else { delete_key };
                self.refuse(second, &format!("is set together with {first}; set one of them"));
                None
            }
        }
    }

    fn cleanup_move(&mut self, file_dir: Option<&Path>) -> Option<Option<PathBuf>> {
        let Some((_, origin)) = self.find("cleanup_move") else {
            self.show("cleanup_move", "none", &Origin::Default);
            return Some(None);
        };
        if let Some((Found::Text(text), _)) = self.find("cleanup_move")
            && text.trim().is_empty()
        {
            self.show("cleanup_move", "none", &origin);
            return Some(None);
        }
        let directory = self.parse("cleanup_move", absolute, |path| shown_path(path))?;
        if let Some(file_dir) = file_dir.filter(|file_dir| directory.starts_with(file_dir)) {
            let (found, file_dir) = (shown_path(&directory), shown_path(file_dir));
            self.refuse(
                "cleanup_move",
                &format!("found {found:?}, allowed is a directory outside file_dir {file_dir:?}"),
            );
            return None;
        }
        Some(Some(directory))
    }

    fn cleanup_script(&mut self) -> Option<Option<Script>> {
        let timeout = self.duration("cleanup_timeout_minutes", 60, MINUTES_LIMIT, false);
        let Some((found, origin)) = self.find("cleanup_script") else {
            self.show("cleanup_script", "none", &Origin::Default);
            return timeout.map(|_| None);
        };
        let limit = timeout.unwrap_or(Duration::from_secs(1));
        let (script, shown) = match found {
            Found::Text(text) if text.trim().is_empty() => {
                self.show("cleanup_script", "none", &origin);
                return timeout.map(|_| None);
            }
            Found::Text(text) if text.contains('\0') => (Err(nul()), String::new()),
            Found::Text(text) => (Script::split(&text, limit), one_line(&text)),
            Found::List(words) if words.iter().any(|word| word.contains('\0')) => (Err(nul()), String::new()),
            Found::List(words) => (Script::from_words(&words, limit), shown_words(&words)),
            Found::Number(number) => (Err(format!("found {number}, allowed is a command")), String::new()),
            Found::Other(what) => {
                (Err(format!("found {what}, allowed is a command or a list of words")), String::new())
            }
        };
        match script {
            Ok(script) => {
                self.show("cleanup_script", shown, &origin);
                timeout.map(|_| Some(script))
            }
            Err(problem) => {
                self.refuse("cleanup_script", &problem);
                None
            }
        }
    }
}

fn nul() -> String {
    "found a NUL character, allowed is any other".to_owned()
}

fn pieces(word: &str) -> Result<Vec<Piece>, String> {
    let wrong = || format!("found {}, allowed after % are f, F, @ and %", shown_value(word));
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let piece = match chars.next().ok_or_else(wrong)? {
            '%' => {
                text.push('%');
                continue;
            }
            'f' => Piece::Name,
            'F' => Piece::FullPath,
            '@' if word == "%@" => Piece::All,
            '@' => return Err(format!("found {}, allowed is %@ as a word of its own", shown_value(word))),
            _ => return Err(wrong()),
        };
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(piece);
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn argv(cleanup: Result<Script, String>, name: &[u8]) -> Vec<Vec<u8>> {
        let path = Path::new("/in").join(OsStr::from_bytes(name));
        let argv = cleanup.unwrap().argv(&ItemName::new(name).unwrap(), &path);
        argv.into_iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_name_fills_its_place_byte_for_byte() {
        let name = b"a b'$(x)%F\n\xff";
        let found = argv(Script::split("mv -- %F '/to here/%f' 100%% \"\"", HOUR), name);
        let expected: [&[u8]; 6] = [b"mv", b"--", b"/in/a b'$(x)%F\n\xff", b"/to here/a b'$(x)%F\n\xff", b"100%", b""];
        assert_eq!(found, expected);
        let list = ["sh".to_owned(), "-c".to_owned(), "echo \"$1\"".to_owned(), "x".to_owned(), "%f".to_owned()];
        assert_eq!(argv(Script::from_words(&list, HOUR), b"n"), [&b"sh"[..], b"-c", b"echo \"$1\"", b"x", b"n"]);
    }

    #[test]
    fn a_command_that_only_moves_is_known_for_it() {
        for (text, found) in [
            ("mv %F /srv/sent", Some(("/srv/sent", false))),
            ("/usr/bin/mv -nT -- %F /srv/sent/%f", Some(("/srv/sent/", true))),
            ("mv -t /srv/sent %F", Some(("/srv/sent", false))),
            ("mv --backup=numbered --target-directory=/srv/sent %F", Some(("/srv/sent", true))),
            ("mv -n -t /srv/sent %@", Some(("/srv/sent", true))),
            ("mv -- %@ /srv/sent", Some(("/srv/sent", false))),
            ("mv %F", None),
            ("mv %@", None),
            ("cp -t /srv/sent %@", None),
            ("mv %F sent", None),
            ("mv %F /srv/a /srv/b", None),
            ("mv %F /srv/sent/%f.done", None),
            ("cp %F /srv/sent", None),
            ("sh -c 'mv %F /srv/sent'", None),
        ] {
            let script = Script::split(text, HOUR).unwrap();
            assert_eq!(script.plain_move(), found.map(|(path, keeps)| (Path::new(path), keeps)), "{text}");
        }
    }

    #[test]
    fn all_items_fill_one_place_each_as_a_word() {
        let script = Script::split("mv -n -t '/srv/%%sent' %@ ''", HOUR).unwrap();
        assert!(script.takes_all());
        let paths = ["/in/a b".into(), "/in/%F".into()];
        assert_eq!(script.argv_of_all(&paths), ["mv", "-n", "-t", "/srv/%sent", "/in/a b", "/in/%F", ""]);
        let list = ["rm".to_owned(), "--".to_owned(), "%@".to_owned()];
        let script = Script::from_words(&list, HOUR).unwrap();
        assert_eq!(script.argv_of_all(&paths[..1]), ["rm", "--", "/in/a b"]);
        assert!(!Script::split("mv %F /srv/sent", HOUR).unwrap().takes_all());
        for (text, why) in [
            ("mv %@ %@ /srv", "found %@ 2 times, allowed is once"),
            ("mv %@ /srv/%f", "found %@ together with %f or %F, allowed is %@ alone: it stands for several items"),
            ("mv %F %@", "found %@ together with %f or %F, allowed is %@ alone: it stands for several items"),
            ("mv --from=%@ /srv", "found \"--from=%@\", allowed is %@ as a word of its own"),
        ] {
            assert_eq!(Script::split(text, HOUR).unwrap_err(), why);
        }
    }

    #[test]
    fn what_cannot_be_filled_is_refused() {
        for text in ["mv %F 'x", "mv %d", "mv %", "%F", "", "  ", "'' x", "'mv %F /x'", "mv %%%", "%@"] {
            assert!(Script::split(text, HOUR).is_err(), "{text}");
        }
        assert!(Script::from_words(&vec!["x".to_owned(); WORD_LIMIT + 1], HOUR).is_err());
    }
}
