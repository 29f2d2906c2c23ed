//! The state that all roles share: who the node is, what time it is, its peers, its deadlines, and what it is about
//! to do and say.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{
    Address, BrokerState, Directory, Effect, GroupPause, Hello, ItemName, JournalId, KnownDirectory, KnownNode, Level,
    Location, Log, Message, Mode, Modes, Node, NodeName, Pause, PlaceId, Protocols, Random, Reason, Record, Restored,
    Row, Space, Time, Timers, TransferId, message::ENTRY_LIMIT,
};

/// How often a node makes itself known.
pub(super) const HELLO_EVERY: Duration = Duration::from_secs(60);
/// A peer that has not been heard for this long is not spoken to until it is heard again: its queue holds
/// what it needs, and it should not grow while its owner is away.
const SILENT_AFTER: Duration = Duration::from_secs(150);
/// The first and the longest wait before a word is said again.
const REPEAT_FIRST: Duration = Duration::from_secs(5);
const REPEAT_LAST: Duration = Duration::from_secs(300);
/// Words that are repeated seldom are repeated on the same ticks, so that they go together in few messages.
const TICK_MILLIS: u64 = 10_000;

/// What a deadline is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Make this node known.
    Hello,
    /// Measure the free space.
    Measure,
    /// An item's quiet time is over.
    Settle(ItemName),
    /// Forget an item that stayed at its source and has gone.
    Forget(ItemName),
    /// Say what a transfer owes its peer.
    Send(TransferId),
    /// Say what a transfer owes one receiver.
    SendTo(TransferId, NodeName),
    /// Try again what failed.
    Retry(TransferId),
    /// What has been gathered for a batch goes as it is.
    Gather,
    /// Try a host again.
    Host(String),
    /// The retention is over.
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
            Self::Host(_) => "host",
            Self::Keep(_) => "keep",
            Self::Sweep => "sweep",
        }
    }
}

/// What a peer's word tells about the peer itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    /// It is new, was restarted, or had been silent: what is owed to it should be said now.
    pub(super) back: bool,
    /// It works from another journal than before: it has forgotten everything.
    pub(super) forgot: bool,
    /// It told of a younger order about the whole group.
    pub(super) ordered: bool,
    /// It shares no protocol with us: what it says beyond its hello is left alone.
    pub(super) apart: bool,
}

/// A peer, and what it told last that the journal does not keep.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) known: KnownNode,
    /// What it speaks; `None` until it has been heard since the start.
    pub(super) protocols: Option<Protocols>,
    pub(super) paused: Option<Pause>,
    pub(super) free: Option<u64>,
    pub(super) free_inodes: Option<u64>,
    pub(super) doing: String,
    pub(super) clock_ahead: Option<i64>,
}

/// What every role is made from.
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
    /// The order that holds this node.
    pub(super) paused: Option<Pause>,
    /// The youngest order about the whole group.
    pub(super) group: GroupPause,
    /// The directory that the journal knows.
    pub(super) directory: Option<KnownDirectory>,
    /// The one in which drivers may do things.
    pub(super) trusted: Option<KnownDirectory>,
    /// What was found at `file_dir` last.
    pub(super) found: Option<Directory>,
    /// Why nothing may be done there.
    pub(super) astray: Option<Reason>,
    /// What there is where this node's directory is.
    pub(super) space: Option<Space>,
    pub(super) peers: BTreeMap<Node, Peer>,
    pub(super) timers: Timers<Timer>,
    /// Transfers whose row has to be written.
    pub(super) dirty: BTreeSet<TransferId>,
    /// When the youngest unfinished transfer was created.
    youngest: Time,
    /// The modes of the latest item.
    modes: Modes,
    /// Inputs that made no sense when they came.
    pub(super) unexpected: u64,
    version: String,
    pub(super) slots: u32,
    pub(super) host: String,
    pub(super) spool: Option<Location>,
    random: Random,
    /// Hellos to be said, and whether they ask for an answer; they tell what this node does when the drain begins.
    greetings: BTreeMap<Address, bool>,
    records: VecDeque<Record>,
    effects: VecDeque<Effect>,
    /// What can wait until the directory is there again.
    waiting: VecDeque<Effect>,
    speech: BTreeMap<Ear, Message>,
}

