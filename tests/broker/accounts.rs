//! Accounts of the nodes' own, as `synkler broker-setup` makes them: enough for the work, and for nothing else.

use std::io::Write;
use std::process::Stdio;

use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeBindOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::uri::{AMQPAuthority, AMQPUri, AMQPUserInfo};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use synkler::config::Secret;
use synkler::drivers::broker::{BrokerEvent, BrokerSettings, QueueSight, probe};
use synkler::machine::{Address, GroupId, Message, Mode, Node};
use synkler::setup::{Account, script};
use synkler::wire::encode;

use crate::peer::{Peer, channel, closed, freed, hello, node, settings, waiting};
use crate::rabbit::Rabbit;
use crate::shared;

const PASSWORD: &str = "it's secret";

/// Accounts belong to the whole broker, so each test has a group, and with it accounts, of its own.
fn group(id: &str) -> GroupId {
    id.parse().unwrap()
}

/// Runs what `broker-setup` prints.
fn make_accounts(rabbit: &Rabbit, vhost: &str, group: &GroupId, nodes: &[&Node]) {
    let accounts: Vec<_> =
        nodes.iter().map(|node| Account { node: (*node).clone(), password: Secret::new(PASSWORD) }).collect();
    let mut shell = rabbit.command("sh").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(script(vhost, group, &accounts).as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}

fn own(rabbit: &Rabbit, vhost: &str, group: &GroupId, me: &Node) -> BrokerSettings {
    let username = format!("synkler.{group}.{}.{}", me.mode, me.name.as_str().replace('.', ":"));
    let (group, password) = (group.clone(), Some(PASSWORD.to_owned()));
    BrokerSettings { username, password, group, ..settings(rabbit, vhost, me) }
}

#[tokio::test]
async fn nodes_with_accounts_of_their_own_work_together() {
    let (vhost, group) = (shared().vhost(), group("own"));
    let (alpha, hub) = (node(Mode::Upload, "alpha.example"), node(Mode::Central, "hub"));
    let delta = node(Mode::Download, "delta");
    make_accounts(shared(), &vhost, &group, &[&alpha, &hub, &delta]);

    // Only central may make what all share; the others wait for it, and say so.
    let mut alpha_peer = Peer::start(own(shared(), &vhost, &group, &alpha));
    let reason = alpha_peer.reason().await;
    assert!(reason.detail().contains("central creates it when it first connects"), "{reason}");
    let mut hub_peer = Peer::connected(own(shared(), &vhost, &group, &hub)).await;
    while alpha_peer.next().await != BrokerEvent::Connected {}
    let mut delta_peer = Peer::connected(own(shared(), &vhost, &group, &delta)).await;

    // Everything that is ever said goes through: to all, to any central, to one node, and questions.
    alpha_peer.broker.publish(Address::All, hello());
    assert_eq!(hub_peer.delivery().await.1, hello());
    assert_eq!(delta_peer.delivery().await.1, hello());
    alpha_peer.broker.publish(Address::AnyCentral, freed(1));
    assert_eq!(hub_peer.delivery().await.1, freed(1));
    alpha_peer.broker.publish(Address::Node(hub.clone()), freed(2));
    assert_eq!(hub_peer.delivery().await.1, freed(2));
    alpha_peer.broker.publish(Address::Node(delta.clone()), hello());
    assert_eq!(delta_peer.delivery().await.1, hello());
    hub_peer.broker.publish(Address::Node(alpha.clone()), closed(3));
    assert_eq!(alpha_peer.delivery().await.1, closed(3));
    hub_peer.broker.publish(Address::Node(delta.clone()), Message::Noted(vec![]));
    delta_peer.broker.publish(Address::Node(hub.clone()), Message::Done(vec![]));
    delta_peer.broker.line().ask(alpha.clone(), 7, "A.B".to_owned(), serde_json::Map::new()).unwrap();
    assert!(matches!(alpha_peer.next().await, BrokerEvent::Asked { from, ask: 7, .. } if from == delta));
    alpha_peer.broker.line().answer(delta.clone(), 7, Ok(serde_json::Map::new())).unwrap();
    assert!(matches!(delta_peer.next().await, BrokerEvent::Answered { from, ask: 7, .. } if from == alpha));

    // The examination finds nothing that an account of a node's own lacks.
    for me in [&alpha, &hub, &delta] {
        let probed = probe(&own(shared(), &vhost, &group, me)).await.unwrap();
        assert_eq!(probed.rights, Ok(()), "{me}");
        for (queue, sight) in [probed.own, probed.central] {
            assert!(matches!(sight, Ok(QueueSight::There { consumers: 1, .. })), "{me}: {queue}: {sight:?}");
        }
    }

    // An account in the config of another node is told apart at once.
    let stray = Peer::start(BrokerSettings { me: delta, ..own(shared(), &vhost, &group, &alpha) }).reason().await;
    assert!(stray.detail().contains("is the account of another node or group"), "{stray}");
}

#[tokio::test]
async fn a_shared_account_goes_on_beside_them() {
    let (vhost, group) = (shared().vhost(), group("mixed"));
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    make_accounts(shared(), &vhost, &group, &[&hub]);
    let mut alpha_peer =
        Peer::connected(BrokerSettings { group: group.clone(), ..settings(shared(), &vhost, &alpha) }).await;
    let mut hub_peer = Peer::connected(own(shared(), &vhost, &group, &hub)).await;
    alpha_peer.broker.publish(Address::AnyCentral, freed(1));
    assert_eq!(hub_peer.delivery().await.1, freed(1));
    hub_peer.broker.publish(Address::Node(alpha), closed(1));
    assert_eq!(alpha_peer.delivery().await.1, closed(1));
}

#[tokio::test]
async fn an_uploads_account_can_neither_read_nor_forge_anothers_messages() {
    let (vhost, group) = (shared().vhost(), group("g"));
    let (alpha, beta) = (node(Mode::Upload, "alpha"), node(Mode::Upload, "beta"));
    let (hub, delta) = (node(Mode::Central, "hub"), node(Mode::Download, "delta"));
    make_accounts(shared(), &vhost, &group, &[&alpha, &beta, &hub, &delta]);
    let mut hub_peer = Peer::connected(own(shared(), &vhost, &group, &hub)).await;
    let _beta_peer = Peer::connected(own(shared(), &vhost, &group, &beta)).await;
    let _delta_peer = Peer::connected(own(shared(), &vhost, &group, &delta)).await;
    let connection = login(&own(shared(), &vhost, &group, &alpha)).await;
    let account = "synkler.g.upload.alpha";
    let own_queue = "synkler.g.upload.alpha";
    let kept = QueueDeclareOptions { durable: true, ..Default::default() };
    open(&connection).await.queue_declare(own_queue.into(), kept, FieldTable::default()).await.unwrap();

    // Read: no queue but its own, and its own with no key but its own.
    for queue in ["synkler.g.upload.beta", "synkler.g.central", "synkler.g.central.hub", "synkler.g.dead"] {
        let consume = open(&connection).await;
        let consume =
            consume.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
        refused(403, "consume", queue, consume.await);
        refused(403, "get", queue, open(&connection).await.basic_get(queue.into(), BasicGetOptions::default()).await);
        refused(
            403,
            "purge",
            queue,
            open(&connection).await.queue_purge(queue.into(), QueuePurgeOptions::default()).await,
        );
        refused(
            403,
            "delete",
            queue,
            open(&connection).await.queue_delete(queue.into(), QueueDeleteOptions::default()).await,
        );
    }
    for key in [
        "#",
        "to.#",
        "to.central.#",
        "to.upload-beta.#",
        "to.*.#",
        "to.now-upload-beta.#",
        "to.upload-alpha",
        "*.upload-alpha.#",
    ] {
        let bind = open(&connection).await;
        let bind = bind.queue_bind(
            own_queue.into(),
            "synkler.g".into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        refused(403, "bind", key, bind.await);
    }
    for name in ["mine", "synkler.g.upload.beta", "synkler.g.upload.alpha2", "synkler.g.upload.alpha.other"] {
        let declare = open(&connection).await.queue_declare(name.into(), kept, FieldTable::default()).await;
        refused(403, "declare", name, declare);
    }
    for name in ["synkler.g", "synkler.g.dead", "mine"] {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declare = open(&connection).await;
        let declare = declare.exchange_declare(name.into(), ExchangeKind::Topic, durable, FieldTable::default());
        refused(403, "declare exchange", name, declare.await);
        let delete = open(&connection).await;
        refused(
            403,
            "delete exchange",
            name,
            delete.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await,
        );
    }
    let bind = open(&connection).await;
    let options = ExchangeBindOptions::default();
    let bind =
        bind.exchange_bind("synkler.g.dead".into(), "synkler.g".into(), "#".into(), options, FieldTable::default());
    refused(403, "bind exchange", "#", bind.await);

    // Say: nothing as another, nothing in another role's words, nothing past central, and nowhere else.
    for (exchange, key) in [
        ("synkler.g", "to.central.upload-beta.new"),
        ("synkler.g", "to.central.download-delta.done"),
        ("synkler.g", "to.central.upload-alpha.done"),
        ("synkler.g", "to.central.upload-alpha.release"),
        ("synkler.g", "to.upload-beta.central-hub.release"),
        ("synkler.g", "to.upload-beta.upload-alpha.release"),
        ("synkler.g", "to.download-delta.upload-alpha.withdraw"),
        ("synkler.g", "to.all.upload-alpha.new"),
        ("synkler.g", "to.all.upload-beta.hello"),
        ("synkler.g", "to.now-upload-beta.central-hub.ask"),
        ("synkler.g", "to.central.upload-alpha.new.more"),
        ("", "synkler.g.upload.beta"),
        ("amq.topic", "to.central.upload-alpha.new"),
    ] {
        let properties = BasicProperties::default().with_user_id(account.into());
        refused(403, "publish", key, say(&open(&connection).await, exchange, key, b"x", properties).await);
    }
    for forged in ["synkler.g.upload.beta", Rabbit::USER] {
        let properties = BasicProperties::default().with_user_id(forged.into());
        let key = "to.central.upload-alpha.freed";
        refused(406, "publish as", forged, say(&open(&connection).await, "synkler.g", key, b"x", properties).await);
    }

    // What it may publish and is not its own is refused by the receiver.
    let forged = encode(&group, &beta, freed(1)).remove(0);
    let nameless = encode(&group, &alpha, freed(2)).remove(0);
    let key = "to.central.upload-alpha.freed";
    let signed = BasicProperties::default().with_user_id(account.into());
    say(&open(&connection).await, "synkler.g", key, &forged, signed.clone()).await.unwrap();
    say(&open(&connection).await, "synkler.g", key, &nameless, BasicProperties::default()).await.unwrap();
    let honest = encode(&group, &alpha, freed(3)).remove(0);
    say(&open(&connection).await, "synkler.g", key, &honest, signed).await.unwrap();
    let (from, message, tag) = hub_peer.delivery().await;
    assert_eq!((from, message), (alpha, freed(3)), "the only one that is what it says");
    hub_peer.broker.acknowledge([tag]);
    hub_peer.broker.close().await;
    let (_connection, channel) = channel(shared(), &vhost).await;
    while waiting(&channel, "synkler.g.dead").await < 2 {
        tokio::task::yield_now().await;
    }
}

async fn login(settings: &BrokerSettings) -> Connection {
    let userinfo = AMQPUserInfo { username: settings.username.clone(), password: settings.password.clone().unwrap() };
    let authority = AMQPAuthority { userinfo, host: settings.host.clone(), port: settings.port };
    let uri = AMQPUri { authority, vhost: settings.vhost.clone(), ..Default::default() };
    Connection::connect_uri(uri, ConnectionProperties::default()).await.unwrap()
}

/// A refusal closes a channel, so each attempt has one of its own.
async fn open(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel
}

async fn say(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> lapin::Result<()> {
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?.await.map(|_| ())
}

fn refused<T>(code: u16, what: &str, of: &str, outcome: lapin::Result<T>) {
    let Err(error) = outcome else { panic!("{what} {of:?} is allowed") };
    let lapin::ErrorKind::ProtocolError(error) = error.kind() else { panic!("{what} {of:?}: {error}") };
    assert_eq!(error.get_id(), code, "{what} {of:?}: {error}");
}
