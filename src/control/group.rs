//! The view of the group. Central asks every node that is alive and merges the answers. The other nodes ask central; if
//! it does not answer, they report what they know themselves.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::AskFailure;
use super::changes::key;
use super::journey::{self, Choice};
use super::merge;
use super::parameters::Parameters;
use super::protocol::{INTERFACE, LIST_DEFAULT, LIST_LIMIT, Refusal, STATUS_DEFAULT, STATUS_LIMIT};
use super::query::{PastFound, Query};
use super::service::{Caller, Service, told};
use super::types::{Filter, GetStatus, GetTransfer, Journey, List, Shown, Status, Transfer, View};
use crate::machine::{Found, Mode, Node, NodeName, Selection, Snapshot, State, Tallying, TransferId};

/// How long a node waits for central.
const CENTRAL_WAIT: Duration = Duration::from_secs(2);
/// How long central waits for the other nodes.
const PEER_WAIT: Duration = Duration::from_secs(1);
/// The longest answer to another node, in bytes; it leaves room for the envelope.
const PEER_ANSWER: usize = 900 * 1024;

/// Nodes that did not answer, and why.
pub(super) type Silent = Vec<(Node, AskFailure)>;

impl Service {
    pub(super) async fn tell_status(&self, mut parameters: Parameters, caller: Caller<'_>) -> Result<Value, Refusal> {
        let limit = parameters.count("limit", STATUS_LIMIT)?.unwrap_or(STATUS_DEFAULT);
        let here = parameters.flag("here")?;
        let all = parameters.flag("all")?;
        parameters.end()?;
        let is_peer = matches!(caller, Caller::Peer(_));
        let mut status = self.status(Shown { limit: Some(limit), here, all }, is_peer).await?;
        if is_peer {
            shorten(&mut status, |status| &mut status.transfers);
        }
        told(&GetStatus { status })
    }

    /// The status of the group, or of this node alone (`here`). Only central collects for others.
    pub(super) async fn status(&self, shown: Shown, is_peer: bool) -> Result<Status, Refusal> {
        let most = usize::try_from(shown.limit.unwrap_or(STATUS_DEFAULT)).unwrap_or(usize::MAX);
        let here = shown.here;
        // Ids are for the central that merges.
        let tally = if here && !is_peer { Tallying::States } else { Tallying::Ids };
        let selection = Selection { tally, all: shown.all, ..Selection::urgent(most) };
        let (snapshot, now) = self.snapshot(selection).await?;
        let own = self.own_status(&snapshot, now);
        let untallied = |own| Status { urgent: Vec::new(), unsent: Vec::new(), tallied: Vec::new(), ..own };
        match reach(&snapshot, here, is_peer) {
            Reach::Here if is_peer => Ok(own),
            Reach::Here => Ok(untallied(own)),
            Reach::All => self.gathered_status(&snapshot, own, shown, most).await,
            Reach::Central => match self.ask_central(&snapshot, "GetStatus", shown).await? {
                Ok(GetStatus { status }) => {
                    Ok(Status { now: own.now, node: own.node, broker: own.broker, directory: own.directory, ..status })
                }
                Err(view) => Ok(Status { view, ..untallied(own) }),
            },
        }
    }

    async fn gathered_status(
        &self,
        snapshot: &Snapshot,
        own: Status,
        shown: Shown,
        most: usize,
    ) -> Result<Status, Refusal> {
        let parameters = Shown { here: true, ..shown };
        let (answers, silent) = self.gather::<GetStatus>(&alive(snapshot), "GetStatus", &parameters).await;
        let others: Vec<_> = answers.into_iter().map(|(_, answer)| answer.status).collect();
        let missing = merge::unlisted(&own.transfers, others.iter().map(|other| (other, other.transfers.as_slice())));
        let looked_up = self.look_up(&snapshot.node, missing).await?;
        let view = view(&snapshot.node, silent);
        Ok(Status { view, ..merge::statuses(own, looked_up, &others, most, shown.all) })
    }

