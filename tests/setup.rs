//! `synkler init`, `synkler drop-in` and `synkler broker-setup` as an administrator meets them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn synkler(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synkler"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn init_writes_a_config_that_serves_and_says_what_is_next() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (config, files) = (path("c.toml"), path("files"));
    let more: &[&str] =
        &["--server", "mq.example.com", "--name", "alpha", "--cleanup-script", "mv %F '/srv/my files/%f'"];
    let given = [&["--config", &config, "init", "upload", "--file-dir", &files], more].concat();
    let output = synkler(&given);
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("is not a directory yet"), "{}", err(&output));
    assert!(out(&output).contains("\n   systemctl enable --now synkler\n"), "{}", out(&output));
    assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o640);
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("\nusername = \"synkler.default.upload.alpha\"\n"), "{text}");
    let check = synkler(&["--config", &config, "--check"]);
    assert!(check.status.success(), "{}", err(&check));

    // What somebody has written is not lost.
    let again = synkler(&given);
    assert_eq!(again.status.code(), Some(1));
    assert!(err(&again).contains("already sets keys"), "{}", err(&again));
    let forced = synkler(&[&given[..], &["--force", "--make-dir", "--id", "g"]].concat());
    assert!(forced.status.success(), "{}", err(&forced));
    assert!(Path::new(&files).is_dir());
    assert!(fs::read_to_string(&config).unwrap().contains("\nid = \"g\"\n"));

    // A config that would not serve takes nobody's place.
    let before = fs::read_to_string(&config).unwrap();
    let bad = synkler(&[
        "--config",
        &config,
        "init",
        "central",
        "--force",
        "--file-dir",
        "/srv/a b",
        "--server",
        "mq",
        "--central-host",
        "hub",
    ]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(err(&bad).contains("file_dir: on central, the other nodes pass it to rsync"), "{}", err(&bad));
    assert_eq!(fs::read_to_string(&config).unwrap(), before);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left behind");

    // A file of comments alone, as the package installs it, is no obstacle; what is needed must be told.
    fs::write(&config, include_str!("../packaging/synkler.toml")).unwrap();
    let missing = synkler(&["--config", &config, "init", "upload", "--file-dir", &files]);
    assert_eq!(
        (missing.status.code(), err(&missing)),
        (Some(2), "synkler: --server is required without a terminal\n".to_owned())
    );
}

/// In a namespace with an /etc of its own.
#[test]
fn init_keeps_the_password_out_of_the_config() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("password"), "hunter2\n").unwrap();
    let script = format!(
        "mount -t tmpfs tmpfs /etc && echo synkler:x:0:0::/:/bin/sh >/etc/passwd && echo synkler:x:0: >/etc/group && \
         cd '{place}' && '{synkler}' init download --file-dir '{place}/in' --server mq --name delta --id g --make-dir \
         --password-file password --ca-file ca.pem && cp -a /etc/synkler '{place}/' && '{synkler}' --check",
        place = directory.path().display(),
        synkler = env!("CARGO_BIN_EXE_synkler")
    );
    let pem = "-----BEGIN CERTIFICATE-----\nZm9v\n-----END CERTIFICATE-----\n";
    fs::write(directory.path().join("ca.pem"), pem).unwrap();
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let output =
        Command::new("unshare").args([flags, "sh", "-ec", &script]).env("HOME", "/nonexistent").output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    let made = directory.path().join("synkler");
    let config = fs::read_to_string(made.join("synkler.toml")).unwrap();
    assert!(!config.contains("hunter2") && config.contains("\ntls = true\n"), "{config}");
    assert_eq!(fs::read_to_string(made.join("credentials/password")).unwrap(), "hunter2\n");
    assert_eq!(fs::read_to_string(made.join("credentials/ca.pem")).unwrap(), pem);
    for (name, mode) in [("credentials", 0o700), ("credentials/password", 0o600), ("synkler.toml", 0o640)] {
        assert_eq!(fs::metadata(made.join(name)).unwrap().mode() & 0o777, mode, "{name}");
    }
    let report = out(&output);
    let row = report.lines().find(|line| line.starts_with("password ")).unwrap();
    assert!(row.contains("hidden") && row.ends_with("(/etc/synkler/credentials/password)"), "{row}");
    assert!(!report.contains("hunter2") && report.contains("/etc/synkler/credentials/ca.pem"), "{report}");
    assert!(
        report.contains("synklerctl --id g status") && !report.contains("Write the password of the broker account"),
        "{report}"
    );
}

