//! Download: fetches what central offers, proves it, gives it its final name, says so, and cleans up.
//!
//! Why nothing is delivered twice or in part. One rename of a verified and durable copy gives the final name. Before
//! the rename, the journal has the intent and the inode of the copy. After it, the journal has the delivery, and only
//! then download sends the receipt. After a crash in between, download checks whether staging still has that inode. An
//! offer of a transfer that the machine does not know goes to the journal first, which remembers deliveries much
//! longer.

mod deliver;
mod fetch;
mod operator;
mod prove;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use super::cleanings::Cleanings;
use super::dispatch::{ALONE_AFTER, Dispatch, Limiter, Ready};
use super::lives::Stages;
use super::lost_directory::Turn;
use super::room::Room;
use super::shared::{Shared, SharedSettings, Timer};
use super::stage::{Counts, Move, Why};
use super::{
    Address, BadRow, Cause, Cleaner, Direction, Directory, Effect, Forward, Input, ItemName, KeepModes, Location,
    Message, Mode, Node, NodeName, Ownership, Reason, Receipt, Restored, Row, Space, Time, TransferId, Wait,
};

const VERIFIES: usize = 16;
const PLACES: usize = 64;
/// How many offers may wait for the journal's answer; central sends the others again.
const LOOKUPS: usize = 2000;

super::stage::stages! {
    /// The stage of a transfer at a download.
    Stage {
        /// Offered by central; queued for an rsync run.
        Wanted = "wanted",
        /// An rsync run fetches the item.
        Pulling = "pulling",
        /// Download verifies the copy and makes it durable.
        Verifying = "verifying",
        /// Verified; download gives the item its final name.
        Placing = "placing",
        /// The item has its final name; the script has not run, or failed.
        Delivered = "delivered",
        /// The cleanup script runs.
        Cleaning = "cleaning",
        /// Only central's confirmation of the receipt is missing.
        Cleaned = "cleaned",
        /// Finished: delivered.
        Closed = "closed",
        /// Finished: cancelled by central before the item had its final name.
        Withdrawn = "withdrawn",
    }
}

/// Every move a transfer can make at a download, and why. docs/states.md shows the same table.
pub const MOVES: &[Move<Stage>] = &[
    (Stage::Wanted, Stage::Pulling, "a run starts"),
    (Stage::Wanted, Stage::Withdrawn, "central cancels the transfer or does not know it"),
    (Stage::Pulling, Stage::Verifying, "the run ended"),
    (Stage::Pulling, Stage::Wanted, "the run failed or was stopped"),
    (Stage::Pulling, Stage::Withdrawn, "central cancels the transfer or does not know it"),
    (Stage::Verifying, Stage::Placing, "the copy matches the announced item"),
    (Stage::Verifying, Stage::Wanted, "the copy differs or is missing"),
    (Stage::Verifying, Stage::Withdrawn, "central cancels the transfer or does not know it"),
    (Stage::Placing, Stage::Delivered, "the item has its final name on disk"),
    (Stage::Placing, Stage::Wanted, "the staged copy is gone"),
    (Stage::Placing, Stage::Withdrawn, "central cancels the transfer while the name is taken"),
    (Stage::Delivered, Stage::Cleaning, "the cleanup starts"),
    (Stage::Delivered, Stage::Cleaned, "no cleanup is set, or the item is already gone"),
    (Stage::Cleaning, Stage::Cleaned, "the cleanup succeeded"),
    (Stage::Cleaning, Stage::Delivered, "the cleanup failed"),
    (Stage::Cleaned, Stage::Closed, "central acknowledged the receipt"),
];

/// The settings of a download.
#[derive(Debug, Clone)]
pub struct DownloadSettings {
    /// Its name.
    pub me: NodeName,
    /// The version of its program, for its peers.
    pub version: String,
    /// How many rsync runs at once (`transfers`).
    pub slots: u32,
    /// Who cleans up what it has delivered.
    pub cleanup: Cleaner,
    /// What is done about modes (`keep_modes`).
    pub keep_modes: KeepModes,
    /// Whose delivered items are; the drivers apply it.
    pub ownership: Ownership,
    /// The directory of delivered items (`file_dir`), for people.
    pub directory: String,
    /// The host on which it runs, for people; may be empty.
    pub host: String,
}

