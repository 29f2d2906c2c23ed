//! Carries out the verbs.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use serde_json::json;

use super::arguments::{Arguments, Mode, NodesVerb, Verb};
use super::exit::Exit;
use super::journey::journey_text;
use super::line::{Look, Text};
use super::output::Out;
use super::records::{history_text, nodes_text};
use super::reports::{orders_exit, orders_text, reload_text, version_text};
use super::session::{Failure, Target, VERSION};
use super::status::{incomplete, status_text};
use super::terminal::{complain, now, print};
use super::transfers::list_text;
use super::units::ago;
use super::zone::Zone;
use super::{check, explain, submit, watch};
use crate::control::types::{Filter, GetHistory, List, Member, Orders, PastFilter, Shown, View};
use crate::control::{Client, ClientError, LIST_LIMIT};

/// The whole program: arguments in, exit code out.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    // Clap reports no conflict between an option before the verb and one after it.
    if arguments.socket.is_some() && arguments.id.is_some() {
        Arguments::command().error(ErrorKind::ArgumentConflict, "choose the daemon with --socket or --id").exit();
    }
    let target = Target { socket: arguments.socket, user: arguments.user, id: arguments.id };
    let zone = if arguments.utc { Zone::utc() } else { Zone::local() };
    let out = Out { json: arguments.json, look: Look::of_stdout(&zone) };
    let exit = match carry_out(arguments.verb, &target, out) {
        Ok(exit) => exit,
        Err(failure) => {
            failure.tell();
            failure.exit()
        }
    };
    exit.into()
}

fn carry_out(verb: Verb, target: &Target, out: Out<'_>) -> Result<Exit, Failure> {
    let client = || target.connect();
    match verb {
        Verb::Status { items, limit, here, all } if items.is_empty() => {
            let status = client()?.status_of(Shown { limit, here, all })?;
            out.document(&status, |look| status_text(&status, look))?;
            Ok(whole(&status.view, here))
        }
        Verb::Status { items, here, .. } => journeys(&mut client()?, &items, here, out),
        Verb::List { state, from, failed, all, limit, here } => {
            let filter = Filter {
                state,
                upload: from,
                failed: failed.then_some(true),
                all: all.then_some(true),
                here: here.then_some(true),
                ..Filter::default()
            };
            let list = list(&mut client()?, filter, limit)?;
            out.records(&list.transfers, |look| list_text(&list, now(), look))?;
            if let Some(why) = incomplete(&list.view).filter(|_| !here) {
                complain(&why);
            }
            Ok(whole(&list.view, here))
        }
        Verb::Watch { limit, here, all } => watch::watch(target, Shown { limit, here, all }, out),
        Verb::Pause { items, now, group } => orders(&client()?.pause(some(&items), group, now)?, out),
        Verb::Resume { items, group } => orders(&client()?.resume(some(&items), group)?, out),
        Verb::Items(verb) => {
            let (method, items) = verb.order();
            orders(&client()?.order(method, items)?, out)
        }
        Verb::History { since, item, limit } => {
            let since = since.map(|since| since.resolve(now(), out.look.zone));
            let history = history(&mut client()?, since, item, limit)?;
            out.records(&history.entries, |look| history_text(&history, look))?;
            Ok(Exit::Done)
        }
        Verb::Nodes { here, verb: None } => {
            let status = client()?.status(Some(0), here)?;
            let value = json!({ "now": status.now, "view": status.view, "members": status.members });
            out.document(&value, |look| nodes_text(&status, look))?;
            Ok(whole(&status.view, here))
        }
        Verb::Nodes { verb: Some(NodesVerb::Forget { name, mode, yes }), .. } => {
            let mut client = client()?;
            let mode = node_to_forget(&mut client, &name, mode, yes)?;
            orders(&client.forget_node(&mode, &name)?, out)
        }
        Verb::Receipt { item } => {
            let receipt = client()?.receipt(&item)?;
            if out.json {
                out.document(&receipt, |_| Text::default())?;
            } else {
                // The receipt is printed unchanged: its lines are escaped for md5sum already.
                let garbled = || Failure::Refused("the receipt from the daemon is invalid".to_owned());
                print(&receipt.bytes().ok_or_else(garbled)?).map_err(Failure::Output)?;
                // md5sum ignores such a line.
                if let Some(remark) = &receipt.remark {
                    print(format!("# {remark}\n").as_bytes()).map_err(Failure::Output)?;
                }
            }
            Ok(Exit::Done)
        }
        Verb::Check { canary } => check::check(target, canary, out),
        Verb::Explain { path } => explain::explain(&mut client()?, &path, out),
        Verb::Submit { paths, moves } => submit::submit(&mut client()?, &paths, moves, out),
        Verb::Adopt => orders(&client()?.adopt()?, out),
        Verb::LogLevel { level } => {
            let previous = client()?.set_log_level(level.as_str())?;
            let text = Text::of(&format!("log level {}, was {previous}", level.as_str()));
            out.document(&json!({ "previous": previous }), |_| text)?;
            Ok(Exit::Done)
        }
        Verb::Reload => {
            let reload = client()?.reload()?;
            out.document(&reload, |look| reload_text(&reload, look))?;
            Ok(Exit::Done)
        }
        Verb::Version => {
            let daemon = match target.connect() {
                Ok(mut client) => Ok(client.info()?.version),
                Err(failure) => Err(failure),
            };
            let version = daemon.as_ref().ok();
            let value = json!({ "program": VERSION, "daemon": version });
            out.document(&value, |_| version_text(VERSION, version.map(String::as_str)))?;
            daemon.map(|_| Exit::Done)
        }
    }
}

