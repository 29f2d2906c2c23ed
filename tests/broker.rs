//! The broker driver against a real RabbitMQ.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::types::FieldTable;
use synkler::drivers::broker::{BrokerEvent, BrokerSettings, PREFETCH};
use synkler::machine::{Address, Cause, Message, Mode, TransferId};
use synkler::wire::{MESSAGE_LIMIT, encode};

#[path = "broker/accounts.rs"]
mod accounts;
#[path = "broker/newer.rs"]
mod newer;
#[path = "support/peer.rs"]
mod peer;
#[path = "broker/questions.rs"]
mod questions;
#[path = "support/rabbit.rs"]
mod rabbit;
#[path = "broker/tls.rs"]
mod tls;

use peer::{PATIENCE, Peer, channel, closed, freed, hello, node, publish_raw, settings, waiting};
use rabbit::Rabbit;

/// One broker for the tests that leave it alone; each has a virtual host of its own.
fn shared() -> &'static Rabbit {
    static RABBIT: OnceLock<Rabbit> = OnceLock::new();
    RABBIT.get_or_init(Rabbit::start)
}

#[tokio::test]
async fn words_reach_whom_they_are_for_once() {
    let vhost = shared().vhost();
    let (alpha, beta) = (node(Mode::Upload, "alpha.example"), node(Mode::Upload, "beta"));
    let (hub, far) = (node(Mode::Central, "hub"), node(Mode::Central, "far"));
    let mut hub_peer = Peer::connected(settings(shared(), &vhost, &hub)).await;
    let mut far_peer = Peer::connected(settings(shared(), &vhost, &far)).await;
    let mut alpha_peer = Peer::connected(settings(shared(), &vhost, &alpha)).await;
    let mut beta_peer = Peer::connected(settings(shared(), &vhost, &beta)).await;

    // To one node.
    hub_peer.broker.publish(Address::Node(alpha.clone()), closed(1));
    let (from, message, tag) = alpha_peer.delivery().await;
    assert_eq!((from, message), (hub.clone(), closed(1)));
    alpha_peer.broker.acknowledge([tag, tag]);

    // To all but the sender itself, which hears the next word first.
    alpha_peer.broker.publish(Address::All, hello());
    for peer in [&mut hub_peer, &mut far_peer, &mut beta_peer] {
        let (from, message, tag) = peer.delivery().await;
        assert_eq!((from, message), (alpha.clone(), hello()));
        peer.broker.acknowledge([tag]);
    }
    hub_peer.broker.publish(Address::Node(alpha.clone()), closed(2));
    let (_, message, tag) = alpha_peer.delivery().await;
    assert_eq!(message, closed(2));
    alpha_peer.broker.acknowledge([tag]);

    // To either central, each word to one of them, and nobody is left out for good.
    for number in 0..20 {
        beta_peer.broker.publish(Address::AnyCentral, freed(number));
    }
    let mut heard = Vec::new();
    let mut each = [0, 0];
    while heard.len() < 20 {
        let (index, event) = tokio::select! {
            event = hub_peer.next() => (0, event),
            event = far_peer.next() => (1, event),
        };
        let BrokerEvent::Delivery { message, tag, .. } = event else { panic!("{event:?}") };
        [&hub_peer, &far_peer][index].broker.acknowledge([tag]);
        each[index] += 1;
        heard.push(message);
    }
    heard.sort();
    assert_eq!(heard, (0..20).map(freed).collect::<Vec<_>>());
    assert!(each[0] > 0 && each[1] > 0, "{each:?}");

    // Acknowledged words do not come again.
    for peer in [hub_peer, far_peer, alpha_peer, beta_peer] {
        peer.broker.close().await;
    }
    let mut again = Peer::connected(settings(shared(), &vhost, &alpha)).await;
    let hub_peer = Peer::connected(settings(shared(), &vhost, &hub)).await;
    hub_peer.broker.publish(Address::Node(alpha), closed(3));
    assert_eq!(again.delivery().await.1, closed(3));
    let (_connection, channel) = channel(shared(), &vhost).await;
    assert_eq!(waiting(&channel, "synkler.g.central").await, 0);
    assert_eq!(waiting(&channel, "synkler.g.dead").await, 0);
}

