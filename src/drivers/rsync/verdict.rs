//! The meaning of a run's exit code and messages: who has to act, and how.
//!
//! rsync's exit codes are coarse (a failure of ssh comes as 255 or 12, depending on which side notices first). So the
//! messages of ssh, the remote shell and rsync come first and the code last.

use std::process::ExitStatus;

use crate::drivers::process;
use crate::machine::{Cause, Direction, Fault, Location, Reason, RunOutcome};

/// The outcome of a run that was not stopped by us. `own_shell` says that rsync_opts names the remote shell, so that
/// keys and known hosts are the user's and not the service's.
pub(super) fn verdict(
    status: ExitStatus,
    complaints: &str,
    direction: Direction,
    location: &Location,
    own_shell: bool,
) -> RunOutcome {
    if status.success() {
        return RunOutcome::Complete;
    }
    let content = &*without_extras(complaints);
    let lacks_extras = content.lines().count() < complaints.lines().count();
    let complaints = content;
    let failure = Failure { status, complaints, direction, location, own_shell };
    let partial = matches!(status.code(), Some(23 | 24));
    if let Some(line) = failure.no_space() {
        let reason = Reason::with(Cause::Space, &format!("{}: {line}", failure.receiver()));
        return if partial { RunOutcome::Partial(reason) } else { RunOutcome::Failed(Fault::Passing, reason) };
    }
    if direction == Direction::Push && status.code() == Some(11) && failure.telling_line().is_none() {
        // A receiver that cannot write reports the error and ends; in about half of the cases the report arrives first.
        let text = format!("on {}, probably: it could not write and gave no reason", location.host());
        return RunOutcome::Failed(Fault::Passing, Reason::with(Cause::Space, &text));
    }
    if failure.source_is_missing() {
        // Then each item is examined alone.
        return RunOutcome::Partial(Reason::with(Cause::Missing, &failure.last_line()));
    }
    if partial && lacks_extras && failure.telling_line().is_none() {
        return RunOutcome::Complete;
    }
    if partial {
        return RunOutcome::Partial(Reason::with(Cause::Transport, &failure.last_line()));
    }
    let (fault, text) = failure.connection().or_else(|| failure.far_side()).unwrap_or_else(|| failure.by_code());
    RunOutcome::Failed(fault, Reason::with(Cause::Transport, &text))
}

/// Without the lines about attributes and ACLs that the receiver cannot store: the copy has its content nevertheless, and
/// the comparison with the announced extras reports the difference.
fn without_extras(complaints: &str) -> String {
    let is_about_extras = |line: &&str| {
        let line = plain(line);
        let doing = line.split_once("] ").map_or(line, |(_, doing)| doing);
        doing.starts_with("rsync_xal_set:") || doing.starts_with("rsync_xal_clear:") || doing.starts_with("set_acl:")
    };
    complaints.lines().filter(|line| !is_about_extras(line)).fold(String::new(), |text, line| text + line + "\n")
}

struct Failure<'a> {
    status: ExitStatus,
    complaints: &'a str,
    direction: Direction,
    location: &'a Location,
    own_shell: bool,
}

