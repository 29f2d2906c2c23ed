//! What the server asks the daemon's loop.

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::AskFailure;
use super::types::{Finding, Reload};
use crate::machine::{Deed, Found, ItemName, Node, Order, Row, Selection, Snapshot, Time, TransferId, TransferView};

/// What the server asks the daemon's loop. The loop never waits for what an answer needs: the journal, the broker and
/// the disk answer later. Dropping `reply` unanswered counts as busy.
#[derive(Debug)]
pub enum Query {
    /// What the machine shows now, and what time it is.
    Snapshot {
        /// Of what.
        selection: Selection,
        /// Where the answer goes.
        reply: oneshot::Sender<(Snapshot, Time)>,
    },
    /// What a text stands for among what is unfinished, and what is shown of it where that is one thing.
    Find {
        /// A name, an id, or the beginning of one.
        text: String,
        /// Where the answer goes.
        reply: oneshot::Sender<(Found, Option<TransferView>)>,
    },
    /// What is shown of these transfers, as far as they are unfinished here.
    Views {
        /// Which.
        transfers: Vec<TransferId>,
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<TransferView>>,
    },
    /// Carry this out, and answer once it is journalled.
    Order {
        /// Who gave it.
        by: String,
        /// What.
        order: Order,
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<Deed>>,
    },
    /// What a text stands for among what is over.
    Past {
        /// A name, an id, or the beginning of one.
        text: String,
        /// Where the answer goes, or why there is none.
        reply: oneshot::Sender<Result<PastFound, String>>,
    },
    /// What is over, the latest first, and whether older ones follow.
    History {
        /// Which.
        span: Span,
        /// Where the answer goes, or why there is none.
        reply: oneshot::Sender<Result<(Vec<Row>, bool), String>>,
    },
    /// The manifest text of a directory, if the journal has it.
    Manifest {
        /// Whose.
        transfer: TransferId,
        /// Where the answer goes, or why there is none.
        reply: oneshot::Sender<Result<Option<String>, String>>,
    },
    /// Log from this level on; answered with the one before.
    LogLevel {
        /// One of [`LOG_LEVELS`](super::LOG_LEVELS).
        level: String,
        /// Where the answer goes.
        reply: oneshot::Sender<String>,
    },
    /// Read the config again.
    Reload {
        /// Where the answer goes, or what is wrong with the config.
        reply: oneshot::Sender<Result<Reload, String>>,
    },
    /// Examine this node.
    Check {
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<Finding>>,
    },
    /// Ask another node.
    Ask {
        /// Whom.
        to: Node,
        /// The method's full name.
        method: String,
        /// Its parameters by name.
        parameters: Map<String, Value>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Value, AskFailure>>,
    },
}

/// Which part of the history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    /// Over since that moment.
    pub since: Option<Time>,
    /// Over before that moment.
    pub before: Option<Time>,
    /// With `before`: also over just then, with a smaller id than this.
    pub behind: Option<TransferId>,
    /// Of items of that name.
    pub item: Option<ItemName>,
    /// At most so many.
    pub limit: u32,
}

/// What a text was found to stand for among what is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PastFound {
    /// Just this: of a name, the last one.
    One(Box<Row>),
    /// Nothing.
    Nothing,
    /// All these names or ids begin like it: some of them.
    Several(Vec<String>),
}
