//! The control socket: a node shows its clients what its group does, and accepts orders.
//!
//! The interface is Varlink, `io.synkler.Control`; the file of that name documents it, and introspection serves the
//! file. [`types`] has its shapes. [`Control`] is the server and runs inside the daemon, whose loop answers the
//! [`Query`]s of its [`Service`]. [`Client`] is the other end: it blocks, and knows only the interface.

mod ask;
mod caller;
mod changes;
mod client;
mod connection;
mod group;
mod journey;
mod manifest;
mod merge;
mod monitor;
mod orders;
mod parameters;
mod paths;
mod protocol;
mod query;
mod receipt;
#[cfg(test)]
mod samples;
mod server;
mod service;
mod socket;
mod submit;
mod told;
pub mod types;
mod view;
mod watched;

pub use ask::AskFailure;
pub use caller::PeerGroups;
pub use client::{Client, ClientError, Monitoring};
pub use connection::Limits;
pub use merge::{statuses as merged_status, unlisted};
pub use parameters::ITEMS_LIMIT;
pub use paths::{default_socket, socket_candidates};
pub use protocol::{
    DESCRIPTION, INTERFACE, LIST_DEFAULT, LIST_LIMIT, REPLY_LIMIT, REQUEST_LIMIT, Refusal, SERVICE,
    SERVICE_DESCRIPTION, STATUS_DEFAULT, STATUS_LIMIT,
};
pub use query::{PastFound, Query, Span};
pub use server::Control;
pub use service::{LOG_LEVELS, Service};
pub use socket::ControlError;

pub use crate::machine::State;
