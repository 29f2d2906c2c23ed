//! Both packages as files: clean, small, and where an rpm's system is not at hand, as far as rpm goes.

use std::fs;
use std::path::PathBuf;

use super::bed::source;
use super::host::sh;

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

fn package(end: &str) -> String {
    let dir = source().join("target/packages");
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}: run make deb rpm", dir.display()));
    let found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let mut found = found.iter().filter(|path| path.extension().is_some_and(|found| found == end));
    let path = found.next().unwrap_or_else(|| panic!("{}: no {end}: run make deb rpm", dir.display()));
    assert_eq!(found.next(), None, "more than one {end} in {}: make clean", dir.display());
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_packages_are_clean_and_small() {
    let (deb, rpm) = (package("deb"), package("rpm"));
    sh(&format!("lintian --allow-root --fail-on error,warning {deb}"));
    let said = sh(&format!("cd {} && rpmlint -c packaging/rpm/rpmlint.toml {rpm}", source().display()));
    assert!(said.contains(" 0 errors, 0 warnings"), "{said}");
    for path in [&deb, &rpm] {
        let length = fs::metadata(path).unwrap().len();
        assert!(length < LARGEST, "{path}: {length} bytes");
    }
    let in_deb = sh(&format!("dpkg-deb --fsys-tarfile {deb} | tar -t | sed 's/^\\.//'"));
    let in_rpm = sh(&format!("rpm -qlp {rpm}"));
    for (what, list) in [("deb", in_deb), ("rpm", in_rpm)] {
        for file in FILES {
            assert!(list.lines().any(|line| line == *file), "the {what} lacks {file}:\n{list}");
        }
    }
}

#[test]
fn the_rpm_installs_and_says_what_it_needs() {
    let rpm = package("rpm");
    let needs = sh(&format!("rpm -qp --requires {rpm}"));
    for need in ["rsync >= 3.1.3", "openssh-clients", "systemd >= 250", "glibc >= 2.34"] {
        assert!(needs.lines().any(|line| line == need), "{need}: {needs}");
    }
    let scripts = sh(&format!("rpm -qp --scripts {rpm}"));
    for part in
        ["postinstall", "preuninstall", "postuninstall", "systemd-sysusers synkler.conf", "systemd-update-helper"]
    {
        assert!(scripts.contains(part), "{part}: {scripts}");
    }
    assert_eq!(sh(&format!("rpm -qcp {rpm}")).trim(), "/etc/synkler/synkler.toml");

    let root = tempfile::tempdir().unwrap();
    let dir = root.path().display();
    // Its scripts want the distribution around them.
    sh(&format!("rpm --root {dir} --initdb && rpm --root {dir} -i --nodeps --noscripts {rpm}"));
    sh(&format!(
        "rpm --root {dir} -V --nodeps synkler && {dir}/usr/bin/synkler --version && {dir}/usr/bin/synklerctl --help"
    ));
    let newest = sh(&format!(
        "objdump -T {dir}/usr/bin/synkler {dir}/usr/bin/synklerctl | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1"
    ));
    assert_eq!(newest.trim(), "GLIBC_2.34", "what README.md and the packages say of glibc");
    sh(&format!("rpm --root {dir} -e --noscripts synkler && ! test -e {dir}/usr/bin/synkler"));
}
