//! Questions between nodes: their operators' interface, asked by one node of another.
//!
//! They travel in the same envelope as words, but are worth something for seconds only: nothing is journalled,
//! and the machine never hears of them. Methods, parameters, replies and errors are those of `io.synkler.Control`;
//! what they mean is for the control server to say, which trusts them as little as what comes from its socket.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::machine::{GroupId, Node};

use super::field::Dotted;
use super::{DecodeError, opened, serialised};

/// The longest a question may be, in bytes.
pub const ASK_LIMIT: usize = 64 * 1024;
/// The longest an answer may be, in bytes.
pub const ANSWER_LIMIT: usize = 1024 * 1024;

/// What one node asks another, or answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Talk {
    /// A question.
    Ask {
        /// The asker's number for it.
        ask: u64,
        /// The method's name with its interface, such as `io.synkler.Control.GetStatus`.
        method: String,
        /// Its parameters by name.
        parameters: Map<String, Value>,
    },
    /// What came of one.
    Answer {
        /// The asker's number for it.
        ask: u64,
        /// The reply's parameters, or why there are none.
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

/// What is to be said has more bytes than a message may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes, but at most {limit} are allowed")]
pub struct TooLong {
    /// How many it has.
    pub length: usize,
    /// How many it may have: [`ASK_LIMIT`] or [`ANSWER_LIMIT`].
    pub limit: usize,
}

impl Talk {
    /// The word that stands for it in the message and in its routing key.
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

/// Makes the message.
///
/// # Errors
/// When it would be longer than [`ASK_LIMIT`] or [`ANSWER_LIMIT`].
pub fn encode_talk(group: &GroupId, from: &Node, talk: Talk) -> Result<Vec<u8>, TooLong> {
    let limit = talk.limit();
    let message = serialised(group, from, Spoken::from(talk));
    if message.len() > limit { Err(TooLong { length: message.len(), limit }) } else { Ok(message) }
}

/// Reads a message that should belong to `group`.
///
/// # Errors
/// Whatever keeps it from being one, with the sender where that can be read.
pub fn decode_talk(bytes: &[u8], group: &GroupId) -> Result<(Node, Talk), DecodeError> {
    let (from, spoken) = opened::<Spoken>(bytes, group, ANSWER_LIMIT)?;
    let talk = Talk::from(spoken);
    if bytes.len() > talk.limit() {
        let problem = super::Problem::TooLong(bytes.len(), talk.limit());
        return Err(DecodeError { from: Some(from), problem });
    }
    Ok((from, talk))
}

/// The shape of what is said, under its kind.
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
