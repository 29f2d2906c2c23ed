//! How many processes a cleanup starts: none for a move, and one for many items where the script takes several.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bed::node::{Node, wait_for};
use crate::bed::{Bed, tree};

/// Fewer than a busy host has in an hour: the whole chain has to carry each.
const ITEMS: usize = 400;
/// A lot has up to a hundred items. An item whose look takes long is cleaned up alone, as on a busy host.
const MOST_SCRIPTS: usize = ITEMS / 20;
const LONG: Duration = Duration::from_secs(120);
/// Without a search in `PATH`, each start is one `execve`.
const MV: &str = "/usr/bin/mv";

/// Has every program recorded that the daemon starts, and those that these start.
fn record(bed: &Bed, node: &mut Node) -> PathBuf {
    let record = bed.side("records").join(format!("{}.strace", node.name));
    // The daemon, and not strace, is the child of the test.
    let words = ["strace", "-D", "-f", "-q", "--seccomp-bpf", "-e", "trace=execve", "-e", "signal=none", "-o"];
    node.under = words.map(str::to_owned).to_vec();
    node.under.push(record.display().to_string());
    record
}

/// The programs that a stopped daemon has started, and how often each.
fn started(record: &Path) -> Vec<String> {
    let text = fs::read_to_string(record).unwrap();
    let program = |line: &str| line.split_once("execve(\"")?.1.split_once('"').map(|(program, _)| program.to_owned());
    text.lines().filter_map(program).collect()
}

fn order(node: &Node, verb: &str) {
    assert!(node.ctl().arg(verb).status().unwrap().success(), "{verb}");
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_move_starts_no_process_and_a_script_for_several_starts_few() {
    let bed = Bed::new();
    let (sent, arrived) = (bed.side("sent"), bed.side("arrived"));
    let script = format!("cleanup_script = [\"{MV}\", \"-n\", \"-t\", \"{}\", \"--\", \"%@\"]\n", sent.display());
    let mut upload = bed.upload("up", &format!("settle_seconds = 0\n{script}"));
    let mut central = bed.central("mid", "receivers = [\"down\"]\n");
    let mut download = bed.download("down", &format!("cleanup_move = \"{}\"\n", arrived.display()));
    let records = [record(&bed, &mut upload), record(&bed, &mut download)];
    let workshop = tree::workshop(&upload.file_dir);
    for number in 0..ITEMS {
        let name = format!("-an item {number:04}");
        fs::write(workshop.join(&name), number.to_string()).unwrap();
        fs::rename(workshop.join(&name), upload.file_dir.join(&name)).unwrap();
    }
    central.start();
    upload.start();
    let holds = |line: &str| line.contains("central holds a verified copy");
    assert!(upload.log.wait(0, ITEMS, LONG, holds), "{:#}", upload.status(10));
    // All sources are to be freed at the same time, however slow the transfers are.
    order(&upload, "pause");
    download.start();
    let released = |line: &str| line.contains("all receipts are in");
    assert!(upload.log.wait(0, ITEMS, LONG, released), "{:#}", upload.status(10));
    assert_eq!(count(&sent), 0);
    order(&upload, "resume");
    for (node, dir) in [(&upload, &sent), (&download, &arrived)] {
        let all = wait_for(LONG, || count(dir) == ITEMS);
        assert!(all, "{} of {} has {} items: {:#}", dir.display(), node.name, count(dir), node.status(10));
    }
    assert!(upload.log.wait(0, ITEMS, LONG, |line| line.contains("cleanup script succeeded")));
    assert!(download.log.wait(0, ITEMS, LONG, |line| line.contains("cleanup succeeded: ")));
    // strace pads short numbers.
    let pids = [upload.pid(), download.pid()].map(|pid| pid.to_string());
    let is_end = |pid: &str, line: &str| line.split_whitespace().take(2).eq([pid, "+++"]);
    let [by_upload, by_download] = [0, 1].map(|number| {
        [&mut upload, &mut download][number].stop();
        let ended = || fs::read_to_string(&records[number]).unwrap().lines().any(|line| is_end(&pids[number], line));
        assert!(wait_for(LONG, ended), "strace does not end");
        started(&records[number])
    });
    let scripts = by_upload.iter().filter(|program| *program == MV).count();
    assert!((ITEMS / 100..=MOST_SCRIPTS).contains(&scripts), "{scripts} scripts for {ITEMS} items");
    let foreign: Vec<_> = by_download.iter().filter(|program| !of_a_run(program)).collect();
    assert!(!by_download.is_empty() && foreign.is_empty(), "{foreign:?}");
    // Nor is rsync used for it.
    assert!(by_download.len() < ITEMS / 4, "{} programs: {by_download:?}", by_download.len());
    println!("{ITEMS} items: {scripts} scripts on upload, {} programs on download", by_download.len());
}

/// Whether rsync runs need the program.
fn of_a_run(program: &str) -> bool {
    let name = Path::new(program).file_name().unwrap().to_string_lossy().into_owned();
    matches!(name.as_str(), "synkler" | "rsync" | "ssh" | "sh" | "env")
}
