//! Which names in `file_dir` are items: shell patterns.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

#[cfg(test)]
use super::keys::UNFINISHED;
use super::merged::Origin;
use super::reading::{Reading, shown_words};
use super::rsync_options::split_csv;
use super::shown_value;
use crate::machine::{DEPTH_LIMIT, ItemName, Mode, Readiness, ReadyMarker};

/// How many patterns a key may have.
const PATTERNS_LIMIT: usize = 100;
/// The longest pattern, in bytes.
const PATTERN_LIMIT: usize = 1000;

/// Patterns of one key. One without a slash is compared with a name, one with a slash with the path below `file_dir`.
#[derive(Clone, Default)]
pub struct Patterns(Arc<Sets>);

#[derive(Default)]
struct Sets {
    texts: Vec<String>,
    names: GlobSet,
    paths: GlobSet,
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.0.texts == other.0.texts
    }
}

impl Eq for Patterns {}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.texts.fmt(f)
    }
}

impl Patterns {
    fn new(texts: Vec<String>) -> Result<Self, String> {
        if texts.len() > PATTERNS_LIMIT {
            return Err(format!("found {} patterns, allowed are up to {PATTERNS_LIMIT}", texts.len()));
        }
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for text in &texts {
            let shown = shown_value(text);
            let allowed = "allowed is a shell pattern such as *.part, or a/*.part below file_dir";
            if text.is_empty() || text.len() > PATTERN_LIMIT || text.starts_with('/') || text.ends_with('/') {
                return Err(format!("found {shown}, {allowed}"));
            }
            let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
            let glob = glob.map_err(|error| format!("found {shown}, {allowed}: {}", error.kind()))?;
            if text.contains('/') {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        let built = |set: GlobSetBuilder| set.build().map_err(|error| error.kind().to_string());
        Ok(Self(Arc::new(Sets { names: built(names)?, paths: built(paths)?, texts })))
    }

    /// Whether one of them matches what is at this path below `file_dir`.
    pub fn matches(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let is_match = |set: &GlobSet, bytes| !set.is_empty() && set.is_match(Path::new(OsStr::from_bytes(bytes)));
        is_match(&self.0.names, name) || is_match(&self.0.paths, path)
    }
}

impl Patterns {
    /// The first of them that matches what is at this path.
    pub fn first_match(&self, path: &[u8]) -> Option<&str> {
        let matches = |text: &&String| Self::new(vec![(*text).clone()]).is_ok_and(|pattern| pattern.matches(path));
        self.0.texts.iter().find(matches).map(String::as_str)
    }
}

/// What of a directory is an item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemPatterns {
    /// What is not, and keeps a directory that holds it from being one.
    pub ignore: Patterns,
    /// What may be; everything, where it is empty.
    pub only: Patterns,
    /// How many levels of permanent directories are above items, 0 to [`DEPTH_LIMIT`].
    pub depth: usize,
    /// When an item counts as complete.
    pub ready: Readiness,
}

impl ItemPatterns {
    /// Whether an entry below `file_dir` can be an item or, further up, a permanent directory.
    pub fn is_item(&self, name: &ItemName) -> bool {
        let is_above = name.depth() < self.depth;
        (is_above || !self.is_unwanted(name)) && !self.ignore.matches(name.as_bytes())
    }

    /// Whether `only` is set and matches nothing of this name.
    pub fn is_unwanted(&self, name: &ItemName) -> bool {
        !self.only.0.texts.is_empty() && !self.only.matches(name.as_bytes())
    }
}

impl Reading<'_> {
    /// The patterns that select items. Only an upload compiles them, because a matcher takes a megabyte.
    pub(super) fn item_patterns(&mut self, mode: Option<Mode>) -> Option<ItemPatterns> {
        let is_used = mode.is_none_or(|mode| mode == Mode::Upload);
        let (ignore, only) = (self.patterns("ignore", is_used), self.patterns("only", is_used));
        let depth = self.whole("item_depth", 0, DEPTH_LIMIT as u32);
        let ready = self.ready();
        let (ignore, only, depth, ready) = (ignore?, only?, depth? as usize, ready?);
        if let Some(path) = only.0.texts.iter().find(|text| depth == 0 && text.contains('/')) {
            let found = shown_value(path);
            self.refuse(
                "only",
                &format!(
                    "found {found}, allowed without item_depth is a pattern without /: items are entries of file_dir"
                ),
            );
            return None;
        }
        Some(ItemPatterns { ignore, only, depth, ready })
    }

