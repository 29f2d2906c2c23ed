//! Recognises what a receiver's file system cannot store, from rsync's messages.

use super::verdict::plain;
use crate::machine::{Cause, ItemName, Reason, TransferId};

/// The items of a pull that this file system cannot store, each with the first refused entry; empty if rsync reports
/// nothing else.
pub(super) fn refused(complaints: &str, batch: &[(TransferId, ItemName)]) -> Vec<(TransferId, Reason)> {
    let mut refused: Vec<(TransferId, Reason)> = Vec::new();
    for (path, why) in complaints.lines().map(plain).filter_map(refusal) {
        // The transfer is the first part of the path that is an id.
        let found = path.match_indices('/').find_map(|(at, _)| {
            let (part, inside) = path.get(at + 1..)?.split_once('/')?;
            let id = part.parse().ok().filter(|id| batch.iter().any(|(known, _)| known == id))?;
            Some((id, inside))
        });
        let Some((id, inside)) = found.filter(|(id, _)| refused.iter().all(|(known, _)| known != id)) else { continue };
        let why = match why {
            NOT_FOUND if is_odd(inside) => NAME,
            NOT_FOUND => continue,
            why => why,
        };
        refused.push((id, Reason::with(Cause::Unfit, &format!("`{inside}`: {why}"))));
    }
    refused
}

const NAME: &str = "the file system does not support this name";
/// exFAT refuses a name with this error, which also occurs for a directory that was removed.
const NOT_FOUND: &str = "no such file or directory";

/// Whether a path contains characters that Windows does not allow in a name. rsync also writes a control character with
/// a backslash.
fn is_odd(path: &str) -> bool {
    path.contains([':', '*', '?', '<', '>', '|', '\\'])
        || path.split('/').any(|name| name.ends_with('.') || name.ends_with(' '))
}

/// The path in a line, and its problem. The system's error text is at the end of a line, where no file name can be; a
/// name that contains the quotes around the path only makes the path shorter.
fn refusal(line: &str) -> Option<(&str, &'static str)> {
    let (doing, rest) = line.split_once('"').filter(|_| !line.starts_with("[sender]"))?;
    let (path, _) = rest.split_once('"')?;
    let doing = doing.trim_end().rsplit(' ').next()?;
    let ends = |errors: &[&str]| errors.iter().any(|error| line.ends_with(error));
    let makes = matches!(doing, "open" | "mkstemp" | "mkdir" | "symlink");
    let why = if doing == "symlink" && ends(&["(1)", "(38)", "(95)"]) {
        "the file system does not support symbolic links"
    } else if makes && ends(&["(22)", "(84)"]) {
        NAME
    } else if makes && ends(&["(2)"]) {
        NOT_FOUND
    } else if makes && ends(&["(36)"]) {
        "the name is too long for this file system"
    } else if ends(&["File too large (27)"]) {
        "the file is too large for this file system"
    } else {
        return None;
    };
    Some((path, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01936f2a-5c00-7a31-9d42-6b1f0c8e2a77";

    fn told(complaints: &str) -> Vec<String> {
        let batch = [(ID.parse().unwrap(), ItemName::new(b"item").unwrap())];
        refused(complaints, &batch).into_iter().map(|(_, reason)| reason.detail().to_owned()).collect()
    }

    #[test]
    fn the_entry_is_named_and_why() {
        for (line, text) in [
            (
                "[generator] symlink \"/srv/STAGING/item/link\" -> \"to\" failed: Operation not permitted (1)",
                "`item/link`: the file system does not support symbolic links",
            ),
            (
                "[generator] symlink \"/srv/STAGING/item\" -> \"to\" failed: Function not implemented (38)",
                "`item`: the file system does not support symbolic links",
            ),
            (
                "[receiver] open \"/srv/STAGING/item/a:b\" failed: Invalid argument (22)",
                "`item/a:b`: the file system does not support this name",
            ),
            (
                "[generator] recv_generator: mkdir \"/srv/STAGING/item/a:b\" failed: Invalid argument (22)",
                "`item/a:b`: the file system does not support this name",
            ),
            (
                "[receiver] open \"/srv/STAGING/item/a:b\" failed: No such file or directory (2)",
                "`item/a:b`: the file system does not support this name",
            ),
            (
                "[receiver] write failed on \"/srv/STAGING/item\": File too large (27)",
                "`item`: the file is too large for this file system",
            ),
        ] {
            let line = format!("rsync: {}\nrsync error: some files\n", line.replace("STAGING", ID));
            assert_eq!(told(&line), [text], "{line}");
        }
    }

    #[test]
    fn other_failures_and_other_transfers_are_none_of_it() {
        for line in [
            format!("rsync: [receiver] open \"/srv/{ID}/item\" failed: Permission denied (13)"),
            format!("rsync: [receiver] open \"/s:v/{ID}/item/x\" failed: No such file or directory (2)"),
            format!("rsync: [generator] set_times failed on \"/srv/{ID}/item\": Invalid argument (22)"),
            "rsync: [receiver] open \"/srv/01936f2a-5c00-7a31-9d42-6b1f0c8e2a78/item\" failed: Invalid argument (22)"
                .to_owned(),
            "rsync: [receiver] open \"/srv/item\" failed: Invalid argument (22)".to_owned(),
            format!("rsync: [sender] send_files failed to open \"/srv/{ID}/a:b\": No such file or directory (2)"),
            "Invalid argument (22)".to_owned(),
        ] {
            assert!(told(&line).is_empty(), "{line}");
        }
    }
}
