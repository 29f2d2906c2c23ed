//! What a newer version says: a bare AMQP client sends it, because this version cannot.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use synkler::machine::{Address, Message, Mode};
use synkler::wire::encode;

use crate::peer::{Peer, channel, closed, freed, hello, node, publish_raw, settings, waiting};
use crate::shared;

/// What has been logged on this test's thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        tracing::subscriber::set_default(
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish(),
        )
    }

    fn lines(&self, part: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

/// Puts a field that nobody knows into every object of the message.
fn grown(message: &Value) -> Value {
    fn grow(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.values_mut().for_each(grow);
                fields.insert("newer".to_owned(), json!({ "as": ["yet", null, 1.5], "unknown": true }));
            }
            Value::Array(entries) => entries.iter_mut().for_each(grow),
            _ => {}
        }
    }
    let mut grown = message.clone();
    let payload = grown["words"].take();
    grow(&mut grown);
    grown["words"] = payload;
    grown["words"].as_object_mut().unwrap().values_mut().for_each(grow);
    grown
}

#[tokio::test]
async fn unknown_fields_are_ignored_and_an_unknown_kind_is_acknowledged_and_noted_once() {
    let vhost = shared().vhost();
    let log = Log::default();
    let _guard = log.capture();
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    let mut hub_peer = Peer::connected(settings(shared(), &vhost, &hub)).await;
    let mut alpha_peer = Peer::connected(settings(shared(), &vhost, &alpha)).await;
    let (_connection, channel) = channel(shared(), &vhost).await;
    let group = "g".parse().unwrap();

    // A hello and an offer with a field more in every object.
    let (_, offer) = synkler::wire::decode(
        json!({ "v": 2, "group": "g", "from": { "mode": "upload", "name": "alpha" }, "words": { "new": { "offers": [{
            "transfer": "01936f2a-5c00-7a31-9d42-6b1f0c8e2a77", "name": "a", "kind": "file", "entries": 1, "size": 0,
            "md5": "d41d8cd98f00b204e9800998ecf8427e", "minted": 1 }] } } })
        .to_string()
        .as_bytes(),
        &group,
    )
    .unwrap();
    for (to, message) in [("all", hello()), ("central", offer)] {
        let key = format!("to.{to}.upload-alpha.{}", message.kind());
        let sent = serde_json::from_slice(&encode(&group, &alpha, message.clone())[0]).unwrap();
        publish_raw(&channel, "synkler.g", &key, grown(&sent).to_string().as_bytes()).await;
        let (from, heard, tag) = hub_peer.delivery().await;
        assert_eq!((from, heard), (alpha.clone(), message));
        hub_peer.broker.acknowledge([tag]);
    }

    // An unknown kind: to this node, to all centrals, to all, and as a question, more than once each.
    let newer = |kind: &str| {
        json!({ "v": 2, "group": "g", "from": { "mode": "upload", "name": "alpha" }, "words": { kind: { "a": 1 } } })
            .to_string()
    };
    for to in ["central-hub", "central", "all", "now-central-hub"] {
        for kind in ["good-morning", "good-evening", "good-morning"] {
            let key = format!("to.{to}.upload-alpha.{kind}");
            publish_raw(&channel, "synkler.g", &key, newer(kind).as_bytes()).await;
        }
    }
    // What only resembles one is a dead letter as ever: another's name in the routing key, no name of a kind at all.
    let key = "to.central-hub.upload-beta.good-morning";
    publish_raw(&channel, "synkler.g", key, newer("good-morning").as_bytes()).await;
    let key = "to.central-hub.upload-alpha.Good";
    publish_raw(&channel, "synkler.g", key, newer("Good").as_bytes()).await;

    // Nothing of it was handed on, and the session has lived through it.
    alpha_peer.broker.publish(Address::Node(hub.clone()), freed(1));
    let (_, message, tag) = hub_peer.delivery().await;
    assert_eq!(message, freed(1));
    hub_peer.broker.acknowledge([tag]);
    // Answered after the acknowledgements before it: the broker has them all.
    hub_peer.broker.publish(Address::Node(alpha), closed(1));
    assert!(matches!(alpha_peer.delivery().await, (_, Message::Closed(_), _)));
    hub_peer.broker.close().await;
    alpha_peer.broker.close().await;
    for queue in ["synkler.g.central.hub", "synkler.g.central"] {
        assert_eq!(waiting(&channel, queue).await, 0, "{queue}");
    }
    let deadline = tokio::time::Instant::now() + crate::peer::PATIENCE;
    while waiting(&channel, "synkler.g.dead").await != 2 {
        assert!(tokio::time::Instant::now() < deadline, "{}", waiting(&channel, "synkler.g.dead").await);
    }
    for kind in ["good-morning", "good-evening"] {
        let noted = log.lines(&format!("ignored messages of kind \"{kind}\" from upload alpha"));
        assert_eq!(noted.len(), 1, "{noted:#?}");
        assert!(noted[0].contains("INFO") && noted[0].contains("upgrade synkler on this node"), "{noted:#?}");
    }
}
