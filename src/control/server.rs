//! The server: one task a connection, so that a stuck client holds up nobody; every wait and size is limited. What is
//! answered is for [`Service`] to say.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{AnyDelimiterCodec, Decoder};

use super::caller::{Authority, PeerGroups};
use super::parameters::Parameters;
use super::protocol::{Call, INTERFACE, REQUEST_LIMIT, Refusal, encode_refusal, encode_reply};
use super::service::{Caller, Service};
use super::socket::{self, ControlError, Entry};

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
/// the socket if it is one of our making and still there.
#[derive(Debug)]
pub struct Control {
    listener: std::os::unix::net::UnixListener,
    entry: Option<Entry>,
    path: PathBuf,
    authority: Authority,
}

impl Control {
    /// Binds the socket with mode 0660, in a directory that is made with mode 0750 where it is missing. It belongs to
    /// the group `synkler` where there is one that we may give it to. A stale socket is replaced, a live one never.
    /// Blocks for at most a few seconds; needs no runtime.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn bind(path: &Path, peer_groups: PeerGroups) -> Result<Self, ControlError> {
        let (listener, entry) = socket::bind(path)?;
        let gid = entry.gid();
        Ok(Self { listener, entry: Some(entry), path: path.to_owned(), authority: authority(gid, peer_groups) })
    }

    /// Takes a socket that the service manager has set up and listens on; it stays when this is dropped.
    ///
    /// # Errors
    /// `Passed` when it has no place in the file system, or cannot be used.
    pub fn passed(listener: std::os::unix::net::UnixListener, peer_groups: PeerGroups) -> Result<Self, ControlError> {
        let address = listener.local_addr().map_err(ControlError::Passed)?;
        let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable.into()).map_err(ControlError::Passed)?;
        let gid = std::fs::metadata(path).map_err(ControlError::Passed)?.gid();
        listener.set_nonblocking(true).map_err(ControlError::Passed)?;
        let path = path.to_owned();
        Ok(Self { listener, entry: None, path, authority: authority(gid, peer_groups) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until it is dropped, in a tokio runtime; returns early only when the socket cannot be used at all.
    ///
    /// # Errors
    /// `Socket`.
    pub async fn serve(self, service: Service) -> Result<(), ControlError> {
        let Self { listener, entry: _entry, path, authority } = self;
        let limits = service.limits;
        let listener = UnixListener::from_std(listener).map_err(|source| ControlError::Socket { path, source })?;
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        while clients.try_join_next().is_some() {}
                        if clients.len() < limits.clients {
                            clients.spawn(attend(service.clone(), stream, authority));
                        } else {
                            turn_away(&stream, limits.clients);
                        }
                    }
                    // Out of file descriptors, most likely; the waiting client stays in the queue.
                    Err(err) => {
                        tracing::warn!("cannot accept a client on the control socket: {err}");
                        sleep(Duration::from_secs(1)).await;
                    }
                },
                Some(_) = clients.join_next() => {}
            }
        }
    }
}

fn authority(gid: u32, peer_groups: PeerGroups) -> Authority {
    Authority { uid: rustix::process::geteuid().as_raw(), gid, peer_groups }
}

/// The socket's buffer is empty, so the few bytes go out at once or, with a client that has left, not at all.
fn turn_away(stream: &UnixStream, clients: usize) {
    tracing::debug!("refused a control client: {clients} are already connected");
    if let Ok(reply) = encode_refusal(&Refusal::TooManyClients(clients as u64)) {
        let _ = stream.try_write(&reply);
    }
}

/// Why a connection ended before its client closed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Dropped {
    #[error("its request was incomplete")]
    HalfSent,
    #[error("it was idle for too long")]
    Idle,
    #[error("it sent more data than allowed before its reply")]
    Flood,
    #[error("it did not read its reply")]
    SlowReader,
    #[error("it was refused: {0}")]
    Refused(Refusal),
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("cannot write a reply: {0}")]
    Encode(#[from] serde_json::Error),
}

async fn attend(service: Service, stream: UnixStream, authority: Authority) {
    let mut connection = Connection {
        stream,
        codec: AnyDelimiterCodec::new_with_max_length(b"\0".to_vec(), b"\0".to_vec(), REQUEST_LIMIT),
        buffer: BytesMut::new(),
        limits: service.limits,
    };
    if let Err(dropped) = converse(&service, &mut connection, authority).await {
        tracing::debug!("disconnected a control client: {dropped}");
    }
}

async fn converse(service: &Service, connection: &mut Connection, authority: Authority) -> Result<(), Dropped> {
    while let Some(request) = connection.request().await? {
        // After bytes that are no call, nothing tells where the next call begins.
        let call = match Call::decode(&request) {
            Ok(call) => call,
            Err(refusal) => return connection.refuse(refusal).await,
        };
        let silent = call.oneway == Some(true);
        if call.target() == (INTERFACE, "Monitor") && call.more == Some(true) && !silent {
            service.monitor(Parameters::new(call.parameters.unwrap_or_default()), connection).await?;
            continue;
        }
        let answer = service.answer(&call, Caller::Client(&connection.stream, authority)).await;
        if silent {
            continue;
        }
        let reply = match &answer {
            Ok(answer) => encode_reply(answer, false)?,
            Err(refusal) => encode_refusal(refusal)?,
        };
        connection.send(&reply).await?;
    }
    Ok(())
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connection {
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

    pub(super) async fn send(&mut self, reply: &[u8]) -> Result<(), Dropped> {
        Ok(timeout(self.limits.reply_wait, self.stream.write_all(reply)).await.map_err(|_| Dropped::SlowReader)??)
    }

    /// Waits until the client has gone. What it sends in the meantime is kept, to be answered later.
    pub(super) async fn left(&mut self) -> Result<(), Dropped> {
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(());
            }
            if self.buffer.len() > REQUEST_LIMIT {
                return Err(Dropped::Flood);
            }
        }
    }

    /// Says why, and ends the connection.
    async fn refuse(&mut self, refusal: Refusal) -> Result<(), Dropped> {
        self.send(&encode_refusal(&refusal)?).await?;
        Err(Dropped::Refused(refusal))
    }
}
