//! Every entry of an item: its signature shows whether it was touched, and its digest identifies its content.
//!
//! An item is walked relative to directory descriptors. Symbolic links are never followed, and no entry is opened in a
//! way that could block, because the entries may be anything.
//!
//! The digest of a regular file is the MD5 of its bytes. That of a directory or a symbolic link is the MD5 of its
//! manifest text: one line per entry, sorted bytewise by path, the item itself under the path `.`:
//!
//! ```text
//! d - - .
//! f 5 5d41402abc4b2a76b9719d911017c592 a%20file
//! l - ../target link
//! ```
//!
//! The fields are: kind, size, MD5 of the bytes, path; a link has its target in place of the MD5. Paths and targets are
//! encoded by [`encode_bytes`], and a space as `%20`. Times and modes are no part of it: file systems keep times with
//! different precision, and many keep no modes. Modes are announced beside the manifest, see [`crate::machine::Modes`]
//! and [`super::modes`].

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use md5::{Digest as _, Md5};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, StatxFlags, openat, readlinkat, statx};
use rustix::io::{Errno, retry_on_intr};

use super::disk::{Refusal, file_system_of, shown};
use super::look::{descend, file_system, file_type, look};
use crate::machine::{
    Cause, Digest, Fingerprint, ItemName, Kind, MANIFEST_LIMIT, MOUNT_LIMIT, Mounts, Origin, Reason, Signature, Time,
    encode_bytes,
};

/// The maximum number of entries of an item.
pub const SURVEY_LIMIT: usize = 2_000_000;
/// The longest path inside an item, in bytes: rsync refuses paths of more than 4,095 bytes, including the directory
/// that holds the item.
pub const PATH_LIMIT: usize = 3_500;

/// How many directories on the path to an entry stay open.
const OPEN_AT_ONCE: usize = 32;
const BUFFER: usize = 64 * 1024;
const ITSELF: &[u8] = b".";

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(Box<[u8]>),
    /// A fifo, socket or device.
    Special,
}

/// One entry of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path below the item; the item itself is `.`.
    pub path: Box<[u8]>,
    /// The kind.
    pub form: Form,
    /// `mode & 07777`.
    pub permissions: u16,
    /// Its inode.
    pub inode: u64,
    /// The size, as the file system reports it.
    pub size: u64,
    modified: (i64, u32),
    /// Its ctime: seconds and nanoseconds.
    pub changed: (i64, u32),
}

impl Entry {
    /// Its line in the manifest text; only regular files need `digest`.
    pub fn line(&self, digest: Option<Digest>) -> String {
        let field = |bytes: &[u8]| encode_bytes(bytes).replace(' ', "%20");
        let path = field(&self.path);
        match (&self.form, digest) {
            (Form::File, Some(digest)) => format!("f {} {digest} {path}\n", self.size),
            (Form::Directory, _) => format!("d - - {path}\n"),
            (Form::Symlink(target), _) => format!("l - {} {path}\n", field(target)),
            // No upload announces these, so a copy with one never equals the announced item.
            (Form::Special | Form::File, _) => format!("x - - {path}\n"),
        }
    }
}

/// All metadata of an item at one moment, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    entries: Vec<Entry>,
    top: usize,
    signature: Signature,
    origin: Origin,
}

impl Survey {
    fn new(mut entries: Vec<Entry>, origin: Origin) -> Self {
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let top = entries.iter().position(|entry| &*entry.path == ITSELF).unwrap_or(0);
        let mut hasher = Md5::new();
        for entry in &entries {
            let form: u8 = match entry.form {
                Form::File => b'f',
                Form::Directory => b'd',
                Form::Symlink(_) => b'l',
                Form::Special => b'x',
            };
            hasher.update(&entry.path);
            hasher.update([0, form]);
            hasher.update(entry.inode.to_le_bytes());
            hasher.update(entry.size.to_le_bytes());
            for (seconds, nanos) in [entry.modified, entry.changed] {
                hasher.update(seconds.to_le_bytes());
                hasher.update(nanos.to_le_bytes());
            }
        }
        Self { entries, top, signature: Signature(hasher.finalize().into()), origin }
    }

    /// Every entry, sorted bytewise by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The signature: it shows whether the item was touched.
    pub fn signature(&self) -> Signature {
        self.signature
    }

    /// The origin: it distinguishes a user's file from one that a cleanup script has made.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The kind of the item; `None` for a fifo, socket or device.
    pub fn kind(&self) -> Option<Kind> {
        match self.top()?.form {
            Form::File => Some(Kind::File),
            Form::Directory => Some(Kind::Directory),
            Form::Symlink(_) => Some(Kind::Symlink),
            Form::Special => None,
        }
    }

