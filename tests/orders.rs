//! What an operator's orders do to one machine, seen from outside: inputs and orders in, effects and deeds out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use synkler::machine::{
    Address, Cause, CentralSettings, Cleaner, CopyOutcome, Deed, Digest, DownloadSettings, Effect, Fault, Fingerprint,
    Found, GroupPause, Handle, HashOutcome, Hello, Input, ItemName, ItemOrder, JournalId, Keep, KeepModes, Kind,
    KnownNode, Level, Location, Log, Machine, Message, Mode, Node, Offer, Order, Ownership, PlaceId, Protocols,
    Readiness, Reason, Receipt, Record, Release, Restored, RoleSettings, Row, Run, RunId, RunOutcome, Scope, Selection,
    Sight, Sighting, Signature, Space, State, Time, TransferId, TransferView, UploadSettings, Wait,
};

#[path = "orders/apart.rs"]
mod apart;
#[path = "orders/lost_directory.rs"]
mod lost_directory;
#[path = "orders/older.rs"]
mod older;
#[path = "orders/room.rs"]
mod room;
#[path = "orders/touched.rs"]
mod touched;

const START: u64 = 1_800_000_000_000;

fn name(text: &str) -> ItemName {
    ItemName::new(text.as_bytes()).unwrap()
}

fn id(number: u64) -> TransferId {
    TransferId::mint(START - 1_000_000 + number, [3; 10])
}

fn peer(mode: Mode, text: &str) -> Node {
    Node::new(mode, text.parse().unwrap())
}

fn hub() -> Node {
    peer(Mode::Central, "hub")
}

fn alpha() -> Node {
    peer(Mode::Upload, "alpha")
}

fn fingerprint(number: u64) -> Fingerprint {
    Fingerprint { size: 1000 + number, digest: Digest([7; 16]) }
}

fn place() -> PlaceId {
    PlaceId { journal: JournalId(9), number: 4 }
}

fn location() -> Location {
    Location::new("syn@hub", "/srv/g/in/00000009-4").unwrap()
}

/// A transfer from upload alpha by way of central hub, in this stage.
fn row(number: u64, stage: &str) -> Row {
    let created = Time::from_millis(START - 500_000 + number);
    let offer = Offer {
        transfer: id(number),
        name: name(&format!("item {number}")),
        kind: Kind::File,
        entries: 1,
        fingerprint: fingerprint(number),
        modes: Default::default(),
        extras: Default::default(),
        minted: created,
    };
    Row {
        stage: stage.to_owned(),
        central: Some("hub".parse().unwrap()),
        place: Some(place()),
        location: Some(location()),
        signature: Some(Signature([5; 16])),
        ..Row::new(offer, "alpha".parse().unwrap(), created, Time::from_millis(START - 400_000 + number))
    }
}

fn held(number: u64, receivers: &[(&str, bool)]) -> Row {
    let receivers =
        receivers.iter().map(|(name, has)| (name.parse().unwrap(), has.then(|| Time::from_millis(START - 100_000))));
    Row { receivers: receivers.collect(), ..row(number, "held") }
}

fn big(row: Row) -> Row {
    Row { fingerprint: Fingerprint { size: 1 << 30, ..row.fingerprint }, ..row }
}

fn restored(rows: Vec<Row>) -> Restored {
    let known = |node: Node| KnownNode {
        node,
        journal: JournalId(1),
        started: Time::from_millis(START - 900_000),
        slots: 1,
        version: "1".to_owned(),
        host: String::new(),
        spool: None,
        first_heard: Time::from_millis(START - 900_000),
        last_heard: Time::from_millis(START),
    };
    Restored {
        journal: JournalId(9),
        rows,
        nodes: vec![known(hub()), known(alpha()), known(peer(Mode::Download, "d1")), known(peer(Mode::Download, "d2"))],
        recent: Vec::new(),
        submitted: Vec::new(),
        kept: Vec::new(),
        next_place: 5,
        paused: None,
        group: GroupPause::default(),
        directory: None,
    }
}

/// One machine and its clock.
struct Bench {
    machine: Machine,
    now: Time,
}

impl Bench {
    fn upload(restored: Restored) -> Self {
        Self::upload_with(restored, Readiness::Settled)
    }

    fn upload_with(restored: Restored, ready: Readiness) -> Self {
        let settings = UploadSettings {
            keep: Keep::default(),
            depth: 0,
            ready,
            me: alpha().name,
            version: "1".to_owned(),
            settle: Duration::ZERO,
            slots: 1,
            cleanup: Cleaner::Script,
            host: "a.example.org".to_owned(),
        };
        Self::begin(|now| Machine::upload(settings, restored, 1, now).unwrap())
    }

    fn central(restored: Restored) -> Self {
        let settings = CentralSettings {
            links: true,
            keep_modes: KeepModes::Try,
            me: hub().name,
            version: "1".to_owned(),
            receivers: None,
            keep: Duration::from_secs(60),
            free_millipercent: 0,
            spool: Location::new("syn@hub", "/srv/g").unwrap(),
            host: String::new(),
        };
        Self::begin(|now| Machine::central(settings, restored, 1, now).unwrap())
    }

