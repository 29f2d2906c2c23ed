//! How a copy differs from the announced item, entry by entry. The text goes into the reason that a person reads.

use std::collections::{BTreeMap, BTreeSet};

use super::{decode_bytes, escaped};

/// The number of entries that the text names.
const NAMED: usize = 3;
/// The longest path in the text, in characters; of a longer path the text shows the end.
const PATH_SHOWN: usize = 60;

/// How two manifests differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differences {
    /// The first entries and how they differ, in one line.
    pub text: String,
    /// The file system stores names that differ in case only as one name, so it cannot hold both.
    pub folded: bool,
}

/// Kind, size, and digest or target, as a line of a manifest has them.
type Entry<'a> = (&'a str, &'a str, &'a str);

/// Compares the announced manifest with the manifest of a copy; `None` if they are equal or invalid.
pub fn differences(announced: &str, found: &str) -> Option<Differences> {
    let (announced, found) = (entries(announced)?, entries(found)?);
    let folded = folded(&announced, &found);
    let mut named: Vec<String> = folded.values().map(|names| one_name(names)).collect();
    let is_folded = |path: &str| folded.contains_key(&lower(path));
    for path in announced.keys().chain(found.keys()).copied().collect::<BTreeSet<_>>() {
        if !is_folded(path) {
            named.extend(difference(path, announced.get(path), found.get(path)));
        }
    }
    let (all, is_any) = (named.len(), !folded.is_empty());
    named.truncate(NAMED);
    let mut text = named.join("; ");
    match all.saturating_sub(NAMED) {
        0 => {}
        more => text.push_str(&format!("; and {more} more")),
    }
    (all > 0).then_some(Differences { text, folded: is_any })
}

fn entries(manifest: &str) -> Option<BTreeMap<&str, Entry<'_>>> {
    manifest
        .lines()
        .map(|line| {
            let mut fields = line.split(' ');
            let (kind, size, proof, path) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some((path, (kind, size, proof)))
        })
        .collect()
}

/// Announced names that differ in case only, of which some are missing, grouped by their lower-case form.
fn folded<'a>(
    announced: &BTreeMap<&'a str, Entry<'_>>,
    found: &BTreeMap<&str, Entry<'_>>,
) -> BTreeMap<String, Vec<&'a str>> {
    let mut alike: BTreeMap<String, Vec<&'a str>> = BTreeMap::new();
    for path in announced.keys() {
        alike.entry(lower(path)).or_default().push(path);
    }
    alike.retain(|_, names| names.len() > 1 && names.iter().any(|name| !found.contains_key(name)));
    alike
}

fn lower(path: &str) -> String {
    path.to_lowercase()
}

fn one_name(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().take(NAMED).map(|name| shown(name)).collect();
    format!("{} differ in case only, and the file system takes them for one name", names.join(" and "))
}

fn difference(path: &str, announced: Option<&Entry<'_>>, found: Option<&Entry<'_>>) -> Option<String> {
    let name = shown(path);
    let (announced, found) = match (announced, found) {
        (Some(announced), Some(found)) if announced != found => (announced, found),
        (Some(_), None) => return Some(format!("{name} is missing")),
        (None, Some(_)) => return Some(format!("{name} is extra")),
        _ => return None,
    };
    Some(match (announced, found) {
        ((kind, ..), (other, ..)) if kind != other => format!("{name} is {}, not {}", word(other), word(kind)),
        (("l", _, target), (_, _, other)) => format!("{name} points to {}, not to {}", shown(other), shown(target)),
        ((_, size, _), (_, other, _)) if size != other => format!("{name} has {other} bytes, not {size}"),
        ((_, _, md5), (_, _, other)) => format!("{name} has md5 {other}, not {md5}"),
    })
}

fn word(kind: &str) -> &'static str {
    match kind {
        "f" => "a file",
        "d" => "a directory",
        "l" => "a symbolic link",
        _ => "a special file",
    }
}

/// A path of a manifest, for people.
fn shown(path: &str) -> String {
    let text = decode_bytes(path).map_or_else(|| path.to_owned(), |bytes| escaped(&bytes));
    let count = text.chars().count();
    if count <= PATH_SHOWN {
        return format!("`{text}`");
    }
    format!("`...{}`", text.chars().skip(count - PATH_SHOWN).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNOUNCED: &str = "d - - .\nf 1 aa A\nf 2 bb a\nf 3 cc b%20c\nl - old link\nd - - sub\n";

    fn told(found: &str) -> String {
        differences(ANNOUNCED, found).unwrap().text
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        assert_eq!(differences(ANNOUNCED, ANNOUNCED), None);
        for (from, to, text) in [
            ("f 3 cc b%20c\n", "", "`b c` is missing"),
            ("d - - sub\n", "d - - sub\nf 0 dd sub/x\n", "`sub/x` is extra"),
            ("f 3 cc", "f 4 cc", "`b c` has 4 bytes, not 3"),
            ("f 3 cc", "f 3 ee", "`b c` has md5 ee, not cc"),
            ("l - old link", "l - new link", "`link` points to `new`, not to `old`"),
            ("l - old link", "f 1 aa link", "`link` is a file, not a symbolic link"),
        ] {
            assert_eq!(told(&ANNOUNCED.replace(from, to)), text);
        }
    }

    #[test]
    fn names_that_have_become_one_come_first() {
        let found = ANNOUNCED.replace("f 2 bb a\n", "").replace("f 1 aa A", "f 2 bb A").replace("f 3", "f 4");
        let told = differences(ANNOUNCED, &found).unwrap();
        let expected = "`A` and `a` differ in case only, and the file system takes them for one name; \
                        `b c` has 4 bytes, not 3";
        assert_eq!((told.text.as_str(), told.folded), (expected, true));
        // Both names exist and one has wrong content: case is not the cause.
        assert!(!differences(ANNOUNCED, &ANNOUNCED.replace("f 2 bb", "f 2 ff")).unwrap().folded);
    }

    #[test]
    fn the_rest_is_counted_and_long_paths_are_cut() {
        let many: String = (0..10).map(|number| format!("f 1 aa {}{number}\n", "x".repeat(300))).collect();
        let told = differences(&many, "").unwrap().text;
        assert!(told.ends_with("; and 7 more") && told.len() < 300, "{told}");
        assert_eq!(differences("no manifest\n", ""), None);
    }
}
