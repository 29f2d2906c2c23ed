//! What synkler makes of a path.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::exit::Exit;
use super::journey::journey_text;
use super::line::{Ink, Line, Look, Text};
use super::output::Out;
use super::session::Failure;
use super::terminal::now;
use super::writers::{Writer, writers};
use crate::control::types::{Explanation, GetTransfer};
use crate::control::{Client, ClientError, Refusal};

/// The maximum number of processes that are named.
const WRITERS: usize = 5;

/// What an explanation consists of.
pub struct Explained {
    /// What the path means to the node.
    pub explanation: Explanation,
    /// The processes that have it open for writing.
    pub writers: Vec<Writer>,
    /// The transfer that carries it, or the last one that did.
    pub transfer: Option<GetTransfer>,
}

/// Carries out `synklerctl explain`.
pub(super) fn explain(client: &mut Client, path: &Path, out: Out<'_>) -> Result<Exit, Failure> {
    let path = &*on_host(path);
    let explanation = client.explain(path)?;
    let mut explained = Explained { explanation, writers: writers(path), transfer: None };
    for item in &explained.explanation.items {
        match client.transfer(item, false) {
            Ok(answer) if is_exactly(&answer, item) => {
                explained.transfer = Some(answer);
                break;
            }
            Ok(_) | Err(ClientError::Refused(Refusal::NotFound(_) | Refusal::Ambiguous { .. })) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    let Explained { explanation, writers, transfer } = &explained;
    let value = json!({ "explanation": explanation, "writers": writers, "transfer": transfer });
    out.document(&value, |look| explanation_text(&explained, now(), look))?;
    Ok(Exit::Done)
}

/// A path on this host, if there is one; else the daemon takes it as one below `file_dir`.
pub(super) fn on_host(path: &Path) -> PathBuf {
    let absolute = path.symlink_metadata().ok().and_then(|_| std::path::absolute(path).ok());
    absolute.unwrap_or_else(|| path.to_owned())
}

/// A beginning of a name is another item.
fn is_exactly(answer: &GetTransfer, item: &str) -> bool {
    let transfer = &answer.journey.transfer;
    transfer.item_encoded == item || transfer.id.as_deref() == Some(item)
}

/// The text of `synklerctl explain` at this width.
pub fn explanation_text(explained: &Explained, now: u64, look: Look<'_>) -> Text {
    let Explained { explanation, writers, transfer } = explained;
    let (room, mut text) = (look.room(), Text::default());
    let is_item = ["item", "inside", "name", "copy"].contains(&explanation.verdict.as_str());
    let dot = if is_item { ("●", Ink::Green) } else { ("○", Ink::Dim) };
    text.title(room, dot, &explanation.path);
    text.field(room, "What", &explanation.text, None);
    for writer in writers.iter().take(WRITERS) {
        let shown = format!("process {} ({}) has {} open for writing", writer.pid, writer.name, writer.path);
        text.field(room, "Writer", &shown, Ink::Yellow);
    }
    if writers.len() > WRITERS {
        text.field(room, "", &format!("and {} more", writers.len() - WRITERS), Ink::Yellow);
    }
    if let Some(answer) = transfer {
        text.push(Line::default());
        text.lines.extend(journey_text(answer, now, look).lines);
    } else if !explanation.items.is_empty() {
        text.field(room, "Transfer", "none that this node knows", None);
    }
    text
}
