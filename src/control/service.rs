//! The methods: their parameters, who may call them, and their answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::caller::Authority;
use super::connection::Limits;
use super::parameters::Parameters;
use super::protocol::{Call, DESCRIPTION, INTERFACE, LIST_DEFAULT, LIST_LIMIT, Refusal, SERVICE, SERVICE_DESCRIPTION};
use super::query::{PastFound, Query, Span};
use super::receipt;
use super::types::{Check, Explain, GetHistory, GetReceipt, Info, Past, SetLogLevel, Status};
use super::watched::Watched;
use crate::machine::{
    Fingerprint, Found, GroupId, ItemName, ItemOrder, Kind, Node, Selection, Snapshot, Time, TransferId, decode_bytes,
};

/// The log levels.
pub const LOG_LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// The time limit of a check.
const CHECK_WAIT: Duration = Duration::from_secs(90);

/// Answers the node's own clients and the other nodes. A clone is the same service.
#[derive(Debug, Clone)]
pub struct Service {
    pub(super) limits: Limits,
    pub(super) watched: Arc<Watched>,
    group: GroupId,
    file_dir: PathBuf,
    queries: mpsc::Sender<Query>,
    /// One check at a time.
    examining: Arc<Semaphore>,
}

/// The caller.
#[derive(Debug, Clone, Copy)]
pub(super) enum Caller<'a> {
    /// A client of our socket.
    Client(&'a UnixStream, Authority),
    /// Another node, on behalf of one of its clients.
    Peer(&'a Node),
}

impl Service {
    /// A service for a node of that group with that directory; the node's loop answers the queries.
    pub fn new(group: GroupId, file_dir: PathBuf, queries: mpsc::Sender<Query>) -> Self {
        let examining = Arc::new(Semaphore::new(1));
        Self { limits: Limits::default(), watched: Arc::default(), group, file_dir, queries, examining }
    }

    /// The same with other limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Answers another node. A node may ask about the group, and give the orders that concern every node. The
    /// parameters are those of the interface; orders also have `by`, the operator on that node.
    ///
    /// # Errors
    /// Those of the interface.
    pub async fn answer_peer(
        &self,
        from: &Node,
        method: &str,
        parameters: Map<String, Value>,
    ) -> Result<Value, Refusal> {
        match method.rsplit_once('.') {
            Some((INTERFACE, name)) => self.method(name, Parameters::new(parameters), Caller::Peer(from)).await,
            _ => Err(Refusal::MethodNotFound(method.to_owned())),
        }
    }

    /// Answers a call of a client, except for streams.
    pub(super) async fn answer(&self, call: &Call, caller: Caller<'_>) -> Result<Value, Refusal> {
        if call.upgrade == Some(true) {
            return Err(Refusal::InvalidParameter("upgrade".to_owned()));
        }
        let mut parameters = Parameters::new(call.parameters.clone().unwrap_or_default());
        match call.target() {
            (SERVICE, "GetInfo") => {
                parameters.end()?;
                told(&info())
            }
            (SERVICE, "GetInterfaceDescription") => {
                let interface = parameters.text("interface")?;
                parameters.end()?;
                match interface.as_str() {
                    INTERFACE => Ok(json!({ "description": DESCRIPTION })),
                    SERVICE => Ok(json!({ "description": SERVICE_DESCRIPTION })),
                    _ => Err(Refusal::InterfaceNotFound(interface)),
                }
            }
            (INTERFACE, "Monitor") => Err(Refusal::ExpectedMore),
            (INTERFACE, method) => self.method(method, parameters, caller).await,
            (SERVICE, _) => Err(Refusal::MethodNotFound(call.method.clone())),
            (interface, _) => Err(Refusal::InterfaceNotFound(interface.to_owned())),
        }
    }

    async fn method(&self, method: &str, parameters: Parameters, caller: Caller<'_>) -> Result<Value, Refusal> {
        match (method, caller) {
            ("GetStatus", _) => self.tell_status(parameters, caller).await,
            ("List", _) => self.tell_list(parameters, caller).await,
            ("GetTransfer", _) => self.tell_transfer(parameters, caller).await,
            ("Submit", _) => self.submit(parameters, caller).await,
            ("Pause" | "Resume" | "ForgetNode" | "Adopt", _) => self.order(method, parameters, caller).await,
            _ if ItemOrder::of_method(method).is_some() => self.order(method, parameters, caller).await,
            ("GetManifest", _) => self.tell_manifest(parameters).await,
            ("GetHistory", Caller::Client(..)) => self.tell_history(parameters).await,
            ("GetReceipt", Caller::Client(..)) => self.tell_receipt(parameters).await,
            ("Check", Caller::Client(..)) => self.check(parameters).await,
            ("Explain", Caller::Client(..)) => self.tell_explanation(parameters).await,
            ("SetLogLevel", Caller::Client(stream, authority)) => {
                authority.of(stream).await?;
                self.set_log_level(parameters).await
            }
            ("Reload", Caller::Client(stream, authority)) => {
                authority.of(stream).await?;
                parameters.end()?;
                told(&self.ask_loop(|reply| Query::Reload { reply }).await?.map_err(Refusal::Refused)?)
            }
            (
                "GetHistory" | "GetReceipt" | "Check" | "Explain" | "SetLogLevel" | "Reload" | "Monitor",
                Caller::Peer(_),
            ) => Err(Refusal::PermissionDenied),
            _ => Err(Refusal::MethodNotFound(format!("{INTERFACE}.{method}"))),
        }
    }

    async fn tell_history(&self, mut parameters: Parameters) -> Result<Value, Refusal> {
        let since = parameters.moment("since")?.map(Time::from_millis);
        let item = parameters.text_if_any("item")?;
        let limit = parameters.count("limit", LIST_LIMIT)?.unwrap_or(LIST_DEFAULT);
        let before = parameters.moment("before")?.map(Time::from_millis);
        let behind = parameters.parsed_if_any::<TransferId>("behind")?;
        parameters.end()?;
        // The shown form of a name may be escaped, and then it differs from the name.
        let item = item.map(|item| ItemName::decode(&item).or_else(|_| ItemName::new(item.as_bytes())));
        let item = item.transpose().map_err(|_| Refusal::InvalidParameter("item".to_owned()))?;
        let span = Span { since, before, behind, item, limit: u32::try_from(limit).unwrap_or(u32::MAX) };
        let (rows, more) = self.ask_loop(|reply| Query::History { span, reply }).await?.map_err(Refusal::Refused)?;
        told(&GetHistory { entries: rows.iter().map(Past::from).collect(), more })
    }

    async fn tell_receipt(&self, mut parameters: Parameters) -> Result<Value, Refusal> {
        let text = parameters.text("item")?;
        parameters.end()?;
        let Proof { transfer, name, kind, fingerprint, remark } = self.proof(text).await?;
        let manifest = match kind {
            Kind::Directory => {
                let asked = self.ask_loop(|reply| Query::Manifest { transfer, reply }).await?;
                asked.map_err(Refusal::Refused)?
            }
            Kind::File | Kind::Symlink => None,
        };
        // Megabytes of text would block the loop's thread.
        let receipt = tokio::task::spawn_blocking(move || {
            let lines = receipt::lines(&name, kind, fingerprint.digest, manifest.as_deref())?;
            Ok(GetReceipt::new(transfer.to_string(), &name, lines, remark))
        });
        let receipt = receipt.await.map_err(|_| Refusal::Busy)?;
        told(&receipt.map_err(|why: receipt::NoReceipt| Refusal::Refused(why.to_string()))?)
    }

    /// What a text means on this node, unfinished or finished, with the data of its receipt.
    async fn proof(&self, text: String) -> Result<Proof, Refusal> {
        let asked = text.clone();
        let (found, view) = self.ask_loop(|reply| Query::Find { text: asked, reply }).await?;
        match (found, view) {
            (Found::Several(matches), _) => Err(Refusal::Ambiguous { item: text, matches }),
            (Found::One(_), Some(view)) => match (view.transfer, view.kind, view.fingerprint) {
                (Some(transfer), Some(kind), Some(fingerprint)) => {
                    let remark = view.remark.as_deref().map(str::to_owned);
                    Ok(Proof { transfer, name: view.name, kind, fingerprint, remark })
                }
                _ => Err(Refusal::Refused(format!("{} has no checksum yet: {}", view.name, view.reason))),
            },
            _ => {
                let asked = text.clone();
                let found = self.ask_loop(|reply| Query::Past { text: asked, reply }).await?;
                match found.map_err(Refusal::Refused)? {
                    PastFound::One(row) => Ok(Proof {
                        remark: row.remarks().map(String::from),
                        transfer: row.transfer,
                        name: row.name,
                        kind: row.kind,
                        fingerprint: row.fingerprint,
                    }),
                    PastFound::Nothing => Err(Refusal::NotFound(text)),
                    PastFound::Several(matches) => Err(Refusal::Ambiguous { item: text, matches }),
                }
            }
        }
    }

    async fn set_log_level(&self, mut parameters: Parameters) -> Result<Value, Refusal> {
        let level = parameters.text("level")?;
        parameters.end()?;
        if !LOG_LEVELS.contains(&level.as_str()) {
            return Err(Refusal::InvalidParameter("level".to_owned()));
        }
        let previous = self.ask_loop(|reply| Query::LogLevel { level, reply }).await?;
        told(&SetLogLevel { previous })
    }

    async fn check(&self, parameters: Parameters) -> Result<Value, Refusal> {
        parameters.end()?;
        let Ok(_examining) = self.examining.try_acquire() else {
            return Err(Refusal::Refused(
                "a check of this node is already running: retry when it has finished".to_owned(),
            ));
        };
        let findings = self.ask_loop_for(CHECK_WAIT, |reply| Query::Check { reply }).await?;
        told(&Check { findings })
    }

    async fn tell_explanation(&self, mut parameters: Parameters) -> Result<Value, Refusal> {
        let text = parameters.text("path")?;
        parameters.end()?;
        let path = decode_bytes(&text).ok_or_else(|| Refusal::InvalidParameter("path".to_owned()))?;
        let explanation = self.ask_loop(|reply| Query::Explain { path, reply }).await?;
        told(&Explain { explanation })
    }

    pub(super) async fn snapshot(&self, selection: Selection) -> Result<(Snapshot, Time), Refusal> {
        self.ask_loop(|reply| Query::Snapshot { selection, reply }).await
    }

    /// This node's own view.
    pub(super) fn own_status(&self, snapshot: &Snapshot, now: Time) -> Status {
        Status::new(snapshot, &self.group, &self.file_dir, now)
    }

    /// This node, and the nodes that it knows.
    pub(super) async fn surroundings(&self) -> Result<Snapshot, Refusal> {
        self.snapshot(Selection::urgent(0)).await.map(|(snapshot, _)| snapshot)
    }

    /// The answer of the daemon's loop, within the usual time.
    pub(super) async fn ask_loop<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, Refusal> {
        self.ask_loop_for(self.limits.answer_wait, query).await
    }

    async fn ask_loop_for<T>(
        &self,
        wait: Duration,
        query: impl FnOnce(oneshot::Sender<T>) -> Query,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.queries.send(query(reply)).await.ok()?;
            answer.await.ok()
        };
        timeout(wait, asked).await.ok().flatten().ok_or(Refusal::Busy)
    }
}

/// The data of a receipt.
struct Proof {
    transfer: TransferId,
    name: ItemName,
    kind: Kind,
    fingerprint: Fingerprint,
    remark: Option<String>,
}

/// An answer as JSON.
pub(super) fn told<T: Serialize>(answer: &T) -> Result<Value, Refusal> {
    // The shapes hold nothing that JSON cannot.
    serde_json::to_value(answer)
        .map_err(|err| Refusal::Refused(format!("bug: the answer cannot be written as JSON: {err}")))
}

fn info() -> Info {
    Info {
        vendor: "synkler".to_owned(),
        product: "synkler".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        url: env!("CARGO_PKG_REPOSITORY").to_owned(),
        interfaces: vec![SERVICE.to_owned(), INTERFACE.to_owned()],
    }
}
