//! The server: one task per connection, so that a stuck client blocks no other; every wait and size is limited.
//! [`Service`] makes the answers.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::caller::{Authority, PeerGroups};
use super::connection::{Connection, Dropped};
use super::parameters::Parameters;
use super::protocol::{Call, INTERFACE, Refusal, encode_refusal, encode_reply};
use super::service::{Caller, Service};
use super::socket::{self, ControlError, Entry};

/// The bound control socket. Dropping it, or the future of [`Control::serve`], ends every connection. It also removes
/// the socket if this daemon created it and it is still there.
#[derive(Debug)]
pub struct Control {
    listener: std::os::unix::net::UnixListener,
    entry: Option<Entry>,
    path: PathBuf,
    authority: Authority,
}

impl Control {
    /// Binds the socket with mode 0660, in a directory that is created with mode 0750 if it is missing. The socket
    /// belongs to the group `synkler` if that group exists and this process may give the socket to it. A stale socket
    /// is replaced, a live one never. Blocks for at most a few seconds; needs no runtime.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn bind(path: &Path, peer_groups: PeerGroups) -> Result<Self, ControlError> {
        let (listener, entry) = socket::bind(path)?;
        let gid = entry.gid();
        Ok(Self { listener, entry: Some(entry), path: path.to_owned(), authority: authority(gid, peer_groups) })
    }

    /// Takes over a socket on which the service manager already listens; the socket stays when this is dropped.
    ///
    /// # Errors
    /// `Passed` if the socket has no path in the file system, or cannot be used.
    pub fn passed(listener: std::os::unix::net::UnixListener, peer_groups: PeerGroups) -> Result<Self, ControlError> {
        let address = listener.local_addr().map_err(ControlError::Passed)?;
        let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable.into()).map_err(ControlError::Passed)?;
        let gid = std::fs::metadata(path).map_err(ControlError::Passed)?.gid();
        listener.set_nonblocking(true).map_err(ControlError::Passed)?;
        let path = path.to_owned();
        Ok(Self { listener, entry: None, path, authority: authority(gid, peer_groups) })
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until it is dropped, in a tokio runtime; returns early only if the socket cannot be used at all.
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
                    // Probably no file descriptor is free; the waiting client stays in the queue.
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

/// The socket's buffer is empty, so these few bytes are sent at once or, if the client has closed, not at all.
fn turn_away(stream: &UnixStream, clients: usize) {
    tracing::debug!("refused a control client: {clients} are already connected");
    if let Ok(reply) = encode_refusal(&Refusal::TooManyClients(clients as u64)) {
        let _ = stream.try_write(&reply);
    }
}

async fn attend(service: Service, stream: UnixStream, authority: Authority) {
    let mut connection = Connection::new(stream, service.limits);
    if let Err(dropped) = converse(&service, &mut connection, authority).await {
        tracing::debug!("disconnected a control client: {dropped}");
    }
}

async fn converse(service: &Service, connection: &mut Connection, authority: Authority) -> Result<(), Dropped> {
    while let Some(request) = connection.request().await? {
        // After bytes that are not a call, the beginning of the next call is unknown.
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
