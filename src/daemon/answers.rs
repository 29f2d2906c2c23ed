//! Answers the queries of the control service. The machine answers at once, an order after its commit. What takes time
//! runs in a task of its own, so that it does not block the loop.

use std::cmp::Reverse;
use std::error::Error;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::Map;
use tokio::sync::oneshot;

use super::Daemon;
use super::explain::explain;
use super::submit::submitted;
use crate::check::{self, Reading, Running};
use crate::control::types::{Finding, GetStatus};
use crate::control::{INTERFACE, PastFound, Query, Span};
use crate::drivers::journal::{Journal, JournalError, Past, Sought};
use crate::machine::{Deed, Found, Handle, Selection, Time};

/// The deeds of an order, and the client that waits until they are journalled.
pub(super) type Done = (oneshot::Sender<Vec<Deed>>, Vec<Deed>);

impl Daemon {
    /// Answers a query, or starts a task for it. The client may have closed; then the answer is dropped.
    pub(super) fn answer(&mut self, query: Query, done: &mut Vec<Done>) {
        match query {
            Query::Snapshot { selection, reply } => {
                drop(reply.send((self.machine.snapshot(&selection), self.clock.now())));
            }
            Query::Find { text, reply } => {
                let found = self.machine.find(&text);
                let view = match &found {
                    Found::One(handle) => self.machine.view(handle),
                    _ => None,
                };
                drop(reply.send((found, view)));
            }
            Query::Views { transfers, reply } => {
                let views = transfers.into_iter().filter_map(|id| self.machine.view(&Handle::Transfer(id)));
                drop(reply.send(views.collect()));
            }
            Query::Order { by, order, reply } => {
                let deeds = self.machine.order(self.clock.now(), &by, order);
                done.push((reply, deeds));
            }
            Query::Past { text, reply } => self.ask_journal(reply, async move |journal| {
                Ok(match journal.find(text).await? {
                    Sought::One(row) => PastFound::One(row),
                    Sought::Nothing => PastFound::Nothing,
                    Sought::Several(matches) => PastFound::Several(matches),
                })
            }),
            Query::History { span: Span { since, before, behind, item, limit }, reply } => {
                let past = Past { since, before, behind, name: item, limit };
                self.ask_journal(reply, async move |journal| journal.history(past).await);
            }
            Query::Manifest { transfer, reply } => {
                self.ask_journal(reply, async move |journal| journal.manifest(transfer).await);
            }
            Query::LogLevel { level, reply } => {
                if let Some(previous) = self.logging.set_level(&level) {
                    tracing::info!("log level set to {level} by an operator; it was {previous}");
                    drop(reply.send(previous.to_owned()));
                }
            }
            Query::Reload { reply } => self.read_config(Some(reply)),
            Query::Check { reply } => self.examine(reply),
            Query::Explain { path, reply } => {
                let settings = self.settings.clone();
                // Looks at files, which may take long on a network file system.
                tokio::task::spawn_blocking(move || drop(reply.send(explain(&settings, &path))));
            }
            Query::Submitted { path, reply } => {
                let settings = self.settings.clone();
                tokio::task::spawn_blocking(move || drop(reply.send(submitted(&settings, &path))));
            }
            Query::Ask { to, method, parameters, reply } => self.asks.ask(to, method, parameters, reply),
        }
    }

    /// Checks this node, with what only the running daemon knows. Only one check runs at a time; other clients get an
    /// error meanwhile.
    fn examine(&mut self, reply: oneshot::Sender<Vec<Finding>>) {
        let Ok(permit) = Arc::clone(&self.examining).try_acquire_owned() else { return };
        let mut peers = self.machine.snapshot(&Selection::default()).peers;
        peers.sort_by_key(|peer| Reverse((peer.alive, peer.last_heard)));
        let clock = self.clock;
        let asked: Vec<_> = peers
            .iter()
            .filter(|peer| peer.alive)
            .map(|peer| {
                let (reply, answer) = oneshot::channel();
                let parameters = Map::from_iter([("limit".to_owned(), 0.into()), ("here".to_owned(), true.into())]);
                self.asks.ask(peer.node.clone(), format!("{INTERFACE}.GetStatus"), parameters, reply);
                let (node, asked) = (peer.node.clone(), clock.now());
                async move {
                    let said = match answer.await {
                        Ok(Ok(answer)) => match serde_json::from_value::<GetStatus>(answer) {
                            Ok(told) => Ok((asked, Time::from_millis(told.status.now), clock.now())),
                            Err(error) => Err(error.to_string()),
                        },
                        Ok(Err(failure)) => Err(failure.to_string()),
                        Err(_) => Err("the question was dropped".to_owned()),
                    };
                    Reading { node, said }
                }
            })
            .collect();
        let running = Running {
            centrals: peers.into_iter().filter_map(|peer| Some((peer.node, peer.spool?))).collect(),
            ahead: clock.ahead(),
            clocks: Box::pin(join_all(asked)),
        };
        let (settings, origin) = (self.settings.clone(), self.origin.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let in_force = settings.clone();
            let config = tokio::task::spawn_blocking(move || match origin.load() {
                Ok(loaded) => check::config(&loaded, Some(&in_force)),
                Err(error) => check::bad_config(&error),
            });
            let (config, found) = tokio::join!(config, check::examine(&settings, Some(running)));
            // A panic in the check has ended the process.
            drop(reply.send(config.into_iter().chain(found).collect()));
        });
    }

    fn ask_journal<T: Send + 'static, F>(
        &self,
        reply: oneshot::Sender<Result<T, String>>,
        question: impl FnOnce(Arc<Journal>) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<T, JournalError>> + Send + 'static,
    {
        let journal = Arc::clone(&self.journal);
        tokio::spawn(async move {
            let answer = question(journal).await;
            drop(reply.send(answer.map_err(|error| in_full(&error))));
        });
    }
}

/// An error with its causes, in one line.
pub(super) fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
