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
use synkler::cli::{self, DaemonArguments, DaemonVerb, GateSide};
use synkler::control::types::{Check, Finding};
use synkler::machine::{Level, Mode};
use synkler::setup::{BrokerOrder, DropInOrder, InitOrder, PlannedCleanup};
use synkler::{check, config, daemon, drivers, setup, ssh};

/// A person has to fix the config or the journal: EX_CONFIG of sysexits.h. systemd does not restart the service after
/// this code.
const BAD_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let arguments = DaemonArguments::parse();
    // Needs no config: authorized_keys has its options.
    if let Some(DaemonVerb::Gate { side, spool, rsync, no_landlock }) = arguments.verb {
        let side = match side {
            GateSide::Upload => ssh::Side::Upload,
            GateSide::Download => ssh::Side::Download,
        };
        return ssh::gate(&ssh::Entrance { side, spool, rsync, without_landlock: no_landlock });
    }
    // These run before a config exists, or read the config like the service.
    match arguments.verb {
        Some(DaemonVerb::Init(told)) => return setup::init(&init_order(*told, arguments.config)),
        Some(DaemonVerb::BrokerSetup { nodes, id, vhost, apply, password_file }) => {
            return setup::broker_setup(&BrokerOrder { nodes, id, vhost, apply, password_file });
        }
        Some(DaemonVerb::DropIn { also, user, read_others, apply }) => {
            return setup::print_drop_in(&DropInOrder { config: arguments.config, also, user, read_others, apply });
        }
        _ => {}
    }
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
        // A reader that has closed the pipe needs no more.
        let _ = writeln!(std::io::stdout(), "{}", loaded.report());
        return ExitCode::SUCCESS;
    }
    match arguments.verb {
        Some(DaemonVerb::Check) => return examine(&loaded),
        Some(DaemonVerb::Keys { spool }) => return ssh::keys(&loaded, spool.as_deref()),
        Some(DaemonVerb::Trust { host, port, fingerprint }) => {
            return ssh::trust_host(&loaded, &host, port, fingerprint.as_deref());
        }
        _ => {}
    }
    let logging = match drivers::logging::init(if arguments.debug { Level::Debug } else { Level::Info }) {
        Ok(logging) => logging,
        Err(error) => {
            complain(&format!("cannot create the thread for the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // A part of the daemon that panicked would never answer again; systemd restarts the whole process instead.
    let last_words = logging.clone();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("bug: {panic}");
        last_words.close();
        std::process::abort();
    }));
    let code = run(loaded, origin, &logging);
    logging.close();
    code
}

fn run(loaded: config::Loaded, origin: daemon::Origin, logging: &drivers::logging::Logging) -> ExitCode {
    match daemon::run(loaded, origin, logging.clone()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = if error.is_for_a_person() { BAD_CONFIG } else { 1 };
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

fn init_order(told: cli::InitArguments, config: Option<PathBuf>) -> InitOrder {
    let cleanup = match (told.cleanup_script, told.cleanup_move) {
        (Some(script), _) => Some(PlannedCleanup::Script(script)),
        (None, Some(directory)) => Some(PlannedCleanup::Move(directory)),
        (None, None) => told.cleanup_delete.then_some(PlannedCleanup::Delete),
    };
    InitOrder {
        mode: match told.mode {
            cli::Mode::Upload => Mode::Upload,
            cli::Mode::Central => Mode::Central,
            cli::Mode::Download => Mode::Download,
        },
        config,
        file_dir: told.file_dir,
        server: told.server,
        id: told.id,
        name: told.name,
        central_host: told.central_host,
        vhost: told.vhost,
        username: told.username,
        password_file: told.password_file,
        tls: told.tls,
        ca_file: told.ca_file,
        item_depth: told.item_depth,
        ready: told.ready,
        used_by: told.used_by,
        cleanup,
        make_dir: told.make_dir,
        force: told.force,
    }
}

/// Checks this node, and prints one JSON document.
fn examine(loaded: &config::Loaded) -> ExitCode {
    let mut findings = vec![check::config(loaded, None)];
    match check::examine_alone(&loaded.settings) {
        Ok(found) => findings.extend(found),
        Err(error) => {
            complain(&format!("cannot create the event loop: {error}"));
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
        // A reader that has closed the pipe needs no more.
        Ok(document) => drop(writeln!(std::io::stdout(), "{document}")),
        Err(error) => complain(&format!("bug: the findings cannot be written as JSON: {error}")),
    }
}

/// Before the log is set up.
fn complain(text: &str) {
    use std::io::Write;
    for line in text.lines() {
        let _ = writeln!(std::io::stderr(), "synkler: {line}");
    }
}
