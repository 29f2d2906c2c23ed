//! One booted host: a systemd of its own in a container, its own network, its own disk laid over the base image.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::packages::sh;

/// How long a host may take to boot, or to do what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that gives no sign of its own.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub struct Host {
    pub name: &'static str,
    dir: PathBuf,
    namespace: String,
    nspawn: Option<Child>,
}

/// A command's end, with what it said.
pub struct Said {
    pub out: String,
    pub err: String,
    pub code: i32,
}

impl Host {
    /// Makes the host below `dir` over the base image and boots it in the network namespace.
    pub fn boot(name: &'static str, dir: &Path, base: &Path, namespace: &str) -> Self {
        let dir = dir.join(name);
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        let (lower, path) = (base.display(), dir.display());
        sh(&format!(
            "mount -t overlay overlay -o lowerdir={lower},upperdir={path}/upper,workdir={path}/work {path}/root"
        ));
        fs::write(dir.join("root/etc/hostname"), format!("{name}\n")).unwrap();
        let mut host = Self { name, dir, namespace: namespace.to_owned(), nspawn: None };
        host.start();
        host
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("console")).unwrap();
        let nspawn = Command::new("systemd-nspawn")
            .arg("-D")
            .arg(self.root())
            // It keeps Landlock from a container, unlike a kernel from a host.
            .arg("--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self")
            .args(["-b", "--register=no", "--keep-unit", "--console=pipe", "--link-journal=no"])
            .arg(format!("--hostname={}", self.name))
            .arg(format!("--network-namespace-path=/run/netns/{}", self.namespace))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("systemd-nspawn is installed: make test-hosts sees to it");
        self.nspawn = Some(nspawn);
        // It says so when every unit that the boot asks for is up, or has failed.
        self.until("booted", |host| {
            host.leader().is_some()
                && matches!(host.try_run("systemctl is-system-running").out.trim(), "running" | "degraded")
        });
    }

    /// The host's PID 1 as the outside knows it.
    fn leader(&self) -> Option<u32> {
        let nspawn = self.nspawn.as_ref()?.id();
        let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Starts a program as root on the host, with pipes to it.
    pub fn enter(&self, program: &[&str]) -> Child {
        let leader = self.leader().unwrap_or_else(|| panic!("{} is down", self.name));
        Command::new("nsenter")
            .args(["-t", &leader.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "--"])
            .args([
                "/usr/bin/env",
                "-C",
                "/root",
                "-i",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ])
            .args(["HOME=/root", "SHELL=/bin/sh", "TERM=xterm", "LANG=C.UTF-8", "SYSTEMD_PAGER=cat"])
            .arg("DEBIAN_FRONTEND=noninteractive")
            .args(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs a shell's text as root on the host, whatever comes of it.
    pub fn try_run(&self, text: &str) -> Said {
        if self.leader().is_none() {
            return Said { out: String::new(), err: "the host is down".to_owned(), code: -1 };
        }
        let mut child = self.enter(&["/bin/sh", "-s"]);
        let mut stdin = child.stdin.take().unwrap();
        let text = format!("{{ {text}\n}} </dev/null\n");
        let fed = std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
        let output = child.wait_with_output().unwrap();
        fed.join().unwrap();
        Said::from(output)
    }

    /// Runs a shell's text as root on the host; it has to succeed.
    pub fn run(&self, text: &str) -> String {
        let said = self.try_run(text);
        assert!(said.code == 0, "{}: {text}\nexit {}\n{}{}", self.name, said.code, said.out, said.err);
        said.out
    }

    /// Waits until the shell's text succeeds.
    pub fn wait(&self, text: &str) {
        self.wait_for(PATIENCE, text);
    }

    /// The same with another patience.
    pub fn wait_for(&self, patience: Duration, text: &str) {
        let end = Instant::now() + patience;
        loop {
            let said = self.try_run(text);
            if said.code == 0 {
                return;
            }
            assert!(
                Instant::now() < end,
                "{}: within {patience:?} it did not come true: {text}\n{}{}\n{}",
                self.name,
                said.out,
                said.err,
                self.story()
            );
            pause();
        }
    }

    /// What the host's synkler has to say, for a test that fails.
    pub fn story(&self) -> String {
        let journal = "journalctl --no-pager -o short-precise -n 60 -t synkler -t synkler-inbound -t synkler-outbound; \
                       systemctl status --no-pager -n 0 -l 'synkler*'; synklerctl status";
        let said = self.try_run(journal);
        format!("--- {} ---\n{}{}", self.name, said.out, said.err)
    }

    /// Shuts the host down as an administrator would, and boots it again.
    pub fn reboot(&mut self) {
        self.try_run("systemctl poweroff");
        self.down();
        self.start();
    }

    /// Everything on the host ends with its PID 1; killing the container's runner alone would leave it behind.
    fn unplug(&mut self) {
        if let Some(leader) = self.leader() {
            drop(Command::new("kill").args(["-KILL", &leader.to_string()]).status());
        } else if let Some(nspawn) = &mut self.nspawn {
            drop(nspawn.kill());
        }
    }

    fn down(&mut self) {
        if let Some(mut nspawn) = self.nspawn.take() {
            drop(nspawn.wait());
        }
    }

    fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !reached(self) {
            let console = fs::read_to_string(self.dir.join("console")).unwrap_or_default();
            assert!(Instant::now() < end, "{} has not {what} within {PATIENCE:?}\n{console}", self.name);
            pause();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.story());
        }
        self.unplug();
        self.down();
        drop(Command::new("umount").args(["--lazy"]).arg(self.root()).status());
        drop(fs::remove_dir_all(&self.dir));
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "another host's state gives no event to this one")]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}
