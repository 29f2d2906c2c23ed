//! Central: what uploads have sent, and the copies that are held until every receiver has them.
//!
//! An upload's rsync writes to `<file_dir>/<id>/in/<place>/<name>`; downloads fetch from `held/<transfer>/<leaf>`, where
//! `<leaf>` is the last part of the name. The content of `in` may be anything: nothing in it is followed or trusted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::copies::appraise;
use super::folder::{Folder, Onto};
use super::{LayoutError, Leftover, leftovers_in};
use crate::drivers::disk::Refusal;
use crate::drivers::look::file_type;
use crate::drivers::manifest::SurveyError;
use crate::drivers::modes::Wanted;
use crate::machine::{Attributes, CopyOutcome, GroupId, ItemName, Kind, PlaceId, Reason, TransferId};

/// One group's directories below central's `file_dir`.
#[derive(Debug, Clone)]
pub struct Spool {
    file_dir: PathBuf,
    group: GroupId,
}

impl Spool {
    /// The spool of `group` below `file_dir`.
    pub fn new(file_dir: PathBuf, group: GroupId) -> Self {
        Self { file_dir, group }
    }

    /// The configured directory.
    pub fn file_dir(&self) -> &Path {
        &self.file_dir
    }

    /// The directory to which an upload's rsync writes one batch.
    pub fn in_dir(&self, place: PlaceId) -> PathBuf {
        self.arrivals().join(place.to_string())
    }

    /// The directory from which downloads fetch: `<held_dir>/<transfer>/<leaf>`.
    pub fn held_dir(&self) -> PathBuf {
        self.group_dir().join("held")
    }

    /// Creates missing directories, with mode 0700, because the account for rsync is normally the daemon's own. For
    /// another account, create them beforehand with the group and mode that it needs: an existing directory keeps its
    /// mode. Fails if `file_dir` does not exist or the spool cannot be written.
    pub fn prepare(&self) -> Result<(), LayoutError> {
        self.try_prepare().map_err(|refusal| LayoutError::new(&self.file_dir, refusal))
    }

    fn try_prepare(&self) -> Result<(), Refusal> {
        let base = Folder::open(&self.file_dir)?;
        base.check(false)?;
        let group = base.make(self.group.as_str().as_bytes())?;
        let (arrivals, held) = (group.make(b"in")?, group.make(b"held")?);
        arrivals.check(true)?;
        held.check(true)?;
        if !arrivals.shares_file_system(&held)? {
            return Err(Refusal::new("rename into", &self.held_dir(), Errno::XDEV));
        }
        Ok(())
    }

    /// Carries out [`crate::machine::Effect::Take`]. A held copy is not made durable: until the receivers have given
    /// their receipts, the source still exists.
    pub fn take(
        &self,
        transfer: TransferId,
        place: Option<PlaceId>,
        name: &ItemName,
        kind: Kind,
        attributes: &Attributes,
    ) -> CopyOutcome {
        match self.try_take(transfer, place, name, kind, attributes) {
            Ok(outcome) => outcome,
            Err(error) => CopyOutcome::Failed(error.reason()),
        }
    }

    fn try_take(
        &self,
        transfer: TransferId,
        place: Option<PlaceId>,
        name: &ItemName,
        kind: Kind,
        attributes: &Attributes,
    ) -> Result<CopyOutcome, SurveyError> {
        let held = Folder::open(&self.held_dir())?;
        if let Some(place) = place {
            self.move_in(&held, transfer, place, name)?;
        }
        match held.child(transfer.to_string().as_bytes())? {
            Some(own) => {
                let wanted = Wanted { announced: attributes.modes.as_ref(), ..Wanted::default() };
                appraise(&own.site(&name.leaf())?, kind, wanted, &attributes.extras, None, |_, _, _| None)
            }
            None => Ok(CopyOutcome::Missing),
        }
    }

    fn move_in(&self, held: &Folder, transfer: TransferId, place: PlaceId, name: &ItemName) -> Result<(), Refusal> {
        let arrivals = Folder::open(&self.arrivals())?;
        let Some(place) = arrivals.child(place.to_string().as_bytes())? else { return Ok(()) };
        let Some(arrived) = place.around(name)? else { return Ok(()) };
        let name = name.leaf();
        let Some(stat) = arrived.stat(name.as_bytes())? else { return Ok(()) };
        let own = transfer.to_string();
        // A leftover of an earlier attempt; this one is newer.
        held.remove(own.as_bytes())?;
        let own = held.make(own.as_bytes())?;
        let name = name.as_bytes();
        let rename = || match arrived.rename(name, &own, name, Onto::Nothing) {
            Err(Errno::INVAL) => arrived.rename_by_hand(name, &own, name),
            other => other,
        };
        let refused = |errno| arrived.refusal("rename", name, errno);
        match rename() {
            // Moving a directory to another parent needs write permission for it, because its `..` changes. After a
            // crash before the mode is restored, the copy differs and central requests it again.
            Err(Errno::ACCESS) if file_type(&stat) == FileType::Directory => {
                arrived.set_mode(name, stat.stx_mode & 0o7777 | 0o200)?;
                rename().map_err(refused)?;
                own.set_mode(name, stat.stx_mode & 0o7777)
            }
            other => other.map_err(refused),
        }
    }

    /// Carries out [`crate::machine::Effect::Drop`].
    pub fn discard(&self, transfer: TransferId) -> Result<(), Reason> {
        remove(&self.held_dir(), &transfer.to_string()).map_err(|refusal| refusal.reason())
    }

    /// Carries out [`crate::machine::Effect::DropPlace`].
    pub fn discard_place(&self, place: PlaceId) -> Result<(), Reason> {
        remove(&self.arrivals(), &place.to_string()).map_err(|refusal| refusal.reason())
    }

    /// Carries out [`crate::machine::Effect::DropArrival`].
    pub fn discard_arrival(&self, place: PlaceId, name: &ItemName) -> Result<(), Reason> {
        let removed = Folder::open(&self.arrivals())
            .and_then(|arrivals| arrivals.child(place.to_string().as_bytes()))
            .and_then(|place| place.map_or(Ok(None), |place| place.around(name)))
            .and_then(|arrived| arrived.map_or(Ok(()), |arrived| arrived.remove(name.leaf().as_bytes())));
        removed.map_err(|refusal| refusal.reason())
    }

    /// Everything else in the spool; see [`crate::machine::Effect::Sweep`].
    pub fn leftovers(
        &self,
        transfers: &BTreeSet<TransferId>,
        places: &BTreeSet<PlaceId>,
    ) -> Result<Vec<Leftover>, Refusal> {
        let mut found = leftovers_in(&Folder::open(&self.arrivals())?, places, Leftover::Place)?;
        found.extend(leftovers_in(&Folder::open(&self.held_dir())?, transfers, Leftover::Transfer)?);
        Ok(found)
    }

    fn arrivals(&self) -> PathBuf {
        self.group_dir().join("in")
    }

    fn group_dir(&self) -> PathBuf {
        self.file_dir.join(self.group.as_str())
    }
}

fn remove(dir: &Path, name: &str) -> Result<(), Refusal> {
    Folder::open(dir)?.remove(name.as_bytes())
}
