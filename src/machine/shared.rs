//! The state that all roles share: the node itself, the time, its peers and deadlines, and the effects that wait to be
//! carried out.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{
    Address, BrokerState, Directory, Effect, GroupPause, ItemName, JournalId, KnownDirectory, KnownNode, Level,
    Location, Log, Message, Modes, Node, NodeName, Pause, PlaceId, Protocols, Random, Reason, Record, Restored, Row,
    Space, Time, Timers, TransferId, message::ENTRY_LIMIT,
};

/// How often a node sends a hello.
pub(super) const HELLO_EVERY: Duration = Duration::from_secs(60);
/// A node sends nothing to a peer that has been silent for this long, until the peer's next message. The peer's queue
/// already holds what it needs, and should not grow while the peer is away.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(150);
/// The first and the longest delay before a message is sent again.
const REPEAT_FIRST: Duration = Duration::from_secs(5);
const REPEAT_LAST: Duration = Duration::from_secs(300);
/// Messages that are repeated rarely are repeated on common ticks, so that few messages carry them together.
const TICK_MILLIS: u64 = 10_000;

/// The purpose of a deadline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Send a hello.
    Hello,
    /// Measure the free space.
    Measure,
    /// The quiet time of an item ends.
    Settle(ItemName),
    /// Forget an item that stayed at its source and is gone.
    Forget(ItemName),
    /// Send what a transfer owes its peer.
    Send(TransferId),
    /// Send what a transfer owes one receiver.
    SendTo(TransferId, NodeName),
    /// Retry what failed.
    Retry(TransferId),
    /// Send a batch as it is now.
    Gather,
    /// Start what waits for its cleanup.
    Cleanups,
    /// Retry a host.
    Host(String),
    /// The retention of a copy ends.
    Keep(TransferId),
    /// Remove what a late run may have left in the spool.
    Sweep,
}

impl Timer {
    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Measure => "measure",
            Self::Settle(_) => "settle",
            Self::Forget(_) => "forget",
            Self::Send(_) => "say",
            Self::SendTo(..) => "say to a receiver",
            Self::Retry(_) => "retry",
            Self::Gather => "gather",
            Self::Cleanups => "cleanups",
            Self::Host(_) => "host",
            Self::Keep(_) => "keep",
            Self::Sweep => "sweep",
        }
    }
}

/// A peer, and what it last reported that the journal does not keep.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) known: KnownNode,
    /// Its protocol versions; `None` until its first message since the start.
    pub(super) protocols: Option<Protocols>,
    pub(super) paused: Option<Pause>,
    pub(super) free: Option<u64>,
    pub(super) free_inodes: Option<u64>,
    pub(super) doing: String,
    pub(super) clock_ahead: Option<i64>,
}

/// The settings that every role needs.
#[derive(Debug, Clone)]
pub(super) struct SharedSettings {
    pub(super) me: Node,
    pub(super) version: String,
    pub(super) slots: u32,
    pub(super) host: String,
    pub(super) spool: Option<Location>,
    pub(super) seed: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) me: Node,
    pub(super) now: Time,
    pub(super) started: Time,
    pub(super) journal: JournalId,
    pub(super) broker: BrokerState,
    /// The order that pauses this node.
    pub(super) paused: Option<Pause>,
    /// The latest order about the whole group.
    pub(super) group: GroupPause,
    /// The directory that the journal knows.
    pub(super) directory: Option<KnownDirectory>,
    /// The directory in which drivers may work.
    pub(super) trusted: Option<KnownDirectory>,
    /// The last report about `file_dir`.
    pub(super) found: Option<Directory>,
    /// Why drivers may not work in `file_dir`.
    pub(super) no_directory: Option<Reason>,
    /// The space on the file system of this node's directory.
    pub(super) space: Option<Space>,
    pub(super) peers: BTreeMap<Node, Peer>,
    /// Whether any peer shares no protocol with us. Kept, because a status asks for each of many transfers.
    pub(super) any_apart: bool,
    pub(super) timers: Timers<Timer>,
    /// Transfers whose rows must be written.
    pub(super) dirty: BTreeSet<TransferId>,
    /// When the youngest unfinished transfer was created.
    youngest: Time,
    /// The modes of the latest item.
    modes: Modes,
    /// The number of inputs that were impossible when they came.
    pub(super) unexpected: u64,
    pub(super) version: String,
    pub(super) slots: u32,
    pub(super) host: String,
    pub(super) spool: Option<Location>,
    random: Random,
    /// The hellos to send, and whether they request a reply. They say what this node does when the drain begins.
    pub(super) greetings: BTreeMap<Address, bool>,
    records: VecDeque<Record>,
    effects: VecDeque<Effect>,
    /// Effects that are carried out before the others.
    first: VecDeque<Effect>,
    /// Effects that wait until the directory is back.
    waiting: VecDeque<Effect>,
    speech: BTreeMap<Ear, Message>,
}