    fn download(restored: Restored) -> Self {
        let settings = DownloadSettings {
            keep_modes: KeepModes::Try,
            ownership: Ownership::default(),
            me: "d1".parse().unwrap(),
            version: "1".to_owned(),
            slots: 1,
            cleanup: Cleaner::Script,
            directory: "/srv".to_owned(),
            host: String::new(),
        };
        Self::begin(|now| Machine::download(settings, restored, 1, now).unwrap())
    }

    fn begin(machine: impl FnOnce(Time) -> Machine) -> Self {
        let now = Time::from_millis(START);
        let mut bench = Self { machine: machine(now), now };
        bench.input(Input::Connected);
        bench
    }

    fn later(&mut self, seconds: u64) -> Vec<Effect> {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.input(Input::Timeout)
    }

    fn input(&mut self, input: Input) -> Vec<Effect> {
        self.machine.handle(self.now, input);
        self.drain()
    }

    fn receive(&mut self, from: Node, message: Message) -> Vec<Effect> {
        self.input(Input::Received { from, message })
    }

    fn order(&mut self, order: Order) -> (Vec<Deed>, Vec<Effect>) {
        let deeds = self.machine.order(self.now, "root", order);
        (deeds, self.drain())
    }

    /// The text of the one deed, and whether it was done.
    fn deed(&mut self, order: Order) -> (bool, String) {
        let (deeds, _) = self.order(order);
        let [deed] = deeds.as_slice() else { panic!("{deeds:?}") };
        (deed.done, deed.text.clone())
    }

    fn drain(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.machine.poll_effect()).collect()
    }

    fn view(&self, number: u64) -> TransferView {
        self.machine.view(&Handle::Transfer(id(number))).unwrap()
    }
}

fn runs(effects: &[Effect]) -> Vec<Run> {
    effects.iter().filter_map(|effect| if let Effect::Run(run) = effect { Some(run.clone()) } else { None }).collect()
}

fn batch(run: &Run) -> Vec<TransferId> {
    run.batch.iter().map(|(transfer, _)| *transfer).collect()
}

fn sent(effects: &[Effect]) -> Vec<(Address, Message)> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message } if !matches!(message, Message::Hello(_)) => Some((to.clone(), message.clone())),
        _ => None,
    });
    sent.collect()
}

fn hellos(effects: &[Effect]) -> Vec<(Address, Hello)> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message: Message::Hello(hello) } => Some((to.clone(), (**hello).clone())),
        _ => None,
    });
    sent.collect()
}

fn hello(group: GroupPause) -> Hello {
    Hello {
        protocols: Protocols::OURS,
        journal: JournalId(1),
        started: Time::from_millis(START - 900_000),
        version: "1".to_owned(),
        slots: 1,
        reply: false,
        host: String::new(),
        now: Time::from_millis(START + 5_000),
        paused: None,
        group,
        free: Some(77),
        free_inodes: Some(7),
        doing: "idle".to_owned(),
        spool: None,
    }
}

fn pause(now: bool) -> Order {
    Order::Pause { scope: Scope::Node, now }
}

fn resume() -> Order {
    Order::Resume { scope: Scope::Node }
}

fn one(number: u64) -> Vec<Handle> {
    vec![Handle::Transfer(id(number))]
}

fn stopped(run: &Run) -> Input {
    let outcome = RunOutcome::Failed(Fault::Passing, Reason::with(Cause::Transport, "stopped"));
    Input::Ran { run: run.id, outcome }
}

#[test]
fn a_paused_node_starts_nothing_and_a_stopped_run_is_no_failed_attempt() {
    let mut bench = Bench::upload(restored(vec![row(1, "granted"), row(2, "granted")]));
    // What was in line at the start has started with the first input.
    let progress = bench.view(1).progress.expect("it is being sent");
    assert_eq!(progress.transfers, 2);
    let (deeds, effects) = bench.order(pause(true));
    assert_eq!(deeds[0].text, "paused: this node starts no new transfers; 1 rsync run is stopped");
    let Some(Effect::Persist(Record::Paused(Some(order)))) = effects.first() else { panic!("{effects:?}") };
    assert_eq!((&*order.by, &order.node), ("root", &alpha()));
    let halted: Vec<_> = effects.iter().filter(|effect| matches!(effect, Effect::Halt(_))).collect();
    assert_eq!(halted.len(), 1);
    let told = hellos(&effects);
    assert_eq!((told[0].0.clone(), told[0].1.paused.as_ref()), (Address::All, Some(order)), "all are told at once");

    let run = Run {
        id: RunId(0),
        direction: synkler::machine::Direction::Push,
        location: location(),
        batch: Vec::new(),
        keep: Keep::default(),
    };
    let effects = bench.input(stopped(&run));
    assert!(runs(&effects).is_empty());
    let view = bench.view(1);
    assert_eq!((view.stage, view.attempts, view.reason.cause()), ("granted", 0, Cause::Paused));
    assert_eq!(view.reason.detail(), "by root on upload alpha");
    assert!(bench.deed(Order::Items(ItemOrder::Retry, one(1))).1.contains("resume first"));
    assert!(runs(&bench.later(3600)).is_empty());

    let (_, effects) = bench.order(resume());
    let begun = runs(&effects);
    assert_eq!(begun.len(), 1, "the host was not held to have failed");
    assert_eq!(batch(&begun[0]), [id(1), id(2)]);
    assert_eq!(bench.deed(resume()), (true, "nothing to do: this node is not paused".to_owned()));
}

