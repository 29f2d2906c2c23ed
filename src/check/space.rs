//! Free space, in bytes and inodes.

use std::path::Path;

use futures_util::future::join_all;
use rustix::fs::statvfs;

use super::{LOCAL_LIMIT, blocking, bytes, failed, ok, quoted, skipped, stuck, warning};
use crate::config::{Percent, Role, Settings};
use crate::control::types::Finding;
use crate::machine::Mode;

/// The space that the journal needs: it grows in steps, and its WAL is truncated only from time to time.
const JOURNAL_NEEDS: u64 = 16 << 20;
const JOURNAL_LIKES: u64 = 256 << 20;
/// From this level on a destination counts as nearly full.
const NEARLY_FULL: Percent = Percent::from_thousandths(5_000);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    free: u64,
    total: u64,
    names_free: u64,
    names: u64,
}

/// Findings `space` for `file_dir` and `state-space` for `state_dir`.
pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let rooms = [("space", &settings.file_dir), ("state-space", &settings.state_dir)];
    let looks = rooms.map(|(check, dir)| async move {
        if check == "space" && settings.mode() == Mode::Upload {
            return skipped(check, "an upload only reads file_dir");
        }
        let at = dir.clone();
        match blocking(LOCAL_LIMIT, move || room(&at)).await {
            Some(Some(room)) if check == "space" => word(check, dir, room, &settings.role),
            Some(Some(room)) => word_state(check, dir, room),
            Some(None) => skipped(check, format!("{} must be fixed first", dir.display())),
            None => stuck(check, &dir.display().to_string(), LOCAL_LIMIT),
        }
    });
    join_all(looks).await
}

fn room(dir: &Path) -> Option<Room> {
    let dir = dir.ancestors().find(|dir| dir.exists())?;
    let stat = statvfs(dir).ok()?;
    let of = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(Room { free: of(stat.f_bavail), total: of(stat.f_blocks), names_free: stat.f_favail, names: stat.f_files })
}

fn word(check: &str, dir: &Path, room: Room, role: &Role) -> Finding {
    let text = format!("{} of {} are free in {}", bytes(room.free), bytes(room.total), dir.display());
    let make_room =
        format!("free some space: du -xh --max-depth=2 {} | sort -h shows the largest directories", quoted(dir));
    if let Some(finding) = no_names(check, dir, room) {
        return finding;
    }
    match role {
        Role::Central { free, .. } if room.free < free.of(room.total) => failed(
            check,
            format!("{text}, less than free_percent = {free} requires: central accepts no new items"),
            format!("{make_room}; or lower free_percent"),
        ),
        Role::Central { free, .. } if room.names_free < free.of(room.names) => failed(
            check,
            format!(
                "{} of {} inodes are free in {}, less than free_percent = {free} requires: central accepts no new \
                 items",
                room.names_free,
                room.names,
                dir.display()
            ),
            format!("{}; or lower free_percent", fewer_files(dir)),
        ),
        Role::Central { free, .. } => {
            ok(check, format!("{text}; free_percent = {free} keeps {}", bytes(free.of(room.total))))
        }
        _ if room.free == 0 => failed(check, format!("{text}: no item can be stored"), make_room),
        _ if room.free < NEARLY_FULL.of(room.total) => warning(check, text, make_room),
        _ => ok(check, text),
    }
}

fn word_state(check: &str, dir: &Path, room: Room) -> Finding {
    let text = format!("{} are free for the journal in {}", bytes(room.free), dir.display());
    let make_room =
        format!("free some space: du -xh --max-depth=2 {} | sort -h shows the largest directories", quoted(dir));
    if let Some(finding) = no_names(check, dir, room) {
        return finding;
    }
    match room.free {
        free if free < JOURNAL_NEEDS => failed(check, format!("{text}: the daemon can stop at any time"), make_room),
        free if free < JOURNAL_LIKES => warning(check, text, make_room),
        _ => ok(check, text),
    }
}

/// Some file systems count inodes, others (`names` is 0 there) do not.
fn no_names(check: &str, dir: &Path, room: Room) -> Option<Finding> {
    (room.names > 0 && room.names_free == 0).then(|| {
        let text = format!("no new files can be created in {}: all {} inodes are used", dir.display(), room.names);
        failed(check, text, fewer_files(dir))
    })
}

fn fewer_files(dir: &Path) -> String {
    format!("delete files: du -x --inodes --max-depth=2 {} | sort -n shows where they are", quoted(dir))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::machine::KeepModes;

    #[test]
    fn central_keeps_a_part_of_its_inodes_free() {
        let (host, free) = ("syn@hub".to_owned(), Percent::from_thousandths(5_000));
        let (receivers, keep, keep_modes) = (None, Duration::ZERO, KeepModes::Try);
        let role = Role::Central { host, receivers, keep, free, keep_modes };
        let room = Room { free: 1 << 40, total: 1 << 41, names_free: 5, names: 100 };
        let told = |names_free, names| word("space", Path::new("/x"), Room { names_free, names, ..room }, &role);
        assert_eq!(told(5, 100).result, "ok");
        let few = told(4, 100);
        assert_eq!(few.result, "failed");
        let text = "4 of 100 inodes are free in /x, less than free_percent = 5 requires: central accepts no new items";
        assert_eq!(few.text, text);
        assert_eq!(told(0, 0).result, "ok");
    }

    #[test]
    fn inodes_and_the_journal_have_limits_too() {
        let dir = Path::new("/x");
        let room = Room { free: 1 << 40, total: 1 << 41, names_free: 5, names: 10 };
        assert_eq!(word_state("state-space", dir, room).result, "ok");
        assert_eq!(word_state("state-space", dir, Room { names_free: 0, ..room }).result, "failed");
        assert_eq!(word_state("state-space", dir, Room { names_free: 0, names: 0, ..room }).result, "ok");
        assert_eq!(word_state("state-space", dir, Room { free: 100 << 20, ..room }).result, "warning");
        assert_eq!(word_state("state-space", dir, Room { free: 1 << 20, ..room }).result, "failed");
    }
}