/// What one message can carry: the same kind, to the same peer, about the same place.
type Ear = (Address, &'static str, Option<PlaceId>, Option<Location>);

impl Shared {
    pub(super) fn new(settings: SharedSettings, restored: &Restored, now: Time) -> Self {
        let silent = |known: &KnownNode| Peer {
            known: known.clone(),
            protocols: None,
            paused: None,
            free: None,
            free_inodes: None,
            doing: String::new(),
            clock_ahead: None,
        };
        let mut shared = Self {
            me: settings.me,
            now,
            started: now,
            journal: restored.journal,
            broker: BrokerState::Disconnected(now, None),
            paused: restored.paused.clone(),
            group: restored.group.clone(),
            directory: restored.directory,
            trusted: None,
            found: None,
            no_directory: None,
            space: None,
            peers: restored.nodes.iter().map(|known| (known.node.clone(), silent(known))).collect(),
            any_apart: false,
            timers: Timers::default(),
            dirty: BTreeSet::new(),
            modes: Modes::default(),
            youngest: Time::default(),
            unexpected: 0,
            version: settings.version,
            slots: settings.slots,
            host: settings.host,
            spool: settings.spool,
            random: Random(settings.seed),
            greetings: BTreeMap::new(),
            records: VecDeque::new(),
            effects: VecDeque::new(),
            first: VecDeque::new(),
            waiting: VecDeque::new(),
            speech: BTreeMap::new(),
        };
        for (whose, pause) in [("this node is", &restored.paused), ("the group is", &restored.group.pause)] {
            if let Some(pause) = pause {
                shared.log(Level::Info, None, None, None, format!("{whose} still paused {pause}"));
            }
        }
        shared
    }

    pub(super) fn connected(&self) -> bool {
        matches!(self.broker, BrokerState::Connected(_))
    }

    pub(super) fn on_connected(&mut self) {
        self.broker = BrokerState::Connected(self.now);
        self.hello(Address::All, true);
    }

    pub(super) fn on_disconnected(&mut self, why: Reason) {
        let since = match self.broker {
            BrokerState::Disconnected(since, _) => since,
            BrokerState::Connected(_) => self.now,
        };
        self.broker = BrokerState::Disconnected(since, Some(why));
        self.speech.clear();
        self.greetings.clear();
        self.timers.stop(&Timer::Hello);
    }

    /// Whether to send an owed message that was sent `sends` times before. The first time it is sent even if the peer
    /// is silent, so that it waits in the peer's queue.
    pub(super) fn may_send(&self, to: &Address, sends: u32) -> bool {
        self.connected() && self.understands(to) && (sends == 0 || self.reachable(to))
    }

    /// The delay before a message is repeated that was sent `sends` times.
    pub(super) fn repeat_after(&mut self, sends: u32) -> Duration {
        let wait = self.backoff(REPEAT_FIRST, sends.saturating_sub(1), REPEAT_LAST);
        if wait < REPEAT_LAST / 5 {
            return wait;
        }
        let over = self.now.after(wait).as_millis() % TICK_MILLIS;
        wait + Duration::from_millis(TICK_MILLIS - over)
    }

    /// The time to the next tick of this length. Messages that are sent on the same tick share few messages on the
    /// broker.
    pub(super) fn until_tick(&self, length: Duration) -> Duration {
        let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(length - self.now.as_millis() % length)
    }

    /// The delay before a message is repeated after the peer has answered why it takes time: the peer has journalled
    /// the message.
    pub(super) fn repeat_answered(&mut self) -> Duration {
        self.repeat_after(u32::MAX)
    }

    /// `first` doubled `steps` times, at most `last`, with a jitter of a fifth.
    pub(super) fn backoff(&mut self, first: Duration, steps: u32, last: Duration) -> Duration {
        let doubled = first.saturating_mul(1u32.checked_shl(steps.min(20)).unwrap_or(u32::MAX)).min(last);
        let jitter = u32::try_from(self.random.below(400)).unwrap_or(0);
        doubled.saturating_mul(800 + jitter) / 1000
    }

    /// Adds a transfer that was loaded from the journal.
    pub(super) fn on_restored(&mut self, row: &mut Row) {
        self.youngest = self.youngest.max(row.created);
        row.modes = self.interned(std::mem::take(&mut row.modes));
    }

    /// Keeps equal consecutive modes only once: those of most items are equal.
    pub(super) fn interned(&mut self, modes: Modes) -> Modes {
        if self.modes != modes {
            self.modes = modes;
        }
        self.modes.clone()
    }

    /// The creation time of a new transfer. Rows come back from the journal by their age, and the clock may have been
    /// set back since. So each transfer is younger than all before it.
    pub(super) fn next_age(&mut self) -> Time {
        self.youngest = self.now.max(self.youngest.after(Duration::from_millis(1)));
        self.youngest
    }

    pub(super) fn mint(&mut self) -> TransferId {
        let mut bytes = [0; 10];
        let random = self.random.next().to_be_bytes().into_iter().chain(self.random.next().to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(random) {
            *to = from;
        }
        TransferId::mint(self.now.as_millis(), bytes)
    }

    pub(super) fn persist(&mut self, record: Record) {
        self.records.push_back(record);
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        if self.no_directory.is_some() && effect.can_wait_for_directory() {
            self.waiting.push_back(effect);
        } else {
            self.effects.push_back(effect);
        }
    }

    /// The same, before all other effects of this drain except the records.
    pub(super) fn effect_first(&mut self, effect: Effect) {
        self.first.push_back(effect);
    }

    /// Delays the effects that can wait while the directory is missing, and releases them when it is back.
    pub(super) fn sort_effects(&mut self) {
        let all = std::mem::take(&mut self.effects).into_iter().chain(std::mem::take(&mut self.waiting));
        all.collect::<Vec<_>>().into_iter().for_each(|effect| self.effect(effect));
    }

    /// Sends a message, together with others for the same peer in this drain. Without a broker session the message is
    /// dropped: the node sends what it owes when the session is up again.
    pub(super) fn send(&mut self, to: Address, message: Message) {
        let for_all_versions = matches!(message, Message::Hello(_));
        if !self.connected() || !(for_all_versions || self.understands(&to)) {
            return;
        }
        let (place, location) = match &message {
            Message::Upload { place, location, .. } => (Some(*place), Some(location.clone())),
            Message::Sent { place, .. } => (Some(*place), None),
            Message::Download { location, .. } => (None, Some(location.clone())),
            _ => (None, None),
        };
        let key = (to.clone(), message.kind(), place, location);
        match self.speech.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(message);
            }
            Entry::Occupied(mut entry) => {
                if entry.get().len() + message.len() > ENTRY_LIMIT {
                    let full = std::mem::replace(entry.get_mut(), message);
                    self.effects.push_back(Effect::Send { to, message: full });
                } else {
                    entry.get_mut().append(message);
                }
            }
        }
    }

    pub(super) fn log(
        &mut self,
        level: Level,
        transfer: Option<TransferId>,
        item: Option<&ItemName>,
        peer: Option<&Node>,
        text: impl Into<String>,
    ) {
        let log = Log { level, transfer, item: item.cloned(), peer: peer.cloned(), text: text.into() };
        self.effects.push_back(Effect::Log(log));
    }

    /// Counts and logs an input that is impossible now, and ignores it: peers can send anything.
    pub(super) fn unexpected(&mut self, peer: Option<&Node>, transfer: Option<TransferId>, what: &str) {
        self.unexpected += 1;
        self.log(Level::Debug, transfer, None, peer, format!("unexpected: {what}"));
    }

    /// The order that pauses the whole node: its own, or the group's.
    pub(super) fn held_by(&self) -> Option<&Pause> {
        self.paused.as_ref().or(self.group.pause.as_ref())
    }

    /// The order that prevents new work for this transfer.
    pub(super) fn holds<'a>(&'a self, row: &'a Row) -> Option<&'a Pause> {
        row.paused.as_deref().or(self.held_by())
    }

    pub(super) fn take_group_order(&mut self, group: GroupPause) {
        let text = match &group.pause {
            Some(pause) => format!("the group is paused {pause}"),
            None => "the group's pause is over".to_owned(),
        };
        self.log(Level::Info, None, None, None, text);
        self.persist(Record::Group(group.clone()));
        self.group = group;
    }

    /// The next effect; records come before everything else of a drain.
    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        if let Some(record) = self.records.pop_front() {
            return Some(Effect::Persist(record));
        }
        if let Some(effect) = self.first.pop_front().or_else(|| self.effects.pop_front()) {
            return Some(effect);
        }
        let ((to, ..), message) = self.speech.pop_first()?;
        Some(Effect::Send { to, message })
    }
}
