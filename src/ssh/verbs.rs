//! `synkler keys`, `synkler trust` and `synkler gate`: their output. `keys` and `trust` work on the files of the daemon
//! that uses the config, as the user who owns these files: root becomes that user first.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::enter::{Entrance, enter};
use super::gate::Side;
use super::keys::{authorized_line, own_key};
use super::trust::{HostKey, known, scan, trust};
use super::{key_places, known_hosts};
use crate::config::Loaded;
use crate::machine::Mode;

/// The directory of the credentials for systemd, which root can read.
const CREDENTIALS: &str = "/etc/synkler/credentials";
/// The maximum length of an answer, in bytes.
const ANSWER_LIMIT: u64 = 100;

/// `synkler gate`: becomes rsync, or prints on standard error why not.
pub fn gate(entrance: &Entrance) -> ExitCode {
    match enter(entrance, std::env::var_os("SSH_ORIGINAL_COMMAND").as_deref()) {
        Ok(never) => match never {},
        Err(error) => {
            // rsync on the other side shows this text to its operator.
            say(&format!("synkler gate: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// `synkler keys`: creates the key pair if there is none, and prints the line for central on standard output. `spool`
/// is `<file_dir>/<id>` on central; without it the line has a placeholder.
pub fn keys(loaded: &Loaded, spool: Option<&str>) -> ExitCode {
    let state_dir = loaded.service_state_dir();
    let settings = &loaded.settings;
    let side = match settings.mode() {
        Mode::Upload => Side::Upload,
        Mode::Download => Side::Download,
        Mode::Central => return fail("central needs no SSH key: run synkler keys on uploads and downloads"),
    };
    // Outside of the service, the directory of credentials does not exist; root can read their source.
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let credentials = credentials.or_else(|| Some(PathBuf::from(CREDENTIALS)).filter(|_| loaded.is_of_system()));
    let places = key_places(&state_dir, credentials.as_deref());
    if !places.iter().any(|path| path.exists())
        && let Some(ended) = as_owner(&state_dir, loaded)
    {
        return ended;
    }
    let gap = format!("/FILE_DIR_OF_CENTRAL/{}", settings.group);
    let made = own_key(&places, &format!("synkler {}", settings.node))
        .and_then(|key| Ok((authorized_line(&key, side, &settings.node.name, spool.unwrap_or(&gap))?, key)));
    match made {
        Ok((line, key)) => {
            let what = if key.made { "made" } else { "there is" };
            say(&format!("synkler: {what} the key {}", key.path.display()));
            say("synkler: append this line on central to ~/.ssh/authorized_keys of the account in central_host");
            if spool.is_none() {
                say(&format!("synkler: and insert file_dir of central; or use --spool FILE_DIR/{}", settings.group));
            }
            // A reader that has closed the pipe needs no more.
            let _ = writeln!(io::stdout(), "{line}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&chain(&error)),
    }
}

/// `synkler trust`: shows the keys of a host, and stores them after `fingerprint`, or the user at the terminal, has
/// confirmed them.
pub fn trust_host(loaded: &Loaded, host: &str, port: u16, fingerprint: Option<&str>) -> ExitCode {
    let state_dir = loaded.service_state_dir();
    if let Some(ended) = as_owner(&state_dir, loaded) {
        return ended;
    }
    let path = known_hosts(&state_dir);
    let (keys, others) = match scan(host, port).and_then(|keys| known(&keys, &path).map(|known| (keys, known))) {
        Ok((keys, (same, 0))) if same == keys.len() => {
            show(&keys);
            say(&format!("synkler: {} already has these keys", path.display()));
            return ExitCode::SUCCESS;
        }
        Ok((keys, (_, others))) => (keys, others),
        Err(error) => return fail(&chain(&error)),
    };
    show(&keys);
    if others > 0 {
        say(&format!(
            "synkler: {} has other keys for this host: the keys changed, or this is another host",
            path.display()
        ));
    }
    let keys: Vec<HostKey> = match fingerprint {
        Some(wanted) => {
            let is_wanted =
                |key: &HostKey| key.fingerprint.trim_start_matches("SHA256:") == wanted.trim_start_matches("SHA256:");
            keys.into_iter().filter(is_wanted).collect()
        }
        None if !io::stdin().is_terminal() => {
            return fail(&format!(
                "no terminal for the confirmation: give --fingerprint, after comparing with the output of {LOOK} on \
                 that host"
            ));
        }
        None => {
            say(&format!("synkler: compare them with the output of {LOOK} on that host"));
            if !agreed() {
                return fail("nothing was changed");
            }
            keys
        }
    };
    if keys.is_empty() {
        return fail(&format!("no key of {host} has that fingerprint: nothing was changed"));
    }
    let made = std::fs::create_dir_all(&state_dir).map_err(|error| error.to_string());
    match made.and_then(|()| trust(&keys, &path).map_err(|error| chain(&error))) {
        Ok(()) => {
            say(&format!("synkler: {host} is trusted, in {}", path.display()));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// The command that shows the fingerprints on the host itself.
const LOOK: &str = "\"for f in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $f; done\"";

fn show(keys: &[HostKey]) {
    for HostKey { kind, fingerprint, .. } in keys {
        let _ = writeln!(io::stdout(), "{kind:<20} {fingerprint}");
    }
}

fn agreed() -> bool {
    let _ = write!(io::stderr(), "Are these the keys of that host? Type yes: ").and_then(|()| io::stderr().flush());
    let mut answer = String::new();
    let read = io::stdin().lock().take(ANSWER_LIMIT).read_line(&mut answer);
    read.is_ok() && answer.trim() == "yes"
}

/// If root calls and the state directory (or the existing part of its path) belongs to another user, runs the command
/// again as that user and returns its exit status. So no file is created that the service cannot use, and no link of
/// that user misleads root.
fn as_owner(state_dir: &Path, loaded: &Loaded) -> Option<ExitCode> {
    let owner = state_dir.ancestors().find_map(|dir| dir.metadata().ok())?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return None;
    }
    let again = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1)).uid(owner.uid()).gid(owner.gid());
        command.env("HOME", state_dir).env("SYNKLER_STATE_DIR", state_dir);
        if let Some(file) = &loaded.file {
            command.env("SYNKLER_CONF", file);
        }
        command.status()
    });
    Some(match again {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => fail(&format!("cannot switch to the owner of {}: {error}", state_dir.display())),
    })
}

fn fail(text: &str) -> ExitCode {
    say(&format!("synkler: {text}"));
    ExitCode::FAILURE
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// An error and its causes, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
