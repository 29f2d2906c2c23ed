//! What really stands in the directories of every host, as opposed to what the machines believe.

use std::collections::{BTreeMap, BTreeSet};

use crate::directory::Ground;
use synkler::machine::{Digest, Fingerprint, ItemName, Keep, Kind, PlaceId, Signature, Space, TransferId};

/// Grows with every change of anything; stands for path, inode, mtime and ctime, so it is the signature.
pub(crate) type Stamp = u64;
/// One content that a user has written.
pub(crate) type Version = u64;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// All of a version, and nothing else.
    Whole(Version),
    /// Cut, torn or flipped, each time differently.
    Spoilt(u64),
}

/// An item at an upload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) stamp: Stamp,
    pub(crate) version: Version,
    pub(crate) inode: u64,
    /// When that inode was made, as its host's clock showed it, in milliseconds since the schedule began.
    pub(crate) born: u64,
    /// It belongs to the daemon's user.
    pub(crate) ours: bool,
    /// Somebody has it open for writing.
    pub(crate) writer: bool,
    pub(crate) special: bool,
    pub(crate) unreadable: bool,
    /// It came in by a rename.
    pub(crate) renamed: bool,
}

/// One state of one source: what exactly-once is counted by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instance {
    pub(crate) upload: usize,
    pub(crate) name: usize,
    pub(crate) version: Version,
    /// One writing of a user: touching it makes another instance, and is no writing.
    pub(crate) writing: u64,
    /// A cleanup script has made it: it is nothing that anybody wants delivered.
    pub(crate) leftover: bool,
    /// Its user has changed or removed it.
    pub(crate) gone: bool,
    /// It can never be sent as it is.
    pub(crate) unfit: bool,
    /// When it came to stand there.
    pub(crate) since: u64,
}

/// A copy below central's spool or in a staging directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copy {
    pub(crate) bytes: Bytes,
    pub(crate) inode: u64,
    /// Whose size and mtime it carries, so that rsync's quick check takes it for that.
    pub(crate) looks: Option<Version>,
    /// Its modes are those of its source.
    pub(crate) modes: bool,
    /// What it has of its source beside content and modes.
    pub(crate) extras: Keep,
    /// How many files, directories and links it is.
    pub(crate) inodes: u64,
}

/// What stands under a final name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Final {
    pub(crate) bytes: Bytes,
    pub(crate) inode: u64,
    pub(crate) stamp: Stamp,
    /// The transfer that placed it; `None` for what its owner put there.
    pub(crate) from: Option<TransferId>,
    /// Its owner has changed it since it was placed.
    pub(crate) touched: bool,
}

/// Central's spool.
#[derive(Default)]
pub(crate) struct Spool {
    pub(crate) incoming: BTreeMap<(PlaceId, usize), Copy>,
    pub(crate) held: BTreeMap<TransferId, (usize, Copy)>,
    pub(crate) full: bool,
    pub(crate) inodes: Option<u64>,
    /// Others have taken all inodes that were left.
    pub(crate) crowded: bool,
}

/// A download's directories. A key of `staging` is a directory; what it holds may have been moved away.
#[derive(Default)]
pub(crate) struct Receiver {
    pub(crate) staging: BTreeMap<TransferId, Option<(usize, Copy)>>,
    pub(crate) finals: BTreeMap<usize, Final>,
    pub(crate) full: bool,
    pub(crate) inodes: Option<u64>,
    pub(crate) crowded: bool,
}

/// Every host's directories.
pub(crate) struct World {
    pub(crate) names: Vec<ItemName>,
    pub(crate) sources: Vec<BTreeMap<usize, Source>>,
    pub(crate) instances: BTreeMap<Stamp, Instance>,
    pub(crate) spool: Spool,
    pub(crate) receivers: Vec<Receiver>,
    /// What synkler has moved out of sight on a node, and has not finished.
    pub(crate) hidden: BTreeSet<(usize, TransferId)>,
    /// Of each node, which directory is there.
    pub(crate) grounds: Vec<Ground>,
    /// When the marker of an item was made, by upload and name.
    pub(crate) markers: Vec<BTreeMap<usize, Stamp>>,
    /// What users of an upload have said to be complete.
    pub(crate) ready: BTreeSet<(usize, Version)>,
    /// What stands at an upload under these names counts as submitted.
    pub(crate) submitted: BTreeSet<(usize, usize)>,
    pub(crate) ssh_down: bool,
    /// Milliseconds since the schedule began, as each upload's clock shows them.
    pub(crate) clocks: Vec<u64>,
    /// Milliseconds since the schedule began.
    pub(crate) now: u64,
    sizes: Vec<u64>,
    stamps: u64,
    /// Of each upload, the inode that was given back last: a file system likes to give it out again at once.
    free_inodes: Vec<Option<u64>>,
}

