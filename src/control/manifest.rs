//! The manifest of a directory, page by page: what one node tells another of what was announced, so that a copy that
//! differs can be explained entry by entry.

use std::time::Duration;

use serde_json::{Value, json};

use super::parameters::Parameters;
use super::protocol::Refusal;
use super::query::Query;
use super::service::{Service, told};
use super::types::GetManifest;
use crate::machine::{Differences, MANIFEST_LIMIT, Node, TransferId, differences};

/// The most bytes of one page: names may hold characters that take two bytes in JSON.
const PAGE: usize = 400 * 1024;
/// How long a node is waited for, for each page.
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

    /// In what a copy differs from what that node has announced; nothing where it does not tell, or kept no manifest.
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
        // Megabytes of text would hold up the loop, whose thread this is.
        tokio::task::spawn_blocking(move || differences(&announced, &found)).await.ok().flatten()
    }
}

/// Whole lines from there on, and whether more follow.
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
