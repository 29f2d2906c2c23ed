//! `synkler broker-setup`, `synkler init` and `synkler drop-in`: what they read, write and print.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{Gid, Uid, chown};

use super::answers::{InitOrder, plan};
use super::broker::{self, Account, Step};
use super::drop_in::{Extra, drop_in};
use super::failure::{Failure, USAGE};
use super::hand_over::hand_over;
use super::init::{Plan, config_text, next_steps};
use super::system::{Account as User, Service, USER, numbers};
use super::terminal;
use crate::config::{self, Secret};
use crate::drivers::broker::Rights;
use crate::machine::{GroupId, Mode};

/// The largest password file, in bytes.
const PASSWORD_LIMIT: u64 = 4096;
/// The largest file of CA certificates, in bytes.
const PEM_LIMIT: u64 = 1024 * 1024;

/// The arguments of `synkler broker-setup`.
#[derive(Debug, Clone)]
pub struct BrokerOrder {
    /// `MODE:NAME` each.
    pub nodes: Vec<String>,
    /// The group.
    pub id: String,
    /// The virtual host.
    pub vhost: String,
    /// Whether to run the commands instead of printing them.
    pub apply: bool,
    /// The file with the password, for exactly one node.
    pub password_file: Option<PathBuf>,
}

/// The arguments of `synkler drop-in`.
#[derive(Debug, Clone)]
pub struct DropInOrder {
    /// The config file, instead of the package's.
    pub config: Option<PathBuf>,
    /// More paths to open.
    pub also: Vec<PathBuf>,
    /// The user as whom the service runs.
    pub user: Option<String>,
    /// Whether an upload may read the files of every user.
    pub read_others: bool,
    /// Whether to install the drop-in instead of printing it.
    pub apply: bool,
}

/// Prints or runs the steps that create accounts on the broker.
pub fn broker_setup(order: &BrokerOrder) -> ExitCode {
    ended(make_accounts(order))
}

/// Writes a node's config and prints the next steps.
pub fn init(order: &InitOrder) -> ExitCode {
    ended(write_config(order))
}

/// Prints the drop-in for the service that reads this config, or with `apply` installs it where systemd reads it.
pub fn print_drop_in(order: &DropInOrder) -> ExitCode {
    ended(make_drop_in(order))
}

fn make_drop_in(order: &DropInOrder) -> Result<(), Failure> {
    let service = Service::of(order.config.as_deref());
    let loaded = config::load(order.config.as_deref(), &service.environment());
    let settings = loaded.map_err(|error| Failure(78, error.to_string()))?.settings;
    let user = match &order.user {
        Some(name) if name != USER => Some(user_named(name)?),
        _ => None,
    };
    let extra = Extra { also: order.also.clone(), user, read_others: order.read_others };
    let text = drop_in(&service, &settings, &extra, Path::is_dir).map_err(|error| Failure::from(error.to_string()))?;
    if !order.apply {
        print(&text);
        return Ok(());
    }
    let path = service.drop_in();
    let had_user = fs::read_to_string(&path).is_ok_and(|old| old.lines().any(|line| line.starts_with("User=")));
    if extra.user.is_some() || had_user {
        let heir = extra.user.map_or_else(|| user_named(USER), Ok)?;
        match hand_over(&service, &settings, &heir).map_err(Failure::from)? {
            0 => {}
            count => say(&format!("{count} files and directories of the service handed over to {}", heir.name)),
        }
    }
    install_drop_in(&path, &text)
}

fn user_named(name: &str) -> Result<User, Failure> {
    match User::find(name) {
        Ok(Some(account)) if account.uid == 0 => {
            Err(Failure::from(format!("--as {name}: the service must not be root")))
        }
        Ok(Some(account)) => Ok(account),
        Ok(None) => Err(Failure::from(format!("{name:?} is not a user in /etc/passwd that a systemd unit can name"))),
        Err(error) => Err(Failure::from(format!("/etc/passwd, /etc/group: {error}"))),
    }
}

fn install_drop_in(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::from(format!("{}: {error}{}", path.display(), as_root(&error)));
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let new = path.with_extension("new");
    write(&new, 0o644, text.as_bytes()).and_then(|()| fs::rename(&new, path)).map_err(failed)?;
    say(&format!("{} written", path.display()));
    // If systemd does not run, it reads the file at its next start.
    if Path::new("/run/systemd/system").is_dir() {
        let reloaded = Command::new("systemctl").arg("daemon-reload").stdin(Stdio::null()).status();
        if !reloaded.is_ok_and(|status| status.success()) {
            return Err(Failure::from("systemctl daemon-reload failed: run it again".to_owned()));
        }
    }
    Ok(())
}

