//! Central: requests items as space allows, verifies its copies, passes them on to every required receiver, and deletes
//! them some time after the last receipt.
//!
//! Why a copy is safe here. A verified copy is dropped in one place only (`keep::on_keep`). Then every required
//! receiver's receipt is journalled, and `keep_minutes` have passed since the last one. Central also drops a copy that
//! differs from the announced item, and requests the item again; its source still exists, because central has sent no
//! release. The journal fixes the required receivers when the copy is verified, so a restart omits none.

mod admit;
mod forward;
mod keep;
mod lost_directory;
mod operator;
mod prove;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::dispatch::{FIRST_ORDER, Limiter};
use super::lives::Stages;
use super::room::Room;
use super::shared::{Shared, SharedSettings, Timer};
use super::stage::{Counts, Move};
use super::{
    Address, BadRow, Cause, Effect, Input, ItemName, KeepModes, Location, Message, Mode, Node, NodeName, Offer,
    PlaceId, Question, Reason, Restored, Row, Space, Time, TransferId, Wait,
};

/// How many copies are hashed at once.
const TAKES: usize = 32;
/// How long after it dropped a place central looks through its spool for files of a late run.
const SWEEP_AFTER: Duration = Duration::from_secs(60 * 60);

super::stage::stages! {
    /// The stage of a transfer at central.
    Stage {
        /// Offered; central has not requested the item yet, or has to request it again.
        Waiting = "waiting",
        /// Upload has been asked to send the item, and its space is reserved.
        Granted = "granted",
        /// The copy is verified; receivers fetch it.
        Held = "held",
        /// Every required receiver has given its receipt.
        Released = "released",
        /// Finished: handed over, the copy is deleted.
        Closed = "closed",
        /// Finished: cancelled by an operator or withdrawn by its upload.
        Withdrawn = "withdrawn",
    }
}

/// Every move a transfer can make at central, and why. docs/states.md shows the same table.
pub const MOVES: &[Move<Stage>] = &[
    (Stage::Waiting, Stage::Granted, "space is free, a receiver is known and it is the item's turn"),
    (Stage::Waiting, Stage::Withdrawn, "upload cancels the transfer, or has already released the source"),
    (
        Stage::Waiting,
        Stage::Released,
        "the last receipt arrived before the copy was sent again, or the missing receiver was removed",
    ),
    (Stage::Granted, Stage::Held, "the copy matches the announced item"),
    (Stage::Granted, Stage::Waiting, "the copy differs, is missing or does not fit, or no receiver is left"),
    (Stage::Granted, Stage::Withdrawn, "upload cancels the transfer, or has already released the source"),
    (
        Stage::Granted,
        Stage::Released,
        "the last receipt arrived before the copy was sent again, or the missing receiver was removed",
    ),
    (Stage::Held, Stage::Released, "the last required receipt arrived, or the missing receiver was removed"),
    (Stage::Held, Stage::Waiting, "the copy is missing or differs, or every required receiver was removed"),
    (Stage::Held, Stage::Withdrawn, "an operator cancels the transfer"),
    (Stage::Released, Stage::Closed, "keep_minutes are over, the copy is deleted and the source released"),
];

/// The settings of a central.
#[derive(Debug, Clone)]
pub struct CentralSettings {
    /// Its name.
    pub me: NodeName,
    /// The version of its program, for its peers.
    pub version: String,
    /// The downloads that must all send a receipt (`receivers`); `None`: every known download.
    pub receivers: Option<BTreeSet<NodeName>>,
    /// How long a copy stays after the last receipt (`keep_minutes`).
    pub keep: Duration,
    /// The part of the file system that stays free (`free_percent`), in thousandths of a percent.
    pub free_millipercent: u32,
    /// What central does with the modes of its copies (`keep_modes`).
    pub keep_modes: KeepModes,
    /// Whether the file system of the spool has hard links.
    pub links: bool,
    /// Where other nodes reach the directory that holds `in/` and `held/`.
    pub spool: Location,
    /// The host on which it runs, for people; may be empty.
    pub host: String,
}

