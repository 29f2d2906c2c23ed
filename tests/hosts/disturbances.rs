//! Whatever happens to a host, its service, the network or the broker: everything arrives once, and nobody helps.

use std::time::{Duration, Instant};

use super::bed::Bed;
use super::host::Host;
use super::traffic::Batch;

/// How long the network is away, in seconds, where nothing else is asked for.
const OUTAGE: &str = "120";

pub fn reload(bed: &Bed) {
    let batch = Batch::send(bed, "reload", 20);
    batch.until_central_receives();
    for host in bed.hosts() {
        let before = main_pid(host);
        host.run("echo 'history_days = 30' >>/etc/synkler/synkler.toml && systemctl reload synkler");
        host.wait("journalctl -t synkler -g 'config reloaded: changed: history_days'");
        assert_eq!(main_pid(host), before, "{}: a reload is no restart", host.name);
    }
    batch.arrives();
}

pub fn restart(bed: &Bed) {
    let batch = Batch::send(bed, "restart", 25);
    batch.until_central_receives();
    bed.upload.run("systemctl restart synkler");
    bed.central.run("systemctl restart synkler");
    batch.until_download_receives();
    bed.download.run("systemctl restart synkler");
    batch.arrives();
}

/// systemd starts it again after five seconds, with an empty memory.
pub fn kill(bed: &Bed) {
    let batch = Batch::send(bed, "kill", 25);
    batch.until_central_receives();
    for host in [&bed.upload, &bed.central] {
        ends_and_comes_back(host, "systemctl kill -s KILL --kill-whom=main synkler");
    }
    batch.until_download_receives();
    ends_and_comes_back(&bed.download, "systemctl kill -s KILL --kill-whom=main synkler");
    batch.arrives();
}

/// The unit waits for a minute; here it is less, by a drop-in as an administrator would write it.
pub fn freeze(bed: &Bed) {
    for host in bed.hosts() {
        host.run(
            "printf '[Service]\\nWatchdogSec=4\\n' >/etc/systemd/system/synkler.service.d/watchdog.conf && \
             systemctl daemon-reload && systemctl restart synkler",
        );
    }
    let batch = Batch::send(bed, "freeze", 25);
    batch.until_central_receives();
    std::thread::scope(|scope| {
        for host in bed.hosts() {
            scope.spawn(|| ends_and_comes_back(host, "systemctl kill -s STOP --kill-whom=main synkler"));
        }
    });
    for host in bed.hosts() {
        host.run("journalctl -u synkler -g 'Watchdog timeout'");
        host.run(
            "rm /etc/systemd/system/synkler.service.d/watchdog.conf && systemctl daemon-reload && \
             systemctl restart synkler",
        );
    }
    batch.arrives();
}

pub fn no_broker(bed: &Bed) {
    let batch = Batch::send(bed, "broker", 25);
    batch.until_central_receives();
    bed.central.run("systemctl stop rabbitmq-server");
    let meanwhile = Batch::send(bed, "meanwhile", 1);
    for host in bed.hosts() {
        host.wait("systemctl show -P StatusText synkler | grep -q 'no broker: '");
    }
    bed.central.run("systemctl start rabbitmq-server");
    batch.arrives();
    meanwhile.arrives();
}

/// The cable between central and download is out; `meanwhile` is done in the time.
pub fn no_network(bed: &mut Bed, meanwhile: impl FnOnce(&mut Bed)) {
    let outage = std::env::var("HOSTS_OUTAGE").unwrap_or_else(|_| OUTAGE.to_owned());
    let outage = Duration::from_secs(outage.parse().expect("HOSTS_OUTAGE is a number of seconds"));
    Batch::send(bed, "cable", 25).until_download_receives();
    let end = Instant::now() + outage;
    bed.unplug_download(true);
    Batch::send(bed, "during", 10);
    meanwhile(bed);
    rest_until(end);
    bed.unplug_download(false);
    for label in ["cable", "during"] {
        Batch::known(bed, label).arrives();
    }
}

/// A host starts anew while something is coming through it; central takes the broker and sshd along. What is on its way
/// is returned by its label.
pub fn reboot(bed: &mut Bed, name: &str) -> String {
    let label = format!("reboot-{name}");
    let batch = Batch::send(bed, &label, 25);
    if name == "download" {
        batch.until_download_receives()
    } else {
        batch.until_central_receives()
    };
    bed.host_mut(name).reboot();
    label
}

fn main_pid(host: &Host) -> String {
    host.run("systemctl show -P MainPID synkler")
}

fn ends_and_comes_back(host: &Host, how: &str) {
    let before = main_pid(host);
    host.run(how);
    host.wait(&format!(
        "test $(systemctl show -P MainPID synkler) != {} && test $(systemctl show -P MainPID synkler) != 0 && \
         test $(systemctl is-active synkler) = active",
        before.trim()
    ));
}

#[expect(clippy::disallowed_methods, reason = "the outage is as long as it is")]
fn rest_until(end: Instant) {
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
}
