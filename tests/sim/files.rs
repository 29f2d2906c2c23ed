//! What the drivers do to files: rsync's copies, central's spool, staging, final names, cleanup scripts.

use std::collections::BTreeSet;

use synkler::machine::{
    Attributes, Cause, Cleared, CopyOutcome, Direction, ItemName, KeepModes, Kind, PlaceId, PlaceOutcome, Reason, Row,
    Signature, TransferId,
};

use crate::checker::Promise;
use crate::daemon::{Role, SPOOL};
use crate::drivers::Running;
use crate::plan::Script;
use crate::sabotage::Sabotage;
use crate::sim::Sim;
use crate::tally::Deed;
use crate::trace::trace;
use crate::world::{Bytes, Copy, Final, World, signature, stamp_of};

/// What is told of a copy whose modes are not kept.
const UNKEPT: &str = "modes differ";

fn storage() -> Reason {
    Reason::with(Cause::Storage, "input/output error")
}

/// Where a run puts what it sends.
fn place_of(running: &Running) -> Option<PlaceId> {
    running.run.location.path().strip_prefix(SPOOL)?.strip_prefix("/in/")?.parse().ok()
}

impl Sim {
    /// rsync moves one item of a run.
    pub(crate) fn move_item(&mut self, node: usize, running: &mut Running) {
        let (transfer, item) = running.run.batch[running.through].clone();
        let name = self.world.name_index(&item);
        let from = self.origin(node, running, transfer, name);
        let Some(mut copy) = from.filter(|_| !self.rng.chance(self.plan.runs_skip)) else {
            self.tally.count(Deed::RunShort);
            // Mostly it says so.
            running.partial |= !self.rng.chance(100) || self.calm;
            return;
        };
        if let Some(inodes) = self.lacks_room(node, running, transfer, name, copy) {
            self.tally.count(Deed::RunLacksRoom);
            running.short = true;
            copy.bytes = Bytes::Spoilt(self.world.stamp());
            copy.looks = None;
            copy.inodes = inodes;
            if inodes > 0 {
                self.arrive(node, running, transfer, name, copy);
            }
            return;
        }
        if let (Role::Download(download), Bytes::Whole(version)) = (self.nodes[node].role, copy.bytes)
            && self.plan.refuses[download]
            && version % 4 == 1
        {
            return running.refused.push(transfer);
        }
        if self.rng.chance(self.plan.runs_spoil) {
            self.tally.count(Deed::RunSpoilt);
            copy.bytes = Bytes::Spoilt(self.world.stamp());
            if self.rng.chance(500) {
                copy.looks = None;
            }
        }
        self.arrive(node, running, transfer, name, copy);
    }

    /// Where there is no room for all of a copy: how many of its entries arrive all the same.
    fn lacks_room(&self, node: usize, running: &Running, transfer: TransferId, name: usize, copy: Copy) -> Option<u64> {
        let (space, old, made) = match self.nodes[node].role {
            Role::Download(download) => {
                let staged = self.world.receivers[download].staging.get(&transfer);
                let old = staged.and_then(|staged| staged.map(|(_, old)| old));
                (self.world.receiver_space(download), old, staged.is_some())
            }
            Role::Upload(_) | Role::Central => {
                let place = place_of(running)?;
                let old = self.world.spool.incoming.get(&(place, name)).copied();
                let made = self.world.spool.incoming.keys().any(|(made, _)| *made == place);
                (self.world.spool_space(), old, made)
            }
        };
        if old.is_some_and(|old| old.looks.is_some() && old.looks == copy.looks) {
            return None;
        }
        // What is there already is written over.
        let (old_bytes, old_inodes) = old.map_or((0, 0), |old| (self.world.size(old.bytes), old.inodes));
        let inodes = space.inodes.map_or(u64::MAX, |inodes| inodes.free).saturating_add(old_inodes);
        let inodes = inodes.saturating_sub(u64::from(!made));
        let bytes = space.free.saturating_add(old_bytes);
        let short = copy.inodes > inodes || self.world.size(copy.bytes) > bytes || space.free == 0;
        short.then(|| copy.inodes.min(inodes))
    }