/// The central role.
#[derive(Debug)]
pub struct Central {
    pub(super) shared: Shared,
    settings: CentralSettings,
    transfers: BTreeMap<TransferId, Transfer>,
    counts: Counts<Stage>,
    /// The unfinished transfers of one name of an upload, in the order of their offers.
    by_name: BTreeMap<(NodeName, ItemName), BTreeSet<(u64, TransferId)>>,
    /// Per upload, the queue of transfers to request, by their turn.
    lines: BTreeMap<NodeName, BTreeSet<(u64, TransferId)>>,
    /// The requested transfers that are not settled, by place.
    places: BTreeMap<PlaceId, BTreeSet<TransferId>>,
    taking: Limiter<TransferId>,
    /// Offers that wait for the journal to say whether they have been here before.
    lookups: BTreeMap<TransferId, (NodeName, Offer)>,
    next_order: u64,
    /// The turn of the transfer that was last moved to the front.
    first_turn: u64,
    next_place: u64,
    /// The result of the last measurement; `None` while a measurement runs.
    space: Option<Space>,
    /// What has arrived since the last measurement began.
    arrived: Room,
    /// The space reserved for requested items that have not arrived.
    reserved: Room,
    /// Verified copies that wait for others which are being verified, and their receivers, so that receivers fetch them
    /// together.
    gathered: BTreeSet<(TransferId, NodeName)>,
    /// When central last requested something from each upload.
    granted: BTreeMap<NodeName, Time>,
    /// Copies that the journal lists and that central has not seen since the start.
    unseen: BTreeSet<TransferId>,
    /// The number of running searches for missing copies; only the result of the last one counts.
    sweeps: u32,
}

#[derive(Debug)]
struct Transfer {
    row: Row,
    stage: Stage,
    /// The order of its offer, among those of its name.
    order: u64,
    /// Its turn in the queue: its order, unless an operator moved it to the front; a restart forgets that.
    turn: u64,
    sends: u32,
    /// The cause that central last told upload.
    told: Option<Cause>,
    /// What is missing, as last told to upload, and whether for good.
    lacks: Option<(&'static str, bool)>,
    /// Central is removing a bad copy. It may request the item again only after that.
    dropping: bool,
    /// The last attempt to remove it failed.
    undropped: bool,
    /// What was sent to each receiver, and what it reported.
    receivers: BTreeMap<NodeName, Receiver>,
}

#[derive(Debug, Default)]
struct Receiver {
    sends: u32,
    reason: Option<Reason>,
    /// When central last read its copy again because of what it reported.
    doubted: Option<Time>,
}

impl Central {
    /// Continues the work in the journal.
    pub fn new(settings: CentralSettings, restored: Restored, seed: u64, now: Time) -> Result<Self, BadRow> {
        let shared_settings = SharedSettings {
            me: Node::new(Mode::Central, settings.me.clone()),
            version: settings.version.clone(),
            slots: 0,
            host: settings.host.clone(),
            spool: Some(settings.spool.clone()),
            seed,
        };
        let mut central = Self {
            shared: Shared::new(shared_settings, &restored, now),
            transfers: BTreeMap::new(),
            counts: Counts::new(),
            by_name: BTreeMap::new(),
            lines: BTreeMap::new(),
            places: BTreeMap::new(),
            taking: Limiter::new(TAKES),
            lookups: BTreeMap::new(),
            next_order: FIRST_ORDER,
            first_turn: FIRST_ORDER,
            // A journal restored from an older copy does not know the last places: no number may be used twice.
            next_place: restored.next_place.max(now.as_millis()),
            space: None,
            arrived: Room::default(),
            reserved: Room::default(),
            gathered: BTreeSet::new(),
            granted: BTreeMap::new(),
            unseen: BTreeSet::new(),
            sweeps: 0,
            settings,
        };
        for mut row in restored.rows {
            central.shared.on_restored(&mut row);
            central.restore(row)?;
        }
        central.sweep();
        // An upload that does not know of the restart may still be sending to an earlier place.
        central.shared.timers.set(Timer::Sweep, now.after(SWEEP_AFTER));
        Ok(central)
    }

