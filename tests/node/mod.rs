//! A node for the tests of the control socket: snapshots of every kind of trouble, and a daemon's loop that answers
//! the server's queries from one of them.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use synkler::control::types::{GetStatus, Reload, Status, View};
use synkler::control::{AskFailure, Control, Limits, PastFound, Query, Service};
use synkler::drivers::sys::peer_groups;
use synkler::machine::{
    BrokerState, Cause, Deed, Digest, Fingerprint, Found, Handle, ItemName, Kind, Mode, Node, NodeName, Offer, Order,
    Pause, PeerView, Progress, Reason, Row, Scope, Selection, Snapshot, State, Tally, Time, TransferId, TransferView,
};
use tempfile::TempDir;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};

/// The moment at which all snapshots are taken: 2026-11-23 18:11:00 UTC.
pub(crate) const NOW: u64 = 1_795_457_460_000;

/// A daemon that serves a control socket on a thread of its own, until it is dropped.
pub(crate) struct Daemon {
    pub(crate) path: PathBuf,
    pub(crate) directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Answers every query from the snapshot, with as many transfers as it asks for; central tells the same.
    pub(crate) fn start(snapshot: Snapshot, limits: Limits) -> Self {
        Self::with_loop(limits, |mut queries| async move {
            while let Some(query) = queries.recv().await {
                answer(&snapshot, query);
            }
        })
    }

    /// Leaves the queries to `answer`.
    pub(crate) fn with_loop<F>(limits: Limits, answer: impl FnOnce(mpsc::Receiver<Query>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()>,
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let control = Control::bind(&path, peer_groups).unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (sender, receiver) = mpsc::channel(16);
            runtime.block_on(async {
                tokio::select! {
                    result = control.serve(service(sender).with_limits(limits)) => result.unwrap(),
                    () = async { answer(receiver).await; std::future::pending().await } => {}
                    _ = stopped => {}
                }
            });
        });
        Self { path, directory, stop: Some(stop), thread: Some(thread) }
    }

    /// Ends the daemon and waits for its end.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The service of a node in the group `default`.
pub(crate) fn service(queries: mpsc::Sender<Query>) -> Service {
    Service::new("default".parse().unwrap(), "/srv/synkler".into(), queries)
}

/// What a loop would answer that has nothing but this snapshot. A client may have gone by now.
pub(crate) fn answer(snapshot: &Snapshot, query: Query) {
    match query {
        Query::Snapshot { selection: Selection { state, limit, .. }, reply } => {
            let is_in = |view: &&TransferView| state.is_none_or(|state| view.state == state);
            let transfers: Vec<_> = snapshot.transfers.iter().filter(is_in).cloned().collect();
            let (matching, more) = (transfers.len() as u64, transfers.len() > limit);
            let transfers = transfers.into_iter().take(limit).collect();
            let told = Snapshot { matching, more, transfers, ..head(snapshot) };
            drop(reply.send((told, Time::from_millis(NOW))));
        }
        Query::Find { text, reply } => {
            let is_it = |view: &&TransferView| view.name.encoded() == text || view.name.to_string() == text;
            drop(reply.send(match snapshot.transfers.iter().find(is_it) {
                Some(view) => (Found::One(Handle::Item(view.name.clone())), Some(view.clone())),
                None => (Found::Nothing, None),
            }));
        }
        Query::Views { transfers, reply } => {
            let wanted = |view: &&TransferView| view.transfer.is_some_and(|id| transfers.contains(&id));
            drop(reply.send(snapshot.transfers.iter().filter(wanted).cloned().collect()));
        }
        Query::Past { reply, .. } => drop(reply.send(Ok(PastFound::Nothing))),
        Query::Ask { to, method, parameters, reply } => {
            let told = (to.mode == Mode::Central && method == "io.synkler.Control.GetStatus").then(|| {
                let limit = parameters["limit"].as_u64().unwrap().try_into().unwrap();
                let transfers = snapshot.transfers.iter().take(limit).cloned().collect();
                let mut status = status(&Snapshot { transfers, ..head(snapshot) });
                status.view.from = to.to_string();
                serde_json::to_value(GetStatus { status }).unwrap()
            });
            drop(reply.send(told.ok_or_else(|| AskFailure::Silent(format!("{to} has no session with the broker")))));
        }
        Query::Order { order: Order::Pause { scope: Scope::Node, .. }, reply, .. } => {
            let text = "paused: this node starts no new transfers".to_owned();
            drop(reply.send(vec![Deed { item: None, done: true, text }]));
        }
        Query::History { span, reply } => drop(reply.send(Ok((vec![past(); span.limit as usize], true)))),
        Query::LogLevel { reply, .. } => drop(reply.send("info".to_owned())),
        Query::Reload { reply } => {
            let (changed, restart) = (vec!["settle_seconds".to_owned()], vec!["port".to_owned()]);
            drop(reply.send(Ok(Reload { changed, restart })));
        }
        other => panic!("this loop has no answer to {other:?}"),
    }
}

