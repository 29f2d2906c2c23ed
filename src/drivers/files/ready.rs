//! Upload: the file that says that an item is complete (`marker`).

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, unlinkat};
use rustix::io::Errno;

use super::folder::Folder;
use crate::drivers::look::file_type;
use crate::drivers::manifest::Survey;
use crate::machine::{Cause, ItemName, ReadyMarker, Reason, escaped};

/// Why an item does not count as complete: its marker is missing, or older than the last change of the item, so that it
/// belongs to an earlier content. `None` if it counts.
pub(super) fn lack(top: &Folder, marker: &ReadyMarker, item: &ItemName, survey: &Survey) -> Option<Reason> {
    let inside = |entry: &[u8], name: &str| entry == name.as_bytes();
    let (shown, made) = match marker {
        ReadyMarker::Inside(name) => {
            let found = survey.entries().iter().find(|entry| inside(&entry.path, name));
            (format!("{item}/{name}"), Ok(found.map(|entry| entry.changed)))
        }
        ReadyMarker::Beside(..) => {
            let name = marker.beside(item).unwrap_or_default();
            let around = top.around(item);
            let stat = around.and_then(|around| around.map_or(Ok(None), |around| around.stat(&name)));
            let made = stat.map(|stat| stat.map(|stat| (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec)));
            (escaped(&name), made)
        }
    };
    // What makes the marker changes the directory that holds it, too.
    let of_item = survey.entries().iter().filter(|entry| match marker {
        ReadyMarker::Inside(name) => &*entry.path != b"." && !inside(&entry.path, name),
        ReadyMarker::Beside(..) => true,
    });
    let newest = of_item.map(|entry| entry.changed).max();
    let detail = match made {
        Ok(Some(made)) if newest.is_none_or(|newest| newest <= made) => return None,
        Ok(Some(_)) => format!("{shown} is older than the last change of the item"),
        Ok(None) => format!("{shown} is missing"),
        Err(refusal) => refusal.to_string(),
    };
    Some(Reason::with(Cause::Unmarked, &detail))
}

/// Removes the marker of an item that is gone. Only a file or link goes: it was made for this purpose.
pub(super) fn unmark(top: &Folder, marker: &ReadyMarker, item: &ItemName) -> Result<(), String> {
    let Some(name) = marker.beside(item) else { return Ok(()) };
    let Some(around) = top.around(item).map_err(|refusal| refusal.to_string())? else { return Ok(()) };
    // A new item with a new marker may have come.
    if around.stat(item.leaf().as_bytes()).map_err(|refusal| refusal.to_string())?.is_some() {
        return Ok(());
    }
    match around.stat(&name) {
        Ok(Some(stat)) if file_type(&stat) == FileType::Directory => Err(format!("{} is a directory", escaped(&name))),
        Ok(Some(_)) => match unlinkat(around.fd().as_fd(), name.as_slice(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(around.refusal("remove", &name, errno).to_string()),
        },
        Ok(None) => Ok(()),
        Err(refusal) => Err(refusal.to_string()),
    }
}