    /// A run stops in the middle of an item; a part of it may lie under its name.
    pub(crate) fn break_off(&mut self, node: usize, running: &Running) {
        let Some((transfer, item)) = running.run.batch.get(running.through).cloned() else { return };
        if !self.is_home(node) || !self.is_home(0) {
            return;
        }
        let name = self.world.name_index(&item);
        if self.rng.chance(300)
            && let Some(mut copy) = self.origin(node, running, transfer, name)
        {
            copy.bytes = Bytes::Spoilt(self.world.stamp());
            copy.looks = None;
            if let Some(inodes) = self.lacks_room(node, running, transfer, name, copy) {
                copy.inodes = inodes;
            }
            if copy.inodes > 0 {
                self.arrive(node, running, transfer, name, copy);
            }
        }
    }

    /// What a run reads.
    fn origin(&mut self, node: usize, running: &Running, transfer: TransferId, name: usize) -> Option<Copy> {
        match (running.run.direction, self.nodes[node].role) {
            (Direction::Push, Role::Upload(upload)) => {
                let source = self.world.sources[upload].get(&name).copied()?;
                if source.special || source.unreadable {
                    return None;
                }
                let torn = source.writer && self.rng.chance(500);
                let bytes = if torn { Bytes::Spoilt(self.world.stamp()) } else { Bytes::Whole(source.version) };
                let inodes = World::entries(source.version);
                let extras = World::extras(source.version).carried();
                Some(Copy { bytes, inode: 0, looks: Some(source.version), modes: true, extras, inodes })
            }
            (Direction::Pull, Role::Download(_)) => {
                let (held, copy) = self.world.spool.held.get(&transfer)?;
                (*held == name).then_some(*copy)
            }
            (Direction::Push | Direction::Pull, _) => {
                self.violate(Promise::Protocol, node, || "a run in the wrong direction".to_owned());
                None
            }
        }
    }

    /// What a run writes.
    fn arrive(&mut self, node: usize, running: &Running, transfer: TransferId, name: usize, mut copy: Copy) {
        copy.inode = self.world.stamp();
        let same = |old: &Copy| old.looks.is_some() && old.looks == copy.looks;
        let path = running.run.location.path().to_owned();
        if let Role::Download(download) = self.nodes[node].role {
            copy.modes &= !self.plan.flat[download] && self.plan.keep_modes != KeepModes::No;
            copy.extras = self.brought(&running.run, Some(download), copy.extras);
            if path != format!("{SPOOL}/held") {
                self.violate(Promise::Protocol, node, || format!("nothing to fetch at {path}"));
            }
            let staging = self.world.receivers[download].staging.entry(transfer).or_default();
            match staging {
                Some((_, old)) if same(old) => old.extras = copy.extras,
                _ => *staging = Some((name, copy)),
            }
            return;
        }
        let Some(place) = place_of(running) else {
            return self.violate(Promise::Protocol, node, || format!("{path} is no place"));
        };
        copy.modes &= !self.plan.spool_flat;
        copy.extras = self.brought(&running.run, None, copy.extras);
        match self.world.spool.incoming.get_mut(&(place, name)) {
            Some(old) if same(old) => old.extras = copy.extras,
            _ => drop(self.world.spool.incoming.insert((place, name), copy)),
        }
    }

    pub(crate) fn take(
        &mut self,
        transfer: TransferId,
        place: Option<PlaceId>,
        item: &ItemName,
        kind: Kind,
        Attributes { modes, extras }: &Attributes,
        fails: bool,
    ) -> CopyOutcome {
        let name = self.world.name_index(item);
        if fails && self.rng.chance(500) {
            return CopyOutcome::Failed(storage());
        }
        let spool = &self.world.spool;
        // What an earlier try has left makes room for what is newer.
        if let Some(place) = place
            && let Some(copy) = spool.incoming.get(&(place, name)).copied()
        {
            // The directory that is to hold it.
            if !spool.held.contains_key(&transfer)
                && self.world.spool_space().inodes.is_some_and(|inodes| inodes.free == 0)
            {
                return CopyOutcome::Failed(Reason::with(Cause::Space, "no space left on the file system"));
            }
            let spool = &mut self.world.spool;
            spool.incoming.remove(&(place, name));
            spool.held.insert(transfer, (name, copy));
        }
        match self.world.spool.held.get_mut(&transfer) {
            _ if fails => CopyOutcome::Failed(storage()),
            Some((held, copy)) if *held == name => {
                copy.modes |= modes.is_some() && !self.plan.spool_flat;
                let (copy, unkept) = (*copy, (modes.is_some() && !copy.modes).then(|| UNKEPT.into()));
                let lost = Self::lost(extras, copy.bytes, copy.extras);
                let fingerprint = self.world.fingerprint(copy.bytes, Some(kind));
                CopyOutcome::Found { fingerprint, inode: copy.inode, manifest: None, unkept, lost }
            }
            Some(_) | None => CopyOutcome::Missing,
        }
    }

