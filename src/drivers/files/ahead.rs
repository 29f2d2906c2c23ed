//! Computes digests while the bytes arrive, so that a large file is verified soon after its last byte.
//!
//! rsync writes a new file from its beginning to its end, so the arrived part can be read while more comes. A file that
//! an earlier run began may still change anywhere, and is left alone. The user's options may make rsync write in
//! another order. Then the digest differs from the announced one, and the file is read again from the beginning.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use md5::{Digest as _, Md5};
use rustix::fs::{FileType, fstat};
use rustix::io::retry_on_intr;

use super::folder::Folder;
use crate::machine::{Digest, ItemName, Kind, TransferId};

/// Smaller files are read quickly enough afterwards.
const LEAST: u64 = 8 << 20;
/// The maximum number of transfers that are read while they arrive: all that can be under way at once, and some that
/// have failed since.
const LIMIT: usize = 64;
const BUFFER: usize = 256 * 1024;

/// What is read while it arrives.
#[derive(Default)]
pub(super) struct Ahead {
    arriving: Mutex<BTreeMap<TransferId, Arc<Arriving>>>,
}

/// One arriving item.
pub(super) struct Arriving {
    pub(super) name: ItemName,
    /// Whether a task is about to continue reading.
    queued: Mutex<bool>,
    read: Mutex<Option<Read>>,
}

/// The part of a file that has been read, from its beginning.
struct Read {
    file: OwnedFd,
    inode: u64,
    hasher: Md5,
    count: u64,
}

impl Ahead {
    /// An item that is about to be fetched, and of which staging has nothing.
    pub(super) fn expect(&self, transfer: TransferId, name: ItemName) {
        let mut arriving = lock(&self.arriving);
        if arriving.len() < LIMIT {
            let item = Arriving { name, queued: Mutex::new(false), read: Mutex::new(None) };
            arriving.insert(transfer, Arc::new(item));
        }
    }

    /// The items for which reading may continue, each once until it has been read on.
    pub(super) fn due(&self) -> Vec<(TransferId, Arc<Arriving>)> {
        let arriving = lock(&self.arriving);
        let due = arriving.iter().filter(|(_, item)| !std::mem::replace(&mut *lock(&item.queued), true));
        due.map(|(transfer, item)| (*transfer, Arc::clone(item))).collect()
    }

    /// Stops reading an item, and returns what has been read.
    pub(super) fn end(&self, transfer: TransferId) -> Option<Arc<Arriving>> {
        lock(&self.arriving).remove(&transfer)
    }
}

impl Arriving {
    /// Continues reading as far as data is there. What cannot be read now is read at the verification.
    pub(super) fn read_on(&self, own: Option<&Folder>) {
        *lock(&self.queued) = false;
        let mut slot = lock(&self.read);
        let Some(mut read) = slot.take().or_else(|| Read::begin(own?, &self.name)) else { return };
        if read.advance().is_ok() {
            *slot = Some(read);
        }
    }

    /// The digest of all `size` bytes of the file `inode`, if that file was read while it arrived.
    pub(super) fn digest(&self, kind: Kind, inode: u64, size: u64) -> Option<Digest> {
        let mut read = lock(&self.read).take().filter(|read| kind == Kind::File && read.inode == inode)?;
        read.advance().ok()?;
        (read.count == size).then(|| Digest(read.hasher.finalize().into()))
    }
}

impl Read {
    fn begin(own: &Folder, name: &ItemName) -> Option<Self> {
        let file = own.open_file(name.as_bytes()).ok()??;
        let stat = fstat(&file).ok()?;
        let large = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && u64::try_from(stat.st_size).is_ok_and(|size| size >= LEAST);
        large.then(|| Self { file, inode: stat.st_ino, hasher: Md5::new(), count: 0 })
    }

