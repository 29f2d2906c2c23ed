//! What is at a path that an operator submits.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use super::explain::explain;
use crate::config::Settings;
use crate::drivers::manifest::{Site, SurveyError};
use crate::machine::{ItemName, Signature};

/// The item at this path, absolute or below `file_dir`, and its signature. Blocks.
///
/// # Errors
///
/// Why it cannot be submitted, for people.
pub(super) fn submitted(settings: &Settings, path: &[u8]) -> Result<(ItemName, Signature), String> {
    let refused = |why: &str| Err(format!("refused: {why}"));
    let explanation = explain(settings, path);
    match explanation.verdict.as_str() {
        "item" => {}
        "outside" => return refused(&format!("{}; --move moves it there first", explanation.text)),
        _ => return refused(&explanation.text),
    }
    let Some(name) = explanation.items.first().and_then(|item| ItemName::decode(item).ok()) else {
        return refused("this is no name of an item");
    };
    let path = settings.file_dir.join(OsStr::from_bytes(name.as_bytes()));
    if fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
        let home = fs::canonicalize(&settings.file_dir).map_err(|error| format!("refused: {error}"))?;
        if !fs::canonicalize(&path).is_ok_and(|target| target.starts_with(&home)) {
            return refused("it is a link that leads out of file_dir, so that its content would stay here");
        }
    }
    match Site::open(&settings.file_dir, &name).and_then(|site| site.survey()) {
        Ok(survey) => Ok((name, survey.signature())),
        Err(SurveyError::Gone) => refused("there is no such file"),
        Err(error) => refused(&error.to_string()),
    }
}