    pub(crate) fn verify(
        &mut self,
        node: usize,
        transfer: TransferId,
        item: &ItemName,
        kind: Kind,
        Attributes { modes, extras }: &Attributes,
        fails: bool,
    ) -> CopyOutcome {
        let name = self.world.name_index(item);
        let Role::Download(download) = self.nodes[node].role else {
            self.violate(Promise::Protocol, node, || "Verify is for downloads".to_owned());
            return CopyOutcome::Missing;
        };
        match self.world.receivers[download].staging.get_mut(&transfer) {
            _ if fails => CopyOutcome::Failed(storage()),
            Some(Some((staged, copy))) if *staged == name => {
                copy.modes |= modes.is_some() && !self.plan.flat[download];
                let (copy, unkept) = (*copy, (modes.is_some() && !copy.modes).then(|| UNKEPT.into()));
                let lost = Self::lost(extras, copy.bytes, copy.extras);
                let (fingerprint, manifest) = match copy.bytes {
                    Bytes::Whole(version) if self.plan.folds[download] && version % 3 == 0 => {
                        self.tally.count(Deed::Folded);
                        (self.world.folded(version), Some("d - - .\n".into()))
                    }
                    bytes => (self.world.fingerprint(bytes, Some(kind)), None),
                };
                self.mark_verified(node, transfer, fingerprint.digest, unkept.is_some() || lost.is_some());
                CopyOutcome::Found { fingerprint, inode: copy.inode, manifest, unkept, lost }
            }
            Some(_) | None => CopyOutcome::Missing,
        }
    }

    pub(crate) fn place(
        &mut self,
        node: usize,
        transfer: TransferId,
        item: &ItemName,
        inode: u64,
        replace: Option<Signature>,
        fails: bool,
    ) -> PlaceOutcome {
        let name = self.world.name_index(item);
        let Role::Download(download) = self.nodes[node].role else {
            self.violate(Promise::Protocol, node, || "Place is for downloads".to_owned());
            return PlaceOutcome::Lost;
        };
        if fails && self.rng.chance(500) {
            return PlaceOutcome::Failed(storage());
        }
        let receiver = &self.world.receivers[download];
        let standing = receiver.finals.get(&name).copied();
        let staged = match receiver.staging.get(&transfer) {
            None => return PlaceOutcome::Lost,
            Some(Some((staged, copy))) if *staged == name && copy.inode == inode => *copy,
            Some(Some(_)) => return PlaceOutcome::Lost,
            // It was given away before. Its owner may have taken it since, or changed it: what stands there now
            // is what counts as placed.
            Some(None) => {
                let finals = &mut self.world.receivers[download].finals;
                let entry = finals.get_mut(&name).filter(|entry| entry.inode == inode);
                let stamp = entry.map(|entry| {
                    entry.touched = false;
                    entry.stamp
                });
                self.tally.count(Deed::PlacedBefore);
                return PlaceOutcome::Placed(signature(stamp.unwrap_or_default()));
            }
        };
        if let Some(old) = standing {
            let blind = self.sabotage == Some(Sabotage::PlaceOverwrites);
            if !blind && replace.map(stamp_of) != Some(old.stamp) {
                self.tally.count(Deed::Occupied);
                return PlaceOutcome::Occupied;
            }
            self.tally.count(Deed::Replaced);
            self.check_replaced(node, transfer, old);
        }
        let stamp = self.world.stamp();
        let entry = Final { bytes: staged.bytes, inode, stamp, from: Some(transfer), touched: false };
        self.world.receivers[download].staging.insert(transfer, None);
        self.world.receivers[download].finals.insert(name, entry);
        self.tally.count(Deed::Placed);
        trace!(self, Some(node), "** {transfer} stands under its final name");
        self.check_placed(node, download, transfer, name, staged.bytes);
        self.check_modes(node, download, transfer, staged.modes);
        self.check_extras(node, transfer, staged.bytes, staged.extras);
        if fails { PlaceOutcome::Failed(storage()) } else { PlaceOutcome::Placed(signature(stamp)) }
    }

