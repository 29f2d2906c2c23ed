//! The manifest of a directory, page by page: one node sends it to another, so that the other can say entry by entry
//! how its copy differs.

use std::time::Duration;

use serde_json::{Value, json};

use super::parameters::Parameters;
use super::protocol::Refusal;
use super::query::Query;
use super::service::{Service, told};
use super::types::GetManifest;
use crate::machine::{Differences, MANIFEST_LIMIT, Node, TransferId, differences};

/// The maximum size of one page in bytes: in JSON, characters of names may take two bytes.
const PAGE: usize = 400 * 1024;
/// How long a node waits for each page.
const WAIT: Duration = Duration::from_secs(2);

impl Service {
    pub(super) async fn tell_manifest(&self, mut parameters: Parameters) -> Result<Value, Refusal> {
        let id = parameters.text("id")?;
        let from = parameters.count("from", MANIFEST_LIMIT as u64)?.unwrap_or(0);
        parameters.end()?;
        let Ok(transfer) = id.parse::<TransferId>() else { return Err(Refusal::InvalidParameter("id".to_owned())) };
        let asked = self.ask_loop(|reply| Query::Manifest { transfer, reply }).await?;
        let Some(manifest) = asked.map_err(Refusal::Refused)? else { return Err(Refusal::NotFound(id)) };
        let (text, more) = page(&manifest, usize::try_from(from).unwrap_or(usize::MAX));
        told(&GetManifest { text: text.to_owned(), more })
    }

    /// How a copy differs from the announcement of that node; `None` if the node does not answer or has no manifest.
    pub async fn explain(&self, peer: &Node, transfer: TransferId, found: &str) -> Option<Differences> {
        let mut announced = String::new();
        loop {
            let parameters = json!({ "id": transfer.to_string(), "from": announced.len() });
            let page = match self.ask::<GetManifest>(peer, "GetManifest", &parameters, WAIT).await {
                Ok(page) => page,
                Err(failure) => {
                    tracing::debug!(%peer, %transfer, "cannot read the announced file list: {failure:?}");
                    return None;
                }
            };
            announced.push_str(&page.text);
            if !page.more {
                break;
            }
            if page.text.is_empty() || announced.len() > MANIFEST_LIMIT {
                return None;
            }
        }
        let found = found.to_owned();
        // Megabytes of text would block the loop's thread.
        tokio::task::spawn_blocking(move || differences(&announced, &found)).await.ok().flatten()
    }
}

/// Whole lines from this offset on, and whether more follow.
fn page(manifest: &str, from: usize) -> (&str, bool) {
    let rest = manifest.get(from..).unwrap_or_default();
    if rest.len() <= PAGE {
        return (rest, false);
    }
    let end = rest.as_bytes().iter().take(PAGE).rposition(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
    (rest.get(..end).unwrap_or_default(), end < rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_whole_lines_and_nothing_is_lost() {
        let manifest: String = (0..40_000).map(|number| format!("f 1 aa p\u{e9}th{number}\n")).collect();
        let (mut all, mut pages) = (String::new(), 0);
        loop {
            let (text, more) = page(&manifest, all.len());
            assert!(text.len() <= PAGE && text.ends_with('\n'));
            all.push_str(text);
            pages += 1;
            if !more {
                break;
            }
        }
        assert_eq!(all, manifest);
        assert!(pages > 1);
        assert_eq!(page("f\n", 9), ("", false));
        assert_eq!(page("", 0), ("", false));
    }
}