/// The download role.
#[derive(Debug)]
pub struct Download {
    pub(super) shared: Shared,
    settings: DownloadSettings,
    transfers: BTreeMap<TransferId, Transfer>,
    counts: Counts<Stage>,
    /// Offers that wait for the journal to say whether they have been here before.
    lookups: BTreeMap<TransferId, Offered>,
    by_name: BTreeMap<ItemName, BTreeSet<TransferId>>,
    dispatch: Dispatch,
    verifying: Limiter<TransferId>,
    placing: Limiter<TransferId>,
    cleaning: Cleanings,
    /// The result of the last measurement; `None` while a measurement runs.
    space: Option<Space>,
    /// What has arrived since the last measurement began.
    arrived: Room,
}

#[derive(Debug)]
struct Offered {
    item: Forward,
    location: Location,
    central: NodeName,
}

#[derive(Debug)]
struct Transfer {
    row: Row,
    stage: Stage,
    sends: u32,
    /// The reason that download last told central.
    told: Option<Reason>,
    /// The current placing may replace the file that has the name.
    replacing: bool,
    /// Download is removing a bad copy from staging.
    dropping: bool,
    /// Staging is empty for this transfer, unless a removal failed.
    emptied: bool,
    /// The run that fetched it left something out for lack of space.
    short: Option<Box<Short>>,
    /// An operator moved it to the front of every queue; a restart forgets that.
    first: bool,
}

#[derive(Debug)]
struct Short {
    reason: Reason,
    /// The transfer had a run of its own, so the missing space is that of this transfer.
    alone: bool,
}

impl Download {
    /// Continues the work in the journal.
    pub fn new(settings: DownloadSettings, restored: Restored, seed: u64, now: Time) -> Result<Self, BadRow> {
        let shared_settings = SharedSettings {
            me: Node::new(Mode::Download, settings.me.clone()),
            version: settings.version.clone(),
            slots: settings.slots,
            host: settings.host.clone(),
            spool: None,
            seed,
        };
        let mut download = Self {
            shared: Shared::new(shared_settings, &restored, now),
            transfers: BTreeMap::new(),
            counts: Counts::new(),
            lookups: BTreeMap::new(),
            by_name: BTreeMap::new(),
            dispatch: Dispatch::new(Direction::Pull, settings.slots),
            verifying: Limiter::new(VERIFIES),
            placing: Limiter::new(PLACES),
            cleaning: Cleanings::new(settings.cleanup),
            space: None,
            arrived: Room::default(),
            settings,
        };
        for mut row in restored.rows {
            download.shared.on_restored(&mut row);
            download.restore(row)?;
        }
        download.sweep();
        Ok(download)
    }

    /// For an item with its final name, staging can have only leftovers.
    fn sweep(&mut self) {
        let staged = self.transfers.iter().filter(|(_, transfer)| !transfer.stage.is_delivered());
        let transfers = staged.map(|(id, _)| *id).collect();
        self.shared.effect(Effect::Sweep { transfers, places: BTreeSet::new() });
    }

    fn on_directory(&mut self, found: Directory) {
        match self.shared.on_directory(found) {
            Turn::Same => {}
            Turn::Lost => {
                self.dispatch.halt(&mut self.shared, |_| true);
                self.shared.hello(Address::All, false);
                self.tell_all();
            }
            Turn::Back => self.on_directory_back(),
        }
    }

    /// Continues the work in the directory, and sends receipts again.
    fn on_directory_back(&mut self) {
        self.sweep();
        // The last measurement was of another file system.
        self.space = None;
        self.shared.timers.stop(&Timer::Measure);
        self.shared.hello(Address::All, false);
        self.tell_all();
    }

    /// Tells central why there is no receipt, or sends the receipt.
    fn tell_all(&mut self) {
        self.transfers.values_mut().for_each(|transfer| transfer.sends = 0);
        self.wake(|_| true);
    }

    fn restore(&mut self, row: Row) -> Result<(), BadRow> {
        let stage = match Stage::parse(&row.stage).ok_or_else(|| BadRow::stage(&row))? {
            Stage::Pulling | Stage::Verifying => Stage::Wanted,
            Stage::Cleaning => Stage::Delivered,
            other => other,
        };
        if row.central.is_none() {
            return Err(BadRow::column(&row, "central"));
        }
        if stage == Stage::Wanted && row.location.is_none() {
            return Err(BadRow::column(&row, "location"));
        }
        if stage == Stage::Placing && row.inode.is_none() {
            return Err(BadRow::column(&row, "inode"));
        }
        let id = row.transfer;
        self.insert(row, stage);
        match stage {
            Stage::Wanted => self.line_up_restored(id),
            Stage::Placing => self.placing.join(id),
            Stage::Delivered => self.join_cleanups(id),
            _ => {}
        }
        Ok(())
    }

