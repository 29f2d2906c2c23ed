//! The command lines of both programs, and everything that `synklerctl` does.
//!
//! The definitions here are the only ones: `--help`, the man pages and the shell completions are generated from them.
//! This module uses only the control interface of the crate, so that `synklerctl` stays small and starts quickly. The
//! texts are pure functions of the answers, so golden files can test each.

mod arguments;
mod check;
mod daemon;
mod exit;
mod explain;
mod journey;
mod line;
mod output;
mod records;
mod reports;
mod session;
mod since;
mod status;
mod submit;
mod table;
mod terminal;
mod transfers;
mod units;
mod verbs;
mod watch;
mod writers;
mod zone;

pub use arguments::{Arguments, Items, LogLevel, Mode, NodesVerb, Verb};
pub use daemon::{DaemonArguments, DaemonVerb, GateSide, InitArguments};
pub use exit::{DAEMON_EXITS, EXITS, Exit, exit_table};
pub use explain::{Explained, explanation_text};
pub use journey::journey_text;
pub use line::{Ink, Line, Look, Text};
pub use records::{history_text, nodes_text};
pub use reports::{finding_text, findings_exit, findings_summary, orders_exit, orders_text, reload_text, version_text};
pub use since::Since;
pub use status::status_text;
pub use transfers::list_text;
pub use verbs::run;
pub use writers::Writer;
pub use zone::Zone;