    fn advance(&mut self) -> rustix::io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = retry_on_intr(|| rustix::io::read(&self.file, &mut *buffer))?;
            let Some(bytes @ [_, ..]) = buffer.get(..count) else { return Ok(()) };
            self.hasher.update(bytes);
            self.count += count as u64;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves nothing half changed: an entry is taken out while it changes.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::{Seek, SeekFrom, Write};
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use super::*;

    struct Bench {
        dir: tempfile::TempDir,
        ahead: Ahead,
        transfer: TransferId,
        file: File,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (ahead, transfer) = (Ahead::default(), TransferId::mint(1, [1; 10]));
            ahead.expect(transfer, ItemName::new(b"item").unwrap());
            let file = File::create(dir.path().join("item")).unwrap();
            Self { dir, ahead, transfer, file }
        }

        fn read_on(&self) {
            let own = Folder::open(self.dir.path()).unwrap();
            for (_, item) in self.ahead.due() {
                item.read_on(Some(&own));
            }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("item")
        }

        fn digest(&self) -> Option<Digest> {
            let stat = self.path().metadata().unwrap();
            self.ahead.end(self.transfer).unwrap().digest(Kind::File, stat.ino(), stat.size())
        }
    }

    #[test]
    fn a_file_is_read_while_it_grows() {
        let mut bench = Bench::new();
        bench.read_on();
        let mut all = Vec::new();
        for round in 1..4u8 {
            let part = vec![round; 5 << 20];
            bench.file.write_all(&part).unwrap();
            all.extend(part);
            bench.read_on();
        }
        bench.file.write_all(b"the end").unwrap();
        all.extend(b"the end");
        let read = lock(&lock(&bench.ahead.arriving)[&bench.transfer].read).as_ref().map(|read| read.count);
        assert_eq!(read, Some(15 << 20), "all but the end had been read before");
        assert_eq!(bench.digest(), Some(Digest(Md5::digest(&all).into())));
        assert!(bench.ahead.end(bench.transfer).is_none());
    }

    #[test]
    fn another_file_or_more_or_less_of_it_has_no_digest() {
        let grown = |change: fn(&mut Bench)| {
            let mut bench = Bench::new();
            bench.file.write_all(&vec![1; 9 << 20]).unwrap();
            bench.read_on();
            change(&mut bench);
            bench.digest()
        };
        assert!(grown(|_| {}).is_some());
        let replaced = |bench: &mut Bench| {
            std::fs::rename(bench.path(), bench.dir.path().join("other")).unwrap();
            std::fs::write(bench.path(), vec![1; 9 << 20]).unwrap();
        };
        assert_eq!(grown(replaced), None);
        assert_eq!(grown(|bench| bench.file.set_len(8 << 20).unwrap()), None);
        assert_eq!(
            grown(|bench| std::fs::remove_file(bench.path()).and_then(|()| std::fs::write(bench.path(), "")).unwrap()),
            None
        );
    }

    #[test]
    fn what_is_changed_behind_the_reader_has_another_digest() {
        let mut bench = Bench::new();
        bench.file.write_all(&vec![1; 9 << 20]).unwrap();
        bench.read_on();
        let mut again = OpenOptions::new().write(true).open(bench.path()).unwrap();
        again.seek(SeekFrom::Start(3)).unwrap();
        again.write_all(b"x").unwrap();
        let lies_there: [u8; 16] = Md5::digest(std::fs::read(bench.path()).unwrap()).into();
        // The verification does not accept this digest, and reads the whole file.
        assert_ne!(bench.digest(), Some(Digest(lies_there)));
    }

    #[test]
    fn small_files_and_more_than_the_limit_are_left_alone() {
        let mut bench = Bench::new();
        bench.file.write_all(b"small").unwrap();
        bench.read_on();
        assert_eq!(bench.digest(), None);
        for number in 0..2 * LIMIT as u64 {
            bench.ahead.expect(TransferId::mint(number, [2; 10]), ItemName::new(b"item").unwrap());
        }
        assert_eq!(bench.ahead.due().len(), LIMIT);
        assert!(bench.ahead.due().is_empty(), "each is in line once");
    }
}
