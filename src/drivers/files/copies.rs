//! The content of our copies: central's held ones, a download's staged ones.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::fsync;
use rustix::io::Errno;

use super::folder::Folder;
use crate::drivers::extras::extras;
use crate::drivers::manifest::{Entry, Form, Opener, Site, Survey, SurveyError};
use crate::drivers::modes::{self, Wanted};
use crate::machine::{CopyOutcome, Digest, Extra, Extras, Kind};

/// How many threads make one directory durable: file systems combine concurrent requests into one commit.
const SYNC_THREADS: usize = 8;
/// How many entries a thread takes at once.
const SYNC_CHUNK: usize = 16;
/// From this size in bytes on, an item is made durable while its digest is computed.
const SYNC_AHEAD: u64 = 8 << 20;

type Proof = Result<(Digest, Option<Arc<str>>), SurveyError>;

/// Computes a copy's fingerprint and, if `durable` names its directory, makes the copy durable. An entry of another
/// kind than announced is not the item: it counts as missing, so that the item is requested again.
///
/// Modes that differ from `wanted` are set first, so that they become durable with the rest, and are compared at the
/// end, as are the extras that travelled.
///
/// `read` returns the digest of a file that was read while it arrived, by its kind, inode and size.
pub(super) fn appraise(
    site: &Site,
    kind: Kind,
    wanted: Wanted<'_>,
    announced: &Extras,
    durable: Option<&Folder>,
    read: impl FnOnce(Kind, u64, u64) -> Option<Digest>,
) -> Result<CopyOutcome, SurveyError> {
    let mut survey = match site.survey() {
        Err(SurveyError::Gone) => return Ok(CopyOutcome::Missing),
        other => other?,
    };
    if survey.kind() != Some(kind) {
        let found = survey.kind().map_or("special file", Kind::as_str);
        tracing::warn!("{site}: expected a {}, found a {found}", kind.as_str());
        return Ok(CopyOutcome::Missing);
    }
    if modes::set(site, &survey, wanted) {
        survey = site.survey()?;
    }
    let prove = || match read(kind, survey.inode(), survey.size()) {
        Some(digest) => Ok((digest, None)),
        None => site.prove_with_manifest(&survey),
    };
    let (digest, manifest) = match durable {
        Some(dir) => {
            let proof = prove_and_make_durable(site, &survey, prove)?;
            dir.sync()?;
            proof
        }
        None => prove()?,
    };
    if site.survey()?.signature() != survey.signature() {
        return Err(SurveyError::Changed(site.to_string()));
    }
    let (unkept, lost) = (modes::unkept(site, &survey, wanted), lost(site, &survey, announced)?);
    Ok(CopyOutcome::Found { fingerprint: survey.fingerprint(digest), inode: survey.inode(), manifest, unkept, lost })
}

/// How a copy's extras differ from those that travelled with the item, in one line.
fn lost(site: &Site, survey: &Survey, announced: &Extras) -> Result<Option<Box<str>>, SurveyError> {
    let kinds = announced.carried().without(Extra::Sparse);
    if kinds.is_empty() {
        return Ok(None);
    }
    let lost = announced.lost(&extras(site, survey, kinds, None)?);
    Ok(lost.map(|lost| format!("{lost} ({})", site.file_system()).into()))
}

/// For large items both happen at once: one waits for the processor, the other for the disk. A change between the two
/// shows in the following survey, as it would if they ran one after the other.
fn prove_and_make_durable(site: &Site, survey: &Survey, prove: impl FnOnce() -> Proof) -> Proof {
    thread::scope(|scope| {
        let durable = || make_durable(site, survey);
        let ahead = survey.size() >= SYNC_AHEAD;
        // If no thread can be started, they run one after the other.
        let writing = ahead.then(|| thread::Builder::new().spawn_scoped(scope, durable).ok()).flatten();
        let proof = prove()?;
        match writing.map(thread::ScopedJoinHandle::join) {
            Some(Ok(made)) => made?,
            Some(Err(_)) | None => durable()?,
        }
        Ok(proof)
    })
}

/// Makes every file and directory of an item durable; links are part of their directories.
fn make_durable(site: &Site, survey: &Survey) -> Result<(), SurveyError> {
    in_parallel(site, &survey.entries().iter().collect::<Vec<_>>(), |opener, entry| match entry.form {
        Form::File | Form::Directory => {
            let fd = opener.open(entry)?;
            sync(fd, &entry.form).map_err(|errno| site.refusal("make durable", &entry.path, errno).into())
        }
        Form::Symlink(_) | Form::Special => Ok(()),
    })
}

/// Does `work` with each entry in several threads, in no order, until it fails.
pub(super) fn in_parallel(
    site: &Site,
    entries: &[&Entry],
    work: impl Fn(&mut Opener<'_>, &Entry) -> Result<(), SurveyError> + Sync,
) -> Result<(), SurveyError> {
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let some = || {
        let mut opener = site.opener();
        while let Some(rest) = entries.get(next.fetch_add(SYNC_CHUNK, Ordering::Relaxed)..) {
            for entry in rest.iter().take(SYNC_CHUNK) {
                if let Err(error) = work(&mut opener, entry) {
                    next.store(entries.len(), Ordering::Relaxed);
                    if let Ok(mut failure) = failure.lock() {
                        *failure = Some(error);
                    }
                    return;
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..SYNC_THREADS.min(entries.len().div_ceil(SYNC_CHUNK)) {
            // If no thread can be started, this one does all the work.
            if thread::Builder::new().spawn_scoped(scope, some).is_err() {
                break;
            }
        }
        some();
    });
    failure.into_inner().unwrap_or_default().map_or(Ok(()), Err)
}

pub(super) fn sync(fd: impl AsFd, form: &Form) -> Result<(), Errno> {
    match fsync(fd) {
        // Some network file systems do not support fsync of directories, and keep them durable themselves.
        Err(Errno::INVAL) if *form == Form::Directory => Ok(()),
        other => other,
    }
}
