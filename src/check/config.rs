//! The config: whether it can be read now, and whether the daemon works with it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{failed, ok, quoted, warning};
use crate::config::{ConfigError, LIVE, Loaded, Settings, differences};
use crate::control::types::Finding;

const CHECK: &str = "config";

/// For a config that was just read; `in_force` is the config of the daemon, if the daemon runs.
pub fn config(loaded: &Loaded, in_force: Option<&Settings>) -> Finding {
    let open = loaded.file.as_deref().filter(|path| is_open(path));
    word(loaded, in_force, open)
}

/// For a config that is invalid.
pub fn bad_config(error: &ConfigError) -> Finding {
    let problems = error.problems();
    let cure = "correct this; synkler --check prints the settings in force and the source of each";
    failed(CHECK, problems.join("; "), cure)
}

/// Whether every user can read the file.
fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

fn word(loaded: &Loaded, in_force: Option<&Settings>, open: Option<&Path>) -> Finding {
    let source = match &loaded.file {
        Some(path) => path.display().to_string(),
        None => "environment".to_owned(),
    };
    let changed = in_force.map(|settings| differences(settings, &loaded.settings)).unwrap_or_default();
    if !changed.is_empty() {
        let cure = if changed.iter().all(|key| LIVE.contains(key)) {
            "synklerctl reload"
        } else {
            "systemctl restart synkler"
        };
        let text = format!("{source} changed: the daemon still uses the old values of {}", changed.join(", "));
        return warning(CHECK, text, cure);
    }
    if let Some(path) = open.filter(|_| loaded.sets_password()) {
        let path = quoted(path);
        let text = format!("{path} holds a password and is readable for every user of this host");
        return warning(CHECK, text, format!("chgrp synkler {path} && chmod 640 {path}"));
    }
    ok(CHECK, [source].into_iter().chain(loaded.notices.iter().cloned()).collect::<Vec<_>>().join("; "))
}
