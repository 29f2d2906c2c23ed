//! The validated stage: reads every key, and checks it alone and against the others.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::machine::{Extra, GroupId, Keep, KeepModes, Location, Mode, Node, NodeName};

use super::cleanup::CLEANUP_KEYS;
use super::environment::Environment;
use super::keys::{KEYS, Preset};
use super::merged::{Found, Merged, Origin};
use super::ownership::OWNERSHIP_KEYS;
use super::reading::{Reading, Row, absolute, shown_words};
use super::rsync_options::{judge, split_csv};
use super::settings::{Percent, Role, Rsync, Settings};
use super::shown_path;

/// The longest `keep_minutes`: ten years.
const KEEP_MINUTES_LIMIT: u32 = 10 * 366 * 24 * 60;
/// The longest `settle_seconds`: a day.
const SETTLE_SECONDS_LIMIT: u32 = 24 * 60 * 60;
/// The longest `history_days`: a century.
const HISTORY_DAYS_LIMIT: u32 = 36_500;
/// The maximum number of parallel rsync runs.
const TRANSFERS_LIMIT: u32 = 64;
/// The maximum number of receivers in the list.
const RECEIVERS_LIMIT: usize = 1000;
/// The maximum length of a socket address, in bytes, without its closing NUL.
const SOCKET_PATH_LIMIT: usize = 107;

/// All or nothing: `None` means that `problems` has entries.
pub(super) fn validate(
    merged: &Merged,
    environment: &Environment,
    problems: &mut Vec<String>,
    notices: &mut Vec<String>,
) -> Option<(Settings, Vec<Row>)> {
    let mut reading = Reading::new(merged, environment, problems, notices);
    let settings = reading.settings()?;
    let rows = reading.into_rows(settings.mode());
    Some((settings, rows))
}

