//! A broker's name with two addresses, the first of which swallows packets.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::bed::node::Node;
use crate::bed::{self, Bed};

const LONG: Duration = Duration::from_secs(60);
/// What the whole session may take: the first address has a quarter of a second of it.
const CONNECTED: Duration = Duration::from_secs(2);

/// Listens and accepts nothing: once the line of waiting connections is full, the kernel drops what else comes.
const FULL: &str = r#"
import socket, sys
listener = socket.socket(socket.AF_INET6)
listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
listener.bind(("::1", int(sys.argv[1])))
listener.listen(0)
waiting = []
while True:
    one = socket.socket(socket.AF_INET6)
    one.settimeout(0.5)
    waiting.append(one)
    try:
        one.connect(("::1", int(sys.argv[1])))
    except TimeoutError:
        break
print("ready", flush=True)
sys.stdin.read()
"#;

/// A network of its own, in which every address of `2001:db8::/64` has a way and no host: no neighbour is asked for, so
/// that nothing comes back at all.
const NETWORK: &str = "ip link set lo up \
    && { ip link add void0 type dummy 2>/dev/null || ip link add void0 type veth peer name void1; } \
    && { ip link set void1 up 2>/dev/null || :; } \
    && ip link set void0 arp off up && ip addr add 2001:db8::1/64 dev void0 nodad && echo ready && read -r _";

/// A program that holds something for the test: it says when it is ready, and ends with its standard input.
struct Holder(Child);

impl Holder {
    fn start(command: &mut Command) -> Option<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let holder = Self(child);
        (line == "ready\n").then_some(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node of this bed for which `broker.test` has two addresses.
fn node(bed: &Bed, addresses: [&str; 2]) -> Node {
    let [first, second] = addresses;
    let hosts = bed.dir.path().join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost\n{first} broker.test\n{second} broker.test\n")).unwrap();
    let mut node = bed.central("mid", "");
    node.set("synkler_server = \"broker.test\"");
    node.under = bed::with_mount(&format!("--bind '{}' /etc/hosts", hosts.display()));
    let (program, words) = node.under.split_first().unwrap();
    let order = "import socket; print(socket.getaddrinfo('broker.test', 1, type=socket.SOCK_STREAM)[0][4][0])";
    let output = Command::new(program).args(words).args(["python3", "-c", order]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), first, "this system tries it first: {output:?}");
    node
}

/// What `synkler check` prints of the broker: how it went, and the words.
fn examined(node: &Node) -> (String, String) {
    let words = node.command();
    let mut check = Command::new(words.get_program());
    let output = check.args(words.get_args()).arg("check").stdin(Stdio::null()).output().unwrap();
    let check: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = check["findings"].as_array().unwrap();
    let broker = findings.iter().find(|finding| finding["check"] == "broker").unwrap();
    (broker["result"].as_str().unwrap().to_owned(), broker["text"].as_str().unwrap().to_owned())
}

/// The broker is at 127.0.0.1 only, and `swallows` comes before it.
fn an_address_that_swallows_costs_a_head_start(bed: &Bed, swallows: &str) {
    let mut node = node(bed, [swallows, "127.0.0.1"]);
    let began = Instant::now();
    node.start();
    node.expect(0, LONG, &["connected to the broker (broker.test:"]);
    let took = began.elapsed();
    println!("connected after {took:?}");
    assert!(took < CONNECTED, "connected after {took:?}");
    let (_, told) = (node.stop(), node.log.text());
    assert!(!told.contains("no session with the broker"), "{told}");
    let (result, text) = examined(&node);
    assert_eq!(result, "warning", "{text}");
    assert!(text.ends_with(&format!("not on all addresses: no answer within 5 s ({swallows})")), "{text}");
}

#[test]
fn one_that_does_not_accept_costs_a_head_start() {
    let bed = Bed::new();
    let port = bed.rabbit.lock().unwrap().port().to_string();
    let _full = Holder::start(Command::new("python3").args(["-c", FULL, &port])).unwrap();
    an_address_that_swallows_costs_a_head_start(&bed, "::1");
}

/// The broker, too, is in that network: its thread is, and with it everything that it starts.
#[test]
fn one_that_is_not_there_costs_a_head_start() {
    let Some(network) = Holder::start(Command::new("unshare").args(["-n", "sh", "-c", NETWORK])) else {
        assert!(!rustix::process::geteuid().is_root(), "root can make a network of its own");
        println!("only root can make a network of its own: the other test has to do");
        return;
    };
    let moved = move || {
        let link = File::open(format!("/proc/{}/ns/net", network.0.id())).unwrap();
        move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        an_address_that_swallows_costs_a_head_start(&Bed::alone(), "2001:db8::2");
    };
    if let Err(panic) = std::thread::spawn(moved).join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn without_a_session_the_status_names_the_addresses_that_were_tried() {
    let bed = Bed::new();
    let mut node = node(&bed, ["::1", "127.0.0.1"]);
    node.set(&format!("port = {}", bed::sshd::free_port()));
    node.start();
    let told = "cannot be reached: Connection refused (::1, 127.0.0.1)";
    node.until(LONG, "naming both addresses", |status| {
        status["broker"]["reason"]["text"].as_str().is_some_and(|text| text.contains(told))
    });
    let output = node.ctl().arg("status").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(told), "{text}");
    let (result, text) = examined(&node);
    assert_eq!(result, "failed", "{text}");
    assert!(text.ends_with(told), "{text}");
}
