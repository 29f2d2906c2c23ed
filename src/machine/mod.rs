//! The pure core: three roles as state machines. No IO, no clock, no async, no serde, no randomness of its
//! own, and nothing of the rest of the crate: the same inputs give the same outputs, always.
//!
//! Contract: [`Machine::handle`] takes one [`Input`]; then [`Machine::poll_effect`] is drained; then
//! [`Machine::poll_timeout`] tells when to come back with [`Input::Timeout`] at the latest, and why. Several
//! inputs may be handled before one drain. An input that makes no sense in the present state is counted and
//! noted, never a panic: peers can say anything.

pub mod central;
mod desk;
mod dispatch;
pub mod download;
mod fingerprint;
mod names;
mod reason;
mod snapshot;
mod stage;
mod time;
pub mod upload;
mod vocabulary;
mod words;

pub use central::{Central, CentralSettings};
pub use download::{Download, DownloadSettings};
pub use fingerprint::{Digest, Fingerprint, InvalidDigest, Kind, Signature, UnknownKind};
pub use names::{
    GroupId, ITEM_NAME_LIMIT, InvalidName, ItemName, JournalId, Mode, NAME_LIMIT, Node, NodeName, PlaceId, TransferId,
    decode_bytes, encode_bytes, escaped,
};
pub use reason::{Cause, DETAIL_LIMIT, Reason, UnknownCause, one_line};
pub use snapshot::{BrokerState, PeerView, Progress, Snapshot, TransferView};
pub use stage::{BadRow, Move};
pub use time::{Time, Timers};
pub use upload::{Upload, UploadSettings};
pub use vocabulary::{
    CopyOutcome, Direction, Effect, Fault, HashOutcome, Input, Kept, KnownNode, Level, Note, PlaceOutcome, Question,
    Record, Restored, Row, Run, RunId, RunOutcome, Sight, Sighting,
};
pub use words::{
    Address, ENTRY_LIMIT, Forward, Hello, InvalidLocation, Location, Offer, Receipt, Release, Wait, Words,
};

/// One node's decisions.
#[derive(Debug)]
pub enum Machine {
    /// The upload role.
    Upload(Box<Upload>),
    /// The central role.
    Central(Box<Central>),
    /// The download role.
    Download(Box<Download>),
}

impl Machine {
    /// An upload that takes up the work its journal holds. `seed` feeds jitter and transfer ids, so it must
    /// differ from start to start.
    pub fn upload(settings: UploadSettings, restored: Restored, seed: u64, now: Time) -> Result<Self, BadRow> {
        Ok(Self::Upload(Box::new(Upload::new(settings, restored, seed, now)?)))
    }

    /// A central that takes up the work its journal holds.
    pub fn central(settings: CentralSettings, restored: Restored, seed: u64, now: Time) -> Result<Self, BadRow> {
        Ok(Self::Central(Box::new(Central::new(settings, restored, seed, now)?)))
    }

    /// A download that takes up the work its journal holds.
    pub fn download(settings: DownloadSettings, restored: Restored, seed: u64, now: Time) -> Result<Self, BadRow> {
        Ok(Self::Download(Box::new(Download::new(settings, restored, seed, now)?)))
    }

    /// Takes note of what has happened. Time never goes backwards: an earlier `now` counts as the last one.
    pub fn handle(&mut self, now: Time, input: Input) {
        let desk = self.desk_mut();
        desk.now = desk.now.max(now);
        match self {
            Self::Upload(role) => role.handle(input),
            Self::Central(role) => role.handle(input),
            Self::Download(role) => role.handle(input),
        }
    }

    /// What is to be done, in this order; `None` when nothing is left. All records come first.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        match self {
            Self::Upload(role) => role.poll_effect(),
            Self::Central(role) => role.poll_effect(),
            Self::Download(role) => role.poll_effect(),
        }
    }

    /// When to come back with [`Input::Timeout`] at the latest, and why.
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        self.desk().timers.next().map(|(when, timer)| (when, timer.why()))
    }

    /// What a status shows, with at most `limit` transfers.
    pub fn snapshot(&self, limit: usize) -> Snapshot {
        match self {
            Self::Upload(role) => role.snapshot(limit),
            Self::Central(role) => role.snapshot(limit),
            Self::Download(role) => role.snapshot(limit),
        }
    }

    /// How many inputs made no sense when they came.
    pub fn unexpected(&self) -> u64 {
        self.desk().unexpected
    }

    fn desk(&self) -> &desk::Desk {
        match self {
            Self::Upload(role) => &role.desk,
            Self::Central(role) => &role.desk,
            Self::Download(role) => &role.desk,
        }
    }

    fn desk_mut(&mut self) -> &mut desk::Desk {
        match self {
            Self::Upload(role) => &mut role.desk,
            Self::Central(role) => &mut role.desk,
            Self::Download(role) => &mut role.desk,
        }
    }
}
