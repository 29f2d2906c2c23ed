//! docs/protocol.md is true: every message is shown as it is, every limit has its value, and nothing that is
//! not a message gets through.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use serde_json::Value;
use synkler::drivers::broker;
use synkler::machine::{
    BY_LIMIT, Cause, DEPTH_LIMIT, DETAIL_LIMIT, DOING_LIMIT, Digest, ENTRY_LIMIT, Fingerprint, Fit, Forward, GroupId,
    HOST_LIMIT, ITEM_NAME_LIMIT, ItemName, Kind, Location, MODES_LIMIT, Message, Mode, Modes, NAME_LIMIT, Node,
    NodeName, Offer, PART_LIMIT, Pause, Protocols, Random, Reason, Receipt, Release, TransferId, Wait,
};
use synkler::wire::{
    ANSWER_LIMIT, ASK_LIMIT, DOTTED_LIMIT, DecodeError, KIND_LIMIT, MESSAGE_LIMIT, Problem, RECEIVER_LIMIT, SLOT_LIMIT,
    Talk, TooLong, VERSION_LIMIT, decode, decode_talk, encode, encode_talk, may_send,
};

const DOCUMENT: &str = include_str!("../docs/protocol.md");

/// Every kind there is.
const KINDS: [&str; 15] = [
    "hello", "new", "withdraw", "cancel", "upload", "sent", "received", "download", "done", "noted", "release",
    "freed", "closed", "waiting", "unknown",
];

fn group() -> GroupId {
    "default".parse().unwrap()
}

/// The kinds of questions and answers.
const TALK_KINDS: [&str; 3] = ["ask", "answer", "refusal"];

/// The documented messages, by the heading they stand under.
fn examples() -> Vec<(&'static str, &'static str)> {
    examples_in(DOCUMENT.split("\n## AMQP: questions").next().unwrap())
}

/// The documented questions and answers.
fn talk_examples() -> Vec<(&'static str, &'static str)> {
    let section = DOCUMENT.split("\n## AMQP: questions").nth(1).unwrap();
    examples_in(section.split("\n## ").next().unwrap())
}

fn examples_in(section: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut examples = Vec::new();
    let mut heading = "";
    let mut lines = section.lines();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("### ") {
            heading = text;
        } else if line == "```json" {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            assert_eq!(block.len(), 1, "a message under {heading:?} is one line");
            examples.push((heading, block[0]));
        }
    }
    examples
}

#[test]
fn every_message_is_shown_byte_by_byte() {
    let mut shown = Vec::new();
    for (heading, text) in examples() {
        let (from, message) = decode(text.as_bytes(), &group()).unwrap_or_else(|error| panic!("{heading}: {error}"));
        assert_eq!(message.kind(), heading);
        let written = encode(&group(), &from, message);
        assert_eq!(written.len(), 1);
        assert_eq!(String::from_utf8_lossy(&written[0]), text);
        shown.push(heading);
    }
    assert_eq!(shown, KINDS);
}

/// What the accounts that broker-setup makes may say is what their mode may.
#[test]
fn accounts_may_say_what_their_mode_may() {
    for (heading, text) in examples() {
        let (_, message) = decode(text.as_bytes(), &group()).unwrap();
        for mode in [Mode::Upload, Mode::Central, Mode::Download] {
            let may = heading == "hello" || broker::role_kinds(mode).contains(&heading);
            assert_eq!(may, may_send(mode, &message), "{mode}: {heading}");
        }
    }
}

#[test]
fn every_question_and_answer_is_shown_byte_by_byte() {
    let mut shown = Vec::new();
    for (heading, text) in talk_examples() {
        let (from, talk) = decode_talk(text.as_bytes(), &group()).unwrap_or_else(|error| panic!("{heading}: {error}"));
        assert_eq!(talk.kind(), heading);
        let written = encode_talk(&group(), &from, talk).unwrap();
        assert_eq!(String::from_utf8_lossy(&written), text);
        assert!(decode(text.as_bytes(), &group()).is_err(), "a question is no word");
        shown.push(heading);
    }
    assert_eq!(shown, TALK_KINDS);
    assert!(decode_talk(example("hello").as_bytes(), &group()).is_err(), "a word is no question");
}

