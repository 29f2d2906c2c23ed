//! The data that monitor streams share.

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::types::Status;

/// The last status of the group, and of this node alone. The group is asked once for any number of streams.
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
