//! The control socket as an independent client meets it: the `varlink` package of the Python registry, which reads the
//! interface from the daemon itself, and checks every call and reply against it. And as the worst of clients meet it, all
//! at once.
//!
//! The package is installed below the build directory once, by this test's set-up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bed;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bed::node::wait_for;
use bed::tree;
use synkler::control::Client;

const LONG: Duration = Duration::from_secs(60);

/// Pinned: another version may be another client.
const VERSION: &str = "31.0.0";
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/varlink/client.py");

/// A Python that has the package.
fn python() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-varlink-{VERSION}"));
    let python = home.join("bin/python");
    let complete = home.join("complete");
    let lock = File::create(home.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !complete.exists() {
        let _ = fs::remove_dir_all(&home);
        let run = |program: &Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().unwrap();
            assert!(output.status.success(), "{program:?} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run("python3".as_ref(), &["-m", "venv", home.to_str().unwrap()]);
        let package = format!("varlink=={VERSION}");
        run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &package]);
        File::create(&complete).unwrap();
    }
    python
}

#[test]
fn an_independent_client_understands_all_it_is_told() {
    let python = python();
    let dir = tempfile::tempdir().unwrap();
    let mut node = bed::offline(dir.path(), "upload", "settle_seconds = 0\n");
    node.start();
    tree::hand_in(&node.file_dir, b"one", b"1");
    tree::hand_in(&node.file_dir, b"two", b"22");
    assert!(wait_for(Duration::from_secs(60), || {
        node.status(10)["transfers"].as_array().unwrap().iter().filter(|item| item["stage"] == "announced").count() == 2
    }));
    // The client hands in another item when its stream has begun.
    let made = tree::workshop(&node.file_dir).join("three");
    fs::write(&made, "333").unwrap();
    let mut client = Command::new(python);
    client.arg(CLIENT).arg(&node.socket).arg(&made).arg(node.file_dir.join("three"));
    let output = client.output().unwrap();
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("all well\n"), "{said}{complaints}");
}

/// Keeps clients of one kind at it until told to stop; tells how many there were.
struct Nuisance {
    work: thread::JoinHandle<u64>,
    stop: Arc<AtomicBool>,
}

impl Nuisance {
    /// `meet` has one connection, and panics when the daemon does not answer it as it should.
    fn start(socket: &Path, meet: fn(UnixStream)) -> Self {
        let (socket, stop) = (socket.to_owned(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let work = thread::spawn(move || {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                let stream = UnixStream::connect(&socket).unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                meet(stream);
                count += 1;
            }
            count
        });
        Self { work, stop }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.work.join().unwrap()
    }
}

/// What comes back for these bytes, up to the end of the first reply; nothing when the connection ends.
fn answer(mut stream: &UnixStream, bytes: &[u8]) -> String {
    // The daemon may have said its word and closed before all of it is there.
    let _ = stream.write_all(bytes);
    let mut reply = Vec::new();
    let _ = BufReader::new(stream).read_until(0, &mut reply);
    String::from_utf8(reply).unwrap()
}

#[test]
fn hostile_clients_hold_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = bed::offline(dir.path(), "upload", "settle_seconds = 0\n");
    node.start();
    for number in 0..500 {
        tree::hand_in(&node.file_dir, format!("item-{number}").as_bytes(), b"content");
    }
    assert!(wait_for(LONG, || node.status(0)["total"] == 500));
    let nuisances = [
        Nuisance::start(&node.socket, |stream| {
            let reply = answer(&stream, b"{\"method\":\"io.synkler.Control.Nonsense\"}\0");
            assert!(reply.contains("org.varlink.service.MethodNotFound"), "{reply}");
        }),
        Nuisance::start(&node.socket, |stream| {
            let reply =
                answer(&stream, b"{\"method\":\"io.synkler.Control.GetStatus\",\"parameters\":{\"limit\":-1}}\0");
            assert!(reply.contains("org.varlink.service.InvalidParameter"), "{reply}");
        }),
        Nuisance::start(&node.socket, |stream| {
            let reply = answer(&stream, &[b'x'; 80 * 1024]);
            assert!(reply.is_empty() || reply.contains("io.synkler.Control.RequestTooLarge"), "{reply}");
        }),
        // It sends half of a request, and keeps the daemon waiting for the rest.
        Nuisance::start(&node.socket, |mut stream| {
            stream.write_all(b"{\"method\":\"io.synkler.Control.Get").unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            assert!(stream.read(&mut [0; 1]).is_err(), "half a request is answered");
        }),
        // It never reads; the writing ends when the daemon drops it.
        Nuisance::start(&node.socket, |mut stream| {
            let call = b"{\"method\":\"io.synkler.Control.GetStatus\",\"parameters\":{\"limit\":1000,\"here\":true}}\0";
            while stream.write_all(call).is_ok() {}
        }),
    ];
    let mut client = Client::connect(&node.socket).unwrap();
    let mut took: Vec<_> = (0..100)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(client.status(Some(10), true).unwrap().total, 500);
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    // Others than these want the processor too: a few may take longer.
    assert!(took[took.len() * 9 / 10] < Duration::from_millis(50), "{took:?}");
    assert!(nuisances.map(Nuisance::stop).iter().all(|count| *count > 0));
}
