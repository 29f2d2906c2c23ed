//! Which file knows which: paths in the code, resolved to the modules they lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{code, sources, src};

type Module = Vec<String>;

fn module_of(path: &Path) -> Module {
    let relative = path.strip_prefix(src()).unwrap().with_extension("");
    let mut parts: Module = relative.components().map(|part| part.as_os_str().to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// Identifiers, `::` and braces, in the order in which they stand.
fn tokens(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_ascii_alphabetic() || first == '_' {
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        if !token.trim().is_empty() {
            found.push(token);
        }
        rest = after;
    }
    found
}

/// Reads one path, or all paths of a group in braces, from `at` on; tells where it ends.
fn read_paths(tokens: &[&str], mut at: usize, prefix: &[String], found: &mut Vec<Module>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at) {
            Some(&"{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| *token != "}") {
                    let begin = at;
                    at = read_paths(tokens, at, &path, found).max(begin + 1);
                }
                return at + 1;
            }
            Some(name) if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
                path.push((*name).to_owned());
                at += 1;
            }
            _ => break,
        }
        if tokens.get(at) != Some(&"::") {
            break;
        }
        at += 1;
    }
    if path.len() > prefix.len() {
        found.push(path);
    }
    at
}

/// Every path in this code that begins with `crate`, `super` or `self`, and those of `use` that begin with a child.
fn paths(code: &str, children: &BTreeSet<String>) -> Vec<Module> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let begins = ["crate", "super", "self"].contains(&tokens[at]) && tokens.get(at + 1) == Some(&"::");
        let used = at > 0 && tokens[at - 1] == "use" && children.contains(tokens[at]);
        if (begins && (at == 0 || tokens[at - 1] != "::")) || used {
            read_paths(&tokens, at, &[], &mut found);
        }
    }
    found
}

fn absolute(path: &[String], of: &Module) -> Module {
    let mut at = of.clone();
    let mut rest = path;
    match path.first().map(String::as_str) {
        Some("crate") => {
            at.clear();
            rest = &path[1..];
        }
        Some("self") => rest = &path[1..],
        _ => {}
    }
    while let [first, others @ ..] = rest
        && first == "super"
    {
        at.pop();
        rest = others;
    }
    at.extend(rest.iter().cloned());
    at
}

/// Who knows whom among the modules of one folder, by folder.
pub(super) fn knowledge() -> BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> {
    let files: BTreeMap<Module, String> = sources(&src())
        .iter()
        .map(|path| (module_of(path), code(path)))
        .filter(|(module, _)| !module.is_empty())
        .collect();
    let children = |of: &Module| -> BTreeSet<String> {
        files
            .keys()
            .filter(|module| module.len() == of.len() + 1 && module.starts_with(of))
            .map(|m| m[of.len()].clone())
            .collect()
    };
    // What a module takes from its children is found there, under the module's own name too.
    let mut given: BTreeMap<Module, Module> = BTreeMap::new();
    for (module, code) in &files {
        for path in paths(code, &children(module)) {
            let target = absolute(&path, module);
            let (Some(name), true) = (target.last(), target.len() > module.len() + 1 && target.starts_with(module))
            else {
                continue;
            };
            given.insert([module.clone(), vec![name.clone()]].concat(), target[..module.len() + 1].to_vec());
        }
    }
    let mut known: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (module, code) in &files {
        for path in paths(code, &BTreeSet::new()) {
            let mut target = absolute(&path, module);
            if let Some(child) = given.get(&target) {
                target = child.clone();
            }
            while !target.is_empty() && !files.contains_key(&target) {
                target.pop();
            }
            let shared = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (module.get(shared), target.get(shared)) {
                known
                    .entry(module[..shared].to_vec())
                    .or_default()
                    .entry(one.clone())
                    .or_default()
                    .insert(other.clone());
            }
        }
    }
    known
}

/// One way round from each module that leads back to itself.
pub(super) fn circles() -> Vec<String> {
    let mut found = BTreeSet::new();
    for (folder, known) in knowledge() {
        for start in known.keys() {
            let mut ways = vec![vec![start.clone()]];
            let mut seen = BTreeSet::new();
            while let Some(way) = ways.pop() {
                for next in known.get(way.last().unwrap()).into_iter().flatten() {
                    if next == start {
                        let mut round = way.clone();
                        let least = round.iter().enumerate().min_by_key(|(_, name)| (*name).clone()).unwrap().0;
                        round.rotate_left(least);
                        found.insert(format!("{}: {}", folder.join("/"), round.join(" -> ")));
                    } else if seen.insert(next.clone()) {
                        ways.push([way.clone(), vec![next.clone()]].concat());
                    }
                }
            }
        }
    }
    found.into_iter().collect()
}
