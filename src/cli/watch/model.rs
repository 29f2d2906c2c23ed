//! The current status, built from the replies of the monitor stream.

use std::collections::BTreeMap;

use crate::control::types::{Monitor, Status, Transfer};

/// The status built so far.
#[derive(Debug, Default)]
pub(super) struct Model {
    status: Option<Status>,
}

/// The changes by one reply.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// The transfers that are new or have changed.
    pub(super) fresh: Vec<Transfer>,
    /// The items of transfers that left the list.
    pub(super) gone: Vec<String>,
}

impl Model {
    /// The status, after the first reply.
    pub(super) fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    /// Applies the next reply.
    pub(super) fn apply(&mut self, answer: Monitor) {
        match &mut self.status {
            Some(status) => answer.apply(status),
            None => self.status = Some(answer.status),
        }
    }

    /// The same, and returns the changes.
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
        // An item that has got an id since then continues under that id.
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

/// The transfers by their keys.
fn named(transfer: Transfer) -> ((Option<String>, String, String), Transfer) {
    ((transfer.id.clone(), transfer.upload.clone(), transfer.item_encoded.clone()), transfer)
}
