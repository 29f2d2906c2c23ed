//! The keys for the broker: its address, the account of this node, and how both sides authenticate.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::environment::Credential;
use super::file::read_text;
use super::merged::Origin;
use super::reading::Reading;
use super::settings::{Broker, Identity, Secret, Tls};
use super::{pem, shown_path, shown_value};

/// The largest `password_file`, in bytes.
const PASSWORD_LIMIT: u64 = 4096;
/// The largest PEM file, in bytes: larger than the complete list of authorities of a system.
const PEM_LIMIT: u64 = 1024 * 1024;
/// AMQP's limit for a short text, in bytes.
const AMQP_TEXT_LIMIT: usize = 255;
const PORT: u16 = 5672;
const TLS_PORT: u16 = 5671;

impl Reading<'_> {
    /// All settings for the broker. `node` is `<id>-<mode>`, if known: a node may have credentials of its own.
    pub(super) fn broker(&mut self, node: Option<&str>) -> Option<Broker> {
        let host = self.parse("synkler_server", broker_host, Clone::clone);
        let secured = self.truth("tls");
        let port = self.port(secured);
        let vhost = self.text("vhost", AMQP_TEXT_LIMIT);
        let username = self.text("username", AMQP_TEXT_LIMIT);
        let tls = self.tls(secured?, node);
        let has_identity = tls.as_ref().is_some_and(|tls| tls.as_ref().is_some_and(|tls| tls.identity.is_some()));
        let password = self.password(node, has_identity);
        if has_identity && matches!(password, Some(None)) && self.origin("username") == Some(Origin::Default) {
            self.refuse("username", "is not set, but the login by client_cert needs it: set the name of the account");
            return None;
        }
        Some(Broker { host: host?, port: port?, vhost: vhost?, username: username?, password: password?, tls: tls? })
    }

    fn port(&mut self, secured: Option<bool>) -> Option<u16> {
        if self.find("port").is_some() {
            return self.whole("port", 1, u32::from(u16::MAX)).and_then(|port| u16::try_from(port).ok());
        }
        let (port, origin) = match secured {
            Some(true) => (TLS_PORT, Origin::Derived("default with tls".to_owned())),
            _ => (PORT, Origin::Default),
        };
        self.show("port", port.to_string(), &origin);
        Some(port)
    }

    /// The outer `None` means an error, the inner one a login by certificate.
    fn password(&mut self, node: Option<&str>, has_identity: bool) -> Option<Option<Secret>> {
        let none = Origin::Derived("default".to_owned());
        let (Some(password), Some(file)) = (self.origin("password"), self.origin("password_file")) else {
            self.show("password_file", "none", &none);
            if self.origin("password") != Some(Origin::Default) {
                return self.password_as_set();
            }
            return match self.credential(node, "password") {
                Some(path) => self.password_from("password", &path),
                None if has_identity => {
                    self.show("password", "none", &Origin::Derived("client_cert logs in".to_owned()));
                    Some(None)
                }
                None => self.password_as_set(),
            };
        };
        match (&password, &file) {
            (Origin::Environment(_), Origin::File { .. }) => {
                self.notices.push(format!("{file}: password_file is overridden by {password}"));
                self.show("password_file", "none", &none);
                return self.password_as_set();
            }
            (Origin::File { .. }, Origin::Environment(_)) => {
                self.notices.push(format!("{password}: password is overridden by {file}"));
            }
            (Origin::Default, _) => {}
            _ => {
                self.refuse("password_file", &format!("password is also set, at {password}; set only one of them"));
                return None;
            }
        }
        let path = self.path("password_file")?;
        self.password_from("password_file", &path)
    }

    fn password_as_set(&mut self) -> Option<Option<Secret>> {
        let limit = usize::try_from(PASSWORD_LIMIT).unwrap_or(usize::MAX);
        self.text("password", limit).map(|password| Some(Secret::new(password)))
    }

    fn password_from(&mut self, key: &'static str, path: &Path) -> Option<Option<Secret>> {
        match password_in(path) {
            Ok(password) => {
                self.show("password", "hidden", &Origin::Derived(shown_path(path)));
                Some(Some(password))
            }
            Err(problem) => {
                self.refuse(key, &format!("{} {problem}", shown_path(path)));
                None
            }
        }
    }

    /// The outer `None` means an error, the inner one plain TCP.
    fn tls(&mut self, secured: bool, node: Option<&str>) -> Option<Option<Tls>> {
        if !secured {
            let mut idle = true;
            for key in ["ca_file", "client_cert", "client_key"] {
                if self.find(key).is_some() {
                    self.refuse(key, "is set, but tls is not: set tls = true");
                    idle = false;
                }
                self.show(key, "none", &Origin::Derived("without tls".to_owned()));
            }
            return idle.then_some(None);
        }
        let authorities = self.pem("ca_file", "ca.pem", node, "the system's authorities", pem::certificates);
        let chain = self.pem("client_cert", "client.pem", node, "none", pem::certificates);
        let key = self.pem("client_key", "client.key", node, "none", pem::private_key);
        let identity = match (chain?, key?) {
            (Some(chain), Some(key)) => Some(Identity { chain, key }),
            (None, None) => None,
            (Some(_), None) => {
                self.refuse("client_key", "is not set, but client_cert is: set both");
                return None;
            }
            (None, Some(_)) => {
                self.refuse("client_cert", "is not set, but client_key is: set both");
                return None;
            }
        };
        Some(Some(Tls { authorities: authorities?, identity }))
    }

    /// The content of a PEM file: the one that the key names, else the credential. The outer `None` means an error, the
    /// inner one that there is neither.
    fn pem<T>(
        &mut self,
        key: &'static str,
        credential: &str,
        node: Option<&str>,
        otherwise: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        let path = if self.find(key).is_some() {
            self.path(key)?
        } else if let Some(path) = self.credential(node, credential) {
            self.show(key, shown_path(&path), &Origin::Derived("credential".to_owned()));
            path
        } else {
            self.show(key, otherwise, &Origin::Default);
            return Some(None);
        };
        match read_text(&path, PEM_LIMIT).and_then(|text| parse(&text)) {
            Ok(held) => Some(Some(held)),
            Err(problem) => {
                self.refuse(key, &format!("{} {problem}", shown_path(&path)));
                None
            }
        }
    }

    /// The path of a credential, if it exists.
    fn credential(&mut self, node: Option<&str>, name: &str) -> Option<PathBuf> {
        match self.environment.credential(node, name) {
            Credential::At(path) => Some(path),
            Credential::None => None,
            Credential::Hidden(directory) => {
                let directory = shown_path(&directory);
                let notice = format!("{directory}: not readable; systemd passes its files to the service");
                if !self.notices.contains(&notice) {
                    self.notices.push(notice);
                }
                None
            }
        }
    }
}

