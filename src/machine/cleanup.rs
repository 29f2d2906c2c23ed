//! What a node does with an item after the hand-over.

use super::{Fingerprint, ItemName, NodeName, Signature, TransferId, one_line};

/// The maximum number of items that one script gets.
pub const LOT_LIMIT: usize = 100;

/// Who cleans up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cleaner {
    /// Nobody: the item stays where it is.
    #[default]
    None,
    /// A script of the operator. It may leave or make anything, and nobody can tell how far an interrupted one came.
    Script,
    /// The same, and the script gets several items at once.
    Lots(Lot),
    /// synkler itself: it moves or deletes the item. It can finish what an earlier run began, and leaves nothing
    /// behind.
    Own,
}

impl Cleaner {
    /// Whether anything is done.
    pub fn is_set(self) -> bool {
        self != Self::None
    }

    /// Whether a script does it.
    pub fn is_script(self) -> bool {
        matches!(self, Self::Script | Self::Lots(_))
    }

    pub(super) fn lot(self) -> Option<Lot> {
        if let Self::Lots(lot) = self { Some(lot) } else { None }
    }

    /// Its name in log lines.
    pub(super) fn what(self) -> &'static str {
        if self.is_script() { "cleanup script" } else { "cleanup" }
    }
}

/// How much one script gets at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lot {
    /// Items; not zero, and up to [`LOT_LIMIT`].
    pub items: usize,
    /// Bytes of their names. A single name may be longer.
    pub bytes: usize,
}

impl Lot {
    pub(super) const ONE: Self = Self { items: 1, bytes: 0 };
}

/// An item to clean up, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanupItem {
    /// The transfer.
    pub transfer: TransferId,
    /// The item.
    pub item: ItemName,
    /// What it was when it was delivered (download) or hashed (upload).
    pub signature: Option<Signature>,
    /// The announced fingerprint.
    pub fingerprint: Fingerprint,
    /// The upload it comes from.
    pub upload: NodeName,
    /// Upload: the downloads that have it; empty if they were named before the last start.
    pub receivers: Vec<NodeName>,
}

/// How a cleanup ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleared {
    /// The script succeeded.
    Script,
    /// synkler moved or deleted the item, or found that it is gone.
    Done(String),
    /// The same, with a text for the history.
    Remarkable(String),
    /// The item is not the one that was delivered. Nothing was done to it.
    Changed,
}

impl Cleared {
    /// The line for the log.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Script => "cleanup script succeeded".to_owned(),
            Self::Done(text) | Self::Remarkable(text) => format!("cleanup succeeded: {text}"),
            Self::Changed => "cleanup skipped: the item changed since its delivery".to_owned(),
        }
    }

    /// Adds to a transfer's remark what belongs into the history.
    pub(super) fn add_to(&self, remark: &mut Option<Box<str>>) {
        if let Self::Remarkable(text) = self {
            add_remark(remark, text);
        }
    }
}

/// Adds a text to a transfer's remark.
pub(super) fn add_remark(remark: &mut Option<Box<str>>, text: &str) {
    let before = remark.as_deref().map(|before| format!("{before}; ")).unwrap_or_default();
    *remark = Some(one_line(&format!("{before}{text}")).into());
}
