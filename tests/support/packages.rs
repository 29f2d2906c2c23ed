//! The packages as files: clean, small, complete, and content with the libc that we say. For every architecture.
//!
//! To use it: `mod support { pub mod packages; }` in the test program.

#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// In bytes.
const LARGEST: u64 = 6_000_000;
/// What both have: the units, what they need, and what is to be read.
const FILES: &[&str] = &[
    "/etc/synkler/synkler.toml",
    "/usr/bin/synkler",
    "/usr/bin/synklerctl",
    "/usr/lib/systemd/system/synkler.service",
    "/usr/lib/systemd/system/synkler.socket",
    "/usr/lib/systemd/system/synkler@.service",
    "/usr/lib/systemd/system/synkler@.socket",
    "/usr/lib/systemd/user/synkler.service",
    "/usr/lib/sysusers.d/synkler.conf",
    "/usr/lib/tmpfiles.d/synkler.conf",
    "/usr/share/bash-completion/completions/synklerctl",
    "/usr/share/doc/synkler/operations.md",
    "/usr/share/doc/synkler/sample-config",
    "/usr/share/fish/vendor_completions.d/synklerctl.fish",
    "/usr/share/man/man1/synklerctl.1.gz",
    "/usr/share/man/man5/synkler.conf.5.gz",
    "/usr/share/man/man8/synkler.8.gz",
];

/// The repository.
pub fn source() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The deb of this architecture, as rpm and the kernel call it, that `make deb` has built last.
pub fn deb(arch: &str) -> PathBuf {
    let ending = match arch {
        "x86_64" => "_amd64.deb",
        "aarch64" => "_arm64.deb",
        other => panic!("no packages are made for {other}"),
    };
    built(ending)
}

/// The rpm, in the same way.
pub fn rpm(arch: &str) -> PathBuf {
    built(&format!(".{arch}.rpm"))
}

fn built(ending: &str) -> PathBuf {
    let dir = source().join("target/packages");
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}: run make deb rpm", dir.display()));
    let fitting = entries.flatten().filter(|entry| entry.file_name().to_str().unwrap().ends_with(ending));
    let newest = fitting.max_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).unwrap());
    newest.unwrap_or_else(|| panic!("{}: no *{ending}: run make deb rpm", dir.display())).path()
}

/// That lintian and rpmlint have nothing to say, and that nothing is missing.
pub fn are_clean_and_small(arch: &str) {
    let (deb, rpm) = (deb(arch), rpm(arch));
    sh(&format!("lintian --allow-root --fail-on error,warning {}", deb.display()));
    let said = sh(&format!("cd {} && rpmlint -c packaging/rpm/rpmlint.toml {}", source().display(), rpm.display()));
    assert!(said.contains(" 0 errors, 0 warnings"), "{said}");
    for path in [&deb, &rpm] {
        let length = fs::metadata(path).unwrap().len();
        assert!(length < LARGEST, "{}: {length} bytes", path.display());
    }
    let in_deb = sh(&format!("dpkg-deb --fsys-tarfile {} | tar -t | sed 's/^\\.//'", deb.display()));
    let in_rpm = sh(&format!("rpm -qlp {}", rpm.display()));
    for (what, list) in [("deb", in_deb), ("rpm", in_rpm)] {
        for file in FILES {
            assert!(list.lines().any(|line| line == *file), "the {what} lacks {file}:\n{list}");
        }
    }
}

/// That the programs below `root` need no newer libc than README.md and the packages say.
pub fn need_no_newer_libc(root: &Path) {
    let bin = root.join("usr/bin");
    let bin = bin.display();
    // readelf reads every architecture's.
    let newest = sh(&format!(
        "readelf -W --dyn-syms {bin}/synkler {bin}/synklerctl | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1"
    ));
    assert_eq!(newest.trim(), "GLIBC_2.34", "what docs/operations.md and the packages say of glibc");
}

/// Runs a shell's text on this machine; it has to succeed.
pub fn sh(text: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", text]).stdin(Stdio::null()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{text}\n{}\n{out}{err}", output.status);
    out
}
