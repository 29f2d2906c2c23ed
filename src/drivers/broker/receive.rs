//! From a delivery to a message or a question, or to the reason why it is refused.

use std::collections::BTreeSet;

use lapin::message::Delivery;
use tracing::{info, warn};

use crate::machine::{GroupId, Message, Node, escaped};
use crate::wire::{DecodeError, Problem, Talk, decode, decode_talk};

use super::rights;
use super::topology::{Names, node_word, read_node_word};

/// The result of reading a delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A message of a peer.
    Message(Node, Message),
    /// A message of this node itself to all.
    Echo,
    /// A kind of message that only newer versions know; it has been logged.
    Unknown,
    /// An invalid message; it has been logged.
    Refused,
}

/// Why a delivery is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    #[error("its routing key does not match its content")]
    Misrouted,
    #[error("its account may not send for {0}")]
    Impostor(Node),
}

/// The content of a message: a known one, or the name of an unknown kind.
#[derive(Debug, PartialEq, Eq)]
enum Decoded<T> {
    Known(T),
    Unknown(String),
}

/// The unknown kinds that each sender has sent. It lives as long as the driver, so that a new session does not log them
/// again.
#[derive(Debug, Default)]
pub(super) struct Noted(BTreeSet<(Node, String)>);

impl Noted {
    /// The maximum number that is remembered; more are not logged.
    const LIMIT: usize = 256;

    /// Whether it is the first of its sender and kind.
    fn is_news(&mut self, from: &Node, kind: &str) -> bool {
        self.0.len() < Self::LIMIT && self.0.insert((from.clone(), kind.to_owned()))
    }

    fn note(&mut self, from: &Node, kind: &str) {
        if self.is_news(from, kind) {
            info!(
                peer = %from,
                "ignored messages of kind {kind:?} from {from}: this version does not know them; upgrade synkler on \
                 this node"
            );
        }
    }
}

/// Reads a delivery. A refused one is logged here, with everything that identifies the sender.
pub(super) fn read(delivery: &Delivery, names: &Names, group: &GroupId, me: &Node, noted: &mut Noted) -> Received {
    let key = delivery.routing_key.as_str();
    match understood(&delivery.data, key, names, group, me).and_then(|received| vouched(delivery, group, received)) {
        Ok((from, _)) if from == *me => Received::Echo,
        Ok((from, Decoded::Known(message))) => Received::Message(from, message),
        Ok((from, Decoded::Unknown(kind))) => {
            noted.note(&from, &kind);
            Received::Unknown
        }
        Err(refusal) => {
            log(delivery, &refusal, &format!("it goes to queue {}", names.dead));
            Received::Refused
        }
    }
}

/// Reads a question or an answer. A refused one is logged here too.
pub(super) fn read_talk(
    delivery: &Delivery,
    names: &Names,
    group: &GroupId,
    noted: &mut Noted,
) -> Option<(Node, Talk)> {
    let understood = understood_talk(&delivery.data, delivery.routing_key.as_str(), names, group);
    match understood.and_then(|received| vouched(delivery, group, received)) {
        Ok((from, Decoded::Known(talk))) => Some((from, talk)),
        Ok((from, Decoded::Unknown(kind))) => {
            noted.note(&from, &kind);
            None
        }
        Err(refusal) => {
            log(delivery, &refusal, "it is dropped");
            None
        }
    }
}

fn log(delivery: &Delivery, refusal: &Refusal, fate: &str) {
    let key = delivery.routing_key.as_str();
    let claimed = match refusal {
        Refusal::Undecodable(error) => error.from.clone(),
        Refusal::Misrouted => None,
        Refusal::Impostor(claimed) => Some(claimed.clone()),
    };
    let peer = claimed.or_else(|| read_node_word(key.split('.').nth(2)?));
    let peer = peer.map_or_else(|| "an unknown sender".to_owned(), |node| node.to_string());
    let user = delivery.properties.user_id().as_ref().map_or("?", |user| user.as_str());
    let (user, key) = (escaped(user.as_bytes()), escaped(key.as_bytes()));
    warn!(
        peer,
        user,
        key,
        bytes = delivery.data.len(),
        "refused a message from {peer} (account {user}, routing key {key}): {refusal}; {fate}"
    );
}

type Understood<T> = Result<(Node, Decoded<T>), Refusal>;

fn understood(data: &[u8], key: &str, names: &Names, group: &GroupId, me: &Node) -> Understood<Message> {
    routed(decode(data, group), Message::kind, key, |to| names.is_for_us(to, me.mode))
}

fn understood_talk(data: &[u8], key: &str, names: &Names, group: &GroupId) -> Understood<Talk> {
    routed(decode_talk(data, group), Talk::kind, key, |to| names.is_talk_for_us(to))
}

/// Compares the content with the routing key, which must match.
fn routed<T>(
    decoded: Result<(Node, T), DecodeError>,
    kind_of: impl FnOnce(&T) -> &'static str,
    key: &str,
    is_for_us: impl FnOnce(&str) -> bool,
) -> Understood<T> {
    let (from, decoded) = match decoded {
        Ok((from, decoded)) => (from, Decoded::Known(decoded)),
        Err(DecodeError { from: Some(from), problem: Problem::UnknownKind(kind) }) => (from, Decoded::Unknown(kind)),
        Err(error) => return Err(error.into()),
    };
    let fits = match &decoded {
        Decoded::Known(decoded) => fits(key, is_for_us, &from, kind_of(decoded)),
        Decoded::Unknown(kind) => fits(key, is_for_us, &from, kind),
    };
    if fits { Ok((from, decoded)) } else { Err(Refusal::Misrouted) }
}

