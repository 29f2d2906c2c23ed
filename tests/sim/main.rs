//! The simulator: one central, one to three uploads, one to three downloads, a virtual clock, a hostile broker
//! and a world full of accidents. The machines are the real ones; everything around them is fake, and keeps
//! the contract of the vocabulary. After every step the Promise is checked against what really stands in the
//! directories of the fake world.
//!
//! `SYNKLER_SIM_RUNS=n` runs n schedules, `SYNKLER_SIM_SEED=n` replays one:
//! `SYNKLER_SIM_SEED=n cargo test --test sim -- replay --nocapture`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod broker;
mod checker;
mod daemon;
mod drivers;
mod faults;
mod files;
mod journal;
mod plan;
mod rng;
mod sabotage;
mod sim;
mod trace;
mod world;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::checker::Promise;
use crate::sabotage::Sabotage;
use crate::sim::{Outcome, run};

/// How many schedules every run of the tests takes.
const RUNS: u64 = 20_000;
/// How many lines of a failing trace are shown at once; a replay shows all.
const TAIL: usize = 120;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
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
        eprintln!("replay: SYNKLER_SIM_SEED={seed} cargo test --test sim -- replay --nocapture");
    }
}

/// Runs seeds on all cores until one breaks the Promise; returns it, and how much was done.
fn search(seeds: std::ops::Range<u64>, sabotage: Option<Sabotage>) -> (Option<u64>, u64, u64) {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let (found, events, placed) = (AtomicU64::new(u64::MAX), AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let outcome = run(seed, sabotage, false);
            events.fetch_add(outcome.events, Ordering::Relaxed);
            placed.fetch_add(outcome.placed, Ordering::Relaxed);
            if outcome.violation.is_some() {
                found.fetch_min(seed, Ordering::Relaxed);
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let found = found.into_inner();
    ((found != u64::MAX).then_some(found), events.into_inner(), placed.into_inner())
}

#[test]
fn schedules() {
    let runs = number("SYNKLER_SIM_RUNS").unwrap_or(RUNS);
    let first = number("SYNKLER_SIM_FIRST").unwrap_or(0);
    let started = Instant::now();
    let (found, events, placed) = search(first..first + runs, None);
    if let Some(seed) = found {
        let outcome = run(seed, None, true);
        show(seed, &outcome, TAIL);
        panic!("seed {seed} breaks the Promise");
    }
    println!("{runs} schedules, {events} events, {placed} deliveries in {:.1} s", started.elapsed().as_secs_f64());
    assert!(placed > runs, "hardly anything was delivered");
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
    const MOST: u64 = 300;
    let (found, ..) = search(0..MOST, Some(sabotage));
    let Some(seed) = found else { panic!("{sabotage:?} is not found out within {MOST} schedules") };
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
fn forgetting_to_persist_is_found_out() {
    found_out(Sabotage::UploadForgets, &[Promise::Word, Promise::Twice]);
    found_out(Sabotage::CentralForgets, &[Promise::Word, Promise::Copy, Promise::Twice]);
    found_out(Sabotage::DownloadForgets, &[Promise::Twice]);
}

#[test]
fn blind_proofs_are_found_out() {
    found_out(Sabotage::TakeBlind, &[Promise::Word]);
    found_out(Sabotage::VerifyBlind, &[Promise::FinalName]);
}

#[test]
fn overwriting_is_found_out() {
    found_out(Sabotage::PlaceOverwrites, &[Promise::Overwritten]);
}

#[test]
fn false_receipts_are_found_out() {
    found_out(Sabotage::DoneEarly, &[Promise::Word]);
    found_out(Sabotage::OccupiedIsPlaced, &[Promise::Word]);
}

#[test]
fn dropping_too_early_is_found_out() {
    found_out(Sabotage::DropEarly, &[Promise::Copy]);
    found_out(Sabotage::KeepIgnored, &[Promise::Copy]);
}

#[test]
fn delivering_twice_is_found_out() {
    found_out(Sabotage::RecallForgets, &[Promise::Twice]);
}

#[test]
fn a_word_that_is_never_said_is_found_out() {
    found_out(Sabotage::ReleaseMissing, &[Promise::Liveness]);
}

#[test]
fn talking_for_ever_is_found_out() {
    found_out(Sabotage::Babble, &[Promise::Restless]);
}
