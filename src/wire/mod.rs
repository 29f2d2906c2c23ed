//! The serialised shapes of messages, separate from the machine that decides on them.
//!
//! A message is one JSON object, `{"v":2,"group":…,"from":{"mode":…,"name":…},"words":{KIND:{…}}}`; docs/protocol.md
//! shows each kind byte by byte. Everything that [`decode`] returns is valid: constructors have checked names, ids,
//! digests and places, lists are within their limits, and the sender's mode may send this kind. What only a newer
//! version knows is no error. Unknown fields are ignored, and an unknown kind is distinguished from a malformed message
//! ([`Problem::UnknownKind`]).

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machine::{DETAIL_LIMIT, ENTRY_LIMIT, GroupId, Message, Mode, Node, Protocols, escaped};

mod field;
mod greeting;
mod shape;
mod talk;

use field::Sender;
use greeting::Stranger;
use shape::{Envelope, Payload};
pub use talk::{ANSWER_LIMIT, ASK_LIMIT, Failure, Talk, TooLong, decode_talk, encode_talk};

/// The maximum size of a message, in bytes.
pub const MESSAGE_LIMIT: usize = 64 * 1024;
/// The maximum number of receivers in a release; a release with all of them fits into one message.
pub const RECEIVER_LIMIT: usize = 900;
/// The maximum length of a program's version in a hello, in bytes.
pub const VERSION_LIMIT: usize = 64;
/// The maximum number of parallel rsync runs in a hello.
pub const SLOT_LIMIT: u32 = 1000;
/// The maximum length of a kind of message, in bytes.
pub const KIND_LIMIT: usize = 32;
/// The maximum length of a full method or error name, in bytes.
pub const DOTTED_LIMIT: usize = 128;

/// Why bytes are not a valid message for this node, and the sender if that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct DecodeError {
    /// The sender by the message; `None` if its name is invalid.
    pub from: Option<Node>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a message. Texts from the message are escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The message is too long.
    #[error("{0} bytes, but at most {1} are allowed")]
    TooLong(usize, usize),
    /// The message is not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// The message has another protocol version, or none.
    #[error("protocol version {0}, but this node supports {ours}", ours = Protocols::OURS)]
    Version(String),
    /// Something in the message is missing, unexpected or invalid.
    #[error("not a message: {0}")]
    Invalid(String),
    /// The message belongs to another group.
    #[error("from group {found}, expected is {expected}")]
    Group {
        /// The group in the message.
        found: GroupId,
        /// Our group.
        expected: GroupId,
    },
    /// Nodes of the sender's mode never send this kind.
    #[error("{mode} nodes never send {kind}")]
    OutOfRole {
        /// The mode of the sender.
        mode: Mode,
        /// The kind.
        kind: &'static str,
    },
    /// The message is well-formed, but has a kind that only newer versions know.
    #[error("{0:?} is unknown to this version")]
    UnknownKind(String),
}

/// The known kinds, of messages, questions and answers.
const KINDS: [&str; 18] = [
    "hello", "new", "withdraw", "cancel", "upload", "sent", "received", "download", "done", "noted", "release",
    "freed", "closed", "waiting", "unknown", "ask", "answer", "refusal",
];

/// Whether nodes of this mode may send this kind.
pub fn may_send(mode: Mode, message: &Message) -> bool {
    match message {
        Message::Hello(_) | Message::Waiting(_) => true,
        Message::New(_) | Message::Cancel(_) | Message::Sent { .. } | Message::Freed(_) => mode == Mode::Upload,
        Message::Withdraw(_) => mode == Mode::Upload || mode == Mode::Central,
        Message::Done(_) => mode == Mode::Download,
        Message::Upload { .. }
        | Message::Received(_)
        | Message::Download { .. }
        | Message::Noted(_)
        | Message::Release(_)
        | Message::Closed(_)
        | Message::Unknown(_) => mode == Mode::Central,
    }
}

/// Encodes a message as one or as many messages as needed to stay within [`MESSAGE_LIMIT`] bytes and [`ENTRY_LIMIT`]
/// entries each, in the order of the entries; none for an empty list.
pub fn encode(group: &GroupId, from: &Node, message: Message) -> Vec<Vec<u8>> {
    let mut encoded = Vec::new();
    let mut pending = vec![Payload::from(message)];
    while let Some(mut payload) = pending.pop() {
        let entries = payload.entries();
        if entries == Some(0) {
            continue;
        }
        if entries.is_some_and(|entries| entries > ENTRY_LIMIT) {
            let rest = payload.split_off(ENTRY_LIMIT);
            pending.extend([rest, payload]);
            continue;
        }
        let bytes = serialised(group, from, payload.clone());
        match entries {
            Some(entries) if entries > 1 && bytes.len() > MESSAGE_LIMIT => {
                let rest = payload.split_off(entries / 2);
                pending.extend([rest, payload]);
            }
            _ => encoded.push(bytes),
        }
    }
    encoded
}