    /// `mode & 07777` of the item itself.
    pub fn permissions(&self) -> u16 {
        self.top().map_or(0, |entry| entry.permissions)
    }

    /// The inode of the item itself.
    pub fn inode(&self) -> u64 {
        self.top().map_or(0, |entry| entry.inode)
    }

    /// The number of bytes of all its regular files.
    pub fn size(&self) -> u64 {
        self.files().fold(0, |sum, entry| sum.saturating_add(entry.size))
    }

    /// The fingerprint, once its digest is known.
    pub fn fingerprint(&self, digest: Digest) -> Fingerprint {
        Fingerprint { size: self.size(), digest }
    }

    /// The first fifo, socket or device in it.
    pub fn special(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.form == Form::Special)
    }

    /// Its regular files.
    pub fn files(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.form == Form::File)
    }

    /// Whether it is the same, apart from what a move does to the item itself: another ctime and, if it had to be made
    /// movable, other permissions.
    pub fn same_but_moved(&self, earlier: &Self) -> bool {
        let same = |(at, (now, then)): (usize, (&Entry, &Entry))| {
            let moved = if at == self.top { now } else { then };
            now == &Entry { changed: moved.changed, permissions: moved.permissions, ..then.clone() }
        };
        self.entries.len() == earlier.entries.len() && self.entries.iter().zip(&earlier.entries).enumerate().all(same)
    }

    /// Whether an entry changed so recently that a further change could have the same time stamp.
    pub fn is_fresh(&self, now: SystemTime, tick: Duration) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let newest = self.entries.iter().map(|entry| entry.changed).max().unwrap_or_default();
        let newest = Duration::new(u64::try_from(newest.0).unwrap_or(0), newest.1);
        now.abs_diff(newest) < tick
    }

    fn top(&self) -> Option<&Entry> {
        self.entries.get(self.top)
    }
}

/// Why an item could not be surveyed or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SurveyError {
    /// The item does not exist.
    #[error("no such file or directory")]
    Gone,
    /// The item has too many entries for synkler.
    #[error("it contains more than {SURVEY_LIMIT} entries")]
    TooMany,
    /// rsync could not transfer it.
    #[error("it contains a path of more than {PATH_LIMIT} bytes: {0}")]
    TooLong(String),
    /// The item has just changed.
    #[error("{0} changed while it was read")]
    Changed(String),
    /// The file system returned an error.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl SurveyError {
    /// The reason of a wait for a copy of ours.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            other => Reason::with(Cause::Storage, &other.to_string()),
        }
    }
}

/// The place of an item: an open directory, and a name of one part in it.
#[derive(Debug)]
pub struct Site {
    dir: OwnedFd,
    path: PathBuf,
    name: ItemName,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.path_of(ITSELF)))
    }
}

