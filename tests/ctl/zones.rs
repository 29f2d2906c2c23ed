//! Times as the clock of the reader shows them, whatever `TZ` says.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use synkler::control::Limits;

use crate::group;
use crate::node::{Daemon, idle};
use crate::peer::Peer;
use crate::screen::Screen;
use crate::synklerctl;

/// The program in a time zone.
fn within(socket: &Path, zone: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = synklerctl(socket, arguments);
    command.env("TZ", zone).env("COLUMNS", "120");
    command
}

fn text(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn texts_show_local_time_and_utc_on_request() {
    // It has run since 2026-11-23 17:00:00 UTC.
    let peer = Peer::start(|_, _| json!({ "status": group::well() }));
    let running = |command| {
        let text = text(command);
        text.lines().find_map(|line| Some(line.trim().strip_prefix("Running: since ")?.to_owned())).unwrap()
    };
    for (zone, moment) in [
        ("Europe/Berlin", "Mon 2026-11-23 18:00:00 CET"),
        (":Europe/Berlin", "Mon 2026-11-23 18:00:00 CET"),
        ("/usr/share/zoneinfo/Europe/Berlin", "Mon 2026-11-23 18:00:00 CET"),
        // In summer time, in another day, and not off by whole hours.
        ("Australia/Sydney", "Tue 2026-11-24 04:00:00 AEDT"),
        ("Asia/Kathmandu", "Mon 2026-11-23 22:45:00 +0545"),
        // Rules of its own need no file.
        ("XST5XDT,M3.2.0,M12.1.0", "Mon 2026-11-23 13:00:00 XDT"),
        ("UTC", "Mon 2026-11-23 17:00:00 UTC"),
        ("", "Mon 2026-11-23 17:00:00 UTC"),
        // What names no zone is not taken for local time.
        ("Nowhere/Else", "Mon 2026-11-23 17:00:00 UTC"),
        ("/etc/passwd", "Mon 2026-11-23 17:00:00 UTC"),
        ("/dev/null/x", "Mon 2026-11-23 17:00:00 UTC"),
    ] {
        assert_eq!(running(within(&peer.path, zone, &["status"])), format!("{moment}; 1h 11min ago"), "{zone}");
        for arguments in [&["--utc", "status"], &["status", "--utc"]] {
            let expected = "Mon 2026-11-23 17:00:00 UTC; 1h 11min ago";
            assert_eq!(running(within(&peer.path, zone, arguments)), expected, "{zone}");
        }
    }
    let strange = OsStr::from_bytes(b"\xff\xfe");
    assert!(running(within(&peer.path, strange, &["status"])).starts_with("Mon 2026-11-23 17:00:00 UTC"));
}

#[test]
fn all_texts_agree_and_json_stays_as_it_is() {
    let peer = Peer::start(|method, _| match method {
        "GetTransfer" => json!(group::journey()),
        "GetHistory" => json!({ "entries": group::history().entries, "more": false }),
        _ => json!({ "status": group::troubled() }),
    });
    for (arguments, utc, local) in [
        (
            &["status", "run-42", "--here"][..],
            "received Mon 2026-11-23 18:10:30 UTC",
            "received Tue 2026-11-24 05:10:30 AEDT",
        ),
        (
            &["status", "--here"],
            "Paused: since Mon 2026-11-23 17:04:20 UTC",
            "Paused: since Tue 2026-11-24 04:04:20 AEDT",
        ),
        (&["nodes", "--here"], "2026-11-03 18:11", "2026-11-04 05:11"),
        (&["history"], "2026-11-23 17:11", "2026-11-24 04:11"),
    ] {
        let told = |zone: &str, more: &[&str]| text(within(&peer.path, zone, &[arguments, more].concat()));
        let (utc_text, local_text) = (told("Australia/Sydney", &["--utc"]), told("Australia/Sydney", &[]));
        assert!(utc_text.contains(utc) && !utc_text.contains(local), "{utc_text}");
        assert!(local_text.contains(local) && !local_text.contains(utc), "{local_text}");
        assert_eq!(told("Australia/Sydney", &["--json"]), told("UTC", &["--json", "--utc"]), "{arguments:?}");
    }
}

#[test]
fn since_is_read_by_the_same_clock() {
    let peer = Peer::start(|_, _| json!({ "entries": [], "more": false }));
    let asked = |zone: &str, arguments: &[&str]| {
        text(within(&peer.path, zone, &[&["history", "--since"], arguments].concat()));
        let (_, parameters) = peer.calls().remove(0);
        parameters["since"].as_u64().unwrap()
    };
    const HOUR: u64 = 3_600_000;
    for arguments in [&["2026-11-23 18:11"][..], &["2026-11-23 18:11", "--json"]] {
        assert_eq!(asked("Europe/Berlin", arguments), group::NOW - HOUR);
        assert_eq!(asked("Europe/Berlin", &[arguments, &["--utc"]].concat()), group::NOW);
        assert_eq!(asked("Nowhere/Else", arguments), group::NOW);
    }
    assert_eq!(asked("Europe/Berlin", &["2026-11-23 18:11 UTC"]), group::NOW);
    assert_eq!(asked("Europe/Berlin", &["2026-07-01"]) + 2 * HOUR, asked("UTC", &["2026-07-01"]));
    // The second half of this hour, which comes twice, begins with the earlier one.
    assert_eq!(asked("Europe/Berlin", &["2026-10-25 02:30"]), asked("UTC", &["2026-10-25 00:30"]));
}

#[test]
fn watch_shows_the_same_time() {
    let daemon = Daemon::start(idle(), Limits::default());
    for (arguments, hour, zone) in [(&["watch"][..], "19", "CET"), (&["watch", "--utc"], "18", "UTC")] {
        let mut screen = Screen::start(&within(&daemon.path, "Europe/Berlin", arguments), 24, 80);
        let text = screen.until("the first answer", |text| text.contains("● upload alpha"));
        let title = text.lines().next().unwrap();
        assert!(title.starts_with(&format!(" upload alpha   Mon 2026-11-23 {hour}:1")), "{title}");
        assert!(title.trim_end().ends_with(zone), "{title}");
        screen.press("q");
        assert_eq!(screen.end().code(), Some(0));
    }
}
