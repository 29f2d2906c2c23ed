//! The broker: whether it can be reached, accepts this account, and has what this node needs.

use std::time::Duration;

use tokio::time::timeout;

use super::{BROKER_LIMIT, failed, ok, skipped, warning};
use crate::config::Settings;
use crate::control::types::Finding;
use crate::drivers::broker::{
    Answer, BrokerSettings, Identity, Probed, QueueSight, Rights, Tls, Tried, Trouble, TroubleKind, probe, told,
    try_all,
};
use crate::machine::Mode;

/// How long a TCP connection to each address may take.
const REACH_LIMIT: Duration = Duration::from_secs(5);
/// From this number of messages without a consumer on, the check warns.
const MANY: u32 = 10_000;

/// Findings `broker`, `login`, `queue` and `central`.
pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let broker = &settings.broker;
    let reached = reached(settings, try_all(&broker.host, broker.port, REACH_LIMIT).await);
    if reached.result == "failed" {
        let mut findings = vec![reached];
        findings.extend(["login", "queue", "central"].map(|check| skipped(check, "cannot reach the broker")));
        return findings;
    }
    let mut findings = vec![reached];
    let probed = timeout(BROKER_LIMIT, probe(&broker_settings(settings))).await;
    findings.extend(match probed {
        Ok(Ok(probed)) => word(settings, &probed),
        Ok(Err(trouble)) => without_session(settings, &trouble),
        Err(_) => {
            let text = format!("no answer within {} s", BROKER_LIMIT.as_secs());
            without_session(settings, &Trouble { kind: TroubleKind::Silent, text })
        }
    });
    findings
}

/// Whether any address of the broker's name accepts a connection, and which addresses do not answer.
fn reached(settings: &Settings, tried: Result<Vec<Tried>, String>) -> Finding {
    let (host, port) = (&settings.broker.host, settings.broker.port);
    let failing = |why: &str| failed("broker", format!("{host}:{port} cannot be reached: {why}"), reach_cure(settings));
    let tried = match tried {
        Ok(tried) => tried,
        Err(why) => return failing(&why),
    };
    if tried.iter().all(|tried| tried.answer != Answer::Taken) {
        return failing(&told(host, &tried));
    }
    let silent: Vec<_> = tried.iter().filter(|tried| matches!(tried.answer, Answer::Swallowed(_))).collect();
    if silent.is_empty() {
        // An address of a family that this host has no route for is no fault: the next one is tried at once.
        return ok("broker", format!("{host}:{port} can be reached"));
    }
    warning(
        "broker",
        format!("{host}:{port} can be reached, but not on all addresses: {}", told(host, silent)),
        format!("allow TCP port {port} to this address, or remove it from the entry of {host} in DNS or /etc/hosts"),
    )
}

/// The broker in the settings.
pub(crate) fn broker_settings(settings: &Settings) -> BrokerSettings {
    let broker = &settings.broker;
    BrokerSettings {
        host: broker.host.clone(),
        port: broker.port,
        vhost: broker.vhost.clone(),
        username: broker.username.clone(),
        password: broker.password.as_ref().map(|password| password.expose().to_owned()),
        tls: broker.tls.as_ref().map(|tls| Tls {
            authorities: tls.authorities.clone(),
            identity: tls
                .identity
                .as_ref()
                .map(|identity| Identity { chain: identity.chain.clone(), key: identity.key.clone() }),
        }),
        group: settings.group.clone(),
        me: settings.node.clone(),
    }
}

fn without_session(settings: &Settings, trouble: &Trouble) -> Vec<Finding> {
    let login = failed("login", &trouble.text, cure(settings, trouble.kind, None));
    let mut findings = vec![login];
    findings.extend(["queue", "central"].map(|check| skipped(check, "no session with the broker")));
    findings
}

fn word(settings: &Settings, probed: &Probed) -> Vec<Finding> {
    let broker = &settings.broker;
    let login = ok("login", format!("account {} may use vhost {}", broker.username, broker.vhost));
    let (own, sight) = &probed.own;
    let queue = match (sight, &probed.rights) {
        (_, Err(trouble)) | (Err(trouble), _) => {
            failed("queue", &trouble.text, cure(settings, trouble.kind, Some(own)))
        }
        (Ok(QueueSight::Missing), _) => {
            skipped("queue", format!("{own} does not exist yet: the first session creates it"))
        }
        (Ok(QueueSight::There { messages, consumers }), _) if *messages >= MANY && *consumers == 0 => warning(
            "queue",
            format!("{own} holds {messages} messages, and no daemon consumes them"),
            "systemctl start synkler",
        ),
        (Ok(QueueSight::There { messages, consumers }), _) => {
            let listening = if *consumers > 0 { "the daemon consumes it" } else { "no daemon consumes it now" };
            ok("queue", format!("{own} is correct; {listening}, {messages} messages wait"))
        }
    };
    vec![login, queue, central(settings, probed)]
}

