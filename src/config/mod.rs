//! From files and environment to validated settings.
//!
//! Three stages. Raw: one config file in TOML or INI, and the environment. Merged: which layer counts for each key, and
//! the origin of the value. Validated: [`Settings`], the only result that the rest of the program sees. All errors are
//! collected and reported together. Each line names the file and line or the variable, the key, the value found and
//! what is allowed. No error, notice or report contains a secret.
//!
//! Only this module uses figment.

mod changes;
mod cleanup;
mod connection;
mod environment;
mod file;
mod ini;
mod keys;
mod merged;
mod ownership;
mod patterns;
mod pem;
mod reading;
mod rsync_options;
mod rsync_table;
mod settings;
mod validated;

use std::path::{Path, PathBuf};

pub use changes::{LIVE, differences};
pub use cleanup::{Cleanup, Script};
pub use environment::Environment;
pub use keys::{KEYS, Key, Preset};
pub use patterns::{ItemPatterns, Patterns};
pub use settings::{Broker, Identity, Percent, Role, Rsync, Secret, Settings, Tls};

use merged::Merged;
use reading::Row;

/// Why there are no settings: every problem found, one per line. The operator has to fix them; a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// The problems; never empty.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

/// Settings, and their origin.
#[derive(Debug)]
pub struct Loaded {
    /// The settings for the daemon.
    pub settings: Settings,
    /// Notes for the operator about a valid config: one line each, for the log.
    pub notices: Vec<String>,
    /// The config file that was read, if there was one.
    pub file: Option<PathBuf>,
    rows: Vec<Row>,
}

/// The state directory of the packaged service; an instance has a subdirectory with its name.
const SERVICE_STATE: &str = "/var/lib/synkler";
/// The directory of its config files: `synkler.toml`, and `NAME.toml` of an instance.
const SERVICE_CONFIG: &str = "/etc/synkler";

impl Loaded {
    /// Whether the config is one of the system, which the packaged service reads.
    pub fn is_of_system(&self) -> bool {
        self.file
            .as_deref()
            .is_some_and(|file| file == Path::new("/etc/synkler.conf") || file.starts_with(SERVICE_CONFIG))
    }

    /// The state directory of the daemon that uses this config, even if another user calls. For a config of the system
    /// without `state_dir`, this is the directory that systemd gives the service, if the service is installed; else the
    /// one in the settings.
    pub fn service_state_dir(&self) -> PathBuf {
        let from_home = self.rows.iter().any(|row| row.key == "state_dir" && row.origin.starts_with("below $"));
        match self.file.as_deref() {
            Some(file) if from_home && self.is_of_system() && Path::new(SERVICE_STATE).is_dir() => {
                service_state_dir(file)
            }
            _ => self.settings.state_dir.clone(),
        }
    }

    /// Whether the config file itself contains a password that is used.
    pub fn sets_password(&self) -> bool {
        let of_file = |row: &Row, path: &Path| row.key == "password" && row.origin.starts_with(&shown_path(path));
        self.file.as_deref().is_some_and(|path| self.rows.iter().any(|row| of_file(row, path)))
    }

    /// The output of `--check`: every key, its value and the origin of the value, one per line, without a line end
    /// after the last. Secrets are hidden.
    pub fn report(&self) -> String {
        let width = |text: fn(&Row) -> &str| self.rows.iter().map(|row| text(row).chars().count()).max().unwrap_or(0);
        let (keys, values) = (width(|row| row.key), width(|row| &row.shown).min(40));
        let mut lines = vec![match &self.file {
            Some(path) => format!("config file: {}", shown_path(path)),
            None => "config file: none".to_owned(),
        }];
        for Row { key, shown, origin } in &self.rows {
            lines.push(format!("{key:keys$}  {shown:values$}  ({origin})"));
        }
        lines.extend(self.notices.iter().map(|notice| format!("notice: {notice}")));
        lines.join("\n")
    }
}

