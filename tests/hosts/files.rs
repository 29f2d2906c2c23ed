//! Both packages as files, and where an rpm's system is not at hand, as far as rpm goes.

use std::env::consts::ARCH;

use crate::packages::{self, sh};

#[test]
fn the_packages_are_clean_and_small() {
    packages::are_clean_and_small(ARCH);
}

#[test]
fn the_rpm_installs_and_says_what_it_needs() {
    let rpm = packages::rpm(ARCH);
    let rpm = rpm.display();
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
    packages::need_no_newer_libc(root.path());
    sh(&format!("rpm --root {dir} -e --noscripts synkler && ! test -e {dir}/usr/bin/synkler"));
}
