//! The base image: a small Debian with systemd, made once and kept between runs. Hosts lay their own changes over it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages::sh;

/// Raised when an image is to be made anew although it has the same packages in it.
const EDITION: u32 = 2;
const SUITE: &str = "bookworm";
const PACKAGES: &str = "systemd,systemd-sysv,libpam-systemd,dbus,iproute2,iputils-ping,procps,ca-certificates";
/// What hosts install by themselves: they reach no archive, so it lies ready.
const READY: &str = "rsync openssh-client openssh-server rabbitmq-server acl";

/// Where images are kept: a day's first run makes one, others take it.
fn cache() -> PathBuf {
    std::env::var_os("HOSTS_CACHE").map_or_else(|| PathBuf::from("/var/tmp/synkler-hosts"), PathBuf::from)
}

/// The image's root directory, made if it is missing; several runs at once make it once.
pub fn base() -> PathBuf {
    let cache = cache();
    fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("lock")).unwrap();
    lock.lock().unwrap();
    let name = format!("{SUITE}-{:08x}", checksum(format!("{PACKAGES} {READY} {EDITION}").as_bytes()));
    let base = cache.join(name);
    if !base.exists() {
        let making = base.with_extension("making");
        drop(fs::remove_dir_all(&making));
        eprintln!("making the base image in {}", base.display());
        let made = Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE])
            .arg(&making)
            .output()
            .expect("debootstrap is installed: make test-hosts sees to it");
        assert!(made.status.success(), "debootstrap: {}", String::from_utf8_lossy(&made.stdout));
        settle(&making);
        fs::rename(&making, &base).unwrap();
    }
    base
}

/// What would make hosts alike that must differ goes, and what they will install comes.
fn settle(root: &Path) {
    fs::write(root.join("etc/machine-id"), "").unwrap();
    let root = root.display();
    sh(&format!("rm -f {root}/etc/ssh/ssh_host_*"));
    sh(&format!(
        "for unit in apt-daily.timer apt-daily-upgrade.timer; do systemctl --root={root} disable $unit; done 2>/dev/null"
    ));
    fs::write(format!("{root}/etc/apt/apt.conf.d/90bed"), "APT::Install-Recommends \"0\";\n").unwrap();
    // These disks need not outlive a power failure.
    fs::write(format!("{root}/etc/dpkg/dpkg.cfg.d/bed"), "force-unsafe-io\n").unwrap();
    sh(&format!(
        "chroot {root} apt-get update -q && \
         DEBIAN_FRONTEND=noninteractive chroot {root} apt-get install -y -q --download-only {READY}"
    ));
}

/// Names the image by what is in it.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
