//! `synkler check` and `synklerctl check` where something is really wrong: what they find, and the cure they name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "bed/mod.rs"]
mod bed;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use bed::node::Node;
use bed::rabbit::Rabbit;
use bed::{Bed, powerless, with_mount};

const LONG: Duration = Duration::from_secs(60);
/// No examination may take longer, whatever is broken.
const LIMIT: Duration = Duration::from_secs(30);

/// What an examination found, by the words for what was examined.
struct Report {
    code: Option<i32>,
    findings: BTreeMap<String, Finding>,
}

#[derive(Debug, Clone, PartialEq)]
struct Finding {
    result: String,
    text: String,
    cure: Option<String>,
}

impl Report {
    fn read(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        let document: serde_json::Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr)));
        let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let mut findings = BTreeMap::new();
        for found in document["findings"].as_array().unwrap() {
            let (result, text) = (word(&found["result"]), word(&found["text"]));
            let cure = (!found["cure"].is_null()).then(|| word(&found["cure"]));
            let needs_cure = ["warning", "failed"].contains(&result.as_str());
            assert!(needs_cure || ["ok", "skipped"].contains(&result.as_str()), "{found}");
            assert_eq!(cure.is_some(), needs_cure, "{found}");
            for line in [Some(&text), cure.as_ref()].into_iter().flatten() {
                assert!(!line.is_empty() && !line.contains(char::is_control), "{found}");
                assert!(!line.contains(Rabbit::PASSWORD), "{found}");
            }
            let earlier = findings.insert(word(&found["check"]), Finding { result, text, cure });
            assert_eq!(earlier, None, "each is examined once");
        }
        Self { code: output.status.code(), findings }
    }

    /// The one thing that failed, and nothing else did.
    fn only_failure(&self, check: &str) -> &Finding {
        let failed: Vec<_> = self.findings.iter().filter(|(_, found)| found.result == "failed").collect();
        assert!(failed.len() == 1 && failed[0].0 == check, "{check} alone should have failed: {:#?}", self.findings);
        assert_eq!(self.code, Some(1));
        println!("{check}: {} -> {}", failed[0].1.text, failed[0].1.cure.as_deref().unwrap());
        failed[0].1
    }

    fn failure(&self, check: &str) -> &Finding {
        let found = &self.findings[check];
        assert_eq!(found.result, "failed", "{check}: {found:?}");
        assert_eq!(self.code, Some(1));
        println!("{check}: {} -> {}", found.text, found.cure.as_deref().unwrap());
        found
    }

    fn result(&self, check: &str) -> &str {
        &self.findings[check].result
    }

    fn assert_nothing_failed(&self) {
        assert!(self.findings.values().all(|found| found.result != "failed"), "{:#?}", self.findings);
        assert_eq!(self.code, Some(0));
    }
}

impl Finding {
    fn cure(&self) -> &str {
        self.cure.as_deref().unwrap()
    }

    fn says(&self, words: &str) -> &Self {
        assert!(self.text.contains(words), "{words:?} is not in {self:?}");
        self
    }

    fn cured_by(&self, words: &str) -> &Self {
        assert!(self.cure().contains(words), "{words:?} is not in {self:?}");
        self
    }
}

/// `synkler check`, without a daemon.
fn examine(node: &Node) -> Report {
    let began = Instant::now();
    let output = node.command().arg("check").stdout(Stdio::piped()).output().unwrap();
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    Report::read(&output)
}

/// `synklerctl check`, by the daemon.
fn examine_running(node: &Node) -> Report {
    let began = Instant::now();
    let output = node.ctl().args(["check", "--json"]).stdin(Stdio::null()).output().unwrap();
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    Report::read(&output)
}

/// Waits until `node` has heard of this one.
fn until_known(node: &Node, mode: &str) {
    node.until(LONG, &format!("acquainted with {mode}"), |status| {
        let members = status["members"].as_array().unwrap();
        members.iter().any(|member| member["mode"] == mode && member["alive"] == true)
    });
}

/// A bed with a central that runs: without one nothing can work.
fn group() -> (Bed, Node) {
    let bed = Bed::new();
    let mut central = bed.central("hub", "");
    central.start();
    central.until(LONG, "connected", |status| status["broker"]["connected"] == true);
    (bed, central)
}

