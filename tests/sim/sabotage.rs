//! Machines made worse on purpose, from outside: each way of breaking the Promise has to be found out.

use synkler::machine::{CopyOutcome, Effect, Input, PlaceOutcome, Receipt, Record, Sight, Words};

use crate::daemon::Role;
use crate::sim::Sim;
use crate::world::signature;

/// What is made worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Upload cleans up as soon as central has received.
    CleanupBeforeRelease,
    /// Upload does not look at its source again before the cleanup.
    CleanupBlind,
    /// Upload forgets to write down what it does.
    UploadForgets,
    /// Central forgets to write down what it does.
    CentralForgets,
    /// Download forgets to write down what it does.
    DownloadForgets,
    /// Central takes any copy for what was announced.
    TakeBlind,
    /// Download takes any copy for what was announced.
    VerifyBlind,
    /// Placing overwrites what stands there.
    PlaceOverwrites,
    /// Download gives its receipt before it has placed anything.
    DoneEarly,
    /// Central drops its copy as soon as it has received it.
    DropEarly,
    /// Central drops its copy as soon as it has released it.
    KeepIgnored,
    /// Download does not remember what is finished.
    RecallForgets,
    /// Download takes a name that is occupied for success.
    OccupiedIsPlaced,
    /// Central never says release.
    ReleaseMissing,
    /// Upload says again and again that something is free.
    Babble,
}

impl Sim {
    /// A machine is told something other than what happened.
    pub(crate) fn sabotage_input(&mut self, node: usize, input: &mut Input) {
        let Some(sabotage) = self.sabotage else { return };
        match (sabotage, input) {
            (Sabotage::TakeBlind, Input::Taken { transfer, outcome: CopyOutcome::Found { fingerprint, .. } })
            | (Sabotage::VerifyBlind, Input::Verified { transfer, outcome: CopyOutcome::Found { fingerprint, .. } }) => {
                if let Some(row) = self.nodes[node].journal.rows.get(transfer) {
                    *fingerprint = row.fingerprint;
                }
            }
            (Sabotage::CleanupBlind, Input::Looked { transfer, sight: Sight::Present(seen) }) => {
                if let Some(fate) = self.checker.fates.get(transfer) {
                    *seen = signature(fate.stamp());
                }
            }
            (Sabotage::RecallForgets, Input::Recalled { row, .. }) => *row = None,
            (Sabotage::OccupiedIsPlaced, Input::Placed { outcome, .. }) if *outcome == PlaceOutcome::Occupied => {
                *outcome = PlaceOutcome::Placed(signature(0));
            }
            _ => {}
        }
    }

    /// Something other than what a machine wants is done.
    pub(crate) fn sabotage_effects(&mut self, node: usize, effects: &mut Vec<Effect>) {
        let Some(sabotage) = self.sabotage else { return };
        let role = self.nodes[node].role;
        let forgets = match sabotage {
            Sabotage::UploadForgets => matches!(role, Role::Upload(_)),
            Sabotage::CentralForgets => role == Role::Central,
            Sabotage::DownloadForgets => matches!(role, Role::Download(_)),
            _ => false,
        };
        if forgets {
            effects.retain(|effect| !matches!(effect, Effect::Persist(Record::Transfer(_))));
        }
        if sabotage == Sabotage::ReleaseMissing {
            effects.retain(|effect| !matches!(effect, Effect::Say { words: Words::Release(_), .. }));
        }
        let mut more = Vec::new();
        for effect in effects.iter() {
            match (sabotage, effect) {
                (Sabotage::CleanupBeforeRelease, Effect::Say { words: Words::Sent { transfers, .. }, .. }) => {
                    more.extend(transfers.iter().filter_map(|transfer| {
                        let row = self.nodes[node].journal.rows.get(transfer)?;
                        Some(Effect::Cleanup { transfer: *transfer, item: row.name.clone() })
                    }));
                }
                (Sabotage::DropEarly, Effect::Say { words: Words::Received(ids), .. }) => {
                    more.extend(ids.iter().map(|id| Effect::Drop(*id)));
                }
                (Sabotage::KeepIgnored, Effect::Say { words: Words::Release(list), .. }) => {
                    more.extend(list.iter().map(|release| Effect::Drop(release.transfer)));
                }
                (Sabotage::DoneEarly, Effect::Verify { transfer, .. }) => {
                    let Some(row) = self.nodes[node].journal.rows.get(transfer) else { continue };
                    let receipt = Receipt { transfer: *transfer, fingerprint: row.fingerprint };
                    let to = synkler::machine::Address::Node(self.nodes[0].node.clone());
                    more.push(Effect::Say { to, words: Words::Done(vec![receipt]) });
                }
                (Sabotage::Babble, Effect::Say { words: Words::Hello(_), to }) if matches!(role, Role::Upload(_)) => {
                    let known = self.checker.fates.iter().find(|(_, fate)| fate.required.is_some());
                    let freed = known.filter(|(_, fate)| !fate.placed.is_empty()).map(|(id, _)| *id);
                    more.extend(freed.map(|id| Effect::Say { to: to.clone(), words: Words::Waiting(vec![wait(id)]) }));
                }
                _ => {}
            }
        }
        effects.extend(more);
    }
}

fn wait(transfer: synkler::machine::TransferId) -> synkler::machine::Wait {
    synkler::machine::Wait { transfer, reason: synkler::machine::Cause::Queued.into() }
}
