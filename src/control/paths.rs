//! Where a client looks for a daemon's socket. This is the counterpart of the rule by which the daemon chooses it
//! (config key `control_socket`).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of the system service's socket.
const SYSTEM: &str = "/run/synkler";
/// The socket's name in its directory.
const SOCKET: &str = "control.sock";
/// How many directories of daemons are examined in one place.
const SCAN_LIMIT: usize = 100;

/// The existing sockets, the most likely place first: `$SYNKLER_CONTROL_SOCKET` alone if it is set; else
/// `/run/synkler`, the user's runtime directory, the user's state directory. Each place has one socket per daemon, in
/// directories named by group, or by group and mode. `id` selects a group; with `is_user`, only the last two places count.
/// `variable` reads environment variables.
pub fn socket_candidates(
    id: Option<&str>,
    is_user: bool,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Vec<Vec<PathBuf>> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if is_user {
        // These are the places of this user.
    } else if let Some(path) = absolute("SYNKLER_CONTROL_SOCKET") {
        return vec![vec![path]];
    }
    let state = || Some(absolute("HOME")?.join(".local/state"));
    let of_system = |place: Option<PathBuf>| place.filter(|_| !is_user);
    let places = [
        of_system(absolute("RUNTIME_DIRECTORY")),
        of_system(Some(PathBuf::from(SYSTEM))),
        absolute("XDG_RUNTIME_DIR").map(|path| path.join("synkler")),
        absolute("XDG_STATE_HOME").or_else(state).map(|path| path.join("synkler")),
    ];
    places.into_iter().flatten().map(|place| sockets_in(&place, id)).filter(|found| !found.is_empty()).collect()
}

/// The place to name in the error when no socket exists.
pub fn default_socket(is_user: bool, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let own = || variable("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    // Without that variable, the name tells what is missing.
    let of_user = || own().unwrap_or_else(|| PathBuf::from("$XDG_RUNTIME_DIR")).join("synkler");
    if is_user { of_user() } else { PathBuf::from(SYSTEM) }.join(SOCKET)
}

fn sockets_in(place: &Path, id: Option<&str>) -> Vec<PathBuf> {
    let own = place.join(SOCKET);
    // One daemon has the whole place; its group is not visible from here.
    if own.exists() && id.is_none() {
        return vec![own];
    }
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .take(SCAN_LIMIT)
        .flatten()
        .filter(|entry| id.is_none_or(|id| entry.file_name().to_str().is_some_and(|name| is_of_group(name, id))))
        .map(|entry| entry.path().join(SOCKET))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found
}

fn is_of_group(directory: &str, id: &str) -> bool {
    match directory.strip_prefix(id) {
        Some(rest) => matches!(rest, "" | "-upload" | "-central" | "-download"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(id: Option<&str>, variables: &[(&str, &Path)]) -> Vec<Vec<PathBuf>> {
        found(id, false, variables)
    }

    fn found(id: Option<&str>, is_user: bool, variables: &[(&str, &Path)]) -> Vec<Vec<PathBuf>> {
        socket_candidates(id, is_user, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, path)| path.as_os_str().to_owned())
        })
    }

    #[test]
    fn the_search_finds_what_the_config_rule_makes() {
        let dir = tempfile::tempdir().unwrap();
        let (run, home) = (dir.path().join("run"), dir.path().join("home"));
        let mut sockets = Vec::new();
        for below in [
            "run/synkler/a-central",
            "run/synkler/a-upload",
            "run/synkler/b-upload",
            "home/.local/state/synkler/a-download",
        ] {
            fs::create_dir_all(dir.path().join(below)).unwrap();
            sockets.push(dir.path().join(below).join("control.sock"));
            fs::write(sockets.last().unwrap(), "").unwrap();
        }
        fs::create_dir_all(run.join("synkler/a-download")).unwrap();
        let variables = [("XDG_RUNTIME_DIR", run.as_path()), ("HOME", home.as_path())];
        // Sockets that this host itself runs come from other places.
        let ours = |id| {
            let mut found = candidates(id, &variables);
            found.retain(|place| place.iter().all(|path| path.starts_with(dir.path())));
            found
        };
        assert_eq!(ours(None), [&sockets[..3], &sockets[3..]]);
        assert_eq!(ours(Some("a")), [&sockets[..2], &sockets[3..]]);
        assert_eq!(ours(Some("b")), [&sockets[2..3]]);
        assert!(ours(Some("c")).is_empty());
        // The user's own daemons, also beside others.
        let system = [("RUNTIME_DIRECTORY", run.as_path()), ("SYNKLER_CONTROL_SOCKET", run.as_path())];
        let all: Vec<_> = variables.into_iter().chain(system).collect();
        assert_eq!(found(None, true, &all), [&sockets[..3], &sockets[3..]]);
        assert_eq!(default_socket(true, |_| Some("/x".into())), Path::new("/x/synkler/control.sock"));
        assert_eq!(default_socket(false, |_| Some("/x".into())), Path::new("/run/synkler/control.sock"));

        let named = Path::new("/somewhere/else.sock");
        assert_eq!(candidates(None, &[("SYNKLER_CONTROL_SOCKET", named)]), [[named]]);
        assert_eq!(candidates(None, &[("RUNTIME_DIRECTORY", &run.join("synkler/a-upload"))])[0], [sockets[1].clone()]);
    }
}