/// An upload that has heard where central is, and stopped again.
fn acquainted(bed: &Bed) -> Node {
    let (mut central, mut upload) = (bed.central("hub", ""), bed.upload("alpha", ""));
    central.start();
    upload.start();
    until_known(&upload, "central");
    upload.stop();
    central.stop();
    upload
}

fn shell(command: &str) -> bool {
    Command::new("sh").args(["-c", command]).stdin(Stdio::null()).status().unwrap().success()
}

/// What a directory holds besides what a finished daemon leaves.
fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

#[test]
fn a_sound_group_has_nothing_to_mend() {
    let bed = Bed::new();
    let mut nodes = [bed.central("hub", ""), bed.upload("alpha", ""), bed.download("delta", "")];
    nodes.iter_mut().for_each(Node::start);
    for node in &nodes[1..] {
        until_known(node, "central");
    }
    until_known(&nodes[0], "upload");
    until_known(&nodes[0], "download");
    for node in &nodes {
        let report = examine_running(node);
        report.assert_nothing_failed();
        for check in ["file-dir", "state-dir", "journal", "broker", "login", "queue", "central", "rsync", "clock"] {
            assert_eq!(report.result(check), "ok", "{} {check}: {:?}", node.mode, report.findings[check]);
        }
        let ssh = &report.findings["ssh"];
        assert_eq!(ssh.result, if node.mode == "central" { "skipped" } else { "ok" }, "{ssh:?}");
        assert_eq!(report.result("inotify"), if node.mode == "upload" { "ok" } else { "skipped" });
        assert!(names(&node.file_dir).iter().all(|path| !path.to_string_lossy().contains("synkler-check")));
    }
    // Stopped, the same is found but for what only the daemon can ask.
    for node in &mut nodes {
        node.stop();
        let state = node.file_dir.with_file_name("state");
        let before = names(&state);
        let report = examine(node);
        report.assert_nothing_failed();
        assert_eq!(report.result("clock"), "skipped");
        assert_eq!(report.result("journal"), "ok", "{:?}", report.findings["journal"]);
        let ssh = &report.findings["ssh"];
        assert_eq!(ssh.result, if node.mode == "central" { "skipped" } else { "ok" }, "{ssh:?}");
        assert_eq!(names(&state), before, "an examination leaves nothing behind");
    }
}

#[test]
fn a_bad_config_is_a_finding_too() {
    let dir = tempfile::tempdir().unwrap();
    let node = bed::offline(dir.path(), "upload", "settle_second = 5\n");
    let output = node.command().arg("check").stdout(Stdio::piped()).output().unwrap();
    let report = Report::read(&output);
    assert_eq!(report.code, Some(78));
    assert_eq!(report.findings["config"].result, "failed");
    report.findings["config"].says("settle_second").cured_by("synkler --check");
    // The old flag still prints the settings.
    fs::write(&node.config, fs::read_to_string(&node.config).unwrap().replace("settle_second =", "settle_seconds ="))
        .unwrap();
    let output = node.command().arg("--check").stdout(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("settle_seconds"));
}

#[test]
fn a_wrong_password() {
    let (bed, _central) = group();
    let node = bed.upload("alpha", "");
    examine(&node).assert_nothing_failed();
    node.set("password = \"wrong\"");
    let report = examine(&node);
    report
        .only_failure("login")
        .says("the login is refused")
        .cured_by("set username and password")
        .cured_by("rabbitmqctl change_password syn PASSWORD");
    assert_eq!(
        [report.result("broker"), report.result("queue"), report.result("central")],
        ["ok", "skipped", "skipped"]
    );

    node.set(&format!("password = \"{}\"", Rabbit::PASSWORD));
    node.set("vhost = \"nosuch\"");
    examine(&node).only_failure("login").says("vhost nosuch not found").cured_by("rabbitmqctl add_vhost nosuch");
}

