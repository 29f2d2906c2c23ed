//! Upload: notices items, hashes them, sends them when central requests them, and frees the source when every required
//! receiver has given its receipt.
//!
//! Why a source is safe here. The cleanup script starts in one place only (`free::on_looked`), under two conditions.
//! (a) Central's release is journalled; it names receivers and has exactly the fingerprint that this node computed. (b)
//! Upload has looked at the source in this turn, and the source has the signature that it had when that fingerprint was
//! computed. Any other message, and a crash at any time, leads to a stage from which upload looks at the source again.

mod free;
mod items;
mod kept;
mod messages;
mod operator;
mod ready;
mod send;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::cleanings::Cleanings;
use super::dispatch::{Dispatch, Limiter, Ready};
use super::lives::Stages;
use super::lost_directory::Turn;
use super::shared::{Shared, SharedSettings, Timer};
use super::stage::{Counts, Move};
use super::{
    Address, Cause, Cleaner, Direction, Directory, Effect, Input, ItemName, Keep, Kept, Message, Mode, Mounts, Node,
    NodeName, Readiness, Reason, Record, Restored, Row, Signature, Time, TransferId,
};
use kept::Scripts;

/// How many items are queued for the hash threads at once; the driver has fewer threads, so this keeps them busy.
const HASHES: usize = 16;

super::stage::stages! {
    /// The stage of a transfer at its upload.
    Stage {
        /// Offered to central, which has not requested the item yet.
        Announced = "announced",
        /// Central has requested the item; queued for an rsync run.
        Granted = "granted",
        /// An rsync run carries the item.
        Sending = "sending",
        /// The run has ended; upload checks the source again.
        Checking = "checking",
        /// Sent as announced; central has not confirmed yet.
        Sent = "sent",
        /// Central holds a verified copy; receivers fetch it.
        Received = "received",
        /// Every required receiver has given its receipt; upload has to free the source.
        Releasing = "releasing",
        /// The cleanup script runs.
        Cleaning = "cleaning",
        /// The source is free; central has not confirmed yet.
        Freed = "freed",
        /// Cancelled or withdrawn; central has not confirmed yet.
        Withdrawing = "withdrawing",
        /// Finished: handed over.
        Closed = "closed",
        /// Finished: cancelled or withdrawn.
        Withdrawn = "withdrawn",
    }
}

/// Every move an upload's transfer can make, and why. docs/states.md shows the same table.
pub const MOVES: &[Move<Stage>] = &[
    (Stage::Announced, Stage::Granted, "central requests the item"),
    (Stage::Announced, Stage::Received, "central reports that it already holds the copy"),
    (Stage::Announced, Stage::Releasing, "central reports that all receipts are in"),
    (Stage::Announced, Stage::Withdrawing, "the source changed or disappeared, or an operator cancels the transfer"),
    (Stage::Granted, Stage::Sending, "a run starts"),
    (Stage::Granted, Stage::Announced, "central no longer knows the transfer, or queued it again for lack of space"),
    (Stage::Granted, Stage::Received, "central reports that it already holds the copy"),
    (Stage::Granted, Stage::Releasing, "central reports that all receipts are in"),
    (Stage::Granted, Stage::Withdrawing, "the source changed or disappeared, or an operator cancels the transfer"),
    (Stage::Sending, Stage::Granted, "the run failed or was stopped, or central requests the item at another path"),
    (Stage::Sending, Stage::Checking, "the run ended"),
    (Stage::Sending, Stage::Announced, "central no longer knows the transfer"),
    (Stage::Sending, Stage::Received, "central reports that it already holds the copy"),
    (Stage::Sending, Stage::Releasing, "central reports that all receipts are in"),
    (Stage::Sending, Stage::Withdrawing, "the source changed or disappeared, or an operator cancels the transfer"),
    (Stage::Checking, Stage::Sent, "the source still matches the announced item"),
    (Stage::Checking, Stage::Granted, "the source cannot be read, or central requests the item at another path"),
    (Stage::Checking, Stage::Announced, "central no longer knows the transfer"),
    (Stage::Checking, Stage::Received, "central reports that it already holds the copy"),
    (Stage::Checking, Stage::Releasing, "central reports that all receipts are in"),
    (Stage::Checking, Stage::Withdrawing, "the source changed or disappeared, or an operator cancels the transfer"),
    (Stage::Sent, Stage::Received, "central holds a verified copy"),
    (Stage::Sent, Stage::Granted, "central requests the item again"),
    (Stage::Sent, Stage::Announced, "central no longer knows the transfer"),
    (Stage::Sent, Stage::Releasing, "all receipts are in"),
    (Stage::Sent, Stage::Withdrawing, "an operator cancels the transfer"),
    (Stage::Received, Stage::Releasing, "all receipts are in"),
    (Stage::Received, Stage::Granted, "central requests the item again"),
    (Stage::Received, Stage::Announced, "central no longer knows the transfer"),
    (Stage::Received, Stage::Withdrawing, "an operator cancels the transfer"),
    (Stage::Releasing, Stage::Cleaning, "the source still matches the sent item: the cleanup starts"),
    (Stage::Releasing, Stage::Freed, "no cleanup is set, or the source changed or disappeared"),
    (Stage::Cleaning, Stage::Freed, "the cleanup succeeded"),
    (Stage::Cleaning, Stage::Releasing, "the cleanup failed"),
    (Stage::Freed, Stage::Closed, "central acknowledged it"),
    (Stage::Withdrawing, Stage::Received, "central holds the copy, and the source still matches it"),
    (Stage::Withdrawing, Stage::Releasing, "central reports that all receipts are in"),
    (Stage::Withdrawing, Stage::Freed, "central has all receipts, and an operator cancelled the transfer"),
    (Stage::Withdrawing, Stage::Withdrawn, "central acknowledged it"),
];

