//! Speed beside plain rsync, in one run: the same files, the same two hops, the same sshd. `make bench` prints a
//! table and fails where a target is missed.
//!
//! What is compared is not the same work: plain rsync moves, and is done. A hand-over also digests three times,
//! makes durable, keeps three journals and runs a script on each end. The targets say what that may cost.

#![allow(unreachable_pub, reason = "the bed is shared by several programs")]
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../tests/bed/mod.rs"]
mod bed;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bed::node::Node;
use bed::{Bed, sshd, tree};

const LIMIT: Duration = Duration::from_secs(300);
/// Each measurement is taken this often, in turns with plain rsync, and the median counts: other work on this machine
/// comes and goes.
const ROUNDS: usize = 3;
const FILES: usize = 1000;
const MINIMUM_RATE: f64 = 150.0;
const LARGE: usize = 1_000_000_000;
const LARGE_RATIO: f64 = 1.6;
const SINGLE_RATIO: f64 = 2.0;
const SINGLE_EXTRA: f64 = 1.0;

/// One upload, one central, one download, as a user sets them up.
struct Trio {
    upload: Node,
    download: Node,
    central: Node,
    sent: PathBuf,
    arrived: PathBuf,
}

impl Trio {
    fn start(bed: &Bed) -> Self {
        let (sent, arrived) = (bed.side("sent"), bed.side("arrived"));
        let script = |to: &Path| format!("cleanup_script = \"mv %F {}/\"\n", to.display());
        let mut trio = Self {
            upload: bed.upload("up", &format!("settle_seconds = 0\n{}", script(&sent))),
            central: bed.central("mid", "keep_minutes = 0.02\n"),
            download: bed.download("down", &script(&arrived)),
            sent,
            arrived,
        };
        trio.central.start();
        trio.download.start();
        trio.upload.start();
        let knows = |node: &Node, count: usize| {
            assert!(
                node.log.wait(0, count, LIMIT, |line| line.contains("node announced itself")),
                "{}",
                node.log.text()
            );
        };
        knows(&trio.central, 2);
        knows(&trio.upload, 2);
        trio
    }

    /// Renames everything in the workshop into the watched directory, and waits until all of it has been taken
    /// away from both ends.
    fn hand_over(&self) -> Duration {
        let from = &self.upload.file_dir;
        let names: Vec<_> = fs::read_dir(tree::workshop(from)).unwrap().map(|entry| entry.unwrap()).collect();
        let marks = (self.upload.log.mark(), self.download.log.mark(), self.central.log.mark());
        let start = Instant::now();
        for entry in &names {
            fs::rename(entry.path(), from.join(entry.file_name())).unwrap();
        }
        self.await_lines(&self.download, marks.1, names.len(), "cleanup script succeeded");
        self.await_lines(&self.upload, marks.0, names.len(), "cleanup script succeeded");
        let took = start.elapsed();
        // What comes after the end belongs to nobody's time, the next measurement's least of all.
        self.await_lines(&self.upload, marks.0, names.len(), "handed over");
        self.await_lines(&self.central, marks.2, names.len(), "copy on central deleted");
        for entry in &names {
            let (one, other) = (self.sent.join(entry.file_name()), self.arrived.join(entry.file_name()));
            assert_eq!(tree::md5(&one), tree::md5(&other), "{}", one.display());
        }
        took
    }

    fn await_lines(&self, node: &Node, mark: usize, count: usize, words: &str) {
        if !node.log.wait(mark, count, LIMIT, |line| line.contains(words)) {
            panic!("{} {}: not {count} times {words:?}:\n{}", node.mode, node.name, node.log.text());
        }
    }
}

/// The same files by two runs of rsync with the flags that the daemons use: to the spool, and from there.
struct Plain<'a> {
    bed: &'a Bed,
    source: PathBuf,
    shell: String,
}

impl<'a> Plain<'a> {
    fn new(bed: &'a Bed) -> Self {
        Self { bed, source: bed.side("plain-source"), shell: format!("--rsh={}", bed.sshd.ssh()) }
    }