#[test]
fn a_queue_of_other_settings_and_an_account_without_rights() {
    let (bed, _central) = group();
    let node = bed.upload("alpha", "");
    let rabbit = bed.rabbit.lock().unwrap();
    // By somebody else.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let uri = format!("amqp://{}:{}@127.0.0.1:{}/{}", Rabbit::USER, Rabbit::PASSWORD, rabbit.port(), bed.vhost());
        let connection = lapin::Connection::connect(&uri, lapin::ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let durable = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
        let arguments = lapin::types::FieldTable::default();
        channel.queue_declare("synkler.default.upload.alpha".into(), durable, arguments).await.unwrap();
        connection.close(200, "OK".into()).await.unwrap();
    });
    std::mem::forget(runtime);
    let report = examine(&node);
    report
        .failure("queue")
        .says("other settings")
        .cured_by(&format!("rabbitmqctl delete_queue -p {} synkler.default.upload.alpha", bed.vhost()));
    // The cure as it stands.
    rabbit.tool("rabbitmqctl", &["delete_queue", "-p", bed.vhost(), "synkler.default.upload.alpha"]);
    assert_eq!(examine(&node).result("queue"), "skipped", "it is not there yet");

    rabbit.tool("rabbitmqctl", &["set_permissions", "-p", bed.vhost(), "nobody", "^$", "^$", "^$"]);
    node.set("username = \"nobody\"");
    let report = examine(&node);
    let cure = report.failure("queue").says("lacks a permission").cure().to_owned();
    let command = cure.strip_prefix("on the broker: rabbitmqctl ").unwrap();
    let words = shlex::split(command).unwrap();
    rabbit.tool("rabbitmqctl", &words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(examine(&node).result("queue"), "skipped", "the cure, typed as it stands, is one");
}

#[test]
fn an_unknown_host_key_and_a_rejected_login() {
    let bed = Bed::new();
    let (mut central, mut upload) = (bed.central("hub", ""), bed.upload("alpha", ""));
    central.start();
    upload.start();
    until_known(&upload, "central");
    // A newcomer, before it has heard of anybody.
    let (newcomer, known_hosts) = (bed.upload("beta", ""), bed.sshd.path("known_hosts"));
    let known = fs::read(&known_hosts).unwrap();
    assert_eq!(
        examine(&newcomer).findings["ssh"].says("127.0.0.1, the broker host, accepts the login").result,
        "skipped"
    );
    fs::write(&known_hosts, "").unwrap();
    let report = examine(&newcomer);
    report.findings["ssh"].says("the host key of 127.0.0.1 is not known").cured_by("StrictHostKeyChecking=ask");
    assert_eq!(report.result("ssh"), "warning", "it may be another host");
    fs::write(&known_hosts, &known).unwrap();

    let report = examine_running(&upload);
    report.assert_nothing_failed();
    report.findings["ssh"].says("central hub: rsync at 127.0.0.1:").says("answers (protocol ");

    fs::write(&known_hosts, "").unwrap();
    let unknown = |report: &Report| {
        report
            .only_failure("ssh")
            .says("the host key of 127.0.0.1 is not known")
            .cured_by("ssh -o BatchMode=no -o StrictHostKeyChecking=ask ")
            .cured_by("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
    };
    unknown(&examine_running(&upload));
    upload.stop();
    unknown(&examine(&upload));
    fs::write(&known_hosts, &known).unwrap();

    let authorized_keys = bed.sshd.path("authorized_keys");
    let authorized = fs::read(&authorized_keys).unwrap();
    fs::write(&authorized_keys, "").unwrap();
    examine(&upload).only_failure("ssh").says("rejects the login").cured_by("ssh-copy-id 127.0.0.1");

    // A forced command that lets nothing in.
    let forced = format!("command=\"/usr/bin/rrsync -ro /\" {}", String::from_utf8(authorized.clone()).unwrap());
    fs::write(&authorized_keys, forced).unwrap();
    examine(&upload).only_failure("ssh").says("not allowed").cured_by("authorized_keys");
    fs::write(&authorized_keys, authorized).unwrap();
    examine(&upload).assert_nothing_failed();
}

#[test]
fn an_unwritable_directory() {
    let (bed, _central) = group();
    let mut node = bed.download("delta", "");
    node.under = powerless();
    let dir = node.file_dir.clone();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).unwrap();
    let report = examine(&node);
    let cure = report.failure("file-dir").says("permission denied").cured_by("chown ").cure().to_owned();
    assert_eq!(report.result("staging"), "failed", "it would be made in it");
    assert!(shell(cure.split(';').next().unwrap()), "{cure}");
    examine(&node).assert_nothing_failed();

    // An upload only reads, but its cleanup script most likely does more.
    let mut upload = bed.upload("alpha", "cleanup_script = \"rm -r %F\"\n");
    upload.under = powerless();
    fs::set_permissions(&upload.file_dir, fs::Permissions::from_mode(0o555)).unwrap();
    let report = examine(&upload);
    report.assert_nothing_failed();
    assert_eq!(report.result("file-dir"), "warning");
    fs::set_permissions(&upload.file_dir, fs::Permissions::from_mode(0o000)).unwrap();
    examine(&upload).failure("file-dir").says("permission denied");
    fs::set_permissions(&upload.file_dir, fs::Permissions::from_mode(0o755)).unwrap();

    fs::remove_dir(&upload.file_dir).unwrap();
    let cure =
        examine(&upload).failure("file-dir").says("no such file or directory").cured_by("mkdir -p ").cure().to_owned();
    assert!(shell(&cure), "{cure}");
    examine(&upload).assert_nothing_failed();
}

