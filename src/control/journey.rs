//! Which transfer a text means, and its steps on all nodes, from the reports of these nodes. Pure.

use std::collections::BTreeSet;

use super::changes::key;
use super::merge::told_by_all;
use super::told::{Told, joint};
use super::types::{Journey, Transfer};
use super::view::rank;

/// The maximum number of names in the answer to an ambiguous beginning.
const MATCHES: usize = 20;

/// The result of the nodes' answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// This transfer, by its [`key`].
    One(String),
    Nothing,
    /// Several begin with the text.
    Several(Vec<String>),
}

/// Whether the text is a whole name or id, not a beginning.
pub(super) fn is_exact(text: &str, transfer: &Transfer) -> bool {
    text == transfer.item || text == transfer.item_encoded || transfer.id.as_deref() == Some(text)
}

/// Chooses among the results; `several` are matches of nodes that found more than one.
pub(super) fn choose(text: &str, found: &[Journey], several: &[String]) -> Choice {
    let exact: Vec<_> = found.iter().filter(|journey| is_exact(text, &journey.transfer)).collect();
    let pool = if exact.is_empty() { found.iter().collect() } else { exact.clone() };
    let names: BTreeSet<_> = pool.iter().map(|journey| journey.transfer.item_encoded.as_str()).collect();
    let ids: BTreeSet<_> = pool.iter().filter_map(|journey| journey.transfer.id.as_deref()).collect();
    let by_id = !ids.is_empty() && ids.iter().all(|id| id.starts_with(text));
    let matches: BTreeSet<_> = match exact.is_empty() {
        true if names.len() > 1 || !several.is_empty() => several.iter().map(String::as_str).chain(names).collect(),
        true if by_id && ids.len() > 1 => ids,
        _ => BTreeSet::new(),
    };
    if !matches.is_empty() {
        return Choice::Several(matches.into_iter().take(MATCHES).map(str::to_owned).collect());
    }
    // Of one name the unfinished transfer counts, then central's, then the latest.
    let best = pool.into_iter().max_by_key(|journey| {
        let transfer = &journey.transfer;
        let over = journey.steps.iter().all(|step| step.finished.is_some());
        (!over, transfer.node.starts_with("central "), transfer.id.clone())
    });
    best.map_or(Choice::Nothing, |journey| Choice::One(key(&journey.transfer)))
}

/// All steps of one transfer, from the reports of the nodes; `None` if no node knows it.
pub(super) fn joined(mut told: Vec<Journey>) -> Option<Journey> {
    let mode = |journey: &Journey| journey.transfer.node.split(' ').next().map_or(3, rank);
    told.sort_by(|a, b| mode(a).cmp(&mode(b)).then_with(|| a.transfer.node.cmp(&b.transfer.node)));
    let central = told.iter().position(|journey| mode(journey) == 1).unwrap_or(0);
    let transfer = told.get(central)?.transfer.clone();
    let over = |journey: &Journey| journey.steps.iter().all(|step| step.finished.is_some());
    let reports = told.iter().enumerate().filter(|(at, journey)| *at != central && !over(journey));
    let reports: Vec<_> = reports.map(|(_, journey)| &journey.transfer).collect();
    // Central may have finished transfers that other nodes have not.
    let transfer = match joint(&reports) {
        Some(report) if told.get(central).is_some_and(over) => report,
        _ => told_by_all(transfer, &Told::of(&reports)),
    };
    Some(Journey { transfer, steps: told.into_iter().flat_map(|journey| journey.steps).collect() })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{seen, transfer};
    use super::super::types::Step;
    use super::*;

    fn told(node: &str, code: &str, number: u8, stage: &str, finished: Option<u64>) -> Journey {
        let transfer = seen(node, code, transfer(number, stage));
        let step = Step {
            node: node.to_owned(),
            stage: stage.to_owned(),
            reason: None,
            since: 1,
            next: None,
            attempts: 0,
            md5: None,
            created: 1,
            began: None,
            arrived: None,
            finished,
            paused: None,
            progress: None,
            remark: None,
        };
        Journey { transfer, steps: vec![step] }
    }

    fn id(number: u8) -> String {
        transfer(number, "held").id.unwrap()
    }

    #[test]
    fn a_text_stands_for_one_transfer_or_is_ambiguous() {
        let one = told("central hub", "queued", 1, "waiting", None);
        let eleven = told("upload alpha", "queued", 11, "announced", None);
        let found = [one.clone(), eleven];
        assert_eq!(choose("item 1", &found, &[]), Choice::One(id(1)));
        assert_eq!(choose("item 11", &found, &["item 1".to_owned()]), Choice::One(id(11)));
        assert_eq!(choose("item", &found, &[]), Choice::Several(vec!["item 1".to_owned(), "item 11".to_owned()]));
        assert_eq!(
            choose("ite", std::slice::from_ref(&one), &["item 3".to_owned()]),
            Choice::Several(vec!["item 1".into(), "item 3".into()])
        );
        assert_eq!(choose("ite", &[one.clone(), one.clone()], &[]), Choice::One(id(1)));
        assert_eq!(choose(&id(1), &found, &[]), Choice::One(id(1)));
        assert_eq!(choose("item", &[], &[]), Choice::Nothing);

        // Of one name: the unfinished transfer, else central's, else the latest; of a beginning of ids, none.
        let renamed = |mut journey: Journey, number| {
            journey.transfer.id = Some(id(number));
            journey
        };
        let over = told("download delta", "queued", 1, "closed", Some(9));
        assert_eq!(choose("item 1", &[renamed(over.clone(), 7), one.clone()], &[]), Choice::One(id(1)));
        assert_eq!(choose("item 1", &[over.clone(), renamed(over.clone(), 7)], &[]), Choice::One(id(7)));
        assert_eq!(choose("01936f2a", &[over.clone(), renamed(over, 7)], &[]), Choice::Several(vec![id(1), id(7)]));
    }

    #[test]
    fn the_way_goes_from_upload_to_the_downloads() {
        let journey = joined(vec![
            told("download echo", "queued", 1, "wanted", None),
            told("central hub", "receipts", 1, "held", None),
            told("download delta", "acknowledgement", 1, "closed", Some(5)),
            told("upload alpha", "receipts", 1, "received", None),
        ])
        .unwrap();
        let nodes: Vec<_> = journey.steps.iter().map(|step| step.node.as_str()).collect();
        assert_eq!(nodes, ["upload alpha", "central hub", "download delta", "download echo"]);
        assert_eq!(journey.transfer.node, "central hub");
        assert_eq!(journey.transfer.reason.text, "download echo: queued for rsync");
        assert_eq!(joined(vec![]), None);
        let alone = joined(vec![told("upload alpha", "settling", 1, "settling", None)]).unwrap();
        assert_eq!(alone.transfer.node, "upload alpha");
    }
}
