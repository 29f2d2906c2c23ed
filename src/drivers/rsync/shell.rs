//! The remote shell: how ssh is called, with the service's own settings or with the user's options.

use std::path::{Path, PathBuf};

/// Options of every ssh: it never asks, accepts no new host key, and notices a dead connection within a minute.
pub(super) const SSH_OPTIONS: [&str; 5] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "ConnectTimeout=20",
];

/// How ssh is run. For settings that are missing, ssh uses its own defaults (`~/.ssh` of the service's user,
/// `/etc/ssh`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The program.
    pub program: PathBuf,
    /// The possible paths of the service's own private key. The first existing one is used, and no other key. Looked up
    /// again for every run.
    pub keys: Vec<PathBuf>,
    /// The service's own known host keys; if the file exists, no other file of the user counts.
    pub known_hosts: Option<PathBuf>,
    /// A directory for the sockets of shared connections, which is emptied at the start. Without it, or if its path is
    /// too long for a socket, each run connects by itself.
    pub sockets: Option<PathBuf>,
}

impl Default for Ssh {
    /// ssh with its own defaults, one connection per run.
    fn default() -> Self {
        Self { program: PathBuf::from("ssh"), keys: Vec::new(), known_hosts: None, sockets: None }
    }
}

impl Ssh {
    /// The program's arguments before those of one connection.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut option = |text: String| arguments.extend(["-o".to_owned(), text]);
        SSH_OPTIONS.iter().for_each(|text| option((*text).to_owned()));
        if let Some(key) = self.keys.iter().find(|path| path.is_file()).and_then(|path| config_word(path)) {
            option(format!("IdentityFile={key}"));
            option("IdentitiesOnly=yes".to_owned());
        }
        if let Some(file) = self.known_hosts.as_deref().filter(|path| path.is_file()).and_then(config_word) {
            option(format!("UserKnownHostsFile={file}"));
        }
        arguments
    }

    /// The remote shell for rsync, over the connection that is shared at `socket`, if any.
    pub(super) fn remote_shell(&self, socket: Option<&Path>) -> String {
        with_socket(&self.program.to_string_lossy(), self.arguments(), socket)
    }
}

/// How the runs reach the remote side.
#[derive(Debug)]
pub(super) enum Shell {
    /// ssh with the service's own settings.
    Service(Ssh),
    /// ssh with the arguments in the user's options.
    User { program: String, arguments: Vec<String> },
}

impl Shell {
    /// The ssh whose connection the runs can share. `None` if the user has another remote shell, or one with an
    /// argument that may mean something else on a shared connection.
    pub(super) fn to_share(ssh: &Ssh, options: &[String]) -> Option<Self> {
        let mut named = options.iter().filter(|option| names_remote_shell(option));
        let Some(option) = named.next_back() else { return Some(Self::Service(ssh.clone())) };
        // rsync removes quotes by rules of its own, and an ordinary ssh needs no quotes.
        let text = option.strip_prefix("--rsh=").filter(|text| !text.contains(['\'', '"']))?;
        let mut words = text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned);
        let program = words.next().filter(|program| Path::new(program).file_name() == Some("ssh".as_ref()))?;
        let arguments: Vec<String> = words.collect();
        are_ordinary(&arguments).then_some(Self::User { program, arguments })
    }

    /// The program and its arguments, for the shared connection.
    pub(super) fn of_master(&self) -> (&Path, Vec<String>) {
        match self {
            Self::Service(ssh) => (&ssh.program, ssh.arguments()),
            // Of two equal options ssh uses the first, so the user's counts.
            Self::User { program, arguments } => {
                let notices = SSH_OPTIONS.iter().filter(|option| option.starts_with("Server"));
                let notices = notices.flat_map(|option| ["-o".to_owned(), (*option).to_owned()]);
                (Path::new(program), arguments.iter().cloned().chain(notices).collect())
            }
        }
    }

    /// The `--rsh` of a run over the connection at `socket`; without the connection the run opens its own.
    pub(super) fn over(&self, socket: &Path) -> String {
        match self {
            Self::Service(ssh) => ssh.remote_shell(Some(socket)),
            Self::User { program, arguments } => with_socket(program, arguments.clone(), Some(socket)),
        }
    }
}

/// Whether each of ssh's arguments only says where to connect, as which user, and how to authenticate.
fn are_ordinary(arguments: &[String]) -> bool {
    const FLAGS: [&str; 8] = ["-4", "-6", "-a", "-C", "-k", "-q", "-T", "-x"];
    const OPTIONS: [&str; 30] = [
        "addressfamily",
        "batchmode",
        "bindaddress",
        "checkhostip",
        "ciphers",
        "compression",
        "connectionattempts",
        "connecttimeout",
        "globalknownhostsfile",
        "hostkeyalgorithms",
        "hostkeyalias",
        "hostname",
        "identitiesonly",
        "identityagent",
        "identityfile",
        "ipqos",
        "kexalgorithms",
        "loglevel",
        "macs",
        "passwordauthentication",
        "port",
        "preferredauthentications",
        "proxyjump",
        "pubkeyacceptedalgorithms",
        "serveralivecountmax",
        "serveraliveinterval",
        "stricthostkeychecking",
        "tcpkeepalive",
        "user",
        "userknownhostsfile",
    ];
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        if FLAGS.contains(&argument) {
            continue;
        }
        let Some((letter, attached)) = argument.split_at_checked(2) else { return false };
        let Some(value) = Some(attached).filter(|value| !value.is_empty()).or_else(|| arguments.next()) else {
            return false;
        };
        let name = value.split(['=', ' ']).next().unwrap_or_default().to_ascii_lowercase();
        match letter {
            "-b" | "-c" | "-F" | "-i" | "-J" | "-l" | "-m" | "-p" => {}
            "-o" if OPTIONS.contains(&name.as_str()) => {}
            _ => return false,
        }
    }
    true
}

