//! The process environment as a value, so that tests need not change their own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use super::keys::{KEYS, nearest};
use super::shown_path;

const PREFIX: &str = "SYNKLER_";
const CONFIG_VARIABLE: &str = "SYNKLER_CONF";

/// Where the system's config file lies: the package's place, then the original program's.
const SYSTEM_FILES: [&str; 2] = ["/etc/synkler/synkler.toml", "/etc/synkler.conf"];
/// Where systemd takes the service's credentials from.
const CREDENTIALS: &str = "/etc/synkler/credentials";
/// What systemd puts before the names of credentials that it takes from a directory: `LoadCredential=synkler:...`.
const CREDENTIAL_PREFIX: &str = "synkler_";

/// What the surroundings say: variables, the host's name, and where the system's files lie.
#[derive(Debug, Clone)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    host_name: String,
    system_files: Vec<PathBuf>,
    credentials: Option<PathBuf>,
}

/// What a look for a credential finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// It is there.
    At(PathBuf),
    /// It is not.
    None,
    /// This user may not look into this directory.
    Hidden(PathBuf),
}

impl Environment {
    /// The surroundings of this process.
    pub fn of_process() -> Self {
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { variables: env::vars_os().collect(), ..Self::new(&host_name).with_credentials(CREDENTIALS) }
    }

    /// What the service of the package will have around it when systemd starts it, whoever asks now. `instance` is what
    /// stands behind the `@` of its unit's name, if anything does.
    pub fn of_service(instance: Option<&str>) -> Self {
        let below =
            |directory: &str| instance.map_or(directory.to_owned(), |instance| format!("{directory}/{instance}"));
        Self { variables: BTreeMap::new(), ..Self::of_process() }
            .with("HOME", "/var/lib/synkler")
            .with("STATE_DIRECTORY", below("/var/lib/synkler"))
            .with("RUNTIME_DIRECTORY", below("/run/synkler"))
    }

    /// Surroundings without any variable and without credentials.
    pub fn new(host_name: &str) -> Self {
        Self {
            variables: BTreeMap::new(),
            host_name: host_name.to_owned(),
            system_files: SYSTEM_FILES.map(PathBuf::from).to_vec(),
            credentials: None,
        }
    }

    /// With one more variable, in place of an earlier one of that name.
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// With another file at the end of the search than `/etc/synkler/synkler.toml` and `/etc/synkler.conf`.
    pub fn with_system_file(self, path: impl Into<PathBuf>) -> Self {
        self.with_system_files([path.into()])
    }

    /// With other files at the end of the search, in this order.
    pub fn with_system_files(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.system_files = paths.into_iter().collect();
        self
    }

    /// With a directory where credentials lie when `$CREDENTIALS_DIRECTORY` names none.
    pub fn with_credentials(mut self, directory: impl Into<PathBuf>) -> Self {
        self.credentials = Some(directory.into());
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
        let near = [below_home("synkler.conf"), below_home(".config/synkler/synkler.conf")];
        near.into_iter().flatten().chain(self.system_files.iter().cloned()).collect()
    }

    /// Where a credential lies. One in a directory of its node's own, `<id>-<mode>`, stands above one for all.
    pub(super) fn credential(&self, node: Option<&str>, name: &str) -> Credential {
        let (directory, candidates) = match (self.directory("CREDENTIALS_DIRECTORY"), &self.credentials) {
            // systemd has made one name of the path below the directory.
            (Some(directory), _) => {
                let own = node.map(|node| format!("{CREDENTIAL_PREFIX}{node}_{name}"));
                (directory, [own, Some(format!("{CREDENTIAL_PREFIX}{name}"))])
            }
            (None, Some(directory)) => {
                (directory.clone(), [node.map(|node| format!("{node}/{name}")), Some(name.to_owned())])
            }
            (None, None) => return Credential::None,
        };
        for path in candidates.iter().flatten().map(|name| directory.join(name)) {
            match fs::metadata(&path) {
                Ok(_) => return Credential::At(path),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Credential::Hidden(directory),
                Err(_) => {}
            }
        }
        Credential::None
    }

    /// The config file that was asked for by name, which must be there; `None` where none was.
    pub(super) fn named_file(&self, explicit: Option<&Path>) -> Result<Option<PathBuf>, String> {
        if let Some(path) = explicit {
            return match fs::metadata(path) {
                Ok(_) => Ok(Some(path.to_owned())),
                Err(error) => Err(format!("{}: cannot read the file given by --config: {error}", shown_path(path))),
            };
        }
        if let Some(value) = self.variable(CONFIG_VARIABLE) {
            let named = Path::new(value);
            let path = if named.is_dir() { named.join("synkler.conf") } else { named.to_owned() };
            return match fs::metadata(&path) {
                Ok(_) => Ok(Some(path)),
                Err(error) => {
                    let path = shown_path(&path);
                    Err(format!("{path}: cannot read the file given by ${CONFIG_VARIABLE}: {error}"))
                }
            };
        }
        Ok(None)
    }

    /// The config files that the search finds, in order.
    pub(super) fn found_files(&self) -> Result<Vec<PathBuf>, String> {
        let mut found = Vec::new();
        for path in self.search() {
            match fs::metadata(&path) {
                Ok(_) => found.push(path),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                // Whatever lies behind the first usable one does not matter.
                Err(_) if !found.is_empty() => {}
                Err(error) => return Err(format!("{}: cannot search for a config file: {error}", shown_path(&path))),
            }
        }
        Ok(found)
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
