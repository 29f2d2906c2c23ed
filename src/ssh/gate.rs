//! Which commands a node's key may run on central: exactly the rsync commands of synkler's own runs. Pure.
//!
//! sshd passes on the command that the other side requested; no shell sees it. The gate parses the command and refuses
//! by name everything that is not known to be harmless. An upload's key may write one batch to `<spool>/in/<place>/`,
//! and a download's key may read `<spool>/held/`. Both may list the names in `<spool>` itself and in their half of it,
//! and run dry there, which is how a node checks its connection to central. The path is never passed on: rsync gets a
//! directory that was opened without following links.
//!
//! The script `rrsync` of rsync is not enough. A writer may put anything anywhere in its directory, also links in the
//! place of batches. What keeps names and links inside depends on the version of rsync. And it needs Python.

use crate::machine::{PlaceId, escaped};

/// The maximum length of the command, in bytes: ours have about 120.
const COMMAND_LIMIT: usize = 4096;
/// The maximum length of an option's value, in bytes.
const VALUE_LIMIT: usize = 512;

/// The mode of the node that owns the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The key of an upload: it writes.
    Upload,
    /// The key of a download: it reads.
    Download,
}

/// What the gate allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// The arguments for rsync, which works in the directory [`Permit::target`] as `./`.
    pub arguments: Vec<String>,
    /// The directory.
    pub target: Target,
}

/// A directory of the spool, and the operation there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One batch is written to `in/<place>`, which may have to be created.
    Arrival(PlaceId),
    /// Copies are read from `held`.
    Held,
    /// The names in the spool itself are listed.
    ListSpool,
    /// The names in `in` (upload) or `held` (download) are listed, or a dry run works there (`--dry-run`).
    ListHalf,
}

/// Why the gate refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The other side wants a shell.
    #[error("this key is only for file transfers of synkler")]
    NoCommand,
    /// The command is too long, or not text.
    #[error("the command is longer than {COMMAND_LIMIT} bytes or not text")]
    Unreadable,
    /// The program is not rsync's server.
    #[error("only rsync --server is allowed, not {0:?}")]
    OtherProgram(String),
    /// An option that no run of ours uses.
    #[error("the option {0} is not allowed: synkler does not use it")]
    Option(String),
    /// An option whose value no run of ours uses.
    #[error("the option {0} is not allowed with that value")]
    Value(String),
    /// The options come in a way that the gate cannot check.
    #[error("the option --protect-args hides the request: remove it from rsync_opts")]
    Hidden,
    /// A key that writes was used for reading, or a key that reads for writing.
    #[error("this key is for {0}s and may not {1}")]
    Direction(&'static str, &'static str),
    /// Another directory.
    #[error("this key may not access {found:?}, only {allowed}")]
    Path {
        /// The requested path.
        found: String,
        /// The allowed path.
        allowed: String,
    },
}

/// Which options take a value, and which values are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    /// A number or a word; rsync opens no file for it.
    Plain,
    /// The list of names, which comes over the connection.
    Stdin,
}

/// The options of one letter that our runs send to the server, also with allowed `rsync_opts`.
const LETTERS: &str = "lptrogRWcIzSAXHUv";

/// The same for the long options.
const OPTIONS: &[(&str, Value)] = &[
    ("--timeout", Value::Plain),
    ("--bwlimit", Value::Plain),
    ("--inplace", Value::None),
    ("--no-implied-dirs", Value::None),
    ("--files-from", Value::Stdin),
    ("--from0", Value::None),
    ("--numeric-ids", Value::None),
    ("--old-compress", Value::None),
    ("--new-compress", Value::None),
    ("--compress-choice", Value::Plain),
    ("--compress-level", Value::Plain),
    ("--compress-threads", Value::Plain),
    ("--skip-compress", Value::Plain),
    ("--block-size", Value::Plain),
    ("--checksum-seed", Value::Plain),
    ("--max-alloc", Value::Plain),
    ("--fsync", Value::None),
    ("--preallocate", Value::None),
    ("--open-noatime", Value::None),
    ("--super", Value::None),
];

