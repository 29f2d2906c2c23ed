//! Download: items are fetched to staging, verified there, and renamed to their final names.
//!
//! `<file_dir>/.synkler/<id>/<transfer>/<leaf>` is on the file system of `file_dir`, so that one rename gives the final
//! name; `<leaf>` is the last part of the name. Beside it there may be marks of ours, whose names begin with
//! `.synkler`: after a crash during the placing they show what was done.

mod giving;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Statx, StatxFlags};
use rustix::io::Errno;

use super::ahead::Arriving;
use super::copies::appraise;
use super::folder::{Folder, Onto, RESERVED};
use super::ownership::{GIVING, Owners, take_back};
use super::source::written;
use super::steps::step;
use super::{LayoutError, Leftover, leftovers_in, look_at};
use crate::drivers::disk::Refusal;
use crate::drivers::look::file_type;
use crate::drivers::manifest::{Survey, SurveyError};
use crate::drivers::modes::Wanted;
use crate::machine::{
    Attributes, Cause, CopyOutcome, Digest, GroupId, ITEM_NAME_LIMIT, ItemName, Kind, Ownership, PlaceOutcome, Reason,
    Sight, Signature, TransferId,
};

/// The prefix of the mark that distinguishes the item from a later one with the same inode.
const BORN_MARK: &str = ".synkler-born-";
/// The prefix of a mark that keeps the permissions of an item from before it was made movable.
const MODE_MARK: &str = ".synkler-mode-";
/// The mark that the entry under the item's name may be the replaced file.
const SWAP_MARK: &[u8] = b".synkler-swap";
/// The file with the name of the item, if a permanent directory has its reserved name.
const INBOX: &[u8] = b".synkler-inbox";
/// Where the replaced file goes on a file system that cannot exchange two names.
const ASIDE: &[u8] = b".synkler-replaced";
/// The signature of an item that its owner has already taken: no item ever has it.
pub const TAKEN: Signature = Signature([0; 16]);

/// One group's directories on a download.
#[derive(Debug, Clone)]
pub struct Staging {
    file_dir: PathBuf,
    group: GroupId,
    ownership: Ownership,
}

impl Staging {
    /// The staging directory of `group` inside `file_dir`.
    pub fn new(file_dir: PathBuf, group: GroupId) -> Self {
        Self { file_dir, group, ownership: Ownership::default() }
    }

    /// The same, if items get another owner or other modes.
    pub fn giving(mut self, ownership: Ownership) -> Self {
        self.ownership = ownership;
        self
    }

    /// The directory of delivered items.
    pub fn file_dir(&self) -> &Path {
        &self.file_dir
    }

    /// The directory to which rsync writes: `<staging_dir>/<transfer>/<leaf>`.
    pub fn staging_dir(&self) -> PathBuf {
        self.file_dir.join(".synkler").join(self.group.as_str())
    }

    /// Creates missing directories, with mode 0700; existing ones keep their mode. Fails if `file_dir` does not exist
    /// or cannot be written, or if staging is on another file system.
    pub fn prepare(&self) -> Result<(), LayoutError> {
        self.try_prepare().map_err(|refusal| LayoutError::new(&self.file_dir, refusal))
    }

    fn try_prepare(&self) -> Result<(), Refusal> {
        let base = Folder::open(&self.file_dir)?;
        base.check(true)?;
        let staging = base.make(RESERVED)?.make(self.group.as_str().as_bytes())?;
        staging.check(true)?;
        if !staging.shares_file_system(&base)? {
            return Err(Refusal::new("rename out of", &self.staging_dir(), Errno::XDEV));
        }
        Ok(())
    }

    /// Carries out [`crate::machine::Effect::Look`] for a delivered item.
    pub fn look(&self, item: &ItemName) -> Sight {
        look_at(&self.file_dir, item)
    }