#[test]
fn a_pause_outlives_a_restart() {
    let mut before = Bench::download(restored(vec![row(1, "delivered")]));
    let (_, effects) = before.order(pause(false));
    let Some(Effect::Persist(Record::Paused(order))) = effects.first() else { panic!("{effects:?}") };
    let mut bench = Bench::download(Restored { paused: order.clone(), ..restored(vec![row(1, "delivered")]) });
    let effects = bench.later(600);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Look { .. } | Effect::Cleanup(_))), "{effects:?}");
    assert_eq!(bench.view(1).reason.cause(), Cause::Paused);
    let (_, effects) = bench.order(resume());
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Look { .. })), "{effects:?}");
}

#[test]
fn an_order_about_the_group_reaches_whoever_was_away() {
    let mut here = Bench::central(restored(Vec::new()));
    let (_, effects) = here.order(Order::Pause { scope: Scope::Group, now: true });
    let (to, told) = hellos(&effects).remove(0);
    assert_eq!(to, Address::All);
    assert!(told.group.pause.is_some() && told.group.stop);

    let mut away = Bench::upload(restored(vec![row(1, "granted")]));
    assert!(away.view(1).progress.is_some());
    let effects = away.receive(hub(), Message::Hello(Box::new(told.clone())));
    assert!(effects.contains(&Effect::Persist(Record::Group(told.group.clone()))));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Halt(_))), "{effects:?}");
    assert_eq!(away.machine.snapshot(&Selection::default()).group_paused, told.group.pause);
    // Who has not heard of it yet is told.
    let effects = away.receive(peer(Mode::Download, "d1"), Message::Hello(Box::new(hello(GroupPause::default()))));
    assert_eq!(hellos(&effects)[0].0, Address::Node(peer(Mode::Download, "d1")));
    assert_eq!(hellos(&effects)[0].1.group, told.group);
    // A clock that is behind does not make the end older than the order.
    away.now = Time::from_millis(START - 60_000);
    let (_, effects) = away.order(Order::Resume { scope: Scope::Group });
    let over = hellos(&effects)[0].1.group.clone();
    assert!(over > told.group && over.pause.is_none());
    here.receive(alpha(), Message::Hello(Box::new(Hello { group: over, ..hello(GroupPause::default()) })));
    assert_eq!(here.machine.snapshot(&Selection::default()).group_paused, None);
}

#[test]
fn an_item_that_is_paused_holds_up_no_other() {
    let mut bench = Bench::upload(restored(vec![row(1, "announced"), row(2, "announced")]));
    let (deeds, _) = bench.order(Order::Pause { scope: Scope::Items(vec![Handle::Item(name("item 1"))]), now: false });
    assert_eq!(deeds[0].item, Some(name("item 1")));
    let message = Message::Upload { place: place(), location: location(), links: true, transfers: vec![id(1), id(2)] };
    let effects = bench.receive(hub(), message);
    assert_eq!(batch(&runs(&effects)[0]), [id(2)]);
    // Central is told why the other one does not come.
    let waits = sent(&effects);
    let [(_, Message::Waiting(waits))] = waits.as_slice() else { panic!("{waits:?}") };
    assert_eq!((waits[0].transfer, waits[0].reason.cause()), (id(1), Cause::Paused));

    // Central, which heard of it in this way only, keeps asking for others: with one slot, two places are open at most.
    let mut central = Bench::central(restored(vec![row(1, "granted"), row(2, "waiting"), row(3, "waiting")]));
    let more = Row { place: Some(PlaceId { number: 3, ..place() }), ..row(4, "granted") };
    let mut blocked = Bench::central(restored(vec![row(1, "granted"), more, row(2, "waiting")]));
    let space = Input::Space(Space::of_bytes(1 << 40, 1 << 40));
    central.receive(alpha(), Message::Waiting(waits.clone()));
    let effects = central.input(space.clone());
    let asked = effects.iter().any(|effect| matches!(effect, Effect::Persist(Record::NextPlace(_))));
    assert!(asked, "{effects:?}");
    blocked.input(space.clone());
    assert_eq!(blocked.view(2).stage, "waiting");
    blocked.receive(alpha(), Message::Waiting(waits.clone()));
    blocked.later(11);
    blocked.input(space);
    assert_eq!(blocked.view(2).stage, "granted");

    let (_, effects) = bench.order(Order::Resume { scope: Scope::Items(one(1)) });
    let told = sent(&effects);
    let [(_, Message::Waiting(waits))] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(waits[0].reason.cause(), Cause::Queued);
    let (deeds, _) = bench.order(Order::Pause { scope: Scope::Items(vec![Handle::Item(name("nowhere"))]), now: false });
    assert!(deeds.is_empty(), "what this node knows nothing of is for others to say");
}

