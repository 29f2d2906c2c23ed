//! Whose the files are: of two writers with umask 077, of an owner at the destination, of a user without root.

use std::time::Duration;

use super::bed::Bed;
use super::host::Host;

/// The user's manager starts first.
const PATIENCE: Duration = Duration::from_secs(90);

/// Two users write what nobody else may read. First the check says so, then it arrives, by what the check proposes.
pub fn writers_with_umask_077(bed: &Bed) {
    let (upload, download) = (&bed.upload, &bed.download);
    upload.run(
        "useradd -m anna && useradd -m bert && groupadd writers && usermod -aG writers anna && usermod -aG writers bert && \
         chgrp writers /srv/outgoing && chmod 2775 /srv/outgoing",
    );
    download.run(
        "useradd -m carol && groupadd readers && usermod -aG readers synkler && \
         printf 'owner = \"carol\"\\ngroup = \"readers\"\\nfile_mode = \"0640\"\\n' >>/etc/synkler/synkler.toml && \
         synkler drop-in --apply && systemctl restart synkler",
    );
    write(upload, "anna", "closed");
    write(upload, "bert", "closed");
    // A file that cannot be read waits with a reason, and the check names the cures.
    upload.wait("synkler --version >/dev/null; synklerctl check | tr -s ' \\n' ' ' | grep -q 'synkler cannot read /srv/outgoing/closed-'");
    upload.run("synkler drop-in --apply --also /srv --read-others && systemctl restart synkler");
    arrive(bed, "closed");
    let status = upload.run("cat /proc/$(systemctl show -P MainPID synkler)/status");
    // CAP_DAC_READ_SEARCH is number 2, CAP_LEASE 28.
    assert!(status.contains("CapEff:\t0000000010000004\n"), "{status}");
    // The cleanup needs the directory, which is synkler's.
    upload.run(
        "synklerctl check | tr -s ' \\n' ' ' | grep -q 'entries in /srv/outgoing can be read and removed by synkler'",
    );
}

/// The service runs as one of the writers, and as itself again.
pub fn as_a_user(bed: &Bed) {
    let upload = &bed.upload;
    let refused = upload.try_run("synkler drop-in --apply --also /srv --as anna");
    assert!(refused.code == 1 && refused.err.contains("systemctl stop synkler"), "{}", refused.err);
    upload.run(
        "usermod -aG synkler bert && systemctl stop synkler && synkler drop-in --apply --also /srv --as anna && \
         systemctl start synkler",
    );
    let pid = "$(systemctl show -P MainPID synkler)";
    assert_eq!(upload.run(&format!("ps -o user= -p {pid}")).trim(), "anna");
    upload
        .run("test \"$(stat -c %U:%G /var/lib/synkler/journal.db /var/lib/synkler/ssh_key | sort -u)\" = anna:synkler");
    // Members of the group still use the socket, and a package's upgrade or a boot takes nothing back.
    upload.run("runuser -u bert -- synklerctl pause && runuser -u anna -- synklerctl resume && systemd-tmpfiles --create synkler.conf");
    assert_ne!(upload.try_run("runuser -u nobody -- synklerctl status").code, 0);
    upload.run("systemctl restart synkler && test $(stat -c %U /var/lib/synkler) = anna");
    write(upload, "anna", "as");
    arrive_one(bed, "as-anna");
    // A directory of another group may be the user's own, so it stays with her.
    upload.run(
        "test $(stat -c %U:%G /srv/outgoing) = anna:writers && systemctl stop synkler && synkler drop-in --apply --also /srv && \
         chown synkler /srv/outgoing && systemctl start synkler",
    );
    assert_eq!(upload.run(&format!("ps -o user= -p {pid}")).trim(), "synkler");
    upload.run("test $(stat -c %U /var/lib/synkler/journal.db) = synkler");
    upload.run("echo back >/srv/outgoing/.back && chown synkler /srv/outgoing/.back && mv /srv/outgoing/.back /srv/outgoing/back");
    arrive_one(bed, "back");
}

