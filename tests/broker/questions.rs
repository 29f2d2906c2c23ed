//! Nodes that ask each other: each is a driver, its open questions, and something that answers.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use synkler::control::{AskFailure, Refusal};
use synkler::daemon::Asks;
use synkler::drivers::broker::{BrokerEvent, BrokerSettings, TALK_EXPIRY, TALK_QUEUE_LIMIT};
use synkler::machine::{Address, Mode, Node, Time};
use synkler::wire::{ANSWER_LIMIT, ASK_LIMIT};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use crate::peer::{PATIENCE, Peer, channel, closed, freed, node, publish_raw, settings, waiting};
use crate::shared;

type Outcome = Result<Value, AskFailure>;
type Question = (Node, String, Map<String, Value>, oneshot::Sender<Outcome>);

/// A node that asks what it is told to, and answers what it is asked.
struct Talker {
    questions: mpsc::Sender<Question>,
    task: JoinHandle<Peer>,
}

impl Talker {
    /// Connects, and answers with what `answer` makes of method and parameters.
    async fn start(
        settings: BrokerSettings,
        answer: impl Fn(&Node, &str, Map<String, Value>) -> Result<Value, Refusal> + Send + 'static,
    ) -> Self {
        let mut peer = Peer::connected(settings).await;
        let mut asks = Asks::new(peer.broker.line(), Time::from_millis(1_795_460_400_000));
        let (questions, mut queue) = mpsc::channel::<Question>(1000);
        let task = tokio::spawn(async move {
            loop {
                let due = asks.due().unwrap_or_else(|| tokio::time::Instant::now() + PATIENCE);
                tokio::select! {
                    question = queue.recv() => match question {
                        Some((to, method, parameters, reply)) => asks.ask(to, method, parameters, reply),
                        None => return peer,
                    },
                    () = sleep_until(due) => asks.expire(tokio::time::Instant::now()),
                    event = peer.events.recv() => match event.unwrap() {
                        BrokerEvent::Asked { from, ask, method, parameters } => {
                            let outcome = answer(&from, &method, parameters);
                            asks.answer(from, ask, async { outcome });
                        }
                        BrokerEvent::Answered { from, ask, outcome } => asks.answered(&from, ask, outcome),
                        BrokerEvent::Undelivered { ask } => asks.undelivered(ask),
                        BrokerEvent::Disconnected(_) => asks.cut_off(),
                        BrokerEvent::Connected => {}
                        BrokerEvent::Delivery { tag, .. } => peer.broker.acknowledge([tag]),
                    },
                }
            }
        });
        Self { questions, task }
    }

    /// Asks without waiting.
    async fn begin(&self, to: &Node, method: &str, parameters: Value) -> oneshot::Receiver<Outcome> {
        let (reply, outcome) = oneshot::channel();
        let parameters = parameters.as_object().unwrap().clone();
        self.questions.send((to.clone(), method.to_owned(), parameters, reply)).await.unwrap();
        outcome
    }

    async fn ask(&self, to: &Node, method: &str, parameters: Value) -> Outcome {
        timeout(PATIENCE, self.begin(to, method, parameters).await).await.unwrap().unwrap()
    }

    async fn end(self) -> Peer {
        drop(self.questions);
        self.task.await.unwrap()
    }
}

/// Says what it was asked, and by whom.
fn echo(from: &Node, method: &str, parameters: Map<String, Value>) -> Result<Value, Refusal> {
    Ok(json!({ "from": from.to_string(), "method": method, "parameters": parameters }))
}