/// What the log tells at INFO of transfer 1.
fn told(effects: &[Effect]) -> Vec<&str> {
    let logs = effects.iter().filter_map(|effect| if let Effect::Log(log) = effect { Some(log) } else { None });
    let about = |log: &&Log| (log.transfer, log.item.as_ref()) == (Some(id(1)), Some(&name("item 1")));
    logs.filter(|log| log.level == Level::Info).filter(about).map(|log| log.text.as_str()).collect()
}

#[test]
fn an_items_story_tells_who_ordered_what() {
    let mut bench = Bench::upload(restored(vec![row(1, "granted")]));
    let run = RunId(0);
    assert!(bench.view(1).progress.is_some(), "it is being sent");
    let (_, effects) = bench.order(Order::Pause { scope: Scope::Items(one(1)), now: true });
    assert_eq!(
        told(&effects),
        ["pause ordered by root: paused: no new rsync run starts for this item; its rsync run is stopped"]
    );
    let effects = bench.input(Input::Ran { run, outcome: RunOutcome::Failed(Fault::Passing, Cause::Transport.into()) });
    assert_eq!(told(&effects), ["rsync stopped: the transfer continues later"]);
    let (_, effects) = bench.order(Order::Items(ItemOrder::Retry, one(1)));
    assert_eq!(told(&effects), ["retry ordered by root: paused by root on upload alpha: resume first"]);
    let (_, effects) = bench.order(Order::Resume { scope: Scope::Items(one(1)) });
    assert_eq!(told(&effects), ["resume ordered by root: resumed", "rsync starts to send the item"]);
    let (_, effects) = bench.order(Order::Items(ItemOrder::Bump, one(1)));
    assert_eq!(told(&effects), ["bump ordered by root: nothing to do: rsync is sending the item"]);
    let (_, effects) = bench.order(Order::Items(ItemOrder::Withdraw, one(1)));
    let given_up = "withdraw ordered by root: cancelled: the source is kept and not sent again until it changes";
    assert_eq!(told(&effects), [given_up]);
}

#[test]
fn an_item_that_is_no_transfer_yet_cannot_be_paused() {
    let mut bench = Bench::upload(restored(Vec::new()));
    bench.input(Input::Seen(renamed_in("new", 1, 3)));
    let items = vec![Handle::Item(name("new"))];
    let (done, text) = bench.deed(Order::Pause { scope: Scope::Items(items.clone()), now: false });
    assert_eq!((done, text.as_str()), (false, "no transfer yet: the item must stay unchanged first"));
    assert!(!bench.deed(Order::Items(ItemOrder::Withdraw, items.clone())).0);
    let busy = HashOutcome::Held(Cause::Busy.into());
    bench.input(Input::Hashed { item: name("new"), outcome: busy });
    let (deeds, effects) = bench.order(Order::Items(ItemOrder::Retry, items));
    assert_eq!(deeds[0].text, "the upload examines the item again now");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Hash { .. })), "{effects:?}");
}

#[test]
fn what_waits_is_tried_again_at_once() {
    let mut bench = Bench::upload(restored(vec![row(1, "granted")]));
    let run = RunId(0);
    assert_eq!(
        bench.deed(Order::Items(ItemOrder::Retry, one(1))),
        (false, "nothing to do: rsync is sending the item".to_owned())
    );
    let failed = RunOutcome::Failed(Fault::Lasting, Reason::with(Cause::Transport, "host key unknown"));
    bench.input(Input::Ran { run, outcome: failed });
    assert!(bench.view(1).next.is_some(), "its host has to wait");
    let (deeds, effects) = bench.order(Order::Items(ItemOrder::Retry, one(1)));
    assert_eq!((deeds[0].done, deeds[0].text.as_str()), (true, "the connection to central is retried now"));
    assert_eq!(runs(&effects).len(), 1);

    // A cleanup that failed, and a copy that could not be removed.
    let mut bench = Bench::download(restored(vec![row(1, "delivered")]));
    bench.input(Input::Looked { transfer: id(1), sight: Sight::Present(Signature([5; 16])) });
    bench.input(Input::Cleaned { transfer: id(1), outcome: Err(Reason::with(Cause::Cleanup, "exit code 1")) });
    let (deeds, effects) = bench.order(Order::Items(ItemOrder::Retry, vec![Handle::Item(name("item 1"))]));
    assert_eq!(deeds[0].text, "the cleanup is retried now");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Look { .. })), "{effects:?}");

    let mut bench = Bench::central(restored(vec![Row { stage: "released".to_owned(), ..held(1, &[("d1", true)]) }]));
    bench.later(120);
    bench.input(Input::Dropped { transfer: id(1), outcome: Err(Cause::Storage.into()) });
    let (deeds, effects) = bench.order(Order::Items(ItemOrder::Retry, one(1)));
    assert_eq!(deeds[0].text, "central deletes the copy now");
    assert!(effects.contains(&Effect::Drop(id(1))), "{effects:?}");
}

