//! The paths that the sandbox of the service must open for a config, and the rights that it needs: systemd's drop-in,
//! as text.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::system::{Account, GROUP, HOME, Service};
use crate::config::{Cleanup, Role, Script, Settings};
use crate::machine::{Mode, Ownership};

/// The directories that `ProtectHome=yes` hides.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
/// The directories that `PrivateTmp=yes` replaces by private ones.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// Why there is no drop-in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DropInError {
    /// A unit file cannot express the path.
    #[error("{0:?} cannot be used in a systemd unit: it contains a control character or is not UTF-8; rename it")]
    Unwritable(PathBuf),
    /// The path means something else for the service than for the user.
    #[error("{0:?} is not an absolute path below /")]
    NotAbsolute(PathBuf),
    /// The logins of the other nodes write and read the spool as the package's user.
    #[error(
        "--as is for uploads and downloads: on central, the logins of the other nodes and the service must be one user"
    )]
    CentralAs,
    /// Only an upload reads the files of others.
    #[error("--read-others is for uploads: only they read files that other users write")]
    NothingToRead,
}

/// What the operator adds to the needs of the config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// More paths to open.
    pub also: Vec<PathBuf>,
    /// The user as whom the service runs, instead of the package's.
    pub user: Option<Account>,
    /// Whether the service may read the files of every user.
    pub read_others: bool,
}

/// The drop-in for the service that reads this config, with what the operator adds. Of the paths in the cleanup script,
/// it opens those that `is_dir` reports as directories; a comment names the others.
///
/// # Errors
///
/// If a unit file cannot express a path, or the mode of the node does not fit.
pub fn drop_in(
    service: &Service,
    settings: &Settings,
    extra: &Extra,
    is_dir: impl Fn(&Path) -> bool,
) -> Result<String, DropInError> {
    let also = &extra.also;
    if extra.user.is_some() && settings.mode() == Mode::Central {
        return Err(DropInError::CentralAs);
    }
    if extra.read_others && settings.mode() != Mode::Upload {
        return Err(DropInError::NothingToRead);
    }
    let mut opening = Opening::new(service);
    opening.writable(&settings.file_dir, "file_dir")?;
    opening.writable(&settings.state_dir, "state_dir")?;
    if let Some(directory) = settings.control_socket.parent() {
        opening.writable(directory, "control_socket")?;
    }
    if let Role::Upload { cleanup: Some(cleanup), .. } | Role::Download { cleanup: Some(cleanup), .. } = &settings.role
    {
        match cleanup {
            Cleanup::Script(script) => opening.script(script, is_dir)?,
            Cleanup::Move(directory) => {
                opening.writable(directory, "cleanup_move")?;
                opening.two_mounts(&settings.file_dir, directory, also);
            }
            Cleanup::Delete => {}
        }
    }
    for path in also {
        opening.writable(path, "--also")?;
    }
    if let Role::Download { ownership, .. } = &settings.role {
        opening.rights(ownership);
    }
    if let Some(user) = &extra.user {
        opening.user(user);
    }
    if extra.read_others {
        opening.read_others();
    }
    Ok(opening.text(service))
}

/// The paths to open, in order.
struct Opening {
    own: [PathBuf; 2],
    seen: BTreeSet<PathBuf>,
    mounts: Vec<String>,
    lines: Vec<String>,
    remarks: Vec<String>,
    bares_homes: bool,
}

impl Opening {
    fn new(service: &Service) -> Self {
        Self {
            own: service.own_directories(),
            seen: BTreeSet::new(),
            mounts: Vec::new(),
            lines: Vec::new(),
            remarks: Vec::new(),
            bares_homes: false,
        }
    }

    fn writable(&mut self, path: &Path, what: &str) -> Result<(), DropInError> {
        if path.parent().is_none() || !path.is_absolute() {
            return Err(DropInError::NotAbsolute(path.to_owned()));
        }
        let open_already = self.own.iter().any(|own| path.starts_with(own));
        if open_already || self.seen.iter().any(|seen| path.starts_with(seen)) {
            return Ok(());
        }
        self.seen.insert(path.to_owned());
        self.mounts.push(unit_word(path, "")?);
        // With the minus, a missing directory leads to an error of synkler instead of one of systemd.
        let word = unit_word(path, "-")?;
        self.lines.push(format!("# {what}"));
        let order = if self.hides(path) { "BindPaths" } else { "ReadWritePaths" };
        self.lines.push(format!("{order}={word}"));
        Ok(())
    }