fn make_accounts(order: &BrokerOrder) -> Result<(), Failure> {
    let usage = |text: String| Failure(USAGE, text);
    let group: GroupId = order.id.parse().map_err(|error| usage(format!("--id: {error}")))?;
    if !broker::is_plain_vhost(&order.vhost) {
        let text = format!("--vhost: found {:?}, allowed are A-Z a-z 0-9 / . _ : -", order.vhost);
        return Err(usage(text));
    }
    if order.password_file.is_some() && order.nodes.len() != 1 {
        return Err(usage("--password-file holds the password of one node: give only that node".to_owned()));
    }
    let mut accounts = Vec::new();
    for text in &order.nodes {
        let node = broker::parse_node(text).map_err(|error| usage(error.to_string()))?;
        let password = match &order.password_file {
            Some(path) => password_in(path)?,
            None => broker::generated_password(random()?),
        };
        accounts.push(Account { node, password });
    }
    if order.apply {
        apply(order, &group, &accounts)
    } else {
        print(&broker::script(&order.vhost, &group, &accounts));
        Ok(())
    }
}

/// Runs the steps. Existing accounts stay, and their permissions are set again.
fn apply(order: &BrokerOrder, group: &GroupId, accounts: &[Account]) -> Result<(), Failure> {
    let listed = |what: &str| -> Result<Vec<String>, Failure> {
        let text = rabbitmqctl(&["--silent", what], None)?;
        Ok(text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect())
    };
    let (vhosts, users) = (listed("list_vhosts")?, listed("list_users")?);
    for step in broker::steps(&order.vhost, group, accounts) {
        match &step {
            Step::Vhost(name) if vhosts.contains(name) => continue,
            Step::Account { name, .. } if users.contains(name) && order.password_file.is_none() => continue,
            Step::Account { name, password } if users.contains(name) => {
                rabbitmqctl(&["change_password", name], Some(password))?;
            }
            _ => {
                rabbitmqctl(&step.arguments(), step.input())?;
            }
        }
    }
    let is_there = |account: &Account| users.contains(&Rights::of(group, &account.node).account);
    let (kept, made): (Vec<_>, Vec<_>) =
        accounts.iter().cloned().partition(|account| is_there(account) && order.password_file.is_none());
    for Account { node, .. } in kept {
        say(&format!("{node} already has an account: its password is kept, its permissions are set again"));
    }
    print(&broker::notes(&order.vhost, group, &made));
    Ok(())
}

