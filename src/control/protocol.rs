//! The Varlink wire protocol: NUL-terminated JSON objects, a call and its reply. It knows no method.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::machine::one_line;

/// The interface's name.
pub const INTERFACE: &str = "io.synkler.Control";
/// The interface's description, as introspection serves it.
pub const DESCRIPTION: &str = include_str!("io.synkler.Control.varlink");
/// The interface that every Varlink service has.
pub const SERVICE: &str = "org.varlink.service";
/// Its description.
pub const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// The maximum size of a request in bytes, without its NUL.
pub const REQUEST_LIMIT: usize = 64 * 1024;
/// The maximum size of a reply that a client accepts, in bytes.
pub const REPLY_LIMIT: usize = 16 * 1024 * 1024;
/// How many transfers `GetStatus` lists by default.
pub const STATUS_DEFAULT: u64 = 100;
/// How many transfers `GetStatus` lists at most.
pub const STATUS_LIMIT: u64 = 1000;
/// How many transfers `List` and `GetHistory` return by default.
pub const LIST_DEFAULT: u64 = 50;
/// How many transfers `List` and `GetHistory` return at most.
pub const LIST_LIMIT: u64 = 1000;

/// A call in its wire form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Interface and method, joined by a dot.
    pub(crate) method: String,
    /// By name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parameters: Option<Map<String, Value>>,
    /// The caller accepts more than one reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) more: Option<bool>,
    /// The caller wants no reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) oneway: Option<bool>,
    /// The caller wants to switch to another protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upgrade: Option<bool>,
}

impl Call {
    /// Reads one call, without its NUL.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(bytes).map_err(|err| Refusal::InvalidRequest(one_line(&err.to_string())))
    }

    /// The method's interface and name.
    pub(crate) fn target(&self) -> (&str, &str) {
        self.method.rsplit_once('.').unwrap_or((&self.method, ""))
    }
}

/// A reply in its wire form: parameters alone mean success.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Reply {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    parameters: Value,
    #[serde(default)]
    continues: Option<bool>,
}

impl Reply {
    /// Whether another reply to the same call follows.
    pub(crate) fn continues(&self) -> bool {
        self.continues == Some(true) && self.error.is_none()
    }

    /// The result, or the refusal.
    pub(crate) fn into_result(self) -> Result<Value, Refusal> {
        match self.error {
            Some(error) => Err(Refusal::read(&error, &self.parameters)),
            None => Ok(self.parameters),
        }
    }
}

/// The bytes of a successful reply, with the NUL; `continues` says that another one follows.
pub(crate) fn encode_reply<T: Serialize>(parameters: &T, continues: bool) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Good<'a, T> {
        parameters: &'a T,
        #[serde(skip_serializing_if = "Option::is_none")]
        continues: Option<bool>,
    }
    encode(&Good { parameters, continues: continues.then_some(true) })
}

/// The bytes of a refusal, with the NUL.
pub(crate) fn encode_refusal(refusal: &Refusal) -> Result<Vec<u8>, serde_json::Error> {
    encode(&json!({ "error": refusal.name(), "parameters": refusal.parameters() }))
}

/// The bytes of one message, with the NUL.
pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(0);
    Ok(bytes)
}

/// Why a call was refused: the errors of both interfaces.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The named interface is not served.
    #[error("unknown interface {0:?}")]
    InterfaceNotFound(String),
    /// The named method does not exist.
    #[error("unknown method {0:?}")]
    MethodNotFound(String),
    /// The named method is known but not implemented.
    #[error("method {0:?} is not implemented")]
    MethodNotImplemented(String),
    /// The named parameter is missing, unknown or invalid.
    #[error("parameter {0:?} is missing, unknown or invalid")]
    InvalidParameter(String),
    /// The caller may not do this.
    #[error("permission denied for this user")]
    PermissionDenied,
    /// The method streams, and the call has no flag `more`.
    #[error("the method needs a call with the flag \"more\"")]
    ExpectedMore,
    /// No item or transfer has that name.
    #[error("no item or transfer {0:?}")]
    NotFound(String),
    /// Several begin with that text.
    #[error("{item:?} is ambiguous: it matches {}", shown(.matches))]
    Ambiguous {
        /// The given text.
        item: String,
        /// Some of the names and ids that it may mean, printable.
        matches: Vec<String>,
    },
    /// The daemon cannot do it, for this reason.
    #[error("{0}")]
    Refused(String),
    /// The daemon did not answer in time.
    #[error("the daemon is busy and did not answer in time: try again")]
    Busy,
    /// This many clients are connected already.
    #[error("{0} clients are already connected: try again")]
    TooManyClients(u64),
    /// The request has more bytes than this.
    #[error("the request has more than {0} bytes")]
    RequestTooLarge(u64),
    /// The request is not a Varlink call, for this reason.
    #[error("the request is not a Varlink call: {0}")]
    InvalidRequest(String),
    /// An error of a newer daemon, by its full name.
    #[error("the daemon refused with {0:?}")]
    Other(String),
}

