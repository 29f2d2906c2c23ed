//! Orders. A node first finds out for the whole group which items an order is about. Then the order is carried out here
//! and, by questions, on every other node that is alive.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::AskFailure;
use super::group::{Silent, alive};
use super::journey::is_exact;
use super::parameters::Parameters;
use super::protocol::{INTERFACE, Refusal};
use super::query::Query;
use super::service::{Caller, Service, told};
use super::types::{Deed, Orders, Transfer};
use crate::machine::{Handle, ItemOrder, Mode, Node, NodeName, Order, Scope, Snapshot, one_line};

/// How long a node waits for the others: each of them writes its journal.
const DEED_WAIT: Duration = Duration::from_secs(2);

/// An order about items that are not resolved yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Pause { now: bool },
    Resume,
    Other(ItemOrder),
}

impl Wish {
    fn parse(method: &str, parameters: &mut Parameters) -> Result<Self, Refusal> {
        match method {
            "Pause" => Ok(Self::Pause { now: parameters.flag("now")? }),
            "Resume" => Ok(Self::Resume),
            other => ItemOrder::of_method(other)
                .map(Self::Other)
                .ok_or_else(|| Refusal::MethodNotFound(format!("{INTERFACE}.{other}"))),
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Pause { .. } => "Pause",
            Self::Resume => "Resume",
            Self::Other(order) => order.method(),
        }
    }

    fn of(self, handles: Vec<Handle>) -> Order {
        match self {
            Self::Pause { now } => Order::Pause { scope: Scope::Items(handles), now },
            Self::Resume => Order::Resume { scope: Scope::Items(handles) },
            Self::Other(order) => Order::Items(order, handles),
        }
    }

    fn is_for_upload(self) -> bool {
        matches!(self, Self::Other(order) if order.is_for_upload())
    }
}

/// What the text of an item means in the group.
#[derive(Debug, Clone)]
struct Meant {
    /// The text that means exactly this on every node.
    text: String,
    item: String,
    upload: String,
}

impl Service {
    pub(super) async fn order(
        &self,
        method: &str,
        mut parameters: Parameters,
        caller: Caller<'_>,
    ) -> Result<Value, Refusal> {
        let (by, is_peer) = match caller {
            Caller::Client(stream, authority) => (authority.of(stream).await?, false),
            Caller::Peer(node) => {
                let by = format!("{}@{}", one_line(&parameters.text("by")?), node.name);
                if !parameters.flag("here")? {
                    return Err(Refusal::InvalidParameter("here".to_owned()));
                }
                (by, true)
            }
        };
        if method == "Adopt" {
            parameters.end()?;
            if is_peer {
                return Err(Refusal::PermissionDenied);
            }
            let snapshot = self.surroundings().await?;
            let deeds = self.carry_out(&snapshot.node, Order::Adopt, &by).await?;
            return told(&Orders { deeds, silent: Vec::new() });
        }
        if method == "ForgetNode" {
            let node = Node::new(parameters.parsed::<Mode>("mode")?, parameters.parsed::<NodeName>("name")?);
            parameters.end()?;
            return told(&self.forget(node, &by, is_peer).await?);
        }
        let wish = Wish::parse(method, &mut parameters)?;
        let (items, group) = match wish {
            Wish::Pause { .. } | Wish::Resume => (parameters.items_if_any()?, parameters.flag("group")?),
            Wish::Other(_) => (Some(parameters.items()?), false),
        };
        parameters.end()?;
        match items {
            Some(_) if group => Err(Refusal::InvalidParameter("group".to_owned())),
            Some(items) if is_peer => {
                let snapshot = self.surroundings().await?;
                let deeds = self.carry_out_here(&snapshot.node, wish, &items, &by).await?;
                told(&Orders { deeds, silent: Vec::new() })
            }
            Some(items) => told(&self.order_items(wish, items, &by).await?),
            // A pause of a whole node belongs to that node; the order about the group spreads by the hellos.
            None if is_peer => Err(Refusal::InvalidParameter("items".to_owned())),
            None => {
                let scope = if group { Scope::Group } else { Scope::Node };
                let order = match wish {
                    Wish::Pause { now } => Order::Pause { scope, now },
                    _ => Order::Resume { scope },
                };
                let snapshot = self.surroundings().await?;
                let deeds = self.carry_out(&snapshot.node, order, &by).await?;
                told(&Orders { deeds, silent: Vec::new() })
            }
        }
    }

    async fn order_items(&self, wish: Wish, items: Vec<String>, by: &str) -> Result<Orders, Refusal> {
        let mut snapshot = self.surroundings().await?;
        let peers = alive(&snapshot);
        let mut meant: Vec<Meant> = Vec::new();
        for item in items {
            let found = self.meaning(&mut snapshot, &item).await?;
            if meant.iter().all(|known| known.text != found.text) {
                meant.push(found);
            }
        }
        let texts: Vec<_> = meant.iter().map(|meant| meant.text.clone()).collect();
        let mut deeds = self.carry_out_here(&snapshot.node, wish, &texts, by).await?;
        // Only some orders have this parameter.
        let parameters = if wish == (Wish::Pause { now: true }) {
            json!({ "items": texts, "by": by, "here": true, "now": true })
        } else {
            json!({ "items": texts, "by": by, "here": true })
        };
        let (answers, silent) = self.gather_within::<Orders>(DEED_WAIT, &peers, wish.method(), &parameters).await;
        deeds.extend(answers.into_iter().flat_map(|(_, answer)| answer.deeds));
        let silent = refusals(silent, &mut deeds);
        for item in &meant {
            let upload = format!("upload {}", item.upload);
            let done = deeds.iter().any(|deed| deed.item.as_ref() == Some(&item.item));
            if done && (!wish.is_for_upload() || deeds.iter().any(|deed| deed.node == upload)) {
                continue;
            }
            let text = if wish.is_for_upload() && !answering(&snapshot, &upload, &silent) {
                format!("refused: only {upload} can cancel it, and it does not answer")
            } else {
                "nothing to do: finished on every node that answers".to_owned()
            };
            let node = snapshot.node.to_string();
            deeds.push(Deed { node, item: Some(item.item.clone()), done: false, text });
        }
        Ok(Orders { deeds, silent })
    }

