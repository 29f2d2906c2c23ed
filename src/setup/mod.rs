//! What an administrator does once: accounts at the broker, a node's config, the way through the service's box.
//!
//! - `broker`: accounts that let each node say and hear what its role needs; pure.
//! - `init`: a node's config file, and what is to be done next; pure.
//! - `drop_in`: what the service's box has to leave open for a config; pure.
//! - `system`: the service as the package has it: its directories, unit names, user.
//! - `terminal`: questions and answers.
//! - `verbs`: the three as an operator calls them.

mod broker;
mod drop_in;
mod init;
mod system;
mod terminal;
mod verbs;

pub use broker::{Account, BadNode, Step, generated_password, notes, parse_node, script, steps};
pub use drop_in::{DropInError, drop_in};
pub use init::{Plan, PlannedCleanup, config_text, next_steps};
pub use system::Service;
pub use verbs::{BrokerOrder, InitOrder, broker_setup, init, print_drop_in};
