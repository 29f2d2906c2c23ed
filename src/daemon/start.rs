//! From settings to a running daemon, and from a signal to its end.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::asks::Asks;
use super::drivers::Drivers;
use super::settings::{Origin, carries_modes, cleanup_of, role_settings};
use super::{Daemon, DaemonError, Signals, status};
use crate::check::broker_settings;
use crate::config::{Loaded, Settings};
use crate::control::{Control, ControlError, Service};
use crate::drivers::broker::Broker;
use crate::drivers::clock::Clock;
use crate::drivers::files::{FileDir, Files, Layout, LayoutError, Source, Spool, Staging};
use crate::drivers::journal::{Journal, JournalError, Owner};
use crate::drivers::logging::Logging;
use crate::drivers::manifest::{Site, SurveyError};
use crate::drivers::rsync::{self, Rsync, VersionError};
use crate::drivers::watch::{Surveyed, Watch};
use crate::drivers::{sys, systemd};
use crate::machine::{
    BadRow, Directory, Input, InvalidLocation, ItemName, Machine, Mode, Restored, RoleSettings, Verdict, judge,
};
use crate::ssh;

/// How many answers of the drivers may stand before the loop; a driver with more waits.
const INPUTS: usize = 1024;
const BROKER_EVENTS: usize = 1024;
const QUERIES: usize = 64;
/// Threads for digests and disk work.
const WORKERS: usize = 4;
/// What the end of all parts may take; with the second that the log may take, it stays below five.
const STOP_WAIT: Duration = Duration::from_millis(3500);
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why a daemon does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory cannot serve.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal holds what this role cannot take up.
    #[error(transparent)]
    Row(#[from] BadRow),
    /// The control socket cannot be bound.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// rsync cannot serve.
    #[error(transparent)]
    Rsync(#[from] VersionError),
    /// Central's directory cannot be named to the others.
    #[error("central_host and file_dir")]
    Spool(#[from] InvalidLocation),
    /// The kernel gives neither event loop nor threads.
    #[error("cannot create the event loop or threads")]
    System(#[source] std::io::Error),
    /// It ran, and ended.
    #[error(transparent)]
    Ended(#[from] DaemonError),
}

impl StartError {
    /// Whether a person has to put something right before the next start: the settings or what they name, or a journal
    /// that was taken away, without which a start would succeed and remember nothing. Where room, a lock or another
    /// daemon's end is waited for, a later start may do.
    pub fn is_for_a_person(&self) -> bool {
        match self {
            Self::Layout(error) => error.is_lasting(),
            Self::Journal(error) => error.is_lasting(),
            Self::Control(error) => error.is_lasting(),
            Self::Rsync(error) => error.is_lasting(),
            Self::Row(_) | Self::Spool(_) | Self::Ended(DaemonError::Taken(_)) => true,
            Self::System(_) | Self::Ended(_) => false,
        }
    }
}

/// Runs one node until SIGTERM or SIGINT; the process is to end when this returns. `origin` is where the config came
/// from, to be read again when asked for, `logging` the log whose level can be set then. READY is told when journal and
/// control socket are up; the broker may come later.
///
/// # Errors
///
/// See [`StartError`]; each names the file, key or host and what to do.
pub fn run(loaded: Loaded, origin: Origin, logging: Logging) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(32)
        .build()
        .map_err(StartError::System)?;
    let ended = runtime.block_on(serve(loaded, origin, logging));
    // A digest or a look at a large directory may still be going on, and nobody waits for its answer. The AMQP
    // library has threads of its own that look at this runtime's clock until the process is gone, and panic if it
    // stops before them.
    std::mem::forget(runtime);
    ended
}

async fn serve(loaded: Loaded, origin: Origin, logging: Logging) -> Result<(), StartError> {
    let Loaded { settings, notices, .. } = loaded;
    let mut signals = Signals::new()?;
    let clock = Clock::start();
    let layout = layout(&settings, clock);
    let owner = Owner { group: settings.group.clone(), node: settings.node.clone() };
    let (journal, restored) = Journal::open(&settings.state_dir, &owner)?;
    let journal = Arc::new(journal);
    let control = match systemd::passed_socket().map_err(ControlError::Passed)? {
        Some(listener) => Control::passed(listener, sys::peer_groups)?,
        None => Control::bind(&settings.control_socket, sys::peer_groups)?,
    };
    let (inputs, input_queue) = mpsc::channel(INPUTS);
    let (broker_sender, broker_events) = mpsc::channel(BROKER_EVENTS);
    let (queries, query_queue) = mpsc::channel(QUERIES);
    let (reads, configs) = mpsc::channel(1);
    let unfinished = restored.rows.len();
    let (directory, found) = directory(&settings, &layout, &restored, &inputs)?;
    let mut machine = machine(&settings, restored, &clock)?;
    machine.handle(clock.now(), Input::Directory(found));
    let rsync = rsync(&settings, &layout, &directory, &inputs).await?;
    let files = Files::new(layout, inputs.clone(), WORKERS).map_err(StartError::System)?.within(directory.clone());
    let watch = (settings.mode() == Mode::Upload).then(|| watch(&settings.file_dir, &directory, inputs.clone()));
    let broker = Broker::start(broker_settings(&settings), broker_sender);
    let asks = Asks::new(broker.line(), clock.now());
    let mut drivers = Drivers {
        mode: settings.mode(),
        file_dir: settings.file_dir.clone(),
        broker,
        files,
        rsync,
        cleanup: None,
        _watch: watch,
        _lookout: directory.look_out(),
        directory,
        inputs,
    };
    drivers.set_cleanup(cleanup_of(&settings));
    let socket = control.path().to_owned();
    let service = Service::new(settings.group.clone(), settings.file_dir.clone(), queries);
    let serving = tokio::spawn(control.serve(service.clone()));
    tracing::info!(
        "synkler {VERSION} is {} of group {}, with {unfinished} unfinished transfers; directory {}, journal in {}, control socket {}",
        settings.node,
        settings.group,
        settings.file_dir.display(),
        settings.state_dir.display(),
        socket.display(),
    );
    notices.iter().for_each(|notice| tracing::info!("{notice}"));
    let mut daemon = Daemon {
        machine,
        settings,
        origin,
        logging,
        clock,
        journal,
        drivers,
        service,
        asks,
        examining: Arc::new(Semaphore::new(1)),
        reads,
        inputs: input_queue,
        broker_events,
        queries: query_queue,
        configs,
        status: status::Reporter::new(),
        look_at: Instant::now(),
    };
    systemd::ready();
    let ended = daemon.work(&mut signals).await;
    systemd::stopping();
    if let Ok(signal) = &ended {
        tracing::info!("{signal}: stopping; transfers continue at the next start");
    }
    serving.abort();
    stop(daemon).await;
    ended?;
    Ok(())
}

/// Ends what runs, in bounded time; the journal is closed last.
async fn stop(daemon: Daemon) {
    let Daemon { drivers, journal, mut inputs, mut broker_events, .. } = daemon;
    // Drivers that still have something to say must not wait for a loop that listens no more.
    inputs.close();
    broker_events.close();
    let Drivers { broker, mut rsync, .. } = drivers;
    let rsync_ended = async {
        if let Some(rsync) = &mut rsync {
            rsync.halt_all().await;
        }
    };
    let _ = tokio::time::timeout(STOP_WAIT, async { tokio::join!(rsync_ended, broker.close()) }).await;
    drop(journal);
}

fn layout(settings: &Settings, clock: Clock) -> Layout {
    let file_dir = settings.file_dir.clone();
    let group = settings.group.clone();
    match settings.mode() {
        Mode::Upload => Layout::Upload(Source::new(file_dir, clock)),
        Mode::Central => Layout::Central(Spool::new(file_dir, group)),
        Mode::Download => Layout::Download(Staging::new(file_dir, group)),
    }
}

/// What stands at `file_dir`. Only a directory that is this node's, or is to become that, is made ready for work.
fn directory(
    settings: &Settings,
    layout: &Layout,
    restored: &Restored,
    inputs: &mpsc::Sender<Input>,
) -> Result<(FileDir, Directory), LayoutError> {
    let directory =
        FileDir::new(settings.file_dir.clone(), settings.group.clone(), settings.node.clone(), inputs.clone());
    let known = restored.directory.as_ref();
    let found = directory.look();
    // Where nothing is known yet, what is missing may be what is made now.
    let fit = match judge(known, &settings.node, &found) {
        Verdict::Known | Verdict::New => true,
        Verdict::Wrong(_) => known.is_none() && matches!(found, Directory::Missing(_)),
    };
    if fit {
        layout.prepare()?;
    } else {
        directory.trust(None);
    }
    let found = directory.first_look();
    Ok((directory, found))
}

/// Central runs no rsync of its own: the others come to it.
async fn rsync(
    settings: &Settings,
    layout: &Layout,
    directory: &FileDir,
    inputs: &mpsc::Sender<Input>,
) -> Result<Option<Rsync>, StartError> {
    let staging_dir = match layout {
        Layout::Central(_) => return Ok(None),
        Layout::Download(staging) => staging.staging_dir(),
        Layout::Upload(source) => source.file_dir().to_owned(),
    };
    let runtime_dir = ssh::first_of("RUNTIME_DIRECTORY").unwrap_or_else(|| settings.state_dir.clone());
    let ssh = rsync::Ssh { sockets: Some(runtime_dir.join("ssh-sockets")), ..ssh::of_service(settings) };
    let settings = rsync::Settings {
        program: settings.rsync.program.clone(),
        options: settings.rsync.options.clone(),
        file_dir: settings.file_dir.clone(),
        staging_dir,
        modes: carries_modes(settings),
        ssh,
    };
    let directory = directory.clone();
    let rsync = Rsync::new(settings, inputs.clone()).only_if(move || directory.enter().map(drop));
    let version = rsync.check_version().await?;
    tracing::debug!("rsync {version}");
    Ok(Some(rsync))
}

fn watch(file_dir: &Path, directory: &FileDir, inputs: mpsc::Sender<Input>) -> Watch {
    let path = file_dir.to_owned();
    let survey = move |dir: BorrowedFd<'_>, item: &ItemName| {
        let Ok(dir) = dir.try_clone_to_owned() else { return Surveyed::Unreadable };
        match Site::within(dir, &path, item).survey() {
            Ok(survey) => Surveyed::Present { signature: survey.signature(), size: survey.size() },
            Err(SurveyError::Gone) => Surveyed::Gone,
            Err(_) => Surveyed::Unreadable,
        }
    };
    let directory = directory.clone();
    Watch::start(file_dir, survey, move |dir| directory.knows(dir), inputs)
}

fn machine(settings: &Settings, restored: Restored, clock: &Clock) -> Result<Machine, StartError> {
    // The standard library's hash keys are the process's own random numbers.
    let seed = RandomState::new().build_hasher().finish();
    let now = clock.now();
    Ok(match role_settings(settings)? {
        RoleSettings::Upload(role) => Machine::upload(role, restored, seed, now)?,
        RoleSettings::Central(role) => Machine::central(role, restored, seed, now)?,
        RoleSettings::Download(role) => Machine::download(role, restored, seed, now)?,
    })
}
