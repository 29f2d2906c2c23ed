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
use synkler::cli::{DaemonArguments, DaemonVerb, GateSide};
use synkler::machine::Level;
use synkler::{config, daemon, drivers, ssh};

/// A config that cannot be used: EX_CONFIG of sysexits.h, on which systemd does not restart the service.
const BAD_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let arguments = DaemonArguments::parse();
    // Needs no config: what it allows stands in authorized_keys.
    if let Some(DaemonVerb::Gate { side, spool, rsync, no_landlock }) = arguments.verb {
        let side = match side {
            GateSide::Upload => ssh::Side::Upload,
            GateSide::Download => ssh::Side::Download,
        };
        return ssh::gate(&ssh::Entrance { side, spool, rsync, without_landlock: no_landlock });
    }
    let loaded = match config::load(arguments.config.as_deref(), &config::Environment::of_process()) {
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
    match arguments.verb {
        Some(DaemonVerb::Check) => {
            complain("this version examines nothing yet");
            return ExitCode::FAILURE;
        }
        Some(DaemonVerb::Keys { spool }) => return ssh::keys(&loaded, spool.as_deref()),
        Some(DaemonVerb::Trust { host, port, fingerprint }) => {
            return ssh::trust_host(&loaded, &host, port, fingerprint.as_deref());
        }
        Some(DaemonVerb::Gate { .. }) | None => {}
    }
    let _logging = drivers::logging::init(if arguments.debug { Level::Debug } else { Level::Info });
    // A part that has died would keep its answer for ever; a process that has died is started again.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("bug: {panic}");
        std::process::abort();
    }));
    match daemon::run(loaded.settings, &loaded.notices) {
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
