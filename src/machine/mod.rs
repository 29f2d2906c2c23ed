//! The pure core: three roles as state machines. It has no IO, clock, async code, serde or random source of its own,
//! and uses no other module of the crate. The same inputs always give the same outputs.
//!
//! Contract: call [`Machine::handle`] with one [`Input`], then drain [`Machine::poll_effect`].
//! [`Machine::poll_timeout`] says until when to call again with [`Input::Timeout`], and why. Several inputs may be
//! handled before one drain. An input that is impossible in the present state is counted and logged, never a panic:
//! peers can send anything.

mod apart;
pub mod central;
mod cleanings;
mod cleanup;
mod differences;
mod directory;
mod dispatch;
pub mod download;
mod extras;
mod fingerprint;
mod io;
mod lasting;
mod lives;
mod lost_directory;
mod message;
mod modes;
mod mounts;
mod names;
mod order;
mod orders;
mod ownership;
mod pausing;
mod peers;
mod protocols;
mod random;
mod ready;
mod reason;
mod record;
mod room;
mod shared;
mod snapshot;
mod stage;
mod state;
mod time;
pub mod upload;

pub use central::{Central, CentralSettings};
pub use cleanup::{Cleaner, CleanupItem, Cleared, LOT_LIMIT, Lot};
pub use differences::{Differences, differences};
pub use directory::{Directory, DirectoryId, KnownDirectory, Marker, Verdict, judge};
pub use download::{Download, DownloadSettings};
pub use extras::{Attributes, Extra, Extras, InvalidExtras, Keep};
pub use fingerprint::{Digest, Fingerprint, InvalidDigest, Kind, Signature, UnknownKind};
pub use io::{
    CopyOutcome, Direction, Effect, Fault, HashOutcome, Inodes, Input, Level, Log, MANIFEST_LIMIT, Origin,
    PlaceOutcome, Question, Run, RunId, RunOutcome, Sight, Sighting, Space,
};
pub use message::{
    Address, DOING_LIMIT, ENTRY_LIMIT, Forward, HOST_LIMIT, Hello, InvalidLocation, Location, Message, Offer, Receipt,
    Release, Wait,
};
pub use modes::{InvalidModes, KeepModes, MODES_LIMIT, ModeList, Modes};
pub use mounts::{MOUNT_LIMIT, Mounts};
pub use names::{
    DEPTH_LIMIT, GroupId, ITEM_NAME_LIMIT, InvalidName, ItemName, JournalId, Mode, NAME_LIMIT, Node, NodeName,
    PART_LIMIT, PlaceId, TransferId, decode_bytes, encode_bytes, escaped,
};
pub use order::{BY_LIMIT, Deed, Found, GroupPause, Handle, ItemOrder, MATCHES_LIMIT, Order, Pause, Scope};
pub use ownership::{Account, Ownership};
pub use protocols::{Fit, Protocols};
pub use random::{Random, spread};
pub use ready::{Readiness, ReadyMarker};
pub use reason::{Cause, DETAIL_LIMIT, Reason, UnknownCause, one_line};
pub use record::{Kept, KnownNode, Left, RECENT, RECENT_LIMIT, Record, Restored, Row};
pub use snapshot::{
    BrokerState, PeerView, Progress, Selection, Snapshot, TALLY_LIMIT, Tallied, Tally, Tallying, TransferView,
};
pub use stage::{BadRow, Move};
pub use state::{Standing, State, UnknownState, decisive};
pub use time::{Time, Timers};
pub use upload::{Upload, UploadSettings};

/// The settings of one role.
#[derive(Debug, Clone)]
pub enum RoleSettings {
    /// An upload.
    Upload(UploadSettings),
    /// A central.
    Central(CentralSettings),
    /// A download.
    Download(DownloadSettings),
}

