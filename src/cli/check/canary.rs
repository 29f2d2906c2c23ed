//! A small test file that goes like any other item from this upload to every receiver.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use super::Report;
use crate::cli::session::Failure;
use crate::cli::terminal::now;
use crate::cli::transfers;
use crate::cli::units::span;
use crate::cli::watch::Feed;
use crate::cli::zone::Zone;
use crate::control::types::{Finding, Shown, Transfer};
use crate::control::{Client, ClientError, Refusal};

/// The maximum number of entries among which a directory for the file is searched.
const INBOXES: usize = 1000;
/// The time limit of its transfer.
const DEADLINE: Duration = Duration::from_secs(180);
/// How often its status is read if no change is reported.
const LOOK: Duration = Duration::from_millis(500);

/// Creates a canary in the directory that this upload watches. Follows it until every receipt is in and its source is
/// free.
pub(super) fn fly(mut client: Client, report: &mut Report<'_>) -> Result<(), Failure> {
    let node = client.status(Some(0), true)?.node;
    if node.mode != "upload" {
        let cure = "run synklerctl check --canary on an upload";
        return report.add(finding(
            "skipped",
            &format!("this node is a {}: only an upload sends items", node.mode),
            Some(cure),
        ));
    }
    let name = format!("synkler-canary-{}-{}-{}", node.name, now(), process::id());
    let file_dir = node.directory().unwrap_or_default();
    let directory = match home(&mut client, &file_dir, &name) {
        Ok(directory) => directory,
        Err(why) => {
            let cure = "create a directory for items first, or change item_depth, ignore or only";
            return report.add(finding("skipped", &why, Some(cure)));
        }
    };
    let name = match directory.strip_prefix(&file_dir) {
        Ok(inbox) => inbox.join(&name).display().to_string(),
        Err(_) => name,
    };
    let path = match release(&file_dir, &name) {
        Ok(path) => path,
        Err(err) => {
            let text = format!("cannot write a file to {directory:?}: {err}");
            return report.add(finding("failed", &text, Some("run it as root, or as the user of the daemon")));
        }
    };
    // An upload with ready = "submit" sends nothing else; an older one knows no such order.
    if client.submit(&[]).is_ok_and(|orders| orders.deeds.iter().all(|deed| deed.done)) {
        client.submit(std::slice::from_ref(&path))?;
    }
    report.step(&format!("{path:?} is sent through the group"))?;
    let started = Instant::now();
    let outcome = follow(&mut client, &name, started, report)?;
    let took = span(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX), 2);
    match outcome {
        Outcome::Arrived(receivers) => {
            // Without a cleanup script the file would stay here for ever.
            let _ = fs::remove_file(&path);
            let text = format!("{name} has arrived at {} in {took}", receivers.join(", "));
            report.add(finding("ok", &text, None))
        }
        Outcome::Lost(why) => {
            let cure = format!("see synklerctl status {name}, and fix the reason; the file stays in {directory:?}");
            report.add(finding("failed", &format!("after {took}: {why}"), Some(&cure)))
        }
    }
}

pub(super) fn finding(result: &str, text: &str, cure: Option<&str>) -> Finding {
    Finding {
        check: "canary".to_owned(),
        result: result.to_owned(),
        text: text.to_owned(),
        cure: cure.map(ToOwned::to_owned),
    }
}

/// The directory in which a file of that name is an item: with `item_depth`, the first one that exists.
fn home(client: &mut Client, file_dir: &Path, name: &str) -> Result<PathBuf, String> {
    let mut directory = file_dir.to_owned();
    loop {
        // An older daemon explains nothing, and has no item_depth.
        let Ok(found) = client.explain(&directory.join(name)) else { return Ok(directory) };
        match found.verdict.as_str() {
            "too_high" => {}
            "item" => return Ok(directory),
            _ => return Err(format!("a canary cannot fly here: {}", found.text)),
        }
        let entries = fs::read_dir(&directory).map_err(|err| format!("cannot read {directory:?}: {err}"))?;
        let mut below: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        below.sort();
        let is_permanent = |path: &PathBuf| {
            path.symlink_metadata().is_ok_and(|found| found.is_dir())
                && client.explain(path).is_ok_and(|found| found.verdict == "permanent")
        };
        let Some(next) = below.into_iter().take(INBOXES).find(is_permanent) else {
            return Err(format!("{directory:?} contains no directory for items (item_depth)"));
        };
        directory = next;
    }
}

/// One rename makes the whole file appear: a name that begins with a dot is not an item.
fn release(directory: &Path, name: &str) -> io::Result<PathBuf> {
    if !directory.is_absolute() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the daemon does not say where it is"));
    }
    let path = directory.join(name);
    let hidden = match (path.parent(), path.file_name()) {
        (Some(above), Some(last)) => above.join(format!(".{}", last.display())),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let written = File::create_new(&hidden).and_then(|mut file| {
        // Other hosts may be in other time zones, and people read the text there.
        writeln!(file, "synklerctl check --canary, {}", Zone::utc().moment(now()))?;
        fs::rename(&hidden, &path)
    });
    if let Err(err) = written {
        // The file may not exist.
        let _ = fs::remove_file(&hidden);
        return Err(err);
    }
    Ok(path)
}

enum Outcome {
    /// Delivered to these receivers.
    Arrived(Vec<String>),
    /// Not delivered, for this reason.
    Lost(String),
}

fn follow(client: &mut Client, name: &str, started: Instant, report: &Report<'_>) -> Result<Outcome, Failure> {
    let feed = Feed::start(Client::connect(client.path())?, Shown { limit: Some(0), ..Shown::default() });
    let mut told = String::new();
    let mut receivers = Vec::new();
    loop {
        let mut why = format!("the upload has not noticed {name}; ignore or only may exclude this name");
        match client.transfer(name, false) {
            Ok(answer) => {
                let transfer = answer.journey.transfer;
                if transfer.receivers.len() >= receivers.len() {
                    receivers = transfer.receivers.iter().map(|receiver| receiver.name.clone()).collect();
                }
                // With ready = "marker", only such an order sends a file that has none.
                if transfer.reason.code == "unmarked" {
                    client.order("Retry", std::slice::from_ref(&transfer.item_encoded))?;
                }
                why = standing(&transfer);
                if why != told {
                    report.step(&why)?;
                    told.clone_from(&why);
                }
                match transfer.stage.as_str() {
                    "closed" => return Ok(Outcome::Arrived(receivers)),
                    "withdrawn" => return Ok(Outcome::Lost("the transfer was cancelled".to_owned())),
                    // On central only the retention and the release of the source are left.
                    "released" => return Ok(Outcome::Arrived(receivers)),
                    _ => {}
                }
            }
            Err(ClientError::Refused(Refusal::NotFound(_) | Refusal::Busy)) => {}
            Err(err) => return Err(err.into()),
        }
        if started.elapsed() >= DEADLINE {
            return Ok(Outcome::Lost(why));
        }
        let _ = feed.wait_for(LOOK);
    }
}

/// `downloading 18 %: download delta: rsync is running; 0 of 1 receipts`
fn standing(transfer: &Transfer) -> String {
    let missing = transfer.receivers.iter().filter(|receiver| receiver.received.is_none()).count();
    let receipts = match (transfer.receivers.len(), missing) {
        (0, _) => String::new(),
        (all, missing) => format!("; {} of {all} receipts", all - missing),
    };
    format!("{}: {}{receipts}", transfers::state(transfer), transfer.reason.text)
}
