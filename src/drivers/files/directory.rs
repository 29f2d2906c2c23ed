//! Which directory is at `file_dir`, the marker in it, and whether anything may be done there now.
//!
//! Whoever does something in `file_dir` calls [`FileDir::enter`] first, and keeps what it gives until it is done: that
//! keeps an ordinary `umount` from succeeding meanwhile.

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

/// How often it is looked what is there.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// More than any marker has.
const MARKER_LIMIT: usize = 4096;

/// What drivers may do in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Whatever directory it is: nobody has said anything.
    Any,
    /// In this one only; in none.
    Only(Option<KnownDirectory>),
}

/// The directory of a node, by its path. A clone is the same.
#[derive(Debug, Clone)]
pub struct FileDir {
    path: PathBuf,
    /// What counts where that is not there: the directory in which this node makes it.
    above: Option<PathBuf>,
    group: GroupId,
    me: Node,
    trust: Arc<Mutex<Trust>>,
    /// What the machine was told last. Locked while it is being told, so that it hears things in their order.
    told: Arc<Mutex<Option<Directory>>>,
    events: mpsc::Sender<Input>,
}

/// The directory, open, while something is done in it.
#[derive(Debug)]
pub struct Entered(#[expect(dead_code, reason = "held open")] Option<Folder>);

/// Looks again and again what is there; dropping it ends that.
#[derive(Debug)]
pub struct Lookout(JoinHandle<()>);

impl Drop for Lookout {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl FileDir {
    /// The directory of this node in `file_dir`: of central the spool of its group, which alone is central's own. What is
    /// found there goes to `events` as [`Input::Directory`].
    pub fn new(file_dir: PathBuf, group: GroupId, me: Node, events: mpsc::Sender<Input>) -> Self {
        let (path, above) = match me.mode {
            Mode::Central => (file_dir.join(group.as_str()), Some(file_dir)),
            Mode::Upload | Mode::Download => (file_dir, None),
        };
        let (trust, told) = (Arc::new(Mutex::new(Trust::Any)), Arc::default());
        Self { path, above, group, me, trust, told, events }
    }

    /// What is there now. Blocks.
    pub fn look(&self) -> Directory {
        match self.open() {
            Ok((_, found)) => found,
            Err(refusal) => Directory::Missing(refusal.to_string().into()),
        }
    }

    /// The same, where the caller tells the machine itself.
    pub fn first_look(&self) -> Directory {
        let found = self.look();
        *lock(&self.told) = Some(found.clone());
        found
    }

    /// Looks regularly, and tells what has changed. Must be called on a tokio runtime.
    pub fn look_out(&self) -> Lookout {
        let directory = self.clone();
        Lookout(tokio::spawn(async move {
            loop {
                sleep(LOOK_EVERY).await;
                let looking = directory.clone();
                // One that hangs is waited for, so that there is never a second one.
                let _ = spawn_blocking(move || looking.tell()).await;
            }
        }))
    }

    /// Tells what is there, if that is something else than was told last. Blocks.
    pub fn tell(&self) {
        let mut told = lock(&self.told);
        let found = self.look();
        if told.as_ref() != Some(&found) {
            *told = Some(found.clone());
            // Nobody listens any more only when the daemon is on its way out.
            let _ = self.events.blocking_send(Input::Directory(found));
        }
    }

    /// Carries out [`crate::machine::Effect::Trust`].
    pub fn trust(&self, known: Option<KnownDirectory>) {
        *lock(&self.trust) = Trust::Only(known);
    }

    /// Has `make` create what is missing in the directory, where that is the right one. What has been created counts as the
    /// same directory. Blocks.
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

    /// Opens the directory for something that is to be done in it; refuses where it is not the one it should be, and tells
    /// what is there instead. Blocks.
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

    /// Whether things may be done in the directory now, telling nobody. Blocks.
    pub fn is_there(&self) -> bool {
        *lock(&self.trust) == Trust::Any || self.is_trusted(&self.look())
    }

    /// Whether what was opened as the directory is the one that things may be done in; tells where it is not. Blocks.
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

    /// Carries out [`crate::machine::Effect::Mark`], whosever marker is there. A directory that this user may not write to
    /// stays without; then it is known by its file system and inode. Blocks.
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
            // Its kind is better than nothing.
            0 => u64::from(fstatfs(folder).map_err(refused)?.f_type as u32),
            id => id,
        };
        let id = DirectoryId { file_system, inode };
        Ok(Directory::Present { id, marker: self.marker(folder)? })
    }

    /// The marker in it. What cannot be read, or is none, counts as none; an error of the file system does not.
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

    /// No group's id has an `@`, so that no staging directory is called like this.
    fn marker_name(&self) -> String {
        format!("{}@{}", self.me.mode, self.group)
    }

    fn text(&self, marker: &Marker) -> String {
        let mut text = format!(
            "# synkler {} of group {} recognises its directory by this file: leave it here\n",
            marker.node, self.group
        );
        // Writing to a text does not fail.
        let _ = writeln!(text, "token {:016x}\njournal {}\nnode {}", marker.token, marker.journal, marker.node);
        text
    }
}

/// What a marker says; nothing where it is none.
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
