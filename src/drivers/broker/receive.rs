//! From a delivery to words or to a question, or to the reason why it is refused.

use lapin::message::Delivery;
use tracing::warn;

use crate::machine::{GroupId, Node, Words, escaped};
use crate::wire::{DecodeError, Talk, decode, decode_talk};

use super::rights;
use super::topology::{Names, node_word, read_node_word};

/// What a delivery turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A peer says something.
    Words(Node, Words),
    /// What this node itself has said to all.
    Echo,
    /// Nothing that could be understood; it has been logged.
    Refused,
}

/// Why a delivery is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    #[error("its routing key does not fit what it says")]
    Misrouted,
    #[error("its account does not speak for {0}")]
    Impostor(Node),
}

/// Reads a delivery. A refused one is logged here, with all that tells who sent it.
pub(super) fn read(delivery: &Delivery, names: &Names, group: &GroupId, me: &Node) -> Heard {
    let key = delivery.routing_key.as_str();
    match understood(&delivery.data, key, names, group, me).and_then(|heard| vouched(delivery, group, heard)) {
        Ok((from, _)) if from == *me => Heard::Echo,
        Ok((from, words)) => Heard::Words(from, words),
        Err(refusal) => {
            log(delivery, &refusal, &format!("it goes to queue {}", names.dead));
            Heard::Refused
        }
    }
}

/// Reads a question or an answer. A refused one is logged here too.
pub(super) fn read_talk(delivery: &Delivery, names: &Names, group: &GroupId) -> Option<(Node, Talk)> {
    let understood = understood_talk(&delivery.data, delivery.routing_key.as_str(), names, group);
    match understood.and_then(|heard| vouched(delivery, group, heard)) {
        Ok(talk) => Some(talk),
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

fn understood(data: &[u8], key: &str, names: &Names, group: &GroupId, me: &Node) -> Result<(Node, Words), Refusal> {
    let (from, words) = decode(data, group)?;
    if fits(key, |to| names.is_for_us(to, me.mode), &from, words.kind()) {
        Ok((from, words))
    } else {
        Err(Refusal::Misrouted)
    }
}

fn understood_talk(data: &[u8], key: &str, names: &Names, group: &GroupId) -> Result<(Node, Talk), Refusal> {
    let (from, talk) = decode_talk(data, group)?;
    if fits(key, |to| names.is_talk_for_us(to), &from, talk.kind()) {
        Ok((from, talk))
    } else {
        Err(Refusal::Misrouted)
    }
}

/// Lets through what may come from the account that the broker vouches for.
fn vouched<T>(delivery: &Delivery, group: &GroupId, heard: (Node, T)) -> Result<(Node, T), Refusal> {
    let account = delivery.properties.user_id().as_ref().map(|account| account.as_str());
    if rights::may_be(account, group, &heard.0) { Ok(heard) } else { Err(Refusal::Impostor(heard.0)) }
}

/// Whether a routing key says the same as its message.
fn fits(key: &str, is_for_us: impl FnOnce(&str) -> bool, from: &Node, said: &str) -> bool {
    let mut parts = key.split('.');
    let (version, to, sender, kind) = (parts.next(), parts.next(), parts.next(), parts.next());
    version == Some("v1")
        && to.is_some_and(is_for_us)
        && sender == Some(node_word(from).as_str())
        && kind == Some(said)
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
        let words = Words::Freed(vec![TransferId::mint(1, [2; 10])]);
        let message = encode(&group, &upload, words.clone()).remove(0);
        let hear = |key: &str| understood(&message, key, &names, &group, &me);
        for key in ["v1.central-hub.upload-up.freed", "v1.central.upload-up.freed", "v1.all.upload-up.freed"] {
            assert_eq!(hear(key), Ok((upload.clone(), words.clone())), "{key}");
        }
        for key in [
            "",
            "synkler.g.central.hub",
            "v2.central.upload-up.freed",
            "v1.central-other.upload-up.freed",
            "v1.central.upload-mallory.freed",
            "v1.central.download-up.freed",
            "v1.central.upload-up.sent",
            "v1.central.upload-up.freed.more",
        ] {
            assert_eq!(hear(key), Err(Refusal::Misrouted), "{key}");
        }

        let asked = Talk::Ask { ask: 1, method: "A.B".to_owned(), parameters: serde_json::Map::new() };
        let message = encode_talk(&group, &upload, asked.clone()).unwrap();
        let hear = |key: &str| understood_talk(&message, key, &names, &group);
        assert_eq!(hear("v1.now-central-hub.upload-up.ask"), Ok((upload.clone(), asked)));
        for key in [
            "v1.central-hub.upload-up.ask",
            "v1.now-central.upload-up.ask",
            "v1.now-central-hub.upload-mallory.ask",
            "v1.now-central-hub.upload-up.answer",
            "v1.now.central-hub.upload-up.ask",
        ] {
            assert_eq!(hear(key), Err(Refusal::Misrouted), "{key}");
        }
    }
}
