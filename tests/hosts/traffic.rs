//! Items that travel, and the proof that each has arrived once.

use std::time::Duration;

use super::bed::Bed;
use super::host::Host;

/// What is under way after a disturbance may have to wait for its next try.
const PATIENCE: Duration = Duration::from_secs(150);
/// What takes an item away at the receiver: a second delivery would find the name taken, and show in the list.
const TAKEN: &str = "#!/bin/sh\nset -e\nmv -nT \"$2\" \"/srv/taken/$1\"\necho \"$1\" >>/srv/taken/.list\n";

/// Has both ends take away what is through: upload moves it to /srv/sent, as README says, download to /srv/taken.
pub fn prepare(bed: &Bed) {
    bed.download.run(&format!(
        "install -d -o synkler -g synkler /srv/taken && printf '%s' '{TAKEN}' >/usr/local/bin/taken && \
         chmod 755 /usr/local/bin/taken"
    ));
    without_inboxes(bed);
    let settings = [
        (&bed.upload, "settle_seconds = 0"),
        (&bed.central, "keep_minutes = 0.1"),
        (&bed.download, "cleanup_script = \"/usr/local/bin/taken %f %F\""),
    ];
    for (host, lines) in settings {
        host.run(&format!("echo '{lines}' >>/etc/synkler/synkler.toml"));
    }
    bed.download.run("synkler drop-in --apply --also /srv");
    for host in bed.hosts() {
        host.run("systemctl restart synkler");
    }
    // Upload's two directories are two mounts: each item is copied, and the check says so.
    bed.upload.run("synklerctl check | tr -s ' \\n' ' ' | grep -q 'on another mount than file_dir'");
    // Below one mount, mv renames; between two it would copy.
    bed.download.run("test $(grep -c ' /srv' /proc/$(systemctl show -P MainPID synkler)/mountinfo) = 1");
}

/// From here on, items are entries of /srv/outgoing itself. Upload knows that after its next start.
pub fn without_inboxes(bed: &Bed) {
    bed.upload.run("sed -i '/^item_depth/d' /etc/synkler/synkler.toml && rmdir /srv/outgoing/customer?");
}

/// What belongs together of what is sent: every name begins with it.
pub struct Batch<'a> {
    bed: &'a Bed,
    label: String,
}

impl<'a> Batch<'a> {
    /// Puts a large file (in MB), small ones, and a directory before upload, each by a rename.
    pub fn send(bed: &'a Bed, label: &str, large: u32) -> Self {
        bed.upload.run(&format!(
            "set -e; new=/srv/outgoing/.{label}; mkdir $new; cd $new; \
             head -c {large}000000 /dev/urandom >{label}-large; \
             for n in 1 2 3 4; do head -c 5$n /dev/urandom >{label}-$n; done; \
             mkdir -p {label}-tree/sub/empty; echo a >{label}-tree/a; head -c 70000 /dev/urandom >{label}-tree/sub/b; \
             ln -s sub/b {label}-tree/link; chown -Rh synkler: {label}-tree; mv {label}-* ..; rmdir $new"
        ));
        Self { bed, label: label.to_owned() }
    }

    /// One that is on its way already.
    pub fn known(bed: &'a Bed, label: &str) -> Self {
        Self { bed, label: label.to_owned() }
    }

    /// Waits until bytes of the large file are coming in on central.
    pub fn until_central_receives(&self) -> &Self {
        self.bed.central.wait("find /srv/spool/default/in -type f -size +900k | grep -q .");
        self
    }

    /// Waits until bytes of the large file are coming in on download.
    pub fn until_download_receives(&self) -> &Self {
        self.bed.download.wait("find /srv/incoming/.synkler -type f -size +900k | grep -q .");
        self
    }

    /// Waits until everything is through at both ends, and looks that nothing is missing, different or doubled.
    pub fn arrives(&self) {
        let Self { bed, label } = self;
        // The source goes last of all.
        bed.upload.wait_for(PATIENCE, &format!("test $(ls /srv/sent | grep -c '^{label}-') = 6"));
        let sums = format!(
            "find {label}-* -type f -exec md5sum {{}} + | sort && find {label}-* ! -type f -printf '%y %p %l\\n' | sort"
        );
        let sent = bed.upload.run(&format!("cd /srv/sent && {sums}"));
        let taken = bed.download.run(&format!("cd /srv/taken && {sums}"));
        assert_eq!(sent, taken, "{label}");
        assert_eq!(sent.lines().count(), 11, "{sent}");
        let list = bed.download.run(&format!("grep '^{label}-' /srv/taken/.list | sort | uniq -c"));
        assert!(list.lines().all(|line| line.trim().starts_with("1 ")), "delivered more than once:\n{list}");
        assert_eq!(list.lines().count(), 6, "{list}");
        for (host, directory) in [(&bed.upload, "/srv/outgoing"), (&bed.download, "/srv/incoming")] {
            nothing_of(host, directory, label);
        }
    }
}

fn nothing_of(host: &Host, directory: &str, label: &str) {
    let left = host.run(&format!("ls {directory} | grep '^{label}-' || true"));
    assert_eq!(left, "", "{}: left in {directory}", host.name);
}