    /// Carries out [`crate::machine::Effect::Verify`]. `read` returns the digest of a file that was read while it
    /// arrived, by its kind, inode and size.
    pub fn verify(
        &self,
        transfer: TransferId,
        name: &ItemName,
        kind: Kind,
        attributes: &Attributes,
        read: impl FnOnce(Kind, u64, u64) -> Option<Digest>,
    ) -> CopyOutcome {
        match self.try_verify(transfer, name, kind, attributes, read) {
            Ok(outcome) => outcome,
            Err(error) => CopyOutcome::Failed(error.reason()),
        }
    }

    fn try_verify(
        &self,
        transfer: TransferId,
        name: &ItemName,
        kind: Kind,
        attributes: &Attributes,
        read: impl FnOnce(Kind, u64, u64) -> Option<Digest>,
    ) -> Result<CopyOutcome, SurveyError> {
        let staging = Folder::open(&self.staging_dir())?;
        let Some(own) = staging.child(transfer.to_string().as_bytes())? else {
            return Ok(CopyOutcome::Missing);
        };
        let Ownership { file_mode: file, dir_mode: directory, .. } = self.ownership;
        let wanted = Wanted { announced: attributes.modes.as_ref(), file, directory };
        let outcome = appraise(&own.site(&name.leaf())?, kind, wanted, &attributes.extras, Some(&own), read)?;
        // The existing directory of the transfer later distinguishes a placed item from a lost one.
        staging.sync()?;
        Ok(outcome)
    }

