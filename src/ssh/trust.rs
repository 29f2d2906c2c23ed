//! Host keys: shows those of a host, for a person to compare, and stores those that the service trusts.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::one_line;

/// The time limit for a host to send a key, in seconds.
const SCAN_SECONDS: &str = "15";
/// The maximum number of keys of a host; it has one of each kind.
const KEY_LIMIT: usize = 16;
/// The maximum length of a key's line in bytes, and the maximum size of `known_hosts`.
const LINE_LIMIT: usize = 16 * 1024;
const FILE_LIMIT: usize = 1 << 20;

/// A key of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Its line for `known_hosts`: host, kind, key.
    pub line: String,
    /// In the form of `ssh-keygen -l`, `SHA256:...`.
    pub fingerprint: String,
    /// Its kind, such as `ssh-ed25519`.
    pub kind: String,
}

/// Why a host is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The text is not a host name or address.
    #[error("{0:?} is not a host name or address")]
    Host(String),
    /// A program of openssh-client does not exist.
    #[error("cannot start {0}: install openssh-client")]
    NotStarted(&'static str, #[source] io::Error),
    /// The host sent no key.
    #[error("no host key from {host} on port {port}{heard}: check both, and that sshd runs there")]
    Silent {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The error of ssh-keyscan, if there is one, after a colon.
        heard: String,
    },
    /// The answer is not a key.
    #[error("invalid host key from {host}: {heard}")]
    Strange {
        /// The host.
        host: String,
        /// The output of ssh-keygen.
        heard: String,
    },
    /// The file cannot be read or written.
    #[error("cannot change {}: run this as root or as the user of the service", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// Requests the keys of `host` (a name or an address, as in `central_host`; a part before an `@` is ignored), for at
/// most 15 s per kind.
pub fn scan(host: &str, port: u16) -> Result<Vec<HostKey>, TrustError> {
    let bare = host.rsplit('@').next().unwrap_or(host);
    let bare = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(bare);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if bare.is_empty() || bare.len() > 253 || bare.starts_with('-') || !bare.chars().all(plain) {
        return Err(TrustError::Host(host.chars().take(100).collect()));
    }
    let mut keyscan = Command::new("ssh-keyscan");
    keyscan.args(["-T", SCAN_SECONDS, "-p", &port.to_string(), bare]).stdin(Stdio::null()).env("LC_ALL", "C");
    let output = keyscan.output().map_err(|source| TrustError::NotStarted("ssh-keyscan", source))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let keys: Vec<_> = lines.take(KEY_LIMIT).map(|line| read(line, bare)).collect::<Result<_, _>>()?;
    if keys.is_empty() {
        let heard = Some(one_line(&output.stderr)).filter(|line| !line.is_empty());
        let heard = heard.map(|line| format!(": {line}")).unwrap_or_default();
        return Err(TrustError::Silent { host: bare.to_owned(), port, heard });
    }
    Ok(keys)
}

fn read(line: &str, host: &str) -> Result<HostKey, TrustError> {
    let strange = |heard: &str| TrustError::Strange { host: host.to_owned(), heard: heard.to_owned() };
    let mut words = line.split_ascii_whitespace();
    let (Some(_), Some(kind), Some(_), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(strange("not three words"));
    };
    if line.len() > LINE_LIMIT || line.starts_with('@') {
        return Err(strange("too long, or marked"));
    }
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-l", "-E", "sha256", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let missing = |source| TrustError::NotStarted("ssh-keygen", source);
    let mut child = keygen.env("LC_ALL", "C").spawn().map_err(missing)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that ends before it has read everything prints the reason itself.
        let _ = writeln!(input, "{line}");
    }
    let output = child.wait_with_output().map_err(missing)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let fingerprint = text.split_ascii_whitespace().find(|word| word.starts_with("SHA256:"));
    match fingerprint {
        Some(fingerprint) if output.status.success() => {
            Ok(HostKey { line: line.to_owned(), fingerprint: fingerprint.to_owned(), kind: kind.to_owned() })
        }
        _ => Err(strange(&one_line(&output.stderr))),
    }
}

/// Which of these keys `known_hosts` has already, and how many others of that host; a missing file has none.
pub fn known(keys: &[HostKey], known_hosts: &Path) -> Result<(usize, usize), TrustError> {
    let text = content(known_hosts)?;
    let of_host: Vec<&str> =
        text.lines().filter(|line| host_of(line) == keys.first().map(|key| name(&key.line))).collect();
    let same = of_host.iter().filter(|line| keys.iter().any(|key| key.line == **line)).count();
    Ok((same, of_host.len() - same))
}

/// Writes these keys of one host into `known_hosts`; they replace its earlier keys of that host. The file is replaced
/// in one step; other lines stay unchanged.
pub fn trust(keys: &[HostKey], known_hosts: &Path) -> Result<(), TrustError> {
    let failed = |source| TrustError::File { path: known_hosts.to_owned(), source };
    let mut text = String::new();
    let old = content(known_hosts)?;
    let host = keys.first().map(|key| name(&key.line));
    for line in old.lines().filter(|line| host_of(line) != host).chain(keys.iter().map(|key| key.line.as_str())) {
        text.push_str(line);
        text.push('\n');
    }
    let fresh = known_hosts.with_extension("new");
    // A leftover of an earlier attempt.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let write = || {
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, known_hosts)
    };
    write().map_err(failed)
}

fn content(known_hosts: &Path) -> Result<String, TrustError> {
    let failed = |source| TrustError::File { path: known_hosts.to_owned(), source };
    match fs::read(known_hosts) {
        Ok(bytes) if bytes.len() > FILE_LIMIT => Err(failed(io::ErrorKind::FileTooLarge.into())),
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| failed(io::ErrorKind::InvalidData.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(failed(error)),
    }
}

fn name(line: &str) -> &str {
    line.split_ascii_whitespace().next().unwrap_or_default()
}

/// The host of a line, if the line has a plain name; comments, marks and hashed names are left alone.
fn host_of(line: &str) -> Option<&str> {
    Some(name(line)).filter(|name| !name.is_empty() && !name.starts_with(['#', '@', '|']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(line: &str) -> HostKey {
        HostKey { line: line.to_owned(), fingerprint: String::new(), kind: String::new() }
    }

    #[test]
    fn a_hosts_old_keys_give_way_and_other_lines_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        assert_eq!(known(&[key("a ssh-ed25519 1")], &path).unwrap(), (0, 0));
        trust(&[key("a ssh-ed25519 1"), key("a ssh-rsa 2")], &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a ssh-ed25519 1\na ssh-rsa 2\n");
        fs::write(&path, "# by hand\na ssh-ed25519 1\nb ssh-rsa 9\n[a]:22 x y\n|1|hash= x y\n").unwrap();
        assert_eq!(known(&[key("a ssh-ed25519 1")], &path).unwrap(), (1, 0));
        assert_eq!(known(&[key("a ssh-ed25519 3")], &path).unwrap(), (0, 1));
        trust(&[key("a ssh-ed25519 3")], &path).unwrap();
        let text = "# by hand\nb ssh-rsa 9\n[a]:22 x y\n|1|hash= x y\na ssh-ed25519 3\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_host_is_not_asked() {
        for host in ["", "-oProxyCommand=id", "a b", "a/b", "me@", "me@-x", "$(id)"] {
            assert!(matches!(scan(host, 22), Err(TrustError::Host(_))), "{host}");
        }
    }
}