    fn restore(&mut self, row: Row) -> Result<(), BadRow> {
        let stage = Stage::parse(&row.stage).ok_or_else(|| BadRow::stage(&row))?;
        let id = row.transfer;
        match stage {
            Stage::Granted => {
                let place = row.place.ok_or_else(|| BadRow::column(&row, "place"))?;
                self.places.entry(place).or_default().insert(id);
                self.reserved = self.reserved.plus(row.room());
            }
            Stage::Released => {
                let last = row.receivers.iter().filter_map(|(_, at)| *at).max().unwrap_or(row.since);
                if !row.cleaned {
                    self.shared.timers.set(Timer::Keep(id), last.after(self.settings.keep));
                }
            }
            Stage::Held => drop(self.unseen.insert(id)),
            _ => {}
        }
        let transfer = self.insert(row, stage);
        match stage {
            Stage::Waiting => self.line_up_restored(transfer),
            Stage::Granted => _ = self.wait_for_person(transfer),
            _ => {}
        }
        Ok(())
    }

    fn insert(&mut self, row: Row, stage: Stage) -> TransferId {
        let (id, order) = (row.transfer, self.next_order);
        self.next_order += 1;
        let receivers = row.receivers.iter().map(|(name, _)| (name.clone(), Receiver::default())).collect();
        self.by_name.entry((row.upload.clone(), row.name.clone())).or_default().insert((order, id));
        self.counts.enter(stage);
        self.transfers.insert(
            id,
            Transfer {
                row,
                stage,
                order,
                turn: order,
                sends: 0,
                told: None,
                lacks: None,
                dropping: false,
                undropped: false,
                receivers,
            },
        );
        id
    }

    fn line_up(&mut self, id: TransferId) {
        // A transfer that is paused alone is in no queue; resume puts it back.
        if let Some(transfer) = self.transfers.get(&id).filter(|transfer| transfer.row.paused.is_none()) {
            self.lines.entry(transfer.row.upload.clone()).or_default().insert((transfer.turn, id));
        }
    }

    pub(super) fn handle(&mut self, input: Input) {
        match input {
            Input::Timeout => {}
            Input::Connected => {
                self.shared.on_connected();
                self.wake(None);
            }
            Input::Disconnected(why) => self.shared.on_disconnected(why),
            Input::Received { from, message } => self.on_message(&from, message),
            Input::Directory(found) => self.on_directory(found),
            Input::Taken { transfer, outcome } => self.on_taken(transfer, outcome),
            Input::Dropped { transfer, outcome } => self.on_dropped(transfer, outcome),
            Input::Swept { missing } => self.on_swept(&missing),
            Input::Space(space) => {
                self.shared.space = Some(space);
                self.space = Some(space);
            }
            Input::LookedUp { question: Question::Transfer(id), row } => self.on_looked_up(id, row),
            Input::Explained { transfer, differences } => self.on_explained(transfer, differences),
            Input::Seen(_)
            | Input::Vanished(_)
            | Input::Scanned
            | Input::Hashed { .. }
            | Input::Looked { .. }
            | Input::Progress { .. }
            | Input::Ran { .. }
            | Input::Verified { .. }
            | Input::Placed { .. }
            | Input::Cleaned { .. }
            | Input::LookedUp { .. } => self.shared.unexpected(None, None, "an answer that central never requests"),
        }
        self.go_on_with_work();
    }

    /// Handles due deadlines, and starts what can start.
    fn go_on_with_work(&mut self) {
        while let Some(timer) = self.shared.timers.expire(self.shared.now) {
            self.on_timer(timer);
        }
        self.admit();
        self.start_takes();
        self.forward_gathered();
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Hello => self.shared.hello(Address::All, false),
            // `admit` measures again if no measurement is running.
            Timer::Measure => {}
            // `admit` runs after every input, so waking up is enough.
            Timer::Gather => {}
            Timer::Send(id) => self.send_owed(id),
            Timer::SendTo(id, receiver) => self.send_forward(id, &receiver),
            Timer::Retry(id) => self.on_retry(id),
            Timer::Keep(id) => self.on_keep(id),
            // Central searches the directory anyway when it is back.
            Timer::Sweep if self.shared.lacks_directory() => {}
            Timer::Sweep => self.sweep(),
            Timer::Settle(_) | Timer::Forget(_) | Timer::Host(_) | Timer::Cleanups => {
                self.shared.unexpected(None, None, "a timer that central does not have");
            }
        }
    }