impl Reading<'_> {
    /// Reads every key before it fails, so that all problems are reported at once.
    fn settings(&mut self) -> Option<Settings> {
        let mode = self.parse("mode", |text| text.parse::<Mode>().map_err(|e| e.to_string()), Mode::to_string);
        let group = self.parse("id", |text| text.parse::<GroupId>().map_err(|e| e.to_string()), GroupId::to_string);
        let name = self.name();
        let file_dir = self.path("file_dir");
        let broker = self.broker(mode.zip(group.as_ref()).map(|(mode, group)| format!("{group}-{mode}")).as_deref());
        let central_host = self.central_host(broker.as_ref().map(|broker| broker.host.as_str()));
        let rsync = self.rsync();
        let cleanup = self.cleanup(file_dir.as_deref());
        let receivers = self.receivers();
        let lasts = self.duration("keep_minutes", 60, KEEP_MINUTES_LIMIT, true);
        let free = self.decimal("free_percent", 99, true).and_then(|millionths| u32::try_from(millionths / 1000).ok());
        let keep = self.keep(rsync.as_ref());
        let keep_modes = self.parse("keep_modes", str::parse::<KeepModes>, |word| word.as_str().to_owned());
        let ownership = self.ownership(mode, cleanup.as_ref().and_then(Option::as_ref));
        let settle = self.duration("settle_seconds", 1, SETTLE_SECONDS_LIMIT, true);
        let items = self.item_patterns(mode);
        let slots = self.whole("transfers", 1, TRANSFERS_LIMIT);
        let history = self.whole("history_days", 1, HISTORY_DAYS_LIMIT);
        let (mode, group) = (mode?, group?);
        let state_dir = self.state_dir(mode, &group);
        let control_socket = self.control_socket(mode, &group, state_dir.as_deref());
        self.notice_ignored(mode);
        let (file_dir, state_dir, control_socket) = (file_dir?, state_dir?, control_socket?);
        if mode == Mode::Upload {
            self.outside(&file_dir, "state_dir", &state_dir);
            self.outside(&file_dir, "control_socket", &control_socket);
        }
        let central_host = central_host?;
        if mode == Mode::Central {
            self.reachable(&central_host, &file_dir, &group);
        }
        let role = match mode {
            Mode::Upload => {
                Role::Upload { settle: settle?, slots: slots?, cleanup: cleanup?, items: items?, keep: keep? }
            }
            Mode::Central => Role::Central {
                host: central_host,
                receivers: receivers?,
                keep: lasts?,
                free: Percent::from_thousandths(free?),
                keep_modes: keep_modes?,
            },
            Mode::Download => {
                Role::Download { slots: slots?, cleanup: cleanup?, keep_modes: keep_modes?, ownership: ownership? }
            }
        };
        let (node, broker, rsync) = (Node::new(mode, name?), broker?, rsync?);
        let history = Duration::from_secs(u64::from(history?) * 24 * 60 * 60);
        Some(Settings { node, group, file_dir, broker, history, state_dir, control_socket, rsync, role })
    }

    fn name(&mut self) -> Option<NodeName> {
        if self.find("name").is_some() {
            return self.parse("name", |text| text.parse::<NodeName>().map_err(|e| e.to_string()), NodeName::to_string);
        }
        let host_name = self.environment.host_name();
        match host_name.parse::<NodeName>() {
            Ok(name) => {
                self.show("name", name.as_str(), &Origin::Derived("host name".to_owned()));
                Some(name)
            }
            Err(error) => {
                self.refuse("name", &format!("is not set, and the host name is not allowed: {error}; set name"));
                None
            }
        }
    }

    fn central_host(&mut self, server: Option<&str>) -> Option<String> {
        if self.find("central_host").is_some() {
            let parse = |host: &str| Location::new(host, "/").map(|_| host.to_owned()).map_err(|e| e.to_string());
            return self.parse("central_host", parse, Clone::clone);
        }
        let server = server?;
        let host = if server.contains(':') { format!("[{server}]") } else { server.to_owned() };
        self.show("central_host", &host, &Origin::Derived("value of synkler_server".to_owned()));
        Some(host)
    }

    /// Other nodes must accept the path that central sends to them.
    fn reachable(&mut self, host: &str, file_dir: &Path, group: &GroupId) {
        let found = file_dir.join(group.as_str());
        let problem = match found.to_str().map(|path| Location::new(host, path)) {
            Some(Ok(_)) => return,
            Some(Err(error)) => error.to_string(),
            None => "the path is not UTF-8".to_owned(),
        };
        self.refuse("file_dir", &format!("on central, the other nodes pass it to rsync: {problem}"));
    }

    /// No file of ours may be where everything is sent.
    fn outside(&mut self, file_dir: &Path, key: &str, path: &Path) {
        if path.starts_with(file_dir) {
            let (path, file_dir) = (shown_path(path), shown_path(file_dir));
            self.refuse(key, &format!("found {path:?}, allowed on upload is a place outside file_dir {file_dir:?}"));
        }
    }

    fn rsync(&mut self) -> Option<Rsync> {
        let program = self.path("rsync");
        let words = self.list("rsync_opts", split_csv)?;
        let judged = judge(&words);
        for problem in &judged.problems {
            self.refuse("rsync_opts", problem);
        }
        if let Some(origin) = self.origin("rsync_opts") {
            self.notices.extend(judged.left_out.iter().map(|what| format!("{origin}: rsync_opts: {what}")));
        }
        self.show_list("rsync_opts", &judged.options);
        let program = program?;
        judged.problems.is_empty().then_some(Rsync { program, options: judged.options, keep: judged.keep })
    }

    /// The extras that travel: those of `keep`, and those that `rsync_opts` asks for.
    fn keep(&mut self, rsync: Option<&Rsync>) -> Option<Keep> {
        let words = self.list("keep", split_csv)?;
        let mut keep = Some(rsync.map(|rsync| rsync.keep).unwrap_or_default());
        for word in &words {
            match word.trim().parse::<Extra>() {
                Ok(extra) => keep = keep.map(|keep| keep.with(extra)),
                Err(problem) => {
                    self.refuse("keep", &problem);
                    keep = None;
                }
            }
        }
        let shown = keep.filter(|keep| !keep.is_empty()).map_or("nothing".to_owned(), |keep| keep.to_string());
        self.show("keep", shown, &self.origin("keep").unwrap_or(Origin::Default));
        keep
    }

    fn receivers(&mut self) -> Option<Option<BTreeSet<NodeName>>> {
        let split = |text: &str| {
            let names = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|name| !name.is_empty());
            Ok(names.map(str::to_owned).collect())
        };
        if let Some((Found::List(names), _)) = self.find("receivers")
            && names.is_empty()
        {
            self.refuse("receivers", "found an empty list; remove the key to mean every known download");
            return None;
        }
        let names = self.list("receivers", split)?;
        if names.len() > RECEIVERS_LIMIT {
            self.refuse("receivers", &format!("found {} names, allowed are up to {RECEIVERS_LIMIT}", names.len()));
            return None;
        }
        let mut receivers = Some(BTreeSet::new());
        for name in &names {
            match (name.parse::<NodeName>(), &mut receivers) {
                (Ok(name), Some(receivers)) => {
                    receivers.insert(name);
                }
                (Ok(_), None) => {}
                (Err(error), _) => {
                    self.refuse("receivers", &error.to_string());
                    receivers = None;
                }
            }
        }
        self.show_list("receivers", &names);
        receivers.map(|receivers| Some(receivers).filter(|receivers| !receivers.is_empty()))
    }

    fn state_dir(&mut self, mode: Mode, group: &GroupId) -> Option<PathBuf> {
        if self.find("state_dir").is_some() {
            return self.path("state_dir");
        }
        let below = format!("synkler/{group}-{mode}");
        let environment = self.environment;
        let from_state = environment.first_directory("STATE_DIRECTORY").map(|path| (path, "$STATE_DIRECTORY"));
        let from_xdg = || Some((environment.directory("XDG_STATE_HOME")?.join(&below), "below $XDG_STATE_HOME"));
        let from_home = || Some((environment.directory("HOME")?.join(".local/state").join(&below), "below $HOME"));
        let Some((path, from)) = from_state.or_else(from_xdg).or_else(from_home) else {
            self.refuse(
                "state_dir",
                "is not set, and neither $STATE_DIRECTORY nor $XDG_STATE_HOME nor $HOME is set; set state_dir",
            );
            return None;
        };
        self.show("state_dir", shown_path(&path), &Origin::Derived(from.to_owned()));
        Some(path)
    }

    fn control_socket(&mut self, mode: Mode, group: &GroupId, state_dir: Option<&Path>) -> Option<PathBuf> {
        let path = if self.find("control_socket").is_some() {
            let parse = |text: &str| absolute(text).and_then(|path| socket_path(&path).map(|()| path));
            return self.parse("control_socket", parse, |path| shown_path(path));
        } else if let Some(path) = self.environment.first_directory("RUNTIME_DIRECTORY") {
            (path, "below $RUNTIME_DIRECTORY")
        } else if let Some(path) = self.environment.directory("XDG_RUNTIME_DIR") {
            (path.join(format!("synkler/{group}-{mode}")), "below $XDG_RUNTIME_DIR")
        } else {
            (state_dir?.to_owned(), "in state_dir")
        };
        let (path, from) = (path.0.join("control.sock"), path.1);
        if let Err(problem) = socket_path(&path) {
            self.refuse("control_socket", &format!("is not set, and the default {from} is not possible: {problem}"));
            return None;
        }
        self.show("control_socket", shown_path(&path), &Origin::Derived(from.to_owned()));
        Some(path)
    }

    /// Reports keys that are set without effect, if that may surprise. One file may serve several modes, so other keys
    /// are not reported.
    fn notice_ignored(&mut self, mode: Mode) {
        for key in KEYS.iter().filter(|key| key.preset == Preset::Ignored) {
            if let Some(origin) = self.origin(key.name) {
                self.notices.push(format!("{origin}: {} is ignored: systemd supervises synkler", key.name));
                self.show(key.name, "ignored", &origin);
            }
        }
        if mode == Mode::Central
            && let Some((key, origin)) = CLEANUP_KEYS.iter().find_map(|key| Some((key, self.origin(key)?)))
            && origin != Origin::Default
        {
            self.notices.push(format!("{origin}: {key} is ignored: central has no cleanup"));
        }
        let is_set = |key: &&str| self.origin(key).is_some_and(|origin| origin != Origin::Default);
        if mode != Mode::Upload
            && let Some(key) = ["item_depth", "ready", "marker"].into_iter().find(is_set)
            && let Some(origin) = self.origin(key)
        {
            self.notices.push(format!("{origin}: {key} is ignored: only an upload decides what an item is"));
        }
        if mode != Mode::Upload
            && let Some(origin) = self.origin("keep").filter(|origin| *origin != Origin::Default)
        {
            self.notices.push(format!("{origin}: keep is ignored: set it on the upload, which decides what travels"));
        }
        if mode != Mode::Download
            && let Some((key, origin)) = OWNERSHIP_KEYS.iter().find_map(|key| Some((key, self.origin(key)?)))
        {
            self.notices.push(format!("{origin}: {key} is ignored: only a download gives items an owner and modes"));
        }
    }

    fn show_list(&mut self, key: &'static str, words: &[String]) {
        let shown = match KEYS.iter().find(|known| known.name == key).map(|known| known.preset) {
            Some(Preset::Computed(description)) if words.is_empty() => description.to_owned(),
            _ => shown_words(words),
        };
        let origin = self.origin(key).unwrap_or(Origin::Default);
        self.show(key, shown, &origin);
    }
}

fn socket_path(path: &Path) -> Result<(), String> {
    let length = path.as_os_str().as_bytes().len();
    if length > SOCKET_PATH_LIMIT {
        return Err(format!(
            "found {:?} of {length} bytes, allowed for a socket are up to {SOCKET_PATH_LIMIT}; set control_socket to a \
             shorter path",
            shown_path(path)
        ));
    }
    Ok(())
}
