//! What an operator orders.

use std::fmt;

use super::{ItemName, Node, Time, TransferId, one_line};

/// The longest name of who gave an order, in bytes.
pub const BY_LIMIT: usize = 64;
/// The most names that an ambiguous beginning is answered with.
pub const MATCHES_LIMIT: usize = 20;

/// An operator's order that nothing new is to start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pause {
    /// When it was given.
    pub since: Time,
    /// Who gave it: one printable line of 1 to [`BY_LIMIT`] bytes.
    pub by: Box<str>,
    /// On which node.
    pub node: Node,
}

impl Pause {
    /// An order; what is no printable line of at most [`BY_LIMIT`] bytes in `by` is made one.
    pub fn new(since: Time, by: &str, node: Node) -> Self {
        Self { since, by: who(by), node }
    }
}

/// Who gave it and where. Not when: readers have clocks of their own zones, so `synklerctl` shows that.
impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {} on {}", self.by, self.node)
    }
}

/// Who gave an order, as it is kept and shown.
pub(super) fn who(by: &str) -> Box<str> {
    let line = one_line(by);
    let end = (0..=BY_LIMIT.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    match line.get(..end.unwrap_or_default()).map(str::trim_end) {
        Some(by) if !by.is_empty() => by.into(),
        _ => "unknown".into(),
    }
}

/// Whether the whole group is paused: every node keeps the youngest such order that it has heard of, so that it
/// reaches all of them, also those that are away when it is given. The younger of two is the greater.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupPause {
    /// When it was set last; it only grows, even where clocks differ.
    pub changed: Time,
    /// The order that holds the group; `None` when it was ended.
    pub pause: Option<Pause>,
    /// Running transfers are stopped too.
    pub stop: bool,
}

/// What an ITEM argument stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handle {
    /// One transfer.
    Transfer(TransferId),
    /// Whatever is unfinished of this name.
    Item(ItemName),
}

/// What a text was found to stand for on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Just this.
    One(Handle),
    /// Nothing that is unfinished here.
    Nothing,
    /// All these begin like it: names and ids, at most [`MATCHES_LIMIT`].
    Several(Vec<String>),
}

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Nothing new is to start.
    Pause {
        /// Where.
        scope: Scope,
        /// Running transfers are stopped too; what they have moved stays, and a later run continues it.
        now: bool,
    },
    /// The end of such an order.
    Resume {
        /// Where.
        scope: Scope,
    },
    /// Something about these items.
    Items(ItemOrder, Vec<Handle>),
    /// A node will not come back.
    Forget(Node),
    /// What is at `file_dir` now is the directory of this node.
    Adopt,
}

macro_rules! item_orders {
    ($($(#[$doc:meta])* $variant:ident = $word:literal;)*) => {
        /// What may be ordered about unfinished items, besides a pause and its end: a verb of `synklerctl` and a method
        /// of the control interface each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ItemOrder {
            $($(#[$doc])* $variant,)*
        }

        impl ItemOrder {
            /// Every one.
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
    /// What waits for its next attempt is tried now.
    Retry = "retry";
    /// What is queued is next.
    Bump = "bump";
    /// The transfer is cancelled; its source stays.
    Withdraw = "withdraw";
}

impl ItemOrder {
    /// The order that a method of the control interface gives, if it is one of these.
    pub fn of_method(method: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|order| order.method() == method)
    }

    /// Whether only the item's upload can carry it out.
    pub fn is_for_upload(self) -> bool {
        self == Self::Withdraw
    }
}

/// What is paused or resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// This node.
    Node,
    /// Every node of the group.
    Group,
    /// These items, here.
    Items(Vec<Handle>),
}

/// What this node did about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// The item it was about; `None` when it was about the node, the group, or a node.
    pub item: Option<ItemName>,
    /// Whether it was done, or was so already. When it was not, the text says why.
    pub done: bool,
    /// What was done, in one line.
    pub text: String,
}

impl Deed {
    pub(super) fn about(item: Option<ItemName>, outcome: Outcome) -> Self {
        let done = outcome.is_ok();
        Self { item, done, text: one_line(&outcome.unwrap_or_else(|text| text)) }
    }
}

/// What was done, or why it was not.
pub(super) type Outcome = Result<String, String>;
