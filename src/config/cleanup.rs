//! The command line of the cleanup script: words with placeholders for the item's name. The name is filled in as raw
//! bytes; no shell sees it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::machine::ItemName;

use super::shown_value;

/// The maximum number of words in a command.
const WORD_LIMIT: usize = 256;

/// The command for a finished item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleanup {
    words: Vec<Vec<Piece>>,
    /// Its time limit; not zero.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name,
    FullPath,
}

impl Cleanup {
    /// The command for one item, program first, never empty. Each word stays one word, whatever the name contains.
    pub fn argv(&self, name: &ItemName, full_path: &Path) -> Vec<OsString> {
        let fill = |word: &Vec<Piece>| {
            let mut filled = OsString::new();
            for piece in word {
                match piece {
                    Piece::Text(text) => filled.push(text),
                    Piece::Name => filled.push(OsStr::from_bytes(name.as_bytes())),
                    Piece::FullPath => filled.push(full_path),
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
            Some(Piece::Name | Piece::FullPath) | None => "",
        })
    }

    /// Whether both run the same command, without regard to the time limit.
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
        let words = words.iter().map(|word| pieces(word)).collect::<Result<_, _>>()?;
        Ok(Self { words, timeout })
    }
}

fn pieces(word: &str) -> Result<Vec<Piece>, String> {
    let wrong = || format!("found {}, allowed after % are f, F and %", shown_value(word));
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

    fn argv(cleanup: Result<Cleanup, String>, name: &[u8]) -> Vec<Vec<u8>> {
        let path = Path::new("/in").join(OsStr::from_bytes(name));
        let argv = cleanup.unwrap().argv(&ItemName::new(name).unwrap(), &path);
        argv.into_iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_name_fills_its_place_byte_for_byte() {
        let name = b"a b'$(x)%F\n\xff";
        let found = argv(Cleanup::split("mv -- %F '/to here/%f' 100%% \"\"", HOUR), name);
        let expected: [&[u8]; 6] = [b"mv", b"--", b"/in/a b'$(x)%F\n\xff", b"/to here/a b'$(x)%F\n\xff", b"100%", b""];
        assert_eq!(found, expected);
        let list = ["sh".to_owned(), "-c".to_owned(), "echo \"$1\"".to_owned(), "x".to_owned(), "%f".to_owned()];
        assert_eq!(argv(Cleanup::from_words(&list, HOUR), b"n"), [&b"sh"[..], b"-c", b"echo \"$1\"", b"x", b"n"]);
    }

    #[test]
    fn what_cannot_be_filled_is_refused() {
        for text in ["mv %F 'x", "mv %d", "mv %", "%F", "", "  ", "'' x", "'mv %F /x'", "mv %%%"] {
            assert!(Cleanup::split(text, HOUR).is_err(), "{text}");
        }
        assert!(Cleanup::from_words(&vec!["x".to_owned(); WORD_LIMIT + 1], HOUR).is_err());
    }
}
