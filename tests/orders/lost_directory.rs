//! A `file_dir` that is not the one it was, and an operator who says that it is all the same.

use synkler::machine::{Directory, DirectoryId, Kept, KnownDirectory, Left, Marker, PlaceOutcome};

use super::*;

const HOME: DirectoryId = DirectoryId { file_system: 1, inode: 2 };
const BARE: DirectoryId = DirectoryId { file_system: 3, inode: 4 };
const KNOWN: KnownDirectory = KnownDirectory { token: 5, id: HOME };

fn there(id: DirectoryId, marker: Option<Marker>) -> Input {
    Input::Directory(Directory::Present { id, marker })
}

fn knowing(rows: Vec<Row>) -> Restored {
    Restored { directory: Some(KNOWN), ..restored(rows) }
}

fn marks(effects: &[Effect]) -> Vec<Marker> {
    let marks = effects.iter().filter_map(|effect| match effect {
        Effect::Mark(marker) => Some(marker.clone()),
        _ => None,
    });
    marks.collect()
}

fn trusted(effects: &[Effect]) -> Vec<Option<KnownDirectory>> {
    let trusted = effects.iter().filter_map(|effect| match effect {
        Effect::Trust(known) => Some(*known),
        _ => None,
    });
    trusted.collect()
}

fn journalled(effects: &[Effect]) -> Vec<KnownDirectory> {
    let known = effects.iter().filter_map(|effect| match effect {
        Effect::Persist(Record::Directory(known)) => Some(*known),
        _ => None,
    });
    known.collect()
}

/// What is done in the directory, in one word each.
fn acts(effects: &[Effect]) -> Vec<&'static str> {
    let acts = effects.iter().filter_map(|effect| match effect {
        Effect::Hash { .. } => Some("hash"),
        Effect::Look { .. } => Some("look"),
        Effect::Run(_) => Some("run"),
        Effect::Take { .. } => Some("take"),
        Effect::Verify { .. } => Some("verify"),
        Effect::Place { .. } => Some("place"),
        Effect::Drop(_) => Some("drop"),
        Effect::Sweep { .. } => Some("sweep"),
        Effect::Cleanup(_) => Some("cleanup"),
        _ => None,
    });
    acts.collect()
}

