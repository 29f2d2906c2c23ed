//! The parameters of a call, taken out one by one. Parameters that are left at the end are unknown, and the call is
//! refused.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::protocol::Refusal;

/// Null counts as missing.
pub(super) struct Parameters(Map<String, Value>);

/// The maximum number of items in one order.
pub const ITEMS_LIMIT: usize = 100;

fn invalid(name: &str) -> Refusal {
    Refusal::InvalidParameter(name.to_owned())
}

impl Parameters {
    pub(super) fn new(parameters: Map<String, Value>) -> Self {
        Self(parameters)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String, Refusal> {
        self.text_if_any(name)?.ok_or_else(|| invalid(name))
    }

    pub(super) fn text_if_any(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(name)),
        }
    }

    /// A text that is parsed into another type.
    pub(super) fn parsed<T: std::str::FromStr>(&mut self, name: &str) -> Result<T, Refusal> {
        self.text(name)?.parse().map_err(|_| invalid(name))
    }

    pub(super) fn parsed_if_any<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        self.text_if_any(name)?.map(|text| text.parse()).transpose().map_err(|_| invalid(name))
    }

    pub(super) fn count(&mut self, name: &str, limit: u64) -> Result<Option<u64>, Refusal> {
        match self.take(name).map(|value| value.as_u64()) {
            None => Ok(None),
            Some(Some(count)) if count <= limit => Ok(Some(count)),
            Some(_) => Err(invalid(name)),
        }
    }

    /// A moment, in milliseconds since 1970-01-01 UTC.
    pub(super) fn moment(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        self.count(name, i64::MAX.unsigned_abs())
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(invalid(name)),
        }
    }

    /// One to [`ITEMS_LIMIT`] non-empty texts.
    pub(super) fn items_if_any(&mut self) -> Result<Option<Vec<String>>, Refusal> {
        self.texts_if_any("items", 1..=ITEMS_LIMIT)
    }

    /// Non-empty texts, as many as allowed.
    pub(super) fn texts(&mut self, name: &str, allowed: RangeInclusive<usize>) -> Result<Vec<String>, Refusal> {
        self.texts_if_any(name, allowed)?.ok_or_else(|| invalid(name))
    }

    fn texts_if_any(&mut self, name: &str, allowed: RangeInclusive<usize>) -> Result<Option<Vec<String>>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::Array(values) = value else { return Err(invalid(name)) };
        if !allowed.contains(&values.len()) {
            return Err(invalid(name));
        }
        let text = |value| match value {
            Value::String(text) if !text.is_empty() => Ok(text),
            _ => Err(invalid(name)),
        };
        values.into_iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn items(&mut self) -> Result<Vec<String>, Refusal> {
        self.items_if_any()?.ok_or_else(|| invalid("items"))
    }

    /// Parameters that are left are unknown.
    pub(super) fn end(self) -> Result<(), Refusal> {
        match self.0.into_iter().next() {
            Some((name, _)) => Err(Refusal::InvalidParameter(name)),
            None => Ok(()),
        }
    }
}
