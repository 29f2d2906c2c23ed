//! The names of things: nodes, groups, items, transfers, places. Each is valid by construction.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// The maximum length of a node's or a group's name, in bytes.
pub const NAME_LIMIT: usize = 64;
/// The maximum length of an item's name, in bytes.
pub const ITEM_NAME_LIMIT: usize = 1024;
/// The maximum length of one part of an item's name, in bytes: what Linux file systems allow for one path component.
pub const PART_LIMIT: usize = 255;
/// The maximum number of permanent directories above an item.
pub const DEPTH_LIMIT: usize = 8;

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {found:?} is not allowed: {allowed}")]
pub struct InvalidName {
    what: &'static str,
    found: String,
    allowed: &'static str,
}

fn plain_name(what: &'static str, text: &str) -> Result<String, InvalidName> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    let dots_only = text.bytes().all(|c| c == b'.');
    if text.is_empty() || text.len() > NAME_LIMIT || dots_only || !text.bytes().all(plain) {
        return Err(InvalidName {
            what,
            found: text.chars().take(100).collect(),
            allowed: "1 to 64 of A-Z a-z 0-9 . _ - and not dots alone",
        });
    }
    Ok(text.to_owned())
}

macro_rules! plain_name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                plain_name($what, text).map(|name| Self(name.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

plain_name_type! {
    /// A node's name (config key `name`): 1 to 64 of `[A-Za-z0-9._-]`, not dots alone. The name becomes a directory on
    /// central and a part of routing keys.
    NodeName, "node name"
}
plain_name_type! {
    /// A group's name (config key `id`), with the same rule as [`NodeName`].
    GroupId, "id"
}

/// What a node does in its group (config key `mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Watches a directory and sends what appears there.
    Upload,
    /// Receives items, verifies them, and passes them on.
    Central,
    /// Receives items under their final names.
    Download,
}

impl Mode {
    /// The word in config files, messages and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Central => "central",
            Self::Download => "download",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text {
            "upload" => Ok(Self::Upload),
            "central" => Ok(Self::Central),
            "download" => Ok(Self::Download),
            _ => Err(InvalidName {
                what: "mode",
                found: text.chars().take(100).collect(),
                allowed: "upload, central or download",
            }),
        }
    }
}

/// The identity of one running daemon in its group. It has mode and name, so that an upload and a download on one host
/// may both have the host's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// The mode.
    pub mode: Mode,
    /// The name.
    pub name: NodeName,
}

impl Node {
    /// Builds a node from mode and name.
    pub fn new(mode: Mode, name: NodeName) -> Self {
        Self { mode, name }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.mode, self.name)
    }
}

/// An item's name: its path below `file_dir`, up to [`ITEM_NAME_LIMIT`] bytes. It has at most [`DEPTH_LIMIT`] permanent
/// directories and the item itself as its parts; each part has 1 to [`PART_LIMIT`] bytes without NUL and is not `.` or
/// `..`. `Display` escapes the name so that no name can move a terminal's cursor or fake a log line;
/// [`ItemName::encoded`] is the lossless text form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemName(Arc<[u8]>);

impl ItemName {
    /// Takes the bytes of a path below `file_dir`.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidName> {
        let is_legal =
            |part: &[u8]| (1..=PART_LIMIT).contains(&part.len()) && !matches!(part, b"." | b"..") && !part.contains(&0);
        let legal =
            bytes.len() <= ITEM_NAME_LIMIT && parts(bytes).all(is_legal) && parts(bytes).count() <= DEPTH_LIMIT + 1;
        if !legal {
            return Err(InvalidName {
                what: "item name",
                found: escaped(bytes).chars().take(300).collect(),
                allowed: "up to 1024 bytes in up to 9 parts of 1 to 255 bytes without NUL, and none is . or ..",
            });
        }
        Ok(Self(bytes.into()))
    }

    /// The path below `file_dir`, without a slash at either end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The permanent directories above the item, from the top.
    pub fn above(&self) -> impl Iterator<Item = &[u8]> {
        let end = self.0.iter().rposition(|byte| *byte == b'/');
        end.and_then(|end| self.0.get(..end)).into_iter().flat_map(parts)
    }

    /// How many permanent directories are above the item.
    pub fn depth(&self) -> usize {
        self.0.iter().filter(|byte| **byte == b'/').count()
    }

    /// The last part as a name: what the item is called in spool and staging, where each transfer has a directory.
    pub fn leaf(&self) -> Self {
        match self.0.iter().rposition(|byte| *byte == b'/').and_then(|slash| self.0.get(slash + 1..)) {
            Some(last) => Self(last.into()),
            None => self.clone(),
        }
    }

    /// The name as lossless text: UTF-8, with `%`, control characters and bytes that are not UTF-8 as `%` and two
    /// upper-case hex digits.
    pub fn encoded(&self) -> String {
        encode_bytes(&self.0)
    }

    /// Reads what [`ItemName::encoded`] wrote.
    pub fn decode(text: &str) -> Result<Self, InvalidName> {
        let bytes = decode_bytes(text).ok_or_else(|| InvalidName {
            what: "item name",
            found: text.chars().take(300).collect(),
            allowed: "text in which % is followed by two hex digits",
        })?;
        Self::new(&bytes)
    }
}

impl fmt::Display for ItemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped(&self.0))
    }
}

impl fmt::Debug for ItemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

