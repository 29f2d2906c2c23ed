//! The journal: whether it can be read, is undamaged, and belongs to this node.

use std::error::Error;
use std::path::Path;

use super::{JOURNAL_LIMIT, account, blocking, failed, ok, quoted, skipped, warning};
use crate::config::Settings;
use crate::control::types::Finding;
use crate::drivers::journal::{Inspected, JournalError, Owner, inspect};
use crate::machine::{KnownDirectory, Location, Node};

const CHECK: &str = "journal";

/// The facts in the journal that other checks need.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The locations of the centrals.
    pub(super) centrals: Vec<(Node, Location)>,
    /// The directory that it knows, if it could be read.
    pub(super) directory: Option<Option<KnownDirectory>>,
}

/// `running` says that this process is the daemon.
pub(super) async fn examine(settings: &Settings, running: bool) -> (Finding, Known) {
    let owner = Owner { group: settings.group.clone(), node: settings.node.clone() };
    let state_dir = settings.state_dir.clone();
    match blocking(JOURNAL_LIMIT, move || inspect(&state_dir, &owner)).await {
        Some(Ok(inspected)) => {
            let finding = word(&settings.state_dir, &inspected, running);
            let (centrals, directory) =
                inspected.content.map(|content| (content.centrals, content.directory)).unwrap_or_default();
            (finding, Known { centrals, directory: Some(directory) })
        }
        Some(Err(error)) => (trouble(&settings.state_dir, &error), Known::default()),
        None => {
            let text = format!("the check did not finish within {} s", JOURNAL_LIMIT.as_secs());
            let path = quoted(&settings.state_dir.join("journal.db"));
            (warning(CHECK, text, format!("sqlite3 {path} 'PRAGMA quick_check'")), Known::default())
        }
    }
}

fn word(state_dir: &Path, inspected: &Inspected, running: bool) -> Finding {
    let open = match inspected.holder {
        Some(pid) if !running => format!(", in use by the daemon (pid {pid})"),
        _ => String::new(),
    };
    match &inspected.content {
        Some(content) => ok(
            CHECK,
            format!("sound: {} unfinished transfers, {} finished{open}", content.unfinished, content.finished),
        ),
        None => skipped(CHECK, format!("no journal in {} yet: the first start creates it{open}", state_dir.display())),
    }
}

fn trouble(state_dir: &Path, error: &JournalError) -> Finding {
    let (dir, user) = (quoted(state_dir), account());
    let cure = match error {
        JournalError::Damaged { .. } => format!(
            "systemctl stop synkler; cd {dir}; sqlite3 journal.db .recover | sqlite3 new.db; mv new.db journal.db; \
             rm -f journal.db-wal journal.db-shm"
        ),
        JournalError::Foreign { .. } => {
            "restore id, mode and name to those of the journal, or set another state_dir".to_owned()
        }
        JournalError::Newer { .. } => "install the newer synkler again".to_owned(),
        JournalError::NotWritable { .. } | JournalError::Create { .. } => {
            format!("chown -R {user}: {dir} && chmod -R u+rwX {dir}")
        }
        JournalError::Busy { .. } => {
            format!("fuser -v {dir}/journal.db shows the program: stop that sqlite3 or backup")
        }
        JournalError::Full { .. } => {
            format!("free some space: du -xh --max-depth=2 {dir} | sort -h shows the largest directories")
        }
        JournalError::Corrupt { .. }
        | JournalError::Locked { .. }
        | JournalError::Taken { .. }
        | JournalError::Beside { .. }
        | JournalError::Failed { .. }
        | JournalError::Stopped => "look for disk errors: journalctl -k -e".to_owned(),
    };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    failed(CHECK, text, cure)
}