#[test]
fn questions_are_refused_unless_they_are_exactly_as_documented() {
    let example = |kind: &str| talk_examples().into_iter().find(|(heading, _)| *heading == kind).unwrap().1;
    let wrong = [
        ("ask", "\"ask\":1795460400000001,", ""),
        ("ask", "1795460400000001", "-1"),
        ("ask", "1795460400000001", "1.5"),
        ("ask", "1795460400000001", "\"1\""),
        ("ask", "io.synkler.Control.GetStatus", ""),
        ("ask", "io.synkler.Control.GetStatus", "GetStatus\\n"),
        ("ask", "io.synkler.Control.GetStatus", "Get Status"),
        ("ask", "{\"here\":true,\"limit\":100}", "[1]"),
        ("ask", "{\"here\":true,\"limit\":100}", "null"),
        ("ask", "\"v\":2", "\"v\":3"),
        ("ask", "\"default\"", "\"other\""),
        ("answer", "{\"previous\":\"info\"}", "7"),
        ("refusal", "io.synkler.Control.NotFound", "not/found"),
        ("refusal", ",\"parameters\":{\"item\":\"results\"}", ""),
    ];
    for (kind, right, replacement) in wrong {
        let text = example(kind);
        assert!(text.contains(right), "{kind} has {right}");
        let text = text.replacen(right, replacement, 1);
        assert!(decode_talk(text.as_bytes(), &group()).is_err(), "{text}");
    }
    let long = example("ask").replace("GetStatus", &"x".repeat(DOTTED_LIMIT));
    assert!(decode_talk(long.as_bytes(), &group()).unwrap_err().to_string().contains("1 to 128 letters"));
    let deep = example("ask").replace("100", &format!("{}{}", "[".repeat(1000), "]".repeat(1000)));
    assert!(decode_talk(deep.as_bytes(), &group()).is_err());
}

#[test]
fn questions_and_answers_have_a_longest() {
    let from = Node::new(Mode::Central, "hub".parse().unwrap());
    let parameters = |length: usize| serde_json::json!({ "x": "x".repeat(length) }).as_object().unwrap().clone();
    let ask = |length| Talk::Ask { ask: 1, method: "A.B".to_owned(), parameters: parameters(length) };
    let answer = |length| Talk::Answer { ask: 1, outcome: Ok(parameters(length)) };
    let cases: [(&dyn Fn(usize) -> Talk, usize); 2] = [(&ask, ASK_LIMIT), (&answer, ANSWER_LIMIT)];
    for (talk, limit) in cases {
        let frame = encode_talk(&group(), &from, talk(0)).unwrap().len();
        let longest = encode_talk(&group(), &from, talk(limit - frame)).unwrap();
        assert_eq!(longest.len(), limit);
        assert_eq!(decode_talk(&longest, &group()), Ok((from.clone(), talk(limit - frame))));
        let error = encode_talk(&group(), &from, talk(limit - frame + 1)).unwrap_err();
        assert_eq!(error, TooLong { length: limit + 1, limit });
        let mut longer = String::from_utf8(longest).unwrap();
        longer.push(' ');
        let error = decode_talk(longer.as_bytes(), &group()).unwrap_err();
        assert_eq!(error.problem, Problem::TooLong(limit + 1, limit));
    }
}

#[test]
fn the_table_says_who_may_say_what() {
    for (kind, text) in examples() {
        let row = DOCUMENT.lines().find(|line| line.starts_with(&format!("| `{kind}` |"))).expect(kind);
        let said_by = row.split('|').nth(2).unwrap().trim();
        let message = decode(text.as_bytes(), &group()).unwrap().1;
        for mode in [Mode::Upload, Mode::Central, Mode::Download] {
            let documented = said_by == "all" || said_by.split(", ").any(|word| word == mode.as_str());
            assert_eq!(may_send(mode, &message), documented, "{kind} by {mode}");
        }
    }
}

