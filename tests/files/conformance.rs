//! What every world of files has to do, the real one and any that stands in for it: one list of small stories
//! told in effects and inputs. A world begins each story empty.

use std::collections::BTreeSet;

use synkler::machine::{
    Attributes, Cause, CopyOutcome, Digest, Effect, Fingerprint, HashOutcome, Input, ItemName, JournalId, Kind, Mode,
    PlaceId, PlaceOutcome, Sight, Signature, TransferId,
};

/// Where a file may stand.
#[derive(Debug, Clone)]
pub(crate) enum Spot {
    /// In an upload's `file_dir`.
    Source(ItemName),
    /// Where an upload's rsync has left it on central.
    Arrived(PlaceId, ItemName),
    /// In central's hold.
    Held(TransferId, ItemName),
    /// Where a download's rsync has left it.
    Staged(TransferId, ItemName),
    /// Under its final name on a download.
    Final(ItemName),
}

/// Three hosts' files: one upload, one central, one download.
pub(crate) trait World {
    /// Has the node of that mode carry out an effect, and waits for the answer where there is one.
    fn perform(&mut self, mode: Mode, effect: Effect) -> Option<Input>;
    /// Puts a regular file there that differs from every other version; in place of what is there.
    fn write(&mut self, spot: &Spot, version: u64);
    /// Takes away what stands there.
    fn remove(&mut self, spot: &Spot);
    /// Which version stands there.
    fn version(&mut self, spot: &Spot) -> Option<u64>;
}

/// One story.
pub(crate) type Story<W> = fn(&mut W);

/// The stories, by their names.
pub(crate) fn stories<W: World>() -> Vec<(&'static str, Story<W>)> {
    vec![
        ("a source is proven while it stays the same", sources),
        ("an arrival is taken once and looked at often", arrivals),
        ("what is dropped is gone, and may be gone already", drops),
        ("an item is placed once", placing),
        ("nothing foreign is overwritten", occupied),
        ("an untouched earlier placement is replaced", replacing),
        ("extras that a copy has not got are told", lost_extras_are_told),
        ("a sweep keeps what is needed", sweeps),
        ("what arrived under one name goes, and the rest of its place stays", arrival_drops),
    ]
}

fn item() -> ItemName {
    ItemName::new(b"an \xff item").unwrap()
}

fn transfer(number: u8) -> TransferId {
    TransferId::mint(1_700_000_000_000, [number; 10])
}

fn place(number: u64) -> PlaceId {
    PlaceId { journal: JournalId(1), number }
}

fn look<W: World>(world: &mut W, mode: Mode) -> Sight {
    match world.perform(mode, Effect::Look { transfer: transfer(1), item: item() }) {
        Some(Input::Looked { sight, .. }) => sight,
        other => panic!("{other:?}"),
    }
}

fn signature<W: World>(world: &mut W, mode: Mode) -> Signature {
    match look(world, mode) {
        Sight::Present(signature) => signature,
        other => panic!("{other:?}"),
    }
}

fn hash<W: World>(world: &mut W, signature: Signature) -> HashOutcome {
    match world.perform(Mode::Upload, Effect::Hash { item: item(), signature }) {
        Some(Input::Hashed { outcome, .. }) => outcome,
        other => panic!("{other:?}"),
    }
}

/// The fingerprint of a version, as an upload proves it.
fn proof<W: World>(world: &mut W, version: u64) -> Fingerprint {
    world.write(&Spot::Source(item()), version);
    let now = signature(world, Mode::Upload);
    match hash(world, now) {
        HashOutcome::Proven { kind: Kind::File, entries: 1, fingerprint, manifest: None, .. } => fingerprint,
        other => panic!("{other:?}"),
    }
}

fn copy(outcome: CopyOutcome) -> Option<(Fingerprint, u64)> {
    match outcome {
        CopyOutcome::Found { fingerprint, inode, .. } => Some((fingerprint, inode)),
        CopyOutcome::Missing => None,
        CopyOutcome::Failed(reason) => panic!("{reason}"),
    }
}

