//! The server: one task a connection, so that a stuck client holds up nobody; every wait and size is limited.
//! What there is to tell comes from the daemon's loop, which answers [`Query`]s.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{AnyDelimiterCodec, Decoder};

use super::protocol::{
    Call, DESCRIPTION, INTERFACE, REQUEST_LIMIT, Refusal, SERVICE, SERVICE_DESCRIPTION, STATUS_DEFAULT, STATUS_LIMIT,
    encode_refusal, encode_reply,
};
use super::socket::{self, ControlError, Entry};
use super::types::{GetStatus, Info, Status};
use crate::machine::{GroupId, Snapshot};

/// What the server asks the daemon's loop. Dropping `reply` unanswered counts as busy.
#[derive(Debug)]
pub enum Query {
    /// What the machine shows now.
    Status {
        /// The most transfers to list.
        limit: usize,
        /// Where the answer goes.
        reply: oneshot::Sender<Snapshot>,
    },
}

/// How much the server bears. The defaults are what the interface file promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Clients at once; the next one is told so and turned away.
    pub clients: usize,
    /// From the first byte of a request to its last.
    pub request_wait: Duration,
    /// Between two requests.
    pub idle_wait: Duration,
    /// For a reply to be taken.
    pub reply_wait: Duration,
    /// For the daemon's loop to answer a query.
    pub answer_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 64,
            request_wait: Duration::from_secs(30),
            idle_wait: Duration::from_secs(600),
            reply_wait: Duration::from_secs(5),
            answer_wait: Duration::from_secs(2),
        }
    }
}

/// The control socket, bound. Dropping it, or the future of [`Control::serve`], ends every connection and removes
/// the socket if it still is this one.
#[derive(Debug)]
pub struct Control {
    listener: std::os::unix::net::UnixListener,
    entry: Entry,
    limits: Limits,
}

impl Control {
    /// Binds the socket with mode 0660, in a directory that is made with mode 0750 where it is missing. A stale
    /// socket is replaced, a live one never. Blocks for at most a few seconds; needs no runtime.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let (listener, entry) = socket::bind(path)?;
        Ok(Self { listener, entry, limits: Limits::default() })
    }

    /// The same with other limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves until it is dropped, in a tokio runtime; returns early only when the socket cannot be used at all.
    pub async fn serve(self, group: GroupId, queries: mpsc::Sender<Query>) -> Result<(), ControlError> {
        let Self { listener, entry, limits } = self;
        let listener = UnixListener::from_std(listener)
            .map_err(|source| ControlError::Socket { path: entry.path().to_owned(), source })?;
        let service = Service { group, queries, limits };
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        while clients.try_join_next().is_some() {}
                        if clients.len() < limits.clients {
                            clients.spawn(service.clone().attend(stream));
                        } else {
                            turn_away(&stream, limits.clients);
                        }
                    }
                    // Out of file descriptors, most likely; the waiting client stays in the queue.
                    Err(err) => {
                        tracing::warn!("the control socket cannot take a client now: {err}");
                        sleep(Duration::from_secs(1)).await;
                    }
                },
                Some(_) = clients.join_next() => {}
            }
        }
    }
}

/// The socket's buffer is empty, so the few bytes go out at once or, with a client that has left, not at all.
fn turn_away(stream: &UnixStream, clients: usize) {
    tracing::debug!("a control client was turned away: {clients} are connected");
    if let Ok(reply) = encode_refusal(&Refusal::TooManyClients(clients as u64)) {
        let _ = stream.try_write(&reply);
    }
}