#[test]
fn every_limit_has_its_documented_value() {
    let seconds = |duration: std::time::Duration| duration.as_secs();
    let limits = BTreeMap::from([
        ("PROTOCOL_MIN", Protocols::OURS.min()),
        ("PROTOCOL_MAX", Protocols::OURS.max()),
        ("MESSAGE_LIMIT", MESSAGE_LIMIT as u64),
        ("ENTRY_LIMIT", ENTRY_LIMIT as u64),
        ("RECEIVER_LIMIT", RECEIVER_LIMIT as u64),
        ("NAME_LIMIT", NAME_LIMIT as u64),
        ("ITEM_NAME_LIMIT", ITEM_NAME_LIMIT as u64),
        ("PART_LIMIT", PART_LIMIT as u64),
        ("DEPTH_LIMIT", DEPTH_LIMIT as u64),
        ("MODES_LIMIT", MODES_LIMIT as u64),
        ("DETAIL_LIMIT", DETAIL_LIMIT as u64),
        ("VERSION_LIMIT", VERSION_LIMIT as u64),
        ("ASK_LIMIT", ASK_LIMIT as u64),
        ("ANSWER_LIMIT", ANSWER_LIMIT as u64),
        ("KIND_LIMIT", KIND_LIMIT as u64),
        ("DOTTED_LIMIT", DOTTED_LIMIT as u64),
        ("HOST_LIMIT", HOST_LIMIT as u64),
        ("DOING_LIMIT", DOING_LIMIT as u64),
        ("BY_LIMIT", BY_LIMIT as u64),
        ("SLOT_LIMIT", SLOT_LIMIT.into()),
        ("PREFETCH", broker::PREFETCH.into()),
        ("IN_FLIGHT_LIMIT", broker::IN_FLIGHT_LIMIT as u64),
        ("PUBLISH_QUEUE_LIMIT", broker::PUBLISH_QUEUE_LIMIT as u64),
        ("DEAD_LETTER_LIMIT", broker::DEAD_LETTER_LIMIT.into()),
        ("HELLO_QUEUE_LIMIT", broker::HELLO_QUEUE_LIMIT.into()),
        ("HELLO_EXPIRY", seconds(broker::HELLO_EXPIRY)),
        ("TALK_QUEUE_LIMIT", broker::TALK_QUEUE_LIMIT.into()),
        ("TALK_EXPIRY", seconds(broker::TALK_EXPIRY)),
        ("HEARTBEAT", seconds(broker::HEARTBEAT)),
        ("ANSWER_TIMEOUT", seconds(broker::ANSWER_TIMEOUT)),
        ("CONFIRM_TIMEOUT", seconds(broker::CONFIRM_TIMEOUT)),
        ("RECONNECT_LIMIT", seconds(broker::RECONNECT_LIMIT)),
        ("CLOSE_TIMEOUT", seconds(broker::CLOSE_TIMEOUT)),
    ]);
    let section = DOCUMENT.split("## AMQP: the limits").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut documented = BTreeMap::new();
    for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (name, value) = row.split_once("` | ").unwrap();
        let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
        documented.insert(name, digits.parse::<u64>().unwrap());
    }
    assert_eq!(documented, limits);
}

/// Puts a field that nobody knows into every object, but for the one that names the kind, and for what is the
/// interface's own.
fn grown(text: &str) -> String {
    fn grow(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let own = |key: &str| key == "parameters" || key == "reply";
                fields.iter_mut().filter(|(key, _)| !own(key)).for_each(|(_, field)| grow(field));
                fields.insert("newer".to_owned(), serde_json::json!([{ "x": -1 }, null, "…"]));
            }
            Value::Array(entries) => entries.iter_mut().for_each(grow),
            _ => {}
        }
    }
    let mut bytes: Value = serde_json::from_str(text).unwrap();
    let mut message = bytes["words"].take();
    message.as_object_mut().unwrap().values_mut().for_each(grow);
    grow(&mut bytes);
    bytes["words"] = message;
    bytes.to_string()
}

#[test]
fn fields_of_a_newer_version_are_ignored() {
    for (kind, text) in examples() {
        let grown = grown(text);
        assert!(grown.matches("newer").count() >= 3, "{grown}");
        assert_eq!(decode(grown.as_bytes(), &group()), decode(text.as_bytes(), &group()), "{kind}");
    }
    for (kind, text) in talk_examples() {
        assert_eq!(decode_talk(grown(text).as_bytes(), &group()), decode_talk(text.as_bytes(), &group()), "{kind}");
    }
}