/// A host name or an address. A URL may contain a password, so the error does not repeat it.
fn broker_host(text: &str) -> Result<String, String> {
    const ALLOWED: &str = "allowed is a host name or an address alone";
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    if text.contains("//") || text.contains('@') {
        return Err(format!("found a URL or an account, {ALLOWED}; see port, tls, vhost, username and password"));
    }
    if text.contains(':') {
        return Err(format!("found {}, {ALLOWED}; set the port with the key port", shown_value(text)));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() || text.len() > 253 || text.starts_with(['.', '-']) || !text.chars().all(plain) {
        return Err(format!("found {}, {ALLOWED}", shown_value(text)));
    }
    Ok(text.to_owned())
}

fn password_in(path: &Path) -> Result<Secret, String> {
    let text = read_text(path, PASSWORD_LIMIT)?;
    let password = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    match password {
        "" => Err("is empty".to_owned()),
        _ if password.contains(['\n', '\r', '\0']) => Err("contains more than one line".to_owned()),
        _ => Ok(Secret::new(password)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_host_alone() {
        for (text, host) in [("mq.example.com", "mq.example.com"), ("[::1]", "::1"), ("10.0.0.1", "10.0.0.1")] {
            assert_eq!(broker_host(text).unwrap(), host);
        }
        for text in ["", "a b", "mq:5672", "-x", "mq/x"] {
            assert!(broker_host(text).is_err(), "{text}");
        }
        assert!(!broker_host("amqp://u:hunter2@mq").unwrap_err().contains("hunter2"));
    }
}
