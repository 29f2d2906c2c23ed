//! What stays at its source, and what cleanup scripts leave there.
//!
//! Upload does not send these again before their content changes: what was handed over and is still there, even with
//! other times, permissions or links; and what a cleanup script made of it or from it. If upload cannot tell what
//! changed an item, it puts the item aside with a reason, and an operator decides.

use std::collections::VecDeque;

use super::items::{FORGET_AFTER, Proof};
use super::{Item, ItemState, Upload};
use crate::machine::shared::Timer;
use crate::machine::{
    Cause, Fingerprint, ItemName, Kept, Left, Level, Mounts, RECENT, RECENT_LIMIT, Reason, Record, Row, Signature,
    Time, TransferId, escaped,
};

/// How far the clock of a file system may be behind ours, in milliseconds: it stands still between two ticks.
const CLOCK_LAG: u64 = 50;

/// A cleanup script that runs or ran recently.
#[derive(Debug)]
struct Script {
    transfer: TransferId,
    item: ItemName,
    inode: Option<u64>,
    born: Option<Time>,
    fingerprint: Fingerprint,
    started: Time,
    /// `None` while it runs.
    ended: Option<Time>,
    /// Names that were put aside because of this script: a later write under them is not by the script.
    suspected: Vec<ItemName>,
}

/// The cleanup scripts of the last hour, oldest first.
#[derive(Debug, Default)]
pub(super) struct Scripts(VecDeque<Script>);

impl Scripts {
    /// Those from the journal, newest first.
    pub(super) fn restored(rows: &[Row]) -> Self {
        let script = |row: &Row| Script {
            transfer: row.transfer,
            item: row.name.clone(),
            inode: row.inode,
            born: row.born,
            fingerprint: row.fingerprint,
            started: began(row),
            ended: row.finished,
            suspected: Vec::new(),
        };
        Self(rows.iter().rev().map(script).collect())
    }

    /// A script that starts, or starts again.
    pub(super) fn start(&mut self, row: &Row, now: Time) {
        let old = |script: &Script| script.ended.is_some_and(|ended| now.since(ended) > RECENT);
        while self.0.front().is_some_and(old) || self.0.len() >= RECENT_LIMIT {
            self.0.pop_front();
        }
        let (transfer, item) = (row.transfer, row.name.clone());
        let (inode, born, fingerprint) = (row.inode, row.born, row.fingerprint);
        let suspected = Vec::new();
        self.0.push_back(Script { transfer, item, inode, born, fingerprint, started: now, ended: None, suspected });
    }

    /// A script that was started before this daemon: it may still run, or have ended unnoticed.
    pub(super) fn resume(&mut self, row: &Row, over: bool) {
        self.start(row, began(row));
        if over {
            self.end(row.transfer, row.since);
        }
    }

    pub(super) fn end(&mut self, transfer: TransferId, now: Time) {
        let mut running =
            self.0.iter_mut().rev().filter(|script| script.transfer == transfer && script.ended.is_none());
        if let Some(script) = running.next() {
            script.ended = Some(now);
        }
    }

    /// The script that has made this item, and whether that is certain.
    fn maker(&mut self, name: &ItemName, proof: &Proof, now: Time) -> Option<(ItemName, bool)> {
        let origin = &proof.origin;
        let mut suspect = None;
        for (number, script) in self.0.iter().enumerate().rev().filter(|(_, script)| script.item != *name) {
            let same = script.fingerprint == proof.fingerprint;
            let early = Time::from_millis(script.started.as_millis().saturating_sub(CLOCK_LAG));
            // A new file may get the inode number of a file that was just deleted: the creation time distinguishes
            // them.
            if script.inode == Some(origin.inode) && script.born == origin.born {
                if same && (origin.born.is_some() || is_named_after(name, &script.item)) {
                    return Some((script.item.clone(), true));
                }
                if same || origin.born.is_some() {
                    suspect = suspect.or(Some(number));
                }
            }
            // A creation time in the future is from before the clock was set back.
            let meanwhile = |made: Time| made >= early && (made <= script.ended.unwrap_or(now) || made > now);
            if origin.ours && origin.made.is_some_and(meanwhile) && is_named_after(name, &script.item) {
                if same {
                    return Some((script.item.clone(), true));
                }
                suspect = suspect.or(Some(number));
            }
        }
        let script = suspect.and_then(|number| self.0.get_mut(number))?;
        if script.suspected.contains(name) {
            return None;
        }
        script.suspected.push(name.clone());
        Some((script.item.clone(), false))
    }
}