/// Whether an option is `--rsh` or `-e`, also among other short options; after a short option that takes a value, the
/// rest of the word is that value.
pub(super) fn names_remote_shell(option: &str) -> bool {
    if option.starts_with("--") {
        return option == "--rsh" || option.starts_with("--rsh=");
    }
    let Some(letters) = option.strip_prefix('-') else { return false };
    letters.chars().find(|letter| "efBMT@".contains(*letter)) == Some('e')
}

/// The remote shell for rsync: one text, which rsync splits at blanks outside of quotes. With `socket` it uses the
/// connection that is shared there, or its own if that is gone.
fn with_socket(program: &str, mut arguments: Vec<String>, socket: Option<&Path>) -> String {
    if let Some(socket) = socket.and_then(config_word) {
        arguments.extend(["-o".to_owned(), "ControlMaster=no".to_owned()]);
        arguments.extend(["-o".to_owned(), format!("ControlPath={socket}")]);
    }
    let words = [program].into_iter().chain(arguments.iter().map(String::as_str));
    format!("--rsh={}", words.map(quoted).collect::<Vec<_>>().join(" "))
}

/// A path in the form of an ssh option: in quotes, and with `%` doubled. `None` for a path that ssh cannot express; the
/// config allows none of these for the service's files.
pub(super) fn config_word(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\\', '$', '\n']))?;
    let text = text.replace('%', "%%");
    Some(if text.contains([' ', '\t', '#', '\'']) { format!("\"{text}\"") } else { text })
}

/// A word in rsync's form: in quotes, with quotes inside doubled.
fn quoted(word: &str) -> String {
    if word.contains([' ', '\'', '"']) { format!("'{}'", word.replace('\'', "''")) } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_left_to_ssh() {
        let plain = "--rsh=ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ServerAliveInterval=15 \
                     -o ServerAliveCountMax=3 -o ConnectTimeout=20";
        let mut ssh = Ssh::default();
        assert_eq!(ssh.remote_shell(None), plain);
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        ssh.keys = vec![at("first"), at("own 50% key")];
        ssh.known_hosts = Some(at("known_hosts"));
        assert_eq!(ssh.remote_shell(None), plain);
        std::fs::write(at("own 50% key"), "").unwrap();
        std::fs::write(at("known_hosts"), "").unwrap();
        let show = dir.path().display();
        assert_eq!(
            ssh.remote_shell(Some(Path::new("/run/it's/1"))),
            format!(
                "{plain} -o 'IdentityFile=\"{show}/own 50%% key\"' -o IdentitiesOnly=yes \
                 -o UserKnownHostsFile={show}/known_hosts -o ControlMaster=no -o 'ControlPath=\"/run/it''s/1\"'"
            )
        );
        std::fs::write(at("first"), "").unwrap();
        assert!(ssh.remote_shell(None).contains(&format!("-o IdentityFile={show}/first -o IdentitiesOnly=yes")));
    }

    #[test]
    fn the_users_remote_shell_is_recognised() {
        for option in ["--rsh=/usr/bin/ssh", "--rsh", "-e", "-essh", "-ve", "-zessh -p 1"] {
            assert!(names_remote_shell(option), "{option}");
        }
        for option in ["-z", "--rsync-path=x", "--exclude=e", "-Te", "-M--else", "-fe", "--bwlimit=5", "ssh -e"] {
            assert!(!names_remote_shell(option), "{option}");
        }
    }

    #[test]
    fn an_ordinary_ssh_of_the_users_is_shared_with_its_arguments() {
        let shell = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            Shell::to_share(&Ssh::default(), &options)
        };
        assert!(matches!(shell(&["-z"]), Some(Shell::Service(_))));
        let users = "/usr/bin/ssh  -p 2222 -i /keys/a -oUser=me -o StrictHostKeyChecking=no -4 -ldata -J hop";
        let shared = shell(&["--rsh=rsh", "-z", &format!("--rsh={users}")]).unwrap();
        let (program, arguments) = shared.of_master();
        assert_eq!(program, Path::new("/usr/bin/ssh"));
        let plain = users.replace("  ", " ");
        assert_eq!(
            format!("/usr/bin/ssh {}", arguments.join(" ")),
            format!("{plain} -o ServerAliveInterval=15 -o ServerAliveCountMax=3")
        );
        let over = format!("--rsh={plain} -o ControlMaster=no -o ControlPath=/run/1");
        assert_eq!(shared.over(Path::new("/run/1")), over);
        for other in [
            "--rsh=rsh",
            "--rsh=",
            "--rsh=/opt/ssh-wrapper -p 2",
            "--rsh=ssh -i '/my keys/a'",
            "--rsh=ssh -S none",
            "-essh",
            "--rsh=ssh -M",
            "--rsh=ssh -oControlPath=none",
            "--rsh=ssh -o controlmaster=auto",
            "--rsh=ssh -L 1:b:2",
            "--rsh=ssh -p",
            "--rsh=ssh -v",
            "--rsh=ssh host",
            "--rsh=ssh -o ProxyCommand=x",
            "--rsh=ssh -f",
            "--rsh=ssh -",
        ] {
            assert!(shell(&["--rsh=ssh", other]).is_none(), "{other}");
        }
    }
}
