//! Orders of operators.

use super::{ItemState, Stage, Upload, UploadSettings};
use crate::machine::order::Outcome;
use crate::machine::orders::{NO_TRANSFER, Operable, carry_out};
use crate::machine::shared::{Shared, Timer};
use crate::machine::{
    Address, Cause, Deed, ItemName, ItemOrder, Message, Node, Order, Reason, Row, Signature, TransferId, Wait,
};

impl Upload {
    pub(in crate::machine) fn order(&mut self, by: &str, order: Order) -> Vec<Deed> {
        let deeds = carry_out(self, by, order);
        self.go_on_with_work();
        deeds
    }

    pub(in crate::machine) fn reconfigure(&mut self, settings: UploadSettings) {
        let UploadSettings { settle, slots, cleanup, .. } = settings;
        if self.settings.slots != slots {
            self.dispatch.set_slots(slots);
            self.shared.slots = slots;
            self.shared.hello(Address::All, false);
        }
        self.settings.slots = slots;
        self.settings.settle = settle;
        self.settings.cleanup = cleanup;
        self.cleaning.reconfigure(cleanup);
        self.go_on_with_work();
    }

    /// Tells central why the requested item does not come, or that it comes now.
    pub(super) fn tell_central(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| transfer.stage == Stage::Granted) else {
            return;
        };
        transfer.sends = 0;
        if self.shared.lacks_directory() || transfer.row.paused.is_some() || transfer.row.reason.is_some() {
            self.shared.timers.set(Timer::Send(id), self.shared.now);
        } else if let Some(central) = &transfer.row.central {
            let to = Address::Node(Node::new(crate::machine::Mode::Central, central.clone()));
            self.shared.timers.stop(&Timer::Send(id));
            self.shared.send(to, Message::Waiting(vec![Wait { transfer: id, reason: Cause::Queued.into() }]));
        }
    }
}

impl Operable for Upload {
    fn shared(&mut self) -> &mut Shared {
        &mut self.shared
    }

    fn entries(&self) -> impl Iterator<Item = (Option<TransferId>, &ItemName)> {
        let items = self.items.iter().filter(|(_, item)| item.shown().is_some()).map(|(name, _)| (None, name));
        self.transfers.iter().map(|(id, transfer)| (Some(*id), &transfer.row.name)).chain(items)
    }

    fn row(&mut self, id: TransferId) -> Option<&mut Row> {
        self.transfers.get_mut(&id).map(|transfer| &mut transfer.row)
    }

    fn halt(&mut self, chosen: &dyn Fn(TransferId) -> bool) -> u64 {
        self.dispatch.halt(&mut self.shared, chosen)
    }

    fn hold_back(&mut self, id: TransferId) {
        self.dispatch.leave_line(id);
        self.tell_central(id);
    }

    fn let_go_on(&mut self, id: TransferId) {
        self.tell_central(id);
        if self.shared.timers.due(&Timer::Retry(id)).is_none() {
            self.on_retry(id);
        }
    }

    fn go_on(&mut self) {}

    fn carry_out(&mut self, order: ItemOrder, id: TransferId, by: &str) -> Option<Outcome> {
        match order {
            ItemOrder::Retry => Some(self.retry(id)),
            ItemOrder::Bump => Some(self.bump(id)),
            ItemOrder::Withdraw => self.withdraw(id, by),
        }
    }

    fn carry_out_for_item(&mut self, order: ItemOrder, name: &ItemName) -> Outcome {
        match order {
            ItemOrder::Retry => self.retry_item(name),
            ItemOrder::Bump | ItemOrder::Withdraw => Err(NO_TRANSFER.to_owned()),
        }
    }

    fn submit(&mut self, items: Vec<(ItemName, Signature)>, by: &str) -> Vec<Deed> {
        self.on_submitted(items, by)
    }

    fn on_directory_back(&mut self) {
        self.tell_of_directory();
    }

    fn forget(&mut self, _: &Node) -> Vec<Deed> {
        Vec::new()
    }
}

