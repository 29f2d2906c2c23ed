//! Why there is no session, in a text that says who has to act.

use std::io;

use lapin::ErrorKind;
use lapin::protocol::AMQPError;

use crate::machine::Node;

use super::BrokerSettings;

const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;
const INTERNAL_ERROR: u16 = 541;

/// What ended a session or prevented it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("the service on that port is not an AMQP 0-9-1 broker: {0}")]
    NotAmqp(String),
    #[error("the service on that port does not use TLS: the usual port is 5671 for tls = true, 5672 for tls = false")]
    NotTls,
    #[error("the broker's certificate is refused: {0}")]
    Untrusted(String),
    #[error("the broker refuses TLS with this node: {0}: check client_cert and what the broker trusts")]
    Unwelcome(String),
    #[error("cannot use TLS: {0}")]
    Tls(String),
    #[error("the login is refused: check username and password, and whether the account may log in from this host")]
    Login,
    #[error(
        "the login by certificate is refused: the broker needs the plugin rabbitmq_auth_mechanism_ssl and an account \
         with the name from the certificate"
    )]
    LoginByCertificate,
    #[error("the vhost is refused: {0}")]
    Vhost(String),
    #[error("the account lacks a permission that synkler needs: {0}")]
    Denied(String),
    #[error("{0} is the account of another node or group: correct username, or id, mode and name")]
    Foreign(String),
    #[error("the broker does not know this group yet: central creates it when it first connects ({0})")]
    Absent(String),
    #[error("the broker holds an exchange or queue of that name with other settings: {0}")]
    Conflict(String),
    #[error(
        "another node named {0} is in the group: give one of them another name; if this node has just crashed, its \
         old session ends within a minute"
    )]
    Duplicate(Node),
    #[error("{0} is longer than the 255 bytes that AMQP allows")]
    Setting(&'static str),
    #[error("no answer within {seconds} s to: {asked}")]
    Silent { asked: &'static str, seconds: u64 },
    #[error("queue {0} delivers no messages: it lost its leader; synkler creates it again if that lasts")]
    Unserved(String),
    #[error("not found on the broker: {0}")]
    Missing(String),
    #[error("the broker has failed: {0}")]
    Internal(String),
    #[error("the connection is lost: {0}")]
    Lost(String),
}

impl Fault {
    /// Whether a person probably has to act.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::NotAmqp(_)
                | Self::NotTls
                | Self::Untrusted(_)
                | Self::Unwelcome(_)
                | Self::Tls(_)
                | Self::Login
                | Self::LoginByCertificate
                | Self::Vhost(_)
                | Self::Denied(_)
                | Self::Foreign(_)
                | Self::Conflict(_)
                | Self::Setting(_)
        )
    }

    /// For an error about one queue: a broker that does not answer, or fails by itself, cannot serve that queue.
    pub(super) fn of_queue(self, queue: &str) -> Self {
        match self {
            Self::Silent { .. } | Self::Internal(_) => Self::Unserved(queue.to_owned()),
            other => other,
        }
    }

    /// For an error about shared exchanges and queues; `why` says that an account may not create them.
    pub(super) fn of_shared(self, why: String) -> Self {
        match self {
            Self::Missing(_) => Self::Absent(why),
            other => other,
        }
    }

    /// For an error from the attempt to connect.
    pub(super) fn connecting(error: &lapin::Error, settings: &BrokerSettings) -> Self {
        let hint = match settings.tls {
            None => "; if that port is for TLS, set tls = true",
            // The broker checks our certificate after the handshake, and its refusal may get lost when it closes the
            // connection.
            Some(_) => {
                "; a broker also does this if it gets no client certificate or does not trust it: check client_cert"
            }
        };
        match error.kind() {
            ErrorKind::ProtocolError(error) if error.get_id() == ACCESS_REFUSED => match settings.password {
                Some(_) => Self::Login,
                None => Self::LoginByCertificate,
            },
            ErrorKind::ProtocolError(error) if error.get_id() == NOT_ALLOWED => Self::Vhost(text(error)),
            ErrorKind::ParsingError(_) if settings.tls.is_none() => {
                Self::NotAmqp(format!("its first bytes are not AMQP{hint}"))
            }
            ErrorKind::ParsingError(_) => Self::NotAmqp("its first bytes are not AMQP".to_owned()),
            ErrorKind::InvalidProtocolVersion(version) => Self::NotAmqp(format!("it speaks AMQP {version}")),
            ErrorKind::IOError(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                Self::NotAmqp(format!("it closes the connection on the AMQP greeting{hint}"))
            }
            // A TLS port answers in this way, but also a broker that is shutting down, which needs no person.
            ErrorKind::IOError(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                Self::Unreachable(format!("{error}{hint}"))
            }
            ErrorKind::IOError(error) => of_tls(error).unwrap_or_else(|| Self::Unreachable(error.to_string())),
            _ => Self::Unreachable(error.to_string()),
        }
    }

    /// For an error of an established connection.
    pub(super) fn using(error: &lapin::Error, me: &Node) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(error) => match error.get_id() {
                RESOURCE_LOCKED => Self::Duplicate(me.clone()),
                ACCESS_REFUSED if error.get_message().as_str().contains("exclusive use") => Self::Duplicate(me.clone()),
                ACCESS_REFUSED => Self::Denied(text(error)),
                NOT_FOUND => Self::Missing(text(error)),
                PRECONDITION_FAILED => Self::Conflict(text(error)),
                INTERNAL_ERROR => Self::Internal(text(error)),
                _ => Self::Lost(text(error)),
            },
            ErrorKind::IOError(error) => Self::Lost(error.to_string()),
            _ => Self::Lost(error.to_string()),
        }
    }
}

fn text(error: &AMQPError) -> String {
    format!("{} {}", error.get_id(), error.get_message())
}

/// What a TLS error means for the operator; `None` for any other error.
fn of_tls(error: &io::Error) -> Option<Fault> {
    // The library's own error type is not accessible, so its text decides.
    let text = error.to_string();
    if text.contains("invalid peer certificate: UnknownIssuer") {
        return Some(Fault::Untrusted(
            "it is signed by an unknown CA: set ca_file to the CA that signed it".to_owned(),
        ));
    }
    if let Some((_, problem)) = text.split_once("invalid peer certificate: ") {
        let name = problem.contains("not valid for name") || problem == "NotValidForName";
        let hint = if name { "; synkler_server must be a name in the certificate" } else { "" };
        return Some(Fault::Untrusted(format!("{problem}{hint}")));
    }
    if let Some((_, alert)) = text.split_once("received fatal alert: ") {
        return Some(Fault::Unwelcome(alert.to_owned()));
    }
    // The first bytes from a plain port: the broker's own greeting, which is not a TLS record.
    if text.contains("InvalidContentType") || text.contains("corrupt message") {
        return Some(Fault::NotTls);
    }
    None
}