fn take<W: World>(world: &mut W, number: u8, place: Option<PlaceId>) -> Option<Fingerprint> {
    let effect = Effect::Take {
        transfer: transfer(number),
        place,
        name: item(),
        kind: Kind::File,
        attributes: Attributes::default(),
    };
    match world.perform(Mode::Central, effect) {
        Some(Input::Taken { outcome, .. }) => copy(outcome).map(|(fingerprint, _)| fingerprint),
        other => panic!("{other:?}"),
    }
}

fn verify<W: World>(world: &mut W, number: u8) -> Option<(Fingerprint, u64)> {
    let effect = Effect::Verify {
        transfer: transfer(number),
        name: item(),
        kind: Kind::File,
        digest: Digest([0; 16]),
        attributes: Attributes::default(),
    };
    match world.perform(Mode::Download, effect) {
        Some(Input::Verified { outcome, .. }) => copy(outcome),
        other => panic!("{other:?}"),
    }
}

fn lost_extras_are_told<W: World>(world: &mut W) {
    for (number, extras, lost) in [
        (
            1,
            "xattrs*3=00000000000000000000000000000001",
            Some("extended attributes differ: announced for 3 entries, found for 0"),
        ),
        (2, "!xattrs*3 sparse*1=00000000000000000000000000000003", None),
    ] {
        let (transfer, place) = (transfer(number), place(number.into()));
        world.write(&Spot::Arrived(place, item()), 3);
        world.write(&Spot::Staged(transfer, item()), 3);
        let attributes = Attributes { modes: None, extras: extras.parse().unwrap() };
        let (name, kind, digest) = (item(), Kind::File, Digest([0; 16]));
        let take = Effect::Take { transfer, place: Some(place), name, kind, attributes: attributes.clone() };
        let verify = Effect::Verify { transfer, name: item(), kind, digest, attributes };
        let answers = [world.perform(Mode::Central, take), world.perform(Mode::Download, verify)];
        for answer in answers {
            let Some(Input::Taken { outcome, .. } | Input::Verified { outcome, .. }) = answer else {
                panic!("{answer:?}")
            };
            let CopyOutcome::Found { lost: told, .. } = outcome else { panic!("{outcome:?}") };
            let told = told.map(|told| told.split(" (").next().unwrap_or_default().to_owned());
            assert_eq!(told.as_deref(), lost);
        }
    }
}

fn stage<W: World>(world: &mut W, number: u8, version: u64) -> u64 {
    world.write(&Spot::Staged(transfer(number), item()), version);
    verify(world, number).expect("it was staged").1
}

fn give_name<W: World>(world: &mut W, number: u8, inode: u64, replace: Option<Signature>) -> PlaceOutcome {
    let effect = Effect::Place { transfer: transfer(number), name: item(), inode, replace };
    match world.perform(Mode::Download, effect) {
        Some(Input::Placed { outcome, .. }) => outcome,
        other => panic!("{other:?}"),
    }
}

fn placed<W: World>(world: &mut W, number: u8, inode: u64, replace: Option<Signature>) -> Signature {
    match give_name(world, number, inode, replace) {
        PlaceOutcome::Placed(signature) => signature,
        other => panic!("{other:?}"),
    }
}

fn discard<W: World>(world: &mut W, mode: Mode, number: u8) {
    let answer = world.perform(mode, Effect::Drop(transfer(number)));
    assert_eq!(answer, Some(Input::Dropped { transfer: transfer(number), outcome: Ok(()) }));
}

fn sources<W: World>(world: &mut W) {
    assert_eq!(look(world, Mode::Upload), Sight::Gone);
    assert_eq!(hash(world, Signature([7; 16])), HashOutcome::Gone);
    let first = proof(world, 1);
    let old = signature(world, Mode::Upload);
    assert_eq!(signature(world, Mode::Upload), old);
    assert_ne!(proof(world, 2), first);
    let now = signature(world, Mode::Upload);
    assert_ne!(now, old);
    match hash(world, old) {
        HashOutcome::Changed(sighting) => {
            assert_eq!((sighting.name, sighting.signature), (item(), now));
        }
        other => panic!("{other:?}"),
    }
    world.remove(&Spot::Source(item()));
    assert_eq!(hash(world, now), HashOutcome::Gone);
}

