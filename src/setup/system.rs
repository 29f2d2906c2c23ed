//! The service of the package.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::config::Environment;

/// Its user and its group.
pub(super) const USER: &str = "synkler";
/// Its group; its members may control the daemon.
pub(super) const GROUP: &str = USER;
/// The directory of its config files.
const CONFIGS: &str = "/etc/synkler";
/// The directory from which systemd loads its credentials.
const CREDENTIALS: &str = "/etc/synkler/credentials";

/// The home directory of its user.
pub(super) const HOME: &str = "/var/lib/synkler";
/// The directory with the accepted keys, in the home directory.
const LOGINS: &str = ".ssh";

/// A user of this host, as `/etc/passwd` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The primary group: its name, or its number if it has none.
    pub group: String,
}

impl Account {
    /// The user with this name or number, if `/etc/passwd` has it; a unit file must be able to name user and group.
    pub(super) fn find(user: &str) -> io::Result<Option<Self>> {
        Ok(Self::found_in(user, &fs::read_to_string("/etc/passwd")?, &fs::read_to_string("/etc/group")?))
    }

    fn found_in(user: &str, users: &str, groups: &str) -> Option<Self> {
        let mut lines = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let (name, uid, gid) = lines.find_map(|fields| match fields.as_slice() {
            [name, _, uid, gid, ..] if *name == user || *uid == user => {
                Some(((*name).to_owned(), uid.parse().ok()?, (*gid).to_owned()))
            }
            _ => None,
        })?;
        let mut lines = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let group = lines.find_map(|fields| match fields.as_slice() {
            [name, _, number, ..] if *number == gid => Some((*name).to_owned()),
            _ => None,
        });
        let group = group.unwrap_or(gid);
        (is_plain(&name) && is_plain(&group)).then_some(Self { name, uid, group })
    }
}

/// Whether systemd takes the name of the user or group literally.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    !name.is_empty() && !name.starts_with('-') && name.chars().all(allowed)
}

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
        [HOME, "/run/synkler"].map(|directory| match &self.instance {
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

    /// Whether this name in its state directory is the state of an instance, whose config `is_config` finds.
    pub(super) fn is_foreign(&self, name: &str, is_config: impl Fn(&Path) -> bool) -> bool {
        self.instance.is_none() && is_config(&Path::new(CONFIGS).join(format!("{name}.toml")))
    }

    /// The file with the keys of the nodes that may log in on central, if this service's state directory has it.
    pub(super) fn authorized_keys(&self, state_dir: &Path) -> Option<PathBuf> {
        let is_home = self.instance.is_none() && state_dir == Path::new(HOME);
        is_home.then(|| state_dir.join(LOGINS).join("authorized_keys"))
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
    fn accounts_have_names_that_a_unit_can_contain() {
        let users = "root:x:0:0::/:/bin/sh\nalice:x:1000:100::/:/bin/sh\nbob:x:1001:7::/:/bin/sh\na%i:x:5:100::/:/\n";
        let found = |user| Account::found_in(user, users, "root:x:0:\nstaff:x:100:\n");
        let alice = Account { name: "alice".to_owned(), uid: 1000, group: "staff".to_owned() };
        assert_eq!((found("alice"), found("1000")), (Some(alice.clone()), Some(alice)));
        assert_eq!(found("bob").unwrap().group, "7");
        assert_eq!((found("a%i"), found("eve"), found("")), (None, None, None));
    }

    #[test]
    fn what_the_state_directory_holds_of_others() {
        let is_config = |path: &Path| path == Path::new("/etc/synkler/inbound.toml");
        let (main, inbound) = (Service::of(None), Service::of(Some(Path::new("/etc/synkler/inbound.toml"))));
        let foreign = |service: &Service| [".ssh", "inbound", "spool"].map(|name| service.is_foreign(name, is_config));
        assert_eq!((foreign(&main), foreign(&inbound)), ([false, true, false], [false; 3]));
        assert!(main.authorized_keys(Path::new(HOME)).is_some() && main.authorized_keys(Path::new("/x")).is_none());
    }

    #[test]
    fn users_are_found_by_name() {
        let text = "root:x:0:0:root:/root:/bin/sh\nsynkler2:x:7:7::/:/bin/sh\nsynkler:x:998:997::/:/bin/sh\n";
        assert_eq!(number(text, "synkler"), Some(998));
        assert_eq!(number(text, "nobody"), None);
    }
}
