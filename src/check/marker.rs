//! Whether `file_dir` is the directory that the journal knows.

use std::path::Path;

use tokio::sync::mpsc;

use super::{LOCAL_LIMIT, blocking, failed, ok, quoted, skipped, stuck};
use crate::config::Settings;
use crate::control::types::Finding;
use crate::drivers::files::FileDir;
use crate::machine::{Cause, Directory, KnownDirectory, Node, Verdict, judge};

const CHECK: &str = "marker";

/// `known` is the directory that the journal knows, if the journal could be read.
pub(super) async fn examine(settings: &Settings, known: Option<Option<KnownDirectory>>) -> Finding {
    let Some(known) = known else { return skipped(CHECK, "the journal must be readable first") };
    let (path, group, node) = (settings.file_dir.clone(), settings.group.clone(), settings.node.clone());
    let look = move || {
        let (events, _nobody) = mpsc::channel(1);
        FileDir::new(path, group, node, events).look()
    };
    match blocking(LOCAL_LIMIT, look).await {
        Some(found) => word(&settings.file_dir, known.as_ref(), &found, &settings.node),
        None => stuck(CHECK, &settings.file_dir.display().to_string(), LOCAL_LIMIT),
    }
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
        // Another check reports a missing directory.
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
