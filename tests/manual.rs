//! The man pages and shell completions are those of the command lines, the config keys and the interface.
//!
//! `SYNKLER_GOLDEN=write cargo test --test manual` writes them anew; look at what has changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "manual/pages.rs"]
mod pages;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use synkler::cli::{Arguments, DaemonArguments};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// Compares a directory with what should be in it, file by file, or writes it.
fn assert_directory(name: &str, files: &BTreeMap<String, Vec<u8>>) {
    let directory = packaging().join(name);
    let write = std::env::var("SYNKLER_GOLDEN").is_ok_and(|value| value == "write");
    if write {
        fs::create_dir_all(&directory).unwrap();
    }
    for (file, text) in files {
        let path = directory.join(file);
        if write {
            fs::write(&path, text).unwrap();
        }
        let found = fs::read(&path).unwrap_or_default();
        assert!(found == *text, "{} is out of date: run with SYNKLER_GOLDEN=write", path.display());
    }
    let found = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let extra: Vec<_> = found.filter(|name| !files.contains_key(name)).collect();
    assert!(extra.is_empty(), "{} holds more than it should: {extra:?}", directory.display());
}

#[test]
fn the_man_pages_are_up_to_date() {
    let files = [
        ("synkler.8", pages::synkler()),
        ("synkler.conf.5", pages::synkler_conf()),
        ("synklerctl.1", pages::synklerctl()),
    ];
    let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect();
    assert_directory("man", &files);
}

#[test]
fn the_completions_are_up_to_date() {
    let mut files = BTreeMap::new();
    for (name, mut command) in [("synkler", DaemonArguments::command()), ("synklerctl", Arguments::command())] {
        for (shell, file) in
            [(Shell::Bash, name.to_owned()), (Shell::Zsh, format!("_{name}")), (Shell::Fish, format!("{name}.fish"))]
        {
            let mut text = Vec::new();
            generate(shell, &mut command, name, &mut text);
            files.insert(file, text);
        }
    }
    assert_directory("completions", &files);
}

/// The shell that the file is for, where this machine has it, reads it and completes.
#[test]
fn bash_completes_the_verbs() {
    let file = packaging().join("completions/synklerctl");
    let script = r#"
        source "$1" || exit 1
        COMP_WORDS=(synklerctl st) COMP_CWORD=1
        _synklerctl synklerctl st synklerctl
        printf '%s\n' "${COMPREPLY[@]}"
        COMP_WORDS=(synklerctl log-level '') COMP_CWORD=2
        _synklerctl synklerctl '' log-level
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash").args(["-c", script, "bash"]).arg(file).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["status", "error", "info"] {
        assert!(text.lines().any(|line| line == word), "{text} {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_verb_and_option_stands_in_the_man_page() {
    // As it is made, not as it is on disk: another test may be writing it.
    let page = pages::synklerctl().replace('\\', "");
    let mut commands = vec![Arguments::command()];
    while let Some(command) = commands.pop() {
        assert!(page.contains(command.get_name()));
        assert!(command.get_about().is_some(), "{} says nothing of itself", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} of {} says nothing", argument.get_id(), command.get_name());
            let long = argument.get_long().map(|long| format!("--{long}"));
            assert!(long.is_none_or(|long| page.contains(&long)), "{} is missing", argument.get_id());
        }
        let verbs = command.get_subcommands();
        if command.get_name() != "synklerctl" && !command.has_subcommands() {
            let json = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            assert!(json.starts_with("JSON: "), "{} does not say what its JSON is", command.get_name());
        }
        commands.extend(verbs.cloned());
    }
}
