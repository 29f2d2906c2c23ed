//! The monitor stream: the status, and again after each change.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::changes::{difference, nothing_new, sort, whole};
use super::connection::{Connection, Dropped};
use super::parameters::Parameters;
use super::protocol::{Refusal, STATUS_DEFAULT, STATUS_LIMIT, encode_refusal, encode_reply};
use super::service::Service;
use super::types::{Shown, Status};
use super::watched::Seen;
use crate::machine::State;

/// How often a stream looks for changes.
const EVERY: Duration = Duration::from_secs(1);
/// The maximum age of a status that several streams share.
const FRESH: Duration = Duration::from_millis(900);
/// Without changes a reply comes after this time.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

impl Service {
    /// Streams until the client closes, or stops reading.
    pub(super) async fn monitor(&self, mut parameters: Parameters, connection: &mut Connection) -> Result<(), Dropped> {
        let asked = (|| {
            let limit = parameters.count("limit", STATUS_LIMIT)?.unwrap_or(STATUS_DEFAULT);
            let here = parameters.flag("here")?;
            let all = parameters.flag("all")?;
            parameters.end()?;
            Ok(Shown { limit: Some(limit), here, all })
        })();
        let wanted = match asked {
            Ok(asked) => asked,
            Err(refusal) => return connection.send(&encode_refusal(&refusal)?).await,
        };
        let mut shown: Option<Status> = None;
        let mut said = Instant::now();
        loop {
            let next = Instant::now() + EVERY;
            let status = tokio::select! {
                status = self.recent(wanted) => status,
                left = connection.left() => return left,
            };
            let update = match (status, &shown) {
                (Ok(status), None) => Some((whole(status.clone()), status)),
                (Ok(status), Some(before)) => match difference(before, &status) {
                    Some(update) => Some((update, status)),
                    None if said.elapsed() >= KEEP_ALIVE => Some((nothing_new(&status), status)),
                    None => None,
                },
                // A busy loop reports its changes later.
                (Err(_), Some(_)) => None,
                (Err(refusal), None) => return connection.send(&encode_refusal(&refusal)?).await,
            };
            if let Some((update, status)) = update {
                connection.send(&encode_reply(&update, true)?).await?;
                said = Instant::now();
                shown = Some(status);
            }
            tokio::select! {
                () = sleep_until(next) => {}
                left = connection.left() => return left,
            }
        }
    }

    async fn recent(&self, wanted: Shown) -> Result<Status, Refusal> {
        let limit = wanted.limit.unwrap_or(STATUS_DEFAULT);
        let mut seen = if wanted.here { &self.watched.here } else { &self.watched.group }.lock().await;
        let usable = |seen: &&Seen| seen.at.elapsed() < FRESH && seen.limit >= limit;
        let mut status = match seen.as_ref().filter(usable) {
            Some(seen) => seen.status.clone(),
            None => {
                let at = Instant::now();
                let mut status = self.status(Shown { all: true, ..wanted }, false).await?;
                sort(&mut status.transfers);
                *seen = Some(Seen { at, limit, status: status.clone() });
                status
            }
        };
        // Delivered transfers are sorted last, so they take no room from others.
        status.transfers.retain(|transfer| wanted.all || transfer.state != State::Delivered.as_str());
        status.transfers.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(status)
    }
}
