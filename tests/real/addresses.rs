//! A broker's name with two addresses, the first of which swallows packets.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bed::{self, Bed};

const LONG: Duration = Duration::from_secs(60);

/// Listens and accepts nothing: once the line of waiting connections is full, the kernel drops what else comes.
const SWALLOWS: &str = r#"
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
print("full", flush=True)
sys.stdin.read()
"#;

struct Swallowing(Child);

impl Swallowing {
    fn start(port: u16) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", SWALLOWS, &port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "full\n");
        Self(child)
    }
}

impl Drop for Swallowing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_address_that_swallows_does_not_keep_the_next_from_being_reached() {
    let bed = Bed::new();
    let port = bed.rabbit.lock().unwrap().port();
    let _swallowing = Swallowing::start(port);
    let hosts = bed.dir.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n::1 broker.test\n127.0.0.1 broker.test\n").unwrap();
    let mut node = bed.central("mid", "");
    node.set("synkler_server = \"broker.test\"");
    node.under = bed::with_mount(&format!("--bind '{}' /etc/hosts", hosts.display()));
    let began = Instant::now();
    node.start();
    node.expect(0, LONG, &["connected to the broker (broker.test:"]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "connected after {took:?}");
    let (_, told) = (node.stop(), node.log.text());
    assert!(!told.contains("no session with the broker"), "{told}");
    // The examination names the address.
    let words = node.command();
    let mut check = Command::new(words.get_program());
    check.args(words.get_args()).arg("check").stdin(Stdio::null());
    let output = check.output().unwrap();
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(found.contains("not by all its addresses: ::1: no answer within 5 s"), "{found}");
}
