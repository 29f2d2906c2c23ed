//! The README's installation chapter, executed word for word.

use std::collections::BTreeMap;
use std::fs;

use super::bed::Bed;
use super::terminal::type_in;
use crate::packages::source;

const HEADING: &str = "\n## Installation: three hosts in ten minutes\n";

/// The chapter's commands, each with the host it is for.
pub fn commands() -> Vec<(String, String)> {
    let readme = fs::read_to_string(source().join("README.md")).unwrap();
    let chapter = readme.split(HEADING).nth(1).unwrap_or_else(|| panic!("README.md: no chapter {HEADING:?}"));
    let chapter = chapter.split("\n## ").next().unwrap();
    let mut commands = Vec::new();
    for block in chapter.split("```").skip(1).step_by(2) {
        let mut lines = block.lines().map(str::trim).filter(|line| !line.is_empty());
        let mark = lines.next().unwrap();
        let host = mark.strip_prefix("# on ").unwrap_or_else(|| panic!("a block names its host first, not {mark:?}"));
        commands.extend(lines.map(|line| (host.to_owned(), line.to_owned())));
    }
    commands
}

/// Does what it says, with the package where it has to be. What a reader copies from one screen to another is copied.
pub fn follow(bed: &Bed) {
    let mut passwords = BTreeMap::new();
    let mut keys = String::new();
    let mut shown = Vec::new();
    for (name, line) in commands() {
        let host = bed.host(&name);
        eprintln!("{name}# {line}");
        let password = passwords.get(&name).cloned().unwrap_or_default();
        // What init suggests is right, but for the password.
        let mut answers = vec![
            ("]: ", "\r".to_owned()),
            ("[Y/n] ", "\r".to_owned()),
            ("(Enter: set it later): ", format!("{password}\r")),
            ("Type yes: ", "yes\r".to_owned()),
        ];
        if line.contains(" tee -a ") {
            answers.push(("", format!("{keys}\u{4}")));
        }
        let answers: Vec<_> = answers.iter().map(|(asked, answer)| (*asked, answer.as_str())).collect();
        // Who is too early for what arrives looks again.
        if let Some(file) = line.strip_prefix("cat ") {
            host.wait(&format!("test -e {file}"));
        }
        let said = type_in(host, &line, &answers);
        if line.starts_with("cat ") {
            shown.push(said.clone());
        }
        if line.starts_with("synkler broker-setup ") {
            passwords = passwords_in(&said);
        }
        if line.starts_with("synkler keys ") {
            let line = said.lines().find(|line| line.starts_with("restrict,")).unwrap_or_else(|| panic!("{said}"));
            keys.push_str(&format!("{line}\r"));
        }
    }
    assert!(
        shown.len() == 4 && shown.iter().all(|said| said.contains("PRETTY_NAME=")),
        "it is at both ends: {shown:?}"
    );
    let left = bed.upload.run("cd /srv/outgoing && find . -name .synkler -prune -o -print | sort");
    assert_eq!(left, ".\n./customerA\n./customerB\n");
}

/// Which password goes to which host.
fn passwords_in(said: &str) -> BTreeMap<String, String> {
    let mut passwords = BTreeMap::new();
    let mut lines = said.lines();
    while let Some(line) = lines.next() {
        if let Some(node) = line.strip_prefix("On ") {
            let (node, _) = node.split_once(':').unwrap();
            let name = node.split(' ').nth(1).unwrap();
            passwords.insert(name.to_owned(), lines.next().unwrap().trim().to_owned());
        }
    }
    assert_eq!(passwords.len(), 3, "{said}");
    passwords
}
