//! The whole program with real parts: RabbitMQ, sshd, rsync, SQLite and our own binaries.

#[path = "../bed/mod.rs"]
mod bed;

mod accounts;
mod crash;
mod faults;
mod group;
mod handover;
mod scale;
mod service;
mod view;
