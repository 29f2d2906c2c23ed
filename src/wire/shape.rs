//! The shape of a message, and its conversion from and to the machine's messages. Everything with this shape is valid.

use serde::{Deserialize, Serialize};

use crate::machine::{
    Cause, DETAIL_LIMIT, DOING_LIMIT, Digest, Fingerprint, Forward, GroupId, GroupPause, HOST_LIMIT, Hello,
    InvalidLocation, JournalId, Kind, Location, Message, Mode, Modes, Node, NodeName, Offer, Pause, PlaceId, Protocols,
    Reason, Receipt, Release, Time, TransferId, UnknownCause, Wait,
};

use super::field::{Code, Detail, EncodedName, Giver, Line, List, Slots, Spelled};
use super::{RECEIVER_LIMIT, VERSION_LIMIT};

/// A whole message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Envelope<W> {
    pub(super) v: u64,
    pub(super) group: Spelled<GroupId>,
    pub(super) from: Sender,
    pub(super) words: W,
}

/// The sender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sender {
    mode: Spelled<Mode>,
    name: Spelled<NodeName>,
}

impl From<Node> for Sender {
    fn from(node: Node) -> Self {
        Self { mode: Spelled(node.mode), name: Spelled(node.name) }
    }
}

impl From<Sender> for Node {
    fn from(sender: Sender) -> Self {
        Self::new(sender.mode.0, sender.name.0)
    }
}

type Transfers = List<Spelled<TransferId>>;

/// The content, under its kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Payload {
    Hello(Box<Greeting>),
    New { offers: List<Offered> },
    Withdraw { transfers: Transfers },
    Cancel { transfers: Transfers },
    Upload { place: Spelled<PlaceId>, location: Directory, transfers: Transfers },
    Sent { place: Spelled<PlaceId>, transfers: Transfers },
    Received { transfers: Transfers },
    Download { location: Directory, items: List<Forwarded> },
    Done { receipts: List<Proof> },
    Noted { transfers: Transfers },
    Release { releases: List<Released> },
    Freed { transfers: Transfers },
    Closed { transfers: Transfers },
    Waiting { waits: List<Held> },
    Unknown { transfers: Transfers },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Greeting {
    protocols: Range,
    journal: Spelled<JournalId>,
    started: u64,
    version: Line<VERSION_LIMIT>,
    slots: Slots,
    reply: bool,
    host: Line<HOST_LIMIT>,
    now: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused: Option<Order>,
    group: GroupOrder,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    free: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    free_inodes: Option<u64>,
    doing: Line<DOING_LIMIT>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spool: Option<Directory>,
}

/// The lowest and the highest protocol version that a node supports.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "(u64, u64)", into = "(u64, u64)")]
struct Range(Protocols);

impl TryFrom<(u64, u64)> for Range {
    type Error = String;
    fn try_from((min, max): (u64, u64)) -> Result<Self, String> {
        Protocols::new(min, max).map(Self).ok_or_else(|| format!("{min} to {max} are no versions of the protocol"))
    }
}

impl From<Range> for (u64, u64) {
    fn from(Range(protocols): Range) -> Self {
        (protocols.min(), protocols.max())
    }
}

/// The fields that never change, so that any node can tell which versions another one supports.
#[derive(Deserialize)]
pub(super) struct Stranger {
    hello: Lasting,
}

#[derive(Deserialize)]
struct Lasting {
    protocols: Range,
    journal: Spelled<JournalId>,
    started: u64,
    version: Line<VERSION_LIMIT>,
    reply: bool,
    now: u64,
}

impl Stranger {
    /// The hello of a node that shares no protocol version with us; `None` if it shares one.
    pub(super) fn into_hello(self) -> Option<Hello> {
        let Lasting { protocols, journal, started, version, reply, now } = self.hello;
        Protocols::OURS.fit(protocols.0).apart()?;
        Some(Hello {
            protocols: protocols.0,
            journal: journal.0,
            started: Time::from_millis(started),
            version: version.into_text(),
            slots: 1,
            reply,
            host: String::new(),
            now: Time::from_millis(now),
            paused: None,
            group: GroupPause::default(),
            free: None,
            free_inodes: None,
            doing: String::new(),
            spool: None,
        })
    }
}

/// An order that something is paused.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    since: u64,
    by: Giver,
    node: Sender,
}

/// The latest order about the whole group; without `paused` the group is not paused.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct GroupOrder {
    changed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused: Option<Order>,
    stop: bool,
}