    fn move_all(&self, round: usize) -> Duration {
        let [spool, destination] = ["spool", "destination"].map(|name| self.bed.side(&format!("plain-{name}-{round}")));
        let mut list = Vec::new();
        for entry in fs::read_dir(&self.source).unwrap() {
            list.extend_from_slice(b"./");
            list.extend_from_slice(entry.unwrap().file_name().as_encoded_bytes());
            list.push(0);
        }
        let far = format!("{}:{}/", sshd::HOST, spool.display());
        let start = Instant::now();
        self.run(&list, &format!("{}/", self.source.display()), &far);
        self.run(&list, &far, &format!("{}/", destination.display()));
        let took = start.elapsed();
        for dir in [&spool, &destination] {
            assert_eq!(fs::read_dir(dir).unwrap().count(), fs::read_dir(&self.source).unwrap().count());
        }
        took
    }

    fn run(&self, list: &[u8], from: &str, to: &str) {
        let mut rsync = Command::new("rsync")
            .arg(if rustix::process::geteuid().is_root() { "-rlptgo" } else { "-rlpt" })
            .args(["--from0", "--files-from=-", "--no-implied-dirs", "--inplace", "--timeout=60"])
            .args(["--outbuf=L", "--no-h", "--info=progress2"])
            .args([&self.shell, from, to])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        rsync.stdin.take().unwrap().write_all(list).unwrap();
        assert!(rsync.wait().unwrap().success());
    }
}

/// Both, in turns, on `count` files of `size` bytes; the medians, in seconds.
///
/// Nothing is deleted until the end: an ext4 without a journal passes over every inode that was deleted in the last
/// minute, one by one, before it makes a file, and whoever comes after a delete would pay for it.
fn compare(count: usize, size: usize) -> (f64, f64) {
    let bed = Bed::new();
    let (trio, plain) = (Trio::start(&bed), Plain::new(&bed));
    let workshop = tree::workshop(&trio.upload.file_dir);
    for number in 0..count {
        fs::write(plain.source.join(format!("file-{number:04}")), tree::noise(number as u64, size)).unwrap();
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for entry in fs::read_dir(&plain.source).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{round}-{}", entry.file_name().display());
            fs::copy(entry.path(), workshop.join(name)).unwrap();
        }
        rustix::fs::sync();
        theirs.push(plain.move_all(round).as_secs_f64());
        rustix::fs::sync();
        ours.push(trio.hand_over().as_secs_f64());
    }
    (median(ours), median(theirs))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> ExitCode {
    // `cargo test --benches` runs this program too, and has no hour to spare.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let named: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|named| named == name);
    println!("hand-over beside two runs of plain rsync over the same sshd, median of {ROUNDS} runs in turns");
    println!("{:<26} {:>9} {:>9} {:>6}   {:<34}", "", "synkler", "rsync x2", "ratio", "target");
    let mut all_met = true;
    let mut row = |what: &str, (ours, theirs): (f64, f64), target: &str, met: bool| {
        all_met &= met;
        let verdict = if met { "met" } else { "MISSED" };
        println!("{what:<26} {ours:>7.2} s {theirs:>7.2} s {:>6.2}   {target:<34} {verdict}", ours / theirs);
    };

    if wanted("single") {
        let times = compare(1, 1000);
        let allowed = SINGLE_RATIO * times.1 + SINGLE_EXTRA;
        row("1 file of 1 kB", times, &format!("2 x rsync + 1 s = {allowed:.2} s"), times.0 <= allowed);
    }
    if wanted("many") {
        let times = compare(FILES, 10_000);
        let rate = FILES as f64 / times.0;
        let target = format!("150 files/s; these are {rate:.0}");
        row("1,000 files of 10 kB", times, &target, rate >= MINIMUM_RATE);
    }
    if wanted("large") {
        let times = compare(1, LARGE);
        let allowed = LARGE_RATIO * times.1;
        row("1 file of 1 GB", times, &format!("1.6 x rsync = {allowed:.2} s"), times.0 <= allowed);
    }

    if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