/// Done if the view is complete, or if only this node was asked.
fn whole(view: &View, here: bool) -> Exit {
    if view.whole || here { Exit::Done } else { Exit::Incomplete }
}

fn some(items: &[String]) -> Option<&[String]> {
    Some(items).filter(|items| !items.is_empty())
}

fn orders(orders: &Orders, out: Out<'_>) -> Result<Exit, Failure> {
    out.document(orders, |look| orders_text(orders, look))?;
    Ok(orders_exit(orders))
}

/// Each item with its steps; an item that fails does not prevent the others.
fn journeys(client: &mut Client, items: &[String], here: bool, out: Out<'_>) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    let mut answers = Vec::new();
    for item in items {
        match client.transfer(item, here) {
            Ok(answer) => {
                exit = exit.max(whole(&answer.view, here));
                answers.push(answer);
            }
            Err(ClientError::Refused(refusal)) => {
                let failure = Failure::Client(refusal.into());
                failure.tell();
                exit = failure.exit();
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    out.document(&json!({ "journeys": answers }), |look| {
        let mut text = Text::default();
        for (index, answer) in answers.iter().enumerate() {
            if index > 0 {
                text.push(super::line::Line::default());
            }
            text.lines.extend(journey_text(answer, now(), look).lines);
        }
        text
    })?;
    Ok(exit)
}

/// The requested number, in as many pages as needed.
fn list(client: &mut Client, mut filter: Filter, limit: u64) -> Result<List, Failure> {
    let mut whole: Option<List> = None;
    loop {
        let got = whole.as_ref().map_or(0, |list| list.transfers.len() as u64);
        filter.limit = Some((limit - got).min(LIST_LIMIT));
        let page = client.list(&filter)?;
        let more = page.more;
        let last = page.transfers.iter().rev().find_map(|transfer| transfer.id.clone());
        let list = match whole.take() {
            None => page,
            Some(mut list) => {
                list.transfers.extend(page.transfers);
                List { more, ..list }
            }
        };
        let full = list.transfers.len() as u64 >= limit;
        // A page without progress contains nothing new.
        if full || !more || last.is_none() || last == filter.after {
            return Ok(list);
        }
        filter.after = last;
        whole = Some(list);
    }
}

/// The requested number, in as many pages as needed. Several transfers may have finished at the time at which a page
/// ends, so each page begins with that time again.
fn history(client: &mut Client, since: Option<u64>, item: Option<String>, limit: u64) -> Result<GetHistory, Failure> {
    let mut filter = PastFilter { since, item, ..PastFilter::default() };
    let mut whole = GetHistory { entries: Vec::new(), more: false };
    let mut seen = BTreeSet::new();
    loop {
        let left = limit - whole.entries.len() as u64;
        let again = if filter.before.is_some() { 100 } else { 0 };
        filter.limit = Some((left + again).min(LIST_LIMIT));
        let page = client.history(&filter)?;
        let before = page.entries.last().map(|past| past.finished.saturating_add(1));
        let fresh: Vec<_> = page.entries.into_iter().filter(|past| seen.insert(past.id.clone())).collect();
        let stuck = fresh.is_empty();
        whole.more = page.more || fresh.len() as u64 > left;
        whole.entries.extend(fresh.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)));
        if whole.entries.len() as u64 >= limit || !page.more || stuck {
            return Ok(whole);
        }
        filter.before = before;
    }
}

/// The mode of the named node, if the name is unambiguous.
fn node_to_forget(client: &mut Client, name: &str, mode: Option<Mode>, yes: bool) -> Result<String, Failure> {
    let status = client.status(Some(0), false)?;
    let fits = |member: &&Member| member.name == name && mode.is_none_or(|mode| member.mode == mode.as_str());
    let found: Vec<_> = status.members.iter().filter(fits).collect();
    let member = match (found.as_slice(), mode) {
        ([member], _) => *member,
        ([], _) => return Err(Failure::Refused(format!("unknown node {name:?}: see synklerctl nodes"))),
        _ => return Err(Failure::Refused(format!("several nodes have the name {name:?}: choose one with --mode"))),
    };
    if yes {
        return Ok(member.mode.clone());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::Refused("no terminal for the confirmation: add --yes".to_owned()));
    }
    let receipts = if member.mode == "download" { "; its receipts are then no longer required" } else { "" };
    let heard = ago(member.heard, status.now);
    let question = format!("forget {} {}, last seen {heard}{receipts}? [y/N] ", member.mode, member.name);
    let mut answer = String::new();
    // A closed terminal does not confirm.
    let _ = write!(io::stderr(), "{}", super::units::printable(&question));
    let _ = io::stdin().lock().read_line(&mut answer);
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(member.mode.clone()),
        _ => Err(Failure::Refused("nothing was removed".to_owned())),
    }
}