/// Checks the command of the other side. `spool` is one group's directory on central, `<file_dir>/<id>`.
///
/// # Errors
///
/// Everything that is not known to be harmless, by name.
pub fn judge(command: &str, side: Side, spool: &str) -> Result<Permit, Refusal> {
    if command.len() > COMMAND_LIMIT {
        return Err(Refusal::Unreadable);
    }
    let words = split(command);
    let mut words = words.iter().map(String::as_str);
    let program = words.next().ok_or(Refusal::NoCommand)?;
    let is_rsync = program == "rsync" || program.starts_with('/') && program.ends_with("/rsync");
    if !is_rsync || words.next() != Some("--server") {
        return Err(Refusal::OtherProgram(shown(command)));
    }
    let mut arguments = vec!["--server".to_owned()];
    let mut asked = Asked::default();
    // A lone dot ends the options.
    loop {
        match words.next() {
            Some(".") => break,
            Some(option) => {
                asked.take(option)?;
                arguments.push(option.to_owned());
            }
            None => return Err(Refusal::OtherProgram(shown(command))),
        }
    }
    let (Some(path), None) = (words.next(), words.next()) else {
        return Err(Refusal::OtherProgram(shown(command)));
    };
    let target = asked.target(path, side, spool)?;
    arguments.extend([".".to_owned(), "./".to_owned()]);
    Ok(Permit { arguments, target })
}

/// What the options mean together.
#[derive(Debug, Default)]
struct Asked {
    sender: bool,
    list: bool,
    /// Descends into directories or follows a list.
    deep: bool,
    /// One level of a directory is shown.
    flat: bool,
    /// Nothing is moved.
    dry: bool,
}

impl Asked {
    fn take(&mut self, option: &str) -> Result<(), Refusal> {
        match option {
            "--sender" => self.sender = true,
            "--list-only" => self.list = true,
            _ if option.starts_with("--") => self.take_long(option)?,
            _ => self.take_letters(option)?,
        }
        Ok(())
    }

    fn take_long(&mut self, option: &str) -> Result<(), Refusal> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        if matches!(name, "--protect-args" | "--secluded-args") {
            return Err(Refusal::Hidden);
        }
        let Some((_, takes)) = OPTIONS.iter().find(|(known, _)| *known == name) else {
            return Err(Refusal::Option(shown(name)));
        };
        let fits = match (takes, value) {
            (Value::None, None) => true,
            (Value::Plain, Some(value)) => is_plain(value),
            (Value::Stdin, Some(value)) => {
                self.deep = true;
                value == "-"
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err(Refusal::Value(shown(name))) }
    }

