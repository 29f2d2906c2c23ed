//! The documents say what the code does.
//!
//! `SYNKLER_GOLDEN=write cargo test --test docs` writes README's table of writers from `tests/writers/rows.rs`.

#[path = "writers/rows.rs"]
mod rows;

use std::fs;
use std::path::Path;

use clap::Parser;
use synkler::cli::{Arguments, EXITS};
use synkler::machine::{Cause, State, central, download, upload};

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the first table below a heading, cell by cell, without back-ticks and the two head rows.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let after = text.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let rows = after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    rows.skip(2).map(cells).collect()
}

fn moves<S: Copy>(moves: &[(S, S, &str)], word: fn(S) -> &'static str) -> Vec<Vec<String>> {
    moves.iter().map(|(from, to, why)| vec![word(*from).to_owned(), word(*to).to_owned(), (*why).to_owned()]).collect()
}

#[test]
fn the_state_tables_are_those_of_the_code() {
    let text = document("docs/states.md");
    assert_eq!(table(&text, "## Moves at upload"), moves(upload::MOVES, upload::Stage::as_str));
    assert_eq!(table(&text, "## Moves at central"), moves(central::MOVES, central::Stage::as_str));
    assert_eq!(table(&text, "## Moves at download"), moves(download::MOVES, download::Stage::as_str));
}

#[test]
fn every_state_stage_and_reason_is_explained() {
    let text = document("docs/states.md");
    let states: Vec<_> =
        State::ALL.iter().map(|state| vec![state.as_str().to_owned(), state.text().to_owned()]).collect();
    assert_eq!(table(&text, "## States"), states);
    let words = |heading| table(&text, heading).into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    let stages = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words("## Stages at upload"), stages(upload::Stage::ALL.iter().map(|stage| stage.as_str()).collect()));
    assert_eq!(words("## Stages at central"), stages(central::Stage::ALL.iter().map(|stage| stage.as_str()).collect()));
    assert_eq!(
        words("## Stages at download"),
        stages(download::Stage::ALL.iter().map(|stage| stage.as_str()).collect())
    );
    let reasons: Vec<_> = table(&text, "## Reasons").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let causes: Vec<_> = Cause::ALL.iter().map(|cause| (cause.code().to_owned(), cause.text().to_owned())).collect();
    assert_eq!(reasons, causes);
}

#[test]
fn for_everything_that_waits_there_is_something_to_look_at() {
    let rows = table(&document("docs/operations.md"), "## What waits, and what to look at");
    let codes: Vec<_> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(codes, Cause::ALL.iter().map(|cause| cause.code()).collect::<Vec<_>>());
    for row in &rows {
        let places: Vec<_> = row[1].split(", ").collect();
        assert!(places.iter().all(|place| ["upload", "central", "download", "all"].contains(place)), "{row:?}");
        assert!(row[2].len() > 30, "{row:?}");
    }
}

#[test]
fn the_table_of_writers_is_that_of_their_test() {
    let text = document("README.md");
    let (before, after) = text.split_once("\n## Who writes there\n").unwrap();
    let start = before.len() + "\n## Who writes there\n".len() + after.find("\n|").unwrap() + 1;
    let length: usize =
        text[start..].split_inclusive('\n').take_while(|line| line.starts_with('|')).map(str::len).sum();
    let (found, rest) = text[start..].split_at(length);
    let table = rows::table();
    if std::env::var("SYNKLER_GOLDEN").is_ok_and(|value| value == "write") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        fs::write(path, format!("{}{table}{rest}", &text[..start])).unwrap();
    } else {
        assert_eq!(found, table, "SYNKLER_GOLDEN=write cargo test --test docs writes the table");
    }
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let text = document("docs/operations.md").replace('\n', " ");
    let told = text.split("`synklerctl` ends with ").nth(1).unwrap().split(". With").next().unwrap();
    let codes: Vec<_> = EXITS.iter().map(|(code, _)| code.to_string()).collect();
    let found: Vec<_> = told.split(", ").filter_map(|part| part.split(' ').next()).map(str::to_owned).collect();
    assert_eq!(found, codes);
}

/// The lines of every block of commands.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("\n```").skip(1).step_by(2);
    let lines = blocks.flat_map(|block| block.lines().skip(1)).map(|line| line.split(" #").next().unwrap_or_default());
    lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_commands_of_the_documents_exist() {
    let mut checked = 0;
    for name in ["README.md", "docs/operations.md"] {
        for line in commands(&document(name)) {
            let Some(at) = line.find("synklerctl ") else { continue };
            let line = line[at..].split(" | ").next().unwrap();
            let words = shlex::split(line).unwrap_or_else(|| panic!("{name}: {line}"));
            if let Err(error) = Arguments::try_parse_from(words) {
                panic!("{name}: {line}: {error}");
            }
            checked += 1;
        }
    }
    assert!(checked > 15, "{checked}");
}
