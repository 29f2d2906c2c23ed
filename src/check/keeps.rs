//! What the file system that receives items stores of them, found by trial, and the consequences.

use std::path::{Path, PathBuf};

use super::{LOCAL_LIMIT, blocking, failed, ok, skipped, stuck, warning};
use crate::config::{Role, Settings};
use crate::control::types::Finding;
use crate::drivers::disk::{Refusal, file_system_at};
use crate::drivers::files::Staging;
use crate::drivers::keeps::{Keeps, try_out};
use crate::machine::KeepModes;

const CHECK: &str = "fs-features";

/// One finding on central and on a download; an upload only reads.
pub(super) async fn examine(settings: &Settings) -> Option<Finding> {
    let (dir, keep_modes) = match &settings.role {
        Role::Upload { .. } => return None,
        Role::Central { keep_modes, .. } => (settings.file_dir.join(settings.group.as_str()).join("held"), *keep_modes),
        Role::Download { keep_modes, .. } => {
            (Staging::new(settings.file_dir.clone(), settings.group.clone()).staging_dir(), *keep_modes)
        }
    };
    let shown = dir.display().to_string();
    let tried = blocking(LOCAL_LIMIT, move || {
        let dir = nearest(&dir);
        (file_system_at(&dir), try_out(&dir), dir)
    });
    Some(match tried.await {
        Some((name, kept, dir)) => word(&dir, name, kept, keep_modes),
        None => stuck(CHECK, &shown, LOCAL_LIMIT),
    })
}

fn nearest(dir: &Path) -> PathBuf {
    dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn word(dir: &Path, name: &str, kept: Result<Keeps, Refusal>, keep_modes: KeepModes) -> Finding {
    let Ok(kept) = kept else {
        return skipped(CHECK, format!("{} must be writable first", dir.display()));
    };
    let mut lacks = Vec::new();
    match (kept.modes, kept.set_group_id) {
        (false, _) => lacks.push("no permission bits: items are delivered, and differences are reported"),
        (true, false) => {
            lacks.push("no set-group-id bit for this user: items are delivered, and differences are reported")
        }
        (true, true) => {}
    }
    for (keeps, text) in [
        (kept.times, "no modification times"),
        (kept.links, "no symbolic links: items with symbolic links wait with the reason unfit"),
        (kept.case, "no difference between `A` and `a`: items with both names wait with the reason unfit"),
        (kept.names, "no names with : or ?: items with such names wait with the reason unfit"),
        (kept.noreplace, "no rename without replacing: do not let other programs create items there"),
    ] {
        if !keeps {
            lacks.push(text);
        }
    }
    let on = format!("{} ({name})", dir.display());
    if lacks.is_empty() {
        let extras = [(kept.hard_links, "hard links"), (kept.xattrs, "extended attributes"), (kept.acls, "ACLs")];
        let missing: Vec<_> = extras.into_iter().filter(|(keeps, _)| !keeps).map(|(_, name)| name).collect();
        let but = if missing.is_empty() { String::new() } else { format!(", but no {}", missing.join(", no ")) };
        return ok(CHECK, format!("{on} keeps permission bits, times, links, upper and lower case{but}"));
    }
    let text = format!("{on} has {}", lacks.join("; "));
    let move_away = "set file_dir to a directory on a Linux file system (ext4, xfs, btrfs), or accept the limits";
    if keep_modes == KeepModes::Yes && !kept.modes {
        let cure = "set keep_modes = \"try\", or file_dir to a directory on a Linux file system (ext4, xfs, btrfs)";
        return failed(CHECK, format!("{text}; with keep_modes = \"yes\" most items are refused"), cure);
    }
    warning(CHECK, text, move_away)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_said() {
        let all = Keeps {
            modes: true,
            set_group_id: true,
            times: true,
            links: true,
            hard_links: true,
            xattrs: true,
            acls: true,
            case: true,
            names: true,
            noreplace: true,
        };
        let of = |kept, keep_modes| word(Path::new("/x"), "exfat", Ok(kept), keep_modes);
        assert_eq!(of(all, KeepModes::Yes).result, "ok");
        let plain = of(Keeps { xattrs: false, acls: false, ..all }, KeepModes::Yes);
        assert_eq!(plain.result, "ok");
        assert!(plain.text.ends_with("lower case, but no extended attributes, no ACLs"), "{}", plain.text);
        let stick = Keeps { modes: false, links: false, case: false, ..all };
        let found = of(stick, KeepModes::Try);
        assert_eq!(found.result, "warning");
        for word in ["/x (exfat) has no permission bits", "no symbolic links", "`A` and `a`"] {
            assert!(found.text.contains(word), "{}", found.text);
        }
        assert_eq!(of(stick, KeepModes::Yes).result, "failed");
        let refusal = try_out(Path::new("/nowhere")).map(drop).unwrap_err();
        assert_eq!(word(Path::new("/x"), "ext4", Err(refusal), KeepModes::Try).result, "skipped");
    }
}
