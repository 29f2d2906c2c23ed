//! The three hosts and the two networks between them.

use std::env::consts::ARCH;
use std::sync::atomic::{AtomicU32, Ordering};

use super::host::Host;
use super::{image, package};
use crate::packages::{self, sh};

/// Slow enough to be disturbed, fast enough to be waited for.
const RATE: &str = "root tbf rate 100mbit burst 256k latency 100ms";

/// upload -- central -- download; central is 10.71.1.1 to upload and 10.71.2.1 to download.
pub struct Bed {
    pub upload: Host,
    pub central: Host,
    pub download: Host,
    // Dropped after the hosts.
    networks: Networks,
    _dir: tempfile::TempDir,
}

struct Networks(Vec<String>);

impl Bed {
    /// Boots the hosts, with our package in root's home.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("synkler-hosts-").tempdir_in("/var/tmp").unwrap();
        let base = image::base();
        let networks = Networks::new();
        let [up, hub, down] = networks.names();
        let (upload, central, download) = std::thread::scope(|scope| {
            let boot = |name, namespace: &str| {
                let (dir, base, namespace) = (dir.path(), &base, namespace.to_owned());
                scope.spawn(move || {
                    let host = Host::boot(name, dir, base, &namespace);
                    package::copy(&host, &packages::deb(ARCH));
                    host
                })
            };
            let hosts = [boot("upload", up), boot("central", hub), boot("download", down)];
            let [upload, central, download] = hosts.map(|host| host.join().unwrap());
            (upload, central, download)
        });
        upload.run("echo '10.71.1.1 central' >>/etc/hosts");
        download.run("echo '10.71.2.1 central' >>/etc/hosts");
        central.run("printf '127.0.1.1 central\\n10.71.1.2 upload\\n10.71.2.2 download\\n' >>/etc/hosts");
        let bed = Self { upload, central, download, networks, _dir: dir };
        bed.check_routes();
        bed
    }

    /// A host by its name.
    pub fn host(&self, name: &str) -> &Host {
        let hosts = [&self.upload, &self.central, &self.download];
        hosts
            .into_iter()
            .find(|host| host.name == name)
            .unwrap_or_else(|| panic!("{name:?} is none of the three hosts"))
    }

    /// The same, to do more with it.
    pub fn host_mut(&mut self, name: &str) -> &mut Host {
        let hosts = [&mut self.upload, &mut self.central, &mut self.download];
        hosts
            .into_iter()
            .find(|host| host.name == name)
            .unwrap_or_else(|| panic!("{name:?} is none of the three hosts"))
    }

    /// All three.
    pub fn hosts(&self) -> [&Host; 3] {
        [&self.upload, &self.central, &self.download]
    }

    /// Pulls the cable between central and download, or plugs it in again.
    pub fn unplug_download(&self, out: bool) {
        let [_, hub, _] = self.networks.names();
        sh(&format!("ip -n {hub} link set eth1 {}", if out { "down" } else { "up" }));
    }

    /// That the bed is what it claims to be.
    fn check_routes(&self) {
        self.upload.run("ping -c 1 -W 5 central");
        self.download.run("ping -c 1 -W 5 central");
        for (host, other) in [(&self.upload, "10.71.2.2"), (&self.download, "10.71.1.2")] {
            assert_ne!(host.try_run(&format!("ping -c 1 -W 1 {other}")).code, 0, "{} reaches {other}", host.name);
        }
    }
}

impl Networks {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let tag = format!("sy{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let names = ["u", "c", "d"].map(|end| format!("{tag}{end}"));
        for name in &names {
            sh(&format!("ip netns add {name} && ip -n {name} link set lo up"));
        }
        let [up, hub, down] = &names;
        for (leaf, leg, net) in [(up, "eth0", 1), (down, "eth1", 2)] {
            sh(&format!(
                "ip link add {leg} netns {hub} type veth peer name eth0 netns {leaf} && \
                 ip -n {hub} addr add 10.71.{net}.1/24 dev {leg} && ip -n {hub} link set {leg} up && \
                 ip -n {leaf} addr add 10.71.{net}.2/24 dev eth0 && ip -n {leaf} link set eth0 up && \
                 tc -n {hub} qdisc add dev {leg} {RATE} && tc -n {leaf} qdisc add dev eth0 {RATE}"
            ));
        }
        Self(names.into())
    }

    fn names(&self) -> [&str; 3] {
        let [up, hub, down] = self.0.as_slice() else { unreachable!("three are made") };
        [up, hub, down]
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in &self.0 {
            drop(std::process::Command::new("ip").args(["netns", "del", name]).status());
        }
    }
}