/// Whether any central has created its queue, and consumes it.
fn central(settings: &Settings, probed: &Probed) -> Finding {
    let (name, sight) = &probed.central;
    let here = settings.mode() == Mode::Central;
    match sight {
        Err(trouble) => failed("central", &trouble.text, cure(settings, trouble.kind, Some(name))),
        Ok(QueueSight::Missing) if here => {
            skipped("central", format!("{name} does not exist yet: the first session creates it"))
        }
        Ok(QueueSight::Missing) => failed(
            "central",
            format!("no central of group {} has connected to this broker yet", settings.group),
            format!(
                "on central: systemctl start synkler, with id = {}, synkler_server = this broker and vhost = {}",
                settings.group, settings.broker.vhost
            ),
        ),
        Ok(QueueSight::There { messages, consumers: 0 }) => warning(
            "central",
            format!(
                "no central of group {} is connected to the broker; {messages} messages wait for one",
                settings.group
            ),
            "on central: systemctl start synkler",
        ),
        Ok(QueueSight::There { consumers, .. }) => ok("central", format!("{consumers} connected to the broker")),
    }
}

fn reach_cure(settings: &Settings) -> String {
    let (host, port) = (&settings.broker.host, settings.broker.port);
    format!(
        "on {host}: systemctl start rabbitmq-server; else correct synkler_server and port, or allow TCP port {port} \
         in the firewall (test: nc -vz {host} {port})"
    )
}

fn cure(settings: &Settings, kind: TroubleKind, queue: Option<&str>) -> String {
    let broker = &settings.broker;
    let (user, vhost) = (word_of(&broker.username), word_of(&broker.vhost));
    let own = Rights::of(&settings.group, &settings.node).account;
    let rights = if broker.username == own {
        let (group, node) = (&settings.group, &settings.node);
        format!("synkler broker-setup --apply --vhost {vhost} --id {group} {}:{}", node.mode, node.name)
    } else {
        shared_rights(settings, &user, &vhost)
    };
    match kind {
        TroubleKind::Reach => reach_cure(settings),
        TroubleKind::NotAmqp => {
            "set synkler_server and port to the broker's AMQP listener (5672 by default)".to_owned()
        }
        TroubleKind::Tls => format!(
            "set synkler_server to a name in the broker's certificate, ca_file to the CA that signed it, client_cert \
             and client_key to a certificate that the broker trusts, port to the TLS listener (5671 by default); \
             openssl s_client -connect {}:{} shows the certificate",
            broker.host, broker.port
        ),
        TroubleKind::Login => format!(
            "set username and password to those of the account; on the broker: rabbitmqctl change_password {user} \
             PASSWORD, or if the account does not exist: rabbitmqctl add_user {user} PASSWORD"
        ),
        TroubleKind::Vhost => {
            format!("correct vhost; on the broker: rabbitmqctl add_vhost {vhost}; {rights}")
        }
        TroubleKind::Rights => format!("on the broker: {rights}"),
        TroubleKind::Conflict => match queue {
            Some(queue) => format!(
                "on the broker: rabbitmqctl delete_queue -p {vhost} {queue}; the next session creates it again, and \
                 its messages are sent again"
            ),
            None => {
                "set another id for the group, or delete the exchange or queue of that name on the broker".to_owned()
            }
        },
        TroubleKind::Silent => "on the broker: rabbitmq-diagnostics check_running; rabbitmq-diagnostics check_alarms; \
                                systemctl restart rabbitmq-server"
            .to_owned(),
        TroubleKind::Other => "synkler --check prints the settings in force and the source of each".to_owned(),
    }
}

/// The permissions of an account that several nodes share.
fn shared_rights(settings: &Settings, user: &str, vhost: &str) -> String {
    format!(
        "rabbitmqctl set_permissions -p {vhost} {user} '^synkler\\.{group}(\\..*)?$' '^synkler\\.{group}(\\..*)?$' \
         '^synkler\\.{group}(\\..*)?$'",
        group = settings.group.as_str().replace('.', ":")
    )
}

fn word_of(text: &str) -> String {
    super::quoted(std::path::Path::new(text))
}
