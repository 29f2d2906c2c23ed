//! The target of the log: journald with fields if stderr is connected to it, else one line per event on stderr. Never
//! stdout. If the log cannot be written, the daemon continues: such errors are ignored.
//!
//! Callers never wait: a thread writes, from a bounded queue. Lines that do not fit are counted, and the log says so
//! when there is room again; WARN and ERROR are kept longest. The queue is our own, because the library's appender
//! counts without reporting, drops the newest line, and waits at its end without a limit.
//!
//! Only synkler's own events are logged. Libraries report as errors what the program handles and reports in its own
//! words, with the host and what to do.

mod queue;
mod sink;

use std::fmt::{self, Write as _};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::fstat;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, debug, error, info, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use crate::machine::{Level, Log};
use queue::{Queue, Taken};
use sink::{Entry, Sink};

/// The identifier of the log in the journal.
const IDENTIFIER: &str = "synkler";
/// The maximum length of a line on stderr, and of a field's value in the journal, in bytes.
const LINE_LIMIT: usize = 4096;
/// How long the end of the process waits for lines that are not written yet.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The names of the levels.
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
    log: LogWriter,
    writer: thread::ThreadId,
}

impl Logging {
    /// Sets the log level: `error`, `warn`, `info`, `debug` or `trace`. Returns the previous one; `None` if there is no
    /// such level, and then nothing changes.
    pub fn set_level(&self, word: &str) -> Option<&'static str> {
        let (_, level) = LEVELS.iter().find(|(known, _)| *known == word)?;
        let before = self.level.clone_current()?;
        self.level.reload(*level).ok()?;
        LEVELS.iter().find(|(_, level)| *level == before).map(|(word, _)| *word)
    }

    /// Must be called when the process is about to end, in every case: gives the log at most a second to write its
    /// lines.
    pub fn close(&self) {
        // After a panic of the writer itself, this finds its last lines unwritten.
        let limit = if thread::current().id() == self.writer { Duration::ZERO } else { CLOSE_LIMIT };
        self.log.queue.close(limit);
        if limit.is_zero() {
            self.log.write();
        }
    }
}

/// Sets up the log of this process. Must be called once: a second call changes nothing.
///
/// # Errors
/// If the system cannot create a thread for it.
pub fn init(level: Level) -> io::Result<Logging> {
    let in_journal = stderr_is_journal();
    let (sink, form) = match in_journal.then(Sink::journald) {
        Some(Ok(journald)) => (journald, Form::Journald),
        // journald adds the time to lines from stderr.
        Some(Err(_)) => (Sink::Stderr, Form::Line { stamped: false }),
        None => (Sink::Stderr, Form::Line { stamped: true }),
    };
    let log = LogWriter { form, queue: Arc::default(), sink: Arc::new(sink) };
    let writing = log.clone();
    let writer = thread::Builder::new().name("log".to_owned()).spawn(move || writing.write())?;
    let (subscriber, handle) = subscriber(level, log.clone());
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(Logging { level: handle, log, writer: writer.thread().id() })
}

/// Logs a line of a machine. Item, transfer and peer become the fields `item` (the name as lossless text), `transfer`
/// and `peer`, in journald `SYNKLER_ITEM`, `SYNKLER_TRANSFER` and `SYNKLER_PEER`. The message contains item and peer
/// too, because `journalctl` shows only the message by default.
pub fn log(log: &Log) {
    let mut text = String::new();
    if let Some(item) = &log.item {
        text.push_str(&format!("{item}: "));
    }
    text.push_str(&log.text);
    if let Some(peer) = &log.peer {
        text.push_str(&format!(" ({peer})"));
    }
    let item = log.item.as_ref().map(|item| item.encoded());
    let transfer = log.transfer.map(|transfer| transfer.to_string());
    let peer = log.peer.as_ref().map(|peer| peer.to_string());
    match log.level {
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
type LevelHandle = reload::Handle<LevelFilter, Registry>;

fn subscriber(level: Level, layer: impl Layer<Filtered> + Send + Sync) -> (impl Subscriber + Send + Sync, LevelHandle) {
    let (filter, handle) = reload::Layer::new(filter(level));
    let own = filter_fn(|metadata| metadata.target().split("::").next() == Some("synkler"));
    (tracing_subscriber::registry().with(filter).with(layer.with_filter(own)), handle)
}

/// Whether stderr is the stream that the service manager connected to the journal: a shell in a service inherits the
/// variable, but not always the stream.
fn stderr_is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").ok();
    stream.is_some_and(|stream| fstat(io::stderr()).is_ok_and(|stat| names_file(&stream, stat.st_dev, stat.st_ino)))
}

/// `stream` is the device and inode number as systemd writes them.
fn names_file(stream: &str, device: u64, inode: u64) -> bool {
    stream == format!("{device}:{inode}")
}

/// The form of an event.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// One line: time, level, text, `field=value`.
    Line {
        /// Whether the line contains the time.
        stamped: bool,
    },
    /// An entry in journald's native form.
    Journald,
}

