//! A private sshd for one test: a free loopback port, keys and known_hosts of its own, no PAM, no configuration
//! of the machine's. Runs as root and as an ordinary user, who logs in as himself. Ends with all its sessions
//! when dropped, and also when the test program is killed.
//!
//! To use it: `mod support { pub mod sshd; }` in the test program.

#![allow(dead_code, unreachable_pub, reason = "no test program uses all of it")]
#![allow(clippy::disallowed_methods, reason = "nothing tells when another program listens")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal};

/// The host part of every location that this sshd serves.
pub const HOST: &str = "127.0.0.1";

const READY_LIMIT: Duration = Duration::from_secs(20);

/// A running sshd.
pub struct Sshd {
    dir: tempfile::TempDir,
    port: u16,
    keeper: Child,
}

impl Sshd {
    /// Starts one and returns when it listens.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for key in ["host_key", "client_key"] {
            make_key(&dir.path().join(key));
        }
        fs::copy(dir.path().join("client_key.pub"), dir.path().join("authorized_keys")).unwrap();
        if rustix::process::geteuid().is_root() {
            // Where root's sshd locks its children up; not there unless the machine has started one itself.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        for _ in 0..20 {
            let port = free_port();
            write_config(dir.path(), port);
            if let Some(keeper) = start_listening(dir.path()) {
                let key = fs::read_to_string(dir.path().join("host_key.pub")).unwrap();
                fs::write(dir.path().join("known_hosts"), format!("[{HOST}]:{port} {key}")).unwrap();
                return Self { dir, port, keeper };
            }
        }
        panic!("sshd does not start: {}", fs::read_to_string(dir.path().join("log")).unwrap_or_default());
    }

    /// Starts it again on the same port, with the same keys, after [`Sshd::kill`].
    pub fn restart(&mut self) {
        let deadline = Instant::now() + READY_LIMIT;
        while Instant::now() < deadline {
            // Somebody's outgoing connection may have taken the port for a moment.
            if let Some(keeper) = start_listening(self.dir.path()) {
                self.keeper = keeper;
                return;
            }
        }
        panic!("sshd does not start again: {}", self.log());
    }

    /// Kills (SIGKILL) the listener, all sessions and what runs in them.
    pub fn kill(&mut self) {
        end(&mut self.keeper);
    }

    /// Kills (SIGKILL) the sessions only, as a broken connection would end them.
    pub fn kill_sessions(&self) {
        for pid in self.sessions() {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }

    /// The ssh command that reaches it without asking, for rsync's `--rsh` and for use by hand.
    pub fn ssh(&self) -> String {
        self.ssh_with(self.port, &self.path("client_key"), &self.path("known_hosts"))
    }

    /// The same with something wrong.
    pub fn ssh_with(&self, port: u16, key: &Path, known_hosts: &Path) -> String {
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap();
        let user = user.trim_end();
        format!(
            "ssh -F /dev/null -o User={user} -p {port} -i {} -o UserKnownHostsFile={} -o GlobalKnownHostsFile=/dev/null \
             -o IdentitiesOnly=yes -o IdentityAgent=none -o StrictHostKeyChecking=yes -o BatchMode=yes \
             -o ServerAliveInterval=15 -o ServerAliveCountMax=3 -o ConnectTimeout=20",
            key.display(),
            known_hosts.display()
        )
    }

    /// One of its files: `client_key`, `known_hosts`, `authorized_keys`, `host_key`, `log`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The port it listens on, at [`HOST`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The processes that run in its sessions under this name, such as `rsync`.
    pub fn running(&self, name: &str) -> Vec<Pid> {
        descendants(self.keeper.id()).into_iter().filter(|pid| comm(*pid).as_deref() == Some(name)).collect()
    }

    /// The sshd processes that serve sessions: all but the listener.
    fn sessions(&self) -> Vec<Pid> {
        let mut sshds = descendants(self.keeper.id());
        sshds.retain(|pid| comm(*pid).is_some_and(|name| name.starts_with("sshd")));
        let listener = sshds.first().copied();
        sshds.retain(|pid| Some(*pid) != listener);
        sshds
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A fresh ed25519 key pair without a passphrase at `path` and `path.pub`.
pub fn make_key(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(made.success());
}

/// A port on which nobody listens.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// All processes that descend from this one, parents before children.
pub fn descendants(ancestor: u32) -> Vec<Pid> {
    let parents: Vec<(i32, i32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![ancestor as i32];
    let mut seen = BTreeSet::from([ancestor as i32]);
    let mut next = 0;
    while let Some(&of) = found.get(next) {
        let mut children: Vec<i32> = parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid).collect();
        children.retain(|pid| seen.insert(*pid));
        children.sort_unstable();
        found.extend(children);
        next += 1;
    }
    found.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}

/// Whether a process still runs; one that is dead but not reaped does not.
pub fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A process's name.
pub fn comm(pid: Pid) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn write_config(dir: &Path, port: u16) {
    let config = dir.join("sshd_config");
    let show = dir.display();
    // SHLVL keeps bash from reading ~/.bashrc, which may take its time, and may leave locks behind when a session is
    // killed in it.
    let text = format!(
        "Port {port}\nListenAddress {HOST}\nHostKey {show}/host_key\nAuthorizedKeysFile {show}/authorized_keys\n\
         PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPrintMotd no\nPrintLastLog no\nUseDNS no\nMaxStartups 200\n\
         MaxSessions 200\nLogLevel VERBOSE\nSetEnv SHLVL=2\n"
    );
    // Newer ones shut a client out for a while whose session has crashed, and do not start without the key
    // being known otherwise.
    fs::write(&config, format!("{text}PerSourcePenalties no\n")).unwrap();
    let known = Command::new(program()).arg("-t").arg("-f").arg(&config).output().unwrap();
    if !known.status.success() {
        fs::write(&config, text).unwrap();
    }
}

/// sshd insists on being called by its full path.
fn program() -> PathBuf {
    let places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"];
    places.into_iter().map(PathBuf::from).find(|path| path.exists()).expect("sshd is installed")
}

/// A shell that runs sshd until its own standard input is closed: when this process is gone, sshd goes too.
fn start_keeper(dir: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new("/bin/sh")
        .args(["-c", "\"$@\" & read -r _; kill -9 $!", "sh"])
        .arg(program())
        .args(["-D", "-e", "-f"])
        .arg(dir.join("sshd_config"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Starts sshd and waits until it listens; `None` when it has ended instead, because the port was taken.
fn start_listening(dir: &Path) -> Option<Child> {
    let log = dir.join("log");
    let before = fs::metadata(&log).map_or(0, |meta| meta.len() as usize);
    let mut keeper = start_keeper(dir);
    let deadline = Instant::now() + READY_LIMIT;
    while Instant::now() < deadline {
        let said = fs::read(&log).unwrap();
        let said = String::from_utf8_lossy(&said[before..]);
        if said.contains("Server listening on") {
            return Some(keeper);
        }
        if said.contains("Cannot bind") || said.contains("fatal") {
            break;
        }
        // The log is a file, which nobody can wait for.
        thread::sleep(Duration::from_millis(10));
    }
    end(&mut keeper);
    None
}

fn end(keeper: &mut Child) {
    let mut all = descendants(keeper.id());
    all.extend(Pid::from_raw(keeper.id() as i32));
    for pid in all {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    let _ = keeper.wait();
}
