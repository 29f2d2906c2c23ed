//! A journal in memory: what the real one keeps in SQLite.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use synkler::machine::{
    GroupPause, ItemName, JournalId, Kept, KnownDirectory, KnownNode, Node, Pause, Question, RECENT, RECENT_LIMIT,
    Record, Restored, Row, Time, TransferId,
};

/// One node's journal. What is in it survives every crash.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) id: JournalId,
    pub(crate) rows: BTreeMap<TransferId, Row>,
    pub(crate) nodes: BTreeMap<Node, KnownNode>,
    pub(crate) kept: BTreeMap<ItemName, Kept>,
    pub(crate) submitted: BTreeSet<ItemName>,
    next_place: u64,
    pub(crate) paused: Option<Pause>,
    pub(crate) group: GroupPause,
    pub(crate) directory: Option<KnownDirectory>,
}

impl Journal {
    pub(crate) fn new(id: JournalId) -> Self {
        Self {
            id,
            rows: BTreeMap::new(),
            nodes: BTreeMap::new(),
            kept: BTreeMap::new(),
            submitted: BTreeSet::new(),
            next_place: 0,
            paused: None,
            group: GroupPause::default(),
            directory: None,
        }
    }

    pub(crate) fn write(&mut self, record: Record) {
        match record {
            Record::Transfer(row) => {
                self.rows.insert(row.transfer, *row);
            }
            Record::Node(known) => {
                self.nodes.insert(known.node.clone(), known);
            }
            Record::Kept(kept) => {
                self.kept.insert(kept.name.clone(), kept);
            }
            Record::Unkept(name) => {
                self.kept.remove(&name);
            }
            Record::Submitted(name) => drop(self.submitted.insert(name)),
            Record::Unsubmitted(name) => drop(self.submitted.remove(&name)),
            Record::NextPlace(number) => self.next_place = number,
            Record::Paused(paused) => self.paused = paused,
            Record::Group(group) => self.group = group,
            Record::Manifest(..) => {}
            Record::Directory(known) => self.directory = Some(known),
            Record::Forgotten(node) => {
                self.nodes.remove(&node);
            }
        }
    }

    /// What has been over for so long is forgotten.
    pub(crate) fn prune(&mut self, now: Time, after: Duration) -> usize {
        let before = self.rows.len();
        self.rows.retain(|_, row| row.finished.is_none_or(|at| now.since(at) <= after));
        before - self.rows.len()
    }

    /// The orders that hold the whole node: about itself, and about the group.
    pub(crate) fn orders(&self) -> [Option<Pause>; 2] {
        [self.paused.clone(), self.group.pause.clone()]
    }

    /// What a daemon starts from.
    pub(crate) fn restored(&self) -> Restored {
        let mut rows: Vec<Row> = self.unfinished().cloned().collect();
        rows.sort_by_key(|row| (row.created, row.transfer));
        Restored {
            journal: self.id,
            rows,
            nodes: self.nodes.values().cloned().collect(),
            kept: self.kept.values().cloned().collect(),
            submitted: self.submitted.iter().cloned().collect(),
            recent: self.recent(),
            next_place: self.next_place,
            paused: self.paused.clone(),
            group: self.group.clone(),
            directory: self.directory,
        }
    }

    fn recent(&self) -> Vec<Row> {
        let finished = |row: &&Row| row.finished.is_some();
        let newest = self.rows.values().filter_map(|row| row.finished).max().unwrap_or_default();
        let recent = |row: &&Row| row.cleaned && row.finished.is_some_and(|at| newest.since(at) <= RECENT);
        let mut rows: Vec<Row> = self.rows.values().filter(finished).filter(recent).cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.finished, row.transfer)));
        rows.truncate(RECENT_LIMIT);
        rows
    }

    pub(crate) fn unfinished(&self) -> impl Iterator<Item = &Row> {
        self.rows.values().filter(|row| row.finished.is_none())
    }

    pub(crate) fn look_up(&self, question: &Question) -> Option<Box<Row>> {
        let row = match question {
            Question::Transfer(transfer) => self.rows.get(transfer),
            Question::Name { name, transfer } => {
                let placed = |row: &&Row| row.name == *name && row.signature.is_some() && row.transfer != *transfer;
                self.rows.values().filter(placed).max_by_key(|row| (row.created, row.transfer))
            }
        };
        row.map(|row| Box::new(row.clone()))
    }
}
