//! Extras: what entries have beside content and modes. Hard links, extended attributes, ACLs and holes travel with an
//! item if `keep` of its upload names them.
//!
//! Like modes, they are announced beside the fingerprint and compared at every receiver, and they never decide about a
//! delivery: a file system that cannot store them still holds the bytes. The announcement has one part per kind, in the
//! order of [`Extra`]: how many entries have it, and the digest of its list. `!` marks what does not travel:
//!
//! ```text
//! hardlinks*2=5d41402abc4b2a76b9719d911017c592 !xattrs*3 sparse*1=7d793037a0760186574b0282f2f435e7
//! ```

use std::fmt;
use std::str::FromStr;

use super::{Digest, Modes};

/// A kind of extra.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extra {
    /// Several names of one file, inside one item.
    Hardlinks,
    /// Extended attributes of the user's namespace (`user.*`).
    Xattrs,
    /// POSIX ACLs, with the numbers of users and groups.
    Acls,
    /// Holes in files. They only save space, so they are not compared.
    Sparse,
}

impl Extra {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Hardlinks, Self::Xattrs, Self::Acls, Self::Sparse];

    /// The word in the config and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hardlinks => "hardlinks",
            Self::Xattrs => "xattrs",
            Self::Acls => "acls",
            Self::Sparse => "sparse",
        }
    }

    /// What people call it.
    const fn title(self) -> &'static str {
        match self {
            Self::Hardlinks => "hard links",
            Self::Xattrs => "extended attributes",
            Self::Acls => "ACLs",
            Self::Sparse => "holes",
        }
    }
}

impl FromStr for Extra {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|extra| extra.as_str() == text);
        known.ok_or_else(|| format!("found {text:?}, allowed are \"hardlinks\", \"xattrs\", \"acls\" and \"sparse\""))
    }
}

/// A set of extras: those that `keep` names, or those that a run carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep(u8);

impl Keep {
    /// The set with this one too.
    #[must_use]
    pub const fn with(self, extra: Extra) -> Self {
        Self(self.0 | 1 << extra as u8)
    }

    /// The set without this one.
    #[must_use]
    pub const fn without(self, extra: Extra) -> Self {
        Self(self.0 & !(1 << extra as u8))
    }

    /// Whether it has this one.
    pub const fn has(self, extra: Extra) -> bool {
        self.0 & (1 << extra as u8) != 0
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Extra> for Keep {
    fn from_iter<I: IntoIterator<Item = Extra>>(extras: I) -> Self {
        extras.into_iter().fold(Self::default(), Self::with)
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = Extra::ALL.into_iter().filter(|extra| self.has(*extra)).map(Extra::as_str).collect();
        f.write_str(&words.join(", "))
    }
}

/// The extras of an item, or of a copy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Extras(Box<[Part]>);

/// One kind in an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Part {
    extra: Extra,
    /// How many entries have it, at least 1.
    entries: u64,
    /// The digest of its list; `None` if it does not travel.
    digest: Option<Digest>,
}

/// What a copy should have beside its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// The modes to set and compare; `None` leaves modes alone.
    pub modes: Option<Modes>,
    /// The extras to compare.
    pub extras: Extras,
}

/// Why a text is not an [`Extras`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("extras are parts such as xattrs*3=<MD5> or !acls*1, of each kind at most one, in this order: {}", ORDER)]
pub struct InvalidExtras;

const ORDER: &str = "hardlinks, xattrs, acls, sparse";

impl Extras {
    /// The extras of an item: for each kind how many entries have it, and the digest of its list. Kinds without an
    /// entry are left out.
    pub fn new(found: impl Fn(Extra) -> (u64, Digest)) -> Self {
        let part = |extra| {
            let (entries, digest) = found(extra);
            Part { extra, entries, digest: Some(digest) }
        };
        Self(Extra::ALL.into_iter().map(part).filter(|part| part.entries > 0).collect())
    }

    /// The same, of which only these kinds travel.
    #[must_use]
    pub fn carrying(&self, keep: Keep) -> Self {
        let part = |part: &Part| Part { digest: part.digest.filter(|_| keep.has(part.extra)), ..*part };
        Self(self.0.iter().map(part).collect())
    }

    /// The same, of which this kind does not travel.
    #[must_use]
    pub fn without(&self, extra: Extra) -> Self {
        self.carrying(self.carried().without(extra))
    }

    /// The kinds that travel.
    pub fn carried(&self) -> Keep {
        self.0.iter().filter(|part| part.digest.is_some()).map(|part| part.extra).collect()
    }

    /// Whether the item has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the item has and what does not travel, in one line; `None` if there is nothing.
    pub fn not_carried(&self) -> Option<String> {
        let left = self.0.iter().filter(|part| part.digest.is_none());
        let left: Vec<_> = left.map(|part| format!("{} ({})", part.extra.title(), entries(part.entries))).collect();
        (!left.is_empty()).then(|| format!("not carried: {}", left.join(", ")))
    }

