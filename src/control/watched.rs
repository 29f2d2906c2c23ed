//! What the monitor streams share.

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::types::Status;

/// What streams were shown last: the group's status, and this node's alone. However many streams there are, the group
/// is asked once.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) group: Mutex<Option<Seen>>,
    pub(super) here: Mutex<Option<Seen>>,
}

#[derive(Debug)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) limit: u64,
    pub(super) status: Status,
}