#[test]
fn a_new_journal_takes_what_is_there_and_an_old_one_only_what_it_knows() {
    let mut bench = Bench::upload(restored(Vec::new()));
    let effects = bench.input(there(HOME, None));
    let [Some(known)] = trusted(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((journalled(&effects), known.id), (vec![known], HOME));
    let marker = Marker { token: known.token, journal: JournalId(9), node: alpha() };
    assert_eq!(marks(&effects), std::slice::from_ref(&marker));
    // Its own marker is no news, and the place of a directory that was moved is noted.
    assert_eq!((trusted(&bench.input(there(HOME, Some(marker.clone())))), bench.drain()), (vec![], vec![]));
    assert_eq!(journalled(&bench.input(there(BARE, Some(marker)))), [KnownDirectory { id: BARE, ..known }]);

    // The same place without a marker is marked again; another one is not taken.
    let mut bench = Bench::upload(knowing(Vec::new()));
    let effects = bench.input(there(HOME, None));
    assert_eq!((trusted(&effects), journalled(&effects)), (vec![Some(KNOWN)], vec![]));
    assert_eq!(marks(&effects).first().map(|marker| marker.token), Some(KNOWN.token));
    let effects = bench.input(there(BARE, None));
    assert_eq!((trusted(&effects), journalled(&effects), marks(&effects)), (vec![None], vec![], vec![]));

    // Two nodes do not share one.
    let marker = Marker { token: 7, journal: JournalId(8), node: peer(Mode::Upload, "beta") };
    let mut bench = Bench::upload(restored(Vec::new()));
    let effects = bench.input(there(HOME, Some(marker)));
    assert_eq!((trusted(&effects), journalled(&effects)), (vec![None], vec![]));
    let no_directory = bench.machine.snapshot(&Selection::default()).no_directory.unwrap();
    assert!(no_directory.to_string().contains("upload beta uses it"), "{no_directory}");
}

#[test]
fn an_upload_without_its_directory_frees_nothing() {
    let mut bench = Bench::upload(knowing(vec![row(1, "received"), row(2, "granted")]));
    let mut effects = bench.input(there(BARE, None));
    assert!(effects.contains(&Effect::Halt(RunId(0))), "what runs is stopped: {effects:?}");
    let stopped = RunOutcome::Failed(Fault::Passing, Cause::Transport.into());
    effects.extend(bench.input(Input::Ran { run: RunId(0), outcome: stopped }));
    let release =
        Release { transfer: id(1), fingerprint: fingerprint(1), receivers: vec!["d1".parse().unwrap()], remark: None };
    effects.extend(bench.receive(hub(), Message::Release(vec![release])));
    effects.extend(bench.later(60));
    // What is there is none of its business, even if something tells of it.
    let sighting = renamed_in("new", 1, 1);
    effects.extend(bench.input(Input::Seen(sighting)));
    assert_eq!(acts(&effects), Vec::<&str>::new());
    assert_eq!([1, 2].map(|number| bench.view(number).reason.cause()), [Cause::Directory; 2]);
    let effects = bench.input(there(HOME, None));
    assert_eq!(acts(&effects), ["hash", "run", "look"]);
    // Nobody has looked: that says nothing of the source.
    let away = Sight::Unreadable(Cause::Directory.into());
    let effects = bench.input(Input::Looked { transfer: id(1), sight: away });
    assert_eq!(acts(&effects), ["look"]);
    assert_eq!(bench.view(1).attempts, 0);
}

#[test]
fn what_is_lost_and_found_at_once_is_trusted_in_the_end() {
    let mut bench = Bench::upload(knowing(Vec::new()));
    bench.input(there(HOME, None));
    let now = bench.now;
    for found in [Directory::Missing("away".into()), Directory::Present { id: HOME, marker: None }] {
        bench.machine.handle(now, Input::Directory(found));
    }
    assert_eq!(trusted(&bench.drain()), [None, Some(KNOWN)]);
}

#[test]
fn an_item_that_nobody_can_see_is_not_sent_as_it_is_now() {
    let left = Left { fingerprint: Some(fingerprint(2)), aside: Some(Cause::Disputed) };
    let aside = Kept {
        name: name("a"),
        signature: Signature([1; 16]),
        fingerprint: fingerprint(1),
        left: Some(left),
        mounts: Default::default(),
    };
    let mut bench = Bench::upload(Restored { kept: vec![aside], ..knowing(Vec::new()) });
    bench.input(there(HOME, None));
    bench.input(Input::Seen(renamed_in("a", 1, 1)));
    let retry = || Order::Items(ItemOrder::Retry, vec![Handle::Item(name("a"))]);
    bench.input(there(BARE, None));
    let (done, text) = bench.deed(retry());
    assert!(!done && text.contains("file_dir is not the one it was"), "{text}");
    bench.input(there(HOME, None));
    assert_eq!(bench.deed(retry()), (true, "the item is sent as it is now".to_owned()));
}

#[test]
fn a_download_without_its_directory_places_nothing_and_gives_no_receipt() {
    let placing = Row { inode: Some(7), ..row(1, "placing") };
    let mut bench = Bench::download(knowing(vec![placing, row(2, "cleaned"), row(3, "wanted")]));
    let mut effects = bench.input(there(BARE, None));
    let outcome = PlaceOutcome::Failed(Cause::Directory.into());
    effects.extend(bench.input(Input::Placed { transfer: id(1), outcome: outcome.clone() }));
    effects.extend(bench.later(30));
    let receipts = |effects: &[Effect]| {
        let sent = sent(effects).into_iter();
        sent.filter(|(_, message)| matches!(message, Message::Done(_))).count()
    };
    assert_eq!((acts(&effects), receipts(&effects)), (vec![], 0));
    assert_eq!(bench.view(2).reason.cause(), Cause::Directory);
    let effects = bench.input(there(HOME, None));
    assert_eq!((acts(&effects), receipts(&effects)), (vec!["sweep", "place"], 1));
    // Once more.
    bench.input(there(BARE, None));
    assert_eq!(acts(&bench.input(Input::Placed { transfer: id(1), outcome })), Vec::<&str>::new());
    assert_eq!(acts(&bench.input(there(HOME, None))), ["sweep", "place"]);
}

#[test]
fn a_central_without_its_directory_confirms_and_offers_nothing() {
    let mut bench = Bench::central(knowing(vec![held(1, &[("d1", false)]), row(2, "granted"), row(3, "waiting")]));
    let mut effects = bench.input(there(BARE, None));
    effects.extend(bench.input(Input::Space(Space::of_bytes(1 << 40, 1 << 40))));
    effects.extend(bench.receive(alpha(), Message::Sent { place: place(), transfers: vec![id(2), id(1)] }));
    effects.extend(bench.later(30));
    assert_eq!(acts(&effects), Vec::<&str>::new());
    let told = sent(&effects);
    assert!(told.iter().all(|(_, message)| matches!(message, Message::Waiting(_))), "{told:?}");
    let effects = bench.input(there(HOME, None));
    assert_eq!(acts(&effects), ["sweep", "take"]);
}

#[test]
fn an_operator_accepts_another_directory_only_where_there_is_one_and_something_is_wrong() {
    let mut bench = Bench::download(knowing(Vec::new()));
    bench.input(there(HOME, None));
    let (done, text) = bench.deed(Order::Adopt);
    assert!(!done && text.starts_with("nothing to do"), "{text}");
    bench.input(Input::Directory(Directory::Missing("cannot open /srv: no such file or directory".into())));
    let (done, text) = bench.deed(Order::Adopt);
    assert!(!done && text.contains("cannot open /srv"), "{text}");
    bench.input(there(BARE, None));
    let (deeds, effects) = bench.order(Order::Adopt);
    assert!(deeds.iter().all(|deed| deed.done), "{deeds:?}");
    let [known] = journalled(&effects)[..] else { panic!("{effects:?}") };
    assert!(known.id == BARE && known.token != KNOWN.token);
    assert_eq!(trusted(&effects), [Some(known)]);
    assert_eq!(marks(&effects).first().map(|marker| marker.token), Some(known.token));
    let says_who = |effect: &Effect| matches!(effect, Effect::Log(log) if log.text.contains("adopted by root"));
    assert!(effects.iter().any(says_who), "{effects:?}");
    // The one from before is the wrong one now, with its marker too.
    let marker = Marker { token: KNOWN.token, journal: JournalId(9), node: peer(Mode::Download, "d1") };
    assert_eq!(trusted(&bench.input(there(HOME, Some(marker)))), [None]);
}
