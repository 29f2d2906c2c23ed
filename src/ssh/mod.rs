//! ssh between the nodes: the service has its own key, which allows one command only, and host keys that a person has
//! confirmed.
//!
//! - `keys`: the service's key pair, and the line for central's `authorized_keys`.
//! - `trust`: writes central's host key to the service's own `known_hosts`.
//! - `gate`: which commands that key may run on central; pure.
//! - `confine`: the sandbox, by Landlock.
//! - `enter`: central's side: checks the command, confines the process, and starts rsync.
//! - `verbs`: the three commands.

mod confine;
mod enter;
mod gate;
mod keys;
mod trust;
mod verbs;

use std::path::{Path, PathBuf};

pub use confine::Unconfined;
pub use enter::{EnterError, Entrance, enter};
pub use gate::{Permit, Refusal, Side, Target, judge};
pub use keys::{Key, KeyError, authorized_line, own_key};
pub use trust::{HostKey, TrustError, known, scan, trust};
pub use verbs::{gate, keys, trust_host};

use crate::config::Settings;
use crate::drivers::rsync::Ssh;

/// The possible paths of the service's private key; the first existing one is used. These are the credential from
/// systemd (`credentials` is `$CREDENTIALS_DIRECTORY`), then `ssh_key` in the state directory, where [`own_key`]
/// creates it.
pub fn key_places(state_dir: &Path, credentials: Option<&Path>) -> Vec<PathBuf> {
    let handed_over = credentials.into_iter().flat_map(|dir| [dir.join("synkler_ssh_key"), dir.join("ssh_key")]);
    handed_over.chain([state_dir.join("ssh_key")]).collect()
}

/// The path of the service's own known host keys.
pub fn known_hosts(state_dir: &Path) -> PathBuf {
    state_dir.join("known_hosts")
}

/// The options of the service's own ssh: its key and its known host keys, if they exist; no connection is shared.
pub fn of_service(settings: &Settings) -> Ssh {
    Ssh {
        program: PathBuf::from("ssh"),
        keys: key_places(&settings.state_dir, first_of("CREDENTIALS_DIRECTORY").as_deref()),
        known_hosts: Some(known_hosts(&settings.state_dir)),
        sockets: None,
    }
}

/// The first directory in an environment variable of systemd.
pub fn first_of(variable: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os(variable)?).find(|path| path.is_absolute())
}

/// A short text of one line from the output of a program or a peer.
fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    crate::machine::one_line(line)
}
