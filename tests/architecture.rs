//! The walls of the house: who may know whom, what the core may use, how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "architecture/circles.rs"]
mod circles;

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The code of a file without comments and without its tests, which stand last or in a file of their own.
fn code(path: &Path) -> String {
    if path.ends_with("tests.rs") {
        return String::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The top-level module a file belongs to, as the walls name it.
fn module(path: &Path) -> String {
    let relative = path.strip_prefix(src()).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// Every module of ours that a text mentions by a path.
fn mentioned(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in ["crate::", "synkler::"] {
        for (at, _) in code.match_indices(start) {
            let rest = &code[at + start.len()..];
            let names = match rest.strip_prefix('{') {
                Some(group) => group.split('}').next().unwrap_or_default().split(',').map(str::trim).collect(),
                None => vec![rest],
            };
            for name in names {
                let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
                found.push(name[..end].to_owned());
            }
        }
    }
    found
}

#[test]
fn every_module_knows_only_whom_it_may() {
    let may_know = |module: &str| -> &[&str] {
        match module {
            "machine" => &["machine"],
            "wire" => &["machine", "wire"],
            "config" => &["machine", "config"],
            "control" => &["machine", "control"],
            "drivers" => &["machine", "wire", "drivers"],
            "setup" => &["machine", "config", "drivers", "setup"],
            "ssh" => &["machine", "config", "drivers", "ssh"],
            "daemon" => &["machine", "wire", "check", "config", "control", "drivers", "ssh", "daemon"],
            "cli" => &["control", "cli"],
            "check" => &["machine", "config", "control", "drivers", "ssh", "check"],
            "bin" => &["check", "cli", "config", "control", "daemon", "drivers", "machine", "setup", "ssh"],
            _ => &[],
        }
    };
    let mut checked = 0;
    for path in sources(&src()) {
        let module = module(&path);
        if module == "lib" {
            continue;
        }
        for other in mentioned(&code(&path)) {
            assert!(may_know(&module).contains(&other.as_str()), "{}: {module} may not know {other}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 30, "the walk has found too little to be true: {checked}");
}

#[test]
fn no_file_knows_one_that_knows_it() {
    let known = circles::knowledge();
    let count: usize = known.values().flat_map(|of| of.values()).map(|others| others.len()).sum();
    assert!(count > 200, "the walk has found too little to be true: {count}");
    let circles = circles::circles();
    assert!(circles.is_empty(), "files know each other in circles:\n{}", circles.join("\n"));
}

#[test]
fn drivers_do_not_know_each_other() {
    // What several drivers need of the kernel stands in `sys`, `process`, `look`, `manifest`, `modes`, `extras` and `keeps`: no outside
    // thing of their own. File times are told by the daemon's `clock`.
    let shared = ["sys", "process", "look", "manifest", "modes", "extras", "keeps", "disk", "systemd", "clock"];
    for path in sources(&src().join("drivers")) {
        let relative = path.strip_prefix(src().join("drivers")).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if first == "mod" {
            continue;
        }
        let code = code(&path);
        // In a module right below drivers/, `super` is drivers.
        let module = relative.with_extension("");
        let starts = if module.components().count() == 1 || module.ends_with("mod") && module.components().count() == 2
        {
            vec!["crate::drivers::", "super::"]
        } else {
            vec!["crate::drivers::"]
        };
        for (at, start) in starts.into_iter().flat_map(|start| code.match_indices(start)) {
            let rest = &code[at + start.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let other = &rest[..end];
            assert!(
                other.is_empty() || other == first || shared.contains(&other),
                "{}: knows driver {other:?}",
                path.display()
            );
        }
    }
}

#[test]
fn the_core_is_pure() {
    let forbidden = [
        "std::fs",
        "std::io",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "Mutex",
        "RwLock",
        "std::sync::atomic",
        "std::sync::mpsc",
        "OnceLock",
        "SystemTime",
        "Instant",
        "HashMap",
        "HashSet",
        "async ",
        ".await",
        "serde",
        "tokio",
        "rand::",
        "tracing",
        "unsafe",
        "RefCell",
        "static mut",
        "println!",
    ];
    for path in sources(&src().join("machine")) {
        for word in forbidden {
            assert!(!code(&path).contains(word), "{}: the core has no business with {word:?}", path.display());
        }
    }
}

#[test]
fn the_client_knows_only_the_control_interface() {
    let mut files = sources(&src().join("cli"));
    files.push(src().join("bin/synklerctl.rs"));
    for path in files {
        let code = code(&path);
        for other in mentioned(&code) {
            let may = ["control", "cli"].contains(&other.as_str());
            assert!(may, "{}: synklerctl may know the control interface only, not {other}", path.display());
        }
        assert!(!code.contains("tokio"), "{}: synklerctl has no runtime", path.display());
    }
}

#[test]
fn unsafe_code_stands_in_few_small_files() {
    for path in sources(&src()) {
        let name = path.strip_prefix(src()).unwrap().to_str().unwrap().to_owned();
        let may = ["drivers/sys.rs", "drivers/process.rs"].contains(&name.as_str());
        let code = code(&path);
        let found = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "(unsafe_code)"]
            .iter()
            .any(|form| code.contains(form));
        assert!(may || !found, "{name} holds unsafe code");
    }
}

#[test]
fn files_stay_readable() {
    for path in sources(&src()) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 550, "{} has {lines} lines: it usually has two jobs then", path.display());
    }
}

#[test]
fn modules_are_laid_out_in_one_way() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    // Right below tests/ are programs, each with its modules in a directory of its name.
    let modules = sources(&tests).into_iter().filter(|path| path.parent() != Some(&tests));
    for path in sources(&src()).into_iter().chain(modules) {
        let beside = path.with_extension("");
        assert!(!beside.is_dir(), "{}: it belongs into its directory, as mod.rs", path.display());
        let stem = beside.file_name().unwrap().to_str().unwrap();
        assert!(
            !stem.ends_with("_tests"),
            "{}: its tests belong into {stem}/tests.rs, or into its file",
            path.display()
        );
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            path.starts_with(&tests) || !text.contains("#[path"),
            "{}: a module is where its name says",
            path.display()
        );
    }
}

#[test]
fn names_say_what_things_are() {
    for path in sources(&src()) {
        let name = path.strip_prefix(src()).unwrap().to_str().unwrap().to_owned();
        for word in ["util", "helper", "manager", "common", "misc"] {
            assert!(!name.contains(word), "{name}");
        }
        assert!(!code(&path).contains("fn get_"), "{name}: a getter carries the name of what it gives");
    }
}
