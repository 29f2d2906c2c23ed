//! Changes to messages that a later version may make, for the test of a group with mixed versions: one more field in
//! every object, and from time to time one more kind. Debug builds only, and only if [`SWITCH`] is set: a release
//! contains none of it.
//!
//! A switch instead of a feature, because a second build of this crate would take longer than the whole test.

use serde_json::{Map, Value, json};

use crate::machine::{GroupId, Node, Protocols};
use crate::wire::MESSAGE_LIMIT;

/// The environment variable that turns it on, with any value. Variables that begin with `SYNKLER_` are config keys.
const SWITCH: &str = "FUTURE_SYNKLER";
/// A kind that only the simulated later version knows.
pub(super) const KIND: &str = "good-morning";
/// It is sent before every n-th message.
const EVERY: u64 = 5;

pub(super) struct Future {
    sent: u64,
}

impl Future {
    /// `None` unless it is turned on.
    pub(super) fn begin() -> Option<Self> {
        std::env::var_os(SWITCH).map(|_| Self { sent: 0 })
    }

    /// The message as the later version would send it; one that would be too long stays as it is.
    pub(super) fn grown(body: Vec<u8>) -> Vec<u8> {
        let grown = serde_json::from_slice::<Map<String, Value>>(&body).ok().and_then(|mut envelope| {
            for value in envelope.get_mut("words").and_then(Value::as_object_mut)?.values_mut() {
                grow(value);
            }
            envelope.get_mut("from").map(grow);
            envelope.insert("newer".to_owned(), json!(["field"]));
            serde_json::to_vec(&envelope).ok()
        });
        grown.filter(|grown| grown.len() <= MESSAGE_LIMIT).unwrap_or(body)
    }

    /// A message of the additional kind, when it is due.
    pub(super) fn greeting(&mut self, group: &GroupId, me: &Node) -> Option<Vec<u8>> {
        self.sent += 1;
        (self.sent % EVERY == 1).then(|| {
            let from = json!({ "mode": me.mode.as_str(), "name": me.name.as_str() });
            let message = json!({ KIND: { "how": "are you" } });
            json!({ "v": Protocols::OURS.min(), "group": group.as_str(), "from": from, "words": message })
                .to_string()
                .into_bytes()
        })
    }
}

fn grow(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(grow);
            fields.insert("newer".to_owned(), json!({ "than": 0.2 }));
        }
        Value::Array(entries) => entries.iter_mut().for_each(grow),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Message, Mode, TransferId};
    use crate::wire::{Problem, decode, encode};

    #[test]
    fn the_future_can_be_read_by_the_present() {
        let (group, me) = ("g".parse().unwrap(), Node::new(Mode::Upload, "up".parse().unwrap()));
        let message = Message::Freed(vec![TransferId::mint(1, [2; 10])]);
        let grown = Future::grown(encode(&group, &me, message.clone()).remove(0));
        assert_eq!(String::from_utf8_lossy(&grown).matches("newer").count(), 3);
        assert_eq!(decode(&grown, &group), Ok((me.clone(), message)));
        let mut future = Future { sent: 0 };
        let greetings: Vec<_> = (0..11).filter_map(|_| future.greeting(&group, &me)).collect();
        assert_eq!(greetings.len(), 3);
        assert_eq!(decode(&greetings[0], &group).unwrap_err().problem, Problem::UnknownKind(KIND.to_owned()));
    }
}