/// The settings of an upload.
#[derive(Debug, Clone)]
pub struct UploadSettings {
    /// Its name.
    pub me: NodeName,
    /// The version of its program, for its peers.
    pub version: String,
    /// How long an item must stay unchanged (`settle_seconds`).
    pub settle: Duration,
    /// How many levels of permanent directories are above items (`item_depth`).
    pub depth: usize,
    /// When an item counts as complete (`ready`, `marker`).
    pub ready: Readiness,
    /// What of the extras travels (`keep`).
    pub keep: Keep,
    /// How many rsync runs at once (`transfers`).
    pub slots: u32,
    /// Who cleans up its sources.
    pub cleanup: Cleaner,
    /// The host it runs on, for people to read; may be empty.
    pub host: String,
}

/// The upload role.
#[derive(Debug)]
pub struct Upload {
    pub(super) shared: Shared,
    settings: UploadSettings,
    items: BTreeMap<ItemName, Item>,
    transfers: BTreeMap<TransferId, Transfer>,
    counts: Counts<Stage>,
    /// The newest unfinished transfer of each name.
    latest: BTreeMap<ItemName, TransferId>,
    /// Transfers that this daemon has withdrawn, that are not finished yet, and after which nothing came under their
    /// names.
    leaving: BTreeMap<ItemName, TransferId>,
    kept: BTreeMap<ItemName, Kept>,
    /// Submitted items that no transfer carries yet.
    submitted: BTreeSet<ItemName>,
    hashing: Limiter<ItemName>,
    asked: BTreeMap<ItemName, Signature>,
    dispatch: Dispatch,
    cleaning: Cleanings,
    scripts: Scripts,
    scanned: bool,
}

