//! The remote shell: how ssh is called where the user's options do not say otherwise.

use std::path::{Path, PathBuf};

/// Options of every ssh: it never asks, believes no new host key, and notices a dead link within a minute.
pub(super) const SSH_OPTIONS: [&str; 5] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "ConnectTimeout=20",
];

/// How ssh is run. What is not there is left to ssh's own rules (`~/.ssh` of the service's user, `/etc/ssh`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The program.
    pub program: PathBuf,
    /// Where the service's own private key may lie; the first that is there is used, and no other key. Looked for anew
    /// for every run.
    pub keys: Vec<PathBuf>,
    /// The service's own known host keys; when the file is there, no other file of the user counts.
    pub known_hosts: Option<PathBuf>,
    /// A directory for the sockets of shared connections, which is emptied at start; without one, or where its path is
    /// too long for a socket, each run connects by itself.
    pub sockets: Option<PathBuf>,
}

impl Default for Ssh {
    /// ssh by its own rules, every run by itself.
    fn default() -> Self {
        Self { program: PathBuf::from("ssh"), keys: Vec::new(), known_hosts: None, sockets: None }
    }
}

impl Ssh {
    /// The program's arguments before those of one connection.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut option = |text: String| arguments.extend(["-o".to_owned(), text]);
        SSH_OPTIONS.iter().for_each(|text| option((*text).to_owned()));
        if let Some(key) = self.keys.iter().find(|path| path.is_file()).and_then(|path| config_word(path)) {
            option(format!("IdentityFile={key}"));
            option("IdentitiesOnly=yes".to_owned());
        }
        if let Some(file) = self.known_hosts.as_deref().filter(|path| path.is_file()).and_then(config_word) {
            option(format!("UserKnownHostsFile={file}"));
        }
        arguments
    }

    /// What rsync is given as its remote shell: one text, which it splits at blanks that are not in quotes. With
    /// `socket`, over the connection that is shared there, or without it if it is gone.
    pub(super) fn remote_shell(&self, socket: Option<&Path>) -> String {
        let mut arguments = self.arguments();
        if let Some(socket) = socket.and_then(config_word) {
            arguments.extend(["-o".to_owned(), "ControlMaster=no".to_owned()]);
            arguments.extend(["-o".to_owned(), format!("ControlPath={socket}")]);
        }
        let program = self.program.to_string_lossy();
        let words = [program.as_ref()].into_iter().chain(arguments.iter().map(String::as_str));
        format!("--rsh={}", words.map(quoted).collect::<Vec<_>>().join(" "))
    }
}

/// A path as ssh reads it from an option: in quotes, and with `%` doubled. `None` for a path that ssh has no way of
/// writing; the config allows none of these where the service keeps its files.
pub(super) fn config_word(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\\', '$', '\n']))?;
    let text = text.replace('%', "%%");
    Some(if text.contains([' ', '\t', '#', '\'']) { format!("\"{text}\"") } else { text })
}

/// A word as rsync reads it: quotes hold it together, and doubled they are themselves.
fn quoted(word: &str) -> String {
    if word.contains([' ', '\'', '"']) { format!("'{}'", word.replace('\'', "''")) } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_left_to_ssh() {
        let plain = "--rsh=ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ServerAliveInterval=15 \
                     -o ServerAliveCountMax=3 -o ConnectTimeout=20";
        let mut ssh = Ssh::default();
        assert_eq!(ssh.remote_shell(None), plain);
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        ssh.keys = vec![at("first"), at("own 50% key")];
        ssh.known_hosts = Some(at("known_hosts"));
        assert_eq!(ssh.remote_shell(None), plain);
        std::fs::write(at("own 50% key"), "").unwrap();
        std::fs::write(at("known_hosts"), "").unwrap();
        let show = dir.path().display();
        assert_eq!(
            ssh.remote_shell(Some(Path::new("/run/it's/1"))),
            format!(
                "{plain} -o 'IdentityFile=\"{show}/own 50%% key\"' -o IdentitiesOnly=yes \
                 -o UserKnownHostsFile={show}/known_hosts -o ControlMaster=no -o 'ControlPath=\"/run/it''s/1\"'"
            )
        );
        std::fs::write(at("first"), "").unwrap();
        assert!(ssh.remote_shell(None).contains(&format!("-o IdentityFile={show}/first -o IdentitiesOnly=yes")));
    }
}