/// What systemd itself says of the unit with its drop-in: nothing.
#[test]
fn systemd_takes_the_drop_in_as_it_is() {
    let directory = TempDir::new().unwrap();
    let place = directory.path();
    let odd = place.join("my \"own\" 100%i \\files: $HOME ;#'");
    let sent = place.join("sent to");
    for made in [&odd, &sent] {
        fs::create_dir(made).unwrap();
    }
    let config = place.join("c.toml");
    let quote = |path: &Path| format!("{:?}", path.to_str().unwrap());
    let script = format!("cleanup_script = [\"mv\", \"-t\", {}, \"%F\"]\n", quote(&sent));
    fs::write(&config, format!("mode = 'upload'\nsynkler_server = 'mq'\nfile_dir = {}\n{script}", quote(&odd)))
        .unwrap();
    let made = synkler(&["--config", config.to_str().unwrap(), "drop-in", "--also", "/home/user/x y"]);
    assert!(made.status.success(), "{}", err(&made));
    let text = out(&made);
    assert!(
        text.contains("sent to")
            && text.contains("ProtectHome=tmpfs\n")
            && text.contains("BindPaths=\"-/home/user/x y\"\n"),
        "{text}"
    );

    let units = place.join("units");
    fs::create_dir_all(units.join("synkler.service.d")).unwrap();
    let unit =
        include_str!("../systemd/system/synkler.service").replace("/usr/bin/synkler", env!("CARGO_BIN_EXE_synkler"));
    let alone = unit.replace("Also=synkler.socket\n", "").replace(" synkler.socket\n", "\n");
    fs::write(units.join("synkler.service"), alone).unwrap();
    let verify = |drop_in: &str| {
        fs::write(units.join("synkler.service.d/paths.conf"), drop_in).unwrap();
        let mut command = Command::new("systemd-analyze");
        let output = command.args(["verify", "--man=no"]).arg(units.join("synkler.service")).output().unwrap();
        (output.status.success(), err(&output))
    };
    let about_the_drop_in = |said: &str| said.lines().filter(|line| line.contains("paths.conf")).count();
    let (_, said) = verify(&text);
    assert_eq!(about_the_drop_in(&said), 0, "{said}");
    // It would have said so.
    let (_, said) = verify("[Service]\nReadWritePaths=srv\n");
    assert_eq!(about_the_drop_in(&said), 1, "{said}");
}

