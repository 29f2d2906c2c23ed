//! The config file of a node, and the next steps as commands.

use std::path::PathBuf;

use super::system::{Service, USER};
use crate::machine::{GroupId, Mode, Node};

/// The values for a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Name and mode of the node.
    pub node: Node,
    /// Whether that name differs from the host name, so that the config must contain it.
    pub is_renamed: bool,
    /// The group.
    pub group: GroupId,
    /// The watched directory, the spool, or the destination.
    pub file_dir: PathBuf,
    /// The broker's host.
    pub server: String,
    /// The virtual host on the broker.
    pub vhost: String,
    /// The account on the broker.
    pub username: String,
    /// Whether the connection uses TLS.
    pub tls: bool,
    /// `[user@]host` of central for ssh.
    pub central_host: String,
    /// How many levels of permanent directories an upload has.
    pub item_depth: usize,
    /// When an item of an upload counts as complete.
    pub ready: String,
    /// The user who writes into `file_dir` of an upload, or reads from that of a download.
    pub used_by: Option<String>,
    /// What is done with delivered items; upload and download.
    pub cleanup: Option<PlannedCleanup>,
}

/// What to do with delivered items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedCleanup {
    /// They move to this directory.
    Move(PathBuf),
    /// They are deleted.
    Delete,
    /// This command runs for each.
    Script(String),
}

impl Plan {
    /// The name of the node's own directories for credentials and state.
    pub(super) fn node_word(&self) -> String {
        format!("{}-{}", self.group, self.node.mode)
    }
}

/// The config file. It contains only what differs from a default.
pub fn config_text(plan: &Plan) -> String {
    let mode = plan.node.mode;
    let mut lines = vec![
        format!("# This node is {} of group {}. Written by: synkler init", plan.node, plan.group),
        "# Every key: man synkler.conf, and /usr/share/doc/synkler/sample-config".to_owned(),
        String::new(),
    ];
    let mut set = |key: &str, value: &str| lines.push(format!("{key} = {}", quoted(value)));
    set("mode", mode.as_str());
    if plan.group.as_str() != "default" {
        set("id", plan.group.as_str());
    }
    if plan.is_renamed {
        set("name", plan.node.name.as_str());
    }
    set("file_dir", &plan.file_dir.to_string_lossy());
    set("synkler_server", &plan.server);
    if plan.vhost != "/" {
        set("vhost", &plan.vhost);
    }
    set("username", &plan.username);
    if plan.ready != "settled" {
        set("ready", &plan.ready);
    }
    match mode {
        Mode::Central => set("central_host", &plan.central_host),
        Mode::Upload | Mode::Download => match &plan.cleanup {
            Some(PlannedCleanup::Script(script)) => set("cleanup_script", script),
            Some(PlannedCleanup::Move(directory)) => set("cleanup_move", &directory.to_string_lossy()),
            Some(PlannedCleanup::Delete) => lines.push("cleanup_delete = true".to_owned()),
            None => {}
        },
    }
    if plan.item_depth > 0 {
        lines.push(format!("item_depth = {}", plan.item_depth));
    }
    if plan.tls {
        lines.push("tls = true".to_owned());
    }
    lines.join("\n") + "\n"
}

