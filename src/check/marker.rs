//! Whether `file_dir` is the directory that the journal knows.

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::{LOCAL_LIMIT, blocking, failed, ok, quoted, skipped, stuck};
use crate::config::Settings;
use crate::control::types::Finding;
use crate::drivers::files::FileDir;
use crate::drivers::journal::{Owner, inspect};
use crate::machine::{Cause, Directory, KnownDirectory, Node, Verdict, judge};

const CHECK: &str = "marker";

pub(super) async fn examine(settings: &Settings) -> Finding {
    let path = settings.file_dir.clone();
    let owner = Owner { group: settings.group.clone(), node: settings.node.clone() };
    let (state_dir, dir) = (settings.state_dir.clone(), path.clone());
    let look = move || look(&state_dir, owner, dir);
    let shown = path.display().to_string();
    match blocking(LOCAL_LIMIT, look).await {
        Some((known, found, node)) => word(&path, known.as_ref(), &found, &node),
        None => stuck(CHECK, &shown, LOCAL_LIMIT),
    }
}

/// What the journal knows, and what is there. That the journal cannot be read is another finding.
fn look(state_dir: &Path, owner: Owner, dir: PathBuf) -> (Option<KnownDirectory>, Directory, Node) {
    let known = inspect(state_dir, &owner).ok().and_then(|inspected| inspected.content?.directory);
    let (events, _nobody) = mpsc::channel(1);
    let found = FileDir::new(dir, owner.group, owner.node.clone(), events).look();
    (known, found, owner.node)
}

fn word(path: &Path, known: Option<&KnownDirectory>, found: &Directory, node: &Node) -> Finding {
    let shown = path.display();
    let marker = match found {
        Directory::Present { marker, .. } => marker.as_ref(),
        Directory::Missing(_) => None,
    };
    match judge(known, node, found) {
        Verdict::Known if marker.is_some() => ok(CHECK, format!("{shown} has the marker of this node")),
        Verdict::Known => {
            ok(CHECK, format!("{shown} is the directory it was, by its file system and inode; it has no marker"))
        }
        Verdict::New => skipped(CHECK, format!("{shown} is not in the journal yet: the first start marks it")),
        // That it is missing is another finding.
        Verdict::Wrong(_) if known.is_none() && marker.is_none() => {
            skipped(CHECK, format!("{shown} is not in the journal yet"))
        }
        Verdict::Wrong(why) => {
            let cure = format!(
                "findmnt --target {}: mount what is missing; or if the change is intended: synklerctl adopt",
                quoted(path)
            );
            failed(CHECK, format!("{shown}: {} ({why})", Cause::Directory.text()), cure)
        }
    }
}
