//! What every journal does, whatever it is made of: the simulator's fake earns its trust by passing the same
//! list as the real one.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::time::Duration;

use synkler::machine::{
    Cause, Digest, DirectoryId, Fingerprint, GroupPause, ItemName, JournalId, Kept, Kind, KnownDirectory, KnownNode,
    Left, Location, Mode, Modes, Mounts, Node, Offer, Pause, PlaceId, Question, Reason, Record, Restored, Row,
    Signature, Time, TransferId,
};

/// A journal under test, driven one step at a time.
pub(crate) trait JournalUnderTest {
    /// Commits, and returns when it is durable.
    fn commit(&mut self, records: Vec<Record>);
    /// Answers a question.
    fn look_up(&mut self, question: Question) -> Option<Box<Row>>;
    /// Stops without warning, starts again, and reads what is there.
    fn restart(&mut self) -> Restored;
}

type Behaviour<J> = (&'static str, fn(&mut J));

/// Runs the whole list, each behaviour on a journal of its own.
pub(crate) fn check<J: JournalUnderTest>(fresh: impl Fn() -> J) {
    let behaviours: &[Behaviour<J>] = &[
        ("a new journal is empty and has an identity", new_is_empty),
        ("unfinished rows come back whole, the oldest first", rows_come_back),
        ("a record replaces the earlier one of its key", records_replace),
        ("within one commit the last record of a key stands", last_record_stands),
        ("finished rows are not loaded but found", finished_rows_are_found),
        ("an unfinished row is found by its id", unfinished_rows_are_found),
        ("what is unknown is not found", unknown_is_none),
        ("a name finds the newest row that was placed", names_find_the_newest),
        ("a name does not find the transfer that asks", names_skip_the_asking),
        ("a name does not find what was never placed", names_skip_unplaced),
        ("peers come back by mode and name", nodes_come_back),
        ("kept items come back until they are unkept", kept_come_back),
        ("an hour of cleanups comes back", recent_cleanups_come_back),
        ("counter and pause come back", settings_come_back),
        ("the largest numbers and the oddest names come back", extremes_come_back),
        ("an empty commit changes nothing", empty_commit),
    ];
    for (behaviour, run) in behaviours {
        // The last line before a failure tells which behaviour it was.
        eprintln!("journal: {behaviour}");
        run(&mut fresh());
    }
}

/// The `number`th transfer's id.
pub(crate) fn id(number: u64) -> TransferId {
    TransferId::mint(1_700_000_000_000 + number, [7; 10])
}

/// An unfinished row that uses no optional column.
pub(crate) fn row(number: u64) -> Row {
    let created = Time::from_millis(1_700_000_000_000 + number);
    let offer = Offer {
        transfer: id(number),
        name: name(&format!("item {number}")),
        kind: Kind::File,
        entries: 1,
        fingerprint: Fingerprint { size: 10_000 + number, digest: Digest(u128::from(number).to_be_bytes()) },
        modes: Modes::default(),
        extras: Default::default(),
        minted: created,
    };
    Row {
        stage: "waiting".to_owned(),
        ..Row::new(offer, "camera-1".parse().unwrap(), created, created.after(Duration::from_secs(3)))
    }
}

/// A row that uses every column.
pub(crate) fn full_row(number: u64) -> Row {
    Row {
        kind: Kind::Directory,
        minted: Time::from_millis(u64::MAX),
        born: Some(Time::from_millis(7)),
        mounts: Mounts::new([b"."[..].into(), b"usb \xff/\n".as_slice().into()]),
        reason: Some(Reason::with(Cause::Space, "12 bytes are missing: 'déjà' \"vu\"")),
        attempts: 3,
        central: Some("hub".parse().unwrap()),
        place: Some(PlaceId { journal: JournalId(0xab), number: 12 }),
        location: Some(Location::new("syn@hub.example.com", "/srv/spool/default/in/000000ab-12").unwrap()),
        signature: Some(Signature([0xfe; 16])),
        inode: Some(4711),
        receivers: vec![
            ("archive-2".parse().unwrap(), None),
            ("archive-1".parse().unwrap(), Some(Time::from_millis(1_700_000_009_000))),
        ],
        acknowledged: true,
        cleaned: true,
        began: Some(Time::from_millis(1_700_000_004_000)),
        arrived: Some(Time::from_millis(1_700_000_005_000)),
        paused: Some(pause(1_700_000_006_000).into()),
        modes: "d0755*2 f0644*3,0755".parse().unwrap(),
        extras: Default::default(),
        wrong: Some(Box::new(Digest([0xab; 16]))),
        remark: Some("archive-1: modes differ in 1 of 5 entries".into()),
        ..row(number)
    }
}

/// A record for the row.
pub(crate) fn transfer(row: &Row) -> Record {
    Record::Transfer(Box::new(row.clone()))
}

/// An item's name.
pub(crate) fn name(text: &str) -> ItemName {
    ItemName::new(text.as_bytes()).unwrap()
}

/// The row, over at `at`.
pub(crate) fn finished(row: Row, at: u64) -> Row {
    Row { finished: Some(Time::from_millis(at)), ..row }
}

/// An order given at that moment.
pub(crate) fn pause(since: u64) -> Pause {
    let node = Node::new(Mode::Download, "box".parse().unwrap());
    Pause::new(Time::from_millis(since), "renée 'root'", node)
}

fn known(mode: Mode, name: &str) -> KnownNode {
    KnownNode {
        node: Node::new(mode, name.parse().unwrap()),
        journal: JournalId(0x00c0_ffee),
        started: Time::from_millis(1_700_000_000_001),
        slots: 2,
        version: "0.1.0".to_owned(),
        host: "box.example.com".to_owned(),
        spool: None,
        first_heard: Time::from_millis(1_700_000_000_002),
        last_heard: Time::from_millis(1_700_000_000_003),
    }
}

fn kept(text: &str, byte: u8) -> Kept {
    let fingerprint = Fingerprint { size: u64::from(byte), digest: Digest([byte; 16]) };
    Kept { name: name(text), signature: Signature([byte; 16]), fingerprint, left: None, mounts: Mounts::default() }
}

fn new_is_empty<J: JournalUnderTest>(journal: &mut J) {
    let first = journal.restart();
    assert!(first.rows.is_empty() && first.nodes.is_empty() && first.kept.is_empty());
    assert_eq!((first.paused, first.group), (None, GroupPause::default()));
    assert_eq!(journal.restart().journal, first.journal);
}

fn rows_come_back<J: JournalUnderTest>(journal: &mut J) {
    let (old, young, full) = (row(1), row(3), full_row(2));
    journal.commit(vec![transfer(&young), transfer(&full)]);
    journal.commit(vec![transfer(&old)]);
    assert_eq!(journal.restart().rows, [old.clone(), full.clone(), young.clone()]);
    // Of one age: by id.
    let twin = Row { transfer: id(9), ..old.clone() };
    journal.commit(vec![transfer(&twin)]);
    assert_eq!(journal.restart().rows, [old, twin, full, young]);
}

fn records_replace<J: JournalUnderTest>(journal: &mut J) {
    journal.commit(vec![transfer(&full_row(1))]);
    let other = Row { stage: "granted".to_owned(), name: name("other"), ..row(1) };
    journal.commit(vec![transfer(&other)]);
    assert_eq!(journal.restart().rows, [other]);
    journal.commit(vec![transfer(&full_row(1))]);
    assert_eq!(journal.restart().rows, [full_row(1)]);
}

fn last_record_stands<J: JournalUnderTest>(journal: &mut J) {
    let later = Row { stage: "held".to_owned(), ..row(1) };
    journal.commit(vec![transfer(&row(1)), Record::NextPlace(5), transfer(&later), Record::NextPlace(6)]);
    let restored = journal.restart();
    assert_eq!(restored.rows, [later]);
    assert_eq!(restored.next_place, 6);
}

fn finished_rows_are_found<J: JournalUnderTest>(journal: &mut J) {
    let over = finished(full_row(1), 1_700_000_010_000);
    journal.commit(vec![transfer(&full_row(1)), transfer(&row(2))]);
    journal.commit(vec![transfer(&over)]);
    assert_eq!(journal.look_up(Question::Transfer(id(1))).as_deref(), Some(&over));
    assert_eq!(journal.restart().rows, [row(2)]);
    assert_eq!(journal.look_up(Question::Transfer(id(1))).as_deref(), Some(&over));
}

fn unfinished_rows_are_found<J: JournalUnderTest>(journal: &mut J) {
    journal.commit(vec![transfer(&row(1))]);
    assert_eq!(journal.look_up(Question::Transfer(id(1))).as_deref(), Some(&row(1)));
}

fn unknown_is_none<J: JournalUnderTest>(journal: &mut J) {
    journal.commit(vec![transfer(&full_row(1))]);
    assert_eq!(journal.look_up(Question::Transfer(id(2))), None);
    assert_eq!(journal.look_up(Question::Name { name: name("elsewhere"), transfer: id(2) }), None);
}

fn names_find_the_newest<J: JournalUnderTest>(journal: &mut J) {
    let placed = |number| Row { name: name("report"), stage: "delivered".to_owned(), ..full_row(number) };
    let ask = Question::Name { name: name("report"), transfer: id(99) };
    // The older one is over later: what counts is which was placed later.
    journal.commit(vec![transfer(&finished(placed(1), 900)), transfer(&finished(placed(2), 800))]);
    assert_eq!(journal.look_up(ask.clone()).map(|row| row.transfer), Some(id(2)));
    // One that is delivered but not over counts as well.
    journal.commit(vec![transfer(&placed(3))]);
    assert_eq!(journal.look_up(ask.clone()).as_deref(), Some(&placed(3)));
    // Names differ by every byte.
    journal.commit(vec![transfer(&Row { name: name("Report"), ..placed(4) })]);
    assert_eq!(journal.look_up(ask).map(|row| row.transfer), Some(id(3)));
}

fn names_skip_the_asking<J: JournalUnderTest>(journal: &mut J) {
    let placed = |number| Row { name: name("report"), ..full_row(number) };
    journal.commit(vec![transfer(&placed(1)), transfer(&placed(2))]);
    let ask = |number| Question::Name { name: name("report"), transfer: id(number) };
    assert_eq!(journal.look_up(ask(2)).map(|row| row.transfer), Some(id(1)));
    assert_eq!(journal.look_up(ask(1)).map(|row| row.transfer), Some(id(2)));
}

fn names_skip_unplaced<J: JournalUnderTest>(journal: &mut J) {
    let pulled = |number| Row { name: name("report"), ..row(number) };
    journal.commit(vec![transfer(&pulled(1)), transfer(&finished(pulled(2), 800))]);
    assert_eq!(journal.look_up(Question::Name { name: name("report"), transfer: id(99) }), None);
}

fn nodes_come_back<J: JournalUnderTest>(journal: &mut J) {
    let (upload, download) = (known(Mode::Upload, "box"), known(Mode::Download, "box"));
    journal.commit(vec![Record::Node(upload.clone()), Record::Node(download.clone())]);
    let mut nodes = journal.restart().nodes;
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    assert_eq!(nodes, [upload.clone(), download.clone()]);
    let upload = upload.node;
    let heard = KnownNode { last_heard: Time::from_millis(1_800_000_000_000), slots: 7, ..download };
    journal.commit(vec![Record::Node(heard.clone())]);
    let nodes = journal.restart().nodes;
    assert_eq!(nodes.len(), 2);
    assert!(nodes.contains(&heard));
    journal.commit(vec![Record::Forgotten(upload), Record::Forgotten(heard.node.clone()), Record::Node(heard.clone())]);
    assert_eq!(journal.restart().nodes, [heard]);
}

fn kept_come_back<J: JournalUnderTest>(journal: &mut J) {
    journal.commit(vec![Record::Kept(kept("a", 1)), Record::Kept(kept("b", 2))]);
    journal.commit(vec![Record::Kept(kept("a", 3))]);
    let mut all = journal.restart().kept;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(all, [kept("a", 3), kept("b", 2)]);
    journal.commit(vec![Record::Unkept(name("a")), Record::Unkept(name("never there"))]);
    assert_eq!(journal.restart().kept, [kept("b", 2)]);
    journal.commit(vec![Record::Unkept(name("b")), Record::Kept(kept("b", 4))]);
    assert_eq!(journal.restart().kept, [kept("b", 4)]);
    let submitted = |names: [&str; 3]| names.map(|text| Record::Submitted(name(text))).to_vec();
    journal.commit(submitted(["b", "a", "b"]));
    journal.commit(vec![Record::Unsubmitted(name("a")), Record::Unsubmitted(name("never there"))]);
    assert_eq!(journal.restart().submitted, [name("b")]);
    let other = Fingerprint { size: u64::MAX, digest: Digest([9; 16]) };
    for (fingerprint, aside) in
        [(None, None), (Some(other), None), (Some(other), Some(Cause::Disputed)), (None, Some(Cause::Leftover))]
    {
        let left = Kept {
            left: Some(Left { fingerprint, aside }),
            mounts: Mounts::new([b"."[..].into(), b"a\xff b"[..].into()]),
            ..kept("b", 5)
        };
        journal.commit(vec![Record::Kept(left.clone())]);
        assert_eq!(journal.restart().kept, [left]);
    }
}

fn recent_cleanups_come_back<J: JournalUnderTest>(journal: &mut J) {
    let over = |number: u64, minutes: u64, cleaned: bool| {
        let finished = Some(Time::from_millis(1_700_000_000_000 + minutes * 60_000));
        Record::Transfer(Box::new(Row { stage: "closed".to_owned(), cleaned, finished, ..row(number) }))
    };
    assert_eq!(journal.restart().recent, []);
    journal.commit(vec![
        over(1, 0, true),
        over(2, 61, true),
        over(3, 90, false),
        over(4, 120, true),
        over(5, 121, false),
        Record::Transfer(Box::new(Row { cleaned: true, ..row(6) })),
    ]);
    let recent: Vec<_> = journal.restart().recent.into_iter().map(|row| row.transfer).collect();
    assert_eq!(recent, [id(4), id(2)]);
}

fn settings_come_back<J: JournalUnderTest>(journal: &mut J) {
    let order = pause(1_700_000_000_007);
    let group = GroupPause { changed: Time::from_millis(u64::MAX), pause: Some(pause(u64::MAX)), stop: true };
    journal.commit(vec![Record::NextPlace(41), Record::Paused(Some(order.clone())), Record::Group(group.clone())]);
    let restored = journal.restart();
    assert_eq!((restored.next_place, restored.paused, restored.group), (41, Some(order), group));
    let over = GroupPause { changed: Time::from_millis(3), pause: None, stop: false };
    journal.commit(vec![Record::Paused(None), Record::Group(over.clone())]);
    let restored = journal.restart();
    assert_eq!((restored.next_place, restored.paused, restored.group), (41, None, over));
    assert_eq!(restored.directory, None);
    for token in [1, u64::MAX] {
        let known = KnownDirectory { token, id: DirectoryId { file_system: u64::MAX, inode: token } };
        journal.commit(vec![Record::Directory(known)]);
        assert_eq!(journal.restart().directory, Some(known));
    }
}

fn extremes_come_back<J: JournalUnderTest>(journal: &mut J) {
    let end = Time::from_millis(u64::MAX);
    let names = [&b"\xff\xfe"[..], b"new\nline", b"'; DROP TABLE transfers; --", b"%F", "\u{202e}gpj".as_bytes()];
    let mut rows: Vec<Row> = (1_u64..)
        .zip(names)
        .map(|(number, bytes)| Row {
            name: ItemName::new(bytes).unwrap(),
            entries: u64::MAX,
            fingerprint: Fingerprint { size: u64::MAX, digest: Digest([0xff; 16]) },
            since: end,
            attempts: u32::MAX,
            place: Some(PlaceId { journal: JournalId(u32::MAX), number: u64::MAX }),
            inode: Some(u64::MAX - number),
            receivers: vec![("x".repeat(64).parse().unwrap(), Some(end)); 3],
            ..row(number)
        })
        .collect();
    rows.push(Row { name: ItemName::new(&[b'x'; 255]).unwrap(), kind: Kind::Symlink, ..row(6) });
    journal.commit(rows.iter().map(transfer).collect());
    let peer = KnownNode {
        started: end,
        last_heard: end,
        slots: u32::MAX,
        version: "1 \"%'\u{0}é".to_owned(),
        host: "'\u{0}é".to_owned(),
        spool: Some(Location::new("syn@[2001:db8::1]", "/srv/synkler/default").unwrap()),
        ..known(Mode::Central, "hub")
    };
    journal.commit(vec![Record::Node(peer.clone()), Record::NextPlace(u64::MAX)]);
    let restored = journal.restart();
    assert_eq!(restored.rows, rows);
    assert_eq!(restored.nodes, [peer]);
    assert_eq!(restored.next_place, u64::MAX);
}

fn empty_commit<J: JournalUnderTest>(journal: &mut J) {
    journal.commit(vec![transfer(&row(1))]);
    let before = journal.restart();
    journal.commit(Vec::new());
    assert_eq!(journal.restart(), before);
}
