//! Cleanup without a script: moves an item out of `file_dir`, or deletes it.
//!
//! A run that was interrupted at any point can be repeated. It loses nothing and overwrites nothing:
//!
//! 1. Within one file system, one rename moves the item.
//! 2. Otherwise the copy comes first, in `cleanup_move/.synkler-TRANSFER/`: written, made durable, and compared with
//!    what was announced. The item is still under its name.
//! 3. One rename takes the item out of sight, into `file_dir/.synkler-TRANSFER/`. If somebody changed it up to then, it
//!    gets its name back.
//! 4. One rename gives the copy its name.
//! 5. A mark says that the item may go, and it is removed.
//!
//! A deletion is the same without 2 and 4. No directory keeps its name while it is removed: the watch would take the
//! rest of it for a new item.
//!
//! While a process has a file of the item open for writing, the item stays: what it writes next would go with the item.
//! The last look for such a process comes when the item is out of sight, where none can open it by its name any more.

use std::path::PathBuf;

use rustix::io::Errno;

use super::copies::appraise;
use super::duplicate::duplicate;
use super::folder::{Folder, RESERVED};
use super::source::written;
use super::steps::step;
use crate::drivers::disk::{Refusal, shown};
use crate::drivers::manifest::{Site, Survey, SurveyError};
use crate::drivers::modes::Wanted;
use crate::machine::{Cause, Cleared, CopyOutcome, Extras, Fingerprint, ItemName, Kind, Reason, Signature, TransferId};

/// Says that the item in the directory out of sight may be removed.
const DONE_MARK: &[u8] = b".synkler-done";
/// Begins the name of a mark that keeps the inode of the copy.
const COPY_MARK: &str = ".synkler-copy-";
/// The most items of one name in `cleanup_move`.
const SAME_NAME_LIMIT: u32 = 100_000;

/// What becomes of the items in a directory after their hand-over.
#[derive(Debug, Clone)]
pub struct Disposal {
    file_dir: PathBuf,
    /// Where they go; without it they are deleted.
    into: Option<PathBuf>,
}

/// Why an item cannot be moved or deleted now.
#[derive(Debug, thiserror::Error)]
enum DisposalError {
    #[error(transparent)]
    Survey(#[from] SurveyError),
    #[error("cannot use cleanup_move {0}: it is file_dir or below it; change cleanup_move")]
    Inside(String),
    #[error("cannot move it to {0}: its name and all up to .~{SAME_NAME_LIMIT}~ are taken; move older items away")]
    Taken(String),
    #[error(
        "cannot move it to {0}: its name is taken, and with a number longer than 255 bytes; move the older item away"
    )]
    TooLong(String),
    #[error("the copy in {0} is not what was announced: it is made again")]
    Different(String),
    #[error("{0} changed while it was cleaned up, and a new item has its name: see {1}")]
    Homeless(String, String),
    /// The file of the item that a process has open for writing.
    #[error("{0} is open for writing")]
    Busy(String),
}

impl From<Refusal> for DisposalError {
    fn from(refusal: Refusal) -> Self {
        Self::Survey(refusal.into())
    }
}

impl Disposal {
    /// Moves items from `file_dir` into a directory; deletes them where there is none.
    pub fn new(file_dir: PathBuf, into: Option<PathBuf>) -> Self {
        Self { file_dir, into }
    }

    /// Carries out [`crate::machine::Effect::Cleanup`]; blocks as long as it takes to copy and remove the item.
    /// `signature` is that of the delivered item.
    ///
    /// # Errors What the file system refuses. The item is then under its name, or the next call finishes what this one
    /// began.
    pub fn run(
        &self,
        transfer: TransferId,
        item: &ItemName,
        signature: Option<Signature>,
        fingerprint: &Fingerprint,
    ) -> Result<Cleared, Reason> {
        let own = format!("{}-{transfer}", String::from_utf8_lossy(RESERVED)).into_bytes();
        let outcome = self.folders().and_then(|(base, into)| {
            Removal { base: &base, into: into.as_ref(), own, item, leaf: item.leaf(), fingerprint }.carry_out(signature)
        });
        outcome.map_err(|error| match error {
            DisposalError::Busy(path) => Reason::with(Cause::Busy, &path),
            error => Reason::with(Cause::Cleanup, &error.to_string()),
        })
    }

