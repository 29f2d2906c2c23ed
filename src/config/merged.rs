//! The merged stage: defaults, the config file and the environment in layers, the last one on top.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::file::RawFile;
use super::keys::{KEYS, Preset, known};
use super::shown_path;

/// The value of a key, before it is validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Text(String),
    /// A TOML number, in decimal notation.
    Number(String),
    List(Vec<String>),
    /// A type that no key accepts, with its name.
    Other(&'static str),
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    File {
        path: PathBuf,
        line: Option<usize>,
    },
    Environment(String),
    Default,
    /// Not set, and derived from something else.
    Derived(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", shown_path(path)),
            Self::File { path, line: None } => f.write_str(&shown_path(path)),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Default => f.write_str("default"),
            Self::Derived(from) => f.write_str(from),
        }
    }
}

/// All layers as one.
#[derive(Debug)]
pub(super) struct Merged {
    figment: Figment,
    file: Option<(PathBuf, BTreeMap<String, usize>)>,
}

const DEFAULTS: &str = "defaults";
const FILE: &str = "config file";
const ENVIRONMENT: &str = "environment";

impl Merged {
    pub(super) fn new(file: Option<RawFile>, variables: BTreeMap<&'static str, String>) -> Self {
        let mut defaults = Dict::new();
        for key in KEYS {
            if let Preset::Value(value) = key.preset {
                defaults.insert(key.name.to_owned(), Value::from(value));
            }
        }
        // Text only: figment's own environment provider would turn the password 0755 into a number.
        let variables = variables.into_iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
        let (values, file) = match file {
            Some(RawFile { path, values, lines }) => (values, Some((path, lines))),
            None => (Dict::new(), None),
        };
        let figment = Figment::from(Layer { name: DEFAULTS, values: defaults })
            .merge(Layer { name: FILE, values })
            .merge(Layer { name: ENVIRONMENT, values: variables });
        Self { figment, file }
    }

    /// The config file, if there is one.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref().map(|(path, _)| path)
    }

    /// The value of a key, and its origin; `None` if no layer sets the key.
    pub(super) fn find(&self, key: &str) -> Option<(Found, Origin)> {
        let value = self.figment.find_value(key).ok()?;
        let layer = self.figment.get_metadata(value.tag()).map(|metadata| metadata.name.as_ref());
        let origin = match (layer, &self.file) {
            (Some(ENVIRONMENT), _) => Origin::Environment(known(key)?.variable()),
            (Some(FILE), Some((path, lines))) => Origin::File { path: path.clone(), line: lines.get(key).copied() },
            _ => Origin::Default,
        };
        Some((found(value), origin))
    }
}

fn found(value: Value) -> Found {
    match value {
        Value::String(_, text) => Found::Text(text),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(number), _, _) => Found::Number(number.to_string()),
            (_, Some(number), _) => Found::Number(number.to_string()),
            (_, _, Some(number)) => Found::Number(number.to_string()),
            _ => Found::Other("a number"),
        },
        Value::Array(_, elements) => {
            let texts: Option<Vec<String>> = elements.into_iter().map(Value::into_string).collect();
            texts.map_or(Found::Other("a list that holds something else than text"), Found::List)
        }
        Value::Bool(_, true) => Found::Other("true"),
        Value::Bool(_, false) => Found::Other("false"),
        Value::Char(..) | Value::Empty(..) => Found::Other("nothing"),
        Value::Dict(..) => Found::Other("a date or a table"),
    }
}

struct Layer {
    name: &'static str,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}
