//! What the service may, and what those may who have got hold of a node's key or account.

use super::bed::Bed;

/// What `systemd-analyze security` may say, in tenths.
const EXPOSURE: &str = "15";

/// The service's box, seen from outside.
pub fn box_is_tight(bed: &Bed) {
    for host in bed.hosts() {
        for unit in ["synkler.service", "synkler@other.service"] {
            let said = host.run(&format!("systemd-analyze security --no-pager --threshold={EXPOSURE} {unit}"));
            eprintln!("{}: {}", host.name, said.lines().last().unwrap_or_default().trim());
        }
        let said = host.try_run(
            "systemd-analyze verify --man=no synkler.service synkler.socket synkler@other.service synkler@other.socket",
        );
        assert_eq!((said.code, said.out + &said.err), (0, String::new()), "{}: systemd-analyze verify", host.name);
        let status = host.run("cat /proc/$(systemctl show -P MainPID synkler)/status");
        let row = |key: &str| {
            let row = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            row.trim_start_matches(':').trim().to_owned()
        };
        assert_eq!(host.run("ps -o user= -p $(systemctl show -P MainPID synkler)").trim(), "synkler");
        // CAP_LEASE, number 28, and nothing else.
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(row(set), "0000000010000000", "{}: {set}", host.name);
        }
        assert_eq!((row("NoNewPrivs"), row("Seccomp")), ("1".to_owned(), "2".to_owned()));
    }
}

/// A script moves what has arrived into another user's home, which the drop-in opens.
pub fn script_reaches_another_owner(bed: &Bed) {
    bed.download.run(
        "useradd --create-home alice && install -d -o alice -g synkler -m 0770 /home/alice/inbox && \
         cp -p /etc/synkler/synkler.toml /root/before.toml && \
         sed -i 's|^cleanup_script = .*|cleanup_script = \"mv -t /home/alice/inbox %F\"|' /etc/synkler/synkler.toml && \
         synkler drop-in --apply && systemctl restart synkler",
    );
    bed.upload.run("echo 'for alice' >/srv/outgoing/.letter && mv /srv/outgoing/.letter /srv/outgoing/letter");
    bed.upload.wait("test -e /srv/sent/letter");
    bed.download.wait("grep -q 'for alice' /home/alice/inbox/letter && ! test -e /srv/incoming/letter");
    // The rest of the home is not even to be seen.
    let seen = bed.download.run("nsenter -t $(systemctl show -P MainPID synkler) -m ls -A /home/alice");
    assert_eq!(seen.trim(), "inbox");
    bed.download.run(
        "cp -p /root/before.toml /etc/synkler/synkler.toml && synkler drop-in --apply --also /srv && \
         systemctl restart synkler",
    );
}

/// The key of upload, with ssh and rsync of its own.
pub fn key_opens_the_gate_alone(bed: &Bed) {
    let theirs = "/srv/spool/default/held/theirs";
    let look = "ls -lR /srv/spool/other /srv/spool/default/held/theirs /var/lib/synkler/.ssh";
    bed.central.run(&format!(
        "install -d -o synkler -g synkler /srv/spool/other/in/00000001-1 && echo secret >{theirs} && chown synkler: {theirs}"
    ));
    let before = bed.central.run(look);
    let ssh = "ssh -i /var/lib/synkler/ssh_key -o UserKnownHostsFile=/var/lib/synkler/known_hosts -o BatchMode=yes \
               -o IdentitiesOnly=yes";
    let spool = "synkler@central:/srv/spool";
    for attempt in [
        format!("{ssh} synkler@central id"),
        format!("{ssh} synkler@central 'touch /srv/spool/default/in/x'"),
        format!("{ssh} -tt synkler@central"),
        format!("{ssh} -W 127.0.0.1:5672 synkler@central"),
        format!("rsync -r -e '{ssh}' {spool}/default/held/ /root/stolen/"),
        format!("rsync -r -e '{ssh}' {spool}/other/ /root/stolen/"),
        format!("rsync -r -e '{ssh}' synkler@central:/etc/passwd /root/stolen"),
        format!("rsync -r -e '{ssh}' /etc/hostname {spool}/other/in/00000001-1/"),
        format!("rsync -r -e '{ssh}' /etc/hostname {spool}/default/held/"),
        format!("rsync -r -e '{ssh}' /etc/hostname synkler@central:/var/lib/synkler/.ssh/authorized_keys"),
        format!("rsync -r --delete -e '{ssh}' /srv/sent/ {spool}/default/in/"),
    ] {
        let said = bed.upload.try_run(&attempt);
        assert!(said.code != 0 && !said.out.contains("uid="), "{attempt}: {}{}", said.out, said.err);
    }
    bed.upload.run("test ! -e /root/stolen");
    assert_eq!(bed.central.run(look), before);
    bed.central.run(&format!("rm {theirs}"));
}