#[test]
fn a_kind_of_a_newer_version_is_told_apart_from_what_is_malformed() {
    let alpha = Node::new(Mode::Upload, "alpha".parse().unwrap());
    for (kind, text) in examples().into_iter().chain(talk_examples()) {
        let text = text.replacen(&format!("{{\"{kind}\":"), "{\"good-morning\":", 1);
        let unknown = Problem::UnknownKind("good-morning".to_owned());
        assert_eq!(decode(text.as_bytes(), &group()).unwrap_err().problem, unknown);
        assert_eq!(decode_talk(text.as_bytes(), &group()).unwrap_err().problem, unknown);
    }
    let longest = "k".repeat(KIND_LIMIT);
    let newer = example("new").replace("{\"new\":", &format!("{{\"{longest}\":"));
    let expected = DecodeError { from: Some(alpha), problem: Problem::UnknownKind(longest.clone()) };
    assert_eq!(problem(newer.as_bytes()), expected);
    // Whatever has no such name, or no sender, or is for another group, is no message.
    for (right, wrong) in [(&*longest, "New"), (&longest, ""), (&longest, &"k".repeat(KIND_LIMIT + 1)), ("alpha", "..")]
    {
        let error = problem(newer.replace(right, wrong).as_bytes());
        assert!(matches!(error.problem, Problem::Invalid(_)), "{error}");
    }
    let error = problem(newer.replace("default", "other").as_bytes());
    assert!(!matches!(error.problem, Problem::UnknownKind(_)), "{error}");
}

/// Whatever else a hello of another protocol holds or lacks, it tells who speaks what.
#[test]
fn the_lasting_part_of_a_hello_is_read_whatever_its_protocol() {
    let lasting = |protocols: &str, more: &str| {
        format!(
            "{{\"v\":7,\"group\":\"default\",\"from\":{{\"mode\":\"download\",\"name\":\"delta\"}},\"words\":{{\"hello\":{{\
             \"protocols\":{protocols},\"journal\":\"00c0ffee\",\"started\":7,\"version\":\"9.9\",\"reply\":true,\"now\":9{more}}}}}}}"
        )
    };
    for (protocols, more, fit) in [
        ("[1,1]", "", Fit::TooOld),
        ("[3,9]", "", Fit::TooNew),
        ("[3,9]", ",\"slots\":\"many\",\"doing\":{}", Fit::TooNew),
    ] {
        let (from, message) = decode(lasting(protocols, more).as_bytes(), &group()).unwrap();
        let Message::Hello(hello) = message else { panic!("another word") };
        assert_eq!((from.name.as_str(), Protocols::OURS.fit(hello.protocols)), ("delta", fit));
        assert_eq!((hello.version.as_str(), hello.started.as_millis(), hello.reply), ("9.9", 7, true));
    }
    // One that shares a protocol says all that belongs to it.
    assert!(decode(lasting("[2,9]", "").as_bytes(), &group()).is_err());
    let newer = example("hello").replace("[2,2]", "[2,9]");
    let (_, Message::Hello(hello)) = decode(newer.as_bytes(), &group()).unwrap() else { panic!("another word") };
    assert_eq!(Protocols::OURS.fit(hello.protocols), Fit::Together(2));
    assert!(decode(lasting("[3,9]", "").replace("default", "other").as_bytes(), &group()).is_err());
    assert!(decode(lasting("[3,9]", "").replace("\"delta\"", "\"..\"").as_bytes(), &group()).is_err());
}

#[test]
fn a_code_of_a_newer_version_is_shown_as_it_is() {
    let text = example("waiting").replacen("\"cause\":\"space\"", "\"cause\":\"cold-feet\"", 1);
    let (_, Message::Waiting(waits)) = decode(text.as_bytes(), &group()).unwrap() else { panic!("another word") };
    assert_eq!(waits[0].reason, Reason::with(Cause::Other, "cold-feet: 12.1 GB needed, 3.4 GB free"));
}

fn example(kind: &str) -> &'static str {
    examples().into_iter().find(|(heading, _)| *heading == kind).unwrap().1
}