#[tokio::test]
async fn words_that_are_not_acknowledged_come_again() {
    let vhost = shared().vhost();
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    let mut hub_peer = Peer::connected(settings(shared(), &vhost, &hub)).await;
    let alpha_peer = Peer::connected(settings(shared(), &vhost, &alpha)).await;
    alpha_peer.broker.publish(Address::Node(hub.clone()), freed(1));
    alpha_peer.broker.publish(Address::AnyCentral, freed(2));
    let mut tags = Vec::new();
    for _ in 0..2 {
        tags.push(hub_peer.delivery().await.2);
    }

    // The broker ends the session: a new one starts, in which the old tags mean nothing.
    shared().tool("rabbitmqctl", &["close_all_connections", "--vhost", &vhost, "test"]);
    let reason = hub_peer.reason().await;
    assert_eq!(reason.cause(), Cause::Broker);
    assert!(reason.detail().contains("320"), "{reason}");
    assert_eq!(hub_peer.next().await, BrokerEvent::Connected);
    let mut heard = Vec::new();
    for _ in 0..2 {
        heard.push(hub_peer.delivery().await);
    }
    hub_peer.broker.acknowledge(tags);
    hub_peer.broker.close().await;

    // A crash instead of a farewell: the runtime and all that lives in it just ends.
    let again = settings(shared(), &vhost, &hub);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut hub_peer = Peer::connected(again).await;
            for _ in 0..2 {
                hub_peer.delivery().await;
            }
        });
    })
    .join()
    .unwrap();
    let mut hub_peer = Peer::start(settings(shared(), &vhost, &hub));
    let mut heard = Vec::new();
    while heard.len() < 2 {
        // The crashed one's session may linger for a moment.
        if let BrokerEvent::Delivery { message, tag, .. } = hub_peer.next().await {
            heard.push(message);
            hub_peer.broker.acknowledge([tag]);
        }
    }
    heard.sort();
    assert_eq!(heard, [freed(1), freed(2)]);
    hub_peer.broker.close().await;
    let (_connection, channel) = channel(shared(), &vhost).await;
    assert_eq!(waiting(&channel, "synkler.g.central").await, 0);
    assert_eq!(waiting(&channel, "synkler.g.central.hub").await, 0);
}

#[tokio::test]
async fn a_word_for_nobody_does_no_harm() {
    let vhost = shared().vhost();
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    let mut alpha_peer = Peer::start(settings(shared(), &vhost, &alpha));
    // Said before there is a session: dropped.
    alpha_peer.broker.publish(Address::Node(alpha.clone()), freed(1));
    assert_eq!(alpha_peer.next().await, BrokerEvent::Connected);
    alpha_peer.broker.publish(Address::AnyCentral, freed(2));
    alpha_peer.broker.publish(Address::Node(hub.clone()), freed(3));
    alpha_peer.broker.publish(Address::AnyCentral, Message::Freed(Vec::new()));
    let mut hub_peer = Peer::connected(settings(shared(), &vhost, &hub)).await;
    alpha_peer.broker.publish(Address::Node(hub), freed(4));
    loop {
        let (_, message, tag) = hub_peer.delivery().await;
        hub_peer.broker.acknowledge([tag]);
        if message == freed(4) {
            break;
        }
    }
    assert!(alpha_peer.events.try_recv().is_err(), "the session has lasted");
}

/// A listener that says `greeting` to whoever connects, and then nothing.
fn impostor(greeting: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            stream.write_all(greeting).unwrap();
            held.push(stream);
        }
    });
    port
}

