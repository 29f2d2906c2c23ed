//! Which processes have a file open for writing, as `/proc` shows it to the calling user.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// The maximum number of descriptors that are looked at.
const DESCRIPTORS: usize = 1_000_000;
/// The access mode in the flags of a descriptor: for reading only.
const ACCESS: u32 = 0o3;

/// A process that writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Writer {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The file.
    pub path: String,
}

/// The processes that have this file, or a file below this directory, open for writing. Root sees all of them.
pub(super) fn writers(path: &Path) -> Vec<Writer> {
    let mut found: Vec<Writer> = Vec::new();
    let Ok(path) = fs::canonicalize(path) else { return found };
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    let mut left = DESCRIPTORS;
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten().take(left) {
            left -= 1;
            let is_there = fs::read_link(descriptor.path()).ok().filter(|target| target.starts_with(&path));
            let Some(target) = is_there else { continue };
            let info = process.path().join("fdinfo").join(descriptor.file_name());
            if !fs::read_to_string(info).is_ok_and(|info| writes(&info)) {
                continue;
            }
            let name = fs::read(process.path().join("comm")).unwrap_or_default();
            let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
            let writer = Writer { pid, name, path: target.to_string_lossy().into_owned() };
            if !found.contains(&writer) {
                found.push(writer);
            }
        }
    }
    found.sort_by(|a, b| (a.pid, &a.path).cmp(&(b.pid, &b.path)));
    found
}

/// Whether a descriptor with this text in `/proc/PID/fdinfo` is open for writing.
fn writes(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & ACCESS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_is_found_and_who_reads_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b");
        assert!(writers(&path).is_empty());
        fs::write(&path, "x").unwrap();
        let reader = fs::File::open(&path).unwrap();
        assert!(writers(&path).iter().all(|writer| writer.pid != std::process::id()));
        let writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
        for asked in [path.as_path(), dir.path()] {
            let found = writers(asked);
            let ours: Vec<_> = found.iter().filter(|writer| writer.pid == std::process::id()).collect();
            assert!(ours.len() == 1 && ours[0].path.ends_with("/a b") && !ours[0].name.is_empty(), "{found:?}");
        }
        drop((reader, writer));
    }
}
