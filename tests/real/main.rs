//! The whole program with real parts: RabbitMQ, sshd, rsync, SQLite and our own binaries.

#[path = "../bed/mod.rs"]
mod bed;
#[path = "../support/screen.rs"]
mod screen;

mod accounts;
mod addresses;
mod crash;
mod ctl;
mod faults;
mod group;
mod handover;
mod inboxes;
mod journal_gone;
mod keep;
mod leftovers;
mod log;
mod lots;
mod mounts;
mod mounts_lost;
mod owner;
mod pause;
mod processes;
mod ready;
mod scale;
mod service;
mod versions;
mod view;
