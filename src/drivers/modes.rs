//! The modes of an item's entries: reads them, sets those that differ from the announcement, and compares them
//! afterwards.

use std::os::fd::AsRawFd;

use md5::{Digest as _, Md5};
use rustix::fs::{Mode, OFlags, chmod};
use rustix::io::Errno;

use super::manifest::{Entry, Form, Site, Survey};
use crate::machine::{Digest, Kind, Modes, escaped};

/// Bits that not every owner may set.
const SPECIAL: u16 = 0o7000;
/// The longest path that is shown, in characters; of a longer one the end is shown.
const PATH_SHOWN: usize = 100;

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
pub(crate) fn set(site: &Site, survey: &Survey, asked: &Modes) -> bool {
    let other = others(survey, asked);
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
pub(crate) fn unkept(site: &Site, survey: &Survey, asked: &Modes) -> Option<Box<str>> {
    if modes(survey) == *asked {
        return None;
    }
    let (count, of) = (others(survey, asked).len(), survey.entries().len());
    let on = site.file_system();
    let text = match others(survey, asked).first() {
        Some((entry, mode)) if survey.kind() == Some(Kind::File) => {
            format!("mode {mode:04o} announced, {:04o} kept ({on})", entry.permissions)
        }
        Some((entry, mode)) => {
            let (path, kept) = (path_of(entry), entry.permissions);
            format!(
                "modes differ in {count} of {of} entries, first `{path}`: {mode:04o} announced, {kept:04o} kept ({on})"
            )
        }
        None => format!("modes differ in some of {of} entries: upload announced only the checksum of all modes ({on})"),
    };
    Some(text.into())
}

/// The entries whose modes differ, each with the requested mode; none if only a digest was announced.
fn others<'a>(survey: &'a Survey, asked: &Modes) -> Vec<(&'a Entry, u16)> {
    let Some(mut list) = asked.list() else { return Vec::new() };
    let mut others = Vec::new();
    for entry in survey.entries() {
        let asked = match entry.form {
            Form::Directory => list.next_directory(),
            Form::File => list.next_file(),
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
