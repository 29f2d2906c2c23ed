//! A real daemon under test: started, listened to, asked, killed.

#![allow(clippy::disallowed_methods, reason = "what has no event of its own is looked at again")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What a daemon has logged so far, and the means to wait for more.
#[derive(Default)]
pub struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
    /// Whether nobody reads what the daemon writes.
    stopped: Mutex<bool>,
    resumed: Condvar,
}

impl Log {
    pub fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// How many lines there are: a mark from which to wait.
    pub fn mark(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    pub fn count(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| wanted(line)).count()
    }

    /// Waits until `count` lines from `mark` on are wanted ones. Tells whether they came in time.
    pub fn wait(&self, mark: usize, count: usize, limit: Duration, wanted: impl Fn(&str) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut lines = self.lines.lock().unwrap();
        let (mut seen, mut next) = (0, mark);
        loop {
            while next < lines.len() {
                seen += usize::from(wanted(&lines[next]));
                next += 1;
            }
            if seen >= count {
                return true;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            lines = self.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// From now on nobody reads what the daemon writes, or somebody does again.
    pub fn stop_reading(&self, stop: bool) {
        *self.stopped.lock().unwrap() = stop;
        self.resumed.notify_all();
    }

    /// Reads all lines, unless it is stopped.
    fn read(&self, stderr: impl std::io::Read) {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            self.push(String::from_utf8_lossy(&line).into_owned());
            drop(self.resumed.wait_while(self.stopped.lock().unwrap(), |stopped| *stopped).unwrap());
        }
    }

    fn push(&self, line: String) {
        self.lines.lock().unwrap().push(line);
        self.more.notify_all();
    }
}

pub struct Node {
    pub name: String,
    pub mode: &'static str,
    pub file_dir: PathBuf,
    pub config: PathBuf,
    pub socket: PathBuf,
    pub log: Arc<Log>,
    pub child: Option<Child>,
    /// The words of programs that start the daemon in another setting, such as `unshare`; each ends in `exec`.
    pub under: Vec<String>,
    /// Further variables of its environment.
    pub variables: Vec<(&'static str, String)>,
    /// Where its programs are.
    pub binaries: PathBuf,
}

impl Node {
    pub fn new(binaries: &Path, dir: &Path, mode: &'static str, name: &str, settings: &str) -> Self {
        let home = dir.join(format!("{mode}-{name}"));
        let file_dir = home.join("files");
        fs::create_dir_all(&file_dir).unwrap();
        let (config, socket) = (home.join("synkler.toml"), home.join("s"));
        let (state, files) = (home.join("state"), file_dir.display());
        let head = format!(
            "mode = \"{mode}\"\nname = \"{name}\"\nfile_dir = \"{files}\"\nstate_dir = \"{}\"\ncontrol_socket = \"{}\"\n",
            state.display(),
            socket.display()
        );
        fs::write(&config, format!("{head}{settings}\n")).unwrap();
        let (name, log) = (name.to_owned(), Arc::default());
        let (under, variables) = (Vec::new(), Vec::new());
        Self { name, mode, file_dir, config, socket, log, child: None, under, variables, binaries: binaries.to_owned() }
    }

    /// Starts the daemon and waits until it is ready (not until the broker is there).
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let mark = self.log.mark();
        let mut child = self.command().spawn().unwrap();
        let (stderr, log) = (child.stderr.take().unwrap(), Arc::clone(&self.log));
        std::thread::spawn(move || log.read(stderr));
        self.child = Some(child);
        if !self.log.wait(mark, 1, Duration::from_secs(20), |line| line.contains(" unfinished transfers; ")) {
            panic!("{} {} did not start:\n{}", self.mode, self.name, self.log.text());
        }
    }

    pub fn command(&self) -> Command {
        let program = self.binaries.join("synkler");
        let mut command = match self.under.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("--config").arg(&self.config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        command
    }

    /// Starts a daemon that must not come up; its exit code and what it said.
    pub fn refused(&self) -> (Option<i32>, String) {
        let command = self.command();
        // A daemon that does come up must not keep the test.
        let mut bounded = Command::new("timeout");
        bounded.args(["--signal=KILL", "20"]).arg(command.get_program()).args(command.get_args());
        bounded.env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        let output = bounded.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Puts another line into the config file; `line` begins with the key, whose old line goes.
    pub fn set(&self, line: &str) {
        let key = line.split('=').next().unwrap();
        let text = fs::read_to_string(&self.config).unwrap();
        let kept: Vec<_> = text.lines().filter(|old| old.split('=').next() != Some(key)).collect();
        fs::write(&self.config, format!("{}\n{line}\n", kept.join("\n"))).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// As a crash does it.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// As systemd stops it; tells how it ended and how long that took.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let mut child = self.child.take().unwrap();
        let start = Instant::now();
        signal(child.id(), "TERM");
        let status = child.wait().unwrap();
        assert_ne!(status.signal(), Some(9));
        (status, start.elapsed())
    }

    /// `synklerctl` for this node.
    pub fn ctl(&self) -> Command {
        let mut command = Command::new(self.binaries.join("synklerctl"));
        command.arg("--socket").arg(&self.socket);
        command
    }

    /// The answer of `synklerctl status --here --json`: what this node alone tells.
    pub fn status(&self, limit: usize) -> serde_json::Value {
        let output = self.ctl().args(["status", "--here", "--json", "--limit", &limit.to_string()]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{} {}: {text} {}",
            self.mode,
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Waits until the status is as wanted, and returns it.
    pub fn until(&self, limit: Duration, what: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status(100);
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{} {}: not {what} within {limit:?}: {status:#}", self.mode, self.name);
            // The control socket answers questions; it does not call.
            pause();
        }
    }

    /// Waits until some transfer or item in the status waits for this cause, with these words in its reason.
    pub fn until_reason(&self, limit: Duration, code: &str, words: &str) {
        self.until(limit, &format!("waiting for {code} with {words:?}"), |status| {
            let transfers = status["transfers"].as_array().unwrap();
            transfers.iter().any(|transfer| {
                transfer["reason"]["code"] == code && transfer["reason"]["text"].as_str().unwrap().contains(words)
            })
        });
    }

    /// Waits until nothing is left to do.
    pub fn until_idle(&self, limit: Duration) {
        self.until(limit, "idle", |status| status["total"] == 0);
    }

    /// Waits until the log holds a line with all of these words, from `mark` on.
    pub fn expect(&self, mark: usize, limit: Duration, words: &[&str]) {
        if !self.log.wait(mark, 1, limit, |line| words.iter().all(|word| line.contains(word))) {
            panic!("{} {}: no line with {words:?} within {limit:?}:\n{}", self.mode, self.name, self.log.text());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- log of {} {} ----\n{}", self.mode, self.name, self.log.text());
        }
    }
}

/// Waits for what nobody announces. Tells whether it came in time.
pub fn wait_for(limit: Duration, what: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !what() {
        if Instant::now() >= deadline {
            return false;
        }
        pause();
    }
    true
}

#[allow(clippy::disallowed_methods, reason = "between two looks at what announces nothing")]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}
