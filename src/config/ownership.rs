//! Whose delivered items are, and their modes: `owner`, `group`, `file_mode` and `dir_mode` of a download.

use std::fs::File;
use std::io::Read;

use super::cleanup::Cleanup;
use super::keys::{KEYS, Preset};
use super::merged::{Found, Origin};
use super::reading::{Reading, one_line};
use super::shown_value;
use crate::machine::{Account, Mode, Ownership};

/// The keys of this file.
pub(super) const OWNERSHIP_KEYS: [&str; 4] = ["owner", "group", "file_mode", "dir_mode"];
/// How much of `/etc/passwd` and `/etc/group` is read, in bytes.
const ACCOUNTS_LIMIT: u64 = 64 << 20;

/// A key that names an account, and the file of the host's accounts.
struct Accounts {
    key: &'static str,
    what: &'static str,
    file: &'static str,
}

const USERS: Accounts = Accounts { key: "owner", what: "user", file: "/etc/passwd" };
const GROUPS: Accounts = Accounts { key: "group", what: "group", file: "/etc/group" };

/// Which bits a mode must have and may have.
struct Bits {
    key: &'static str,
    needed: u16,
    allowed: u16,
    text: &'static str,
}

const FILE_BITS: Bits = Bits {
    key: "file_mode",
    needed: 0o400,
    allowed: 0o777,
    text: "allowed is an octal mode from 0400 to 0777 with read permission for the owner, such as \"0640\"",
};
const DIRECTORY_BITS: Bits = Bits {
    key: "dir_mode",
    needed: 0o700,
    allowed: 0o7777,
    text: "allowed is an octal mode from 0700 to 7777 with read, write and search permission for the owner, such as \
           \"0750\"",
};

impl Reading<'_> {
    /// Whose delivered items are. Accounts must exist on a download only: other hosts may share the file.
    pub(super) fn ownership(&mut self, mode: Option<Mode>, cleanup: Option<&Cleanup>) -> Option<Ownership> {
        let is_used = mode == Some(Mode::Download);
        let (owner, group) = (self.account(&USERS, is_used), self.account(&GROUPS, is_used));
        let (file_mode, dir_mode) = (self.mode(&FILE_BITS), self.mode(&DIRECTORY_BITS));
        let ownership = Ownership { owner: owner?, group: group?, file_mode: file_mode?, dir_mode: dir_mode? };
        if !is_used {
            return Some(ownership);
        }
        let refused = match cleanup {
            // A copy on another file system belongs to the user of synkler.
            Some(Cleanup::Move(_)) if ownership.owner.is_some() => Some(("owner", "cleanup_move")),
            Some(Cleanup::Move(_)) if ownership.group.is_some() => Some(("group", "cleanup_move")),
            Some(Cleanup::Delete) if ownership.owner.is_some() => Some(("owner", "cleanup_delete")),
            Some(Cleanup::Move(_) | Cleanup::Delete | Cleanup::Script(_)) | None => None,
        };
        if let Some((key, cleanup)) = refused {
            let text = "synkler does not move or delete what it has given away; set file_dir to the directory where the \
                        items stay, or unset one of them";
            self.refuse(key, &format!("is set together with {cleanup}: {text}"));
            return None;
        }
        Some(ownership)
    }

    fn account(&mut self, accounts: &Accounts, is_used: bool) -> Option<Option<Account>> {
        let key = accounts.key;
        if self.is_unset(key) {
            return Some(None);
        }
        self.parse_number(key, |text| account(text, accounts, is_used), |account| one_line(&account.name)).map(Some)
    }

    fn mode(&mut self, bits: &Bits) -> Option<Option<u16>> {
        let key = bits.key;
        if self.is_unset(key) {
            return Some(None);
        }
        if let Some((Found::Number(number), _)) = self.find(key) {
            // TOML has no octal number that looks like a mode: 640 is decimal, and 0o640 has become 416.
            self.refuse(key, &format!("found the number {number}, allowed is a mode in quotes, such as \"0640\""));
            return None;
        }
        self.parse(key, |text| octal(text, bits), |mode| format!("{mode:04o}")).map(Some)
    }

    /// Whether the key is not set or blank, which is then shown.
    fn is_unset(&mut self, key: &'static str) -> bool {
        let origin = match self.find(key) {
            None => Origin::Default,
            Some((Found::Text(text), origin)) if text.trim().is_empty() => origin,
            Some(_) => return false,
        };
        let default = match KEYS.iter().find(|known| known.name == key).map(|known| known.preset) {
            Some(Preset::Computed(text)) => text,
            _ => "none",
        };
        self.show(key, default, &origin);
        true
    }
}

