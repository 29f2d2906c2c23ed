//! What a node's key opens on central, against a real sshd and rsync: its own door, and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support {
    pub mod rsync;
    pub mod sshd;
}

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use rustix::io::Errno;
use support::rsync::{Bench, assert_same, script, tree};
use support::sshd::{HOST, Sshd};
use synkler::machine::{Direction, Fault, Location, RunOutcome};

const PROGRAM: &str = env!("CARGO_BIN_EXE_synkler");
const PLACE: &str = "000000ab-1";
const OLD: Timespec = Timespec { tv_sec: 1_700_000_000, tv_nsec: 0 };

/// A driver whose key opens the gate of its own spool.
struct Restricted {
    sshd: Sshd,
    bench: Bench,
}

impl Restricted {
    fn new(side: &str, more: &[&str]) -> Self {
        let sshd = Sshd::start();
        let mut bench = Bench::over(&sshd, more);
        bench.change(|settings| settings.options.retain(|option| !option.is_empty()));
        let restricted = Self { sshd, bench };
        restricted.allow(side, &restricted.bench.path("spool"), "");
        restricted
    }

    fn allow(&self, side: &str, spool: &Path, more: &str) {
        let key = fs::read_to_string(self.sshd.path("client_key.pub")).unwrap();
        let line = format!("restrict,command=\"{PROGRAM} gate {side} {}{more}\" {key}", spool.display());
        fs::write(self.sshd.path("authorized_keys"), line).unwrap();
    }

    fn place(&self) -> Location {
        self.bench.location(&format!("spool/in/{PLACE}"))
    }