    pub(super) async fn tell_list(&self, mut parameters: Parameters, caller: Caller<'_>) -> Result<Value, Refusal> {
        let state = parameters.parsed_if_any::<State>("state")?;
        let upload = parameters.parsed_if_any::<NodeName>("upload")?;
        let failed = parameters.flag("failed")?;
        let limit = parameters.count("limit", LIST_LIMIT)?.unwrap_or(LIST_DEFAULT);
        let after = parameters.parsed_if_any::<TransferId>("after")?;
        let here = parameters.flag("here")?;
        let all = parameters.flag("all")?;
        parameters.end()?;
        let is_peer = matches!(caller, Caller::Peer(_));
        let filter = Filter {
            state: state.map(|state| state.as_str().to_owned()),
            upload: upload.as_ref().map(NodeName::to_string),
            failed: failed.then_some(true),
            all: all.then_some(true),
            limit: Some(limit),
            after: after.map(|id| id.to_string()),
            here: None,
        };
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let selection =
            Selection { state, upload, failed, all, by_age: true, after, limit: most, tally: Tallying::Ids };
        let (snapshot, now) = self.snapshot(selection).await?;
        let own = List {
            view: View::alone(&snapshot.node),
            transfers: snapshot.transfers.iter().map(|view| Transfer::new(&snapshot.node, view)).collect(),
            total: snapshot.matching,
            more: snapshot.more,
        };
        let mut list = match reach(&snapshot, here, is_peer) {
            Reach::Here => own,
            Reach::All => self.gathered_list(&snapshot, (&self.own_status(&snapshot, now), own), filter).await?,
            Reach::Central => match self.ask_central(&snapshot, "List", filter).await? {
                Ok(list) => list,
                Err(view) => List { view, ..own },
            },
        };
        if is_peer {
            list.more |= shorten(&mut list, |list| &mut list.transfers);
        }
        told(&list)
    }

    async fn gathered_list(
        &self,
        snapshot: &Snapshot,
        (own_status, own): (&Status, List),
        filter: Filter,
    ) -> Result<List, Refusal> {
        let peers = alive(snapshot);
        let filter = Filter { here: Some(true), ..filter };
        let counts = json!({ "limit": 0, "here": true });
        let (pages, counts) = tokio::join!(
            self.gather::<List>(&peers, "List", &filter),
            self.gather::<GetStatus>(&peers, "GetStatus", &counts)
        );
        let ((pages, mut silent), (counts, also_silent)) = (pages, counts);
        let of = |node: &Node| counts.iter().find(|(other, _)| other == node).map(|(_, answer)| answer.status.clone());
        let others: Vec<_> = pages.into_iter().filter_map(|(node, page)| Some((of(&node)?, page))).collect();
        for (node, why) in also_silent {
            if silent.iter().all(|(other, _)| *other != node) {
                silent.push((node, why));
            }
        }
        let missing =
            merge::unlisted(&own.transfers, others.iter().map(|(status, page)| (status, page.transfers.as_slice())));
        let looked_up = self.look_up(&snapshot.node, missing).await?;
        let wanted = merge::Wanted {
            state: filter.state.as_deref().and_then(|state| state.parse().ok()),
            upload: filter.upload.as_deref(),
            failed: filter.failed == Some(true),
            after: filter.after.as_deref(),
            all: filter.all == Some(true),
            limit: usize::try_from(filter.limit.unwrap_or(LIST_DEFAULT)).unwrap_or(usize::MAX),
        };
        Ok(List { view: view(&snapshot.node, silent), ..merge::lists((own_status, own), looked_up, &others, wanted) })
    }

    pub(super) async fn tell_transfer(&self, mut parameters: Parameters, caller: Caller<'_>) -> Result<Value, Refusal> {
        let item = parameters.text("item")?;
        let here = parameters.flag("here")?;
        parameters.end()?;
        let snapshot = self.surroundings().await?;
        let answer = match reach(&snapshot, here, matches!(caller, Caller::Peer(_))) {
            Reach::Here => self.own_journey(&snapshot.node, &item, View::alone(&snapshot.node)).await?,
            Reach::All => {
                let (journey, silent) = self.journey(&snapshot, &item).await?;
                GetTransfer { view: view(&snapshot.node, silent), journey }
            }
            Reach::Central => match self.ask_central(&snapshot, "GetTransfer", json!({ "item": item })).await? {
                Ok(answer) => answer,
                Err(view) => self.own_journey(&snapshot.node, &item, view).await?,
            },
        };
        told(&answer)
    }

    /// What this node alone knows about a text.
    async fn own_journey(&self, node: &Node, text: &str, view: View) -> Result<GetTransfer, Refusal> {
        let asked = text.to_owned();
        let (found, unfinished) = self.ask_loop(|reply| Query::Find { text: asked, reply }).await?;
        let unfinished = unfinished.map(|view| Journey::of_view(node, &view));
        if let Some(journey) = unfinished.clone().filter(|journey| journey::is_exact(text, &journey.transfer)) {
            return Ok(GetTransfer { view, journey });
        }
        let asked = text.to_owned();
        let over = self.ask_loop(|reply| Query::Past { text: asked, reply }).await?.map_err(Refusal::Refused)?;
        let over = match over {
            PastFound::One(row) => Ok(Journey::of_row(node, &row)),
            PastFound::Nothing => Err(Refusal::NotFound(text.to_owned())),
            PastFound::Several(matches) => Err(Refusal::Ambiguous { item: text.to_owned(), matches }),
        };
        let journey = match (unfinished, found, over) {
            (_, _, Ok(over)) if journey::is_exact(text, &over.transfer) => over,
            (Some(unfinished), ..) => unfinished,
            (None, Found::Several(matches), _) => return Err(Refusal::Ambiguous { item: text.to_owned(), matches }),
            (None, _, over) => over?,
        };
        Ok(GetTransfer { view, journey })
    }