    fn folders(&self) -> Result<(Folder, Option<Folder>), DisposalError> {
        let base = Folder::open(&self.file_dir)?;
        let Some(path) = &self.into else { return Ok((base, None)) };
        let into = Folder::open(path)?;
        if into.is_within(&base)? {
            return Err(DisposalError::Inside(shown(path)));
        }
        Ok((base, Some(into)))
    }
}

/// The end of one item.
struct Removal<'a> {
    base: &'a Folder,
    into: Option<&'a Folder>,
    /// Our directory's name, in both.
    own: Vec<u8>,
    item: &'a ItemName,
    /// Its name in our directories.
    leaf: ItemName,
    fingerprint: &'a Fingerprint,
}

impl Removal<'_> {
    fn carry_out(&self, signature: Option<Signature>) -> Result<Cleared, DisposalError> {
        if let Some(own) = self.base.child(&self.own)? {
            if own.inode(DONE_MARK)?.is_some() {
                self.remove(&own)?;
                return Ok(Cleared::Done("finished what was begun".to_owned()));
            }
            if own.inode(self.name())?.is_some() {
                return self.resume(&own);
            }
        }
        let found = self.base.site(self.item).and_then(|site| site.survey().map(|survey| (site, survey)));
        let (site, before) = match found {
            Ok((_, survey)) if signature.is_some_and(|signature| survey.signature() != signature) => {
                return self.changed();
            }
            Ok(found) => found,
            Err(SurveyError::Gone) => {
                self.forget_copy()?;
                return Ok(Cleared::Done("it is already gone".to_owned()));
            }
            Err(error) => return Err(error.into()),
        };
        is_closed(&site, &before)?;
        let Some(into) = self.into else {
            return if self.hide(&before, None)? { self.delete() } else { self.changed() };
        };
        if let Some(moved) = self.move_at_once(into, &before)? {
            return Ok(moved);
        }
        let inode = self.copy(&self.base.site(self.item)?, before.kind())?;
        if self.base.site(self.item)?.survey()?.signature() != before.signature() || !self.hide(&before, Some(inode))? {
            return self.changed();
        }
        self.publish(into)
    }

    /// An earlier run took the item out of sight.
    fn resume(&self, own: &Folder) -> Result<Cleared, DisposalError> {
        let site = own.site(&self.leaf)?;
        let survey = site.survey()?;
        is_closed(&site, &survey)?;
        let (digest, _) = site.prove_with_manifest(&survey)?;
        if survey.fingerprint(digest) != *self.fingerprint {
            self.give_back(own)?;
            return self.changed();
        }
        let Some(root) = self.into else { return self.delete() };
        let into = &self.target(root)?;
        let copy = own
            .names(SAME_NAME_LIMIT as usize)?
            .iter()
            .find_map(|name| std::str::from_utf8(name).ok()?.strip_prefix(COPY_MARK)?.parse::<u64>().ok());
        if let Some(copy) = copy {
            if self.copied(root)?.is_some_and(|(_, inode)| inode == copy) {
                return self.publish(root);
            }
            if let Some((name, number)) = self.published(into, copy)? {
                self.forget_copy()?;
                self.remove(own)?;
                return Ok(moved_to(into, &name, number, self.item));
            }
        }
        let inode = self.copy(&site, survey.kind())?;
        self.mark_copy(own, inode)?;
        self.publish(root)
    }

    /// One rename, where both are on one file system.
    fn move_at_once(&self, root: &Folder, before: &Survey) -> Result<Option<Cleared>, DisposalError> {
        let (home, into) = (self.home()?, &self.target(root)?);
        let Some((name, number)) = self.rename_to_free(&home, into)? else { return Ok(None) };
        let site = into.site(&name)?;
        let survey = site.survey()?;
        let closed = is_closed(&site, &survey);
        if closed.is_err() || !survey.same_but_moved(before) {
            step();
            into.rename_to(name.as_bytes(), &home, self.name())
                .map_err(|refusal| self.homeless(&refusal, into, &name))?;
            let changed = self.changed();
            return closed.and(changed).map(Some);
        }
        home.sync()?;
        into.sync()?;
        Ok(Some(moved_to(into, &name, number, self.item)))
    }

    /// Copies the item, proves the copy and makes it durable. Gives its inode.
    fn copy(&self, from: &Site, kind: Option<Kind>) -> Result<u64, DisposalError> {
        let (Some(into), Some(kind)) = (self.into, kind) else {
            return Err(SurveyError::Changed(self.item.to_string()).into());
        };
        step();
        let own = into.make(&self.own)?;
        own.clear()?;
        let copied = duplicate(from, &own, &self.leaf).and_then(|()| {
            let outcome = appraise(
                &own.site(&self.leaf)?,
                kind,
                Wanted::default(),
                &Extras::default(),
                Some(&own),
                |_, _, _| None,
            )?;
            Ok(match outcome {
                CopyOutcome::Found { fingerprint, inode, .. } if fingerprint == *self.fingerprint => Some(inode),
                _ => None,
            })
        });
        match copied {
            Ok(Some(inode)) => Ok(inode),
            failed => {
                // It would only take up space.
                let path = own.to_string();
                self.forget_copy()?;
                failed.map(|_| 0)?;
                Err(DisposalError::Different(path))
            }
        }
    }

    /// Takes the item out of sight, unless it has changed.
    fn hide(&self, before: &Survey, copy: Option<u64>) -> Result<bool, DisposalError> {
        step();
        let own = self.base.make(&self.own)?;
        own.clear()?;
        if let Some(inode) = copy {
            self.mark_copy(&own, inode)?;
        }
        step();
        let home = self.home()?;
        match home.rename_to(self.name(), &own, self.name()) {
            Ok(()) => {}
            Err(refusal) if refusal.errno() == Errno::NOENT => return Ok(false),
            Err(refusal) => return Err(refusal.into()),
        }
        let site = own.site(&self.leaf)?;
        let survey = site.survey()?;
        let closed = is_closed(&site, &survey);
        if closed.is_err() || !survey.same_but_moved(before) {
            self.give_back(&own)?;
            if closed.is_err() {
                self.changed()?;
            }
            return closed.map(|()| false);
        }
        own.sync()?;
        home.sync()?;
        Ok(true)
    }

    fn give_back(&self, own: &Folder) -> Result<(), DisposalError> {
        step();
        let home = self.base.make_around(self.item)?;
        own.rename_to(self.name(), &home, self.name()).map_err(|refusal| self.homeless(&refusal, own, &self.leaf))
    }

    fn homeless(&self, refusal: &Refusal, place: &Folder, name: &ItemName) -> DisposalError {
        if refusal.errno() == Errno::EXIST {
            DisposalError::Homeless(self.item.to_string(), format!("{place}/{name}"))
        } else {
            refusal.clone().into()
        }
    }

    /// Gives the copy its name; then the item goes.
    fn publish(&self, root: &Folder) -> Result<Cleared, DisposalError> {
        let copies = root.child(&self.own)?.ok_or_else(|| root.refusal("open", &self.own, Errno::NOENT))?;
        let into = &self.target(root)?;
        let (name, number) =
            self.rename_to_free(&copies, into)?.ok_or_else(|| copies.refusal("rename", self.name(), Errno::XDEV))?;
        into.sync()?;
        self.forget_copy()?;
        if let Some(own) = self.base.child(&self.own)? {
            self.remove(&own)?;
        }
        Ok(moved_to(into, &name, number, self.item))
    }

    fn delete(&self) -> Result<Cleared, DisposalError> {
        if let Some(own) = self.base.child(&self.own)? {
            self.remove(&own)?;
        }
        Ok(Cleared::Done("deleted".to_owned()))
    }

    /// Removes what is out of sight.
    fn remove(&self, own: &Folder) -> Result<(), DisposalError> {
        step();
        own.mark(DONE_MARK)?;
        own.sync()?;
        step();
        own.remove(self.name())?;
        step();
        self.base.remove(&self.own)?;
        Ok(())
    }

    fn changed(&self) -> Result<Cleared, DisposalError> {
        self.forget_copy()?;
        step();
        self.base.remove(&self.own)?;
        Ok(Cleared::Changed)
    }

    fn forget_copy(&self) -> Result<(), DisposalError> {
        if let Some(into) = self.into {
            step();
            into.remove(&self.own)?;
        }
        Ok(())
    }

    fn mark_copy(&self, own: &Folder, inode: u64) -> Result<(), DisposalError> {
        step();
        own.mark(format!("{COPY_MARK}{inode}").as_bytes())?;
        Ok(own.sync()?)
    }

    /// The copy that waits for its name, with its inode.
    fn copied(&self, into: &Folder) -> Result<Option<(Folder, u64)>, DisposalError> {
        let Some(copies) = into.child(&self.own)? else { return Ok(None) };
        let inode = copies.inode(self.name())?;
        Ok(inode.map(|inode| (copies, inode)))
    }

    /// Under which name the copy with this inode is.
    fn published(&self, into: &Folder, copy: u64) -> Result<Option<(ItemName, u32)>, DisposalError> {
        for number in 0..SAME_NAME_LIMIT {
            let Some(name) = numbered(&self.leaf, number) else { return Ok(None) };
            match into.inode(name.as_bytes())? {
                Some(inode) if inode == copy => return Ok(Some((name, number))),
                Some(_) => {}
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Renames the item from one directory into another one, under the first name that is free. `None` where they are
    /// on two file systems.
    fn rename_to_free(&self, from: &Folder, into: &Folder) -> Result<Option<(ItemName, u32)>, DisposalError> {
        for number in 0..SAME_NAME_LIMIT {
            let Some(name) = numbered(&self.leaf, number) else {
                return Err(DisposalError::TooLong(into.to_string()));
            };
            step();
            match from.rename_to(self.name(), into, name.as_bytes()) {
                Ok(()) => return Ok(Some((name, number))),
                Err(refusal) if refusal.errno() == Errno::EXIST => {}
                Err(refusal) if refusal.errno() == Errno::XDEV => return Ok(None),
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Err(DisposalError::Taken(into.to_string()))
    }

    /// The directory in which the item is.
    fn home(&self) -> Result<Folder, DisposalError> {
        Ok(self.base.around(self.item)?.ok_or(SurveyError::Gone)?)
    }

    /// The directory below `cleanup_move` to which the item goes: the permanent directories above it are kept there.
    fn target(&self, root: &Folder) -> Result<Folder, DisposalError> {
        Ok(root.make_around(self.item)?)
    }

    fn name(&self) -> &[u8] {
        self.leaf.as_bytes()
    }
}

/// `NAME`, then `NAME.~1~` and so on, as `mv --backup=numbered` names what was there before.
fn numbered(item: &ItemName, number: u32) -> Option<ItemName> {
    if number == 0 {
        return Some(item.clone());
    }
    ItemName::new(&[item.as_bytes(), format!(".~{number}~").as_bytes()].concat()).ok()
}

/// Fails if a process has a file of the item open for writing. Where the kernel cannot tell, the item counts as closed.
fn is_closed(site: &Site, survey: &Survey) -> Result<(), DisposalError> {
    match written(site, survey)? {
        Some(path) => Err(DisposalError::Busy(path)),
        None => Ok(()),
    }
}

fn moved_to(into: &Folder, name: &ItemName, number: u32, item: &ItemName) -> Cleared {
    let path = shown(&into.path_of(name.as_bytes()));
    match number {
        0 => Cleared::Done(format!("moved to {path}")),
        _ => Cleared::Remarkable(format!("moved to {path}: the name {item} was taken there")),
    }
}

#[cfg(test)]
mod tests;
