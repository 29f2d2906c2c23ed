//! Questions to the user at the terminal.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// The longest answer, in bytes.
const ANSWER_LIMIT: u64 = 4096;

/// Whether there is a terminal.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks until there is an answer; Enter alone chooses the suggested answer.
pub(super) fn ask(question: &str, default: Option<&str>) -> io::Result<String> {
    loop {
        match default {
            Some(default) => write!(io::stderr(), "{question} [{default}]: ")?,
            None => write!(io::stderr(), "{question}: ")?,
        }
        io::stderr().flush()?;
        let answer = line()?;
        match (answer.trim(), default) {
            ("", Some(default)) => return Ok(default.to_owned()),
            ("", None) => {}
            (answer, _) => return Ok(answer.to_owned()),
        }
    }
}

/// Asks for a secret, without echo; an empty answer is allowed.
pub(super) fn ask_secret(question: &str) -> io::Result<String> {
    let before = tcgetattr(io::stdin())?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // The echo is off before the question appears, so that a fast answer is not shown either.
    tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
    let asked = write!(io::stderr(), "{question}: ").and_then(|()| io::stderr().flush());
    let answer = asked.and_then(|()| line());
    let restored = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    writeln!(io::stderr())?;
    restored?;
    Ok(answer?.trim_end_matches(['\r', '\n']).to_owned())
}

fn line() -> io::Result<String> {
    let mut answer = String::new();
    // The end of the input is not an answer; asking again would never end.
    match io::stdin().lock().take(ANSWER_LIMIT).read_line(&mut answer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(answer),
    }
}