    /// Whether staging has nothing of this item; false if that cannot be determined.
    pub(super) fn lacks(&self, transfer: TransferId, name: &ItemName) -> bool {
        let own = Folder::open(&self.staging_dir()).and_then(|dir| dir.child(transfer.to_string().as_bytes()));
        match own {
            Ok(Some(own)) => matches!(own.inode(name.leaf().as_bytes()), Ok(None)),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Continues reading what arrives.
    pub(super) fn read_on(&self, transfer: TransferId, item: &Arriving) {
        let own = Folder::open(&self.staging_dir()).and_then(|dir| dir.child(transfer.to_string().as_bytes()));
        // What cannot be read now is read at the verification.
        item.read_on(own.ok().flatten().as_ref());
    }

    /// Carries out [`crate::machine::Effect::Place`]. May be called again after a crash at any point of it.
    /// `staging/<transfer>` stays until it is dropped: it proves that the item was placed. An item that its owner has
    /// taken since is [`PlaceOutcome::Placed`] with the signature [`TAKEN`].
    pub fn place(&self, transfer: TransferId, name: &ItemName, inode: u64, replace: Option<Signature>) -> PlaceOutcome {
        if name.above().next().unwrap_or(name.as_bytes()).starts_with(RESERVED) {
            let reason = Reason::with(Cause::Storage, "names that begin with .synkler are reserved for synkler");
            return PlaceOutcome::Failed(reason);
        }
        match self.try_place(transfer, name, inode, replace) {
            Ok(outcome) => outcome,
            Err(SurveyError::Refused(refusal)) if refusal.doing() == GIVING => {
                PlaceOutcome::Failed(self.not_given(&refusal))
            }
            Err(error) => PlaceOutcome::Failed(error.reason()),
        }
    }

    fn try_place(
        &self,
        transfer: TransferId,
        name: &ItemName,
        inode: u64,
        replace: Option<Signature>,
    ) -> Result<PlaceOutcome, SurveyError> {
        let file_dir = Folder::open(&self.file_dir)?;
        let staging = Folder::open(&self.staging_dir())?;
        let Some(own) = staging.child(transfer.to_string().as_bytes())? else { return Ok(PlaceOutcome::Lost) };
        let base = self.make_around(&file_dir, name)?;
        let hidden = hidden_name(transfer).map_err(|errno| base.refusal("rename", name.as_bytes(), errno))?;
        if name.depth() > 0 && self.ownership.gives_away() && own.inode(INBOX)?.is_none() {
            // Says in which directory the reserved name is.
            own.write_file(INBOX, name.as_bytes())?;
        }
        let owners = Owners::of(&self.ownership);
        let placing = Placing { base, own, name: name.leaf(), inode, hidden, owners };
        if placing.is_staged()? && !placing.give_name(replace)? {
            return Ok(PlaceOutcome::Occupied);
        }
        placing.finish()
    }

    /// Why an item stays in staging, and what helps.
    fn not_given(&self, refusal: &Refusal) -> Reason {
        let (user, keys) = (rustix::process::geteuid().as_raw(), self.ownership.keys());
        let detail = match refusal.errno() {
            Errno::PERM => format!(
                "uid {user} has no right to set {keys} (run `synkler drop-in --apply` as root and restart synkler): {refusal}"
            ),
            _ => format!("cannot set {keys}: {refusal}"),
        };
        Reason::with(Cause::Storage, &detail)
    }

    /// Carries out [`crate::machine::Effect::Drop`].
    pub fn discard(&self, transfer: TransferId) -> Result<(), Reason> {
        self.try_discard(transfer).map_err(|refusal| refusal.reason())
    }

    fn try_discard(&self, transfer: TransferId) -> Result<(), Refusal> {
        let staging = Folder::open(&self.staging_dir())?;
        // It goes first: as long as the directory of the transfer exists, the next sweep finds both.
        if let (Ok(hidden), Some(own)) = (hidden_name(transfer), staging.child(transfer.to_string().as_bytes())?) {
            let file_dir = Folder::open(&self.file_dir)?;
            let item = own.read_file(INBOX, ITEM_NAME_LIMIT)?.and_then(|bytes| ItemName::new(&bytes).ok());
            let around = match item {
                Some(item) => file_dir.around(&item)?,
                None => Some(file_dir),
            };
            around.map_or(Ok(()), |around| around.remove(hidden.as_bytes()))?;
        }
        staging.remove(transfer.to_string().as_bytes())
    }

    /// The directory of the final name. Missing directories get the mode and the group of the config. They stay ours,
    /// because others could not let us deliver into them.
    fn make_around(&self, file_dir: &Folder, item: &ItemName) -> Result<Folder, SurveyError> {
        file_dir.make_around_as(item, |above, name| {
            if let Some(owners) = Owners::of(&self.ownership)
                && let Ok(name) = ItemName::new(name)
            {
                owners.group_only().give_top(&above.site(&name)?)?;
            }
            if let Some(mode) = self.ownership.dir_mode {
                above.set_mode(name, mode)?;
            }
            Ok(())
        })
    }

    /// Everything else in staging; see [`crate::machine::Effect::Sweep`].
    pub fn leftovers(&self, transfers: &BTreeSet<TransferId>) -> Result<Vec<Leftover>, Refusal> {
        leftovers_in(&Folder::open(&self.staging_dir())?, transfers, Leftover::Transfer)
    }
}

/// The steps from staging to the final name; a crash may follow each of them.
struct Placing {
    /// The directory of the final name.
    base: Folder,
    own: Folder,
    /// A name of one part.
    name: ItemName,
    inode: u64,
    /// The reserved name beside the final one.
    hidden: ItemName,
    /// Whose the item will be, if it is given away.
    owners: Option<Owners>,
}

impl Placing {
    /// Whether the verified copy is still in staging, or under its reserved name.
    fn is_staged(&self) -> Result<bool, Refusal> {
        let staged = self.own.inode(self.name())? == Some(self.inode);
        Ok(staged || self.base.inode(self.hidden.as_bytes())? == Some(self.inode))
    }

    /// Whether the verified copy has the final name, and not a later file with the inode of an item that its owner
    /// removed.
    fn is_placed(&self) -> Result<bool, Refusal> {
        let Some(stat) = self.base.stat(self.name())?.filter(|stat| stat.stx_ino == self.inode) else {
            return Ok(false);
        };
        Ok(self.mark(BORN_MARK)?.is_some_and(|born| born == birth(&stat)))
    }

    fn mark_birth(&self) -> Result<(), Refusal> {
        let Some(born) = self.own.stat(self.name())?.map(|stat| birth(&stat)) else { return Ok(()) };
        match self.mark(BORN_MARK)? {
            Some(known) if known == born => return Ok(()),
            // A mark of a copy that was fetched earlier and never placed.
            Some(other) => self.own.remove(format!("{BORN_MARK}{other}").as_bytes())?,
            None => {}
        }
        self.own.mark(format!("{BORN_MARK}{born}").as_bytes())
    }

    /// Gives the item its final name; false if another file has the name that may not be replaced.
    fn give_name(&self, replace: Option<Signature>) -> Result<bool, SurveyError> {
        self.mark_birth()?;
        match self.owners {
            // Nothing is given away for a name that is taken.
            Some(owners) if self.base.inode(self.name())?.is_none() => return self.give_away(owners, None),
            Some(_) => {}
            None => match self.rename(Onto::Nothing) {
                Ok(()) => return Ok(true),
                Err(error) if error.errno() != Errno::EXIST => return Err(error.into()),
                Err(_) => {}
            },
        }
        if self.is_placed()? {
            // Linked, with a crash before the name in staging was removed.
            self.own.remove(self.name())?;
            return Ok(true);
        }
        let Some(replace) = replace else { return Ok(false) };
        let site = self.base.site(&self.name)?;
        match site.survey() {
            Ok(old) if old.signature() == replace && !matches!(written(&site, &old), Ok(Some(_))) => {
                match self.owners {
                    Some(owners) => self.give_away(owners, Some(&old)),
                    None => self.exchange(&old),
                }
            }
            Ok(_) => Ok(false),
            // Removed at this moment: the name is free for the next attempt.
            Err(SurveyError::Gone) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Exchanges the two, and back again if the existing file has changed since `old`.
    fn exchange(&self, old: &Survey) -> Result<bool, SurveyError> {
        self.own.mark(SWAP_MARK)?;
        self.own.sync()?;
        match self.rename(Onto::Exchange) {
            Ok(()) => {}
            Err(error) if error.errno() == Errno::INVAL => return Ok(self.replace_by_hand()?),
            Err(error) if error.errno() == Errno::NOENT => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let swapped = self.own.site(&self.name)?.survey()?;
        if swapped.same_but_moved(old) {
            return Ok(true);
        }
        self.rename(Onto::Exchange)?;
        if swapped.kind() == Some(Kind::Directory) && old.permissions() & 0o200 == 0 {
            self.base.set_mode(self.name(), old.permissions())?;
        }
        Ok(false)
    }

    /// For a file system that cannot exchange: the existing file is moved aside first. For an instant, or until the
    /// next start, no file has the name.
    fn replace_by_hand(&self) -> Result<bool, Refusal> {
        let name = self.name();
        let refused = |errno| self.base.refusal("rename", name, errno);
        self.own.remove(ASIDE)?;
        self.make_movable(Onto::Exchange)?;
        self.base.rename_by_hand(name, &self.own, ASIDE).map_err(refused)?;
        match self.rename(Onto::Nothing) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Errno::EXIST => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, onto: Onto) -> Result<(), Refusal> {
        let name = self.name();
        let rename = || match onto {
            Onto::Nothing => self.own.rename_anyhow(name, &self.base, name),
            Onto::Exchange => self.own.rename(name, &self.base, name, onto),
        };
        let refused = |errno| self.own.refusal("rename", name, errno);
        match rename() {
            Err(Errno::ACCESS) => {
                self.make_movable(onto)?;
                rename().map_err(refused)
            }
            other => other.map_err(refused),
        }
    }

    /// Moving a directory to another parent needs write permission for it, because its `..` changes. The placed item
    /// gets its permissions back at the end; the replaced one is removed anyway.
    fn make_movable(&self, onto: Onto) -> Result<(), Refusal> {
        let name = self.name();
        let read_only = |stat: &Statx| file_type(stat) == FileType::Directory && stat.stx_mode & 0o200 == 0;
        if let Some(stat) = self.own.stat(name)?.filter(read_only) {
            let mode = stat.stx_mode & 0o7777;
            if self.mode_mark()?.is_none() {
                self.own.mark(format!("{MODE_MARK}{mode:04o}").as_bytes())?;
                self.own.sync()?;
            }
            self.own.set_mode(name, mode | 0o200)?;
        }
        if onto == Onto::Exchange
            && let Some(stat) = self.base.stat(name)?.filter(read_only)
        {
            self.base.set_mode(name, stat.stx_mode & 0o7777 | 0o200)?;
        }
        Ok(())
    }

    /// Everything after the rename: permissions, durability, and the removal of the replaced file.
    fn finish(&self) -> Result<PlaceOutcome, SurveyError> {
        let placed = self.is_placed()?;
        let hidden = self.hidden.as_bytes();
        let left = self.own.inode(self.name())?.is_some() || self.base.inode(hidden)?.is_some();
        if left && !placed && self.own.inode(SWAP_MARK)?.is_none() {
            // The item is in neither place, and nothing was exchanged. The file system has assigned new inodes, so the
            // entry in staging may be the item itself and must not be removed unseen. The next run must be able to write
            // it.
            if self.owners.is_some() {
                let _ = take_back(&self.own.site(&self.name)?);
            }
            return Ok(PlaceOutcome::Lost);
        }
        if placed && let Some(mode) = self.mode_mark()? {
            self.base.set_mode(self.name(), mode)?;
        }
        self.base.sync()?;
        self.own.sync()?;
        // The replaced file goes first: after a crash here, its mark still says what it is.
        step();
        self.own.remove(self.name())?;
        self.base.remove(hidden)?;
        self.own.remove(ASIDE)?;
        step();
        self.own.remove(SWAP_MARK)?;
        if !placed {
            return Ok(PlaceOutcome::Placed(TAKEN));
        }
        match self.base.site(&self.name)?.survey() {
            Ok(survey) if survey.inode() == self.inode => Ok(PlaceOutcome::Placed(survey.signature())),
            Ok(_) | Err(SurveyError::Gone) => Ok(PlaceOutcome::Placed(TAKEN)),
            // Its owner has closed it to us. Without a signature, nobody takes it for untouched.
            Err(SurveyError::Refused(refusal)) if self.owners.is_some() && refusal.errno() == Errno::ACCESS => {
                Ok(PlaceOutcome::Placed(TAKEN))
            }
            Err(error) => Err(error),
        }
    }

    fn mode_mark(&self) -> Result<Option<u16>, Refusal> {
        let mode = self.mark(MODE_MARK)?.and_then(|digits| u16::from_str_radix(&digits, 8).ok());
        Ok(mode.filter(|mode| *mode <= 0o7777))
    }

    /// The rest of the mark with this prefix.
    fn mark(&self, begin: &str) -> Result<Option<String>, Refusal> {
        let names = self.own.names(MARKS_LIMIT)?;
        let rest = |name: &Vec<u8>| Some(std::str::from_utf8(name).ok()?.strip_prefix(begin)?.to_owned());
        Ok(names.iter().find_map(rest))
    }

    fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

/// The name beside the final one under which an item of this transfer waits for its last rename. A cleanup uses another
/// one.
fn hidden_name(transfer: TransferId) -> Result<ItemName, Errno> {
    let name = [RESERVED, b"-placing-", transfer.to_string().as_bytes()].concat();
    ItemName::new(&name).map_err(|_| Errno::INVAL)
}

/// The creation time; if the file system does not record it, the time of the last write.
fn birth(stat: &Statx) -> String {
    let known = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    let (letter, time) = if known { ('b', stat.stx_btime) } else { ('m', stat.stx_mtime) };
    format!("{letter}{}.{:09}", time.tv_sec, time.tv_nsec)
}

/// More names than the item, the marks and the leftovers of rsync.
const MARKS_LIMIT: usize = 1_000;

#[cfg(test)]
mod tests;
