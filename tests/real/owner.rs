//! Whose delivered items are, with a download that runs as an ordinary user with two capabilities. Only root can start
//! it so; where the tests run as another user, they say so and leave it at that.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchMask};

use crate::bed::node::Node;
use crate::bed::{Bed, tree};
use crate::mounts::{in_one_line, succeed, told};

const LONG: Duration = Duration::from_secs(120);
/// `nobody`, who has no files here.
const SERVICE: u32 = 65534;
/// `daemon` and its group.
const OWNER: u32 = 1;
const KEYS: &str = "owner = \"daemon\"\ngroup = \"daemon\"\nfile_mode = \"0640\"\ndir_mode = \"0755\"\n";

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("NOT RUN: only root can start a service as another user");
    }
    is_root
}

/// The words that start the service; with or without the rights of the drop-in.
fn as_service(may_give: bool) -> Vec<String> {
    let rights = if may_give { "-all,+chown,+fowner" } else { "-all" };
    let mut words = vec!["setpriv".to_owned(), format!("--reuid={SERVICE}"), format!("--regid={SERVICE}")];
    words.push("--clear-groups".to_owned());
    words.extend(["inh-caps", "ambient-caps", "bounding-set"].map(|set| format!("--{set}={rights}")));
    words
}

/// A download that a user without any other right can run.
fn download(bed: &Bed, settings: &str) -> Node {
    let mut download = bed.download("down", settings);
    let programs = bed.side("programs");
    for program in ["synkler", "synklerctl"] {
        fs::copy(download.binaries.join(program), programs.join(program)).unwrap();
    }
    download.binaries = programs;
    for dir in [bed.dir.path(), bed.sshd.path("log").parent().unwrap()] {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }
    let home = download.config.parent().unwrap();
    succeed(
        Command::new("chown").args(["-R", &format!("{SERVICE}:{SERVICE}")]).arg(home).arg(bed.sshd.path("client_key")),
    );
    download.under = as_service(true);
    download
}

/// What was seen of an entry of `file_dir`: its name, user, group and mode.
type Seen = (String, u32, u32, u32);

/// Looks at every entry the moment it gets its name. What changes there afterwards is a fault.
fn watch(dir: &Path) -> Arc<Mutex<(Vec<Seen>, Vec<String>)>> {
    let mut inotify = Inotify::init().unwrap();
    let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::ATTRIB | WatchMask::ONLYDIR;
    inotify.watches().add(dir, mask).unwrap();
    let (seen, dir) = (Arc::new(Mutex::new((Vec::new(), Vec::new()))), dir.to_owned());
    let told = Arc::clone(&seen);
    // It ends with the program.
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(events) = inotify.read_events_blocking(&mut buffer) {
            for event in events {
                let Some(name) = event.name.map(|name| name.to_string_lossy().into_owned()) else { continue };
                if name.starts_with(".synkler") {
                    continue;
                }
                let mut told = told.lock().unwrap();
                match dir.join(&name).symlink_metadata() {
                    Ok(_) if event.mask.contains(EventMask::ATTRIB) => told.1.push(name),
                    Ok(stat) => told.0.push((name, stat.uid(), stat.gid(), stat.mode() & 0o7777)),
                    Err(_) => {}
                }
            }
        }
    });
    seen
}

fn hand_in(upload: &Node, name: &str, make: impl FnOnce(&Path)) {
    let made = tree::workshop(&upload.file_dir).join(name);
    make(&made);
    fs::rename(&made, upload.file_dir.join(name)).unwrap();
}

fn directory(made: &Path, content: &str) {
    fs::create_dir_all(made.join("sub")).unwrap();
    fs::write(made.join("sub/file"), content).unwrap();
    fs::set_permissions(made.join("sub/file"), Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(made.join("sub"), Permissions::from_mode(0o700)).unwrap();
    symlink("/etc/passwd", made.join("link")).unwrap();
}

fn all_below(path: &Path, found: &mut Vec<PathBuf>) {
    found.push(path.to_owned());
    if path.symlink_metadata().unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| all_below(&entry.unwrap().path(), found));
    }
}

/// Fails unless all of an item is its owner's.
fn is_given(item: &Path) {
    let mut found = Vec::new();
    all_below(item, &mut found);
    for path in found {
        let stat = path.symlink_metadata().unwrap();
        assert_eq!((stat.uid(), stat.gid()), (OWNER, OWNER), "{path:?}");
        let mode = if stat.is_dir() { 0o755 } else { 0o640 };
        assert!(stat.is_symlink() || stat.mode() & 0o7777 == mode, "{path:?}: {:o}", stat.mode());
    }
}

fn fits((name, uid, gid, mode): &Seen) -> bool {
    let wanted = if name.starts_with("dir") { 0o755 } else { 0o640 };
    (*uid, *gid) == (OWNER, OWNER) && (*mode == wanted || name.starts_with("link"))
}