    fn insert(&mut self, row: Row, stage: Stage) {
        self.by_name.entry(row.name.clone()).or_default().insert(row.transfer);
        self.counts.enter(stage);
        let transfer = Transfer {
            row,
            stage,
            sends: 0,
            told: None,
            replacing: false,
            dropping: false,
            short: None,
            emptied: false,
            first: false,
        };
        self.transfers.insert(transfer.row.transfer, transfer);
    }

    fn line_up(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        let row = &transfer.row;
        // A transfer that is paused alone is in no queue; resume puts it back.
        let Some(location) = row.location.clone().filter(|_| row.paused.is_none()) else { return };
        let (name, room) = (row.name.clone(), row.room());
        // A transfer for which space was missing must not make others fail with it.
        let lacked_room = row.reason.as_ref().is_some_and(|reason| reason.cause() == Cause::Space);
        let attempts = if lacked_room { row.attempts.max(ALONE_AFTER) } else { row.attempts };
        let keep = self.kept(&row.extras).carried();
        self.dispatch.add(Ready { transfer: id, name, room, attempts, location, keep });
        if transfer.first {
            self.dispatch.put_first(id);
        }
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
            Input::Progress { run, bytes, rate } => self.dispatch.on_progress(run, bytes, rate),
            Input::Ran { run, outcome } => self.on_ran(run, &outcome),
            Input::Directory(found) => self.on_directory(found),
            Input::Verified { transfer, outcome } => self.on_verified(transfer, outcome),
            Input::Placed { transfer, outcome } => self.on_placed(transfer, outcome),
            Input::Looked { transfer, sight } => self.on_looked(transfer, sight),
            Input::Cleaned { transfer, outcome } => self.on_cleaned(transfer, outcome),
            Input::LookedUp { question, row } => self.on_looked_up(&question, row),
            Input::Space(space) => {
                self.shared.space = Some(space);
                self.space = Some(space);
            }
            // The sweep at the next start removes what could not be removed from staging.
            Input::Dropped { transfer, outcome } => self.on_dropped(transfer, outcome),
            Input::Explained { transfer, differences } => self.on_explained(transfer, differences),
            // The verification or the placing finds out what is missing in staging.
            Input::Swept { .. } => {}
            Input::Seen(_) | Input::Vanished(_) | Input::Scanned | Input::Hashed { .. } | Input::Taken { .. } => {
                self.shared.unexpected(None, None, "an answer that download never requests");
            }
        }
        self.go_on_with_work();
    }

    /// Handles due deadlines, and starts what can start.
    fn go_on_with_work(&mut self) {
        while let Some(timer) = self.shared.timers.expire(self.shared.now) {
            self.on_timer(timer);
        }
        self.start_runs();
        self.start_verifies();
        self.start_places();
        self.start_cleanups();
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Hello => self.shared.hello(Address::All, false),
            Timer::Send(id) => self.send_owed(id),
            Timer::Retry(id) => self.on_retry(id),
            // `start_runs` measures again if no measurement is running.
            Timer::Measure => {}
            // The queue is examined after every input, so waking up is enough for a host's turn.
            Timer::Host(_) | Timer::Gather | Timer::Cleanups => {}
            Timer::Settle(_) | Timer::Forget(_) | Timer::SendTo(..) | Timer::Keep(_) | Timer::Sweep => {
                self.shared.unexpected(None, None, "a timer that download does not have");
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
        if from.mode == Mode::Central && greeting.back {
            self.wake(|row| row.central.as_ref() == Some(&from.name));
        }
        match (from.mode, message) {
            (_, Message::Hello(_)) => {}
            (Mode::Central, Message::Download { location, items }) => {
                items.into_iter().for_each(|item| self.on_offered(from, item, &location));
            }
            (Mode::Central, Message::Noted(list)) => list.into_iter().for_each(|id| self.on_noted(from, id)),
            (Mode::Central, Message::Withdraw(list)) => {
                list.into_iter().for_each(|id| self.on_withdrawn(from, id, "cancelled by central"));
            }
            (Mode::Central, Message::Unknown(list)) => {
                list.into_iter().for_each(|id| self.on_withdrawn(from, id, "unknown to central"));
            }
            (_, other) => self.shared.unexpected(Some(from), None, other.kind()),
        }
    }

    /// Repeats at once what the chosen transfers owe.
    fn wake(&mut self, chosen: impl Fn(&Row) -> bool) {
        let chosen = self.transfers.iter().filter(|(_, transfer)| chosen(&transfer.row));
        self.shared.send_now(chosen.map(|(id, _)| *id));
    }

    /// The receipt, until central has noted it; before that, why there is none yet.
    fn send_owed(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let row = &transfer.row;
        let Some(central) = row.central.clone() else { return };
        let to = Address::Node(Node::new(Mode::Central, central));
        if !self.shared.may_send(&to, transfer.sends) {
            return;
        }
        let no_directory = self.shared.no_directory.as_ref();
        let message = if transfer.stage.is_delivered() {
            // A receipt confirms that the item is there.
            if row.acknowledged || no_directory.is_some() {
                return;
            }
            Message::Done(vec![Receipt { transfer: id, fingerprint: row.fingerprint, remark: row.remark.clone() }])
        } else {
            let reason = match (&row.paused, no_directory.or(row.reason.as_ref())) {
                (Some(pause), _) if transfer.stage == Stage::Wanted => Why::Paused(pause).reason(),
                (_, Some(reason)) => reason.clone(),
                (_, None) => Reason::new(transfer.stage.cause()),
            };
            transfer.told = Some(reason.clone());
            Message::Waiting(vec![Wait { transfer: id, reason }])
        };
        transfer.sends += 1;
        // The reason of a wait answers a repeated offer of central; a receipt is owed.
        let owed = transfer.stage.is_delivered();
        let sends = transfer.sends;
        self.shared.send(to, message);
        let wait = if owed { self.shared.repeat_after(sends) } else { self.shared.repeat_answered() };
        self.shared.timers.set(Timer::Send(id), self.shared.now.after(wait));
    }

    fn move_to(&mut self, id: TransferId, stage: Stage, reason: Option<Reason>) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let receipt_due = stage.is_delivered() && !transfer.stage.is_delivered();
        let news = !stage.is_delivered() && reason.is_some() && transfer.told != reason;
        let Transfer { row, stage: at, .. } = transfer;
        let lasting = self.shared.move_row(row, (at, stage), reason, &mut self.counts);
        if stage == Stage::Pulling && transfer.row.began.is_none() {
            transfer.row.began = Some(self.shared.now);
            self.shared.dirty.insert(id);
        }
        if lasting {
            self.shared.dirty.insert(id);
        }
        if receipt_due || news {
            transfer.sends = 0;
            self.shared.timers.set(Timer::Send(id), self.shared.now);
        }
        if stage != Stage::Wanted {
            self.dispatch.leave_line(id);
        }
    }

    fn finish(&mut self, id: TransferId) {
        let Some(mut transfer) = self.transfers.remove(&id) else { return };
        self.shared.close_row(&mut transfer.row, transfer.stage, &mut self.counts);
        let row = &transfer.row;
        for line in [&mut self.verifying, &mut self.placing] {
            line.give_up(&id);
        }
        self.cleaning.forget(&id);
        self.dispatch.leave_line(id);
        self.dispatch.disown(&mut self.shared, id);
        if let Some(same) = self.by_name.get_mut(&row.name) {
            same.remove(&id);
            if same.is_empty() {
                self.by_name.remove(&row.name);
            }
        }
    }

    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        let doing = self.shared.greets().then(|| self.doing());
        self.shared.poll(|id| self.transfers.get(id).map(|transfer| (&transfer.row, transfer.stage)), doing)
    }
}

impl Stage {
    fn is_delivered(self) -> bool {
        matches!(self, Self::Delivered | Self::Cleaning | Self::Cleaned | Self::Closed)
    }

    fn cause(self) -> Cause {
        match self {
            Self::Wanted | Self::Placing | Self::Delivered => Cause::Queued,
            Self::Pulling => Cause::Running,
            Self::Verifying => Cause::Hashing,
            Self::Cleaning => Cause::Cleaning,
            Self::Cleaned | Self::Closed | Self::Withdrawn => Cause::Acknowledgement,
        }
    }
}

impl Stages for Stage {
    const MOVES: &'static [Move<Self>] = MOVES;

    fn word(self) -> &'static str {
        self.as_str()
    }

    fn stored(self) -> Self {
        match self {
            Self::Pulling | Self::Verifying => Self::Wanted,
            other => other,
        }
    }
}
