//! What `synkler init` is told: by options and, on a terminal, by answers to its questions.

use std::path::PathBuf;

use super::failure::{Failure, USAGE};
use super::init::{Plan, PlannedCleanup};
use super::terminal;
use crate::drivers::broker::Rights;
use crate::machine::{DEPTH_LIMIT, GroupId, Mode, Node, NodeName};

/// The arguments of `synkler init`; it asks for missing ones.
#[derive(Debug, Clone)]
pub struct InitOrder {
    /// The mode of the node.
    pub mode: Mode,
    /// The file to write, instead of the package's.
    pub config: Option<PathBuf>,
    /// The watched directory, the spool, or the destination.
    pub file_dir: Option<PathBuf>,
    /// The broker's host.
    pub server: Option<String>,
    /// The group.
    pub id: Option<String>,
    /// The node's name.
    pub name: Option<String>,
    /// `[user@]host` of central.
    pub central_host: Option<String>,
    /// The virtual host.
    pub vhost: Option<String>,
    /// The account on the broker.
    pub username: Option<String>,
    /// The file with its password; `-` is standard input.
    pub password_file: Option<PathBuf>,
    /// Whether the connection uses TLS.
    pub tls: bool,
    /// The CA certificates for the broker's certificate.
    pub ca_file: Option<PathBuf>,
    /// How many levels of permanent directories an upload has.
    pub item_depth: Option<u8>,
    /// When an item of an upload counts as complete: `settled`, `marker` or `submit`.
    pub ready: Option<String>,
    /// The user who writes into `file_dir` of an upload, or reads from that of a download.
    pub used_by: Option<String>,
    /// What is done with delivered items; asked for where it is not given.
    pub cleanup: Option<PlannedCleanup>,
    /// Whether to make `file_dir`.
    pub make_dir: bool,
    /// Whether to overwrite an existing config.
    pub force: bool,
}

/// The values from the options and, on a terminal, from the answers.
pub(super) fn plan(order: &InitOrder) -> Result<Plan, Failure> {
    let usage = |text: String| Failure(USAGE, text);
    let answered = |flag: &Option<String>, option: &str, question: &str, default: Option<&str>| match (flag, default) {
        (Some(value), _) => Ok(value.clone()),
        (None, default) if terminal::is_there() => {
            terminal::ask(question, default).map_err(|error| Failure::from(format!("cannot read the answer: {error}")))
        }
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(usage(format!("{option} is required without a terminal"))),
    };
    let mode = order.mode;
    let place = match mode {
        Mode::Upload => "Directory with the files to send",
        Mode::Central => "Directory for the copies (spool)",
        Mode::Download => "Directory for received files",
    };
    let file_dir = order.file_dir.as_ref().map(|path| path.to_string_lossy().into_owned());
    let file_dir = PathBuf::from(answered(&file_dir, "--file-dir", place, None)?);
    let server = answered(&order.server, "--server", "Host name of the broker", None)?;
    let group = answered(&order.id, "--id", "Group", Some("default"))?;
    let group: GroupId = group.parse().map_err(|error| usage(format!("--id: {error}")))?;
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = answered(&order.name, "--name", "This node's name", Some(&host_name))?;
    let is_renamed = name != host_name;
    let name: NodeName = name.parse().map_err(|error| usage(format!("--name: {error}")))?;
    let node = Node::new(mode, name);
    let central_host = match (mode, &order.central_host) {
        (_, Some(host)) => host.clone(),
        (Mode::Central, None) => {
            let default = format!("synkler@{host_name}");
            answered(
                &None,
                "--central-host",
                "SSH address of this host for the other nodes, [user@]host",
                Some(&default),
            )?
        }
        (Mode::Upload | Mode::Download, None) => {
            answered(&None, "--central-host", "Host name of central", Some(&server))?
        }
    };
    let vhost = answered(&order.vhost, "--vhost", "Virtual host on the broker", Some("/"))?;
    let own = Rights::of(&group, &node).account;
    let username = answered(&order.username, "--username", "Account on the broker", Some(&own))?;
    let (mut item_depth, mut ready) = (0, "settled".to_owned());
    if mode == Mode::Upload {
        let depth = order.item_depth.map(|depth| depth.to_string());
        let question = "Levels of directories in it that stay where they are, such as 1 with one for each customer";
        let depth = answered(&depth, "--item-depth", question, Some("0"))?;
        let allowed = || usage(format!("--item-depth: found {depth:?}, allowed is 0 to {DEPTH_LIMIT}"));
        item_depth = depth.parse().ok().filter(|depth| *depth <= DEPTH_LIMIT).ok_or_else(allowed)?;
        let question = "A file is complete when nobody writes it (settled), its marker is there (marker), or a command says so (submit)";
        ready = answered(&order.ready, "--ready", question, Some("settled"))?;
        if !["settled", "marker", "submit"].contains(&ready.as_str()) {
            return Err(usage(format!("--ready: found {ready:?}, allowed are settled, marker and submit")));
        }
    }
    let used_by = match mode {
        Mode::Upload => Some("User who writes into it, if not synkler"),
        Mode::Download => Some("User who reads from it, if not synkler"),
        Mode::Central => None,
    };
    let used_by = used_by.map(|question| answered(&order.used_by, "--used-by", question, Some("none"))).transpose()?;
    let used_by = used_by.filter(|user| !["none", "synkler", "root"].contains(&user.as_str()));
    let is_name = |user: &String| user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if let Some(user) = used_by.as_ref().filter(|user| user.is_empty() || user.starts_with('-') || !is_name(user)) {
        return Err(usage(format!("--used-by: found {user:?}, allowed is the name of a user")));
    }
    let cleanup = match (mode, &order.cleanup) {
        (Mode::Central, _) => None,
        (_, Some(cleanup)) => Some(cleanup.clone()),
        (_, None) => Some(answered(
            &None,
            "--cleanup-move",
            "Directory to which each delivered item moves, such as /srv/sent; none leaves it where it is",
            Some("none"),
        )?)
        .filter(|directory| directory != "none")
        .map(|directory| PlannedCleanup::Move(directory.into())),
    };
    let tls = order.tls || order.ca_file.is_some();
    Ok(Plan {
        node,
        is_renamed,
        group,
        file_dir,
        server,
        vhost,
        username,
        tls,
        central_host,
        item_depth,
        ready,
        used_by,
        cleanup,
    })
}
