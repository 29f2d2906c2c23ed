//! Room, of bytes and of inodes: what there is none for is not asked for, and keeps none from others.

use super::*;

/// A directory of so many entries.
fn wide(entries: u64, row: Row) -> Row {
    Row { entries, kind: Kind::Directory, ..row }
}

fn space(inodes: u64) -> Input {
    Input::Space(Space::of_bytes(1 << 40, 1 << 40).with_inodes(inodes, 2 * inodes))
}

fn no_space() -> Reason {
    Reason::with(Cause::Space, "on syn@hub: mkdir failed: No space left on device (28)")
}

fn waits(effects: &[Effect]) -> Vec<(TransferId, Cause)> {
    let told = sent(effects).into_iter().filter_map(|(_, message)| match message {
        Message::Waiting(waits) => Some(waits),
        _ => None,
    });
    told.flatten().map(|wait| (wait.transfer, wait.reason.cause())).collect()
}

/// What central asks for from now on.
fn asked_for(effects: &[Effect]) -> Vec<TransferId> {
    let rows = effects.iter().filter_map(|effect| match effect {
        Effect::Persist(Record::Transfer(row)) if row.stage == "granted" => Some(row.transfer),
        _ => None,
    });
    rows.collect()
}

#[test]
fn central_promises_inodes_and_names_them_where_they_are_missing() {
    let rows = vec![wide(60, row(1, "granted")), wide(39, row(2, "waiting")), row(3, "waiting")];
    let mut bench = Bench::central(restored(rows));
    // 62 of them are promised; 41 and 3 are needed.
    let effects = bench.input(space(102));
    assert_eq!(asked_for(&effects), [id(3)]);
    let reason = bench.view(2).reason;
    assert_eq!(reason.cause(), Cause::Space);
    let short = "41 inodes needed, 102 free in /srv/g on central, of which 0 stay free and 65 are reserved";
    assert_eq!(reason.detail(), short);

    let mut small = Bench::central(restored(vec![wide(2111, row(1, "waiting")), row(2, "waiting")]));
    let effects = small.input(space(150));
    assert_eq!(asked_for(&effects), [id(2)]);
    let never = "2113 inodes needed, but the file system of /srv/g on central has 300 in total, of which 0 stay free: \
                 enlarge it, or make the item smaller";
    assert_eq!(small.view(1).reason.detail(), never);
    // The same reason is told once only, and another one when it is another.
    small.later(10);
    assert!(waits(&small.input(space(150))).is_empty());
    small.later(10);
    assert_eq!(waits(&small.input(space(1500))), [(id(1), Cause::Space)]);
    assert!(small.view(1).reason.detail().starts_with("2113 inodes needed, 1500 free in"));
    small.later(10);
    assert_eq!(asked_for(&small.input(space(3000))), [id(1)]);
}

#[test]
fn what_central_had_no_room_for_is_put_back_and_the_rest_of_its_place_stays() {
    let mut bench = Bench::central(restored(vec![row(1, "granted"), row(2, "granted"), row(3, "waiting")]));
    let wait = |number| Message::Waiting(vec![Wait { transfer: id(number), reason: no_space() }]);
    let effects = bench.receive(alpha(), wait(1));
    assert!(effects.contains(&Effect::DropArrival { place: place(), name: name("item 1") }), "{effects:?}");
    assert!(effects.contains(&Effect::Drop(id(1))) && !effects.contains(&Effect::DropPlace(place())), "{effects:?}");
    assert_eq!(waits(&effects), [(id(1), Cause::Space)]);
    assert_eq!((bench.view(1).stage, bench.view(2).stage), ("waiting", "granted"));
    assert!(bench.view(1).reason.detail().starts_with("alpha: on syn@hub: mkdir failed"));
    // The last one takes the place with it.
    let effects = bench.receive(alpha(), wait(2));
    assert!(effects.contains(&Effect::DropPlace(place())), "{effects:?}");
    // Said again, it changes nothing; and nothing is asked for before what has arrived is gone.
    assert_eq!(waits(&bench.receive(alpha(), wait(1))), [(id(1), Cause::Space)]);
    bench.later(10);
    assert_eq!(asked_for(&bench.input(space(1000))), [id(3)]);
    bench.input(Input::Dropped { transfer: id(1), outcome: Err(Cause::Storage.into()) });
    // What could not be removed is tried again first.
    assert!(bench.later(10).contains(&Effect::Drop(id(1))));
    bench.input(Input::Dropped { transfer: id(1), outcome: Ok(()) });
    bench.later(30);
    assert_eq!(asked_for(&bench.input(space(1000))), [id(1)]);
}

