//! Whose a delivered item is, and which modes it has, if the config of a download fixes them (`owner`, `group`,
//! `file_mode`, `dir_mode`). The drivers apply it in staging; here it is a value, and the text for people.

use std::fmt;

use super::Kind;

/// A user or a group of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As the config names it.
    pub name: Box<str>,
    /// Its number.
    pub id: u32,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What every entry of a delivered item gets; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ownership {
    /// The user of every entry, links included.
    pub owner: Option<Account>,
    /// The group of every entry, links included.
    pub group: Option<Account>,
    /// The permission bits of files.
    pub file_mode: Option<u16>,
    /// The permission bits of directories.
    pub dir_mode: Option<u16>,
}

impl Ownership {
    /// Whether entries get another user or group.
    pub fn gives_away(&self) -> bool {
        self.owner.is_some() || self.group.is_some()
    }

    /// The keys of the config that give items away, with their values.
    pub fn keys(&self) -> String {
        let key = |name: &str, account: &Option<Account>| account.as_ref().map(|account| format!("{name} = {account}"));
        let keys = [key("owner", &self.owner), key("group", &self.group)];
        keys.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// What an item of this kind has got, in one line; `None` if nothing is fixed for it.
    pub fn of(&self, kind: Kind) -> Option<String> {
        let whose = match (&self.owner, &self.group) {
            (Some(owner), Some(group)) => Some(format!("owner {owner}:{group}")),
            (Some(owner), None) => Some(format!("owner {owner}")),
            (None, Some(group)) => Some(format!("group {group}")),
            (None, None) => None,
        };
        let modes = match (kind, self.file_mode, self.dir_mode) {
            (Kind::File, Some(mode), _) => Some(format!("mode {mode:04o}")),
            (Kind::Directory, Some(file), Some(directory)) => Some(format!("modes {file:04o}/{directory:04o}")),
            (Kind::Directory, Some(file), None) => Some(format!("file mode {file:04o}")),
            (Kind::Directory, None, Some(directory)) => Some(format!("directory mode {directory:04o}")),
            (Kind::File | Kind::Directory, None, _) | (Kind::Symlink, ..) => None,
        };
        let parts: Vec<_> = [whose, modes].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_is_one_line() {
        let account = |name: &str| Some(Account { name: name.into(), id: 33 });
        let all = Ownership {
            owner: account("www-data"),
            group: account("web"),
            file_mode: Some(0o640),
            dir_mode: Some(0o2750),
        };
        let text = |ownership: &Ownership, kind| ownership.of(kind).unwrap_or_default();
        assert_eq!(text(&all, Kind::Directory), "owner www-data:web, modes 0640/2750");
        assert_eq!(text(&all, Kind::File), "owner www-data:web, mode 0640");
        assert_eq!(text(&all, Kind::Symlink), "owner www-data:web");
        assert_eq!(all.keys(), "owner = www-data, group = web");
        let modes = Ownership { dir_mode: Some(0o750), ..Ownership::default() };
        assert_eq!(text(&modes, Kind::Directory), "directory mode 0750");
        assert_eq!((modes.of(Kind::File), modes.gives_away()), (None, false));
        let group = Ownership { group: account("web"), file_mode: Some(0o600), ..Ownership::default() };
        assert_eq!(text(&group, Kind::Directory), "group web, file mode 0600");
        assert_eq!(group.keys(), "group = web");
        assert_eq!(Ownership::default().of(Kind::File), None);
    }
}
