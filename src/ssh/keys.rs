//! The service's own key pair, and its line for `authorized_keys` on central.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::gate::Side;
use super::one_line;
use crate::machine::{InvalidLocation, Location, NodeName};

/// The program on central in the line.
const GATE: &str = "/usr/bin/synkler";

/// A key of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The private half.
    pub path: PathBuf,
    /// The public half: kind and key, without a comment.
    pub public: String,
    /// Whether the key was just created.
    pub made: bool,
}

/// Why there is no key, or no line for it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// ssh-keygen does not exist.
    #[error("cannot start ssh-keygen: install openssh-client")]
    NotStarted(#[source] io::Error),
    /// The directory for the key does not exist and cannot be created.
    #[error("cannot create the directory {}: run this as root or as the user of the service", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The key cannot be created.
    #[error("ssh-keygen cannot create {}: {heard}: run this as root or as the user of the service", path.display())]
    NotMade {
        /// Its path.
        path: PathBuf,
        /// The output of ssh-keygen.
        heard: String,
    },
    /// The key cannot be read: it belongs to another user, is damaged, or has a passphrase, which a service cannot
    /// type.
    #[error("cannot use {} as a key without a passphrase: {heard}", path.display())]
    Unusable {
        /// Its path.
        path: PathBuf,
        /// The output of ssh-keygen.
        heard: String,
    },
    /// The path of the spool is not allowed in the line.
    #[error("--spool")]
    Spool(#[from] InvalidLocation),
}

/// The first existing key of `places`. If there is none, creates an ed25519 pair at the last of them, with `comment` in
/// its public half. No key is ever replaced.
pub fn own_key(places: &[PathBuf], comment: &str) -> Result<Key, KeyError> {
    let found = places.iter().find(|path| path.symlink_metadata().is_ok());
    let (Some(path), made) = (found.or(places.last()), found.is_none()) else {
        return Err(KeyError::NotMade { path: PathBuf::new(), heard: "there is no place for it".to_owned() });
    };
    if made {
        make(path, comment)?;
    }
    // An empty passphrase is given, so that ssh-keygen does not ask for one.
    let output = keygen(["-y", "-P", "", "-f"], path)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_ascii_whitespace();
    match (output.status.success(), words.next(), words.next()) {
        (true, Some(kind), Some(key)) => Ok(Key { path: path.clone(), public: format!("{kind} {key}"), made }),
        _ => Err(KeyError::Unusable { path: path.clone(), heard: one_line(&output.stderr) }),
    }
}

fn make(path: &Path, comment: &str) -> Result<(), KeyError> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(dir) = path.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| KeyError::Directory { path: dir.to_owned(), source })?;
    }
    let output = keygen(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"], path)?;
    if !output.status.success() {
        return Err(KeyError::NotMade { path: path.to_owned(), heard: one_line(&output.stderr) });
    }
    Ok(())
}

fn keygen<const N: usize>(arguments: [&str; N], path: &Path) -> Result<Output, KeyError> {
    let mut command = Command::new("ssh-keygen");
    command.args(arguments).arg(path).stdin(Stdio::null()).env("LC_ALL", "C");
    command.output().map_err(KeyError::NotStarted)
}

/// The line for `authorized_keys` of the account on central: this key can run only the gate, for one group's spool.
/// `spool` is `<file_dir>/<id>` on central.
pub fn authorized_line(key: &Key, side: Side, name: &NodeName, spool: &str) -> Result<String, KeyError> {
    // The path must not contain characters with a meaning in a remote shell.
    Location::new("central", spool)?;
    let side = match side {
        Side::Upload => "upload",
        Side::Download => "download",
    };
    Ok(format!("restrict,command=\"{GATE} gate {side} {spool}\" {} synkler {side} {name}", key.public))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::ssh::key_places;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (state, credentials) = (dir.path().join("a/state"), dir.path().join("credentials"));
        let places = key_places(&state, Some(&credentials));
        let key = own_key(&places, "synkler upload u").unwrap();
        assert!(key.made && key.path == state.join("ssh_key") && key.public.starts_with("ssh-ed25519 AAAA"), "{key:?}");
        assert_eq!(fs::metadata(&key.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(fs::read_to_string(state.join("ssh_key.pub")).unwrap().ends_with("synkler upload u\n"));
        let bytes = fs::read(&key.path).unwrap();
        assert_eq!(own_key(&places, "x").unwrap(), Key { made: false, ..key.clone() });
        assert_eq!(fs::read(&key.path).unwrap(), bytes);

        let line = authorized_line(&key, Side::Upload, &"u1".parse().unwrap(), "/srv/spool/default").unwrap();
        let expected = format!(
            "restrict,command=\"/usr/bin/synkler gate upload /srv/spool/default\" {} synkler upload u1",
            key.public
        );
        assert_eq!(line, expected);
        for spool in ["/srv/$(id)", "srv", "/srv/a b", "/srv/\"x", "/srv/../etc"] {
            let refused = authorized_line(&key, Side::Upload, &"u1".parse().unwrap(), spool);
            assert!(matches!(refused, Err(KeyError::Spool(_))), "{spool}");
        }

        // A key from systemd comes first, and is not replaced by another one if it is unusable.
        fs::create_dir(&credentials).unwrap();
        fs::write(credentials.join("synkler_ssh_key"), "no key").unwrap();
        let error = own_key(&places, "x").unwrap_err();
        assert!(
            matches!(&error, KeyError::Unusable { path, heard } if path.starts_with(&credentials) && !heard.is_empty()),
            "{error:?}"
        );
        fs::copy(&key.path, credentials.join("synkler_ssh_key")).unwrap();
        let handed_over = own_key(&places, "x").unwrap();
        assert_eq!((handed_over.public, handed_over.made), (key.public, false));
        assert!(handed_over.path.starts_with(&credentials));
    }
}
