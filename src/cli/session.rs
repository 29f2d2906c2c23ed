//! The connection to the daemon, and its errors.

use std::env;
use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::exit::Exit;
use super::terminal::complain;
use crate::control::{Client, ClientError, Refusal, default_socket, socket_candidates};

/// The version of this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("several daemons run on this host, choose one with --socket: {0}")]
    Ambiguous(String),
    /// Anything that cannot be done as requested.
    #[error("{0}")]
    Refused(String),
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
    #[error("cannot write the answer as JSON")]
    Json(#[source] serde_json::Error),
    #[error("cannot use the terminal")]
    Terminal(#[source] io::Error),
}

impl Failure {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Client(ClientError::Refused(Refusal::Busy)) => Exit::Incomplete,
            Self::Ambiguous(_)
            | Self::Refused(_)
            | Self::Terminal(_)
            | Self::Client(ClientError::Refused(_) | ClientError::Forbidden { .. }) => Exit::Refused,
            Self::Client(ClientError::NotRunning { .. }) => Exit::NotRunning,
            Self::Client(ClientError::Stuck { .. } | ClientError::Incomplete { .. } | ClientError::Garbled { .. })
            | Self::Output(_)
            | Self::Json(_) => Exit::Incomplete,
        }
    }

    /// The whole chain of errors on stderr, with what to do if that is known.
    pub(super) fn tell(&self) {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(source) = cause {
            text.push_str(&format!(": {source}"));
            cause = source.source();
        }
        complain(&text);
        match self {
            Self::Client(ClientError::NotRunning { .. }) => complain("start it with: systemctl start synkler"),
            Self::Client(ClientError::Refused(Refusal::PermissionDenied)) => {
                complain("only root, the user of the daemon and the group of the socket may do this: use sudo")
            }
            _ => {}
        }
    }
}

/// The choice of the daemon.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Its socket, if given.
    pub(super) socket: Option<PathBuf>,
    /// Whether it must be the daemon of this user.
    pub(super) user: bool,
    /// Its group, if given.
    pub(super) id: Option<String>,
}

impl Target {
    /// A connection to the daemon; prints a note on stderr if the daemon has another version.
    pub(super) fn connect(&self) -> Result<Client, Failure> {
        let mut client = self.reach()?;
        // A daemon that cannot describe itself will fail at the next call, and say why.
        if let Ok(info) = client.info() {
            compare_version(&info.version);
            return Ok(client);
        }
        Ok(Client::connect(client.path())?)
    }

    /// A connection to the daemon, without notes.
    pub(super) fn reach(&self) -> Result<Client, Failure> {
        if let Some(path) = &self.socket {
            return Ok(Client::connect(path)?);
        }
        let mut failure = None;
        for place in socket_candidates(self.id.as_deref(), self.user, |name| env::var_os(name)) {
            let mut answering = Vec::new();
            for path in place {
                match Client::connect(&path) {
                    Ok(client) => answering.push(client),
                    Err(err) => failure = failure.or(Some(err)),
                }
            }
            if answering.len() > 1 {
                let paths: Vec<_> = answering.iter().map(|client| format!("{:?}", client.path())).collect();
                return Err(Failure::Ambiguous(paths.join(", ")));
            }
            if let Some(client) = answering.pop() {
                return Ok(client);
            }
        }
        let nowhere = || ClientError::NotRunning {
            path: default_socket(self.user, |name| env::var_os(name)),
            source: io::ErrorKind::NotFound.into(),
        };
        Err(failure.unwrap_or_else(nowhere).into())
    }
}

fn compare_version(daemon: &str) {
    if daemon != VERSION {
        complain(&format!(
            "the daemon is version {daemon}, this is {VERSION}: after an upgrade, restart it with: systemctl restart synkler"
        ));
    }
}
