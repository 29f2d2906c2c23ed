//! Journals that were restored from an older copy: nobody waits for ever for what such a node has forgotten.

use synkler::machine::{HashOutcome, Modes, Origin, Question, Wait};

use super::*;

const HOUR: u64 = 3600;

fn proven(number: u64) -> HashOutcome {
    HashOutcome::Proven {
        kind: Kind::File,
        entries: 1,
        fingerprint: fingerprint(number),
        modes: Modes::default(),
        extras: Default::default(),
        manifest: None,
        origin: Origin { inode: 1, ..Origin::default() },
    }
}

fn stage_of(bench: &Bench, number: u64) -> String {
    bench.view(number).stage.to_owned()
}

#[test]
fn an_upload_asks_now_and_then_whether_central_still_holds_its_items() {
    let mut bench = Bench::upload(restored(vec![row(1, "received"), Row { place: None, ..row(2, "received") }]));
    let mut told = Vec::new();
    for _ in 0..3 * HOUR / 60 {
        bench.receive(hub(), Message::Hello(Box::new(hello(GroupPause::default()))));
        told.extend(sent(&bench.later(60)));
    }
    let asked = |kind: &str, number: u64| {
        let about = |message: &Message| match message {
            Message::Sent { transfers, .. } => transfers.contains(&id(number)),
            Message::New(offers) => offers.iter().any(|offer| offer.transfer == id(number)),
            _ => false,
        };
        told.iter().filter(|(_, message)| message.kind() == kind && about(message)).count()
    };
    assert!((2..=4).contains(&asked("sent", 1)), "{told:?}");
    assert!((2..=4).contains(&asked("new", 2)), "{told:?}");
}

#[test]
fn an_upload_that_offers_what_is_over_is_told_to_clean_it_up() {
    let mut bench = Bench::central(restored(Vec::new()));
    let old = held(1, &[("d1", true), ("d2", true)]);
    let offer = Offer {
        transfer: id(1),
        name: old.name.clone(),
        kind: old.kind,
        entries: old.entries,
        fingerprint: old.fingerprint,
        modes: Modes::default(),
        extras: Default::default(),
        minted: old.minted,
    };
    bench.receive(alpha(), Message::New(vec![offer]));
    let row = Some(Box::new(Row { stage: "closed".to_owned(), ..old }));
    let answer = sent(&bench.input(Input::LookedUp { question: Question::Transfer(id(1)), row }));
    let [(to, Message::Release(releases))] = answer.as_slice() else { panic!("{answer:?}") };
    assert_eq!(*to, Address::Node(alpha()));
    assert_eq!(
        (releases[0].transfer, releases[0].fingerprint, releases[0].receivers.len()),
        (id(1), fingerprint(1), 2)
    );
}

#[test]
fn a_central_that_knows_an_earlier_place_gives_a_later_one() {
    let mut bench = Bench::central(restored(vec![row(1, "granted")]));
    bench.input(Input::Space(Space::of_bytes(1 << 40, 1 << 40)));
    let later = PlaceId { number: place().number + 7, ..place() };
    bench.receive(alpha(), Message::Sent { place: later, transfers: vec![id(1)] });
    let mut effects = bench.input(Input::Dropped { transfer: id(1), outcome: Ok(()) });
    effects.extend(bench.later(10));
    effects.extend(bench.input(Input::Space(Space::of_bytes(1 << 40, 1 << 40))));
    effects.extend(bench.later(10));
    let asked: Vec<_> = sent(&effects)
        .into_iter()
        .filter_map(|(_, message)| if let Message::Upload { place, .. } = message { Some(place) } else { None })
        .collect();
    assert!(!asked.is_empty() && asked.iter().all(|place| later.is_before(*place)), "{effects:?}");
}

#[test]
fn places_of_a_later_start_are_later_whatever_the_journal_says() {
    let mut bench = Bench::central(restored(vec![row(1, "waiting")]));
    let effects = bench.input(Input::Space(Space::of_bytes(1 << 40, 1 << 40)));
    let asked: Vec<_> = sent(&[effects, bench.later(10)].concat())
        .into_iter()
        .filter_map(|(_, message)| if let Message::Upload { place, .. } = message { Some(place.number) } else { None })
        .collect();
    assert!(!asked.is_empty() && asked.iter().all(|number| *number >= START), "{asked:?}");
}

#[test]
fn what_was_given_up_goes_on_where_central_holds_it_and_the_source_is_the_same() {
    let mut bench = Bench::upload(restored(vec![row(1, "announced")]));
    let sighting = |signature: u8| renamed_in("item 1", signature, fingerprint(1).size);
    // Its mode is changed, so that it cannot be read, while `received` is on its way.
    bench.input(Input::Seen(sighting(6)));
    let outcome = HashOutcome::Held(Reason::new(Cause::Unreadable));
    bench.input(Input::Hashed { item: name("item 1"), outcome });
    assert_eq!(stage_of(&bench, 1), "withdrawing");
    bench.receive(hub(), Message::Received(vec![id(1)]));
    // It can be read again.
    bench.input(Input::Seen(sighting(7)));
    let effects = bench.input(Input::Hashed { item: name("item 1"), outcome: proven(1) });
    assert_eq!(stage_of(&bench, 1), "received", "{effects:?}");
    let effects = [effects, bench.later(60)].concat();
    assert!(!sent(&effects).iter().any(|(_, message)| matches!(message, Message::New(_))), "{effects:?}");
}

