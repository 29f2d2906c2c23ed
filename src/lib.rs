//! synkler: a proven hand-over of files.
//!
//! An item that appears on an upload host is delivered to a download host, through central. Digests verify every hop,
//! and only then the source is cleaned up. A map of the tree, the outer layers first:
//!
//! - `bin/synkler.rs`, `bin/synklerctl.rs`: arguments in, exit code out.
//! - [`daemon`]: the loop between the machine and the drivers.
//! - [`check`]: the checks of one node.
//! - [`cli`]: the command lines of both programs, and all that `synklerctl` does.
//! - [`config`]: from files and environment to validated settings.
//! - [`control`]: the control socket, its interface, server and client.
//! - [`wire`]: the serialised shapes of messages.
//! - [`setup`]: accounts, config and drop-in, made once by an administrator.
//! - [`ssh`]: keys, host keys, and the gate on central.
//! - [`drivers`]: one outside thing each.
//! - [`machine`]: the decisions; pure.

#![warn(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods
    )
)]

pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod drivers;
pub mod machine;
pub mod setup;
pub mod ssh;
pub mod wire;
