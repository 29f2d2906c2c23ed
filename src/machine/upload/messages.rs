//! The messages of an upload about its transfers, repeated until they are answered.

use std::time::Duration;

use super::{Stage, Upload};
use crate::machine::shared::Timer;
use crate::machine::stage::Why;
use crate::machine::{Address, Message, Mode, Node, Offer, TransferId, Wait};

/// How often upload asks central whether it still holds what it has received, approximately.
const RECEIVED_AGAIN: Duration = Duration::from_secs(60 * 60);

impl Upload {
    pub(super) fn send_owed(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        let row = &transfer.row;
        let to = match &row.central {
            Some(name) => Address::Node(Node::new(Mode::Central, name.clone())),
            None => self.shared.any_central(),
        };
        if !self.shared.may_send(&to, transfer.sends) {
            return;
        }
        let message = match transfer.stage {
            Stage::Announced => Message::New(vec![Offer::of(row)]),
            Stage::Received if row.place.is_none() => Message::New(vec![Offer::of(row)]),
            Stage::Granted => match (&row.paused, self.shared.no_directory.as_ref().or(row.reason.as_ref())) {
                (Some(pause), _) => {
                    let reason = Why::Paused(pause).reason();
                    Message::Waiting(vec![Wait { transfer: id, reason }])
                }
                (None, Some(reason)) => Message::Waiting(vec![Wait { transfer: id, reason: reason.clone() }]),
                (None, None) => return,
            },
            Stage::Sent | Stage::Received => match row.place {
                Some(place) => Message::Sent { place, transfers: vec![id] },
                None => return,
            },
            Stage::Freed => Message::Freed(vec![id]),
            // Central drops the place after this message, and a run would create it again: send it only after the end
            // of the run.
            Stage::Withdrawing if self.dispatch.is_moving(id) => return,
            Stage::Withdrawing if row.is_ordered_away() => Message::Cancel(vec![id]),
            Stage::Withdrawing => Message::Withdraw(vec![id]),
            _ => return,
        };
        transfer.sends += 1;
        let (sends, stage) = (transfer.sends, transfer.stage);
        self.shared.send(to, message);
        if stage != Stage::Received {
            let wait = self.shared.repeat_after(sends);
            self.shared.timers.set(Timer::Send(id), self.shared.now.after(wait));
        }
    }

    /// Central repeats the messages about a copy that it holds. A central whose journal was restored from an older copy
    /// does not know the copy: so upload asks from time to time.
    pub(super) fn ask_later(&mut self, id: TransferId) {
        let wait = self.shared.backoff(RECEIVED_AGAIN, 0, RECEIVED_AGAIN);
        self.shared.timers.set(Timer::Send(id), self.shared.now.after(wait));
    }
}
