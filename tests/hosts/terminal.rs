//! A command as somebody at a terminal gives it: what it asks is answered as people would.

use std::io::{Read, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::host::Host;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a question ends with, and what is typed then.
pub type Answers<'a> = &'a [(&'a str, &'a str)];

/// Runs a shell's line as root on a terminal of the host and answers what it asks; it has to succeed. The answer to the
/// question "" is typed at once.
pub fn type_in(host: &Host, line: &str, answers: Answers) -> String {
    let mut child = host.enter(&["/usr/bin/script", "-qefc", line, "/dev/null"]);
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (said, hear) = channel();
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = screen.read(&mut chunk) {
            if said.send(chunk[..read].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut type_answer = |question: &str| {
        let answer = answers.iter().find(|(asked, _)| *asked == question).map(|(_, answer)| *answer);
        // A terminal's Enter is a carriage return, and script would show the keys itself if it got a line end.
        answer.is_some_and(|answer| keys.write_all(answer.as_bytes()).and_then(|()| keys.flush()).is_ok())
    };
    type_answer("");
    let (end, mut said_so_far, mut answered) = (Instant::now() + PATIENCE, Vec::<u8>::new(), 0);
    loop {
        match hear.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(chunk) => said_so_far.extend(chunk),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                drop(child.kill());
                let text = String::from_utf8_lossy(&said_so_far);
                panic!("{}: {line}: no end within {PATIENCE:?}\n{text}\n{}", host.name, host.story());
            }
        }
        // A chunk may end within a character.
        let new = &said_so_far[answered..];
        let asked = answers.iter().find(|(asked, _)| !asked.is_empty() && new.ends_with(asked.as_bytes()));
        if let Some((asked, _)) = asked {
            answered = said_so_far.len();
            assert!(type_answer(asked), "{}: {line}: nobody reads {asked:?}'s answer", host.name);
        }
    }
    let status = child.wait().unwrap();
    let text = String::from_utf8_lossy(&said_so_far);
    assert!(status.success(), "{}: {line}: {status}\n{text}\n{}", host.name, host.story());
    text.replace('\r', "")
}
