//! `synklerctl watch` on a terminal of its own, and into a pipe.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::symlink;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use synkler::control::Limits;
use synkler::control::types::Monitor;
use synkler::machine::{Cause, Snapshot, TransferView};

use crate::node::{self, Daemon, crowded, documented, idle, tally, transfer};
use crate::screen::Screen;
use crate::synklerctl;

/// A daemon whose snapshot a test changes.
fn changing(snapshot: Snapshot) -> (Daemon, Arc<Mutex<Snapshot>>) {
    let shared = Arc::new(Mutex::new(snapshot));
    let told = Arc::clone(&shared);
    let daemon = Daemon::with_loop(Limits::default(), |mut queries| async move {
        while let Some(query) = queries.recv().await {
            node::answer(&told.lock().unwrap(), query);
        }
    });
    (daemon, shared)
}

fn watch(daemon: &Daemon, rows: u16, columns: u16) -> Screen {
    Screen::start(&synklerctl(&daemon.path, &["watch"]), rows, columns)
}

fn with(items: &[&str]) -> Snapshot {
    let view = |(number, item): (u64, &&str)| transfer(number, item.as_bytes(), "announced", Cause::Central.into());
    let transfers: Vec<TransferView> = (1..).zip(items).map(view).collect();
    Snapshot { counts: vec![("announced", items.len() as u64)], tally: tally(&transfers), transfers, ..idle() }
}

#[test]
fn it_follows_what_changes_and_gives_the_terminal_back() {
    let (daemon, shared) = changing(documented());
    let mut screen = watch(&daemon, 30, 100);
    let text = screen.until("the first answer", |text| text.contains("caf\\xe9.iso"));
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with(" upload alpha   2026-11-23 18:1"), "{text}");
    assert!(lines[1].starts_with("● upload alpha, group default"), "{text}");
    assert!(text.contains("██████") && text.contains("31 %"), "{text}");
    assert!(lines[29].starts_with(" q quits"), "{text}");
    assert!(screen.look(|screen| screen.alternate_screen() && screen.hide_cursor()));

    let name = "new\x1b[2J\x1b[H\u{202e}here";
    *shared.lock().unwrap() = with(&[name]);
    let text = screen.until("what is new", |text| text.contains("new\\u{1b}[2J\\u{1b}[H"));
    assert!(!text.contains("caf") && text.contains("Transfers: 1 (1 waiting)"), "what is gone is gone: {text}");

    // A narrower and lower terminal: everything is laid out anew.
    screen.resize(12, 50);
    let text =
        screen.until("the new size", |text| text.lines().nth(11).is_some_and(|line| line.starts_with(" q quits")));
    assert!(text.lines().all(|line| line.chars().count() <= 50), "{text}");
    assert!(text.contains("more lines below"), "{text}");
    screen.press("\x1b[F");
    screen.until("the end", |text| text.contains("waiting for an answer from central") && !text.contains("below"));
    screen.press("\x1b[H");
    screen.until("the beginning", |text| text.contains("● upload alpha"));

    screen.press("q");
    assert_eq!(screen.end().code(), Some(0));
    let raw = screen.raw();
    assert!(screen.is_restored(), "{raw}");

    // Each frame stands between the marks of a synchronized update, and nothing is drawn outside of them.
    let frames: Vec<_> = raw.split("\x1b[?2026h").skip(1).collect();
    assert!(frames.len() > 4 && raw.matches("\x1b[?2026l").count() == frames.len(), "{raw}");
    let (last, others) = frames.split_last().unwrap();
    assert!(others.iter().all(|frame| frame.ends_with("\x1b[?2026l")), "{raw}");
    assert!(last.split_once("\x1b[?2026l").is_some_and(|(_, after)| !after.contains("upload")), "{raw}");
}

/// What these tests rest on.
#[test]
fn half_a_frame_is_never_looked_at() {
    let halves = r"stty -echo; printf '\033[?2026hhalf'; read -r _; printf ' and half\033[?2026l'; read -r _";
    let mut command = Command::new("sh");
    let mut screen = Screen::start(command.args(["-c", halves]), 24, 80);
    screen.until_written("half");
    screen.press("\r");
    assert_eq!(screen.until("something", |text| !text.is_empty()), "half and half");
    screen.press("\r");
    assert!(screen.end().success());
}

#[test]
fn many_lines_are_scrolled_through() {
    let (daemon, _shared) = changing(crowded(60));
    let mut screen = watch(&daemon, 20, 100);
    screen.until("the first answer", |text| text.contains("file 00000.dat"));
    let first = |text: &str| text.contains("● upload alpha");
    screen.press("\x1b[6~");
    screen.until("a page further", |text| !first(text) && text.contains("more lines below"));
    screen.press("\x1b[F");
    screen.until("the end", |text| text.contains("file 00059.dat") && !text.contains("below"));
    screen.press("\x1b[H");
    screen.until("the beginning", first);
    screen.press(" ");
    screen.until("a page further", |text| !first(text) && text.contains("more lines below"));
    screen.press("\x03");
    assert_eq!(screen.end().code(), Some(0), "Ctrl-C ends it like q");
}

