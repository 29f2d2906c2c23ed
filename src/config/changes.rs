//! The changes of a config that was read again.

use super::cleanup::Cleanup;
use super::keys::KEYS;
use super::settings::{Role, Settings};

/// The keys that take effect when the config is read again; the others do at the next start.
pub const LIVE: [&str; 11] = [
    "cleanup_script",
    "cleanup_move",
    "cleanup_delete",
    "cleanup_timeout_minutes",
    "receivers",
    "keep_minutes",
    "free_percent",
    "keep_modes",
    "settle_seconds",
    "transfers",
    "history_days",
];

/// The keys whose values differ, in the order of [`KEYS`]. If the modes differ, nothing else is compared. A password
/// counts as one key, wherever it comes from.
pub fn differences(old: &Settings, new: &Settings) -> Vec<&'static str> {
    if old.mode() != new.mode() {
        return vec!["mode"];
    }
    let tls = |settings: &Settings| settings.broker.tls.clone();
    let authorities = |settings: &Settings| tls(settings)?.authorities;
    let identity = |settings: &Settings| tls(settings)?.identity;
    let certificate = |settings: &Settings| identity(settings).map(|identity| identity.chain);
    let key = |settings: &Settings| identity(settings).map(|identity| identity.key);
    let mut different = vec![
        ("file_dir", old.file_dir != new.file_dir),
        ("synkler_server", old.broker.host != new.broker.host),
        ("port", old.broker.port != new.broker.port),
        ("tls", tls(old).is_some() != tls(new).is_some()),
        ("ca_file", authorities(old) != authorities(new)),
        ("client_cert", certificate(old) != certificate(new)),
        ("client_key", key(old) != key(new)),
        ("vhost", old.broker.vhost != new.broker.vhost),
        ("username", old.broker.username != new.broker.username),
        ("password", old.broker.password != new.broker.password),
        ("id", old.group != new.group),
        ("name", old.node.name != new.node.name),
        ("rsync", old.rsync.program != new.rsync.program),
        ("rsync_opts", old.rsync.options != new.rsync.options),
        ("history_days", old.history != new.history),
        ("state_dir", old.state_dir != new.state_dir),
        ("control_socket", old.control_socket != new.control_socket),
    ];
    match (&old.role, &new.role) {
        (
            Role::Upload {
                settle: old_settle,
                slots: old_slots,
                cleanup: old_cleanup,
                items: old_items,
                keep: old_keep,
            },
            Role::Upload { settle, slots, cleanup, items, keep },
        ) => {
            different.push(("settle_seconds", old_settle != settle));
            different.push(("ignore", old_items.ignore != items.ignore));
            different.push(("only", old_items.only != items.only));
            different.push(("item_depth", old_items.depth != items.depth));
            different.push(("ready", old_items.ready.as_str() != items.ready.as_str()));
            different.push(("marker", old_items.ready.marker() != items.ready.marker()));
            different.push(("keep", old_keep != keep));
            different.push(("transfers", old_slots != slots));
            different.extend(cleanups(old_cleanup.as_ref(), cleanup.as_ref()));
        }
        (
            Role::Central {
                host: old_host,
                receivers: old_receivers,
                keep: old_keep,
                free: old_free,
                keep_modes: old_modes,
            },
            Role::Central { host, receivers, keep, free, keep_modes },
        ) => {
            different.push(("central_host", old_host != host));
            different.push(("receivers", old_receivers != receivers));
            different.push(("keep_minutes", old_keep != keep));
            different.push(("free_percent", old_free != free));
            different.push(("keep_modes", old_modes != keep_modes));
        }
        (
            Role::Download { slots: old_slots, cleanup: old_cleanup, keep_modes: old_modes, ownership: old_ownership },
            Role::Download { slots, cleanup, keep_modes, ownership },
        ) => {
            different.push(("keep_modes", old_modes != keep_modes));
            different.push(("owner", old_ownership.owner != ownership.owner));
            different.push(("group", old_ownership.group != ownership.group));
            different.push(("file_mode", old_ownership.file_mode != ownership.file_mode));
            different.push(("dir_mode", old_ownership.dir_mode != ownership.dir_mode));
            different.push(("transfers", old_slots != slots));
            different.extend(cleanups(old_cleanup.as_ref(), cleanup.as_ref()));
        }
        _ => {}
    }
    let is_different = |key| different.contains(&(key, true));
    KEYS.iter().map(|key| key.name).filter(|key| is_different(key)).collect()
}

