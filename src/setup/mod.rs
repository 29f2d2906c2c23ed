//! What an administrator does once: broker accounts, a node's config, and the paths that the service's sandbox opens.
//!
//! - `answers`: what `init` is told.
//! - `broker`: accounts with the permissions that each role needs; pure.
//! - `failure`: why a command ended early.
//! - `hand_over`: the files of the service, for another user.
//! - `init`: a node's config file, and the next steps; pure.
//! - `drop_in`: the paths that the service's sandbox must open for a config; pure.
//! - `system`: the service of the package: its directories, unit names, user.
//! - `terminal`: questions and answers.
//! - `verbs`: the three commands.

mod answers;
mod broker;
mod drop_in;
mod failure;
mod hand_over;
mod init;
mod system;
mod terminal;
mod verbs;

pub use answers::InitOrder;
pub use broker::{Account, BadNode, Step, generated_password, notes, parse_node, script, steps};
pub use drop_in::{DropInError, Extra, drop_in};
pub use init::{Plan, PlannedCleanup, config_text, next_steps};
pub use system::{Account as UserAccount, Service};
pub use verbs::{BrokerOrder, DropInOrder, broker_setup, init, print_drop_in};
