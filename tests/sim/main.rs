//! The simulator: one central, one to three uploads, one to three downloads, a virtual clock, a hostile broker and a
//! world full of accidents. The machines are the real ones; everything around them is fake, and keeps the contract of
//! inputs and effects. After every step the Promise is checked against what really stands in the directories of the
//! fake world.
//!
//! `make simulate RUNS=n` runs n schedules that never ran before; `SYNKLER_SIM_FIRST` and `SYNKLER_SIM_RUNS` name a
//! range for `cargo test --test sim -- schedules --nocapture`; `SYNKLER_SIM_SEED=n cargo test --test sim -- replay
//! --nocapture` replays one. `make check` takes its first seed from the commit, so that every commit runs others, and
//! always the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod apart;
mod broker;
mod checker;
mod conformance;
#[path = "../files/conformance.rs"]
mod conformance_files;
mod daemon;
mod directory;
mod drivers;
mod extras;
mod faults;
mod fidelity;
mod files;
mod group;
mod journal;
#[allow(dead_code)]
#[path = "../support/journal_suite.rs"]
mod journal_suite;
mod lots;
mod plan;
mod readiness;
mod rng;
mod room;
mod sabotage;
mod sim;
mod tally;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::checker::Promise;
use crate::sabotage::Sabotage;
use crate::sim::{Outcome, run};
use crate::tally::Tally;

/// How many schedules every run of the tests takes.
const RUNS: u64 = 20_000;
/// How many lines of a failing trace are shown at once; a replay shows all.
const TAIL: usize = 120;
/// Seeds that ever broke the Promise, each with a line on what it showed: they run first.
const KNOWN: &str = include_str!("seeds.txt");

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn replay_command(seed: u64) -> String {
    format!("SYNKLER_SIM_SEED={seed} cargo test --test sim -- replay --nocapture")
}

fn show(seed: u64, outcome: &Outcome, lines: usize) {
    // A replay shows all; at first what leads to the end is enough.
    let all = lines == usize::MAX;
    let chosen = outcome.trace.iter().filter(|line| all || !line.contains("hello [") && !line.ends_with("<- Timeout"));
    let chosen: Vec<&String> = chosen.collect();
    let skipped = chosen.len().saturating_sub(lines);
    if skipped > 0 {
        eprintln!("... {skipped} lines before these");
    }
    chosen.iter().skip(skipped).for_each(|line| eprintln!("{line}"));
    if let Some(broken) = &outcome.violation {
        eprintln!("seed {seed}: {:?} at {} on {}: {}", broken.promise, broken.at, broken.node, broken.text);
        eprintln!("replay: {}", replay_command(seed));
    }
}

/// What a seed came to grief by: a broken promise, or a machine that panicked.
type Kind = Option<Promise>;

/// What a search has come to.
#[derive(Default)]
struct Search {
    /// How many seeds failed, and the first of them, by kind.
    found: BTreeMap<Kind, (u64, u64)>,
    events: u64,
    tally: Tally,
}

impl Search {
    fn first(&self) -> Option<u64> {
        self.found.values().map(|(_, seed)| *seed).min()
    }

    fn add(&mut self, other: &Self) {
        for (kind, (count, seed)) in &other.found {
            let known = self.found.entry(*kind).or_insert((0, *seed));
            *known = (known.0 + count, known.1.min(*seed));
        }
        self.events += other.events;
        self.tally.add(&other.tally);
    }
}

/// Runs seeds on all cores: all of them, or until one breaks the Promise.
fn search(seeds: Range<u64>, sabotage: Option<Sabotage>, until_found: bool) -> Search {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let work = || {
        let mut mine = Search::default();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let outcome = catch_unwind(|| run(seed, sabotage, false)).ok();
            let failed = match &outcome {
                Some(outcome) => outcome.violation.as_ref().map(|broken| Some(broken.promise)),
                None => Some(None),
            };
            if let Some(kind) = failed {
                mine.found.entry(kind).or_insert((0, seed)).0 += 1;
                stop.fetch_or(until_found, Ordering::Relaxed);
            }
            if let Some(outcome) = outcome {
                mine.events += outcome.events;
                mine.tally.add(&outcome.tally);
            }
        }
        mine
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let parts: Vec<Search> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut all = Search::default();
    parts.iter().for_each(|part| all.add(part));
    all
}