/// The two ends of the queue: events become lines in the calling thread, and the log's thread writes them.
#[derive(Debug, Clone)]
struct LogWriter {
    form: Form,
    queue: Arc<Queue>,
    sink: Arc<Sink>,
}

impl LogWriter {
    /// Writes until the queue is closed and empty.
    fn write(&self) {
        loop {
            match self.queue.take() {
                Taken::Line(line) => self.sink.write(&line, &self.queue),
                Taken::LeftOut(left_out) => {
                    let (level, target) = (tracing::Level::WARN, module_path!());
                    let entry = Entry { level, target, source: None, message: &left_out.text(), fields: &[] };
                    self.sink.write(&self.form.render(&entry, &moment()), &self.queue);
                }
                Taken::End => return self.queue.end(),
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for LogWriter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let metadata = event.metadata();
        let entry = Entry {
            level: *metadata.level(),
            target: metadata.target(),
            source: metadata.file().zip(metadata.line()),
            message: &parts.message,
            fields: &parts.fields,
        };
        let moment = moment();
        self.queue.push(entry.level, &moment, self.form.render(&entry, &moment));
    }
}

impl Form {
    fn render(self, entry: &Entry<'_>, moment: &str) -> Vec<u8> {
        match self {
            Self::Line { stamped } => line(entry, if stamped { moment } else { "" }).into_bytes(),
            Self::Journald => sink::for_journald(entry, moment, IDENTIFIER, LINE_LIMIT),
        }
    }
}

fn line(entry: &Entry<'_>, stamp: &str) -> String {
    let mut line = stamp.to_owned();
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(entry.level.as_str());
    let mut rest = format!(" {}", entry.message);
    for (name, value) in entry.fields {
        rest.push_str(&format!(" {name}={value}"));
    }
    for c in rest.chars() {
        if line.len() >= LINE_LIMIT {
            break;
        }
        // Nothing in a line may end it or move a cursor; printable characters stay.
        match c {
            '\\' | '"' | '\'' => line.push(c),
            _ => line.extend(c.escape_debug()),
        }
    }
    line.push('\n');
    line
}

/// The present time, for people.
fn moment() -> String {
    let mut moment = String::new();
    // Writing to a String cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut moment));
    moment
}

#[derive(Default)]
struct Parts {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            // Writing to a String cannot fail.
            "message" => drop(write!(self.message, "{value:?}")),
            name => self.fields.push((name, format!("{value:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::machine::{ItemName, Mode, Node, TransferId};

    fn logged(level: Level, stamped: bool, act: impl FnOnce(&Logging)) -> String {
        let log = LogWriter { form: Form::Line { stamped }, queue: Arc::default(), sink: Arc::new(Sink::Stderr) };
        let (subscriber, level) = subscriber(level, log.clone());
        let logging = Logging { level, log: log.clone(), writer: thread::current().id() };
        tracing::subscriber::with_default(subscriber, || act(&logging));
        log.queue.close(Duration::ZERO);
        let mut text = String::new();
        while let Taken::Line(line) = log.queue.take() {
            text.push_str(std::str::from_utf8(&line).unwrap());
        }
        text
    }

    fn sample(level: Level) -> Log {
        Log {
            level,
            transfer: Some(TransferId::mint(1_700_000_000_000, [7; 10])),
            item: Some(ItemName::new(b"a b\n\xff%").unwrap()),
            peer: Some(Node::new(Mode::Central, "hub".parse().unwrap())),
            text: "taken in".to_owned(),
        }
    }

    #[test]
    fn a_note_is_one_line_with_its_fields() {
        let text = logged(Level::Info, false, |_| log(&sample(Level::Warn)));
        let id = sample(Level::Warn).transfer.unwrap();
        let expected =
            format!("WARN a b\\n\\xff%: taken in (central hub) item=a b%0A%FF%25 transfer={id} peer=central hub\n");
        assert_eq!(text, expected);
        let bare = Log { transfer: None, item: None, peer: None, ..sample(Level::Error) };
        assert_eq!(logged(Level::Info, false, |_| log(&bare)), "ERROR taken in\n");
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
            let logging = init(Level::Info).unwrap();
            log(&sample(Level::Error));
            assert_eq!(logging.set_level("debug"), Some("info"));
            log(&sample(Level::Debug));
            logging.close();
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
