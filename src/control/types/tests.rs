//! The shapes match the interface file: names, order, types, optional fields.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use super::SHAPES;
use crate::control::protocol::{DESCRIPTION, SERVICE_DESCRIPTION};
use crate::machine::ItemOrder;

/// A field list `(name: type, ...)` as pairs, and the text after it.
fn fields(text: &str) -> (Vec<(String, String)>, &str) {
    let mut depth = 0;
    let end = text.char_indices().find_map(|(at, c)| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        (depth == 0).then_some(at)
    });
    let (inside, rest) = text.split_at(end.unwrap());
    let mut found: Vec<(String, String)> = Vec::new();
    let mut depth = 0;
    let parts = inside[1..].split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        let (name, kind) = part.split_once(": ").unwrap();
        found.push((name.to_owned(), kind.to_owned()));
    }
    (found, rest)
}

/// The declarations of the interface files: types, and the answers of methods under the method's name and `()`.
fn declared() -> BTreeMap<String, Vec<(String, String)>> {
    let files = format!("{DESCRIPTION}\n{SERVICE_DESCRIPTION}");
    let text: Vec<_> = files.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let text = text.join("\n");
    let mut declared = BTreeMap::new();
    for (at, _) in text.match_indices("\ntype ") {
        let (name, rest) = text[at + 6..].split_once(' ').unwrap();
        declared.insert(name.to_owned(), fields(rest).0);
    }
    for (at, _) in text.match_indices("\nmethod ") {
        let (name, _) = text[at + 8..].split_once('(').unwrap();
        let (_, rest) = fields(&text[at + 8 + name.len()..]);
        let answer = &rest[rest.find("-> (").unwrap() + 3..];
        declared.insert(format!("{name}()"), fields(answer).0);
    }
    declared
}

#[test]
fn every_name_stands_for_one_thing() {
    // Clients that keep types, methods and errors in one table would confuse them.
    let words = ["type", "method", "error"];
    let declared = DESCRIPTION.lines().filter_map(|line| line.split_once(' ')).filter(|(word, _)| words.contains(word));
    let mut names: Vec<_> = declared.map(|(_, rest)| rest.split([' ', '(']).next().unwrap()).collect();
    names.sort_unstable();
    assert!(names.len() > 30 && names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}

/// How a type of ours is written in an interface file.
fn in_varlink(kind: &str) -> String {
    let kind = kind.replace(' ', "");
    let inner = |start: &str| Some(kind.strip_prefix(start)?.strip_suffix('>')?.to_owned());
    if let Some(inner) = inner("Option<") {
        return format!("?{}", in_varlink(&inner));
    }
    if let Some(inner) = inner("Vec<") {
        return format!("[]{}", in_varlink(&inner));
    }
    match kind.as_str() {
        "u64" | "u32" | "i64" => "int".to_owned(),
        "String" => "string".to_owned(),
        _ => kind,
    }
}

/// The declarations that a shape corresponds to.
fn meant(shape: &str) -> Vec<String> {
    let answers = |methods: &[&str]| methods.iter().map(|method| format!("{method}()")).collect();
    match shape {
        "Info" => answers(&["GetInfo"]),
        "Orders" => {
            let orders = ItemOrder::ALL.iter().map(|order| order.method());
            answers(&orders.chain(["Pause", "Resume", "ForgetNode", "Adopt", "Submit"]).collect::<Vec<_>>())
        }
        "GetStatus" | "List" | "GetTransfer" | "Monitor" | "GetHistory" | "GetReceipt" | "GetManifest"
        | "SetLogLevel" | "Reload" | "Check" | "Explain" => answers(&[shape]),
        _ => vec![shape.to_owned()],
    }
}

#[test]
fn every_shape_is_the_declared_one() {
    let mut declared = declared();
    declared.remove("GetInterfaceDescription()");
    for (shape, fields) in SHAPES {
        for name in meant(shape) {
            let wanted = declared.remove(&name).unwrap_or_else(|| panic!("{name} is not declared"));
            assert_eq!(fields.len(), wanted.len(), "{name}");
            for ((field, kind), (declared_field, declared_kind)) in fields.iter().zip(&wanted) {
                assert_eq!(field, declared_field, "{name}");
                // A word of a fixed set is a string on the wire.
                let wire = match declared_kind.find('(') {
                    Some(at) => format!("{}string", &declared_kind[..at]),
                    None => declared_kind.clone(),
                };
                assert_eq!(in_varlink(kind), wire, "{name}.{field}");
            }
        }
    }
    assert!(declared.is_empty(), "without a shape: {:?}", declared.keys());
}