/// An item as the watch sees it now.
#[derive(Debug)]
struct Item {
    signature: Signature,
    /// Unknown if only the signature was examined.
    size: Option<u64>,
    state: ItemState,
    since: Time,
    attempts: u32,
    /// An operator wants the item sent, whatever reason there is against it.
    insist: bool,
    /// The mount points in the item when it was last read.
    mounts: Mounts,
    /// Why it does not count as complete for lack of its marker.
    unmarked: Option<Reason>,
    /// The watch knows the name, so that it tells when the item is gone.
    watched: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum ItemState {
    /// Its quiet time runs.
    Settling,
    /// Queued for its digest, or being hashed.
    Hashing,
    /// Cannot be sent as it is.
    Held(Reason),
    /// Has to wait until an earlier transfer of its name has finished with the source.
    Behind,
    /// Is what a transfer carries.
    Bound,
    /// Was delivered and stays, or was left by a cleanup script.
    Kept,
    /// Is not sent automatically.
    Aside(Cause),
}

#[derive(Debug)]
struct Transfer {
    row: Row,
    stage: Stage,
    /// How often the owed message has been sent since it is owed.
    sends: u32,
    /// Who has cleaned up its source; the last look is under way.
    cleared: Option<Cleaner>,
    /// The directory was away before that look, so that a user may have written there since the script ended.
    unwatched: bool,
    /// The source has been touched: whether it still is what was announced is being looked at.
    doubted: bool,
    /// An operator moved it to the front of every queue; a restart forgets that.
    first: bool,
    /// The downloads that have it, once central has named them; a restart forgets that.
    receivers: Vec<NodeName>,
    /// The item was sent once, or may have been before the last start, so central may have held it.
    sent: bool,
}

impl Upload {
    /// Continues the work in the journal.
    pub fn new(settings: UploadSettings, restored: Restored, seed: u64, now: Time) -> Result<Self, super::BadRow> {
        let shared_settings = SharedSettings {
            me: Node::new(Mode::Upload, settings.me.clone()),
            version: settings.version.clone(),
            slots: settings.slots,
            host: settings.host.clone(),
            spool: None,
            seed,
        };
        let shared = Shared::new(shared_settings, &restored, now);
        // Only a script makes other items.
        let recent = if settings.cleanup.is_script() { restored.recent.as_slice() } else { &[] };
        let mut upload = Self {
            shared,
            items: BTreeMap::new(),
            transfers: BTreeMap::new(),
            counts: Counts::new(),
            latest: BTreeMap::new(),
            leaving: BTreeMap::new(),
            submitted: restored.submitted.into_iter().collect(),
            kept: restored.kept.into_iter().map(|kept| (kept.name.clone(), kept)).collect(),
            hashing: Limiter::new(HASHES),
            asked: BTreeMap::new(),
            dispatch: Dispatch::new(Direction::Push, settings.slots),
            cleaning: Cleanings::new(settings.cleanup),
            scripts: Scripts::restored(recent),
            scanned: false,
            settings,
        };
        if upload.settings.ready != Readiness::Submit {
            // Of an earlier config.
            for name in std::mem::take(&mut upload.submitted) {
                upload.shared.persist(Record::Unsubmitted(name));
            }
        }
        for mut row in restored.rows {
            upload.shared.on_restored(&mut row);
            upload.restore(row)?;
        }
        Ok(upload)
    }

    fn restore(&mut self, row: Row) -> Result<(), super::BadRow> {
        let stage = Stage::parse(&row.stage).ok_or_else(|| super::BadRow::stage(&row))?;
        let missing = |column| super::BadRow::column(&row, column);
        if row.signature.is_none() {
            return Err(missing("signature"));
        }
        let id = row.transfer;
        let stage = match stage {
            Stage::Cleaning => Stage::Releasing,
            Stage::Sending | Stage::Checking => Stage::Granted,
            other => other,
        };
        if stage == Stage::Granted && (row.place.is_none() || row.location.is_none()) {
            return Err(missing("place"));
        }
        if stage != Stage::Withdrawing {
            self.latest.insert(row.name.clone(), id);
        }
        if row.cleaned && self.settings.cleanup.is_script() {
            self.scripts.resume(&row, stage == Stage::Freed);
        }
        self.insert(row, stage);
        match stage {
            Stage::Granted => self.line_up(id),
            Stage::Releasing => self.join_cleanups(id),
            Stage::Received => self.ask_later(id),
            _ => {}
        }
        Ok(())
    }

    fn insert(&mut self, row: Row, stage: Stage) {
        self.counts.enter(stage);
        // It is unknown how far the work of before the last start got.
        let sent = stage == Stage::Sent || row.began.is_some();
        let transfer = Transfer {
            row,
            stage,
            sends: 0,
            cleared: None,
            unwatched: false,
            doubted: false,
            first: false,
            receivers: Vec::new(),
            sent,
        };
        self.transfers.insert(transfer.row.transfer, transfer);
    }