    pub(crate) fn drop_copy(&mut self, node: usize, transfer: TransferId, fails: bool) -> Result<(), Reason> {
        if fails {
            let over = |row: &Row| row.finished.is_some() && row.stage == "withdrawn";
            if node != 0 || self.nodes[node].journal.rows.get(&transfer).is_some_and(over) {
                self.checker.unswept.insert(transfer);
            }
            return Err(storage());
        }
        match self.nodes[node].role {
            Role::Central => {
                self.check_drop(node, transfer);
                self.world.spool.held.remove(&transfer);
            }
            Role::Download(download) => {
                self.world.receivers[download].staging.remove(&transfer);
            }
            Role::Upload(_) => self.violate(Promise::Protocol, node, || "Drop is not for uploads".to_owned()),
        }
        Ok(())
    }

    pub(crate) fn sweep(&mut self, node: usize, transfers: &BTreeSet<TransferId>, places: &BTreeSet<PlaceId>) {
        match self.nodes[node].role {
            Role::Central => {
                let held: Vec<TransferId> = self.world.spool.held.keys().copied().collect();
                for transfer in held.into_iter().filter(|transfer| !transfers.contains(transfer)) {
                    self.check_drop(node, transfer);
                    self.world.spool.held.remove(&transfer);
                }
                self.world.spool.incoming.retain(|(place, _), _| places.contains(place));
            }
            Role::Download(download) => {
                self.world.receivers[download].staging.retain(|transfer, _| transfers.contains(transfer));
            }
            Role::Upload(_) => {}
        }
    }

    /// Which of these have no copy here.
    pub(crate) fn missing(&self, node: usize, mut transfers: BTreeSet<TransferId>) -> BTreeSet<TransferId> {
        match self.nodes[node].role {
            Role::Central => transfers.retain(|transfer| !self.world.spool.held.contains_key(transfer)),
            Role::Download(download) => {
                transfers.retain(|transfer| !self.world.receivers[download].staging.contains_key(transfer));
            }
            Role::Upload(_) => transfers.clear(),
        }
        transfers
    }

    /// What a script does to the source.
    fn clean_source(&mut self, upload: usize, name: usize, script: Script) {
        let Some(source) = self.world.sources[upload].get(&name).copied() else { return };
        let beside = World::made_of(name);
        // Scripts, too, keep their hands off what another script is at work on.
        let makes = matches!(script, Script::Renames | Script::Copies | Script::Converts);
        if makes && self.is_guarded(1 + upload, beside) {
            return;
        }
        match script {
            Script::None | Script::Moves | Script::Leaves => {}
            Script::Removes => self.world.take_away(upload, name),
            Script::Touches => {
                self.world.touch(upload, name);
                if let Some(instance) =
                    self.world.sources[upload].get(&name).and_then(|source| self.world.instances.get_mut(&source.stamp))
                {
                    instance.leftover = true;
                }
            }
            Script::Empties => {
                let empty = self.world.fresh_version(0);
                self.world.leave(upload, name, empty, Some(source));
            }
            Script::Returns => {
                self.world.take_away(upload, name);
                self.world.leave(upload, name, source.version, None);
            }
            Script::Renames => {
                self.world.take_away(upload, name);
                self.world.leave(upload, beside, source.version, Some(source));
            }
            Script::Copies => {
                self.world.leave(upload, beside, source.version, None);
            }
            Script::Converts => {
                self.world.take_away(upload, name);
                let other = self.world.fresh_version(100);
                self.world.leave(upload, beside, other, None);
            }
        }
        match script {
            Script::Touches | Script::Empties | Script::Returns => self.tally.count(Deed::LeftBehind),
            Script::Renames | Script::Copies | Script::Converts => self.tally.count(Deed::MadeBeside),
            Script::None | Script::Moves | Script::Removes | Script::Leaves => {}
        }
    }

