//! The way to central: a run of rsync that moves nothing, with just the options that the service uses.

use tokio::time::{Instant, timeout_at};

use super::{account, failed, ok, skipped};
use crate::config::Settings;
use crate::control::types::Finding;
use crate::drivers::rsync::OLDEST_PROTOCOL;
use crate::machine::{Direction, Location, Mode, Node, Reason};

const CHECK: &str = "ssh";

/// Tries the first of these, which is the one that was heard last.
pub(super) async fn examine(settings: &Settings, centrals: Vec<(Node, Location)>, until: Instant) -> Finding {
    let (direction, below) = match settings.mode() {
        Mode::Upload => (Direction::Push, "in"),
        Mode::Download => (Direction::Pull, "held"),
        Mode::Central => return skipped(CHECK, "uploads and downloads come to this node by ssh: examine it there"),
    };
    let Some((central, spool)) = centrals.into_iter().next() else {
        return skipped(CHECK, "no central has said yet where it can be reached: start synkler here and on central");
    };
    let path = format!("{}/{below}", spool.path().trim_end_matches('/'));
    let Ok(location) = Location::new(spool.host(), &path) else {
        return failed(
            CHECK,
            format!("{central} names no possible place: {path}"),
            "set a shorter file_dir on central",
        );
    };
    let rsync = super::rsync::driver(settings);
    let shell = rsync.remote_shell();
    let began = Instant::now();
    match timeout_at(until, rsync.probe(direction, location.clone())).await {
        Ok(Ok(protocol)) => welcome(&central, &location, protocol),
        Ok(Err(reason)) => refused(&central, &location, &reason, &shell, rsync.has_own_shell()),
        Err(_) => failed(
            CHECK,
            format!("{central}: {} does not answer within {} s", location.host(), began.elapsed().as_secs()),
            by_hand(&shell, location.host()),
        ),
    }
}

fn welcome(central: &Node, location: &Location, protocol: Option<u32>) -> Finding {
    let place = format!("{}:{}", location.host(), location.path());
    match protocol {
        Some(protocol) if protocol < OLDEST_PROTOCOL => failed(
            CHECK,
            format!("{central}: rsync at {place} speaks protocol {protocol}, but {OLDEST_PROTOCOL} is needed"),
            format!("on {}: apt-get install --only-upgrade rsync (3.1.3 or newer)", location.host()),
        ),
        Some(protocol) => ok(CHECK, format!("{central}: rsync at {place} answers (protocol {protocol})")),
        None => ok(CHECK, format!("{central}: rsync at {place} answers")),
    }
}

fn refused(central: &Node, location: &Location, reason: &Reason, shell: &str, own_shell: bool) -> Finding {
    let text = format!("{central}: {}", reason.detail());
    let host = location.host();
    let says = |words: &str| reason.detail().contains(words);
    let name = host.rsplit('@').next().unwrap_or(host);
    let cure = if says("host key") && !own_shell {
        let again = if says("has changed") { format!("if {name} was really set up anew: ") } else { String::new() };
        format!(
            "{again}synkler trust {name}, and compare the fingerprint it shows with what ssh-keygen -lf \
             /etc/ssh/ssh_host_ed25519_key.pub prints on {name}"
        )
    } else if says("rejects the login") && !own_shell {
        format!("on {name}: put the line that synkler keys prints here into authorized_keys of the user it names")
    } else if says("is not known: add it") {
        let ask = asking(shell);
        format!(
            "as {}: {ask} {host} true, and compare the fingerprint it shows with what ssh-keygen -lf \
             /etc/ssh/ssh_host_ed25519_key.pub prints on {host}",
            account()
        )
    } else if says("has changed") {
        format!(
            "if {host} was really set up anew: as {}: ssh-keygen -R {name}, then {} {host} true",
            account(),
            asking(shell)
        )
    } else if says("rejects the login") {
        format!("as {}: ssh-keygen where there is no key yet, then ssh-copy-id {host}", account())
    } else if says("refuses the connection") {
        format!("on {host}: systemctl start ssh; it has to listen on the port that rsync_opts names, 22 by default")
    } else if says("is not known here") || says("cannot be looked up") {
        format!("on central: set central_host to a name that getent hosts finds here, instead of {host}")
    } else if says("rsync cannot be started on") {
        format!("on {host}: apt-get install rsync")
    } else if says("rrsync") {
        format!(
            "on {host}: in authorized_keys, give rrsync a directory above {} and, for downloads, no -wo",
            location.path()
        )
    } else if says("login scripts must print nothing") {
        format!("{shell} {host} true has to print nothing: take the output out of ~/.bashrc there")
    } else if says("No such file or directory") {
        format!("on {host}: systemctl start synkler, which makes {}, with file_dir as the path says", location.path())
    } else {
        by_hand(shell, host)
    };
    failed(CHECK, text, cure)
}

fn by_hand(shell: &str, host: &str) -> String {
    format!("as {}: {shell} -v {host} true shows where it stops", account())
}

/// The remote shell such that it asks about an unknown host key; what stands first counts.
fn asking(shell: &str) -> String {
    match shell.strip_prefix("ssh ") {
        Some(options) => format!("ssh -o BatchMode=no -o StrictHostKeyChecking=ask {options}"),
        None => shell.to_owned(),
    }
}
