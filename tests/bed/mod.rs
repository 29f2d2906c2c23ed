//! The test bed: a private RabbitMQ, a private sshd and real daemons on loopback, in a temporary directory. The demo
//! and the bench stand on it too.

#![allow(dead_code, reason = "each program uses its part")]

pub mod counted;
pub mod node;
pub mod tree;

#[path = "../support/rabbit.rs"]
pub mod rabbit;
#[path = "../support/sshd.rs"]
pub mod sshd;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use node::Node;
use rabbit::Rabbit;
use sshd::Sshd;

pub struct Bed {
    // Dropped in this order: the directory last.
    pub sshd: Sshd,
    pub rabbit: Arc<Mutex<Rabbit>>,
    port: u16,
    vhost: String,
    pub dir: tempfile::TempDir,
}

impl Bed {
    /// With the broker that all tests of this program share.
    pub fn new() -> Self {
        static SHARED: OnceLock<Arc<Mutex<Rabbit>>> = OnceLock::new();
        // It ends with the program: its keeper sees the end of its standard input.
        Self::with(Arc::clone(SHARED.get_or_init(|| Arc::new(Mutex::new(Rabbit::start())))))
    }

    /// With a broker of its own, to be killed.
    pub fn alone() -> Self {
        Self::with(Arc::new(Mutex::new(Rabbit::start())))
    }

    fn with(rabbit: Arc<Mutex<Rabbit>>) -> Self {
        let (port, vhost) = {
            let rabbit = rabbit.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            (rabbit.port(), rabbit.vhost())
        };
        let dir = tempfile::Builder::new().prefix("synkler-").tempdir().unwrap();
        Self { sshd: Sshd::start(), rabbit, port, vhost, dir }
    }

    pub fn upload(&self, name: &str, settings: &str) -> Node {
        self.node("upload", name, &format!("{}{settings}", self.rsync_opts()))
    }

    pub fn central(&self, name: &str, settings: &str) -> Node {
        self.node("central", name, &format!("central_host = \"{}\"\n{settings}", sshd::HOST))
    }

    pub fn download(&self, name: &str, settings: &str) -> Node {
        self.node("download", name, &format!("{}{settings}", self.rsync_opts()))
    }

    /// A node with just these settings beside those of the bed itself.
    pub fn node(&self, mode: &'static str, name: &str, settings: &str) -> Node {
        let broker = format!(
            "synkler_server = \"127.0.0.1\"\nport = {}\nvhost = \"{}\"\nusername = \"{}\"\npassword = \"{}\"\n",
            self.port,
            self.vhost,
            Rabbit::USER,
            Rabbit::PASSWORD
        );
        Node::new(&binaries(), self.dir.path(), mode, name, &format!("{broker}{settings}"))
    }

    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// For a peer that a test plays itself.
    pub fn broker_settings(&self, me: synkler::machine::Node) -> synkler::drivers::broker::BrokerSettings {
        synkler::drivers::broker::BrokerSettings {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            vhost: self.vhost.clone(),
            username: Rabbit::USER.to_owned(),
            password: Some(Rabbit::PASSWORD.to_owned()),
            tls: None,
            group: "default".parse().unwrap(),
            me,
        }
    }

    pub fn rsync_opts(&self) -> String {
        format!("rsync_opts = [\"--rsh={}\"]\n", self.sshd.ssh())
    }

    /// The same, with a limit to the speed as rsync's `--bwlimit` takes it.
    pub fn rsync_opts_at(&self, limit: &str) -> String {
        self.rsync_opts().replace("[\"", &format!("[\"--bwlimit={limit}\", \""))
    }

    /// A program, beside the nodes'.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        script(&self.dir.path().join(name), text)
    }

    /// A directory beside the nodes', for scripts and what they move.
    pub fn side(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}

/// A node whose broker is not there, below `dir`.
pub fn offline(dir: &Path, mode: &'static str, settings: &str) -> Node {
    let port = sshd::free_port();
    let broker = format!("synkler_server = \"127.0.0.1\"\nport = {port}\n");
    Node::new(&binaries(), dir, mode, "alone", &format!("{broker}{settings}"))
}

/// Writes a shell script.
pub fn script(path: &Path, text: &str) -> PathBuf {
    // By another process: this one may be starting daemons meanwhile, and a file that one of them has inherited
    // open for writing cannot be executed.
    let write = "cat >\"$0\" && chmod 755 \"$0\"";
    let mut shell = Command::new("sh").args(["-c", write]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
    path.to_owned()
}

/// The words that start a program without root's right to read and write everything; none for an ordinary user,
/// who does not have it.
pub fn powerless() -> Vec<String> {
    let drop_it =
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"];
    let words: &[&str] = if rustix::process::geteuid().is_root() { &drop_it } else { &[] };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The words that start a program with something mounted that only it sees; `mount` is what stands after `mount`.
pub fn with_mount(mount: &str) -> Vec<String> {
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let shell = format!("mount {mount} && exec \"$@\"");
    ["unshare", flags, "sh", "-c", &shell, "sh"].map(str::to_owned).to_vec()
}

/// Where the daemons under test were built: beside this program's own directory.
pub fn binaries() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let built = |dir: &&Path| dir.join("synkler").is_file() && dir.join("synklerctl").is_file();
    program.ancestors().find(built).expect("`make` has built the daemons").to_owned()
}