/// What goes into one message: the same kind, to the same peer, about the same place.
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
            astray: None,
            space: None,
            peers: restored.nodes.iter().map(|known| (known.node.clone(), silent(known))).collect(),
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

    /// Makes this node known, in this drain.
    pub(super) fn hello(&mut self, to: Address, reply: bool) {
        if !self.connected() {
            return;
        }
        if to == Address::All {
            self.timers.set(Timer::Hello, self.now.after(HELLO_EVERY));
            // Tells how much space there is, next time.
            if self.timers.due(&Timer::Measure).is_none() {
                self.effect(Effect::Measure);
            }
        }
        *self.greetings.entry(to).or_default() |= reply;
    }

    /// How many inodes are free, where the file system has a limit for them.
    pub(super) fn free_inodes(&self) -> Option<u64> {
        self.space?.inodes.map(|inodes| inodes.free)
    }

    /// Whether hellos are to be said, which need to know what this node does.
    pub(super) fn greets(&self) -> bool {
        !self.greetings.is_empty()
    }

    pub(super) fn send_hellos(&mut self, doing: &str) {
        for (to, reply) in std::mem::take(&mut self.greetings) {
            let hello = Hello {
                protocols: Protocols::OURS,
                journal: self.journal,
                started: self.started,
                version: self.version.clone(),
                slots: self.slots,
                reply,
                host: self.host.clone(),
                now: self.now,
                paused: self.paused.clone(),
                group: self.group.clone(),
                free: self.space.map(|space| space.free),
                free_inodes: self.free_inodes(),
                doing: doing.to_owned(),
                spool: self.spool.clone(),
            };
            self.send(to, Message::Hello(Box::new(hello)));
        }
    }

    /// Notes that a peer is alive, and what its hello tells of it.
    pub(super) fn on_message(&mut self, from: &Node, hello: Option<&Hello>) -> Greeting {
        let now = self.now;
        let was_silent = self.peers.get(from).is_none_or(|peer| now.since(peer.known.last_heard) > SILENT_AFTER);
        let Some(hello) = hello else {
            if self.is_apart(from) {
                self.log(
                    Level::Debug,
                    None,
                    None,
                    Some(from),
                    "ignored a message: the node's protocol version is incompatible",
                );
                return Greeting { back: false, forgot: false, ordered: false, apart: true };
            }
            if let Some(peer) = self.peers.get_mut(from) {
                peer.known.last_heard = now;
            }
            let back = was_silent && self.peers.contains_key(from);
            return Greeting { back, forgot: false, ordered: false, apart: false };
        };
        let was_apart = self.is_apart(from);
        let apart = Protocols::OURS.fit(hello.protocols).apart().is_some();
        let before = self.peers.get(from).map(|peer| &peer.known);
        let forgot = !apart && before.is_some_and(|before| before.journal != hello.journal);
        // What it has forgotten meanwhile is noticed when it can be talked to again.
        let read = before.filter(|_| apart);
        let known = KnownNode {
            node: from.clone(),
            journal: read.map_or(hello.journal, |before| before.journal),
            started: hello.started,
            slots: read.map_or(hello.slots, |before| before.slots),
            version: hello.version.clone(),
            host: read.map_or(&hello.host, |before| &before.host).clone(),
            spool: read.map_or(&hello.spool, |before| &before.spool).clone(),
            first_heard: before.map_or(now, |before| before.first_heard),
            last_heard: now,
        };
        let changed = before.is_none_or(|before| KnownNode { last_heard: now, ..before.clone() } != known);
        if changed {
            self.records.push_back(Record::Node(known.clone()));
            self.log(Level::Info, None, None, Some(from), "node announced itself");
        }
        let ahead = i128::from(hello.now.as_millis()) - i128::from(now.as_millis());
        let peer = Peer {
            known,
            protocols: Some(hello.protocols),
            paused: hello.paused.clone(),
            free: hello.free,
            free_inodes: hello.free_inodes,
            doing: hello.doing.clone(),
            clock_ahead: i64::try_from(ahead).ok(),
        };
        let told = self.peers.insert(from.clone(), peer).and_then(|before| before.protocols);
        if told != Some(hello.protocols) {
            self.log_fit(from, was_apart);
        }
        if apart {
            if hello.reply {
                self.hello(Address::Node(from.clone()), false);
            }
            return Greeting { back: false, forgot: false, ordered: false, apart };
        }
        let ordered = hello.group > self.group;
        if ordered {
            self.take_group_order(hello.group.clone());
        }
        // Who has not heard of the youngest order yet is told it.
        if hello.reply || hello.group < self.group {
            self.hello(Address::Node(from.clone()), false);
        }
        Greeting { back: changed || was_silent || was_apart, forgot, ordered, apart }
    }

    pub(super) fn alive(&self, node: &Node) -> bool {
        self.peers.get(node).is_some_and(|peer| self.now.since(peer.known.last_heard) <= SILENT_AFTER)
    }

    /// Whether a word that has been said before is worth saying again now.
    pub(super) fn reachable(&self, to: &Address) -> bool {
        match to {
            Address::Node(node) => self.speaks_with(node),
            Address::AnyCentral => self.peers.keys().any(|node| node.mode == Mode::Central && self.speaks_with(node)),
            Address::All => true,
        }
    }

    /// Whether to say a word that is owed, having been said `sends` times. The first time it is said whoever
    /// listens, so that it lies in the peer's queue.
    pub(super) fn may_send(&self, to: &Address, sends: u32) -> bool {
        self.connected() && self.understands(to) && (sends == 0 || self.reachable(to))
    }

    /// How long to wait before saying a word again that has been said `sends` times.
    pub(super) fn repeat_after(&mut self, sends: u32) -> Duration {
        let wait = self.backoff(REPEAT_FIRST, sends.saturating_sub(1), REPEAT_LAST);
        if wait < REPEAT_LAST / 5 {
            return wait;
        }
        let over = self.now.after(wait).as_millis() % TICK_MILLIS;
        wait + Duration::from_millis(TICK_MILLIS - over)
    }

    /// How long it is to the next tick of this length: what is said then goes together in few messages.
    pub(super) fn until_tick(&self, length: Duration) -> Duration {
        let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(length - self.now.as_millis() % length)
    }

    /// How long to wait before saying a word again that the peer has answered with the reason why it takes time:
    /// it has it in its journal.
    pub(super) fn repeat_answered(&mut self) -> Duration {
        self.repeat_after(u32::MAX)
    }

    /// `first` doubled `steps` times, at most `last`, give or take a fifth.
    pub(super) fn backoff(&mut self, first: Duration, steps: u32, last: Duration) -> Duration {
        let doubled = first.saturating_mul(1u32.checked_shl(steps.min(20)).unwrap_or(u32::MAX)).min(last);
        let jitter = u32::try_from(self.random.below(400)).unwrap_or(0);
        doubled.saturating_mul(800 + jitter) / 1000
    }

    /// A transfer has come back from the journal.
    pub(super) fn on_restored(&mut self, row: &mut Row) {
        self.youngest = self.youngest.max(row.created);
        row.modes = self.interned(std::mem::take(&mut row.modes));
    }

    /// The same modes, kept once where they follow each other: those of most items are equal.
    pub(super) fn interned(&mut self, modes: Modes) -> Modes {
        if self.modes != modes {
            self.modes = modes;
        }
        self.modes.clone()
    }

    /// When a new transfer counts as created. Rows come back from the journal by their age, and a clock may
    /// have been set back in between, so each is younger than all before it.
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
        if self.astray.is_some() && effect.can_wait_for_directory() {
            self.waiting.push_back(effect);
        } else {
            self.effects.push_back(effect);
        }
    }

    /// The same, before everything else of this drain but the records.
    pub(super) fn effect_first(&mut self, effect: Effect) {
        self.effects.push_front(effect);
    }

    /// Holds back what can wait until the directory is there again, or lets it go on.
    pub(super) fn sort_effects(&mut self) {
        let all = std::mem::take(&mut self.effects).into_iter().chain(std::mem::take(&mut self.waiting));
        all.collect::<Vec<_>>().into_iter().for_each(|effect| self.effect(effect));
    }

    /// Says something, together with what else goes to the same peer in this drain. Without a broker it is
    /// not said at all: what is owed is said when the session is up again.
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

    /// An input that makes no sense now: peers can say anything, so it is counted, noted and left at that.
    pub(super) fn unexpected(&mut self, peer: Option<&Node>, transfer: Option<TransferId>, what: &str) {
        self.unexpected += 1;
        self.log(Level::Debug, transfer, None, peer, format!("unexpected: {what}"));
    }

    /// The order that holds the whole node: its own, or the group's.
    pub(super) fn held_by(&self) -> Option<&Pause> {
        self.paused.as_ref().or(self.group.pause.as_ref())
    }

    /// The order that keeps anything new from starting for this transfer.
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

    /// What is next to be done; records come before everything else of a drain.
    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        if let Some(record) = self.records.pop_front() {
            return Some(Effect::Persist(record));
        }
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        let ((to, ..), message) = self.speech.pop_first()?;
        Some(Effect::Send { to, message })
    }
}