    /// What the whole group knows about a text; this node asks the others itself.
    pub(super) async fn journey(&self, snapshot: &Snapshot, text: &str) -> Result<(Journey, Silent), Refusal> {
        let peers = alive(snapshot);
        let gathering = self.asked_journeys(snapshot, &peers, text);
        let (told, several, mut silent) = gathering.await?;
        let chosen = match journey::choose(text, &told, &several) {
            Choice::One(chosen) => chosen,
            Choice::Nothing => return Err(Refusal::NotFound(text.to_owned())),
            Choice::Several(matches) => return Err(Refusal::Ambiguous { item: text.to_owned(), matches }),
        };
        let (mut told, other): (Vec<_>, Vec<_>) = told.into_iter().partition(|told| key(&told.transfer) == chosen);
        let has_told = |node: &Node| told.iter().any(|told| told.transfer.node == node.to_string());
        let is_id = told.iter().any(|told| told.transfer.id.as_ref() == Some(&chosen));
        // A node that found another transfer, or several, may know this one as well.
        if is_id && chosen != text && (!other.is_empty() || !several.is_empty()) {
            let rest: Vec<_> = peers.into_iter().filter(|peer| !has_told(peer)).collect();
            let own_missing = !has_told(&snapshot.node);
            let (more, _, also_silent) = self.asked_journeys(snapshot, &rest, &chosen).await?;
            let own = snapshot.node.to_string();
            told.extend(
                more.into_iter()
                    .filter(|told| key(&told.transfer) == chosen && (own_missing || told.transfer.node != own)),
            );
            silent.extend(also_silent);
        }
        silent.dedup_by(|(a, _), (b, _)| a == b);
        let journey = journey::joined(told).ok_or_else(|| Refusal::NotFound(text.to_owned()))?;
        Ok((journey, silent))
    }

    /// What this node and the others know about a text. If it means several things on some node, these.
    async fn asked_journeys(
        &self,
        snapshot: &Snapshot,
        peers: &[Node],
        text: &str,
    ) -> Result<(Vec<Journey>, Vec<String>, Silent), Refusal> {
        let parameters = json!({ "item": text, "here": true });
        let (own, (told, refused)) = tokio::join!(
            self.own_journey(&snapshot.node, text, View::alone(&snapshot.node)),
            self.gather::<GetTransfer>(peers, "GetTransfer", &parameters)
        );
        let mut told: Vec<_> = told.into_iter().map(|(_, told)| told.journey).collect();
        let (mut several, mut silent) = (Vec::new(), Vec::new());
        match own {
            Ok(own) => told.push(own.journey),
            Err(Refusal::NotFound(_)) => {}
            Err(Refusal::Ambiguous { matches, .. }) => several.extend(matches),
            Err(refusal) => return Err(refusal),
        }
        for (node, failure) in refused {
            match failure {
                AskFailure::Refused(Refusal::NotFound(_)) => {}
                AskFailure::Refused(Refusal::Ambiguous { matches, .. }) => several.extend(matches),
                failure => silent.push((node, failure)),
            }
        }
        Ok((told, several, silent))
    }

    /// What this node knows about transfers, by their ids.
    async fn look_up(&self, node: &Node, ids: impl IntoIterator<Item = String>) -> Result<Vec<Transfer>, Refusal> {
        let transfers: Vec<TransferId> = ids.into_iter().filter_map(|id| id.parse().ok()).collect();
        if transfers.is_empty() {
            return Ok(Vec::new());
        }
        let views = self.ask_loop(|reply| Query::Views { transfers, reply }).await?;
        Ok(views.iter().map(|view| Transfer::new(node, view)).collect())
    }

    /// Asks these nodes at once. Central answers other nodes within their own wait, so it waits less for its own.
    pub(super) async fn gather<R: DeserializeOwned>(
        &self,
        peers: &[Node],
        method: &str,
        parameters: &(impl Serialize + Sync),
    ) -> (Vec<(Node, R)>, Silent) {
        self.gather_within(PEER_WAIT, peers, method, parameters).await
    }

