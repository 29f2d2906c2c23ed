//! One client's connection: its requests, its replies, and how long each may take.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{AnyDelimiterCodec, Decoder};

use super::protocol::{REQUEST_LIMIT, Refusal, encode_refusal};

/// The limits of the server. The defaults are those in the interface file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Clients at once; the next one gets an error and is closed.
    pub clients: usize,
    /// From the first byte of a request to its last byte.
    pub request_wait: Duration,
    /// Between two requests.
    pub idle_wait: Duration,
    /// Until the client has read a reply.
    pub reply_wait: Duration,
    /// Until the daemon's loop answers a query.
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

/// Why the server ended a connection.
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

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    codec: AnyDelimiterCodec,
    buffer: BytesMut,
    limits: Limits,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, limits: Limits) -> Self {
        Self {
            stream,
            codec: AnyDelimiterCodec::new_with_max_length(b"\0".to_vec(), b"\0".to_vec(), REQUEST_LIMIT),
            buffer: BytesMut::new(),
            limits,
        }
    }

    /// The next request; `None` when the client has closed.
    pub(super) async fn request(&mut self) -> Result<Option<Bytes>, Dropped> {
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

    /// Waits until the client has closed. Requests that arrive in the meantime are kept and answered later.
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

    /// Sends the reason, and ends the connection.
    pub(super) async fn refuse(&mut self, refusal: Refusal) -> Result<(), Dropped> {
        self.send(&encode_refusal(&refusal)?).await?;
        Err(Dropped::Refused(refusal))
    }
}