    fn script(&mut self, script: &Script, is_dir: impl Fn(&Path) -> bool) -> Result<(), DropInError> {
        for (index, beginning) in script.beginnings().enumerate() {
            // Of "--to=/sent" what stands behind the sign counts; of "/sent/%f" the directory is what is left.
            let start = if beginning.starts_with('/') { Some(0) } else { beginning.find("=/").map(|at| at + 1) };
            let Some(text) = start.and_then(|start| beginning.get(start..)) else { continue };
            let path: PathBuf = Path::new(text).components().collect();
            if path.parent().is_none() {
                continue;
            }
            if index > 0 && is_dir(&path) {
                self.writable(&path, "cleanup_script")?;
            } else if self.hides(&path) {
                self.lines.push("# cleanup_script: read-only".to_owned());
                self.lines.push(format!("BindReadOnlyPaths={}", unit_word(&path, "-")?));
            } else if index > 0 {
                self.doubtful(&path);
            }
        }
        Ok(())
    }

    /// Warns that a rename between two mounts fails, even on one file system.
    fn two_mounts(&mut self, from: &Path, to: &Path, also: &[PathBuf]) {
        let Some(parent) = to.ancestors().find(|parent| from.starts_with(parent)) else { return };
        if parent.parent().is_none() || also.iter().any(|open| parent.starts_with(open)) {
            return;
        }
        let parent = crate::machine::escaped(parent.display().to_string().as_bytes());
        self.remarks.push(format!(
            "# file_dir and cleanup_move are two mounts for the service, so it copies each item; to rename items instead, open \
             {parent} and all below it with: --also {parent}"
        ));
    }

    /// The rights that a download needs to set owners. The costs are measured with `systemd-analyze security`.
    fn rights(&mut self, ownership: &Ownership) {
        if ownership.gives_away() {
            self.lines.extend(
                [
                    "# owner, group: synkler gives items away. These two rights work on the writable paths only. They also hold for",
                    "# rsync and the cleanup script, and raise the exposure in \"systemd-analyze security\" by 0.4.",
                    "CapabilityBoundingSet=CAP_CHOWN CAP_FOWNER",
                    "AmbientCapabilities=CAP_CHOWN CAP_FOWNER",
                ]
                .map(str::to_owned),
            );
        }
        if ownership.dir_mode.is_some_and(|mode| mode & 0o6000 != 0) {
            let lines = [
                "# dir_mode has a set-id bit, which the unit forbids. This raises the exposure by 0.2.",
                "RestrictSUIDSGID=no",
            ];
            self.lines.extend(lines.map(str::to_owned));
        }
    }

    /// Another user for the service. Its group stays, because systemd gives the directory of the socket to user and group.
    fn user(&mut self, user: &Account) {
        let Account { name, group, .. } = user;
        self.lines.extend([
            format!("# --as {name}: the service, rsync and the cleanup script may do to files what {name} may. {name} may also use"),
            format!("# the control socket, beside root and the group {GROUP}. New files belong to {name} and the group {GROUP}. The"),
            "# additional group raises the exposure in \"systemd-analyze security\" by 0.1.".to_owned(),
            format!("User={name}"),
            format!("Group={GROUP}"),
            format!("SupplementaryGroups={group}"),
            "# The home directory of the user is hidden, and its config and ssh settings are not the service's.".to_owned(),
            format!("Environment=HOME={HOME}"),
        ]);
    }

    /// The right of an upload to read what others write. The costs are measured as above.
    fn read_others(&mut self) {
        self.lines.extend(
            [
                "# --read-others: the service, rsync and the cleanup script may read every file of this host that the sandbox does not",
                "# hide. This raises the exposure in \"systemd-analyze security\" by 0.2. The right does not remove files: for that the",
                "# user of the service needs write permission for their directory, and no sticky bit there. synklerctl check tries it.",
                "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
                "AmbientCapabilities=CAP_DAC_READ_SEARCH",
            ]
            .map(str::to_owned),
        );
    }

    fn doubtful(&mut self, path: &Path) {
        let path = path.display().to_string();
        let path = crate::machine::escaped(path.as_bytes());
        self.remarks.push(format!(
            "# cleanup_script names {path}, which is not a directory now; if it writes there, repeat this with: \
             --also {path}"
        ));
    }

    /// Whether the sandbox replaces the path.
    fn hides(&mut self, path: &Path) -> bool {
        let below = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
        self.bares_homes |= below(&HOMES);
        below(&HOMES) || below(&TEMPORARY)
    }