fn problem(bytes: &[u8]) -> DecodeError {
    decode(bytes, &group()).expect_err("this is no message")
}

#[test]
fn a_refusal_says_what_is_wrong_and_who_sent_it() {
    let alpha = Some(Node::new(Mode::Upload, "alpha".parse().unwrap()));
    let new = example("new");

    let error = problem(&vec![b' '; MESSAGE_LIMIT + 1]);
    assert_eq!(error, DecodeError { from: None, problem: Problem::TooLong(MESSAGE_LIMIT + 1, MESSAGE_LIMIT) });
    assert!(matches!(problem(b"\x80\x04pickle").problem, Problem::NotJson(_)));
    assert!(matches!(problem(b"").problem, Problem::NotJson(_)));
    assert!(matches!(problem(b"[").problem, Problem::NotJson(_)));
    assert!(matches!(problem("[".repeat(MESSAGE_LIMIT).as_bytes()).problem, Problem::NotJson(_)));
    assert!(matches!(problem(b"7").problem, Problem::Invalid(_)));
    assert_eq!(problem(b"{}"), DecodeError { from: None, problem: Problem::Version("null".to_owned()) });

    for version in ["0", "1", "3", "2.0", "\"1\"", "null", "[1]"] {
        let error = problem(new.replacen("\"v\":2", &format!("\"v\":{version}"), 1).as_bytes());
        assert_eq!(error.from, alpha, "{version}");
        assert_eq!(error.problem, Problem::Version(version.to_owned()));
    }
    let error = problem(new.replace("\"group\":\"default\"", "\"group\":\"other\"").as_bytes());
    assert_eq!(error.from, alpha);
    assert_eq!(error.to_string(), "from group other, expected is default");
    let error = problem(example("upload").replace("\"mode\":\"central\"", "\"mode\":\"download\"").as_bytes());
    assert_eq!(error.problem, Problem::OutOfRole { mode: Mode::Download, kind: "upload" });
    assert_eq!(error.from.unwrap().name.as_str(), "hub");
    assert_eq!(problem(new.replace("alpha", "al pha").as_bytes()).from, None);

    // Nothing of a message can reach a terminal or a log as it is.
    let hostile = new.replace("\"offers\"", "\"\\u001b[31m\\u202e\\nERROR\"");
    let text = problem(hostile.as_bytes()).to_string();
    assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
    let long = new.replace("\"offers\"", &format!("\"{}\"", "x".repeat(60_000)));
    assert!(problem(long.as_bytes()).to_string().len() < 2 * DETAIL_LIMIT);
}

