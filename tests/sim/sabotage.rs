//! Machines made worse on purpose, from outside: each way of breaking the Promise has to be found out.

use synkler::machine::{
    Address, Cause, CleanupItem, Cleared, CopyOutcome, Digest, Effect, Extra, Extras, Forward, Input, Keep, Location,
    Message, Mode, Node, Offer, Order, PlaceOutcome, Protocols, Receipt, Record, Release, Row, RunOutcome, Scope,
    Sight,
};

use crate::daemon::{Role, SPOOL};
use crate::directory::Stands;
use crate::lots::OF_SEVERAL;
use crate::plan::Script;
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
    LookupForgets,
    /// Download takes a name that is occupied for success.
    OccupiedIsPlaced,
    /// Central never says release.
    ReleaseMissing,
    /// An order that pauses is written down and not kept.
    PauseIgnored,
    /// An order to stop what runs lets it run.
    StopIgnored,
    /// Who is forgotten counts as having given its receipts.
    ForgetReleases,
    /// What an operator gives up is cleaned up.
    CleanupWithdrawn,
    /// Central never looks for what late runs have left.
    SweepMissing,
    /// Central believes its journal that what it held once is still there.
    LossUnseen,
    /// Upload says again and again that something is free.
    Babble,
    /// Download does not remember what a wrong copy was found to be.
    WrongForgotten,
    /// A node takes every other for one that speaks its protocol.
    ApartIgnored,
    /// Download does not see that its file system cannot hold something.
    RefusalMissed,
    /// Download takes the modes that come from central for those that were announced.
    ModesBelieved,
    /// Download does not tell that modes are not kept.
    UnkeptUnsaid,
    /// Runs leave behind what is announced beside content and modes.
    ExtrasLeftBehind,
    /// Download does not see that it is lost.
    LossOfExtrasUnsaid,
    /// Runs of several items link their files.
    ItemsLinked,
    /// Upload does not remember that its script has left something.
    LeftoverForgotten,
    /// What was held for a download that is forgotten is offered to the others instead.
    ForgetReassigns,
    /// Nobody knows that inodes are limited.
    InodesUnmeasured,
    /// Inodes are not promised to what is on its way.
    InodesUnreserved,
    /// What there was no room for keeps the room that it has got.
    PutBackStays,
    /// What central is through with is left out of the group's view.
    ThroughIsHidden,
    /// An interrupted cleanup of synkler's own is not finished.
    CleanupUnfinished,
    /// The marker of an earlier content counts for a later one.
    StaleMarkerCounts,
    /// A script that fails for several items counts as having done each.
    LotBelieved,
    /// Nobody sees that another directory is there.
    DirectoryIgnored,
    /// Drivers do not make sure which directory it is before they do something.
    EnteredBlindly,
    /// The watch takes another directory for an empty one.
    BareIsEmpty,
    /// A machine does not care that another directory is there.
    DirectoryLossUnknown,
    /// A node that is asked for counts alone tells nothing of where its transfers stand.
    TallyIsLost,
}