impl Failure<'_> {
    /// The messages of ssh.
    fn connection(&self) -> Option<(Fault, String)> {
        let host = self.location.host();
        // rsync's own lines may contain anything: they name files.
        let of_ssh = || self.complaints.lines().filter(|line| !line.starts_with("rsync:"));
        let has = |patterns: &[&str]| of_ssh().any(|line| patterns.iter().any(|pattern| line.contains(pattern)));
        let passing = |text: String| Some((Fault::Passing, text));
        let lasting = |text: String| Some((Fault::Lasting, text));
        if has(&["HOST IDENTIFICATION HAS CHANGED"]) {
            let place = self.offending_key().unwrap_or_else(|| "known_hosts".to_owned());
            return lasting(format!(
                "the host key of {host} has changed: if this is expected, replace the old key in {place}"
            ));
        }
        if has(&["Host key verification failed", "host key is known for"]) {
            let how = if self.own_shell { "add it to known_hosts" } else { "check it with synkler trust" };
            return lasting(format!("the host key of {host} is not known: {how}"));
        }
        let methods = ["publickey", "password", "keyboard-interactive", "gssapi", "hostbased", "none"];
        let denied = methods.map(|method| format!("Permission denied ({method}"));
        if denied.iter().any(|words| has(&[words])) || has(&["Too many authentication failures"]) {
            let key = if self.own_shell { "the public key" } else { "the line that synkler keys prints here" };
            return lasting(format!(
                "{host} rejects the login: add {key} to authorized_keys there, and check the user name"
            ));
        }
        if has(&["Connection refused"]) {
            return passing(format!("{host} refuses the connection: check that sshd runs there, and on which port"));
        }
        if has(&["Temporary failure in name resolution"]) {
            return passing(format!("the name {host} cannot be looked up for the moment: check the DNS"));
        }
        if has(&["Could not resolve hostname"]) {
            return lasting(format!("the name {host} is not known here: check central_host on central, and the DNS"));
        }
        if has(&["timed out", "not responding"]) {
            return passing(format!(
                "{host} does not answer: check that it is running and that the firewall allows ssh"
            ));
        }
        if has(&["No route to host", "Network is unreachable"]) {
            return passing(format!("cannot reach {host}: check the network"));
        }
        if has(&["Connection closed by", "Connection reset by", "Connection to ", "client_loop:", "kex_exchange_"]) {
            return passing(format!("the connection to {host} broke: {}", self.last_line()));
        }
        None
    }

    /// The messages of the remote shell and the remote rsync.
    fn far_side(&self) -> Option<(Fault, String)> {
        let host = self.location.host();
        let lasting = |text: String| Some((Fault::Lasting, text));
        if let Some(line) = self.line_with(&["synkler gate: "]) {
            return lasting(format!("{host}: {line}"));
        }
        if self.line_with(&["is your shell clean"]).is_some() {
            return lasting(format!(
                "unexpected output instead of rsync from {host}: login scripts must print nothing"
            ));
        }
        if let Some(line) = self.line_with(&["Failed to exec "]) {
            return lasting(format!("cannot start the program that connects to {host}: {line}: check rsync_opts"));
        }
        let of_shell = |line: &&str| {
            let cannot = ["not found", "No such file or directory", "Unknown command", "Permission denied"];
            !line.starts_with("rsync:") && line.contains("rsync") && cannot.iter().any(|word| line.contains(word))
        };
        if let Some(line) = self.complaints.lines().find(of_shell) {
            return lasting(format!("rsync cannot be started on {host}: {line}: install it there"));
        }
        if let Some(line) = self.line_with(&["rrsync", "mkdir ", "change_dir "]) {
            return lasting(format!("{host}: {line}"));
        }
        None
    }

    fn by_code(&self) -> (Fault, String) {
        let host = self.location.host();
        let ended = process::describe(self.status);
        let line = self.last_line();
        let what = if line.is_empty() { ended } else { format!("{line} ({ended})") };
        match self.status.code() {
            Some(1 | 4) => (Fault::Lasting, format!("rsync rejects its options: {what}: check rsync_opts")),
            Some(2 | 3 | 11 | 22 | 126 | 127) => (Fault::Lasting, format!("rsync with {host}: {what}")),
            Some(30 | 35) => (Fault::Passing, format!("rsync timed out: no data from {host}")),
            _ => (Fault::Passing, format!("rsync with {host}: {what}")),
        }
    }

    /// The remote side of a pull lacks the directory itself.
    fn source_is_missing(&self) -> bool {
        self.direction == Direction::Pull
            && self
                .line_with(&["[sender] change_dir", "[sender] link_stat"])
                .is_some_and(|line| line.contains("No such file or directory"))
    }

    /// The line in which the receiver reports missing space. The text is at the end, where no file name can be.
    fn no_space(&self) -> Option<&str> {
        let words = ["No space left on device (28)", "Disk quota exceeded (122)"];
        self.complaints.lines().map(plain).rfind(|line| words.iter().any(|words| line.ends_with(words)))
    }

    /// The side that had to write.
    fn receiver(&self) -> String {
        match self.direction {
            Direction::Push => format!("on {}", self.location.host()),
            Direction::Pull => "here".to_owned(),
        }
    }

    /// The last line that contains one of these.
    fn line_with(&self, patterns: &[&str]) -> Option<&str> {
        self.complaints.lines().rfind(|line| patterns.iter().any(|pattern| line.contains(pattern))).map(plain)
    }

    /// The last line that is not empty.
    fn telling_line(&self) -> Option<&str> {
        let echoes = ["rsync error:", "connection unexpectedly closed", "write error: Broken pipe", "rsync manpage"];
        let tells = |line: &&str| !line.trim().is_empty() && !echoes.iter().any(|echo| line.contains(echo));
        self.complaints.lines().rfind(tells).map(plain)
    }

    /// The last line that is not empty, or else rsync's summary; may be empty.
    fn last_line(&self) -> String {
        let last = || self.complaints.lines().rfind(|line| !line.trim().is_empty()).map(plain);
        self.telling_line().or_else(last).unwrap_or_default().to_owned()
    }

    /// Where ssh found the old host key: `FILE:LINE`.
    fn offending_key(&self) -> Option<String> {
        let line = self.complaints.lines().find(|line| line.starts_with("Offending "))?;
        line.split_once(" key in ").map(|(_, place)| place.trim().to_owned())
    }
}

