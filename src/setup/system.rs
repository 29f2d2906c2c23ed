//! The service of the package.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::config::Environment;

/// Its user and its group.
pub(super) const USER: &str = "synkler";
/// The directory of its config files.
const CONFIGS: &str = "/etc/synkler";
/// The directory from which systemd loads its credentials.
const CREDENTIALS: &str = "/etc/synkler/credentials";

/// One unit of the package: `synkler.service`, or an instance of `synkler@.service`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    instance: Option<String>,
}

impl Service {
    /// The unit that reads this config file: `/etc/synkler/NAME.toml` belongs to the instance NAME; `synkler.toml`
    /// belongs to the package's unit.
    pub fn of(config: Option<&Path>) -> Self {
        let name = config.filter(|path| path.parent() == Some(Path::new(CONFIGS))).and_then(|path| {
            let stem = path.file_name()?.to_str()?.strip_suffix(".toml")?;
            Some(stem).filter(|stem| *stem != "synkler" && !stem.is_empty())
        });
        Self { instance: name.map(str::to_owned) }
    }

    /// The unit's name, without `.service`.
    pub fn unit(&self) -> String {
        self.instance.as_ref().map_or_else(|| "synkler".to_owned(), |instance| format!("synkler@{instance}"))
    }

    /// Its environment.
    pub fn environment(&self) -> Environment {
        Environment::of_service(self.instance.as_deref())
    }

    /// The directories that belong to it and are open to it.
    pub(super) fn own_directories(&self) -> [PathBuf; 2] {
        ["/var/lib/synkler", "/run/synkler"].map(|directory| match &self.instance {
            Some(instance) => Path::new(directory).join(instance),
            None => PathBuf::from(directory),
        })
    }

    /// The package's config file, or the instance's.
    pub fn config(&self) -> PathBuf {
        Path::new(CONFIGS).join(format!("{}.toml", self.instance.as_deref().unwrap_or("synkler")))
    }

    /// The drop-in that opens its sandbox.
    pub(super) fn drop_in(&self) -> PathBuf {
        PathBuf::from(format!("/etc/systemd/system/{}.service.d/paths.conf", self.unit()))
    }

    /// The path of a credential of the node; `node` is `<id>-<mode>`. An instance has its own.
    pub(super) fn credential(&self, node: &str, name: &str) -> PathBuf {
        let directory = Path::new(CREDENTIALS);
        if self.instance.is_some() { directory.join(node).join(name) } else { directory.join(name) }
    }

    /// The command with which an operator calls `synkler` for this unit.
    pub(super) fn command(&self) -> String {
        match &self.instance {
            Some(_) => format!("synkler --config {}", self.config().display()),
            None => "synkler".to_owned(),
        }
    }
}

/// The ids of the service's user and group, if sysusers has created them in these files.
pub(super) fn numbers() -> io::Result<(Option<u32>, Option<u32>)> {
    let find = |path: &str| Ok::<_, io::Error>(number(&fs::read_to_string(path)?, USER));
    Ok((find("/etc/passwd")?, find("/etc/group")?))
}

/// The third field of the line that begins with the name: the id in `/etc/passwd` and in `/etc/group`.
fn number(text: &str, name: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| if fields.next() == Some(name) { fields.nth(1)?.parse().ok() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_file_tells_its_unit() {
        let unit = |path: &str| Service::of(Some(Path::new(path))).unit();
        assert_eq!(Service::of(None).unit(), "synkler");
        assert_eq!(unit("/etc/synkler/synkler.toml"), "synkler");
        assert_eq!(unit("/etc/synkler.conf"), "synkler");
        assert_eq!(unit("/etc/synkler/inbound.toml"), "synkler@inbound");
        assert_eq!(unit("/srv/inbound.toml"), "synkler");
        let inbound = Service::of(Some(Path::new("/etc/synkler/inbound.toml")));
        assert_eq!(inbound.config(), Path::new("/etc/synkler/inbound.toml"));
        assert_eq!(inbound.credential("g-upload", "password"), Path::new("/etc/synkler/credentials/g-upload/password"));
        let main = Service::of(None);
        assert_eq!(main.credential("g-upload", "password"), Path::new("/etc/synkler/credentials/password"));
    }

    #[test]
    fn users_are_found_by_name() {
        let text = "root:x:0:0:root:/root:/bin/sh\nsynkler2:x:7:7::/:/bin/sh\nsynkler:x:998:997::/:/bin/sh\n";
        assert_eq!(number(text, "synkler"), Some(998));
        assert_eq!(number(text, "nobody"), None);
    }
}
