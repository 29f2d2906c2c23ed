//! The whole program with real parts: RabbitMQ, sshd, rsync, SQLite and our own binaries.

#![allow(unreachable_pub, reason = "the bed is shared by several programs")]

#[path = "../bed/mod.rs"]
mod bed;

mod crash;
mod faults;
mod group;
mod handover;
mod scale;
mod service;