#[test]
fn an_item_belongs_to_its_owner_at_the_moment_it_appears() {
    if !is_root() {
        return;
    }
    let bed = Bed::new();
    let mut upload = bed.upload("up", "settle_seconds = 0\n");
    let mut central = bed.central("mid", "keep_minutes = 0\n");
    let mut download = download(&bed, KEYS);
    let seen = watch(&download.file_dir);
    hand_in(&upload, "file", |made| {
        fs::write(made, "one").unwrap();
        fs::set_permissions(made, Permissions::from_mode(0o600)).unwrap();
    });
    hand_in(&upload, "dir", |made| directory(made, "one"));
    hand_in(&upload, "link", |made| symlink("/etc/hostname", made).unwrap());
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    assert!(upload.log.wait(0, 3, LONG, |line| line.contains("handed over")), "{}", download.log.text());
    // The next versions replace what is no longer ours.
    hand_in(&upload, "file", |made| fs::write(made, "two").unwrap());
    let of_old = upload.file_dir.join("dir");
    fs::rename(&of_old, bed.side("old").join("dir")).unwrap();
    hand_in(&upload, "dir", |made| directory(made, "two"));
    assert!(upload.log.wait(0, 5, LONG, |line| line.contains("handed over")), "{}", download.log.text());
    for name in ["file", "dir", "link"] {
        is_given(&download.file_dir.join(name));
    }
    assert_eq!(fs::read_to_string(download.file_dir.join("file")).unwrap(), "two");
    assert_eq!(fs::read_to_string(download.file_dir.join("dir/sub/file")).unwrap(), "two");
    assert_ne!(fs::metadata("/etc/passwd").unwrap().uid(), OWNER, "a link was followed");
    assert_eq!(download.file_dir.metadata().unwrap().uid(), SERVICE, "file_dir itself is not touched");
    {
        let seen = seen.lock().unwrap();
        assert!(seen.0.len() >= 5 && seen.0.iter().all(fits), "{:?}", seen.0);
        assert_eq!(seen.1, [""; 0], "changed after it had appeared");
    }
    let names: Vec<_> = fs::read_dir(&download.file_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "{names:?}");

    // The receipt tells it everywhere, and nobody takes the modes for lost ones.
    let given = "owner daemon:daemon, modes 0640/0755";
    central.until_idle(LONG);
    assert!(told(&upload, &["receipt", "dir"]).ends_with(&format!("# down: {given}\n")));
    for node in [&upload, &central, &download] {
        let journey = in_one_line(&told(node, &["status", "dir"]));
        assert!(journey.contains(given), "{}: {journey}", node.mode);
        assert!(!journey.contains("modes differ"), "{journey}");
    }
    assert!(told(&download, &["history"]).contains("owner daemon:daemon, mode 0640"));
    let check = in_one_line(&told(&download, &["check"]));
    assert!(check.contains("can give items away: owner daemon:daemon"), "{check}");
    assert_eq!(download.log.count(|line| line.contains("WARN")), 0, "{}", download.log.text());
}

#[test]
fn without_the_right_nothing_is_delivered_until_it_is_there() {
    if !is_root() {
        return;
    }
    let bed = Bed::new();
    let mut upload = bed.upload("up", "settle_seconds = 0\n");
    let mut central = bed.central("mid", "keep_minutes = 0\n");
    let mut download = download(&bed, KEYS);
    download.under = as_service(false);
    let seen = watch(&download.file_dir);
    hand_in(&upload, "dir", |made| directory(made, "one"));
    hand_in(&upload, "file", |made| fs::write(made, "one").unwrap());
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    let words = "uid 65534 has no right to set owner = daemon, group = daemon (run `synkler drop-in --apply` as root";
    download.until_reason(LONG, "storage", words);
    // The next attempt comes by itself, and fails in the same way.
    download.until(LONG, "tried again", |status| {
        status["transfers"].as_array().unwrap().iter().any(|transfer| transfer["attempts"].as_u64() >= Some(2))
    });
    let check = in_one_line(&told(&download, &["check"]));
    assert!(check.contains("has no right to set owner") && check.contains("sudo synkler drop-in --apply"), "{check}");
    assert_eq!(*seen.lock().unwrap(), (vec![], vec![]), "it is not delivered");
    assert_eq!(upload.log.count(|line| line.contains("handed over")), 0, "there is no receipt");

    // With the right, it goes on where it was.
    download.stop();
    download.under = as_service(true);
    download.start();
    assert!(upload.log.wait(0, 2, LONG, |line| line.contains("handed over")), "{}", download.log.text());
    for name in ["dir", "file"] {
        is_given(&download.file_dir.join(name));
    }
    assert!(seen.lock().unwrap().0.iter().all(fits));
}

#[test]
fn a_download_that_is_killed_again_and_again_gives_everything_away() {
    if !is_root() {
        return;
    }
    const ITEMS: usize = 60;
    let bed = Bed::new();
    let mut upload = bed.upload("up", "settle_seconds = 0\n");
    let mut central = bed.central("mid", "keep_minutes = 0\n");
    let mut download = download(&bed, KEYS);
    let seen = watch(&download.file_dir);
    for node in [&mut central, &mut upload, &mut download] {
        node.start();
    }
    for number in 0..ITEMS {
        match number % 2 {
            0 => hand_in(&upload, &format!("dir {number}"), |made| directory(made, "x")),
            _ => hand_in(&upload, &format!("file {number}"), |made| fs::write(made, "x").unwrap()),
        }
        if number % 10 == 9 {
            // Somewhere between the proof and the receipts of those before.
            download.expect(download.log.mark(), LONG, &["fetched and verified"]);
            download.kill();
            download.start();
        }
    }
    assert!(upload.log.wait(0, ITEMS, LONG, |line| line.contains("handed over")), "{}", download.log.text());
    for entry in fs::read_dir(&download.file_dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != ".synkler" {
            is_given(&entry.path());
        }
    }
    let seen = seen.lock().unwrap();
    assert!(seen.0.len() >= ITEMS && seen.0.iter().all(fits), "{:?}", seen.0.iter().find(|seen| !fits(seen)));
    assert_eq!(seen.1, [""; 0], "changed after it had appeared");
}
