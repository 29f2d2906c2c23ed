//! Accounts on the broker, one per node: the steps that create them, as `rabbitmqctl` commands.

use crate::config::Secret;
use crate::drivers::broker::Rights;
use crate::machine::{GroupId, Mode, Node, NodeName};

/// The characters of a generated password: 32, so that five bits of each random byte choose one. No two of them look
/// alike.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The account of one node.
#[derive(Debug, Clone)]
pub struct Account {
    /// The node.
    pub node: Node,
    /// Its password.
    pub password: Secret,
}

/// One step on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Create this virtual host, unless it exists.
    Vhost(String),
    /// Create this account, without any permission.
    Account {
        /// The name of the account.
        name: String,
        /// Its password.
        password: Secret,
    },
    /// Set the permissions of an account.
    Rights {
        /// The virtual host.
        vhost: String,
        /// The account and its permissions.
        rights: Rights,
    },
    /// Set the routing keys with which an account may publish and bind.
    Keys {
        /// The virtual host.
        vhost: String,
        /// The account and its permissions.
        rights: Rights,
    },
}

/// Why a text names no node.
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
/// If the text is not of this form, and why.
pub fn parse_node(text: &str) -> Result<Node, BadNode> {
    let bad = |problem: String| BadNode { found: text.chars().take(100).collect(), problem };
    let (mode, name) = text.split_once(':').ok_or_else(|| bad("no colon".to_owned()))?;
    let mode = mode.parse::<Mode>().map_err(|error| bad(error.to_string()))?;
    let name = name.parse::<NodeName>().map_err(|error| bad(error.to_string()))?;
    Ok(Node::new(mode, name))
}

/// Whether `rabbitmqctl` gets this virtual host's name unchanged: Debian's script passes arguments through a shell.
pub(super) fn is_plain_vhost(vhost: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._:-".contains(c);
    !vhost.is_empty() && vhost.len() <= 255 && !vhost.starts_with('-') && vhost.chars().all(plain)
}

/// The steps for these nodes, in order. They can be repeated, except for the creation of accounts.
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
    /// The arguments of `rabbitmqctl`.
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

    /// The standard input of `rabbitmqctl`: a password must not be on a command line, which every user can see.
    pub fn input(&self) -> Option<&Secret> {
        match self {
            Self::Account { password, .. } => Some(password),
            Self::Vhost(_) | Self::Rights { .. } | Self::Keys { .. } => None,
        }
    }

    /// The step as a line for a shell.
    fn line(&self) -> String {
        let words: Vec<_> = self.arguments().into_iter().map(shell_word).collect();
        let command = format!("rabbitmqctl {}", words.join(" "));
        match self {
            Self::Vhost(name) => {
                format!("rabbitmqctl --silent list_vhosts | grep -Fqx {} || {command}", shell_word(name))
            }
            // printf is built into the shell: no other process shows the password.
            Self::Account { password, .. } => format!("printf '%s\\n' {} | {command}", shell_word(password.expose())),
            Self::Rights { .. } | Self::Keys { .. } => command,
        }
    }
}

/// All steps as a script for `sh`, with notes for the operator as comments.
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

/// Where each account belongs: the only time that generated passwords are shown.
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

/// A password of 24 characters, 120 bits, that needs no quotes anywhere.
pub fn generated_password(random: [u8; 24]) -> Secret {
    let letters = random.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32)));
    Secret::new(letters.map(|letter| char::from(*letter)).collect::<String>())
}

/// In single quotes, so that a shell changes nothing.
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