fn head(snapshot: &Snapshot) -> Snapshot {
    Snapshot {
        node: snapshot.node.clone(),
        started: snapshot.started,
        host: snapshot.host.clone(),
        paused: snapshot.paused.clone(),
        group_paused: snapshot.group_paused.clone(),
        no_directory: snapshot.no_directory.clone(),
        free: snapshot.free,
        free_inodes: snapshot.free_inodes,
        doing: snapshot.doing.clone(),
        spool: snapshot.spool.clone(),
        matching: snapshot.matching,
        more: snapshot.more,
        broker: snapshot.broker.clone(),
        counts: snapshot.counts.clone(),
        transfers: Vec::new(),
        tally: snapshot.tally.clone(),
        peers: snapshot.peers.clone(),
    }
}

/// A transfer that is over.
fn past() -> Row {
    let view = transfer(2, b"done.tar", "closed", Cause::Acknowledgement.into());
    let offer = Offer {
        transfer: view.transfer.unwrap(),
        name: view.name,
        kind: Kind::File,
        entries: 1,
        fingerprint: view.fingerprint.unwrap(),
        modes: "f0644".parse().unwrap(),
        extras: Default::default(),
        minted: ago(60),
    };
    Row {
        stage: view.stage.to_owned(),
        central: Some(name("hub")),
        acknowledged: true,
        cleaned: true,
        began: Some(ago(30)),
        arrived: Some(ago(20)),
        finished: Some(ago(10)),
        ..Row::new(offer, view.upload, ago(60), ago(10))
    }
}

