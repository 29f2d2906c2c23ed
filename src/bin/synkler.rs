//! The daemon: arguments in, exit code out.

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use synkler::machine::Level;
use synkler::{config, daemon, drivers};

/// A config that cannot be used: EX_CONFIG of sysexits.h, on which systemd does not restart the service.
const BAD_CONFIG: u8 = 78;

/// Hands files over: upload -> central -> download, proven by MD5 on every hop.
#[derive(Debug, Parser)]
#[command(name = "synkler", version, about)]
struct Arguments {
    /// Read this config file and no other
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Accepted from older command lines: what it asked for is logged anyway
    #[arg(short, long)]
    verbose: bool,
    /// Log what only a developer wants to know
    #[arg(short, long)]
    debug: bool,
    /// Print the settings in force and where each came from, then end
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let origin = daemon::Origin { explicit: arguments.config, environment: config::Environment::of_process() };
    let loaded = match origin.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if arguments.check {
        use std::io::Write;
        // A reader that has gone away has seen enough.
        let _ = writeln!(std::io::stdout(), "{}", loaded.report());
        return ExitCode::SUCCESS;
    }
    let logging = drivers::logging::init(if arguments.debug { Level::Debug } else { Level::Info });
    // A part that has died would keep its answer for ever; a process that has died is started again.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("bug: {panic}");
        std::process::abort();
    }));
    match daemon::run(loaded, origin, logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = if error.is_config() { BAD_CONFIG } else { 1 };
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            tracing::error!("{text}");
            ExitCode::from(code)
        }
    }
}

/// Before the log is up.
fn complain(text: &str) {
    use std::io::Write;
    for line in text.lines() {
        let _ = writeln!(std::io::stderr(), "synkler: {line}");
    }
}
