//! Passing copies on: the required receivers, the order of offers, and receipts.

use std::collections::BTreeSet;

use std::time::Duration;

use super::{Central, Receiver, Stage, Transfer};
use crate::machine::dispatch::GATHER;
use crate::machine::shared::Timer;
use crate::machine::{
    Address, Cause, Forward, Level, Location, Message, Mode, Node, NodeName, Offer, Reason, Receipt, Release, Row,
    TransferId, Wait, one_line,
};

/// How often a copy is read again while a receiver reports the same difference.
const DOUBT_EVERY: Duration = Duration::from_secs(60 * 60);

impl Central {
    /// The required receivers of a copy that is verified now; `None` while none is known.
    pub(super) fn required(&self) -> Option<BTreeSet<NodeName>> {
        let known = || {
            let downloads = self.shared.peers.keys().filter(|node| node.mode == Mode::Download);
            downloads.map(|node| node.name.clone()).collect()
        };
        Some(self.settings.receivers.clone().unwrap_or_else(known)).filter(|names| !names.is_empty())
    }

    /// Central has verified the copy. Fixes the required receivers for good and offers the copy to them. Returns
    /// whether there are any.
    pub(super) fn hold(&mut self, id: TransferId) -> bool {
        let required = self.required();
        let Some(transfer) = self.transfers.get_mut(&id) else { return false };
        if transfer.row.receivers.is_empty() {
            let Some(required) = required else { return false };
            transfer.row.receivers = required.into_iter().map(|name| (name, None)).collect();
            for (name, _) in &transfer.row.receivers {
                transfer.receivers.insert(name.clone(), Receiver::default());
            }
        }
        transfer.row.attempts = 0;
        self.arrived = self.arrived.plus(transfer.row.room());
        let name = transfer.row.name.clone();
        let upload = Node::new(Mode::Upload, transfer.row.upload.clone());
        self.shared.log(Level::Info, Some(id), Some(&name), Some(&upload), "copy on central verified");
        self.move_to(id, Stage::Held, None);
        self.answer(id);
        self.forward(id);
        true
    }

    /// An operator has removed all required receivers. Other receivers may have a later content of this name, so they
    /// must not get this copy. Central drops the copy and requests the item again; upload can send it only if no later
    /// item of the name followed.
    pub(super) fn give_up_for_nobody(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        let (name, upload) = (transfer.row.name.clone(), Node::new(Mode::Upload, transfer.row.upload.clone()));
        let reason = Reason::with(Cause::Receivers, "every required receiver was removed from the group");
        let text = format!("central drops its copy and requests a new one: {}", reason.detail());
        self.shared.log(Level::Warn, Some(id), Some(&name), Some(&upload), text);
        self.drop_and_wait(id, reason);
    }