    /// synkler itself takes the item away, or finishes what an earlier run began.
    pub(crate) fn move_away(
        &mut self,
        node: usize,
        transfer: TransferId,
        item: &ItemName,
        signature: Option<Signature>,
    ) -> Result<Cleared, Reason> {
        if self.rng.chance(self.plan.scripts_fail) && self.rng.chance(700) {
            self.tally.count(Deed::ScriptFailed);
            return Err(Reason::with(Cause::Cleanup, "the disk is full"));
        }
        let done = || Ok(Cleared::Done("moved".to_owned()));
        if self.world.hidden.remove(&(node, transfer)) {
            self.tally.count(Deed::Resumed);
            return done();
        }
        match self.hide(node, transfer, item, signature) {
            Some(false) => return Ok(Cleared::Changed),
            Some(true) | None => self.world.hidden.remove(&(node, transfer)),
        };
        done()
    }

    /// One rename takes the item out of sight, where it still is what was delivered; nothing where it is not there.
    pub(crate) fn hide(
        &mut self,
        node: usize,
        transfer: TransferId,
        item: &ItemName,
        wanted: Option<Signature>,
    ) -> Option<bool> {
        let name = self.world.name_index(item);
        let stamp = match self.nodes[node].role {
            Role::Upload(upload) => self.world.sources[upload].get(&name).map(|source| source.stamp),
            Role::Download(download) => self.world.receivers[download].finals.get(&name).map(|entry| entry.stamp),
            Role::Central => None,
        };
        if self.world.hidden.contains(&(node, transfer)) {
            return None;
        }
        let found = signature(stamp?);
        if wanted.is_some_and(|wanted| wanted != found) {
            return Some(false);
        }
        self.check_cleanup(node, transfer, item);
        trace!(self, Some(node), "** {transfer} is moved out of sight");
        match self.nodes[node].role {
            Role::Upload(upload) => {
                self.world.take_away(upload, name);
                self.changed(node, name);
            }
            Role::Download(download) => drop(self.world.receivers[download].finals.remove(&name)),
            Role::Central => {}
        }
        self.world.hidden.insert((node, transfer));
        Some(true)
    }

    /// The cleanup script comes to its end.
    pub(crate) fn clean(&mut self, node: usize, transfer: TransferId, item: &ItemName) -> Result<Cleared, Reason> {
        let name = self.world.name_index(item);
        let failed = |text: &str| Err(Reason::with(Cause::Cleanup, text));
        if self.rng.chance(self.plan.scripts_fail) && self.rng.chance(700) {
            self.tally.count(Deed::ScriptFailed);
            return failed("exit code 1");
        }
        let stands = match self.nodes[node].role {
            Role::Upload(upload) => self.world.sources[upload].contains_key(&name),
            Role::Download(download) => self.world.receivers[download].finals.contains_key(&name),
            Role::Central => false,
        };
        if !stands {
            return if self.plan.strict { failed("no such file") } else { Ok(Cleared::Script) };
        }
        let script = self.plan.scripts[node];
        match self.nodes[node].role {
            _ if matches!(script, Script::None | Script::Leaves) => {}
            Role::Upload(upload) => {
                self.check_cleanup(node, transfer, item);
                self.clean_source(upload, name, script);
                trace!(self, Some(node), "** {transfer}: its script {script:?}");
                self.changed(node, name);
                self.changed(node, World::made_of(name));
            }
            Role::Download(download) if script == Script::Removes => {
                self.check_cleanup(node, transfer, item);
                trace!(self, Some(node), "** {transfer} is moved on");
                self.world.receivers[download].finals.remove(&name);
            }
            Role::Download(_) | Role::Central => {}
        }
        if self.rng.chance(self.plan.scripts_fail) && self.rng.chance(200) {
            return failed("exit code 2, after it had done its work");
        }
        Ok(Cleared::Script)
    }
}
