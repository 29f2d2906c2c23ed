//! Real writers write into the `file_dir` of a real group, each as README's table recommends (`rows.rs`), with random
//! pauses, many of them longer than `settle_seconds`. Nothing that arrives may be half-written.
//!
//! `make writers` writes a hundred items with each writer; without `WRITERS_ITEMS` there are a few. `WRITERS_SEED=n`
//! repeats the random numbers of a run.

#[path = "../bed/mod.rs"]
mod bed;

mod copies;
mod hand;
mod judge;
mod net;
mod programs;
mod rows;
mod servers;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bed::Bed;
use bed::node::Node;
use hand::Hand;
use judge::Intent;
use rows::{Line, ROWS};
use servers::{Server, Web};
use task::{Place, Task};

/// How long everything may take to arrive, after the last writer has ended.
const PATIENCE: Duration = Duration::from_secs(300);
/// How many items a writer works on at once.
const WORKERS: u64 = 20;

struct Writer {
    /// Its row in the table.
    key: &'static str,
    write: fn(&mut Task<'_>) -> Intent,
    /// Whether it comes back to the item: upload must leave it where it is.
    returns: bool,
}

const fn once(key: &'static str, write: fn(&mut Task<'_>) -> Intent) -> Writer {
    Writer { key, write, returns: false }
}

const fn again(key: &'static str, write: fn(&mut Task<'_>) -> Intent) -> Writer {
    Writer { key, write, returns: true }
}

const WRITERS: &[Writer] = &[
    once("ftp", net::ftp),
    once("smb", net::smb),
    once("sftp", net::sftp),
    once("wget", net::wget),
    once("cp", copies::cp),
    once("rsync-tree", copies::rsync_tree),
    once("rsync-file", copies::rsync_file),
    once("tar", copies::tar),
    once("unzip", copies::unzip),
    once("torrent", programs::torrent),
    once("open", programs::open),
    once("mmap", programs::mmap),
    again("truncate", programs::truncate),
    again("editor", programs::editor),
    once("rotated", programs::rotated),
    again("logger", programs::logger),
    once("marker", programs::marker),
    once("submit", programs::submit),
];

impl Writer {
    fn line(&self) -> Line {
        ROWS.iter().find(|row| row.key == self.key).unwrap_or_else(|| panic!("no row for {}", self.key)).line
    }

    /// Which upload it writes to: writers with one config share one.
    fn upload(&self) -> (String, bool) {
        (self.line().config(), self.returns)
    }

    /// Writes its items, several at once.
    fn write_all(&self, items: u64, seed: u64, place: &Place<'_>, intents: &Mutex<Vec<Intent>>) {
        let next = AtomicU64::new(0);
        // In the short form one long pause has to be enough.
        let long = if items > WORKERS { 2 } else { 1 };
        std::thread::scope(|scope| {
            for _ in 0..WORKERS.min(items) {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= items {
                            break;
                        }
                        let hand = Hand::new(seed, self.key, number, long);
                        let intent = (self.write)(&mut Task { place, name: format!("{}-{number}", self.key), hand });
                        intents.lock().unwrap().push(intent);
                    }
                });
            }
        });
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{variable}: {error}")))
}

fn seed() -> u64 {
    let new = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let seed = number("WRITERS_SEED").unwrap_or_else(new);
    println!("WRITERS_SEED={seed}");
    seed
}

#[test]
fn every_row_has_a_writer_and_every_writer_a_row() {
    let rows: Vec<_> = ROWS.iter().map(|row| row.key).collect();
    let writers: Vec<_> = WRITERS.iter().map(|writer| writer.key).collect();
    assert_eq!(rows, writers);
}