    pub(super) fn forward(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id).filter(|transfer| transfer.stage == Stage::Held) else { return };
        let pending: Vec<_> = transfer.pending().cloned().collect();
        for receiver in pending {
            if self.taking.is_idle() {
                self.shared.timers.set(Timer::SendTo(id, receiver), self.shared.now);
            } else {
                self.shared.timers.set(Timer::SendTo(id, receiver.clone()), self.shared.now.after(GATHER));
                self.gathered.insert((id, receiver));
            }
        }
    }

    /// No copy is being verified any more: offer now what waited for that.
    pub(super) fn forward_gathered(&mut self) {
        if self.gathered.is_empty() || !self.taking.is_idle() {
            return;
        }
        for (id, receiver) in std::mem::take(&mut self.gathered) {
            self.send_forward(id, &receiver);
        }
    }

    /// An earlier transfer of the same name that this receiver does not have yet. Contents of one name arrive in the
    /// order in which they followed each other at the source.
    fn predecessor(&self, id: TransferId, receiver: &NodeName) -> Option<TransferId> {
        let transfer = self.transfers.get(&id)?;
        let same = self.by_name.get(&(transfer.row.upload.clone(), transfer.row.name.clone()))?;
        let mut earlier = same.range(..(transfer.order, id)).map(|(_, earlier)| *earlier);
        // A requested item may be on its way or being verified, even if upload has forgotten it.
        let arriving = |earlier: &Transfer| earlier.stage == Stage::Granted && earlier.row.receivers.is_empty();
        earlier.find(|earlier| {
            let earlier = self.transfers.get(earlier);
            earlier.is_some_and(|earlier| arriving(earlier) || earlier.pending().any(|name| name == receiver))
        })
    }

    pub(super) fn send_forward(&mut self, id: TransferId, receiver: &NodeName) {
        self.gathered.remove(&(id, receiver.clone()));
        let behind = self.predecessor(id, receiver).is_some();
        let Ok(location) = Location::new(self.settings.spool.host(), &format!("{}/held", self.settings.spool.path()))
        else {
            return;
        };
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage == Stage::Held) else {
            return;
        };
        let pending = transfer.pending().any(|name| name == receiver);
        let Some(state) = transfer.receivers.get_mut(receiver).filter(|_| pending) else { return };
        if behind {
            state.reason = Some(Cause::Predecessor.into());
            return;
        }
        let to = Address::Node(Node::new(Mode::Download, receiver.clone()));
        // The copies are not in the directory that is there now.
        let held = self.shared.lacks_directory() || self.shared.holds(&transfer.row).is_some();
        if held || !self.shared.may_send(&to, state.sends) {
            return;
        }
        state.sends += 1;
        let sends = state.sends;
        let row = &transfer.row;
        let item = Forward { offer: Offer::of(row), upload: row.upload.clone() };
        if sends == 1 {
            let (name, peer) = (row.name.clone(), Node::new(Mode::Download, receiver.clone()));
            self.shared.log(Level::Info, Some(id), Some(&name), Some(&peer), "offered to the download");
        }
        self.shared.send(to, Message::Download { location, items: vec![item] });
        let wait = self.shared.repeat_after(sends);
        self.shared.timers.set(Timer::SendTo(id, receiver.clone()), self.shared.now.after(wait));
    }

    pub(super) fn on_receiver_waits(&mut self, from: &Node, wait: Wait) {
        let id = wait.transfer;
        let Some(transfer) = self.transfers.get_mut(&id) else {
            self.shared.send(Address::Node(from.clone()), Message::Unknown(vec![id]));
            return;
        };
        let required = &transfer.row.receivers;
        if !required.is_empty() && !transfer.pending().any(|name| *name == from.name) {
            // The receiver has given its receipt. Either this message is older than the receipt, and the answer does no
            // harm. Or the receiver has lost its journal and fetches the item again. Or an operator removed it from the
            // group, and it comes back with old offers. No transfer waits for it.
            self.shared.send(Address::Node(from.clone()), Message::Withdraw(vec![id]));
            return;
        }
        let pending = transfer.stage == Stage::Held && transfer.pending().any(|name| *name == from.name);
        let Some(state) = transfer.receivers.get_mut(&from.name) else { return };
        if pending && state.sends > 0 {
            let wait = self.shared.repeat_answered();
            self.shared.timers.set(Timer::SendTo(id, from.name.clone()), self.shared.now.after(wait));
        }
        let news = state.reason.as_ref() != Some(&wait.reason);
        // A receiver repeats for hours that a person has to act. Our copy need not be read each time, but it may have
        // been damaged since.
        let now = self.shared.now;
        let doubts = match wait.reason.cause() {
            Cause::Mismatch | Cause::Missing => true,
            Cause::Steady => news || state.doubted.is_none_or(|at| at > now || now.since(at) >= DOUBT_EVERY),
            _ => false,
        };
        if doubts {
            state.doubted = Some(now);
        }
        if news {
            state.reason = Some(wait.reason.clone());
            if transfer.row.attempts > 0 || doubts {
                let name = transfer.row.name.clone();
                self.shared.log(
                    Level::Info,
                    Some(id),
                    Some(&name),
                    Some(from),
                    format!("download waits: {}", wait.reason),
                );
            }
        }
        if doubts && transfer.stage == Stage::Held {
            self.taking.join(id);
        }
    }

    pub(super) fn on_receipt(&mut self, from: &Node, receipt: &Receipt) {
        let id = receipt.transfer;
        let now = self.shared.now;
        let to = Address::Node(from.clone());
        let Some(transfer) = self.transfers.get_mut(&id) else {
            // The transfer is finished here, or lost with the journal: the receiver's own journal remembers the
            // delivery.
            self.shared.send(to, Message::Noted(vec![id]));
            return;
        };
        let name = transfer.row.name.clone();
        if receipt.fingerprint != transfer.row.fingerprint {
            let text = format!("ignored a receipt with a different checksum: {}", receipt.fingerprint);
            self.shared.log(Level::Warn, Some(id), Some(&name), Some(from), text);
            return;
        }
        self.shared.send(to, Message::Noted(vec![id]));
        let Some((_, at)) = transfer.row.receivers.iter_mut().find(|(name, at)| *name == from.name && at.is_none())
        else {
            return;
        };
        *at = Some(now);
        if let Some(remark) = &receipt.remark {
            add_remark(&mut transfer.row.remark, &from.name, remark);
        }
        let all = transfer.row.receivers.iter().all(|(_, at)| at.is_some());
        let key = (transfer.row.upload.clone(), name.clone());
        self.shared.dirty.insert(id);
        self.shared.timers.stop(&Timer::SendTo(id, from.name.clone()));
        self.shared.log(Level::Info, Some(id), Some(&name), Some(from), "receipt");
        if all {
            self.release(id);
        }
        let followers: Vec<_> = self.by_name.get(&key).into_iter().flatten().map(|(_, other)| *other).collect();
        followers.into_iter().filter(|other| *other != id).for_each(|other| self.forward(other));
    }
}

/// The message to upload when all receipts are in.
pub(super) fn release_of(row: &Row) -> Release {
    Release {
        transfer: row.transfer,
        fingerprint: row.fingerprint,
        receivers: row.receivers.iter().map(|(name, _)| name.clone()).collect(),
        remark: row.remark.clone(),
    }
}

/// Appends the remark of a receiver to those of the others.
fn add_remark(known: &mut Option<Box<str>>, receiver: &NodeName, remark: &str) {
    let before = known.as_deref().map(|known| format!("{known}; ")).unwrap_or_default();
    *known = Some(one_line(&format!("{before}{receiver}: {remark}")).into());
}