    pub(super) fn handle(&mut self, input: Input) {
        match input {
            Input::Timeout => {}
            Input::Connected => {
                self.shared.on_connected();
                self.wake(|_| true);
            }
            Input::Disconnected(why) => self.shared.on_disconnected(why),
            Input::Received { from, message } => self.on_message(&from, message),
            Input::Directory(found) => self.on_directory(found),
            Input::Seen(sighting) => self.on_seen(sighting),
            Input::Vanished(name) => self.on_vanished(&name),
            Input::Scanned => self.on_scanned(),
            Input::Hashed { item, outcome } => self.on_hashed(&item, outcome),
            Input::Looked { transfer, sight } => self.on_looked(transfer, sight),
            Input::Progress { run, bytes, rate } => self.dispatch.on_progress(run, bytes, rate),
            Input::Ran { run, outcome } => self.on_ran(run, &outcome),
            Input::Cleaned { transfer, outcome } => self.on_cleaned(transfer, outcome),
            Input::Space(space) => self.shared.space = Some(space),
            Input::Taken { .. }
            | Input::Verified { .. }
            | Input::Placed { .. }
            | Input::Dropped { .. }
            | Input::LookedUp { .. }
            | Input::Explained { .. }
            | Input::Swept { .. } => self.shared.unexpected(None, None, "an answer that upload never requests"),
        }
        self.go_on_with_work();
    }

    fn on_directory(&mut self, found: Directory) {
        match self.shared.on_directory(found) {
            Turn::Same => {}
            Turn::Lost => {
                self.dispatch.halt(&mut self.shared, |_| true);
                let cleaning = self.transfers.values_mut().filter(|transfer| transfer.stage == Stage::Cleaning);
                cleaning.for_each(|transfer| transfer.unwatched = true);
                self.tell_of_directory();
            }
            Turn::Back => self.tell_of_directory(),
        }
    }

    /// Tells central that the work continues, or why not.
    fn tell_of_directory(&mut self) {
        self.shared.hello(Address::All, false);
        let granted = self.transfers.iter().filter(|(_, transfer)| transfer.stage == Stage::Granted);
        granted.map(|(id, _)| *id).collect::<Vec<_>>().into_iter().for_each(|id| self.tell_central(id));
    }

    /// Handles due deadlines, and starts what can start.
    fn go_on_with_work(&mut self) {
        while let Some(timer) = self.shared.timers.expire(self.shared.now) {
            self.on_timer(timer);
        }
        self.start_hashes();
        self.start_runs();
        self.start_cleanups();
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Hello => self.shared.hello(Address::All, false),
            Timer::Settle(name) => self.on_settled(&name),
            Timer::Forget(name) => self.forget_kept(&name),
            Timer::Send(id) => {
                if self.transfers.get(&id).is_some_and(|transfer| transfer.stage == Stage::Received) {
                    self.ask_later(id);
                }
                self.send_owed(id);
            }
            Timer::Retry(id) => self.on_retry(id),
            // The queue is examined after every input, so waking up is enough for a host's turn.
            Timer::Host(_) | Timer::Cleanups => {}
            Timer::Measure | Timer::Gather | Timer::SendTo(..) | Timer::Keep(_) | Timer::Sweep => {
                self.shared.unexpected(None, None, "a timer that upload does not have");
            }
        }
    }

    fn on_message(&mut self, from: &Node, message: Message) {
        let hello = if let Message::Hello(hello) = &message { Some(hello) } else { None };
        let greeting = self.shared.on_message(from, hello.map(|hello| &**hello));
        if greeting.apart {
            return;
        }
        if greeting.ordered && self.shared.group.stop {
            self.dispatch.halt(&mut self.shared, |_| true);
        }
        if from.mode == Mode::Central {
            if let Some(hello) = hello.filter(|_| greeting.back) {
                // A place has the id of the journal that granted it, even if no hello of that journal arrived.
                let forgot = greeting.forgot;
                let journal = hello.journal;
                let forgotten = |row: &Row| row.place.map_or(forgot, |place| place.journal != journal);
                self.announce_again(|row| row.central.as_ref() == Some(&from.name) && forgotten(row), from);
            }
            if greeting.back {
                self.wake(|row| row.central.as_ref().is_none_or(|central| *central == from.name));
            }
            self.on_central(from, message);
        } else if hello.is_none() {
            self.shared.unexpected(Some(from), None, message.kind());
        }
    }

