//! Accounts at the broker, one for each node: the steps that make them, as `rabbitmqctl` takes them.

use crate::config::Secret;
use crate::drivers::broker::Rights;
use crate::machine::{GroupId, Mode, Node, NodeName};

/// A generated password draws its characters from these: 32, so that five bits of each random byte choose one, and none
/// that looks like another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// One node's account to be.
#[derive(Debug, Clone)]
pub struct Account {
    /// Whose.
    pub node: Node,
    /// What it logs in with.
    pub password: Secret,
}

/// One thing to do at the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make this virtual host, unless it is there.
    Vhost(String),
    /// Make this account; only its own rights let it do anything.
    Account {
        /// Its name.
        name: String,
        /// What it logs in with.
        password: Secret,
    },
    /// Give an account's rights anew.
    Rights {
        /// The virtual host they hold in.
        vhost: String,
        /// The account and what it may.
        rights: Rights,
    },
    /// Give the keys anew with which it may publish and bind.
    Keys {
        /// The virtual host they hold in.
        vhost: String,
        /// The account and what it may.
        rights: Rights,
    },
}

/// Why words name no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid node {found:?}: use MODE:NAME, such as upload:alpha ({problem})")]
pub struct BadNode {
    found: String,
    problem: String,
}

/// Reads `MODE:NAME`.
///
/// # Errors
///
/// When it is neither, and why.
pub fn parse_node(text: &str) -> Result<Node, BadNode> {
    let bad = |problem: String| BadNode { found: text.chars().take(100).collect(), problem };
    let (mode, name) = text.split_once(':').ok_or_else(|| bad("no colon".to_owned()))?;
    let mode = mode.parse::<Mode>().map_err(|error| bad(error.to_string()))?;
    let name = name.parse::<NodeName>().map_err(|error| bad(error.to_string()))?;
    Ok(Node::new(mode, name))
}

/// Whether `rabbitmqctl` gets this name of a virtual host as it is: Debian's passes its arguments through a shell.
pub(super) fn is_plain_vhost(vhost: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._:-".contains(c);
    !vhost.is_empty() && vhost.len() <= 255 && !vhost.starts_with('-') && vhost.chars().all(plain)
}

/// What is to be done for these nodes, in order. Safe to repeat, but for the accounts themselves.
pub fn steps(vhost: &str, group: &GroupId, accounts: &[Account]) -> Vec<Step> {
    let mut steps = vec![Step::Vhost(vhost.to_owned())];
    for Account { node, password } in accounts {
        let rights = Rights::of(group, node);
        let vhost = vhost.to_owned();
        steps.push(Step::Account { name: rights.account.clone(), password: password.clone() });
        steps.push(Step::Rights { vhost: vhost.clone(), rights: rights.clone() });
        steps.push(Step::Keys { vhost, rights });
    }
    steps
}

impl Step {
    /// What `rabbitmqctl` is called with.
    pub fn arguments(&self) -> Vec<&str> {
        match self {
            Self::Vhost(name) => vec!["add_vhost", name],
            Self::Account { name, .. } => vec!["add_user", name],
            Self::Rights { vhost, rights } => {
                let Rights { account, configure, write, read, .. } = rights;
                vec!["set_permissions", "-p", vhost, account, configure, write, read]
            }
            Self::Keys { vhost, rights } => {
                let Rights { account, exchange, say, hear, .. } = rights;
                vec!["set_topic_permissions", "-p", vhost, account, exchange, say, hear]
            }
        }
    }

    /// What it reads from its standard input: a password has no place on a command line, which every user can see.
    pub fn input(&self) -> Option<&Secret> {
        match self {
            Self::Account { password, .. } => Some(password),
            Self::Vhost(_) | Self::Rights { .. } | Self::Keys { .. } => None,
        }
    }

    /// The same as a line for a shell.
    fn line(&self) -> String {
        let words: Vec<_> = self.arguments().into_iter().map(shell_word).collect();
        let command = format!("rabbitmqctl {}", words.join(" "));
        match self {
            Self::Vhost(name) => {
                format!("rabbitmqctl --silent list_vhosts | grep -Fqx {} || {command}", shell_word(name))
            }
            // The shell's own printf: no other process shows it.
            Self::Account { password, .. } => format!("printf '%s\\n' {} | {command}", shell_word(password.expose())),
            Self::Rights { .. } | Self::Keys { .. } => command,
        }
    }
}

