//! Several uploads and downloads in one group.

use std::fs;
use std::time::Duration;

use super::handover::no_errors;
use crate::bed::Bed;
use crate::bed::node::Node;
use crate::bed::tree;

const LONG: Duration = Duration::from_secs(120);

fn script(bed: &Bed, name: &str) -> String {
    format!("cleanup_script = [\"mv\", \"-T\", \"--\", \"%F\", \"{}/%f\"]\n", bed.side(name).display())
}

fn uploads(bed: &Bed) -> [Node; 2] {
    ["up1", "up2"]
        .map(|name| bed.upload(name, &format!("settle_seconds = 0\n{}", script(bed, &format!("sent-{name}")))))
}

#[test]
fn everything_reaches_both_and_sources_are_freed_only_then() {
    let bed = Bed::new();
    let mut uploads = uploads(&bed);
    let mut central = bed.central("mid", "receivers = [\"d1\", \"d2\"]\nkeep_minutes = 0\n");
    let mut downloads = ["d1", "d2"].map(|name| bed.download(name, &script(&bed, name)));
    central.start();
    uploads.iter_mut().for_each(Node::start);
    let [first, second] = &mut downloads;
    first.start();
    // The second download is down for the whole first part.
    for (number, upload) in uploads.iter().enumerate() {
        for item in 0..20 {
            tree::hand_in(&upload.file_dir, format!("from-{number}-{item}").as_bytes(), &tree::noise(item, 2000));
        }
    }
    assert!(first.log.wait(0, 40, LONG, |line| line.contains("cleanup script succeeded")));
    assert!(central.log.wait(0, 40, LONG, |line| line.contains("receipt (download d1)")));
    let held = fs::read_dir(central.file_dir.join("default/held")).unwrap().count();
    assert_eq!(held, 40, "past keep_minutes, but one receiver still lacks them");
    for upload in &uploads {
        assert_eq!(tree::survey(&upload.file_dir).len(), 20, "no source may be freed for one receiver of two");
        assert_eq!(upload.log.count(|line| line.contains("all receipts are in")), 0);
    }
    let status = central.status(100);
    let shown = status["transfers"].as_array().unwrap();
    assert_eq!(shown.len(), 40);
    assert!(shown.iter().all(|transfer| transfer["reason"].to_string().contains("d2")), "{:#}", shown[0]);
    second.start();
    for upload in &uploads {
        assert!(upload.log.wait(0, 20, LONG, |line| line.contains("handed over")));
        assert!(tree::survey(&upload.file_dir).is_empty());
    }
    assert!(second.log.wait(0, 40, LONG, |line| line.contains("cleanup script succeeded")));
    assert_eq!(tree::survey(&bed.side("d1")), tree::survey(&bed.side("d2")));
    assert_eq!(tree::survey(&bed.side("d1")).len(), 40);
    no_errors(&[&central, &uploads[0], &uploads[1], &downloads[0], &downloads[1]]);
}

#[test]
fn one_name_from_two_uploads_loses_nothing() {
    let bed = Bed::new();
    let mut uploads = uploads(&bed);
    let mut central = bed.central("mid", "receivers = [\"d1\"]\n");
    // No script: the first stays where it was put until its owner takes it away.
    let mut download = bed.download("d1", "");
    central.start();
    download.start();
    uploads.iter_mut().for_each(Node::start);
    tree::hand_in(&uploads[0].file_dir, b"report", b"from the first");
    uploads[0].expect(0, LONG, &["report", "handed over"]);
    tree::hand_in(&uploads[1].file_dir, b"report", b"from the second");
    download.expect(0, LONG, &["report", "not delivered yet", "delivered from up1", "move it away"]);
    let place = download.file_dir.join("report");
    assert_eq!(fs::read(&place).unwrap(), b"from the first");
    assert!(uploads[1].file_dir.join("report").exists(), "its source waits");
    fs::rename(&place, bed.side("taken").join("report")).unwrap();
    uploads[1].expect(0, LONG, &["report", "handed over"]);
    assert_eq!(fs::read(&place).unwrap(), b"from the second");
    no_errors(&[&central, &uploads[0], &uploads[1], &download]);
}

#[test]
fn nothing_is_sent_before_a_receiver_is_known() {
    let bed = Bed::new();
    let [mut upload, _] = uploads(&bed);
    let mut central = bed.central("mid", "");
    central.start();
    upload.start();
    tree::hand_in(&upload.file_dir, b"early", b"content");
    upload.expect(0, LONG, &["early", "settled"]);
    upload.until_reason(LONG, "receivers", "no download node has joined the group");
    let mut download = bed.download("d1", "");
    download.start();
    upload.expect(0, LONG, &["early", "handed over"]);
    no_errors(&[&central, &upload, &download]);
}