#[test]
fn whatever_is_not_exactly_right_is_refused() {
    let wrong = [
        ("new", "\"v\":2,", "\"v\":2,\"v\":2,"),
        ("new", "\"mode\":\"upload\"", "\"mode\":\"Upload\""),
        ("new", "\"name\":\"alpha\"", "\"name\":\"..\""),
        ("new", "{\"new\":", "{\"hello\":"),
        ("new", "{\"new\":", "{\"ask\":"),
        ("new", "{\"new\":", "{\"Newer\":"),
        ("new", "{\"new\":", "{\"newer\":0,\"new\":"),
        ("new", "{\"new\":", "{\"newer\":0,\"evennewer\":"),
        ("new", "\"name\":\"run-42\"", "\"name\":\"run//42\""),
        ("new", "\"name\":\"run-42\"", "\"name\":\"/run\""),
        ("new", "\"name\":\"run-42\"", "\"name\":\"run/\""),
        ("new", "\"name\":\"run-42\"", "\"name\":\"run/../42\""),
        ("new", "\"name\":\"run-42\"", "\"name\":\"run/.\""),
        ("new", "\"name\":\"run-42\"", "\"name\":\"run%2f%2f42\""),
        ("new", "\"name\":\"run-42\"", "\"name\":\"run\\u000042\""),
        ("new", "\"name\":\"run-42\"", "\"name\":\"..\""),
        ("new", "\"name\":\"run-42\"", "\"name\":\"%2E.\""),
        ("new", "\"name\":\"run-42\"", "\"name\":\"run%4\""),
        ("new", "\"name\":\"run-42\"", "\"name\":\"\""),
        ("new", "\"kind\":\"file\"", "\"kind\":\"fifo\""),
        ("new", "\"entries\":1,", ""),
        ("new", "\"entries\":1", "\"entries\":-1"),
        ("new", "\"entries\":1", "\"entries\":1.5"),
        ("new", "\"entries\":1", "\"entries\":\"1\""),
        ("new", "\"size\":0", "\"size\":18446744073709551616"),
        ("new", "9e107d9d372bb6826bd81d3542a419d6", "9e107d9d372bb6826bd81d3542a419d"),
        ("new", "9e107d9d372bb6826bd81d3542a419d6", "9E107D9D372BB6826BD81D3542A419D6"),
        ("new", "-7a31-", "-4a31-"),
        ("freed", "[\"01936f2a-5c00-7a31-9d42-6b1f0c8e2a77\"]", "[]"),
        ("freed", "[\"01936f2a-5c00-7a31-9d42-6b1f0c8e2a77\"]", "null"),
        ("upload", "\"place\":\"00c0ffee-12\"", "\"place\":\"00c0ffee-012\""),
        ("upload", "\"place\":\"00c0ffee-12\"", "\"place\":\"../../etc\""),
        ("upload", "syn@hub.example.org", "-oProxyCommand=x"),
        ("upload", "/srv/synkler/default/in/00c0ffee-12", "/srv/../etc"),
        ("hello", "\"slots\":2", "\"slots\":0"),
        ("hello", "\"slots\":2", "\"slots\":1001"),
        ("hello", "\"journal\":\"00c0ffee\"", "\"journal\":\"c0ffee\""),
        ("hello", "\"reply\":true", "\"reply\":1"),
        ("hello", "\"version\":\"0.2.0\"", "\"version\":\"0.2.0\\n\""),
        ("hello", "\"host\":\"delta.example.org\"", "\"host\":\"delta \""),
        ("hello", "\"doing\":\"fetching 2, 41 queued\"", "\"doing\":7"),
        ("hello", "\"by\":\"root\"", "\"by\":\"\""),
        ("hello", "\"by\":\"root\"", "\"by\":\"ro\\u001bot\""),
        ("hello", "\"free\":812000000000", "\"free\":-1"),
        ("hello", "\"changed\":1795463900000,", ""),
        ("hello", "\"name\":\"delta\"}}", "\"name\":\"..\"}}"),
        ("waiting", "\"cause\":\"space\"", "\"cause\":\"Boredom\""),
        ("waiting", "\"cause\":\"space\"", "\"cause\":\"\""),
        ("hello", "\"protocols\":[2,2],", ""),
        ("hello", "\"protocols\":[2,2]", "\"protocols\":[2]"),
        ("hello", "\"protocols\":[2,2]", "\"protocols\":[2,1]"),
        ("hello", "\"protocols\":[2,2]", "\"protocols\":[0,2]"),
        ("waiting", "3.4 GB free", "3.4 GB\\nfree"),
        ("release", "[\"delta\",\"echo.example.org\"]", "[]"),
    ];
    for (kind, right, replacement) in wrong {
        let text = example(kind);
        assert!(text.contains(right), "{kind} has {right}");
        let text = text.replacen(right, replacement, 1);
        assert!(decode(text.as_bytes(), &group()).is_err(), "{text}");
    }
    let long = [(&"x".repeat(256), "a part"), (&"x/".repeat(9), "parts"), (&[&*"x".repeat(200); 6].join("/"), "bytes")];
    for (name, what) in long {
        let text = example("new").replacen("run-42", name, 1);
        assert!(decode(text.as_bytes(), &group()).is_err(), "too many {what}");
    }
    let text = example("new").replacen("run-42", "run/42", 1);
    assert!(decode(text.as_bytes(), &group()).is_ok(), "a path");
    let many = format!("[{}]", vec!["\"01936f2a-5c00-7a31-9d42-6b1f0c8e2a77\""; ENTRY_LIMIT + 1].join(","));
    let text = example("freed").replace("[\"01936f2a-5c00-7a31-9d42-6b1f0c8e2a77\"]", &many);
    assert!(problem(text.as_bytes()).to_string().contains("1 to 500 entries"));
    let detail = "x".repeat(DETAIL_LIMIT + 1);
    assert!(decode(example("waiting").replace("3.4 GB free", &detail).as_bytes(), &group()).is_err());
}