#[test]
fn what_stands_in_line_is_sent_next() {
    let mut bench = Bench::upload(restored((1..=3).map(|number| big(row(number, "granted"))).collect()));
    assert!(bench.view(1).progress.is_some());
    assert_eq!(bench.deed(Order::Items(ItemOrder::Bump, one(3))), (true, "the upload sends the item next".to_owned()));
    let effects = bench.input(Input::Ran { run: RunId(0), outcome: RunOutcome::Complete });
    assert_eq!(batch(&runs(&effects)[0]), [id(3)]);

    let rows = (1..=3).map(|number| big(row(number, "waiting"))).collect();
    let mut bench = Bench::central(restored(rows));
    assert_eq!(bench.deed(Order::Items(ItemOrder::Bump, one(2))), (true, "central requests the item next".to_owned()));
    bench.input(Input::Space(Space::of_bytes(3 << 29, 1 << 40)));
    let stages: Vec<_> = (1..=3).map(|number| bench.view(number).stage).collect();
    assert_eq!(stages, ["waiting", "granted", "waiting"]);
    assert_eq!(bench.deed(Order::Items(ItemOrder::Bump, one(2))).1, "nothing to do: already requested from the upload");
}

/// The watch sees an item that came by a rename.
fn renamed_in(item: &str, signature: u8, size: u64) -> Sighting {
    Sighting { name: name(item), signature: Signature([signature; 16]), size, complete: true, unmarked: None }
}

fn proven(item: &str) -> Input {
    let outcome = HashOutcome::Proven {
        kind: Kind::File,
        entries: 1,
        fingerprint: fingerprint(1),
        modes: Default::default(),
        extras: Default::default(),
        manifest: None,
        origin: synkler::machine::Origin::default(),
    };
    Input::Hashed { item: name(item), outcome }
}

#[test]
fn a_marker_that_goes_again_takes_its_word_back() {
    let mut bench = Bench::upload_with(restored(Vec::new()), Readiness::Marker("%f.ok".parse().unwrap()));
    let sighting = |unmarked: Option<&str>| {
        let unmarked = unmarked.map(|why| Reason::with(Cause::Unmarked, why));
        Input::Seen(Sighting { name: name("a"), signature: Signature([5; 16]), size: 3, complete: false, unmarked })
    };
    let hashes = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Hash { .. }));
    assert!(!hashes(&bench.input(sighting(Some("a.ok is missing")))));
    // It comes: no quiet time is needed. It goes again before the checksum is known.
    assert!(hashes(&bench.input(sighting(None))));
    bench.input(sighting(Some("a.ok is missing")));
    let effects = bench.input(proven("a"));
    assert!(sent(&effects).is_empty(), "{effects:?}");
    // And once more: what was announced then stays announced.
    assert!(hashes(&bench.input(sighting(None))));
    let effects = bench.input(proven("a"));
    assert!(matches!(sent(&effects).as_slice(), [(_, Message::New(_))]), "{effects:?}");
    let effects = bench.input(sighting(Some("a.ok is missing")));
    assert!(sent(&effects).is_empty() && !hashes(&effects), "{effects:?}");
}

#[test]
fn what_is_withdrawn_leaves_its_source_alone() {
    let mut bench = Bench::upload(restored(vec![row(1, "received")]));
    let seen = |byte| Input::Seen(renamed_in("item 1", byte, 1));
    bench.input(seen(5));
    let (deeds, effects) = bench.order(Order::Items(ItemOrder::Withdraw, one(1)));
    assert!(deeds[0].done && deeds[0].text.contains("not sent again until it changes"), "{deeds:?}");
    assert!(
        effects.iter().any(
            |effect| matches!(effect, Effect::Persist(Record::Kept(kept)) if kept.signature == Signature([5; 16]))
        )
    );
    assert_eq!(sent(&effects), [(Address::Node(hub()), Message::Cancel(vec![id(1)]))]);
    assert!(!bench.deed(Order::Items(ItemOrder::Withdraw, one(1))).0);

    // An old `received` does not mislead it, and a release that came too late frees nothing.
    bench.receive(hub(), Message::Received(vec![id(1)]));
    assert_eq!(bench.view(1).reason.cause(), Cause::Withdrawn);
    let release =
        Release { transfer: id(1), fingerprint: fingerprint(1), receivers: vec!["d1".parse().unwrap()], remark: None };
    let effects = bench.receive(hub(), Message::Release(vec![release]));
    assert_eq!(sent(&effects), [(Address::Node(hub()), Message::Freed(vec![id(1)]))]);
    let effects = bench.receive(hub(), Message::Closed(vec![id(1)]));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Look { .. } | Effect::Cleanup(_))));
    assert!(bench.input(seen(5)).is_empty());
    assert!(bench.input(seen(6)).iter().any(|effect| matches!(effect, Effect::Hash { .. })), "it has changed");
}

