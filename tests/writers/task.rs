//! One item that a writer has to write.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::hand::Hand;
use crate::judge::{Content, Intent};
use crate::servers::{Server, Web};

/// Where a writer writes.
pub struct Place<'a> {
    pub file_dir: &'a Path,
    /// Where it makes what it writes, on the same file system.
    pub work: &'a Path,
    pub web: &'a Web,
    /// The control socket of the upload.
    pub socket: &'a Path,
    pub ftp: Option<&'a Server>,
    pub smb: Option<&'a Server>,
}

impl Place<'_> {
    pub fn ftp(&self) -> u16 {
        self.ftp.unwrap().port
    }

    pub fn smb(&self) -> u16 {
        self.smb.unwrap().port
    }
}

pub struct Task<'a> {
    pub place: &'a Place<'a>,
    pub name: String,
    pub hand: Hand,
}

impl Task<'_> {
    /// The path of the item, with something after its name.
    pub fn target(&self, ending: &str) -> PathBuf {
        self.place.file_dir.join(format!("{}{ending}", self.name))
    }

    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.target(from), self.target(to)).unwrap();
    }

    /// Runs a program that reads the content from its standard input; `None` if it was killed in the middle.
    pub fn feed(&mut self, program: &mut Command, bytes: &[u8], kill: bool) -> Option<ExitStatus> {
        let child = program.stdin(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{program:?}: {error}"));
        self.hand.feed_program(child, bytes, kill)
    }

    pub fn intent(&self, content: Content) -> Intent {
        self.versions(vec![content])
    }

    pub fn versions(&self, versions: Vec<Content>) -> Intent {
        Intent { name: self.name.clone(), versions }
    }

    /// It gave up.
    pub fn nothing(&self) -> Intent {
        self.versions(Vec::new())
    }
}
