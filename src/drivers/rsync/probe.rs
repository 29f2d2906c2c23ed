//! A run that moves nothing: it shows whether central accepts this node's rsync, and which version answers.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::shell::names_remote_shell;
use super::{Rsync, command, feed, follow_some, not_started, verdict};
use crate::drivers::process::{Group, Tail};
use crate::machine::{Cause, Direction, Keep, Location, Reason, Run, RunId, RunOutcome};

/// The oldest usable protocol of the remote rsync: that of rsync 3.1.
pub const OLDEST_PROTOCOL: u32 = 31;

impl Rsync {
    /// The command that connects to the remote side, from the user's options or the driver's own.
    pub fn remote_shell(&self) -> String {
        let own = || self.settings.ssh.remote_shell(None).trim_start_matches("--rsh=").to_owned();
        let options = &self.settings.options;
        let at = options.iter().rposition(|option| names_remote_shell(option));
        at.and_then(|at| options.get(at)?.strip_prefix("--rsh=").map(str::to_owned)).unwrap_or_else(own)
    }

    /// Whether the user's options name the remote shell.
    pub fn has_own_shell(&self) -> bool {
        self.settings.own_shell()
    }

    /// Connects like a run, with an empty list and `--dry-run`, and returns the protocol version of the remote rsync;
    /// `None` if the local rsync does not report it. Takes as long as the user's ssh options allow, by default about 20
    /// s; may be cancelled at any time.
    ///
    /// # Errors
    ///
    /// Why a run would fail, and what to do.
    pub async fn probe(&self, direction: Direction, location: Location) -> Result<Option<u32>, Reason> {
        let run = Run { id: RunId(0), direction, location, batch: Vec::new(), keep: Keep::default() };
        let mut command = command(&self.settings, &run, run.keep, None);
        command.args(["--dry-run", "--debug=PROTO"]).stdout(Stdio::piped());
        let mut group = match Group::start_bound(command) {
            Ok(group) => group,
            Err(error) => return refused(not_started(&self.settings.program, &error)).map(|()| None),
        };
        let child = group.child();
        let (list, output, complaints) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut protocol, mut tail) = (None, Tail::default());
        let ended = tokio::join!(
            feed(list, Vec::new()),
            hear(&mut protocol, output),
            follow_some(&mut tail, complaints),
            group.wait()
        )
        .3;
        let outcome = match ended {
            Ok(status) => verdict::verdict(status, &tail.text(), direction, &run.location, self.settings.own_shell()),
            Err(error) => not_started(&self.settings.program, &error),
        };
        refused(outcome).map(|()| protocol)
    }
}

fn refused(outcome: RunOutcome) -> Result<(), Reason> {
    match outcome {
        RunOutcome::Complete => Ok(()),
        RunOutcome::Partial(reason) | RunOutcome::Failed(_, reason) => Err(reason),
        // A dry run writes nothing here.
        RunOutcome::Unfit(refused) => Err(refused.into_iter().next().map_or(Cause::Unfit.into(), |(_, reason)| reason)),
    }
}

/// Reads to the end, so that rsync does not block.
async fn hear(protocol: &mut Option<u32>, output: Option<impl AsyncRead + Unpin>) {
    let Some(output) = output else { return };
    // rsync's own lines are short, and it lists nothing.
    let mut lines = BufReader::new(output).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        *protocol = protocol.or(told(&String::from_utf8_lossy(&line)));
    }
}

/// `(Client) Protocol versions: remote=32, negotiated=31`.
fn told(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("Protocol versions: remote=")?;
    rest.split(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_far_protocol_is_what_remote_says() {
        assert_eq!(told("(Client) Protocol versions: remote=32, negotiated=31"), Some(32));
        assert_eq!(told("              0 100%    0.00kB/s    0:00:00"), None);
        assert_eq!(told("Protocol versions: remote=x"), None);
    }
}