/// How many names users give; behind each of these, in the same order, comes the name that a script makes of it.
const NAMES: usize = 5;

/// How big central's file system is.
const SPOOL_SIZE: u64 = 1_000_000;
/// A destination's size: more than everything.
const ROOMY: u64 = 1 << 30;

impl World {
    /// Items are below `depth` levels of directories.
    pub(crate) fn new(uploads: usize, downloads: usize, depth: usize) -> Self {
        let names = [&b"a"[..], b"b c", b"-rf *", b"\xff\n", b"an \xff item"];
        let place = |(at, name): (usize, &&[u8])| {
            let above = [&b"in/"[..], b"in \xff/"][at % 2].repeat(depth);
            [&above[..], *name].concat()
        };
        let names: Vec<_> = names.iter().enumerate().map(place).collect();
        let made: Vec<_> = names.iter().map(|bytes| [bytes, &b".done"[..]].concat()).collect();
        let names = names.into_iter().chain(made);
        Self {
            names: names.map(|bytes| ItemName::new(&bytes).unwrap()).collect(),
            sources: vec![BTreeMap::new(); uploads],
            instances: BTreeMap::new(),
            spool: Spool::default(),
            hidden: BTreeSet::new(),
            receivers: (0..downloads).map(|_| Receiver::default()).collect(),
            grounds: (0..1 + uploads + downloads).map(|_| Ground::default()).collect(),
            markers: vec![BTreeMap::new(); uploads],
            ready: BTreeSet::new(),
            submitted: BTreeSet::new(),
            ssh_down: false,
            clocks: vec![0; uploads],
            now: 0,
            sizes: Vec::new(),
            stamps: 0,
            free_inodes: vec![None; uploads],
        }
    }

    /// A fresh stamp or inode number.
    pub(crate) fn stamp(&mut self) -> Stamp {
        self.stamps += 1;
        self.stamps
    }

    pub(crate) fn name_index(&self, name: &ItemName) -> usize {
        self.names.iter().position(|known| known == name).unwrap()
    }

    /// A content that nobody has written before.
    pub(crate) fn fresh_version(&mut self, size: u64) -> Version {
        self.sizes.push(size);
        self.sizes.len() as u64 - 1
    }

    pub(crate) fn versions(&self) -> u64 {
        self.sizes.len() as u64
    }

    pub(crate) fn size(&self, bytes: Bytes) -> u64 {
        match bytes {
            Bytes::Whole(version) => self.sizes[version as usize],
            Bytes::Spoilt(_) => 1,
        }
    }

    /// Every fourth item is a directory.
    pub(crate) fn kind(version: Version) -> Kind {
        if version % 4 == 3 { Kind::Directory } else { Kind::File }
    }

    pub(crate) fn entries(version: Version) -> u64 {
        if version % 4 == 3 { 1 + version * 5 % 19 } else { 1 }
    }

    /// What hashing finds, when told to hash it as `kind`.
    pub(crate) fn fingerprint(&self, bytes: Bytes, kind: Option<Kind>) -> Fingerprint {
        let (number, mark) = match bytes {
            Bytes::Whole(version) if kind.is_none_or(|kind| kind == Self::kind(version)) => (version, 1),
            Bytes::Whole(version) => (version, 2),
            Bytes::Spoilt(number) => (number, 3),
        };
        let digest = Digest((u128::from(number) << 64 | mark).to_be_bytes());
        Fingerprint { size: self.size(bytes), digest }
    }

    /// What a content comes out as where names become one: always the same.
    pub(crate) fn folded(&self, version: Version) -> Fingerprint {
        let digest = Digest((u128::from(version) << 64 | 4).to_be_bytes());
        Fingerprint { size: self.size(Bytes::Whole(version)), digest }
    }

    /// A user puts content under a name: in place, or by a rename.
    pub(crate) fn put(&mut self, upload: usize, name: usize, version: Version, renamed: bool, writer: bool) -> Stamp {
        let old = self.sources[upload].get(&name).copied();
        self.mark_gone(upload, name);
        let (inode, born, ours) = match old {
            Some(old) if !renamed => (old.inode, old.born, old.ours),
            _ => (self.free_inodes[upload].take().unwrap_or_else(|| self.stamp()), self.clocks[upload], false),
        };
        let writing = self.stamp();
        let source =
            Source { stamp: 0, version, inode, born, ours, writer, special: false, unreadable: false, renamed };
        self.stand(upload, name, source, writing, false)
    }

