//! Boards: upload and download as the arm64 package installs them, under qemu, each with rsync, ssh and all else of
//! Debian for arm64. Central is this machine's own, as for the other tests. Needs root; `make test-arm64` builds the
//! packages, makes the root that boards are copies of, and has the kernel start arm64 programs.

#[path = "bed/mod.rs"]
mod bed;
#[path = "support/packages.rs"]
mod packages;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bed::node::Node;
use bed::{Bed, tree};
use packages::sh;

const ARCH: &str = "aarch64";
/// In the head of its programs.
const MACHINE: u16 = 183;
/// What is emulated takes its time.
const LONG: Duration = Duration::from_secs(300);
const SIZE: usize = 10_000_000;

/// A board's disk, and the means to run programs from it.
struct Board {
    root: tempfile::TempDir,
    bin: PathBuf,
}

impl Board {
    /// With our package installed.
    fn new(bed: &Bed) -> Self {
        let made =
            std::env::var_os("ARM64_ROOT").expect("ARM64_ROOT names a root of Debian for arm64: make test-arm64");
        sh(
            "arch-test arm64 >/dev/null || { echo no program for arm64 starts on this machine: make test-arm64; exit 1; }",
        );
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (made, dir, shared) = (PathBuf::from(made), root.path().display(), std::env::temp_dir());
        sh(&format!("cp -a --reflink=auto {}/. {dir} && mkdir -p {dir}/{}", made.display(), shared.display()));
        // Whatever ends this program ends them; what is mounted is theirs alone, and goes with them.
        let enter = bed.script(
            "enter",
            &format!(
                "exec setpriv --pdeathsig KILL unshare --mount sh -ec '\n\
                 mount --rbind /proc {dir}/proc\nmount --rbind /dev {dir}/dev\nmount --bind {shared} {dir}/{shared}\n\
                 exec chroot {dir} \"$@\"' sh \"$@\"",
                shared = shared.display()
            ),
        );
        let bin = bed.side("bin");
        for program in ["synkler", "synklerctl", "dpkg"] {
            bed::script(&bin.join(program), &format!("exec {} /usr/bin/{program} \"$@\"", enter.display()));
        }
        let board = Self { root, bin };
        fs::copy(packages::deb(ARCH), board.root.path().join("root/synkler.deb")).unwrap();
        sh(&format!("DEBIAN_FRONTEND=noninteractive {}/dpkg -i /root/synkler.deb", board.bin.display()));
        board
    }

    /// A daemon on this board.
    fn bears(&self, mut node: Node) -> Node {
        node.binaries.clone_from(&self.bin);
        node
    }
}

/// What kind of machine a program is for.
fn machine(program: PathBuf) -> u16 {
    let bytes = fs::read(&program).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert_eq!(bytes[..4], *b"\x7fELF", "{}", program.display());
    u16::from_le_bytes([bytes[18], bytes[19]])
}

#[test]
fn the_packages_are_clean_and_small() {
    packages::are_clean_and_small(ARCH);
}

#[test]
fn boards_hand_over_by_way_of_this_machine() {
    let bed = Bed::new();
    let board = Board::new(&bed);
    for program in ["synkler", "synklerctl", "rsync", "ssh"] {
        assert_eq!(machine(board.root.path().join("usr/bin").join(program)), MACHINE, "{program}");
    }
    packages::need_no_newer_libc(board.root.path());

    let (sent, arrived) = (bed.side("sent"), bed.side("arrived"));
    let script = |to: &PathBuf| format!("cleanup_script = [\"mv\", \"-T\", \"--\", \"%F\", \"{}/%f\"]\n", to.display());
    let mut upload = board.bears(bed.upload("up", &format!("settle_seconds = 1\n{}", script(&sent))));
    let mut central = bed.central("mid", "keep_minutes = 0.02\n");
    let mut download = board.bears(bed.download("down", &script(&arrived)));
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    for node in [&upload, &download] {
        let exe = fs::read_link(format!("/proc/{}/exe", node.pid())).unwrap();
        assert!(exe.to_str().unwrap().contains("qemu-aarch64"), "{} runs in {}", node.name, exe.display());
    }

    tree::hand_in(&upload.file_dir, b"random", &tree::noise(42, SIZE));
    let workshop = tree::workshop(&upload.file_dir);
    tree::rich_directory(&workshop.join("directory"));
    fs::rename(workshop.join("directory"), upload.file_dir.join("directory")).unwrap();
    let expected = tree::survey(&upload.file_dir);
    for (node, word) in [(&upload, "handed over"), (&download, "cleanup script succeeded")] {
        assert!(
            node.log.wait(0, 2, LONG, |line| line.contains(word)),
            "not {word} within {LONG:?}: {:#}",
            node.status(20)
        );
    }
    assert!(tree::survey(&arrived) == expected, "everything arrived with its md5, mode and mtime");
    assert!(tree::survey(&sent) == expected, "the upload's script has moved its sources");
    for node in [&upload, &download] {
        assert!(tree::survey(&node.file_dir).is_empty(), "{}", node.name);
    }
    for node in [&upload, &central, &download] {
        node.until_idle(LONG);
        let bad = node.log.count(|line| line.contains("ERROR") || line.contains("WARN"));
        assert_eq!(bad, 0, "{} {}:\n{}", node.mode, node.name, node.log.text());
    }
    let said = upload.ctl().arg("status").output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.contains("down"), "{text}{}", String::from_utf8_lossy(&said.stderr));
    for node in [&mut upload, &mut download] {
        let (status, _) = node.stop();
        assert!(status.success(), "{} ends with {status}", node.name);
    }
}
