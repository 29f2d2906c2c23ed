//! Three booted hosts, each under its own systemd: upload and download have no route to each other, central has a leg
//! in each network, and runs RabbitMQ and sshd. Our package is installed by apt and set up as the README says, word
//! for word. Needs root; `make test-hosts` builds the package first.

#[path = "../support/packages.rs"]
mod packages;

mod bed;
mod chain;
mod chapter;
mod confined;
mod disturbances;
mod files;
mod host;
mod image;
mod original;
mod package;
mod seen;
mod story;
mod terminal;
mod traffic;
mod users;