fn rabbitmqctl(arguments: &[&str], input: Option<&Secret>) -> Result<String, Failure> {
    let what = arguments.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();
    let failed = |error: io::Error| format!("rabbitmqctl {what}: {error}; --apply is for root on the broker's host");
    let mut command = Command::new("rabbitmqctl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // If the command ends without reading its input, its error follows below.
        let _ = writeln!(stdin, "{}", input.expose());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        return Err(Failure::from(format!(
            "rabbitmqctl {what} failed ({}): {}",
            output.status,
            crate::machine::one_line(&said)
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn write_config(order: &InitOrder) -> Result<(), Failure> {
    let service = Service::of(order.config.as_deref());
    let path = order.config.clone().unwrap_or_else(|| service.config());
    if path.exists() && !order.force {
        match config::sets_anything(&path) {
            Ok(false) => {}
            Ok(true) => {
                let text = format!("{} already sets keys: edit it, or overwrite it with --force", path.display());
                return Err(Failure::from(text));
            }
            Err(error) => return Err(Failure::from(error.to_string())),
        }
    }
    let plan = plan(order)?;
    let password = password(order)?;
    install_config(&path, &plan, &service)?;
    say(&format!("{} written", path.display()));
    let credential = |name: &str| service.credential(&plan.node_word(), name);
    if let Some(password) = &password {
        install_credential(&credential("password"), format!("{}\n", password.expose()).as_bytes())?;
    }
    if let Some(file) = &order.ca_file {
        install_credential(&credential("ca.pem"), &read(file, PEM_LIMIT)?)?;
    }
    if order.make_dir {
        make_dir(&plan.file_dir, plan.node.mode)?;
    } else if !plan.file_dir.is_dir() {
        say(&format!("{} is not a directory yet: create it before synkler starts", plan.file_dir.display()));
    }
    print(&next_steps(&plan, &service, password.is_some() || credential("password").exists()));
    Ok(())
}

fn password(order: &InitOrder) -> Result<Option<Secret>, Failure> {
    match &order.password_file {
        Some(path) => password_in(path).map(Some),
        None if terminal::is_there() => {
            let answer = terminal::ask_secret("Its password (Enter: set it later)");
            let answer = answer.map_err(|error| Failure::from(format!("cannot read the answer: {error}")))?;
            Ok(Some(answer).filter(|answer| !answer.is_empty()).map(Secret::new))
        }
        None => Ok(None),
    }
}

/// An existing file is replaced only by a config that the service can use.
fn install_config(path: &Path, plan: &Plan, service: &Service) -> Result<(), Failure> {
    let new = path.with_extension("toml.new");
    let failed = |error: io::Error| Failure::from(format!("{}: {error}{}", path.display(), as_root(&error)));
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    write(&new, 0o640, config_text(plan).as_bytes()).map_err(failed)?;
    let installed = config::load(Some(&new), &service.environment())
        .map_err(|error| Failure::from(error.to_string().replace(&new.display().to_string(), "what was given")))
        .and_then(|_| give_to_group(&new).map_err(failed))
        .and_then(|()| fs::rename(&new, path).map_err(failed));
    if installed.is_err() {
        // The old file is unchanged, and the new one is not needed.
        let _ = fs::remove_file(&new);
    }
    installed
}

fn install_credential(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::from(format!("{}: {error}{}", path.display(), as_root(&error)));
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    let new = path.with_extension("new");
    write(&new, 0o600, bytes).and_then(|()| fs::rename(&new, path)).map_err(failed)?;
    say(&format!("{} written; systemd passes it to the service", path.display()));
    Ok(())
}

fn make_dir(path: &Path, mode: Mode) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::from(format!("{}: {error}{}", path.display(), as_root(&error)));
    if path.is_dir() {
        say(&format!("{} already exists and is kept", path.display()));
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    // Other users have no access to central's spool.
    let bits = if mode == Mode::Central { 0o750 } else { 0o755 };
    fs::DirBuilder::new().mode(bits).create(path).map_err(failed)?;
    if let (true, (Some(user), group)) = (rustix::process::geteuid().is_root(), numbers().map_err(failed)?) {
        chown(path, Some(Uid::from_raw(user)), group.map(Gid::from_raw)).map_err(|error| failed(error.into()))?;
    }
    say(&format!("{} created", path.display()));
    Ok(())
}

/// The service's group may read the file, if the group exists.
fn give_to_group(path: &Path) -> io::Result<()> {
    if let (true, (_, Some(group))) = (rustix::process::geteuid().is_root(), numbers()?) {
        chown(path, None, Some(Gid::from_raw(group)))?;
    }
    Ok(())
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn as_root(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { "; run this as root" } else { "" }
}

fn password_in(path: &Path) -> Result<Secret, Failure> {
    let bytes = read(path, PASSWORD_LIMIT)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::from(format!("{}: is not UTF-8", path.display())))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Failure::from(format!("{}: contains no password", path.display()))),
        password if password.contains(char::is_control) => {
            Err(Failure::from(format!("{}: contains more than one line, or a control character", path.display())))
        }
        password => Ok(Secret::new(password)),
    }
}

/// The bytes of a file; `-` is standard input.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::from(format!("{}: {error}", path.display()));
    let source: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(failed)?) };
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(Failure::from(format!("{}: is larger than the {limit} bytes allowed", path.display())));
    }
    Ok(bytes)
}

fn random() -> Result<[u8; 24], Failure> {
    let mut random = [0; 24];
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random));
    read.map_err(|error| Failure::from(format!("/dev/urandom: {error}")))?;
    Ok(random)
}

fn ended(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, text)) => {
            text.lines().for_each(say);
            ExitCode::from(code)
        }
    }
}

/// A reader that has closed the pipe needs no more.
fn print(text: &str) {
    let _ = write!(io::stdout(), "{text}").and_then(|()| io::stdout().flush());
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "synkler: {text}");
}
