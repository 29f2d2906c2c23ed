//! What an operator is shown of the group: the real merge, on what the nodes that are up tell at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use synkler::control::types::{StateCount, Status, Transfer};
use synkler::control::{merged_status, unlisted};
use synkler::machine::{Cause, Handle, Machine, Mode, Selection, Tallying, Time, TransferId};

use crate::checker::Promise;
use crate::sabotage::Sabotage;
use crate::sim::Sim;

/// More than any schedule has.
const ALL: usize = 10_000;

impl Sim {
    /// No node's unfinished work is missing from the group's view, or looks as if nobody were needed where somebody is.
    pub(crate) fn check_view(&mut self) {
        let now = Time::from_millis(self.now);
        let tell = |machine: &Machine| {
            let snapshot = machine.snapshot(&Selection { tally: Tallying::Ids, all: true, ..Selection::urgent(ALL) });
            Status::new(&snapshot, &"g".parse().unwrap(), Path::new("/"), now)
        };
        let up = |node: usize| self.nodes[node].machine.as_ref();
        let Some(central) = (0..self.nodes.len()).find(|node| self.nodes[*node].node.mode == Mode::Central) else {
            return;
        };
        let Some(hub) = up(central) else { return };
        let own = tell(hub);
        let others: Vec<(usize, Status)> = (0..self.nodes.len())
            .filter(|node| *node != central)
            .filter_map(|node| Some((node, tell(up(node)?))))
            .collect();
        let mut asked: Vec<Status> = others.iter().map(|(_, status)| status.clone()).collect();
        if self.sabotage == Some(Sabotage::ThroughIsHidden) {
            let known = |id: &String| hub.view(&Handle::Transfer(id.parse().unwrap())).is_some();
            for status in &mut asked {
                status.tallied.clear();
                status.transfers.retain(|transfer| transfer.id.as_ref().is_none_or(known));
            }
        }
        let hub_is = &self.nodes[central].node;
        let merge = |own: Status, asked: &[Status]| {
            let missing = unlisted(&own.transfers, asked.iter().map(|status| (status, &*status.transfers)));
            let views = missing.iter().filter_map(|id| hub.view(&Handle::Transfer(id.parse::<TransferId>().ok()?)));
            let looked_up = views.map(|view| Transfer::new(hub_is, &view)).collect();
            merged_status(own, looked_up, asked, ALL, true)
        };
        let merged = merge(own.clone(), &asked);
        // The same where nothing is to be listed; now and then, because it costs as much.
        let counted = self.now.is_multiple_of(8).then(|| {
            for status in &mut asked {
                status.transfers.clear();
                if self.sabotage == Some(Sabotage::TallyIsLost) {
                    status.tallied.clear();
                }
            }
            merge(Status { transfers: Vec::new(), ..own.clone() }, &asked).states
        });

        let needs = |transfer: &Transfer| transfer.reason.code.parse().is_ok_and(Cause::needs_person);
        let of =
            |transfer: &Transfer| (transfer.id.clone(), transfer.id.is_none().then(|| transfer.item_encoded.clone()));
        let shown: BTreeSet<_> = merged.transfers.iter().map(of).collect();
        let needing: BTreeSet<_> = merged.transfers.iter().filter(|transfer| needs(transfer)).map(of).collect();
        let mut expected = BTreeSet::new();
        for (node, status) in std::iter::once(&(central, own)).chain(&others) {
            for transfer in &status.transfers {
                let what = || format!("{} ({}, {})", transfer.item, transfer.stage, transfer.reason.code);
                // One item of two uploads is two.
                expected.insert((of(transfer), transfer.id.is_none().then(|| transfer.upload.clone())));
                if !shown.contains(&of(transfer)) {
                    return self.violate(Promise::Silent, *node, || format!("the group does not show {}", what()));
                }
                // What central was told of a copy that it holds may be long ago: the receiver itself knows better.
                let first_hand = *node != central || transfer.stage != "held";
                if first_hand && needs(transfer) && !needing.contains(&of(transfer)) {
                    return self.violate(Promise::Silent, *node, || format!("the group hides why {}", what()));
                }
            }
        }
        let of_stages: u64 = merged.counts.iter().map(|count| count.count).sum();
        if of_stages != expected.len() as u64 {
            let counts = merged.counts;
            return self.violate(Promise::Silent, central, || format!("of {} are counted {counts:?}", expected.len()));
        }
        let mut listed = BTreeMap::<String, u64>::new();
        merged.transfers.iter().for_each(|transfer| *listed.entry(transfer.state.clone()).or_default() += 1);
        let by_word = |counts: &Vec<StateCount>| -> BTreeMap<_, _> {
            counts.iter().map(|count| (count.state.clone(), count.count)).collect()
        };
        let counted: Vec<_> = std::iter::once(&merged.states).chain(&counted).map(by_word).collect();
        if counted.iter().any(|counted| *counted != listed) {
            let text = format!("states are listed as {listed:?} and counted as {counted:?}");
            self.violate(Promise::Silent, central, || text);
        }
    }
}