/// The cures that need no right of the service: a default ACL, and a common group.
pub fn shared_directory(bed: &Bed) {
    let upload = &bed.upload;
    assert_ne!(upload.try_run("systemctl show -P AmbientCapabilities synkler | grep dac_read_search").code, 0);
    upload.run("apt-get install -y -q acl && chmod 2775 /srv/outgoing && setfacl -R -m u:synkler:rwX,d:u:synkler:rwX /srv/outgoing");
    write(upload, "anna", "acl");
    arrive_one(bed, "acl-anna");
    // What only lets synkler in is nothing that anybody misses.
    assert!(!upload.run("synklerctl receipt acl-anna").contains("not carried"));
    upload.run(
        "setfacl -b /srv/outgoing && chown root:writers /srv/outgoing && chmod 2770 /srv/outgoing && \
         usermod -aG writers synkler && systemctl restart synkler",
    );
    upload
        .run("runuser -u bert -- sh -c 'umask 007; cd /srv/outgoing && mkdir .d && echo 1 >.d/f && mv .d group-bert'");
    upload.wait_for(PATIENCE, "test -e /srv/sent/group-bert/f && ! test -e /srv/outgoing/group-bert");
}

/// A user's own node, without root.
pub fn user_unit(bed: &Bed) {
    let host = &bed.upload;
    host.run(
        "useradd -m dora && install -d -o dora /home/dora/out /home/dora/.config /home/dora/.config/synkler && \
         printf 'mode = \"upload\"\\nid = \"own\"\\nfile_dir = \"/home/dora/out\"\\nsynkler_server = \"central\"\\n' \
         >/home/dora/.config/synkler/synkler.conf && systemctl stop synkler && loginctl enable-linger dora",
    );
    let dora = "setpriv --reuid dora --regid dora --init-groups env -C /home/dora HOME=/home/dora XDG_RUNTIME_DIR=/run/user/$(id -u dora)";
    host.wait_for(PATIENCE, &format!("{dora} systemctl --user is-system-running | grep -Eq 'running|degraded'"));
    host.run(&format!("{dora} systemctl --user enable --now synkler"));
    // It has no account on the broker, which the status says by its exit code too.
    for client in ["synklerctl", "synklerctl --user"] {
        let said = host.try_run(&format!("{dora} {client} status"));
        assert!(said.out.contains("group own"), "{client}: {}{}", said.out, said.err);
    }
    host.run(
        "systemctl start synkler && test -s /home/dora/.local/state/synkler/own-upload/journal.db && \
         test $(stat -c %U /home/dora/.local/state/synkler/own-upload/journal.db) = dora",
    );
    // Beside the node of the system.
    let said = host.try_run(&format!("{dora} synklerctl --user status"));
    assert!(said.out.contains("group own"), "{}{}", said.out, said.err);
    host.run(&format!("{dora} systemctl --user disable --now synkler"));
}

fn write(host: &Host, user: &str, label: &str) {
    host.run(&format!(
        "runuser -u {user} -- sh -c 'umask 077; cd /srv/outgoing && echo {user} >.{label}-{user} && mv .{label}-{user} {label}-{user}'"
    ));
}

fn arrive(bed: &Bed, label: &str) {
    for user in ["anna", "bert"] {
        arrive_one(bed, &format!("{label}-{user}"));
    }
}

/// It has left its directory, and is at the destination as the config says.
fn arrive_one(bed: &Bed, name: &str) {
    bed.upload.wait_for(PATIENCE, &format!("test -e /srv/sent/{name} && ! test -e /srv/outgoing/{name}"));
    let whose = bed.download.run(&format!("stat -c '%U:%G %a' /srv/incoming/{name}"));
    assert_eq!(whose.trim(), "carol:readers 640", "{name}");
}