/// The decisions of one node.
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
    /// An upload that continues the work in its journal. `seed` feeds jitter and transfer ids, so it must differ from
    /// start to start.
    pub fn upload(settings: UploadSettings, restored: Restored, seed: u64, now: Time) -> Result<Self, BadRow> {
        Ok(Self::Upload(Box::new(Upload::new(settings, restored, seed, now)?)))
    }

    /// A central that continues the work in its journal.
    pub fn central(settings: CentralSettings, restored: Restored, seed: u64, now: Time) -> Result<Self, BadRow> {
        Ok(Self::Central(Box::new(Central::new(settings, restored, seed, now)?)))
    }

    /// A download that continues the work in its journal.
    pub fn download(settings: DownloadSettings, restored: Restored, seed: u64, now: Time) -> Result<Self, BadRow> {
        Ok(Self::Download(Box::new(Download::new(settings, restored, seed, now)?)))
    }

    /// Handles one input. Time never goes backwards: an earlier `now` counts as the last one.
    pub fn handle(&mut self, now: Time, input: Input) {
        let shared = self.shared_mut();
        shared.now = shared.now.max(now);
        match self {
            Self::Upload(role) => role.handle(input),
            Self::Central(role) => role.handle(input),
            Self::Download(role) => role.handle(input),
        }
    }

    /// The next effect to carry out, in order; `None` when nothing is left. All records come first.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        match self {
            Self::Upload(role) => role.poll_effect(),
            Self::Central(role) => role.poll_effect(),
            Self::Download(role) => role.poll_effect(),
        }
    }

    /// Until when to call again with [`Input::Timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        self.shared().timers.next().map(|(when, timer)| (when, timer.why()))
    }

    /// Carries out this node's part of an operator's order and returns what was done. What this node does not know
    /// gives no deed. Drain the effects afterwards, as after an input: the order is in force when its records are
    /// committed. `by` is the operator.
    pub fn order(&mut self, now: Time, by: &str, order: Order) -> Vec<Deed> {
        let shared = self.shared_mut();
        shared.now = shared.now.max(now);
        match self {
            Self::Upload(role) => role.order(by, order),
            Self::Central(role) => role.order(by, order),
            Self::Download(role) => role.order(by, order),
        }
    }

    /// What a text means among the unfinished transfers and items of this node: an item's name, as shown or encoded; a
    /// transfer's id; or an unambiguous beginning of either.
    pub fn find(&self, text: &str) -> Found {
        match self {
            Self::Upload(role) => orders::find(&**role, text),
            Self::Central(role) => orders::find(&**role, text),
            Self::Download(role) => orders::find(&**role, text),
        }
    }

    /// The view of one transfer, or of the youngest one of a name; `None` if none is unfinished here.
    pub fn view(&self, handle: &Handle) -> Option<TransferView> {
        match self {
            Self::Upload(role) => role.view(handle),
            Self::Central(role) => role.view(handle),
            Self::Download(role) => role.view(handle),
        }
    }

    /// The data of a status.
    pub fn snapshot(&self, selection: &Selection) -> Snapshot {
        match self {
            Self::Upload(role) => role.snapshot(selection),
            Self::Central(role) => role.snapshot(selection),
            Self::Download(role) => role.snapshot(selection),
        }
    }

    /// Applies settings that were read again. Name, version, host and spool keep their values from the start. Settings
    /// of another role change nothing and are logged as a bug. Drain the effects afterwards.
    pub fn reconfigure(&mut self, now: Time, settings: RoleSettings) {
        let shared = self.shared_mut();
        shared.now = shared.now.max(now);
        match (self, settings) {
            (Self::Upload(role), RoleSettings::Upload(settings)) => role.reconfigure(settings),
            (Self::Central(role), RoleSettings::Central(settings)) => role.reconfigure(settings),
            (Self::Download(role), RoleSettings::Download(settings)) => role.reconfigure(settings),
            (machine, _) => {
                machine.shared_mut().log(Level::Error, None, None, None, "bug: settings of another role");
            }
        }
    }

    /// The number of inputs that were impossible when they came.
    pub fn unexpected(&self) -> u64 {
        self.shared().unexpected
    }

    fn shared(&self) -> &shared::Shared {
        match self {
            Self::Upload(role) => &role.shared,
            Self::Central(role) => &role.shared,
            Self::Download(role) => &role.shared,
        }
    }

    fn shared_mut(&mut self) -> &mut shared::Shared {
        match self {
            Self::Upload(role) => &mut role.shared,
            Self::Central(role) => &mut role.shared,
            Self::Download(role) => &mut role.shared,
        }
    }
}