    /// How a copy's extras differ from those that travelled with the item, in one line; `None` if they do not.
    pub fn lost(&self, copy: &Self) -> Option<String> {
        let announced = self.0.iter().filter(|part| part.digest.is_some() && part.extra != Extra::Sparse);
        let lost = announced.filter_map(|part| {
            let title = part.extra.title();
            match copy.0.iter().find(|found| found.extra == part.extra) {
                Some(found) if found.digest == part.digest => None,
                Some(found) if found.entries == part.entries => {
                    Some(format!("{title} differ ({})", entries(part.entries)))
                }
                found => {
                    let found = found.map_or(0, |found| found.entries);
                    Some(format!("{title} differ: announced for {}, found for {found}", entries(part.entries)))
                }
            }
        });
        let lost: Vec<_> = lost.collect();
        (!lost.is_empty()).then(|| lost.join(", "))
    }
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

impl fmt::Display for Extras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Part { extra, entries, digest }) in self.0.iter().enumerate() {
            let gap = if at == 0 { "" } else { " " };
            match digest {
                Some(digest) => write!(f, "{gap}{}*{entries}={digest}", extra.as_str())?,
                None => write!(f, "{gap}!{}*{entries}", extra.as_str())?,
            }
        }
        Ok(())
    }
}

impl FromStr for Extras {
    type Err = InvalidExtras;
    fn from_str(text: &str) -> Result<Self, InvalidExtras> {
        let parts = text.split(' ').filter(|part| !part.is_empty()).map(part).collect::<Option<Box<[_]>>>();
        let extras = Self(parts.ok_or(InvalidExtras)?);
        let is_ordered = extras.0.is_sorted_by(|one, next| one.extra < next.extra);
        // Each list has exactly one valid text.
        if is_ordered && extras.to_string() == text { Ok(extras) } else { Err(InvalidExtras) }
    }
}

fn part(text: &str) -> Option<Part> {
    let (rest, digest) = match text.strip_prefix('!') {
        Some(rest) => (rest, None),
        None => {
            let (rest, digest) = text.split_once('=')?;
            (rest, Some(digest.parse().ok()?))
        }
    };
    let (word, count) = rest.split_once('*')?;
    Some(Part { extra: word.parse().ok()?, entries: count.parse().ok().filter(|count| *count > 0)?, digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(links: u64, xattrs: u64, acls: u64, sparse: u64) -> Extras {
        let counts = [links, xattrs, acls, sparse];
        Extras::new(|extra| (counts[extra as usize], Digest([extra as u8; 16])))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let every = of(2, 3, 1, 4);
        let some = Keep::default().with(Extra::Xattrs).with(Extra::Sparse);
        for (extras, text) in [
            (Extras::default(), ""),
            (of(0, 0, 1, 0), "acls*1=02020202020202020202020202020202"),
            (
                every.carrying(some),
                "!hardlinks*2 xattrs*3=01010101010101010101010101010101 !acls*1 sparse*4=03030303030303030303030303030303",
            ),
        ] {
            assert_eq!(extras.to_string(), text);
            assert_eq!(text.parse(), Ok(extras));
        }
        assert_eq!(every.carrying(some).carried(), some);
        assert_eq!(some.to_string(), "xattrs, sparse");
        assert!(every.carried().has(Extra::Hardlinks) && !some.has(Extra::Acls));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            " ",
            "acls",
            "acls*0=02020202020202020202020202020202",
            "acls*01=02020202020202020202020202020202",
            "acls*1=0202",
            "!acls*1=02020202020202020202020202020202",
            "acls*1",
            "forks*1=02020202020202020202020202020202",
            "!sparse*1 !acls*1",
            "!acls*1 !acls*1",
            "!acls*1  !sparse*1",
            "!acls*+1",
            "!acls*99999999999999999999",
        ] {
            assert_eq!(text.parse::<Extras>(), Err(InvalidExtras), "{text:?}");
        }
    }

    #[test]
    fn what_stays_behind_and_what_gets_lost_is_said() {
        let announced = of(2, 3, 1, 1);
        assert_eq!(announced.not_carried(), None);
        assert_eq!(
            announced.carrying(Keep::default()).not_carried().as_deref(),
            Some(
                "not carried: hard links (2 entries), extended attributes (3 entries), ACLs (1 entry), holes (1 entry)"
            )
        );
        assert_eq!(announced.lost(&announced), None);
        assert_eq!(announced.lost(&of(2, 3, 1, 0)), None);
        assert_eq!(announced.carrying(Keep::default()).lost(&Extras::default()), None);
        let other: Extras =
            "hardlinks*2=00000000000000000000000000000001 xattrs*1=00000000000000000000000000000000".parse().unwrap();
        assert_eq!(
            announced.lost(&other).as_deref(),
            Some(
                "hard links differ (2 entries), extended attributes differ: announced for 3 entries, found for 1, \
                 ACLs differ: announced for 1 entry, found for 0"
            )
        );
    }
}