#[test]
fn upload_tells_central_that_there_was_no_room_and_goes_on_with_others() {
    let elsewhere = PlaceId { number: 7, ..place() };
    let second = Row {
        place: Some(elsewhere),
        location: Some(Location::new("syn@hub", "/srv/g/in/00000009-7").unwrap()),
        ..row(2, "granted")
    };
    for outcome in [RunOutcome::Failed(Fault::Passing, no_space()), RunOutcome::Partial(no_space())] {
        let mut bench = Bench::upload(restored(vec![row(1, "granted"), second.clone()]));
        let effects = bench.input(Input::Ran { run: RunId(0), outcome });
        assert_eq!(waits(&effects), [(id(1), Cause::Space)]);
        assert_eq!(runs(&effects).iter().map(batch).collect::<Vec<_>>(), [[id(2)]], "the host is not to blame");
        bench.input(Input::Ran { run: RunId(1), outcome: RunOutcome::Complete });
        assert!(runs(&bench.later(20)).is_empty(), "central has not answered yet");
        let reason = Reason::with(Cause::Space, "alpha: no room");
        let effects = bench.receive(hub(), Message::Waiting(vec![Wait { transfer: id(1), reason }]));
        assert_eq!(bench.view(1).stage, "announced");
        assert!(
            matches!(&sent(&effects)[..], [(_, Message::New(offers))] if offers[0].transfer == id(1)),
            "{effects:?}"
        );
    }
    // A central that does not answer is tried again.
    let mut bench = Bench::upload(restored(vec![row(1, "granted")]));
    bench.input(Input::Ran { run: RunId(0), outcome: RunOutcome::Failed(Fault::Passing, no_space()) });
    assert_eq!(runs(&bench.later(80)).iter().map(batch).collect::<Vec<_>>(), [[id(1)]]);
}

#[test]
fn a_download_fetches_together_what_there_are_inodes_for_and_empties_what_lacks_them() {
    let rows = (1..=4).map(|number| wide(if number == 3 { 118 } else { 48 }, row(number, "wanted"))).collect();
    let mut bench = Bench::download(restored(rows));
    // 50 each and 120 for the third, and 16 stay free.
    let effects = bench.input(space(120));
    let started = runs(&effects);
    assert_eq!(started.iter().map(batch).collect::<Vec<_>>(), [[id(1), id(2)]]);
    assert_eq!(bench.view(3).reason.cause(), Cause::Space, "{:?}", bench.view(3).reason);
    let reason = bench.view(3).reason;
    let short = "120 inodes needed, 120 free in /srv, of which 16 stay free and 0 are reserved";
    assert_eq!(reason.detail(), short);
    assert_eq!(bench.view(4).reason.cause(), Cause::Queued, "those on their way are in its way");
    assert!(
        !effects.contains(&Effect::Drop(id(4))) && effects.contains(&Effect::Drop(id(3))),
        "what staging holds of it may be what is missing"
    );

    let full = Reason::with(Cause::Space, "here: mkdir failed: No space left on device (28)");
    let effects = bench.input(Input::Ran { run: started[0].id, outcome: RunOutcome::Failed(Fault::Passing, full) });
    for number in [1, 2] {
        assert!(effects.contains(&Effect::Drop(id(number))), "{effects:?}");
        assert_eq!(bench.view(number).reason.cause(), Cause::Space);
        bench.input(Input::Dropped { transfer: id(number), outcome: Ok(()) });
    }
    // Each travels alone now, so that none takes another down with it.
    bench.later(10);
    let effects = bench.input(space(1000));
    assert_eq!(runs(&effects).iter().map(batch).collect::<Vec<_>>(), [[id(1)]]);
}

#[test]
fn what_a_short_run_left_out_is_no_difference() {
    let mut bench = Bench::download(restored(vec![row(1, "wanted")]));
    let mut wrong = Digest([8; 16]);
    for attempt in 0..3 {
        let started = [bench.later(700), bench.input(space(1000))].concat();
        let [run] = &runs(&started)[..] else { panic!("{attempt}: {started:?}") };
        let full = Reason::with(Cause::Space, "here: No space left on device (28)");
        bench.input(Input::Ran { run: run.id, outcome: RunOutcome::Partial(full) });
        let fingerprint = Fingerprint { size: 1, digest: wrong };
        let outcome = CopyOutcome::Found { fingerprint, inode: 1, manifest: None, unkept: None, lost: None };
        let effects = bench.input(Input::Verified { transfer: id(1), outcome });
        assert_eq!(bench.view(1).reason.cause(), Cause::Space, "equally short each time, and not equally wrong");
        assert!(effects.contains(&Effect::Drop(id(1))));
        bench.input(Input::Dropped { transfer: id(1), outcome: Ok(()) });
        wrong = fingerprint.digest;
    }
}