impl Sim {
    /// A machine is told something other than what happened.
    pub(crate) fn sabotage_input(&mut self, node: usize, input: &mut Input) {
        let Some(sabotage) = self.sabotage else { return };
        self.sabotage_room(node, input);
        match (sabotage, input) {
            (Sabotage::TakeBlind, Input::Taken { transfer, outcome: CopyOutcome::Found { fingerprint, .. } })
            | (Sabotage::VerifyBlind, Input::Verified { transfer, outcome: CopyOutcome::Found { fingerprint, .. } }) => {
                if let Some(row) = self.nodes[node].journal.rows.get(transfer) {
                    *fingerprint = row.fingerprint;
                }
            }
            (Sabotage::CleanupBlind, Input::Looked { transfer, sight: Sight::Present(seen) }) => {
                // The look at what a script has left is another one.
                let row = self.nodes[node].journal.rows.get(transfer);
                if row.is_some_and(|row| row.stage == "cleaning") {
                    return;
                }
                if let Some(fate) = self.checker.fates.get(transfer) {
                    *seen = signature(fate.stamp());
                }
            }
            (Sabotage::LeftoverForgotten, Input::Looked { transfer, sight }) => {
                let row = self.nodes[node].journal.rows.get(transfer);
                if row.is_some_and(|row| row.stage == "cleaning") && matches!(self.nodes[node].role, Role::Upload(_)) {
                    *sight = Sight::Gone;
                }
            }
            (Sabotage::ApartIgnored, Input::Received { message: Message::Hello(hello), .. }) => {
                hello.protocols = Protocols::OURS;
            }
            (Sabotage::LotBelieved, Input::Cleaned { outcome, .. })
                if outcome.as_ref().is_err_and(|reason| reason.detail() == OF_SEVERAL) =>
            {
                *outcome = Ok(Cleared::Script);
            }
            (Sabotage::StaleMarkerCounts, Input::Seen(sighting)) => {
                sighting.unmarked = sighting.unmarked.take().filter(|lack| lack.detail() != "it is older");
            }
            (Sabotage::LossUnseen, Input::Swept { missing }) => missing.clear(),
            (Sabotage::DirectoryIgnored | Sabotage::DirectoryLossUnknown, Input::Directory(found)) => {
                let stands = std::mem::replace(&mut self.world.grounds[node].stands, Stands::Home);
                *found = self.found(node);
                self.world.grounds[node].stands = stands;
            }
            (Sabotage::LookupForgets, Input::LookedUp { row, .. }) => *row = None,
            (Sabotage::UnkeptUnsaid, Input::Verified { outcome: CopyOutcome::Found { unkept, .. }, .. }) => {
                *unkept = None
            }
            (
                Sabotage::WrongForgotten,
                Input::Verified { outcome: CopyOutcome::Found { fingerprint, .. }, transfer },
            ) => {
                // Every wrong copy looks like another one.
                let announced = self.nodes[node].journal.rows.get(transfer).map(|row| row.fingerprint);
                let wrong = announced.is_some_and(|announced| announced != *fingerprint);
                fingerprint.digest =
                    if wrong { Digest(u128::from(self.world.stamp()).to_be_bytes()) } else { fingerprint.digest };
            }
            (Sabotage::RefusalMissed, Input::Ran { outcome, .. }) if matches!(outcome, RunOutcome::Unfit(_)) => {
                *outcome = RunOutcome::Partial(Cause::Transport.into());
            }
            (Sabotage::WrongForgotten, Input::Explained { differences, .. }) => *differences = None,
            (Sabotage::OccupiedIsPlaced, Input::Placed { outcome, .. }) if *outcome == PlaceOutcome::Occupied => {
                *outcome = PlaceOutcome::Placed(signature(0));
            }
            _ => {}
        }
    }

    /// An order is carried out otherwise.
    pub(crate) fn sabotage_order(&mut self, node: usize, order: &Order, done: bool) {
        let now = self.clock(node);
        match (self.sabotage, order) {
            (Some(Sabotage::PauseIgnored), Order::Pause { scope: Scope::Node | Scope::Group, .. }) => {
                for scope in [Scope::Node, Scope::Group] {
                    if let Some(machine) = &mut self.nodes[node].machine {
                        machine.order(now, "nobody", Order::Resume { scope });
                    }
                }
            }
            (Some(Sabotage::ForgetReleases), Order::Forget(gone)) if node == 0 && done => {
                let rows = self.nodes[node].journal.unfinished().filter(|row| row.stage == "held");
                let lacks = |row: &&Row| row.receivers.iter().any(|(name, at)| *name == gone.name && at.is_none());
                let lacking: Vec<Row> = rows.filter(lacks).cloned().collect();
                for row in lacking {
                    let (transfer, fingerprint) = (row.transfer, row.fingerprint);
                    let message =
                        Message::Release(vec![Release { transfer, fingerprint, receivers: Vec::new(), remark: None }]);
                    self.send(node, &Address::Node(Node::new(Mode::Upload, row.upload)), &message);
                }
            }
            (Some(Sabotage::ForgetReassigns), Order::Forget(gone)) if node == 0 && done => {
                let rows = self.nodes[node].journal.unfinished().filter(|row| row.stage == "held");
                let only = |row: &&Row| row.receivers.iter().all(|(name, at)| *name == gone.name && at.is_none());
                let rows: Vec<Row> = rows.filter(only).cloned().collect();
                let known = self.nodes[node].journal.nodes.keys();
                let others = known.filter(|known| known.mode == Mode::Download && *known != gone);
                let others: Vec<Node> = others.cloned().collect();
                for (row, to) in rows.iter().flat_map(|row| others.iter().map(move |to| (row, to))) {
                    let (name, kind, entries) = (row.name.clone(), row.kind, row.entries);
                    let (transfer, fingerprint, minted) = (row.transfer, row.fingerprint, row.minted);
                    let offer = Offer {
                        transfer,
                        name,
                        kind,
                        entries,
                        fingerprint,
                        minted,
                        modes: Default::default(),
                        extras: Extras::default(),
                    };
                    let items = vec![Forward { offer, upload: row.upload.clone() }];
                    let location = Location::new("c", &format!("{SPOOL}/held")).unwrap();
                    self.send(node, &Address::Node(to.clone()), &Message::Download { location, items });
                }
            }
            _ => {}
        }
    }

