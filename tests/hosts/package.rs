//! Our package, as people get it: from the copy in root's home to the purge.

use std::env::consts::ARCH;
use std::fs;
use std::path::Path;

use super::bed::Bed;
use super::host::Host;
use super::traffic::Batch;
use crate::packages::{self, sh};

/// Puts the package into root's home, where the README has it.
pub fn copy(host: &Host, deb: &Path) {
    fs::copy(deb, host.root().join("root").join(deb.file_name().unwrap())).unwrap();
}

/// All three hosts get the next version while 200 MB are on their way.
pub fn upgrade(bed: &Bed) {
    let next = bed.upload.root().join("root/next.deb");
    // The same with a higher version: what is done by an upgrade is in the package's scripts.
    let parts = tempfile::tempdir().unwrap();
    let (from, to) = (packages::deb(ARCH), parts.path().display());
    sh(&format!(
        "dpkg-deb -R {} {to}/d && sed -i 's/^Version: .*/&+next/' {to}/d/DEBIAN/control && \
         dpkg-deb --root-owner-group -Znone -b {to}/d {}",
        from.display(),
        next.display()
    ));
    for host in [&bed.central, &bed.download] {
        fs::copy(&next, host.root().join("root/next.deb")).unwrap();
    }
    let batch = Batch::send(bed, "upgrade", 200);
    let upgrade = |host: &Host| {
        let main_pid = || host.run("systemctl show -P MainPID synkler");
        let before = main_pid();
        host.run("apt-get install -y -q ./next.deb && dpkg-query -W -f '${Version}' synkler | grep -q next");
        assert_ne!(main_pid(), before, "{}: an upgrade starts the new program", host.name);
        host.run("test $(systemctl is-active synkler) = active && test $(systemctl show -P NRestarts synkler) = 0");
    };
    batch.until_central_receives();
    upgrade(&bed.upload);
    batch.until_central_receives();
    upgrade(&bed.central);
    batch.until_download_receives();
    upgrade(&bed.download);
    batch.arrives();
}

/// Removed, the package leaves state and files; it goes on when it is back. A purge takes the state, and no files.
pub fn remove_and_purge(bed: &Bed) {
    let host = &bed.download;
    host.run("echo mine >/srv/incoming/.mine && cp /etc/synkler/synkler.toml /root/config");
    host.run("apt-get remove -y -q synkler");
    host.run(
        "! systemctl is-active synkler && ! test -e /usr/bin/synkler && ! test -e /run/synkler/control.sock && \
         test -s /var/lib/synkler/journal.db && test -s /var/lib/synkler/ssh_key && test -s /etc/synkler/synkler.toml",
    );
    let batch = Batch::send(bed, "removed", 5);
    host.run("apt-get install -y -q ./synkler_*.deb && systemctl enable --now synkler");
    batch.arrives();

    host.run("apt-get purge -y -q synkler");
    assert_eq!(host.run("ls -A /var/lib/synkler 2>/dev/null || true"), "", "purged");
    // Configs of instances are the administrator's own.
    assert_eq!(host.run("ls -A /etc/synkler").trim(), "first.toml\nsecond.toml", "purged");
    host.run(
        "! find /etc/systemd/system -name 'synkler*' | grep . && \
         grep -q mine /srv/incoming/.mine && ls /srv/taken/removed-tree >/dev/null",
    );
    // A spool below the state directory stays too.
    let central = &bed.central;
    central.run("mkdir -p /var/lib/synkler/spool && echo theirs >/var/lib/synkler/spool/copy");
    central.run("apt-get purge -y -q synkler && test -e /var/lib/synkler/spool/copy && test -d /srv/spool/default");
    assert_eq!(central.run("ls -A /var/lib/synkler").trim(), "spool");
}
