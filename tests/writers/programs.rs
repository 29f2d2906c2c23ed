//! Programs that write files of their own.

#![allow(clippy::disallowed_methods, reason = "a writer's pauses are a part of what is tested")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};

use crate::hand::Hand;
use crate::judge::{Content, Intent};
use crate::task::Task;

/// The size of a piece of a torrent.
const PIECE: usize = 16 << 10;

/// The offsets of all pieces, in random order.
fn pieces(hand: &mut Hand, length: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..length).step_by(PIECE).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, hand.random.index(at + 1));
    }
    order
}

fn write_piece(file: &File, bytes: &[u8], at: usize) {
    let end = bytes.len().min(at + PIECE);
    file.write_all_at(&bytes[at..end], at as u64).unwrap();
}

fn allocate(path: &Path, length: usize) -> File {
    let file = File::create_new(path).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, length as u64).unwrap();
    file
}

/// A directory of three files, allocated at once and filled in random order; each piece opens its file anew.
pub fn torrent(task: &mut Task<'_>) -> Intent {
    let (top, model) = (task.target(""), task.place.work.join(&task.name));
    fs::create_dir_all(&model).unwrap();
    let files: Vec<_> = ["a", "b", "c"].map(|name| (name, task.hand.bytes())).into();
    fs::create_dir(&top).unwrap();
    let unfinished = |name: &str| top.join(format!("{name}.!qB"));
    let mut left = Vec::new();
    for (name, bytes) in &files {
        drop(allocate(&unfinished(name), bytes.len()));
        fs::write(model.join(name), bytes).unwrap();
        left.push((*name, bytes, pieces(&mut task.hand, bytes.len())));
    }
    while !left.is_empty() {
        let at = task.hand.random.index(left.len());
        let (name, bytes, order) = &mut left[at];
        if let Some(piece) = order.pop() {
            write_piece(&OpenOptions::new().write(true).open(unfinished(name)).unwrap(), bytes, piece);
        } else {
            fs::rename(unfinished(name), top.join(*name)).unwrap();
            left.remove(at);
        }
        if task.hand.one_in(6) {
            task.hand.pause();
        }
    }
    task.intent(Content::at(&model))
}

/// The same with one file under its own name that stays open.
pub fn open(task: &mut Task<'_>) -> Intent {
    let bytes = task.hand.bytes();
    let file = allocate(&task.target(""), bytes.len());
    for piece in pieces(&mut task.hand, bytes.len()) {
        write_piece(&file, &bytes, piece);
        if task.hand.one_in(3) {
            task.hand.pause();
        }
    }
    task.intent(Content::of_bytes(&bytes))
}

const MAP: &str = "
import mmap, sys
content = sys.stdin.buffer
length = int(sys.argv[2])
with open(sys.argv[1], 'w+b') as file:
    file.truncate(length)
    pages = mmap.mmap(file.fileno(), length)
# The mapping keeps a copy of the descriptor: it is closed, and only the mapping is left.
import os
for fd in os.listdir('/proc/self/fd'):
    try:
        if os.readlink('/proc/self/fd/' + fd) == os.path.realpath(sys.argv[1]):
            os.close(int(fd))
    except OSError:
        pass
at = 0
while piece := content.read1(65536):
    pages[at:at + len(piece)] = piece
    at += len(piece)
os._exit(0)
";

/// Through a mapping whose descriptor is closed.
pub fn mmap(task: &mut Task<'_>) -> Intent {
    let bytes = task.hand.bytes();
    let mut python = Command::new("python3");
    python.args(["-c", MAP]).arg(task.target("")).arg(bytes.len().to_string());
    let status = task.feed(&mut python, &bytes, false).unwrap();
    assert!(status.success(), "{status}");
    task.intent(Content::of_bytes(&bytes))
}

/// A shell's `>file`, twice.
pub fn truncate(task: &mut Task<'_>) -> Intent {
    let versions: Vec<_> = [(); 2].map(|()| task.hand.bytes()).into();
    for bytes in &versions {
        let mut shell = Command::new("sh");
        shell.args(["-c", "cat >\"$1\"", "sh"]).arg(task.target(""));
        assert!(task.feed(&mut shell, bytes, false).unwrap().success());
        task.hand.pause();
    }
    task.versions(versions.iter().map(|bytes| Content::of_bytes(bytes)).collect())
}

