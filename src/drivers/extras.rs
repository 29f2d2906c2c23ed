//! The extras of an item's entries: hard links, extended attributes, ACLs and holes.
//!
//! Each kind has a list whose digest is announced: one line per entry in the order of the manifest, with the path
//! encoded as there. The number before a hard link counts the linked files of the item; of an extended attribute the
//! line has the MD5 of the value; an ACL comes as `getfacl -n` orders it, and `d` marks the default ACL of a directory:
//!
//! ```text
//! 0 a%20file
//! user.origin 5d41402abc4b2a76b9719d911017c592 a%20file
//! a u::rw-,u:1000:r--,g::r--,m::r--,o::--- a%20file
//! ```

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use md5::{Digest as _, Md5};
use rustix::fs::{SeekFrom, fgetxattr, flistxattr, fstat, seek};

use super::manifest::{Entry, Form, Site, Survey, SurveyError};
use crate::machine::{Digest, Extra, Extras, Keep, encode_bytes};

/// The maximum number of bytes of the names of a file's attributes, and of one value: what Linux allows.
const ATTRIBUTES_LIMIT: usize = 64 * 1024;
const USER: &[u8] = b"user.";
/// The attributes in which rsync stores what it may not set. It does not transfer them.
const OF_RSYNC: &[u8] = b"user.rsync.%";
const ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// The unit of `st_blocks`, in bytes.
const BLOCK: u64 = 512;

/// The extras of these kinds. A file system that does not support one has none of it. ACLs that name nobody but `us`
/// do not count.
pub(crate) fn extras(site: &Site, survey: &Survey, kinds: Keep, us: Option<u32>) -> Result<Extras, SurveyError> {
    let mut lists = Lists { names: vec![0; ATTRIBUTES_LIMIT], value: vec![0; ATTRIBUTES_LIMIT], ..Lists::default() };
    if kinds.has(Extra::Hardlinks) {
        lists.links(survey);
    }
    if !kinds.without(Extra::Hardlinks).is_empty() {
        let mut opener = site.opener();
        for entry in survey.entries().iter().filter(|entry| matches!(entry.form, Form::File | Form::Directory)) {
            let fd = opener.open(entry)?;
            lists.attributes(&fd, entry, kinds, us);
            if kinds.has(Extra::Sparse) && entry.form == Form::File && has_holes(&fd, entry.size) {
                lists.add(Extra::Sparse, [&*path_of(entry)]);
            }
        }
    }
    Ok(Extras::new(|extra| {
        let (entries, hasher) =
            lists.lists.get(&extra).map_or((0, Md5::new()), |list| (list.entries, list.hasher.clone()));
        (entries, Digest(hasher.finalize().into()))
    }))
}

#[derive(Default)]
struct Lists {
    lists: BTreeMap<Extra, List>,
    names: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Default)]
struct List {
    entries: u64,
    hasher: Md5,
}