#[test]
fn an_old_rsync() {
    let (bed, _central) = group();
    let mut node = bed.upload("alpha", "");
    let rsync = bed.script("rsync", "echo 'rsync  version 2.6.9  protocol version 29'");
    node.set(&format!("rsync = \"{}\"", rsync.display()));
    let report = examine(&node);
    report
        .only_failure("rsync")
        .says("is rsync 2.6.9, but 3.1.3 or newer is needed")
        .cured_by("apt-get install --only-upgrade rsync");
    node.set("rsync = \"/no/such/rsync\"");
    examine(&node).only_failure("rsync").says("cannot run /no/such/rsync").cured_by("apt-get install rsync");
    node.under.clear();
}

#[test]
fn an_old_rsync_on_central() {
    let bed = Bed::new();
    let upload = acquainted(&bed);
    // What stands in for it speaks to the real one, and says that it is older: the greeting's first byte is the version.
    let old = bed.script("old-rsync", "exec rsync --protocol=30 \"$@\"");
    let forced = format!(
        "command=\"set -- $SSH_ORIGINAL_COMMAND; shift; exec {} $*\" {}",
        old.display(),
        fs::read_to_string(bed.sshd.path("authorized_keys")).unwrap()
    );
    fs::write(bed.sshd.path("authorized_keys"), forced).unwrap();
    examine(&upload).only_failure("ssh").says("uses protocol 30, but 31 is needed").cured_by("on 127.0.0.1: apt-get");
}

#[test]
fn a_stopped_broker() {
    let bed = Bed::alone();
    let (mut central, mut node) = (bed.central("hub", ""), bed.upload("alpha", ""));
    central.start();
    central.until(LONG, "connected", |status| status["broker"]["connected"] == true);
    examine(&node).assert_nothing_failed();
    node.start();
    bed.rabbit.lock().unwrap().kill();
    for report in [examine_running(&node), examine(&node)] {
        report
            .only_failure("broker")
            .says("cannot be reached: Connection refused")
            .cured_by("systemctl start rabbitmq-server");
        assert_eq!([report.result("login"), report.result("queue")], ["skipped", "skipped"]);
    }
    bed.rabbit.lock().unwrap().restart();
    examine(&node).assert_nothing_failed();
}

#[test]
fn nothing_that_hangs_holds_it_up() {
    let bed = Bed::new();
    let upload = acquainted(&bed);
    // Both are connected to, and say nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let ssh = bed.sshd.ssh_with(port, &bed.sshd.path("client_key"), &bed.sshd.path("known_hosts"));
    // Without a limit of its own.
    let ssh = ssh.replace("-o ConnectTimeout=20", "-o ConnectTimeout=0");
    upload.set(&format!("rsync_opts = [\"--rsh={ssh}\"]"));
    upload.set(&format!("port = {port}"));
    let report = examine(&upload);
    assert_eq!(report.result("broker"), "ok", "somebody listens");
    report.failure("login").says("no answer within").cured_by("rabbitmq-diagnostics");
    report.failure("ssh").says("does not answer within").cured_by(" -v 127.0.0.1 true");
}