    /// Runs a command on central with the key.
    fn ssh(&self, command: &[&str]) -> Output {
        let ssh = self.sshd.ssh();
        let mut words = ssh.split(' ');
        let mut ssh = Command::new(words.next().unwrap());
        ssh.args(words).arg(HOST).args(command).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs rsync with the key, as somebody would who has got hold of it. `LIST` on standard input.
    fn rsync(&self, arguments: &[&str], list: &[u8]) -> Output {
        use std::io::Write;
        let mut rsync = Command::new("rsync");
        rsync.arg(format!("--rsh={}", self.sshd.ssh())).args(arguments);
        let mut rsync = rsync.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that was refused reads no list.
        let _ = rsync.stdin.take().unwrap().write_all(list);
        rsync.wait_with_output().unwrap()
    }

    fn remote(&self, path: &str) -> String {
        format!("{HOST}:{}", self.bench.path(path).display())
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_refused(output: &Output, words: &str) {
    assert!(!output.status.success(), "{output:?}");
    assert!(said(output).contains("synkler gate: refused: ") && said(output).contains(words), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

/// A directory with what items are made of.
fn item(dir: &Path) {
    fs::create_dir_all(dir.join("below/deep")).unwrap();
    fs::write(dir.join("below/deep/file"), "x").unwrap();
    fs::write(dir.join("a b $(id) *"), "y").unwrap();
    symlink("/etc/passwd", dir.join("link")).unwrap();
    symlink("below", dir.join("dir-link")).unwrap();
    // rsync takes times of one second for the same.
    let times = Timestamps { last_access: OLD, last_modification: OLD };
    for name in ["below/deep/file", "below/deep", "below", "a b $(id) *", "link", "dir-link", ""] {
        rustix::fs::utimensat(CWD, dir.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

#[tokio::test]
async fn both_directions_work_through_the_gate() {
    let mut upload = Restricted::new("upload", &["--compress", "--bwlimit=50000", "-vv"]);
    item(&upload.bench.path("files/item"));
    fs::write(upload.bench.path("files/single"), "single").unwrap();
    let names: &[&[u8]] = &[b"item", b"single"];
    for _ in 0..2 {
        let place = upload.place();
        upload.bench.start_at(Direction::Push, place, names);
        assert_eq!(upload.bench.ran().await, RunOutcome::Complete);
        let arrived = upload.bench.path("spool/in").join(PLACE);
        assert_same(&tree(&arrived), &tree(&upload.bench.path("files")));
    }

    let mut download = Restricted::new("download", &[]);
    fs::rename(upload.bench.path("spool/in").join(PLACE), download.bench.held()).unwrap();
    download.bench.start(Direction::Pull, names);
    assert_eq!(download.bench.ran().await, RunOutcome::Complete);
    assert_same(&tree(&download.bench.staged()), &tree(&upload.bench.path("files")));
}

#[tokio::test]
async fn a_refusal_reaches_the_operator_of_the_node() {
    let mut other = Restricted::new("upload", &[]);
    fs::write(other.bench.path("files/x"), "x").unwrap();
    for (side, spool, words) in [
        ("download", "spool", "may not write"),
        ("upload", "another", "another/in/<place>"),
        ("upload", "spool/../spool", "may not access"),
    ] {
        other.allow(side, &other.bench.path(spool), "");
        let place = other.place();
        other.bench.start_at(Direction::Push, place, &[b"x"]);
        let outcome = other.bench.ran().await;
        let RunOutcome::Failed(Fault::Lasting, reason) = &outcome else { panic!("{outcome:?}") };
        assert!(reason.detail().contains("synkler gate") && reason.detail().contains(words), "{reason}");
    }
    // Central has never run here.
    other.allow("upload", &other.bench.path("spool"), "");
    fs::remove_dir(other.bench.path("spool/in")).unwrap();
    let place = other.place();
    other.bench.start_at(Direction::Push, place, &[b"x"]);
    let outcome = other.bench.ran().await;
    let RunOutcome::Failed(Fault::Lasting, reason) = &outcome else { panic!("{outcome:?}") };
    assert!(reason.detail().contains("start central once"), "{reason}");
}

#[test]
fn an_uploads_key_runs_reads_and_deletes_nothing() {
    let upload = Restricted::new("upload", &[]);
    let path = |name: &str| upload.bench.path(name);
    fs::create_dir_all(path("spool/held/t")).unwrap();
    fs::create_dir_all(path("other/in/000000ab-1")).unwrap();
    for file in ["spool/held/t/copy", "other/in/000000ab-1/x", "files/new", "spool/in/arrived"] {
        fs::write(path(file), "secret").unwrap();
    }
    let before = tree(upload.bench.dir.path());
    let mark = path("mark");
    let touch = format!("touch {}", mark.display());
    for command in [&[][..], &["id"], &["sh", "-c", "id"], &[&touch], &["rsync --version"], &["/usr/lib/sftp-server"]] {
        let output = upload.ssh(command);
        assert_refused(
            &output,
            if command.is_empty() { "this key is only for file transfers of synkler" } else { "rsync --server" },
        );
    }
    let stray = format!("rsync --server -ltpre.iLsfxCIvu . {} ; {touch}", path("spool/in/000000ab-2").display());
    assert_refused(&upload.ssh(&[&stray]), "rsync --server");
    for forward in ["-W127.0.0.1:22", "-tt"] {
        let output = upload.ssh_option(forward);
        assert!(!output.status.success(), "{output:?}");
        assert!(!said(&output).contains("SSH-2"), "{output:?}");
    }
    let here = path("stolen");
    let here = here.to_str().unwrap();
    for (arguments, words) in [
        (vec!["-r", &upload.remote("spool/held/"), here], "may not read"),
        (vec!["-r", &upload.remote("spool/in/"), here], "may not read"),
        (vec!["-r", &upload.remote("other/"), here], "may not read"),
        (vec!["-r", "--remove-source-files", &upload.remote("spool/in/000000ab-1/"), here], "--remove-source-files"),
        (vec!["-r", "--list-only", &upload.remote("spool/in/")], "--list-only"),
        (vec!["--list-only", &upload.remote("spool/held/")], "may not access"),
        (vec!["-r", &path("files/").to_string_lossy(), &upload.remote("spool/held/")], "may not access"),
        (vec!["-r", &path("files/").to_string_lossy(), &upload.remote("spool/in/")], "may not access"),
        (vec!["-r", &path("files/").to_string_lossy(), &upload.remote("other/in/000000ab-1/")], "may not access"),
        (vec!["-r", &path("files/").to_string_lossy(), &upload.remote("spool/in/../../stolen/")], "may not access"),
        (vec!["-r", "--delete", &path("files/").to_string_lossy(), &upload.remote("spool/in/000000ab-1/")], "--delete"),
        (vec!["-rs", &path("files/").to_string_lossy(), &upload.remote("spool/in/000000ab-1/")], "rsync_opts"),
        (
            vec![
                "-r",
                "--rsync-path=id; rsync",
                &path("files/").to_string_lossy(),
                &upload.remote("spool/in/000000ab-1/"),
            ],
            "rsync --server",
        ),
        (
            vec![
                "-r",
                "--log-file-format=x",
                "-M--log-file=/tmp/x",
                &path("files/").to_string_lossy(),
                &upload.remote("spool/in/000000ab-1/"),
            ],
            "--log-file",
        ),
    ] {
        assert_refused(&upload.rsync(&arguments, b""), words);
    }
    assert_same(&tree(upload.bench.dir.path()), &before);
    assert!(!mark.exists());
}

#[test]
fn links_and_names_lead_out_of_neither_half() {
    let upload = Restricted::new("upload", &[]);
    let path = |name: &str| upload.bench.path(name);
    for dir in ["outside", "files/item", "files/again/link", "files/plain"] {
        fs::create_dir_all(path(dir)).unwrap();
    }
    fs::write(path("outside/kept"), "kept").unwrap();
    fs::write(path("files/again/link/new"), "new").unwrap();
    fs::write(path("files/plain/kept"), "overwritten").unwrap();
    symlink(path("outside"), path("files/item/link")).unwrap();
    let to = upload.remote(&format!("spool/in/{PLACE}/"));
    let item = format!("{}/item/./link", path("files").display());
    let pushed = upload.rsync(&["-lR", &item, &to], b"");
    assert!(pushed.status.success(), "{pushed:?}");
    assert!(path(&format!("spool/in/{PLACE}/link")).is_symlink());
    // Now the link is there: names below it, and the link itself as the place.
    let through = format!("{}/again/./link/new", path("files").display());
    let output = upload.rsync(&["-R", "--no-implied-dirs", "--inplace", &through, &to], b"");
    assert!(!path("outside/new").exists(), "{output:?}");
    let output = upload.rsync(&["-R", "--no-implied-dirs", "--inplace", "-K", &through, &to], b"");
    assert_refused(&output, "-K");
    fs::remove_dir_all(path("spool/in").join(PLACE)).unwrap();
    symlink(path("outside"), path("spool/in").join(PLACE)).unwrap();
    let output = upload.rsync(&["-r", &format!("{}/", path("files/plain").display()), &to], b"");
    assert!(said(&output).contains("synkler gate: cannot open"), "{output:?}");
    assert_eq!(fs::read(path("outside/kept")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(path("outside")).unwrap().count(), 1);

    let download = Restricted::new("download", &[]);
    let path = |name: &str| download.bench.path(name);
    for dir in ["spool/held/t", "outside", "got"] {
        fs::create_dir_all(path(dir)).unwrap();
    }
    for file in ["spool/held/t/copy", "spool/in/arrived", "outside/secret"] {
        fs::write(path(file), file).unwrap();
    }
    symlink(path("outside"), path("spool/held/t/link")).unwrap();
    let from = download.remote("spool/held/");
    let got = path("got/");
    let fetch = |list: &[u8]| {
        download.rsync(&["-lr", "--from0", "--files-from=-", "--no-implied-dirs", &from, got.to_str().unwrap()], list)
    };
    let output = fetch(b"t/copy\0../in/arrived\0t/link/secret\0../../outside/secret\0/etc/passwd\0");
    let stolen: Vec<_> = tree(&path("got")).into_iter().filter(|(_, _, _, content)| !content.is_empty()).collect();
    assert_eq!(stolen.len(), 1, "{stolen:?} {output:?}");
    assert!(fetch(b"t/copy\0").status.success());
    let before = tree(download.bench.dir.path());
    let output = download.rsync(&["-r", &path("got").to_string_lossy(), &from], b"");
    assert_refused(&output, "may not write");
    assert_refused(
        &download.rsync(&["-r", &download.remote("spool/in/"), got.to_str().unwrap()], b""),
        "may not access",
    );
    assert_refused(&download.ssh(&["cat", "/etc/passwd"]), "rsync --server");
    assert_same(&tree(download.bench.dir.path()), &before);
}

impl Restricted {
    fn ssh_option(&self, option: &str) -> Output {
        let ssh = self.sshd.ssh();
        let mut words = ssh.split(' ');
        let mut ssh = Command::new(words.next().unwrap());
        ssh.args(words).args([option, HOST]).stdin(Stdio::null()).output().unwrap()
    }
}

/// The way to central is examined by a list of one directory.
#[test]
fn a_node_may_see_that_its_half_is_there() {
    for (side, half, other) in [("upload", "in", "held"), ("download", "held", "in")] {
        let node = Restricted::new(side, &[]);
        fs::create_dir(node.bench.path(format!("spool/{half}/some"))).unwrap();
        for (path, shown) in [(format!("spool/{half}/"), "some"), ("spool/".to_owned(), "held")] {
            let output = node.rsync(&["--list-only", &node.remote(&path)], b"");
            assert!(output.status.success(), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains(shown), "{output:?}");
        }
        assert_refused(&node.rsync(&["--list-only", &node.remote(&format!("spool/{other}/"))], b""), "may not access");
    }
}

/// `synklerctl check` examines the way by a run that moves nothing.
#[tokio::test]
async fn the_examination_of_the_way_is_let_in() {
    for (side, direction, half, other) in
        [("upload", Direction::Push, "in", "held"), ("download", Direction::Pull, "held", "in")]
    {
        let node = Restricted::new(side, &[]);
        let before = tree(&node.bench.path("spool"));
        let half = node.bench.location(&format!("spool/{half}"));
        node.bench.rsync.probe(direction, half).await.unwrap();
        let refusal = node.bench.rsync.probe(direction, node.bench.location(&format!("spool/{other}"))).await;
        assert!(refusal.unwrap_err().detail().contains("may not access"));
        assert_same(&tree(&node.bench.path("spool")), &before);
    }
}

/// What the installed rsync makes of every option that `rsync_opts` may hold.
#[tokio::test]
async fn every_option_that_the_config_allows_is_let_in() {
    let mut bench = Bench::new(&[]);
    let rsh = bench.path("rsh");
    script(&rsh, "shift; printf '%s\\n' \"$*\" >>\"$0.said\"; exit 1");
    let options = [
        "--bwlimit=20m",
        "--no-bwlimit",
        "--timeout=30",
        "--sockopts=TCP_NODELAY",
        "--blocking-io",
        "--ipv4",
        "--compress",
        "--no-compress",
        "--old-compress",
        "--new-compress",
        "--compress-choice=zlib",
        "--compress-level=3",
        "--compress-threads=2",
        "--skip-compress=gz/mp[34]",
        "--whole-file",
        "--no-whole-file",
        "--block-size=1000",
        "--checksum",
        "--checksum-seed=5",
        "--ignore-times",
        "--inc-recursive",
        "--no-inc-recursive",
        "--max-alloc=2g",
        "--fsync",
        "--preallocate",
        // Those of `keep`.
        "--hard-links",
        "--sparse",
        "--acls",
        "--xattrs",
        "--filter=-x! user.*",
        "--atimes",
        "--open-noatime",
        "--numeric-ids",
        "--super",
        "--rsync-path=/opt/rsync",
    ];
    // An rsync before 3.5 has no threads for compression, and asks for nothing.
    let help = Command::new("rsync").arg("--help").output().unwrap();
    let threads = String::from_utf8(help.stdout).unwrap().contains("--compress-threads");
    let options: Vec<_> =
        options.into_iter().filter(|option| threads || !option.starts_with("--compress-threads")).collect();
    fs::write(bench.path("files/x"), "x").unwrap();
    for option in options.iter().copied().chain([""]) {
        bench.change(|settings| {
            settings.options = vec![format!("--rsh={}", rsh.display())];
            settings.options.extend(Some(option.to_owned()).filter(|option| !option.is_empty()));
        });
        let place = bench.location(&format!("spool/in/{PLACE}"));
        bench.start_at(Direction::Push, place, &[b"x"]);
        bench.ran().await;
        let held = bench.location("spool/held");
        bench.start_at(Direction::Pull, held, &[b"x"]);
        bench.ran().await;
    }
    let asked = fs::read_to_string(bench.path("rsh.said")).unwrap();
    let spool = bench.path("spool").to_str().unwrap().to_owned();
    for (at, command) in asked.lines().enumerate() {
        let side = if at % 2 == 0 { synkler::ssh::Side::Upload } else { synkler::ssh::Side::Download };
        synkler::ssh::judge(command, side, &spool).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
    assert_eq!(asked.lines().count(), 2 * (options.len() + 1));
}

/// Becomes a program that gets an error from one system call, as in a container that keeps Landlock away.
const WITHOUT_CALL: &str = r#"
import ctypes, os, struct, sys
number, errno = int(sys.argv[1]), int(sys.argv[2])
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | errno), (0x06, 0, 0, 0x7FFF0000)]
filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
program = Program(len(steps), ctypes.addressof(filter))
prctl = ctypes.CDLL(None, use_errno=True).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.byref(program), 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[3], sys.argv[3:])
"#;

#[test]
fn without_landlock_the_gate_stays_shut_unless_it_is_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, rsync) = (dir.path().join("spool"), dir.path().join("rsync"));
    fs::create_dir_all(spool.join("in")).unwrap();
    script(&rsync, "echo rsync runs");
    let asked = format!("rsync --server --sender -de.LsfxCIvu --list-only . {}/in/", spool.display());
    // landlock_create_ruleset, landlock_add_rule and landlock_restrict_self have these numbers on every architecture.
    for call in [444, 445, 446] {
        for errno in [Errno::NOSYS, Errno::OPNOTSUPP, Errno::PERM, Errno::NOMEM] {
            let enter = |more: &[&str]| {
                let mut gate = Command::new("python3");
                gate.args(["-c", WITHOUT_CALL, &call.to_string(), &errno.raw_os_error().to_string(), PROGRAM]);
                gate.args(["gate", "upload"]).arg(&spool).arg("--rsync").arg(&rsync).args(more);
                gate.env("SSH_ORIGINAL_COMMAND", &asked).stdin(Stdio::null()).output().unwrap()
            };
            let shut = |output: &Output| {
                assert!(!output.status.success() && output.stdout.is_empty(), "{call}, {errno:?}: {output:?}");
                let words = "synkler gate: the kernel cannot confine rsync to the spool (Landlock, Linux 5.13): enable";
                assert!(said(output).starts_with(words), "{call}, {errno:?}: {output:?}");
            };
            shut(&enter(&[]));
            let told = enter(&["--no-landlock"]);
            // The first call is how the kernel is asked: whatever it answers, there is none.
            if errno == Errno::NOMEM && call != 444 {
                shut(&told);
                assert!(said(&told).contains("Cannot allocate memory"), "{told:?}");
            } else {
                assert!(told.status.success() && told.stdout == b"rsync runs\n", "{call}, {errno:?}: {told:?}");
            }
        }
    }
    let mut free = Command::new(PROGRAM);
    free.args(["gate", "upload"]).arg(&spool).arg("--rsync").arg(&rsync).env("SSH_ORIGINAL_COMMAND", &asked);
    let output = free.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && output.stdout == b"rsync runs\n", "{output:?}");
}