/// Bytes as lossless text; see [`ItemName::encoded`].
pub fn encode_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_control() {
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    text.push_str(&format!("%{byte:02X}"));
                }
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Reads what [`encode_bytes`] wrote; `None` if a `%` is not followed by two hex digits.
pub fn decode_bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let (pair, tail) = tail.split_at_checked(2)?;
            if !pair.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            let pair = std::str::from_utf8(pair).ok()?;
            bytes.push(u8::from_str_radix(pair, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    Some(bytes)
}

/// Bytes as one printable line. It escapes control characters, invisible formatting characters and bytes that are not
/// UTF-8. So a name can neither move a cursor nor look like another name.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' | '\'' => text.push(c),
                _ => text.extend(c.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The id of a transfer: a UUIDv7 that upload creates when the item has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(Uuid);

impl TransferId {
    /// Creates an id from the time and ten random bytes (RFC 9562, version 7).
    pub fn mint(unix_millis: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_millis, &random).into_uuid())
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for TransferId {
    type Err = InvalidName;
    /// Accepts the hyphenated lower-case form only, because the id is also a directory name.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName {
            what: "transfer id",
            found: text.chars().take(100).collect(),
            allowed: "a UUIDv7 in lower case with hyphens",
        };
        let id = Uuid::try_parse(text).map_err(|_| invalid())?;
        if id.get_version_num() != 7 || id.as_hyphenated().to_string() != text {
            return Err(invalid());
        }
        Ok(Self(id))
    }
}

/// The identity of a journal, created with it. A peer that shows another journal id has lost its state, and gets every
/// owed message again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalId(pub u32);

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for JournalId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let digits = text.len() == 8 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        match u32::from_str_radix(text, 16) {
            Ok(number) if digits => Ok(Self(number)),
            _ => Err(InvalidName {
                what: "journal id",
                found: text.chars().take(100).collect(),
                allowed: "8 lower-case hex digits",
            }),
        }
    }
}

/// A spool directory on central for one batch: central's journal id and a number that only grows, so that a node
/// recognises an old request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceId {
    /// The journal of the central.
    pub journal: JournalId,
    /// The number.
    pub number: u64,
}

impl PlaceId {
    /// Whether the same journal created the other place later.
    pub fn is_before(self, other: Self) -> bool {
        self.journal == other.journal && self.number < other.number
    }
}

impl fmt::Display for PlaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.journal, self.number)
    }
}

impl FromStr for PlaceId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parts = text.split_once('-').and_then(|(journal, number)| {
            let place = Self { journal: journal.parse().ok()?, number: number.parse().ok()? };
            (place.to_string() == text).then_some(place)
        });
        parts.ok_or_else(|| InvalidName {
            what: "place",
            found: text.chars().take(100).collect(),
            allowed: "8 hex digits, a hyphen and a number",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_names_survive_their_text_form() {
        for bytes in [&b"a b"[..], b"100%", b"\xff\xfe", b"new\nline", "\u{202e}gpj".as_bytes(), b"%F", b"-rf", b"a/%"]
        {
            let name = ItemName::new(bytes).unwrap();
            assert_eq!(ItemName::decode(&name.encoded()).unwrap(), name, "{name}");
            assert!(!name.encoded().chars().any(char::is_control));
            assert!(!name.to_string().chars().any(char::is_control));
        }
        assert_eq!(ItemName::new(b"\xff\n%").unwrap().encoded(), "%FF%0A%25");
        assert_eq!(ItemName::new(b"\xff\n").unwrap().to_string(), "\\xff\\n");
    }

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        let long = [&[b'x'; 255][..]; 5].join(&b'/');
        let refused = [
            &b""[..],
            b".",
            b"..",
            b"a\0",
            &[b'x'; 256],
            b"/",
            b"/a",
            b"a/",
            b"a//b",
            b"a/./b",
            b"a/../b",
            b"../a",
            b"a/..",
            b"a/b\0",
            &long,
            &b"a/".repeat(9),
        ];
        for bytes in refused {
            assert!(ItemName::new(bytes).is_err());
        }
        assert!(ItemName::new(&[b"a/".repeat(9), b"a".to_vec()].concat()).is_err(), "ten parts");
        assert!(ItemName::new(&[b"a/".repeat(8), b"a".to_vec()].concat()).is_ok(), "nine parts");
        assert!(ItemName::new(&b"a/".repeat(300)).is_err());
        for text in ["%", "%4", "%zz", "%2F", "%00", "%+1"] {
            assert!(ItemName::decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_knows_its_directories() {
        let deep = ItemName::new(b"a/b c/d").unwrap();
        assert_eq!(deep.above().collect::<Vec<_>>(), [&b"a"[..], b"b c"]);
        assert_eq!((deep.leaf().as_bytes(), deep.depth()), (&b"d"[..], 2));
        let flat = ItemName::new(b"d").unwrap();
        assert_eq!((flat.above().count(), flat.leaf(), flat.depth()), (0, flat.clone(), 0));
    }

    #[test]
    fn node_names_are_plain() {
        assert!("host-1.example_x".parse::<NodeName>().is_ok());
        for text in ["", ".", "..", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(text.parse::<NodeName>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_have_one_spelling() {
        let id = TransferId::mint(1_700_000_000_000, [7; 10]);
        assert_eq!(id.to_string().parse::<TransferId>().unwrap(), id);
        assert!(id.to_string().to_uppercase().parse::<TransferId>().is_err());
        assert!("c1f0a1de-0000-4000-8000-000000000000".parse::<TransferId>().is_err());
        let place = PlaceId { journal: JournalId(0xab), number: 12 };
        assert_eq!("000000ab-12".parse::<PlaceId>().unwrap(), place);
        for text in ["000000AB-12", "ab-12", "000000ab-012", "000000ab-+1", "000000ab", "../x-1"] {
            assert!(text.parse::<PlaceId>().is_err(), "{text}");
        }
    }
}
