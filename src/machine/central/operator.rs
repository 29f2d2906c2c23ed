//! Orders of operators.

use std::collections::BTreeSet;

use super::{Central, CentralSettings, Stage};
use crate::machine::order::Outcome;
use crate::machine::orders::{Operable, carry_out};
use crate::machine::shared::{Shared, Timer};
use crate::machine::{Deed, ItemName, ItemOrder, Level, Mode, Node, NodeName, Order, Row, TransferId};

impl Central {
    pub(in crate::machine) fn order(&mut self, by: &str, order: Order) -> Vec<Deed> {
        let deeds = carry_out(self, by, order);
        self.go_on_with_work();
        deeds
    }

    pub(in crate::machine) fn reconfigure(&mut self, settings: CentralSettings) {
        let CentralSettings { receivers, keep, free_millipercent, keep_modes, .. } = settings;
        self.settings.receivers = receivers;
        self.settings.free_millipercent = free_millipercent;
        self.settings.keep = keep;
        self.settings.keep_modes = keep_modes;
        for (id, transfer) in &self.transfers {
            let last = transfer.row.receivers.iter().filter_map(|(_, at)| *at).max();
            if let Some(last) = last
                && self.shared.timers.due(&Timer::Keep(*id)).is_some()
            {
                self.shared.timers.set(Timer::Keep(*id), last.after(keep));
            }
        }
        self.go_on_with_work();
    }

    pub(super) fn leave_line(&mut self, id: TransferId) -> bool {
        let Some(transfer) = self.transfers.get(&id) else { return false };
        self.lines.get_mut(&transfer.row.upload).is_some_and(|line| line.remove(&(transfer.turn, id)))
    }

    /// Stops requiring this receiver's receipt. Returns whether that releases the transfer. If no receiver is left it
    /// does not: a source is never released without a receipt.
    fn stop_requiring(&mut self, id: TransferId, receiver: &NodeName) -> bool {
        let Some(transfer) = self.transfers.get_mut(&id) else { return false };
        transfer.row.receivers.retain(|(name, at)| name != receiver || at.is_some());
        transfer.receivers.remove(receiver);
        let left = &transfer.row.receivers;
        let (nobody, all) = (left.is_empty(), left.iter().all(|(_, at)| at.is_some()));
        let (name, held) = (transfer.row.name.clone(), transfer.stage == Stage::Held);
        self.shared.dirty.insert(id);
        self.shared.timers.stop(&Timer::SendTo(id, receiver.clone()));
        let text = format!("receipt of {receiver} no longer required: an operator removed it from the group");
        self.shared.log(Level::Warn, Some(id), Some(&name), None, text);
        if nobody && held {
            self.give_up_for_nobody(id);
        } else if all && !nobody {
            self.release(id);
        }
        all && !nobody
    }
}

impl Operable for Central {
    fn shared(&mut self) -> &mut Shared {
        &mut self.shared
    }

    fn entries(&self) -> impl Iterator<Item = (Option<TransferId>, &ItemName)> {
        self.transfers.iter().map(|(id, transfer)| (Some(*id), &transfer.row.name))
    }

    fn row(&mut self, id: TransferId) -> Option<&mut Row> {
        self.transfers.get_mut(&id).map(|transfer| &mut transfer.row)
    }

    /// Other nodes connect to central, so central has no runs of its own.
    fn halt(&mut self, _: &dyn Fn(TransferId) -> bool) -> u64 {
        0
    }

    fn hold_back(&mut self, id: TransferId) {
        self.leave_line(id);
        let Some(transfer) = self.transfers.get(&id) else { return };
        for receiver in transfer.receivers.keys() {
            self.shared.timers.stop(&Timer::SendTo(id, receiver.clone()));
        }
        if transfer.stage == Stage::Waiting {
            self.answer(id);
        }
    }

    fn let_go_on(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        match transfer.stage {
            Stage::Waiting => {
                if !transfer.dropping && self.shared.timers.due(&Timer::Retry(id)).is_none() {
                    self.line_up(id);
                }
                self.answer(id);
            }
            Stage::Held => self.forward(id),
            _ => {}
        }
    }

    fn go_on(&mut self) {
        self.wake(None);
    }

    fn on_directory_back(&mut self) {
        Self::on_directory_back(self);
    }

    fn carry_out(&mut self, order: ItemOrder, id: TransferId, _: &str) -> Option<Outcome> {
        match order {
            ItemOrder::Retry => Some(self.retry(id)),
            ItemOrder::Bump => Some(self.bump(id)),
            ItemOrder::Withdraw => self.withdraw(id),
        }
    }

