//! How answers are printed.

use serde::Serialize;

use super::line::{Look, Text};
use super::session::Failure;
use super::terminal::print;

/// How answers are printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out<'a> {
    pub(super) json: bool,
    pub(super) look: Look<'a>,
}

impl Out<'_> {
    /// One document: as JSON, or as the text that `text` makes for this width.
    pub(super) fn document<T: Serialize>(self, value: &T, text: impl FnOnce(Look<'_>) -> Text) -> Result<(), Failure> {
        if !self.json {
            return self.text(text);
        }
        let text = serde_json::to_string_pretty(value).map_err(Failure::Json)?;
        self.write(&(text + "\n")).map(drop)
    }

    /// One line of JSON per record, or the text.
    pub(super) fn records<T: Serialize>(
        self,
        values: &[T],
        text: impl FnOnce(Look<'_>) -> Text,
    ) -> Result<(), Failure> {
        if !self.json {
            return self.text(text);
        }
        let mut lines = String::new();
        for value in values {
            lines.push_str(&serde_json::to_string(value).map_err(Failure::Json)?);
            lines.push('\n');
        }
        self.write(&lines).map(drop)
    }

    /// A text without JSON.
    pub(super) fn text(self, text: impl FnOnce(Look<'_>) -> Text) -> Result<(), Failure> {
        self.write(&text(self.look).render(self.look.colour)).map(drop)
    }

    /// Writes the text; the flag says whether stdout still has a reader.
    pub(super) fn write(self, text: &str) -> Result<bool, Failure> {
        print(text.as_bytes()).map_err(Failure::Output)
    }
}
