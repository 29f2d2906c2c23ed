//! The process environment as a value, so that tests need not change their own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use super::keys::{KEYS, nearest};
use super::shown_path;

const PREFIX: &str = "SYNKLER_";
const CONFIG_VARIABLE: &str = "SYNKLER_CONF";

/// What the surroundings say: variables, the host's name, and where the system's config file lies.
#[derive(Debug, Clone)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    host_name: String,
    system_file: PathBuf,
}

impl Environment {
    /// The surroundings of this process.
    pub fn of_process() -> Self {
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { variables: env::vars_os().collect(), ..Self::new(&host_name) }
    }

    /// Surroundings without any variable.
    pub fn new(host_name: &str) -> Self {
        Self {
            variables: BTreeMap::new(),
            host_name: host_name.to_owned(),
            system_file: PathBuf::from("/etc/synkler.conf"),
        }
    }

    /// With one more variable, in place of an earlier one of that name.
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// With another file at the end of the search than `/etc/synkler.conf`.
    pub fn with_system_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.system_file = path.into();
        self
    }

    /// The host's name.
    pub(super) fn host_name(&self) -> &str {
        &self.host_name
    }

    /// A variable's value; one that is set to nothing counts as not set.
    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A variable that holds a directory. One that is not absolute is passed over, as the XDG rules ask.
    pub(super) fn directory(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// The first directory of a list with colons between, as systemd writes `$STATE_DIRECTORY`.
    pub(super) fn first_directory(&self, name: &str) -> Option<PathBuf> {
        env::split_paths(self.variable(name)?).next().filter(|path| path.is_absolute())
    }

    /// Where the search without `--config` and `$SYNKLER_CONF` looks, in order.
    pub(super) fn search(&self) -> Vec<PathBuf> {
        let home = self.directory("HOME");
        let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        [below_home("synkler.conf"), below_home(".config/synkler/synkler.conf"), Some(self.system_file.clone())]
            .into_iter()
            .flatten()
            .collect()
    }

    /// The config file to read; `None` where the search finds none. A file that was asked for by name must be there.
    pub(super) fn config_file(&self, explicit: Option<&Path>) -> Result<Option<PathBuf>, String> {
        if let Some(path) = explicit {
            return match fs::metadata(path) {
                Ok(_) => Ok(Some(path.to_owned())),
                Err(error) => {
                    Err(format!("{}: cannot look at the file that --config names: {error}", shown_path(path)))
                }
            };
        }
        if let Some(value) = self.variable(CONFIG_VARIABLE) {
            let named = Path::new(value);
            let path = if named.is_dir() { named.join("synkler.conf") } else { named.to_owned() };
            return match fs::metadata(&path) {
                Ok(_) => Ok(Some(path)),
                Err(error) => {
                    let path = shown_path(&path);
                    Err(format!("{path}: cannot look at the file that ${CONFIG_VARIABLE} names: {error}"))
                }
            };
        }
        for path in self.search() {
            match fs::metadata(&path) {
                Ok(_) => return Ok(Some(path)),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(format!("{}: cannot look for a config file: {error}", shown_path(&path))),
            }
        }
        Ok(None)
    }

    /// The settings among the variables, by key.
    pub(super) fn settings(&self, problems: &mut Vec<String>) -> BTreeMap<&'static str, String> {
        let mut settings = BTreeMap::new();
        for (variable, value) in &self.variables {
            let Some(name) = variable.to_str().filter(|name| *name != CONFIG_VARIABLE) else { continue };
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let Some(key) = KEYS.iter().find(|key| key.variable() == name) else {
                let near = nearest(&rest.to_ascii_lowercase()).to_ascii_uppercase();
                problems.push(format!(
                    "environment variable {}: sets no known key; the nearest is {PREFIX}{near}",
                    name.escape_debug()
                ));
                continue;
            };
            match value.to_str() {
                Some(value) => {
                    settings.insert(key.name, value.to_owned());
                }
                None => problems.push(format!("environment variable {name}: the value is not UTF-8")),
            }
        }
        settings
    }
}
