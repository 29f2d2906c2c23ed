//! The queries of the server to the daemon's loop.

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::AskFailure;
use super::types::{Explanation, Finding, Reload};
use crate::machine::{
    Deed, Found, ItemName, Node, Order, Row, Selection, Signature, Snapshot, Time, TransferId, TransferView,
};

/// The queries of the server to the daemon's loop. The loop never waits for the journal, the broker or the disk; these
/// answer later. Dropping `reply` without an answer counts as busy.
#[derive(Debug)]
pub enum Query {
    /// The machine's data for a status, and the time.
    Snapshot {
        /// What to show.
        selection: Selection,
        /// The channel for the answer.
        reply: oneshot::Sender<(Snapshot, Time)>,
    },
    /// What a text means among unfinished transfers and items, and the view of it if that is one thing.
    Find {
        /// A name, an id, or a beginning of either.
        text: String,
        /// The channel for the answer.
        reply: oneshot::Sender<(Found, Option<TransferView>)>,
    },
    /// The views of these transfers, if they are unfinished here.
    Views {
        /// The ids.
        transfers: Vec<TransferId>,
        /// The channel for the answer.
        reply: oneshot::Sender<Vec<TransferView>>,
    },
    /// Carry out an order, and answer when it is journalled.
    Order {
        /// The operator.
        by: String,
        /// The order.
        order: Order,
        /// The channel for the answer.
        reply: oneshot::Sender<Vec<Deed>>,
    },
    /// What a text means among finished transfers.
    Past {
        /// A name, an id, or a beginning of either.
        text: String,
        /// The channel for the answer, or for the reason why there is none.
        reply: oneshot::Sender<Result<PastFound, String>>,
    },
    /// Finished transfers, the latest first, and whether older ones follow.
    History {
        /// The selection.
        span: Span,
        /// The channel for the answer, or for the reason why there is none.
        reply: oneshot::Sender<Result<(Vec<Row>, bool), String>>,
    },
    /// The manifest text of a directory, if the journal has it.
    Manifest {
        /// The transfer.
        transfer: TransferId,
        /// The channel for the answer, or for the reason why there is none.
        reply: oneshot::Sender<Result<Option<String>, String>>,
    },
    /// Set the log level; the answer is the previous one.
    LogLevel {
        /// One of [`LOG_LEVELS`](super::LOG_LEVELS).
        level: String,
        /// The channel for the answer.
        reply: oneshot::Sender<String>,
    },
    /// Read the config again.
    Reload {
        /// The channel for the answer, or for the errors in the config.
        reply: oneshot::Sender<Result<Reload, String>>,
    },
    /// Explain a path.
    Explain {
        /// The path, absolute or below `file_dir`.
        path: Vec<u8>,
        /// The channel for the answer.
        reply: oneshot::Sender<Explanation>,
    },
    /// Find out what is at a path that an operator submits.
    Submitted {
        /// The path, absolute or below `file_dir`.
        path: Vec<u8>,
        /// The channel for the item and its signature, or for why it cannot be submitted.
        reply: oneshot::Sender<Result<(ItemName, Signature), String>>,
    },
    /// Check this node.
    Check {
        /// The channel for the answer.
        reply: oneshot::Sender<Vec<Finding>>,
    },
    /// Ask another node.
    Ask {
        /// The node.
        to: Node,
        /// The method's full name.
        method: String,
        /// Its parameters by name.
        parameters: Map<String, Value>,
        /// The channel for the answer.
        reply: oneshot::Sender<Result<Value, AskFailure>>,
    },
}

/// A part of the history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    /// Finished since that time.
    pub since: Option<Time>,
    /// Finished before that time.
    pub before: Option<Time>,
    /// With `before`: also finished at exactly that time, with a smaller id than this.
    pub behind: Option<TransferId>,
    /// Of items with that name.
    pub item: Option<ItemName>,
    /// At most this many.
    pub limit: u32,
}

/// What a text means among finished transfers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PastFound {
    /// Exactly this one: of a name, the last one.
    One(Box<Row>),
    /// Nothing.
    Nothing,
    /// Several names or ids begin with it: some of them.
    Several(Vec<String>),
}