/// Accepts a message only if the account that the broker reports may send for its sender.
fn vouched<T>(delivery: &Delivery, group: &GroupId, received: (Node, T)) -> Result<(Node, T), Refusal> {
    let account = delivery.properties.user_id().as_ref().map(|account| account.as_str());
    if rights::may_be(account, group, &received.0) { Ok(received) } else { Err(Refusal::Impostor(received.0)) }
}

/// Whether a routing key matches its message.
fn fits(key: &str, is_for_us: impl FnOnce(&str) -> bool, from: &Node, decoded: &str) -> bool {
    let mut parts = key.split('.');
    let (version, to, sender, kind) = (parts.next(), parts.next(), parts.next(), parts.next());
    version == Some("to")
        && to.is_some_and(is_for_us)
        && sender == Some(node_word(from).as_str())
        && kind == Some(decoded)
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Mode, TransferId};
    use crate::wire::{encode, encode_talk};

    #[test]
    fn a_routing_key_must_say_what_the_message_says() {
        let group: GroupId = "g".parse().unwrap();
        let upload = Node::new(Mode::Upload, "up".parse().unwrap());
        let me = Node::new(Mode::Central, "hub".parse().unwrap());
        let names = Names::new(&group, &me);
        let message = Message::Freed(vec![TransferId::mint(1, [2; 10])]);
        let bytes = encode(&group, &upload, message.clone()).remove(0);
        let receive = |key: &str| understood(&bytes, key, &names, &group, &me);
        for key in ["to.central-hub.upload-up.freed", "to.central.upload-up.freed", "to.all.upload-up.freed"] {
            assert_eq!(receive(key), Ok((upload.clone(), Decoded::Known(message.clone()))), "{key}");
        }
        for key in [
            "",
            "synkler.g.central.hub",
            "v2.central.upload-up.freed",
            "to.central-other.upload-up.freed",
            "to.central.upload-mallory.freed",
            "to.central.download-up.freed",
            "to.central.upload-up.sent",
            "to.central.upload-up.freed.more",
        ] {
            assert_eq!(receive(key), Err(Refusal::Misrouted), "{key}");
        }

        let asked = Talk::Ask { ask: 1, method: "A.B".to_owned(), parameters: serde_json::Map::new() };
        let bytes = encode_talk(&group, &upload, asked.clone()).unwrap();
        let receive = |key: &str| understood_talk(&bytes, key, &names, &group);
        assert_eq!(receive("to.now-central-hub.upload-up.ask"), Ok((upload.clone(), Decoded::Known(asked))));
        for key in [
            "to.central-hub.upload-up.ask",
            "to.now-central.upload-up.ask",
            "to.now-central-hub.upload-mallory.ask",
            "to.now-central-hub.upload-up.answer",
            "to.now.central-hub.upload-up.ask",
        ] {
            assert_eq!(receive(key), Err(Refusal::Misrouted), "{key}");
        }
    }

    #[test]
    fn an_unknown_kind_is_told_apart_and_its_routing_key_checked_all_the_same() {
        let group: GroupId = "g".parse().unwrap();
        let upload = Node::new(Mode::Upload, "up".parse().unwrap());
        let me = Node::new(Mode::Central, "hub".parse().unwrap());
        let names = Names::new(&group, &me);
        let bytes = encode(&group, &upload, Message::Freed(vec![TransferId::mint(1, [2; 10])])).remove(0);
        let bytes = String::from_utf8(bytes).unwrap().replace("freed", "good-morning");
        let unknown = |from: &Node| Ok((from.clone(), Decoded::Unknown("good-morning".to_owned())));
        let receive = |key: &str| understood(bytes.as_bytes(), key, &names, &group, &me);
        assert_eq!(receive("to.central.upload-up.good-morning"), unknown(&upload));
        for key in ["to.central.upload-up.freed", "to.central.upload-x.good-morning", "to.x.upload-up.good-morning"] {
            assert_eq!(receive(key), Err(Refusal::Misrouted), "{key}");
        }
        let key = "to.now-central-hub.upload-up.good-morning";
        assert_eq!(
            understood_talk(bytes.as_bytes(), key, &names, &group),
            Ok((upload, Decoded::Unknown("good-morning".to_owned())))
        );
    }

    #[test]
    fn what_is_noted_is_noted_once_and_has_a_limit() {
        let node = |number: usize| Node::new(Mode::Upload, format!("n{number}").parse().unwrap());
        let mut noted = Noted::default();
        assert!(noted.is_news(&node(0), "x"));
        assert!(!noted.is_news(&node(0), "x"));
        assert!(noted.is_news(&node(0), "y"));
        let news = (1..1000).filter(|number| noted.is_news(&node(*number), "x")).count();
        assert_eq!(news, Noted::LIMIT - 2);
    }
}