#[test]
fn withdrawing_leaves_alone_what_a_receiver_has_got() {
    let mut bench = Bench::central(restored(vec![held(1, &[("d1", true), ("d2", false)])]));
    assert!(bench.order(Order::Items(ItemOrder::Withdraw, one(1))).0.is_empty(), "it is its upload's to do");
    let effects = bench.receive(alpha(), Message::Cancel(vec![id(1)]));
    let told = sent(&effects);
    assert!(told.contains(&(Address::Node(peer(Mode::Download, "d2")), Message::Withdraw(vec![id(1)]))), "{told:?}");
    assert!(told.contains(&(Address::Node(alpha()), Message::Closed(vec![id(1)]))), "{told:?}");
    assert!(!told.iter().any(|(to, _)| *to == Address::Node(peer(Mode::Download, "d1"))), "{told:?}");
    assert!(effects.contains(&Effect::Drop(id(1))));
    // Had d2 proven it by then, its receipt is welcome all the same.
    let receipt = Receipt { transfer: id(1), fingerprint: fingerprint(1), remark: None };
    let effects = bench.receive(peer(Mode::Download, "d2"), Message::Done(vec![receipt]));
    assert_eq!(sent(&effects).len(), 1, "noted");

    // A pending receiver gives it up, in line as well as on its way.
    for stage in ["wanted", "placing"] {
        let stored = Row { inode: Some(1), ..row(1, stage) };
        let mut download = Bench::download(restored(vec![stored]));
        download.input(Input::Space(Space::of_bytes(1 << 40, 1 << 40)));
        let effects = download.receive(hub(), Message::Withdraw(vec![id(1)]));
        let over = download.machine.view(&Handle::Transfer(id(1))).is_none();
        assert_eq!(over, stage == "wanted", "what is proven and being placed is delivered");
        assert_eq!(effects.contains(&Effect::Drop(id(1))), stage == "wanted");
    }

    // When all have it, it is too late.
    let released = Row { stage: "released".to_owned(), ..held(2, &[("d1", true)]) };
    let mut bench = Bench::central(restored(vec![released]));
    assert_eq!(
        bench.deed(Order::Items(ItemOrder::Withdraw, one(2))),
        (false, "refused: every receiver already has the item".to_owned())
    );
    let told = sent(&bench.receive(alpha(), Message::Cancel(vec![id(2)])));
    assert!(matches!(told.as_slice(), [(_, Message::Release(_))]), "{told:?}");
}

#[test]
fn who_is_forgotten_is_no_longer_waited_for() {
    let rows = vec![
        held(1, &[("d1", true), ("d2", false)]),
        held(2, &[("d2", false)]),
        held(3, &[("d1", false), ("d2", false)]),
    ];
    let mut bench = Bench::central(restored(rows));
    let gone = peer(Mode::Download, "d2");
    let forget = Order::Forget(gone.clone());
    assert!(bench.deed(forget.clone()).1.contains("is alive"));
    // The session was down meanwhile: that d2 was not heard tells nothing yet.
    bench.input(Input::Disconnected(Cause::Broker.into()));
    bench.later(300);
    bench.input(Input::Connected);
    assert!(bench.deed(forget.clone()).1.contains("not known yet"));
    bench.later(80);
    bench.receive(peer(Mode::Download, "d1"), Message::Hello(Box::new(hello(GroupPause::default()))));
    let (deeds, effects) = bench.order(forget.clone());
    let texts: Vec<_> = deeds.iter().map(|deed| deed.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "download d2 is removed from the group",
            "3 transfers no longer wait for its receipt; 1 of them now have all receipts"
        ]
    );
    assert!(effects.contains(&Effect::Persist(Record::Forgotten(gone.clone()))));
    let releases = sent(&effects).into_iter().filter_map(|(_, message)| match message {
        Message::Release(list) => Some(list),
        _ => None,
    });
    let released: Vec<_> = releases.flatten().map(|release| release.transfer).collect();
    assert_eq!(released, [id(1)]);
    assert_eq!(bench.view(1).stage, "released");
    // Without a receipt nothing is released. Held for nobody, the copy goes: who is left may have a later content
    // already.
    assert_eq!((bench.view(2).stage, bench.view(3).stage), ("waiting", "held"));
    assert_eq!(bench.view(2).reason.cause(), Cause::Receivers);
    assert!(effects.contains(&Effect::Drop(id(2))), "{effects:?}");
    let left = |bench: &Bench, number| {
        bench.view(number).receivers.into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((left(&bench, 2), left(&bench, 3)), (Vec::<String>::new(), vec!["d1".to_owned()]));
    assert!(bench.order(forget).0.is_empty(), "it is no longer known");

    // With nobody left at all, it is sent anew when somebody comes, and nothing old is offered.
    let mut bench = Bench::central(restored(vec![held(2, &[("d2", false)])]));
    bench.later(300);
    bench.order(Order::Forget(peer(Mode::Download, "d1")));
    let (_, effects) = bench.order(Order::Forget(gone.clone()));
    assert!(effects.contains(&Effect::Drop(id(2))), "{effects:?}");
    assert_eq!((bench.view(2).stage, bench.view(2).reason.cause()), ("waiting", Cause::Receivers));
    let effects = bench.receive(peer(Mode::Download, "d3"), Message::Hello(Box::new(hello(GroupPause::default()))));
    assert!(!sent(&effects).iter().any(|(_, message)| matches!(message, Message::Download { .. })), "{effects:?}");
}

#[test]
fn a_receiver_that_nobody_waits_for_is_told_so() {
    let mut bench = Bench::central(restored(vec![held(1, &[("d1", true), ("d2", false)])]));
    let waits = || Message::Waiting(vec![Wait { transfer: id(1), reason: Cause::Queued.into() }]);
    for (who, answered) in [("d1", true), ("d2", false), ("d3", true)] {
        let told = sent(&bench.receive(peer(Mode::Download, who), waits()));
        let withdrawn = told.contains(&(Address::Node(peer(Mode::Download, who)), Message::Withdraw(vec![id(1)])));
        assert_eq!(withdrawn, answered, "{who}: {told:?}");
    }
}