impl Upload {
    fn retry(&mut self, id: TransferId) -> Outcome {
        let Some((stage, name)) = self.transfers.get(&id).map(|transfer| (transfer.stage, transfer.row.name.clone()))
        else {
            return Err("the transfer is finished".to_owned());
        };
        // The present file under the name is put aside; only such an order sends it.
        if stage == Stage::Freed && self.items.get(&name).is_some_and(|item| matches!(item.state, ItemState::Aside(_)))
        {
            return self.retry_item(&name);
        }
        let waited = self.shared.timers.due(&Timer::Retry(id)).is_some();
        match stage {
            Stage::Granted if waited => {
                self.shared.timers.stop(&Timer::Retry(id));
                self.on_retry(id);
                Ok("the upload sends the item again now".to_owned())
            }
            Stage::Granted if self.dispatch.end_backoff(&mut self.shared, id) => {
                Ok("the connection to central is retried now".to_owned())
            }
            Stage::Granted => Err("nothing to do: queued for rsync".to_owned()),
            Stage::Sending | Stage::Checking => Err("nothing to do: rsync is sending the item".to_owned()),
            Stage::Received => Err("nothing to do: central holds the copy, and receivers fetch it".to_owned()),
            Stage::Releasing if waited => {
                self.shared.timers.stop(&Timer::Retry(id));
                self.on_retry(id);
                Ok("the cleanup is retried now".to_owned())
            }
            Stage::Releasing | Stage::Cleaning => Err("nothing to do: the cleanup is running".to_owned()),
            Stage::Announced | Stage::Sent | Stage::Freed | Stage::Withdrawing => {
                if let Some(transfer) = self.transfers.get_mut(&id) {
                    transfer.sends = 0;
                }
                self.shared.timers.set(Timer::Send(id), self.shared.now);
                Ok("the upload tells central again now".to_owned())
            }
            Stage::Closed | Stage::Withdrawn => Err("the transfer is finished".to_owned()),
        }
    }

    fn retry_item(&mut self, name: &ItemName) -> Outcome {
        if self.shared.lacks_directory() {
            // "As it is now" would be what nobody can see.
            return Err(format!("nothing to do: {}", Cause::Directory.text()));
        }
        match self.items.get(name).map(|item| &item.state) {
            Some(ItemState::Aside(_)) => {
                self.insist(name);
                Ok("the item is sent as it is now".to_owned())
            }
            Some(ItemState::Held(reason)) if reason.cause() == Cause::Unmounted => {
                self.insist(name);
                Ok("the item is sent as it is now, without the file system that was mounted in it".to_owned())
            }
            Some(ItemState::Held(reason)) if matches!(reason.cause(), Cause::Unmarked | Cause::Unsubmitted) => {
                self.insist(name);
                Ok("the item is sent as it is now".to_owned())
            }
            Some(ItemState::Held(_)) => {
                self.shared.timers.set(Timer::Settle(name.clone()), self.shared.now);
                Ok("the upload examines the item again now".to_owned())
            }
            Some(ItemState::Settling) => Err("nothing to do: the item must stay unchanged first".to_owned()),
            Some(ItemState::Hashing) => Err("nothing to do: the checksum is being computed".to_owned()),
            _ => Err("nothing to do: an earlier transfer of the same name comes first".to_owned()),
        }
    }

    fn bump(&mut self, id: TransferId) -> Outcome {
        let Some(transfer) = self.transfers.get_mut(&id) else { return Err("the transfer is finished".to_owned()) };
        match transfer.stage {
            Stage::Announced | Stage::Granted => {}
            Stage::Sending | Stage::Checking => return Err("nothing to do: rsync is sending the item".to_owned()),
            _ => return Err("nothing to do: already sent".to_owned()),
        }
        transfer.first = true;
        if self.dispatch.put_first(id) {
            Ok("the upload sends the item next".to_owned())
        } else {
            Ok("the upload sends the item next when central requests it".to_owned())
        }
    }

    /// The source is kept like a delivered one that stays: it is not sent again until it changes.
    fn withdraw(&mut self, id: TransferId, by: &str) -> Option<Outcome> {
        let transfer = self.transfers.get(&id)?;
        match transfer.stage {
            Stage::Releasing | Stage::Cleaning | Stage::Freed | Stage::Closed => {
                return Some(Err("refused: every receiver already has the item".to_owned()));
            }
            Stage::Withdrawing | Stage::Withdrawn => {
                return Some(Err("nothing to do: already cancelled".to_owned()));
            }
            _ => {}
        }
        let was_received = matches!(transfer.stage, Stage::Sent | Stage::Received);
        let (name, signature, fingerprint, mounts) =
            (transfer.row.name.clone(), transfer.row.signature, transfer.row.fingerprint, transfer.row.mounts.clone());
        let is_latest = self.latest.get(&name) == Some(&id);
        self.dispatch.disown(&mut self.shared, id);
        if self.latest.get(&name) == Some(&id) {
            self.latest.remove(&name);
        }
        // A later item under the same name belongs to another transfer.
        if let Some(signature) = signature.filter(|_| is_latest) {
            self.keep(&name, signature, fingerprint, mounts);
        }
        self.move_to(id, Stage::Withdrawing, Some(Reason::with(Cause::Withdrawn, &format!("by {by}"))));
        let text = "cancelled: the source is kept and not sent again until it changes";
        Some(Ok(if was_received { format!("{text}; receivers keep the copies they have") } else { text.to_owned() }))
    }
}
