//! The connection to central: an rsync run that moves nothing, with exactly the options of the service.

use tokio::time::{Instant, timeout_at};

use super::{account, failed, ok, skipped, warning};
use crate::config::Settings;
use crate::control::types::Finding;
use crate::drivers::rsync::{OLDEST_PROTOCOL, Rsync};
use crate::machine::{Direction, Location, Mode, Node, Reason};

const CHECK: &str = "ssh";

/// Tests the first of these, the central whose last message is the newest. If there is none yet, tests the broker's
/// host, which is the default for central.
pub(super) async fn examine(settings: &Settings, centrals: Vec<(Node, Location)>, until: Instant) -> Finding {
    let (direction, below) = match settings.mode() {
        Mode::Upload => (Direction::Push, "in"),
        Mode::Download => (Direction::Pull, "held"),
        Mode::Central => {
            return skipped(CHECK, "uploads and downloads connect to this node by ssh: run the check there");
        }
    };
    let rsync = super::rsync::driver(settings);
    let Some((central, spool)) = centrals.into_iter().next() else {
        return presumed(&settings.broker.host, &rsync, until).await;
    };
    let path = format!("{}/{below}", spool.path().trim_end_matches('/'));
    let Ok(location) = Location::new(spool.host(), &path) else {
        return failed(
            CHECK,
            format!("{central} announced a path that cannot be used: {path}"),
            "set a shorter file_dir on central",
        );
    };
    let shell = rsync.remote_shell();
    let began = Instant::now();
    match timeout_at(until, rsync.probe(direction, location.clone())).await {
        Ok(Ok(protocol)) => welcome(&central, &location, protocol),
        Ok(Err(reason)) => failed(
            CHECK,
            format!("{central}: {}", reason.detail()),
            cure(&location, &reason, &shell, rsync.has_own_shell()),
        ),
        Err(_) => failed(
            CHECK,
            format!("{central}: {} does not answer within {} s", location.host(), began.elapsed().as_secs()),
            by_hand(&shell, location.host()),
        ),
    }
}

/// Whether ssh can log in and start rsync on that host, if that host is central.
async fn presumed(host: &str, rsync: &Rsync, until: Instant) -> Finding {
    let nobody = "no central has announced its SSH address yet";
    let start = "start synkler here and on central";
    // Nothing is fetched from there. If the key may access a part of the spool only, the refusal by the gate shows that
    // the login works.
    let Ok(location) = Location::new(host, "/") else { return skipped(CHECK, format!("{nobody}: {start}")) };
    let answer = match timeout_at(until, rsync.probe(Direction::Pull, location.clone())).await {
        Ok(Ok(_)) => None,
        Ok(Err(reason)) if ["synkler gate: ", "rrsync"].iter().any(|words| reason.detail().contains(words)) => None,
        Ok(Err(reason)) => Some(reason),
        Err(_) => {
            return skipped(CHECK, format!("{nobody}, and {host}, the broker host, does not answer: {start}"));
        }
    };
    let Some(reason) = answer else {
        return skipped(CHECK, format!("{nobody}; {host}, the broker host, accepts the login of this node: {start}"));
    };
    let text = format!("{nobody}; if it is {host}, the broker host: {}", reason.detail());
    let is_curable = ["host key", "rejects the login"].iter().any(|words| reason.detail().contains(words));
    if is_curable {
        warning(CHECK, text, cure(&location, &reason, &rsync.remote_shell(), rsync.has_own_shell()))
    } else {
        // The broker may be on a host that is not central.
        skipped(CHECK, format!("{text}: {start}"))
    }
}

fn welcome(central: &Node, location: &Location, protocol: Option<u32>) -> Finding {
    let place = format!("{}:{}", location.host(), location.path());
    match protocol {
        Some(protocol) if protocol < OLDEST_PROTOCOL => failed(
            CHECK,
            format!("{central}: rsync at {place} uses protocol {protocol}, but {OLDEST_PROTOCOL} is needed"),
            format!("on {}: apt-get install --only-upgrade rsync (3.1.3 or newer)", location.host()),
        ),
        Some(protocol) => ok(CHECK, format!("{central}: rsync at {place} answers (protocol {protocol})")),
        None => ok(CHECK, format!("{central}: rsync at {place} answers")),
    }
}

fn cure(location: &Location, reason: &Reason, shell: &str, own_shell: bool) -> String {
    let host = location.host();
    let says = |words: &str| reason.detail().contains(words);
    let name = host.rsplit('@').next().unwrap_or(host);
    if says("host key") && !own_shell {
        let again = if says("has changed") { format!("if {name} was reinstalled: ") } else { String::new() };
        format!(
            "{again}synkler trust {name}, and compare its fingerprint with the output of ssh-keygen -lf \
             /etc/ssh/ssh_host_ed25519_key.pub on {name}"
        )
    } else if says("rejects the login") && !own_shell {
        format!("on {name}: add the line that synkler keys prints here to authorized_keys of the user it names")
    } else if says("is not known: add it") {
        let ask = asking(shell);
        format!(
            "as {}: {ask} {host} true, and compare its fingerprint with the output of ssh-keygen -lf \
             /etc/ssh/ssh_host_ed25519_key.pub on {host}",
            account()
        )
    } else if says("has changed") {
        format!("if {host} was reinstalled: as {}: ssh-keygen -R {name}, then {} {host} true", account(), asking(shell))
    } else if says("rejects the login") {
        format!("as {}: ssh-keygen if there is no key yet, then ssh-copy-id {host}", account())
    } else if says("refuses the connection") {
        format!("on {host}: systemctl start ssh; it must listen on the port given in rsync_opts, 22 by default")
    } else if says("is not known here") || says("cannot be looked up") {
        format!("on central: set central_host to a name that getent hosts resolves here, instead of {host}")
    } else if says("rsync cannot be started on") {
        format!("on {host}: apt-get install rsync")
    } else if says("rrsync") {
        format!(
            "on {host}: in authorized_keys, give rrsync a directory above {} and, for downloads, no -wo",
            location.path()
        )
    } else if says("login scripts must print nothing") {
        format!("{shell} {host} true must print nothing: remove the output from ~/.bashrc there")
    } else if says("No such file or directory") {
        format!("on {host}: systemctl start synkler, which creates {}, with file_dir as in the path", location.path())
    } else {
        by_hand(shell, host)
    }
}

fn by_hand(shell: &str, host: &str) -> String {
    format!("as {}: {shell} -v {host} true shows where it fails", account())
}

/// The remote shell with an option that asks about an unknown host key; the first value of an option counts.
fn asking(shell: &str) -> String {
    match shell.strip_prefix("ssh ") {
        Some(options) => format!("ssh -o BatchMode=no -o StrictHostKeyChecking=ask {options}"),
        None => shell.to_owned(),
    }
}
