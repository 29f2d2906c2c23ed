//! Notifications to the service manager. Without one (no `NOTIFY_SOCKET`) every call does nothing. A service manager
//! that cannot be reached, or does not read, is never an error: the daemon's work does not depend on it.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::time::Duration;

use sd_notify::NotifyState;

use super::sys;
use crate::machine::one_line;

/// How long a notification that is sent only once waits for a service manager that does not read.
const PATIENCE: Duration = Duration::from_millis(500);

/// Reports that the daemon is ready: config, journal and control socket.
pub fn ready() {
    tell(&[NotifyState::Ready], Some(PATIENCE));
}

/// Reports that the daemon has begun to read its config again; [`ready`] reports the end. This also fits
/// `Type=notify-reload`, which needs the time, so that it does not take an older READY for the answer.
pub fn reloading() {
    // Without the time, only a service manager that does not need it understands the rest.
    let moment = NotifyState::monotonic_usec_now().ok();
    let state: Vec<_> = [NotifyState::Reloading].into_iter().chain(moment).collect();
    tell(&state, Some(PATIENCE));
}

/// Reports what the daemon is doing, for `systemctl status`: one line, cut to
/// [`DETAIL_LIMIT`](crate::machine::DETAIL_LIMIT) bytes.
pub fn status(text: &str) {
    // A line break would let an item's name say READY=1.
    tell(&[NotifyState::Status(&one_line(text))], None);
}

/// Reports that the daemon is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping], Some(PATIENCE));
}

/// Reports that the loop is alive; must be called every [`watchdog_interval`].
pub fn alive() {
    tell(&[NotifyState::Watchdog], None);
}

/// The socket on which the service manager listens for us, if any; must be called once.
///
/// # Errors
/// If there is more than one socket, or if it is not a listening Unix stream socket.
pub fn passed_socket() -> io::Result<Option<UnixListener>> {
    let mut passed = sd_notify::listen_fds()?;
    match (passed.next(), passed.next()) {
        (None, _) => Ok(None),
        (Some(number), None) => sys::passed_listener(number).map(Some),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "there is more than one")),
    }
}

/// How often [`alive`] must be called: half of the service manager's limit. `None` if there is no limit.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()).map(|limit| limit / 2)
}

/// The variables to remove from a child's environment. The service manager addresses the daemon itself with them;
/// rsync, ssh or a cleanup script must not send notifications in its name.
pub fn child_environment() -> &'static [&'static str] {
    &["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"]
}

/// A notification that the service manager does not read in time is dropped: with `None` at once, because it is
/// repeated. The library's own call would wait.
fn tell(state: &[NotifyState<'_>], patience: Option<Duration>) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let text: String = state.iter().map(|state| format!("{state}\n")).collect();
    // This error cannot be reported: the journal depends on the same service manager.
    let _ = send(&name, text.as_bytes(), patience);
}

fn send(name: &OsStr, text: &[u8], patience: Option<Duration>) -> io::Result<usize> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    match patience {
        Some(_) => socket.set_write_timeout(patience)?,
        None => socket.set_nonblocking(true)?,
    }
    socket.send_to_addr(text, &address)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Stdio};

    use super::*;

    /// The environment belongs to the whole process, so this test runs itself once more in a child.
    #[test]
    fn the_service_manager_hears_it() {
        const CHILD: &str = "SYNKLER_TEST_SYSTEMD";
        const UNHEARD: &str = "SYNKLER_TEST_SYSTEMD_UNHEARD";
        if std::env::var_os(CHILD).is_some() {
            assert_eq!(watchdog_interval(), Some(Duration::from_secs(30)));
            if std::env::var_os(UNHEARD).is_some() {
                (0..10_000).for_each(|number| status(&format!("{number}")));
                return;
            }
            ready();
            status(&format!("sending a\nREADY=1\nb {}", "x".repeat(1000)));
            alive();
            reloading();
            ready();
            stopping();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let run = || {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "drivers::systemd::tests::the_service_manager_hears_it"]).env(CHILD, "1");
            child.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "60000000").env_remove("WATCHDOG_PID");
            child.stdout(Stdio::null()).status().unwrap().success()
        };
        assert!(run(), "a service manager that is not there is no error");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(run());
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        for _ in 0..6 {
            let length = socket.recv(&mut buffer).unwrap();
            heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        assert_eq!(heard[0], "READY=1\n");
        assert!(heard[1].starts_with("STATUS=sending a READY=1 b xxx"), "{}", heard[1]);
        assert!(heard[1].lines().count() == 1 && heard[1].len() < 350, "{}", heard[1]);
        assert_eq!(heard[2], "WATCHDOG=1\n");
        let moment = heard[3].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!(moment.parse::<u64>().unwrap() > 0, "{}", heard[3]);
        assert_eq!(heard[4], "READY=1\n");
        assert_eq!(heard[5], "STOPPING=1\n");
        // A service manager that reads nothing any more: its socket holds at most a few hundred notifications.
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "drivers::systemd::tests::the_service_manager_hears_it"]).env(CHILD, "1");
        child.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "60000000").env(UNHEARD, "1");
        assert!(child.env_remove("WATCHDOG_PID").stdout(Stdio::null()).status().unwrap().success());
    }
}
