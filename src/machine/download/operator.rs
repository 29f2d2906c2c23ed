//! Orders of operators.

use super::{Download, DownloadSettings, Stage};
use crate::machine::order::Outcome;
use crate::machine::orders::{Operable, carry_out};
use crate::machine::shared::{Shared, Timer};
use crate::machine::{Address, Deed, ItemName, ItemOrder, Node, Order, Row, TransferId};

impl Download {
    pub(in crate::machine) fn order(&mut self, by: &str, order: Order) -> Vec<Deed> {
        let deeds = carry_out(self, by, order);
        self.go_on_with_work();
        deeds
    }

    pub(in crate::machine) fn reconfigure(&mut self, settings: DownloadSettings) {
        let DownloadSettings { slots, cleanup, keep_modes, .. } = settings;
        if self.settings.slots != slots {
            self.dispatch.set_slots(slots);
            self.shared.slots = slots;
            self.shared.hello(Address::All, false);
        }
        self.settings.slots = slots;
        self.settings.cleanup = cleanup;
        self.cleaning.reconfigure(cleanup);
        self.settings.keep_modes = keep_modes;
        self.go_on_with_work();
    }

    /// Tells central why download does not fetch the offered item, or that it fetches it again.
    fn tell_central(&mut self, id: TransferId) {
        if let Some(transfer) = self.transfers.get_mut(&id).filter(|transfer| !transfer.stage.is_delivered()) {
            transfer.sends = 0;
            self.shared.timers.set(Timer::Send(id), self.shared.now);
        }
    }
}

impl Operable for Download {
    fn shared(&mut self) -> &mut Shared {
        &mut self.shared
    }

    fn entries(&self) -> impl Iterator<Item = (Option<TransferId>, &ItemName)> {
        self.transfers.iter().map(|(id, transfer)| (Some(*id), &transfer.row.name))
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
        let Some(transfer) = self.transfers.get(&id) else { return };
        let (stage, dropping) = (transfer.stage, transfer.dropping);
        let waits = self.shared.timers.due(&Timer::Retry(id)).is_some();
        if matches!(stage, Stage::Wanted | Stage::Delivered) && !dropping && !waits {
            self.on_retry(id);
        }
        self.tell_central(id);
    }

    fn go_on(&mut self) {}

    fn carry_out(&mut self, order: ItemOrder, id: TransferId, _: &str) -> Option<Outcome> {
        match order {
            ItemOrder::Retry => Some(self.retry(id)),
            ItemOrder::Bump => Some(self.bump(id)),
            // Only its upload can cancel it.
            ItemOrder::Withdraw => None,
        }
    }

    fn on_directory_back(&mut self) {
        Self::on_directory_back(self);
    }

    fn forget(&mut self, _: &Node) -> Vec<Deed> {
        Vec::new()
    }
}

impl Download {
    fn retry(&mut self, id: TransferId) -> Outcome {
        let Some(transfer) = self.transfers.get_mut(&id) else { return Err("the transfer is finished".to_owned()) };
        let waited = self.shared.timers.due(&Timer::Retry(id)).is_some();
        match transfer.stage {
            Stage::Wanted | Stage::Placing | Stage::Delivered if waited => {
                let stage = transfer.stage;
                self.shared.timers.stop(&Timer::Retry(id));
                if stage == Stage::Wanted {
                    // The next measurement shows whether there is space now.
                    self.shared.timers.stop(&Timer::Measure);
                }
                self.on_retry(id);
                Ok(match stage {
                    Stage::Wanted => "the download fetches the item again now".to_owned(),
                    Stage::Placing => "the download retries the delivery now".to_owned(),
                    _ => "the cleanup is retried now".to_owned(),
                })
            }
            Stage::Wanted if self.dispatch.end_backoff(&mut self.shared, id) => {
                Ok("the connection to central is retried now".to_owned())
            }
            Stage::Wanted if transfer.dropping => Err("nothing to do: the bad copy is being deleted".to_owned()),
            Stage::Wanted => Err("nothing to do: queued for rsync".to_owned()),
            Stage::Pulling => Err("nothing to do: rsync is fetching the item".to_owned()),
            Stage::Verifying => Err("nothing to do: the copy is being verified".to_owned()),
            Stage::Placing => Err("nothing to do: the item is being delivered".to_owned()),
            Stage::Delivered | Stage::Cleaning => Err("nothing to do: the cleanup is running".to_owned()),
            Stage::Cleaned => {
                transfer.sends = 0;
                self.shared.timers.set(Timer::Send(id), self.shared.now);
                Ok("the receipt is sent to central again now".to_owned())
            }
            Stage::Closed | Stage::Withdrawn => Err("the transfer is finished".to_owned()),
        }
    }

    fn bump(&mut self, id: TransferId) -> Outcome {
        let Some(transfer) = self.transfers.get_mut(&id) else { return Err("the transfer is finished".to_owned()) };
        match transfer.stage {
            Stage::Wanted => {}
            Stage::Pulling => return Err("nothing to do: rsync is fetching the item".to_owned()),
            _ => return Err("nothing to do: already fetched".to_owned()),
        }
        transfer.first = true;
        if self.dispatch.put_first(id) {
            Ok("the download fetches the item next".to_owned())
        } else {
            Ok("the download fetches the item first at the next retry".to_owned())
        }
    }
}
