//! What happens on three hosts.

use super::bed::Bed;

#[test]
fn a_file_and_a_directory_travel() {
    let bed = Bed::new();
    bed.central.run(
        "install -d -o synkler -g synkler /srv/spool && ssh-keygen -A && mkdir -p /run/sshd && systemctl start ssh rabbitmq-server && \
         rabbitmqctl add_user synkler secret && rabbitmqctl set_permissions synkler '.*' '.*' '.*'",
    );
    for host in [&bed.upload, &bed.download] {
        host.run("install -d -o synkler -g synkler -m 0700 /var/lib/synkler/.ssh && \
                  sudo -u synkler ssh-keygen -q -t ed25519 -N '' -f /var/lib/synkler/.ssh/id_ed25519 && \
                  ssh-keyscan central 2>/dev/null >/var/lib/synkler/.ssh/known_hosts && chown synkler /var/lib/synkler/.ssh/known_hosts");
        let key = host.run("cat /var/lib/synkler/.ssh/id_ed25519.pub");
        bed.central.run(&format!("install -d -o synkler -g synkler -m 0700 /var/lib/synkler/.ssh && echo '{}' >>/var/lib/synkler/.ssh/authorized_keys", key.trim()));
    }
    for (host, mode, dir) in [
        (&bed.upload, "upload", "/srv/outgoing"),
        (&bed.central, "central", "/srv/spool"),
        (&bed.download, "download", "/srv/incoming"),
    ] {
        host.run(&format!(
            "install -d -o synkler -g synkler {dir} && mkdir -p /etc/systemd/system/synkler.service.d && \
             printf '[Service]\\nReadWritePaths={dir}\\n' >/etc/systemd/system/synkler.service.d/paths.conf && \
             printf 'mode = \"{mode}\"\\nfile_dir = \"{dir}\"\\nsynkler_server = \"central\"\\nusername = \"synkler\"\\npassword = \"secret\"\\ncentral_host = \"synkler@central\"\\nsettle_seconds = 0\\n' >/etc/synkler.conf && \
             systemctl daemon-reload && systemctl enable --now synkler && synklerctl status"
        ));
    }
    bed.upload.run("mkdir /srv/outgoing/.t && head -c 300000 /dev/urandom >/srv/outgoing/.t/x && mv /srv/outgoing/.t/x /srv/outgoing/x");
    bed.download.wait("test -e /srv/incoming/x");
    eprintln!("{}{}{}", bed.upload.story(), bed.central.story(), bed.download.story());
}
