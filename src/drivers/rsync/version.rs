//! rsync's version.

use std::io;
use std::path::PathBuf;

/// The oldest usable version of rsync.
pub const OLDEST_VERSION: Version = Version(3, 1, 3);

/// rsync's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32, u32);

impl Version {
    /// Reads the first line of `rsync --version`: `rsync  version 3.2.7  protocol version 31`, with a `v` before
    /// the number in some builds and something like `pre1` after it.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        if (words.next()?, words.next()?) != ("rsync", "version") {
            return None;
        }
        let mut numbers = words.next()?.trim_start_matches('v').split('.').map(|part| {
            let digits = part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            digits.parse().ok()
        });
        Some(Self(numbers.next()??, numbers.next()??, numbers.next()??))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Why an rsync program cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The program does not exist, cannot be executed, or does not end.
    #[error("cannot run {} --version: install rsync, or set rsync to its path", program.display())]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The program is not rsync.
    #[error("{} --version prints {heard:?}, which is not rsync: set rsync to the path of rsync", program.display())]
    Strange {
        /// The program.
        program: PathBuf,
        /// Its output.
        heard: String,
    },
    /// The program is too old.
    #[error("{} is rsync {found}, but {OLDEST_VERSION} or newer is needed: upgrade it", program.display())]
    Old {
        /// The program.
        program: PathBuf,
        /// Its version.
        found: Version,
    },
}

impl VersionError {
    /// Whether only a person can fix it: a later start would fail in the same way.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::NotStarted { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory
            ),
            Self::Strange { .. } | Self::Old { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let parse = |text: &str| Version::parse(text).map(|version| version.to_string());
        assert_eq!(parse("rsync  version 3.5.0  protocol version 32").as_deref(), Some("3.5.0"));
        assert_eq!(parse("rsync  version v3.4.1pre1  protocol version 32").as_deref(), Some("3.4.1"));
        for strange in ["", "openrsync: protocol version 29", "rsync version 3", "rsync version x.y.z", "rsync 3.2.1"] {
            assert_eq!(parse(strange), None, "{strange}");
        }
        assert!(Version(3, 1, 2) < OLDEST_VERSION && Version(3, 0, 9) < OLDEST_VERSION);
        assert!(Version(3, 10, 0) > OLDEST_VERSION && Version(4, 0, 0) > OLDEST_VERSION);
    }
}
