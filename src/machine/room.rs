//! Space on a file system: bytes and inodes. Either can run out first.

use super::{Inodes, Row, Space};

/// What a copy needs beyond its own entries: the directory in which it arrives, and the one that holds it.
const AROUND: u64 = 2;

/// A number of bytes and a number of inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Room {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl Room {
    /// More than anything needs.
    pub(super) const ENDLESS: Self = Self { bytes: u64::MAX, inodes: u64::MAX };

    /// The space for a copy with this many bytes and entries.
    pub(super) fn of(bytes: u64, entries: u64) -> Self {
        Self { bytes, inodes: entries.saturating_add(AROUND) }
    }

    pub(super) fn plus(self, more: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(more.bytes), inodes: self.inodes.saturating_add(more.inodes) }
    }

    /// The rest after `less` is taken away. A value without a limit stays without a limit.
    pub(super) fn minus(self, less: Self) -> Self {
        let left = |all: u64, less| if all == u64::MAX { all } else { all.saturating_sub(less) };
        Self { bytes: left(self.bytes, less.bytes), inodes: left(self.inodes, less.inodes) }
    }

    pub(super) fn fits_in(self, room: Self) -> bool {
        self.bytes <= room.bytes && self.inodes <= room.inodes
    }

    /// The part of `space` that stays free, in thousandths of a percent.
    pub(super) fn share_of(space: Space, millipercent: u32) -> Self {
        let share = |all: u64| {
            let share = u128::from(all) * u128::from(millipercent.min(100_000)) / 100_000;
            u64::try_from(share).unwrap_or(all)
        };
        Self { bytes: share(space.total), inodes: space.inodes.map_or(0, |inodes| share(inodes.total)) }
    }
}

impl Row {
    /// The space for a copy of the item.
    pub(super) fn room(&self) -> Room {
        Room::of(self.fingerprint.size, self.entries)
    }
}

impl Space {
    fn free(self) -> Room {
        Room { bytes: self.free, inodes: self.inodes.map_or(u64::MAX, |inodes| inodes.free) }
    }

    fn total(self) -> Room {
        Room { bytes: self.total, inodes: self.inodes.map_or(u64::MAX, |inodes| inodes.total) }
    }
}

/// What a node knows of the space where its copies arrive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estate {
    /// The free space at the last measurement.
    pub(super) space: Space,
    /// What has arrived since the measurement began: the measurement may still count it as free.
    pub(super) arrived: Room,
    /// The space that must stay free.
    pub(super) kept: Room,
    /// The space reserved for copies that have not arrived yet.
    pub(super) promised: Room,
}

impl Estate {
    /// The space left for further copies.
    pub(super) fn room(&self) -> Room {
        self.space.free().minus(self.kept).minus(self.promised).minus(self.arrived)
    }

    /// Whether even the empty file system could not take the item.
    pub(super) fn is_hopeless(&self, needed: Room) -> bool {
        !needed.fits_in(self.space.total().minus(self.kept))
    }

    /// What is missing for this item; `None` if there is enough. `place` is a directory of the file system.
    pub(super) fn shortage(&self, needed: Room, place: &str) -> Option<Shortage> {
        let room = self.room();
        if needed.bytes > room.bytes {
            return Some(self.describe("bytes", needed, |room| room.bytes, place));
        }
        (needed.inodes > room.inodes).then(|| self.describe("inodes", needed, |room| room.inodes, place))
    }

    fn describe(&self, what: &'static str, needed: Room, of: impl Fn(Room) -> u64, place: &str) -> Shortage {
        let (total, kept, needed) = (of(self.space.total()), of(self.kept), of(needed));
        // If a file system does not answer, its size is unknown.
        let hopeless = total > 0 && needed > total.saturating_sub(kept);
        let text = if hopeless {
            format!(
                "{needed} {what} needed, but the file system of {place} has {total} in total, of which {kept} stay \
                 free: enlarge it, or make the item smaller"
            )
        } else {
            let (free, promised) = (of(self.space.free()), of(self.promised));
            format!(
                "{needed} {what} needed, {free} free in {place}, of which {kept} stay free and {promised} are reserved"
            )
        };
        Shortage { what, hopeless, text }
    }
}

/// Why an item does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shortage {
    /// Bytes or inodes.
    pub(super) what: &'static str,
    /// Whether the item would not fit if everything were free.
    pub(super) hopeless: bool,
    /// The text for people.
    pub(super) text: String,
}

impl Space {
    /// A file system without a limit for inodes.
    pub fn of_bytes(free: u64, total: u64) -> Self {
        Self { free, total, inodes: None }
    }

    /// The same with this many inodes.
    pub fn with_inodes(self, free: u64, total: u64) -> Self {
        Self { inodes: Some(Inodes { free, total }), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estate(space: Space) -> Estate {
        Estate { space, arrived: Room::default(), kept: Room::share_of(space, 5_000), promised: Room::default() }
    }

    #[test]
    fn whatever_runs_out_first_is_named() {
        let tight = estate(Space::of_bytes(1000, 2000).with_inodes(150, 300));
        assert_eq!(tight.room(), Room { bytes: 900, inodes: 135 });
        let told = |needed| tight.shortage(needed, "/srv on central").unwrap().text;
        assert_eq!(tight.shortage(Room::of(900, 133), "/srv on central"), None);
        let text = told(Room::of(900, 134));
        assert_eq!(text, "136 inodes needed, 150 free in /srv on central, of which 15 stay free and 0 are reserved");
        let text = told(Room::of(901, 134));
        assert_eq!(text, "901 bytes needed, 1000 free in /srv on central, of which 100 stay free and 0 are reserved");
        let text = told(Room::of(1, 2113));
        assert_eq!(
            text,
            "2115 inodes needed, but the file system of /srv on central has 300 in total, of which 15 stay free: \
             enlarge it, or make the item smaller"
        );
    }

    #[test]
    fn a_file_system_that_does_not_answer_counts_as_full_and_not_as_small() {
        let text = estate(Space::default()).shortage(Room::of(5, 1), "/srv").unwrap().text;
        assert_eq!(text, "5 bytes needed, 0 free in /srv, of which 0 stay free and 0 are reserved");
    }

    #[test]
    fn a_file_system_without_a_limit_for_inodes_never_lacks_them() {
        let wide = estate(Space::of_bytes(1000, 1000));
        let promised = Room { inodes: u64::MAX, ..Room::default() };
        let wide = Estate { promised, arrived: Room::of(0, 5), ..wide };
        assert_eq!(wide.shortage(Room::of(1, u64::MAX), "/srv"), None);
        assert!(!wide.is_hopeless(Room::of(1, u64::MAX)));
    }
}