#[test]
fn nothing_that_arrives_is_half_written() {
    let (seed, items) = (seed(), number("WRITERS_ITEMS").unwrap_or(3));
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("NOT RUN: the row of smbd, which needs root");
    }
    let only = std::env::var("WRITERS_ONLY").ok();
    let is_wanted = |writer: &&Writer| {
        (is_root || writer.key != "smb")
            && only.as_ref().is_none_or(|only| only.split(',').any(|key| key == writer.key))
    };
    let writers: Vec<_> = WRITERS.iter().filter(is_wanted).collect();

    let bed = Bed::new();
    let (work, sent, arrived) = (bed.side("work"), bed.side("sent"), bed.side("arrived"));
    let mut central = bed.central("mid", "keep_minutes = 0\n");
    let mut download = bed.download("down", &format!("cleanup_move = {arrived:?}\n"));
    central.start();
    download.start();
    let configs: BTreeSet<_> = writers.iter().map(|writer| writer.upload()).collect();
    let mut uploads = BTreeMap::new();
    for (number, (lines, returns)) in configs.into_iter().enumerate() {
        let cleanup = if returns { String::new() } else { format!("cleanup_move = {sent:?}\n") };
        let mut upload = bed.upload(&format!("up{number}"), &format!("{lines}{cleanup}"));
        upload.start();
        uploads.insert((lines, returns), upload);
    }

    let web = Web::start(&work, seed);
    let intents = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for writer in &writers {
            let upload = &uploads[&writer.upload()];
            let (file_dir, socket) = (upload.file_dir.as_path(), upload.socket.as_path());
            let (work, web, intents, dir) = (&work, &web, &intents, bed.dir.path());
            scope.spawn(move || {
                let ftp = (writer.key == "ftp").then(|| Server::ftp(dir, file_dir));
                let smb = (writer.key == "smb").then(|| Server::smb(dir, file_dir));
                let place = Place { file_dir, work, web, socket, ftp: ftp.as_ref(), smb: smb.as_ref() };
                let start = Instant::now();
                writer.write_all(items, seed, &place, intents);
                println!("{}: {:.1} s", writer.key, start.elapsed().as_secs_f64());
            });
        }
    });
    let intents = intents.into_inner().unwrap();
    println!(
        "{} items; {} long pauses; {} writers killed",
        intents.len(),
        hand::LONG_PAUSES.load(Ordering::Relaxed),
        hand::KILLS.load(Ordering::Relaxed)
    );
    assert_eq!(intents.len() as u64, items * writers.len() as u64);
    all_arrive(&download, &arrived, &intents);
    // What a writer has left without a marker stays, and is shown.
    let is_unmarked = |transfer: &serde_json::Value| transfer["reason"]["code"] == "unmarked";
    let is_idle = |status: &serde_json::Value| status["transfers"].as_array().unwrap().iter().all(is_unmarked);
    uploads.values().for_each(|upload| drop(upload.until(PATIENCE, "idle", is_idle)));
    judge_deliveries(&download, &arrived, &intents);
}

/// Waits until the last content of each item is the latest one at the download.
fn all_arrive(download: &Node, arrived: &Path, intents: &[Intent]) {
    for intent in intents {
        loop {
            let mark = download.log.mark();
            if judge::is_complete(arrived, intent) {
                break;
            }
            assert!(
                download.log.wait(mark, 1, PATIENCE, |line| line.contains(": moved to ")),
                "{} has not arrived",
                intent.name
            );
        }
    }
}

fn judge_deliveries(download: &Node, arrived: &Path, intents: &[Intent]) {
    let delivered = judge::deliveries(arrived);
    let count: usize = delivered.values().map(Vec::len).sum();
    println!("{count} deliveries");
    let wrong = judge::problems(intents, &delivered);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let told = download.log.count(|line| line.contains(": delivered item="));
    assert_eq!(told, count, "every delivery was looked at");
}

/// Why README recommends another name for everything that takes several steps: an interrupted `unzip` leaves what nobody
/// can tell from a complete directory. It also shows that the check above finds a half.
#[test]
fn what_an_interrupted_unzip_leaves_under_the_final_name_is_sent_and_found() {
    let bed = Bed::new();
    let (work, arrived) = (bed.side("work"), bed.side("arrived"));
    let mut central = bed.central("mid", "");
    let mut download = bed.download("down", &format!("cleanup_move = {arrived:?}\n"));
    let mut upload = bed.upload("up", "");
    [&mut central, &mut download, &mut upload].into_iter().for_each(Node::start);
    let web = Web::start(&work, 0);
    let (file_dir, socket) = (upload.file_dir.as_path(), upload.socket.as_path());
    let place = Place { file_dir, work: &work, web: &web, socket, ftp: None, smb: None };
    let mut task = Task { place: &place, name: "half".to_owned(), hand: Hand::new(0, "half", 0, 0) };
    let archive = copies::zip(&mut task);
    // What a killed unzip leaves: the first entries only.
    let (target, first) = (task.target(""), "file-0");
    let mut unzip = Command::new("unzip");
    unzip.arg("-q").arg(&archive).args([&format!("*{first}"), "-d"]).arg(&target);
    assert!(unzip.stdin(Stdio::null()).status().unwrap().success());
    upload.expect(0, PATIENCE, &["half", "handed over"]);
    download.expect(0, PATIENCE, &["half", "moved to"]);
    let intents = [task.intent(judge::Content::at(&work.join("half")))];
    let wrong = judge::problems(&intents, &judge::deliveries(&arrived));
    assert!(wrong[0].contains("half-written"), "{wrong:?}");
}