    /// Repeats at once what the chosen transfers owe.
    fn wake(&mut self, chosen: impl Fn(&Row) -> bool) {
        let owing = self.transfers.iter().filter(|(_, it)| it.stage.owes_a_message() && chosen(&it.row));
        self.shared.send_now(owing.map(|(id, _)| *id));
    }

    /// Moves a transfer on, journals the move and sends what the transfer now owes.
    fn move_to(&mut self, id: TransferId, stage: Stage, reason: Option<Reason>) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let Transfer { row, stage: at, .. } = transfer;
        let lasting = self.shared.move_row(row, (at, stage), reason, &mut self.counts);
        let now = self.shared.now;
        match stage {
            Stage::Sending if transfer.row.began.is_none() => {
                transfer.row.began = Some(now);
                self.shared.dirty.insert(id);
            }
            Stage::Received | Stage::Releasing if transfer.row.arrived.is_none() => transfer.row.arrived = Some(now),
            _ => {}
        }
        transfer.sends = 0;
        transfer.sent |= stage == Stage::Sent;
        transfer.doubted &= stage.is_early();
        if lasting || stage.is_over() {
            self.shared.dirty.insert(id);
        }
        let name = transfer.row.name.clone();
        if stage.owes_a_message() {
            self.shared.timers.set(Timer::Send(id), self.shared.now);
        } else if stage == Stage::Received {
            self.ask_later(id);
        } else {
            self.shared.timers.stop(&Timer::Send(id));
        }
        if stage != Stage::Granted {
            self.dispatch.leave_line(id);
        }
        if stage.is_over() {
            self.finish(id);
        }
        self.let_go(&name);
    }

    fn finish(&mut self, id: TransferId) {
        let Some(mut transfer) = self.transfers.remove(&id) else { return };
        self.shared.close_row(&mut transfer.row, transfer.stage, &mut self.counts);
        for by_name in [&mut self.latest, &mut self.leaving] {
            if by_name.get(&transfer.row.name) == Some(&id) {
                by_name.remove(&transfer.row.name);
            }
        }
    }

    fn line_up(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id).filter(|transfer| transfer.stage == Stage::Granted) else {
            return;
        };
        let row = &transfer.row;
        // A transfer that is paused alone is in no queue; resume puts it back.
        let Some(location) = row.location.clone().filter(|_| row.paused.is_none() && !transfer.doubted) else { return };
        let (name, room) = (row.name.clone(), row.room());
        let keep = row.extras.carried();
        self.dispatch.add(Ready { transfer: id, name, room, attempts: row.attempts, location, keep });
        if transfer.first {
            self.dispatch.put_first(id);
        }
    }

    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        let doing = self.shared.greets().then(|| self.doing());
        self.shared.poll(|id| self.transfers.get(id).map(|transfer| (&transfer.row, transfer.stage)), doing)
    }
}

impl Row {
    /// Whether an operator has cancelled it, not a change of its source.
    fn is_ordered_away(&self) -> bool {
        self.reason.as_ref().is_some_and(|reason| reason.cause() == Cause::Withdrawn)
    }
}

impl Stage {
    /// Whether a message about it has to be repeated until the peer answers. A granted transfer tells central why it
    /// has not been sent, once there is a reason.
    fn owes_a_message(self) -> bool {
        matches!(self, Self::Announced | Self::Granted | Self::Sent | Self::Freed | Self::Withdrawing)
    }

    fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Withdrawn)
    }

    /// Whether central cannot hold a verified copy yet, as far as this node knows.
    fn is_early(self) -> bool {
        matches!(self, Self::Announced | Self::Granted | Self::Sending | Self::Checking)
    }
}

impl Stages for Stage {
    const MOVES: &'static [Move<Self>] = MOVES;

    fn word(self) -> &'static str {
        self.as_str()
    }

    fn stored(self) -> Self {
        match self {
            Self::Sending | Self::Checking => Self::Granted,
            other => other,
        }
    }
}
