//! The outgoing side of one session: messages until they are confirmed, and the acknowledgements of deliveries.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicAckOptions, BasicPublishOptions, BasicRejectOptions};
use lapin::types::ShortString;
use lapin::{Acker, BasicProperties, Channel, Confirmation, PublisherConfirm};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::machine::{Address, Message};
use crate::wire::encode;

use super::fault::Fault;
use super::line::Outgoing;
use super::topology::{node_word, routing_key, talk_key};
use super::{BrokerSettings, CONFIRM_TIMEOUT, HELLO_EXPIRY, IN_FLIGHT_LIMIT, TALK_EXPIRY};

const TRANSIENT: u8 = 1;
const PERSISTENT: u8 = 2;

/// The answer to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Acknowledge it.
    Acknowledge,
    /// Reject it: it becomes a dead letter.
    Reject,
}

/// One write at a time, so that the order stays; up to [`IN_FLIGHT_LIMIT`] confirms are outstanding, in any order.
/// While the broker blocks the connection, the write does not end.
pub(super) struct Outbox<'a> {
    settings: &'a BrokerSettings,
    exchange: &'a str,
    channel: Channel,
    /// The prefix of message ids.
    prefix: String,
    published: u64,
    answers: VecDeque<(Acker, Answer)>,
    /// Questions and answers. They have priority over messages, because a user waits for them.
    talk: VecDeque<Publication>,
    publications: VecDeque<Publication>,
    writing: Option<(Instant, Writing)>,
    confirms: FuturesUnordered<Confirming>,
    /// Published messages without a confirm, in that order.
    unconfirmed: BTreeMap<u64, Unconfirmed>,
    confirmed_last: Instant,
    refusal_logged: bool,
    delay_logged: bool,
    #[cfg(debug_assertions)]
    future: Option<super::future::Future>,
}

type Writing = Pin<Box<dyn Future<Output = lapin::Result<Written>> + Send>>;
type Confirming = Pin<Box<dyn Future<Output = (u64, lapin::Result<Confirmation>)> + Send>>;

enum Written {
    Answer,
    Publication { number: u64, key: String, ask: Option<u64>, confirm: PublisherConfirm },
}

struct Publication {
    number: u64,
    key: String,
    ask: Option<u64>,
    properties: BasicProperties,
    body: Vec<u8>,
}

struct Unconfirmed {
    since: Instant,
    key: String,
    ask: Option<u64>,
}

impl<'a> Outbox<'a> {
    pub(super) fn new(settings: &'a BrokerSettings, exchange: &'a str, channel: Channel, session: u64) -> Self {
        Self {
            prefix: format!("{}.{}.{session}", node_word(&settings.me), std::process::id()),
            settings,
            exchange,
            channel,
            published: 0,
            answers: VecDeque::new(),
            talk: VecDeque::new(),
            publications: VecDeque::new(),
            writing: None,
            confirms: FuturesUnordered::new(),
            unconfirmed: BTreeMap::new(),
            confirmed_last: Instant::now(),
            refusal_logged: false,
            delay_logged: false,
            #[cfg(debug_assertions)]
            future: super::future::Future::begin(),
        }
    }

    /// Whether another message can be added.
    pub(super) fn has_room(&self) -> bool {
        self.talk.len() + self.publications.len() + self.unconfirmed.len() < IN_FLIGHT_LIMIT
    }

    /// Whether everything is written and confirmed.
    pub(super) fn is_idle(&self) -> bool {
        self.answers.is_empty()
            && self.talk.is_empty()
            && self.publications.is_empty()
            && self.writing.is_none()
            && self.unconfirmed.is_empty()
    }

