//! What `explain` says in each case: the paths of all three nodes, by the daemon itself, and what an item waits for.

use std::fs;
use std::path::Path;

use synkler::cli::{Explained, Look, Text, Writer, explanation_text};
use synkler::config::{Environment, Settings, load};
use synkler::control::types::{Explanation, Reason as Shown};
use synkler::daemon::explain;
use synkler::machine::{Cause, Mode, Reason, State};

use crate::group::{NOW, unsettled};

/// How the directory of each node is called in the golden files.
const SHOWN: &str = "/srv/outgoing";

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for inbox in ["files/customerA", "files/.synkler/default"] {
            fs::create_dir_all(dir.path().join(inbox)).unwrap();
        }
        fs::write(dir.path().join("files/loose"), "x").unwrap();
        Self { dir }
    }

    fn files(&self) -> std::path::PathBuf {
        self.dir.path().join("files")
    }

    fn settings(&self, mode: &str, lines: &str) -> Settings {
        let path = self.dir.path().join(format!("{mode}.toml"));
        let files = self.files();
        fs::write(&path, format!("mode = {mode:?}\nfile_dir = {files:?}\nsynkler_server = \"mq\"\n{lines}")).unwrap();
        let environment = Environment::new("box").with("HOME", self.dir.path().to_str().unwrap());
        load(Some(&path), &environment).unwrap().settings
    }

    fn explained(&self, settings: &Settings, path: &str) -> Explained {
        let told = explain(settings, path.as_bytes());
        let replace = |text: &str| text.replace(self.files().to_str().unwrap(), SHOWN);
        let explanation = Explanation { path: replace(&told.path), text: replace(&told.text), ..told };
        Explained { explanation, writers: Vec::new(), transfer: None }
    }
}

/// Every case, one after the other.
pub(crate) fn cases(look: Look<'_>) -> Text {
    let bench = Bench::new();
    let depth =
        "item_depth = 1\nignore = [\"*.part\", \"customerB/*.tmp\"]\nonly = [\"*.csv\", \"*.part\", \"run-*\"]\n";
    let inboxes = bench.settings("upload", depth);
    let marked = bench.settings("upload", "ready = \"marker\"\nmarker = \"%f.done\"\n");
    let submitted = bench.settings("upload", "ready = \"submit\"\n");
    let (central, download) = (bench.settings("central", ""), bench.settings("download", ""));
    let transfer = "01936f2a-5c00-7a31-9d42-6b1f0c8e2a77";
    let long = format!("customerA/{}.csv", "x".repeat(300));
    let copy = format!("default/held/{transfer}/one.csv");
    let staged = format!(".synkler/default/{transfer}/one.csv");
    let mut all = Vec::new();
    for (settings, path, verdict) in [
        (&inboxes, "", "permanent"),
        (&inboxes, "customerA", "permanent"),
        (&inboxes, "customerA/one.csv", "item"),
        (&inboxes, "customerA/run-1/a", "inside"),
        (&inboxes, "customerA/run-1/a.part", "inside"),
        (&inboxes, "customerA/big.iso.part", "ignored"),
        (&inboxes, "customerB/one.tmp", "ignored"),
        (&inboxes, "customerA/one.pdf", "unwanted"),
        (&inboxes, "customerA/.one.csv", "hidden"),
        (&inboxes, &long, "unusable"),
        (&inboxes, "loose", "too_high"),
        (&inboxes, "nothing-here", "too_high"),
        (&inboxes, ".synkler", "own"),
        (&inboxes, "/etc/hosts", "outside"),
        (&marked, "one.csv", "item"),
        (&marked, "one.csv.done", "marker"),
        (&submitted, "one.csv", "item"),
        (&central, "", "own"),
        (&central, "default/held", "own"),
        (&central, &copy, "copy"),
        (&central, "default/in/00c0ffee-12/one.csv", "copy"),
        (&central, "one.csv", "name"),
        (&download, "", "own"),
        (&download, &staged, "copy"),
        (&download, ".synkler", "own"),
        (&download, "customerA/one.csv", "name"),
    ] {
        let explained = bench.explained(settings, path);
        assert_eq!(explained.explanation.verdict, verdict, "{path}: {:?}", explained.explanation);
        all.push(explained);
    }
    all.extend(waits());
    let lines = all.iter().flat_map(|explained| explanation_text(explained, NOW, look).lines);
    Text { lines: lines.collect() }
}

/// An item that waits, for each of the causes.
fn waits() -> impl Iterator<Item = Explained> {
    let (up, down) = ("upload alpha", "download delta");
    [
        (up, "settling", Cause::Settling, ""),
        (up, "blocked", Cause::Busy, "run-42/a"),
        (up, "blocked", Cause::Incomplete, "it contains a.part"),
        (up, "blocked", Cause::Unmarked, "run-42.done is missing"),
        (up, "blocked", Cause::TooHigh, ""),
        (up, "blocked", Cause::Unreadable, "/srv/outgoing/run-42/a: permission denied"),
        (up, "blocked", Cause::Special, "run-42/fifo"),
        (up, "announced", Cause::Unmounted, "run-42"),
        (up, "announced", Cause::Directory, "no marker of this node"),
        (up, "cleaning", Cause::Cleanup, "it exited with code 1"),
        (down, "queued", Cause::Unfit, "`A`, `a`: the file system does not distinguish these names"),
        (down, "queued", Cause::Modes, "mode 0640 announced, 0777 kept (fuse)"),
        (down, "placing", Cause::NameTaken, ""),
        (down, "placing", Cause::Storage, "owner: operation not permitted"),
    ]
    .into_iter()
    .map(move |(node, stage, cause, detail)| {
        let reason = Reason::with(cause, detail);
        let mut told = unsettled();
        let shown = Shown { code: reason.cause().code().to_owned(), text: reason.to_string() };
        let transfer = &mut told.journey.transfer;
        (transfer.item, transfer.item_encoded) = ("run-42".to_owned(), "run-42".to_owned());
        let mode = if node == up { Mode::Upload } else { Mode::Download };
        transfer.state = State::of(mode, stage, cause, 1).as_str().to_owned();
        let is_announced = !["settling", "blocked"].contains(&stage);
        transfer.id = is_announced.then(|| "01936f2a-5c00-7a31-9d42-6b1f0c8e2a77".to_owned());
        (transfer.node, transfer.stage, transfer.reason) = (node.to_owned(), stage.to_owned(), shown.clone());
        for step in &mut told.journey.steps {
            (step.node, step.stage, step.reason) = (node.to_owned(), stage.to_owned(), Some(shown.clone()));
        }
        let path = Path::new(SHOWN).join("run-42");
        let explanation = Explanation {
            path: path.to_str().unwrap().to_owned(),
            verdict: "item".to_owned(),
            text: "an item of this upload".to_owned(),
            items: vec!["run-42".to_owned()],
        };
        let of_busy = Writer { pid: 4711, name: "vsftpd".to_owned(), path: format!("{SHOWN}/run-42/a") };
        let writers = if cause == Cause::Busy { vec![of_busy] } else { Vec::new() };
        Explained { explanation, writers, transfer: Some(told) }
    })
}
