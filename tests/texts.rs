//! The texts of `synklerctl` in golden files, at three widths, with names that mean harm.
//!
//! `SYNKLER_GOLDEN=write cargo test --test texts` writes them anew; look at what has changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "texts/explained.rs"]
mod explained;
#[path = "texts/group.rs"]
mod group;

use std::fs;
use std::path::Path;

use group::{
    NOW, crowded, cut_off, findings, history, idle, ignored, journey, list, nothing, orders, reload, troubled,
    unsettled, well, written,
};
use synkler::cli::{
    Exit, Explained, Look, Text, Writer, Zone, explanation_text, finding_text, findings_exit, findings_summary,
    history_text, journey_text, list_text, nodes_text, orders_exit, orders_text, reload_text, status_text,
    version_text,
};
use synkler::control::types::{Finding, Orders};
use unicode_width::UnicodeWidthStr;

fn check(findings: &[Finding], look: Look<'_>) -> Text {
    let mut lines: Vec<_> = findings.iter().flat_map(|finding| finding_text(finding, look).lines).collect();
    lines.extend(findings_summary(findings).lines);
    Text { lines }
}

/// The golden files look the same on every host.
static ZONE: Zone = Zone::utc();

type Named = (&'static str, fn(Look<'_>) -> Text);

const TEXTS: &[Named] = &[
    ("status-troubled", |look| status_text(&troubled(), look)),
    ("status-well", |look| status_text(&well(), look)),
    ("status-idle", |look| status_text(&idle(), look)),
    ("status-cut-off", |look| status_text(&cut_off(), look)),
    ("status-crowded", |look| status_text(&crowded(20_000, 5), look)),
    ("list", |look| list_text(&list(), NOW, look)),
    ("journey", |look| journey_text(&journey(), NOW, look)),
    ("journey-unsettled", |look| journey_text(&unsettled(), NOW, look)),
    ("explain-ignored", |look| explanation_text(&ignored(), NOW, look)),
    ("explain-busy", |look| explanation_text(&written(), NOW, look)),
    ("explain-nothing", |look| explanation_text(&nothing(), NOW, look)),
    ("explain-cases", explained::cases),
    ("nodes", |look| nodes_text(&troubled(), look)),
    ("history", |look| history_text(&history(), look)),
    ("orders", |look| orders_text(&orders(), look)),
    ("check", |look| check(&findings(), look)),
    ("reload", |look| reload_text(&reload(), look)),
    ("version", |_| version_text("1.2.3", Some("1.1.0"))),
];

fn assert_golden(name: &str, text: &Text, look: Look<'_>) {
    let text = text.render(look.colour);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var("SYNKLER_GOLDEN").is_ok_and(|value| value == "write") {
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name} differs; this is how it is now:\n{text}");
    assert!(text.chars().all(|c| harmless(c, look.colour)), "{name} can move a cursor");
    assert!(look.colour || text.lines().all(|line| line.width() <= look.width), "{name} is too wide");
}

fn harmless(c: char, colour: bool) -> bool {
    let bidirectional = ['\u{61c}', '\u{200e}', '\u{200f}'].contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c);
    c == '\n' || (colour && c == '\x1b') || !(c.is_control() || bidirectional)
}

#[test]
fn the_texts_are_golden_at_every_width() {
    for (name, text) in TEXTS {
        for width in [60, 80, 200] {
            let look = Look { width, colour: false, zone: &ZONE };
            assert_golden(&format!("{name}-{width}.txt"), &text(look), look);
        }
    }
    for (name, text) in TEXTS.iter().filter(|(name, _)| ["status-troubled", "journey", "check"].contains(name)) {
        let look = Look { width: 80, colour: true, zone: &ZONE };
        assert_golden(&format!("{name}-80-colour.txt"), &text(look), look);
    }
}

#[test]
fn no_golden_file_is_left_over() {
    let colours = ["status-troubled-80-colour.txt", "journey-80-colour.txt", "check-80-colour.txt"];
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")).unwrap() {
        let found = entry.unwrap().file_name().into_string().unwrap();
        let known = |(name, _): &Named| [60, 80, 200].iter().any(|width| found == format!("{name}-{width}.txt"));
        assert!(colours.contains(&found.as_str()) || TEXTS.iter().any(known), "{found}");
    }
}

