//! What goes out in one session: messages until they are confirmed, and the answers to deliveries.

use std::collections::VecDeque;
use std::pin::Pin;

use lapin::options::{BasicAckOptions, BasicPublishOptions, BasicRejectOptions};
use lapin::types::ShortString;
use lapin::{Acker, BasicProperties, Channel, Confirmation, PublisherConfirm};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::machine::{Address, Words};
use crate::wire::encode;

use super::fault::Fault;
use super::topology::{node_word, routing_key};
use super::{BrokerSettings, HELLO_EXPIRY, IN_FLIGHT_LIMIT};

const TRANSIENT: u8 = 1;
const PERSISTENT: u8 = 2;

/// How a delivery is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is dealt with.
    Acknowledge,
    /// It goes to the dead letters.
    Reject,
}

/// One write at a time, so that order is kept; any number of confirms up to the limit outstanding. While the
/// broker blocks the connection the write simply does not end.
pub(super) struct Outbox<'a> {
    settings: &'a BrokerSettings,
    exchange: &'a str,
    channel: Channel,
    /// What message ids begin with.
    prefix: String,
    published: u64,
    answers: VecDeque<(Acker, Answer)>,
    messages: VecDeque<Message>,
    writing: Option<(Instant, Writing)>,
    unconfirmed: VecDeque<Unconfirmed>,
    refusal_logged: bool,
}

type Writing = Pin<Box<dyn Future<Output = lapin::Result<Written>> + Send>>;

enum Written {
    Answer,
    Message(Unconfirmed),
}

struct Message {
    key: String,
    properties: BasicProperties,
    body: Vec<u8>,
}

struct Unconfirmed {
    since: Instant,
    key: String,
    confirm: PublisherConfirm,
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
            messages: VecDeque::new(),
            writing: None,
            unconfirmed: VecDeque::new(),
            refusal_logged: false,
        }
    }

    /// Whether another word may be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.messages.len() + self.unconfirmed.len() < IN_FLIGHT_LIMIT
    }

    /// Whether everything is written and confirmed.
    pub(super) fn is_idle(&self) -> bool {
        self.answers.is_empty() && self.messages.is_empty() && self.writing.is_none() && self.unconfirmed.is_empty()
    }

    /// Since when the longest wait for the broker lasts.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let writing = self.writing.as_ref().map(|(since, _)| *since);
        writing.into_iter().chain(self.unconfirmed.front().map(|first| first.since)).min()
    }

    pub(super) fn answer(&mut self, acker: Acker, answer: Answer) {
        self.answers.push_back((acker, answer));
    }

    pub(super) fn publish(&mut self, to: &Address, words: Words) {
        let key = routing_key(to, &self.settings.me, words.kind());
        let passing = *to == Address::All;
        for body in encode(&self.settings.group, &self.settings.me, words) {
            self.published += 1;
            let properties = self.properties(passing);
            self.messages.push_back(Message { key: key.clone(), properties, body });
        }
    }

    fn properties(&self, passing: bool) -> BasicProperties {
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_app_id("synkler".into())
            .with_message_id(format!("{}.{}", self.prefix, self.published).into())
            .with_delivery_mode(if passing { TRANSIENT } else { PERSISTENT });
        // The broker refuses a user id that is not the session's own account.
        if let Ok(user) = ShortString::try_new(self.settings.username.as_str()) {
            properties = properties.with_user_id(user);
        }
        if passing {
            properties = properties.with_expiration(HELLO_EXPIRY.as_millis().to_string().into());
        }
        properties
    }

    /// Goes on writing, or waits for a confirm; never ends while there is neither to do. May be dropped at
    /// any await and called again.
    pub(super) async fn step(&mut self) -> Result<(), Fault> {
        if self.writing.is_none() {
            self.writing = self.next_write().map(|writing| (Instant::now(), writing));
        }
        let Self { writing, unconfirmed, .. } = self;
        let written = async {
            match writing {
                Some((_, writing)) => writing.as_mut().await,
                None => std::future::pending().await,
            }
        };
        let confirmed = async {
            match unconfirmed.front_mut() {
                Some(first) => (&mut first.confirm).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            written = written => {
                self.writing = None;
                if let Written::Message(message) = written.map_err(|error| self.fault(&error))? {
                    self.unconfirmed.push_back(message);
                }
            }
            confirmed = confirmed => {
                let first = self.unconfirmed.pop_front();
                let confirmation = confirmed.map_err(|error| self.fault(&error))?;
                self.settle(&first.map_or_else(String::new, |first| first.key), confirmation);
            }
        }
        Ok(())
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
        let Message { key, properties, body } = self.messages.pop_front()?;
        let (channel, exchange) = (self.channel.clone(), ShortString::from(self.exchange));
        Some(Box::pin(async move {
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let confirm = channel.basic_publish(exchange, key.as_str().into(), options, &body, properties).await?;
            Ok(Written::Message(Unconfirmed { since: Instant::now(), key, confirm }))
        }))
    }

    /// A message that is returned or refused is dropped: what is owed is said again.
    fn settle(&mut self, key: &str, confirmation: Confirmation) {
        let stored = confirmation.is_ack();
        if confirmation.take_message().is_some() {
            debug!(key, "nobody has a queue for this message");
        } else if !stored && !self.refusal_logged {
            self.refusal_logged = true;
            warn!(key, "the broker refuses to store messages: is a queue of this group full?");
        }
    }
}
