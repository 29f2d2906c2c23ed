//! When the spool is not there, and when it is back.

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

    /// What the journal says is held is to be seen again before anything is said of it.
    fn see_nothing(&mut self) {
        let held = self.transfers.iter().filter(|(_, transfer)| transfer.stage == Stage::Held);
        self.unseen = held.map(|(id, _)| *id).collect();
    }

    /// What was to be done there goes on.
    pub(super) fn on_directory_back(&mut self) {
        self.see_nothing();
        self.sweep();
        // What was measured meanwhile was another file system.
        self.space = None;
        self.shared.timers.stop(&Timer::Measure);
        self.shared.hello(Address::All, false);
        self.wake(None);
    }
}
