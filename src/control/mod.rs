//! The control socket: one node tells whoever may open the socket what its group does, and takes orders.
//!
//! The interface is Varlink, `io.synkler.Control`; the file of that name is its documentation and is served
//! by introspection. [`types`] holds its shapes. [`Control`] is the server and runs inside the daemon, which answers
//! its [`Query`]s. [`Client`] is the other end: it blocks, and knows only the interface. [`status_text`] is what
//! people see.

mod ask;
mod client;
mod paths;
mod protocol;
mod server;
mod shown;
mod socket;
mod text;
pub mod types;
#[cfg(test)]
mod types_tests;
mod units;

pub use ask::AskFailure;
pub use client::{Client, ClientError, Monitoring};
pub use paths::{default_socket, socket_candidates};
pub use protocol::{
    DESCRIPTION, INTERFACE, LIST_DEFAULT, LIST_LIMIT, REPLY_LIMIT, REQUEST_LIMIT, Refusal, SERVICE,
    SERVICE_DESCRIPTION, STATUS_DEFAULT, STATUS_LIMIT,
};
pub use server::{Control, Limits, Query};
pub use socket::ControlError;
pub use text::{Look, status_text};
