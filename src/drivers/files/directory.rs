//! The directory at `file_dir`, its marker, and whether drivers may work in it now.
//!
//! Each driver calls [`FileDir::enter`] before it works in `file_dir`, and keeps the returned value until the work is
//! done. The open directory prevents an ordinary `umount` in the meantime.

use std::fmt::Write as _;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{fstat, fstatfs, fstatvfs};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use super::folder::{Folder, RESERVED};
use crate::drivers::disk::{Refusal, shown};
use crate::machine::{Cause, Directory, DirectoryId, GroupId, Input, KnownDirectory, Marker, Mode, Node, Reason};

/// The interval of the regular check.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The most bytes of a marker that are read.
const MARKER_LIMIT: usize = 4096;

/// In which directory drivers may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// In any: the machine has not decided yet.
    Any,
    /// In this one only; `None` means in no directory.
    Only(Option<KnownDirectory>),
}

/// The directory of a node, by its path. A clone is the same.
#[derive(Debug, Clone)]
pub struct FileDir {
    path: PathBuf,
    /// Used if `path` is missing: the directory in which this node creates it.
    above: Option<PathBuf>,
    group: GroupId,
    me: Node,
    trust: Arc<Mutex<Trust>>,
    /// The last report to the machine. Locked during a report, so that reports keep their order.
    told: Arc<Mutex<Option<Directory>>>,
    events: mpsc::Sender<Input>,
}

