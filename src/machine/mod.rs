//! The pure core: three roles as state machines. No IO, no clock, no async, no serde, no randomness of its
//! own, and nothing of the rest of the crate: the same inputs give the same outputs, always.
//!
//! Contract: [`Machine::handle`] takes one [`Input`]; then [`Machine::poll_effect`] is drained; then
//! [`Machine::poll_timeout`] tells when to come back with [`Input::Timeout`] at the latest, and why. Several
//! inputs may be handled before one drain. An input that makes no sense in the present state is counted and
//! noted, never a panic: peers can say anything.

mod fingerprint;
mod names;
mod reason;
mod snapshot;
mod time;
mod vocabulary;
mod words;

pub use fingerprint::{Digest, Fingerprint, InvalidDigest, Kind, Signature, UnknownKind};
pub use names::{
    GroupId, ITEM_NAME_LIMIT, InvalidName, ItemName, JournalId, Mode, NAME_LIMIT, Node, NodeName, PlaceId, TransferId,
    decode_bytes, encode_bytes, escaped,
};
pub use reason::{Cause, DETAIL_LIMIT, Reason, UnknownCause, one_line};
pub use snapshot::{BrokerState, PeerView, Progress, Snapshot, TransferView};
pub use time::{Time, Timers};
pub use vocabulary::{
    CopyOutcome, Direction, Effect, Fault, HashOutcome, Input, Kept, KnownNode, Level, Note, PlaceOutcome, Question,
    Record, Restored, Row, Run, RunId, RunOutcome, Sight, Sighting,
};
pub use words::{
    Address, ENTRY_LIMIT, Forward, Hello, InvalidLocation, Location, Offer, Receipt, Release, Wait, Words,
};
