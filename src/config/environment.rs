//! The process environment as a value, so that tests need not change their own environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use super::keys::{KEYS, nearest};
use super::shown_path;

const PREFIX: &str = "SYNKLER_";
const CONFIG_VARIABLE: &str = "SYNKLER_CONF";

/// The paths of the system's config file: the package's, then the original program's.
const SYSTEM_FILES: [&str; 2] = ["/etc/synkler/synkler.toml", "/etc/synkler.conf"];
/// The directory from which systemd loads the service's credentials.
const CREDENTIALS: &str = "/etc/synkler/credentials";
/// The prefix that systemd gives to credentials from a directory: `LoadCredential=synkler:...`.
const CREDENTIAL_PREFIX: &str = "synkler_";

/// The environment: variables, the host name, and the paths of the system's files.
#[derive(Debug, Clone)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    host_name: String,
    system_files: Vec<PathBuf>,
    credentials: Option<PathBuf>,
}

/// The result of looking for a credential.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// The credential exists.
    At(PathBuf),
    /// The credential does not exist.
    None,
    /// This user may not read the directory.
    Hidden(PathBuf),
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { variables: env::vars_os().collect(), ..Self::new(&host_name).with_credentials(CREDENTIALS) }
    }

    /// The environment that systemd gives to the service of the package, whoever calls this. `instance` is the part
    /// after the `@` in the name of its unit, if it has one.
    pub fn of_service(instance: Option<&str>) -> Self {
        let below =
            |directory: &str| instance.map_or(directory.to_owned(), |instance| format!("{directory}/{instance}"));
        Self { variables: BTreeMap::new(), ..Self::of_process() }
            .with("HOME", "/var/lib/synkler")
            .with("STATE_DIRECTORY", below("/var/lib/synkler"))
            .with("RUNTIME_DIRECTORY", below("/run/synkler"))
    }

    /// An environment without variables and credentials.
    pub fn new(host_name: &str) -> Self {
        Self {
            variables: BTreeMap::new(),
            host_name: host_name.to_owned(),
            system_files: SYSTEM_FILES.map(PathBuf::from).to_vec(),
            credentials: None,
        }
    }

    /// With one more variable, which replaces an earlier one of that name.
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// With another file at the end of the search, instead of `/etc/synkler/synkler.toml` and `/etc/synkler.conf`.
    pub fn with_system_file(self, path: impl Into<PathBuf>) -> Self {
        self.with_system_files([path.into()])
    }

    /// With other files at the end of the search, in this order.
    pub fn with_system_files(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.system_files = paths.into_iter().collect();
        self
    }

    /// With a directory for credentials if `$CREDENTIALS_DIRECTORY` is not set.
    pub fn with_credentials(mut self, directory: impl Into<PathBuf>) -> Self {
        self.credentials = Some(directory.into());
        self
    }

    /// The host name.
    pub(super) fn host_name(&self) -> &str {
        &self.host_name
    }

    /// The value of a variable; an empty one counts as not set.
    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A variable that contains a directory. A relative one is ignored, as the XDG rules demand.
    pub(super) fn directory(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// The first directory of a list separated by colons, as systemd writes `$STATE_DIRECTORY`.
    pub(super) fn first_directory(&self, name: &str) -> Option<PathBuf> {
        env::split_paths(self.variable(name)?).next().filter(|path| path.is_absolute())
    }

    /// The paths of the search without `--config` and `$SYNKLER_CONF`, in order.
    pub(super) fn search(&self) -> Vec<PathBuf> {
        let home = self.directory("HOME");
        let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        let near = [below_home("synkler.conf"), below_home(".config/synkler/synkler.conf")];
        near.into_iter().flatten().chain(self.system_files.iter().cloned()).collect()
    }

    /// The path of a credential. One in the node's own directory, `<id>-<mode>`, has priority over a common one.
    pub(super) fn credential(&self, node: Option<&str>, name: &str) -> Credential {
        let (directory, candidates) = match (self.directory("CREDENTIALS_DIRECTORY"), &self.credentials) {
            // systemd joins the path below the directory to one name.
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

    /// The config file that was given by name and must exist; `None` if none was given.
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

    /// The existing config files of the search, in order.
    pub(super) fn found_files(&self) -> Result<Vec<PathBuf>, String> {
        let mut found = Vec::new();
        for path in self.search() {
            match fs::metadata(&path) {
                Ok(_) => found.push(path),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                // Paths after the first usable file do not matter.
                Err(_) if !found.is_empty() => {}
                Err(error) => return Err(format!("{}: cannot search for a config file: {error}", shown_path(&path))),
            }
        }
        Ok(found)
    }

    /// The settings in variables, by key.
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