impl Lists {
    /// One entry that has it, with its lines.
    fn add<'a>(&mut self, extra: Extra, lines: impl IntoIterator<Item = &'a str>) {
        let list = self.lists.entry(extra).or_default();
        list.entries += 1;
        for line in lines {
            list.hasher.update(line);
            list.hasher.update("\n");
        }
    }

    /// Names outside the item do not count.
    fn links(&mut self, survey: &Survey) {
        let mut names: BTreeMap<u64, u64> = BTreeMap::new();
        for entry in survey.files() {
            *names.entry(entry.inode).or_default() += 1;
        }
        names.retain(|_, count| *count > 1);
        let mut numbers = BTreeMap::new();
        for entry in survey.files().filter(|entry| names.contains_key(&entry.inode)) {
            let next = numbers.len();
            let number = numbers.entry(entry.inode).or_insert(next);
            self.add(Extra::Hardlinks, [&*format!("{number} {}", path_of(entry))]);
        }
    }

    fn attributes(&mut self, fd: &OwnedFd, entry: &Entry, kinds: Keep, us: Option<u32>) {
        let Ok(length @ 1..) = flistxattr(fd, &mut *self.names) else { return };
        let names = self.names.get(..length).unwrap_or_default();
        let mut names: Vec<_> =
            names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
        names.sort_unstable();
        let path = path_of(entry);
        let (mut attributes, mut acls) = (Vec::new(), Vec::new());
        for name in names {
            let is_acl = name == ACL || name == DEFAULT_ACL;
            let is_attribute = name.starts_with(USER) && !name.starts_with(OF_RSYNC);
            if !(is_acl && kinds.has(Extra::Acls) || is_attribute && kinds.has(Extra::Xattrs)) {
                continue;
            }
            // One that is removed meanwhile changes the ctime, which the caller looks at.
            let Ok(length) = fgetxattr(fd, &*name, &mut *self.value) else { continue };
            let value = self.value.get(..length).unwrap_or_default();
            if is_acl {
                if us.is_some_and(|us| names_only(value, us)) {
                    continue;
                }
                let whose = if name == ACL { 'a' } else { 'd' };
                acls.push(format!("{whose} {} {path}", acl_text(value)));
            } else {
                attributes.push(format!("{} {} {path}", field(&name), Digest(Md5::digest(value).into())));
            }
        }
        for (extra, lines) in [(Extra::Xattrs, attributes), (Extra::Acls, acls)] {
            if !lines.is_empty() {
                self.add(extra, lines.iter().map(String::as_str));
            }
        }
    }
}

/// Preallocated space is no hole, although the kernel reports it as one.
fn has_holes(fd: impl AsFd, size: u64) -> bool {
    let allocated =
        fstat(&fd).map_or(u64::MAX, |stat| u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK));
    allocated < size && seek(&fd, SeekFrom::Hole(0)).is_ok_and(|hole| hole < size)
}

/// An entry of an ACL: tag, id and permissions.
type AclEntry = (u16, u32, u16);

const USER_OF: u16 = 0x02;
const GROUP_OF: u16 = 0x08;

/// The entries of an ACL, sorted, from the kernel's form: a version, then tag, permissions and id of each, little-endian.
/// `None` for a form that we do not know.
fn acl_entries(value: &[u8]) -> Option<Vec<AclEntry>> {
    let (version, entries) = value.split_first_chunk()?;
    let (entries, []) = entries.as_chunks::<8>() else { return None };
    let read = |[t0, t1, p0, p1, id @ ..]: &[u8; 8]| {
        (u16::from_le_bytes([*t0, *t1]), u32::from_le_bytes(*id), u16::from_le_bytes([*p0, *p1]))
    };
    let mut entries: Vec<_> = entries.iter().map(read).collect();
    entries.sort_unstable();
    (u32::from_le_bytes(*version) == 2).then_some(entries)
}

/// The text of an ACL; its digest for a form that we do not know.
fn acl_text(value: &[u8]) -> String {
    let text = |(tag, id, permissions): AclEntry| {
        let bit = |bit: u16, letter: char| if permissions & bit != 0 { letter } else { '-' };
        let permissions: String = [bit(4, 'r'), bit(2, 'w'), bit(1, 'x')].iter().collect();
        Some(match tag {
            0x01 => format!("u::{permissions}"),
            USER_OF => format!("u:{id}:{permissions}"),
            0x04 => format!("g::{permissions}"),
            GROUP_OF => format!("g:{id}:{permissions}"),
            0x10 => format!("m::{permissions}"),
            0x20 => format!("o::{permissions}"),
            _ => return None,
        })
    };
    let texts = acl_entries(value).and_then(|entries| entries.into_iter().map(text).collect::<Option<Vec<_>>>());
    texts.map_or_else(|| format!("#{}", Digest(Md5::digest(value).into())), |texts| texts.join(","))
}