/// The seeds of `seeds.txt`: a number, and what it showed.
fn known_seeds() -> impl Iterator<Item = (u64, &'static str)> {
    let lines = KNOWN.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let (seed, showed) = line.split_once(' ').unwrap_or_else(|| panic!("seeds.txt: nothing is said of {line}"));
        (seed.parse().unwrap_or_else(|_| panic!("seeds.txt: {seed} is no number")), showed)
    })
}

#[test]
fn seeds_that_ever_failed() {
    for (seed, showed) in known_seeds() {
        let outcome = run(seed, None, true);
        if outcome.violation.is_some() {
            show(seed, &outcome, TAIL);
            panic!("seed {seed} breaks the Promise again; it once showed: {showed}");
        }
    }
}

#[test]
fn schedules() {
    let runs = number("SYNKLER_SIM_RUNS").unwrap_or(RUNS);
    let first = number("SYNKLER_SIM_FIRST").unwrap_or(0);
    let started = Instant::now();
    let search = search(first..first + runs, None, false);
    let seconds = started.elapsed().as_secs_f64();
    let rate = runs as f64 / seconds;
    println!("{runs} schedules from seed {first} on: {} events in {seconds:.1} s, {rate:.0}/s", search.events);
    for (deed, times) in search.tally.all() {
        println!("{times:>10} {deed:?}");
    }
    for (kind, (count, seed)) in &search.found {
        let kind = kind.map_or("a panic".to_owned(), |promise| format!("{promise:?}"));
        eprintln!("{kind}: {count} of {runs}, first seed {seed}: {}", replay_command(*seed));
    }
    if let Some(seed) = search.first() {
        let outcome = run(seed, None, true);
        show(seed, &outcome, TAIL);
        panic!("seed {seed} breaks the Promise");
    }
    let never = search.tally.all().find(|(_, times)| *times == 0);
    if let Some((deed, _)) = never.filter(|_| runs >= RUNS) {
        panic!("{deed:?} has never happened: these schedules test too little");
    }
}

#[test]
fn replay() {
    let seed = number("SYNKLER_SIM_SEED");
    let outcome = run(seed.unwrap_or(1), None, true);
    if seed.is_some() {
        show(seed.unwrap_or(1), &outcome, usize::MAX);
    }
    let again = run(seed.unwrap_or(1), None, true);
    assert!(outcome.trace == again.trace, "the same seed has to give the same run");
    assert!(outcome.violation.is_none(), "seed {seed:?} breaks the Promise");
}

/// A machine made worse is found out within this many schedules, by one of these promises.
fn found_out(sabotage: Sabotage, promises: &[Promise]) {
    const MOST: u64 = 3000;
    let Some(seed) = search(0..MOST, Some(sabotage), true).first() else {
        panic!("{sabotage:?} is not found out within {MOST} schedules")
    };
    let outcome = run(seed, Some(sabotage), true);
    let Some(broken) = &outcome.violation else { panic!("seed {seed} does not replay") };
    println!("{sabotage:?}: seed {seed}, {:?} on {}: {}", broken.promise, broken.node, broken.text);
    if !promises.contains(&broken.promise) {
        show(seed, &outcome, TAIL);
        panic!("{sabotage:?} is found out by {:?}, not by {promises:?}", broken.promise);
    }
}

#[test]
fn a_source_cleaned_before_release_is_found_out() {
    found_out(Sabotage::CleanupBeforeRelease, &[Promise::Source]);
}

#[test]
fn a_cleanup_without_a_last_look_is_found_out() {
    found_out(Sabotage::CleanupBlind, &[Promise::Source]);
}

#[test]
fn an_interrupted_cleanup_that_is_not_finished_is_found_out() {
    found_out(Sabotage::CleanupUnfinished, &[Promise::Liveness]);
}

#[test]
fn believing_the_status_of_several_for_each_is_found_out() {
    found_out(Sabotage::LotBelieved, &[Promise::Cleaned]);
}

#[test]
fn forgetting_to_persist_is_found_out() {
    found_out(Sabotage::UploadForgets, &[Promise::Truth, Promise::Twice]);
    found_out(Sabotage::CentralForgets, &[Promise::Truth, Promise::Copy, Promise::Twice]);
    found_out(Sabotage::DownloadForgets, &[Promise::Twice, Promise::Liveness, Promise::Wasted]);
}

#[test]
fn blind_proofs_are_found_out() {
    found_out(Sabotage::TakeBlind, &[Promise::Truth, Promise::Liveness]);
    found_out(Sabotage::VerifyBlind, &[Promise::FinalName]);
}

