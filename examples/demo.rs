//! See it work: a private broker, a private sshd and three daemons in a temporary directory hand a few items over
//! (a sample, or copies of the files and directories named as arguments), shown by `synklerctl status` as they move.
//!
//! The program runs itself a second time, as the worker, in a process group of its own, so that Ctrl-C reaches
//! nobody but the first. When that one ends, in whatever way, the worker sees it and takes everything down.

#![allow(unreachable_pub, reason = "the bed is shared by several programs")]
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::disallowed_methods, reason = "it is a show, made with the tests' bed")]

#[path = "../tests/bed/mod.rs"]
mod bed;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bed::node::Node;
use bed::{Bed, tree};
use synkler::drivers::manifest::Site;
use synkler::machine::ItemName;
use tokio::signal::unix::{SignalKind, signal};

/// What the second run of this program is told by, in place of its first argument.
const WORKER: &str = "--worker";
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two snapshots.
const CALM: Duration = Duration::from_millis(700);
/// Nothing moves for this long: something is wrong.
const STUCK: Duration = Duration::from_secs(120);
/// What the large item of the sample weighs, and how fast rsync may move it, so that there is something to see.
const LARGE: usize = 50_000_000;
const BANDWIDTH: &str = "\"--bwlimit=16m\", ";
const INTERRUPTED: u8 = 130;

static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = if arguments.first().is_some_and(|first| first == WORKER) {
        arguments.remove(0);
        work(&arguments)
    } else {
        supervise(&arguments)
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

/// Starts the worker and waits for its end, asking for it on a signal.
fn supervise(arguments: &[OsString]) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(|kind| signal(kind).expect("signals can be handled"));
    let mut worker = Command::new(std::env::current_exe()?)
        .arg(WORKER)
        .args(arguments)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("cannot start this program again")?;
    let lifeline = worker.stdin.take();
    let (ended, end) = tokio::sync::oneshot::channel();
    thread::spawn(move || ended.send(worker.wait()));
    let [interrupt, terminate, hangup] = &mut signals;
    runtime.block_on(async move {
        let mut end = std::pin::pin!(end);
        let status = tokio::select! {
            status = &mut end => status??,
            _ = async { tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} _ = hangup.recv() => {} } } => {
                eprintln!("\nstopping, and taking everything down ...");
                drop(lifeline);
                end.await??;
                return Ok(ExitCode::from(INTERRUPTED));
            }
        };
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    })
}

