//! Two nodes on each host: what arrives in one group goes on in another.

use super::bed::Bed;
use super::host::Host;

/// The way: upload (first) -> central -> download (first, then upload of second) -> central -> upload (second).
pub fn deliver(bed: &Bed) {
    let spool = "/srv/chain";
    for host in bed.hosts() {
        host.run(&format!("install -d -o synkler -g synkler {spool} {spool}/from {spool}/through {spool}/to"));
    }
    for id in ["first", "second"] {
        let (from, to) = if id == "first" { ("upload", "download") } else { ("download", "upload") };
        let said = bed
            .central
            .run(&format!("synkler broker-setup --apply --id {id} central:central upload:{from} download:{to}"));
        node(bed, &bed.central, id, "central", &format!("{spool}/{id}"), "--make-dir", &said);
        let through = if id == "first" { format!("--cleanup-script 'mv %F {spool}/through/'") } else { String::new() };
        let (source, target) = if id == "first" { ("from", "in") } else { ("through", "to") };
        node(bed, bed.host(from), id, "upload", &format!("{spool}/{source}"), "--cleanup-script 'rm -r %F'", &said);
        node(bed, bed.host(to), id, "download", &format!("{spool}/{target}"), &format!("--make-dir {through}"), &said);
    }
    bed.upload.run(&format!(
        "cd {spool} && mkdir from/.new && head -c 3000000 /dev/urandom >from/.new/file && md5sum <from/.new/file >sum && \
         mkdir from/.new/tree && echo deep >from/.new/tree/leaf && chown -R synkler from/.new && mv from/.new/* from/"
    ));
    bed.upload.wait(&format!("cd {spool} && md5sum <to/file | cmp - sum && grep -q deep to/tree/leaf"));
    for (host, place) in [(&bed.upload, "from"), (&bed.download, "in"), (&bed.download, "through")] {
        host.wait(&format!("test -z \"$(ls {spool}/{place})\""));
    }
    // Each node has its own name in the journal, its own state and socket.
    bed.download.run(
        "journalctl -t synkler-first SYNKLER_ITEM=tree | grep -q . && journalctl -t synkler-second SYNKLER_ITEM=tree | grep -q . && \
         test -s /var/lib/synkler/first/journal.db && synklerctl --id first status && synklerctl --id second status",
    );
    for host in bed.hosts() {
        host.run("systemctl disable --now synkler@first synkler@second");
    }
}

/// Sets up one node with options alone, as where there is no terminal.
fn node(bed: &Bed, host: &Host, id: &str, mode: &str, directory: &str, more: &str, accounts: &str) {
    let head = format!("On {mode} {}:", host.name);
    let password = accounts.lines().skip_while(|line| !line.starts_with(&head)).nth(1).unwrap_or_default().trim();
    let synkler = format!("synkler --config /etc/synkler/{id}.toml");
    host.run(&format!(
        "echo {password} | {synkler} init {mode} --id {id} --file-dir {directory} --server central --password-file - {more} && \
         {synkler} drop-in --apply --also /srv/chain"
    ));
    if mode != "central" {
        let print = bed.central.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
        let print = print.split(' ').nth(1).unwrap();
        host.run(&format!("{synkler} trust central --fingerprint {print}"));
        let line = host.run(&format!("{synkler} keys --spool /srv/chain/{id}/{id}"));
        bed.central.run(&format!("echo '{}' >>/var/lib/synkler/.ssh/authorized_keys", line.trim()));
    }
    host.run(&format!("systemctl enable --now synkler@{id}"));
}
