//! The four lists of files in CONTRIBUTING.md are complete: each example is in every file that its list names, and in no
//! other source file or document.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const LISTS: [&str; 4] = ["A new config key", "A new verb", "A new reason", "A new message"];

/// Where an example may occur only in files that its list names. The other tests may be named, and need not be.
const SEARCHED: [&str; 5] = ["src", "docs", "packaging", "sample-config", "tests/sim"];

/// One list: what to search for, and the files and directories (with a slash at the end) that have it.
#[derive(Clone)]
struct List {
    markers: Vec<String>,
    named: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn between_back_ticks(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A list by its heading: the line "Search for: …", and the first cells of the table's rows.
fn list(text: &str, heading: &str) -> List {
    let section = text.split(&format!("\n### {heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let section = section.split("\n#").next().unwrap();
    let markers = section.lines().find_map(|line| line.strip_prefix("Search for: ")).expect(heading);
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let named = rows.flat_map(|row| between_back_ticks(row.split('|').nth(1).unwrap())).collect();
    List { markers: between_back_ticks(markers), named }
}

/// Whether a text has a marker that is no part of a longer word.
fn has(text: &str, marker: &str) -> bool {
    let in_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let (first, last) = (marker.chars().next(), marker.chars().next_back());
    text.match_indices(marker).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let behind = text[at + marker.len()..].chars().next();
        let starts_inside = in_word(first) && in_word(before);
        let ends_inside = in_word(last) && in_word(behind);
        !starts_inside && !ends_inside
    })
}

/// Every file at or below a path, by its path from the root with slashes.
fn files(path: &str, found: &mut BTreeMap<String, String>) {
    let full = root().join(path);
    if full.is_dir() {
        for entry in fs::read_dir(&full).unwrap() {
            files(&format!("{path}/{}", entry.unwrap().file_name().to_str().unwrap()), found);
        }
    } else if let Ok(bytes) = fs::read(&full) {
        // In a man page, the letter of a font stands right before a word.
        let text = String::from_utf8_lossy(&bytes).replace("\\fB", " ").replace("\\fI", " ");
        found.insert(path.to_owned(), text);
    }
}

/// Every file in which an example may only occur if it is named.
fn searched() -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    SEARCHED.iter().for_each(|path| files(path, &mut texts));
    texts
}

/// What is wrong with a list.
fn problems(list: &List, searched: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let has_any = |text: &str| list.markers.iter().any(|marker| has(text, marker));
    for name in &list.named {
        let is_there = if name.ends_with('/') { root().join(name).is_dir() } else { root().join(name).is_file() };
        let mut texts = BTreeMap::new();
        files(name.trim_end_matches('/'), &mut texts);
        if !is_there {
            wrong.push(format!("{name} does not exist"));
        } else if !texts.values().any(|text| has_any(text)) {
            wrong.push(format!("{name} has none of {:?}", list.markers));
        }
    }
    let is_named =
        |path: &str| list.named.iter().any(|name| path == name || (name.ends_with('/') && path.starts_with(name)));
    let missing = searched.iter().filter(|(path, text)| has_any(text) && !is_named(path));
    wrong.extend(missing.map(|(path, _)| format!("{path} has one of {:?} and is not named", list.markers)));
    wrong
}

fn lists() -> Vec<List> {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    LISTS.iter().map(|heading| list(&text, heading)).collect()
}

#[test]
fn each_list_names_every_file_that_has_its_example() {
    let searched = searched();
    for (heading, list) in LISTS.iter().zip(lists()) {
        assert!(!list.markers.is_empty() && list.named.len() > 5, "{heading}: the list is too short to be true");
        let wrong = problems(&list, &searched);
        assert!(wrong.is_empty(), "CONTRIBUTING.md, {heading}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn a_list_that_names_too_few_or_too_many_files_is_found_out() {
    let searched = searched();
    for list in lists() {
        for at in 0..list.named.len() {
            let mut short = list.clone();
            let left_out = short.named.remove(at);
            let is_searched = SEARCHED.iter().any(|path| left_out.starts_with(path));
            assert_eq!(!problems(&short, &searched).is_empty(), is_searched, "without {left_out}");
        }
        for (wrong, why) in [("src/gone.rs", "does not exist"), ("gone/", "does not exist"), ("LICENSE", "has none of")]
        {
            let mut long = list.clone();
            long.named.push(wrong.to_owned());
            assert!(problems(&long, &searched).iter().any(|problem| problem.contains(why)), "with {wrong}");
        }
    }
}
