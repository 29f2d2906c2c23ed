//! When an item counts as complete.

use std::fmt;
use std::str::FromStr;

use super::ItemName;

/// The longest text of a marker, in bytes.
const MARKER_LIMIT: usize = 100;
/// What stands for the name of the item.
const NAME: &str = "%f";
const ALLOWED: &str =
    "allowed is %f once with more text beside it, such as %f.done, or %f/ and a name, such as %f/.complete";

/// When an item counts as complete (`ready`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Readiness {
    /// When nobody writes it any more and it has stayed unchanged for `settle_seconds`.
    #[default]
    Settled,
    /// When its marker is there.
    Marker(ReadyMarker),
    /// When an operator submits it.
    Submit,
}

impl Readiness {
    /// The word in the config.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Marker(_) => "marker",
            Self::Submit => "submit",
        }
    }

    /// The marker that an item needs.
    pub fn marker(&self) -> Option<&ReadyMarker> {
        if let Self::Marker(marker) = self { Some(marker) } else { None }
    }
}

/// The name of the file that says that an item is complete (`marker`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadyMarker {
    /// It has the name of the item between these two, of which one may be empty, and lies beside the item.
    Beside(Box<str>, Box<str>),
    /// It has this name, and lies in the item, which is a directory.
    Inside(Box<str>),
}

impl FromStr for ReadyMarker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || Err(ALLOWED.to_owned());
        let Some((before, after)) = text.split_once(NAME) else { return refused() };
        let is_plain = |part: &str| !part.contains(['%', '/']) && !part.contains(char::is_control);
        let is_whole = text.len() <= MARKER_LIMIT && before.len() + after.len() > 0;
        match after.strip_prefix('/') {
            Some(name) if before.is_empty() && is_plain(name) && !["", ".", ".."].contains(&name) && is_whole => {
                Ok(Self::Inside(name.into()))
            }
            None if is_plain(before) && is_plain(after) && is_whole => Ok(Self::Beside(before.into(), after.into())),
            _ => refused(),
        }
    }
}

impl fmt::Display for ReadyMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beside(before, after) => write!(f, "{before}{NAME}{after}"),
            Self::Inside(name) => write!(f, "{NAME}/{name}"),
        }
    }
}

impl ReadyMarker {
    /// The name that the marker of this item has in the directory that holds the item; `None` if it lies in the item.
    pub fn beside(&self, item: &ItemName) -> Option<Vec<u8>> {
        match self {
            Self::Beside(before, after) => Some([before.as_bytes(), item.leaf().as_bytes(), after.as_bytes()].concat()),
            Self::Inside(_) => None,
        }
    }

    /// The item of which an entry with this name is the marker, if it is one.
    pub fn item(&self, name: &ItemName) -> Option<ItemName> {
        let Self::Beside(before, after) = self else { return None };
        let leaf = name.leaf();
        let rest = leaf.as_bytes().strip_prefix(before.as_bytes())?.strip_suffix(after.as_bytes())?;
        let above = name.as_bytes().strip_suffix(leaf.as_bytes())?;
        ItemName::new(&[above, rest].concat()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_belongs_to_one_item() {
        let name = |text: &str| ItemName::new(text.as_bytes()).unwrap();
        for (marker, item, file) in [
            ("%f.done", "a", "a.done"),
            ("%f.done", "in/a b", "in/a b.done"),
            (".%f", "in/a", "in/.a"),
            ("ready-%f!", "x.done", "ready-x.done!"),
        ] {
            let marker: ReadyMarker = marker.parse().unwrap();
            let leaf = name(file).leaf().as_bytes().to_vec();
            assert_eq!(marker.beside(&name(item)), Some(leaf), "{file}");
            assert_eq!(marker.item(&name(file)), Some(name(item)), "{file}");
            assert_eq!(marker.to_string().parse(), Ok(marker));
        }
        let done: ReadyMarker = "%f.done".parse().unwrap();
        for other in [".done", "in/.done", "a", "a.done.x", "a.done/b"] {
            assert_eq!(done.item(&name(other)), None, "{other}");
        }
        let inside: ReadyMarker = "%f/.complete".parse().unwrap();
        assert_eq!(inside, ReadyMarker::Inside(".complete".into()));
        assert_eq!((inside.item(&name("a")), inside.beside(&name("a"))), (None, None));
    }

    #[test]
    fn what_is_no_marker_is_refused() {
        let long = format!("%f{}", "x".repeat(MARKER_LIMIT));
        for text in
            ["", "%f", "done", "%f%f", "%F.done", "a/%f", "%f/", "%f/..", "%f/a/b", "x%f/a", "%f.d%", "%f\n", &long]
        {
            assert_eq!(text.parse::<ReadyMarker>(), Err(ALLOWED.to_owned()), "{text:?}");
        }
    }
}
