//! Questions between nodes: one node asks another by the interface of the operators.
//!
//! Questions have the same envelope as messages, but are useful for seconds only: nothing is journalled, and the
//! machine does not see them. Methods, parameters, replies and errors are those of `io.synkler.Control`. The control
//! server interprets them, and trusts them as little as requests from its socket.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::machine::{GroupId, Node};

use super::field::Dotted;
use super::{DecodeError, opened, serialised};

/// The maximum size of a question, in bytes.
pub const ASK_LIMIT: usize = 64 * 1024;
/// The maximum size of an answer, in bytes.
pub const ANSWER_LIMIT: usize = 1024 * 1024;

/// A question of one node to another, or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Talk {
    /// A question.
    Ask {
        /// The asker's number of the question.
        ask: u64,
        /// The method's name with its interface, such as `io.synkler.Control.GetStatus`.
        method: String,
        /// Its parameters by name.
        parameters: Map<String, Value>,
    },
    /// The result of a question.
    Answer {
        /// The asker's number of the question.
        ask: u64,
        /// The parameters of the reply, or of the error.
        outcome: Result<Map<String, Value>, Failure>,
    },
}

/// An error of the interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// Its full name, such as `io.synkler.Control.NotFound`.
    pub error: String,
    /// Its parameters by name.
    pub parameters: Map<String, Value>,
}

/// The question or answer has more bytes than a message may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes, but at most {limit} are allowed")]
pub struct TooLong {
    /// Its size.
    pub length: usize,
    /// The limit: [`ASK_LIMIT`] or [`ANSWER_LIMIT`].
    pub limit: usize,
}

impl Talk {
    /// The kind in the message and in its routing key.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ask { .. } => "ask",
            Self::Answer { outcome: Ok(_), .. } => "answer",
            Self::Answer { outcome: Err(_), .. } => "refusal",
        }
    }

    fn limit(&self) -> usize {
        match self {
            Self::Ask { .. } => ASK_LIMIT,
            Self::Answer { .. } => ANSWER_LIMIT,
        }
    }
}

/// Encodes the message.
///
/// # Errors
/// If it would be longer than [`ASK_LIMIT`] or [`ANSWER_LIMIT`].
pub fn encode_talk(group: &GroupId, from: &Node, talk: Talk) -> Result<Vec<u8>, TooLong> {
    let limit = talk.limit();
    let message = serialised(group, from, Spoken::from(talk));
    if message.len() > limit { Err(TooLong { length: message.len(), limit }) } else { Ok(message) }
}

/// Reads a message that should belong to `group`.
///
/// # Errors
/// Why it is not such a message, with the sender if that can be read.
pub fn decode_talk(bytes: &[u8], group: &GroupId) -> Result<(Node, Talk), DecodeError> {
    let (from, spoken) = opened::<Spoken>(bytes, group, ANSWER_LIMIT)?;
    let talk = Talk::from(spoken);
    if bytes.len() > talk.limit() {
        let problem = super::Problem::TooLong(bytes.len(), talk.limit());
        return Err(DecodeError { from: Some(from), problem });
    }
    Ok((from, talk))
}

/// The shape of the content, under its kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Spoken {
    Ask { ask: u64, method: Dotted, parameters: Map<String, Value> },
    Answer { ask: u64, reply: Map<String, Value> },
    Refusal { ask: u64, error: Dotted, parameters: Map<String, Value> },
}

impl From<Talk> for Spoken {
    fn from(talk: Talk) -> Self {
        match talk {
            Talk::Ask { ask, method, parameters } => Self::Ask { ask, method: Dotted(method), parameters },
            Talk::Answer { ask, outcome: Ok(reply) } => Self::Answer { ask, reply },
            Talk::Answer { ask, outcome: Err(Failure { error, parameters }) } => {
                Self::Refusal { ask, error: Dotted(error), parameters }
            }
        }
    }
}

impl From<Spoken> for Talk {
    fn from(spoken: Spoken) -> Self {
        match spoken {
            Spoken::Ask { ask, method, parameters } => Self::Ask { ask, method: method.0, parameters },
            Spoken::Answer { ask, reply } => Self::Answer { ask, outcome: Ok(reply) },
            Spoken::Refusal { ask, error, parameters } => {
                Self::Answer { ask, outcome: Err(Failure { error: error.0, parameters }) }
            }
        }
    }
}
