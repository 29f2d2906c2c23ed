//! The permissions of one node's account on the broker: it may send and receive what its role needs.
//!
//! Such an account has the name of the node's own queue, `synkler.<id>.<mode>.<name>`. The broker checks the account of
//! each message, so a receiver knows its sender. Accounts with other names are shared by several nodes, and say nothing
//! about the sender.

use crate::machine::{GroupId, Mode, Node};

use super::topology::{dotless, node_word};

/// A node's account and its permissions: regular expressions in RabbitMQ's form, and anchored, because RabbitMQ does
/// not anchor them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The account's name.
    pub account: String,
    /// The exchange of `say` and `hear`.
    pub exchange: String,
    /// What it may declare and delete.
    pub configure: String,
    /// The exchanges it may publish to, and the queues it may bind.
    pub write: String,
    /// The queues it may consume, and the exchanges it may bind to.
    pub read: String,
    /// The routing keys it may publish with.
    pub say: String,
    /// The routing keys it may bind queues with.
    pub hear: String,
}

impl Rights {
    /// What the node needs, and nothing more.
    ///
    /// Centrals create and read what the group shares: the exchanges, the dead letters, the centrals' queue. Other
    /// nodes find these. Any account may put messages into the dead letters, because RabbitMQ demands that right of
    /// every account that declares a queue with dead letters.
    pub fn of(group: &GroupId, node: &Node) -> Self {
        let exchange = format!("synkler.{}", dotless(group.as_str()));
        let account = account(group, node);
        let base = literal(&exchange);
        // The check tests its permissions on the queue `check`, which never exists.
        let own = format!(r"{}(\.(all|now|check))?", literal(&account));
        let shared = format!(r"{base}(\.(dead|central))?");
        let (configure, write, read) = match node.mode {
            Mode::Central => (format!("{shared}|{own}"), format!("{shared}|{own}"), format!("{shared}|{own}")),
            Mode::Upload | Mode::Download => (own.clone(), format!(r"{base}(\.dead)?|{own}"), format!("{base}|{own}")),
        };
        let me = node_word(node);
        let to = match node.mode {
            Mode::Central => "(upload|download)-[^.]+",
            Mode::Upload | Mode::Download => "central(-[^.]+)?",
        };
        let kinds = role_kinds(node.mode).join("|");
        let anyone = "(upload|central|download)-[^.]+";
        let say = format!(
            r"to\.((all|{anyone})\.{me}\.hello|nobody\.{me}\.check|now-{anyone}\.{me}\.(ask|answer|refusal)|{to}\.{me}\.({kinds}|{NEWER}))"
        );
        let shared_key = if node.mode == Mode::Central { "central|" } else { "" };
        let hear = format!(r"to\.(all|{shared_key}{me}|now-{me})\.#");
        let anchored = |pattern: String| format!("^({pattern})$");
        Self {
            account,
            exchange,
            configure: anchored(configure),
            write: anchored(write),
            read: anchored(read),
            say: anchored(say),
            hear: anchored(hear),
        }
    }
}

/// Kinds that newer versions add have a hyphen, and no present kind has one. So an account from this version also
/// serves an upgraded node, and gives no permission that another mode has today.
const NEWER: &str = "[a-z]+(-[a-z]+)+";

/// The kinds that only some modes send, by mode; all modes send `hello`, and ask and answer.
pub fn role_kinds(mode: Mode) -> &'static [&'static str] {
    match mode {
        Mode::Upload => &["new", "cancel", "withdraw", "sent", "freed", "waiting"],
        Mode::Central => {
            &["withdraw", "upload", "received", "download", "noted", "release", "closed", "waiting", "unknown"]
        }
        Mode::Download => &["done", "waiting"],
    }
}

/// The name of a node's own account.
fn account(group: &GroupId, node: &Node) -> String {
    format!("synkler.{}.{}.{}", dotless(group.as_str()), node.mode, dotless(node.name.as_str()))
}

/// The node that owns the account; `None` for an account that several nodes share.
pub(super) fn owner(account: &str) -> Option<(GroupId, Node)> {
    let mut parts = account.strip_prefix("synkler.")?.split('.');
    let (group, mode, name) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let dotted = |word: &str| word.replace(':', ".");
    Some((dotted(group).parse().ok()?, Node::new(mode.parse().ok()?, dotted(name).parse().ok()?)))
}

/// Whether a message of this account, as the broker reports it, may be from this node. A message without an account is
/// refused.
pub(super) fn may_be(account: Option<&str>, group: &GroupId, from: &Node) -> bool {
    account.is_some_and(|account| owner(account).is_none_or(|(its, node)| its == *group && node == *from))
}

/// As a regular expression that matches nothing else: of the characters in such names, only the dot has a special
/// meaning.
fn literal(name: &str) -> String {
    name.replace('.', r"\.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(mode: Mode, name: &str) -> Node {
        Node::new(mode, name.parse().unwrap())
    }

    #[test]
    fn rights_are_those_of_the_role_alone() {
        let group: GroupId = "a.b".parse().unwrap();
        let upload = Rights::of(&group, &node(Mode::Upload, "x.y"));
        assert_eq!(upload.account, "synkler.a:b.upload.x:y");
        assert_eq!(upload.exchange, "synkler.a:b");
        assert_eq!(upload.configure, r"^(synkler\.a:b\.upload\.x:y(\.(all|now|check))?)$");
        assert_eq!(upload.write, r"^(synkler\.a:b(\.dead)?|synkler\.a:b\.upload\.x:y(\.(all|now|check))?)$");
        assert_eq!(upload.read, r"^(synkler\.a:b|synkler\.a:b\.upload\.x:y(\.(all|now|check))?)$");
        assert_eq!(upload.hear, r"^(to\.(all|upload-x:y|now-upload-x:y)\.#)$");
        let anyone = "(upload|central|download)-[^.]+";
        assert_eq!(
            upload.say,
            format!(
                r"^(to\.((all|{anyone})\.upload-x:y\.hello|nobody\.upload-x:y\.check|now-{anyone}\.upload-x:y\.(ask|answer|refusal)|central(-[^.]+)?\.upload-x:y\.(new|cancel|withdraw|sent|freed|waiting|[a-z]+(-[a-z]+)+)))$"
            )
        );
        let central = Rights::of(&group, &node(Mode::Central, "hub"));
        assert_eq!(central.hear, r"^(to\.(all|central|central-hub|now-central-hub)\.#)$");
        assert_eq!(central.read, central.configure);
        assert!(central.configure.starts_with(r"^(synkler\.a:b(\.(dead|central))?|synkler\.a:b\.central\.hub("));
    }

    #[test]
    fn an_account_of_a_node_speaks_for_that_node_alone() {
        let group: GroupId = "g.1".parse().unwrap();
        let me = node(Mode::Upload, "x.y");
        let own = Rights::of(&group, &me).account;
        assert_eq!(owner(&own), Some((group.clone(), me.clone())));
        assert!(may_be(Some(&own), &group, &me));
        assert!(!may_be(Some(&own), &group, &node(Mode::Upload, "z")));
        assert!(!may_be(Some(&own), &group, &node(Mode::Download, "x.y")));
        assert!(!may_be(Some(&own), &"g".parse().unwrap(), &me), "of another group");
        assert!(!may_be(None, &group, &me));
        for shared in
            ["guest", "synkler", "synkler.g", "synkler.g.upload", "synkler.g.sideways.x", "synkler.g.upload.x.y"]
        {
            assert_eq!(owner(shared), None, "{shared}");
            assert!(may_be(Some(shared), &group, &me), "{shared}");
        }
    }
}
