//! The live status: drawn in place on a terminal, else one line per change.

mod feed;
mod model;
mod screen;

use std::io::{self, IsTerminal};

use super::exit::Exit;
use super::output::Out;
use super::session::{Failure, Target};
use super::terminal::{is_dumb, now};
use super::units::printable;
use super::zone::Zone;
use crate::control::Client;
use crate::control::types::{Monitor, Shown, Status, Transfer};
pub(super) use feed::Feed;
use feed::News;
use model::Model;

/// Watches until the user quits or the output has no reader.
pub(super) fn watch(target: &Target, what: Shown, out: Out<'_>) -> Result<Exit, Failure> {
    let client = target.connect()?;
    if out.json || is_dumb() || !io::stdout().is_terminal() {
        lines(client, what, out)?;
    } else {
        screen::show(&Feed::start(client, what), out.look)?;
    }
    Ok(Exit::Done)
}

fn lines(client: Client, what: Shown, out: Out<'_>) -> Result<(), Failure> {
    let feed = Feed::until_unread(client, what);
    let mut model = Model::default();
    let mut lost = false;
    while let Some(news) = feed.wait() {
        let text = match news {
            News::Failed(error) => return Err(error.into()),
            News::Unread => break,
            News::Lost(why) => {
                if !lost {
                    super::terminal::complain(&format!("{why}; trying again"));
                }
                lost = true;
                continue;
            }
            News::Answer(answer) => {
                if lost {
                    super::terminal::complain("the daemon answers again");
                }
                lost = false;
                if out.json { json(&answer)? } else { changes(&mut model, *answer, out.look.zone) }
            }
        };
        if !out.write(&text)? {
            break;
        }
    }
    Ok(())
}

fn json(answer: &Monitor) -> Result<String, Failure> {
    Ok(serde_json::to_string(answer).map_err(Failure::Json)? + "\n")
}

/// A line for each transfer that is new, has changed or is gone, and one for the node if its line has changed.
fn changes(model: &mut Model, answer: Monitor, zone: &Zone) -> String {
    let before = model.status().map(headline);
    let changed = model.compare(answer);
    let Some(status) = model.status() else { return String::new() };
    let node = format!("{} {}", status.node.mode, status.node.name);
    let mut lines = Vec::new();
    let headline = headline(status);
    if before.as_ref() != Some(&headline) {
        lines.push(headline);
    }
    lines.extend(changed.fresh.iter().map(|transfer| line(transfer, status.now, &node)));
    lines.extend(changed.gone.iter().map(|item| format!("{item}: finished")));
    // The text as one line, whatever it contains.
    let stamp = zone.moment(if status.now > 0 { status.now } else { now() });
    lines.iter().map(|line| format!("{stamp}  {}\n", printable(line))).collect()
}

fn headline(status: &Status) -> String {
    let broker = if status.broker.connected { "broker connected" } else { "broker not connected" };
    let mut text = format!("{} {}: {broker}, {} on the way", status.node.mode, status.node.name, status.total);
    let members = || status.members.iter();
    if status.group_paused.is_some() {
        text.push_str(", group paused");
    }
    for member in members().filter(|member| member.paused.is_some()) {
        text.push_str(&format!(", {} {} paused", member.mode, member.name));
    }
    for member in members().filter(|member| !member.alive) {
        text.push_str(&format!(", {} {} silent", member.mode, member.name));
    }
    if !status.view.whole {
        text.push_str(", incomplete");
    }
    text
}

fn line(transfer: &Transfer, now: u64, node: &str) -> String {
    let outlook = super::transfers::outlook(transfer, now);
    let gap = if outlook.is_empty() { "" } else { "; " };
    let why = super::transfers::why(transfer, now, node, false);
    format!("{}: {}: {why}{gap}{outlook}", transfer.item, super::transfers::state(transfer))
}
