//! Who comes from the original program installs the package beside the config that is there.

use super::bed::Bed;
use super::host::Host;

const CONFIG: &str = include_str!("../fixtures/seed-sample-config");

/// All three hosts, purged of what was there, with one config of the original's that differs by its mode.
pub fn goes_on(bed: &Bed) {
    bed.central.run("rabbitmqctl add_user mover secret && rabbitmqctl set_permissions mover '.*' '.*' '.*'");
    for host in bed.hosts() {
        host.run("apt-get purge -y -q synkler; useradd --create-home user && chmod 755 /home/user");
        host.run(
            "install -d -o synkler -g synkler /home/user/temp_downloads /home/user/downloads && \
             install -d -o synkler -g synkler -m 0700 /var/lib/synkler /var/lib/synkler/.ssh",
        );
    }
    for host in [&bed.upload, &bed.download] {
        let key = host.run(
            "cd /var/lib/synkler/.ssh && runuser -u synkler -- ssh-keygen -q -t ed25519 -N '' -f id_ed25519 && \
             ssh-keyscan central 2>/dev/null >known_hosts && cat id_ed25519.pub",
        );
        bed.central.run(&format!(
            "echo '{}' | runuser -u synkler -- tee -a /var/lib/synkler/.ssh/authorized_keys",
            key.trim()
        ));
    }
    for host in bed.hosts() {
        begin(host);
    }
    bed.upload
        .run("echo moved >/home/user/temp_downloads/.x && mv /home/user/temp_downloads/.x /home/user/temp_downloads/x");
    bed.download.wait("grep -q moved /home/user/downloads/x && ! test -e /home/user/temp_downloads/x");
    bed.upload.wait("grep -q moved /home/user/downloads/x && ! test -e /home/user/temp_downloads/x");
}

fn begin(host: &Host) {
    // What everybody had to fill in; all else is as the original came.
    let config = CONFIG
        .replace("mode = central", &format!("mode = {}", host.name))
        .replace("synkler_server = rabbitmq.example.com", "synkler_server = central")
        .replace("username = 'username'", "username = mover")
        .replace("password = 'password'", "password = secret");
    assert!(config.contains("rsync_opts = --rsh=") && config.contains("cleanup_script = mv %F "), "{config}");
    std::fs::write(host.root().join("etc/synkler.conf"), config).unwrap();
    host.run(
        "chown root:synkler /etc/synkler.conf && chmod 640 /etc/synkler.conf && \
         apt-get install -y -q ./synkler_*.deb && synkler drop-in --apply && systemctl enable --now synkler",
    );
}
