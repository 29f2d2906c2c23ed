//! The one table of config keys. Defaults, `--check`, the search for the nearest key, the documentation and its tests
//! all read it.

use crate::machine::Mode;

/// What holds where a key is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// It must be set.
    Required,
    /// This value, written as in a config file without quotes.
    Value(&'static str),
    /// What this text describes.
    Computed(&'static str),
    /// Nothing: the key is accepted from old files and has no effect.
    Ignored,
}

/// One config key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name in a config file; in the environment, `SYNKLER_` and the name in capitals.
    pub name: &'static str,
    /// What holds where it is not set.
    pub preset: Preset,
    /// What it is for, with its unit and range.
    pub meaning: &'static str,
    /// The modes that use it; the others accept it, so that one file can serve several hosts.
    pub modes: &'static [Mode],
    /// Whether its value must never be shown.
    pub secret: bool,
}

impl Key {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("SYNKLER_{}", self.name.to_ascii_uppercase())
    }
}

const ALL: &[Mode] = &[Mode::Upload, Mode::Central, Mode::Download];
const ENDS: &[Mode] = &[Mode::Upload, Mode::Download];
const RECEIVERS: &[Mode] = &[Mode::Central, Mode::Download];
const CENTRAL: &[Mode] = &[Mode::Central];
const UPLOAD: &[Mode] = &[Mode::Upload];

const fn key(name: &'static str, preset: Preset, modes: &'static [Mode], meaning: &'static str) -> Key {
    Key { name, preset, meaning, modes, secret: false }
}

/// Every key, in the order in which they are documented and reported.
pub const KEYS: &[Key] = &[
    key("mode", Preset::Value("central"), ALL, "what this node does: upload, central or download"),
    key("file_dir", Preset::Required, ALL, "absolute path: watched (upload), spool (central), destination (download)"),
    key("synkler_server", Preset::Required, ALL, "host name or address of the broker"),
    key("port", Preset::Computed("5671 with tls, else 5672"), ALL, "the broker's port, 1 to 65535"),
    key("tls", Preset::Value("false"), ALL, "whether the broker is spoken to by TLS (amqps): true or false"),
    key(
        "ca_file",
        Preset::Computed("credential ca.pem, else the system's authorities"),
        ALL,
        "with tls: PEM file of the only authorities whose certificate the broker may have",
    ),
    key(
        "client_cert",
        Preset::Computed("credential client.pem, else none"),
        ALL,
        "with tls: PEM file of this node's own certificate; it logs in by itself (EXTERNAL) when no password is set",
    ),
    key(
        "client_key",
        Preset::Computed("credential client.key, else none"),
        ALL,
        "PEM file of client_cert's private key",
    ),
    key("vhost", Preset::Value("/"), ALL, "the broker's virtual host"),
    key("username", Preset::Value("guest"), ALL, "the broker account's name"),
    Key {
        secret: true,
        ..key(
            "password",
            Preset::Value("guest"),
            ALL,
            "the broker account's password; where neither this nor password_file is set, credential password stands above \
             the default",
        )
    },
    key("password_file", Preset::Computed("none"), ALL, "a file that holds the password, instead of password"),
    key("id", Preset::Value("default"), ALL, "the group, 1 to 64 of A-Z a-z 0-9 . _ -"),
    key("name", Preset::Computed("host name"), ALL, "this node's name, 1 to 64 of A-Z a-z 0-9 . _ -"),
    key(
        "central_host",
        Preset::Computed("value of synkler_server"),
        CENTRAL,
        "[user@]host under which the others reach central by ssh; central tells them",
    ),
    key("rsync", Preset::Value("/usr/bin/rsync"), ENDS, "absolute path of the rsync program"),
    key("rsync_opts", Preset::Computed("none"), ENDS, "further rsync options: a list, or text with commas between"),
    key(
        "cleanup_script",
        Preset::Computed("none"),
        ENDS,
        "command for an item that is through: split like a shell would, run without one; %f name, %F full path, %% a %",
    ),
    key(
        "cleanup_timeout_minutes",
        Preset::Value("60"),
        ENDS,
        "a cleanup script that runs longer is ended and tried again; decimal, up to 10080",
    ),
    key(
        "receivers",
        Preset::Computed("every download known"),
        CENTRAL,
        "the downloads that must all give a receipt: a list, or text with commas between",
    ),
    key("keep_minutes", Preset::Value("30"), CENTRAL, "how long a copy stays after the last receipt; decimal"),
    key(
        "free_percent",
        Preset::Value("5"),
        CENTRAL,
        "how much of file_dir's filesystem stays free, bytes and inodes, 0 to 99; decimal",
    ),
    key(
        "keep_modes",
        Preset::Value("try"),
        RECEIVERS,
        "permission bits: try sets them and reports what the file system does not keep, yes takes nothing without, no leaves \
         them alone",
    ),
    key("settle_seconds", Preset::Value("5"), UPLOAD, "how long an item must have been quiet; decimal, 0 allowed"),
    key("transfers", Preset::Value("2"), ENDS, "how many rsync runs at once, 1 to 64"),
    key("history_days", Preset::Value("90"), ALL, "how long what is over stays in the journal, 1 to 36500"),
    key(
        "state_dir",
        Preset::Computed("$STATE_DIRECTORY, else $XDG_STATE_HOME/synkler/<id>-<mode>, else below $HOME/.local/state"),
        ALL,
        "absolute path: the journal",
    ),
    key(
        "control_socket",
        Preset::Computed("$RUNTIME_DIRECTORY/control.sock, else below $XDG_RUNTIME_DIR, else in state_dir"),
        ALL,
        "absolute path: where synklerctl reaches the daemon",
    ),
    key("pidfile", Preset::Ignored, ALL, "accepted from old files; systemd supervises"),
];

/// The key of that name.
pub(super) fn known(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key whose name is most like `name`.
pub(super) fn nearest(name: &str) -> &'static str {
    let mut best = ("mode", f64::MIN);
    for key in KEYS {
        let likeness = strsim::normalized_damerau_levenshtein(name, key.name) + strsim::jaro_winkler(name, key.name);
        if likeness > best.1 {
            best = (key.name, likeness);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_leads_to_the_key_that_was_meant() {
        for (typed, meant) in [
            ("keep_minuts", "keep_minutes"),
            ("keepminutes", "keep_minutes"),
            ("filedir", "file_dir"),
            ("user", "username"),
            ("passwd", "password"),
            ("server", "synkler_server"),
            ("cleanup", "cleanup_script"),
            ("receiver", "receivers"),
            ("MODE", "mode"),
        ] {
            assert_eq!(nearest(&typed.to_ascii_lowercase()), meant, "{typed}");
        }
    }

    #[test]
    fn names_are_unique_and_plain() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    }
}
