//! What items have beside content and modes: which runs carry it, which file systems keep it, and what is told.

use synkler::machine::{Direction, Extra, Extras, Keep, KeepModes, Run, TransferId};

use crate::checker::Promise;
use crate::plan::Plan;
use crate::sim::Sim;
use crate::tally::Deed;
use crate::world::{Bytes, Version, World};

/// What a file system without them does not keep.
const BARE: [Extra; 3] = [Extra::Hardlinks, Extra::Xattrs, Extra::Acls];

fn both(one: Keep, other: Keep) -> Keep {
    Extra::ALL.into_iter().filter(|extra| one.has(*extra) && other.has(*extra)).collect()
}

fn without(keep: Keep, gone: &[Extra]) -> Keep {
    gone.iter().fold(keep, |keep, extra| keep.without(*extra))
}

impl World {
    /// What the source of a version has.
    pub(crate) fn extras(version: Version) -> Extras {
        let entries = |extra| match extra {
            Extra::Hardlinks if version % 4 == 3 && !version.is_multiple_of(3) => 2,
            Extra::Xattrs if version.is_multiple_of(2) => 1,
            Extra::Acls if version % 5 < 2 => 1,
            Extra::Sparse if version % 7 == 2 => 1,
            _ => 0,
        };
        Extras::new(|extra| (entries(extra), synkler::machine::Digest([extra as u8; 16])))
    }

    /// What a copy with these kinds has.
    fn extras_of_copy(bytes: Bytes, kept: Keep) -> Extras {
        let Bytes::Whole(version) = bytes else { return Extras::default() };
        let source = Self::extras(version).carrying(kept);
        // What is not kept is not there.
        let words = source.to_string();
        let there: Vec<_> = words.split(' ').filter(|part| !part.starts_with('!')).collect();
        there.join(" ").parse().unwrap()
    }
}

impl Plan {
    /// What travels of a version with these: the truth that every node should know.
    fn announced(&self, version: Version) -> Extras {
        let keep = if self.spool_links { self.keep } else { self.keep.without(Extra::Hardlinks) };
        World::extras(version).carrying(keep)
    }
}

impl Sim {
    /// What of this a run brings to central, or to a download: its host's file system keeps it or not.
    pub(crate) fn brought(&self, run: &Run, download: Option<usize>, had: Keep) -> Keep {
        let kept = both(run.keep, had);
        match download {
            Some(download) if self.plan.bare[download] => without(kept, &BARE),
            None if self.plan.spool_bare => without(kept, &[Extra::Xattrs, Extra::Acls]),
            _ => kept,
        }
    }

    /// What a comparison tells.
    pub(crate) fn lost(announced: &Extras, bytes: Bytes, kept: Keep) -> Option<Box<str>> {
        announced.lost(&World::extras_of_copy(bytes, kept)).map(Into::into)
    }

    /// A run that links files links those of different items, too, and one into a spool without links loses files.
    pub(crate) fn check_extras_of_run(&mut self, node: usize, run: &Run) {
        if run.keep.has(Extra::Hardlinks) {
            if run.batch.len() > 1 {
                self.violate(Promise::Extras, node, || "a run links files of different items".to_owned());
            }
            if run.direction == Direction::Push && !self.plan.spool_links {
                self.violate(Promise::Extras, node, || "a run links files where central cannot".to_owned());
            }
        }
        for (transfer, _) in &run.batch {
            let Some(row) = self.nodes[node].journal.rows.get(transfer) else { continue };
            let mut asked = row.extras.carried();
            if run.direction == Direction::Pull && self.plan.keep_modes == KeepModes::No {
                asked = asked.without(Extra::Acls);
            }
            if run.keep != asked {
                let id = *transfer;
                self.violate(Promise::Extras, node, || format!("a run carries {} of {id}, not {asked}", run.keep));
            }
        }
    }

    /// It stands under its final name, with these.
    pub(crate) fn check_extras(&mut self, node: usize, id: TransferId, bytes: Bytes, kept: Keep) {
        let Bytes::Whole(version) = bytes else { return };
        let Some(row) = self.nodes[node].journal.rows.get(&id) else { return };
        let (announced, known) = (self.plan.announced(version), row.extras.clone());
        if known != announced {
            self.violate(Promise::Extras, node, || format!("{id} is placed with {known}, announced is {announced}"));
        }
        if known.not_carried().is_some() {
            self.tally.count(Deed::NotCarried);
        }
        let mut wanted = announced.carried().without(Extra::Sparse);
        if self.plan.keep_modes == KeepModes::No {
            wanted = wanted.without(Extra::Acls);
        }
        if both(wanted, kept) == wanted {
            if !wanted.is_empty() {
                self.tally.count(Deed::Carried);
            }
        } else if !self.checker.unkept.contains(&(node, id)) {
            self.violate(Promise::Extras, node, || format!("{id} has {kept} instead of {wanted}, and nobody says so"));
        }
    }
}
