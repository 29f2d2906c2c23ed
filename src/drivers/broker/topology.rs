//! Exchanges, queues, bindings and routing keys; docs/protocol.md has them as a table.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use crate::machine::{Address, GroupId, Mode, Node};

use super::answered::answered;
use super::fault::Fault;
use super::{DEAD_LETTER_LIMIT, HELLO_QUEUE_LIMIT, TALK_QUEUE_LIMIT};

/// The names of a group's objects on the broker. A name is at most 140 bytes long, well below AMQP's 255.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The exchange for all messages.
    pub(super) exchange: String,
    /// This node's own queue.
    pub(super) own: String,
    /// This node's queue for messages to all; it lives as long as the session.
    pub(super) all: String,
    /// This node's queue for questions and answers; it also lives as long as the session.
    pub(super) now: String,
    /// The queue that all centrals consume.
    pub(super) shared: String,
    /// The exchange and the queue of dead letters.
    pub(super) dead: String,
    me: String,
}

impl Names {
    pub(super) fn new(group: &GroupId, me: &Node) -> Self {
        let exchange = format!("synkler.{}", dotless(group.as_str()));
        let own = format!("{exchange}.{}.{}", me.mode, dotless(me.name.as_str()));
        Self {
            all: format!("{own}.all"),
            now: format!("{own}.now"),
            shared: format!("{exchange}.central"),
            dead: format!("{exchange}.dead"),
            own,
            exchange,
            me: node_word(me),
        }
    }

    /// Declares and binds what the whole group shares. Can be repeated.
    pub(super) async fn declare_shared(&self, channel: &Channel, me: &Node) -> Result<(), Fault> {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        self.exchanges(channel, me, durable).await?;
        let kept = QueueDeclareOptions { durable: true, ..Default::default() };
        let mut arguments = quorum();
        arguments.insert("x-max-length".into(), AMQPValue::LongUInt(DEAD_LETTER_LIMIT));
        let dead = channel.queue_declare(self.dead.as_str().into(), kept, arguments);
        answered("declare the dead-letter queue", me, dead).await?;
        self.bind(channel, me, &self.dead, &self.dead, "").await
    }

    /// Checks that the shared objects exist, for an account that may not create them.
    pub(super) async fn find_shared(&self, channel: &Channel, me: &Node) -> Result<(), Fault> {
        self.exchanges(channel, me, ExchangeDeclareOptions { passive: true, ..Default::default() }).await
    }

    async fn exchanges(&self, channel: &Channel, me: &Node, options: ExchangeDeclareOptions) -> Result<(), Fault> {
        let exchange = |name: &str, kind| channel.exchange_declare(name.into(), kind, options, FieldTable::default());
        answered("declare the exchange", me, exchange(&self.exchange, ExchangeKind::Topic)).await?;
        answered("declare the dead-letter exchange", me, exchange(&self.dead, ExchangeKind::Fanout)).await
    }

    /// Declares and binds this node's own queues, and on central the centrals' queue. Can be repeated.
    ///
    /// What must survive is durable and a quorum queue. Messages to all are hellos, which are useless later. They go to
    /// a queue that ends with the session, so that they neither accumulate for a node that is away nor become dead
    /// letters when they expire. Questions and answers have another such queue, where they need not wait behind hellos,
    /// and without dead letters, because they are useless even sooner.
    pub(super) async fn declare_own(&self, channel: &Channel, me: &Node) -> Result<(), Fault> {
        let passing = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let mut arguments = self.dead_letters(FieldTable::default());
        arguments.insert("x-max-length".into(), AMQPValue::LongUInt(HELLO_QUEUE_LIMIT));
        let all = channel.queue_declare(self.all.as_str().into(), passing, arguments);
        answered("declare the queue for hellos", me, all).await?;
        self.bind(channel, me, &self.all, &self.exchange, "to.all.#").await?;

        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongUInt(TALK_QUEUE_LIMIT));
        let now = channel.queue_declare(self.now.as_str().into(), passing, arguments);
        answered("declare the queue for questions", me, now).await?;
        self.bind(channel, me, &self.now, &self.exchange, &format!("to.now-{}.#", self.me)).await?;

        self.declare_kept(channel, me, &self.own).await?;
        self.bind(channel, me, &self.own, &self.exchange, &format!("to.{}.#", self.me)).await?;

