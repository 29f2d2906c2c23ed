//! Single values in messages: each is parsed by the constructor of its type, which validates it.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::machine::{
    BY_LIMIT, DETAIL_LIMIT, ENTRY_LIMIT, InvalidLocation, ItemName, Location, Mode, Node, NodeName, one_line,
};

use super::{DOTTED_LIMIT, KIND_LIMIT, SLOT_LIMIT};

/// A value that is written in messages as the text that it prints and parses.
#[derive(Debug, Clone)]
pub(super) struct Spelled<T>(pub(super) T);

impl<T: fmt::Display> Serialize for Spelled<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Spelled<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(Error::custom)
    }
}

/// An item's name in its lossless text form.
#[derive(Debug, Clone)]
pub(super) struct EncodedName(pub(super) ItemName);

impl Serialize for EncodedName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.encoded())
    }
}

impl<'de> Deserialize<'de> for EncodedName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        ItemName::decode(&text).map(Self).map_err(Error::custom)
    }
}

/// A list of 1 to `LIMIT` entries; reading stops at the first one too many.
#[derive(Debug, Clone)]
pub(super) struct List<T, const LIMIT: usize = ENTRY_LIMIT>(pub(super) Vec<T>);

impl<T: Serialize, const LIMIT: usize> Serialize for List<T, LIMIT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const LIMIT: usize> Deserialize<'de> for List<T, LIMIT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T, const LIMIT: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const LIMIT: usize> Visitor<'de> for Entries<T, LIMIT> {
            type Value = List<T, LIMIT>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of 1 to {LIMIT} entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    if entries.len() == LIMIT {
                        return Err(Error::invalid_length(LIMIT + 1, &self));
                    }
                    entries.push(entry);
                }
                if entries.is_empty() {
                    return Err(Error::invalid_length(0, &self));
                }
                Ok(List(entries))
            }
        }

        deserializer.deserialize_seq(Entries(PhantomData))
    }
}

/// One printable line of at most `LIMIT` bytes, for people; may be empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Line<const LIMIT: usize>(String);

impl<const LIMIT: usize> Line<LIMIT> {
    /// A longer text is cut.
    pub(super) fn cut(text: &str) -> Self {
        let mut line = one_line(text);
        let mut end = line.len().min(LIMIT);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        Self(line.trim().to_owned())
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

impl<const LIMIT: usize> TryFrom<String> for Line<LIMIT> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if Self::cut(&text).0 == text { Ok(Self(text)) } else { Err(format!("one line of at most {LIMIT} bytes")) }
    }
}

/// The operator of an order: one printable line of 1 to [`BY_LIMIT`] bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Giver(pub(super) String);

impl TryFrom<String> for Giver {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match Line::<BY_LIMIT>::try_from(text) {
            Ok(Line(text)) if !text.is_empty() => Ok(Self(text)),
            _ => Err(format!("who gave an order is one line of 1 to {BY_LIMIT} bytes")),
        }
    }
}

/// The detail of a reason: one printable line of at most [`DETAIL_LIMIT`] bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Detail(pub(super) String);

impl Detail {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<String> for Detail {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.len() <= DETAIL_LIMIT && !text.chars().any(char::is_control) {
            Ok(Self(text))
        } else {
            Err(format!("a detail is one line of at most {DETAIL_LIMIT} bytes"))
        }
    }
}

/// The stable code of a reason, known to this version or not: 1 to [`KIND_LIMIT`] of `a-z` and `-`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Code(pub(super) String);

impl TryFrom<String> for Code {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if is_word(&text) { Ok(Self(text)) } else { Err(format!("a code is 1 to {KIND_LIMIT} of a-z and -")) }
    }
}

/// Whether the text has the form of a kind or a code: 1 to [`KIND_LIMIT`] of `a-z` and `-`.
pub(super) fn is_word(text: &str) -> bool {
    (1..=KIND_LIMIT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// How many rsync runs a node allows at once: 1 to [`SLOT_LIMIT`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "u32")]
pub(super) struct Slots(pub(super) u32);

impl Slots {
    pub(super) fn clamped(count: u32) -> Self {
        Self(count.clamp(1, SLOT_LIMIT))
    }
}

impl TryFrom<u32> for Slots {
    type Error = String;
    fn try_from(count: u32) -> Result<Self, String> {
        if (1..=SLOT_LIMIT).contains(&count) {
            Ok(Self(count))
        } else {
            Err(format!("slots are 1 to {SLOT_LIMIT}, not {count}"))
        }
    }
}

/// The full name of a method or an error: 1 to [`DOTTED_LIMIT`] bytes of letters, digits and dots.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Dotted(pub(super) String);

impl TryFrom<String> for Dotted {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let fits = (1..=DOTTED_LIMIT).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
            Ok(Self(text))
        } else {
            Err(format!("the name of a method or an error is 1 to {DOTTED_LIMIT} letters, digits and dots"))
        }
    }
}

/// The sender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sender {
    mode: Spelled<Mode>,
    name: Spelled<NodeName>,
}

impl From<Node> for Sender {
    fn from(node: Node) -> Self {
        Self { mode: Spelled(node.mode), name: Spelled(node.name) }
    }
}

impl From<Sender> for Node {
    fn from(sender: Sender) -> Self {
        Self::new(sender.mode.0, sender.name.0)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "DirectoryText", into = "DirectoryText")]
pub(super) struct Directory(pub(super) Location);

#[derive(Clone, Serialize, Deserialize)]
struct DirectoryText {
    host: String,
    path: String,
}

impl TryFrom<DirectoryText> for Directory {
    type Error = InvalidLocation;
    fn try_from(text: DirectoryText) -> Result<Self, InvalidLocation> {
        Location::new(&text.host, &text.path).map(Self)
    }
}

impl From<Directory> for DirectoryText {
    fn from(Directory(location): Directory) -> Self {
        Self { host: location.host().to_owned(), path: location.path().to_owned() }
    }
}
