//! The exit codes of the programs, in one table each.

use std::process::ExitCode;

/// The exit of `synklerctl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Success.
    Done,
    /// The daemon refused, nothing has that name, or a check failed.
    Refused,
    /// The arguments are wrong.
    Usage,
    /// No daemon answers on this host.
    NotRunning,
    /// The answer is incomplete: a node did not answer.
    Incomplete,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::NotRunning => 3,
            Self::Incomplete => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The codes of `synklerctl` and what they mean.
pub const EXITS: &[(u8, &str)] = &[
    (Exit::Done.code(), "done"),
    (Exit::Refused.code(), "refused, or not found; with check: a check failed"),
    (Exit::Usage.code(), "wrong arguments"),
    (Exit::NotRunning.code(), "the daemon is not running"),
    (Exit::Incomplete.code(), "the answer is incomplete: central or other nodes did not answer"),
];

/// The codes of `synkler` and what they mean.
pub const DAEMON_EXITS: &[(u8, &str)] = &[
    (0, "stopped by a signal; with --check or check: no problem found"),
    (1, "fatal error, see the log; with check: a check failed"),
    (2, "wrong arguments"),
    (78, "invalid config, or the journal was removed; systemd does not restart the service"),
];

/// A table as shown below `--help`.
pub fn exit_table(codes: &[(u8, &str)]) -> String {
    let lines: Vec<_> = codes.iter().map(|(code, meaning)| format!("  {code:>2}  {meaning}")).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}