    /// Whether the broker still answers; waiting counts from `since` at the earliest.
    ///
    /// A queue without a leader confirms nothing, which is no reason to end a session that serves all the others. If no
    /// confirm comes at all any more, it is a reason.
    pub(super) fn check_patience(&mut self, since: Instant) -> Result<(), Fault> {
        let late = |instant: Instant| instant.max(since).elapsed() > CONFIRM_TIMEOUT;
        let silent = |asked| Err(Fault::Silent { asked, seconds: CONFIRM_TIMEOUT.as_secs() });
        if self.writing.as_ref().is_some_and(|(began, _)| late(*began)) {
            return silent("take a message");
        }
        let Some((_, oldest)) = self.unconfirmed.first_key_value() else { return Ok(()) };
        if !late(oldest.since) {
            return Ok(());
        }
        if !self.has_room() && late(self.confirmed_last) {
            return silent("confirm what is published");
        }
        if !self.delay_logged {
            self.delay_logged = true;
            warn!(key = oldest.key, "the broker does not confirm a message: has the queue lost its leader?");
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, acker: Acker, answer: Answer) {
        self.answers.push_back((acker, answer));
    }

    pub(super) fn publish(&mut self, to: &Address, message: Message) {
        let key = routing_key(to, &self.settings.me, message.kind());
        let expiry = (*to == Address::All).then_some(HELLO_EXPIRY);
        #[cfg(debug_assertions)]
        self.foretell(to, expiry);
        for body in encode(&self.settings.group, &self.settings.me, message) {
            #[cfg(debug_assertions)]
            let body = self.as_ever(body);
            self.published += 1;
            let properties = self.properties(expiry);
            self.publications.push_back(Publication {
                number: self.published,
                key: key.clone(),
                ask: None,
                properties,
                body,
            });
        }
    }

    pub(super) fn send(&mut self, outgoing: Outgoing) {
        let Outgoing { to, kind, ask, body } = outgoing;
        #[cfg(debug_assertions)]
        let body = self.as_ever(body);
        self.published += 1;
        let (key, properties) = (talk_key(&to, &self.settings.me, kind), self.properties(Some(TALK_EXPIRY)));
        self.talk.push_back(Publication { number: self.published, key, ask, properties, body });
    }

    /// The message, or in a test of mixed versions, the message of a later version.
    #[cfg(debug_assertions)]
    fn as_ever(&self, body: Vec<u8>) -> Vec<u8> {
        if self.future.is_some() { super::future::Future::grown(body) } else { body }
    }

    /// Sends a message of a later version, in a test of mixed versions.
    #[cfg(debug_assertions)]
    fn foretell(&mut self, to: &Address, expiry: Option<Duration>) {
        let Self { future: Some(future), settings, .. } = self else { return };
        if let Some(body) = future.greeting(&settings.group, &settings.me) {
            self.published += 1;
            let key = routing_key(to, &self.settings.me, super::future::KIND);
            let properties = self.properties(expiry);
            self.publications.push_back(Publication { number: self.published, key, ask: None, properties, body });
        }
    }

    /// For a message that expires, a restarted broker needs no copy on disk.
    fn properties(&self, expiry: Option<Duration>) -> BasicProperties {
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_app_id("synkler".into())
            .with_message_id(format!("{}.{}", self.prefix, self.published).into())
            .with_delivery_mode(if expiry.is_some() { TRANSIENT } else { PERSISTENT });
        // The broker refuses a user id that differs from the account of the session.
        if let Ok(user) = ShortString::try_new(self.settings.username.as_str()) {
            properties = properties.with_user_id(user);
        }
        if let Some(expiry) = expiry {
            properties = properties.with_expiration(expiry.as_millis().to_string().into());
        }
        properties
    }

    /// Continues to write, or waits for a confirm; never ends while there is neither. May be dropped at any await and
    /// called again. Returns the number of a question that no node received.
    pub(super) async fn step(&mut self) -> Result<Option<u64>, Fault> {
        if self.writing.is_none() {
            self.writing = self.next_write().map(|writing| (Instant::now(), writing));
        }
        let Self { writing, confirms, .. } = self;
        let written = async {
            match writing {
                Some((_, writing)) => writing.as_mut().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            written = written => {
                self.writing = None;
                if let Written::Publication { number, key, ask, confirm } = written.map_err(|error| self.fault(&error))? {
                    self.unconfirmed.insert(number, Unconfirmed { since: Instant::now(), key, ask });
                    self.confirms.push(Box::pin(async move { (number, confirm.await) }));
                }
                Ok(None)
            }
            Some((number, confirmation)) = confirms.next() => {
                self.confirmed_last = Instant::now();
                let publication = self.unconfirmed.remove(&number);
                let confirmation = confirmation.map_err(|error| self.fault(&error))?;
                Ok(publication.and_then(|publication| self.settle(&publication, confirmation)))
            }
        }
    }

    fn fault(&self, error: &lapin::Error) -> Fault {
        Fault::using(error, &self.settings.me)
    }

    fn next_write(&mut self) -> Option<Writing> {
        if let Some((acker, answer)) = self.answers.pop_front() {
            return Some(Box::pin(async move {
                match answer {
                    Answer::Acknowledge => acker.ack(BasicAckOptions::default()).await?,
                    Answer::Reject => acker.reject(BasicRejectOptions { requeue: false }).await?,
                };
                Ok(Written::Answer)
            }));
        }
        let Publication { number, key, ask, properties, body } =
            self.talk.pop_front().or_else(|| self.publications.pop_front())?;
        let (channel, exchange) = (self.channel.clone(), ShortString::from(self.exchange));
        Some(Box::pin(async move {
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let confirm = channel.basic_publish(exchange, key.as_str().into(), options, &body, properties).await?;
            Ok(Written::Publication { number, key, ask, confirm })
        }))
    }

    /// A message that is returned or refused is dropped: the node repeats what it owes.
    fn settle(&mut self, publication: &Unconfirmed, confirmation: Confirmation) -> Option<u64> {
        let Unconfirmed { key, ask, .. } = publication;
        let stored = confirmation.is_ack();
        if confirmation.take_message().is_some() {
            debug!(key, "no queue exists for this message");
            return *ask;
        }
        if !stored && !self.refusal_logged {
            self.refusal_logged = true;
            warn!(key, "the broker refuses to store messages: is a queue of this group full?");
        }
        None
    }
}
