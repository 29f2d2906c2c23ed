//! What all roles do in the same way with their transfers: the move to another stage, the end, and the journal rows.

use super::shared::{Shared, Timer};
use super::stage::{Counts, Move};
use super::{Effect, Level, Reason, Record, Row, TransferId};

/// The stages of a role.
pub(super) trait Stages: Copy + Ord + 'static {
    /// Every move that the role makes.
    const MOVES: &'static [Move<Self>];
    /// The stable word of the stage.
    fn word(self) -> &'static str;
    /// The stage that the journal stores: what a run or a look does ends with the daemon.
    fn stored(self) -> Self {
        self
    }
}

impl Shared {
    /// Moves a transfer to another stage. Returns whether its journal row changes.
    pub(super) fn move_row<S: Stages>(
        &mut self,
        row: &mut Row,
        (at, to): (&mut S, S),
        reason: Option<Reason>,
        counts: &mut Counts<S>,
    ) -> bool {
        if *at != to {
            if !S::MOVES.iter().any(|(from, into, _)| *from == *at && *into == to) {
                let text = format!("bug: moved from {} to {}", at.word(), to.word());
                self.log(Level::Error, Some(row.transfer), Some(&row.name), None, text);
            }
            row.since = self.now;
        }
        let has_changed = at.stored() != to.stored() || row.reason != reason;
        counts.leave(*at);
        counts.enter(to);
        *at = to;
        row.reason = reason;
        self.timers.stop(&Timer::Retry(row.transfer));
        has_changed
    }

    /// Journals a transfer for the last time.
    pub(super) fn close_row<S: Stages>(&mut self, row: &mut Row, at: S, counts: &mut Counts<S>) {
        counts.leave(at);
        row.finished = Some(self.now);
        row.stage = at.stored().word().to_owned();
        self.dirty.remove(&row.transfer);
        self.persist(Record::Transfer(Box::new(row.clone())));
        for timer in [Timer::Send(row.transfer), Timer::Retry(row.transfer)] {
            self.timers.stop(&timer);
        }
    }

    /// Sends at once the messages that these transfers owe.
    pub(super) fn send_now(&mut self, transfers: impl Iterator<Item = TransferId>) {
        let now = self.now;
        transfers.for_each(|id| self.timers.set(Timer::Send(id), now));
    }

    /// The next effect. Records come first. Then come the hellos that are due; they say what this node does.
    pub(super) fn poll<'a, S: Stages>(
        &mut self,
        kept: impl Fn(&TransferId) -> Option<(&'a Row, S)>,
        doing: Option<String>,
    ) -> Option<Effect> {
        while let Some(id) = self.dirty.pop_first() {
            if let Some((row, stage)) = kept(&id) {
                let stage = stage.stored().word().to_owned();
                self.persist(Record::Transfer(Box::new(Row { stage, ..row.clone() })));
            }
        }
        if let Some(doing) = doing {
            self.send_hellos(&doing);
        }
        self.poll_effect()
    }
}