/// The earliest time at which a script can have started, which is not recorded: when central held a verified copy. If
/// the clock was set back since then, the time is unknown.
fn began(row: &Row) -> Time {
    let last = row.finished.unwrap_or(row.since);
    row.arrived.filter(|arrived| *arrived <= last).unwrap_or_default()
}

/// Whether one name is the other with a prefix or suffix: `a.gz`, `a~` and `done-a` are derived from `a`, and `a1` is
/// not, nor is `a` in another directory: customers often use the same names.
fn is_named_after(name: &ItemName, item: &ItemName) -> bool {
    if !name.above().eq(item.above()) {
        return false;
    }
    let (name, item) = (&name.leaf(), &item.leaf());
    let (name, item) = (name.as_bytes(), item.as_bytes());
    let apart = |byte: Option<&u8>| byte.is_some_and(|byte| !byte.is_ascii_alphanumeric());
    let after = name.strip_prefix(item).is_some_and(|rest| apart(rest.first()));
    let before = name.strip_suffix(item).is_some_and(|rest| apart(rest.last()));
    after || before
}

impl Kept {
    /// What the item is, as long as it has the known signature.
    pub(super) fn state(&self) -> ItemState {
        match self.left {
            Some(Left { aside: Some(cause), .. }) => ItemState::Aside(cause),
            // Upload has to read once what the script has left, to recognise it later.
            Some(Left { fingerprint: None, aside: None }) => ItemState::Hashing,
            Some(_) | None => ItemState::Kept,
        }
    }
}

impl Upload {
    /// Remembers that an item was delivered and stays, so that it is not sent again until it changes.
    pub(super) fn keep(&mut self, name: &ItemName, signature: Signature, fingerprint: Fingerprint, mounts: Mounts) {
        self.remember(Kept { name: name.clone(), signature, fingerprint, left: None, mounts });
    }

    pub(super) fn remember(&mut self, kept: Kept) {
        let name = kept.name.clone();
        if self.submitted.contains(&name) {
            // It was submitted while its cleanup ran.
            let text = "its submission ends: this content was handed over, or left by its cleanup";
            self.shared.log(Level::Info, None, Some(&name), None, text);
            self.end_submission(&name);
        }
        self.shared.persist(Record::Kept(kept.clone()));
        match self.items.get_mut(&name) {
            Some(item) if item.signature == kept.signature => {
                item.state = kept.state();
                self.shared.timers.stop(&Timer::Settle(name.clone()));
                if item.state == ItemState::Hashing {
                    self.hashing.join(name.clone());
                }
            }
            Some(_) => {}
            None => self.shared.timers.set(Timer::Forget(name.clone()), self.shared.now.after(FORGET_AFTER)),
        }
        self.kept.insert(name, kept);
    }

    pub(super) fn forget_kept(&mut self, name: &ItemName) {
        if !self.items.contains_key(name) && self.kept.remove(name).is_some() {
            self.shared.persist(Record::Unkept(name.clone()));
        }
    }

    /// Whether the content is what was last handed over under this name, or what a cleanup script has left of it.
    pub(super) fn is_kept(&mut self, name: &ItemName, signature: Signature, proof: &Proof) -> bool {
        let Some(kept) = self.kept.get(name) else { return false };
        let mut now = Kept { signature, mounts: proof.origin.mounts.clone(), ..kept.clone() };
        match kept.left {
            _ if kept.fingerprint == proof.fingerprint => now.left = None,
            Some(Left { fingerprint: Some(left), .. }) if left == proof.fingerprint => {}
            // Read for the first time, as the script left it.
            Some(Left { fingerprint: None, aside }) if kept.signature == signature => {
                now.left = Some(Left { fingerprint: Some(proof.fingerprint), aside });
                self.shared.log(Level::Info, None, Some(name), None, "left by its cleanup script: not sent again");
            }
            // The file changed before it was read: it is unknown who changed it, and whether its content changed.
            Some(Left { fingerprint: None, .. }) => {
                self.set_aside(name, signature, proof, Cause::Disputed);
                return true;
            }
            _ => return false,
        }
        self.remember(now);
        true
    }