    pub(super) async fn gather_within<R: DeserializeOwned>(
        &self,
        wait: Duration,
        peers: &[Node],
        method: &str,
        parameters: &(impl Serialize + Sync),
    ) -> (Vec<(Node, R)>, Silent) {
        let asked = peers.iter().map(|peer| self.ask::<R>(peer, method, parameters, wait));
        let (mut answers, mut silent) = (Vec::new(), Vec::new());
        for (peer, outcome) in peers.iter().zip(join_all(asked).await) {
            match outcome {
                Ok(answer) => answers.push((peer.clone(), answer)),
                Err(failure) => silent.push((peer.clone(), failure)),
            }
        }
        (answers, silent)
    }

    /// Central's answer, or the reason that goes with this node's own view; or central's refusal, if it has found
    /// nothing.
    async fn ask_central<R: DeserializeOwned>(
        &self,
        snapshot: &Snapshot,
        method: &str,
        parameters: impl Serialize + Sync,
    ) -> Result<Result<R, View>, Refusal> {
        let alive = alive(snapshot);
        let Some(central) = alive.iter().find(|peer| peer.mode == Mode::Central) else {
            let why = match &snapshot.broker {
                crate::machine::BrokerState::Disconnected(..) => "this node has no session with the broker",
                crate::machine::BrokerState::Connected(_) => "no central is alive",
            };
            return Ok(Err(View { why: Some(why.to_owned()), ..View::alone(&snapshot.node) }));
        };
        match self.ask(central, method, &parameters, CENTRAL_WAIT).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(AskFailure::Refused(refusal @ (Refusal::NotFound(_) | Refusal::Ambiguous { .. }))) => Err(refusal),
            Err(failure) => Ok(Err(view(&snapshot.node, vec![(central.clone(), failure)]))),
        }
    }

    pub(super) async fn ask<R: DeserializeOwned>(
        &self,
        to: &Node,
        method: &str,
        parameters: &(impl Serialize + Sync),
        wait: Duration,
    ) -> Result<R, AskFailure> {
        let parameters = match serde_json::to_value(parameters) {
            Ok(Value::Object(parameters)) => parameters,
            _ => Map::new(),
        };
        let (to_ask, method) = (to.clone(), format!("{INTERFACE}.{method}"));
        let asked = self.ask_loop(|reply| Query::Ask { to: to_ask, method, parameters, reply });
        let silent = || AskFailure::Silent(format!("{to} has not answered within {} s", wait.as_secs()));
        let answer = timeout(wait, asked).await.ok().and_then(Result::ok).ok_or_else(silent)??;
        serde_json::from_value(answer).map_err(|err| {
            tracing::debug!("invalid answer from {to}: {err}");
            AskFailure::Silent(format!("invalid answer from {to}: another version of synkler?"))
        })
    }
}

enum Reach {
    /// This node alone.
    Here,
    /// Every node, asked by this node.
    All,
    /// The answer of central.
    Central,
}

fn reach(snapshot: &Snapshot, here: bool, is_peer: bool) -> Reach {
    match snapshot.node.mode {
        _ if here => Reach::Here,
        Mode::Central => Reach::All,
        // Questions are not forwarded.
        _ if is_peer => Reach::Here,
        _ => Reach::Central,
    }
}

/// The peers that are alive and share a protocol version with this node, without this node.
pub(super) fn alive(snapshot: &Snapshot) -> Vec<Node> {
    snapshot.peers.iter().filter(|peer| peer.alive && peer.apart.is_none()).map(|peer| peer.node.clone()).collect()
}

/// The view of a node after these did not answer.
fn view(node: &Node, silent: Silent) -> View {
    let why: Vec<_> = silent
        .iter()
        .map(|(peer, failure)| match failure {
            AskFailure::Silent(why) => why.clone(),
            AskFailure::Refused(refusal) => format!("no answer from {peer}: {refusal}"),
        })
        .collect();
    View {
        whole: silent.is_empty(),
        from: node.to_string(),
        why: (!why.is_empty()).then(|| why.join("; ")),
        silent: silent.iter().map(|(peer, _)| peer.to_string()).collect(),
    }
}

/// Removes entries from the end of the list until the answer to another node is short enough; returns whether it
/// removed any.
fn shorten<A: Serialize>(answer: &mut A, list: impl Fn(&mut A) -> &mut Vec<Transfer>) -> bool {
    let mut shortened = false;
    while let Ok(length) = serde_json::to_vec(answer).map(|text| text.len())
        && length > PEER_ANSWER
        && !list(answer).is_empty()
    {
        let transfers = list(answer);
        transfers.truncate((transfers.len() - 1).min(transfers.len() * PEER_ANSWER / length));
        shortened = true;
    }
    shortened
}
