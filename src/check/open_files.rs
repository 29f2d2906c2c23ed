//! How many files the process may have open.

use rustix::process::{Resource, getrlimit};

use super::{LOCAL_LIMIT, blocking, failed, ok, warning};
use crate::control::types::Finding;

const CHECK: &str = "open-files";
/// 64 control clients, 64 rsync runs with three pipes each, the journal, the broker, and some for reading items.
const NEEDED: u64 = 512;

pub(super) async fn examine() -> Finding {
    let limit = getrlimit(Resource::Nofile).current;
    let used = blocking(LOCAL_LIMIT, || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)).await;
    word(limit.unwrap_or(u64::MAX), used.unwrap_or_default() as u64)
}

fn word(limit: u64, used: u64) -> Finding {
    let text = format!("{used} of {limit} files are open in this process");
    let cure = "systemctl edit synkler, with LimitNOFILE=4096 below [Service]; outside of systemd: ulimit -n 4096";
    match limit {
        _ if used.saturating_mul(10) >= limit.saturating_mul(9) => failed(CHECK, text, cure),
        limit if limit < NEEDED => warning(CHECK, format!("{text}; synkler needs up to {NEEDED}"), cure),
        _ => ok(CHECK, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_a_warning_and_none_left_a_failure() {
        assert_eq!(word(1024, 20).result, "ok");
        assert_eq!(word(256, 20).result, "warning");
        assert_eq!(word(1024, 1000).result, "failed");
    }
}
