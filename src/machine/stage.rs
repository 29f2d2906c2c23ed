//! What the roles' stages have in common: their words, their tables of moves, and the order in which a
//! status shows them.

use std::collections::BTreeMap;

use super::desk::Desk;
use super::{Cause, Reason, Row, Snapshot, TransferView};

/// From, to, and what makes it happen.
pub type Move<S> = (S, S, &'static str);

macro_rules! stages {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every stage, in the order of a transfer's life.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|stage| stage.as_str() == word)
            }
        }
    };
}
pub(super) use stages;

/// A journal row that this role cannot take up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("journal: transfer {transfer}: column {column} holds {found:?}, which this role cannot take up")]
pub struct BadRow {
    transfer: String,
    column: &'static str,
    found: String,
}

impl BadRow {
    pub(super) fn stage(row: &Row) -> Self {
        Self { transfer: row.transfer.to_string(), column: "stage", found: row.stage.clone() }
    }

    pub(super) fn column(row: &Row, column: &'static str) -> Self {
        Self { transfer: row.transfer.to_string(), column, found: "nothing".to_owned() }
    }
}

/// Counts all views by stage and keeps the `limit` most urgent: what needs attention first, then what is at
/// work, then the rest, oldest first.
pub(super) fn most_urgent(
    views: impl Iterator<Item = TransferView>,
    counts: &mut BTreeMap<&'static str, u64>,
    limit: usize,
) -> Vec<TransferView> {
    let mut chosen: BTreeMap<(u8, super::Time, super::ItemName, Option<super::TransferId>), TransferView> =
        BTreeMap::new();
    for view in views {
        *counts.entry(view.stage).or_default() += 1;
        let urgency = match view.reason.cause() {
            Cause::Running => 1,
            _ if view.attempts > 0 => 0,
            Cause::Disputed | Cause::NameTaken | Cause::Special | Cause::Unreadable | Cause::Space => 0,
            Cause::Keeping => 3,
            _ => 2,
        };
        let key = (urgency, view.since, view.name.clone(), view.transfer);
        if chosen.len() >= limit && chosen.last_key_value().is_none_or(|(last, _)| key > *last) {
            continue;
        }
        chosen.insert(key, view);
        if chosen.len() > limit {
            chosen.pop_last();
        }
    }
    chosen.into_values().collect()
}

impl Desk {
    /// The reason given, or that this node is paused or without the broker, where that is what holds things up.
    pub(super) fn reason_or_pause(&self, cause: Cause) -> Reason {
        Reason::new(match cause {
            Cause::Queued | Cause::Receivers | Cause::Space if self.paused => Cause::Paused,
            Cause::Central | Cause::Acknowledgement if !self.connected() => Cause::Broker,
            other => other,
        })
    }

    pub(super) fn snapshot(&self, counts: BTreeMap<&'static str, u64>, transfers: Vec<TransferView>) -> Snapshot {
        Snapshot {
            node: self.me.clone(),
            started: self.started,
            paused: self.paused,
            broker: self.broker.clone(),
            counts: counts.into_iter().collect(),
            transfers,
            peers: self.peer_views(),
        }
    }
}
