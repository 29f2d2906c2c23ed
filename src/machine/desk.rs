//! What every role has on its desk: who it is, what time it is, its peers, its deadlines, and what it is about
//! to do and say.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{
    Address, BrokerState, Effect, Hello, ItemName, JournalId, KnownNode, Level, Location, Mode, Node, NodeName, Note,
    PeerView, PlaceId, Reason, Record, Time, Timers, TransferId, Words, words::ENTRY_LIMIT,
};

/// How often a node makes itself known.
const HELLO_EVERY: Duration = Duration::from_secs(60);
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
    /// Look at the free space.
    Measure,
    /// An item's quiet time is over.
    Settle(ItemName),
    /// Forget an item that stayed at its source and has gone.
    Forget(ItemName),
    /// Say what a transfer owes its peer.
    Say(TransferId),
    /// Say what a transfer owes one receiver.
    SayTo(TransferId, NodeName),
    /// Try again what failed.
    Retry(TransferId),
    /// What has been gathered for a batch goes as it is.
    Gather,
    /// Try a host again.
    Host(String),
    /// The retention is over.
    Keep(TransferId),
}

impl Timer {
    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Measure => "measure",
            Self::Settle(_) => "settle",
            Self::Forget(_) => "forget",
            Self::Say(_) => "say",
            Self::SayTo(..) => "say to a receiver",
            Self::Retry(_) => "retry",
            Self::Gather => "gather",
            Self::Host(_) => "host",
            Self::Keep(_) => "keep",
        }
    }
}

/// A small seeded generator (SplitMix64): jitter and ids must come out the same for the same seed.
#[derive(Debug, Clone)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What a peer's word tells about the peer itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    /// It is new, was restarted, or had been silent: what is owed to it should be said now.
    pub(super) back: bool,
    /// It works from another journal than before: it has forgotten everything.
    pub(super) forgot: bool,
}

/// What every role is made from.
#[derive(Debug, Clone)]
pub(super) struct DeskSettings {
    pub(super) me: Node,
    pub(super) version: String,
    pub(super) slots: u32,
    pub(super) seed: u64,
}

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) me: Node,
    pub(super) now: Time,
    pub(super) started: Time,
    pub(super) journal: JournalId,
    pub(super) broker: BrokerState,
    pub(super) paused: bool,
    pub(super) peers: BTreeMap<Node, KnownNode>,
    pub(super) timers: Timers<Timer>,
    /// Transfers whose row has to be written.
    pub(super) dirty: BTreeSet<TransferId>,
    /// When the youngest unfinished transfer was created.
    youngest: Time,
    /// Inputs that made no sense when they came.
    pub(super) unexpected: u64,
    version: String,
    slots: u32,
    rng: Rng,
    records: VecDeque<Record>,
    effects: VecDeque<Effect>,
    speech: BTreeMap<Ear, Words>,
}

