//! ssh between the nodes, kept small: a key of the service's own that opens one door, and host keys that a person has
//! looked at.
//!
//! - `keys`: the service's key pair, and the line for central's `authorized_keys`.
//! - `trust`: central's host key into the service's own `known_hosts`.
//! - `gate`: what that key may ask for on central; pure.
//! - `confine`: the box, by Landlock.
//! - `enter`: central's side of it: what was asked for, judged, boxed in, and handed to rsync.
//! - `verbs`: the three as an operator calls them.

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

/// Where the service's private key may lie, the first that is there is it: what systemd has handed over (`credentials`
/// is `$CREDENTIALS_DIRECTORY`), else `ssh_key` in the state directory, where [`own_key`] makes it.
pub fn key_places(state_dir: &Path, credentials: Option<&Path>) -> Vec<PathBuf> {
    let handed_over = credentials.into_iter().flat_map(|dir| [dir.join("synkler_ssh_key"), dir.join("ssh_key")]);
    handed_over.chain([state_dir.join("ssh_key")]).collect()
}

/// Where the service's own known host keys lie.
pub fn known_hosts(state_dir: &Path) -> PathBuf {
    state_dir.join("known_hosts")
}

/// How the service's own ssh is run: its key and its known host keys, where they are there; no connection is shared.
pub fn of_service(settings: &Settings) -> Ssh {
    Ssh {
        program: PathBuf::from("ssh"),
        keys: key_places(&settings.state_dir, first_of("CREDENTIALS_DIRECTORY").as_deref()),
        known_hosts: Some(known_hosts(&settings.state_dir)),
        sockets: None,
    }
}

/// The first directory that an environment variable of systemd's names.
pub fn first_of(variable: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os(variable)?).find(|path| path.is_absolute())
}

/// A short text of one line out of what a program or a peer said.
fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    crate::machine::one_line(line)
}