#[test]
fn manifests_go_into_the_journal_when_something_is_proven() {
    let text: std::sync::Arc<str> = "d 0755 - - .\n".into();
    let manifest = Some(std::sync::Arc::clone(&text));
    let kept = |effects: Vec<Effect>| {
        effects.into_iter().find_map(|effect| match effect {
            Effect::Persist(Record::Manifest(transfer, found)) => Some((transfer, found)),
            _ => None,
        })
    };
    let mut bench = Bench::upload(restored(Vec::new()));
    bench.input(Input::Seen(renamed_in("new", 1, 3)));
    let (kind, fingerprint) = (Kind::Directory, fingerprint(0));
    let outcome = HashOutcome::Proven {
        kind,
        entries: 1,
        fingerprint,
        modes: Default::default(),
        extras: Default::default(),
        manifest: manifest.clone(),
        origin: synkler::machine::Origin::default(),
    };
    let (transfer, found) = kept(bench.input(Input::Hashed { item: name("new"), outcome })).expect("it is journalled");
    assert_eq!(found, text);
    assert_eq!(bench.machine.find("new"), Found::One(Handle::Item(name("new"))));
    assert!(bench.machine.view(&Handle::Transfer(transfer)).is_some());

    let copy = |number| CopyOutcome::Found {
        fingerprint: self::fingerprint(number),
        inode: 1,
        manifest: manifest.clone(),
        unkept: None,
        lost: None,
    };
    let mut bench = Bench::central(restored(vec![row(1, "granted")]));
    bench.receive(alpha(), Message::Sent { place: place(), transfers: vec![id(1)] });
    let effects = bench.input(Input::Taken { transfer: id(1), outcome: copy(1) });
    assert_eq!(kept(effects), Some((id(1), std::sync::Arc::clone(&text))));
    assert_eq!(bench.view(1).arrived, Some(bench.now));
    let mut bench = Bench::download(restored(vec![row(1, "wanted")]));
    bench.input(Input::Space(Space::of_bytes(1 << 40, 1 << 40)));
    assert_eq!(bench.view(1).began, Some(bench.now));
    bench.input(Input::Ran { run: RunId(0), outcome: RunOutcome::Complete });
    let effects = bench.input(Input::Verified { transfer: id(1), outcome: copy(1) });
    assert_eq!(kept(effects), Some((id(1), text)));
}

#[test]
fn things_are_found_by_name_id_or_beginning() {
    let named = |number: u64, bytes: &[u8]| Row { name: ItemName::new(bytes).unwrap(), ..row(number, "waiting") };
    let first_of_id: String = id(1).to_string();
    let rows = vec![
        named(1, b"report"),
        named(2, b"report"),
        named(3, b"results 1"),
        named(4, b"results 2"),
        named(5, b"caf\xe9"),
        named(6, b"100%"),
        named(7, first_of_id.as_bytes()),
    ];
    let bench = Bench::central(restored(rows));
    let item = |text: &[u8]| Found::One(Handle::Item(ItemName::new(text).unwrap()));
    for (text, found) in [
        ("report", item(b"report")),
        ("rep", item(b"report")),
        ("results 1", item(b"results 1")),
        ("caf\\xe9", item(b"caf\xe9")),
        ("caf%E9", item(b"caf\xe9")),
        ("caf%e9", item(b"caf\xe9")),
        ("caf\\x", item(b"caf\xe9")),
        ("100%", item(b"100%")),
        ("100%25", item(b"100%")),
        ("res", Found::Several(vec!["results 1".to_owned(), "results 2".to_owned()])),
        ("nowhere", Found::Nothing),
        ("", Found::Nothing),
    ] {
        assert_eq!(bench.machine.find(text), found, "{text}");
    }
    assert_eq!(bench.machine.find(&id(3).to_string()), Found::One(Handle::Transfer(id(3))));
    assert_eq!(bench.machine.find(&first_of_id), item(first_of_id.as_bytes()), "a name comes first");
    let shared: String = first_of_id.chars().take(8).collect();
    assert!(matches!(bench.machine.find(&shared), Found::Several(all) if all.len() == 8), "seven ids and a name");
}

#[test]
fn central_says_which_upload_it_waits_for_and_keeps_nothing_before_the_source_is_released() {
    let of = |bench: &Bench, number| {
        let view = bench.view(number);
        (view.state, view.reason.to_string())
    };
    let receipt = vec![("d1".parse().unwrap(), Some(Time::from_millis(START)))];
    let released = |number| Row { receivers: receipt.clone(), ..row(number, "released") };
    let rows = vec![row(1, "granted"), released(2), Row { acknowledged: true, ..released(3) }];
    let mut bench = Bench::central(restored(rows));
    let waits = "waiting for another node to acknowledge";
    assert_eq!(of(&bench, 1), (State::Uploading, "rsync is running".to_owned()));
    assert_eq!(of(&bench, 2), (State::CleaningUp, format!("{waits}: upload alpha")));
    assert_eq!(of(&bench, 3).0, State::Delivered);
    // Nobody has been heard for half an hour.
    bench.later(1800);
    assert_eq!(of(&bench, 1), (State::Waiting, format!("{waits}: upload alpha is silent")));
    assert_eq!(of(&bench, 2), (State::CleaningUp, format!("{waits}: upload alpha is silent")));
}