    /// Something other than what a machine wants is done.
    pub(crate) fn sabotage_effects(&mut self, node: usize, effects: &mut Vec<Effect>) {
        let Some(sabotage) = self.sabotage else { return };
        self.sabotage_removal(effects);
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
            effects.retain(|effect| !matches!(effect, Effect::Send { message: Message::Release(_), .. }));
        }
        effects.retain(|effect| match (sabotage, effect) {
            (Sabotage::PauseIgnored, Effect::Persist(Record::Paused(pause))) => pause.is_some(),
            (Sabotage::PauseIgnored, Effect::Persist(Record::Group(group))) => group.pause.is_some(),
            (Sabotage::StopIgnored, Effect::Halt(_)) | (Sabotage::SweepMissing, Effect::Sweep { .. }) => false,
            _ => true,
        });
        if sabotage == Sabotage::CleanupUnfinished {
            let hidden = self.world.hidden.clone();
            let resumes = |effect: &Effect| match effect {
                Effect::Cleanup(items) => {
                    items.iter().map(|item| item.transfer).find(|transfer| hidden.contains(&(node, *transfer)))
                }
                _ => None,
            };
            for transfer in effects.extract_if(.., |effect| resumes(effect).is_some()).filter_map(|it| resumes(&it)) {
                let outcome = Ok(Cleared::Done("it is already gone".to_owned()));
                self.push(node, Input::Cleaned { transfer, outcome }, None);
            }
        }
        for effect in effects.iter_mut() {
            match (sabotage, effect) {
                (Sabotage::LossOfExtrasUnsaid, Effect::Verify { attributes, .. }) => {
                    attributes.extras = Extras::default()
                }
                (Sabotage::ExtrasLeftBehind, Effect::Run(run)) => run.keep = Keep::default(),
                (Sabotage::ItemsLinked, Effect::Run(run)) => run.keep = run.keep.with(Extra::Hardlinks),
                _ => {}
            }
        }
        if sabotage == Sabotage::ModesBelieved {
            for effect in effects.iter_mut() {
                if let Effect::Verify { attributes, .. } = effect {
                    attributes.modes = None;
                }
            }
        }
        let mut more = Vec::new();
        for effect in effects.iter() {
            match (sabotage, effect) {
                (Sabotage::CleanupBeforeRelease, Effect::Send { message: Message::Sent { transfers, .. }, .. }) => {
                    more.extend(transfers.iter().filter_map(|transfer| {
                        let row = self.nodes[node].journal.rows.get(transfer)?;
                        Some(cleanup_of(row))
                    }));
                }
                (Sabotage::DropEarly, Effect::Send { message: Message::Received(ids), .. }) => {
                    more.extend(ids.iter().map(|id| Effect::Drop(*id)));
                }
                (Sabotage::KeepIgnored, Effect::Send { message: Message::Release(list), .. }) => {
                    more.extend(list.iter().map(|release| Effect::Drop(release.transfer)));
                }
                (Sabotage::DoneEarly, Effect::Verify { transfer, .. }) => {
                    let Some(row) = self.nodes[node].journal.rows.get(transfer) else { continue };
                    let receipt = Receipt { transfer: *transfer, fingerprint: row.fingerprint, remark: None };
                    let to = Address::Node(self.nodes[0].node.clone());
                    more.push(Effect::Send { to, message: Message::Done(vec![receipt]) });
                }
                (Sabotage::CleanupWithdrawn, Effect::Persist(Record::Transfer(row))) => {
                    let ordered = row.reason.as_ref().is_some_and(|reason| reason.cause() == Cause::Withdrawn);
                    let held = self.nodes[node].journal.orders().iter().any(Option::is_some) || row.paused.is_some();
                    if ordered && !held && self.plan.scripts[node] != Script::None && matches!(role, Role::Upload(_)) {
                        more.push(cleanup_of(row));
                    }
                }
                (Sabotage::Babble, Effect::Send { message: Message::Hello(_), to })
                    if matches!(role, Role::Upload(_)) =>
                {
                    let known = self.checker.fates.iter().find(|(_, fate)| fate.required.is_some());
                    let freed = known.filter(|(_, fate)| !fate.placed.is_empty()).map(|(id, _)| *id);
                    more.extend(
                        freed.map(|id| Effect::Send { to: to.clone(), message: Message::Waiting(vec![wait(id)]) }),
                    );
                }
                _ => {}
            }
        }
        effects.extend(more);
    }
}

fn cleanup_of(row: &Row) -> Effect {
    let Row { transfer, signature, fingerprint, .. } = *row;
    let (item, upload) = (row.name.clone(), row.upload.clone());
    Effect::Cleanup(vec![CleanupItem { transfer, item, signature, fingerprint, upload, receivers: Vec::new() }])
}

fn wait(transfer: synkler::machine::TransferId) -> synkler::machine::Wait {
    synkler::machine::Wait { transfer, reason: Cause::Queued.into() }
}
