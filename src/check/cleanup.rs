//! The cleanup: whether what moves is renamed or copied, and whether a script does what synkler does better.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{LOCAL_LIMIT, blocking, ok, warning};
use crate::config::{Cleanup, Role, Settings};
use crate::control::types::Finding;

const CHECK: &str = "cleanup";

/// Nothing where no cleanup is set, or nothing is to be said of it. Whether the directory can be written to is tried with
/// the others.
pub(super) async fn examine(settings: &Settings) -> Option<Finding> {
    let (Role::Upload { cleanup: Some(cleanup), .. } | Role::Download { cleanup: Some(cleanup), .. }) = &settings.role
    else {
        return None;
    };
    match cleanup {
        Cleanup::Move(directory) => {
            let (from, to) = (settings.file_dir.clone(), directory.clone());
            blocking(LOCAL_LIMIT, move || moves(&from, &to)).await.flatten()
        }
        Cleanup::Script(script) => script.plain_move().map(|(directory, keeps)| script_moves(directory, keeps)),
        Cleanup::Delete => Some(ok(CHECK, "delivered items are deleted")),
    }
}

fn moves(from: &Path, to: &Path) -> Option<Finding> {
    let device = |dir: &Path| dir.metadata().ok().map(|stat| stat.dev());
    let (shown, from_device, to_device) = (to.display(), device(from)?, device(to)?);
    Some(if from_device == to_device {
        ok(CHECK, format!("delivered items move to {shown} by rename"))
    } else {
        ok(CHECK, format!("delivered items move to {shown}, on another file system than file_dir: each item is copied"))
    })
}

fn script_moves(directory: &Path, keeps: bool) -> Finding {
    let directory = directory.display().to_string();
    let directory = directory.trim_end_matches('/');
    let better = "starts no process and keeps both items if a name is taken";
    if keeps {
        return ok(CHECK, format!("cleanup_script only moves items to {directory}: cleanup_move {better}"));
    }
    warning(
        CHECK,
        format!(
            "cleanup_script moves items to {directory} and overwrites an older item of the same name there: cleanup_move {better}"
        ),
        format!("set cleanup_move = \"{directory}\" in place of cleanup_script, then: systemctl reload synkler"),
    )
}