/// Why a connection ended before its client closed it.
#[derive(Debug, thiserror::Error)]
enum Dropped {
    #[error("it began a request and did not finish it")]
    HalfSent,
    #[error("it asked for nothing for a long time")]
    Idle,
    #[error("it did not take its reply")]
    SlowReader,
    #[error("it was refused: {0}")]
    Refused(Refusal),
    #[error("it broke off: {0}")]
    Io(#[from] io::Error),
    #[error("a reply could not be written: {0}")]
    Encode(#[from] serde_json::Error),
}

/// What one call gives back.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Info(Info),
    Description { description: &'static str },
    Status(Box<GetStatus>),
}

#[derive(Debug, Clone)]
struct Service {
    group: GroupId,
    queries: mpsc::Sender<Query>,
    limits: Limits,
}

impl Service {
    async fn attend(self, stream: UnixStream) {
        let mut connection = Connection {
            stream,
            codec: AnyDelimiterCodec::new_with_max_length(b"\0".to_vec(), b"\0".to_vec(), REQUEST_LIMIT),
            buffer: BytesMut::new(),
            limits: self.limits,
        };
        if let Err(dropped) = self.converse(&mut connection).await {
            tracing::debug!("a control client was dropped: {dropped}");
        }
    }

    async fn converse(&self, connection: &mut Connection) -> Result<(), Dropped> {
        while let Some(request) = connection.request().await? {
            // After bytes that are no call, nothing tells where the next call begins.
            let call = match Call::decode(&request) {
                Ok(call) => call,
                Err(refusal) => return connection.refuse(refusal).await,
            };
            let answer = self.answer(&call).await;
            if call.oneway == Some(true) {
                continue;
            }
            let reply = match &answer {
                Ok(answer) => encode_reply(answer)?,
                Err(refusal) => encode_refusal(refusal)?,
            };
            connection.send(&reply).await?;
        }
        Ok(())
    }

    async fn answer(&self, call: &Call) -> Result<Answer, Refusal> {
        if call.upgrade == Some(true) {
            return Err(Refusal::InvalidParameter("upgrade".to_owned()));
        }
        let mut parameters = Parameters(call.parameters.clone().unwrap_or_default());
        match call.target() {
            (SERVICE, "GetInfo") => {
                parameters.end()?;
                Ok(Answer::Info(info()))
            }
            (SERVICE, "GetInterfaceDescription") => {
                let interface = parameters.text("interface")?;
                parameters.end()?;
                match interface.as_str() {
                    INTERFACE => Ok(Answer::Description { description: DESCRIPTION }),
                    SERVICE => Ok(Answer::Description { description: SERVICE_DESCRIPTION }),
                    _ => Err(Refusal::InterfaceNotFound(interface)),
                }
            }
            (INTERFACE, "GetStatus") => {
                let limit = parameters.count("limit", STATUS_LIMIT)?.unwrap_or(STATUS_DEFAULT);
                parameters.flag("here")?;
                parameters.end()?;
                self.status(limit).await
            }
            (SERVICE | INTERFACE, _) => Err(Refusal::MethodNotFound(call.method.clone())),
            (interface, _) => Err(Refusal::InterfaceNotFound(interface.to_owned())),
        }
    }

    async fn status(&self, limit: u64) -> Result<Answer, Refusal> {
        let (reply, answer) = oneshot::channel();
        let query = Query::Status { limit: usize::try_from(limit).unwrap_or(usize::MAX), reply };
        let asked = async {
            self.queries.send(query).await.ok()?;
            answer.await.ok()
        };
        let Ok(Some(snapshot)) = timeout(self.limits.answer_wait, asked).await else {
            return Err(Refusal::Busy);
        };
        #[expect(clippy::disallowed_methods, reason = "the client's own clock may differ: it shows ages by ours")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let status = Status::new(&snapshot, &self.group, u64::try_from(now).unwrap_or(u64::MAX));
        Ok(Answer::Status(Box::new(GetStatus { status })))
    }
}

fn info() -> Info {
    Info {
        vendor: "synkler".to_owned(),
        product: "synkler".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        url: env!("CARGO_PKG_REPOSITORY").to_owned(),
        interfaces: vec![SERVICE.to_owned(), INTERFACE.to_owned()],
    }
}

/// A call's parameters, taken out one by one; null counts as missing.
struct Parameters(Map<String, Value>);

impl Parameters {
    fn text(&mut self, name: &str) -> Result<String, Refusal> {
        match self.0.remove(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(Refusal::InvalidParameter(name.to_owned())),
        }
    }

    fn count(&mut self, name: &str, limit: u64) -> Result<Option<u64>, Refusal> {
        let value = match self.0.remove(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value,
        };
        match value.as_u64() {
            Some(count) if count <= limit => Ok(Some(count)),
            _ => Err(Refusal::InvalidParameter(name.to_owned())),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(Refusal::InvalidParameter(name.to_owned())),
        }
    }

    /// Whatever is left is not known here.
    fn end(self) -> Result<(), Refusal> {
        match self.0.into_iter().next() {
            Some((name, _)) => Err(Refusal::InvalidParameter(name)),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    codec: AnyDelimiterCodec,
    buffer: BytesMut,
    limits: Limits,
}

impl Connection {
    /// The next request, or nothing once the client has closed.
    async fn request(&mut self) -> Result<Option<Bytes>, Dropped> {
        let mut deadline = Instant::now() + self.limits.idle_wait;
        let mut begun = false;
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(request)) => return Ok(Some(request)),
                Ok(None) => {}
                Err(_) => return self.refuse(Refusal::RequestTooLarge(REQUEST_LIMIT as u64)).await.map(|()| None),
            }
            if !begun && !self.buffer.is_empty() {
                begun = true;
                deadline = Instant::now() + self.limits.request_wait;
            }
            match timeout_at(deadline, self.stream.read_buf(&mut self.buffer)).await {
                Ok(Ok(0)) => return Ok(None),
                Ok(read) => read?,
                Err(_) if begun => return Err(Dropped::HalfSent),
                Err(_) => return Err(Dropped::Idle),
            };
        }
    }

    async fn send(&mut self, reply: &[u8]) -> Result<(), Dropped> {
        Ok(timeout(self.limits.reply_wait, self.stream.write_all(reply)).await.map_err(|_| Dropped::SlowReader)??)
    }

    /// Says why, and ends the connection.
    async fn refuse(&mut self, refusal: Refusal) -> Result<(), Dropped> {
        self.send(&encode_refusal(&refusal)?).await?;
        Err(Dropped::Refused(refusal))
    }
}
