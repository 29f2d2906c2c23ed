//! What may be delivered, and what was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::bed::tree;

/// The content of an item: the MD5 of a file, or the path, kind and content of each entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content(String);

impl Content {
    pub fn of_bytes(bytes: &[u8]) -> Self {
        use md5::{Digest, Md5};
        Self(Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub fn at(path: &Path) -> Self {
        if !path.is_dir() {
            return Self(tree::md5(path));
        }
        // All entries, the hidden ones too.
        let mut lines = Vec::new();
        list(path, path, &mut lines);
        lines.sort();
        Self(lines.join("\n"))
    }
}

fn list(dir: &Path, root: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let shown = path.strip_prefix(root).unwrap().display().to_string();
        if path.is_dir() {
            lines.push(format!("{shown}/"));
            list(&path, root, lines);
        } else {
            lines.push(format!("{shown} {}", tree::md5(&path)));
        }
    }
}

/// What a writer has meant to write under one name.
pub struct Intent {
    pub name: String,
    /// The complete contents, in the order in which they were written; none for what was never completed.
    pub versions: Vec<Content>,
}

/// Every delivery, by its item's name, the oldest first. The download's `cleanup_move` keeps them all apart.
pub fn deliveries(arrived: &Path) -> BTreeMap<String, Vec<Content>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(arrived).unwrap() {
        let entry = entry.unwrap();
        let (name, number) = version(entry.file_name().as_bytes());
        found.insert((name, number), Content::at(&entry.path()));
    }
    let mut by_name: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for ((name, _), content) in found {
        by_name.entry(name).or_default().push(content);
    }
    by_name
}

/// `NAME` is the first one, `NAME.~1~` the second.
fn version(name: &[u8]) -> (String, u32) {
    let name = String::from_utf8(name.to_vec()).unwrap();
    let number = name.strip_suffix('~').and_then(|rest| rest.rsplit_once(".~"));
    match number.and_then(|(name, number)| Some((name.to_owned(), number.parse().ok()?))) {
        Some(found) => found,
        None => (name, 0),
    }
}

/// Whether the last content is the latest delivery of the name.
pub fn is_complete(arrived: &Path, intent: &Intent) -> bool {
    let Some(last) = intent.versions.last() else { return true };
    let path = |number| match number {
        0 => arrived.join(&intent.name),
        _ => arrived.join(format!("{}.~{number}~", intent.name)),
    };
    let latest: Option<PathBuf> = (0..).map(path).take_while(|path| path.exists()).last();
    latest.is_some_and(|path| Content::at(&path) == *last)
}

/// Everything that was delivered and must not have been, and what is missing.
pub fn problems(intents: &[Intent], delivered: &BTreeMap<String, Vec<Content>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, contents) in delivered {
        let Some(intent) = intents.iter().find(|intent| intent.name == *name) else {
            wrong.push(format!("{name} was delivered, and nobody meant it to be"));
            continue;
        };
        let mut from = 0;
        for content in contents {
            match intent.versions.iter().skip(from).position(|version| version == content) {
                Some(at) => from += at,
                None if intent.versions.contains(content) => wrong.push(format!("{name}: an older version came later")),
                None => wrong.push(format!("{name}: a half-written content was delivered")),
            }
        }
    }
    for Intent { name, versions } in intents {
        if delivered.get(name).and_then(|contents| contents.last()) != versions.last() {
            wrong.push(format!("{name}: the last delivery is not the last complete content"));
        }
    }
    wrong
}
