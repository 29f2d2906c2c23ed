//! Waiting for answers of the broker.

use tokio::time::timeout;

use crate::machine::Node;

use super::ANSWER_TIMEOUT;
use super::fault::Fault;

/// Waits for one answer of the broker, with a time limit.
pub(super) async fn answered<T>(
    asked: &'static str,
    me: &Node,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Fault> {
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|error| Fault::using(&error, me)),
        Err(_) => Err(Fault::Silent { asked, seconds: ANSWER_TIMEOUT.as_secs() }),
    }
}
