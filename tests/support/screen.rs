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
use std::time::Duration;

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
    parser: vt100::Parser<Frames>,
    /// All that the program has written.
    raw: Vec<u8>,
    /// Nobody has the terminal open any more.
    over: bool,
}

/// Begins and ends of synchronized updates: what stands on the screen between them is half a frame.
#[derive(Default)]
struct Frames {
    open: bool,
}

impl vt100::Callbacks for Frames {
    fn unhandled_csi(
        &mut self,
        _: &mut vt100::Screen,
        first: Option<u8>,
        _: Option<u8>,
        parameters: &[&[u16]],
        last: char,
    ) {
        if first == Some(b'?') && parameters.contains(&&[2026][..]) {
            self.open = last == 'h';
        }
    }
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
        let parser = vt100::Parser::new_with_callbacks(cells(rows), cells(columns), 0, Frames::default());
        let state = State { parser, raw: Vec::new(), over: false };
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
            seen.0.lock().unwrap().over = true;
            seen.1.notify_all();
        });
        Self { child, master, directory, state }
    }

    /// What stands on the screen, line by line, when no frame is under way.
    pub fn text(&self) -> String {
        self.look(vt100::Screen::contents)
    }

    /// All that the program has written, escape sequences and all.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.lock().raw).into_owned()
    }

    /// Looks at the screen as the emulator has it, when no frame is under way.
    pub fn look<T>(&self, at: impl FnOnce(&vt100::Screen) -> T) -> T {
        at(self.wait("a whole frame", State::is_whole).parser.screen())
    }

    /// Waits until the screen is as wanted. Only whole frames are looked at.
    pub fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let state = self.wait(what, |state| state.is_whole() && wanted(&state.parser.screen().contents()));
        state.parser.screen().contents()
    }

    /// Waits until the program has written this, whether it can be seen or not.
    pub fn until_written(&self, what: &str) {
        drop(self.wait(what, |state| String::from_utf8_lossy(&state.raw).contains(what)));
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

    /// Waits for the program's end, and for all that it has written; one that a signal ends has the code 128 and the
    /// signal's number.
    pub fn end(&mut self) -> ExitStatus {
        drop(self.wait("at its end", |state| state.over));
        self.child.wait().unwrap()
    }

    /// Whether the terminal is as a shell left it: it echoes, sends whole lines and shows the first screen.
    pub fn is_restored(&self) -> bool {
        let modes = fs::read_to_string(self.directory.path().join(MODES)).unwrap();
        let on = |flag: &&str| modes.split_whitespace().any(|word| word == *flag);
        let cooked = ["echo", "icanon", "isig", "icrnl", "opost"].iter().all(on);
        cooked && self.look(|screen| !screen.alternate_screen() && !screen.hide_cursor())
    }

    fn wait(&self, what: &str, done: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.state.1.wait_timeout_while(self.lock(), LONG, |state| !done(state));
        let (state, result) = waited.unwrap();
        assert!(!result.timed_out(), "not {what}:\n{}", state.parser.screen().contents());
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }
}

impl State {
    /// No frame is under way, nor will one that is be finished.
    fn is_whole(&self) -> bool {
        self.over || !self.parser.callbacks().open
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

fn resize(master: &File, rows: u16, columns: u16) {
    tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}
