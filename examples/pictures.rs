//! Makes the pictures of the README anew, from a real run: a private broker, a private sshd and three daemons hand
//! files over, and what `synklerctl status` and `synklerctl watch` show on a terminal meanwhile becomes
//! `docs/status.svg` and `docs/watch.svg`.

#![allow(unreachable_pub, reason = "the bed is shared by several programs")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/bed/mod.rs"]
mod bed;
#[path = "../tests/support/picture.rs"]
mod picture;
#[path = "../tests/support/screen.rs"]
mod screen;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bed::node::{Node, wait_for};
use bed::{Bed, tree};
use screen::Screen;

const SIZE: (u16, u16) = (26, 120);
const LONG: Duration = Duration::from_secs(120);

fn main() {
    let bed = Bed::alone();
    let opts =
        |speed: &str| format!("rsync_opts = [\"--bwlimit={speed}\", \"--rsh={}\"]\ntransfers = 1\n", bed.sshd.ssh());
    let mut upload = bed.node("upload", "alpha", &format!("settle_seconds = 0\n{}", opts("3m")));
    let mut central = bed.central("hub", "keep_minutes = 5\n");
    let mut download = bed.node("download", "delta", &opts("2m"));
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    assert!(wait_for(LONG, || members(&upload) == 3), "the three do not find each other");
    // The second is fetched while the third is sent; the others stand in line.
    for (name, size) in [
        ("notes.txt", 9_000),
        ("results-2026-11-22.tar", 24_000_000),
        ("debian-13.2.0-amd64-netinst.iso", 60_000_000),
        ("results-2026-11-23.tar", 8_000_000),
        ("holiday photos", 3_000_000),
    ] {
        tree::hand_in(&upload.file_dir, name.as_bytes(), &vec![b'x'; size]);
        assert!(wait_for(LONG, || shown(&upload).contains(name) || name == "notes.txt"));
    }
    assert!(wait_for(LONG, || under_way(&upload) >= 2), "the two hops are not at work together");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for verb in ["status", "watch"] {
        let mut command = upload.ctl();
        command.arg(verb).env("TZ", "UTC");
        let screen = Screen::start(&command, SIZE.0, SIZE.1);
        screen.until("two bars", |text| text.lines().filter(|line| line.contains("█░")).count() >= 2);
        let svg = screen.look(|screen| picture::svg(screen, &format!("$ synklerctl {verb}")));
        fs::write(docs.join(format!("{verb}.svg")), svg).unwrap();
    }
}

fn shown(node: &Node) -> String {
    let output = node.ctl().args(["status", "--json"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// How many nodes have runs that are so far on their way that it shows.
fn under_way(node: &Node) -> usize {
    let status: serde_json::Value = serde_json::from_str(&shown(node)).unwrap_or_default();
    let share = |progress: &serde_json::Value| Some(progress["bytes"].as_f64()? / progress["total"].as_f64()?);
    let items = status["transfers"].as_array().cloned().unwrap_or_default();
    let far = items.iter().map(|item| &item["progress"]).filter(|progress| share(progress) > Some(0.1));
    far.map(|progress| progress["node"].to_string()).collect::<BTreeSet<_>>().len()
}

fn members(node: &Node) -> usize {
    let status: serde_json::Value = serde_json::from_str(&shown(node)).unwrap_or_default();
    status["members"].as_array().map_or(0, Vec::len)
}