fn arrivals<W: World>(world: &mut W) {
    let expected = proof(world, 1);
    assert_eq!(take(world, 1, Some(place(1))), None);
    world.write(&Spot::Arrived(place(1), item()), 1);
    assert_eq!(take(world, 1, Some(place(1))), Some(expected));
    assert_eq!(world.version(&Spot::Arrived(place(1), item())), None);
    assert_eq!(world.version(&Spot::Held(transfer(1), item())), Some(1));
    // Asked again, as after a crash; and only to look.
    assert_eq!(take(world, 1, Some(place(1))), Some(expected));
    assert_eq!(take(world, 1, None), Some(expected));
    // A copy that has gone bad shows.
    world.write(&Spot::Held(transfer(1), item()), 2);
    assert_ne!(take(world, 1, None), Some(expected));
    assert_eq!(take(world, 2, Some(place(1))), None);
}

fn drops<W: World>(world: &mut W) {
    world.write(&Spot::Arrived(place(1), item()), 1);
    world.write(&Spot::Arrived(place(2), item()), 2);
    assert!(take(world, 1, Some(place(1))).is_some());
    stage(world, 1, 1);
    for _ in 0..2 {
        discard(world, Mode::Central, 1);
        discard(world, Mode::Download, 1);
        assert_eq!(world.perform(Mode::Central, Effect::DropPlace(place(1))), None);
    }
    assert_eq!(take(world, 1, None), None);
    assert_eq!(verify(world, 1), None);
    assert_eq!(world.version(&Spot::Arrived(place(2), item())), Some(2));
}

fn arrival_drops<W: World>(world: &mut W) {
    let other = ItemName::new(b"a").unwrap();
    for name in [item(), other.clone()] {
        world.write(&Spot::Arrived(place(1), name), 1);
    }
    for _ in 0..2 {
        let effect = Effect::DropArrival { place: place(1), name: item() };
        assert_eq!(world.perform(Mode::Central, effect), None);
    }
    assert_eq!(world.version(&Spot::Arrived(place(1), item())), None);
    assert_eq!(world.version(&Spot::Arrived(place(1), other)), Some(1));
    let nowhere = Effect::DropArrival { place: place(2), name: item() };
    assert_eq!(world.perform(Mode::Central, nowhere), None);
}

/// For a world where central's file system has few inodes, and nobody else takes any.
pub(crate) fn inodes_run_out<W: World>(world: &mut W) {
    fn free<W: World>(world: &mut W) -> u64 {
        match world.perform(Mode::Central, Effect::Measure) {
            Some(Input::Space(space)) => space.inodes.expect("it has a limit").free,
            other => panic!("{other:?}"),
        }
    }
    fn take<W: World>(world: &mut W) -> CopyOutcome {
        let (place, name) = (Some(place(1)), item());
        let effect =
            Effect::Take { transfer: transfer(1), place, name, kind: Kind::File, attributes: Attributes::default() };
        match world.perform(Mode::Central, effect) {
            Some(Input::Taken { outcome, .. }) => outcome,
            other => panic!("{other:?}"),
        }
    }
    let before = free(world);
    world.write(&Spot::Arrived(place(1), item()), 1);
    assert_eq!(free(world), before - 2, "a file, and the place that it arrives in");
    let mut number = 2;
    while free(world) > 1 {
        world.write(&Spot::Arrived(place(number), item()), 2);
        number += 1;
    }
    let last = Spot::Arrived(place(2), ItemName::new(b"a").unwrap());
    if free(world) == 1 {
        world.write(&last, 3);
    }
    match take(world) {
        CopyOutcome::Failed(reason) => assert_eq!(reason.cause(), Cause::Space, "{reason}"),
        other => panic!("there is no inode for a directory to hold it: {other:?}"),
    }
    assert_eq!(world.version(&Spot::Arrived(place(1), item())), Some(1));
    world.perform(Mode::Central, Effect::DropArrival { place: place(2), name: item() });
    assert!(free(world) > 0);
    assert!(copy(take(world)).is_some());
}