impl From<Pause> for Order {
    fn from(pause: Pause) -> Self {
        Self { since: pause.since.as_millis(), by: Giver(pause.by.into()), node: pause.node.into() }
    }
}

impl From<Order> for Pause {
    fn from(order: Order) -> Self {
        Self::new(Time::from_millis(order.since), &order.by.0, order.node.into())
    }
}

impl From<Hello> for Greeting {
    fn from(hello: Hello) -> Self {
        Self {
            protocols: Range(hello.protocols),
            journal: Spelled(hello.journal),
            started: hello.started.as_millis(),
            version: Line::cut(&hello.version),
            slots: Slots::clamped(hello.slots),
            reply: hello.reply,
            host: Line::cut(&hello.host),
            now: hello.now.as_millis(),
            paused: hello.paused.map(Order::from),
            group: GroupOrder {
                changed: hello.group.changed.as_millis(),
                paused: hello.group.pause.map(Order::from),
                stop: hello.group.stop,
            },
            free: hello.free,
            free_inodes: hello.free_inodes,
            doing: Line::cut(&hello.doing),
            spool: hello.spool.map(Directory),
        }
    }
}

impl From<Greeting> for Hello {
    fn from(greeting: Greeting) -> Self {
        Self {
            protocols: greeting.protocols.0,
            journal: greeting.journal.0,
            started: Time::from_millis(greeting.started),
            version: greeting.version.into_text(),
            slots: greeting.slots.0,
            reply: greeting.reply,
            host: greeting.host.into_text(),
            now: Time::from_millis(greeting.now),
            paused: greeting.paused.map(Pause::from),
            group: GroupPause {
                changed: Time::from_millis(greeting.group.changed),
                pause: greeting.group.paused.map(Pause::from),
                stop: greeting.group.stop,
            },
            free: greeting.free,
            free_inodes: greeting.free_inodes,
            doing: greeting.doing.into_text(),
            spool: greeting.spool.map(|spool| spool.0),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Offered {
    transfer: Spelled<TransferId>,
    name: EncodedName,
    #[serde(with = "KindShape")]
    kind: Kind,
    entries: u64,
    size: u64,
    md5: Spelled<Digest>,
    minted: u64,
    #[serde(default = "no_modes", skip_serializing_if = "has_no_modes")]
    modes: Spelled<Modes>,
}

fn no_modes() -> Spelled<Modes> {
    Spelled(Modes::default())
}

fn has_no_modes(modes: &Spelled<Modes>) -> bool {
    modes.0.is_empty()
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Forwarded {
    offer: Offered,
    upload: Spelled<NodeName>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Proof {
    transfer: Spelled<TransferId>,
    size: u64,
    md5: Spelled<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remark: Option<Line<DETAIL_LIMIT>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Released {
    transfer: Spelled<TransferId>,
    size: u64,
    md5: Spelled<Digest>,
    receivers: List<Spelled<NodeName>, RECEIVER_LIMIT>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remark: Option<Line<DETAIL_LIMIT>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Held {
    transfer: Spelled<TransferId>,
    cause: Code,
    #[serde(default, skip_serializing_if = "Detail::is_empty")]
    detail: Detail,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "DirectoryText", into = "DirectoryText")]
pub(super) struct Directory(Location);

#[derive(Clone, Serialize, Deserialize)]
struct DirectoryText {
    host: String,
    path: String,
}

impl TryFrom<DirectoryText> for Directory {
    type Error = InvalidLocation;
    fn try_from(text: DirectoryText) -> Result<Self, InvalidLocation> {
        Location::new(&text.host, &text.path).map(Self)
    }
}

impl From<Directory> for DirectoryText {
    fn from(Directory(location): Directory) -> Self {
        Self { host: location.host().to_owned(), path: location.path().to_owned() }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Kind", rename_all = "lowercase")]
enum KindShape {
    File,
    Directory,
    Symlink,
}

impl Payload {
    /// The number of entries; `None` for a message that is not a list.
    pub(super) fn entries(&self) -> Option<usize> {
        match self {
            Self::Hello(_) => None,
            Self::New { offers } => Some(offers.0.len()),
            Self::Download { items, .. } => Some(items.0.len()),
            Self::Done { receipts } => Some(receipts.0.len()),
            Self::Release { releases } => Some(releases.0.len()),
            Self::Waiting { waits } => Some(waits.0.len()),
            Self::Withdraw { transfers }
            | Self::Cancel { transfers }
            | Self::Upload { transfers, .. }
            | Self::Sent { transfers, .. }
            | Self::Received { transfers }
            | Self::Noted { transfers }
            | Self::Freed { transfers }
            | Self::Closed { transfers }
            | Self::Unknown { transfers } => Some(transfers.0.len()),
        }
    }

    /// Keeps the first `at` entries and returns a message of the same kind with the others.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        match self {
            Self::Hello(_) => self.clone(),
            Self::New { offers } => Self::New { offers: offers.split_off(at) },
            Self::Withdraw { transfers } => Self::Withdraw { transfers: transfers.split_off(at) },
            Self::Cancel { transfers } => Self::Cancel { transfers: transfers.split_off(at) },
            Self::Upload { place, location, transfers } => {
                Self::Upload { place: place.clone(), location: location.clone(), transfers: transfers.split_off(at) }
            }
            Self::Sent { place, transfers } => Self::Sent { place: place.clone(), transfers: transfers.split_off(at) },
            Self::Received { transfers } => Self::Received { transfers: transfers.split_off(at) },
            Self::Download { location, items } => {
                Self::Download { location: location.clone(), items: items.split_off(at) }
            }
            Self::Done { receipts } => Self::Done { receipts: receipts.split_off(at) },
            Self::Noted { transfers } => Self::Noted { transfers: transfers.split_off(at) },
            Self::Release { releases } => Self::Release { releases: releases.split_off(at) },
            Self::Freed { transfers } => Self::Freed { transfers: transfers.split_off(at) },
            Self::Closed { transfers } => Self::Closed { transfers: transfers.split_off(at) },
            Self::Waiting { waits } => Self::Waiting { waits: waits.split_off(at) },
            Self::Unknown { transfers } => Self::Unknown { transfers: transfers.split_off(at) },
        }
    }
}

impl From<Message> for Payload {
    fn from(message: Message) -> Self {
        match message {
            Message::Hello(hello) => Self::Hello(Box::new((*hello).into())),
            Message::New(offers) => Self::New { offers: list(offers) },
            Message::Withdraw(transfers) => Self::Withdraw { transfers: list(transfers) },
            Message::Cancel(transfers) => Self::Cancel { transfers: list(transfers) },
            Message::Upload { place, location, transfers } => {
                Self::Upload { place: Spelled(place), location: Directory(location), transfers: list(transfers) }
            }
            Message::Sent { place, transfers } => Self::Sent { place: Spelled(place), transfers: list(transfers) },
            Message::Received(transfers) => Self::Received { transfers: list(transfers) },
            Message::Download { location, items } => {
                Self::Download { location: Directory(location), items: list(items) }
            }
            Message::Done(receipts) => Self::Done { receipts: list(receipts) },
            Message::Noted(transfers) => Self::Noted { transfers: list(transfers) },
            Message::Release(releases) => Self::Release { releases: list(releases) },
            Message::Freed(transfers) => Self::Freed { transfers: list(transfers) },
            Message::Closed(transfers) => Self::Closed { transfers: list(transfers) },
            Message::Waiting(waits) => Self::Waiting { waits: list(waits) },
            Message::Unknown(transfers) => Self::Unknown { transfers: list(transfers) },
        }
    }
}

impl From<Payload> for Message {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Hello(greeting) => Self::Hello(Box::new((*greeting).into())),
            Payload::New { offers } => Self::New(offers.into_entries()),
            Payload::Withdraw { transfers } => Self::Withdraw(transfers.into_entries()),
            Payload::Cancel { transfers } => Self::Cancel(transfers.into_entries()),
            Payload::Upload { place, location, transfers } => {
                Self::Upload { place: place.0, location: location.0, transfers: transfers.into_entries() }
            }
            Payload::Sent { place, transfers } => Self::Sent { place: place.0, transfers: transfers.into_entries() },
            Payload::Received { transfers } => Self::Received(transfers.into_entries()),
            Payload::Download { location, items } => {
                Self::Download { location: location.0, items: items.into_entries() }
            }
            Payload::Done { receipts } => Self::Done(receipts.into_entries()),
            Payload::Noted { transfers } => Self::Noted(transfers.into_entries()),
            Payload::Release { releases } => Self::Release(releases.into_entries()),
            Payload::Freed { transfers } => Self::Freed(transfers.into_entries()),
            Payload::Closed { transfers } => Self::Closed(transfers.into_entries()),
            Payload::Waiting { waits } => Self::Waiting(waits.into_entries()),
            Payload::Unknown { transfers } => Self::Unknown(transfers.into_entries()),
        }
    }
}

fn list<T, S: From<T>, const LIMIT: usize>(entries: Vec<T>) -> List<S, LIMIT> {
    List(entries.into_iter().map(S::from).collect())
}

impl<S, const LIMIT: usize> List<S, LIMIT> {
    fn split_off(&mut self, at: usize) -> Self {
        Self(self.0.split_off(at.min(self.0.len())))
    }

    fn into_entries<T: From<S>>(self) -> Vec<T> {
        self.0.into_iter().map(T::from).collect()
    }
}

impl From<TransferId> for Spelled<TransferId> {
    fn from(transfer: TransferId) -> Self {
        Self(transfer)
    }
}

impl From<Spelled<Self>> for TransferId {
    fn from(spelled: Spelled<Self>) -> Self {
        spelled.0
    }
}

impl From<Offer> for Offered {
    fn from(offer: Offer) -> Self {
        Self {
            transfer: Spelled(offer.transfer),
            name: EncodedName(offer.name),
            kind: offer.kind,
            entries: offer.entries,
            size: offer.fingerprint.size,
            md5: Spelled(offer.fingerprint.digest),
            modes: Spelled(offer.modes),
            minted: offer.minted.as_millis(),
        }
    }
}

impl From<Offered> for Offer {
    fn from(offered: Offered) -> Self {
        Self {
            transfer: offered.transfer.0,
            name: offered.name.0,
            kind: offered.kind,
            entries: offered.entries,
            fingerprint: Fingerprint { size: offered.size, digest: offered.md5.0 },
            modes: offered.modes.0,
            minted: Time::from_millis(offered.minted),
        }
    }
}

impl From<Forward> for Forwarded {
    fn from(forward: Forward) -> Self {
        Self { offer: forward.offer.into(), upload: Spelled(forward.upload) }
    }
}

impl From<Forwarded> for Forward {
    fn from(forwarded: Forwarded) -> Self {
        Self { offer: forwarded.offer.into(), upload: forwarded.upload.0 }
    }
}

impl From<Receipt> for Proof {
    fn from(receipt: Receipt) -> Self {
        Self {
            transfer: Spelled(receipt.transfer),
            size: receipt.fingerprint.size,
            md5: Spelled(receipt.fingerprint.digest),
            remark: receipt.remark.as_deref().map(Line::cut),
        }
    }
}

impl From<Proof> for Receipt {
    fn from(proof: Proof) -> Self {
        Self {
            transfer: proof.transfer.0,
            fingerprint: Fingerprint { size: proof.size, digest: proof.md5.0 },
            remark: proof.remark.map(|remark| remark.into_text().into()),
        }
    }
}

impl From<Release> for Released {
    /// Names beyond [`RECEIVER_LIMIT`] are left out: they are only for people.
    fn from(release: Release) -> Self {
        Self {
            transfer: Spelled(release.transfer),
            size: release.fingerprint.size,
            md5: Spelled(release.fingerprint.digest),
            receivers: List(release.receivers.into_iter().take(RECEIVER_LIMIT).map(Spelled).collect()),
            remark: release.remark.as_deref().map(Line::cut),
        }
    }
}

impl From<Released> for Release {
    fn from(released: Released) -> Self {
        Self {
            transfer: released.transfer.0,
            fingerprint: Fingerprint { size: released.size, digest: released.md5.0 },
            receivers: released.receivers.0.into_iter().map(|name| name.0).collect(),
            remark: released.remark.map(|remark| remark.into_text().into()),
        }
    }
}

impl From<Wait> for Held {
    fn from(wait: Wait) -> Self {
        Self {
            transfer: Spelled(wait.transfer),
            cause: Code(wait.reason.cause().code().to_owned()),
            detail: Detail(wait.reason.detail().to_owned()),
        }
    }
}

impl From<Held> for Wait {
    fn from(held: Held) -> Self {
        let Code(code) = held.cause;
        let reason = match code.parse() {
            Ok(cause) => Reason::with(cause, &held.detail.0),
            Err(UnknownCause) if held.detail.is_empty() => Reason::with(Cause::Other, &code),
            Err(UnknownCause) => Reason::with(Cause::Other, &format!("{code}: {}", held.detail.0)),
        };
        Self { transfer: held.transfer.0, reason }
    }
}
