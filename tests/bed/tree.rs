//! What is sent, and whether what arrived is the same.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use md5::{Digest, Md5};
use synkler::machine::{Random, spread};

/// One entry as a person would compare it: kind, mode, mtime, and digest or link target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: &'static str,
    pub mode: u32,
    pub mtime: i64,
    pub content: String,
}

/// Everything below `dir` that is not hidden at the top, by path.
pub fn survey(dir: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().as_bytes().starts_with(b".") {
            walk(&entry.path(), dir, &mut found);
        }
    }
    found
}

fn walk(path: &Path, root: &Path, found: &mut BTreeMap<PathBuf, Seen>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let (kind, content) = if meta.is_symlink() {
        ("symlink", format!("{:?}", fs::read_link(path).unwrap()))
    } else if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), root, found);
        }
        ("directory", String::new())
    } else {
        ("file", md5(path))
    };
    // A link's mode means nothing on Linux.
    let mode = if meta.is_symlink() { 0 } else { meta.mode() & 0o7777 };
    let seen = Seen { kind, mode, mtime: meta.mtime(), content };
    found.insert(path.strip_prefix(root).unwrap().to_owned(), seen);
}

pub fn md5(path: &Path) -> String {
    let mut digest = Md5::new();
    let mut file = fs::File::open(path).unwrap();
    std::io::copy(&mut file, &mut Sink(&mut digest)).unwrap();
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Sink<'a>(&'a mut Md5);

impl std::io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Names that have broken tools of this kind, all legal.
pub fn hostile_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "a b c.txt",
        "a [b] c.txt",
        "new\nline",
        "it's \"quoted\"",
        "$(touch pwned)",
        "`id`",
        "-rf",
        "--delete",
        "*",
        "?",
        "[ab]",
        "%F",
        "%",
        "#comment",
        ";semicolon",
        "&amp",
        "trailing space ",
        " leading",
        "tab\there",
        "back\\slash",
        "häßlich-日本語-🦀",
        "~",
        "~root",
        "a;b|c>d<e",
        "{x,y}",
        "!history",
        "\u{202e}gnp.exe",
        "x:y",
        "user@host:file",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.push(b"latin1-\xe9\xff".to_vec());
    names.push(b"\x1b[31mred\x07".to_vec());
    names.push(vec![b'n'; 255]);
    names
}

/// Where items are made before they are renamed into the watched directory: same file system, not watched.
pub fn workshop(file_dir: &Path) -> PathBuf {
    let dir = file_dir.parent().unwrap().join("workshop");
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Makes a file elsewhere and renames it in, as a well-behaved producer does.
pub fn hand_in(file_dir: &Path, name: &[u8], content: &[u8]) -> PathBuf {
    let made = workshop(file_dir).join(OsStr::from_bytes(name));
    fs::write(&made, content).unwrap();
    age(&made, name.len() as u64 * 1000);
    let target = file_dir.join(OsStr::from_bytes(name));
    fs::rename(&made, &target).unwrap();
    target
}

/// Gives an old modification time, so that a receiver that makes up its own is noticed.
#[expect(clippy::disallowed_methods, reason = "file times are wall-clock times")]
pub fn age(path: &Path, seconds: u64) {
    let time = SystemTime::now() - Duration::from_secs(86_400 + seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// A directory with everything that a directory may hold.
pub fn rich_directory(path: &Path) {
    fs::create_dir_all(path.join("sub/deeper")).unwrap();
    fs::create_dir_all(path.join("empty")).unwrap();
    fs::write(path.join("plain.txt"), "plain\n").unwrap();
    fs::write(path.join("sub/deeper/data"), vec![7u8; 100_000]).unwrap();
    fs::write(path.join("empty file"), "").unwrap();
    fs::write(path.join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(path.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(path.join("private"), "x").unwrap();
    fs::set_permissions(path.join("private"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("plain.txt", path.join("link")).unwrap();
    symlink("nowhere/at all", path.join("dangling")).unwrap();
    symlink("../..", path.join("sub/up")).unwrap();
    fs::write(path.join(OsStr::from_bytes(b"odd \xff\n name")), "odd").unwrap();
    for file in ["plain.txt", "sub/deeper/data", "run.sh"] {
        age(&path.join(file), 5_000);
    }
    fs::set_permissions(path.join("sub"), fs::Permissions::from_mode(0o750)).unwrap();
    for dir in ["sub/deeper", "sub", "empty", ""] {
        age(&path.join(dir), 9_000);
    }
}

/// Repeatable bytes that do not compress.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(spread(seed));
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
