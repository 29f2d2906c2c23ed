//! Hands the files of the service over to another user: its state directory, and what it owns of the directories in the
//! config. It follows no link, and takes nothing from users other than the one before. The state directory itself goes
//! last, so that a repetition after an interruption continues.

use std::ffi::OsStr;
use std::fs::TryLockError;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, openat};
use rustix::io::Errno;

use super::system::{Account, GROUP, Service, numbers};
use crate::config::{Cleanup, Role, Settings};

/// How deep the directories may be.
const DEPTH_LIMIT: usize = 128;
/// How many entries may change hands.
const ENTRY_LIMIT: usize = 1_000_000;

/// Gives what the service owns to `heir`. Returns the number of entries that changed hands.
///
/// # Errors
///
/// If the service runs, or something cannot be given away; the text says what to do.
pub(super) fn hand_over(service: &Service, settings: &Settings, heir: &Account) -> Result<usize, String> {
    let state_dir = &settings.state_dir;
    let failed = |error: io::Error| format!("{}: {error}", state_dir.display());
    let top = opened(CWD, state_dir, "state_dir")?;
    let (Some(package_user), Some(group)) = numbers().map_err(|error| format!("/etc/passwd, /etc/group: {error}"))?
    else {
        return Err(format!("user or group {GROUP} does not exist: install the package"));
    };
    let before = match &top {
        Some(top) => fstat(top).map_err(|errno| failed(errno.into()))?.st_uid,
        // The service has not run yet.
        None => package_user,
    };
    if before == heir.uid {
        return Ok(0);
    }
    if before == 0 {
        return Err(format!(
            "{0}: belongs to root; give it to its user with: chown {1}: {0}",
            state_dir.display(),
            heir.name
        ));
    }
    let keys = service.authorized_keys(state_dir).filter(|_| heir.uid != package_user);
    if let Some(keys) = keys.filter(|keys| keys.metadata().is_ok_and(|keys| keys.len() > 0)) {
        return Err(format!(
            "{}: nodes log in with these keys, and sshd refuses them if the directory belongs to another user; make this \
             node an instance, with a config such as /etc/synkler/own.toml",
            keys.display()
        ));
    }
    let _lock = match &top {
        Some(top) => locked(top, service, state_dir)?,
        None => None,
    };
    let mut walk = Walk { before, heir: Uid::from_raw(heir.uid), group: Gid::from_raw(group), count: 0 };
    for directory in others(settings) {
        if let Some(own) = opened(CWD, &directory, "")? {
            // What is delivered or to be sent is not the service's; its own directory there is.
            if let Some(inner) = opened(own.as_fd(), Path::new(".synkler"), "")? {
                walk.below(&inner, &directory, 0, &|_| false)?;
                walk.give(&inner, &directory)?;
            }
            // A directory that was this user's own before has another group, and stays. Writers may be in that group, so
            // it is kept.
            let was_ours = fstat(&own).is_ok_and(|about| about.st_gid == group);
            if was_ours || before == package_user {
                walk.give_keeping(&own, None, &directory)?;
            }
        }
    }
    if let Some(top) = &top {
        let is_config = |path: &Path| path.exists();
        walk.below(top, state_dir, 0, &|name| service.is_foreign(name, is_config))?;
        walk.give(top, state_dir)?;
    }
    Ok(walk.count)
}

/// The directories in the config that may belong to the service.
fn others(settings: &Settings) -> Vec<PathBuf> {
    let mut list = vec![settings.file_dir.clone()];
    if let Role::Upload { cleanup: Some(Cleanup::Move(directory)), .. }
    | Role::Download { cleanup: Some(Cleanup::Move(directory)), .. } = &settings.role
    {
        list.push(directory.clone());
    }
    list
}

/// A directory; `None` if there is none, or a link if no key is named.
fn opened(at: impl AsFd, path: &Path, key: &str) -> Result<Option<OwnedFd>, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(at, path, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) if key.is_empty() => Ok(None),
        Err(errno) => Err(format!("{key} {}: {}", path.display(), told(errno))),
    }
}

/// The lock of the journal, so that no daemon starts meanwhile; `None` if there was never a journal.
fn locked(top: &OwnedFd, service: &Service, state_dir: &Path) -> Result<Option<std::fs::File>, String> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(top, "lock", flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(format!("{}/lock: {}", state_dir.display(), told(errno))),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(format!(
            "the service runs, and would lose its files: stop it with systemctl stop {}, then repeat this",
            service.unit()
        )),
        Err(TryLockError::Error(error)) => Err(format!("{}/lock: {error}", state_dir.display())),
    }
}

struct Walk {
    before: u32,
    heir: Uid,
    group: Gid,
    count: usize,
}

impl Walk {
    /// Gives away what is in the directory, the deepest first.
    fn below(
        &mut self,
        directory: &OwnedFd,
        shown: &Path,
        depth: usize,
        skips: &dyn Fn(&str) -> bool,
    ) -> Result<(), String> {
        let failed = |errno: Errno| format!("{}: {}", shown.display(), told(errno));
        if depth > DEPTH_LIMIT {
            return Err(format!("{}: is more than {DEPTH_LIMIT} directories deep", shown.display()));
        }
        for entry in Dir::read_from(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || name.to_str().is_ok_and(skips) {
                continue;
            }
            // The owner is that of the very entry that is given away, whatever its name leads to a moment later.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = match openat(directory, name, flags, Mode::empty()) {
                Ok(found) => found,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            let at = shown.join(name.to_string_lossy().as_ref());
            if FileType::from_raw_mode(fstat(&found).map_err(failed)?.st_mode) == FileType::Directory
                && let Some(inner) = opened(directory.as_fd(), Path::new(OsStr::from_bytes(name.to_bytes())), "")?
            {
                self.below(&inner, &at, depth + 1, &|_| false)?;
            }
            self.give(&found, &at)?;
        }
        Ok(())
    }

    fn give(&mut self, entry: &OwnedFd, shown: &Path) -> Result<(), String> {
        self.give_keeping(entry, Some(self.group), shown)
    }

    /// Without a group, the entry keeps its own.
    fn give_keeping(&mut self, entry: &OwnedFd, group: Option<Gid>, shown: &Path) -> Result<(), String> {
        let failed = |errno: Errno| format!("{}: {}", shown.display(), told(errno));
        if fstat(entry).map_err(failed)?.st_uid != self.before {
            return Ok(());
        }
        self.count += 1;
        if self.count > ENTRY_LIMIT {
            return Err(format!("{}: more than {ENTRY_LIMIT} entries; chown the rest", shown.display()));
        }
        chownat(entry, "", Some(self.heir), group, AtFlags::EMPTY_PATH).map_err(failed)
    }
}

fn told(errno: Errno) -> String {
    let hint = if matches!(errno, Errno::PERM | Errno::ACCESS) { "; run this as root" } else { "" };
    format!("{}{hint}", io::Error::from(errno))
}