    /// Waiting transfers have no usable copy here.
    fn sweep(&mut self) {
        self.sweeps += 1;
        let copies = self.transfers.iter().filter(|(_, transfer)| transfer.stage != Stage::Waiting);
        let transfers = copies.map(|(id, _)| *id).collect();
        let places = self.places.keys().copied().collect();
        self.shared.effect(Effect::Sweep { transfers, places });
    }

    fn on_message(&mut self, from: &Node, message: Message) {
        let hello = if let Message::Hello(hello) = &message { Some(hello) } else { None };
        let greeting = self.shared.on_message(from, hello.map(|hello| &**hello));
        if greeting.apart {
            return;
        }
        if greeting.ordered {
            self.wake(None);
        } else if greeting.back {
            self.wake(Some(from));
        }
        match (from.mode, message) {
            (_, Message::Hello(_)) => {}
            (Mode::Upload, Message::New(offers)) => offers.into_iter().for_each(|offer| self.on_offer(from, offer)),
            (Mode::Upload, Message::Withdraw(list)) => list.into_iter().for_each(|id| self.on_withdraw(from, id)),
            (Mode::Upload, Message::Cancel(list)) => list.into_iter().for_each(|id| self.on_cancel(from, id)),
            (Mode::Upload, Message::Sent { place, transfers }) => {
                transfers.into_iter().for_each(|id| self.on_sent(from, id, place));
            }
            (Mode::Upload, Message::Freed(list)) => list.into_iter().for_each(|id| self.on_freed(from, id)),
            (Mode::Upload, Message::Waiting(waits)) => {
                waits.into_iter().for_each(|wait| self.on_sender_waits(from, wait))
            }
            (Mode::Download, Message::Done(receipts)) => {
                receipts.into_iter().for_each(|receipt| self.on_receipt(from, &receipt));
            }
            (Mode::Download, Message::Waiting(waits)) => {
                waits.into_iter().for_each(|wait| self.on_receiver_waits(from, wait));
            }
            (_, other) => self.shared.unexpected(Some(from), None, other.kind()),
        }
    }

    /// Repeats at once what central owes: to one peer, or to all.
    fn wake(&mut self, only: Option<&Node>) {
        let now = self.shared.now;
        let mut due = Vec::new();
        for (id, transfer) in &self.transfers {
            let upload = only.is_none_or(|node| node.mode == Mode::Upload && node.name == transfer.row.upload);
            if upload && transfer.owes_upload() {
                due.push(Timer::Send(*id));
            }
            if transfer.stage == Stage::Held {
                let pending = transfer.pending();
                let chosen =
                    pending.filter(|name| only.is_none_or(|node| node.mode == Mode::Download && node.name == **name));
                due.extend(chosen.map(|name| Timer::SendTo(*id, name.clone())));
            }
        }
        due.into_iter().for_each(|timer| self.shared.timers.set(timer, now));
    }

    fn send_owed(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let row = &transfer.row;
        let to = Address::Node(Node::new(Mode::Upload, row.upload.clone()));
        if !transfer.owes_upload() || !self.shared.may_send(&to, transfer.sends) {
            return;
        }
        let message = match (transfer.stage, row.place) {
            // An upload would send the item into another directory.
            (Stage::Granted, Some(_)) if self.shared.lacks_directory() => return,
            (Stage::Granted, Some(place)) => {
                let Some(location) = admit::place_location(&self.settings.spool, place) else { return };
                Message::Upload { place, location, links: self.settings.links, transfers: vec![id] }
            }
            (Stage::Released, _) => Message::Release(vec![forward::release_of(row)]),
            _ => return,
        };
        transfer.sends += 1;
        let sends = transfer.sends;
        self.shared.send(to, message);
        let wait = self.shared.repeat_after(sends);
        self.shared.timers.set(Timer::Send(id), self.shared.now.after(wait));
    }