#[test]
fn a_list_goes_on_where_it_ended() {
    let mut rows: Vec<_> =
        (0..10).map(|number| row(number, if number % 2 == 0 { "waiting" } else { "held" })).collect();
    rows[7].attempts = 3;
    let bench = Bench::central(restored(rows));
    let page = Selection { by_age: true, limit: 4, ..Selection::default() };
    let ids = |snapshot: &synkler::machine::Snapshot| {
        snapshot.transfers.iter().map(|view| view.transfer.unwrap()).collect::<Vec<_>>()
    };
    let first = bench.machine.snapshot(&page);
    assert_eq!((ids(&first), first.matching, first.more), ((0..4).map(id).collect(), 10, true));
    let rest = bench.machine.snapshot(&Selection { after: Some(id(5)), ..page.clone() });
    assert_eq!((ids(&rest), rest.matching, rest.more), ((6..10).map(id).collect(), 10, false));
    let waiting = Selection { state: Some(State::Queued), after: Some(id(3)), limit: 2, ..page.clone() };
    let waiting = bench.machine.snapshot(&waiting);
    assert_eq!((ids(&waiting), waiting.matching, waiting.more), (vec![id(4), id(6)], 5, true));
    let failed = bench.machine.snapshot(&Selection { failed: true, ..page.clone() });
    assert_eq!((ids(&failed), failed.matching), (vec![id(7)], 1));
    let other = Selection { upload: Some("beta".parse().unwrap()), ..page };
    assert_eq!(bench.machine.snapshot(&other).matching, 0);
    let urgent = bench.machine.snapshot(&Selection::urgent(1));
    assert_eq!((ids(&urgent), urgent.more), (vec![id(7)], true), "what fails comes first");
    assert_eq!(urgent.counts, [("held", 5), ("waiting", 5)]);
    assert_eq!(urgent.doing, "5 queued, holding 5 for receivers");
}

#[test]
fn fifty_thousand_transfers_are_shown_at_once() {
    const COUNT: u64 = 50_000;
    // Unoptimised code and a loaded machine take their time.
    let most = Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 15 });
    let central = Bench::central(restored((0..COUNT).map(|number| row(number, "waiting")).collect()));
    let upload = Bench::upload(restored((0..COUNT).map(|number| row(number, "announced")).collect()));
    let download = Bench::download(restored((0..COUNT).map(|number| row(number, "cleaned")).collect()));
    for machine in [&central.machine, &upload.machine, &download.machine] {
        for selection in [
            Selection::urgent(100),
            Selection { by_age: true, limit: 50, after: Some(id(COUNT / 2)), ..Selection::default() },
            Selection { failed: true, limit: 50, ..Selection::default() },
        ] {
            let times = (0..5).map(|_| {
                let begun = Instant::now();
                assert!(machine.snapshot(&selection).transfers.len() <= 100);
                begun.elapsed()
            });
            let best = times.min().unwrap();
            println!("{best:?} {selection:?}");
            assert!(best < most, "{best:?} for {selection:?}");
        }
        assert_eq!(machine.snapshot(&Selection::default()).matching, COUNT);
    }
}

#[test]
fn settings_are_taken_up_while_it_runs() {
    let mut bench = Bench::upload(restored((1..=3).map(|number| big(row(number, "granted"))).collect()));
    let settings = UploadSettings {
        keep: Keep::default(),
        depth: 0,
        ready: Readiness::Settled,
        me: alpha().name,
        version: "1".to_owned(),
        settle: Duration::from_secs(5),
        slots: 3,
        cleanup: Cleaner::None,
        host: String::new(),
    };
    bench.machine.reconfigure(bench.now, RoleSettings::Upload(settings));
    let effects = bench.drain();
    assert_eq!(runs(&effects).len(), 1, "never all slots to big items");
    assert_eq!(hellos(&effects)[0].1.slots, 3);
    assert!(hellos(&effects)[0].1.doing.starts_with("sending 2, 1 queued"), "{:?}", hellos(&effects));

    let receivers = vec![("d1".parse().unwrap(), Some(Time::from_millis(START)))];
    let mut bench = Bench::central(restored(vec![Row { receivers, ..row(1, "released") }]));
    let settings = CentralSettings {
        links: true,
        keep_modes: KeepModes::Try,
        me: hub().name,
        version: "1".to_owned(),
        receivers: Some(BTreeSet::new()),
        keep: Duration::from_secs(600),
        free_millipercent: 0,
        spool: Location::new("syn@hub", "/srv/g").unwrap(),
        host: String::new(),
    };
    bench.machine.reconfigure(bench.now, RoleSettings::Central(settings));
    bench.drain();
    assert!(!bench.later(400).contains(&Effect::Drop(id(1))), "the retention is longer now");
    assert!(bench.later(200).contains(&Effect::Drop(id(1))));
}