/// The moment so many seconds before [`NOW`].
pub(crate) fn ago(seconds: u64) -> Time {
    Time::from_millis(NOW - seconds * 1000)
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn peer(mode: Mode, text: &str, seconds: u64) -> PeerView {
    PeerView {
        node: Node::new(mode, name(text)),
        version: "1.2.3".to_owned(),
        host: format!("{text}.example.org"),
        first_heard: ago(seconds + 86_400),
        last_heard: ago(seconds),
        alive: seconds < 150,
        paused: None,
        free: None,
        free_inodes: None,
        doing: String::new(),
        clock_ahead: None,
        protocols: None,
        apart: None,
        spool: None,
    }
}

/// The role that has such a stage.
fn mode_of(stage: &str) -> Mode {
    let is_centrals = synkler::machine::central::Stage::ALL.iter().any(|known| known.as_str() == stage);
    if is_centrals { Mode::Central } else { Mode::Upload }
}

/// The tally of transfers none of which needs a person.
pub(crate) fn tally(transfers: &[TransferView]) -> Tally {
    let mut states = BTreeMap::new();
    transfers.iter().for_each(|view| *states.entry(view.state).or_default() += 1);
    Tally { states, ..Tally::default() }
}

/// A waiting transfer; `number` makes its id.
pub(crate) fn transfer(number: u64, item: &[u8], stage: &'static str, reason: Reason) -> TransferView {
    let [.., a, b] = number.to_be_bytes();
    TransferView {
        transfer: Some(TransferId::mint(NOW - 60_000, [a, b, 1, 2, 3, 4, 5, 6, 7, 8])),
        name: ItemName::new(item).unwrap(),
        upload: name("alpha"),
        kind: Some(Kind::File),
        entries: Some(1),
        size: 12_345,
        fingerprint: Some(Fingerprint {
            size: 12_345,
            digest: Digest([a, b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]),
        }),
        state: State::of(mode_of(stage), stage, reason.cause(), 0),
        stage,
        reason,
        created: ago(61),
        began: None,
        arrived: None,
        paused: None,
        since: ago(60),
        next: None,
        attempts: 0,
        progress: None,
        receivers: Vec::new(),
        remark: None,
    }
}

/// An upload with nothing on the way.
pub(crate) fn idle() -> Snapshot {
    Snapshot {
        node: Node::new(Mode::Upload, name("alpha")),
        started: ago(4260),
        host: "alpha.example.org".to_owned(),
        paused: None,
        group_paused: None,
        no_directory: None,
        free: Some(5_000_000_000),
        free_inodes: Some(300_000),
        doing: "idle".to_owned(),
        spool: None,
        matching: 0,
        more: false,
        broker: BrokerState::Connected(ago(4259)),
        counts: vec![("announced", 0), ("sending", 0)],
        transfers: Vec::new(),
        tally: Tally::default(),
        peers: vec![peer(Mode::Central, "hub", 12)],
    }
}

/// An upload with so many transfers in line.
pub(crate) fn crowded(count: u64) -> Snapshot {
    let item = |number| format!("file {number:05}.dat").into_bytes();
    let transfers: Vec<_> =
        (0..count).map(|number| transfer(number, &item(number), "announced", Cause::Central.into())).collect();
    Snapshot { counts: vec![("announced", count)], tally: tally(&transfers), transfers, ..idle() }
}

/// An upload at work, as docs/protocol.md shows it.
pub(crate) fn documented() -> Snapshot {
    let sending = TransferView {
        size: 4_700_000_000,
        progress: Some(Progress { bytes: 1_462_000_000, total: 4_700_000_000, rate: 11_900_000, transfers: 1 }),
        ..transfer(3, b"caf\xe9.iso", "sending", Cause::Running.into())
    };
    let transfers = vec![sending, transfer(4, b"next", "announced", Cause::Central.into())];
    Snapshot { counts: vec![("announced", 1), ("sending", 1)], tally: tally(&transfers), transfers, ..idle() }
}

/// A central with trouble of every kind, and item names that mean harm.
pub(crate) fn troubled() -> Snapshot {
    let receivers = vec![(name("zeta"), Some(ago(30))), (name("eta"), None), (name("theta"), None)];
    let transfers = vec![
        TransferView {
            attempts: 7,
            next: Some(Time::from_millis(NOW + 40_000)),
            ..transfer(
                1,
                b"innocent\x1b[2J\x1b[1;31m.txt",
                "granted",
                Reason::with(
                    Cause::Transport,
                    "exit code 255: Host key verification failed\r\nfor syn@central.example.com; \x1b[31mcompare the key with the one that central's administrator told you, then add it to known_hosts",
                ),
            )
        },
        TransferView {
            attempts: 1,
            next: Some(ago(1)),
            ..transfer(2, "evil\u{202e}fdp.exe\u{200b}\nsecond line\ttab".as_bytes(), "granted", Cause::Mismatch.into())
        },
        TransferView {
            size: 4_700_000_000,
            since: ago(312),
            progress: Some(Progress { bytes: 1_462_000_000, total: 4_700_000_000, rate: 11_900_000, transfers: 1 }),
            ..transfer(3, b"debian-13.2.0-amd64-DVD-1.iso", "granted", Cause::Running.into())
        },
        TransferView {
            progress: Some(Progress { bytes: 0, total: 24_690, rate: 0, transfers: 2 }),
            ..transfer(
                4,
                "漢字と🎉の長い名前のファイルですからどこかで切らなければなりません.tar.gz".as_bytes(),
                "granted",
                Cause::Running.into(),
            )
        },
        TransferView {
            receivers: receivers.clone(),
            ..transfer(5, b"-n --delete $(reboot) `id` %F * ?.csv", "held", Cause::Receipts.into())
        },
        TransferView {
            receivers: receivers.into_iter().map(|(name, _)| (name, Some(ago(200)))).collect(),
            next: Some(Time::from_millis(NOW + 1_600_000)),
            since: ago(200),
            ..transfer(6, b"latin-1: caf\xe9 \xff\xfe", "released", Cause::Keeping.into())
        },
        TransferView {
            size: 0,
            since: ago(90_000),
            upload: name("an-upload-with-a-very-long-name-that-is-still-allowed"),
            ..transfer(7, &[b'x'; 255], "waiting", Reason::with(Cause::Space, "1.2 GB are needed, 300 MB are left"))
        },
        TransferView {
            transfer: None,
            fingerprint: None,
            ..transfer(8, b"back\\slash and \"quotes\" and 'more'", "waiting", Cause::Settling.into())
        },
    ];
    Snapshot {
        node: Node::new(Mode::Central, name("hub")),
        started: ago(200_000),
        host: "hub.example.org".to_owned(),
        paused: Some(Pause::new(ago(500), "root", Node::new(Mode::Central, name("hub")))),
        group_paused: None,
        no_directory: None,
        free: Some(300_000_000),
        free_inodes: None,
        doing: "receiving 4, 4101 queued".to_owned(),
        spool: None,
        matching: 4107,
        more: true,
        broker: BrokerState::Disconnected(
            ago(303),
            Some(Reason::with(
                Cause::Transport,
                "the broker at mq.example.com:5672 refused the login of \"guest\": check username and password",
            )),
        ),
        counts: vec![("waiting", 4101), ("granted", 4), ("held", 1), ("released", 1), ("finished", 0)],
        transfers,
        tally: Tally {
            attention: 5,
            states: BTreeMap::from([
                (State::Queued, 4096),
                (State::Uploading, 2),
                (State::Waiting, 5),
                (State::Delivered, 1),
                (State::Failed, 3),
            ]),
            ..Tally::default()
        },
        peers: vec![
            peer(Mode::Upload, "alpha", 3),
            peer(Mode::Upload, "an-upload-with-a-very-long-name-that-is-still-allowed", 59),
            peer(Mode::Download, "zeta", 400),
        ],
    }
}

/// What a client gets of a snapshot when central tells the same, with what differs from run to run made the same.
pub(crate) fn status(snapshot: &Snapshot) -> Status {
    let directory = "/srv/synkler".as_ref();
    let mut status = Status::new(snapshot, &"default".parse().unwrap(), directory, Time::from_millis(NOW));
    status.node.pid = 4711;
    status.node.version = "1.2.3".to_owned();
    status.view = View { whole: true, from: snapshot.node.to_string(), why: None, silent: Vec::new() };
    status
}
