//! Gives a staged item to another user and group, and takes it back.
//!
//! Every entry is opened without following a link, and only what was opened is changed. What is deep goes first: a
//! directory that belongs to somebody else may be closed to us. So an interrupted run leaves directories of ours above
//! everything that is given already, and it is simply repeated.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, OFlags, StatxFlags, Uid, chownat, fchown, statx};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::copies::{in_parallel, sync};
use super::steps::step;
use crate::drivers::disk::Refusal;
use crate::drivers::look::file_type;
use crate::drivers::manifest::{Entry, Form, Opener, Site, SurveyError};
use crate::machine::Ownership;

/// The path of the item itself in its survey.
const ITSELF: &[u8] = b".";
/// What fails if the right is missing.
pub(super) const GIVING: &str = "change the owner of";

/// Who gets the entries; `None` leaves a user or group as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owners {
    user: Option<Uid>,
    group: Option<Gid>,
}

impl Owners {
    /// `None` if the config gives nothing away.
    pub(super) fn of(ownership: &Ownership) -> Option<Self> {
        let user = ownership.owner.as_ref().map(|owner| Uid::from_raw(owner.id));
        let group = ownership.group.as_ref().map(|group| Gid::from_raw(group.id));
        ownership.gives_away().then_some(Self { user, group })
    }

    /// Gives an item away, durably. `whole` says whether this includes a directory itself, in which no file can be
    /// reached then.
    pub(super) fn give(self, site: &Site, whole: bool) -> Result<(), SurveyError> {
        let survey = match site.survey() {
            // An interrupted run has given away a directory that is closed to us.
            Err(SurveyError::Refused(refusal)) if refusal.errno() == Errno::ACCESS => {
                take_back(site)?;
                site.survey()?
            }
            other => other?,
        };
        let depth = |entry: &Entry| entry.path.iter().filter(|byte| **byte == b'/').count();
        let mut below: Vec<_> = survey.entries().iter().filter(|entry| &*entry.path != ITSELF).collect();
        below.sort_by_key(|entry| std::cmp::Reverse(depth(entry)));
        for level in below.chunk_by(|a, b| depth(a) == depth(b)) {
            in_parallel(site, level, |opener, entry| self.give_one(site, opener, &entry.path, &entry.form))?;
        }
        let top = survey.entries().iter().find(|entry| &*entry.path == ITSELF);
        match top.filter(|top| whole || top.form != Form::Directory) {
            Some(top) => self.give_one(site, &mut site.opener(), ITSELF, &top.form),
            None => Ok(()),
        }
    }

    /// The same group, and the user as it is.
    pub(super) fn group_only(self) -> Self {
        Self { user: None, ..self }
    }

    /// Gives a directory itself away, whose content is given already.
    pub(super) fn give_top(self, site: &Site) -> Result<(), SurveyError> {
        self.give_one(site, &mut site.opener(), ITSELF, &Form::Directory)
    }

    fn give_one(self, site: &Site, opener: &mut Opener<'_>, path: &[u8], form: &Form) -> Result<(), SurveyError> {
        let refused = |errno| site.refusal(GIVING, path, errno);
        let fd = match form {
            Form::File | Form::Directory => {
                let fd = match opener.try_open(path, OFlags::RDONLY) {
                    Err(Errno::ACCESS) => {
                        claim(site, opener, path)?;
                        opener.try_open(path, OFlags::RDONLY)
                    }
                    other => other,
                };
                let fd = fd.map_err(refused)?;
                step();
                fchown(&fd, self.user, self.group).map_err(refused)?;
                // Readable by us for the last time.
                sync(&fd, form).map_err(|errno| site.refusal("make durable", path, errno))?;
                fd
            }
            Form::Symlink(_) | Form::Special => {
                let fd = opener.try_open(path, OFlags::PATH).map_err(refused)?;
                step();
                chownat(&fd, c"", self.user, self.group, AtFlags::EMPTY_PATH).map_err(refused)?;
                fd
            }
        };
        let (user, group, _) = owners(&fd).map_err(refused)?;
        let fits = self.user.is_none_or(|wanted| wanted == user) && self.group.is_none_or(|wanted| wanted == group);
        // Some file systems say yes and change nothing.
        if fits { Ok(()) } else { Err(refused(Errno::OPNOTSUPP).into()) }
    }
}

/// Makes every entry of an item ours again, from the top, so that it can be read and removed.
pub(super) fn take_back(site: &Site) -> Result<(), SurveyError> {
    let mut opener = site.opener();
    let mut pending = vec![Box::<[u8]>::from(ITSELF)];
    while let Some(path) = pending.pop() {
        claim(site, &mut opener, &path)?;
        let refused = |errno| site.refusal("read", &path, errno);
        let fd = opener.try_open(&path, OFlags::PATH).map_err(refused)?;
        let (.., kind) = owners(&fd).map_err(refused)?;
        if kind != FileType::Directory {
            continue;
        }
        let fd = opener.try_open(&path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(refused)?;
        for found in rustix::fs::Dir::new(fd).map_err(refused)? {
            let found = found.map_err(refused)?;
            let name = found.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let below = if *path == *ITSELF { name.to_vec() } else { [&*path, b"/", name].concat() };
                pending.push(below.into());
            }
        }
    }
    Ok(())
}

/// Makes one entry ours if it is not.
pub(super) fn claim(site: &Site, opener: &mut Opener<'_>, path: &[u8]) -> Result<(), Refusal> {
    let refused = |errno| site.refusal(GIVING, path, errno);
    let fd = opener.try_open(path, OFlags::PATH).map_err(refused)?;
    let (user, ..) = owners(&fd).map_err(refused)?;
    if user == geteuid() {
        return Ok(());
    }
    step();
    chownat(&fd, c"", Some(geteuid()), None, AtFlags::EMPTY_PATH).map_err(refused)
}

/// The user, the group and the kind of an open entry.
fn owners(fd: &OwnedFd) -> Result<(Uid, Gid, FileType), Errno> {
    let stat = statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    Ok((Uid::from_raw(stat.stx_uid), Gid::from_raw(stat.stx_gid), file_type(&stat)))
}
