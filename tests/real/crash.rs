//! SIGKILL, anywhere, to anyone: everything is delivered exactly once, by itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bed::node::{Node, wait_for};
use crate::bed::{Bed, sshd, tree};

const LONG: Duration = Duration::from_secs(180);

/// How many are handed in at once.
const ITEMS: usize = 3;

/// Points of a transfer: who says what when it is there.
const POINTS: &[(&str, &str)] = &[
    ("upload", "settled"),
    ("central", "offered"),
    ("upload", "rsync starts"),
    ("upload", "sent to central"),
    ("central", "copy on central verified"),
    ("download", "rsync starts"),
    ("download", "fetched and verified"),
    ("download", "delivered"),
    ("central", "all receipts are in"),
    ("download", "cleanup"),
    ("upload", "cleanup"),
    ("upload", "succeeded"),
];

/// How items are cleaned up at both ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Script,
    /// Moved within one file system.
    Move,
    /// Moved to another file system.
    Copy,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Upload,
    Central,
    Download,
    Broker,
    Sshd,
}

struct Scene {
    bed: Bed,
    nodes: BTreeMap<&'static str, Node>,
    sent: PathBuf,
    arrived: PathBuf,
    /// The other file system.
    _elsewhere: Option<tempfile::TempDir>,
    /// Everything handed in so far.
    expected: BTreeMap<PathBuf, tree::Seen>,
}

impl Scene {
    fn new(victim: Victim, way: Way) -> Self {
        let bed = if victim == Victim::Broker { Bed::alone() } else { Bed::new() };
        let elsewhere = (way == Way::Copy).then(|| tempfile::tempdir_in("/dev/shm").unwrap());
        let (sent, arrived) = match &elsewhere {
            Some(dir) => (dir.path().join("sent"), dir.path().join("arrived")),
            None => (bed.side("sent"), bed.side("arrived")),
        };
        for dir in [&sent, &arrived] {
            fs::create_dir_all(dir).unwrap();
            let device = |path: &Path| path.metadata().unwrap().dev();
            assert_eq!(device(dir) != device(bed.dir.path()), way == Way::Copy, "/dev/shm and /tmp");
        }
        // A second delivery of the same item would find its place taken and fail for ever.
        let script = |to: &PathBuf| {
            if way != Way::Script {
                return format!("cleanup_move = {to:?}\n");
            }
            format!("cleanup_script = [\"mv\", \"-n\", \"-T\", \"--\", \"%F\", \"{}/%f\"]\n", to.display())
        };
        let upload = bed.upload("up", &format!("settle_seconds = 0\n{}", script(&sent)));
        let central = bed.central("mid", "keep_minutes = 0.02\nreceivers = [\"down\"]\n");
        let download = bed.download("down", &script(&arrived));
        let mut nodes = BTreeMap::from([("central", central), ("download", download), ("upload", upload)]);
        nodes.values_mut().for_each(Node::start);
        let mut scene = Self { bed, nodes, sent, arrived, _elsewhere: elsewhere, expected: BTreeMap::new() };
        // A group at work: RabbitMQ can lose a queue for good when it is killed in its first second.
        scene.hand_in("warm");
        assert!(scene.nodes["upload"].log.wait(0, ITEMS, LONG, |line| line.contains("handed over")));
        scene
    }

    /// Hands in a file big enough to be hit on its way, a small one and a directory.
    fn hand_in(&mut self, round: &str) {
        let from = self.nodes["upload"].file_dir.clone();
        let workshop = tree::workshop(&from);
        fs::write(workshop.join(format!("{round}-large")), tree::noise(round.len() as u64, 12 << 20)).unwrap();
        fs::write(workshop.join(format!("{round}-small [x] y")), round).unwrap();
        tree::rich_directory(&workshop.join(format!("{round}-directory")));
        self.expected.extend(tree::survey(&workshop));
        for entry in fs::read_dir(&workshop).unwrap() {
            let entry = entry.unwrap();
            fs::rename(entry.path(), from.join(entry.file_name())).unwrap();
        }
    }

