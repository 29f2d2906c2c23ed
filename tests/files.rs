//! The file drivers through their effects and inputs, in real directories.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "files/conformance.rs"]
mod conformance;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use conformance::{Spot, World, inodes_run_out, stories};
use md5::{Digest as _, Md5};
use synkler::drivers::clock::Clock;
use synkler::drivers::files::{Files, Layout, Source, Spool, Staging};
use synkler::machine::{
    CopyOutcome, Digest, Direction, Effect, Input, ItemName, Keep, Kind, Location, Mode, Run, RunId, Space, TransferId,
};
use tokio::sync::mpsc;

struct Host {
    layout: Layout,
    files: Files,
    inputs: mpsc::Receiver<Input>,
    _dir: tempfile::TempDir,
}

impl Host {
    fn new(mode: Mode, base: &str) -> Self {
        let dir = tempfile::tempdir_in(base).unwrap();
        let (path, group) = (dir.path().to_owned(), "default".parse().unwrap());
        let layout = match mode {
            Mode::Upload => Layout::Upload(Source::new(path, 0, Clock::start(), |_| false)),
            Mode::Central => Layout::Central(Spool::new(path, group)),
            Mode::Download => Layout::Download(Staging::new(path, group)),
        };
        layout.prepare().unwrap();
        let (events, inputs) = mpsc::channel(8);
        let files = Files::new(layout.clone(), events, 2).unwrap();
        Self { layout, files, inputs, _dir: dir }
    }

    fn perform(&mut self, effect: Effect) -> Option<Input> {
        let files = &self.files;
        match effect {
            Effect::Hash { item, signature } => files.hash(item, signature),
            Effect::Look { transfer, item } => files.look(transfer, item),
            Effect::Take { transfer, place, name, kind, attributes } => {
                files.take(transfer, place, name, kind, attributes)
            }
            Effect::Verify { transfer, name, kind, digest, attributes } => {
                files.verify(transfer, name, kind, digest, attributes)
            }
            Effect::Place { transfer, name, inode, replace } => files.place(transfer, name, inode, replace),
            Effect::Drop(transfer) => files.discard(transfer),
            Effect::Measure => files.measure(),
            Effect::DropPlace(place) => {
                files.discard_place(place);
                return None;
            }
            // What nobody answers is done at once here, so that what follows sees it.
            Effect::DropArrival { place, name } => {
                let Layout::Central(spool) = &self.layout else { panic!("not central") };
                spool.discard_arrival(place, &name).unwrap();
                return None;
            }
            Effect::Sweep { transfers, places } => files.sweep(transfers, &places),
            other => panic!("not about files: {other:?}"),
        }
        Some(self.inputs.blocking_recv().unwrap())
    }
}

struct Real {
    upload: Host,
    central: Host,
    download: Host,
}

impl Real {
    fn new(base: &str) -> Self {
        let host = |mode| Host::new(mode, base);
        Self { upload: host(Mode::Upload), central: host(Mode::Central), download: host(Mode::Download) }
    }

    fn path(&self, spot: &Spot) -> PathBuf {
        let named = |dir: PathBuf, item: &ItemName| dir.join(OsStr::from_bytes(item.as_bytes()));
        match (spot, &self.central.layout, &self.download.layout) {
            (Spot::Source(item), ..) => named(self.upload.layout.file_dir().to_owned(), item),
            (Spot::Arrived(place, item), Layout::Central(spool), _) => named(spool.in_dir(*place), item),
            (Spot::Held(transfer, item), Layout::Central(spool), _) => {
                named(spool.held_dir().join(transfer.to_string()), item)
            }
            (Spot::Staged(transfer, item), _, Layout::Download(staging)) => {
                named(staging.staging_dir().join(transfer.to_string()), item)
            }
            (Spot::Final(item), _, Layout::Download(staging)) => named(staging.file_dir().to_owned(), item),
            _ => panic!("no such spot: {spot:?}"),
        }
    }
}

impl World for Real {
    fn perform(&mut self, mode: Mode, effect: Effect) -> Option<Input> {
        match mode {
            Mode::Upload => self.upload.perform(effect),
            Mode::Central => self.central.perform(effect),
            Mode::Download => self.download.perform(effect),
        }
    }

    fn write(&mut self, spot: &Spot, version: u64) {
        let path = self.path(spot);
        let dir = path.parent().unwrap();
        fs::create_dir_all(dir).unwrap();
        // As rsync does it: a fresh file, renamed into place.
        fs::write(dir.join("fresh"), format!("version {version}")).unwrap();
        fs::rename(dir.join("fresh"), path).unwrap();
    }

    fn remove(&mut self, spot: &Spot) {
        fs::remove_file(self.path(spot)).unwrap();
    }

    fn version(&mut self, spot: &Spot) -> Option<u64> {
        let text = fs::read_to_string(self.path(spot)).ok()?;
        Some(text.strip_prefix("version ").unwrap().parse().unwrap())
    }
}

#[test]
fn the_real_world_conforms() {
    for base in ["/tmp", "/dev/shm"] {
        for (name, story) in stories() {
            println!("{base}: {name}");
            story(&mut Real::new(base));
        }
    }
}