pub(super) fn plain(line: &str) -> &str {
    let line = line.trim();
    line.strip_prefix("rsync: ").or_else(|| line.strip_prefix("rsync error: ")).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn judge(code: i32, direction: Direction, complaints: &str) -> RunOutcome {
        let location = Location::new("syn@central", "/srv").unwrap();
        verdict(ExitStatus::from_raw(code << 8), complaints, direction, &location, false)
    }

    fn failed(code: i32, complaints: &str) -> (Fault, String) {
        match judge(code, Direction::Push, complaints) {
            RunOutcome::Failed(fault, reason) => {
                assert_eq!(reason.cause(), Cause::Transport);
                (fault, reason.detail().to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    // tests/rsync.rs covers most classes with the real programs; these are hard to provoke.
    #[test]
    fn networks_and_name_servers_may_come_back() {
        for (line, expected) in [
            ("ssh: connect to host central port 22: Connection timed out", "syn@central does not answer"),
            ("Timeout, server central not responding.", "syn@central does not answer"),
            ("ssh: connect to host central port 22: No route to host", "cannot reach syn@central"),
            ("ssh: Could not resolve hostname central: Temporary failure in name resolution", "for the moment"),
            ("client_loop: send disconnect: Broken pipe", "the connection to syn@central broke"),
            ("kex_exchange_identification: read: Connection reset by peer", "the connection to syn@central broke"),
        ] {
            let (fault, text) =
                failed(255, &format!("{line}\nrsync error: unexplained error (code 255) at io.c(285)\n"));
            assert_eq!(fault, Fault::Passing, "{line}");
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_shell_without_rsync_is_known_by_its_words() {
        for line in [
            "bash: line 1: rsync: command not found",
            "sh: 1: rsync: not found",
            "zsh:1: command not found: rsync",
            "bash: /opt/rsync: No such file or directory",
        ] {
            let closed = "rsync: connection unexpectedly closed (0 bytes received so far) [sender]";
            let (fault, text) = failed(12, &format!("{line}\n{closed}\n"));
            assert_eq!(fault, Fault::Lasting);
            assert_eq!(text, format!("rsync cannot be started on syn@central: {line}: install it there"));
        }
    }

    #[test]
    fn a_full_disk_is_not_a_transport_failure() {
        let line = "rsync: [receiver] write failed on \"/srv/x\": No space left on device (28)";
        let RunOutcome::Failed(Fault::Passing, reason) = judge(11, Direction::Push, line) else { panic!() };
        assert_eq!(reason.cause(), Cause::Space);
        assert!(reason.detail().starts_with("on syn@central: [receiver] write failed"), "{reason}");
        let RunOutcome::Failed(Fault::Passing, reason) = judge(11, Direction::Push, "") else { panic!() };
        assert_eq!(reason.cause(), Cause::Space);
        let RunOutcome::Partial(reason) = judge(23, Direction::Pull, line) else { panic!() };
        assert!(reason.detail().starts_with("here: "), "{reason}");
    }

    #[test]
    fn attributes_that_cannot_be_set_do_not_make_a_run_partial() {
        let lines = [
            "rsync: [receiver] rsync_xal_set: fsetxattr(\"/srv/in/c\",\"user.q\") failed: Operation not supported (95)",
            "rsync: rsync_xal_set: lsetxattr(\"/srv/in/c\",\"user.q\") failed: No space left on device (28)",
            "rsync: [generator] set_acl: xacl_set(c, ACL_TYPE_DEFAULT): Operation not supported (95)",
        ];
        let end = "rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1394)";
        let complaints = format!("{}\n{end}\n", lines.join("\n"));
        for direction in [Direction::Push, Direction::Pull] {
            assert_eq!(judge(23, direction, &complaints), RunOutcome::Complete);
        }
        let other = "rsync: [generator] link \"/srv/in/a\" => b failed: Operation not permitted (1)";
        let RunOutcome::Partial(reason) = judge(23, Direction::Push, &format!("{other}\n{complaints}")) else {
            panic!()
        };
        assert!(reason.detail().starts_with("[generator] link"), "{reason}");
        assert!(matches!(judge(23, Direction::Push, end), RunOutcome::Partial(_)));
    }

    #[test]
    fn a_file_that_may_not_be_written_is_not_a_rejected_login() {
        let line = "rsync: [Receiver] mkdir \"/srv/Connection refused\" failed: Permission denied (13)";
        let (fault, text) = failed(11, &format!("{line}\nrsync error: error in file IO (code 11) at main.c(808)\n"));
        assert_eq!(fault, Fault::Lasting);
        assert!(
            text.starts_with("syn@central: [Receiver] mkdir") && text.ends_with("Permission denied (13)"),
            "{text}"
        );
        let (fault, text) = failed(255, "me@central: Permission denied (publickey,password).\n");
        assert_eq!(fault, Fault::Lasting);
        assert!(text.starts_with("syn@central rejects the login"), "{text}");
    }

    #[test]
    fn what_is_not_known_still_says_what_was_seen() {
        assert_eq!(failed(13, ""), (Fault::Passing, "rsync with syn@central: exit status 13".to_owned()));
        let (fault, text) = failed(2, "rsync error: protocol incompatibility (code 2) at compat.c(625)\n");
        assert_eq!(fault, Fault::Lasting);
        assert!(text.contains("protocol incompatibility"), "{text}");
        let (fault, text) =
            failed(1, "rsync: --nonsense: unknown option\nrsync error: syntax or usage error (code 1)\n");
        assert_eq!(fault, Fault::Lasting);
        assert_eq!(text, "rsync rejects its options: --nonsense: unknown option (exit status 1): check rsync_opts");
    }
}
