//! `synklerctl`: arguments in, one request to the daemon of this host, a text or JSON out.

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use synkler::control::{Client, ClientError, Look, STATUS_LIMIT, default_socket, socket_candidates, status_text};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused, or not found
  2  wrong arguments
  3  the daemon is not running
  4  the answer is incomplete";

/// Shows what the synkler daemon of this host does.
#[derive(Debug, Parser)]
#[command(name = "synklerctl", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Arguments {
    /// The daemon's control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The daemon's group, where several run on this host
    #[arg(long, global = true, value_name = "ID")]
    id: Option<String>,
    /// Print one JSON document, the same in every version, instead of a text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// This node, its broker, its peers, and what is on the way and why it waits
    Status {
        /// How many transfers to show at most
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=STATUS_LIMIT))]
        limit: Option<u64>,
    },
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("several daemons run here, choose one with --socket: {0}")]
    Ambiguous(String),
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
    #[error("cannot write the answer as JSON")]
    Json(#[source] serde_json::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Ambiguous(_) | Self::Client(ClientError::Refused(_) | ClientError::Forbidden { .. }) => 1,
            Self::Client(ClientError::NotRunning { .. }) => 3,
            Self::Client(ClientError::Stuck { .. } | ClientError::Incomplete { .. } | ClientError::Garbled { .. })
            | Self::Output(_)
            | Self::Json(_) => 4,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Clap sees no conflict between an option before the verb and one behind it.
    if arguments.socket.is_some() && arguments.id.is_some() {
        Arguments::command().error(ErrorKind::ArgumentConflict, "choose the daemon with --socket or with --id").exit();
    }
    let Err(failure) = run(&arguments) else { return ExitCode::SUCCESS };
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    complain(&text);
    if matches!(failure, Failure::Client(ClientError::NotRunning { .. })) {
        complain("start it with: systemctl start synkler");
    }
    ExitCode::from(failure.exit_code())
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut client = connect(arguments)?;
    match arguments.verb {
        Verb::Status { limit } => status(arguments, &mut client, limit),
    }
}

fn status(arguments: &Arguments, client: &mut Client, limit: Option<u64>) -> Result<(), Failure> {
    let status = match client.status(limit, false) {
        Ok(status) => status,
        Err(err) => {
            // A daemon of another version may not know the method, or answer it in another shape.
            if let Ok(info) = Client::connect(client.path()).and_then(|mut client| client.info()) {
                compare_version(&info.version);
            }
            return Err(err.into());
        }
    };
    compare_version(&status.node.version);
    let text = if arguments.json {
        serde_json::to_string_pretty(&status).map_err(Failure::Json)? + "\n"
    } else {
        status_text(&status, look())
    };
    print(&text)
}

fn connect(arguments: &Arguments) -> Result<Client, Failure> {
    if let Some(path) = &arguments.socket {
        return Ok(Client::connect(path)?);
    }
    let mut failure = None;
    for place in socket_candidates(arguments.id.as_deref(), |name| env::var_os(name)) {
        let mut answering = Vec::new();
        for path in place {
            match Client::connect(&path) {
                Ok(client) => answering.push(client),
                Err(err) => failure = failure.or(Some(err)),
            }
        }
        if answering.len() > 1 {
            let paths: Vec<_> = answering.iter().map(|client| format!("{:?}", client.path())).collect();
            return Err(Failure::Ambiguous(paths.join(", ")));
        }
        if let Some(client) = answering.pop() {
            return Ok(client);
        }
    }
    let nowhere = || ClientError::NotRunning { path: default_socket(), source: io::ErrorKind::NotFound.into() };
    Err(failure.unwrap_or_else(nowhere).into())
}

fn compare_version(daemon: &str) {
    let own = env!("CARGO_PKG_VERSION");
    if daemon != own {
        complain(&format!(
            "the daemon is version {}, this is {own}: after an upgrade, restart it with: systemctl restart synkler",
            daemon.escape_debug()
        ));
    }
}

fn look() -> Look {
    let set = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let terminal = io::stdout().is_terminal();
    let dumb = set("TERM").is_none_or(|term| term == "dumb");
    Look { width: width(terminal), colour: terminal && !dumb && set("NO_COLOR").is_none() }
}

fn width(terminal: bool) -> usize {
    let asked = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let measured = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    let width = asked.or_else(|| if terminal { measured() } else { None });
    width.filter(|width| (1..=1000).contains(width)).unwrap_or(80)
}

/// Whoever closes the pipe early, like `head`, has seen enough.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(err)),
        _ => Ok(()),
    }
}

fn complain(text: &str) {
    // With nowhere to complain to, the exit code must do.
    let _ = writeln!(io::stderr(), "synklerctl: {text}");
}