/// In a mount namespace of its own, so that nobody else takes inodes of the file system.
#[test]
fn the_real_world_runs_out_of_inodes_as_the_fake_one_does() {
    const INNER: &str = "SYNKLER_TEST_MOUNTED";
    if let Ok(base) = std::env::var(INNER) {
        inodes_run_out(&mut Real::new(&base));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let script = "mount -t tmpfs -o nr_inodes=40 none \"$1\" && exec \"$0\" --exact \"$2\" --nocapture";
    let output = std::process::Command::new("unshare")
        .args([flags, "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(dir.path())
        .arg("the_real_world_runs_out_of_inodes_as_the_fake_one_does")
        .env(INNER, dir.path())
        .output()
        .unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if errors.starts_with("unshare: unshare failed") {
        eprintln!("NOT RUN: this machine allows no mount namespaces");
        return;
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

/// What was read while it arrived is believed only where it is what was announced: else all is read again.
#[test]
fn what_is_read_while_it_arrives_never_decides_against_what_lies_there() {
    for announced_is_right in [true, false] {
        let mut host = Host::new(Mode::Download, "/tmp");
        let (transfer, item) = (TransferId::mint(1, [1; 10]), ItemName::new(b"large").unwrap());
        let Layout::Download(staging) = host.layout.clone() else { panic!() };
        let location = Location::new("host", "/srv").unwrap();
        let (batch, direction) = (vec![(transfer, item.clone())], Direction::Pull);
        host.files.expect(&Run { id: RunId(1), direction, location, batch, keep: Keep::default() });
        // Its answer comes after the look at staging.
        host.perform(Effect::Look { transfer, item: item.clone() });
        let own = staging.staging_dir().join(transfer.to_string());
        fs::create_dir(&own).unwrap();
        let mut bytes = vec![7; 12 << 20];
        fs::write(own.join("large"), &bytes).unwrap();
        host.files.read_on();
        host.perform(Effect::Look { transfer, item: item.clone() });
        if !announced_is_right {
            // Mended behind the reader, as rsync does with what it takes up again.
            bytes[5] = 8;
            let file = fs::OpenOptions::new().write(true).open(own.join("large")).unwrap();
            std::os::unix::fs::FileExt::write_at(&file, &bytes[5..6], 5).unwrap();
        }
        let digest = Digest(Md5::digest(&bytes).into());
        let effect = Effect::Verify { transfer, name: item, kind: Kind::File, digest, attributes: Default::default() };
        let Some(Input::Verified { outcome: CopyOutcome::Found { fingerprint, .. }, .. }) = host.perform(effect) else {
            panic!()
        };
        assert_eq!((fingerprint.digest, fingerprint.size), (digest, 12 << 20));
    }
}

#[test]
fn space_is_measured_where_file_dir_lies() {
    for base in ["/tmp", "/dev/shm"] {
        let mut host = Host::new(Mode::Central, base);
        let Some(Input::Space(Space { free, total, inodes })) = host.perform(Effect::Measure) else { panic!() };
        let expected = rustix::fs::statvfs(base).unwrap();
        assert_eq!(total, expected.f_blocks * expected.f_frsize);
        assert!(free > 0 && free <= total);
        assert_eq!(inodes.map(|inodes| inodes.total), Some(expected.f_files).filter(|files| *files > 0));
    }
    let gone = Host::new(Mode::Central, "/tmp");
    let Host { mut inputs, files, _dir: dir, .. } = gone;
    drop(dir);
    files.measure();
    assert_eq!(inputs.blocking_recv().unwrap(), Input::Space(Space::default()));
}

/// A hash of gigabytes that nobody waits for must neither hold up short work nor the end of the daemon.
#[test]
fn short_work_overtakes_long_work() {
    let mut host = Host::new(Mode::Upload, "/tmp");
    let dir = host.layout.file_dir().to_owned();
    let name = |text: &str| ItemName::new(text.as_bytes()).unwrap();
    let transfer = TransferId::mint(1, [0; 10]);
    let look = |item: &str| Effect::Look { transfer, item: name(item) };
    for item in ["big 1", "big 2", "big 3"] {
        // Sparse: read in full, stored as nothing.
        fs::File::create(dir.join(item)).unwrap().set_len(8 << 30).unwrap();
    }
    fs::write(dir.join("small"), "x").unwrap();
    for item in ["big 1", "big 2", "big 3"] {
        let Some(Input::Looked { sight: synkler::machine::Sight::Present(signature), .. }) = host.perform(look(item))
        else {
            panic!()
        };
        host.files.hash(name(item), signature);
    }
    let start = Instant::now();
    assert!(matches!(host.perform(look("small")), Some(Input::Looked { .. })));
    for item in ["big 1", "big 2", "big 3"] {
        fs::write(dir.join(item), "cut").unwrap();
    }
    for _ in 0..3 {
        let input = host.inputs.blocking_recv().unwrap();
        assert!(
            matches!(&input, Input::Hashed { outcome: synkler::machine::HashOutcome::Changed(_), .. }),
            "{input:?}"
        );
    }
    assert!(start.elapsed() < Duration::from_secs(60));
}
