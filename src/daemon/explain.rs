//! What a path means to this node: an item, a part of one, or why it is none.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use crate::config::{ItemPatterns, Role, Settings};
use crate::control::types::Explanation;
use crate::drivers::files::RESERVED;
use crate::machine::{DEPTH_LIMIT, ItemName, Readiness, TransferId, escaped, one_line};

/// Explains a path, absolute or below `file_dir`, by the config and the file system alone. Blocks.
pub fn explain(settings: &Settings, path: &[u8]) -> Explanation {
    let asked = settings.file_dir.join(OsString::from_vec(path.to_vec()));
    let shown = one_line(&escaped(asked.as_os_str().as_bytes()));
    let told = match below(&settings.file_dir, &asked) {
        None => Told::new("outside", &format!("not below file_dir {}", settings.file_dir.display())),
        Some(parts) => match &settings.role {
            Role::Upload { items, .. } => on_upload(&settings.file_dir, items, &parts),
            Role::Central { .. } => on_central(settings.group.as_str().as_bytes(), &parts),
            Role::Download { .. } => on_download(&parts),
        },
    };
    let Told { verdict, text, items } = told;
    Explanation { path: shown, verdict: verdict.to_owned(), text: one_line(&text), items }
}

struct Told {
    verdict: &'static str,
    text: String,
    items: Vec<String>,
}

impl Told {
    fn new(verdict: &'static str, text: &str) -> Self {
        Self { verdict, text: text.to_owned(), items: Vec::new() }
    }

    fn of(verdict: &'static str, text: &str, item: &ItemName) -> Self {
        Self { items: vec![item.encoded()], ..Self::new(verdict, text) }
    }
}

type Parts = Vec<Vec<u8>>;

/// The parts of the path below `file_dir`. Links above the last part count as what they lead to, so that any spelling of
/// the path will do.
fn below(file_dir: &Path, asked: &Path) -> Option<Parts> {
    let parts = |path: &Path| path.components().map(|part| part.as_os_str().as_bytes().to_vec()).collect();
    let is_plain = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    if let Ok(rest) = asked.strip_prefix(file_dir)
        && is_plain(rest)
    {
        return Some(parts(rest));
    }
    let real = |path: &Path| -> Option<PathBuf> {
        let (above, name) = (path.parent()?, path.file_name()?);
        Some(fs::canonicalize(above).ok()?.join(name))
    };
    let home = fs::canonicalize(file_dir).ok()?;
    let spellings = [real(asked), fs::canonicalize(asked).ok()];
    spellings.into_iter().flatten().find_map(|path| path.strip_prefix(&home).ok().map(parts))
}

fn on_upload(file_dir: &Path, items: &ItemPatterns, parts: &Parts) -> Told {
    let depth = items.depth;
    let where_items_are = match depth {
        0 => "its entries are items".to_owned(),
        _ => format!("items are {} of directories below it (item_depth)", levels(depth)),
    };
    if parts.is_empty() {
        return Told::new("permanent", &format!("file_dir itself: {where_items_are}"));
    }
    for (level, part) in parts.iter().enumerate().take(depth + 1) {
        let shown = escaped(part);
        if part.starts_with(RESERVED) {
            return Told::new("own", "synkler's own: leave it there");
        }
        let path = parts.get(..=level).unwrap_or_default().join(&b'/');
        // The name of a marker may begin with a dot.
        let marker = items.ready.marker().filter(|_| level == depth);
        if let (Some(marker), Ok(name)) = (marker, ItemName::new(&path))
            && let Some(item) = marker.item(&name)
        {
            let text = format!("the marker of the item {item}: it says that the item is complete, and goes with it");
            return Told::of("marker", &text, &item);
        }
        if part.starts_with(b".") {
            return Told::new("hidden", &format!("not an item: {shown} begins with a dot"));
        }
        let Ok(name) = ItemName::new(&path) else {
            return Told::new("unusable", "not an item: its path is too long");
        };
        if let Some(pattern) = items.ignore.first_match(&path) {
            return Told::new("ignored", &format!("not an item: ignore has {pattern}, which matches {shown}"));
        }
        if level == depth {
            if items.is_unwanted(&name) {
                return Told::new("unwanted", &format!("not an item: no pattern of only matches {shown}"));
            }
            return as_item(items, &name, parts.get(level + 1..).unwrap_or_default());
        }
        let found = fs::symlink_metadata(file_dir.join(OsStr::from_bytes(&path)));
        match found {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Told::of(
                    "too_high",
                    &format!("waits: items are {} further down", levels(depth - level)),
                    &name,
                );
            }
            // It may have been there.
            Err(_) if parts.len() == level + 1 => return Told::of("too_high", "there is no such file now", &name),
            Err(_) => {}
        }
    }
    let text =
        format!("a permanent directory (item_depth = {depth}): synkler watches it and never moves or removes it");
    Told::new("permanent", &text)
}