/// Every text of an answer, replaced.
fn poison(value: &mut serde_json::Value, evil: &str) {
    match value {
        serde_json::Value::String(text) => evil.clone_into(text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| poison(value, evil)),
        serde_json::Value::Object(values) => values.values_mut().for_each(|value| poison(value, evil)),
        _ => {}
    }
}

fn evil_explained(evil: &str) -> Explained {
    let Explained { explanation, transfer, .. } = written();
    let writers = vec![Writer { pid: u32::MAX, name: evil.to_owned(), path: evil.to_owned() }; 7];
    let transfer = transfer.as_ref().map(|transfer| poisoned(transfer, evil));
    Explained { explanation: poisoned(&explanation, evil), writers, transfer }
}

fn poisoned<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T, evil: &str) -> T {
    let mut json = serde_json::to_value(value).unwrap();
    poison(&mut json, evil);
    serde_json::from_value(json).unwrap()
}

#[test]
fn whatever_a_daemon_sends_cannot_move_the_cursor_or_break_a_layout() {
    for evil in
        ["\x1b]0;title\x07\r\n\u{9b}2J\u{202e}\u{2066}", "", &"漢".repeat(3000), &"\u{301}".repeat(300), "a b\t"]
    {
        for width in [0, 1, 39, 60, 79, 100, 139, 1000] {
            for colour in [false, true] {
                let look = Look { width, colour, zone: &ZONE };
                let texts = [
                    status_text(&poisoned(&troubled(), evil), look),
                    nodes_text(&poisoned(&troubled(), evil), look),
                    list_text(&poisoned(&list(), evil), NOW, look),
                    journey_text(&poisoned(&journey(), evil), NOW, look),
                    history_text(&poisoned(&history(), evil), look),
                    explanation_text(&evil_explained(evil), NOW, look),
                    orders_text(&poisoned(&orders(), evil), look),
                    check(&poisoned(&findings(), evil), look),
                    reload_text(&poisoned(&reload(), evil), look),
                ];
                for text in texts.map(|text| text.render(false)) {
                    assert!(text.chars().all(|c| harmless(c, false)), "{text:?}");
                    let widest = text.lines().map(UnicodeWidthStr::width).max().unwrap_or(0);
                    assert!(widest <= width.max(60), "{widest} at {width}:\n{text}");
                }
            }
        }
    }
}

#[test]
fn numbers_beyond_reason_are_shown_and_do_not_end_the_program() {
    let mut value = serde_json::to_value(troubled()).unwrap();
    fn enlarge(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Number(number) if number.as_i64().is_some_and(|number| number > 100) => {
                *value = i64::MAX.into();
            }
            serde_json::Value::Array(values) => values.iter_mut().for_each(enlarge),
            serde_json::Value::Object(values) => {
                values.iter_mut().filter(|(key, _)| *key != "pid").for_each(|(_, value)| enlarge(value));
            }
            _ => {}
        }
    }
    enlarge(&mut value);
    let status = serde_json::from_value(value).unwrap();
    for now in [0, NOW, u64::MAX] {
        let status = synkler::control::types::Status { now, ..Clone::clone(&status) };
        assert!(!status_text(&status, Look { width: 80, colour: true, zone: &ZONE }).lines.is_empty());
        assert!(!nodes_text(&status, Look { width: 120, colour: true, zone: &ZONE }).lines.is_empty());
    }
}

#[test]
fn bars_and_colours_come_together() {
    let plain = status_text(&well(), Look { width: 200, colour: false, zone: &ZONE });
    assert!(!plain.render(false).contains(['█', '░']), "a pipe gets figures only");
    let coloured = status_text(&well(), Look { width: 200, colour: true, zone: &ZONE }).render(true);
    assert!(coloured.contains('█') && coloured.contains("\x1b[32m"));
}

#[test]
fn exits_tell_what_came_of_it() {
    let all = orders();
    assert_eq!(orders_exit(&all), Exit::Refused, "one item was refused by everybody");
    let done = Orders { deeds: all.deeds[..2].to_vec(), silent: Vec::new() };
    assert_eq!(orders_exit(&done), Exit::Done, "one node did it");
    assert_eq!(orders_exit(&Orders { silent: vec!["download zeta".to_owned()], ..done }), Exit::Incomplete);
    assert_eq!(orders_exit(&Orders { deeds: Vec::new(), silent: Vec::new() }), Exit::Refused);
    assert_eq!(findings_exit(&findings()), Exit::Refused);
    assert_eq!(findings_exit(&findings()[2..]), Exit::Done);
}
