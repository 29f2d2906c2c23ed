//! TLS to a real RabbitMQ: whom we believe, whom it believes, and what is said when they do not.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use synkler::config::{Environment, load};
use synkler::drivers::broker::{BrokerEvent, BrokerSettings, Identity, Tls};
use synkler::machine::{Address, Mode, Node};
use tempfile::TempDir;

use crate::peer::{Peer, closed, freed, node, settings};
use crate::rabbit::Rabbit;

fn openssl(directory: &Path, arguments: &str) {
    let words = arguments.split_whitespace();
    let output = Command::new("openssl").current_dir(directory).args(words).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, a broker's certificate for 127.0.0.1, a node's for its account, and another authority that signed nothing.
fn certificates(directory: &Path) {
    const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for name in ["ca", "other"] {
        openssl(directory, &format!("req -x509 {NEW_KEY} -keyout {name}.key -out {name}.pem -subj /CN={name} -days 2"));
    }
    let signed = [
        ("server", "broker", "subjectAltName=IP:127.0.0.1,DNS:broker.example"),
        ("node", "synkler.g.upload.alpha", "extendedKeyUsage=clientAuth"),
    ];
    for (name, subject, extension) in signed {
        fs::write(directory.join("extension"), format!("{extension}\n")).unwrap();
        openssl(directory, &format!("req {NEW_KEY} -keyout {name}.key -out {name}.csr -subj /CN={subject}"));
        openssl(
            directory,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile extension"
            ),
        );
    }
}

/// TLS as a config that names these files has it.
fn tls(directory: &Path, text: &str) -> Tls {
    let path = directory.join("config.toml");
    let files = directory.display();
    let text = text.replace('@', &format!("{files}/"));
    fs::write(&path, format!("file_dir = '/x'\nsynkler_server = 'y'\nusername = 'z'\ntls = true\n{text}")).unwrap();
    let loaded = load(Some(&path), &Environment::new("box").with("HOME", "/h")).unwrap();
    let tls = loaded.settings.broker.tls.unwrap();
    let identity = tls.identity.map(|identity| Identity { chain: identity.chain, key: identity.key });
    Tls { authorities: tls.authorities, identity }
}

fn secured(rabbit: &Rabbit, vhost: &str, me: &Node, tls: Tls) -> BrokerSettings {
    BrokerSettings { port: rabbit.tls_port(), tls: Some(tls), ..settings(rabbit, vhost, me) }
}

#[tokio::test]
async fn tls_connects_to_the_right_broker_alone() {
    let directory = TempDir::new().unwrap();
    let place = directory.path();
    certificates(place);
    let rabbit = Rabbit::start_with_tls(place);
    let vhost = rabbit.vhost();
    let (alpha, hub) = (node(Mode::Upload, "alpha"), node(Mode::Central, "hub"));
    let trusting = || tls(place, "ca_file = '@ca.pem'\n");
    let showing = || tls(place, "ca_file = '@ca.pem'\nclient_cert = '@node.pem'\nclient_key = '@node.key'\n");
    let because = async |settings: BrokerSettings| Peer::start(settings).reason().await.detail().to_owned();

    // By password, and by certificate alone.
    let mut hub_peer = Peer::connected(secured(&rabbit, &vhost, &hub, trusting())).await;
    let external = |tls| BrokerSettings {
        username: "synkler.g.upload.alpha".to_owned(),
        password: None,
        ..secured(&rabbit, &vhost, &alpha, tls)
    };
    let reason = because(external(showing())).await;
    assert!(
        reason.contains("login by certificate is refused") && reason.contains("rabbitmq_auth_mechanism_ssl"),
        "{reason}"
    );
    rabbit.tool("rabbitmqctl", &["add_user", "synkler.g.upload.alpha", "unused"]);
    rabbit.tool("rabbitmqctl", &["set_permissions", "-p", &vhost, "synkler.g.upload.alpha", ".*", ".*", ".*"]);
    let mut alpha_peer = Peer::start(external(showing()));
    while alpha_peer.next().await != BrokerEvent::Connected {}
    alpha_peer.broker.publish(Address::AnyCentral, freed(1));
    let (from, words, _) = hub_peer.delivery().await;
    assert_eq!((from, words), (alpha.clone(), freed(1)));
    hub_peer.broker.publish(Address::Node(alpha.clone()), closed(1));
    assert_eq!(alpha_peer.delivery().await.1, closed(1));

    // Another authority, the system's, another name.
    let beta = node(Mode::Upload, "beta");
    let wrong = |tls| secured(&rabbit, &vhost, &beta, tls);
    let reason = because(wrong(tls(place, "ca_file = '@other.pem'\n"))).await;
    assert!(
        reason.contains("certificate is refused: it is signed by an unknown CA") && reason.contains("set ca_file"),
        "{reason}"
    );
    assert!(reason.contains("by TLS, vhost"), "{reason}");
    let reason = because(wrong(tls(place, ""))).await;
    assert!(reason.contains("unknown CA") || reason.contains("install ca-certificates"), "{reason}");
    let reason = because(BrokerSettings { host: "127.0.0.2".to_owned(), ..wrong(trusting()) }).await;
    assert!(
        reason.contains("not valid for name \"127.0.0.2\"") && reason.contains("synkler_server must be"),
        "{reason}"
    );

    // A certificate that the broker does not know.
    let stranger = tls(place, "ca_file = '@ca.pem'\nclient_cert = '@other.pem'\nclient_key = '@other.key'\n");
    let reason = because(wrong(stranger)).await;
    // Its refusal or the hanging up after it, whichever arrives first.
    assert!(reason.contains("the broker refuses TLS with this node") || reason.contains("os error"), "{reason}");
    assert!(reason.contains("check client_cert"), "{reason}");
    let reason =
        because(wrong(tls(place, "ca_file = '@ca.pem'\nclient_cert = '@node.pem'\nclient_key = '@other.key'\n"))).await;
    assert!(reason.contains("cannot use ca_file, client_cert and client_key together"), "{reason}");

    // One side with TLS, the other without.
    let reason = because(BrokerSettings { port: rabbit.tls_port(), ..settings(&rabbit, &vhost, &beta) }).await;
    assert!(reason.contains("set tls = true"), "{reason}");
    let reason = because(BrokerSettings { port: rabbit.port(), ..wrong(trusting()) }).await;
    assert!(reason.contains("does not use TLS") && reason.contains("5671"), "{reason}");
}
