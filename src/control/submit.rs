//! Items that an operator names (`ready = "submit"`).

use serde_json::Value;

use super::parameters::{ITEMS_LIMIT, Parameters};
use super::protocol::Refusal;
use super::query::Query;
use super::service::{Caller, Service, told};
use super::types::{Deed, Orders};
use crate::machine::{Order, decode_bytes, escaped, one_line};

impl Service {
    /// Submits the items at these paths. Without a path, says whether this node accepts any.
    pub(super) async fn submit(&self, mut parameters: Parameters, caller: Caller<'_>) -> Result<Value, Refusal> {
        let Caller::Client(stream, authority) = caller else { return Err(Refusal::PermissionDenied) };
        let by = authority.of(stream).await?;
        let paths = parameters.texts("paths", 0..=ITEMS_LIMIT)?;
        parameters.end()?;
        let node = self.surroundings().await?.node;
        let (mut items, mut deeds) = (Vec::new(), Vec::new());
        for text in &paths {
            let path = decode_bytes(text).ok_or_else(|| Refusal::InvalidParameter("paths".to_owned()))?;
            let shown = one_line(&escaped(&path));
            match self.ask_loop(|reply| Query::Submitted { path, reply }).await? {
                Ok(item) => items.push(item),
                Err(text) => deeds.push(Deed { node: node.to_string(), item: Some(shown), done: false, text }),
            }
        }
        if paths.is_empty() || !items.is_empty() {
            let order = Order::Submit(items);
            let done = self.ask_loop(|reply| Query::Order { by, order, reply }).await?;
            deeds.extend(done.iter().map(|deed| Deed::new(&node, deed)));
        }
        told(&Orders { deeds, silent: Vec::new() })
    }
}
