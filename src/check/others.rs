//! Whether the user of the service can read, and after the transfer remove, what lies in an upload's `file_dir` now.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{LOCAL_LIMIT, account, account_of, blocking, ok, quoted, stuck, warning};
use crate::config::{Role, Settings};
use crate::control::types::Finding;

const CHECK: &str = "files";
/// How many entries are tried.
const ENTRY_LIMIT: usize = 2000;
/// How deep the directories may be.
const DEPTH_LIMIT: usize = 64;

/// What the trial has found.
#[derive(Debug, Default)]
struct Found {
    count: usize,
    /// Whether there are more than were tried.
    more: bool,
    unreadable: Vec<Entry>,
    /// With the reason.
    fixed: Vec<(Entry, String)>,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    uid: u32,
    mode: u32,
}

/// Nothing where the node is no upload.
pub(super) async fn examine(settings: &Settings) -> Option<Finding> {
    let Role::Upload { cleanup, .. } = &settings.role else { return None };
    let (dir, removes) = (settings.file_dir.clone(), cleanup.is_some());
    let shown = dir.display().to_string();
    let tried = blocking(LOCAL_LIMIT, move || {
        let mut found = Found::default();
        found.look(&dir, removes, 0);
        word(&account(), &dir, removes, &found)
    });
    Some(tried.await.unwrap_or_else(|| stuck(CHECK, &shown, LOCAL_LIMIT)))
}

impl Found {
    /// Tries the entries of a directory. One that cannot be listed is reported by its parent, or by another check.
    fn look(&mut self, dir: &Path, removes: bool, depth: usize) {
        let (Ok(entries), Ok(above)) = (fs::read_dir(dir), fs::metadata(dir)) else { return };
        let keeps = refuses_removal(dir, &above);
        for entry in entries.flatten() {
            // The directory itself is synkler's own, and hidden items are not sent.
            if depth == 0 && entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if self.count >= ENTRY_LIMIT || depth > DEPTH_LIMIT {
                self.more = true;
                return;
            }
            let path = entry.path();
            // It may be gone by now.
            let Ok(about) = fs::symlink_metadata(&path) else { continue };
            self.count += 1;
            let entry = || Entry { path: path.clone(), uid: about.uid(), mode: about.mode() & 0o7777 };
            if removes && let Some(reason) = keeps.of(&about) {
                self.fixed.push((entry(), reason));
            }
            let needed = if about.is_dir() { Access::READ_OK | Access::EXEC_OK } else { Access::READ_OK };
            if !about.is_symlink() && !is_allowed(&path, needed) {
                self.unreadable.push(entry());
            } else if about.is_dir() {
                self.look(&path, removes, depth + 1);
            }
        }
    }
}

/// What keeps this user from removing entries of a directory.
enum Keeps {
    Nothing,
    /// No write permission.
    All(String),
    /// The sticky bit, except for the entries of this user.
    OthersThan(u32, String),
}

fn refuses_removal(dir: &Path, about: &Metadata) -> Keeps {
    let me = rustix::process::geteuid();
    if !is_allowed(dir, Access::WRITE_OK | Access::EXEC_OK) {
        return Keeps::All(format!("no write permission for {}", dir.display()));
    }
    if about.mode() & 0o1000 != 0 && about.uid() != me.as_raw() && !me.is_root() {
        return Keeps::OthersThan(me.as_raw(), format!("{} has the sticky bit", dir.display()));
    }
    Keeps::Nothing
}

impl Keeps {
    fn of(&self, entry: &Metadata) -> Option<String> {
        match self {
            Self::All(reason) => Some(reason.clone()),
            Self::OthersThan(user, reason) if entry.uid() != *user => Some(reason.clone()),
            Self::OthersThan(..) | Self::Nothing => None,
        }
    }
}

/// By the rights of this process, as the kernel judges them.
fn is_allowed(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

fn word(user: &str, dir: &Path, removes: bool, found: &Found) -> Finding {
    let shown = dir.display();
    let first = |entry: &Entry, count: usize| {
        let Entry { path, uid, mode } = entry;
        let more = if count > 1 { format!(", and {} more", count - 1) } else { String::new() };
        format!("{} ({}, mode {mode:04o}){more}", path.display(), account_of(*uid))
    };
    if let Some(entry) = found.unreadable.first() {
        let text = format!("{user} cannot read {}", first(entry, found.unreadable.len()));
        return warning(CHECK, text, cure(user, dir, &found.unreadable.iter().collect::<Vec<_>>(), true));
    }
    if let Some((entry, reason)) = found.fixed.first() {
        let text = format!("{user} cannot remove {}: {reason}", first(entry, found.fixed.len()));
        return warning(
            CHECK,
            text,
            cure(user, dir, &found.fixed.iter().map(|(entry, _)| entry).collect::<Vec<_>>(), false),
        );
    }
    let and = if removes { "read and removed" } else { "read" };
    let some = if found.more { "the first " } else { "" };
    ok(CHECK, format!("{some}{} entries in {shown} can be {and} by {user}", found.count))
}

/// The least that helps: an ACL for the user of the service, then the user who owns it all, then the right to read.
fn cure(user: &str, dir: &Path, entries: &[&Entry], reading: bool) -> String {
    let dir = quoted(dir);
    let rights = "rwX";
    let acl = format!(
        "sudo setfacl -R -m u:{user}:{rights},d:u:{user}:{rights} {dir}, if the writers do not set modes themselves"
    );
    let sticky = if reading { String::new() } else { format!(", with chmod -t {dir} where the sticky bit is set") };
    let owner = entries.first().map(|entry| entry.uid).filter(|uid| *uid != 0);
    let owner = owner.filter(|uid| entries.iter().all(|entry| entry.uid == *uid)).map(account_of);
    let acting =
        owner.map_or(String::new(), |owner| format!("; or stop synkler, sudo synkler drop-in --apply --as {owner}"));
    let read = if reading { "; or sudo synkler drop-in --apply --read-others, then restart synkler" } else { "" };
    format!("{acl}{sticky}; or a common group that may write{acting}{read}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: u32) -> Entry {
        Entry { path: PathBuf::from("/srv/out/a"), uid, mode: 0o600 }
    }

    #[test]
    fn the_cure_names_the_least_first() {
        let dir = Path::new("/srv/my out");
        let of = |found: &Found| word("synkler", dir, true, found);
        let one = of(&Found { unreadable: vec![entry(4_000_000), entry(4_000_000)], ..Found::default() });
        assert_eq!(one.text, "synkler cannot read /srv/out/a (4000000, mode 0600), and 1 more");
        let cure = one.cure.unwrap();
        assert!(cure.starts_with("sudo setfacl -R -m u:synkler:rwX,d:u:synkler:rwX '/srv/my out'"), "{cure}");
        assert!(cure.contains("drop-in --apply --as 4000000;") && cure.contains("--read-others"), "{cure}");
        let two = of(&Found { unreadable: vec![entry(4_000_000), entry(4_000_001)], ..Found::default() });
        assert!(!two.cure.unwrap().contains("--as"), "it can be only one user");
        let fixed = of(&Found { fixed: vec![(entry(4_000_000), "it is so".to_owned())], ..Found::default() });
        assert_eq!(fixed.text, "synkler cannot remove /srv/out/a (4000000, mode 0600): it is so");
        assert!(!fixed.cure.unwrap().contains("--read-others"), "that right removes nothing");
        let fine = of(&Found { count: 3, more: true, ..Found::default() });
        assert_eq!(
            (&*fine.result, &*fine.text),
            ("ok", "the first 3 entries in /srv/my out can be read and removed by synkler")
        );
    }
}
