//! The one table of config keys. Defaults, `--check`, the search for the nearest key, the documentation and its tests
//! all read this table.

use crate::machine::Mode;

/// The value of a key that is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// It must be set.
    Required,
    /// This value, written as in a config file without quotes.
    Value(&'static str),
    /// The value that this text describes.
    Computed(&'static str),
    /// Nothing: the key is accepted from old files and has no effect.
    Ignored,
}

/// One config key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name in a config file; in the environment, `SYNKLER_` and the name in capitals.
    pub name: &'static str,
    /// The value if the key is not set.
    pub preset: Preset,
    /// Its meaning, with unit and range.
    pub meaning: &'static str,
    /// The modes that use the key. Other modes accept it, so that several hosts can use the same file.
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
const DOWNLOAD: &[Mode] = &[Mode::Download];

/// How browsers, download programs, office programs and WinSCP name what they have not finished.
pub(super) const UNFINISHED: &str = "*.part, *.partial, *.filepart, *.tmp, *.crdownload, *.aria2, *.!qB, .~lock.*";

const fn key(name: &'static str, preset: Preset, modes: &'static [Mode], meaning: &'static str) -> Key {
    Key { name, preset, meaning, modes, secret: false }
}

/// Every key, in the order of the documentation and the reports.
pub const KEYS: &[Key] = &[
    key("mode", Preset::Value("central"), ALL, "mode of this node: upload, central or download"),
    key(
        "file_dir",
        Preset::Required,
        ALL,
        "absolute path of the watched directory (upload), spool (central) or destination (download)",
    ),
    key("synkler_server", Preset::Required, ALL, "host name or address of the broker"),
    key("port", Preset::Computed("5671 with tls, else 5672"), ALL, "port of the broker, 1 to 65535"),
    key("tls", Preset::Value("false"), ALL, "connect to the broker with TLS (amqps): true or false"),
    key(
        "ca_file",
        Preset::Computed("credential ca.pem, else the CA certificates of the system"),
        ALL,
        "with tls: PEM file with the only CA certificates accepted for the broker",
    ),
    key(
        "client_cert",
        Preset::Computed("credential client.pem, else none"),
        ALL,
        "with tls: PEM file with the client certificate; used for login (EXTERNAL) if no password is set",
    ),
    key(
        "client_key",
        Preset::Computed("credential client.key, else none"),
        ALL,
        "PEM file with the private key of client_cert",
    ),
    key("vhost", Preset::Value("/"), ALL, "virtual host on the broker"),
    key("username", Preset::Value("guest"), ALL, "account on the broker"),
    Key {
        secret: true,
        ..key(
            "password",
            Preset::Value("guest"),
            ALL,
            "password of the broker account; if neither this nor password_file is set, credential password is used before \
             the default",
        )
    },
    key("password_file", Preset::Computed("none"), ALL, "file with the password, instead of password"),
    key("id", Preset::Value("default"), ALL, "group id, 1 to 64 characters of A-Z a-z 0-9 . _ -"),
    key("name", Preset::Computed("host name"), ALL, "name of this node, 1 to 64 characters of A-Z a-z 0-9 . _ -"),
    key(
        "central_host",
        Preset::Computed("value of synkler_server"),
        CENTRAL,
        "SSH address of central, [user@]host; central sends it to the other nodes",
    ),
    key("rsync", Preset::Value("/usr/bin/rsync"), ENDS, "absolute path of the rsync program"),
    key("rsync_opts", Preset::Computed("none"), ENDS, "additional rsync options: a list, or text separated by commas"),
    key(
        "cleanup_script",
        Preset::Computed("none"),
        ENDS,
        "command to run for each delivered item: split like in a shell, run without one; %f is the name, %F the full path, %% a %; \
         %@ as a word of its own stands for the full paths of several items",
    ),
    key(
        "cleanup_move",
        Preset::Computed("none"),
        ENDS,
        "instead of cleanup_script: absolute path of the directory to which each delivered item moves; if its name is taken there, \
         it becomes NAME.~1~, NAME.~2~ and so on",
    ),
    key(
        "cleanup_delete",
        Preset::Value("false"),
        ENDS,
        "instead of cleanup_script: delete each delivered item: true or false",
    ),
    key(
        "cleanup_timeout_minutes",
        Preset::Value("60"),
        ENDS,
        "time limit of the cleanup script in minutes; a script that runs longer is killed and retried; decimal, up to 10080",
    ),
    key(
        "receivers",
        Preset::Computed("every known download node"),
        CENTRAL,
        "download nodes that must all send a receipt: a list, or text separated by commas",
    ),
    key(
        "keep_minutes",
        Preset::Value("30"),
        CENTRAL,
        "minutes that central keeps a copy after the last receipt; decimal",
    ),
    key(
        "free_percent",
        Preset::Value("5"),
        CENTRAL,
        "percentage of bytes and inodes that stays free on the file system of file_dir, 0 to 99; decimal",
    ),
    key(
        "keep_modes",
        Preset::Value("try"),
        RECEIVERS,
        "permission bits: try sets them and reports those that the file system does not keep, yes refuses items whose bits it \
         does not keep, no does not set them",
    ),
    key(
        "owner",
        Preset::Computed("none"),
        DOWNLOAD,
        "user, by name or number, to whom delivered items are given before they get their final names; needs CAP_CHOWN and \
         CAP_FOWNER: synkler drop-in",
    ),
    key(
        "group",
        Preset::Computed("none"),
        DOWNLOAD,
        "group, by name or number, of delivered items; needs the same capabilities unless the user of synkler is a member",
    ),
    key(
        "file_mode",
        Preset::Computed("those of the source"),
        DOWNLOAD,
        "permission bits of delivered files, octal, from 0400 to 0777 with read permission for the owner, such as 0640",
    ),
    key(
        "dir_mode",
        Preset::Computed("those of the source"),
        DOWNLOAD,
        "permission bits of delivered directories, octal, from 0700 to 7777 with all permissions for the owner, such as 0750",
    ),
    key(
        "settle_seconds",
        Preset::Value("5"),
        UPLOAD,
        "seconds that an item must stay unchanged before it is sent; decimal, 0 allowed",
    ),
    key(
        "ignore",
        Preset::Value(UNFINISHED),
        UPLOAD,
        "shell patterns of names that are not items: a list, or text separated by commas; a directory that contains such a name \
         waits; a pattern with / is compared with the path below file_dir",
    ),
    key(
        "only",
        Preset::Computed("everything"),
        UPLOAD,
        "shell patterns of the only names that are items: a list, or text separated by commas",
    ),
    key(
        "item_depth",
        Preset::Value("0"),
        UPLOAD,
        "levels of permanent directories below file_dir, 0 to 8: these directories stay where they are, and what lies below them \
         are items",
    ),
    key(
        "ready",
        Preset::Value("settled"),
        UPLOAD,
        "when an item counts as complete: settled (nobody writes it, and it has not changed for settle_seconds), marker (its marker is \
         there) or submit (synklerctl submit names it)",
    ),
    key(
        "marker",
        Preset::Value("%f.done"),
        UPLOAD,
        "with ready = \"marker\": name of the file that says that an item is complete: %f.done beside the item, or %f/.complete inside \
         a directory; %f is the name of the item",
    ),
    key(
        "keep",
        Preset::Computed("nothing"),
        UPLOAD,
        "what travels beside content and permission bits, any of hardlinks, xattrs (user.*), acls and sparse (holes in files): a list, or \
         text separated by commas",
    ),
    key("transfers", Preset::Value("2"), ENDS, "maximum number of concurrent rsync runs, 1 to 64"),
    key("history_days", Preset::Value("90"), ALL, "days that finished transfers stay in the journal, 1 to 36500"),
    key(
        "state_dir",
        Preset::Computed("$STATE_DIRECTORY, else $XDG_STATE_HOME/synkler/<id>-<mode>, else below $HOME/.local/state"),
        ALL,
        "absolute path of the directory with the journal",
    ),
    key(
        "control_socket",
        Preset::Computed("$RUNTIME_DIRECTORY/control.sock, else below $XDG_RUNTIME_DIR, else in state_dir"),
        ALL,
        "absolute path of the control socket, used by synklerctl",
    ),
    key("pidfile", Preset::Ignored, ALL, "accepted for compatibility; systemd supervises the daemon"),
];

/// The key of that name.
pub(super) fn known(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key whose name is most similar to `name`.
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
            ("cleanup_scrip", "cleanup_script"),
            ("cleanup_mv", "cleanup_move"),
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
