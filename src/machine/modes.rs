//! Permission bits: announced beside the content of an item, set at every receiver if possible, and reported where they
//! differ.
//!
//! Content is verified, modes are not: a file system that keeps no modes (SMB, exFAT, many mounts) still holds the
//! bytes. So the modes are no part of a [`Fingerprint`](super::Fingerprint); they travel as one short text. The text
//! needs no paths: after the content is verified, the receiver has the same entries in the same order. Directories and
//! files have separate lists, each as runs of equal modes in the order of the manifest:
//!
//! ```text
//! d0755*12 f0644*300,0755,0644*2
//! ```
//!
//! Links have no modes. The digest of the text, `#` and 32 hex digits, replaces a text of more than [`MODES_LIMIT`]
//! bytes. Then a receiver can tell that modes differ, but not which, and sets none itself.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use super::Digest;

/// The longest text that is announced as it is, in bytes. It keeps an offer small compared with the limit of a message.
pub const MODES_LIMIT: usize = 2048;
/// `mode & 07777`.
const MOST: u16 = 0o7777;

/// What a receiver does with modes (`keep_modes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepModes {
    /// Sets them, and reports those that differ nevertheless.
    #[default]
    Try,
    /// Sets them, and accepts no item whose modes differ.
    Yes,
    /// Neither sets nor compares them.
    No,
}

impl KeepModes {
    /// The word in the config.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Try => "try",
            Self::Yes => "yes",
            Self::No => "no",
        }
    }
}

impl FromStr for KeepModes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Try, Self::Yes, Self::No]
            .into_iter()
            .find(|word| word.as_str() == text)
            .ok_or_else(|| format!("found {text:?}, allowed is \"try\", \"yes\" or \"no\""))
    }
}

/// The modes of an item's entries, in the announced form. Equal texts are equal modes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Modes(Arc<str>);

/// Why a text is not a [`Modes`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("modes are runs such as d0755*2 f0644*5,0755, or # and a digest, of up to {MODES_LIMIT} bytes")]
pub struct InvalidModes;

/// A run of equal modes: the mode and the length.
type Run = (u16, u64);

impl Modes {
    /// The modes of directories and files, each in the order of the manifest. `digest` computes the digest of a text
    /// that is too long.
    pub fn of(
        directories: impl Iterator<Item = u16>,
        files: impl Iterator<Item = u16>,
        digest: impl FnOnce(&str) -> Digest,
    ) -> Self {
        let text = written(&runs(directories), &runs(files));
        Self(if text.len() > MODES_LIMIT { format!("#{}", digest(&text)).into() } else { text.into() })
    }

    /// The announced text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there are no modes to set or compare.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The single modes; `None` if only their digest was announced.
    pub fn list(&self) -> Option<ModeList> {
        let (directories, files) = read(&self.0)?;
        let expand = |mut runs: Vec<Run>| {
            runs.reverse();
            runs
        };
        Some(ModeList { directories: expand(directories), files: expand(files) })
    }
}

impl fmt::Display for Modes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Modes {
    type Err = InvalidModes;
    fn from_str(text: &str) -> Result<Self, InvalidModes> {
        let fits = match text.strip_prefix('#') {
            Some(digest) => digest.parse::<Digest>().is_ok(),
            // Each list of modes has exactly one valid text.
            None => {
                text.len() <= MODES_LIMIT
                    && read(text).is_some_and(|(directories, files)| written(&directories, &files) == text)
            }
        };
        if fits { Ok(Self(text.into())) } else { Err(InvalidModes) }
    }
}

/// Returns announced modes in the order of the manifest.
#[derive(Debug)]
pub struct ModeList {
    /// The next run is the last one.
    directories: Vec<Run>,
    files: Vec<Run>,
}

impl ModeList {
    /// The mode of the next directory; `None` when none is left.
    pub fn next_directory(&mut self) -> Option<u16> {
        Self::next(&mut self.directories)
    }

    /// The mode of the next file.
    pub fn next_file(&mut self) -> Option<u16> {
        Self::next(&mut self.files)
    }