#[tokio::test]
async fn each_failure_to_connect_says_what_it_is() {
    let alpha = node(Mode::Upload, "alpha");
    let good = settings(shared(), "test0", &alpha);
    let closed_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let broken = |change: &dyn Fn(&mut BrokerSettings)| {
        let mut settings = good.clone();
        change(&mut settings);
        settings
    };
    let cases = [
        (broken(&|s| s.password = Some("wrong".to_owned())), "the login is refused"),
        (broken(&|s| s.username = "stranger".to_owned()), "the login is refused"),
        (broken(&|s| s.vhost = "nosuch".to_owned()), "the vhost is refused: 530 NOT_ALLOWED - vhost nosuch not found"),
        (broken(&|s| s.username = "nobody".to_owned()), "the vhost is refused: 530 NOT_ALLOWED - access"),
        (broken(&|s| s.port = closed_port), "cannot be reached: Connection refused"),
        (broken(&|s| s.host = "no-such-host.invalid".to_owned()), "cannot be reached: failed to lookup"),
        (broken(&|s| s.port = impostor(b"SSH-2.0-OpenSSH_9.2p1\r\n")), "not an AMQP 0-9-1 broker"),
        (broken(&|s| s.port = impostor(b"HTTP/1.1 400 Bad Request\r\n\r\n")), "not an AMQP 0-9-1 broker"),
        (broken(&|s| s.port = impostor(b"AMQP\0\x01\0\0")), "not an AMQP 0-9-1 broker"),
        (broken(&|s| s.port = impostor(b"\x15\x03\x01\x00\x02\x02\x46")), "not an AMQP 0-9-1 broker"),
        (broken(&|s| s.port = impostor(b"")), "no answer within 10 s to: the AMQP greeting"),
        (broken(&|s| s.vhost = "v".repeat(256)), "vhost is longer than the 255 bytes"),
    ];
    let attempts = cases.map(|(settings, expected)| {
        tokio::spawn(async move {
            let place = format!("{}:{}", settings.host, settings.port);
            let mut peer = Peer::start(settings);
            let reason = peer.reason().await;
            peer.broker.close().await;
            (reason, expected, place)
        })
    });
    for attempt in attempts {
        let (reason, expected, place) = attempt.await.unwrap();
        println!("{reason}");
        assert_eq!(reason.cause(), Cause::Broker);
        assert!(reason.detail().contains(expected), "{expected}: {reason}");
        assert!(!reason.detail().contains(Rabbit::PASSWORD));
        if expected != "vhost is longer than the 255 bytes" {
            assert!(reason.detail().contains(&place), "{place}: {reason}");
        }
    }
}

#[tokio::test]
async fn a_silent_port_is_hung_up_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(shared(), "test0", &node(Mode::Upload, "alpha"));
    settings.port = listener.local_addr().unwrap().port();
    let mut peer = Peer::start(settings);
    let (mut stream, _) = tokio::task::spawn_blocking(move || listener.accept().unwrap()).await.unwrap();
    assert!(peer.reason().await.detail().contains("no answer"));
    let heard = tokio::task::spawn_blocking(move || {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).map(|_| heard)
    });
    assert_eq!(heard.await.unwrap().unwrap(), b"AMQP\0\0\x09\x01", "then the end, and nothing waits for more");
}

#[tokio::test]
async fn an_account_without_rights_is_told_so() {
    let vhost = shared().vhost();
    // What the group shares is there already: central makes it.
    let _hub = Peer::connected(settings(shared(), &vhost, &node(Mode::Central, "hub"))).await;
    shared().tool("rabbitmqctl", &["set_permissions", "--vhost", &vhost, "nobody", "^$", "^$", "^$"]);
    let mut settings = settings(shared(), &vhost, &node(Mode::Upload, "alpha"));
    settings.username = "nobody".to_owned();
    let mut peer = Peer::start(settings);
    let reason = peer.reason().await;
    println!("{reason}");
    assert!(reason.detail().contains("the account lacks a permission that synkler needs: 403"), "{reason}");
}

#[tokio::test]
async fn an_exchange_of_other_settings_is_named() {
    let vhost = shared().vhost();
    let (_connection, channel) = channel(shared(), &vhost).await;
    let options = lapin::options::ExchangeDeclareOptions::default();
    let kind = lapin::ExchangeKind::Topic;
    channel.exchange_declare("synkler.g".into(), kind, options, FieldTable::default()).await.unwrap();
    let mut peer = Peer::start(settings(shared(), &vhost, &node(Mode::Upload, "alpha")));
    let reason = peer.reason().await;
    println!("{reason}");
    assert!(reason.detail().contains("406") && reason.detail().contains("synkler.g"), "{reason}");
}

