//! Tests whether this node could work with the broker. Creates nothing, consumes nothing.

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection};

use crate::machine::Mode;

use super::BrokerSettings;
use super::answered::answered;
use super::fault::Fault;
use super::link::{Cutter, close, connect};
use super::topology::{Names, node_word};

/// The results, as far as the test got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// This node's own queue, and its name.
    pub own: (String, Result<QueueSight, Trouble>),
    /// The centrals' queue, and its name.
    pub central: (String, Result<QueueSight, Trouble>),
    /// Whether this account has the permissions that synkler needs.
    pub rights: Result<(), Trouble>,
}

/// A queue as another session sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueSight {
    /// It does not exist yet.
    Missing,
    /// It exists, with synkler's settings.
    There {
        /// How many messages wait in it.
        messages: u32,
        /// How many sessions consume it.
        consumers: u32,
    },
}

/// What a person can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// The broker does not answer, or the connection breaks.
    Reach,
    /// The service is not an AMQP broker.
    NotAmqp,
    /// One side does not accept the other's certificate, or has no TLS.
    Tls,
    /// The account or its password is wrong.
    Login,
    /// The vhost does not exist, or the account may not use it.
    Vhost,
    /// The account lacks a permission.
    Rights,
    /// A queue or an exchange of that name has other settings.
    Conflict,
    /// The broker does not answer, or a queue has lost its leader.
    Silent,
    /// Anything else.
    Other,
}

/// Why the broker cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Trouble {
    /// The kind of problem.
    pub kind: TroubleKind,
    /// The problem in one line.
    pub text: String,
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        let kind = match &fault {
            Fault::Unreachable(_) | Fault::Lost(_) => TroubleKind::Reach,
            Fault::NotAmqp(_) => TroubleKind::NotAmqp,
            Fault::NotTls | Fault::Untrusted(_) | Fault::Unwelcome(_) | Fault::Tls(_) => TroubleKind::Tls,
            Fault::Login | Fault::LoginByCertificate | Fault::Foreign(_) => TroubleKind::Login,
            Fault::Vhost(_) => TroubleKind::Vhost,
            Fault::Denied(_) => TroubleKind::Rights,
            Fault::Conflict(_) => TroubleKind::Conflict,
            Fault::Silent { .. } | Fault::Unserved(_) | Fault::Internal(_) => TroubleKind::Silent,
            Fault::Duplicate(_) | Fault::Setting(_) | Fault::Missing(_) | Fault::Absent(_) => TroubleKind::Other,
        };
        Self { kind, text: crate::machine::one_line(&fault.to_string()) }
    }
}

/// Logs in and tests. Each step takes at most [`ANSWER_TIMEOUT`](super::ANSWER_TIMEOUT).
///
/// # Errors
/// Why there is no session.
pub async fn probe(settings: &BrokerSettings) -> Result<Probed, Trouble> {
    let names = Names::new(&settings.group, &settings.me);
    let cutter = Cutter::default();
    let connection = connect(settings, &cutter).await?;
    let look = Look { connection: &connection, settings, names: &names };
    let probed = Probed {
        own: (names.own.clone(), look.queue(&names.own).await),
        central: (names.shared.clone(), look.queue(&names.shared).await),
        rights: look.rights().await,
    };
    close(&connection).await;
    Ok(probed)
}

fn allowed<T>(outcome: Result<T, Fault>) -> Result<(), Trouble> {
    match outcome {
        Ok(_) | Err(Fault::Missing(_)) => Ok(()),
        Err(fault) => Err(fault.into()),
    }
}

struct Look<'a> {
    connection: &'a Connection,
    settings: &'a BrokerSettings,
    names: &'a Names,
}

impl Look<'_> {
    async fn queue(&self, queue: &str) -> Result<QueueSight, Trouble> {
        let me = &self.settings.me;
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declare = channel.queue_declare(queue.into(), options, FieldTable::default());
        let found = match answered("look at a queue", me, declare).await {
            Ok(found) => found,
            Err(Fault::Missing(_)) => return Ok(QueueSight::Missing),
            Err(fault) => return Err(fault.of_queue(queue).into()),
        };
        // The queue exists, so this creates nothing; the broker compares the settings.
        match self.names.declare_kept(&channel, me, queue).await {
            // The shared objects belong to central: another node's own account may look, but not declare.
            Err(Fault::Denied(_)) if queue == self.names.shared && me.mode != Mode::Central => {}
            declared => declared?,
        }
        // A channel that stays open ends with the connection.
        let _ = answered("close a channel", me, channel.close(200, "OK".into())).await;
        Ok(QueueSight::There { messages: found.message_count(), consumers: found.consumer_count() })
    }

    /// Uses each permission on an object that does not exist: the broker checks the permission first.
    async fn rights(&self) -> Result<(), Trouble> {
        let me = &self.settings.me;
        let nothing = format!("{}.check", self.names.own);
        let channel = self.channel().await?;
        let configure = channel.queue_delete(nothing.as_str().into(), QueueDeleteOptions::default());
        allowed(answered("configure", me, configure).await)?;
        let channel = self.channel().await?;
        let read = channel.basic_get(nothing.as_str().into(), BasicGetOptions::default());
        allowed(answered("read", me, read).await)?;
        let channel = self.channel().await?;
        let key = format!("to.nobody.{}.check", node_word(me));
        let write = async {
            answered("confirm", me, channel.confirm_select(ConfirmSelectOptions::default())).await?;
            let (exchange, properties) = (self.names.exchange.as_str().into(), BasicProperties::default());
            let publish =
                channel.basic_publish(exchange, key.as_str().into(), BasicPublishOptions::default(), &[], properties);
            let confirm = answered("publish", me, publish).await?;
            answered("confirm", me, confirm).await
        };
        allowed(write.await)
    }

    async fn channel(&self) -> Result<Channel, Trouble> {
        Ok(answered("open a channel", &self.settings.me, self.connection.create_channel()).await?)
    }
}