        if me.mode == Mode::Central {
            self.declare_kept(channel, me, &self.shared).await?;
            self.bind(channel, me, &self.shared, &self.exchange, "to.central.#").await?;
        }
        Ok(())
    }

    /// Declares a queue that outlives the session: this node's own, or the centrals' queue.
    pub(super) async fn declare_kept(&self, channel: &Channel, me: &Node, queue: &str) -> Result<(), Fault> {
        let kept = QueueDeclareOptions { durable: true, ..Default::default() };
        let declare = channel.queue_declare(queue.into(), kept, self.dead_letters(quorum()));
        answered("declare the queue", me, declare).await.map(drop).map_err(|fault| fault.of_queue(queue))
    }

    async fn bind(&self, channel: &Channel, me: &Node, queue: &str, exchange: &str, key: &str) -> Result<(), Fault> {
        let options = QueueBindOptions::default();
        let bind = channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default());
        answered("bind a queue", me, bind).await
    }

    fn dead_letters(&self, mut arguments: FieldTable) -> FieldTable {
        arguments.insert("x-dead-letter-exchange".into(), text(&self.dead));
        arguments
    }

    /// Whether a routing key's second word addresses this node.
    pub(super) fn is_for_us(&self, word: &str, mode: Mode) -> bool {
        word == self.me || word == "all" || (word == "central" && mode == Mode::Central)
    }

    /// The same for a question or an answer.
    pub(super) fn is_talk_for_us(&self, word: &str) -> bool {
        word.strip_prefix("now-") == Some(&self.me)
    }
}

/// The routing key of a message: `to.<to>.<from>.<kind>`, at most 160 bytes.
pub(super) fn routing_key(to: &Address, from: &Node, kind: &str) -> String {
    let to = match to {
        Address::Node(node) => node_word(node),
        Address::AnyCentral => "central".to_owned(),
        Address::All => "all".to_owned(),
    };
    format!("to.{to}.{}.{kind}", node_word(from))
}

/// The routing key of a question or an answer: `to.now-<to>.<from>.<kind>`, at most 164 bytes.
pub(super) fn talk_key(to: &Node, from: &Node, kind: &str) -> String {
    format!("to.now-{}.{}.{kind}", node_word(to), node_word(from))
}

/// A node as one word of a routing key.
pub(super) fn node_word(node: &Node) -> String {
    format!("{}-{}", node.mode, dotless(node.name.as_str()))
}

/// Reads what [`node_word`] wrote.
pub(super) fn read_node_word(word: &str) -> Option<Node> {
    let (mode, name) = word.split_once('-')?;
    Some(Node::new(mode.parse().ok()?, name.replace(':', ".").parse().ok()?))
}

/// Dots separate words, and no name contains a colon.
pub(super) fn dotless(name: &str) -> String {
    name.replace('.', ":")
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(mode: Mode, name: &str) -> Node {
        Node::new(mode, name.parse().unwrap())
    }

    #[test]
    fn dots_in_names_cannot_make_two_things_one() {
        let dotted = Names::new(&"a.upload".parse().unwrap(), &node(Mode::Upload, "x"));
        let plain = Names::new(&"a".parse().unwrap(), &node(Mode::Upload, "upload.x"));
        assert_eq!(dotted.own, "synkler.a:upload.upload.x");
        assert_eq!(plain.own, "synkler.a.upload.upload:x");
        assert_ne!(Names::new(&"a.dead".parse().unwrap(), &node(Mode::Upload, "x")).exchange, plain.dead);
    }

    #[test]
    fn routing_keys_have_four_words_and_tell_the_sender() {
        let from = node(Mode::Central, "hub.example-1.net");
        let key = routing_key(&Address::Node(node(Mode::Upload, "a.b")), &from, "upload");
        assert_eq!(key, "to.upload-a:b.central-hub:example-1:net.upload");
        assert_eq!(read_node_word("central-hub:example-1:net"), Some(from.clone()));
        assert_eq!(routing_key(&Address::AnyCentral, &from, "new"), "to.central.central-hub:example-1:net.new");
        assert_eq!(routing_key(&Address::All, &from, "hello"), "to.all.central-hub:example-1:net.hello");
        assert_eq!(
            talk_key(&node(Mode::Upload, "a.b"), &from, "ask"),
            "to.now-upload-a:b.central-hub:example-1:net.ask"
        );
        for word in ["", "upload", "upload-", "sideways-a", "now-upload-a", "upload-a b"] {
            assert_eq!(read_node_word(word), None, "{word}");
        }
    }

    #[test]
    fn the_longest_names_fit_into_a_short_string() {
        let long = "x".repeat(64);
        let me = node(Mode::Download, &long);
        assert!(Names::new(&long.parse().unwrap(), &me).all.len() < 255);
        assert!(routing_key(&Address::Node(me.clone()), &me, "withdraw").len() <= 160);
        assert!(talk_key(&me, &me, "refusal").len() <= 164);
    }
}
