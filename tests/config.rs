//! The config as an operator meets it: files on disk, variables, and what is said about them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use synkler::config::{Cleanup, Environment, KEYS, Loaded, Percent, Preset, Role, load, sets_anything};
use synkler::machine::{KeepModes, Mode};
use tempfile::TempDir;

const SAMPLE: &str = include_str!("../sample-config");
const SEED: &str = include_str!("fixtures/seed-sample-config");
const SMALL: &str = "file_dir = '/srv/in'\nsynkler_server = 'mq'\n";

/// Surroundings that know nothing of the real ones.
fn nowhere() -> Environment {
    Environment::new("box").with("HOME", "/nonexistent").with_system_file("/nonexistent/synkler.conf")
}

fn write(directory: &TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

fn load_as(name: &str, text: &str, environment: &Environment) -> Result<Loaded, Vec<String>> {
    let directory = TempDir::new().unwrap();
    let path = write(&directory, name, text);
    let place = path.to_str().unwrap().to_owned();
    let short = |text: &str| text.replace(&place, name);
    load(Some(&path), environment).map_err(|error| {
        assert_eq!(error.to_string(), error.problems().join("\n"));
        error.problems().iter().map(|problem| short(problem)).collect()
    })
}

fn good(text: &str) -> Loaded {
    load_as("c", text, &nowhere()).unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"))
}

fn bad(text: &str) -> Vec<String> {
    match load_as("c", text, &nowhere()) {
        Ok(loaded) => panic!("{text}\nloads as {:?}", loaded.settings),
        Err(problems) => problems,
    }
}

/// The sample's keys, with the commented ones switched on where `wanted` says so.
fn sample(wanted: impl Fn(&str) -> bool) -> (String, Vec<String>) {
    let mut keys = Vec::new();
    let mut text = String::new();
    for line in SAMPLE.lines() {
        let bare = line.strip_prefix('#').unwrap_or(line);
        match bare.split_once(" = ") {
            Some((key, _)) if !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {
                keys.push(key.to_owned());
                text.push_str(if wanted(key) { bare } else { line });
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    (text, keys)
}

#[test]
fn the_sample_loads_as_it_is() {
    let loaded = good(SAMPLE);
    assert_eq!(loaded.settings.mode(), Mode::Central);
    assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
}

#[test]
fn the_sample_loads_with_every_option_switched_on() {
    const FILES: [&str; 4] = ["password_file", "ca_file", "client_cert", "client_key"];
    // Of these, one at a time.
    const CLEANUPS: [&str; 3] = ["cleanup_script", "cleanup_move", "cleanup_delete"];
    for cleanup in CLEANUPS {
        // What is given away is not moved or deleted.
        let fits = |key: &str| cleanup == "cleanup_script" || !["owner", "group"].contains(&key);
        let (all, _) = sample(|key| !FILES.contains(&key) && fits(key) && (key == cleanup || !CLEANUPS.contains(&key)));
        for mode in ["central", "upload", "download"] {
            let loaded = load_as("c", &all, &nowhere().with("SYNKLER_MODE", mode)).unwrap();
            assert_eq!(loaded.settings.mode().as_str(), mode);
            assert_eq!(loaded.settings.node.name.as_str(), "node-1");
        }
    }
    let directory = TempDir::new().unwrap();
    let secret = write(&directory, "password", "x\n");
    let (all, _) =
        sample(|key| key == "password_file" || !FILES.contains(&key) && key != "password" && !CLEANUPS.contains(&key));
    let all = all.replace("/etc/synkler.password", secret.to_str().unwrap());
    assert_eq!(good(&all).settings.broker.password.as_ref().unwrap().expose(), "x");
}

#[test]
fn the_sample_shows_every_key_and_its_default() {
    let (text, keys) = sample(|_| true);
    let shown: BTreeSet<_> = keys.iter().map(String::as_str).collect();
    let known: BTreeSet<_> = KEYS.iter().filter(|key| key.preset != Preset::Ignored).map(|key| key.name).collect();
    assert_eq!(shown, known);
    assert_eq!(keys.len(), shown.len(), "a key is there twice");
    for key in KEYS {
        if let Preset::Value(default) = key.preset {
            let (name, plain, quoted) = (key.name, format!("{} = {default}\n", key.name), format!("{default:?}"));
            assert!(text.contains(&plain) || text.contains(&format!("{name} = {quoted}\n")), "{name}");
        }
        if key.preset == Preset::Required {
            assert!(SAMPLE.contains(&format!("\n{} = ", key.name)), "{} is commented out", key.name);
        }
    }
}

#[test]
fn the_seeds_sample_loads_once_it_is_filled_in() {
    for mode in ["central", "upload", "download"] {
        let text = SEED.replace("mode = central", &format!("mode = {mode}"));
        let loaded = good(&text);
        let settings = &loaded.settings;
        assert_eq!(settings.mode().as_str(), mode);
        assert_eq!(settings.file_dir, Path::new("/home/user/temp_downloads"));
        assert_eq!(settings.broker.host, "rabbitmq.example.com");
        assert_eq!((settings.broker.port, settings.broker.vhost.as_str()), (5672, "/"));
        assert_eq!(settings.broker.username, "username");
        assert_eq!(settings.broker.password.as_ref().unwrap().expose(), "password");
        assert_eq!(settings.rsync.program, Path::new("/usr/bin/rsync"));
        assert_eq!(settings.rsync.options, ["--rsh=/usr/bin/ssh"]);
        let notices = loaded.notices.join("\n");
        assert!(notices.contains("username: the quotes around the value are removed"), "{notices}");
        assert!(notices.contains("pidfile is ignored"), "{notices}");
        assert_eq!(notices.contains("cleanup_script is ignored"), mode == "central", "{notices}");
        match &settings.role {
            Role::Central { host, receivers, keep, free, keep_modes } => {
                assert_eq!(*keep_modes, KeepModes::Try);
                assert_eq!((host.as_str(), receivers), ("rabbitmq.example.com", &None));
                assert_eq!((*keep, *free), (Duration::from_secs(1800), Percent::from_thousandths(5000)));
            }
            Role::Upload { cleanup, slots: 2, .. } | Role::Download { cleanup, slots: 2, .. } => {
                let name = synkler::machine::ItemName::new(b"a b").unwrap();
                let Some(Cleanup::Script(script)) = cleanup else { panic!("{cleanup:?}") };
                let argv = script.argv(&name, Path::new("/home/user/temp_downloads/a b"));
                assert_eq!(argv, ["mv", "/home/user/temp_downloads/a b", "/home/user/downloads"]);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_cleanup_at_a_time_and_none_into_the_directory_itself() {
    let refused = |lines: &str| load_as("c.toml", &format!("{SMALL}mode = 'upload'\n{lines}"), &nowhere()).unwrap_err();
    for (lines, key, first) in [
        ("cleanup_move = '/sent'\ncleanup_script = 'rm %F'\n", "cleanup_move", "cleanup_script"),
        ("cleanup_delete = true\ncleanup_script = 'rm %F'\n", "cleanup_delete", "cleanup_script"),
        ("cleanup_move = '/sent'\ncleanup_delete = true\n", "cleanup_delete", "cleanup_move"),
    ] {
        let error = refused(lines).join("\n");
        assert!(error.contains(&format!("{key}: is set together with {first}; set one of them")), "{error}");
    }
    let file_dir = good(SMALL).settings.file_dir;
    for below in [file_dir.clone(), file_dir.join("sent")] {
        let error = refused(&format!("cleanup_move = {below:?}\n")).join("\n");
        assert!(error.contains("allowed is a directory outside file_dir"), "{error}");
    }
    for value in ["'sent'", "'/a/../b'", "7", "['/a']", "true"] {
        let error = refused(&format!("cleanup_move = {value}\n")).join("\n");
        assert!(error.contains("cleanup_move: found "), "{error}");
    }
    // One file may serve all modes, and an empty value sets nothing.
    let loaded = good(&format!("{SMALL}mode = 'central'\ncleanup_move = '/sent'\n"));
    assert!(loaded.notices[0].ends_with("cleanup_move is ignored: central has no cleanup"), "{:?}", loaded.notices);
    let loaded = good(&format!("{SMALL}mode = 'upload'\ncleanup_script = ''\ncleanup_move = '/sent'\n"));
    let Role::Upload { cleanup, .. } = loaded.settings.role else { panic!() };
    assert_eq!(cleanup, Some(Cleanup::Move("/sent".into())));
}

#[test]
fn an_upload_says_when_an_item_counts_as_complete() {
    use synkler::machine::Readiness;
    let upload = |lines: &str| format!("{SMALL}mode = 'upload'\n{lines}");
    let ready = |text: &str| match good(text).settings.role {
        Role::Upload { items, .. } => items.ready,
        other => panic!("{other:?}"),
    };
    assert_eq!(ready(&upload("")), Readiness::Settled);
    assert_eq!(ready(&upload("ready = 'submit'\n")), Readiness::Submit);
    let marker = |text: &str| Readiness::Marker(text.parse().unwrap());
    assert_eq!(ready(&upload("ready = 'marker'\n")), marker("%f.done"));
    assert_eq!(ready(&upload("ready = 'marker'\nmarker = '%f/.complete'\n")), marker("%f/.complete"));
    let ini = SEED.replace("mode = central", "mode = upload\nready = marker\nmarker = .%f");
    assert_eq!(ready(&ini), marker(".%f"));
    let unused = good(&upload("marker = '%f.ok'\n")).notices.join("\n");
    assert!(unused.contains("marker is ignored: set ready = \"marker\" to use it"), "{unused}");
    for mode in ["central", "download"] {
        for (lines, key) in [("item_depth = 1", "item_depth"), ("ready = 'submit'", "ready")] {
            let notices = good(&format!("{SMALL}mode = '{mode}'\n{lines}\n")).notices.join("\n");
            assert!(notices.contains(&format!("{key} is ignored: only an upload decides")), "{notices}");
        }
    }
    for (lines, words) in [
        ("ready = 'soon'", "ready: found \"soon\", allowed are settled, marker and submit"),
        ("ready = true", "ready: found true"),
        ("marker = 'done'", "marker: found \"done\", allowed is %f once"),
        ("ready = 'marker'\nmarker = '%f'", "marker: found \"%f\", allowed is %f once"),
        ("ready = 'marker'\nmarker = 'a/%f'", "marker: found \"a/%f\""),
        ("ready = 'marker'\nmarker = '%f/..'", "marker: found \"%f/..\""),
    ] {
        let error = load_as("c.toml", &upload(&format!("{lines}\n")), &nowhere()).unwrap_err().join("\n");
        assert!(error.contains(words), "{lines}: {error}");
    }
}

#[test]
fn a_download_gives_items_an_owner_and_modes() {
    let download = |lines: &str| format!("{SMALL}mode = 'download'\n{lines}");
    let given = |text: &str| match good(text).settings.role {
        Role::Download { ownership, .. } => ownership,
        other => panic!("{other:?}"),
    };
    let all = given(&download("owner = 'root'\ngroup = 33\nfile_mode = '0640'\ndir_mode = '2750'\n"));
    let id = |account: &Option<synkler::machine::Account>| account.as_ref().map(|account| account.id);
    assert_eq!((id(&all.owner), id(&all.group)), (Some(0), Some(33)));
    assert_eq!((all.file_mode, all.dir_mode), (Some(0o640), Some(0o2750)));
    assert_eq!(given(&download("owner = ''\nfile_mode = ''\n")), synkler::machine::Ownership::default());
    let ini = SEED.replace("mode = central", "mode = download\nowner = root\nfile_mode = 0640\ndir_mode = 750");
    let ini = given(&ini);
    assert_eq!((id(&ini.owner), ini.file_mode, ini.dir_mode), (Some(0), Some(0o640), Some(0o750)));
    let shown = good(&download("owner = 'root'\nfile_mode = '640'\n")).report();
    assert!(shown.contains("\nowner ") && shown.contains("\nfile_mode ") && shown.contains("  0640 "), "{shown}");

    for (lines, words) in [
        ("owner = 'no-such-user'", "owner: found \"no-such-user\", but /etc/passwd has no such user"),
        ("group = 'no-such-group'", "group: found \"no-such-group\", but /etc/group has no such group"),
        ("owner = 'a b'", "owner: found \"a b\", allowed is the name or number"),
        ("owner = true", "owner: found true"),
        ("owner = 4294967295", "owner: found"),
        ("file_mode = 640", "file_mode: found the number 640, allowed is a mode in quotes, such as \"0640\""),
        ("dir_mode = 0o750", "dir_mode: found the number 488, allowed is a mode in quotes"),
        ("file_mode = '0689'", "file_mode: found \"0689\", allowed is an octal mode from 0400 to 0777"),
        ("file_mode = '4755'", "file_mode: found \"4755\", allowed is an octal mode from 0400 to 0777"),
        ("dir_mode = '0550'", "dir_mode: found \"0550\", allowed is an octal mode from 0700 to 7777"),
        ("dir_mode = '10750'", "dir_mode: found \"10750\", allowed is an octal mode from 0700 to 7777"),
        ("owner = 'root'\ncleanup_move = '/sent'", "owner: is set together with cleanup_move"),
        ("group = 'root'\ncleanup_move = '/sent'", "group: is set together with cleanup_move"),
        ("owner = 'root'\ncleanup_delete = true", "owner: is set together with cleanup_delete"),
    ] {
        let error = load_as("c.toml", &download(&format!("{lines}\n")), &nowhere()).unwrap_err().join("\n");
        assert!(error.contains(words), "{lines}: {error}");
    }
    // One file may serve several hosts: only a download needs the user, and the others say that they do not use it.
    for mode in ["upload", "central"] {
        let loaded = good(&format!("{SMALL}mode = '{mode}'\nowner = 'no-such-user'\ncleanup_move = '/sent'\n"));
        let notices = loaded.notices.join("\n");
        assert!(notices.contains("owner is ignored: only a download gives items an owner and modes"), "{notices}");
    }
}

#[test]
fn the_search_goes_from_near_to_far() {
    let directory = TempDir::new().unwrap();
    let config = |name: &str| {
        let vhost = name.replace('/', "-");
        write(&directory, name, format!("{SMALL}vhost = '{vhost}'\n"))
    };
    let system = config("etc/synkler.conf");
    let environment = Environment::new("box").with("HOME", directory.path().join("home")).with_system_file(&system);
    let vhost = |environment: &Environment| load(None, environment).unwrap().settings.broker.vhost;

    assert_eq!(vhost(&environment), "etc-synkler.conf");
    config("home/.config/synkler/synkler.conf");
    assert_eq!(vhost(&environment), "home-.config-synkler-synkler.conf");
    config("home/synkler.conf");
    assert_eq!(vhost(&environment), "home-synkler.conf");
    let other = config("place/synkler.conf");
    assert_eq!(vhost(&environment.clone().with("SYNKLER_CONF", &other)), "place-synkler.conf");
    let environment = environment.with("SYNKLER_CONF", other.parent().unwrap());
    assert_eq!(vhost(&environment), "place-synkler.conf");
    let explicit = load(Some(&system), &environment).unwrap();
    assert_eq!(explicit.settings.broker.vhost, "etc-synkler.conf");
    assert_eq!(explicit.file, Some(system));

    // A file that was asked for must be there; the search does not go on.
    let gone = directory.path().join("gone");
    let error = load(Some(&gone), &environment).unwrap_err().to_string();
    assert!(error.contains("gone") && error.contains("--config"), "{error}");
    let error = load(None, &environment.with("SYNKLER_CONF", &gone)).unwrap_err().to_string();
    assert!(error.contains("gone") && error.contains("$SYNKLER_CONF"), "{error}");
}

#[test]
fn the_environment_wins_and_may_do_alone() {
    let environment = nowhere()
        .with("SYNKLER_FILE_DIR", "/srv/x")
        .with("SYNKLER_SYNKLER_SERVER", "::1")
        .with("SYNKLER_PASSWORD", "0755")
        .with("SYNKLER_RECEIVERS", "a, b,a")
        .with("SYNKLER_KEEP_MINUTES", "0.5");
    let loaded = load(None, &environment).unwrap();
    assert_eq!(loaded.file, None);
    assert_eq!(loaded.settings.broker.password.as_ref().unwrap().expose(), "0755");
    assert_eq!(loaded.settings.broker.host, "::1");
    let Role::Central { host, receivers, keep, .. } = &loaded.settings.role else { panic!() };
    assert_eq!(host, "[::1]");
    assert_eq!(keep, &Duration::from_secs(30));
    assert_eq!(receivers.iter().flatten().map(|name| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    let loaded = load_as("c.toml", &format!("{SMALL}port = 1\n"), &environment.with("SYNKLER_PORT", "2")).unwrap();
    assert_eq!(loaded.settings.broker.port, 2);

    let wrong = nowhere().with("SYNKLER_KEEP_MINUTS", "5").with("SYNKLER_PORT", "x").with("SYNKLER_name", "n");
    let problems = load_as("c", SMALL, &wrong).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:#?}");
    let all = problems.join("\n");
    assert!(all.contains("SYNKLER_KEEP_MINUTS: sets no known key; the nearest is SYNKLER_KEEP_MINUTES"), "{all}");
    assert!(all.contains("environment variable SYNKLER_PORT: port: found \"x\""), "{all}");
    assert!(all.contains("SYNKLER_name: sets no known key; the nearest is SYNKLER_NAME"), "{all}");

    let problems = load_as("c", SMALL, &nowhere().with("SYNKLER_SYNKLER_SERVR", "mq")).unwrap_err();
    assert!(problems[0].ends_with("the nearest is SYNKLER_SYNKLER_SERVER"), "{problems:?}");

    let error = load(None, &nowhere().with("SYNKLER_ID", "g")).unwrap_err().to_string();
    assert!(error.contains("file_dir: is not set and there is no config file"), "{error}");
    assert!(
        error.contains("/nonexistent/.config/synkler/synkler.conf") && error.contains("SYNKLER_FILE_DIR"),
        "{error}"
    );
}

#[test]
fn without_any_config_the_way_to_one_is_told() {
    let error = load(None, &nowhere()).unwrap_err();
    assert_eq!(
        error.problems(),
        ["no config found: searched /nonexistent/synkler.conf, /nonexistent/.config/synkler/synkler.conf, \
          /nonexistent/synkler.conf; write one with: synkler init upload (or central, or download)"]
    );
}

#[test]
fn a_file_that_sets_nothing_is_passed_over_and_the_original_programs_config_serves() {
    let directory = TempDir::new().unwrap();
    let installed = write(&directory, "synkler/synkler.toml", include_str!("../packaging/synkler.toml"));
    let seed = write(&directory, "synkler.conf", SEED);
    let environment = Environment::new("box").with_system_files([installed.clone(), seed.clone()]);
    let environment = environment.with("STATE_DIRECTORY", "/var/lib/synkler").with("SYNKLER_MODE", "upload");
    let loaded = load(None, &environment).unwrap();
    assert_eq!(loaded.file, Some(seed.clone()));
    assert_eq!(loaded.settings.rsync.options, ["--rsh=/usr/bin/ssh"]);
    let Role::Upload { cleanup: Some(Cleanup::Script(script)), .. } = &loaded.settings.role else {
        panic!("{:?}", loaded.settings)
    };
    assert_eq!(script.argv(&synkler::machine::ItemName::new(b"x").unwrap(), Path::new("/in/x"))[0], "mv");
    assert_eq!(loaded.notices[0], format!("{}: sets no key and is skipped", installed.display()));

    // Once the package's file sets anything, it alone counts, be it complete or not.
    assert!(!sets_anything(&installed).unwrap() && sets_anything(&seed).unwrap());
    fs::write(&installed, "vhost = 'x'\n").unwrap();
    let error = load(None, &environment).unwrap_err().to_string();
    assert!(error.contains(&format!("set it in {}", installed.display())), "{error}");
    assert!(sets_anything(&installed).unwrap());
    fs::write(&installed, "[default]\n").unwrap();
    assert!(!sets_anything(&installed).unwrap());

    // With nothing but that file there is no config, and it is told why that one does not count.
    fs::remove_file(&seed).unwrap();
    let bare = Environment::new("box").with_system_files([installed.clone(), seed]);
    let error = load(None, &bare).unwrap_err().to_string();
    assert!(
        error.contains(&format!("({}: sets no key", installed.display())) && error.contains("synkler init"),
        "{error}"
    );
    // A file that was asked for is taken at its word.
    assert!(load(Some(&installed), &bare).unwrap_err().to_string().contains("file_dir: is not set; set it in"));
}

#[test]
fn every_problem_is_told_with_its_line_and_what_is_allowed() {
    let text = "mode = 'uplod'\nfile_dir = 'srv'\n\n[default]\nkeep_minuts = 3\nport = 70_000\nid = 'a b'\n\
                transfers = 0\nsettle_seconds = -1\nfree_percent = 99.5\nrsync = true\nreceivers = ['a', 'b c']\n\
                rsync_opts = '-a,--delete,--quux'\ncleanup_script = 'mv %d'\npassword = 5\ncleanup_timeout_minutes = 0\n\
                [broker]\nport = 1\n";
    let problems = bad(text);
    let expected = [
        ("c:1: mode: ", "upload, central or download"),
        ("c:2: file_dir: found \"srv\"", "absolute path"),
        ("c:5: unknown key keep_minuts", "keep_minutes"),
        ("c:6: port: found \"70000\"", "from 1 to 65535"),
        ("c:7: id: ", "\"a b\""),
        ("c:8: transfers: found \"0\"", "from 1 to 64"),
        ("c:9: settle_seconds: found \"-1\"", "up to 86400"),
        ("c:10: free_percent: found \"99.5\"", "up to 99"),
        ("c:11: rsync: found true", "text in quotes"),
        ("c:12: receivers: ", "\"b c\""),
        ("c:13: rsync_opts: found --delete", "only synkler decides"),
        ("c:13: rsync_opts: found --quux", "does not know"),
        ("c:14: cleanup_script: found \"%d\"", "f, F, @ and %"),
        ("c:15: password: found a number", "text in quotes"),
        ("c:16: cleanup_timeout_minutes: found \"0\"", "above 0"),
        ("c:17: unknown table [broker]", "[default]"),
        ("synkler_server: is not set; set it in c or as SYNKLER_SYNKLER_SERVER", ""),
    ];
    for (place, allowed) in expected {
        assert!(problems.iter().any(|p| p.starts_with(place) && p.contains(allowed)), "{place}\n{problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    assert!(problems.iter().all(|problem| !problem.contains('\n')));
}

#[test]
fn ini_problems_name_their_lines() {
    let ini = "[default]\nfile_dir = /srv/in\nsynkler_server = mq\n";
    let problem = |more: &str| {
        let problems = bad(&format!("{ini}{more}"));
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems[0].clone()
    };
    assert!(
        problem("Keep_Minuts = 3\n").starts_with("c:4: unknown key keep_minuts; the nearest known key is keep_minutes")
    );
    assert!(problem("port = 56 72\n").starts_with("c:4: port: found \"56 72\""));
    assert!(problem("PORT: 1\nport = 2\n").starts_with("c:5: port is set twice"));
    assert!(problem("[lab]\nport = 1\n").starts_with("c:5: unknown section [lab]"));
    assert!(
        problem("keep_minutes = 30 # half an hour\n").starts_with("c:4: keep_minutes: found \"30 # half an hour\"")
    );
    let problems = bad("file_dir = /srv/in\nsynkler_server = mq\n");
    assert!(problems[0].starts_with("c:1: a key before any [default] line"), "{problems:?}");
}

#[test]
fn the_spelling_is_told_by_name_or_by_content() {
    // Quotes make it TOML, bare text INI; the error is that of the spelling which was meant.
    let toml = bad("file_dir = '/srv/in'\nsynkler_server = 'mq'\nport = = 3\n");
    assert!(toml[0].starts_with("c:3: not TOML: "), "{toml:?}");
    assert_eq!(good("[default]\nfile_dir = '/srv/in'\nsynkler_server = 'mq'\n").notices.len(), 0);
    let ini = good(
        "\u{feff}[default]\r\nfile_dir: /srv/in\r\nsynkler_server = 'mq'\r\nid = 'x'\r\nmode=upload\r\nname = n\r\n",
    );
    assert_eq!(ini.notices.len(), 2, "{:?}", ini.notices);
    assert_eq!(ini.settings.group.as_str(), "x");
    let problems = load_as("c.toml", "[default]\nfile_dir = /srv/in\n", &nowhere()).unwrap_err();
    assert!(problems[0].starts_with("c.toml:2: not TOML: "), "{problems:?}");
    let loaded = load_as("c.ini", "[default]\nfile_dir = /srv\nsynkler_server = 'a'\n", &nowhere()).unwrap();
    assert_eq!(loaded.notices.len(), 1);
    assert!(bad(&format!("{SMALL}[default]\nfile_dir = '/x'\n"))[0].contains("c:4: file_dir is set twice"));
}

#[test]
fn unreadable_files_are_named() {
    let directory = TempDir::new().unwrap();
    let problem = |path: &Path| load(Some(path), &nowhere()).unwrap_err().to_string();
    assert!(problem(directory.path()).contains("is not a regular file"));
    let latin = write(&directory, "latin", b"# ok\n# \xe9\n");
    assert!(problem(&latin).ends_with("latin: is not UTF-8, first on line 2"), "{}", problem(&latin));
    let large = write(&directory, "large", "#".repeat(256 * 1024 + 1));
    assert!(problem(&large).contains("larger than the 262144 bytes allowed"));
}

#[test]
fn a_secret_is_in_no_message() {
    for text in [
        "password = hunter2\nfile_dir = '/x'\nsynkler_server = 'y'\n",
        "password = 'hunter2\nfile_dir = '/x'\n",
        "[default]\nfile_dir = /x\n hunter2\nhunter2\nmode = y\n",
        "password = ['hunter2']\n",
        "password = 'hunter2'\npassword_file = '/x'\n",
        "pasword = 'hunter2'\n",
        "synkler_server = 'amqp://u:hunter2@mq'\n",
        "rsync_opts = '--password-file=hunter2,--exclude=hunter2'\n",
    ] {
        let problems = bad(text);
        assert!(!problems.join("\n").contains("hunter2"), "{problems:#?}");
    }
    let loaded = good(&format!("{SMALL}password = 'hunter2'\n"));
    assert!(!format!("{loaded:?}{}", loaded.report()).contains("hunter2"));
    assert!(loaded.report().lines().any(|line| line.starts_with("password ") && line.contains("hidden")));
}

#[test]
fn a_password_comes_from_one_place() {
    let directory = TempDir::new().unwrap();
    let secret = write(&directory, "secret", "pass word\r\n");
    let named = format!("{SMALL}password_file = '{}'\n", secret.display());
    assert_eq!(good(&named).settings.broker.password.as_ref().unwrap().expose(), "pass word");
    assert!(bad(&format!("{named}password = 'x'\n"))[0].contains("password_file: password is also set, at c:4"));

    // The environment wins over the file, whichever of the two keys it sets.
    let loaded = load_as("c", &named, &nowhere().with("SYNKLER_PASSWORD", "p")).unwrap();
    assert_eq!(loaded.settings.broker.password.as_ref().unwrap().expose(), "p");
    let environment = nowhere().with("SYNKLER_PASSWORD_FILE", &secret);
    let loaded = load_as("c", &format!("{SMALL}password = 'x'\n"), &environment).unwrap();
    assert_eq!(loaded.settings.broker.password.as_ref().unwrap().expose(), "pass word");
    assert_eq!(loaded.notices.len(), 1);

    for (content, why) in [("", "is empty"), ("\n", "is empty"), ("a\nb\n", "more than one line")] {
        fs::write(&secret, content).unwrap();
        assert!(bad(&named)[0].contains(why), "{content:?}: {:?}", bad(&named));
    }
    fs::write(&secret, "x".repeat(4097)).unwrap();
    assert!(bad(&named)[0].contains("larger than the 4096 bytes allowed"));
    fs::remove_file(&secret).unwrap();
    assert!(bad(&named)[0].contains("c:3: password_file: ") && bad(&named)[0].contains("cannot be read"));
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nZm9v\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n";

#[test]
fn tls_takes_its_port_and_what_it_trusts() {
    let plain = good(SMALL);
    assert_eq!((plain.settings.broker.port, &plain.settings.broker.tls), (5672, &None));
    let tls = good(&format!("{SMALL}tls = true\n"));
    assert_eq!(tls.settings.broker.port, 5671);
    let inside = tls.settings.broker.tls.unwrap();
    assert_eq!((inside.authorities, inside.identity), (None, None));
    assert!(load_as("c", SMALL, &nowhere().with("SYNKLER_TLS", "true")).unwrap().settings.broker.tls.is_some());
    assert_eq!(good(&format!("{SMALL}tls = true\nport = 1\n")).settings.broker.port, 1);
    let ini = good("[default]\nfile_dir = /srv/in\nsynkler_server = mq\ntls = true\n");
    assert!(ini.settings.broker.tls.is_some());
    assert!(bad(&format!("{SMALL}tls = 'yes'\n"))[0].contains("c:3: tls: found \"yes\", allowed is true or false"));

    let directory = TempDir::new().unwrap();
    let ca = write(&directory, "ca", CERTIFICATE);
    let key = write(&directory, "key", KEY);
    let named = format!("{SMALL}ca_file = '{}'\n", ca.display());
    assert!(bad(&named)[0].contains("c:3: ca_file: is set, but tls is not"), "a CA without TLS protects nothing");
    let loaded = good(&format!("{named}tls = true\n"));
    assert_eq!(loaded.settings.broker.tls.unwrap().authorities, Some(vec![b"foo".to_vec()]));
    let problem = |text: &str| bad(&format!("{SMALL}tls = true\n{text}")).join("\n");
    assert!(problem("ca_file = '/nonexistent/x'\n").contains("ca_file: /nonexistent/x cannot be read"));
    assert!(problem(&format!("ca_file = '{}'\n", key.display())).contains("contains no certificate"));
    assert!(
        problem(&format!("client_cert = '{}'\n", ca.display())).contains("client_key: is not set, but client_cert")
    );
    assert!(
        problem(&format!("client_key = '{}'\n", key.display())).contains("client_cert: is not set, but client_key")
    );

    // The certificate logs in where nothing else does; then the account must be named.
    let identity = format!("{SMALL}tls = true\nclient_cert = '{}'\nclient_key = '{}'\n", ca.display(), key.display());
    assert!(bad(&identity)[0].contains("username: is not set, but the login by client_cert needs it"));
    let external = good(&format!("{identity}username = 'u'\n"));
    assert_eq!(external.settings.broker.password, None);
    assert!(external.report().contains("client_cert logs in"));
    let tls = external.settings.broker.tls.as_ref().unwrap();
    assert_eq!(tls.identity.as_ref().unwrap().key, b"hunter2");
    assert!(!format!("{external:?}").contains(&format!("{:?}", b"hunter2").replace(['[', ']'], "")));
    let both = good(&format!("{identity}username = 'u'\npassword = 'p'\n"));
    assert!(both.settings.broker.password.is_some() && both.settings.broker.tls.unwrap().identity.is_some());
}

/// The password in force with these lines in the config.
fn password_of(text: &str, environment: &Environment) -> String {
    let settings = load_as("c", &format!("{SMALL}{text}"), environment).unwrap().settings;
    settings.broker.password.unwrap().expose().to_owned()
}

#[test]
fn credentials_serve_where_the_config_sets_none() {
    let directory = TempDir::new().unwrap();
    let place = directory.path();
    let handed = write(&directory, "handed/synkler_password", "of the unit\n");
    let environment = nowhere().with("CREDENTIALS_DIRECTORY", handed.parent().unwrap());
    let loaded = load_as("c", SMALL, &environment).unwrap();
    assert_eq!(loaded.settings.broker.password.as_ref().unwrap().expose(), "of the unit");
    let report = loaded.report();
    let row = report.lines().find(|line| line.starts_with("password ")).unwrap();
    assert!(row.contains("hidden") && row.ends_with(&format!("({})", handed.display())), "{row}");
    assert!(!report.contains("of the unit"));

    // One of the node's own stands above it, and what is set above both.
    write(&directory, "handed/synkler_g-upload_password", "of the node");
    let password = |text: &str| password_of(text, &environment);
    assert_eq!(password("id = 'g'\nmode = 'upload'\n"), "of the node");
    assert_eq!(password("id = 'g'\n"), "of the unit");
    assert_eq!(password("password = 'set'\n"), "set");
    write(&directory, "handed/synkler_ca.pem", CERTIFICATE);
    let loaded = load_as("c", &format!("{SMALL}tls = true\n"), &environment).unwrap();
    assert_eq!(loaded.settings.broker.tls.unwrap().authorities, Some(vec![b"foo".to_vec()]));
    fs::write(&handed, "").unwrap();
    assert!(load_as("c", SMALL, &environment).unwrap_err()[0].contains("password: "));

    // Without systemd, from where it takes them.
    write(&directory, "kept/password", "kept");
    write(&directory, "kept/g-upload/password", "kept for one");
    let environment = nowhere().with_credentials(place.join("kept"));
    let password = |text: &str| password_of(text, &environment);
    assert_eq!(password(""), "kept");
    assert_eq!(password("id = 'g'\nmode = 'upload'\n"), "kept for one");
    let none = nowhere().with_credentials(place.join("nonexistent"));
    assert_eq!(load_as("c", SMALL, &none).unwrap().settings.broker.password.unwrap().expose(), "guest");
}

#[test]
fn places_follow_the_surroundings() {
    let places = |environment: &Environment, text: &str| {
        let settings = load_as("c", &format!("{SMALL}{text}"), environment).unwrap().settings;
        [settings.state_dir, settings.control_socket].map(|path| path.to_str().unwrap().to_owned())
    };
    let home = nowhere().with("HOME", "/h");
    let state = "/h/.local/state/synkler/default-central";
    assert_eq!(places(&home, ""), [state.to_owned(), format!("{state}/control.sock")]);
    let xdg = home.with("XDG_STATE_HOME", "/s").with("XDG_RUNTIME_DIR", "/r");
    assert_eq!(
        places(&xdg, "id = 'g'\nmode = 'upload'\n"),
        ["/s/synkler/g-upload", "/r/synkler/g-upload/control.sock"]
    );
    let unit = xdg.with("STATE_DIRECTORY", "/var/lib/a:/var/lib/b").with("RUNTIME_DIRECTORY", "/run/a:/run/b");
    assert_eq!(places(&unit, ""), ["/var/lib/a", "/run/a/control.sock"]);
    assert_eq!(places(&unit, "state_dir = '/x/'\ncontrol_socket = '/y/z'\n"), ["/x", "/y/z"]);

    let bare = Environment::new("box");
    let problems = load_as("c", SMALL, &bare).unwrap_err();
    assert!(problems[0].starts_with("state_dir: is not set, and neither $STATE_DIRECTORY"), "{problems:?}");
    let long = bare.with("HOME", format!("/{}", "h".repeat(100)));
    let problems = load_as("c", SMALL, &long).unwrap_err();
    assert!(problems[0].contains("up to 107; set control_socket"), "{problems:?}");
}

#[test]
fn settings_must_fit_each_other() {
    // What central tells the others must be plain; elsewhere a path may hold anything.
    let spaced = "file_dir = '/srv/my files'\nsynkler_server = 'mq'\n";
    let problems = bad(spaced);
    assert!(problems[0].starts_with("c:1: file_dir: on central"), "{problems:?}");
    assert!(problems[0].contains("A-Z a-z 0-9 / . _ + @ = , -"), "{problems:?}");
    good(&format!("{spaced}mode = 'download'\n"));
    assert!(bad(&format!("{SMALL}central_host = '-oProxyCommand=x'\n"))[0].starts_with("c:3: central_host: "));

    let inside = format!("{SMALL}mode = 'upload'\nstate_dir = '/srv/in/.state'\n");
    let problems = bad(&inside);
    assert!(problems[0].starts_with("c:4: state_dir: ") && problems[0].contains("outside file_dir"), "{problems:?}");
    good(&inside.replace("upload", "download"));

    let problems = load_as("c", SMALL, &Environment::new("b o x").with("HOME", "/h")).unwrap_err();
    assert!(problems[0].starts_with("name: is not set, and the host name is not allowed"), "{problems:?}");
    assert!(bad(&format!("{SMALL}receivers = []\n"))[0].contains("remove the key"));
    assert!(bad(&format!("{SMALL}cleanup_script = []\n"))[0].contains("allowed is a command"));
}

#[test]
fn both_spellings_of_lists_mean_the_same() {
    let list = good(&format!(
        "{SMALL}mode = 'upload'\nrsync_opts = ['-e', 'ssh -p 1', '--bwlimit=5,5']\ncleanup_script = ['a b', '%f']\n"
    ));
    let text = good(&format!(
        "{SMALL}mode = 'upload'\nrsync_opts = '-e,ssh -p 1,\"--bwlimit=5,5\"'\ncleanup_script = '\"a b\" %f'\n"
    ));
    let ini = good(
        "[default]\nfile_dir = /srv/in\nsynkler_server = mq\nmode = upload\nrsync_opts = -e ssh -p 1,\n  \"--bwlimit=5,5\"\n\
         cleanup_script = 'a b'\n  %f\n",
    );
    assert_eq!(list.settings.rsync.options, ["--rsh=ssh -p 1", "--bwlimit=5,5"]);
    assert_eq!(list.settings, text.settings);
    assert_eq!(list.settings, ini.settings);
}

#[test]
fn the_report_tells_every_value_and_where_it_came_from() {
    let environment = nowhere().with("HOME", "/h").with("SYNKLER_KEEP_MINUTES", "1.50");
    let directory = TempDir::new().unwrap();
    let path = write(&directory, "c", format!("{SMALL}rsync_opts = '-avz'\n"));
    let report = load(Some(&path), &environment).unwrap().report();
    let place = path.to_str().unwrap();
    let line = |key: &str| {
        report.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap_or_else(|| panic!("{key}\n{report}"))
    };
    for key in KEYS.iter().filter(|key| key.preset != Preset::Ignored) {
        line(key.name);
    }
    assert_eq!(report.lines().next().unwrap(), format!("config file: {place}"));
    assert!(line("file_dir").contains("/srv/in") && line("file_dir").ends_with(&format!("({place}:1)")));
    assert!(
        line("keep_minutes").contains(" 1.5 ")
            && line("keep_minutes").ends_with("(environment variable SYNKLER_KEEP_MINUTES)")
    );
    assert!(line("port").contains("5672") && line("port").ends_with("(default)"));
    assert!(line("name").contains("box") && line("name").ends_with("(host name)"));
    assert!(line("receivers").contains("every known download node"));
    assert!(line("rsync_opts").contains("--compress") && line("rsync_opts").ends_with("not used on central)"));
    assert!(line("state_dir").contains("/h/.local/state/synkler/default-central"));
    assert!(report.contains("rsync_opts: -a is ignored: synkler sets this itself"), "{report}");
}
