//! A program on a terminal of its own: a pseudo-terminal, with an emulator behind it that knows what stands on the
//! screen.

#![allow(dead_code, reason = "each program uses its part")]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(60);
/// The terminal belongs to a shell, as it does when people work: were the program the first of its session, its end
/// would reset the terminal, however it left it.
const SHELL: &str = r#"trap : INT; "$@"; code=$?; stty -a >"$MODES"; exit $code"#;
/// How the terminal was when the program had ended.
const MODES: &str = "modes";

pub struct Screen {
    child: Child,
    master: File,
    directory: TempDir,
    state: Arc<(Mutex<State>, Condvar)>,
}

struct State {
    parser: vt100::Parser,
    /// All that the program has written.
    raw: Vec<u8>,
}

impl Screen {
    /// Starts the program on a terminal of this size. `command` is what to run; it gets the terminal as its own.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        // O_NOCTTY: it is to be the program's terminal, not the test's.
        let flags = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
        let slave = OpenOptions::new().read(true).write(true).custom_flags(flags).open(name.to_str().unwrap()).unwrap();
        let master = File::from(master);
        resize(&master, rows, columns);
        let directory = tempfile::tempdir().unwrap();
        // setsid makes the terminal the shell's own, so that a new size is signalled.
        let mut own = Command::new("setsid");
        own.args(["--ctty", "--wait", "sh", "-c", SHELL, "sh"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => own.env(name, value),
                None => own.env_remove(name),
            };
        }
        own.env("TERM", "xterm-256color").env_remove("COLUMNS").env_remove("NO_COLOR");
        if let Some((name, Some(value))) = command.get_envs().find(|(name, _)| *name == "NO_COLOR") {
            own.env(name, value);
        }
        own.env("MODES", directory.path().join(MODES));
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        let child = own.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        let state = State { parser: vt100::Parser::new(cells(rows), cells(columns), 0), raw: Vec::new() };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let mut reader = master.try_clone().unwrap();
        let seen = Arc::clone(&state);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            // It ends with an error when nobody has the other end open any more.
            while let Ok(read @ 1..) = reader.read(&mut chunk) {
                let mut state = seen.0.lock().unwrap();
                state.parser.process(&chunk[..read]);
                state.raw.extend_from_slice(&chunk[..read]);
                seen.1.notify_all();
            }
        });
        Self { child, master, directory, state }
    }

    /// What stands on the screen, line by line.
    pub fn text(&self) -> String {
        self.lock().parser.screen().contents()
    }

    /// All that the program has written, escape sequences and all.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.lock().raw).into_owned()
    }

    /// Looks at the screen as the emulator has it.
    pub fn look<T>(&self, at: impl FnOnce(&vt100::Screen) -> T) -> T {
        at(self.lock().parser.screen())
    }

    /// Waits until the screen is as wanted.
    pub fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + LONG;
        let mut state = self.lock();
        loop {
            let text = state.parser.screen().contents();
            if wanted(&text) {
                return text;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not {what}:\n{text}");
            state = self.state.1.wait_timeout(state, left).unwrap().0;
        }
    }

    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        self.lock().parser.screen_mut().set_size(cells(rows), cells(columns));
        resize(&self.master, rows, columns);
    }

    /// Sends a signal to the program.
    pub fn signal(&self, name: &str) {
        let parent = self.child.id().to_string();
        let status = Command::new("pkill").args([&format!("-{name}"), "--parent", &parent]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the program's end; one that a signal ends has the code 128 and the signal's number.
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LONG;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.text());
            pause();
        }
    }

    /// Whether the terminal is as a shell left it: it echoes, sends whole lines and shows the first screen.
    pub fn is_restored(&self) -> bool {
        let modes = fs::read_to_string(self.directory.path().join(MODES)).unwrap();
        let on = |flag: &&str| modes.split_whitespace().any(|word| word == *flag);
        let cooked = ["echo", "icanon", "isig", "icrnl", "opost"].iter().all(on);
        let settled = |screen: &vt100::Screen| !screen.alternate_screen() && !screen.hide_cursor();
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut state = self.lock();
        // What it wrote last may still be on its way.
        while !settled(state.parser.screen()) && Instant::now() < deadline {
            state = self.state.1.wait_timeout(state, Duration::from_millis(100)).unwrap().0;
        }
        cooked && settled(state.parser.screen())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

#[allow(clippy::disallowed_methods, reason = "a child's end wakes nobody here")]
fn pause() {
    thread::sleep(Duration::from_millis(10));
}

fn resize(master: &File, rows: u16, columns: u16) {
    tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}
