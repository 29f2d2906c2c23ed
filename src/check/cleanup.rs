//! The cleanup: whether what moves is renamed or copied, and whether a script does what synkler does better.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::{LOCAL_LIMIT, blocking, ok, warning};
use crate::config::{Cleanup, Role, Settings};
use crate::control::types::Finding;

const CHECK: &str = "cleanup";

/// Returns nothing if no cleanup is set, or if there is nothing to report. The check of the directories tests whether
/// `cleanup_move` is writable.
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
    // In the sandbox of the service, two directories of one file system may be two mounts.
    let mount = |dir: &Path| {
        let stat = statx(CWD, dir, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        Some((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_mnt_id))
    };
    let (shown, from_mount, to_mount) = (to.display(), mount(from)?, mount(to)?);
    Some(if from_mount == to_mount {
        ok(CHECK, format!("delivered items move to {shown} by rename"))
    } else {
        ok(CHECK, format!("delivered items move to {shown}, on another mount than file_dir: each item is copied"))
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
