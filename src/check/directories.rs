//! Permissions of directories, by trial: the check creates, renames and removes a probe file wherever synkler does so.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::{LOCAL_LIMIT, account, account_of, blocking, failed, ok, quoted, stuck, warning};
use crate::config::{Cleanup, Role, Settings};
use crate::control::types::Finding;
use crate::drivers::disk::{Refusal, probe};
use crate::drivers::files::Staging;
use crate::machine::Mode;

/// What a directory must allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Listing.
    Read,
    /// Listing; and a cleanup script probably removes items from there.
    Empty,
    /// Creating, renaming and removing files.
    Write,
    /// The same; the daemon creates the directory if it is missing.
    Make,
}

/// One finding per directory, and one about the user if it is not the user of the service.
pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let state_dir = settings.state_dir.clone();
    findings.extend(blocking(LOCAL_LIMIT, move || user(&state_dir)).await.flatten());
    let tries = directories(settings).into_iter().map(|(check, path, need)| async move {
        let shown = path.display().to_string();
        let tried = blocking(LOCAL_LIMIT, move || word(check, &path, need, try_out(&path, need))).await;
        tried.unwrap_or_else(|| stuck(check, &shown, LOCAL_LIMIT))
    });
    findings.extend(join_all(tries).await);
    findings
}

fn directories(settings: &Settings) -> Vec<(&'static str, PathBuf, Need)> {
    let base = &settings.file_dir;
    let mut list = match (&settings.role, settings.mode()) {
        (Role::Upload { cleanup: Some(_), .. }, _) => vec![("file-dir", base.clone(), Need::Empty)],
        (_, Mode::Upload) => vec![("file-dir", base.clone(), Need::Read)],
        (_, Mode::Central) => {
            let spool = base.join(settings.group.as_str());
            vec![
                ("file-dir", base.clone(), Need::Read),
                ("spool-in", spool.join("in"), Need::Make),
                ("spool-held", spool.join("held"), Need::Make),
            ]
        }
        (_, Mode::Download) => {
            vec![
                ("file-dir", base.clone(), Need::Write),
                ("staging", Staging::new(base.clone(), settings.group.clone()).staging_dir(), Need::Make),
            ]
        }
    };
    if let Role::Upload { cleanup: Some(Cleanup::Move(directory)), .. }
    | Role::Download { cleanup: Some(Cleanup::Move(directory)), .. } = &settings.role
    {
        list.push(("cleanup-move", directory.clone(), Need::Write));
    }
    list.push(("state-dir", settings.state_dir.clone(), Need::Make));
    list
}

/// Whether the directory allows what it must; `false` if it is missing, judged by the nearest existing directory above
/// it.
fn try_out(path: &Path, need: Need) -> Result<bool, Refusal> {
    let list = || {
        accessat(CWD, path, Access::READ_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .map_err(|errno| Refusal::new("read", path, errno))
    };
    match need {
        Need::Read => list().map(|()| true),
        Need::Empty | Need::Write => list().and_then(|()| probe(path)).map(|()| true),
        Need::Make => match probe(path) {
            Err(refusal) if refusal.errno() == Errno::NOENT => {
                let above = path.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/"));
                probe(above).map(|()| false)
            }
            tried => tried.map(|()| true),
        },
    }
}

fn word(check: &str, path: &Path, need: Need, tried: Result<bool, Refusal>) -> Finding {
    let shown = path.display();
    let refusal = match tried {
        Ok(true) if need == Need::Read => return ok(check, format!("{shown} can be read")),
        Ok(true) => return ok(check, format!("{shown} can be read and written")),
        Ok(false) => return ok(check, format!("{shown} does not exist yet and can be created")),
        Err(refusal) => refusal,
    };
    let cure = cure(path, &refusal);
    // Only the script itself knows what else it needs.
    let readable = matches!(try_out(path, Need::Read), Ok(true));
    if need == Need::Empty && readable {
        let text = format!("{refusal}: the cleanup cannot remove items, if it runs as this user");
        return warning(check, text, cure);
    }
    failed(check, refusal.to_string(), cure)
}

fn cure(path: &Path, refusal: &Refusal) -> String {
    let (dir, user) = (quoted(path), account());
    match refusal.errno() {
        Errno::NOENT => format!("mkdir -p {dir} && chown {user}: {dir}"),
        Errno::NOTDIR | Errno::LOOP => format!("ls -ld {dir}: move away what is there, then mkdir -p {dir}"),
        Errno::ACCESS | Errno::PERM => {
            format!("chown {user}: {dir} && chmod u+rwx {dir}; each directory above it needs: chmod o+x")
        }
        Errno::ROFS => format!(
            "mount -o remount,rw $(findmnt -no TARGET -T {dir}), or if it is read-only for the service alone: \
             systemctl edit synkler, with ReadWritePaths={} below [Service]",
            path.display()
        ),
        Errno::NOSPC | Errno::DQUOT => {
            format!("free some space: du -xh --max-depth=2 {dir} | sort -h shows the largest directories")
        }
        _ => "look for disk errors: journalctl -k -e".to_owned(),
    }
}

/// The permissions of root say nothing about those of the service.
fn user(state_dir: &Path) -> Option<Finding> {
    let owner = std::fs::metadata(state_dir).ok()?.uid();
    let me = rustix::process::geteuid().as_raw();
    if owner == me {
        return None;
    }
    let (owner, me) = (account_of(owner), account());
    let text = format!("the check runs as {me}, but {} belongs to {owner}", state_dir.display());
    Some(warning("user", text, format!("sudo -u {owner} synkler check, or with the daemon running: synklerctl check")))
}
