//! Sources that were touched, and still hold the content that a transfer carries.

use synkler::machine::{HashOutcome, Modes, Origin, Sight, Wait};

use super::*;

#[test]
fn a_look_for_an_older_transfer_tells_nothing_of_the_latest() {
    let of_one_name = |number: u64, size: u64| Row {
        name: name("a"),
        fingerprint: Fingerprint { size, ..fingerprint(number) },
        ..row(number, "received")
    };
    let mut bench = Bench::upload(restored(vec![of_one_name(1, 10), of_one_name(2, 20)]));
    // The source has been touched while the daemon was down, and the first scan has not been made.
    let release = Release {
        transfer: id(1),
        fingerprint: Fingerprint { size: 10, ..fingerprint(1) },
        receivers: vec!["d1".parse().unwrap()],
        remark: None,
    };
    bench.receive(hub(), Message::Release(vec![release]));
    let touched = Signature([6; 16]);
    bench.input(Input::Looked { transfer: id(1), sight: Sight::Present(touched) });
    // Central has lost the copy of the latest. One receiver has it already.
    let wait = Wait { transfer: id(2), reason: Cause::Missing.into() };
    let effects = [bench.receive(hub(), Message::Waiting(vec![wait])), bench.later(1)].concat();
    assert!(!sent(&effects).iter().any(|(_, message)| matches!(message, Message::Withdraw(_))), "{effects:?}");
    let origin = Origin { inode: 1, ..Origin::default() };
    let outcome = HashOutcome::Proven {
        kind: Kind::File,
        entries: 1,
        fingerprint: Fingerprint { size: 20, ..fingerprint(2) },
        modes: Modes::default(),
        extras: Default::default(),
        manifest: None,
        origin,
    };
    let effects = [bench.input(Input::Hashed { item: name("a"), outcome }), bench.later(60)].concat();
    let offered: Vec<_> = sent(&effects)
        .into_iter()
        .filter_map(|(_, message)| match message {
            Message::New(offers) => Some(offers.into_iter().map(|offer| offer.transfer).collect::<Vec<_>>()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(offered, [id(2)], "it is the same transfer still: {effects:?}");
}
