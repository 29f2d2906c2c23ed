//! Who is at the other end of a connection, and what they may do. Root, the daemon's user, and members of the group
//! that owns the socket may make changes. The kernel reports the user at the time of the connection. So nothing depends
//! on a process id, which another process may have by now.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};

use tokio::net::UnixStream;

use super::protocol::Refusal;

/// The supplementary groups of the process at the other end of a socket, at the time of the connection.
pub type PeerGroups = fn(BorrowedFd<'_>) -> io::Result<Vec<u32>>;

/// How much of `/etc/passwd` or `/etc/group` is read.
const FILE_LIMIT: u64 = 16 << 20;

/// Who may make changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Authority {
    /// The user of the daemon.
    pub(super) uid: u32,
    /// The group that owns the socket.
    pub(super) gid: u32,
    pub(super) peer_groups: PeerGroups,
}

impl Authority {
    /// The user's name, if the user may make changes; reads `/etc/passwd`.
    pub(super) async fn of(self, stream: &UnixStream) -> Result<String, Refusal> {
        let caller = stream.peer_cred().map_err(|err| {
            tracing::warn!("cannot identify the client of a control connection: {err}");
            Refusal::PermissionDenied
        })?;
        let uid = caller.uid();
        let is_member = || {
            let groups = (self.peer_groups)(stream.as_fd()).unwrap_or_else(|err| {
                tracing::warn!("cannot read the groups of user {uid}, only the primary group counts: {err}");
                Vec::new()
            });
            caller.gid() == self.gid || groups.contains(&self.gid)
        };
        if uid != 0 && uid != self.uid && !is_member() {
            tracing::warn!("refused a change by user {uid}: not a member of group {}", self.gid);
            return Err(Refusal::PermissionDenied);
        }
        let name = tokio::task::spawn_blocking(move || name_of(uid)).await.ok().flatten();
        Ok(name.unwrap_or_else(|| format!("uid {uid}")))
    }
}

/// A user's name; `None` if `/etc/passwd` has no such user.
fn name_of(uid: u32) -> Option<String> {
    in_file("/etc/passwd", |name, number| (number.parse() == Ok(uid)).then(|| name.to_owned()))
}

/// A group's id; `None` if `/etc/group` has no such group.
pub(super) fn group_named(wanted: &str) -> Option<u32> {
    in_file("/etc/group", |name, number| number.parse().ok().filter(|_| name == wanted))
}

/// The first entry of a user or group file that `pick` accepts, by name and id.
fn in_file<T>(path: &str, pick: impl Fn(&str, &str) -> Option<T>) -> Option<T> {
    let file = BufReader::new(File::open(path).ok()?.take(FILE_LIMIT));
    file.split(b'\n').map_while(Result::ok).find_map(|line| {
        let line = String::from_utf8_lossy(&line);
        let mut fields = line.split(':');
        let name = fields.next()?;
        pick(name, fields.nth(1)?)
    })
}
