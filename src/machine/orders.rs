//! Carries out orders of operators.

use std::collections::BTreeSet;

use super::order::{Outcome, who};
use super::shared::Shared;
use super::{
    Cause, Deed, Found, Handle, ItemName, ItemOrder, Level, MATCHES_LIMIT, Node, Order, Pause, Row, Scope, Signature,
    TransferId, decode_bytes,
};

/// The answer to every order but a retry about an item that is not a transfer yet.
pub(super) const NO_TRANSFER: &str = "no transfer yet: the item must stay unchanged first";

/// What differs between the roles when they carry out an order.
pub(super) trait Operable {
    fn shared(&mut self) -> &mut Shared;
    /// All unfinished transfers, and items that are not transfers yet.
    fn entries(&self) -> impl Iterator<Item = (Option<TransferId>, &ItemName)>;
    fn row(&mut self, id: TransferId) -> Option<&mut Row>;
    /// Stops the runs that carry such transfers, and returns their number.
    fn halt(&mut self, chosen: &dyn Fn(TransferId) -> bool) -> u64;
    /// An operator has paused the transfer alone.
    fn hold_back(&mut self, id: TransferId);
    /// An operator has resumed the transfer.
    fn let_go_on(&mut self, id: TransferId);
    /// An operator has resumed the node or the group.
    fn go_on(&mut self);
    /// Carries out an order about a transfer; `None` if another node has to do that.
    fn carry_out(&mut self, order: ItemOrder, id: TransferId, by: &str) -> Option<Outcome>;
    /// Carries out an order about an item that is not a transfer yet.
    fn carry_out_for_item(&mut self, _order: ItemOrder, _name: &ItemName) -> Outcome {
        Err(NO_TRANSFER.to_owned())
    }
    /// An operator has submitted items. Only an upload has any.
    fn submit(&mut self, _items: Vec<(ItemName, Signature)>, _by: &str) -> Vec<Deed> {
        vec![Deed::about(None, Err("refused: only an upload sends items".to_owned()))]
    }
    /// Continues the work in the directory of this node.
    fn on_directory_back(&mut self);
    /// An operator has removed a node from the group. Returns the results, for the answer.
    fn forget(&mut self, node: &Node) -> Vec<Deed>;
}

/// Carries out an order. What this node does not know gives no deed.
pub(super) fn carry_out<R: Operable>(role: &mut R, by: &str, order: Order) -> Vec<Deed> {
    let by = &*who(by);
    match order {
        Order::Pause { scope: Scope::Node, now } => {
            let mut text = role.shared().pause_node(by);
            if now {
                text.push_str(&stop_all(role, by));
            }
            vec![Deed::about(None, Ok(text))]
        }
        Order::Pause { scope: Scope::Group, now } => {
            let mut text = role.shared().pause_group(by, now);
            if now {
                text.push_str(&stop_all(role, by));
            }
            vec![Deed::about(None, Ok(text))]
        }
        Order::Pause { scope: Scope::Items(handles), now } => pause_items(role, by, &handles, now),
        Order::Resume { scope: Scope::Node } => {
            let text = role.shared().resume_node(by);
            role.go_on();
            vec![Deed::about(None, Ok(text))]
        }
        Order::Resume { scope: Scope::Group } => {
            let text = role.shared().resume_group(by);
            role.go_on();
            vec![Deed::about(None, Ok(text))]
        }
        Order::Resume { scope: Scope::Items(handles) } => each(role, by, "resume", &handles, resume_item, no_transfer),
        Order::Items(order, handles) => {
            let transfer = |role: &mut R, id| match order {
                ItemOrder::Retry => Some(retry(role, id, by)),
                order => role.carry_out(order, id, by),
            };
            each(role, by, order.as_str(), &handles, transfer, |role, name| role.carry_out_for_item(order, name))
        }
        Order::Submit(items) => role.submit(items, by),
        Order::Adopt => {
            let outcome = role.shared().adopt(by);
            if outcome.is_ok() {
                role.on_directory_back();
            }
            vec![Deed::about(None, outcome)]
        }
        Order::Forget(node) => match role.shared().forget(&node, by) {
            Err(text) => vec![Deed::about(None, Err(text))],
            Ok(known) => {
                let told = known.then(|| Deed::about(None, Ok(format!("{node} is removed from the group"))));
                told.into_iter().chain(role.forget(&node)).collect()
            }
        },
    }
}

/// Stops every run, and returns their number.
fn stop_all(role: &mut impl Operable, by: &str) -> String {
    let runs = role.halt(&|_| true);
    if runs > 0 {
        role.shared().log(Level::Info, None, None, None, format!("running rsync stopped by {by}"));
    }
    match runs {
        0 => "; no rsync run was active".to_owned(),
        1 => "; 1 rsync run is stopped".to_owned(),
        runs => format!("; {runs} rsync runs are stopped"),
    }
}

fn no_transfer<R>(_: &mut R, _: &ItemName) -> Outcome {
    Err(NO_TRANSFER.to_owned())
}

/// Carries out an order for every transfer that it names, and for items that are not transfers yet. The log of each
/// says so, with the operator.
fn each<R: Operable>(
    role: &mut R,
    by: &str,
    what: &str,
    handles: &[Handle],
    mut transfer: impl FnMut(&mut R, TransferId) -> Option<Outcome>,
    item: impl Fn(&mut R, &ItemName) -> Outcome,
) -> Vec<Deed> {
    let mut deeds = Vec::new();
    for (id, name) in meant(role, handles) {
        let outcome = match id {
            Some(id) => transfer(role, id),
            None => Some(item(role, &name)),
        };
        if let Some(outcome) = outcome {
            let deed = Deed::about(Some(name), outcome);
            let text = format!("{what} ordered by {by}: {}", deed.text);
            role.shared().log(Level::Info, id, deed.item.as_ref(), None, text);
            deeds.push(deed);
        }
    }
    deeds
}

