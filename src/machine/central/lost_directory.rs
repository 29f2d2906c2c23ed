//! What central does when another directory is in place of the spool, and when the spool is back.

use super::{Central, Stage};
use crate::machine::lost_directory::Turn;
use crate::machine::shared::Timer;
use crate::machine::{Address, Directory};

impl Central {
    pub(super) fn on_directory(&mut self, found: Directory) {
        match self.shared.on_directory(found) {
            Turn::Same => {}
            Turn::Lost => {
                self.shared.hello(Address::All, false);
                self.see_nothing();
            }
            Turn::Back => self.on_directory_back(),
        }
    }

    /// Central must see each held copy again before it confirms or offers it.
    fn see_nothing(&mut self) {
        let held = self.transfers.iter().filter(|(_, transfer)| transfer.stage == Stage::Held);
        self.unseen = held.map(|(id, _)| *id).collect();
    }

    /// Continues the work in the spool.
    pub(super) fn on_directory_back(&mut self) {
        self.see_nothing();
        self.sweep();
        // The last measurement was of another file system.
        self.space = None;
        self.shared.timers.stop(&Timer::Measure);
        self.shared.hello(Address::All, false);
        self.wake(None);
    }
}
