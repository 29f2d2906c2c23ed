//! Answers of the control interface as a group in every kind of trouble would give them, with names that mean harm.

#![allow(dead_code, reason = "each test program uses its own part")]

use synkler::cli::{Explained, Writer};
use synkler::control::types::{
    Broker, Count, Deed, Explanation, Finding, GetHistory, GetTransfer, Journey, List, Member, Node, Orders, Past,
    Paused, Progress, Reason, Receiver, Reload, StateCount, Status, Step, Transfer, View,
};
use synkler::machine::{Cause, Mode, State};

/// The moment at which all answers are given: 2026-11-23 18:11:00 UTC.
pub(crate) const NOW: u64 = 1_795_457_460_000;
const LONG: &str = "an-upload-with-a-very-long-name-that-is-still-allowed";

/// So many seconds before [`NOW`].
pub(crate) fn ago(seconds: u64) -> u64 {
    NOW - seconds * 1000
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn reason(code: &str, words: &str) -> Reason {
    Reason { code: text(code), text: text(words) }
}

fn pause(seconds: u64, by: &str, node: &str) -> Paused {
    Paused { since: ago(seconds), by: text(by), node: text(node) }
}

pub(crate) fn whole() -> View {
    View { whole: true, from: text("central hub"), why: None, silent: Vec::new() }
}

pub(crate) fn incomplete(from: &str) -> View {
    View {
        whole: false,
        from: text(from),
        why: Some(text("central hub did not answer within 2 seconds")),
        silent: vec![text("central hub"), text("download zeta")],
    }
}

fn node(mode: &str, name: &str) -> Node {
    Node {
        mode: text(mode),
        name: text(name),
        group: text("default"),
        file_dir: text("/srv/outgoing"),
        version: text("1.2.3"),
        pid: 4711,
        started: ago(200_000),
    }
}

fn member(mode: &str, name: &str, seconds: u64, doing: &str) -> Member {
    Member {
        mode: text(mode),
        name: text(name),
        version: text("1.2.3"),
        host: format!("{name}.example.org"),
        first_heard: ago(86_400 * 20),
        heard: ago(seconds),
        alive: seconds < 150,
        paused: None,
        free: Some(1_234_000_000_000),
        free_inodes: None,
        doing: text(doing),
        clock_ahead: Some(3),
        protocols: Some(vec![2, 2]),
        apart: None,
    }
}

fn members() -> Vec<Member> {
    vec![
        Member { free_inodes: Some(10_000), ..member("upload", "alpha", 3, "2 of 4104 transfers at work, 12 MB/s") },
        Member { free: None, clock_ahead: None, ..member("upload", LONG, 59, "idle") },
        Member { paused: Some(pause(4000, "root", "central hub")), ..member("central", "hub", 0, "1 transfer held") },
        Member {
            clock_ahead: Some(-612_000),
            version: text("1.1.0"),
            free_inodes: Some(150),
            ..member("download", "eta", 31, "1 transfer at work")
        },
        Member {
            version: text("1.0.0"),
            protocols: Some(vec![1, 1]),
            apart: Some(Reason {
                code: text("too-old"),
                text: text("too old: upgrade synkler on download theta (it speaks protocol 1, central hub protocol 2)"),
            }),
            ..member("download", "theta", 12, "")
        },
        member("download", "zeta", 400, "idle"),
    ]
}

/// A waiting transfer; `number` makes its id.
pub(crate) fn transfer(number: u64, item: &str, stage: &str, why: Reason) -> Transfer {
    let cause = why.code.parse().unwrap_or(Cause::Other);
    Transfer {
        id: Some(format!("01936f2a-5c00-7a31-9d42-6b1f0c8e{number:04x}")),
        item: text(item),
        item_encoded: text(item),
        upload: text("alpha"),
        kind: Some(text("file")),
        entries: Some(1),
        size: 12_345,
        md5: Some(text("9e107d9d372bb6826bd81d3542a419d6")),
        node: text("central hub"),
        state: text(State::of(Mode::Central, stage, cause, 0).as_str()),
        stage: text(stage),
        reason: why,
        since: ago(60),
        next: None,
        attempts: 0,
        paused: None,
        progress: None,
        receivers: Vec::new(),
        remark: None,
    }
}

fn receivers(all: bool) -> Vec<Receiver> {
    let missing = |received| if all { Some(ago(20)) } else { received };
    vec![
        Receiver { name: text("zeta"), received: Some(ago(30)) },
        Receiver { name: text("eta"), received: missing(None) },
        Receiver { name: text("theta"), received: missing(None) },
    ]
}

fn progress(node: &str, bytes: u64, total: u64, rate: u64, transfers: u64) -> Progress {
    Progress { node: text(node), bytes, total, rate, transfers }
}

fn failing() -> Transfer {
    Transfer {
        attempts: 7,
        next: Some(NOW + 40_000),
        ..transfer(
            1,
            "innocent\\x1b[2J\\x1b[1;31m.txt",
            "granted",
            reason(
                "transport",
                "rsync failed: exit code 255: Host key verification failed\r\nfor syn@central.example.com; \x1b[31mcompare the key with the one that central's administrator told you, then add it to known_hosts",
            ),
        )
    }
}

fn sending() -> Transfer {
    Transfer {
        size: 4_700_000_000,
        since: ago(312),
        progress: Some(progress("upload alpha", 1_462_000_000, 4_700_000_000, 11_900_000, 1)),
        ..transfer(3, "debian-13.2.0-amd64-DVD-1.iso", "granted", reason("running", "rsync is at work"))
    }
}

fn transfers() -> Vec<Transfer> {
    vec![
        failing(),
        Transfer {
            attempts: 1,
            next: Some(ago(1)),
            ..transfer(
                2,
                "evil\u{202e}fdp.exe\u{200b}\nsecond line\ttab\u{2067}",
                "granted",
                reason("mismatch", "the copy that arrived is not what was announced"),
            )
        },
        sending(),
        Transfer {
            progress: Some(progress("central hub", 0, 24_690, 0, 2)),
            ..transfer(
                4,
                "漢字と🎉の長い名前のファイルですからどこかで切らなければなりません.tar.gz",
                "granted",
                reason("running", "rsync is at work"),
            )
        },
        Transfer {
            receivers: receivers(false),
            ..transfer(5, "-n --delete $(reboot) `id` %F * ?.csv", "held", reason("receipts", "waiting for receipts"))
        },
        Transfer {
            receivers: receivers(true),
            next: Some(NOW + 1_600_000),
            since: ago(200),
            ..transfer(
                6,
                "latin-1: caf\\xe9 \\xff\\xfe",
                "released",
                reason("keeping", "kept for keep_minutes after the last receipt"),
            )
        },
        Transfer {
            paused: Some(pause(300, "alice", "upload alpha")),
            ..transfer(9, "held back.txt", "waiting", reason("paused", "paused by an operator"))
        },
        Transfer {
            size: 0,
            since: ago(90_000),
            upload: text(LONG),
            ..transfer(
                7,
                &"x".repeat(255),
                "waiting",
                reason("space", "not enough free space: 1.2 GB are needed, 300 MB are left"),
            )
        },
        Transfer {
            id: None,
            md5: None,
            kind: None,
            entries: None,
            ..transfer(
                8,
                "back\\\\slash and \"quotes\" and 'more'",
                "settling",
                reason("settling", "waiting until it stays the same for settle_seconds"),
            )
        },
    ]
}

fn counts(counts: &[(&str, u64)]) -> Vec<Count> {
    counts.iter().map(|(stage, count)| Count { stage: text(stage), count: *count }).collect()
}

fn states(states: &[(&str, u64)]) -> Vec<StateCount> {
    states.iter().map(|(state, count)| StateCount { state: text(state), count: *count }).collect()
}

/// A central with trouble of every kind.
pub(crate) fn troubled() -> Status {
    Status {
        now: NOW,
        node: node("central", "hub"),
        broker: Broker {
            connected: false,
            since: ago(303),
            reason: Some(reason(
                "transport",
                "the broker at mq.example.com:5672 refused the login of \"guest\": check username and password",
            )),
        },
        directory: Some(reason(
            "directory",
            "file_dir is not the one it was: is something not mounted? (on central hub: another directory is there, without a marker of this node)",
        )),
        view: View { why: Some(text("no session with the broker")), silent: Vec::new(), ..incomplete("central hub") },
        group_paused: Some(pause(120, "bob", "upload alpha")),
        members: members(),
        total: 4108,
        counts: counts(&[("waiting", 4102), ("granted", 4), ("held", 1), ("released", 1), ("finished", 0)]),
        states: states(&[("queued", 4098), ("uploading", 2), ("waiting", 5), ("delivered", 1), ("failed", 3)]),
        attention: 4,
        urgent: Vec::new(),
        unsent: Vec::new(),
        tallied: Vec::new(),
        transfers: transfers(),
    }
}

/// An upload at work in a group that is well.
pub(crate) fn well() -> Status {
    let waiting = |number, item: &str| transfer(number, item, "waiting", reason("queued", "queued for rsync"));
    let fetching = Transfer {
        size: 820_000_000,
        state: text("downloading"),
        progress: Some(progress("download zeta", 697_000_000, 820_000_000, 98_000_000, 1)),
        receivers: vec![Receiver { name: text("zeta"), received: None }],
        ..transfer(2, "results-2026-11-22", "held", reason("receipts", "waiting for receipts"))
    };
    Status {
        now: NOW,
        node: Node { started: ago(4260), ..node("upload", "alpha") },
        broker: Broker { connected: true, since: ago(4259), reason: None },
        directory: None,
        view: whole(),
        group_paused: None,
        members: vec![
            member("upload", "alpha", 0, "1 transfer at work, 12 MB/s"),
            member("central", "hub", 12, "1 transfer held"),
            member("download", "zeta", 40, "1 transfer at work, 98 MB/s"),
        ],
        total: 4,
        counts: counts(&[("waiting", 2), ("granted", 1), ("held", 1), ("released", 0)]),
        states: states(&[("queued", 2), ("uploading", 1), ("downloading", 1), ("delivered", 3)]),
        attention: 0,
        urgent: Vec::new(),
        unsent: Vec::new(),
        tallied: Vec::new(),
        transfers: vec![sending(), fetching, waiting(10, "results-2026-11-23"), waiting(11, "notes.txt")],
    }
}

/// An upload with nothing on the way, alone.
pub(crate) fn idle() -> Status {
    let alone = member("upload", "alpha", 0, "");
    Status {
        members: vec![alone],
        total: 0,
        counts: counts(&[("waiting", 0)]),
        states: Vec::new(),
        transfers: Vec::new(),
        ..well()
    }
}

/// An upload whose central is away.
pub(crate) fn cut_off() -> Status {
    Status { view: incomplete("upload alpha"), ..well() }
}

/// An upload with so many transfers in line, the first few of which are told.
pub(crate) fn crowded(count: u64, told: u64) -> Status {
    let waiting = |number| {
        transfer(
            number,
            &format!("file {number:05}.dat"),
            "announced",
            reason("central", "waiting for central to answer"),
        )
    };
    Status {
        total: count,
        counts: counts(&[("announced", count)]),
        states: states(&[("waiting", count)]),
        transfers: (0..told).map(waiting).collect(),
        ..well()
    }
}

/// What `list` gets.
pub(crate) fn list() -> List {
    List { view: whole(), transfers: transfers(), total: 4108, more: true }
}

fn step(node: &str, stage: &str) -> Step {
    Step {
        node: text(node),
        stage: text(stage),
        reason: None,
        since: ago(60),
        next: None,
        attempts: 0,
        md5: None,
        created: ago(600),
        began: None,
        arrived: None,
        finished: None,
        paused: None,
        progress: None,
        remark: None,
    }
}

/// A directory on its way, in trouble at one of its receivers.
pub(crate) fn journey() -> GetTransfer {
    let digest = || Some(text("9e107d9d372bb6826bd81d3542a419d6"));
    let steps = vec![
        Step {
            reason: Some(reason("receipts", "waiting for receipts")),
            md5: digest(),
            began: Some(ago(590)),
            arrived: Some(ago(470)),
            ..step("upload alpha", "received")
        },
        Step {
            reason: Some(reason("receipts", "waiting for receipts")),
            md5: digest(),
            began: Some(ago(590)),
            arrived: Some(ago(470)),
            ..step("central hub", "held")
        },
        Step {
            md5: digest(),
            began: Some(ago(460)),
            arrived: Some(ago(400)),
            finished: Some(ago(390)),
            ..step("download zeta", "closed")
        },
        Step {
            reason: Some(reason("mismatch", "the copy that arrived is not what was announced\x1b]0;title\x07")),
            next: Some(NOW + 95_000),
            attempts: 3,
            md5: Some(text("d41d8cd98f00b204e9800998ecf8427e")),
            began: Some(ago(120)),
            paused: Some(pause(30, "root", "download eta")),
            ..step("download eta", "wanted")
        },
        Step {
            reason: Some(reason("running", "rsync is at work")),
            began: Some(ago(20)),
            progress: Some(progress("download theta", 1_462_000_000, 4_700_000_000, 11_900_000, 1)),
            ..step("download theta", "pulling")
        },
    ];
    let transfer = Transfer {
        kind: Some(text("directory")),
        entries: Some(2113),
        size: 4_700_000_000,
        attempts: 3,
        next: Some(NOW + 95_000),
        receivers: receivers(false),
        ..transfer(
            12,
            "evil\u{202e}run\r-42",
            "held",
            reason("mismatch", "download eta: the copy that arrived is not what was announced"),
        )
    };
    GetTransfer { view: incomplete("upload alpha"), journey: Journey { transfer, steps } }
}

/// An item that is no transfer yet.
pub(crate) fn unsettled() -> GetTransfer {
    let transfer = Transfer { node: text("upload alpha"), ..transfers().remove(8) };
    let step =
        Step { reason: Some(transfer.reason.clone()), next: Some(NOW + 4000), ..step("upload alpha", "settling") };
    GetTransfer { view: whole(), journey: Journey { transfer, steps: vec![step] } }
}

fn past(number: u64, item: &str, size: u64, rate: Option<u64>) -> Past {
    Past {
        id: format!("01936f2a-5c00-7a31-9d42-6b1f0c8e{number:04x}"),
        item: text(item),
        item_encoded: text(item),
        upload: text("alpha"),
        kind: text("file"),
        entries: 1,
        size,
        md5: text("9e107d9d372bb6826bd81d3542a419d6"),
        stage: text("closed"),
        created: ago(4000 + number),
        began: Some(ago(3900)),
        arrived: Some(ago(3800)),
        finished: ago(3600 * number),
        rate,
        receivers: Vec::new(),
        remark: None,
    }
}

pub(crate) fn history() -> GetHistory {
    let given_up = Past { stage: text("withdrawn"), ..past(30, "given up", 77, None) };
    let entries = vec![
        past(1, "debian-13.2.0-amd64-DVD-1.iso", 4_700_000_000, Some(98_000_000)),
        past(2, "evil\x1b[2J\u{202e}fdp.exe", 12, None),
        Past { upload: text(LONG), ..past(29, &"y".repeat(255), 1_000_000, Some(5_000)) },
        given_up,
    ];
    GetHistory { entries, more: true }
}

/// An order that one node refuses and one does not hear.
pub(crate) fn orders() -> Orders {
    let deed = |node: &str, item: Option<&str>, done, words: &str| Deed {
        node: text(node),
        item: item.map(text),
        done,
        text: text(words),
    };
    Orders {
        deeds: vec![
            deed("upload alpha", Some("results.tar"), true, "tried again now"),
            deed("central hub", Some("results.tar"), false, "nothing of it waits here"),
            deed(
                "upload alpha",
                Some("evil\u{1b}[2J\u{202e}.txt"),
                false,
                "every receiver has got it already, so that it cannot be given up any more: its source is about to be freed",
            ),
        ],
        silent: vec![text("download zeta")],
    }
}

pub(crate) fn findings() -> Vec<Finding> {
    let finding = |check: &str, result: &str, words: &str, cure: Option<&str>| Finding {
        check: text(check),
        result: text(result),
        text: text(words),
        cure: cure.map(text),
    };
    vec![
        finding("config", "ok", "/etc/synkler.conf and 2 environment variables", None),
        finding(
            "broker",
            "failed",
            "the broker at mq.example.com:5672 refused the login of \"guest\"\x1b[2J",
            Some(
                "check username and password in /etc/synkler.conf; on the broker's host: rabbitmqctl authenticate_user guest PASSWORD",
            ),
        ),
        finding("policy", "skipped", "the broker has to be reached first", None),
        finding("clock", "warning", "10min ahead of central hub", Some("set it by NTP: timedatectl set-ntp true")),
        finding("a-check-with-a-long-name", "ok", "fine", None),
    ]
}

pub(crate) fn reload() -> Reload {
    Reload { changed: vec![text("keep_minutes"), text("transfers")], restart: vec![text("file_dir")] }
}

/// A file that `ignore` matches.
pub(crate) fn ignored() -> Explained {
    let explanation = Explanation {
        path: text("/srv/out/customerA/big.iso.part"),
        verdict: text("ignored"),
        text: text("not an item: ignore has *.part, which matches big.iso.part"),
        items: Vec::new(),
    };
    Explained { explanation, writers: Vec::new(), transfer: None }
}

/// An item that a process writes.
pub(crate) fn written() -> Explained {
    let explanation = Explanation {
        path: text("/srv/out/run-42"),
        verdict: text("item"),
        text: text("an item of this upload"),
        items: vec![text("run-42")],
    };
    let writers = vec![Writer { pid: 4711, name: text("vsftpd"), path: text("/srv/out/run-42/a") }];
    Explained { explanation, writers, transfer: Some(unsettled()) }
}

/// A path that no transfer has carried.
pub(crate) fn nothing() -> Explained {
    let explanation = Explanation {
        path: text("/srv/in/customerA/one.csv/part"),
        verdict: text("name"),
        text: text("the name of an item, if one was delivered"),
        items: vec![text("customerA/one.csv/part"), text("customerA/one.csv"), text("customerA")],
    };
    Explained { explanation, writers: Vec::new(), transfer: None }
}