/// Keeps the directory open during work in it.
#[derive(Debug)]
pub struct Entered(#[expect(dead_code, reason = "held open")] Option<Folder>);

/// The regular check; dropping it ends the check.
#[derive(Debug)]
pub struct Lookout(JoinHandle<()>);

impl Drop for Lookout {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl FileDir {
    /// The directory of this node in `file_dir`. Of central it is the spool of its group, because only that belongs to
    /// central. Changes are reported to `events` as [`Input::Directory`].
    pub fn new(file_dir: PathBuf, group: GroupId, me: Node, events: mpsc::Sender<Input>) -> Self {
        let (path, above) = match me.mode {
            Mode::Central => (file_dir.join(group.as_str()), Some(file_dir)),
            Mode::Upload | Mode::Download => (file_dir, None),
        };
        let (trust, told) = (Arc::new(Mutex::new(Trust::Any)), Arc::default());
        Self { path, above, group, me, trust, told, events }
    }

    /// Examines the directory. Blocks.
    pub fn look(&self) -> Directory {
        match self.open() {
            Ok((_, found)) => found,
            Err(refusal) => Directory::Missing(refusal.to_string().into()),
        }
    }

    /// The same, if the caller reports the result to the machine.
    pub fn first_look(&self) -> Directory {
        let found = self.look();
        *lock(&self.told) = Some(found.clone());
        found
    }

    /// Starts the regular check, which reports changes. Must be called on a tokio runtime.
    pub fn look_out(&self) -> Lookout {
        let directory = self.clone();
        Lookout(tokio::spawn(async move {
            loop {
                sleep(LOOK_EVERY).await;
                let looking = directory.clone();
                // Waits for a check that hangs, so that there is never a second one.
                let _ = spawn_blocking(move || looking.tell()).await;
            }
        }))
    }

    /// Reports the directory if it differs from the last report. Blocks.
    pub fn tell(&self) {
        let mut told = lock(&self.told);
        let found = self.look();
        if told.as_ref() != Some(&found) {
            *told = Some(found.clone());
            // The receiver is gone only while the daemon stops.
            let _ = self.events.blocking_send(Input::Directory(found));
        }
    }

    /// Carries out [`crate::machine::Effect::Trust`].
    pub fn trust(&self, known: Option<KnownDirectory>) {
        *lock(&self.trust) = Trust::Only(known);
    }

    /// Calls `make` to create missing entries, if the directory is the trusted one. A directory that `make` created is
    /// trusted too. Blocks.
    pub fn make<E>(&self, make: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let Trust::Only(Some(known)) = *lock(&self.trust) else { return Ok(()) };
        if !self.is_trusted(&self.look()) {
            return Ok(());
        }
        make()?;
        if let Directory::Present { id, marker: None } = self.look() {
            self.trust(Some(KnownDirectory { id, ..known }));
        }
        Ok(())
    }

    /// Opens the directory for work in it. Refuses if it is not the trusted one, and reports what is there. Blocks.
    pub fn enter(&self) -> Result<Entered, Reason> {
        if *lock(&self.trust) == Trust::Any {
            return Ok(Entered(None));
        }
        let found = match self.open() {
            Ok((folder, found)) if self.is_trusted(&found) => return Ok(Entered(Some(folder))),
            Ok(_) => "another directory is there".to_owned(),
            Err(refusal) => refusal.to_string(),
        };
        self.tell();
        Err(Reason::with(Cause::Directory, &found))
    }

    /// Whether drivers may work in the directory now; reports nothing. Blocks.
    pub fn is_there(&self) -> bool {
        *lock(&self.trust) == Trust::Any || self.is_trusted(&self.look())
    }

    /// Whether an open directory is the trusted one; reports it if not. Blocks.
    pub fn knows(&self, open: BorrowedFd<'_>) -> bool {
        if *lock(&self.trust) == Trust::Any {
            return true;
        }
        let found = open.try_clone_to_owned().ok().and_then(|fd| self.found(&Folder::within(fd, &self.path)).ok());
        let is_known = found.is_some_and(|found| self.is_trusted(&found));
        if !is_known {
            self.tell();
        }
        is_known
    }

    /// Carries out [`crate::machine::Effect::Mark`], and replaces any marker. A directory that this user may not write
    /// to stays without a marker, and is recognised by its file system and inode. Blocks.
    pub fn mark(&self, marker: &Marker) {
        match self.try_mark(marker) {
            Ok(true) => tracing::info!("wrote the marker of this node into {}", shown(&self.path)),
            Ok(false) => {}
            Err(refusal) => tracing::info!(
                "{} is recognised by its file system and inode, because it cannot be marked: {refusal}",
                shown(&self.path)
            ),
        }
    }

    fn try_mark(&self, marker: &Marker) -> Result<bool, Refusal> {
        let folder = Folder::open(&self.path)?;
        let Directory::Present { id, .. } = self.found(&folder)? else { return Ok(false) };
        let is_meant = matches!(*lock(&self.trust), Trust::Only(Some(known)) if known.id == id);
        if !is_meant {
            return Ok(false);
        }
        let name = self.marker_name();
        let ours = folder.make(RESERVED)?;
        ours.write_file(name.as_bytes(), self.text(marker).as_bytes())?;
        Ok(true)
    }

    fn is_trusted(&self, found: &Directory) -> bool {
        match *lock(&self.trust) {
            Trust::Any => true,
            Trust::Only(known) => known.is_some_and(|known| known.is(&self.me, found)),
        }
    }

    fn open(&self) -> Result<(Folder, Directory), Refusal> {
        let folder = match (Folder::open(&self.path), &self.above) {
            (Err(refusal), Some(above)) if refusal.errno() == Errno::NOENT => Folder::open(above)?,
            (opened, _) => opened?,
        };
        let found = self.found(&folder)?;
        Ok((folder, found))
    }

    fn found(&self, folder: &Folder) -> Result<Directory, Refusal> {
        let refused = |errno| folder.refusal("look at", b"", errno);
        let inode = fstat(folder).map_err(refused)?.st_ino;
        let file_system = match fstatvfs(folder).map_err(refused)?.f_fsid {
            // Without an id, at least the type of the file system.
            0 => u64::from(fstatfs(folder).map_err(refused)?.f_type as u32),
            id => id,
        };
        let id = DirectoryId { file_system, inode };
        Ok(Directory::Present { id, marker: self.marker(folder)? })
    }

    /// The marker in it. An invalid marker, or one without read permission, counts as none; another error is an error.
    fn marker(&self, folder: &Folder) -> Result<Option<Marker>, Refusal> {
        let read = || match folder.child(RESERVED)? {
            Some(ours) => ours.read_file(self.marker_name().as_bytes(), MARKER_LIMIT),
            None => Ok(None),
        };
        match read() {
            Ok(bytes) => Ok(bytes.and_then(|bytes| parse(&bytes))),
            Err(refusal) if matches!(refusal.errno(), Errno::ACCESS | Errno::PERM) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// A group id contains no `@`, so no staging directory has this name.
    fn marker_name(&self) -> String {
        format!("{}@{}", self.me.mode, self.group)
    }

    fn text(&self, marker: &Marker) -> String {
        let mut text = format!(
            "# synkler {} of group {} recognises its directory by this file: leave it here\n",
            marker.node, self.group
        );
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "token {:016x}\njournal {}\nnode {}", marker.token, marker.journal, marker.node);
        text
    }
}

/// Parses a marker; `None` if it is invalid.
fn parse(bytes: &[u8]) -> Option<Marker> {
    let text = std::str::from_utf8(bytes).ok()?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let (mode, name) = value("node")?.split_once(' ')?;
    Some(Marker {
        token: u64::from_str_radix(value("token")?, 16).ok()?,
        journal: value("journal")?.parse().ok()?,
        node: Node::new(mode.parse().ok()?, name.parse().ok()?),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