    /// `-ltprRe.iLsfxCIvu`: what follows `e` is not an option but the capabilities of the client's rsync.
    fn take_letters(&mut self, option: &str) -> Result<(), Refusal> {
        let Some(letters) = option.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            return Err(Refusal::OtherProgram(shown(option)));
        };
        if let Some(size) = letters.strip_prefix('B') {
            let fits = (1..=10).contains(&size.len()) && size.bytes().all(|byte| byte.is_ascii_digit());
            return if fits { Ok(()) } else { Err(Refusal::Value("-B".to_owned())) };
        }
        let (letters, abilities) = letters.split_once('e').unwrap_or((letters, ""));
        if !abilities.chars().all(|c| c.is_ascii_alphanumeric() || c == '.') {
            return Err(Refusal::Value("-e".to_owned()));
        }
        for letter in letters.chars() {
            match letter {
                's' => return Err(Refusal::Hidden),
                'd' => self.flat = true,
                'n' => self.dry = true,
                _ if !LETTERS.contains(letter) => return Err(Refusal::Option(shown(&format!("-{letter}")))),
                'r' | 'R' => self.deep = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn target(&self, path: &str, side: Side, spool: &str) -> Result<Target, Refusal> {
        let spool = spool.trim_end_matches('/');
        let below = |dir: &str| format!("{spool}/{dir}");
        let half = match side {
            Side::Upload => below("in"),
            Side::Download => below("held"),
        };
        let bare = path.strip_suffix('/').unwrap_or(path);
        let refused = |allowed| Err(Refusal::Path { found: shown(path), allowed });
        if self.list || self.flat {
            if !self.flat || !self.list {
                return Err(Refusal::Option(if self.list { "--list-only" } else { "-d" }.to_owned()));
            }
            if self.deep || !self.sender {
                return Err(Refusal::Option("--list-only".to_owned()));
            }
            return match bare {
                _ if bare == spool => Ok(Target::ListSpool),
                _ if bare == half => Ok(Target::ListHalf),
                _ => refused(format!("a list of {half}")),
            };
        }
        match (side, self.sender) {
            (Side::Upload, true) => Err(Refusal::Direction("upload", "read")),
            (Side::Download, false) => Err(Refusal::Direction("download", "write")),
            _ if self.dry => {
                if bare == half {
                    Ok(Target::ListHalf)
                } else {
                    refused(half)
                }
            }
            (Side::Upload, false) => {
                let place = bare.strip_prefix(&half).and_then(|rest| rest.strip_prefix('/')?.parse().ok());
                place.map_or_else(|| refused(below("in/<place>")), |place| Ok(Target::Arrival(place)))
            }
            (Side::Download, true) if bare == half => Ok(Target::Held),
            (Side::Download, true) => refused(half),
        }
    }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= VALUE_LIMIT
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "./,+-_[]:".contains(c))
}

/// Words as rsync writes them for a shell: separated by blanks, with a backslash before special characters. rsync uses
/// no quotes; a word with quotes is not an allowed word.
fn split(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(chars.next()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn shown(text: &str) -> String {
    escaped(text.as_bytes()).chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOOL: &str = "/srv/spool/default";
    const WRITE: &str = "rsync --server -ltprRe.iLsfxCIvu --timeout=60 --inplace --no-implied-dirs . /srv/spool/default/in/000000ab-12/";
    const READ: &str = "rsync --server --sender -ltprRe.iLsfxCIvu --timeout=60 --inplace --files-from=- --from0 --no-implied-dirs . /srv/spool/default/held/";
    const LIST: &str = "rsync --server --sender -de.LsfxCIvu --list-only . /srv/spool/default/in/";

    fn place() -> Target {
        Target::Arrival("000000ab-12".parse().unwrap())
    }

    #[test]
    fn what_our_own_runs_ask_for_is_allowed() {
        for (command, side, target) in [
            (WRITE.to_owned(), Side::Upload, place()),
            (WRITE.replace("12/", "12"), Side::Upload, place()),
            (WRITE.replace("rsync ", "/opt/rsync/bin/rsync "), Side::Upload, place()),
            // From rsync 3.1.3, as root.
            (WRITE.replace("-ltprRe.iLsfxCIvu", "-logtprRe.iLsfxC"), Side::Upload, place()),
            (WRITE.replace("-l", "-vvlzXXUUASWcI"), Side::Upload, place()),
            (WRITE.replace("-l", "-lHAXS"), Side::Upload, place()),
            (READ.replace("-l", "-lHAXS"), Side::Download, Target::Held),
            (
                WRITE.replace("--inplace", "-B1000 --bwlimit=20480 --fsync --preallocate --inplace"),
                Side::Upload,
                place(),
            ),
            (
                WRITE.replace("--inplace", "--compress-choice=zstd --compress-level=-3 --max-alloc=2g"),
                Side::Upload,
                place(),
            ),
            (READ.to_owned(), Side::Download, Target::Held),
            (READ.replace("--from0", r"--skip-compress=gz/mp\[34\] --from0"), Side::Download, Target::Held),
            (LIST.to_owned(), Side::Upload, Target::ListHalf),
            (LIST.replace("in/", "held"), Side::Download, Target::ListHalf),
            (LIST.replace("/in/", "/"), Side::Download, Target::ListSpool),
            (LIST.replace("-de", "-nde"), Side::Upload, Target::ListHalf),
            // The command of synklerctl check.
            (WRITE.replace("-l", "-nl").replace("000000ab-12/", ""), Side::Upload, Target::ListHalf),
            (READ.replace("-l", "-nl"), Side::Download, Target::ListHalf),
        ] {
            let permit = judge(&command, side, SPOOL).unwrap_or_else(|error| panic!("{command}: {error}"));
            assert_eq!(permit.target, target, "{command}");
            assert_eq!(permit.arguments[permit.arguments.len() - 2..], [".", "./"], "{command}");
            assert!(!permit.arguments.concat().contains('\\'));
            // A slash at the end of the setting has no effect.
            assert_eq!(judge(&command, side, "/srv/spool/default/").unwrap(), permit);
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let upload = |from: &str, to: &str| (WRITE.replace(from, to), Side::Upload);
        let download = |from: &str, to: &str| (READ.replace(from, to), Side::Download);
        let plain = |command: &str| (command.to_owned(), Side::Upload);
        for ((command, side), named) in [
            (plain(""), "only for file transfers"),
            (plain("  "), "only for file transfers"),
            (plain("id"), "id"),
            (plain("sh -c id"), "sh -c id"),
            (plain("rsync --version"), "--version"),
            (plain("rsync --daemon --server"), "--daemon"),
            (plain("/usr/bin/xrsync --server . /"), "xrsync"),
            (plain("internal-sftp"), "internal-sftp"),
            (plain("scp -t /srv/spool/default/in/000000ab-12"), "scp"),
            (plain("rsync --server"), "rsync --server"),
            (plain("rsync --server ."), "rsync --server ."),
            (plain(&format!("{WRITE} /etc")), "rsync --server"),
            (plain(&format!("{WRITE}; id")), "rsync --server"),
            (plain(&format!("\"{WRITE}")), "rsync"),
            (plain(&"x".repeat(5000)), "longer"),
            (upload("--inplace", "--delete"), "--delete "),
            (upload("--inplace", "--delete-after"), "--delete-after"),
            (upload("--inplace", "--remove-source-files"), "--remove-source-files"),
            (upload("--inplace", "--log-file=/tmp/x"), "--log-file"),
            (upload("--inplace", "--partial-dir=/tmp"), "--partial-dir"),
            (upload("--inplace", "--temp-dir=/tmp"), "--temp-dir"),
            (upload("--inplace", "--backup-dir=/tmp"), "--backup-dir"),
            (upload("--inplace", "--link-dest=/etc"), "--link-dest"),
            (upload("--inplace", "--copy-dest=/etc"), "--copy-dest"),
            (upload("--inplace", "--config=/tmp/x"), "--config"),
            (upload("--inplace", "--write-devices"), "--write-devices"),
            (upload("--inplace", "--rsync-path=id"), "--rsync-path"),
            (upload("--inplace", "--fake-super"), "--fake-super"),
            (upload("--inplace", "--mkpath"), "--mkpath"),
            (upload("--inplace", "--inplace=x"), "--inplace"),
            (upload("--inplace", "--timeout"), "--timeout"),
            (upload("--inplace", "--timeout=$(id)"), "--timeout"),
            (upload("--inplace", "--files-from=/etc/passwd"), "--files-from"),
            (upload("--inplace", "--quantum"), "--quantum"),
            (upload("--inplace", "--protect-args"), "rsync_opts"),
            (upload("-ltpr", "-sltpr"), "rsync_opts"),
            (upload("-ltpr", "-Dltpr"), "-D"),
            (upload("-ltpr", "-Lltpr"), "-L"),
            (upload("-ltpr", "-Kltpr"), "-K"),
            (upload("-ltpr", "-ltprb"), "-b"),
            (upload("-ltpr", "-ltprd"), "-d"),
            (upload("e.iLs", "e./iLs"), "-e"),
            (upload("--inplace", "-Bx"), "-B"),
            (upload("--inplace", "-"), "\"-\""),
            (upload("--server", "--server --sender"), "may not read"),
            (upload("/in/000000ab-12/", "/in/"), "in/<place>"),
            (upload("/in/000000ab-12/", "/in/x"), "in/<place>"),
            (upload("/in/000000ab-12/", "/in/000000ab-12//"), "in/<place>"),
            (upload("/in/000000ab-12/", "/in/000000ab-12/x"), "in/<place>"),
            (upload("/in/000000ab-12/", "/in/000000ab-12/../../held/"), "in/<place>"),
            (upload("/in/000000ab-12/", "/in/../held/"), "in/<place>"),
            (upload("/in/000000ab-12/", "/held/"), "in/<place>"),
            (upload("/default/in/", "/default2/in/"), "in/<place>"),
            (upload("/srv/spool/default/in/", "in/"), "in/<place>"),
            (upload("/srv/spool/default/in/000000ab-12/", "/etc/"), "/etc/"),
            (upload("-ltpr", "-nltpr"), "/in"),
            (upload("--server -l", "--server --sender -nl"), "may not read"),
            (download(" --sender -l", " -nl"), "may not write"),
            (download(" --sender", ""), "may not write"),
            (download("/held/", "/in/"), "/held"),
            (download("/held/", "/held/../in/"), "/held"),
            (download("/held/", "/"), "/held"),
            (download("/default/held/", "/other/held/"), "/held"),
            (download("--files-from=-", "--files-from=/etc/passwd"), "--files-from"),
            (download("--inplace", "--copy-unsafe-links"), "--copy-unsafe-links"),
            (download("--inplace", "--remove-source-files"), "--remove-source-files"),
            (download("-ltpr", "-kltpr"), "-k"),
            (download("--inplace", "--list-only"), "--list-only"),
            (plain(&LIST.replace("/in/", "/held/")), "/in"),
            (plain(&LIST.replace("/in/", "/in/000000ab-12/")), "/in"),
            (plain(&LIST.replace("-de", "-dre")), "--list-only"),
            (plain(&LIST.replace(" --list-only", "")), "-d"),
            (plain(&LIST.replace("--list-only", "--list-only --files-from=-")), "--list-only"),
        ] {
            let refusal = match judge(&command, side, SPOOL) {
                Err(refusal) => refusal.to_string(),
                Ok(permit) => panic!("{command}: {permit:?}"),
            };
            assert!(refusal.contains(named), "{command}: {refusal}");
            assert!(!refusal.contains('\n') && refusal.len() < 300, "{refusal}");
        }
    }

    #[test]
    fn a_refusal_moves_no_cursor() {
        for command in ["\x1b[2J", "rsync --server --\x1b[2J . /", "rsync --server -e. . /\u{202e}\n"] {
            let text = judge(command, Side::Upload, SPOOL).unwrap_err().to_string();
            assert!(!text.chars().any(char::is_control) && !text.contains('\u{202e}'), "{text:?}");
        }
    }
}