#[test]
fn a_full_disk() {
    let (bed, _central) = group();
    for (mut node, also) in [(bed.download("delta", ""), "file-dir"), (bed.central("middle", ""), "spool-in")] {
        let dir = node.file_dir.display().to_string();
        node.under = with_mount(&format!(
            "-t tmpfs -o size=256k tmpfs '{dir}' && mkdir -p '{dir}/default/in' '{dir}/default/held' && \
             {{ head -c 1M /dev/zero >'{dir}/.full' 2>/dev/null; true; }}"
        ));
        let report = examine(&node);
        report.failure("space").says("0 B of ").cured_by("du -xh --max-depth=2 ");
        report.failure(also).says("no space left").cured_by("free some space");
        assert_eq!(report.result("state-space"), "ok", "that is on another one");
    }
    // The journal's own file system.
    let mut upload = bed.upload("alpha", "");
    let state = upload.file_dir.with_file_name("state");
    fs::create_dir(&state).unwrap();
    upload.under = with_mount(&format!("-t tmpfs -o size=1m tmpfs '{}'", state.display()));
    let report = examine(&upload);
    report.only_failure("state-space").says("the daemon can stop").cured_by("du -xh");
    assert_eq!(report.result("state-fs"), "warning", "it is gone after a restart");
}

#[test]
fn a_clock_ten_minutes_off() {
    let bed = Bed::new();
    let (mut central, mut upload, mut download) =
        (bed.central("hub", ""), bed.upload("alpha", ""), bed.download("delta", ""));
    let library = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let library = library.map(|dir| dir.join("faketime/libfaketime.so.1")).find(|path| path.exists());
    let library = library.expect("libfaketime is installed by .ci/setup");
    upload.variables = vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", "+10m".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    central.start();
    download.start();
    upload.start();
    until_known(&upload, "central");
    until_known(&upload, "download");
    until_known(&download, "upload");
    // Seen from one that is right, and from the one that is not.
    let report = examine_running(&download);
    report
        .only_failure("clock")
        .says("the clock of upload alpha is 10 min 0 s ahead of this node's clock")
        .cured_by("on the host with the wrong clock (see date -u): timedatectl set-ntp true");
    let report = examine_running(&upload);
    report
        .only_failure("clock")
        .says("the clock of central hub is 10 min 0 s behind this node's clock")
        .cured_by("all other nodes agree, so on this host: timedatectl set-ntp true");
}

#[test]
fn too_few_inotify_watches() {
    let (bed, _central) = group();
    let mut node = bed.upload("alpha", "");
    // A limit of a namespace's own, which nobody else feels.
    let limit = "echo 0 >/proc/sys/user/max_inotify_watches && exec \"$@\"";
    node.under = ["unshare", "-Ur", "sh", "-c", limit, "sh"].map(str::to_owned).to_vec();
    examine(&node)
        .only_failure("inotify")
        .says("inotify watches of this user are used up")
        .cured_by("sysctl -w user.max_inotify_watches=524288")
        .cured_by("/etc/sysctl.d/60-synkler.conf");
    let limit = "echo 0 >/proc/sys/user/max_inotify_instances && exec \"$@\"";
    node.under = ["unshare", "-Ur", "sh", "-c", limit, "sh"].map(str::to_owned).to_vec();
    examine(&node).only_failure("inotify").cured_by("sysctl -w user.max_inotify_instances=1024");
    // The cure, in the namespace that is short of them.
    let limit =
        "echo 0 >/proc/sys/user/max_inotify_watches && echo 1000 >/proc/sys/user/max_inotify_watches && exec \"$@\"";
    node.under = ["unshare", "-Ur", "sh", "-c", limit, "sh"].map(str::to_owned).to_vec();
    examine(&node).assert_nothing_failed();
}

#[test]
fn a_damaged_or_foreign_journal() {
    let (bed, _central) = group();
    let mut node = bed.upload("alpha", "");
    node.start();
    assert_eq!(examine(&node).result("journal"), "ok", "also while the daemon has it open");
    node.stop();
    node.set("name = \"beta\"");
    examine(&node).only_failure("journal").says("belongs to upload alpha").cured_by("restore id, mode and name");
    node.set("name = \"alpha\"");
    let journal = node.file_dir.with_file_name("state").join("journal.db");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[4096..8192].fill(0xa5);
    fs::write(&journal, bytes).unwrap();
    examine(&node).only_failure("journal").says("is damaged").cured_by("sqlite3 journal.db .recover");
}
