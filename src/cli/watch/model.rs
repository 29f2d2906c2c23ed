//! The status as it stands after all that the monitor stream has told so far.

use std::collections::BTreeMap;

use crate::control::types::{Monitor, Status, Transfer};

/// What the stream has told.
#[derive(Debug, Default)]
pub(super) struct Model {
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
    pub(super) fn apply(&mut self, answer: Monitor) {
        match &mut self.status {
            Some(status) => answer.apply(status),
            None => self.status = Some(answer.status),
        }
    }

    /// The same, and what has changed by it.
    pub(super) fn compare(&mut self, answer: Monitor) -> Changed {
        let mut before: BTreeMap<_, _> = self.transfers().iter().cloned().map(named).collect();
        self.apply(answer);
        let mut changed = Changed::default();
        for transfer in self.transfers() {
            let (key, transfer) = named(transfer.clone());
            if before.remove(&key).is_none_or(|before| before != transfer) {
                changed.fresh.push(transfer);
            }
        }
        // What has got an id since then goes on under it.
        let goes_on = |old: &Transfer| old.id.is_none() && changed.fresh.iter().any(|new| same_item(old, new));
        changed.gone = before.into_values().filter(|old| !goes_on(old)).map(|old| old.item).collect();
        changed
    }

    fn transfers(&self) -> &[Transfer] {
        self.status.as_ref().map_or(&[], |status| &status.transfers)
    }
}

fn same_item(a: &Transfer, b: &Transfer) -> bool {
    (&a.upload, &a.item_encoded) == (&b.upload, &b.item_encoded)
}

/// By what a transfer is told from all others.
fn named(transfer: Transfer) -> ((Option<String>, String, String), Transfer) {
    ((transfer.id.clone(), transfer.upload.clone(), transfer.item_encoded.clone()), transfer)
}