/// The unfinished transfers and items that the handles name. An item counts only if no transfer carries its name.
fn meant(role: &impl Operable, handles: &[Handle]) -> Vec<(Option<TransferId>, ItemName)> {
    let ids: BTreeSet<_> =
        handles.iter().filter_map(|handle| if let Handle::Transfer(id) = handle { Some(*id) } else { None }).collect();
    let names: BTreeSet<_> =
        handles.iter().filter_map(|handle| if let Handle::Item(name) = handle { Some(name) } else { None }).collect();
    let is_meant =
        |id: &Option<TransferId>, name: &ItemName| id.is_some_and(|id| ids.contains(&id)) || names.contains(name);
    let mut found: Vec<_> =
        role.entries().filter(|(id, name)| is_meant(id, name)).map(|(id, name)| (id, name.clone())).collect();
    let carried: BTreeSet<_> = found.iter().filter(|(id, _)| id.is_some()).map(|(_, name)| name.clone()).collect();
    found.retain(|(id, name)| id.is_some() || !carried.contains(name));
    found
}

fn pause_items<R: Operable>(role: &mut R, by: &str, handles: &[Handle], now: bool) -> Vec<Deed> {
    let shared = role.shared();
    let pause = Pause::new(shared.now, by, shared.me.clone());
    let set = |role: &mut R, id| {
        let row = role.row(id)?;
        let mut text = match &row.paused {
            Some(earlier) => format!("already paused {earlier}"),
            None => {
                row.paused = Some(pause.clone().into());
                role.shared().dirty.insert(id);
                role.hold_back(id);
                "paused: no new rsync run starts for this item".to_owned()
            }
        };
        if now && role.halt(&|other| other == id) > 0 {
            text.push_str("; its rsync run is stopped");
        }
        Some(Ok(text))
    };
    each(role, by, "pause", handles, set, no_transfer)
}

fn resume_item<R: Operable>(role: &mut R, id: TransferId) -> Option<Outcome> {
    let row = role.row(id)?;
    if row.paused.take().is_none() {
        return Some(Ok("nothing to do: this item is not paused".to_owned()));
    }
    let shared = role.shared();
    shared.dirty.insert(id);
    let text = match shared.held_by() {
        Some(pause) => format!("resumed, but all transfers are paused {pause}"),
        None => "resumed".to_owned(),
    };
    role.let_go_on(id);
    Some(Ok(text))
}

/// A paused transfer is not retried.
fn retry<R: Operable>(role: &mut R, id: TransferId, by: &str) -> Outcome {
    let paused = role.row(id).and_then(|row| row.paused.clone());
    match paused.map(|pause| *pause).or(role.shared().held_by().cloned()) {
        Some(pause) => Err(format!("paused {pause}: resume first")),
        None if role.shared().lacks_directory() => Err(format!("nothing to do: {}", Cause::Directory.text())),
        None => role.carry_out(ItemOrder::Retry, id, by).unwrap_or_else(|| Err("nothing to do".to_owned())),
    }
}

/// What a text means: a name, in one of its spellings; an id; or an unambiguous beginning of either.
pub(super) fn find(role: &impl Operable, text: &str) -> Found {
    if text.is_empty() {
        return Found::Nothing;
    }
    let bytes = decode_bytes(text);
    let (mut exact, mut id) = (BTreeSet::new(), None);
    let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
    let may_be_id = text.len() <= 36 && text.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
    for (transfer, name) in role.entries() {
        let raw = name.as_bytes();
        let encoded = |compare: fn(&[u8], &[u8]) -> bool| bytes.as_deref().is_some_and(|bytes| compare(raw, bytes));
        // Most names need no escaping, so the shown form is the name itself.
        let plain = raw.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\' || *byte == b' ');
        let shown = if plain { None } else { Some(name.to_string()) };
        let shown = shown.as_deref().map_or(raw, str::as_bytes);
        if shown == text.as_bytes() || encoded(|raw, bytes| raw == bytes) {
            exact.insert(name);
        } else if shown.starts_with(text.as_bytes()) || encoded(|raw, bytes| raw.starts_with(bytes)) {
            names.insert(name);
        }
        if let Some(transfer) = transfer.filter(|_| may_be_id) {
            let spelled = transfer.to_string();
            if spelled == text {
                id = Some(transfer);
            } else if spelled.starts_with(text) {
                ids.insert(transfer);
            }
        }
    }
    let mut exact = exact.into_iter();
    match (exact.next(), exact.next(), id) {
        (Some(name), None, _) => return Found::One(Handle::Item(name.clone())),
        (Some(one), Some(other), _) => return Found::Several(vec![one.encoded(), other.encoded()]),
        (None, _, Some(id)) => return Found::One(Handle::Transfer(id)),
        (None, _, None) => {}
    }
    let handles = names.into_iter().cloned().map(Handle::Item).chain(ids.into_iter().map(Handle::Transfer));
    let mut handles: Vec<_> = handles.take(MATCHES_LIMIT).collect();
    match handles.len() {
        0 => Found::Nothing,
        1 => handles.pop().map_or(Found::Nothing, Found::One),
        _ => {
            let spelled = |handle: &Handle| match handle {
                Handle::Transfer(id) => id.to_string(),
                Handle::Item(name) => name.to_string(),
            };
            Found::Several(handles.iter().map(spelled).collect())
        }
    }
}