fn levels(count: usize) -> String {
    if count == 1 { "1 level".to_owned() } else { format!("{count} levels") }
}

fn as_item(items: &ItemPatterns, name: &ItemName, inside: &[Vec<u8>]) -> Told {
    if inside.is_empty() {
        let text = match &items.ready {
            Readiness::Settled => "an item of this upload".to_owned(),
            Readiness::Marker(marker) => {
                format!("an item of this upload, complete when its marker is there ({marker})")
            }
            Readiness::Submit => "an item of this upload, sent when synklerctl submit names it".to_owned(),
        };
        return Told::of("item", &text, name);
    }
    let mut path = name.as_bytes().to_vec();
    for part in inside {
        path = [&path, &b"/"[..], part].concat();
        if let Some(pattern) = items.ignore.first_match(&path) {
            let text = format!("ignore has {pattern}, which matches it: the item {name} waits until the name is gone");
            return Told::of("inside", &text, name);
        }
    }
    Told::of("inside", &format!("a part of the item {name}, which moves as a whole"), name)
}

/// The spool: `GROUP/in/PLACE/...` and `GROUP/held/TRANSFER/...`.
fn on_central(group: &[u8], parts: &Parts) -> Told {
    let text = |part: &Vec<u8>| String::from_utf8_lossy(part).into_owned();
    match parts.as_slice() {
        [_, kind, transfer, ..] if kind == b"held" && text(transfer).parse::<TransferId>().is_ok() => {
            let told = Told::new("copy", "the copy of a transfer, held until every receiver has it");
            Told { items: vec![text(transfer)], ..told }
        }
        [_, kind, _, name @ ..] if kind == b"in" && !name.is_empty() => {
            Told { items: names(name), ..Told::new("copy", "a copy that arrives from an upload") }
        }
        [] => Told::new("own", "the spool: copies on their way are in it"),
        [first] | [first, _] if first == group => Told::new("own", "the spool: copies on their way are in it"),
        [first, ..] if first.starts_with(RESERVED) => Told::new("own", "synkler's own: leave it there"),
        _ => Told { items: names(parts), ..Told::new("name", "the name of an item, if one was sent") },
    }
}

/// The destination: names of items, and `.synkler/GROUP/TRANSFER/...`.
fn on_download(parts: &Parts) -> Told {
    let text = |part: &Vec<u8>| String::from_utf8_lossy(part).into_owned();
    match parts.as_slice() {
        [] => Told::new("own", "file_dir itself: items arrive in it"),
        [first, _, transfer, ..] if first == RESERVED && text(transfer).parse::<TransferId>().is_ok() => {
            let told = Told::new("copy", "a copy in staging: it gets its name when it is verified");
            Told { items: vec![text(transfer)], ..told }
        }
        [first, ..] if first.starts_with(RESERVED) => Told::new("own", "synkler's own: leave it there"),
        _ => Told { items: names(parts), ..Told::new("name", "the name of an item, if one was delivered") },
    }
}

/// The names that an item may have which is at this path or above it.
fn names(parts: &[Vec<u8>]) -> Vec<String> {
    let longest = parts.len().min(DEPTH_LIMIT + 1);
    let name = |end: usize| ItemName::new(&parts.get(..end)?.join(&b'/')).ok();
    (1..=longest).rev().filter_map(name).map(|name| name.encoded()).collect()
}
