//! The client: blocking, one call at a time, without a runtime. It trusts the daemon as little as possible: replies are
//! limited in size and time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::protocol::{Call, INTERFACE, REPLY_LIMIT, Refusal, Reply, SERVICE, encode};
use super::socket;
use super::types::{
    Check, Explain, Explanation, Filter, Finding, GetHistory, GetReceipt, GetStatus, GetTransfer, Info, List, Monitor,
    Orders, PastFilter, Reload, SetLogLevel, Shown, Status,
};
use crate::machine::encode_bytes;

/// The time limit of one call.
const CALL_WAIT: Duration = Duration::from_secs(10);
/// The time limit of a check.
const CHECK_WAIT: Duration = Duration::from_secs(120);
/// The time limit between two replies of a monitor stream: the daemon sends one every 20 seconds.
const MONITOR_WAIT: Duration = Duration::from_secs(45);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or no daemon listens on it.
    #[error("no daemon answers at {path:?}")]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// This user may not open the socket.
    #[error("no permission for the control socket {path:?}: use sudo, or join the group that owns it")]
    Forbidden {
        /// The socket.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The daemon accepts no connection.
    #[error("the daemon at {path:?} accepts no connection")]
    Stuck {
        /// The socket.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The daemon refused the call.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The daemon ended, or was too slow, before its answer was complete.
    #[error("the answer of the daemon at {path:?} is incomplete")]
    Incomplete {
        /// The socket.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The answer does not match the interface.
    #[error("the answer of the daemon at {path:?} is invalid")]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the answer.
        source: serde_json::Error,
    },
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    /// Bytes that were read after the last reply.
    ahead: Vec<u8>,
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
        Ok(Self { stream, path: path.to_owned(), ahead: Vec::new() })
    }

    /// The socket to which it is connected.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The daemon's own description.
    pub fn info(&mut self) -> Result<Info, ClientError> {
        self.ask(SERVICE, "GetInfo", json!({}), CALL_WAIT)
    }

    /// The group and at most `limit` of its unfinished transfers; without a limit, the daemon decides. `here` requests
    /// the view of this node alone.
    pub fn status(&mut self, limit: Option<u64>, here: bool) -> Result<Status, ClientError> {
        self.status_of(Shown { limit, here, all: false })
    }

    /// The same, with delivered transfers if requested.
    pub fn status_of(&mut self, shown: Shown) -> Result<Status, ClientError> {
        let reply: GetStatus = self.call("GetStatus", shown)?;
        Ok(reply.status)
    }

    /// Unfinished transfers, oldest first.
    pub fn list(&mut self, filter: &Filter) -> Result<List, ClientError> {
        self.call("List", filter)
    }

    /// One transfer on all nodes, by its name, its id or a beginning of either.
    pub fn transfer(&mut self, item: &str, here: bool) -> Result<GetTransfer, ClientError> {
        self.call("GetTransfer", json!({ "item": item, "here": here }))
    }

    /// The status after each change, at most once a second, until the connection ends or the iterator is dropped. The
    /// first reply is full. The stream takes over the connection.
    pub fn monitor(mut self, shown: Shown) -> Result<Monitoring, ClientError> {
        self.send(INTERFACE, "Monitor", shown, true)?;
        Ok(Monitoring { client: self, over: false })
    }

    /// Pauses transfers on this node, for these items, or in the whole group; with `now`, running transfers stop too.
    pub fn pause(&mut self, items: Option<&[String]>, group: bool, now: bool) -> Result<Orders, ClientError> {
        self.call("Pause", json!({ "items": items, "group": group, "now": now }))
    }

    /// Ends such a pause.
    pub fn resume(&mut self, items: Option<&[String]>, group: bool) -> Result<Orders, ClientError> {
        self.call("Resume", json!({ "items": items, "group": group }))
    }

    /// An order about unfinished items, by the name of its method.
    pub fn order(&mut self, method: &str, items: &[String]) -> Result<Orders, ClientError> {
        self.call(method, json!({ "items": items }))
    }

    /// Finished transfers, the latest first.
    pub fn history(&mut self, filter: &PastFilter) -> Result<GetHistory, ClientError> {
        self.call("GetHistory", filter)
    }

    /// The receipt of a transfer, as input for `md5sum -c`.
    pub fn receipt(&mut self, item: &str) -> Result<GetReceipt, ClientError> {
        self.call("GetReceipt", json!({ "item": item }))
    }

    /// What the node makes of a path, absolute or below `file_dir`.
    pub fn explain(&mut self, path: &Path) -> Result<Explanation, ClientError> {
        let path = encode_bytes(path.as_os_str().as_encoded_bytes());
        let reply: Explain = self.call("Explain", json!({ "path": path }))?;
        Ok(reply.explanation)
    }

    /// Submits the items at these paths, absolute or below `file_dir`, at most [`ITEMS_LIMIT`](super::ITEMS_LIMIT).
    /// Without a path, says whether the node accepts any.
    pub fn submit(&mut self, paths: &[PathBuf]) -> Result<Orders, ClientError> {
        let path = |path: &PathBuf| encode_bytes(path.as_os_str().as_encoded_bytes());
        self.call("Submit", json!({ "paths": paths.iter().map(path).collect::<Vec<_>>() }))
    }

    /// Accepts the directory that is at `file_dir` now as the directory of this node.
    pub fn adopt(&mut self) -> Result<Orders, ClientError> {
        self.call("Adopt", json!({}))
    }

    /// Removes a node that will not come back from the group. `mode` is `upload`, `central` or `download`.
    pub fn forget_node(&mut self, mode: &str, name: &str) -> Result<Orders, ClientError> {
        self.call("ForgetNode", json!({ "mode": mode, "name": name }))
    }

    /// Sets the log level and returns the previous one.
    pub fn set_log_level(&mut self, level: &str) -> Result<String, ClientError> {
        let reply: SetLogLevel = self.call("SetLogLevel", json!({ "level": level }))?;
        Ok(reply.previous)
    }

    /// Makes the daemon read its config again.
    pub fn reload(&mut self) -> Result<Reload, ClientError> {
        self.call("Reload", json!({}))
    }

    /// Checks the node from end to end; takes up to half a minute, and longer only if the daemon hangs.
    pub fn check(&mut self) -> Result<Vec<Finding>, ClientError> {
        let reply: Check = self.ask(INTERFACE, "Check", json!({}), CHECK_WAIT)?;
        Ok(reply.findings)
    }

    fn call<R: DeserializeOwned>(&mut self, method: &str, parameters: impl Serialize) -> Result<R, ClientError> {
        self.ask(INTERFACE, method, parameters, CALL_WAIT)
    }

    fn ask<R: DeserializeOwned>(
        &mut self,
        interface: &str,
        method: &str,
        parameters: impl Serialize,
        wait: Duration,
    ) -> Result<R, ClientError> {
        let until = Instant::now() + wait;
        self.send(interface, method, parameters, false)?;
        self.answer(until).map(|(reply, _)| reply)
    }

    fn send(
        &mut self,
        interface: &str,
        method: &str,
        parameters: impl Serialize,
        more: bool,
    ) -> Result<(), ClientError> {
        let parameters = match serde_json::to_value(parameters) {
            Ok(Value::Object(mut parameters)) => {
                // Parameters without a value are left out, so that a daemon that knows fewer parameters understands the
                // others.
                parameters.retain(|_, value| !value.is_null() && *value != Value::Bool(false));
                parameters
            }
            Ok(_) => serde_json::Map::new(),
            Err(source) => return Err(self.garbled(source)),
        };
        let call = Call {
            method: format!("{interface}.{method}"),
            parameters: Some(parameters),
            more: more.then_some(true),
            oneway: None,
            upgrade: None,
        };
        let request = encode(&call).map_err(|source| self.garbled(source))?;
        let sent = self.stream.set_write_timeout(Some(CALL_WAIT)).and_then(|()| self.stream.write_all(&request));
        match sent {
            // A daemon that refuses a connection sends the reason before it closes: so the reply is read nevertheless.
            Err(err) if matches!(err.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            sent => sent.map_err(|err| self.incomplete(err)),
        }
    }

    /// The next reply, and whether more follow.
    fn answer<R: DeserializeOwned>(&mut self, until: Instant) -> Result<(R, bool), ClientError> {
        let reply = self.reply(until).map_err(|err| self.incomplete(err))?;
        let reply: Reply = serde_json::from_slice(&reply).map_err(|source| self.garbled(source))?;
        let continues = reply.continues();
        let parameters = serde_json::from_value(reply.into_result()?).map_err(|source| self.garbled(source))?;
        Ok((parameters, continues))
    }

    fn reply(&mut self, until: Instant) -> io::Result<Vec<u8>> {
        let mut chunk = vec![0; 64 * 1024];
        let mut searched = 0;
        loop {
            let fresh = self.ahead.get(searched..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|byte| *byte == 0) {
                let mut reply: Vec<_> = self.ahead.drain(..=searched + end).collect();
                reply.pop();
                return Ok(reply);
            }
            searched = self.ahead.len();
            if searched > REPLY_LIMIT {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it has no end"));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.ahead.extend_from_slice(chunk.get(..read).unwrap_or_default()),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
                Err(err) => return Err(err),
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

/// A monitor stream: each reply as it comes, blocking; it ends after the first error.
#[derive(Debug)]
pub struct Monitoring {
    client: Client,
    over: bool,
}

impl Monitoring {
    /// The stream of the connection, to wait for it together with other events: it is readable when a reply, or a part
    /// of one, comes.
    pub fn stream(&self) -> &UnixStream {
        &self.client.stream
    }

    /// Whether a whole reply has been read already, so that the next one needs no waiting.
    pub fn is_ready(&self) -> bool {
        self.client.ahead.contains(&0)
    }
}

impl Iterator for Monitoring {
    type Item = Result<Monitor, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let answer = self.client.answer(Instant::now() + MONITOR_WAIT);
        self.over = !matches!(answer, Ok((_, true)));
        Some(answer.map(|(reply, _)| reply))
    }
}