    fn forget(&mut self, node: &Node) -> Vec<Deed> {
        if node.mode != Mode::Download {
            return Vec::new();
        }
        let lacking: BTreeSet<_> = self
            .transfers
            .iter()
            .filter(|(_, transfer)| transfer.pending().any(|name| *name == node.name))
            .map(|(id, _)| *id)
            .collect();
        let released = lacking.iter().filter(|id| self.stop_requiring(**id, &node.name)).count();
        let mut deeds = Vec::new();
        if !lacking.is_empty() {
            let count = lacking.len();
            let text =
                format!("{count} transfers no longer wait for its receipt; {released} of them now have all receipts");
            deeds.push(Deed::about(None, Ok(text)));
        }
        if self.settings.receivers.as_ref().is_some_and(|names| names.contains(&node.name)) {
            let text = "new transfers still wait for this node: remove it from config key receivers on central";
            deeds.push(Deed::about(None, Ok(text.to_owned())));
        }
        deeds
    }
}

impl Central {
    fn retry(&mut self, id: TransferId) -> Outcome {
        let no_receivers = self.required().is_none();
        let Some(transfer) = self.transfers.get_mut(&id) else { return Err("the transfer is finished".to_owned()) };
        let waited = self.shared.timers.due(&Timer::Retry(id)).is_some();
        let taking = self.taking.is_inside(&id);
        match transfer.stage {
            Stage::Waiting if no_receivers => {
                Err("nothing to do: no download node has joined the group yet".to_owned())
            }
            Stage::Waiting if transfer.dropping => Err("nothing to do: the bad copy is being deleted".to_owned()),
            Stage::Waiting => {
                self.shared.timers.stop(&Timer::Retry(id));
                self.shared.timers.stop(&Timer::Measure);
                self.line_up(id);
                Ok("central requests the item now if there is space".to_owned())
            }
            Stage::Granted | Stage::Held if taking => Err("nothing to do: the copy is being verified".to_owned()),
            Stage::Granted | Stage::Held if waited => {
                self.shared.timers.stop(&Timer::Retry(id));
                self.on_retry(id);
                Ok("central verifies the copy again now".to_owned())
            }
            Stage::Granted => {
                transfer.sends = 0;
                self.shared.timers.set(Timer::Send(id), self.shared.now);
                Ok("central requests the item from the upload again now".to_owned())
            }
            Stage::Held => {
                let pending: Vec<_> = transfer.pending().cloned().collect();
                if pending.is_empty() {
                    return Err("nothing to do: no receiver is known".to_owned());
                }
                for name in &pending {
                    if let Some(state) = transfer.receivers.get_mut(name) {
                        state.sends = 0;
                    }
                }
                self.forward(id);
                let names: Vec<_> = pending.iter().map(NodeName::as_str).collect();
                Ok(format!("offered again now to {}", names.join(", ")))
            }
            Stage::Released if waited => {
                self.shared.timers.stop(&Timer::Retry(id));
                self.on_retry(id);
                Ok("central deletes the copy now".to_owned())
            }
            Stage::Released if !transfer.row.acknowledged => {
                transfer.sends = 0;
                self.shared.timers.set(Timer::Send(id), self.shared.now);
                Ok("central tells the upload again now to release the source".to_owned())
            }
            Stage::Released => {
                Err("nothing to do: the copy is kept for keep_minutes after the last receipt".to_owned())
            }
            Stage::Closed | Stage::Withdrawn => Err("the transfer is finished".to_owned()),
        }
    }

    fn bump(&mut self, id: TransferId) -> Outcome {
        match self.transfers.get(&id).map(|transfer| transfer.stage) {
            Some(Stage::Waiting) => {}
            Some(Stage::Granted) => return Err("nothing to do: already requested from the upload".to_owned()),
            _ => return Err("nothing to do: central already has the copy".to_owned()),
        }
        let stood = self.leave_line(id);
        self.first_turn = self.first_turn.saturating_sub(1);
        if let Some(transfer) = self.transfers.get_mut(&id) {
            transfer.turn = self.first_turn;
        }
        if !stood {
            return Ok("central requests the item first at the next retry".to_owned());
        }
        self.line_up(id);
        Ok("central requests the item next".to_owned())
    }

    fn withdraw(&mut self, id: TransferId) -> Option<Outcome> {
        let over = self.transfers.get(&id).is_some_and(|transfer| transfer.stage == Stage::Released);
        over.then(|| Err("refused: every receiver already has the item".to_owned()))
    }
}