fn work(paths: &[OsString]) -> Result<ExitCode> {
    thread::spawn(|| {
        // Ends with the one who holds the other end.
        let _ = std::io::stdin().read(&mut [0]);
        STOP.store(true, Ordering::Relaxed);
    });
    check_arguments(paths)?;
    check_programs()?;
    heading("Three hosts on this one");
    println!("starting a private RabbitMQ, a private sshd and three daemons ...");
    let bed = Bed::alone();
    let mut hosts = Hosts::new(&bed, paths.is_empty())?;
    if stopped() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    hosts.start();
    println!("  upload    watches  {}", hosts.upload.file_dir.display());
    println!("  central   spools   {}", hosts.central.file_dir.display());
    println!("  download  receives {}", hosts.download.file_dir.display());
    println!("  then a script moves each item to {} and {}", hosts.sent.display(), hosts.arrived.display());

    let workshop = tree::workshop(&hosts.upload.file_dir);
    if paths.is_empty() {
        make_sample(&workshop)?;
    } else {
        copy_all(paths, &workshop)?;
    }
    let equal = hosts.hand_over(&workshop)?;
    drop(hosts);
    drop(bed);
    if stopped() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    println!("\nthe broker, sshd, daemons and files of the demo are removed; packages from apt stay installed");
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

fn heading(text: &str) {
    println!("\n== {text} {}", "=".repeat(76usize.saturating_sub(text.chars().count())));
}

struct Hosts {
    upload: Node,
    central: Node,
    download: Node,
    sent: PathBuf,
    arrived: PathBuf,
}

impl Hosts {
    fn new(bed: &Bed, slow: bool) -> Result<Self> {
        let (sent, arrived) = (bed.side("sent"), bed.side("arrived"));
        let rsync = format!("rsync_opts = [{}\"--rsh={}\"]\n", if slow { BANDWIDTH } else { "" }, bed.sshd.ssh());
        let ends =
            |to: &Path| format!("{rsync}cleanup_script = [\"mv\", \"-T\", \"--\", \"%F\", \"{}/%f\"]\n", to.display());
        Ok(Self {
            upload: bed.node("upload", "north", &format!("settle_seconds = 1\n{}", ends(&sent))),
            central: bed.node("central", "middle", &format!("central_host = \"{}\"\n", bed::sshd::HOST)),
            download: bed.node("download", "south", &ends(&arrived)),
            sent,
            arrived,
        })
    }

    fn start(&mut self) {
        for node in [&mut self.central, &mut self.download, &mut self.upload] {
            node.start();
        }
        self.central.expect(0, STUCK, &["node announced itself", "download"]);
    }

    /// Renames everything into the watched directory and follows it to the end. Tells whether all of it arrived
    /// equal.
    fn hand_over(&self, workshop: &Path) -> Result<bool> {
        let mut items = BTreeMap::new();
        for entry in fs::read_dir(workshop)? {
            let name = ItemName::new(entry?.file_name().as_bytes())?;
            items.insert(name.clone(), Item { size: size_below(&workshop.join(os(&name)))?, took: None });
        }
        let total: u64 = items.values().map(|item| item.size).sum();
        heading(&format!("{} items of {} are renamed into the upload's directory", items.len(), bytes(total)));
        for (name, item) in &items {
            println!("  {name}  ({})", bytes(item.size));
        }
        let start = Instant::now();
        for name in items.keys() {
            fs::rename(workshop.join(os(name)), self.upload.file_dir.join(os(name)))?;
        }
        self.follow(&mut items, start, total)?;
        if stopped() {
            return Ok(false);
        }
        self.show("central keeps its copies for keep_minutes", start, &self.central);
        self.compare(&items, start.elapsed())
    }

    /// Waits until every item has been taken away from both ends, showing on the way what is worth a look.
    fn follow(&self, items: &mut BTreeMap<ItemName, Item>, start: Instant, total: u64) -> Result<()> {
        let mut scenes = vec![
            Scene { node: &self.upload, stage: "sending", title: "upload sends to central" },
            Scene { node: &self.download, stage: "pulling", title: "download fetches from central" },
        ];
        let (mut shown, mut moved) = (start, (start, 0));
        while !stopped() {
            let mut open = 0;
            for (name, item) in items.iter_mut().filter(|(_, item)| item.took.is_none()) {
                let through =
                    [&self.sent, &self.arrived].iter().all(|dir| fs::symlink_metadata(dir.join(os(name))).is_ok());
                item.took = through.then(|| start.elapsed());
                open += usize::from(!through);
            }
            if open == 0 {
                return Ok(());
            }
            if shown.elapsed() >= CALM
                && let Some(at) = scenes.iter().position(|scene| scene.is_on(total))
            {
                let scene = scenes.remove(at);
                self.show(scene.title, start, scene.node);
                shown = Instant::now();
            }
            let bytes_below = size_below(&self.central.file_dir)? + size_below(&self.download.file_dir)?;
            if bytes_below != moved.1 {
                moved = (Instant::now(), bytes_below);
            }
            if moved.0.elapsed() > STUCK {
                for node in [&self.upload, &self.central, &self.download] {
                    self.show("nothing has moved for two minutes", start, node);
                }
                bail!("{open} items did not arrive");
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn show(&self, title: &str, start: Instant, node: &Node) {
        heading(&format!("{:.1} s: {title}", start.elapsed().as_secs_f64()));
        println!("$ synklerctl status     # on {}", node.mode);
        // Its own colours and width, as on a terminal of one's own.
        let shown = node.ctl().args(["status", "--limit", "12"]).status();
        assert!(shown.is_ok_and(|status| status.success()), "{} does not answer", node.mode);
    }

    fn compare(&self, items: &BTreeMap<ItemName, Item>, took: Duration) -> Result<bool> {
        heading("MD5 at both ends, computed here and now");
        let mut all_equal = true;
        println!("{:<32}  {:<32}  {:>6}  item", "source", "destination", "after");
        for (name, item) in items {
            let [source, destination] = [&self.sent, &self.arrived].map(|dir| digest(dir, name));
            let (source, destination) = (source?, destination?);
            let verdict = if source == destination { "" } else { "   NOT EQUAL" };
            all_equal &= source == destination;
            let after = item.took.unwrap_or_default().as_secs_f64();
            println!("{source}  {destination}  {after:>4.1} s  {name}{verdict}");
        }
        let (count, verdict) = (items.len(), if all_equal { "all equal" } else { "NOT ALL EQUAL" });
        println!("\n{count} items handed over in {:.1} s, {verdict}", took.as_secs_f64());
        Ok(all_equal)
    }
}

struct Item {
    size: u64,
    /// From its appearance at the source until it had been taken away from both ends.
    took: Option<Duration>,
}

struct Scene<'a> {
    node: &'a Node,
    stage: &'static str,
    title: &'static str,
}

impl Scene<'_> {
    /// Whether there is something to see: a run that has come some way, or a short one at all.
    fn is_on(&self, total: u64) -> bool {
        let status = self.node.status(20);
        let transfers = status["transfers"].as_array().cloned().unwrap_or_default();
        let here = transfers.iter().filter(|transfer| transfer["stage"] == self.stage);
        let mut progress = here.map(|transfer| transfer["progress"]["bytes"].as_u64().unwrap_or(0));
        progress.any(|bytes| bytes >= (total / 8).min(8_000_000))
    }
}

/// An item's digest as the daemons define it: for a file the MD5 of its bytes, for a directory that of its
/// manifest, in which every file's MD5 stands.
fn digest(dir: &Path, name: &ItemName) -> Result<String> {
    let site = Site::open(dir, name).context("cannot look at what arrived")?;
    let survey = site.survey()?;
    Ok(site.prove(&survey, &mut |_| {})?.to_string())
}

fn os(name: &ItemName) -> &OsStr {
    OsStr::from_bytes(name.as_bytes())
}

fn make_sample(dir: &Path) -> Result<()> {
    tree::rich_directory(&dir.join("a directory with everything"));
    fs::write(dir.join("film.mkv"), tree::noise(1, LARGE))?;
    fs::write(dir.join("empty"), "")?;
    let odd: [&[u8]; 6] = [
        b"a [b] c.txt",
        b"$(touch pwned)",
        b"two\nlines",
        b"--delete",
        "Grüße 日本 🦀.txt".as_bytes(),
        b"latin-1 \xe9\xff",
    ];
    for (number, name) in odd.into_iter().enumerate() {
        fs::write(dir.join(OsStr::from_bytes(name)), tree::noise(number as u64, 2_000 * (number + 1)))?;
    }
    Ok(())
}

fn check_arguments(paths: &[OsString]) -> Result<()> {
    let mut names = BTreeMap::new();
    for path in paths.iter().map(Path::new) {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("{}: there is no such file or directory", path.display());
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
            Ok(_) => {}
        }
        let name = final_name(path)?;
        ensure!(
            !name.as_bytes().starts_with(b"."),
            "{}: names that begin with a dot are no items, so it would never be sent",
            path.display()
        );
        if let Some(earlier) = names.insert(name, path) {
            bail!("{} and {} have the same name, and would meet at the destination", earlier.display(), path.display());
        }
    }
    Ok(())
}

/// What an item is called, also when the path ends in `..` or a slash.
fn final_name(path: &Path) -> Result<OsString> {
    let whole = || fs::canonicalize(path).ok().and_then(|path| path.file_name().map(OsStr::to_owned));
    path.file_name().map(OsStr::to_owned).or_else(whole).with_context(|| format!("{} has no name", path.display()))
}

fn copy_all(paths: &[OsString], workshop: &Path) -> Result<()> {
    let needed = 4 * paths.iter().map(|path| size_below(Path::new(path))).sum::<Result<u64>>()?;
    let space = rustix::fs::statvfs(workshop)?;
    let free = space.f_bavail * space.f_frsize;
    let place = std::env::temp_dir();
    ensure!(
        free > needed,
        "{} has {} free, and {} are needed for the copies of a hand-over: set TMPDIR to a larger place",
        place.display(),
        bytes(free),
        bytes(needed)
    );
    for path in paths {
        let target = workshop.join(final_name(Path::new(path))?);
        let copied = Command::new("cp").args(["-a", "--"]).arg(path).arg(&target).stdin(Stdio::null()).status()?;
        ensure!(copied.success(), "{} cannot be copied", path.display());
    }
    Ok(())
}

fn check_programs() -> Result<()> {
    let needed = [
        ("/usr/bin/rsync", "rsync"),
        ("/usr/bin/ssh", "openssh-client"),
        ("/usr/sbin/sshd", "openssh-server"),
        ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"),
    ];
    let missing: Vec<_> = needed.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, name)| *name).collect();
    ensure!(missing.is_empty(), "missing packages: apt-get install {}", missing.join(" "));
    Ok(())
}

/// The bytes of all files at and below a path; what vanishes meanwhile counts as nothing.
fn size_below(path: &Path) -> Result<u64> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(0) };
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    let Ok(entries) = fs::read_dir(path) else { return Ok(0) };
    entries.flatten().map(|entry| size_below(&entry.path())).sum()
}

fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}