/// The next steps of the operator, as root; `has_password` says whether the credential exists already.
pub fn next_steps(plan: &Plan, service: &Service, has_password: bool) -> String {
    let (unit, synkler) = (service.unit(), service.command());
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    let mut step = |what: &str, commands: Vec<String>| steps.push((what.to_owned(), commands));
    if !has_password {
        let path = service.credential(&plan.node_word(), "password");
        step(
            "Write the password of the broker account to a file that only root can read:",
            vec![
                format!("install -d -m 0700 {}", path.parent().unwrap_or(&path).display()),
                format!("(umask 077; cat >{})", path.display()),
            ],
        );
    }
    step("Give the service access to the directories in the config:", vec![format!("{synkler} drop-in --apply")]);
    if let Some((what, commands)) = plan.used_by.as_ref().and_then(|user| permissions(plan, user, &synkler)) {
        step(&what, commands);
    }
    let (node, group, vhost) = (&plan.node, &plan.group, &plan.vhost);
    match node.mode {
        Mode::Central => {
            let spool = plan.file_dir.join(group.as_str());
            step(
                "On the broker host, create an account for each node (here with the names alpha and delta for the \
                 other nodes):",
                vec![format!(
                    "synkler broker-setup --apply --id {group} --vhost {vhost} central:{} upload:alpha download:delta",
                    node.name
                )],
            );
            step(
                "On each upload and download, print the authorized_keys line for this spool:",
                vec![format!("synkler keys --spool {}", spool.display())],
            );
            step(
                "Add these lines to authorized_keys (end with Ctrl-D):",
                vec![format!("runuser -u {USER} -- tee -a /var/lib/synkler/.ssh/authorized_keys")],
            );
        }
        Mode::Upload | Mode::Download => {
            let host = plan.central_host.rsplit('@').next().unwrap_or_default().trim_matches(['[', ']']);
            step(
                "Create the SSH key pair, and append the printed line to /var/lib/synkler/.ssh/authorized_keys on \
                 central:",
                vec![format!("{synkler} keys --spool FILE_DIR_OF_CENTRAL/{group}")],
            );
            step("Check and trust the host key of central:", vec![format!("{synkler} trust {host}")]);
        }
    }
    step(
        "Check the config, and start:",
        vec![
            format!("{synkler} --check"),
            format!("systemctl enable --now {unit}"),
            format!("synklerctl --id {group} status"),
        ],
    );
    let mut text = String::from("Next steps, as root on this host unless noted:\n");
    for (number, (what, commands)) in steps.iter().enumerate().map(|(index, step)| (index + 1, step)) {
        text.push_str(&format!("\n{number}. {what}\n"));
        for command in commands {
            text.push_str(&format!("   {command}\n"));
        }
    }
    text
}

/// What lets the service and another user share `file_dir`: the least first. It runs before the first start.
fn permissions(plan: &Plan, user: &str, synkler: &str) -> Option<(String, Vec<String>)> {
    let dir = shlex::try_quote(plan.file_dir.to_str()?).ok()?.into_owned();
    // The config refuses both together.
    let moves = matches!(plan.cleanup, Some(PlannedCleanup::Move(_)));
    let instead = if moves { ", in place of cleanup_move" } else { "" };
    match plan.node.mode {
        Mode::Upload => Some((
            format!(
                "Let the service read and remove what {user} writes: by default ACLs; or, if the programs of {user} set modes \
                 themselves, as that user; or, if several users write, by the right to read everything. One of:"
            ),
            vec![
                format!("setfacl -m u:{USER}:rwX,u:{user}:rwX,d:u:{USER}:rwX,d:u:{user}:rwX {dir}"),
                format!("{synkler} drop-in --apply --as {user}"),
                format!("{synkler} drop-in --apply --read-others"),
            ],
        )),
        Mode::Download => Some((
            format!(
                "Let {user} read what arrives: give it a group of that user, with lines in the config such as \
                 these{instead}:"
            ),
            vec![
                format!("group = \"{user}\""),
                "file_mode = \"0640\"".to_owned(),
                "dir_mode = \"0750\"".to_owned(),
                format!("{synkler} drop-in --apply"),
            ],
        )),
        Mode::Central => None,
    }
}