fn why(outcome: Outcome) -> String {
    match outcome {
        Err(AskFailure::Silent(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Nothing is left in any queue of these nodes, and no dead letter.
async fn assert_no_residue(vhost: &str, nodes: &[&str]) {
    let (_connection, channel) = channel(shared(), vhost).await;
    assert_eq!(waiting(&channel, "synkler.g.dead").await, 0);
    for node in nodes {
        assert_eq!(waiting(&channel, &format!("synkler.g.{node}")).await, 0, "{node}");
    }
}

#[tokio::test]
async fn a_question_is_answered() {
    let vhost = shared().vhost();
    let (alpha, hub) = (node(Mode::Upload, "alpha.example"), node(Mode::Central, "hub"));
    let asker = Talker::start(settings(shared(), &vhost, &alpha), echo).await;
    let refusing = |_: &Node, method: &str, parameters: Map<String, Value>| match method {
        "io.synkler.Control.GetStatus" => Ok(json!({ "status": parameters })),
        _ => Err(Refusal::MethodNotFound(method.to_owned())),
    };
    let answerer = Talker::start(settings(shared(), &vhost, &hub), refusing).await;

    let began = Instant::now();
    let reply = asker.ask(&hub, "io.synkler.Control.GetStatus", json!({ "item": "café\u{0}\u{1F600}" })).await;
    assert_eq!(reply, Ok(json!({ "status": { "item": "café\u{0}\u{1F600}" } })));
    println!("asked and answered in {:?}", began.elapsed());
    let reply = asker.ask(&hub, "io.synkler.Control.NoSuch", json!({})).await;
    assert_eq!(
        reply,
        Err(AskFailure::Refused(Refusal::MethodNotFound("io.synkler.Control.NoSuch".to_owned()))),
        "an error comes as it is"
    );
    // A node may ask itself.
    let reply = asker.ask(&alpha, "A.B", json!({})).await.unwrap();
    assert_eq!(reply["from"], "upload alpha.example");
    asker.end().await.broker.close().await;
    answerer.end().await.broker.close().await;
    assert_no_residue(&vhost, &["central.hub", "upload.alpha:example"]).await;
}

#[tokio::test]
async fn nobody_waits_longer_than_the_deadline() {
    let vhost = shared().vhost();
    let (alpha, hub, far) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"), node(Mode::Central, "far"));
    let asker = Talker::start(settings(shared(), &vhost, &alpha), echo).await;

    // No such node, and one that is away though it has its queue: known at once.
    Peer::connected(settings(shared(), &vhost, &far)).await.broker.close().await;
    for absent in [&hub, &far] {
        let began = Instant::now();
        let why = why(asker.ask(absent, "A.B", json!({})).await);
        assert_eq!(why, format!("{absent} has no session with the broker"));
        assert!(began.elapsed() < TALK_EXPIRY, "{:?}", began.elapsed());
    }

    // One that is there and says nothing: at the deadline, and what it says later is not heard.
    let mut silent = Peer::connected(settings(shared(), &vhost, &hub)).await;
    let began = Instant::now();
    assert_eq!(why(asker.ask(&hub, "A.B", json!({})).await), "central hub has not answered within 2 s");
    assert!(began.elapsed() >= TALK_EXPIRY && began.elapsed() < TALK_EXPIRY * 3, "{:?}", began.elapsed());
    let BrokerEvent::Asked { from, ask, .. } = silent.next().await else { panic!("a question") };
    let line = silent.broker.line();
    line.answer(from, ask, Ok(Map::new())).unwrap();

    // Somebody else's answer, or one to another question, is none.
    let open = asker.begin(&hub, "A.B", json!({})).await;
    let BrokerEvent::Asked { from, ask, .. } = silent.next().await else { panic!("a question") };
    let false_friend = Peer::connected(settings(shared(), &vhost, &far)).await;
    false_friend.broker.line().answer(from.clone(), ask, Ok(Map::new())).unwrap();
    line.answer(from.clone(), ask + 1, Ok(Map::new())).unwrap();
    let right = json!({ "right": true });
    // The false one is on its way already, but only this order makes it arrive first.
    assert_eq!(asker.ask(&alpha, "A.B", json!({})).await.unwrap()["method"], "A.B");
    line.answer(from, ask, Ok(right.as_object().unwrap().clone())).unwrap();
    assert_eq!(timeout(PATIENCE, open).await.unwrap().unwrap(), Ok(right));

    // So many at once and no more; those whose askers have gone do not count.
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(asker.begin(&hub, "A.B", json!({})).await);
    }
    let one_too_many = why(asker.ask(&hub, "A.B", json!({})).await);
    assert!(one_too_many.contains("64 questions already wait"), "{one_too_many}");
    open.truncate(63);
    assert!(asker.ask(&alpha, "A.B", json!({})).await.is_ok());
    for outcome in open {
        assert_eq!(why(timeout(PATIENCE, outcome).await.unwrap().unwrap()), "central hub has not answered within 2 s");
    }

    for peer in [asker.end().await, silent, false_friend] {
        peer.broker.close().await;
    }
    assert_no_residue(&vhost, &["central.hub", "central.far", "upload.alpha"]).await;
}

#[tokio::test]
async fn what_nobody_takes_piles_up_nowhere() {
    let vhost = shared().vhost();
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    let asker = Peer::connected(settings(shared(), &vhost, &alpha)).await;
    // Connected, but its daemon hears nothing: one event is all that has room.
    let (sender, mut events) = mpsc::channel(1);
    let broker = synkler::drivers::broker::Broker::start(settings(shared(), &vhost, &hub), sender);
    assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap(), Some(BrokerEvent::Connected));
    let count = 3 * u64::from(TALK_QUEUE_LIMIT);
    for ask in 0..count {
        while asker.broker.line().ask(hub.clone(), ask, "A.B".to_owned(), Map::new()).is_err() {
            tokio::task::yield_now().await;
        }
    }
    // Words are heard all the same, behind no more questions than are kept.
    asker.broker.publish(Address::Node(hub.clone()), freed(1));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let scope = vhost.clone();
        let list =
            move || shared().tool("rabbitmqctl", &["list_queues", "--quiet", "--vhost", &scope, "name", "messages"]);
        let rows = tokio::task::spawn_blocking(list).await.unwrap();
        let queued = |queue: &str| {
            let row = rows.lines().find(|row| row.split('\t').next() == Some(queue)).expect(&rows);
            row.split('\t').nth(1).unwrap().parse::<u64>().unwrap()
        };
        if queued("synkler.g.central.hub.now") == 0 && queued("synkler.g.central.hub") == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "{rows}");
    }
    let mut questions = 0;
    loop {
        match timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            BrokerEvent::Asked { .. } => questions += 1,
            BrokerEvent::Delivery { message, tag, .. } => {
                assert_eq!(message, freed(1));
                broker.acknowledge([tag]);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(questions <= TALK_QUEUE_LIMIT + 1, "{questions} of {count}");
    broker.close().await;
    asker.broker.close().await;
    assert_no_residue(&vhost, &["central.hub", "upload.alpha"]).await;
}

#[tokio::test]
async fn what_is_too_long_becomes_an_error() {
    let vhost = shared().vhost();
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    let asker = Talker::start(settings(shared(), &vhost, &alpha), echo).await;
    let long = |_: &Node, _: &str, parameters: Map<String, Value>| {
        let length = parameters["length"].as_u64().unwrap();
        Ok(json!({ "text": "x".repeat(usize::try_from(length).unwrap()) }))
    };
    let answerer = Talker::start(settings(shared(), &vhost, &hub), long).await;

    let length = ANSWER_LIMIT - 1000;
    let reply = asker.ask(&hub, "A.B", json!({ "length": length })).await.unwrap();
    assert_eq!(reply["text"].as_str().unwrap().len(), length, "a long answer comes whole");
    match asker.ask(&hub, "A.B", json!({ "length": ANSWER_LIMIT })).await {
        Err(AskFailure::Refused(refusal)) => {
            assert_eq!(refusal.name(), "io.synkler.Control.Refused");
            let reason = refusal.parameters()["reason"].as_str().unwrap().to_owned();
            assert!(reason.contains("at most 1048576 are allowed"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let reason = why(asker.ask(&hub, "A.B", json!({ "x": "x".repeat(ASK_LIMIT) })).await);
    assert!(reason.contains("cannot ask") && reason.contains("at most 65536"), "{reason}");
    answerer.end().await.broker.close().await;
    asker.end().await.broker.close().await;
    assert_no_residue(&vhost, &["central.hub", "upload.alpha"]).await;
}

#[tokio::test]
async fn a_broken_session_ends_the_wait_at_once() {
    let vhost = shared().vhost();
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    let asker = Talker::start(settings(shared(), &vhost, &alpha), echo).await;
    let mut silent = Peer::connected(settings(shared(), &vhost, &hub)).await;
    let open = asker.begin(&hub, "A.B", json!({})).await;
    let BrokerEvent::Asked { from, ask, .. } = silent.next().await else { panic!("a question") };

    let (name, scope) = (format!("synkler g {alpha}"), vhost.clone());
    let closing = std::thread::spawn(move || {
        let rows = shared().tool("rabbitmqctl", &["list_connections", "--quiet", "pid", "vhost", "client_properties"]);
        let row = rows.lines().find(|row| row.contains(&name) && row.contains(&scope)).unwrap().to_owned();
        shared().tool("rabbitmqctl", &["close_connection", row.split('\t').next().unwrap(), "test"]);
    });
    let outcome = timeout(PATIENCE, open).await.unwrap().unwrap();
    closing.join().unwrap();
    let why = why(outcome);
    println!("{why}");
    assert!(why.contains("the session with the broker broke") || why.contains("within 2 s"), "{why}");
    // Too late, whether the asker is back by now or not.
    silent.broker.line().answer(from, ask, Ok(Map::new())).unwrap();
    // Before it is back, it cannot ask; then it can.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let open = asker.begin(&hub, "A.B", json!({})).await;
        if let Ok(event) = timeout(Duration::from_millis(200), silent.next()).await {
            let BrokerEvent::Asked { from, ask, .. } = event else { panic!("{event:?}") };
            silent.broker.line().answer(from, ask, Ok(Map::new())).unwrap();
            assert_eq!(timeout(PATIENCE, open).await.unwrap().unwrap(), Ok(json!({})));
            break;
        }
        assert!(Instant::now() < deadline, "the session comes back");
    }
    silent.broker.close().await;
    asker.end().await.broker.close().await;
    assert_no_residue(&vhost, &["central.hub", "upload.alpha"]).await;
}

#[tokio::test]
async fn two_nodes_ask_each_other_at_once() {
    let vhost = shared().vhost();
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    let one = Talker::start(settings(shared(), &vhost, &alpha), echo).await;
    let other = Talker::start(settings(shared(), &vhost, &hub), echo).await;
    let began = Instant::now();
    for round in 0..10 {
        let mut open = Vec::new();
        for number in 0..30 {
            let parameters = json!({ "round": round, "number": number });
            open.push((&alpha, number, one.begin(&hub, "A.B", parameters.clone()).await));
            open.push((&hub, number, other.begin(&alpha, "A.B", parameters).await));
        }
        for (from, number, outcome) in open {
            let reply = timeout(PATIENCE, outcome).await.unwrap().unwrap().unwrap();
            let expected = json!({ "round": round, "number": number });
            assert_eq!((reply["from"].as_str().unwrap(), &reply["parameters"]), (from.to_string().as_str(), &expected));
        }
    }
    println!("600 questions answered in {:?}", began.elapsed());
    one.end().await.broker.close().await;
    other.end().await.broker.close().await;
    assert_no_residue(&vhost, &["central.hub", "upload.alpha"]).await;
}

#[tokio::test]
async fn a_bad_question_is_dropped_and_harms_nobody() {
    let vhost = shared().vhost();
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    let mut hub_peer = Peer::connected(settings(shared(), &vhost, &hub)).await;
    let alpha_peer = Peer::connected(settings(shared(), &vhost, &alpha)).await;
    let (_connection, channel) = channel(shared(), &vhost).await;
    let good = String::from_utf8(
        synkler::wire::encode_talk(
            &"g".parse().unwrap(),
            &alpha,
            synkler::wire::Talk::Ask { ask: 1, method: "A.B".to_owned(), parameters: Map::new() },
        )
        .unwrap(),
    )
    .unwrap();
    let key = "to.now-central-hub.upload-alpha.ask";
    for (key, body) in [
        (key, "\u{80}\u{4}not json".to_owned()),
        (key, good.replace("\"v\":2", "\"v\":3")),
        (key, good.replace("A.B", "A B")),
        (key, format!("{good}{}", " ".repeat(ASK_LIMIT))),
        ("to.now-central-hub.upload-mallory.ask", good.clone()),
        ("to.now-central-hub.upload-alpha.answer", good.clone()),
        ("to.now-central-hub.upload-alpha.ask.more", good.clone()),
    ] {
        publish_raw(&channel, "synkler.g", key, body.as_bytes()).await;
    }
    // What is good comes through, and nothing before it.
    publish_raw(&channel, "synkler.g", key, good.as_bytes()).await;
    assert!(matches!(hub_peer.next().await, BrokerEvent::Asked { from, ask: 1, .. } if from == alpha));
    // A question where words belong is a dead letter, as every other thing that is no word.
    publish_raw(&channel, "synkler.g", "to.central-hub.upload-alpha.ask", good.as_bytes()).await;
    alpha_peer.broker.publish(Address::Node(hub.clone()), freed(1));
    let (_, message, tag) = hub_peer.delivery().await;
    assert_eq!(message, freed(1));
    hub_peer.broker.acknowledge([tag]);
    hub_peer.broker.publish(Address::Node(alpha), closed(1));
    hub_peer.broker.close().await;
    let deadline = Instant::now() + PATIENCE;
    while waiting(&channel, "synkler.g.dead").await != 1 {
        assert!(Instant::now() < deadline, "{} dead letters", waiting(&channel, "synkler.g.dead").await);
    }
    alpha_peer.broker.close().await;
}