#[test]
fn overwriting_is_found_out() {
    found_out(Sabotage::PlaceOverwrites, &[Promise::Overwritten]);
}

#[test]
fn false_receipts_are_found_out() {
    found_out(Sabotage::DoneEarly, &[Promise::Truth]);
    found_out(Sabotage::OccupiedIsPlaced, &[Promise::Truth]);
}

#[test]
fn dropping_too_early_is_found_out() {
    found_out(Sabotage::DropEarly, &[Promise::Copy]);
    found_out(Sabotage::KeepIgnored, &[Promise::Copy]);
}

#[test]
fn delivering_twice_is_found_out() {
    found_out(Sabotage::LookupForgets, &[Promise::Twice, Promise::Truth]);
}

#[test]
fn a_word_that_is_never_said_is_found_out() {
    found_out(Sabotage::ReleaseMissing, &[Promise::Liveness]);
}

#[test]
fn talking_for_ever_is_found_out() {
    found_out(Sabotage::Babble, &[Promise::Restless]);
    found_out(Sabotage::ThroughIsHidden, &[Promise::Silent]);
    found_out(Sabotage::TallyIsLost, &[Promise::Silent]);
}

#[test]
fn orders_that_are_not_kept_are_found_out() {
    found_out(Sabotage::PauseIgnored, &[Promise::Paused]);
    found_out(Sabotage::StopIgnored, &[Promise::Paused]);
}

#[test]
fn a_release_for_who_is_forgotten_is_found_out() {
    found_out(Sabotage::ForgetReleases, &[Promise::Truth]);
}

#[test]
fn cleaning_up_what_was_given_up_is_found_out() {
    found_out(Sabotage::CleanupWithdrawn, &[Promise::Source]);
}

#[test]
fn sending_what_a_cleanup_left_is_found_out() {
    found_out(Sabotage::LeftoverForgotten, &[Promise::Leftover]);
}

#[test]
fn offering_old_content_to_others_is_found_out() {
    found_out(Sabotage::ForgetReassigns, &[Promise::Overwritten, Promise::Truth]);
}

#[test]
fn working_in_another_directory_is_found_out() {
    found_out(Sabotage::DirectoryIgnored, &[Promise::Directory]);
    found_out(Sabotage::EnteredBlindly, &[Promise::Directory]);
    found_out(Sabotage::BareIsEmpty, &[Promise::Directory]);
    found_out(Sabotage::DirectoryLossUnknown, &[Promise::Directory]);
}

#[test]
fn asking_for_more_than_there_are_inodes_is_found_out() {
    found_out(Sabotage::InodesUnmeasured, &[Promise::Room]);
    found_out(Sabotage::InodesUnreserved, &[Promise::Room]);
}

#[test]
fn keeping_the_room_of_what_was_put_back_is_found_out() {
    found_out(Sabotage::PutBackStays, &[Promise::Room]);
}

#[test]
fn leftovers_of_late_runs_are_found_out() {
    found_out(Sabotage::SweepMissing, &[Promise::Liveness]);
}

#[test]
fn a_copy_that_only_the_journal_knows_is_found_out() {
    found_out(Sabotage::LossUnseen, &[Promise::Truth]);
}

#[test]
fn work_for_a_node_that_speaks_another_protocol_is_found_out() {
    found_out(Sabotage::ApartIgnored, &[Promise::Protocol]);
}

#[test]
fn a_marker_of_an_earlier_content_that_counts_is_found_out() {
    found_out(Sabotage::StaleMarkerCounts, &[Promise::Early]);
}

#[test]
fn fetching_the_same_wrong_copy_for_ever_is_found_out() {
    found_out(Sabotage::WrongForgotten, &[Promise::Wasted]);
    found_out(Sabotage::RefusalMissed, &[Promise::Wasted]);
}

#[test]
fn modes_that_are_believed_or_kept_quiet_are_found_out() {
    found_out(Sabotage::ModesBelieved, &[Promise::Modes]);
    found_out(Sabotage::UnkeptUnsaid, &[Promise::Modes]);
}

#[test]
fn extras_that_get_lost_or_link_different_items_are_found_out() {
    found_out(Sabotage::ExtrasLeftBehind, &[Promise::Extras]);
    found_out(Sabotage::LossOfExtrasUnsaid, &[Promise::Extras]);
    found_out(Sabotage::ItemsLinked, &[Promise::Extras]);
}