/// Whether an ACL names this user, and no other user or group.
fn names_only(value: &[u8], user: u32) -> bool {
    let entries = acl_entries(value).unwrap_or_default();
    let mut named = entries.iter().filter(|(tag, ..)| matches!(*tag, USER_OF | GROUP_OF)).peekable();
    named.peek().is_some() && named.all(|(tag, id, _)| (*tag, *id) == (USER_OF, user))
}

fn path_of(entry: &Entry) -> String {
    field(&entry.path)
}

fn field(bytes: &[u8]) -> String {
    encode_bytes(bytes).replace(' ', "%20")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use rustix::fs::{XattrFlags, setxattr};

    use super::*;
    use crate::machine::ItemName;

    fn found(dir: &std::path::Path) -> String {
        let site = Site::open(dir, &ItemName::new(b"item").unwrap()).unwrap();
        extras(&site, &site.survey().unwrap(), Extra::ALL.into_iter().collect(), None).unwrap().to_string()
    }

    fn digest(list: &str) -> Digest {
        Digest(Md5::digest(list).into())
    }

    #[test]
    fn each_kind_has_its_list() {
        let dir = tempfile::tempdir().unwrap();
        let item = dir.path().join("item");
        fs::create_dir(&item).unwrap();
        fs::write(item.join("a b"), "x").unwrap();
        assert_eq!(found(dir.path()), "");
        fs::hard_link(item.join("a b"), dir.path().join("outside")).unwrap();
        assert_eq!(found(dir.path()), "", "a name outside is none of the item");
        fs::hard_link(item.join("a b"), item.join("c")).unwrap();
        let links = format!("hardlinks*2={}", digest("0 a%20b\n0 c\n"));
        assert_eq!(found(dir.path()), links);
        let sparse = File::create(item.join("d")).unwrap();
        sparse.set_len(1 << 20).unwrap();
        sparse.write_all_at(b"x", 1 << 20).unwrap();
        sparse.sync_all().unwrap();
        // Space that is allocated in advance is no hole.
        let full = File::create(item.join("e")).unwrap();
        rustix::fs::fallocate(&full, rustix::fs::FallocateFlags::empty(), 0, 1 << 20).unwrap();
        for name in ["user.b", "user.a", "user.rsync.%stat"] {
            setxattr(&item, name, b"1", XattrFlags::empty()).unwrap();
        }
        let one = digest("1");
        assert_eq!(
            found(dir.path()),
            format!(
                "{links} xattrs*1={} sparse*1={}",
                digest(&format!("user.a {one} .\nuser.b {one} .\n")),
                digest("d\n")
            )
        );
    }

    #[test]
    fn acls_have_one_text_whatever_their_order() {
        let entry = |tag: u16, permissions: u16, id: u32| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let (user, mask, none) = (entry(2, 5, 1000), entry(0x10, 7, u32::MAX), u32::MAX);
        let other = entry(2, 6, 7);
        let all = |middle: &[&[u8]]| {
            [&[2, 0, 0, 0][..], &entry(1, 6, none), &middle.concat(), &entry(4, 4, none), &mask, &entry(0x20, 0, none)]
                .concat()
        };
        let text = "u::rw-,u:7:rw-,u:1000:r-x,g::r--,m::rwx,o::---";
        assert_eq!(acl_text(&all(&[&user, &other])), text);
        assert_eq!(acl_text(&all(&[&other, &user])), text);
        assert!(names_only(&all(&[&user]), 1000) && !names_only(&all(&[&user]), 7));
        assert!(!names_only(&all(&[&user, &other]), 1000) && !names_only(&all(&[]), 1000));
        for odd in [&b""[..], b"\x03\0\0\0", b"\x02\0\0\0\x01", &[&[2, 0, 0, 0][..], &entry(0x40, 0, 0)].concat()] {
            assert_eq!(acl_text(odd), format!("#{}", Digest(Md5::digest(odd).into())));
        }
    }
}