#[test]
fn what_central_may_have_held_is_waited_for_while_it_cannot_be_read() {
    let mut bench = Bench::upload(restored(vec![row(1, "sent")]));
    let touched = renamed_in("item 1", 6, fingerprint(1).size);
    bench.input(Input::Seen(touched));
    // Central asks for it again: it held it, receivers have got it, and its copy is lost.
    let wait = Wait { transfer: id(1), reason: Cause::Missing.into() };
    bench.receive(hub(), Message::Waiting(vec![wait]));
    let outcome = HashOutcome::Held(Reason::new(Cause::Unreadable));
    bench.input(Input::Hashed { item: name("item 1"), outcome });
    assert_eq!(stage_of(&bench, 1), "announced", "not given up");
    bench.later(60);
    let effects = bench.input(Input::Hashed { item: name("item 1"), outcome: proven(1) });
    assert!(!sent(&effects).iter().any(|(_, message)| matches!(message, Message::Withdraw(_))), "{effects:?}");
    assert_eq!(stage_of(&bench, 1), "announced");
}

#[test]
fn what_was_begun_before_a_restart_is_waited_for_while_it_cannot_be_read() {
    // Central held it, one receiver has got it, the copy was lost, and central has asked for it again.
    let begun = Row { began: Some(Time::from_millis(START - 300_000)), ..row(1, "announced") };
    let mut bench = Bench::upload(restored(vec![begun]));
    let touched = renamed_in("item 1", 6, fingerprint(1).size);
    bench.input(Input::Seen(touched));
    let outcome = HashOutcome::Held(Reason::new(Cause::Unreadable));
    bench.input(Input::Hashed { item: name("item 1"), outcome });
    assert_eq!(stage_of(&bench, 1), "announced", "not given up");
}

#[test]
fn central_answers_an_upload_that_has_sent_what_is_waited_for() {
    let mut bench = Bench::central(restored(vec![Row { reason: Some(Cause::Missing.into()), ..row(1, "waiting") }]));
    let effects = bench.receive(alpha(), Message::Sent { place: place(), transfers: vec![id(1)] });
    assert!(sent(&effects).iter().any(|(_, message)| matches!(message, Message::Waiting(_))), "{effects:?}");
}

#[test]
fn central_says_nothing_of_a_copy_that_its_journal_knows_until_it_has_seen_it() {
    let copies = vec![held(1, &[("d1", false)]), held(2, &[("d1", false)])];
    let mut bench = Bench::central(restored(copies));
    let ask = |bench: &mut Bench, number: u64| {
        let effects = bench.receive(alpha(), Message::Sent { place: place(), transfers: vec![id(number)] });
        sent(&effects).iter().any(|(_, message)| *message == Message::Received(vec![id(number)]))
    };
    assert!(!ask(&mut bench, 1) && !ask(&mut bench, 2), "nobody has looked yet");
    let effects = bench.input(Input::Swept { missing: BTreeSet::from([id(2)]) });
    assert!(ask(&mut bench, 1), "seen");
    assert!(!ask(&mut bench, 2), "missing");
    let takes: Vec<_> = effects
        .iter()
        .filter_map(
            |effect| if let Effect::Take { transfer, place, .. } = effect { Some((*transfer, *place)) } else { None },
        )
        .collect();
    assert_eq!(takes, [(id(2), None)], "{effects:?}");
    let unreadable = CopyOutcome::Failed(Reason::new(Cause::Storage));
    bench.input(Input::Taken { transfer: id(2), outcome: unreadable });
    assert!(!ask(&mut bench, 2), "not known yet");
    bench.later(600);
    bench.input(Input::Taken { transfer: id(2), outcome: CopyOutcome::Missing });
    assert_eq!(stage_of(&bench, 2), "waiting");
    assert_eq!(stage_of(&bench, 1), "held");
}

#[test]
fn what_a_later_look_misses_is_asked_for_again() {
    let mut bench = Bench::central(restored(vec![held(1, &[("d1", false)])]));
    bench.input(Input::Swept { missing: BTreeSet::new() });
    bench.input(Input::Swept { missing: BTreeSet::from([id(1), id(9)]) });
    bench.input(Input::Taken { transfer: id(1), outcome: CopyOutcome::Missing });
    assert_eq!(stage_of(&bench, 1), "waiting");
}

#[test]
fn a_copy_that_waits_for_a_person_at_central_is_looked_at_again_after_a_restart() {
    let waiting = Row { reason: Some(Cause::Modes.into()), attempts: 2, ..row(1, "granted") };
    let mut bench = Bench::central(restored(vec![waiting]));
    let effects: Vec<_> = (0..24).flat_map(|_| bench.later(HOUR)).collect();
    let takes = |effect: &&Effect| matches!(effect, Effect::Take { transfer, .. } if *transfer == id(1));
    assert!(effects.iter().any(|effect| takes(&effect)), "{effects:?}");
}
