//! The daemon: arguments in, exit code out.

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::process::ExitCode;

use clap::Parser;
use synkler::cli::{DaemonArguments, DaemonVerb};
use synkler::control::types::{Check, Finding};
use synkler::machine::Level;
use synkler::{check, config, daemon, drivers};

/// A config that cannot be used: EX_CONFIG of sysexits.h, on which systemd does not restart the service.
const BAD_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let arguments = DaemonArguments::parse();
    let origin = daemon::Origin { explicit: arguments.config, environment: config::Environment::of_process() };
    let loaded = match origin.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error.to_string());
            if let Some(DaemonVerb::Check) = arguments.verb {
                print_findings(vec![check::bad_config(&error)]);
            }
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if arguments.check {
        use std::io::Write;
        // A reader that has gone away has seen enough.
        let _ = writeln!(std::io::stdout(), "{}", loaded.report());
        return ExitCode::SUCCESS;
    }
    if let Some(DaemonVerb::Check) = arguments.verb {
        return examine(&loaded);
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

/// Examines this node, and prints one JSON document.
fn examine(loaded: &config::Loaded) -> ExitCode {
    let mut findings = vec![check::config(loaded, None)];
    match check::examine_alone(&loaded.settings) {
        Ok(found) => findings.extend(found),
        Err(error) => {
            complain(&format!("the system gives no event loop: {error}"));
            return ExitCode::FAILURE;
        }
    }
    let failed = check::has_failed(&findings);
    print_findings(findings);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print_findings(findings: Vec<Finding>) {
    use std::io::Write;
    match serde_json::to_string(&Check { findings }) {
        // A reader that has gone away has seen enough.
        Ok(document) => drop(writeln!(std::io::stdout(), "{document}")),
        Err(error) => complain(&format!("bug: the findings have no JSON form: {error}")),
    }
}

/// Before the log is up.
fn complain(text: &str) {
    use std::io::Write;
    for line in text.lines() {
        let _ = writeln!(std::io::stderr(), "synkler: {line}");
    }
}
