//! What counts as complete: by quiet time alone, by a marker, or because an operator submitted it.

use super::{ItemState, Upload};
use crate::machine::order::Outcome;
use crate::machine::shared::Timer;
use crate::machine::{Cause, Deed, Effect, ItemName, Level, Readiness, Reason, Record, Signature};

/// The maximum number of submitted items that are not sent yet.
const SUBMITTED_LIMIT: usize = 100_000;
/// What is told of an item that changed before it was sent.
const CHANGED: &str = "it has changed since it was submitted";

impl Upload {
    /// Why a content that was not handed over yet does not count as complete; `None` if it counts.
    pub(super) fn lack(&self, name: &ItemName) -> Option<Reason> {
        match &self.settings.ready {
            Readiness::Settled => None,
            Readiness::Marker(_) => self.items.get(name).and_then(|item| item.unmarked.clone()),
            Readiness::Submit if self.submitted.contains(name) => None,
            // It was submitted, and cancelled because it changed.
            Readiness::Submit if self.leaving.contains_key(name) => Some(Reason::with(Cause::Unsubmitted, CHANGED)),
            Readiness::Submit => Some(Reason::new(Cause::Unsubmitted)),
        }
    }

    /// Of a look that does not see markers: what is known of the marker of an item with this signature.
    pub(super) fn unmarked(&self, name: &ItemName, signature: Signature) -> Option<Reason> {
        self.settings.ready.marker()?;
        match self.items.get(name).filter(|item| item.signature == signature) {
            Some(item) => item.unmarked.clone(),
            // The watch will see.
            None => Some(Reason::with(Cause::Unmarked, "the item has just changed")),
        }
    }

    /// The item is looked at again when the watch sees a change, or an operator orders it. One that the watch does not
    /// know yet may be gone by now, so it is looked at until then.
    pub(super) fn wait_for(&mut self, name: &ItemName, lack: Reason) {
        if self.items.get(name).is_some_and(|item| !item.watched) {
            return self.hold(name, lack);
        }
        // That it was submitted once stays told.
        let is_known_lack = |state: &ItemState| match state {
            ItemState::Held(reason) => {
                *reason == lack || lack.detail().is_empty() && reason.cause() == Cause::Unsubmitted
            }
            _ => false,
        };
        let Some(item) = self.items.get_mut(name).filter(|item| !is_known_lack(&item.state)) else { return };
        if lack.cause() == Cause::Unmarked || !lack.detail().is_empty() {
            self.shared.log(Level::Info, None, Some(name), None, format!("waits: {lack}"));
        }
        item.state = ItemState::Held(lack);
    }

    /// Removes the marker of an item that was handed over and is gone.
    pub(super) fn unmark(&mut self, name: &ItemName) {
        if self.settings.ready.marker().is_some() {
            self.shared.effect(Effect::Unmark(name.clone()));
        }
    }

    pub(super) fn on_submitted(&mut self, items: Vec<(ItemName, Signature)>, by: &str) -> Vec<Deed> {
        if items.is_empty() {
            return vec![Deed::about(None, self.accepts_submissions())];
        }
        let mut deeds = Vec::new();
        for (name, signature) in items {
            let deed = Deed::about(Some(name.clone()), self.submit_item(&name, signature));
            let text = format!("submit ordered by {by}: {}", deed.text);
            self.shared.log(Level::Info, None, Some(&name), None, text);
            deeds.push(deed);
        }
        deeds
    }

    fn accepts_submissions(&self) -> Outcome {
        let ready = &self.settings.ready;
        if *ready != Readiness::Submit {
            return Err(format!("refused: ready is {}, so that nothing needs to be submitted", ready.as_str()));
        }
        if self.shared.lacks_directory() {
            return Err(format!("refused: {}", Cause::Directory.text()));
        }
        if self.submitted.len() >= SUBMITTED_LIMIT {
            return Err(format!("refused: {SUBMITTED_LIMIT} submitted items wait already; try again later"));
        }
        Ok("this upload sends what is submitted".to_owned())
    }

    fn submit_item(&mut self, name: &ItemName, signature: Signature) -> Outcome {
        self.accepts_submissions()?;
        // The operator means what is there now, which the watch may not have seen yet.
        self.see(name.clone(), signature, None, true);
        if self.submitted.contains(name) {
            return Err("nothing to do: it is submitted already".to_owned());
        }
        match self.items.get(name).map(|item| &item.state) {
            Some(ItemState::Bound) => return Err("nothing to do: it is being sent".to_owned()),
            Some(ItemState::Kept) => {
                let text = "nothing to do: this content was handed over already; it can be submitted when it changes";
                return Err(text.to_owned());
            }
            _ => {}
        }
        self.submitted.insert(name.clone());
        self.shared.persist(Record::Submitted(name.clone()));
        match self.items.get(name).map(|item| &item.state) {
            // It has said that it is complete.
            Some(ItemState::Settling | ItemState::Held(_)) => {
                self.shared.timers.set(Timer::Settle(name.clone()), self.shared.now);
            }
            Some(ItemState::Aside(_)) => self.insist(name),
            _ => {}
        }
        Ok("submitted: the upload sends it".to_owned())
    }

    /// The submission is used up, or the item is gone.
    pub(super) fn end_submission(&mut self, name: &ItemName) {
        if self.submitted.remove(name) {
            self.shared.persist(Record::Unsubmitted(name.clone()));
        }
    }
}