impl Site {
    /// The item `name` below the directory `dir`, whose path may contain symbolic links.
    ///
    /// # Errors
    ///
    /// `dir` does not exist. [`SurveyError::Gone`] if a permanent directory above the item is missing; the item itself
    /// need not exist.
    pub fn open(dir: &Path, name: &ItemName) -> Result<Self, SurveyError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = openat(CWD, dir, flags, Mode::empty()).map_err(|errno| Refusal::new("open", dir, errno))?;
        Self::within(fd, dir, name)
    }

    /// The item `name` below a directory that is already open; errors use `path`.
    pub fn within(dir: OwnedFd, path: &Path, name: &ItemName) -> Result<Self, SurveyError> {
        let (dir, path) = descend(dir, path, name)?;
        Ok(Self { dir: dir.ok_or(SurveyError::Gone)?, path, name: name.leaf() })
    }

    /// Looks at every entry. Entries that come and go meanwhile may be missed, but they change the times of their
    /// directory, so that a second survey differs.
    pub fn survey(&self) -> Result<Survey, SurveyError> {
        let top = match look(&self.dir, self.name.as_bytes()) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Err(SurveyError::Gone),
            Err(errno) => return Err(self.refusal("look at", ITSELF, errno).into()),
        };
        let mut entries = vec![self.entry(&self.dir, self.name.as_bytes(), ITSELF, &top)?];
        let mut pending: Vec<(Box<[u8]>, u64)> = Vec::new();
        let mut mounts: Vec<Box<[u8]>> = Vec::new();
        if file_type(&top) == FileType::Directory {
            let around = look(&self.dir, b".").map_err(|errno| self.refusal("look at", ITSELF, errno))?;
            if file_system(&around) != file_system(&top) {
                mounts.push(ITSELF.into());
            }
            pending.push((ITSELF.into(), file_system(&top)));
        }
        let mut opener = self.opener();
        while let Some((path, around)) = pending.pop() {
            let dir = match opener.try_open(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(dir) => dir,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(self.refusal("read", &path, errno).into()),
            };
            let mut dir = Dir::new(dir).map_err(|errno| self.refusal("read", &path, errno))?;
            while let Some(found) = dir.read() {
                let found = found.map_err(|errno| self.refusal("read", &path, errno))?;
                let name = found.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let below = joined(&path, name);
                if below.len() > PATH_LIMIT {
                    return Err(SurveyError::TooLong(shown(Path::new(OsStr::from_bytes(&below)))));
                }
                if entries.len() >= SURVEY_LIMIT {
                    return Err(SurveyError::TooMany);
                }
                let fd = dir.fd().map_err(|errno| self.refusal("read", &path, errno))?;
                let stat = match look(fd, name) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(self.refusal("look at", &below, errno).into()),
                };
                entries.push(self.entry(fd, name, &below, &stat)?);
                if file_type(&stat) == FileType::Directory {
                    if file_system(&stat) != around && mounts.len() < MOUNT_LIMIT {
                        mounts.push(below.clone().into());
                    }
                    pending.push((below.into(), file_system(&stat)));
                }
            }
        }
        Ok(Survey::new(entries, origin(&top, mounts)))
    }

    /// Reads every regular file and computes the item's digest. `each` gets every line of the manifest text, in order
    /// (for a single file: its one line, which is no part of its digest).
    pub fn prove(&self, survey: &Survey, each: &mut dyn FnMut(&str)) -> Result<Digest, SurveyError> {
        let mut opener = self.opener();
        let mut buffer = vec![0; BUFFER];
        let mut manifest = Md5::new();
        for entry in survey.entries() {
            let digest = match entry.form {
                Form::File => Some(self.digest(&mut opener, entry, &mut buffer)?),
                Form::Directory | Form::Symlink(_) | Form::Special => None,
            };
            let line = entry.line(digest);
            each(&line);
            if let (Some(digest), Some(Kind::File)) = (digest, survey.kind()) {
                return Ok(digest);
            }
            manifest.update(&line);
        }
        Ok(Digest(manifest.finalize().into()))
    }

    /// The same, with the manifest text of a directory if that has at most [`MANIFEST_LIMIT`] bytes.
    pub fn prove_with_manifest(&self, survey: &Survey) -> Result<(Digest, Option<Arc<str>>), SurveyError> {
        let mut text = (survey.kind() == Some(Kind::Directory)).then(String::new);
        let digest = self.prove(survey, &mut |line| {
            text = text.take().filter(|text| text.len() + line.len() <= MANIFEST_LIMIT);
            if let Some(text) = &mut text {
                text.push_str(line);
            }
        })?;
        Ok((digest, text.map(Arc::from)))
    }

    fn digest(&self, opener: &mut Opener<'_>, entry: &Entry, buffer: &mut [u8]) -> Result<Digest, SurveyError> {
        let refused = |errno| self.refusal("read", &entry.path, errno);
        let changed = || SurveyError::Changed(shown(&self.path_of(&entry.path)));
        let file = opener.open(entry)?;
        let mut hasher = Md5::new();
        let mut total = 0;
        loop {
            let count = retry_on_intr(|| rustix::io::read(&file, &mut *buffer)).map_err(refused)?;
            let Some(bytes @ [_, ..]) = buffer.get(..count) else { break };
            hasher.update(bytes);
            total += count as u64;
            if total > entry.size {
                return Err(changed());
            }
        }
        if total != entry.size {
            return Err(changed());
        }
        Ok(Digest(hasher.finalize().into()))
    }

    /// The name of its file system.
    pub(crate) fn file_system(&self) -> &'static str {
        file_system_of(&self.dir)
    }

    pub(crate) fn opener(&self) -> Opener<'_> {
        Opener { site: self, way: VecDeque::new() }
    }

    pub(crate) fn refusal(&self, doing: &'static str, path: &[u8], errno: Errno) -> Refusal {
        Refusal::new(doing, &self.path_of(path), errno)
    }

    pub(crate) fn path_of(&self, path: &[u8]) -> PathBuf {
        let item = self.path.join(OsStr::from_bytes(self.name.as_bytes()));
        if path == ITSELF { item } else { item.join(OsStr::from_bytes(path)) }
    }

    fn entry(&self, dir: impl AsFd, name: &[u8], path: &[u8], stat: &Statx) -> Result<Entry, SurveyError> {
        let form = match file_type(stat) {
            FileType::RegularFile => Form::File,
            FileType::Directory => Form::Directory,
            FileType::Symlink => match readlinkat(dir, name, Vec::new()) {
                Ok(target) => Form::Symlink(target.into_bytes().into()),
                Err(Errno::NOENT | Errno::INVAL) => {
                    return Err(SurveyError::Changed(shown(&self.path_of(path))));
                }
                Err(errno) => return Err(self.refusal("read", path, errno).into()),
            },
            _ => Form::Special,
        };
        Ok(Entry {
            path: path.into(),
            form,
            permissions: stat.stx_mode & 0o7777,
            inode: stat.stx_ino,
            size: stat.stx_size,
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        })
    }
}