#[test]
fn signals_end_it_and_give_the_terminal_back() {
    let (daemon, _shared) = changing(documented());
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let mut screen = watch(&daemon, 24, 80);
        screen.until("the first answer", |text| text.contains("● upload alpha"));
        screen.signal(name);
        assert_eq!(screen.end().code(), Some(128 + number));
        assert!(screen.is_restored(), "{name}: {}", screen.raw());
    }
}

#[test]
fn a_daemon_that_restarts_is_waited_for() {
    let (mut first, _shared) = changing(with(&["before"]));
    let mut screen = watch(&first, 24, 100);
    screen.until("the first answer", |text| text.contains("before"));
    first.stop();
    let text = screen.until("the loss", |text| text.contains("trying again"));
    assert!(text.contains("before"), "what was known stays: {text}");
    let (second, _shared) = changing(with(&["after"]));
    let _ = fs::remove_file(&first.path);
    symlink(&second.path, &first.path).unwrap();
    let text = screen.until("the new daemon", |text| text.contains("after"));
    assert!(!text.contains("trying again") && !text.contains("before"), "{text}");
    screen.press("\x1b");
    assert_eq!(screen.end().code(), Some(0));
}

#[test]
fn no_color_takes_the_colours_away() {
    let (daemon, _shared) = changing(documented());
    let mut plain = synklerctl(&daemon.path, &["watch"]);
    let mut screen = Screen::start(plain.env("NO_COLOR", "1"), 24, 80);
    screen.until("the first answer", |text| text.contains("31 %"));
    let coloured = screen.look(|screen| {
        let (rows, columns) = screen.size();
        (0..rows.into()).any(|row| {
            (0..columns.into())
                .any(|column| screen.cell(row, column).is_some_and(|cell| cell.fgcolor() != vt100::Color::Default))
        })
    });
    assert!(!coloured && !screen.text().contains('█'), "{}", screen.text());
    screen.press("q");
    assert_eq!(screen.end().code(), Some(0));
}

/// `watch` into a pipe.
struct Piped {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Piped {
    fn start(daemon: &Daemon, arguments: &[&str]) -> Self {
        let mut child =
            synklerctl(&daemon.path, arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = Some(BufReader::new(child.stdout.take().unwrap()).lines());
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.as_mut().unwrap().next().unwrap().unwrap()
    }

    /// Reads no more, and waits for the end.
    fn leave(&mut self) -> ExitStatus {
        self.lines = None;
        self.child.wait().unwrap()
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // It goes on for as long as it is let.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_pipe_gets_a_line_for_each_change() {
    let (daemon, shared) = changing(with(&["one"]));
    let mut piped = Piped::start(&daemon, &["watch"]);
    let line = piped.next();
    assert!(line.ends_with("UTC  upload alpha: broker connected, 1 on the way"), "{line}");
    let line = piped.next();
    assert!(line.ends_with("UTC  one: waiting: waiting for an answer from central"), "{line}");
    *shared.lock().unwrap() = with(&["one", "evil\x1b[2J\nname"]);
    assert!(piped.next().ends_with("2 on the way"));
    assert!(piped.next().ends_with("evil\\u{1b}[2J\\nname: waiting: waiting for an answer from central"));
    *shared.lock().unwrap() = idle();
    assert!(piped.next().ends_with("0 on the way"));
    let mut gone = [piped.next(), piped.next()];
    gone.sort();
    assert!(gone.iter().all(|line| line.ends_with(": finished")), "{gone:?}");
}

#[test]
fn it_ends_with_its_reader_though_nothing_changes() {
    let (daemon, _shared) = changing(with(&["one"]));
    for arguments in [&["watch"][..], &["watch", "--json"]] {
        let mut piped = Piped::start(&daemon, arguments);
        piped.next();
        let left = Instant::now();
        assert_eq!(piped.leave().code(), Some(0));
        // Without a change, the daemon says nothing for 20 seconds.
        assert!(left.elapsed() < Duration::from_secs(5), "it stayed for {:?}", left.elapsed());
    }
}

#[test]
fn json_is_the_stream_itself() {
    let (daemon, shared) = changing(with(&["one"]));
    let mut piped = Piped::start(&daemon, &["watch", "--json"]);
    let first: Monitor = serde_json::from_str(&piped.next()).unwrap();
    assert!(first.full && first.status.transfers.len() == 1);
    *shared.lock().unwrap() = idle();
    let second: Monitor = serde_json::from_str(&piped.next()).unwrap();
    assert!(!second.full && second.gone.len() == 1 && second.status.total == 0, "{second:?}");
}
