//! Nodes for the tests of the broker driver, and a bare AMQP client beside them.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use synkler::drivers::broker::{Broker, BrokerEvent, BrokerSettings, DeliveryTag};
use synkler::machine::{GroupPause, Hello, JournalId, Message, Mode, Node, Protocols, Reason, Time, TransferId};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::rabbit::Rabbit;

/// Far more than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn node(mode: Mode, name: &str) -> Node {
    Node::new(mode, name.parse().unwrap())
}

pub(crate) fn settings(rabbit: &Rabbit, vhost: &str, me: &Node) -> BrokerSettings {
    BrokerSettings {
        host: "127.0.0.1".to_owned(),
        port: rabbit.port(),
        vhost: vhost.to_owned(),
        username: Rabbit::USER.to_owned(),
        password: Some(Rabbit::PASSWORD.to_owned()),
        tls: None,
        group: "g".parse().unwrap(),
        me: me.clone(),
    }
}

/// A driver and what it tells.
pub(crate) struct Peer {
    pub(crate) broker: Broker,
    pub(crate) events: mpsc::Receiver<BrokerEvent>,
}

impl Peer {
    pub(crate) fn start(settings: BrokerSettings) -> Self {
        let (sender, events) = mpsc::channel(1000);
        Self { broker: Broker::start(settings, sender), events }
    }

    pub(crate) async fn connected(settings: BrokerSettings) -> Self {
        let mut peer = Self::start(settings);
        assert_eq!(peer.next().await, BrokerEvent::Connected);
        peer
    }

    pub(crate) async fn next(&mut self) -> BrokerEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("a living driver")
    }

    pub(crate) async fn delivery(&mut self) -> (Node, Message, DeliveryTag) {
        match self.next().await {
            BrokerEvent::Delivery { from, message, tag } => (from, message, tag),
            other => panic!("a delivery was expected: {other:?}"),
        }
    }

    pub(crate) async fn reason(&mut self) -> Reason {
        match self.next().await {
            BrokerEvent::Disconnected(reason) => reason,
            other => panic!("a reason was expected: {other:?}"),
        }
    }
}

pub(crate) fn freed(number: u64) -> Message {
    Message::Freed(vec![TransferId::mint(number, [7; 10])])
}

pub(crate) fn closed(number: u64) -> Message {
    Message::Closed(vec![TransferId::mint(number, [7; 10])])
}

pub(crate) fn hello() -> Message {
    Message::Hello(Box::new(Hello {
        protocols: Protocols::OURS,
        journal: JournalId(1),
        started: Time::from_millis(1),
        version: "0".to_owned(),
        slots: 1,
        reply: false,
        host: "host-1".to_owned(),
        now: Time::from_millis(2),
        paused: None,
        group: GroupPause::default(),
        free: Some(1 << 30),
        free_inodes: None,
        doing: "idle".to_owned(),
        spool: None,
    }))
}

pub(crate) async fn channel(rabbit: &Rabbit, vhost: &str) -> (Connection, lapin::Channel) {
    let uri = format!("amqp://{}:{}@127.0.0.1:{}/{vhost}", Rabbit::USER, Rabbit::PASSWORD, rabbit.port());
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

/// Publishes any bytes and waits until the broker has them.
pub(crate) async fn publish_raw(channel: &lapin::Channel, exchange: &str, key: &str, body: &[u8]) {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default().with_user_id(Rabbit::USER.into());
    let confirm = channel.basic_publish(exchange.into(), key.into(), options, body, properties).await.unwrap();
    let confirmation = confirm.await.unwrap();
    assert!(confirmation.is_ack() && confirmation.take_message().is_none(), "{key} has a queue");
}

/// How many messages a queue holds ready.
pub(crate) async fn waiting(channel: &lapin::Channel, queue: &str) -> u32 {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap().message_count()
}
