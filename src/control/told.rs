//! The reports of the other nodes about transfers: listed in full, or tallied by stage, state and reason. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::types::{Status, Transfer};
use crate::machine::{Cause, Mode, Standing, State, decisive, upload};

/// The reports of other nodes, by transfer id.
#[derive(Debug, Default)]
pub(super) struct Told<'a> {
    reports: BTreeMap<&'a str, Vec<&'a Transfer>>,
    standings: BTreeMap<&'a str, Vec<Standing<'a>>>,
}

impl<'a> Told<'a> {
    /// From each node's status, and its list.
    pub(super) fn new(others: impl Iterator<Item = (&'a Status, &'a [Transfer])>) -> Self {
        let mut told = Self::default();
        for (status, listed) in others {
            told.take_reports(listed);
            let Some(mode) = mode(&status.node.mode) else { continue };
            let listed: BTreeSet<_> = listed.iter().filter_map(|transfer| transfer.id.as_deref()).collect();
            for tallied in &status.tallied {
                let standing = Standing {
                    mode,
                    name: &status.node.name,
                    stage: &tallied.stage,
                    state: tallied.state.parse().unwrap_or(State::Waiting),
                    cause: tallied.code.parse().unwrap_or(Cause::Other),
                    receipt: false,
                };
                for id in tallied.ids.iter().filter(|id| !listed.contains(id.as_str())) {
                    told.standings.entry(id).or_default().push(standing);
                }
            }
        }
        told
    }

    /// From the lists of the nodes alone.
    pub(super) fn of(reports: &[&'a Transfer]) -> Self {
        let mut told = Self::default();
        reports.iter().for_each(|report| told.take_reports(std::slice::from_ref(*report)));
        told
    }

    fn take_reports(&mut self, reports: &'a [Transfer]) {
        for report in reports {
            if let Some(id) = &report.id {
                self.reports.entry(id).or_default().push(report);
                self.standings.entry(id).or_default().extend(standing(report));
            }
        }
    }

    /// The listed report of the node that counts for the transfer.
    pub(super) fn state(transfer: &Transfer) -> State {
        transfer.state.parse().unwrap_or(State::Waiting)
    }

    /// The standings of a transfer on all nodes, the one that counts first.
    pub(super) fn with<'b>(&'b self, transfer: &'b Transfer) -> Vec<Standing<'b>> {
        let others = transfer.id.as_deref().and_then(|id| self.standings.get(id)).into_iter().flatten();
        let receipt = |name: &str| transfer.receivers.iter().any(|it| it.name == name && it.received.is_some());
        let others =
            others.map(|other| Standing { receipt: other.mode == Mode::Download && receipt(other.name), ..*other });
        standing(transfer).into_iter().chain(others).collect()
    }

    /// The state of a transfer, from all reports.
    pub(super) fn together(&self, transfer: &Transfer) -> State {
        decisive(&self.with(transfer)).map_or_else(|| Self::state(transfer), |standing| standing.state)
    }

    /// The transfer as listed by the node of this standing.
    pub(super) fn report(&self, transfer: &Transfer, standing: &Standing<'_>) -> Option<&'a Transfer> {
        let node = format!("{} {}", standing.mode, standing.name);
        self.reports_on(transfer).iter().find(|report| report.node == node && report.node != transfer.node).copied()
    }

    /// The rsync run that moves it, on any node.
    pub(super) fn run(&self, transfer: &Transfer) -> Option<super::types::Progress> {
        self.reports_on(transfer).iter().find_map(|report| report.progress.clone())
    }

    /// Whether another node lists it.
    pub(super) fn is_listed(&self, transfer: &Transfer) -> bool {
        !self.reports_on(transfer).is_empty()
    }

    fn reports_on(&self, transfer: &Transfer) -> &[&'a Transfer] {
        transfer.id.as_deref().and_then(|id| self.reports.get(id)).map_or(&[], Vec::as_slice)
    }

    /// Transfers that others know and that are not among these, with their standings.
    pub(super) fn unknown(&self, known: &BTreeSet<String>) -> impl Iterator<Item = (&'a str, &[Standing<'a>])> {
        let unknown = self.standings.iter().filter(move |(id, _)| !known.contains(**id));
        unknown.map(|(id, standings)| (*id, standings.as_slice()))
    }

    /// A transfer that this central does not know, as reported by the decisive node, if that lists it. With several
    /// centrals, only what no central can know yet.
    pub(super) fn elsewhere(&self, id: &str, more_centrals: bool) -> Option<Transfer> {
        let reports = self.reports.get(id)?;
        if more_centrals && !reports.iter().any(|report| report.stage == upload::Stage::Announced.as_str()) {
            return None;
        }
        joint(reports)
    }
}

/// The decisive report of several nodes about a transfer that no central reports.
pub(super) fn joint(reports: &[&Transfer]) -> Option<Transfer> {
    let standings: Vec<_> = reports.iter().filter_map(|report| standing(report)).collect();
    let decisive = decisive(&standings)?;
    let node = format!("{} {}", decisive.mode, decisive.name);
    reports.iter().find(|report| report.node == node).map(|report| (*report).clone())
}

/// The standing on the node that counts.
fn standing(transfer: &Transfer) -> Option<Standing<'_>> {
    let (mode_word, name) = transfer.node.split_once(' ')?;
    Some(Standing {
        mode: mode(mode_word)?,
        name,
        stage: &transfer.stage,
        state: Told::state(transfer),
        cause: transfer.reason.code.parse().unwrap_or(Cause::Other),
        receipt: false,
    })
}

fn mode(word: &str) -> Option<Mode> {
    word.parse().ok()
}
