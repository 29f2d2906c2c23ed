//! The file systems of the directories, and what that means for leases, renames and durability.

use std::path::Path;

use futures_util::future::join_all;
use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

use super::{LOCAL_LIMIT, blocking, failed, ok, skipped, stuck, warning};
use crate::config::Settings;
use crate::control::types::Finding;
use crate::drivers::disk::{Class, file_system};
use crate::machine::Mode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    name: &'static str,
    class: Class,
    read_only: bool,
}

/// Findings `filesystem` for `file_dir` and `state-fs` for `state_dir`.
pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let mode = settings.mode();
    let dirs = [("filesystem", &settings.file_dir, false), ("state-fs", &settings.state_dir, true)];
    let looks = dirs.map(|(check, dir, state)| async move {
        let at = dir.clone();
        match blocking(LOCAL_LIMIT, move || look(&at)).await {
            Some(Some(kind)) if state => word_state(check, kind),
            Some(Some(kind)) => word(check, kind, mode, &dir.display().to_string()),
            Some(None) => skipped(check, format!("{} must be fixed first", dir.display())),
            None => stuck(check, &dir.display().to_string(), LOCAL_LIMIT),
        }
    });
    join_all(looks).await
}

/// That of the nearest existing directory.
fn look(dir: &Path) -> Option<Kind> {
    let dir = dir.ancestors().find(|dir| dir.exists())?;
    let read_only = statvfs(dir).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    let (name, class) = file_system(statfs(dir).ok()?.f_type as u32);
    Some(Kind { name, class, read_only })
}

fn word(check: &str, kind: Kind, mode: Mode, dir: &str) -> Finding {
    let Kind { name, class, read_only } = kind;
    let is = format!("{dir} is on {name}");
    if read_only && mode != Mode::Upload {
        return failed(
            check,
            format!("{is}, mounted read-only"),
            "mount it read-write: mount -o remount,rw, and in /etc/fstab",
        );
    }
    let move_away = "set file_dir to a directory on a local disk (ext4, xfs, btrfs)";
    match (class, mode) {
        (Class::Local, _) | (Class::Memory, Mode::Upload) => ok(check, is),
        (Class::Network | Class::Program, Mode::Upload) => warning(
            check,
            format!(
                "{is}: inotify and leases do not show writers on other hosts, so only settle_seconds shows when an \
                 item is complete"
            ),
            "set settle_seconds = 60 or more, or rename finished items into file_dir",
        ),
        (Class::Network | Class::Program, _) => warning(
            check,
            format!("{is}: its server decides whether renames are atomic and written data survives a crash"),
            move_away,
        ),
        (Class::Memory, Mode::Central) => {
            warning(check, format!("{is}: copies are lost when this host restarts, and are sent again"), move_away)
        }
        (Class::Memory, _) => warning(
            check,
            format!("{is}: delivered items whose source is already cleaned up are lost when this host restarts"),
            move_away,
        ),
        (Class::Simple, _) => warning(
            check,
            format!("{is}: it has no permissions, so every user of this host can read and change the files"),
            move_away,
        ),
    }
}

fn word_state(check: &str, Kind { name, class, read_only }: Kind) -> Finding {
    let is = format!("the journal is on {name}");
    let cure = "set state_dir to a directory on a local disk (ext4, xfs, btrfs), such as /var/lib/synkler";
    match class {
        _ if read_only => failed(check, format!("{is}, mounted read-only"), cure),
        Class::Local => ok(check, is),
        Class::Network | Class::Program => failed(check, format!("{is}: locks and syncs are not reliable there"), cure),
        Class::Memory => {
            let text =
                format!("{is}: the journal is lost when this host restarts, and delivered items are delivered again");
            warning(check, text, cure)
        }
        Class::Simple => warning(check, format!("{is}: other users cannot be kept from reading the journal"), cure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_known_by_number() {
        assert_eq!(look(Path::new("/dev/shm")).unwrap().class, Class::Memory);
        assert!(look(Path::new("/proc/self/no/such/place")).is_some(), "the nearest one counts");
    }

    #[test]
    fn what_it_means_depends_on_what_is_kept_there() {
        let of = |magic| {
            let (name, class) = file_system(magic);
            Kind { name, class, read_only: false }
        };
        let nfs = word("filesystem", of(0x6969), Mode::Upload, "/x");
        assert_eq!(nfs.result, "warning");
        assert!(nfs.cure.unwrap().contains("settle_seconds = 60"));
        assert_eq!(word("filesystem", of(0x0102_1994), Mode::Upload, "/x").result, "ok");
        assert_eq!(word("filesystem", of(0x0102_1994), Mode::Download, "/x").result, "warning");
        assert_eq!(word("filesystem", of(0xef53), Mode::Central, "/x").result, "ok");
        assert_eq!(word_state("state-fs", of(0x6573_5546)).result, "failed");
        let read_only = Kind { read_only: true, ..of(0xef53) };
        assert_eq!(word("filesystem", read_only, Mode::Download, "/x").result, "failed");
        assert_eq!(word("filesystem", read_only, Mode::Upload, "/x").result, "ok");
    }
}
