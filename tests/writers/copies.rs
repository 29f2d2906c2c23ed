//! Programs that copy or unpack.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::judge::{Content, Intent};
use crate::task::Task;

/// A tree of small files to copy.
fn tree(task: &mut Task<'_>) -> PathBuf {
    let top = task.place.work.join(&task.name);
    for number in 0..20 + task.hand.random.below(40) {
        let dir = top.join(["", "one", "one/two", "three"][task.hand.random.index(4)]);
        fs::create_dir_all(&dir).unwrap();
        let length = task.hand.random.index(20_000);
        let bytes = crate::bed::tree::noise(task.hand.random.next(), length);
        fs::write(dir.join(format!("file-{number}")), bytes).unwrap();
    }
    fs::create_dir_all(top.join("empty")).unwrap();
    top
}

/// A program that makes `NAME.part` is stopped now and then; the directory is renamed at the end.
fn copy(task: &mut Task<'_>, make: impl Fn(&PathBuf, &PathBuf) -> Command) -> Intent {
    let (source, part) = (tree(task), task.target(".part"));
    let content = Content::at(&source);
    let mut command = make(&source, &part);
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    let status = task.hand.stutter(child, &part, false).unwrap();
    assert!(status.success(), "{command:?}: {status}");
    task.rename(".part", "");
    task.intent(content)
}

pub fn cp(task: &mut Task<'_>) -> Intent {
    copy(task, |source, part| {
        let mut cp = Command::new("cp");
        cp.arg("-r").arg(source).arg(part);
        cp
    })
}

pub fn rsync_tree(task: &mut Task<'_>) -> Intent {
    copy(task, |source, part| {
        let mut rsync = Command::new("rsync");
        rsync.args(["-a", "--bwlimit=1000"]).arg(source.join("")).arg(part.join(""));
        rsync
    })
}

/// A file; killed now and then, and continued from what was kept aside.
pub fn rsync_file(task: &mut Task<'_>) -> Intent {
    let (source, bytes) = (task.place.work.join(&task.name), task.hand.bytes());
    fs::write(&source, &bytes).unwrap();
    let mut kill = task.hand.one_in(3);
    loop {
        let mut rsync = Command::new("rsync");
        rsync.args(["-t", "--bwlimit=200", "--partial", "--partial-dir=.partial"]);
        rsync.arg(&source).arg(task.place.file_dir);
        let child = rsync.stdin(Stdio::null()).spawn().unwrap();
        // Its first name is hidden: it is stopped whenever it runs.
        let status = task.hand.stutter(child, task.place.file_dir, kill);
        if status.is_some_and(|status| status.success()) {
            return task.intent(Content::of_bytes(&bytes));
        }
        // Another run may have removed the shared directory in between.
        kill = false;
    }
}

pub fn tar(task: &mut Task<'_>) -> Intent {
    let (source, part) = (tree(task), task.target(".part"));
    let archive = Command::new("tar").arg("c").arg("-C").arg(&source).arg(".").output().unwrap();
    assert!(archive.status.success());
    fs::create_dir(&part).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("x").arg("-C").arg(&part);
    let status = task.feed(&mut tar, &archive.stdout, false).unwrap();
    assert!(status.success(), "{tar:?}: {status}");
    task.rename(".part", "");
    task.intent(Content::at(&source))
}

/// Killed in the middle every other time: then nothing may be sent.
pub fn unzip(task: &mut Task<'_>) -> Intent {
    let (archive, part) = (zip(task), task.target(".part"));
    let content = Content::at(&task.place.work.join(&task.name));
    let kill = task.hand.one_in(2);
    let child = Command::new("unzip").arg("-q").arg(&archive).arg("-d").arg(&part).stdin(Stdio::null()).spawn();
    let Some(status) = task.hand.stutter(child.unwrap(), &part, kill) else { return task.nothing() };
    assert!(status.success(), "unzip: {status}");
    task.rename(".part", "");
    task.intent(content)
}

/// An archive of a tree.
pub fn zip(task: &mut Task<'_>) -> PathBuf {
    let (source, archive) = (tree(task), task.place.work.join(format!("{}.zip", task.name)));
    let status = Command::new("zip").args(["-q", "-r"]).arg(&archive).arg(".").current_dir(&source).status().unwrap();
    assert!(status.success());
    archive
}
