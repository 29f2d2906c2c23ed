//! The shape of a message, and its conversion from and to the machine's messages. Everything with this shape is valid.

use serde::{Deserialize, Serialize};

use crate::machine::{
    Cause, DETAIL_LIMIT, Digest, Extras, Fingerprint, Forward, GroupId, Kind, Message, Modes, NodeName, Offer, PlaceId,
    Reason, Receipt, Release, Time, TransferId, UnknownCause, Wait,
};

use super::RECEIVER_LIMIT;
use super::field::{Code, Detail, Directory, EncodedName, Line, List, Sender, Spelled};
use super::greeting::Greeting;

/// A whole message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Envelope<W> {
    pub(super) v: u64,
    pub(super) group: Spelled<GroupId>,
    pub(super) from: Sender,
    pub(super) words: W,
}

type Transfers = List<Spelled<TransferId>>;

/// The content, under its kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Payload {
    Hello(Box<Greeting>),
    New {
        offers: List<Offered>,
    },
    Withdraw {
        transfers: Transfers,
    },
    Cancel {
        transfers: Transfers,
    },
    Upload {
        place: Spelled<PlaceId>,
        location: Directory,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        links: bool,
        transfers: Transfers,
    },
    Sent {
        place: Spelled<PlaceId>,
        transfers: Transfers,
    },
    Received {
        transfers: Transfers,
    },
    Download {
        location: Directory,
        items: List<Forwarded>,
    },
    Done {
        receipts: List<Proof>,
    },
    Noted {
        transfers: Transfers,
    },
    Release {
        releases: List<Released>,
    },
    Freed {
        transfers: Transfers,
    },
    Closed {
        transfers: Transfers,
    },
    Waiting {
        waits: List<Held>,
    },
    Unknown {
        transfers: Transfers,
    },
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
    #[serde(default = "no_extras", skip_serializing_if = "has_no_extras")]
    extras: Spelled<Extras>,
}

fn no_modes() -> Spelled<Modes> {
    Spelled(Modes::default())
}

fn has_no_modes(modes: &Spelled<Modes>) -> bool {
    modes.0.is_empty()
}

fn no_extras() -> Spelled<Extras> {
    Spelled(Extras::default())
}

fn has_no_extras(extras: &Spelled<Extras>) -> bool {
    extras.0.is_empty()
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
            Self::Upload { place, location, links, transfers } => {
                let (place, location) = (place.clone(), location.clone());
                Self::Upload { place, location, links: *links, transfers: transfers.split_off(at) }
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
            Message::Upload { place, location, links, transfers } => {
                let (place, location) = (Spelled(place), Directory(location));
                Self::Upload { place, location, links, transfers: list(transfers) }
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
            Payload::Upload { place, location, links, transfers } => {
                Self::Upload { place: place.0, location: location.0, links, transfers: transfers.into_entries() }
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
            extras: Spelled(offer.extras),
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
            extras: offered.extras.0,
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