    fn strike(&mut self, victim: Victim) {
        match victim {
            Victim::Upload => self.restart("upload"),
            Victim::Central => self.restart("central"),
            Victim::Download => self.restart("download"),
            Victim::Broker => {
                let mut rabbit = self.bed.rabbit.lock().unwrap();
                rabbit.kill();
                rabbit.restart();
            }
            Victim::Sshd => {
                self.bed.sshd.kill();
                self.bed.sshd.restart();
            }
        }
    }

    fn restart(&mut self, mode: &str) {
        let node = self.nodes.get_mut(mode).unwrap();
        let children = sshd::descendants(node.pid());
        // A cleanup script may go on; what moves bytes may not.
        let movers = children.into_iter().filter(|pid| matches!(sshd::comm(*pid).as_deref(), Some("rsync" | "ssh")));
        let movers: Vec<_> = movers.collect();
        node.kill();
        assert!(
            wait_for(Duration::from_secs(5), || !movers.iter().any(|pid| sshd::alive(*pid))),
            "an rsync has outlived its {mode}"
        );
        node.start();
    }

    /// All that was handed in is over on all three, once.
    fn all_over(&self) {
        let upload = &self.nodes["upload"];
        // What a killed daemon had done may be missing in its log, so the files tell.
        let moved = |dir: &Path| fs::read_dir(dir).unwrap().count();
        let items = (POINTS.len() + 1) * ITEMS;
        if !wait_for(LONG, || moved(&self.sent) == items && moved(&self.arrived) == items) {
            panic!("not over within {LONG:?}: {:#}\n{:#}", upload.status(50), self.nodes["download"].status(50));
        }
        self.nodes.values().for_each(|node| node.until_idle(LONG));
        let arrived = tree::survey(&self.arrived);
        for (path, seen) in &self.expected {
            assert_eq!(arrived.get(path), Some(seen), "{path:?}");
        }
        assert_eq!(arrived.len(), self.expected.len());
        assert!(tree::survey(&self.sent) == self.expected, "the source's own script has got the very same");
        assert!(tree::survey(&upload.file_dir).is_empty());
        let download = &self.nodes["download"];
        assert!(
            tree::survey(&download.file_dir).is_empty(),
            "something was delivered twice: {:?}",
            tree::survey(&download.file_dir).keys()
        );
        for (mode, node) in &self.nodes {
            assert_eq!(node.log.count(|line| line.contains("ERROR")), 0, "{mode} logged errors:\n{}", node.log.text());
        }
    }
}

fn kill_at_every_point(victim: Victim, way: Way) {
    let mut scene = Scene::new(victim, way);
    for (round, (mode, point)) in POINTS.iter().enumerate() {
        let mark = scene.nodes[mode].log.mark();
        scene.hand_in(&round.to_string());
        scene.nodes[mode].expect(mark, LONG, &[&format!("{round}-large"), point]);
        scene.strike(victim);
    }
    scene.all_over();
}

#[test]
fn upload_is_killed_at_any_point() {
    kill_at_every_point(Victim::Upload, Way::Script);
}

#[test]
fn central_is_killed_at_any_point() {
    kill_at_every_point(Victim::Central, Way::Script);
}

#[test]
fn download_is_killed_at_any_point() {
    kill_at_every_point(Victim::Download, Way::Script);
}

#[test]
fn the_broker_is_killed_at_any_point() {
    kill_at_every_point(Victim::Broker, Way::Script);
}

#[test]
fn sshd_is_killed_at_any_point() {
    kill_at_every_point(Victim::Sshd, Way::Script);
}

#[test]
fn upload_and_download_are_killed_while_they_move_items_away() {
    kill_at_every_point(Victim::Upload, Way::Move);
    kill_at_every_point(Victim::Download, Way::Move);
}

#[test]
fn upload_and_download_are_killed_while_they_copy_items_to_another_file_system() {
    kill_at_every_point(Victim::Upload, Way::Copy);
    kill_at_every_point(Victim::Download, Way::Copy);
}