    /// Answers an upload that mentions a transfer with the stage of the transfer here.
    fn answer(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let to = Address::Node(Node::new(Mode::Upload, transfer.row.upload.clone()));
        match transfer.stage {
            Stage::Waiting => {
                let row = &transfer.row;
                let reason = match (self.shared.no_directory.as_ref().or(row.reason.as_ref()), self.shared.holds(row)) {
                    (Some(reason), None) => reason.clone(),
                    _ => self.shared.why(row, Cause::Queued).reason(),
                };
                transfer.told = Some(reason.cause());
                self.shared.send(to, Message::Waiting(vec![Wait { transfer: id, reason }]));
            }
            Stage::Granted | Stage::Released => self.shared.timers.set(Timer::Send(id), self.shared.now),
            // The answer would free the source of a copy that may no longer exist.
            Stage::Held if self.shared.lacks_directory() || self.unseen.contains(&id) => {}
            Stage::Held => self.shared.send(to, Message::Received(vec![id])),
            Stage::Closed | Stage::Withdrawn => {}
        }
    }

    fn move_to(&mut self, id: TransferId, stage: Stage, reason: Option<Reason>) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let left_granted = transfer.stage == Stage::Granted && stage != Stage::Granted;
        let (room, place) = (transfer.row.room(), transfer.row.place);
        let Transfer { row, stage: at, .. } = transfer;
        self.shared.move_row(row, (at, stage), reason, &mut self.counts);
        match stage {
            Stage::Granted if transfer.row.began.is_none() => transfer.row.began = Some(self.shared.now),
            Stage::Held if transfer.row.arrived.is_none() => transfer.row.arrived = Some(self.shared.now),
            _ => {}
        }
        transfer.sends = 0;
        transfer.told = None;
        transfer.lacks = None;
        self.shared.dirty.insert(id);
        self.shared.timers.stop(&Timer::Send(id));
        if transfer.owes_upload() {
            self.shared.timers.set(Timer::Send(id), self.shared.now);
        }
        if left_granted {
            self.reserved = self.reserved.minus(room);
            self.leave_place(id, place);
        }
    }

    fn leave_place(&mut self, id: TransferId, place: Option<PlaceId>) {
        let Some(place) = place else { return };
        let Some(left) = self.places.get_mut(&place) else { return };
        left.remove(&id);
        if left.is_empty() {
            self.places.remove(&place);
            self.shared.effect(Effect::DropPlace(place));
            // A run that was on its way to the place may create it again.
            if self.shared.timers.due(&Timer::Sweep).is_none() {
                self.shared.timers.set(Timer::Sweep, self.shared.now.after(SWEEP_AFTER));
            }
        }
    }

    fn finish(&mut self, id: TransferId) {
        let Some(mut transfer) = self.transfers.remove(&id) else { return };
        self.shared.close_row(&mut transfer.row, transfer.stage, &mut self.counts);
        let row = &transfer.row;
        self.shared.timers.stop(&Timer::Keep(id));
        for name in transfer.receivers.keys() {
            self.shared.timers.stop(&Timer::SendTo(id, name.clone()));
            self.gathered.remove(&(id, name.clone()));
        }
        self.taking.give_up(&id);
        self.unseen.remove(&id);
        if let Some(line) = self.lines.get_mut(&row.upload) {
            line.remove(&(transfer.turn, id));
        }
        let key = (row.upload.clone(), row.name.clone());
        if let Some(same) = self.by_name.get_mut(&key) {
            same.remove(&(transfer.order, id));
            let followers: Vec<_> = same.iter().map(|(_, follower)| *follower).collect();
            if same.is_empty() {
                self.by_name.remove(&key);
            }
            followers.into_iter().for_each(|follower| self.forward(follower));
        }
    }

    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        let doing = self.shared.greets().then(|| self.doing());
        self.shared.poll(|id| self.transfers.get(id).map(|transfer| (&transfer.row, transfer.stage)), doing)
    }
}

impl Stages for Stage {
    const MOVES: &'static [Move<Self>] = MOVES;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Transfer {
    fn owes_upload(&self) -> bool {
        match self.stage {
            Stage::Granted => true,
            Stage::Released => !self.row.acknowledged,
            _ => false,
        }
    }

    /// The receivers that have not sent their receipt.
    fn pending(&self) -> impl Iterator<Item = &NodeName> {
        self.row.receivers.iter().filter(|(_, at)| at.is_none()).map(|(name, _)| name)
    }
}