/// What goes into one message: the same kind, to the same peer, about the same place.
type Ear = (Address, &'static str, Option<PlaceId>, Option<Location>);

impl Desk {
    pub(super) fn new(
        settings: DeskSettings,
        journal: JournalId,
        peers: Vec<KnownNode>,
        paused: bool,
        now: Time,
    ) -> Self {
        Self {
            me: settings.me,
            now,
            started: now,
            journal,
            broker: BrokerState::Disconnected(now, None),
            paused,
            peers: peers.into_iter().map(|peer| (peer.node.clone(), peer)).collect(),
            timers: Timers::default(),
            dirty: BTreeSet::new(),
            youngest: Time::default(),
            unexpected: 0,
            version: settings.version,
            slots: settings.slots,
            rng: Rng(settings.seed),
            records: VecDeque::new(),
            effects: VecDeque::new(),
            speech: BTreeMap::new(),
        }
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
        self.timers.stop(&Timer::Hello);
    }

    pub(super) fn hello(&mut self, to: Address, reply: bool) {
        let hello = Hello {
            journal: self.journal,
            started: self.started,
            version: self.version.clone(),
            slots: self.slots,
            reply,
        };
        if to == Address::All {
            self.timers.set(Timer::Hello, self.now.after(HELLO_EVERY));
        }
        self.say(to, Words::Hello(hello));
    }

    /// Notes that a peer is alive, and what its hello tells of it.
    pub(super) fn on_heard(&mut self, from: &Node, hello: Option<&Hello>) -> Greeting {
        let now = self.now;
        let was_silent = self.peers.get(from).is_none_or(|peer| now.since(peer.last_heard) > SILENT_AFTER);
        let Some(hello) = hello else {
            if let Some(peer) = self.peers.get_mut(from) {
                peer.last_heard = now;
            }
            return Greeting { back: was_silent && self.peers.contains_key(from), forgot: false };
        };
        let known = self.peers.get(from);
        let forgot = known.is_some_and(|peer| peer.journal != hello.journal);
        let changed = known.is_none_or(|peer| {
            peer.journal != hello.journal
                || peer.started != hello.started
                || peer.slots != hello.slots
                || peer.version != hello.version
        });
        let peer = KnownNode {
            node: from.clone(),
            journal: hello.journal,
            started: hello.started,
            slots: hello.slots,
            version: hello.version.clone(),
            first_heard: known.map_or(now, |peer| peer.first_heard),
            last_heard: now,
        };
        if changed {
            self.records.push_back(Record::Node(peer.clone()));
            self.note(Level::Info, None, None, Some(from), "heard of it");
        }
        self.peers.insert(from.clone(), peer);
        if hello.reply {
            self.hello(Address::Node(from.clone()), false);
        }
        Greeting { back: changed || was_silent, forgot }
    }

    pub(super) fn alive(&self, node: &Node) -> bool {
        self.peers.get(node).is_some_and(|peer| self.now.since(peer.last_heard) <= SILENT_AFTER)
    }

    /// Whether a word that has been said before is worth saying again now.
    pub(super) fn reachable(&self, to: &Address) -> bool {
        match to {
            Address::Node(node) => self.alive(node),
            Address::AnyCentral => self.peers.keys().any(|node| node.mode == Mode::Central && self.alive(node)),
            Address::All => true,
        }
    }

    /// Whether to say a word that is owed, having been said `says` times. The first time it is said whoever
    /// listens, so that it lies in the peer's queue.
    pub(super) fn may_say(&self, to: &Address, says: u32) -> bool {
        self.connected() && (says == 0 || self.reachable(to))
    }

    /// How long to wait before saying a word again that has been said `says` times.
    pub(super) fn repeat_after(&mut self, says: u32) -> Duration {
        let wait = self.backoff(REPEAT_FIRST, says.saturating_sub(1), REPEAT_LAST);
        if wait < REPEAT_LAST / 5 {
            return wait;
        }
        let over = self.now.after(wait).as_millis() % TICK_MILLIS;
        wait + Duration::from_millis(TICK_MILLIS - over)
    }

    /// How long to wait before saying a word again that the peer has answered with the reason why it takes time:
    /// it has it in its journal.
    pub(super) fn repeat_answered(&mut self) -> Duration {
        self.repeat_after(u32::MAX)
    }

    /// `first` doubled `steps` times, at most `last`, give or take a fifth.
    pub(super) fn backoff(&mut self, first: Duration, steps: u32, last: Duration) -> Duration {
        let doubled = first.saturating_mul(1u32.checked_shl(steps.min(20)).unwrap_or(u32::MAX)).min(last);
        let jitter = u32::try_from(self.rng.next() % 400).unwrap_or(0);
        doubled.saturating_mul(800 + jitter) / 1000
    }

    /// A transfer has come back from the journal.
    pub(super) fn on_restored(&mut self, created: Time) {
        self.youngest = self.youngest.max(created);
    }

    /// When a new transfer counts as created. Rows come back from the journal by their age, and a clock may
    /// have been set back in between, so each is younger than all before it.
    pub(super) fn next_age(&mut self) -> Time {
        self.youngest = self.now.max(self.youngest.after(Duration::from_millis(1)));
        self.youngest
    }

    pub(super) fn mint(&mut self) -> TransferId {
        let mut random = [0; 10];
        for (to, from) in
            random.iter_mut().zip(self.rng.next().to_be_bytes().into_iter().chain(self.rng.next().to_be_bytes()))
        {
            *to = from;
        }
        TransferId::mint(self.now.as_millis(), random)
    }

    pub(super) fn persist(&mut self, record: Record) {
        self.records.push_back(record);
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// Says something, together with what else goes to the same peer in this drain. Without a broker it is
    /// not said at all: what is owed is said when the session is up again.
    pub(super) fn say(&mut self, to: Address, words: Words) {
        if !self.connected() {
            return;
        }
        let (place, location) = match &words {
            Words::Upload { place, location, .. } => (Some(*place), Some(location.clone())),
            Words::Sent { place, .. } => (Some(*place), None),
            Words::Download { location, .. } => (None, Some(location.clone())),
            _ => (None, None),
        };
        let key = (to.clone(), words.kind(), place, location);
        match self.speech.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(words);
            }
            Entry::Occupied(mut entry) => {
                if entry.get().len() + words.len() > ENTRY_LIMIT {
                    let full = std::mem::replace(entry.get_mut(), words);
                    self.effects.push_back(Effect::Say { to, words: full });
                } else {
                    entry.get_mut().append(words);
                }
            }
        }
    }

    pub(super) fn note(
        &mut self,
        level: Level,
        transfer: Option<TransferId>,
        item: Option<&ItemName>,
        peer: Option<&Node>,
        text: impl Into<String>,
    ) {
        let note = Note { level, transfer, item: item.cloned(), peer: peer.cloned(), text: text.into() };
        self.effects.push_back(Effect::Note(note));
    }

    /// An input that makes no sense now: peers can say anything, so it is counted, noted and left at that.
    pub(super) fn unexpected(&mut self, peer: Option<&Node>, transfer: Option<TransferId>, what: &str) {
        self.unexpected += 1;
        self.note(Level::Debug, transfer, None, peer, format!("unexpected: {what}"));
    }

    pub(super) fn pause(&mut self, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            self.persist(Record::Paused(paused));
            self.note(Level::Info, None, None, None, if paused { "paused" } else { "resumed" });
        }
    }

    /// What is next to be done; records come before everything else of a drain.
    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        if let Some(record) = self.records.pop_front() {
            return Some(Effect::Persist(record));
        }
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        let ((to, ..), words) = self.speech.pop_first()?;
        Some(Effect::Say { to, words })
    }

    pub(super) fn peer_views(&self) -> Vec<PeerView> {
        let view = |peer: &KnownNode| PeerView {
            node: peer.node.clone(),
            version: peer.version.clone(),
            last_heard: peer.last_heard,
            alive: self.alive(&peer.node),
        };
        self.peers.values().map(view).collect()
    }
}