/// A text in TOML's form.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cleanup, Environment, Role, load};
    use std::path::Path;

    fn plan(mode: Mode) -> Plan {
        Plan {
            node: Node::new(mode, "alpha".parse().unwrap()),
            is_renamed: false,
            group: "default".parse().unwrap(),
            file_dir: PathBuf::from("/srv/out"),
            server: "mq.example.com".to_owned(),
            vhost: "/".to_owned(),
            username: "synkler.default.upload.alpha".to_owned(),
            tls: false,
            central_host: "synkler@hub.example.com".to_owned(),
            item_depth: 0,
            ready: "settled".to_owned(),
            used_by: None,
            cleanup: Some(PlannedCleanup::Script(r#"mv -- %F "/srv/se nt\\x"/%f"#.to_owned())),
        }
    }

    #[test]
    fn the_config_means_what_was_answered() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        let around = Environment::new("alpha").with("HOME", "/h");
        for mode in [Mode::Upload, Mode::Central, Mode::Download] {
            std::fs::write(&path, config_text(&plan(mode))).unwrap();
            let loaded = load(Some(&path), &around).unwrap();
            assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
            let settings = loaded.settings;
            assert_eq!((settings.node, settings.broker.host.as_str()), (plan(mode).node, "mq.example.com"));
            match settings.role {
                Role::Central { host, .. } => assert_eq!(host, "synkler@hub.example.com"),
                Role::Upload { cleanup, .. } | Role::Download { cleanup, .. } => {
                    let name = crate::machine::ItemName::new(b"n").unwrap();
                    let Some(Cleanup::Script(script)) = cleanup else { panic!("{cleanup:?}") };
                    assert_eq!(script.argv(&name, Path::new("/i/n"))[3], "/srv/se nt\\x/n");
                }
            }
        }
        let ways = [
            (PlannedCleanup::Move("/srv/sent %F".into()), Cleanup::Move("/srv/sent %F".into())),
            (PlannedCleanup::Delete, Cleanup::Delete),
        ];
        for (planned, meant) in ways {
            std::fs::write(&path, config_text(&Plan { cleanup: Some(planned), ..plan(Mode::Upload) })).unwrap();
            let Role::Upload { cleanup, .. } = load(Some(&path), &around).unwrap().settings.role else { panic!() };
            assert_eq!(cleanup, Some(meant));
        }
        let upload = Plan { item_depth: 2, ready: "submit".to_owned(), ..plan(Mode::Upload) };
        std::fs::write(&path, config_text(&upload)).unwrap();
        let Role::Upload { items, .. } = load(Some(&path), &around).unwrap().settings.role else { panic!() };
        assert_eq!((items.depth, items.ready.as_str()), (2, "submit"));
        let all = Plan {
            is_renamed: true,
            group: "g".parse().unwrap(),
            vhost: "v".to_owned(),
            tls: true,
            file_dir: PathBuf::from("/srv/a \"b\" \\c\u{7f}"),
            ..plan(Mode::Download)
        };
        std::fs::write(&path, config_text(&all)).unwrap();
        let settings = load(Some(&path), &Environment::new("other").with("HOME", "/h")).unwrap().settings;
        assert_eq!((settings.node, settings.group, settings.file_dir), (all.node, all.group, all.file_dir));
        assert!(settings.broker.tls.is_some() && settings.broker.vhost == "v");
    }

    #[test]
    fn the_next_steps_fit_the_role_and_the_unit() {
        let upload = next_steps(&plan(Mode::Upload), &Service::of(None), true);
        assert!(upload.contains("   synkler drop-in --apply\n"), "{upload}");
        assert!(upload.contains("   synkler trust hub.example.com\n") && !upload.contains("broker-setup"), "{upload}");
        assert!(!upload.contains("password"));
        let shared = Plan { used_by: Some("anna".to_owned()), file_dir: "/srv/my out".into(), ..plan(Mode::Upload) };
        let steps = next_steps(&shared, &Service::of(None), true);
        let acl = "   setfacl -m u:synkler:rwX,u:anna:rwX,d:u:synkler:rwX,d:u:anna:rwX '/srv/my out'\n";
        let (acl, acting) = (steps.find(acl), steps.find("   synkler drop-in --apply --as anna\n"));
        assert!(acl.is_some() && acl < acting && acting < steps.find("--read-others\n"), "{steps}");
        let shared = Plan { used_by: Some("anna".to_owned()), cleanup: None, ..plan(Mode::Download) };
        let steps = next_steps(&shared, &Service::of(None), true);
        assert!(steps.contains("such as these:\n   group = \"anna\"\n   file_mode = \"0640\"\n"), "{steps}");
        let moving = Plan { cleanup: Some(PlannedCleanup::Move("/srv/taken".into())), ..shared };
        let steps = next_steps(&moving, &Service::of(None), true);
        assert!(steps.contains("such as these, in place of cleanup_move:\n"), "{steps}");
        let inbound = Service::of(Some(Path::new("/etc/synkler/inbound.toml")));
        let central = next_steps(&plan(Mode::Central), &inbound, false);
        assert!(central.contains("   systemctl enable --now synkler@inbound\n"), "{central}");
        assert!(central.contains("cat >/etc/synkler/credentials/default-central/password"), "{central}");
        assert!(central.contains("synkler keys --spool /srv/out/default"), "{central}");
    }
}