fn account(text: &str, accounts: &Accounts, is_used: bool) -> Result<Account, String> {
    let Accounts { what, file, .. } = accounts;
    let allowed = format!("allowed is the name or number of a {what} of this host");
    let is_number = text.bytes().all(|c| c.is_ascii_digit());
    if is_number {
        // The highest number means "no change" to the kernel.
        let id = text.parse().ok().filter(|id| *id != u32::MAX);
        let id = id.ok_or_else(|| format!("found {}, {allowed}", shown_value(text)))?;
        return Ok(Account { name: text.into(), id });
    }
    if text.contains([':', ',', '/']) || text.contains(char::is_whitespace) || text.contains(char::is_control) {
        return Err(format!("found {}, {allowed}", shown_value(text)));
    }
    if !is_used {
        return Ok(Account { name: text.into(), id: 0 });
    }
    let mut known = Vec::new();
    let read = File::open(file).and_then(|file| file.take(ACCOUNTS_LIMIT).read_to_end(&mut known));
    read.map_err(|error| format!("cannot look up {} in {file}: {error}", shown_value(text)))?;
    match number(&String::from_utf8_lossy(&known), text) {
        Some(id) => Ok(Account { name: text.into(), id }),
        None => Err(format!(
            "found {}, but {file} has no such {what}: create it, or give the number of one from elsewhere",
            shown_value(text)
        )),
    }
}

/// The third field of the line that begins with the name: the id in `/etc/passwd` and in `/etc/group`.
fn number(text: &str, name: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| if fields.next() == Some(name) { fields.nth(1)?.parse().ok() } else { None })
}

fn octal(text: &str, bits: &Bits) -> Result<u16, String> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|c| matches!(c, b'0'..=b'7'));
    let mode = u16::from_str_radix(text, 8).ok().filter(|_| is_octal);
    mode.filter(|mode| mode & bits.needed == bits.needed && mode & !bits.allowed == 0)
        .ok_or_else(|| format!("found {}, {}", shown_value(text), bits.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_and_leave_the_owner_in() {
        for (text, mode) in [("0640", 0o640), ("640", 0o640), ("0400", 0o400), ("777", 0o777)] {
            assert_eq!(octal(text, &FILE_BITS), Ok(mode), "{text}");
        }
        for text in ["0689", "40", "00640", "0o640", "-640", "+640", "u=rw", "1777", "4755", "0200", "0040", " 640"] {
            assert!(octal(text, &FILE_BITS).unwrap_err().contains("from 0400 to 0777"), "{text}");
        }
        for (text, mode) in [("0750", 0o750), ("2770", 0o2770), ("7777", 0o7777)] {
            assert_eq!(octal(text, &DIRECTORY_BITS), Ok(mode), "{text}");
        }
        for text in ["0550", "0640", "0070", "10777", "0300"] {
            assert!(octal(text, &DIRECTORY_BITS).unwrap_err().contains("from 0700 to 7777"), "{text}");
        }
    }

    #[test]
    fn accounts_are_names_of_this_host_or_numbers() {
        let id = |text: &str| account(text, &USERS, true).map(|account| account.id);
        assert_eq!((id("root"), id("0"), id("4294967294")), (Ok(0), Ok(0), Ok(4_294_967_294)));
        assert!(id("4294967295").is_err() && id("a:b").is_err() && id("two words").is_err());
        let missing = id("no-such-user").unwrap_err();
        assert!(missing.contains("/etc/passwd has no such user"), "{missing}");
        assert!(account("no-such-group", &GROUPS, true).unwrap_err().contains("/etc/group has no such group"));
        assert!(account("no-such-user", &USERS, false).is_ok(), "another host has it");
        assert_eq!(number("a:x:1:2\nab:x:3:4\n", "ab"), Some(3));
    }
}
