//! Questions to whoever sits at the terminal.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// The longest answer, in bytes.
const ANSWER_LIMIT: u64 = 4096;

/// Whether there is anybody to ask.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks, with an answer for whoever just presses Enter, until there is one.
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

/// Asks for something that is not to be seen; nothing is an answer too.
pub(super) fn ask_secret(question: &str) -> io::Result<String> {
    let before = tcgetattr(io::stdin())?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // First of all: who answers as soon as the question stands there must not see it on the screen.
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
    // The end of the input is no answer, and would be asked for ever.
    match io::stdin().lock().take(ANSWER_LIMIT).read_line(&mut answer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(answer),
    }
}