impl Refusal {
    /// The full name of the error.
    pub fn name(&self) -> &str {
        match self {
            Self::InterfaceNotFound(_) => "org.varlink.service.InterfaceNotFound",
            Self::MethodNotFound(_) => "org.varlink.service.MethodNotFound",
            Self::MethodNotImplemented(_) => "org.varlink.service.MethodNotImplemented",
            Self::InvalidParameter(_) => "org.varlink.service.InvalidParameter",
            Self::PermissionDenied => "org.varlink.service.PermissionDenied",
            Self::ExpectedMore => "org.varlink.service.ExpectedMore",
            Self::NotFound(_) => "io.synkler.Control.NotFound",
            Self::Ambiguous { .. } => "io.synkler.Control.Ambiguous",
            Self::Refused(_) => "io.synkler.Control.Refused",
            Self::Busy => "io.synkler.Control.Busy",
            Self::TooManyClients(_) => "io.synkler.Control.TooManyClients",
            Self::RequestTooLarge(_) => "io.synkler.Control.RequestTooLarge",
            Self::InvalidRequest(_) => "io.synkler.Control.InvalidRequest",
            Self::Other(name) => name,
        }
    }

    /// Its parameters, an object.
    pub fn parameters(&self) -> Value {
        match self {
            Self::InterfaceNotFound(interface) => json!({ "interface": interface }),
            Self::MethodNotFound(method) | Self::MethodNotImplemented(method) => json!({ "method": method }),
            Self::InvalidParameter(parameter) => json!({ "parameter": parameter }),
            Self::TooManyClients(limit) | Self::RequestTooLarge(limit) => json!({ "limit": limit }),
            Self::NotFound(item) => json!({ "item": item }),
            Self::Ambiguous { item, matches } => json!({ "item": item, "matches": matches }),
            Self::Refused(reason) | Self::InvalidRequest(reason) => json!({ "reason": reason }),
            Self::PermissionDenied | Self::ExpectedMore | Self::Busy | Self::Other(_) => json!({}),
        }
    }

    /// The error with that full name and these parameters.
    pub fn read(name: &str, parameters: &Value) -> Self {
        let text = |key| parameters.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |key| parameters.get(key).and_then(Value::as_u64).unwrap_or_default();
        match name {
            "org.varlink.service.InterfaceNotFound" => Self::InterfaceNotFound(text("interface")),
            "org.varlink.service.MethodNotFound" => Self::MethodNotFound(text("method")),
            "org.varlink.service.MethodNotImplemented" => Self::MethodNotImplemented(text("method")),
            "org.varlink.service.InvalidParameter" => Self::InvalidParameter(text("parameter")),
            "org.varlink.service.PermissionDenied" => Self::PermissionDenied,
            "org.varlink.service.ExpectedMore" => Self::ExpectedMore,
            "io.synkler.Control.NotFound" => Self::NotFound(text("item")),
            "io.synkler.Control.Ambiguous" => {
                let matches =
                    parameters.get("matches").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let matches = matches.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                Self::Ambiguous { item: text("item"), matches }
            }
            "io.synkler.Control.Refused" => Self::Refused(text("reason")),
            "io.synkler.Control.Busy" => Self::Busy,
            "io.synkler.Control.TooManyClients" => Self::TooManyClients(number("limit")),
            "io.synkler.Control.RequestTooLarge" => Self::RequestTooLarge(number("limit")),
            "io.synkler.Control.InvalidRequest" => Self::InvalidRequest(text("reason")),
            _ => Self::Other(name.to_owned()),
        }
    }
}

fn shown(matches: &[String]) -> String {
    matches.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_what_they_write_and_are_declared() {
        let own = || "x".to_owned();
        let all = [
            Refusal::InterfaceNotFound(own()),
            Refusal::MethodNotFound(own()),
            Refusal::MethodNotImplemented(own()),
            Refusal::InvalidParameter(own()),
            Refusal::PermissionDenied,
            Refusal::ExpectedMore,
            Refusal::NotFound(own()),
            Refusal::Ambiguous { item: own(), matches: vec![own(), own()] },
            Refusal::Refused(own()),
            Refusal::Busy,
            Refusal::TooManyClients(64),
            Refusal::RequestTooLarge(65536),
            Refusal::InvalidRequest(own()),
        ];
        for refusal in all {
            let bytes = encode_refusal(&refusal).unwrap();
            let (nul, json) = bytes.split_last().unwrap();
            assert_eq!(*nul, 0);
            let reply: Reply = serde_json::from_slice(json).unwrap();
            let keys: Vec<_> = reply.parameters.as_object().unwrap().keys().cloned().collect();
            let (interface, error) = refusal.name().rsplit_once('.').unwrap();
            let file = if interface == INTERFACE { DESCRIPTION } else { SERVICE_DESCRIPTION };
            let declared = file.lines().find(|line| line.starts_with(&format!("error {error} ("))).unwrap();
            let (_, declared) = declared.trim_end_matches(')').split_once('(').unwrap();
            let declared = declared.split(", ").map(|field| field.split(':').next().unwrap()).collect::<Vec<_>>();
            assert_eq!(keys.join(","), declared.join(","), "{}", refusal.name());
            assert_eq!(reply.into_result(), Err(refusal));
        }
    }

    #[test]
    fn calls_are_objects_with_a_method() {
        let call = Call::decode(br#"{"method":"io.synkler.Control.GetStatus","parameters":null,"more":null}"#).unwrap();
        assert_eq!(call.target(), ("io.synkler.Control", "GetStatus"));
        for wrong in [&b""[..], b"{}", b"[]", b"7", br#"{"method":7}"#, br#"{"method":"a.b","parameters":[]}"#, b"\xff"]
        {
            assert!(matches!(Call::decode(wrong), Err(Refusal::InvalidRequest(_))), "{wrong:?}");
        }
    }
}
