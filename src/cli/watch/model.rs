//! The status as it stands after all that the monitor stream has told so far.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::types::{Monitor, Status, Transfer};

/// What the stream has told.
#[derive(Debug, Default)]
pub(in crate::cli) struct Model {
    status: Option<Status>,
}

/// What one answer has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// New, or different from before.
    pub(super) fresh: Vec<Transfer>,
    /// The items of those that are no longer in the list.
    pub(super) gone: Vec<String>,
}

impl Model {
    /// The status, once there has been an answer.
    pub(super) fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    /// Takes in the next answer.
    pub(super) fn apply(&mut self, answer: Monitor) -> Changed {
        let mut status = answer.status;
        let mut before: BTreeMap<_, _> =
            self.status.take().map(|status| status.transfers).unwrap_or_default().into_iter().map(keyed).collect();
        let mut changed = Changed::default();
        let told: BTreeMap<_, _> = status.transfers.drain(..).map(keyed).collect();
        for (key, transfer) in &told {
            if before.get(key) != Some(transfer) {
                changed.fresh.push(transfer.clone());
            }
        }
        let gone: BTreeSet<_> = if answer.full {
            before.keys().filter(|key| !told.contains_key(*key)).cloned().collect()
        } else {
            answer.gone.into_iter().collect()
        };
        for key in &gone {
            // What has got an id since then goes on under it.
            let Some(old) = before.remove(key) else { continue };
            let goes_on =
                |transfer: &Transfer| (&transfer.upload, &transfer.item_encoded) == (&old.upload, &old.item_encoded);
            if !told.values().any(goes_on) {
                changed.gone.push(old.item);
            }
        }
        before.extend(told);
        status.transfers = before.into_values().collect();
        // What needs attention first, then what is at work, then the rest, the oldest first.
        status.transfers.sort_by_key(|transfer| (rank(transfer), transfer.id.is_none(), transfer.id.clone()));
        self.status = Some(status);
        changed
    }
}

fn keyed(transfer: Transfer) -> (String, Transfer) {
    let key = transfer.id.clone().unwrap_or_else(|| format!("{}/{}", transfer.upload, transfer.item_encoded));
    (key, transfer)
}

fn rank(transfer: &Transfer) -> u8 {
    match (transfer.attempts, &transfer.progress) {
        (1.., _) => 0,
        (0, Some(_)) => 1,
        (0, None) => 2,
    }
}