#[test]
fn broker_setup_prints_a_script_that_a_shell_takes() {
    let output = synkler(&["broker-setup", "--vhost", "v", "--id", "g.1", "upload:alpha", "central:hub"]);
    assert!(output.status.success(), "{}", err(&output));
    let script = out(&output);
    let check = |text: &str| {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("script");
        fs::write(&path, text).unwrap();
        Command::new("sh").arg("-n").arg(path).status().unwrap().success()
    };
    assert!(check(&script), "{script}");
    assert_eq!(script.matches("rabbitmqctl 'add_user' 'synkler.g:1.").count(), 2, "{script}");
    let other = out(&synkler(&["broker-setup", "--vhost", "v", "--id", "g.1", "upload:alpha", "central:hub"]));
    assert_ne!(script, other, "passwords are drawn anew");
    for wrong in [&["broker-setup"][..], &["broker-setup", "alpha"], &["broker-setup", "--vhost", "$(id)", "upload:a"]]
    {
        assert_eq!(synkler(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

/// Debian's rabbitmqctl hands its arguments to a shell, in double quotes.
#[test]
fn rights_pass_through_debians_wrapper_as_they_are() {
    let script = out(&synkler(&["broker-setup", "upload:a.b", "central:hub", "download:x_-1"]));
    let wrapper = r#"
        rabbitmqctl() {
            line=
            for arg in "$@"; do line="$line \"$(printf %s "$arg" | sed -e 's/"/\\"/g')\""; done
            sh -c "printf '<%s>' $line"; printf '<%s>' "$@" >&2
        }
    "#;
    let quiet = script.lines().filter(|line| line.starts_with("rabbitmqctl 'set_")).collect::<Vec<_>>().join("\n");
    assert_eq!(quiet.lines().count(), 6, "{script}");
    let output = Command::new("sh").args(["-ec", &format!("{wrapper}\n{quiet}")]).output().unwrap();
    assert_eq!(out(&output), err(&output));
    assert!(out(&output).contains("synkler\\.default"), "{}", out(&output));
}

/// In a namespace with an /etc and a /var/lib of its own; only root can give files away.
#[test]
fn another_user_gets_the_files_of_the_service_and_gives_them_back() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let script = r#"
        for own in /etc /var/lib /run; do mount -t tmpfs tmpfs $own; done
        printf 'root:x:0:0::/:/bin/sh\nsynkler:x:991:991::/:/bin/sh\nalice:x:1000:100::/:/bin/sh\n' >/etc/passwd
        printf 'root:x:0:\nsynkler:x:991:\nstaff:x:100:\n' >/etc/group
        mkdir -p /etc/synkler /var/lib/synkler/.ssh /var/lib/synkler/inst out/.synkler
        echo "synkler_server = 'mq'" | tee /etc/synkler/inst.toml >/etc/synkler/synkler.toml
        printf "mode = 'upload'\nfile_dir = '$PWD/out'\n" >>/etc/synkler/synkler.toml
        touch outside out/item out/.synkler/marker
        cd /var/lib/synkler
        touch journal.db ssh_key lock theirs inst/journal.db
        ln -s "$OLDPWD/outside" link
        chown -hR 991:991 /var/lib/synkler "$OLDPWD"
        chown 5 theirs "$OLDPWD/outside"
        cd "$OLDPWD"
        look() { (cd /var/lib && stat -c '%n %u:%g' synkler synkler/*) && stat -c '%n %u:%g' outside out out/item out/.synkler/marker; }
        look >before
        flock /var/lib/synkler/lock "$SYNKLER" drop-in --apply --as alice 2>refused && exit 9
        look | cmp - before
        test ! -e /etc/systemd/system/synkler.service.d/paths.conf
        "$SYNKLER" drop-in --apply --as alice
        look >after
        cp /etc/systemd/system/synkler.service.d/paths.conf .
        "$SYNKLER" drop-in --apply
        look | cmp - before
        ! grep -q User= /etc/systemd/system/synkler.service.d/paths.conf
        # A directory that is the user's own stays so, whatever happens.
        chown 1000:100 out
        "$SYNKLER" drop-in --apply --as alice
        "$SYNKLER" drop-in --apply
        stat -c '%u:%g' out /var/lib/synkler >kept
        # What somebody else has set up stays.
        chown 1000 /var/lib/synkler
        "$SYNKLER" drop-in --apply
        test $(stat -c %u /var/lib/synkler) = 1000
        chown 991 /var/lib/synkler
        echo key >/var/lib/synkler/.ssh/authorized_keys
        "$SYNKLER" drop-in --apply --as alice 2>logins && exit 9
        "$SYNKLER" drop-in --apply --as eve 2>unknown && exit 9
        "$SYNKLER" drop-in --as root 2>root && exit 9
        true
    "#;
    let output = Command::new("unshare")
        .args(["-m", "sh", "-ec", script])
        .current_dir(directory.path())
        .env("SYNKLER", env!("CARGO_BIN_EXE_synkler"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(
        read("after"),
        "synkler 1000:991\nsynkler/inst 991:991\nsynkler/journal.db 1000:991\nsynkler/link 1000:991\nsynkler/lock 1000:991\n\
         synkler/ssh_key 1000:991\nsynkler/theirs 5:991\noutside 5:991\nout 1000:991\nout/item 991:991\n\
         out/.synkler/marker 1000:991\n"
    );
    assert!(
        read("paths.conf").contains("\nUser=alice\nGroup=synkler\nSupplementaryGroups=staff\n"),
        "{}",
        read("paths.conf")
    );
    assert_eq!(read("kept"), "1000:100\n991:991\n");
    assert!(read("refused").contains("stop it with systemctl stop synkler"), "{}", read("refused"));
    assert!(read("logins").contains("authorized_keys: nodes log in with these keys"), "{}", read("logins"));
    assert!(read("unknown").contains("\"eve\" is not a user in /etc/passwd"), "{}", read("unknown"));
    assert!(read("root").contains("must not be root"), "{}", read("root"));
}