#[expect(clippy::expect_used, reason = "text, numbers and lists always have a JSON form")]
fn serialised<W: Serialize>(group: &GroupId, from: &Node, message: W) -> Vec<u8> {
    let envelope = Envelope {
        v: Protocols::OURS.min(),
        group: field::Spelled(group.clone()),
        from: Sender::from(from.clone()),
        words: message,
    };
    serde_json::to_vec(&envelope).expect("a message has a JSON form")
}

/// Reads a message that should belong to `group`.
///
/// # Errors
/// Why it is not such a message, with the sender if that can be read.
pub fn decode(bytes: &[u8], group: &GroupId) -> Result<(Node, Message), DecodeError> {
    let (sender, message) = match opened::<Payload>(bytes, group, MESSAGE_LIMIT) {
        Ok((sender, payload)) => (sender, Message::from(payload)),
        Err(error) => stranger(bytes, group).ok_or(error)?,
    };
    if !may_send(sender.mode, &message) {
        let problem = Problem::OutOfRole { mode: sender.mode, kind: message.kind() };
        return Err(DecodeError { from: Some(sender), problem });
    }
    Ok((sender, message))
}

/// Reads the envelope and its content.
fn opened<W: DeserializeOwned>(bytes: &[u8], group: &GroupId, limit: usize) -> Result<(Node, W), DecodeError> {
    let refuse = |from: Option<Node>, problem| Err(DecodeError { from, problem });
    if bytes.len() > limit {
        return refuse(None, Problem::TooLong(bytes.len(), limit));
    }
    let header: Header = match serde_json::from_slice(bytes) {
        Ok(header) => header,
        Err(error) if error.is_data() => return refuse(None, Problem::Invalid(printable(&error.to_string()))),
        Err(error) => return refuse(None, Problem::NotJson(printable(&error.to_string()))),
    };
    let from = Sender::deserialize(header.from).ok().map(Node::from);
    if !header.v.as_u64().is_some_and(|version| Protocols::OURS.hold(version)) {
        return refuse(from, Problem::Version(printable(&header.v.to_string())));
    }
    let read: Result<Envelope<W>, String> = match serde_json::from_slice::<Envelope<W>>(bytes) {
        Ok(envelope) => Ok(envelope),
        Err(error) => Err(printable(&error.to_string())),
    };
    match read {
        Ok(Envelope { group: found, .. }) if found.0 != *group => {
            refuse(from, Problem::Group { found: found.0, expected: group.clone() })
        }
        Ok(envelope) => Ok((Node::from(envelope.from), envelope.words)),
        Err(invalid) => {
            refuse(from, unknown_kind(bytes, group).map_or(Problem::Invalid(invalid), Problem::UnknownKind))
        }
    }
}

/// The hello of a node that shares no protocol version with us; only its permanent fields can be read.
fn stranger(bytes: &[u8], group: &GroupId) -> Option<(Node, Message)> {
    if bytes.len() > MESSAGE_LIMIT {
        return None;
    }
    let envelope: Envelope<Stranger> = serde_json::from_slice(bytes).ok()?;
    if envelope.group.0 != *group {
        return None;
    }
    let hello = envelope.words.into_hello()?;
    Some((Node::from(envelope.from), Message::Hello(Box::new(hello))))
}

/// The kind of a message that is well-formed and for this group, but unknown here.
fn unknown_kind(bytes: &[u8], group: &GroupId) -> Option<String> {
    let envelope: Envelope<BTreeMap<String, IgnoredAny>> = serde_json::from_slice(bytes).ok()?;
    if envelope.group.0 != *group || envelope.words.len() != 1 {
        return None;
    }
    let (kind, _) = envelope.words.into_iter().next()?;
    let shaped =
        (1..=KIND_LIMIT).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    (shaped && !KINDS.contains(&kind.as_str())).then_some(kind)
}

/// The permanent fields of a message: enough to name the sender of a message that cannot be read.
#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    v: Value,
    #[serde(default)]
    from: Value,
}

fn printable(text: &str) -> String {
    let mut line = escaped(text.as_bytes());
    if line.len() > DETAIL_LIMIT {
        line = line.chars().take(DETAIL_LIMIT / 4).chain("…".chars()).collect();
    }
    line
}