/// Finds the config file, reads it, applies the environment and validates the result. `explicit` is the option
/// `--config`. Without it the search is: `$SYNKLER_CONF` (a file, or a directory that contains `synkler.conf`),
/// `$HOME/synkler.conf`, `$HOME/.config/synkler/synkler.conf`, `/etc/synkler/synkler.toml`, `/etc/synkler.conf`. The
/// search skips a file that sets no key. Without any file, the environment alone may be enough. No directory in a
/// setting is examined. `password_file`, PEM files and credentials are read.
///
/// # Errors
///
/// Every problem there is, at once.
pub fn load(explicit: Option<&Path>, environment: &Environment) -> Result<Loaded, ConfigError> {
    let refused = |problems| ConfigError { problems };
    let mut problems = Vec::new();
    let mut notices = Vec::new();
    let raw = raw_file(explicit, environment, &mut problems, &mut notices).map_err(refused)?;
    let path = raw.as_ref().map(|raw| raw.path.clone());
    let variables = environment.settings(&mut problems);
    if path.is_none() && variables.is_empty() && problems.is_empty() {
        return Err(refused(vec![nothing_found(environment, &notices)]));
    }
    let merged = Merged::new(raw, variables);
    match validated::validate(&merged, environment, &mut problems, &mut notices) {
        Some((settings, rows)) if problems.is_empty() => Ok(Loaded { settings, notices, file: path, rows }),
        _ => Err(refused(problems)),
    }
}

/// Whether a config file sets any key: the package installs one that sets none until somebody edits it.
///
/// # Errors
///
/// Why the file cannot be read, one problem per line.
pub fn sets_anything(path: &Path) -> Result<bool, ConfigError> {
    let mut problems = Vec::new();
    let raw = file::read(path, &mut problems, &mut Vec::new());
    match raw {
        Some(raw) => Ok(!raw.values.is_empty() || !problems.is_empty()),
        None => Err(ConfigError { problems }),
    }
}

/// The file given by name, else the first of the search that sets a key.
fn raw_file(
    explicit: Option<&Path>,
    environment: &Environment,
    problems: &mut Vec<String>,
    notices: &mut Vec<String>,
) -> Result<Option<file::RawFile>, Vec<String>> {
    if let Some(path) = environment.named_file(explicit).map_err(|problem| vec![problem])? {
        return file::read(&path, problems, notices).map(Some).ok_or_else(|| problems.clone());
    }
    for path in environment.found_files().map_err(|problem| vec![problem])? {
        let raw = file::read(&path, problems, notices).ok_or_else(|| problems.clone())?;
        if !raw.values.is_empty() || !problems.is_empty() {
            return Ok(Some(raw));
        }
        notices.push(format!("{}: sets no key and is skipped", shown_path(&path)));
    }
    Ok(None)
}

fn nothing_found(environment: &Environment, notices: &[String]) -> String {
    let looked = environment.search().iter().map(|path| shown_path(path)).collect::<Vec<_>>().join(", ");
    let passed = notices.iter().map(|notice| format!(" ({notice})")).collect::<String>();
    format!("no config found: searched {looked}{passed}; write one with: synkler init upload (or central, or download)")
}

/// The state directory of the unit that reads this config file of the system.
fn service_state_dir(file: &Path) -> PathBuf {
    let service = PathBuf::from(SERVICE_STATE);
    match file.file_stem() {
        Some(instance) if file.starts_with(SERVICE_CONFIG) && instance != "synkler" => service.join(instance),
        _ => service,
    }
}

/// A path in a message: one line, whatever bytes the path contains.
fn shown_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    crate::machine::escaped(path.as_os_str().as_bytes())
}

/// A value in a message, cut so that it fits on one line.
fn shown_value(text: &str) -> String {
    const LIMIT: usize = 100;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_has_its_own_state() {
        for (file, state) in [
            ("/etc/synkler.conf", "/var/lib/synkler"),
            ("/etc/synkler/synkler.toml", "/var/lib/synkler"),
            ("/etc/synkler/site-b.toml", "/var/lib/synkler/site-b"),
        ] {
            assert_eq!(service_state_dir(Path::new(file)), Path::new(state), "{file}");
        }
    }
}
