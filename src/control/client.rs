//! The client: blocking, one call at a time, without a runtime. It trusts the daemon no further than it must:
//! replies are bounded in size and time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::protocol::{Call, INTERFACE, REPLY_LIMIT, Refusal, Reply, SERVICE, encode};
use super::socket;
use super::types::{Info, Status, StatusReply};

/// How long one call may take in all.
const CALL_WAIT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or nobody listens.
    #[error("no daemon answers at {path:?}")]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// This user may not open the socket.
    #[error("the control socket {path:?} is closed to this user: use sudo, or join the group that owns it")]
    Forbidden {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The daemon takes no connection.
    #[error("the daemon at {path:?} takes no connection")]
    Stuck {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The daemon said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The daemon went away, or was too slow, before its answer was complete.
    #[error("the answer of the daemon at {path:?} is incomplete")]
    Incomplete {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// What came back is not what the interface says.
    #[error("the answer of the daemon at {path:?} cannot be understood")]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
}

impl Client {
    /// Connects, within two seconds.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = socket::connect(path).map_err(|source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning { path, source },
                io::ErrorKind::PermissionDenied => ClientError::Forbidden { path, source },
                _ => ClientError::Stuck { path, source },
            }
        })?;
        Ok(Self { stream, path: path.to_owned() })
    }

    /// Where it is connected to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who the daemon is.
    pub fn info(&mut self) -> Result<Info, ClientError> {
        self.call(SERVICE, "GetInfo", Map::new())
    }

    /// The node and at most `limit` of its transfers; the daemon decides how many when there is no limit.
    pub fn status(&mut self, limit: Option<u64>) -> Result<Status, ClientError> {
        let parameters = limit.map(|limit| ("limit".to_owned(), Value::from(limit))).into_iter().collect();
        let reply: StatusReply = self.call(INTERFACE, "GetStatus", parameters)?;
        Ok(reply.status)
    }

    fn call<R: DeserializeOwned>(
        &mut self,
        interface: &str,
        method: &str,
        parameters: Map<String, Value>,
    ) -> Result<R, ClientError> {
        let call = Call {
            method: format!("{interface}.{method}"),
            parameters: Some(parameters),
            more: None,
            oneway: None,
            upgrade: None,
        };
        let request = encode(&call).map_err(|source| self.garbled(source))?;
        let until = Instant::now() + CALL_WAIT;
        let sent = self.stream.set_write_timeout(Some(CALL_WAIT)).and_then(|()| self.stream.write_all(&request));
        // A daemon that has turned us away has said why before it closed: the reply is read all the same.
        let reply = self.reply(until).map_err(|err| self.incomplete(sent.err().unwrap_or(err)))?;
        let reply: Reply = serde_json::from_slice(&reply).map_err(|source| self.garbled(source))?;
        serde_json::from_value(reply.into_result()?).map_err(|source| self.garbled(source))
    }

    fn reply(&mut self, until: Instant) -> io::Result<Vec<u8>> {
        let mut reply = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let read = match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => chunk.get(..read).unwrap_or_default(),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
                Err(err) => return Err(err),
            };
            // One call is under way at a time, so nothing can follow the NUL.
            let end = read.iter().position(|byte| *byte == 0);
            reply.extend_from_slice(read.get(..end.unwrap_or(read.len())).unwrap_or_default());
            if end.is_some() {
                return Ok(reply);
            }
            if reply.len() > REPLY_LIMIT {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it has no end"));
            }
        }
    }

    fn incomplete(&self, source: io::Error) -> ClientError {
        ClientError::Incomplete { path: self.path.clone(), source }
    }

    fn garbled(&self, source: serde_json::Error) -> ClientError {
        ClientError::Garbled { path: self.path.clone(), source }
    }
}