fn placing<W: World>(world: &mut W) {
    assert_eq!(give_name(world, 1, 1, None), PlaceOutcome::Lost);
    assert_eq!(look(world, Mode::Download), Sight::Gone);
    let inode = stage(world, 1, 1);
    let first = placed(world, 1, inode, None);
    assert_eq!(look(world, Mode::Download), Sight::Present(first));
    assert_eq!(world.version(&Spot::Final(item())), Some(1));
    // A crash hid the answer: it is the same.
    assert_eq!(placed(world, 1, inode, None), first);
    // Its owner has taken it meanwhile: still placed, and not once more.
    world.remove(&Spot::Final(item()));
    placed(world, 1, inode, None);
    assert_eq!(look(world, Mode::Download), Sight::Gone);
    // Once staging is dropped, nothing tells any more that it has been placed.
    discard(world, Mode::Download, 1);
    assert_eq!(give_name(world, 1, inode, None), PlaceOutcome::Lost);
}

fn occupied<W: World>(world: &mut W) {
    let inode = stage(world, 1, 1);
    world.write(&Spot::Final(item()), 9);
    assert_eq!(give_name(world, 1, inode, None), PlaceOutcome::Occupied);
    assert_eq!(give_name(world, 1, inode, Some(Signature([7; 16]))), PlaceOutcome::Occupied);
    assert_eq!(world.version(&Spot::Final(item())), Some(9));
    assert_eq!(world.version(&Spot::Staged(transfer(1), item())), Some(1));
    world.remove(&Spot::Final(item()));
    placed(world, 1, inode, None);
    assert_eq!(world.version(&Spot::Final(item())), Some(1));
}

fn replacing<W: World>(world: &mut W) {
    let inode = stage(world, 1, 1);
    let first = placed(world, 1, inode, None);
    discard(world, Mode::Download, 1);
    // Its owner has changed it: it is the owner's now.
    world.write(&Spot::Final(item()), 9);
    let inode = stage(world, 2, 2);
    assert_eq!(give_name(world, 2, inode, Some(first)), PlaceOutcome::Occupied);
    assert_eq!(world.version(&Spot::Final(item())), Some(9));
    world.remove(&Spot::Final(item()));
    let second = placed(world, 2, inode, Some(first));
    discard(world, Mode::Download, 2);
    let inode = stage(world, 3, 3);
    let third = placed(world, 3, inode, Some(second));
    assert_eq!(world.version(&Spot::Final(item())), Some(3));
    assert_eq!(look(world, Mode::Download), Sight::Present(third));
    assert_eq!(placed(world, 3, inode, Some(second)), third);
}

fn sweeps<W: World>(world: &mut W) {
    for number in 1..=3 {
        world.write(&Spot::Arrived(place(number), item()), number);
        world.write(&Spot::Arrived(place(number + 10), item()), number);
        assert!(take(world, number as u8, Some(place(number + 10))).is_some());
        stage(world, number as u8, number);
    }
    let (transfers, places) = (BTreeSet::from([transfer(2)]), BTreeSet::from([place(3)]));
    let absent = transfer(4);
    for (mode, missing) in [(Mode::Upload, None), (Mode::Central, Some(absent)), (Mode::Download, Some(absent))] {
        let mut transfers = transfers.clone();
        transfers.insert(absent);
        let effect = Effect::Sweep { transfers, places: places.clone() };
        let missing = missing.into_iter().collect();
        assert_eq!(world.perform(mode, effect), Some(Input::Swept { missing }), "{mode:?}");
    }
    for number in 1..=3 {
        // Asked through effects, which come after the sweep.
        let needed = number == 2;
        assert_eq!(take(world, number as u8, None).is_some(), needed, "held {number}");
        assert_eq!(verify(world, number as u8).is_some(), needed, "staged {number}");
    }
    assert_eq!(world.version(&Spot::Arrived(place(3), item())), Some(3));
}
