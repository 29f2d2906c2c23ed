//! The origin of the settings, and the settings of each part of the daemon.

use std::path::{Path, PathBuf};

use crate::config::{self, Cleanup, ConfigError, Environment, Loaded, Role, Settings};
use crate::machine::{
    self, CentralSettings, DownloadSettings, InvalidLocation, KeepModes, Location, RoleSettings, UploadSettings,
};

/// The origin of a config.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The file given by name; without one, the search finds the file.
    pub explicit: Option<PathBuf>,
    /// The environment, which overrides the file.
    pub environment: Environment,
}

impl Origin {
    /// Reads the config.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        config::load(self.explicit.as_deref(), &self.environment)
    }
}

/// The settings of the machine. `links`: whether a spool has hard links.
pub(super) fn role_settings(settings: &Settings, links: bool) -> Result<RoleSettings, InvalidLocation> {
    let (me, version) = (settings.node.name.clone(), env!("CARGO_PKG_VERSION").to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(match &settings.role {
        Role::Upload { settle, slots, cleanup, items, keep } => RoleSettings::Upload(UploadSettings {
            me,
            version,
            host,
            settle: *settle,
            depth: items.depth,
            ready: items.ready.clone(),
            keep: *keep,
            slots: *slots,
            cleanup: who_cleans_up(cleanup.as_ref(), &settings.file_dir),
        }),
        Role::Central { host: reached_at, receivers, keep, free, keep_modes } => {
            let path = format!("{}/{}", settings.file_dir.display().to_string().trim_end_matches('/'), settings.group);
            let spool = Location::new(reached_at, &path)?;
            RoleSettings::Central(CentralSettings {
                me,
                version,
                host,
                receivers: receivers.clone(),
                keep: *keep,
                free_millipercent: free.thousandths(),
                keep_modes: *keep_modes,
                links,
                spool,
            })
        }
        Role::Download { slots, cleanup, keep_modes, ownership } => RoleSettings::Download(DownloadSettings {
            me,
            version,
            host,
            directory: settings.file_dir.display().to_string(),
            slots: *slots,
            cleanup: who_cleans_up(cleanup.as_ref(), &settings.file_dir),
            keep_modes: *keep_modes,
            ownership: ownership.clone(),
        }),
    })
}

/// How many bytes of names, and how many of the directories before them, one script gets. The kernel takes a quarter of
/// the stack limit (2 MiB, as a rule), and at least 128 KiB, for the arguments and the environment.
const LOT_BYTES: usize = 48 << 10;

/// Whether runs carry modes.
pub(super) fn carries_modes(settings: &Settings) -> bool {
    !matches!(settings.role, Role::Download { keep_modes: KeepModes::No, .. })
}

fn who_cleans_up(cleanup: Option<&Cleanup>, file_dir: &Path) -> machine::Cleaner {
    match cleanup {
        None => machine::Cleaner::None,
        Some(Cleanup::Script(script)) if script.takes_all() => {
            // Each argument repeats the directory, and has a pointer and an end.
            let each = file_dir.as_os_str().len() + 10;
            let items = (LOT_BYTES / each).clamp(1, machine::LOT_LIMIT);
            machine::Cleaner::Lots(machine::Lot { items, bytes: LOT_BYTES })
        }
        Some(Cleanup::Script(_)) => machine::Cleaner::Script,
        Some(Cleanup::Move(_) | Cleanup::Delete) => machine::Cleaner::Own,
    }
}

/// What is done after a hand-over; nothing on central.
pub(super) fn cleanup_of(settings: &Settings) -> Option<Cleanup> {
    match &settings.role {
        Role::Upload { cleanup, .. } | Role::Download { cleanup, .. } => cleanup.clone(),
        Role::Central { .. } => None,
    }
}