    /// Somebody changes times, permissions or links of what stands there, and not its content.
    pub(crate) fn touch(&mut self, upload: usize, name: usize) -> Option<Stamp> {
        let source = self.sources[upload].get(&name).copied()?;
        let instance = *self.instances.get(&source.stamp)?;
        self.mark_gone(upload, name);
        Some(self.stand(upload, name, Source { renamed: false, ..source }, instance.writing, instance.leftover))
    }

    /// A cleanup script leaves something under a name: with the inode of what it made it of, or with a new one.
    pub(crate) fn leave(&mut self, upload: usize, name: usize, version: Version, of: Option<Source>) -> Stamp {
        self.mark_gone(upload, name);
        let (inode, born, ours) = match of {
            Some(of) => (of.inode, of.born, of.ours),
            None => (self.free_inodes[upload].take().unwrap_or_else(|| self.stamp()), self.clocks[upload], true),
        };
        let writing = self.stamp();
        let source = Source {
            stamp: 0,
            version,
            inode,
            born,
            ours,
            writer: false,
            special: false,
            unreadable: false,
            renamed: of.is_some(),
        };
        self.stand(upload, name, source, writing, true)
    }

    fn stand(&mut self, upload: usize, name: usize, source: Source, writing: u64, leftover: bool) -> Stamp {
        let (stamp, version) = (self.stamp(), source.version);
        self.instances.insert(
            stamp,
            Instance { upload, name, version, writing, leftover, gone: false, unfit: false, since: self.now },
        );
        self.sources[upload].insert(name, Source { stamp, ..source });
        if self.submitted.contains(&(upload, name)) {
            self.count_as_ready(upload, name);
        }
        stamp
    }

    /// Its user says that what stands there now is complete.
    pub(crate) fn count_as_ready(&mut self, upload: usize, name: usize) {
        if let Some(source) = self.sources[upload].get(&name) {
            self.ready.insert((upload, source.version));
        }
    }

    /// A user, or a script, takes an item away; its inode is free, or goes with it to another file system.
    pub(crate) fn take_away(&mut self, upload: usize, name: usize) {
        self.mark_gone(upload, name);
        if let Some(source) = self.sources[upload].remove(&name) {
            self.free_inodes[upload] = Some(source.inode);
        }
    }

    /// The name that a script makes of a name.
    pub(crate) fn made_of(name: usize) -> usize {
        if name < NAMES { name + NAMES } else { name }
    }

    fn mark_gone(&mut self, upload: usize, name: usize) {
        let stamp = self.sources[upload].get(&name).map(|source| source.stamp);
        if let Some(instance) = stamp.and_then(|stamp| self.instances.get_mut(&stamp)) {
            instance.gone = true;
        }
    }

    /// What central's file system has.
    pub(crate) fn spool_space(&self) -> Space {
        let spool = &self.spool;
        let incoming: u64 = spool.incoming.values().map(|copy| self.size(copy.bytes)).sum();
        let held: u64 = spool.held.values().map(|(_, copy)| self.size(copy.bytes)).sum();
        let free = if spool.full { 0 } else { SPOOL_SIZE.saturating_sub(incoming + held) };
        let space = Space::of_bytes(free, SPOOL_SIZE);
        let Some(total) = spool.inodes else { return space };
        let places: BTreeSet<PlaceId> = spool.incoming.keys().map(|(place, _)| *place).collect();
        let incoming: u64 = spool.incoming.values().map(|copy| copy.inodes).sum();
        let held: u64 = spool.held.values().map(|(_, copy)| 1 + copy.inodes).sum();
        let free = total.saturating_sub(places.len() as u64 + incoming + held);
        space.with_inodes(if spool.crowded { 0 } else { free }, total)
    }

    /// What a download's file system has.
    pub(crate) fn receiver_space(&self, download: usize) -> Space {
        let receiver = &self.receivers[download];
        let space = Space::of_bytes(if receiver.full { 0 } else { ROOMY }, ROOMY);
        let Some(total) = receiver.inodes else { return space };
        let staged: u64 = receiver.staging.values().map(|copy| 1 + copy.map_or(0, |(_, copy)| copy.inodes)).sum();
        let placed: u64 = receiver.finals.values().map(|entry| Self::inodes(entry.bytes)).sum();
        let free = total.saturating_sub(staged + placed);
        space.with_inodes(if receiver.crowded { 0 } else { free }, total)
    }
}

/// A stamp as the signature that a machine sees.
pub(crate) fn signature(stamp: Stamp) -> Signature {
    Signature(u128::from(stamp).to_be_bytes())
}

/// The stamp of a signature.
pub(crate) fn stamp_of(signature: Signature) -> Stamp {
    u128::from_be_bytes(signature.0) as u64
}