/// Saves of one text in the ways of several editors.
pub fn editor(task: &mut Task<'_>) -> Intent {
    let body: String = task.hand.bytes().iter().map(|byte| format!("{byte:02x}\n")).collect();
    let text = |version: u32| format!("version-{version}\n{body}");
    let (target, beside) = (task.target(""), task.target(".tmp"));
    let mut versions = Vec::new();
    for version in 0..3 {
        let save = text(version);
        versions.push(Content::of_bytes(save.as_bytes()));
        match if version == 0 { 0 } else { task.hand.random.below(3) } {
            // Beside, and renamed over.
            0 => {
                task.hand.feed(&mut File::create(&beside).unwrap(), save.as_bytes()).unwrap();
                task.hand.pause();
                fs::rename(&beside, &target).unwrap();
            }
            // As vim: the old one is renamed, the new one is written under the name.
            1 => {
                let backup = task.target("~");
                fs::rename(&target, &backup).unwrap();
                task.hand.feed(&mut File::create(&target).unwrap(), save.as_bytes()).unwrap();
                task.hand.pause();
                fs::remove_file(&backup).unwrap();
            }
            _ => {
                let edit = format!("s/^version-.*/version-{version}/");
                let child = Command::new("sed").args(["-i", &edit]).arg(&target).stdin(Stdio::null()).spawn();
                assert!(task.hand.stutter(child.unwrap(), &target, false).unwrap().success());
            }
        }
        task.hand.pause();
    }
    task.versions(versions)
}

fn append(to: &mut dyn Write, line: &str, text: &mut String) {
    to.write_all(line.as_bytes()).unwrap();
    text.push_str(line);
}

fn append_by_name(path: &Path, line: &str, text: &mut String) {
    append(&mut OpenOptions::new().create(true).append(true).open(path).unwrap(), line, text);
}

/// Opens the file for each line.
pub fn logger(task: &mut Task<'_>) -> Intent {
    let mut text = String::new();
    for number in 0..2 + task.hand.random.below(2) {
        if number > 0 {
            thread::sleep(Duration::from_secs(7));
        }
        append_by_name(&task.target(""), &format!("line {number} of {}\n", task.name), &mut text);
    }
    task.intent(Content::of_bytes(text.as_bytes()))
}

/// Opens the file again for each piece, with pauses of any length, and may give up before the last.
fn in_pieces(task: &mut Task<'_>) -> Option<Vec<u8>> {
    let (bytes, path) = (task.hand.bytes(), task.target(""));
    let gives_up = task.hand.one_in(4);
    for (number, piece) in task.hand.pieces(&bytes).into_iter().enumerate() {
        if number > 0 {
            task.hand.pause();
        }
        if number == 1 && gives_up {
            return None;
        }
        OpenOptions::new().create(true).append(true).open(&path).unwrap().write_all(piece).unwrap();
    }
    Some(bytes)
}

/// Creates a marker when the file is complete.
pub fn marker(task: &mut Task<'_>) -> Intent {
    let Some(bytes) = in_pieces(task) else { return task.nothing() };
    fs::write(task.target(".done"), "").unwrap();
    task.intent(Content::of_bytes(&bytes))
}

/// Runs a command when the file is complete.
pub fn submit(task: &mut Task<'_>) -> Intent {
    let Some(bytes) = in_pieces(task) else { return task.nothing() };
    let mut submit = Command::new(crate::bed::binaries().join("synklerctl"));
    submit.arg("--socket").arg(task.place.socket).arg("submit").arg(task.target(""));
    let done = submit.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    task.intent(Content::of_bytes(&bytes))
}

/// Keeps the file open, also after logrotate has renamed it, until it is told to open the next one.
pub fn rotated(task: &mut Task<'_>) -> Intent {
    let (current, mut text) = (task.target(".log"), String::new());
    let mut rotated = None;
    let mut log = OpenOptions::new().create(true).append(true).open(&current).unwrap();
    for number in 0..5 {
        if number == 3 {
            rotated = Some(rotate(&current, task.place.work));
        }
        append(&mut log, &format!("line {number} of {}\n", task.name), &mut text);
        task.hand.pause();
    }
    drop(log);
    append_by_name(&current, "the next day\n", &mut String::new());
    Intent { name: rotated.unwrap(), versions: vec![Content::of_bytes(text.as_bytes())] }
}

/// Has logrotate rename a log, and finds its new name, which has the date.
fn rotate(log: &Path, work: &Path) -> String {
    let name = log.file_name().unwrap().to_str().unwrap();
    let (config, state) = (work.join(format!("{name}.rotate")), work.join(format!("{name}.state")));
    fs::write(&config, format!("{log:?} {{\n rotate 9\n dateext\n nocreate\n nocompress\n}}\n")).unwrap();
    let mut logrotate = Command::new("/usr/sbin/logrotate");
    let status = logrotate.arg("--force").arg("--state").arg(&state).arg(&config).status().unwrap();
    assert!(status.success(), "{logrotate:?}: {status}");
    let names = fs::read_dir(log.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names = names.filter_map(|entry| entry.into_string().ok());
    names.find(|entry| entry.strip_prefix(name).is_some_and(|date| date.starts_with('-'))).unwrap()
}
