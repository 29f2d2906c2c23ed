//! inotify: whether upload's directory can be watched, and how much of the limits is used.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

use super::{LOCAL_LIMIT, blocking, failed, ok, skipped, stuck, warning};
use crate::config::Settings;
use crate::control::types::Finding;
use crate::drivers::watch;
use crate::machine::{Mode, one_line};

const CHECK: &str = "inotify";
/// The suggested value of a limit.
const WATCHES: u64 = 524_288;
const INSTANCES: u64 = 1024;

/// The limits, and how much of them this user uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Limits {
    /// `fs.inotify.max_user_*`, or the lower limit of a container.
    watches: u64,
    instances: u64,
    /// Whether the limit is that of a container.
    own: bool,
    watches_used: u64,
    instances_used: u64,
}

pub(super) async fn examine(settings: &Settings) -> Finding {
    if settings.mode() != Mode::Upload {
        return skipped(CHECK, "only an upload watches a directory");
    }
    let dir = settings.file_dir.clone();
    match blocking(LOCAL_LIMIT, move || (watch::probe(&dir), limits())).await {
        Some((watched, limits)) => word(watched.map_err(errno), limits),
        None => stuck(CHECK, &settings.file_dir.display().to_string(), LOCAL_LIMIT),
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn word(watched: Result<(), Errno>, limits: Limits) -> Finding {
    let Limits { watches, instances, watches_used, instances_used, own } = limits;
    let used = format!("{watches_used} of {watches} watches and {instances_used} of {instances} instances are used");
    let polled = "file_dir is scanned every few seconds instead";
    let tree = if own { "user.max_inotify" } else { "fs.inotify.max_user" };
    match watched {
        Ok(()) if watches_used >= watches / 10 * 9 => {
            warning(CHECK, format!("{used}: the limit is close"), raise(&format!("{tree}_watches"), WATCHES))
        }
        Ok(()) if instances_used >= instances / 10 * 9 => {
            warning(CHECK, format!("{used}: the limit is close"), raise(&format!("{tree}_instances"), INSTANCES))
        }
        Ok(()) => ok(CHECK, used),
        Err(Errno::NOSPC) => failed(
            CHECK,
            format!("the inotify watches of this user are used up ({used}): {polled}"),
            raise(&format!("{tree}_watches"), WATCHES),
        ),
        Err(Errno::MFILE) => failed(
            CHECK,
            format!(
                "the inotify instances of this user are used up ({used}), or the open files of the process: {polled}"
            ),
            format!(
                "{}; for open files: systemctl edit synkler, with LimitNOFILE=4096 below [Service]",
                raise(&format!("{tree}_instances"), INSTANCES)
            ),
        ),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => skipped(CHECK, "file_dir must be fixed first"),
        Err(errno) => failed(
            CHECK,
            format!("inotify fails: {}: {polled}", one_line(&io::Error::from(errno).to_string())),
            "zgrep CONFIG_INOTIFY_USER /proc/config.gz /boot/config-$(uname -r) shows whether the kernel supports \
             inotify",
        ),
    }
}

fn raise(key: &str, value: u64) -> String {
    format!("sysctl -w {key}={value}, and to keep it: echo {key}={value} > /etc/sysctl.d/60-synkler.conf")
}

fn limits() -> Limits {
    let read = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let host = [read("/proc/sys/fs/inotify/max_user_watches"), read("/proc/sys/fs/inotify/max_user_instances")];
    let namespace = [read("/proc/sys/user/max_inotify_watches"), read("/proc/sys/user/max_inotify_instances")];
    let [watches, instances] = [0, 1].map(|which: usize| {
        let host = host.get(which).copied().flatten().unwrap_or(u64::MAX);
        let own = namespace.get(which).copied().flatten().unwrap_or(u64::MAX);
        (host.min(own), own < host)
    });
    let (watches_used, instances_used) = used();
    Limits { watches: watches.0, instances: instances.0, own: watches.1 || instances.1, watches_used, instances_used }
}

/// The watches and instances of all processes of this user that can be examined.
fn used() -> (u64, u64) {
    let me = rustix::process::geteuid().as_raw();
    let (mut watches, mut instances) = (0, 0);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    for process in processes.filter(|path| fs::metadata(path).is_ok_and(|meta| meta.uid() == me)) {
        for fd in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            if fs::read_link(fd.path()).is_ok_and(|link| link == Path::new("anon_inode:inotify")) {
                instances += 1;
                let info = fs::read_to_string(process.join("fdinfo").join(fd.file_name())).unwrap_or_default();
                watches += info.lines().filter(|line| line.starts_with("inotify ")).count() as u64;
            }
        }
    }
    (watches, instances)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_own_cure() {
        let limits = Limits { watches: 100, instances: 128, own: false, watches_used: 10, instances_used: 3 };
        assert_eq!(word(Ok(()), limits).result, "ok");
        let full = word(Err(Errno::NOSPC), Limits { watches_used: 100, ..limits });
        assert_eq!(full.result, "failed");
        assert!(full.cure.unwrap().starts_with("sysctl -w fs.inotify.max_user_watches=524288"));
        let contained = word(Err(Errno::NOSPC), Limits { own: true, ..limits });
        assert!(contained.cure.unwrap().starts_with("sysctl -w user.max_inotify_watches="));
        assert!(word(Err(Errno::MFILE), limits).cure.unwrap().starts_with("sysctl -w fs.inotify.max_user_instances="));
        assert_eq!(word(Ok(()), Limits { instances_used: 120, ..limits }).result, "warning");
        assert_eq!(word(Err(Errno::NOENT), limits).result, "skipped");
    }

    #[test]
    fn what_is_used_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let inotify = inotify::Inotify::init().unwrap();
        inotify.watches().add(dir.path(), inotify::WatchMask::CREATE).unwrap();
        let (watches, instances) = used();
        assert!(watches >= 1 && instances >= 1, "{watches} {instances}");
    }
}
