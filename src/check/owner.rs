//! Whether this process may give items to their configured owner, found by trial in staging.

use super::{LOCAL_LIMIT, account, blocking, failed, ok, stuck, warning};
use crate::config::{Role, Settings};
use crate::control::types::Finding;
use crate::drivers::files::Staging;
use crate::machine::{Kind, Ownership};

const CHECK: &str = "owner";

/// Nothing where no owner and no group is configured: modes alone need no right.
pub(super) async fn examine(settings: &Settings) -> Option<Finding> {
    let Role::Download { ownership, .. } = &settings.role else { return None };
    if !ownership.gives_away() {
        return None;
    }
    let staging = Staging::new(settings.file_dir.clone(), settings.group.clone()).giving(ownership.clone());
    let shown = staging.staging_dir().display().to_string();
    Some(match blocking(LOCAL_LIMIT, move || staging.try_giving()).await {
        Some(tried) => word(&account(), ownership, tried),
        None => stuck(CHECK, &shown, LOCAL_LIMIT),
    })
}

fn word(user: &str, ownership: &Ownership, tried: Result<bool, String>) -> Finding {
    let given = ownership.of(Kind::Directory).unwrap_or_default();
    match tried {
        Ok(true) => ok(CHECK, format!("{user} can give items away: {given}")),
        Ok(false) => {
            let cure = match &ownership.group {
                Some(group) => format!(
                    "sudo usermod -aG {group} {user}, if dir_mode lets the group read, then restart synkler; or set \
                     dir_mode = \"0755\""
                ),
                None => "set dir_mode = \"0755\", or group to a group of this user".to_owned(),
            };
            let text = format!(
                "{user} can give items away ({given}), but cannot read directories afterwards: a later directory of the \
                 same name waits, and so does its cleanup script"
            );
            warning(CHECK, text, cure)
        }
        Err(text) => failed(CHECK, text, "sudo synkler drop-in --apply, then: sudo systemctl restart synkler"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Account;

    #[test]
    fn what_follows_is_said() {
        let group = Some(Account { name: "www-data".into(), id: 33 });
        let ownership = Ownership { owner: group.clone(), group, dir_mode: Some(0o750), ..Ownership::default() };
        let of = |tried| word("synkler", &ownership, tried);
        let found = of(Ok(true));
        assert_eq!(found.text, "synkler can give items away: owner www-data:www-data, directory mode 0750");
        let closed = of(Ok(false));
        assert_eq!(closed.result, "warning");
        assert!(closed.cure.unwrap().starts_with("sudo usermod -aG www-data synkler"));
        let refused = of(Err("no right".to_owned()));
        assert_eq!((&*refused.result, &*refused.text), ("failed", "no right"));
        assert!(refused.cure.unwrap().contains("synkler drop-in --apply"));
    }
}
