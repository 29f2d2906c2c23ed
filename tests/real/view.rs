//! The group as each of its nodes tells it, and orders that reach all of them.

use std::cell::Cell;
use std::time::Duration;

use serde_json::Value;
use synkler::control::types::{Filter, PastFilter, Status, Transfer};
use synkler::control::{Client, ClientError, Refusal};

use crate::bed::node::{Node, wait_for};
use crate::bed::{Bed, tree};

const LONG: Duration = Duration::from_secs(120);

pub fn client(node: &Node) -> Client {
    Client::connect(&node.socket).unwrap()
}

fn shown(node: &Node) -> Status {
    client(node).status(Some(1000), false).unwrap()
}

/// The same by the program, with its exit code.
fn printed(node: &Node) -> (Option<i32>, Status) {
    let output = node.ctl().args(["status", "--json", "--limit", "1000"]).output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// What must be the same wherever it is asked.
fn told(status: &Status) -> (Vec<Transfer>, u64, Value) {
    (status.transfers.clone(), status.total, serde_json::to_value(&status.counts).unwrap())
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Refusal {
    match answer {
        Err(ClientError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

struct Trio {
    upload: Node,
    central: Node,
    download: Node,
    bed: Bed,
}

impl Trio {
    /// Started, and each knows that the others are alive.
    fn start() -> Self {
        Self::start_with("", "keep_minutes = 0\n", "")
    }

    /// With these settings too: of the upload, of central, of the download.
    fn start_with(upload: &str, central: &str, download: &str) -> Self {
        let bed = Bed::new();
        let upload = bed.upload("alpha", &format!("settle_seconds = 0\n{upload}"));
        let central = bed.central("hub", &format!("receivers = [\"delta\"]\n{central}"));
        let download = bed.download("delta", download);
        let mut trio = Self { upload, central, download, bed };
        for node in [&mut trio.upload, &mut trio.central, &mut trio.download] {
            node.start();
        }
        for node in trio.nodes() {
            assert!(wait_for(LONG, || {
                let status = shown(node);
                status.view.whole && status.members.iter().filter(|member| member.alive).count() == 3
            }));
        }
        trio
    }

    fn nodes(&self) -> [&Node; 3] {
        [&self.upload, &self.central, &self.download]
    }

    fn hand_in(&self, names: &[&str]) {
        for name in names {
            tree::hand_in(&self.upload.file_dir, name.as_bytes(), name.as_bytes());
        }
    }

    /// Waits until all three tell the same, and that it is so.
    fn agree(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let last = Cell::new(Vec::new());
        let agreed = wait_for(LONG, || {
            let all = self.nodes().map(shown);
            last.set(all.to_vec());
            all.iter().all(|status| status.view.whole && told(status) == told(&all[0]) && wanted(status))
        });
        let mut last = last.into_inner();
        assert!(agreed, "not {what}: {last:#?}");
        last.remove(0)
    }
}

#[test]
fn all_three_tell_the_same_and_without_central_what_they_know() {
    let mut trio = Trio::start();
    // The download starts nothing, so that everything waits at central.
    client(&trio.download).pause(None, false, false).unwrap();
    trio.hand_in(&["one", "two", "three"]);
    let status = trio.agree("held for a paused download", |status| {
        status.transfers.len() == 3
            && status.transfers.iter().all(|transfer| {
                transfer.stage == "held" && transfer.reason.text.starts_with("download delta: paused by")
            })
    });
    let delta = status.members.iter().find(|member| member.name == "delta").unwrap();
    assert_eq!(delta.paused.as_ref().map(|pause| pause.node.as_str()), Some("download delta"));
    assert_eq!((status.view.from.as_str(), status.total), ("central hub", 3));
    // Nothing happens now, so that the program tells just this, wherever it is asked.
    for node in trio.nodes() {
        let (code, same) = printed(node);
        assert_eq!((code, told(&same)), (Some(0), told(&status)), "{}", node.name);
    }

    // Pages of the list, and one transfer's whole way, from wherever they are asked.
    for node in trio.nodes() {
        let mut listed = Vec::new();
        let mut after = None;
        for more in [true, true, false] {
            let filter = Filter { limit: Some(1), after: after.clone(), ..Filter::default() };
            let page = client(node).list(&filter).unwrap();
            assert_eq!((page.transfers.len(), page.total, page.more), (1, 3, more), "{page:#?}");
            after.clone_from(&page.transfers[0].id);
            listed.extend(page.transfers);
        }
        listed.sort_by(|a, b| a.item.cmp(&b.item));
        assert_eq!(listed.iter().map(|transfer| transfer.item.as_str()).collect::<Vec<_>>(), ["one", "three", "two"]);
        let id = listed[0].id.clone().unwrap();
        let journey = client(node).transfer("on", false).unwrap();
        assert!(journey.view.whole, "{journey:#?}");
        assert_eq!(journey.journey.transfer.id.as_ref(), Some(&id));
        let steps: Vec<_> =
            journey.journey.steps.iter().map(|step| (step.node.as_str(), step.stage.as_str())).collect();
        assert_eq!(steps, [("upload alpha", "received"), ("central hub", "held"), ("download delta", "wanted")]);
        let [upload, central, download] = &journey.journey.steps[..] else { panic!("{journey:#?}") };
        assert!(upload.md5.is_some() && upload.md5 == central.md5 && download.md5.is_none());
        assert_eq!(client(node).transfer(&id, false).unwrap().journey.transfer.id, Some(id));
        assert!(
            matches!(refused(client(node).transfer("t", false)), Refusal::Ambiguous { matches, .. } if matches == ["three", "two"])
        );
        assert_eq!(refused(client(node).transfer("four", false)), Refusal::NotFound("four".to_owned()));
    }

    trio.central.kill();
    for node in [&trio.upload, &trio.download] {
        let status = shown(node);
        assert!(!status.view.whole);
        assert_eq!(status.view.silent, ["central hub"]);
        assert!(status.view.why.unwrap().contains("central hub"));
        assert_eq!(status.transfers.len(), 3);
        let (code, known) = printed(node);
        assert_eq!((code, known.transfers.len()), (Some(4), 3));
        assert_eq!(node.ctl().arg("status").output().unwrap().status.code(), Some(4));
    }
    trio.central.start();
    client(&trio.download).resume(None, false).unwrap();
    trio.agree("over", |status| status.total == 0);
    for node in trio.nodes() {
        let over = client(node).transfer("one", false).unwrap().journey;
        assert_eq!((over.transfer.stage.as_str(), over.steps.len()), ("closed", 3), "{over:#?}");
        assert!(over.steps.iter().all(|step| step.finished.is_some() && step.md5 == over.transfer.md5), "{over:#?}");
        let history = client(node).history(&PastFilter { limit: Some(2), ..PastFilter::default() }).unwrap();
        assert_eq!((history.entries.len(), history.more), (2, true));
        let last = &history.entries[1];
        let rest = PastFilter { before: Some(last.finished), behind: Some(last.id.clone()), ..PastFilter::default() };
        assert_eq!(client(node).history(&rest).unwrap().entries.len(), 1);
        let receipt = client(node).receipt("one").unwrap();
        assert!(receipt.lines.ends_with("  one\n"), "{receipt:?}");
    }
}

#[test]
fn orders_reach_every_node_from_each() {
    let trio = Trio::start();
    let item = |name: &str| vec![name.to_owned()];
    for (node, name) in trio.nodes().into_iter().zip(["first", "second", "third"]) {
        client(&trio.central).pause(None, true, false).unwrap();
        trio.agree("paused", |status| status.group_paused.is_some());
        trio.hand_in(&[name]);
        trio.agree("in line", |status| {
            status.transfers.iter().any(|transfer| transfer.item == name && transfer.id.is_some())
        });
        let orders = client(node).pause(Some(&item(name)), false, false).unwrap();
        assert!(orders.silent.is_empty() && orders.deeds.iter().any(|deed| deed.done), "{orders:#?}");
        client(node).resume(None, true).unwrap();
        let status = trio.agree("held by its own order", |status| {
            status.group_paused.is_none() && status.transfers.iter().all(|transfer| transfer.paused.is_some())
        });
        assert_eq!(status.transfers.len(), 1);
        let orders = client(node).order("Bump", &item(name)).unwrap();
        assert!(orders.deeds.iter().any(|deed| deed.done && deed.item.as_deref() == Some(name)), "{orders:#?}");
        // Its upload alone gives it up, wherever that is ordered.
        let orders = client(node).order("Withdraw", &item(&name[..3])).unwrap();
        let done: Vec<_> = orders.deeds.iter().filter(|deed| deed.done).map(|deed| deed.node.as_str()).collect();
        assert_eq!(done, ["upload alpha"], "{orders:#?}");
        trio.agree("given up", |status| status.total == 0);
        assert!(trio.upload.file_dir.join(name).exists(), "its source stays");
        assert_eq!(
            refused(client(node).order("Retry", &item(name))),
            Refusal::Refused(format!("{name} is finished: see its history"))
        );
        assert_eq!(refused(client(node).order("Retry", &item("nonsense"))), Refusal::NotFound("nonsense".to_owned()));
    }
    let refusal = refused(client(&trio.upload).forget_node("download", "delta"));
    assert!(refusal.to_string().contains("is alive"), "{refusal}");
    let _ = &trio.bed;
}

const FAILS: &str = "cleanup_script = [\"/bin/false\", \"%F\"]";
const MENDED: &str = "cleanup_script = [\"rm\", \"-rf\", \"--\", \"%F\"]";

impl Trio {
    /// Everything that shows a transfer shows on every node that its cleanup failed there.
    fn all_show_that_it_fails(&self, item: &str, on: &str) {
        let status = self.agree("failing", |status| {
            status.transfers.len() == 1 && status.total == 1 && status.attention == 1 && {
                let transfer = &status.transfers[0];
                let word = format!("{} {}", transfer.node, transfer.reason.text);
                transfer.reason.code == "cleanup" && word.contains(on) && transfer.attempts > 0
            }
        });
        assert_eq!(status.counts.iter().map(|count| count.count).sum::<u64>(), 1, "{status:#?}");
        for node in self.nodes() {
            let said = |arguments: &[&str]| {
                let output = node.ctl().args(arguments).output().unwrap();
                (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
            };
            // A script that is just being tried again is at work at that moment.
            let shows = |arguments: &[&str], words: &[&str]| {
                let all = || {
                    let (code, text) = said(arguments);
                    code == Some(0) && words.iter().all(|word| text.contains(word))
                };
                assert!(wait_for(LONG, all), "{} {arguments:?}: no {words:?} in {:?}", node.name, said(arguments));
            };
            shows(&["status"], &["1 needs attention", "cleanup failed", item]);
            shows(&["list", "--failed"], &[" cleanup", item]);
            shows(&["status", item], &["cleanup failed"]);
            for arguments in [&["status", "--json"][..], &["list", "--failed", "--json"], &["status", item, "--json"]] {
                shows(arguments, &["\"cleanup\"", "cleanup failed"]);
            }
            let failed = Filter { failed: Some(true), ..Filter::default() };
            let list = client(node).list(&failed).unwrap();
            assert_eq!((list.total, list.transfers.len()), (1, 1), "{list:#?}");
        }
    }

    fn mend(&self, node: &Node, item: &str) {
        node.set(MENDED);
        client(node).reload().unwrap();
        let retried = client(&self.central).order("Retry", &[item.to_owned()]).unwrap();
        assert!(retried.deeds.iter().any(|deed| deed.done), "{retried:#?}");
    }

    fn nothing_is_left(&self) {
        self.agree("over", |status| status.total == 0 && status.attention == 0 && status.transfers.is_empty());
        for node in self.nodes() {
            let text = String::from_utf8(node.ctl().arg("status").output().unwrap().stdout).unwrap();
            assert!(text.contains("none unfinished") && !text.contains("needs attention"), "{text}");
        }
    }
}

#[test]
fn a_script_that_fails_on_the_download_is_seen_everywhere_until_it_is_mended() {
    let mut trio = Trio::start_with("", "keep_minutes = 600\n", FAILS);
    trio.hand_in(&["stuck"]);
    trio.download.expect(0, LONG, &["WARN", "cleanup failed"]);
    trio.all_show_that_it_fails("stuck", "download delta");
    // Central is through with it.
    trio.central.stop();
    trio.central.set("keep_minutes = 0");
    trio.central.start();
    trio.central.until_idle(LONG);
    trio.all_show_that_it_fails("stuck", "download delta");
    trio.mend(&trio.download, "stuck");
    trio.nothing_is_left();
}

#[test]
fn scripts_that_fail_on_both_ends_are_seen_one_after_the_other() {
    let trio = Trio::start_with(FAILS, "keep_minutes = 0\n", FAILS);
    trio.hand_in(&["stuck"]);
    trio.download.expect(0, LONG, &["WARN", "cleanup failed"]);
    trio.upload.expect(0, LONG, &["WARN", "cleanup failed"]);
    trio.all_show_that_it_fails("stuck", "download delta");
    trio.mend(&trio.download, "stuck");
    trio.download.until_idle(LONG);
    trio.all_show_that_it_fails("stuck", "upload alpha");
    trio.mend(&trio.upload, "stuck");
    trio.nothing_is_left();
}