    fn next(runs: &mut Vec<Run>) -> Option<u16> {
        let (mode, left) = runs.last_mut()?;
        let mode = *mode;
        *left -= 1;
        if *left == 0 {
            runs.pop();
        }
        Some(mode)
    }
}

fn runs(modes: impl Iterator<Item = u16>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for mode in modes {
        match runs.last_mut() {
            Some((last, count)) if *last == mode => *count += 1,
            _ => runs.push((mode, 1)),
        }
    }
    runs
}

fn written(directories: &[Run], files: &[Run]) -> String {
    let mut text = String::new();
    for (letter, runs) in [('d', directories), ('f', files)] {
        for (at, (mode, count)) in runs.iter().enumerate() {
            match (at, text.is_empty()) {
                (0, true) => text.push(letter),
                (0, false) => text.extend([' ', letter]),
                _ => text.push(','),
            }
            // Writing to a text cannot fail.
            let _ = write!(text, "{mode:04o}");
            if *count > 1 {
                let _ = write!(text, "*{count}");
            }
        }
    }
    text
}

fn read(text: &str) -> Option<(Vec<Run>, Vec<Run>)> {
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    for part in text.split(' ').filter(|part| !part.is_empty()) {
        let runs = match part.split_at_checked(1)? {
            ("d", runs) if directories.is_empty() => (&mut directories, runs),
            ("f", runs) if files.is_empty() => (&mut files, runs),
            _ => return None,
        };
        for run in runs.1.split(',') {
            let (mode, count) = run.split_once('*').unwrap_or((run, "1"));
            let mode = u16::from_str_radix(mode, 8).ok().filter(|mode| *mode <= MOST)?;
            if runs.0.last().is_some_and(|(last, _)| *last == mode) {
                return None;
            }
            runs.0.push((mode, count.parse::<u64>().ok().filter(|count| *count > 0)?));
        }
    }
    Some((directories, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(directories: &[u16], files: &[u16]) -> Modes {
        Modes::of(directories.iter().copied(), files.iter().copied(), |_| Digest([7; 16]))
    }

    #[test]
    fn what_is_written_is_read_back_one_by_one() {
        for (directories, files, text) in [
            (&[][..], &[][..], ""),
            (&[], &[0o644], "f0644"),
            (&[0o755, 0o755, 0o2750], &[], "d0755*2,2750"),
            (&[0o700], &[0, 0o7777, 0o7777, 0], "d0700 f0000,7777*2,0000"),
        ] {
            let modes = of(directories, files);
            assert_eq!(modes.as_str(), text);
            assert_eq!(text.parse::<Modes>().unwrap(), modes);
            let mut list = modes.list().unwrap();
            assert_eq!(std::iter::from_fn(|| list.next_directory()).collect::<Vec<_>>(), directories);
            assert_eq!(std::iter::from_fn(|| list.next_file()).collect::<Vec<_>>(), files);
        }
    }

    #[test]
    fn what_is_too_long_is_told_by_its_digest() {
        let many: Vec<u16> = (0..2000).collect();
        let modes = of(&[0o755], &many);
        assert_eq!(modes.as_str(), "#07070707070707070707070707070707");
        assert_eq!(modes.as_str().parse::<Modes>().unwrap(), modes);
        assert!(modes.list().is_none());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            " ",
            "x0644",
            "0644",
            "d",
            "f",
            "d0755 d0755",
            "f0644 d0755",
            "f644",
            "f0644*1",
            "f0644*0",
            "f0644,0644",
            "f10000",
            "f0888",
            "f0644*",
            "f0644,",
            "d0755  f0644",
            "f0644*99999999999999999999",
            "#",
            "#abc",
            "f+644",
            "f-644",
            "f0644*+2",
        ] {
            assert!(text.parse::<Modes>().is_err(), "{text:?}");
        }
        let long = format!("f{}", vec!["0644,0755"; 300].join(","));
        assert!(long.parse::<Modes>().is_err());
    }

    #[test]
    fn the_words_of_keep_modes() {
        for word in [KeepModes::Try, KeepModes::Yes, KeepModes::No] {
            assert_eq!(word.as_str().parse(), Ok(word));
        }
        assert!("maybe".parse::<KeepModes>().is_err());
    }
}