#[tokio::test]
async fn bad_messages_become_dead_letters_once() {
    let vhost = shared().vhost();
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    let mut hub_peer = Peer::connected(settings(shared(), &vhost, &hub)).await;
    let alpha_peer = Peer::connected(settings(shared(), &vhost, &alpha)).await;
    let (_connection, channel) = channel(shared(), &vhost).await;

    let group = "g".parse().unwrap();
    let good = String::from_utf8(encode(&group, &alpha, freed(1)).remove(0)).unwrap();
    let offer = |name: &str, md5: &str| {
        format!(
            "{{\"v\":2,\"group\":\"g\",\"from\":{{\"mode\":\"upload\",\"name\":\"alpha\"}},\"words\":{{\"new\":\
             {{\"offers\":[{{\"transfer\":\"{}\",\"name\":\"{name}\",\"kind\":\"file\",\"entries\":1,\"size\":0,\
             \"md5\":\"{md5}\"}}]}}}}}}",
            TransferId::mint(1, [7; 10])
        )
    };
    let md5 = "d41d8cd98f00b204e9800998ecf8427e";
    let new = "to.central.upload-alpha.new";
    let freed_key = "to.central-hub.upload-alpha.freed";
    let bad = [
        (freed_key, "\u{80}\u{4}not json, but a pickle, perhaps".to_owned()),
        (freed_key, good.replace("\"v\":2", "\"v\":3")),
        (freed_key, " ".repeat(MESSAGE_LIMIT + 1)),
        (new, offer("a/../b", md5)),
        (new, offer("a%00b", md5)),
        (new, offer("..", md5)),
        (new, offer("a", &md5[1..])),
        (new, offer("a", &md5.to_uppercase())),
        ("to.central.upload-mallory.freed", good.clone()),
        (freed_key, good.replace("alpha", "al pha")),
        (freed_key, good.replace("upload", "download")),
        (freed_key, good.replace("\"group\":\"g\"", "\"group\":\"other\"")),
        ("to.all.upload-alpha.nonsense", good.clone()),
    ];
    for (key, body) in &bad {
        publish_raw(&channel, "synkler.g", key, body.as_bytes()).await;
    }
    // By way of the default exchange, past all bindings.
    publish_raw(&channel, "", "synkler.g.central.hub", good.as_bytes()).await;

    // The session lives: what comes after is heard, and nothing of the above.
    alpha_peer.broker.publish(Address::Node(hub.clone()), freed(2));
    alpha_peer.broker.publish(Address::AnyCentral, freed(3));
    let mut heard = Vec::new();
    for _ in 0..2 {
        let (_, message, tag) = hub_peer.delivery().await;
        hub_peer.broker.acknowledge([tag]);
        heard.push(message);
    }
    heard.sort();
    assert_eq!(heard, [freed(2), freed(3)]);
    hub_peer.broker.close().await;
    alpha_peer.broker.close().await;

    // What is said to all reaches each of the two, and each refuses its copy.
    let mut expected: Vec<Vec<u8>> = bad.iter().map(|(_, body)| body.clone().into_bytes()).collect();
    expected.extend([good.clone().into_bytes(), good.into_bytes()]);
    let mut dead = Vec::new();
    let began = Instant::now();
    while dead.len() < expected.len() && began.elapsed() < PATIENCE {
        match channel.basic_get("synkler.g.dead".into(), BasicGetOptions::default()).await.unwrap() {
            Some(message) => {
                message.ack(BasicAckOptions::default()).await.unwrap();
                dead.push(message.delivery.data);
            }
            None => tokio::task::yield_now().await,
        }
    }
    expected.sort();
    dead.sort();
    assert!(dead == expected, "{} of {} dead letters", dead.len(), expected.len());
    for queue in ["synkler.g.dead", "synkler.g.central", "synkler.g.central.hub"] {
        assert_eq!(waiting(&channel, queue).await, 0, "{queue}");
    }
}

#[tokio::test]
async fn a_second_node_of_the_same_name_waits_for_the_first_to_go() {
    let vhost = shared().vhost();
    let alpha = node(Mode::Upload, "alpha");
    let first = Peer::connected(settings(shared(), &vhost, &alpha)).await;
    let mut second = Peer::start(settings(shared(), &vhost, &alpha));
    let reason = second.reason().await;
    println!("{reason}");
    assert!(reason.detail().contains("another node named upload alpha is in the group"), "{reason}");
    // The same name in another mode is another node.
    let other = Peer::connected(settings(shared(), &vhost, &node(Mode::Download, "alpha"))).await;
    other.broker.close().await;
    first.broker.close().await;
    assert_eq!(second.next().await, BrokerEvent::Connected);
}

