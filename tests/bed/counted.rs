//! An rsync that writes down when it was started, and how many bytes each file took.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Bed;

/// What the kernel calls a second in `/proc/PID/stat`.
const TICKS: u64 = 100;
/// A moment by the kernel's clock may be this much older.
pub const TICK: Duration = Duration::from_millis(1000 / TICKS);

pub struct Counted {
    /// The line of the config that puts it in rsync's place.
    pub setting: String,
    log: PathBuf,
}

impl Counted {
    pub fn new(bed: &Bed) -> Self {
        let log = bed.dir.path().join("rsync.log");
        // The kernel knows when this process was made, whatever kept it from its first line.
        let text = format!(
            "if [ \"$1\" != --version ]; then\n\
             read -r stat <\"/proc/$$/stat\"\n\
             echo \"started $stat\" >>'{log}'\n\
             set -- --log-file='{log}' --log-file-format='moved %b %n' \"$@\"\n\
             fi\n\
             exec /usr/bin/rsync \"$@\"",
            log = log.display()
        );
        Self { setting: format!("rsync = \"{}\"\n", bed.script("rsync", &text).display()), log }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The bytes that a file of that name took on its last way.
    pub fn moved(&self, name: &str) -> u64 {
        let text = self.text();
        let mut moved = text.lines().rev().filter_map(|line| line.split_once("moved ")?.1.split_once(' '));
        let last = moved.find(|(_, moved)| moved.rsplit('/').next() == Some(name));
        last.unwrap_or_else(|| panic!("{name} has not been moved:\n{text}")).0.parse().unwrap()
    }

    /// When each run was started, since the boot.
    pub fn starts(&self) -> Vec<Duration> {
        let text = self.text();
        let ticks =
            text.lines().filter_map(|line| line.strip_prefix("started ")?.rsplit_once(") ")?.1.split(' ').nth(19));
        ticks.map(|ticks| Duration::from_millis(ticks.parse::<u64>().unwrap() * 1000 / TICKS)).collect()
    }
}

/// Now, by the clock of [`Counted::starts`].
pub fn since_boot() -> Duration {
    let text = fs::read_to_string("/proc/uptime").unwrap();
    Duration::from_secs_f64(text.split(' ').next().unwrap().parse().unwrap())
}

/// The only file below `dir` that is at least half a megabyte long: what has come of a large one.
pub fn partial(dir: &Path) -> Option<PathBuf> {
    fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let meta = fs::symlink_metadata(entry.path()).ok()?;
        if meta.is_dir() { partial(&entry.path()) } else { (meta.len() > 1 << 19).then(|| entry.path()) }
    })
}
