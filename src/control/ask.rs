//! The results of a question to another node.

use super::protocol::Refusal;

/// Why a question to another node has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskFailure {
    /// The node cannot be asked, or did not answer within 2 seconds: why, in one line that names the node.
    #[error("{0}")]
    Silent(String),
    /// The node refused to answer.
    #[error(transparent)]
    Refused(Refusal),
}