#[tokio::test]
async fn a_broker_that_comes_back_is_used_again() {
    let mut rabbit = Rabbit::start();
    let vhost = rabbit.vhost();
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    let mut alpha_peer = Peer::connected(settings(&rabbit, &vhost, &alpha)).await;
    let mut hub_peer = Peer::connected(settings(&rabbit, &vhost, &hub)).await;
    alpha_peer.broker.publish(Address::Node(hub.clone()), freed(1));
    assert_eq!(hub_peer.delivery().await.1, freed(1), "and it stays unacknowledged");

    rabbit.kill();
    for peer in [&mut alpha_peer, &mut hub_peer] {
        println!("{}", peer.reason().await);
    }
    alpha_peer.broker.publish(Address::Node(hub.clone()), freed(2));
    rabbit.restart();
    for peer in [&mut alpha_peer, &mut hub_peer] {
        // Each way to fail is told once while it lasts.
        let mut told = Vec::new();
        while let BrokerEvent::Disconnected(reason) = peer.next().await {
            assert!(told.last() != Some(&reason), "{reason}");
            told.push(reason);
        }
    }
    let (_, message, tag) = hub_peer.delivery().await;
    assert_eq!(message, freed(1), "the broker has kept it");
    hub_peer.broker.acknowledge([tag]);
    alpha_peer.broker.publish(Address::Node(hub.clone()), freed(3));
    let (_, message, tag) = hub_peer.delivery().await;
    assert_eq!(message, freed(3), "what was said without a session is not said later");
    hub_peer.broker.acknowledge([tag]);

    // A broker short of disk takes no messages, says so, and says when it does again. It notices the publisher
    // only, so only the publisher is told.
    rabbit.tool("rabbitmqctl", &["set_disk_free_limit", "900GB"]);
    alpha_peer.broker.publish(Address::Node(hub.clone()), freed(4));
    let reason = alpha_peer.reason().await;
    println!("{reason}");
    assert!(reason.detail().contains("accepts no messages") && reason.detail().contains("disk"), "{reason}");
    alpha_peer.broker.publish(Address::Node(hub.clone()), freed(5));
    rabbit.tool("rabbitmqctl", &["set_disk_free_limit", "50MB"]);
    assert_eq!(alpha_peer.next().await, BrokerEvent::Connected);
    alpha_peer.broker.publish(Address::Node(hub), freed(6));
    for expected in [freed(4), freed(6)] {
        let (_, message, tag) = hub_peer.delivery().await;
        assert_eq!(message, expected);
        hub_peer.broker.acknowledge([tag]);
    }
    let began = Instant::now();
    alpha_peer.broker.close().await;
    hub_peer.broker.close().await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_thousand_words_go_there_and_back() {
    const COUNT: u64 = 1000;
    let vhost = shared().vhost();
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    let mut hub_peer = Peer::connected(settings(shared(), &vhost, &hub)).await;
    let mut alpha_peer = Peer::connected(settings(shared(), &vhost, &alpha)).await;
    let began = Instant::now();
    for number in 0..COUNT {
        alpha_peer.broker.publish(Address::Node(hub.clone()), freed(number));
    }
    let answering = tokio::spawn(async move {
        for number in 0..COUNT {
            let (from, message, tag) = hub_peer.delivery().await;
            assert_eq!(message, freed(number), "in order while nothing breaks");
            hub_peer.broker.acknowledge([tag]);
            hub_peer.broker.publish(Address::Node(from), closed(number));
        }
        hub_peer.broker.close().await;
    });
    for number in 0..COUNT {
        let (_, message, tag) = alpha_peer.delivery().await;
        assert_eq!(message, closed(number));
        alpha_peer.broker.acknowledge([tag]);
    }
    answering.await.unwrap();
    let rate = COUNT as f64 / began.elapsed().as_secs_f64();
    println!("{COUNT} words there and back: {rate:.0} round trips a second");
    assert!(rate > 200.0, "{rate:.0} round trips a second");
    alpha_peer.broker.close().await;
    let (_connection, channel) = channel(shared(), &vhost).await;
    assert_eq!(waiting(&channel, "synkler.g.dead").await, 0);
    // A quorum queue takes acknowledgements at its leisure: what was on its way when the channel went may come again.
    for queue in ["synkler.g.central.hub", "synkler.g.upload.alpha"] {
        let left = waiting(&channel, queue).await;
        assert!(left <= u32::from(PREFETCH), "{queue} holds {left}");
    }
}