    fn ready(&mut self) -> Option<Readiness> {
        let marker = self.parse(
            "marker",
            |text| text.parse::<ReadyMarker>().map_err(|allowed| format!("found {}, {allowed}", shown_value(text))),
            ReadyMarker::to_string,
        );
        let parse = |text: &str| match text {
            "settled" => Ok(Readiness::Settled),
            "submit" => Ok(Readiness::Submit),
            // Whether the marker is refused is told once.
            "marker" => Ok(marker.clone().map_or(Readiness::Settled, Readiness::Marker)),
            _ => Err(format!("found {}, allowed are settled, marker and submit", shown_value(text))),
        };
        let ready = self.parse("ready", parse, |ready| ready.as_str().to_owned());
        if let Some(origin) = self.origin("marker").filter(|origin| *origin != Origin::Default)
            && ready.as_ref().is_some_and(|ready| ready.marker().is_none())
            && marker.is_some()
        {
            self.notices.push(format!("{origin}: marker is ignored: set ready = \"marker\" to use it"));
        }
        marker.and(ready)
    }

    fn patterns(&mut self, key: &'static str, is_used: bool) -> Option<Patterns> {
        let split = |text: &str| if text.trim().is_empty() { Ok(Vec::new()) } else { split_csv(text) };
        let texts: Vec<_> = self.list(key, split)?.iter().map(|text| text.trim().to_owned()).collect();
        let shown = if texts.is_empty() { "none".to_owned() } else { shown_words(&texts) };
        match if is_used { Patterns::new(texts) } else { Ok(Patterns::default()) } {
            Ok(patterns) => {
                self.show(key, shown, &self.origin(key).unwrap_or(Origin::Default));
                Some(patterns)
            }
            Err(problem) => {
                self.refuse(key, &problem);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Result<Patterns, String> {
        Patterns::new(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn names_and_paths_are_matched_byte_for_byte() {
        let unfinished = Patterns::new(split_csv(UNFINISHED).unwrap().iter().map(|it| it.trim().to_owned()).collect());
        let unfinished = unfinished.unwrap();
        for name in [&b"big.iso.part"[..], b"\xff\n.tmp", b"a/b/c.crdownload", b"d/.~lock.x.odt#", b"film.!qB"] {
            assert!(unfinished.matches(name), "{name:?}");
        }
        for name in [&b"part"[..], b"a.part.gz", b"x.part/whole", b"lock.x", b"PART.PART"] {
            assert!(!unfinished.matches(name), "{name:?}");
        }
        let paths = patterns(&["a/*.log", "b/**/*.bak", "[0-9]?.{csv,txt}", "\\*"]).unwrap();
        for (path, is_match) in [
            ("a/x.log", true),
            ("a/b/x.log", false),
            ("x.log", false),
            ("b/c/d/x.bak", true),
            ("1x.csv", true),
            ("c/1x.txt", true),
            ("x1.csv", false),
            ("*", true),
        ] {
            assert_eq!(paths.matches(path.as_bytes()), is_match, "{path}");
        }
        assert!(!Patterns::default().matches(b"a"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["[a", "a{b", "", "/a", "a/", "[z-a]", &"x".repeat(PATTERN_LIMIT + 1)] {
            let problem = patterns(&[text]).unwrap_err();
            assert!(problem.contains("allowed is a shell pattern"), "{problem}");
        }
        assert!(patterns(&["x"; PATTERNS_LIMIT + 1]).is_err());
    }
}
