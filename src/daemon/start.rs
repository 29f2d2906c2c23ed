//! From settings to a running daemon, and from a signal to its end.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::asks::Asks;
use super::drivers::{Cleanup, Drivers};
use super::settings::{Origin, carries_modes, role_settings};
use super::{Daemon, DaemonError, Signals, status};
use crate::check::broker_settings;
use crate::config::{ItemPatterns, Loaded, Role, Settings};
use crate::control::{Control, ControlError, Service};
use crate::drivers::broker::Broker;
use crate::drivers::clock::Clock;
use crate::drivers::files::{FileDir, Files, Layout, LayoutError, Source, Spool, Staging};
use crate::drivers::journal::{Journal, JournalError, Owner};
use crate::drivers::logging::Logging;
use crate::drivers::manifest::SurveyError;
use crate::drivers::rsync::{self, Rsync, VersionError};
use crate::drivers::watch::{Surveyed, Watch};
use crate::drivers::{keeps, sys, systemd};
use crate::machine::{
    BadRow, Directory, Input, InvalidLocation, ItemName, Machine, Restored, RoleSettings, Verdict, judge,
};
use crate::ssh;

/// How many events of the drivers may wait for the loop; a driver with more waits.
const INPUTS: usize = 1024;
const BROKER_EVENTS: usize = 1024;
const QUERIES: usize = 64;
/// Threads for digests and disk work.
const WORKERS: usize = 4;
/// How long the end of all parts may take. With the second that the log may take, the total stays below five seconds.
const STOP_WAIT: Duration = Duration::from_millis(3500);
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why a daemon does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory cannot be used.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal has a value that is invalid for this role.
    #[error(transparent)]
    Row(#[from] BadRow),
    /// The control socket cannot be bound.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// rsync cannot be used.
    #[error(transparent)]
    Rsync(#[from] VersionError),
    /// Central's directory cannot be announced to other nodes.
    #[error("central_host and file_dir")]
    Spool(#[from] InvalidLocation),
    /// The kernel provides no event loop or threads.
    #[error("cannot create the event loop or threads")]
    System(#[source] std::io::Error),
    /// The daemon ran, and has ended.
    #[error(transparent)]
    Ended(#[from] DaemonError),
}

impl StartError {
    /// Whether a person has to fix something before the next start: the settings or what they name, or a journal that
    /// was removed. Without that journal a start would succeed and remember nothing. If the daemon only lacks space, or
    /// waits for a lock or the end of another daemon, a later start may succeed.
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

/// Runs one node until SIGTERM or SIGINT; the process must end when this returns. `origin` is the origin of the config,
/// for a reload. `logging` is the log whose level can be set. READY is sent when journal and control socket are up; the
/// broker session may come later.
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
    // A digest or a look at a large directory may still be running, and nothing waits for its answer. The AMQP library
    // has threads of its own that use this runtime's clock until the process ends, and panic if it stops before them.
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
    let mut machine = machine(&settings, &layout, restored, &clock)?;
    machine.handle(clock.now(), Input::Directory(found));
    let rsync = rsync(&settings, &layout, &directory, &inputs).await?;
    let watch = match &settings.role {
        Role::Upload { items, .. } => watch(&layout, items.clone(), &directory, inputs.clone()),
        Role::Central { .. } | Role::Download { .. } => None,
    };
    let files = Files::new(layout, inputs.clone(), WORKERS).map_err(StartError::System)?.within(directory.clone());
    let broker = Broker::start(broker_settings(&settings), broker_sender);
    let cleanup = Cleanup::of(&settings, &directory, &inputs);
    let asks = Asks::new(broker.line(), clock.now());
    let drivers = Drivers {
        mode: settings.mode(),
        file_dir: settings.file_dir.clone(),
        broker,
        files,
        rsync,
        cleanup,
        _watch: watch,
        _lookout: directory.look_out(),
        directory,
        inputs,
    };
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

/// Ends the parts, in limited time; the journal is closed last.
async fn stop(daemon: Daemon) {
    let Daemon { drivers, journal, mut inputs, mut broker_events, .. } = daemon;
    // Drivers with further events must not wait for a loop that has ended.
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
    match &settings.role {
        Role::Upload { items, keep, .. } => {
            let ignore = items.ignore.clone();
            let source = Source::new(file_dir, items.depth, clock, move |path| ignore.matches(path));
            Layout::Upload(source.with_ready(items.ready.clone()).with_keep(*keep))
        }
        Role::Central { .. } => Layout::Central(Spool::new(file_dir, group)),
        Role::Download { ownership, .. } => Layout::Download(Staging::new(file_dir, group).giving(ownership.clone())),
    }
}

/// Finds out which directory is at `file_dir`, and prepares it if it belongs to this node or to no node yet.
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
    // If the journal knows no directory yet, `prepare` may create the missing one.
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

/// Central runs no rsync of its own: other nodes connect to it.
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

fn watch(layout: &Layout, items: ItemPatterns, directory: &FileDir, inputs: mpsc::Sender<Input>) -> Option<Watch> {
    let Layout::Upload(source) = layout else { return None };
    let (file_dir, source) = (source.file_dir().to_owned(), source.clone());
    let survey = move |dir: BorrowedFd<'_>, item: &ItemName| match source.survey(dir, item) {
        Ok((survey, unmarked)) => Surveyed::Present { signature: survey.signature(), size: survey.size(), unmarked },
        Err(SurveyError::Gone) => Surveyed::Gone,
        Err(_) => Surveyed::Unreadable,
    };
    let directory = directory.clone();
    let marker = items.ready.marker().cloned();
    Some(Watch::start(
        &file_dir,
        items.depth,
        marker,
        move |name| items.is_item(name),
        survey,
        move |dir| directory.knows(dir),
        inputs,
    ))
}

/// Whether a spool has hard links, as far as that can be found out.
fn has_links(layout: &Layout) -> bool {
    let Layout::Central(spool) = layout else { return true };
    keeps::try_out(&spool.held_dir()).map_or(true, |kept| kept.hard_links)
}

fn machine(settings: &Settings, layout: &Layout, restored: Restored, clock: &Clock) -> Result<Machine, StartError> {
    // The hash keys of the standard library are random numbers of the process.
    let seed = RandomState::new().build_hasher().finish();
    let now = clock.now();
    Ok(match role_settings(settings, has_links(layout))? {
        RoleSettings::Upload(role) => Machine::upload(role, restored, seed, now)?,
        RoleSettings::Central(role) => Machine::central(role, restored, seed, now)?,
        RoleSettings::Download(role) => Machine::download(role, restored, seed, now)?,
    })
}
