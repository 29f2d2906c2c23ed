//! The base image: a small Debian with systemd, made once and kept between runs. Hosts lay their own changes over it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::sh;

const SUITE: &str = "bookworm";
const PACKAGES: &str = "systemd,systemd-sysv,dbus,rsync,openssh-server,openssh-client,rabbitmq-server,iproute2,\
                        iputils-ping,procps,sudo,man-db,ca-certificates";

/// Where images are kept: a day's first run makes one, others take it.
fn cache() -> PathBuf {
    std::env::var_os("SYNKLER_HOSTS_CACHE").map_or_else(|| PathBuf::from("/var/tmp/synkler-hosts"), PathBuf::from)
}

/// The image's root directory, made if it is missing; several runs at once make it once.
pub fn base() -> PathBuf {
    let cache = cache();
    fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("lock")).unwrap();
    lock.lock().unwrap();
    let name = format!("{SUITE}-{:08x}", checksum(PACKAGES.as_bytes()));
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

/// What would slow down every boot, or make hosts alike that must differ.
fn settle(root: &Path) {
    fs::write(root.join("etc/machine-id"), "").unwrap();
    for key in fs::read_dir(root.join("etc/ssh")).unwrap().flatten() {
        if key.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(key.path()).unwrap();
        }
    }
    let root = root.display();
    // Each host has its own; only central wants a broker and an sshd.
    sh(&format!(
        "for unit in rabbitmq-server ssh epmd apt-daily.timer apt-daily-upgrade.timer; do \
         systemctl --root={root} disable $unit 2>/dev/null || true; done"
    ));
    fs::write(format!("{root}/etc/apt/apt.conf.d/90bed"), "APT::Install-Recommends \"0\";\n").unwrap();
}

/// Names the image by what is in it.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