fn cleanups(old: Option<&Cleanup>, new: Option<&Cleanup>) -> [(&'static str, bool); 4] {
    let script = |cleanup: Option<&Cleanup>| match cleanup {
        Some(Cleanup::Script(script)) => Some(script.clone()),
        _ => None,
    };
    let moves = |cleanup: Option<&Cleanup>| match cleanup {
        Some(Cleanup::Move(directory)) => Some(directory.clone()),
        _ => None,
    };
    let deletes = |cleanup: Option<&Cleanup>| cleanup == Some(&Cleanup::Delete);
    let (command, timeout) = match (script(old), script(new)) {
        (Some(old), Some(new)) => (!old.is_same_command(&new), old.timeout != new.timeout),
        (old, new) => (old.is_some() != new.is_some(), false),
    };
    [
        ("cleanup_script", command),
        ("cleanup_move", moves(old) != moves(new)),
        ("cleanup_delete", deletes(old) != deletes(new)),
        ("cleanup_timeout_minutes", timeout),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::settings::{Identity, Tls};
    use crate::config::{Environment, Preset, load};
    use crate::machine::Mode;

    fn settings(mode: Mode, changed: Option<(&str, &str)>) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("synkler.conf");
        let mut values = vec![
            ("mode", mode.as_str()),
            ("file_dir", "/srv/a"),
            ("synkler_server", "mq"),
            ("state_dir", "/var/a"),
            ("control_socket", "/run/a"),
            ("cleanup_script", "rm %F"),
        ];
        if let Some((key, value)) = changed {
            if key == "marker" {
                values.push(("ready", "marker"));
            }
            if key.starts_with("cleanup_move") || key.starts_with("cleanup_delete") {
                values.retain(|(known, _)| *known != "cleanup_script");
            }
            values.retain(|(known, _)| *known != key);
            values.push((key, value));
        }
        let text: String = values.iter().map(|(key, value)| format!("{key} = {value:?}\n")).collect();
        fs::write(&path, text).unwrap();
        load(Some(&path), &Environment::new("here")).unwrap().settings
    }

    #[test]
    fn every_key_that_changes_is_named() {
        for mode in [Mode::Upload, Mode::Central, Mode::Download] {
            let old = settings(mode, None);
            let marked = settings(mode, Some(("marker", "%f.done")));
            assert!(differences(&old, &settings(mode, None)).is_empty());
            for key in KEYS.iter().filter(|key| key.modes.contains(&mode) && key.preset != Preset::Ignored) {
                if ["ca_file", "client_cert", "client_key"].contains(&key.name) {
                    continue;
                }
                let password = tempfile::NamedTempFile::new().unwrap();
                fs::write(&password, "other").unwrap();
                let value = match key.name {
                    "mode" if mode == Mode::Upload => "download",
                    "mode" => "upload",
                    "tls" => "true",
                    "file_dir" | "state_dir" | "control_socket" | "rsync" => "/other",
                    "password_file" => password.path().to_str().unwrap(),
                    "cleanup_script" => "rm -r %F",
                    "cleanup_move" => "/sent",
                    "cleanup_delete" => "true",
                    "ignore" | "only" => "*.x",
                    "rsync_opts" => "--bwlimit=7",
                    "keep_modes" => "no",
                    "keep" => "acls",
                    "ready" => "submit",
                    "marker" => "%f.ok",
                    "owner" | "group" => "7",
                    "file_mode" | "dir_mode" => "0700",
                    "central_host" => "syn@hub",
                    "cleanup_timeout_minutes"
                    | "keep_minutes"
                    | "free_percent"
                    | "settle_seconds"
                    | "transfers"
                    | "history_days"
                    | "item_depth"
                    | "port" => "7",
                    _ => "other",
                };
                let old = if key.name == "marker" { &marked } else { &old };
                let found = differences(old, &settings(mode, Some((key.name, value))));
                let wanted: &[&str] = match key.name {
                    "password_file" => &["password"],
                    "tls" => &["port", "tls"],
                    "cleanup_move" => &["cleanup_script", "cleanup_move"],
                    "cleanup_delete" => &["cleanup_script", "cleanup_delete"],
                    // Central is reached where the broker is, unless it is told otherwise.
                    "synkler_server" if mode == Mode::Central => &["synkler_server", "central_host"],
                    name => &[name],
                };
                assert_eq!(found, wanted, "{mode}");
            }
        }
        let with = |authorities, chain: &[u8], key: &[u8]| {
            let mut settings = settings(Mode::Upload, Some(("tls", "true")));
            let identity = Identity { chain: vec![chain.to_vec()], key: key.to_vec() };
            settings.broker.tls = Some(Tls { authorities, identity: Some(identity) });
            settings
        };
        let old = with(None, b"a", b"b");
        assert_eq!(differences(&old, &with(Some(vec![]), b"a", b"b")), ["ca_file"]);
        assert_eq!(differences(&old, &with(None, b"x", b"y")), ["client_cert", "client_key"]);
        assert!(LIVE.iter().all(|live| KEYS.iter().any(|key| key.name == *live)));
    }
}