/// All steps as a script for `sh`, with what the operator should know as its comments.
pub fn script(vhost: &str, group: &GroupId, accounts: &[Account]) -> String {
    let mut text =
        format!("# Run this as root on the broker host. It creates the accounts of group {group}.\nset -e\n");
    for step in steps(vhost, group, accounts) {
        text.push_str(&step.line());
        text.push('\n');
    }
    text.push('\n');
    for line in notes(vhost, group, accounts).lines() {
        text.push_str(&format!("# {line}"));
        text.push('\n');
    }
    text
}

/// What goes where: the only time that generated passwords are shown.
pub fn notes(vhost: &str, group: &GroupId, accounts: &[Account]) -> String {
    let mut text = String::new();
    for Account { node, password } in accounts {
        let account = Rights::of(group, node).account;
        text.push_str(&format!(
            "On {node}: username = \"{account}\", vhost = \"{vhost}\", and this password in /etc/synkler/credentials/password:\n  {}\n",
            password.expose()
        ));
    }
    text.push_str(
        "Where the group has shared an account so far, take its rights away when all nodes have their own:\n",
    );
    text.push_str(&format!("  rabbitmqctl clear_permissions -p {} ACCOUNT\n", shell_word(vhost)));
    text
}

/// A password of 24 characters, 120 bits, that needs no quoting anywhere.
pub fn generated_password(random: [u8; 24]) -> Secret {
    let letters = random.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32)));
    Secret::new(letters.map(|letter| char::from(*letter)).collect::<String>())
}

/// In single quotes, where nothing means anything to a shell.
fn shell_word(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Vec<Account> {
        let account =
            |node: &str, password: &str| Account { node: parse_node(node).unwrap(), password: Secret::new(password) };
        vec![account("upload:alpha", "it's"), account("central:hub.example", "b")]
    }

    #[test]
    fn nodes_are_named_by_mode_and_name() {
        assert_eq!(parse_node("upload:a.b").unwrap().to_string(), "upload a.b");
        for text in ["alpha", "sideways:alpha", "upload:", "upload:a b", "upload:a:b"] {
            assert!(parse_node(text).is_err(), "{text}");
        }
        for vhost in ["", "-p", "a b", "$(x)", "a\"b", "a\nb"] {
            assert!(!is_plain_vhost(vhost), "{vhost}");
        }
        assert!(is_plain_vhost("/") && is_plain_vhost("synkler-1"));
    }

    #[test]
    fn a_password_is_on_no_command_line() {
        let group = "g".parse().unwrap();
        let steps = steps("v", &group, &accounts());
        assert_eq!(steps.len(), 7);
        assert_eq!(steps[1].arguments(), ["add_user", "synkler.g.upload.alpha"]);
        assert_eq!(steps[1].input().unwrap().expose(), "it's");
        assert_eq!(
            steps[6].arguments()[..5],
            ["set_topic_permissions", "-p", "v", "synkler.g.central.hub:example", "synkler.g"]
        );
        let script = script("v", &group, &accounts());
        assert!(
            script.contains("\nprintf '%s\\n' 'it'\\''s' | rabbitmqctl 'add_user' 'synkler.g.upload.alpha'\n"),
            "{script}"
        );
        assert!(script.contains("| grep -Fqx 'v' || rabbitmqctl 'add_vhost' 'v'\n"), "{script}");
        assert!(
            script.contains("# On central hub.example: username = \"synkler.g.central.hub:example\", vhost = \"v\""),
            "{script}"
        );
    }

    #[test]
    fn generated_passwords_are_plain_and_differ_with_chance() {
        let one = generated_password([7; 24]);
        assert_eq!(one.expose().len(), 24);
        assert!(one.expose().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let mut random = [7; 24];
        random[23] = 8;
        assert_ne!(generated_password(random), one);
        assert_eq!(generated_password([255; 24]).expose(), "9".repeat(24));
    }
}