    /// Which transfer, or which name, a text means in the whole group. An exact one is known at once; a beginning is
    /// unambiguous only if no node knows another. Silent peers are not asked again.
    async fn meaning(&self, snapshot: &mut Snapshot, text: &str) -> Result<Meant, Refusal> {
        let asked = text.to_owned();
        let (_, view) = self.ask_loop(|reply| Query::Find { text: asked, reply }).await?;
        let own = view.map(|view| Transfer::new(&snapshot.node, &view));
        if let Some(own) = own.filter(|own| is_exact(text, own)) {
            let text = if own.id.as_deref() == Some(text) { text.to_owned() } else { own.item_encoded };
            return Ok(Meant { text, item: own.item, upload: own.upload });
        }
        let (journey, silent) = self.journey(snapshot, text).await?;
        let silent: BTreeSet<_> = silent.into_iter().map(|(node, _)| node).collect();
        snapshot.peers.retain(|peer| !silent.contains(&peer.node));
        let Transfer { id, item, item_encoded, upload, .. } = journey.transfer;
        if journey.steps.iter().all(|step| step.finished.is_some()) {
            return Err(Refusal::Refused(format!("{item} is finished: see its history")));
        }
        let by_name = text == item || text == item_encoded;
        Ok(Meant { text: id.filter(|_| !by_name).unwrap_or(item_encoded), item, upload })
    }

    /// This node's deeds about items with exact names; it does nothing about a mere beginning of a name.
    async fn carry_out_here(&self, node: &Node, wish: Wish, items: &[String], by: &str) -> Result<Vec<Deed>, Refusal> {
        let mut handles = Vec::new();
        for text in items {
            let asked = text.clone();
            let (found, view) = self.ask_loop(|reply| Query::Find { text: asked, reply }).await?;
            let exact = view.is_some_and(|view| is_exact(text, &Transfer::new(node, &view)));
            if let (crate::machine::Found::One(handle), true) = (found, exact) {
                handles.push(handle);
            }
        }
        if handles.is_empty() {
            return Ok(Vec::new());
        }
        self.carry_out(node, wish.of(handles), by).await
    }

    async fn carry_out(&self, node: &Node, order: Order, by: &str) -> Result<Vec<Deed>, Refusal> {
        let by = by.to_owned();
        let deeds = self.ask_loop(|reply| Query::Order { by, order, reply }).await?;
        Ok(deeds.iter().map(|deed| Deed::new(node, deed)).collect())
    }

    async fn forget(&self, gone: Node, by: &str, is_peer: bool) -> Result<Orders, Refusal> {
        let snapshot = self.surroundings().await?;
        let mut deeds = self.carry_out(&snapshot.node, Order::Forget(gone.clone()), by).await?;
        if is_peer {
            return Ok(Orders { deeds, silent: Vec::new() });
        }
        if let Some(refused) = deeds.iter().find(|deed| !deed.done) {
            return Err(Refusal::Refused(refused.text.clone()));
        }
        let peers: Vec<_> = alive(&snapshot).into_iter().filter(|peer| *peer != gone).collect();
        let parameters = json!({ "mode": gone.mode.as_str(), "name": gone.name.as_str(), "by": by, "here": true });
        let (answers, silent) = self.gather_within::<Orders>(DEED_WAIT, &peers, "ForgetNode", &parameters).await;
        deeds.extend(answers.into_iter().flat_map(|(_, answer)| answer.deeds));
        let silent = refusals(silent, &mut deeds);
        if deeds.is_empty() {
            return Err(Refusal::NotFound(gone.to_string()));
        }
        Ok(Orders { deeds, silent })
    }
}

/// Whether a node is this one, or is alive and has answered.
fn answering(snapshot: &Snapshot, node: &str, silent: &[String]) -> bool {
    snapshot.node.to_string() == node
        || alive(snapshot).iter().any(|peer| peer.to_string() == node) && !silent.iter().any(|other| other == node)
}

/// The nodes that have not answered; a refusal becomes a deed that was not done.
fn refusals(silent: Silent, deeds: &mut Vec<Deed>) -> Vec<String> {
    let mut unheard = Vec::new();
    for (node, failure) in silent {
        match failure {
            AskFailure::Silent(_) => unheard.push(node.to_string()),
            AskFailure::Refused(refusal) => {
                let text = format!("refused: {refusal}");
                deeds.push(Deed { node: node.to_string(), item: None, done: false, text });
            }
        }
    }
    unheard
}
