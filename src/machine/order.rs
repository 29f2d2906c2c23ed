//! The orders of operators.

use std::fmt;

use super::{ItemName, Node, Signature, Time, TransferId, one_line};

/// The maximum length of the name of the operator, in bytes.
pub const BY_LIMIT: usize = 64;
/// The maximum number of names in the answer to an ambiguous beginning.
pub const MATCHES_LIMIT: usize = 20;

/// An operator's order that pauses transfers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pause {
    /// When the operator gave the order.
    pub since: Time,
    /// The operator: one printable line of 1 to [`BY_LIMIT`] bytes.
    pub by: Box<str>,
    /// The node on which the operator gave the order.
    pub node: Node,
}

impl Pause {
    /// An order; `by` is made one printable line of at most [`BY_LIMIT`] bytes.
    pub fn new(since: Time, by: &str, node: Node) -> Self {
        Self { since, by: who(by), node }
    }
}

/// The operator and the node, without the time: readers have their own time zones, so `synklerctl` shows the time.
impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {} on {}", self.by, self.node)
    }
}

/// The name of the operator, as it is kept and shown.
pub(super) fn who(by: &str) -> Box<str> {
    let line = one_line(by);
    let end = (0..=BY_LIMIT.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    match line.get(..end.unwrap_or_default()).map(str::trim_end) {
        Some(by) if !by.is_empty() => by.into(),
        _ => "unknown".into(),
    }
}

/// Whether the whole group is paused. Every node keeps the latest such order that it knows. So the order reaches all
/// nodes, also those that are away when it is given. The later of two compares as greater.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupPause {
    /// When the order was last set; the value only grows, even if clocks differ.
    pub changed: Time,
    /// The order that pauses the group; `None` after its end.
    pub pause: Option<Pause>,
    /// Whether running transfers stop too.
    pub stop: bool,
}

/// What an ITEM argument means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handle {
    /// One transfer.
    Transfer(TransferId),
    /// Everything unfinished with this name.
    Item(ItemName),
}

/// What a text means on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Exactly this.
    One(Handle),
    /// Nothing unfinished on this node.
    Nothing,
    /// Several names and ids begin with it; at most [`MATCHES_LIMIT`].
    Several(Vec<String>),
}

/// An order of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Start no new transfers.
    Pause {
        /// Which transfers.
        scope: Scope,
        /// Whether running transfers stop too; a later run continues from the data already moved.
        now: bool,
    },
    /// End such a pause.
    Resume {
        /// Which transfers.
        scope: Scope,
    },
    /// An order about these items.
    Items(ItemOrder, Vec<Handle>),
    /// Upload: these items are complete, in the state of these signatures (`ready = "submit"`).
    Submit(Vec<(ItemName, Signature)>),
    /// A node that will not come back.
    Forget(Node),
    /// Accept the directory that is at `file_dir` now as the directory of this node.
    Adopt,
}

macro_rules! item_orders {
    ($($(#[$doc:meta])* $variant:ident = $word:literal;)*) => {
        /// The orders about unfinished items, apart from pause and resume. Each is a verb of `synklerctl` and a method
        /// of the control interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ItemOrder {
            $($(#[$doc])* $variant,)*
        }

        impl ItemOrder {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The method's name.
            pub fn method(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// The verb.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

item_orders! {
    /// Retry now, without waiting for the next attempt.
    Retry = "retry";
    /// Move the transfer to the front of the queue.
    Bump = "bump";
    /// Cancel the transfer; its source is kept.
    Withdraw = "withdraw";
}

impl ItemOrder {
    /// The order of a method of the control interface, if the method is one of these.
    pub fn of_method(method: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|order| order.method() == method)
    }

    /// Whether only the upload of the item can carry it out.
    pub fn is_for_upload(self) -> bool {
        self == Self::Withdraw
    }
}

/// The scope of a pause or a resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// This node.
    Node,
    /// Every node of the group.
    Group,
    /// These items, on this node.
    Items(Vec<Handle>),
}

/// What this node did about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// The item; `None` if the order was about the node, the group, or a node.
    pub item: Option<ItemName>,
    /// Whether the order is carried out, now or earlier. If not, the text says why.
    pub done: bool,
    /// What the node did, in one line.
    pub text: String,
}

impl Deed {
    pub(super) fn about(item: Option<ItemName>, outcome: Outcome) -> Self {
        let done = outcome.is_ok();
        Self { item, done, text: one_line(&outcome.unwrap_or_else(|text| text)) }
    }
}

/// What the node did, or why it did nothing.
pub(super) type Outcome = Result<String, String>;