    fn text(self, service: &Service) -> String {
        let mut text = format!(
            "# What {}.service may access for its config. Written by: {} drop-in\n",
            service.unit(),
            service.command()
        );
        if self.lines.is_empty() {
            text.push_str("# The config needs no additional paths.\n");
        } else {
            text.push_str("# The user of the service still needs file permissions for these paths.\n");
        }
        for remark in &self.remarks {
            text.push_str(&format!("{remark}\n"));
        }
        if !self.mounts.is_empty() {
            text.push_str(&format!("\n[Unit]\nRequiresMountsFor={}\n", self.mounts.join(" ")));
        }
        if !self.lines.is_empty() {
            text.push_str("\n[Service]\n");
        }
        if self.bares_homes {
            text.push_str("# Home directories are hidden except the paths bound below.\nProtectHome=tmpfs\n");
        }
        for line in &self.lines {
            text.push_str(&format!("{line}\n"));
        }
        text
    }
}

/// A path as one word of a unit file, after a prefix. systemd removes quotes and backslashes, and expands what follows
/// a percent sign.
fn unit_word(path: &Path, prefix: &str) -> Result<String, DropInError> {
    let unwritable = || DropInError::Unwritable(path.to_owned());
    let text = path.to_str().ok_or_else(unwritable)?;
    if text.contains(char::is_control) {
        return Err(unwritable());
    }
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+@=,-%".contains(c);
    Ok(if escaped.chars().all(plain) { format!("{prefix}{escaped}") } else { format!("\"{prefix}{escaped}\"") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};

    fn settings(text: &str) -> Settings {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        std::fs::write(&path, format!("synkler_server = 'mq'\n{text}")).unwrap();
        let around = Environment::new("box")
            .with("STATE_DIRECTORY", "/var/lib/synkler")
            .with("RUNTIME_DIRECTORY", "/run/synkler");
        load(Some(&path), &around).unwrap().settings
    }

    fn made(text: &str, also: &[&str]) -> String {
        let also: Vec<_> = also.iter().map(PathBuf::from).collect();
        let directories = ["/srv/sent", "/home/user/downloads", "/srv"];
        let is_dir = |path: &Path| directories.iter().any(|directory| Path::new(directory) == path);
        drop_in(&Service::of(None), &settings(text), &Extra { also, ..Extra::default() }, is_dir).unwrap()
    }

    /// Without comments.
    fn orders(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
    }

    #[test]
    fn what_is_open_already_needs_nothing() {
        let text = made("file_dir = '/var/lib/synkler/spool'\nmode = 'central'\n", &[]);
        assert_eq!(orders(&text), [""; 0]);
        assert!(text.contains("needs no additional paths"), "{text}");
    }

    #[test]
    fn file_dir_and_what_the_script_names_are_opened() {
        let text =
            made("file_dir = '/srv/out'\nmode = 'upload'\ncleanup_script = '/usr/bin/mv -- %F /srv/sent/%f'\n", &[]);
        let opened = ["ReadWritePaths=-/srv/out", "ReadWritePaths=-/srv/sent"];
        assert_eq!(orders(&text)[3..], opened);
        let text = made(
            "file_dir = '/srv/out'\nmode = 'upload'\ncleanup_script = 'mv --target-directory=/srv/sent %F'\n",
            &["/srv/out/x", "/mnt/a"],
        );
        assert_eq!(
            orders(&text),
            [
                "[Unit]",
                "RequiresMountsFor=/srv/out /srv/sent /mnt/a",
                "[Service]",
                "ReadWritePaths=-/srv/out",
                "ReadWritePaths=-/srv/sent",
                "ReadWritePaths=-/mnt/a"
            ]
        );
        let text = made("file_dir = '/srv/out'\nmode = 'upload'\ncleanup_script = 'mv %F /srv/gone'\n", &[]);
        assert!(text.contains("# cleanup_script names /srv/gone, which is not a directory now; if it writes there, repeat this with: --also /srv/gone"));
    }

    #[test]
    fn the_directory_to_which_items_move_is_opened() {
        let config = "file_dir = '/srv/out'\nmode = 'upload'\ncleanup_move = '/srv/sent'\n";
        let text = made(config, &[]);
        assert_eq!(orders(&text)[3..], ["ReadWritePaths=-/srv/out", "ReadWritePaths=-/srv/sent"]);
        assert!(text.contains("so it copies each item") && text.contains("with: --also /srv\n"), "{text}");
        assert!(!made(config, &["/srv"]).contains("so it copies each item"));
        let elsewhere = "file_dir = '/srv/out'\nmode = 'upload'\ncleanup_move = '/data/sent'\n";
        assert!(!made(elsewhere, &[]).contains("so it copies each item"), "there is nothing to be done");
        let delete = made("file_dir = '/srv/out'\nmode = 'upload'\ncleanup_delete = true\n", &[]);
        assert_eq!(orders(&delete)[3..], ["ReadWritePaths=-/srv/out"]);
    }

    #[test]
    fn who_gives_items_away_gets_the_rights_for_it() {
        let download = |lines: &str| format!("file_dir = '/srv/in'\nmode = 'download'\n{lines}");
        let rights = ["CapabilityBoundingSet=CAP_CHOWN CAP_FOWNER", "AmbientCapabilities=CAP_CHOWN CAP_FOWNER"];
        for lines in ["owner = 'root'\n", "group = '33'\n"] {
            let text = made(&download(lines), &[]);
            assert_eq!(orders(&text)[3..], ["ReadWritePaths=-/srv/in", rights[0], rights[1]], "{text}");
            assert!(text.contains("raise the exposure in \"systemd-analyze security\" by 0.4"), "{text}");
        }
        let modes = made(&download("file_mode = '0640'\ndir_mode = '0750'\n"), &[]);
        assert_eq!(orders(&modes)[3..], ["ReadWritePaths=-/srv/in"], "modes need no right");
        let set_id = made(&download("dir_mode = '2750'\n"), &[]);
        assert_eq!(orders(&set_id)[3..], ["ReadWritePaths=-/srv/in", "RestrictSUIDSGID=no"]);
        let upload = made("file_dir = '/srv/in'\nmode = 'upload'\nowner = 'root'\n", &[]);
        assert_eq!(orders(&upload)[3..], ["ReadWritePaths=-/srv/in"]);
        let own = made("file_dir = '/var/lib/synkler/in'\nmode = 'download'\nowner = 'root'\n", &[]);
        assert_eq!(orders(&own), ["[Service]", rights[0], rights[1]]);
        assert!(!own.contains("needs no additional paths"), "{own}");
    }

    #[test]
    fn another_user_and_the_right_to_read_are_added_on_demand() {
        let account = Account { name: "alice".to_owned(), uid: 1000, group: "staff".to_owned() };
        let made = |mode: &str, extra: &Extra| {
            let config = settings(&format!("file_dir = '/srv/x'\nmode = '{mode}'\n"));
            drop_in(&Service::of(None), &config, extra, |_| false)
        };
        let acting = Extra { user: Some(account), ..Extra::default() };
        for mode in ["upload", "download"] {
            let text = made(mode, &acting).unwrap();
            let rights = [
                "ReadWritePaths=-/srv/x",
                "User=alice",
                "Group=synkler",
                "SupplementaryGroups=staff",
                "Environment=HOME=/var/lib/synkler",
            ];
            assert_eq!(orders(&text)[3..], rights, "{text}");
            assert!(text.contains("exposure in \"systemd-analyze security\" by 0.1"), "{text}");
        }
        assert!(made("central", &acting).unwrap_err().to_string().contains("must be one user"));
        let reading = Extra { read_others: true, ..Extra::default() };
        let text = made("upload", &reading).unwrap();
        let rights = ["CapabilityBoundingSet=CAP_DAC_READ_SEARCH", "AmbientCapabilities=CAP_DAC_READ_SEARCH"];
        assert_eq!(orders(&text)[4..], rights, "{text}");
        assert!(text.contains("by 0.2") && text.contains("sticky bit"), "{text}");
        assert!(made("download", &reading).unwrap_err().to_string().contains("for uploads"));
    }

    #[test]
    fn homes_are_bound_one_by_one() {
        let config = "file_dir = '/home/user/temp_downloads'\nmode = 'download'\ncleanup_script = '/home/user/bin/done %F /home/user/downloads'\n";
        assert_eq!(
            orders(&made(config, &["/tmp/x"])),
            [
                "[Unit]",
                "RequiresMountsFor=/home/user/temp_downloads /home/user/downloads /tmp/x",
                "[Service]",
                "ProtectHome=tmpfs",
                "BindPaths=-/home/user/temp_downloads",
                "BindReadOnlyPaths=-/home/user/bin/done",
                "BindPaths=-/home/user/downloads",
                "BindPaths=-/tmp/x"
            ]
        );
    }

    #[test]
    fn paths_mean_themselves_to_systemd() {
        let word = |path: &str| unit_word(Path::new(path), "-").unwrap();
        assert_eq!(word("/srv/a_b.c-1@x"), "-/srv/a_b.c-1@x");
        assert_eq!(word("/srv/100%i"), "-/srv/100%%i");
        assert_eq!(word("/srv/my \"own\" \\files: $HOME ;#'"), r#""-/srv/my \"own\" \\files: $HOME ;#'""#);
        assert!(unit_word(Path::new("/srv/a\nb"), "").is_err());
        let extra = Extra { also: vec![PathBuf::from("y")], ..Extra::default() };
        let relative = drop_in(&Service::of(None), &settings("file_dir = '/x'\n"), &extra, |_| false);
        assert!(relative.unwrap_err().to_string().contains("not an absolute path"));
    }
}
