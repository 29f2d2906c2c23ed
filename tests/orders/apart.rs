//! Nodes that share no version of the protocol: known, shown, and left alone.

use synkler::machine::{Fit, GroupPause, Hello, PeerView, Protocols};

use super::*;

fn speaking(min: u64, max: u64) -> Message {
    let protocols = Protocols::new(min, max).unwrap();
    let paused = GroupPause { changed: Time::from_millis(START), pause: None, stop: false };
    Message::Hello(Box::new(Hello { protocols, ..hello(paused) }))
}

fn warnings(effects: &[Effect]) -> Vec<String> {
    let warned = effects.iter().filter_map(|effect| match effect {
        Effect::Log(Log { level: Level::Warn, text, .. }) => Some(text.clone()),
        _ => None,
    });
    warned.collect()
}

fn seen(bench: &Bench, node: &Node) -> PeerView {
    let peers = bench.machine.snapshot(&Selection::default()).peers;
    peers.into_iter().find(|peer| peer.node == *node).unwrap()
}

#[test]
fn a_download_that_is_too_old_is_waited_for_and_told_nothing() {
    let d1 = peer(Mode::Download, "d1");
    let mut bench = Bench::central(restored(vec![held(1, &[("d1", false), ("d2", true)])]));
    let warned = warnings(&bench.receive(d1.clone(), speaking(1, 1)));
    let todo = "too old: upgrade synkler on download d1 (it speaks protocol 1, central hub protocol 2)";
    assert_eq!(warned, [format!("{todo}; no transfers until then")]);
    assert_eq!(seen(&bench, &d1).apart, Some(("too-old", todo.to_owned())));
    assert_eq!(seen(&bench, &d1).protocols.map(|protocols| Protocols::OURS.fit(protocols)), Some(Fit::TooOld));

    // It stays a required receiver, and nothing is said to it however often it says hello.
    for _ in 0..20 {
        let effects = [bench.receive(d1.clone(), speaking(1, 1)), bench.later(60)].concat();
        assert_eq!(warnings(&effects), [""; 0]);
        assert!(sent(&effects).iter().all(|(to, _)| *to != Address::Node(d1.clone())), "{effects:?}");
        assert!(hellos(&effects).iter().all(|(to, _)| *to == Address::All), "no hello answers another for ever");
    }
    let reason = bench.view(1).reason;
    assert_eq!(reason, Reason::with(Cause::Protocol, &format!("download d1 is {todo}")));
    assert_eq!(bench.view(1).receivers.len(), 2);
    let receipt = Message::Done(vec![Receipt { transfer: id(1), fingerprint: fingerprint(1), remark: None }]);
    assert_eq!(sent(&bench.receive(d1.clone(), receipt.clone())), []);
    assert_eq!(bench.view(1).stage, "held");

    // Upgraded: everything goes on at once.
    let effects = bench.receive(d1.clone(), speaking(2, 5));
    assert!(
        sent(&effects).iter().any(|(to, message)| *to == Address::Node(d1.clone()) && message.kind() == "download")
    );
    assert_eq!(seen(&bench, &d1).apart, None);
    assert_eq!(bench.view(1).reason.cause(), Cause::Receipts);
    bench.receive(d1, receipt);
    assert_eq!(bench.view(1).stage, "released");
}

#[test]
fn an_upload_asks_for_nothing_from_a_central_that_is_too_new() {
    let far = peer(Mode::Central, "far");
    let unclaimed = Row { central: None, place: None, location: None, ..row(1, "announced") };
    let mut bench = Bench::upload(restored(vec![unclaimed, row(2, "sent")]));
    let todo = "too new: upgrade synkler on upload alpha (it speaks protocols 3 to 4, upload alpha protocol 2)";
    assert_eq!(warnings(&bench.receive(hub(), speaking(3, 4))).len(), 1);
    let effects = bench.later(400);
    assert_eq!(sent(&effects), [], "to no central, since this one might take it");
    for number in [1, 2] {
        let expected = Reason::with(Cause::Protocol, &format!("central hub is {todo}"));
        assert_eq!(bench.view(number).reason, expected, "{number}");
    }
    // Another one is there: it is told by name.
    let effects = [bench.receive(far.clone(), speaking(2, 2)), bench.later(1)].concat();
    let sent = sent(&effects);
    assert!(sent.iter().any(|(to, message)| *to == Address::Node(far.clone()) && message.kind() == "new"), "{sent:?}");
    assert!(sent.iter().all(|(to, _)| *to == Address::Node(far.clone())), "{sent:?}");
    assert_eq!(bench.view(1).reason.cause(), Cause::Central);
    assert_eq!(bench.view(2).reason.cause(), Cause::Protocol);
}

/// What it forgot while it could not be understood is noticed when it can be again.
#[test]
fn a_journal_lost_meanwhile_is_noticed() {
    let mut bench = Bench::upload(restored(vec![row(1, "received")]));
    let with = |journal: u64, message: Message| match message {
        Message::Hello(hello) => Message::Hello(Box::new(Hello { journal: JournalId(journal as u32), ..*hello })),
        other => other,
    };
    bench.receive(hub(), with(9, speaking(2, 2)));
    bench.receive(hub(), with(5, speaking(3, 3)));
    let effects = [bench.receive(hub(), with(5, speaking(2, 3))), bench.later(1)].concat();
    assert!(sent(&effects).iter().any(|(_, message)| message.kind() == "new"), "{effects:?}");
}