/// The longest text of modes there is.
fn longest_modes() -> Modes {
    let text = format!("f0644{}", ",0755,0644".repeat((MODES_LIMIT - 5) / 10));
    assert!(text.len() + 10 > MODES_LIMIT);
    text.parse().unwrap()
}

/// As large as entries can be.
fn largest() -> Vec<Message> {
    let name = ItemName::new(&[[0xff; PART_LIMIT]; 4].join(&b'/')).unwrap();
    assert!(name.as_bytes().len() > ITEM_NAME_LIMIT - 2);
    let transfer = TransferId::mint(u64::MAX >> 16, [0xff; 10]);
    let node: NodeName = "n".repeat(NAME_LIMIT).parse().unwrap();
    let fingerprint = Fingerprint { size: u64::MAX, digest: Digest([0xff; 16]) };
    let offer = Offer {
        transfer,
        name,
        kind: Kind::Directory,
        entries: u64::MAX,
        fingerprint,
        modes: longest_modes(),
        extras: Default::default(),
        minted: synkler::machine::Time::from_millis(u64::MAX),
    };
    let location = Location::new(&"h".repeat(255), &format!("/{}", "p".repeat(1023))).unwrap();
    let release = Release {
        transfer,
        fingerprint,
        receivers: vec![node.clone(); RECEIVER_LIMIT],
        remark: Some("x".repeat(DETAIL_LIMIT).into()),
    };
    let wait = Wait { transfer, reason: Reason::with(Cause::Acknowledgement, &"\"".repeat(DETAIL_LIMIT)) };
    let count = 2 * ENTRY_LIMIT + 1;
    vec![
        Message::New(vec![offer.clone(); count]),
        Message::Download { location, items: vec![Forward { offer, upload: node }; count] },
        Message::Done(vec![Receipt { transfer, fingerprint, remark: Some("x".repeat(DETAIL_LIMIT).into()) }; count]),
        Message::Release(vec![release; count]),
        Message::Waiting(vec![wait; count]),
        Message::Unknown(vec![transfer; count]),
    ]
}

fn count(message: &Message) -> usize {
    match message {
        Message::New(entries) => entries.len(),
        Message::Download { items, .. } => items.len(),
        Message::Done(entries) => entries.len(),
        Message::Release(entries) => entries.len(),
        Message::Waiting(entries) => entries.len(),
        Message::Unknown(entries) => entries.len(),
        other => panic!("{} is none of the largest", other.kind()),
    }
}

#[test]
fn long_lists_are_divided_and_nothing_is_lost() {
    let group: GroupId = "g".repeat(NAME_LIMIT).parse().unwrap();
    for message in largest() {
        let mode =
            [Mode::Upload, Mode::Central, Mode::Download].into_iter().find(|mode| may_send(*mode, &message)).unwrap();
        let from = Node::new(mode, "n".repeat(NAME_LIMIT).parse().unwrap());
        let kind = message.kind();
        let expected = count(&message);
        let encoded = encode(&group, &from, message);
        let mut found = 0;
        for bytes in &encoded {
            assert!(bytes.len() <= MESSAGE_LIMIT, "{kind}: {} bytes", bytes.len());
            let (sender, message) = decode(bytes, &group).unwrap();
            assert_eq!(sender, from);
            assert!(count(&message) <= ENTRY_LIMIT);
            found += count(&message);
        }
        assert_eq!(found, expected, "{kind}");
    }
    let from = Node::new(Mode::Upload, "alpha".parse().unwrap());
    let order: Vec<_> = (0..1000).map(|number| TransferId::mint(number, [1; 10])).collect();
    let mut heard = Vec::new();
    for bytes in encode(&group, &from, Message::Freed(order.clone())) {
        let Message::Freed(transfers) = decode(&bytes, &group).unwrap().1 else { panic!("another word") };
        heard.extend(transfers);
    }
    assert_eq!(heard, order);
    assert!(encode(&group, &from, Message::Freed(Vec::new())).is_empty(), "nothing to say");
}