    /// Whether the file is what a script has left, unread and unchanged since then.
    pub(super) fn is_unread_leftover(&self, name: &ItemName, signature: Signature) -> bool {
        let unread =
            |kept: &Kept| kept.signature == signature && kept.left.is_some_and(|left| left.fingerprint.is_none());
        self.kept.get(name).is_some_and(unread)
    }

    /// Puts an item aside until an operator sends it or a process writes it.
    pub(super) fn set_aside(&mut self, name: &ItemName, signature: Signature, proof: &Proof, cause: Cause) {
        let level = if cause == Cause::Leftover { Level::Info } else { Level::Error };
        self.shared.log(level, None, Some(name), None, Reason::new(cause).to_string());
        // What was handed over under the name, if known, still counts as handed over.
        let before = self.kept.get(name).map(|kept| kept.fingerprint);
        let left = Some(Left { fingerprint: Some(proof.fingerprint), aside: Some(cause) });
        let fingerprint = before.unwrap_or(proof.fingerprint);
        self.remember(Kept { name: name.clone(), signature, fingerprint, left, mounts: proof.origin.mounts.clone() });
    }

    /// Whether a cleanup script has made the item from another item. Upload then remembers it or, if that is not
    /// certain, puts it aside.
    pub(super) fn is_made_by_script(&mut self, name: &ItemName, signature: Signature, proof: &Proof) -> bool {
        let Some((item, certain)) = self.scripts.maker(name, proof, self.shared.now) else { return false };
        if certain {
            let text = format!("created by the cleanup script of {item} from a delivered item: not sent");
            self.shared.log(Level::Info, None, Some(name), None, text);
            self.keep(name, signature, proof.fingerprint, proof.origin.mounts.clone());
        } else {
            self.set_aside(name, signature, proof, Cause::Leftover);
        }
        true
    }

    /// A mount point that the item had when it was last examined, and no longer has.
    pub(super) fn lost_mount(&self, name: &ItemName, now: &Mounts) -> Option<String> {
        let row = self.latest.get(name).and_then(|id| self.transfers.get(id)).map(|transfer| &transfer.row.mounts);
        let known = [self.items.get(name).map(|item| &item.mounts), self.kept.get(name).map(|kept| &kept.mounts), row];
        let lost = known.into_iter().flatten().find_map(|before| before.first_lost(now))?;
        Some(if lost == b"." { "the item itself".to_owned() } else { escaped(lost) })
    }

    pub(super) fn set_mounts(&mut self, name: &ItemName, mounts: Mounts) {
        if let Some(item) = self.items.get_mut(name) {
            item.mounts = mounts;
        }
    }

    /// An operator wants the item sent as it is.
    pub(super) fn insist(&mut self, name: &ItemName) {
        if let Some(Item { insist, .. }) = self.items.get_mut(name) {
            *insist = true;
            self.shared.timers.set(Timer::Settle(name.clone()), self.shared.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_made_from_a_name_are_told_from_others() {
        let name = |text: &str| ItemName::new(text.as_bytes()).unwrap();
        for (made, from) in
            [("a.gz", "a"), ("a~", "a"), ("done-a", "a"), ("a b.bak", "a b"), (".a", "a"), ("x/done-a", "x/a")]
        {
            assert!(is_named_after(&name(made), &name(from)), "{made} from {from}");
        }
        for (other, from) in
            [("a", "a"), ("a1", "a"), ("item-10", "item-1"), ("ba", "a"), ("b", "a"), ("x/a", "y/a"), ("x/a.gz", "a")]
        {
            assert!(!is_named_after(&name(other), &name(from)), "{other} from {from}");
        }
    }
}
