//! rsync on this host: whether it exists and is new enough.

use super::{LOCAL_LIMIT, failed, ok, quoted, stuck};
use crate::config::Settings;
use crate::control::types::Finding;
use crate::drivers::files::Staging;
use crate::drivers::rsync::{self, Rsync, VersionError};
use crate::machine::Mode;
use crate::ssh;

const CHECK: &str = "rsync";

pub(super) async fn examine(settings: &Settings) -> Finding {
    let rsync = driver(settings);
    let Ok(checked) = tokio::time::timeout(LOCAL_LIMIT, rsync.check_version()).await else {
        return stuck(CHECK, &settings.rsync.program.display().to_string(), LOCAL_LIMIT);
    };
    let program = settings.rsync.program.display();
    match checked {
        Ok(version) => ok(CHECK, format!("{program} is version {version}")),
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            failed(CHECK, format!("{error}{source}"), cure(settings, &error))
        }
    }
}

fn cure(settings: &Settings, error: &VersionError) -> String {
    let program = quoted(&settings.rsync.program);
    let install = match error {
        VersionError::Old { .. } => "apt-get install --only-upgrade rsync",
        VersionError::NotStarted { .. } | VersionError::Strange { .. } => "apt-get install rsync",
    };
    if settings.mode() == Mode::Central {
        return format!("{install}: the other nodes start it here by ssh");
    }
    format!("{install} (or the package manager of this system), or set rsync to another program than {program}")
}

/// The same driver as in the daemon, for its checks without a run.
pub(super) fn driver(settings: &Settings) -> Rsync {
    let file_dir = settings.file_dir.clone();
    let staging_dir = Staging::new(file_dir.clone(), settings.group.clone()).staging_dir();
    let (program, options) = (settings.rsync.program.clone(), settings.rsync.options.clone());
    // No run starts here, so nothing reads the events. A new connection is made, so that the check sees it work.
    let ssh = ssh::of_service(settings);
    Rsync::new(
        rsync::Settings { program, options, file_dir, staging_dir, modes: true, ssh },
        tokio::sync::mpsc::channel(1).0,
    )
}