#[test]
fn what_has_no_limit_inside_is_cut_on_its_way_out() {
    let from = Node::new(Mode::Central, "hub".parse().unwrap());
    let (_, message) = decode(example("hello").as_bytes(), &group()).unwrap();
    let Message::Hello(mut hello) = message else { panic!("another word") };
    hello.version = format!("\n{}", "é".repeat(100));
    hello.slots = 0;
    hello.host = "h".repeat(1000);
    hello.doing = format!("{} {}", "d".repeat(DOING_LIMIT - 1), "d".repeat(1000));
    hello.paused = Some(Pause::new(hello.now, &format!("\u{7}{}", "é".repeat(100)), from.clone()));
    let bytes = encode(&group(), &from, Message::Hello(hello)).remove(0);
    let (_, Message::Hello(hello)) = decode(&bytes, &group()).unwrap() else { panic!("another word") };
    assert_eq!((hello.version, hello.slots), ("é".repeat(VERSION_LIMIT / 2), 1));
    assert_eq!((hello.host, hello.doing), ("h".repeat(HOST_LIMIT), "d".repeat(DOING_LIMIT - 1)));
    assert_eq!(hello.paused.map(|pause| pause.by.to_string()), Some("é".repeat(BY_LIMIT / 2)));
}

/// Changes a few bytes, in ways that often leave JSON and sometimes a message.
fn mutate(random: &mut Random, encoded: &[Vec<u8>]) -> Vec<u8> {
    const SPLINTERS: &[&[u8]] = &[
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"-1",
        b"1e99",
        b"true",
        b"%2F",
        b"%00",
        b"\\u0000",
        b"\\ud800",
        b"..",
        b"/",
        b"\xff",
        b"0",
        b"central",
        b"upload",
        b"download",
        b"\"v\":2,",
        b"{\"mode\":\"central\"}",
    ];
    let mut bytes = encoded[random.index(encoded.len())].clone();
    for _ in 0..=random.index(3) {
        let at = random.index(bytes.len());
        match random.index(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.index(8),
            1 if !bytes.is_empty() => bytes[at] = b"0123456789abcdef\"\\{}[],:%. "[random.index(27)],
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.index(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let splinter = SPLINTERS[random.index(SPLINTERS.len())];
                bytes.splice(at..at, splinter.iter().copied());
            }
            _ => {
                let other = &encoded[random.index(encoded.len())];
                let start = random.index(other.len());
                let end = (start + random.index(60)).min(other.len());
                let until = (at + random.index(60)).min(bytes.len());
                bytes.splice(at..until, other[start..end].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn no_bytes_make_the_decoder_stumble() {
    const MUTATIONS: u64 = 100_000;
    let all = examples().into_iter().chain(talk_examples());
    let encoded: Vec<Vec<u8>> = all.map(|(_, text)| text.as_bytes().to_vec()).collect();
    let mut accepted = 0;
    for seed in 0..MUTATIONS {
        let bytes = mutate(&mut Random(seed), &encoded);
        let decoded = catch_unwind(|| decode(&bytes, &group()))
            .unwrap_or_else(|_| panic!("seed {seed} panics: {}", String::from_utf8_lossy(&bytes)));
        if let Ok((from, message)) = decoded {
            accepted += 1;
            let written = encode(&group(), &from, message.clone());
            assert_eq!(written.len(), 1, "seed {seed}");
            assert_eq!(decode(&written[0], &group()), Ok((from, message)), "seed {seed}");
        }
        let decoded = catch_unwind(|| decode_talk(&bytes, &group()))
            .unwrap_or_else(|_| panic!("seed {seed} panics: {}", String::from_utf8_lossy(&bytes)));
        if let Ok((from, talk)) = decoded {
            accepted += 1;
            let written = encode_talk(&group(), &from, talk.clone()).unwrap();
            assert_eq!(decode_talk(&written, &group()), Ok((from, talk)), "seed {seed}");
        }
    }
    // Mutations that left nothing readable would prove little.
    assert!(accepted > MUTATIONS / 200, "{accepted} of {MUTATIONS} are still messages");
}
