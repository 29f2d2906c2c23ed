//! Where the log goes: to journald with fields where stderr is connected to it, else one line per event on stderr.
//! Never to stdout. A log that cannot be written is no reason to stop: such errors are swallowed.
//!
//! Only synkler's own events are let through. Libraries report as errors what the program handles and tells in its
//! own words, with the host and the remedy.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use rustix::fs::fstat;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, debug, error, info, warn};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use crate::machine::{Level, Note};

/// The name under which the journal files the log.
const IDENTIFIER: &str = "synkler";
/// Where a line on stderr is cut, in bytes.
const LINE_LIMIT: usize = 4096;

/// The words for the levels.
const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The log as it was set up; lives as long as the daemon.
#[derive(Debug, Clone)]
pub struct Logging {
    level: reload::Handle<LevelFilter, Registry>,
}

impl Logging {
    /// From now on only events of at least this level are logged: `error`, `warn`, `info`, `debug` or `trace`. Gives
    /// back what it was; `None` when there is no such level, and nothing has changed.
    pub fn set_level(&self, word: &str) -> Option<&'static str> {
        let (_, level) = LEVELS.iter().find(|(known, _)| *known == word)?;
        let before = self.level.clone_current()?;
        self.level.reload(*level).ok()?;
        LEVELS.iter().find(|(_, level)| *level == before).map(|(word, _)| *word)
    }
}

/// Sets up the log of this process. To be called once: a second call leaves the log as it is.
pub fn init(level: Level) -> Logging {
    let in_journal = stderr_is_journal();
    let layer: Box<dyn Layer<_> + Send + Sync> = match in_journal.then(tracing_journald::layer) {
        Some(Ok(journald)) => Box::new(
            journald
                .with_syslog_identifier(IDENTIFIER.to_owned())
                .with_field_prefix(Some("SYNKLER".to_owned()))
                .with_priority_mappings(PriorityMappings {
                    info: Priority::Informational,
                    debug: Priority::Debug,
                    ..PriorityMappings::new()
                }),
        ),
        // The journal stamps the lines it reads from stderr.
        Some(Err(_)) => Box::new(Lines { stamped: false, writer: io::stderr }),
        None => Box::new(Lines { stamped: true, writer: io::stderr }),
    };
    let (subscriber, logging) = subscriber(level, layer);
    let _ = tracing::subscriber::set_global_default(subscriber);
    logging
}

/// Logs what a machine has to say. Item, transfer and peer become the fields `item` (the name as lossless text),
/// `transfer` and `peer`, in journald `SYNKLER_ITEM`, `SYNKLER_TRANSFER` and `SYNKLER_PEER`. Item and peer stand in the
/// message too, because that is all `journalctl` shows by default.
pub fn note(note: &Note) {
    let mut text = String::new();
    if let Some(item) = &note.item {
        text.push_str(&format!("{item}: "));
    }
    text.push_str(&note.text);
    if let Some(peer) = &note.peer {
        text.push_str(&format!(" ({peer})"));
    }
    let item = note.item.as_ref().map(|item| item.encoded());
    let transfer = note.transfer.map(|transfer| transfer.to_string());
    let peer = note.peer.as_ref().map(|peer| peer.to_string());
    match note.level {
        Level::Debug => debug!(item, transfer, peer, "{text}"),
        Level::Info => info!(item, transfer, peer, "{text}"),
        Level::Warn => warn!(item, transfer, peer, "{text}"),
        Level::Error => error!(item, transfer, peer, "{text}"),
    }
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    }
}

type Filtered = tracing_subscriber::layer::Layered<reload::Layer<LevelFilter, Registry>, Registry>;

fn subscriber(level: Level, layer: impl Layer<Filtered> + Send + Sync) -> (impl Subscriber + Send + Sync, Logging) {
    let (filter, handle) = reload::Layer::new(filter(level));
    let own = filter_fn(|metadata| metadata.target().split("::").next() == Some("synkler"));
    (tracing_subscriber::registry().with(filter).with(layer.with_filter(own)), Logging { level: handle })
}

/// Whether stderr is the stream that the service manager connected to the journal: a shell in a service inherits
/// the variable, but not always the stream.
fn stderr_is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").ok();
    stream.is_some_and(|stream| fstat(io::stderr()).is_ok_and(|stat| names_file(&stream, stat.st_dev, stat.st_ino)))
}

/// `stream` is the device and inode number as systemd writes them.
fn names_file(stream: &str, device: u64, inode: u64) -> bool {
    stream == format!("{device}:{inode}")
}

/// One line per event: time, level, text, `field=value`.
struct Lines<W> {
    stamped: bool,
    writer: W,
}

