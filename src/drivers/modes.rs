//! The modes of an item's entries: reads them, sets those that differ from the announcement, and compares them
//! afterwards.

use std::os::fd::AsRawFd;

use md5::{Digest as _, Md5};
use rustix::fs::{Mode, OFlags, chmod};
use rustix::io::Errno;

use super::manifest::{Entry, Form, Site, Survey};
use crate::machine::{Digest, Kind, ModeList, Modes, escaped};

/// Bits that not every owner may set.
const SPECIAL: u16 = 0o7000;
/// The longest path that is shown, in characters; of a longer one the end is shown.
const PATH_SHOWN: usize = 100;

/// The modes that a copy should have.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted<'a> {
    /// Those of the source.
    pub(crate) announced: Option<&'a Modes>,
    /// What the config fixes for every file.
    pub(crate) file: Option<u16>,
    /// What it fixes for every directory.
    pub(crate) directory: Option<u16>,
}

impl Wanted<'_> {
    /// Whether only the digest of all modes is known. Once some are fixed, it proves nothing about the others.
    fn digest(&self) -> Option<&Modes> {
        self.announced.filter(|modes| modes.list().is_none() && self.file.is_none() && self.directory.is_none())
    }

    /// Who asked for the mode of an entry.
    fn source(&self, form: &Form) -> &'static str {
        match form {
            Form::Directory if self.directory.is_some() => "set by dir_mode",
            Form::File if self.file.is_some() => "set by file_mode",
            Form::Directory | Form::File | Form::Symlink(_) | Form::Special => "announced",
        }
    }
}

/// The modes of an item, in the announced form.
pub fn modes(survey: &Survey) -> Modes {
    let of = |form: fn(&Form) -> bool| {
        survey.entries().iter().filter(move |entry| form(&entry.form)).map(|entry| entry.permissions)
    };
    let directories = of(|form| matches!(form, Form::Directory));
    let files = of(|form| matches!(form, Form::File));
    Modes::of(directories, files, |text| Digest(Md5::digest(text).into()))
}

/// Sets the modes that differ from the requested ones. Returns whether it has tried to set any, so that the survey is
/// out of date. The comparison shows which ones were refused.
pub(crate) fn set(site: &Site, survey: &Survey, wanted: Wanted<'_>) -> bool {
    let other = others(survey, wanted);
    let mut opener = site.opener();
    // The content of a directory comes before the directory, whose new mode may deny access.
    for (entry, mode) in other.iter().rev() {
        let Ok(fd) = opener.try_open(&entry.path, OFlags::PATH) else { continue };
        // The link in /proc leads to exactly the opened file, which chmod by name does not guarantee.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let set = |mode: u16| chmod(&*path, Mode::from_raw_mode(mode.into()));
        if set(*mode) == Err(Errno::PERM) && mode & SPECIAL != 0 {
            let _ = set(mode & !SPECIAL);
        }
    }
    !other.is_empty()
}

/// How the modes differ from the requested ones, in one line; `None` if they do not.
pub(crate) fn unkept(site: &Site, survey: &Survey, wanted: Wanted<'_>) -> Option<Box<str>> {
    let (others, of) = (others(survey, wanted), survey.entries().len());
    let on = site.file_system();
    let text = match (others.first(), wanted.digest()) {
        (Some((entry, mode)), _) if survey.kind() == Some(Kind::File) => {
            let source = wanted.source(&entry.form);
            format!("mode {mode:04o} {source}, {:04o} kept ({on})", entry.permissions)
        }
        (Some((entry, mode)), _) => {
            let (path, kept, source) = (path_of(entry), entry.permissions, wanted.source(&entry.form));
            let count = others.len();
            format!(
                "modes differ in {count} of {of} entries, first `{path}`: {mode:04o} {source}, {kept:04o} kept ({on})"
            )
        }
        (None, Some(digest)) if modes(survey) != *digest => {
            format!("modes differ in some of {of} entries: upload announced only the checksum of all modes ({on})")
        }
        (None, _) => return None,
    };
    Some(text.into())
}

/// The entries whose modes differ, each with the requested mode; without those of which only a digest was announced.
fn others<'a>(survey: &'a Survey, wanted: Wanted<'_>) -> Vec<(&'a Entry, u16)> {
    let mut list = wanted.announced.and_then(Modes::list);
    let mut others = Vec::new();
    for entry in survey.entries() {
        let asked = match entry.form {
            Form::Directory => wanted.directory.or(list.as_mut().and_then(ModeList::next_directory)),
            Form::File => wanted.file.or(list.as_mut().and_then(ModeList::next_file)),
            Form::Symlink(_) | Form::Special => None,
        };
        others.extend(asked.filter(|asked| *asked != entry.permissions).map(|asked| (entry, asked)));
    }
    others
}

fn path_of(entry: &Entry) -> String {
    let path = escaped(&entry.path);
    let count = path.chars().count();
    if count <= PATH_SHOWN { path } else { format!("...{}", path.chars().skip(count - PATH_SHOWN).collect::<String>()) }
}