/// Opens entries of one item by their paths, one component at a time and never through a symbolic link. It keeps the
/// last few directories open, because entries come nearly in the order of their paths.
pub(crate) struct Opener<'a> {
    site: &'a Site,
    /// Each is below the previous one.
    way: VecDeque<(Box<[u8]>, OwnedFd)>,
}

impl Opener<'_> {
    /// Opens a regular file or directory for reading, if it is still the one of the survey.
    pub(crate) fn open(&mut self, entry: &Entry) -> Result<OwnedFd, SurveyError> {
        let changed = || SurveyError::Changed(shown(&self.site.path_of(&entry.path)));
        let fd = match self.try_open(&entry.path, OFlags::RDONLY) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Err(changed()),
            Err(errno) => return Err(self.site.refusal("read", &entry.path, errno).into()),
        };
        let refused = |errno| self.site.refusal("look at", &entry.path, errno);
        let stat = statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map_err(refused)?;
        let expected = if entry.form == Form::Directory { FileType::Directory } else { FileType::RegularFile };
        if stat.stx_ino != entry.inode || file_type(&stat) != expected {
            return Err(changed());
        }
        Ok(fd)
    }

    pub(crate) fn try_open(&mut self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if path == ITSELF {
            return openat(&self.site.dir, self.site.name.as_bytes(), flags, Mode::empty());
        }
        let mut parts = path.rsplitn(2, |byte| *byte == b'/');
        let name = parts.next().unwrap_or_default();
        openat(self.directory(parts.next().unwrap_or(ITSELF))?, name, flags, Mode::empty())
    }

    /// The directory at `path` inside the item, from the nearest open directory above it.
    fn directory(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Errno> {
        while self.way.back().is_some_and(|(open, _)| below(path, open).is_none()) {
            self.way.pop_back();
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.way.is_empty() {
            let item = openat(&self.site.dir, self.site.name.as_bytes(), flags, Mode::empty())?;
            self.way.push_back((ITSELF.into(), item));
        }
        let rest = self.way.back().and_then(|(open, _)| below(path, open)).unwrap_or_default();
        for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let Some((open, dir)) = self.way.back() else { break };
            let next = openat(dir, name, flags, Mode::empty())?;
            self.way.push_back((joined(open, name).into(), next));
            if self.way.len() > OPEN_AT_ONCE {
                self.way.pop_front();
            }
        }
        self.way.back().map(|(_, dir)| dir.as_fd()).ok_or(Errno::NOENT)
    }
}

/// The part of `path` after the directory `dir`, if it is that directory or below it.
fn below<'a>(path: &'a [u8], dir: &[u8]) -> Option<&'a [u8]> {
    match path {
        _ if path == dir => Some(b""),
        _ if dir == ITSELF => Some(path),
        _ => path.strip_prefix(dir)?.strip_prefix(b"/"),
    }
}

fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir == ITSELF { name.to_vec() } else { [dir, b"/", name].concat() }
}

fn origin(top: &Statx, mounts: Vec<Box<[u8]>>) -> Origin {
    let known = StatxFlags::from_bits_retain(top.stx_mask).contains(StatxFlags::BTIME);
    let seconds = u64::try_from(top.stx_btime.tv_sec).unwrap_or(0);
    let millis = seconds.saturating_mul(1000).saturating_add(u64::from(top.stx_btime.tv_nsec / 1_000_000));
    Origin {
        inode: top.stx_ino,
        born: known.then(|| Time::from_millis(millis)),
        made: None,
        ours: top.stx_uid == rustix::process::geteuid().as_raw(),
        mounts: Mounts::new(mounts),
    }
}

#[cfg(test)]
mod tests;