impl<S: Subscriber, W: for<'a> MakeWriter<'a> + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = String::new();
        if self.stamped && SystemTime.format_time(&mut Writer::new(&mut line)).is_ok() {
            line.push(' ');
        }
        line.push_str(event.metadata().level().as_str());
        let mut parts = Parts::default();
        event.record(&mut parts);
        for c in parts.message.chars().chain(parts.fields.chars()) {
            if line.len() >= LINE_LIMIT {
                break;
            }
            // Nothing in a line may end it or move a cursor; what is printable stays as it is.
            match c {
                '\\' | '"' | '\'' => line.push(c),
                _ => line.extend(c.escape_debug()),
            }
        }
        line.push('\n');
        // One write a line, so that lines of several processes do not mix. A closed stderr is not our trouble.
        let _ = self.writer.make_writer().write_all(line.as_bytes());
    }
}

#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, " {value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::machine::{ItemName, Mode, Node, TransferId};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: Level, stamped: bool, act: impl FnOnce(&Logging)) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let (subscriber, logging) = subscriber(level, Lines { stamped, writer: move || writer.clone() });
        tracing::subscriber::with_default(subscriber, || act(&logging));
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn sample(level: Level) -> Note {
        Note {
            level,
            transfer: Some(TransferId::mint(1_700_000_000_000, [7; 10])),
            item: Some(ItemName::new(b"a b\n\xff%").unwrap()),
            peer: Some(Node::new(Mode::Central, "hub".parse().unwrap())),
            text: "taken in".to_owned(),
        }
    }

    #[test]
    fn a_note_is_one_line_with_its_fields() {
        let text = logged(Level::Info, false, |_| note(&sample(Level::Warn)));
        let id = sample(Level::Warn).transfer.unwrap();
        let expected =
            format!("WARN a b\\n\\xff%: taken in (central hub) item=a b%0A%FF%25 transfer={id} peer=central hub\n");
        assert_eq!(text, expected);
        let bare = Note { transfer: None, item: None, peer: None, ..sample(Level::Error) };
        assert_eq!(logged(Level::Info, false, |_| note(&bare)), "ERROR taken in\n");
    }

    #[test]
    fn lines_are_stamped_where_nobody_else_does() {
        let text = logged(Level::Info, true, |_| info!("up"));
        let (stamp, rest) = text.split_once(' ').unwrap();
        assert!(stamp.ends_with('Z') && stamp.contains('T') && stamp.starts_with("20"), "{stamp}");
        assert_eq!(rest, "INFO up\n");
    }

    #[test]
    fn nothing_from_outside_breaks_a_line_or_floods_it() {
        let text = logged(Level::Info, false, |_| info!(host = "a\nERROR b\x1b[2J", "{}\r\n", "é".repeat(10_000)));
        assert_eq!(text.lines().count(), 1);
        assert!(text.len() < LINE_LIMIT + 10);
        let text = logged(Level::Info, false, |_| info!(host = "a\nERROR b\x1b[2J", "\"c\\d\u{202e}\""));
        assert_eq!(text, "INFO \"c\\d\\u{202e}\" host=a\\nERROR b\\u{1b}[2J\n");
    }

    #[test]
    fn the_level_can_be_changed_and_libraries_are_silent() {
        let text = logged(Level::Info, false, |logging| {
            debug!("one");
            error!(target: "lapin::connection", "two");
            error!(target: "synklerish", "three");
            assert_eq!(logging.set_level("debug"), Some("info"));
            debug!("four");
            assert_eq!(logging.set_level("error"), Some("debug"));
            assert_eq!(logging.set_level("loud"), None);
            warn!("five");
            error!("six");
        });
        assert_eq!(text, "DEBUG four\nERROR six\n");
    }

    #[test]
    fn the_journal_is_recognised_by_device_and_inode() {
        assert!(names_file("8:1234", 8, 1234));
        for other in ["", "8:1235", "9:1234", "8", "8:1234:1"] {
            assert!(!names_file(other, 8, 1234), "{other}");
        }
    }

    /// stderr belongs to the whole process, so this test runs itself once more in a child.
    #[test]
    fn a_closed_stderr_is_survived_and_stdout_is_never_written() {
        const CHILD: &str = "SYNKLER_TEST_LOGGING";
        if std::env::var_os(CHILD).is_some() {
            let logging = init(Level::Info);
            note(&sample(Level::Error));
            assert_eq!(logging.set_level("debug"), Some("info"));
            note(&sample(Level::Debug));
            std::process::exit(42);
        }
        let name = "drivers::logging::tests::a_closed_stderr_is_survived_and_stdout_is_never_written";
        let child = |stderr: Stdio| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", name, "--nocapture"]).env(CHILD, "1").env("JOURNAL_STREAM", "1:1");
            command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap().wait_with_output().unwrap()
        };
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let closed = child(writer.into());
        let open = child(Stdio::piped());
        let lines = String::from_utf8(open.stderr).unwrap();
        assert_eq!(lines.lines().filter(|line| line.contains("taken in")).count(), 2, "{lines}");
        for output in [&closed.stdout, &open.stdout] {
            assert!(!String::from_utf8_lossy(output).contains("taken in"));
        }
        assert_eq!((closed.status.code(), open.status.code()), (Some(42), Some(42)));
    }
}
