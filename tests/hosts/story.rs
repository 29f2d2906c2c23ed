//! What happens on three hosts: one bed for all of it, because a bed takes a minute to make.

use std::time::Instant;

use super::bed::Bed;
use super::traffic::Batch;
use super::{chain, chapter, confined, disturbances, original, package, seen, traffic, users};

#[test]
fn three_hosts_do_as_the_readme_says_and_outlive_what_happens_to_them() {
    let mut bed = timed("three booted hosts", Bed::new);
    timed("the README's chapter", || chapter::follow(&bed));
    timed("what systemd and the journal show", || seen::look(&bed));
    timed("a stop is a stop", || seen::stop(&bed));
    timed("both ends take away what is through", || traffic::prepare(&bed));
    timed("the service's box", || confined::box_is_tight(&bed));
    timed("a script into another's home", || confined::script_reaches_another_owner(&bed));
    timed("reload", || disturbances::reload(&bed));
    timed("restart", || disturbances::restart(&bed));
    timed("kill", || disturbances::kill(&bed));
    timed("freeze", || disturbances::freeze(&bed));
    timed("no broker", || disturbances::no_broker(&bed));
    let mut under_way = Vec::new();
    timed("no network", || {
        disturbances::no_network(&mut bed, |bed| {
            timed("a key in wrong hands", || confined::key_opens_the_gate_alone(bed));
            for name in ["upload", "central"] {
                under_way.push(timed(&format!("reboot of {name}"), || disturbances::reboot(bed, name)));
            }
        });
    });
    under_way.push(timed("reboot of download", || disturbances::reboot(&mut bed, "download")));
    timed("what the reboots met arrives", || {
        under_way.iter().for_each(|label| Batch::known(&bed, label).arrives());
    });
    timed("upgrade while 200 MB travel", || package::upgrade(&bed));
    timed("a chain of two groups", || chain::deliver(&bed));
    timed("remove and purge", || package::remove_and_purge(&bed));
    timed("a config of the original program", || original::goes_on(&bed));
}

#[test]
fn whose_the_files_are() {
    let bed = timed("three booted hosts", Bed::new);
    timed("the README's chapter", || chapter::follow(&bed));
    traffic::without_inboxes(&bed);
    bed.upload.run("systemctl restart synkler");
    timed("two writers with umask 077", || users::writers_with_umask_077(&bed));
    timed("the service as another user", || users::as_a_user(&bed));
    timed("a directory that several share", || users::shared_directory(&bed));
    timed("a node of a user", || users::user_unit(&bed));
}

fn timed<T>(what: &str, step: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    eprintln!("--- {what}");
    let outcome = step();
    eprintln!("--- {what}: {:.1} s", start.elapsed().as_secs_f64());
    outcome
}
