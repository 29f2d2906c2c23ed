//! The live view: the same text as `status`, drawn in place.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate};
use ratatui::crossterm::{execute, queue};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style};
use ratatui::text::{Line as DrawnLine, Span};
use ratatui::widgets::Paragraph;
use ratatui::{DefaultTerminal, Frame};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::feed::{Feed, News};
use super::model::Model;
use crate::cli::line::{Ink, Line, Look, Text};
use crate::cli::session::Failure;
use crate::cli::status::status_text;
use crate::cli::units::{cut, pad, printable};
use crate::control::types::Status;

/// How long news, keys and signals may wait for an update of the screen.
const LOOK: Duration = Duration::from_millis(50);
/// How often durations are redrawn.
const TICK: Duration = Duration::from_secs(1);

/// Shows the status until a key or a signal ends the view.
pub(super) fn show(feed: &Feed, look: Look<'_>) -> Result<(), Failure> {
    let mut screen = Screen { model: Model::default(), answered: Instant::now(), lost: None, look, scroll: 0, rows: 0 };
    on_terminal(|terminal, signal| screen.run(terminal, feed, signal))
}

/// Gives the whole terminal to `act`, which has to end when the number is no longer 0: a signal has arrived. The
/// terminal is restored in every case.
fn on_terminal(act: impl FnOnce(DefaultTerminal, &AtomicUsize) -> Result<(), Failure>) -> Result<(), Failure> {
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGTERM, SIGHUP, SIGINT, SIGQUIT] {
        // A signal's number is small and positive.
        let value = usize::try_from(number).unwrap_or(0);
        signal_hook::flag::register_usize(number, Arc::clone(&signal), value).map_err(Failure::Terminal)?;
    }
    // ratatui also sets a panic hook that restores the terminal first.
    let terminal = ratatui::try_init().map_err(Failure::Terminal)?;
    let ended = act(terminal, &signal);
    // A closed terminal needs no restoration.
    let _ = ratatui::try_restore();
    match i32::try_from(signal.load(Ordering::Relaxed)) {
        Ok(0) | Err(_) => ended,
        // The parent process must see that a signal has ended this process.
        Ok(number) => signal_hook::low_level::emulate_default_handler(number).map_err(Failure::Terminal),
    }
}

struct Screen<'a> {
    model: Model,
    /// When the daemon last answered.
    answered: Instant,
    /// Why it does not answer any more.
    lost: Option<String>,
    look: Look<'a>,
    /// The number of lines above the first visible one.
    scroll: usize,
    /// The number of visible lines.
    rows: usize,
}

impl Screen<'_> {
    fn run(&mut self, mut terminal: DefaultTerminal, feed: &Feed, signal: &AtomicUsize) -> Result<(), Failure> {
        let mut drawn: Option<Instant> = None;
        loop {
            while let Some(news) = feed.take() {
                self.hear(news)?;
                drawn = None;
            }
            if drawn.is_none_or(|drawn| drawn.elapsed() >= TICK) {
                self.show_whole(&mut terminal).map_err(Failure::Terminal)?;
                drawn = Some(Instant::now());
            }
            if signal.load(Ordering::Relaxed) != 0 {
                return Ok(());
            }
            if event::poll(LOOK).map_err(Failure::Terminal)? {
                drawn = None;
                match event::read().map_err(Failure::Terminal)? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        let held = key.modifiers.contains(KeyModifiers::CONTROL);
                        if self.quits(key.code, held) {
                            return Ok(());
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Draws one frame between the marks of a synchronized update, because the frame is written in pieces. So a
    /// terminal shows the frame at once or not at all.
    fn show_whole(&mut self, terminal: &mut DefaultTerminal) -> io::Result<()> {
        queue!(terminal.backend_mut(), BeginSynchronizedUpdate)?;
        let drawn = terminal.draw(|frame| self.draw(frame)).map(|_| ());
        execute!(terminal.backend_mut(), EndSynchronizedUpdate)?;
        drawn
    }

    fn hear(&mut self, news: News) -> Result<(), Failure> {
        match news {
            News::Answer(answer) => {
                self.model.apply(*answer);
                self.answered = Instant::now();
                self.lost = None;
            }
            News::Lost(why) => self.lost = Some(why),
            News::Failed(error) => return Err(error.into()),
            News::Unread => {}
        }
        Ok(())
    }

    /// Handles a key; returns whether it ends the view.
    fn quits(&mut self, key: KeyCode, control: bool) -> bool {
        let page = self.rows.saturating_sub(1).max(1);
        match key {
            KeyCode::Char('c') if control => return true,
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(page),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll = self.scroll.saturating_add(page),
            KeyCode::Home => self.scroll = 0,
            KeyCode::End => self.scroll = usize::MAX,
            _ => {}
        }
        false
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let [top, body, bottom] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
        let width = usize::from(body.width);
        let look = Look { width, ..self.look };
        let since = u64::try_from(self.answered.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (title, text) = match self.model.status() {
            None => ("synklerctl watch".to_owned(), Text::of("waiting for the daemon's first answer")),
            Some(status) => {
                // Time also passes between two replies.
                let now = status.now.saturating_add(since);
                let title = format!("{} {}   {}", status.node.mode, status.node.name, look.zone.moment(now));
                (title, status_text(&Status { now, ..status.clone() }, look))
            }
        };
        self.rows = usize::from(body.height);
        self.scroll = self.scroll.min(text.lines.len().saturating_sub(self.rows));
        let below = text.lines.len().saturating_sub(self.scroll + self.rows);

        let bar = Style::new().reversed();
        let fitted = |text: &str| pad(&cut(&printable(text), width), width);
        frame.render_widget(DrawnLine::styled(fitted(&format!(" {title}")), bar), top);
        let lines: Vec<_> = text.lines.iter().skip(self.scroll).take(self.rows).map(|line| self.drawn(line)).collect();
        frame.render_widget(Paragraph::new(lines), body);
        let more = if below > 0 { format!("   {below} more lines below") } else { String::new() };
        let (foot, style) = match &self.lost {
            Some(why) => (format!(" {why}; trying again   q quits"), self.style(Some(Ink::Red)).reversed()),
            None => (format!(" q quits   arrows scroll{more}"), bar),
        };
        frame.render_widget(DrawnLine::styled(fitted(&foot), style), bottom);
    }

    fn drawn<'a>(&self, line: &'a Line) -> DrawnLine<'a> {
        line.parts().map(|(ink, text)| Span::styled(text, self.style(ink))).collect()
    }

    fn style(&self, ink: Option<Ink>) -> Style {
        match ink.filter(|_| self.look.colour) {
            None => Style::new(),
            Some(Ink::Bold) => Style::new().bold(),
            Some(Ink::Dim) => Style::new().dim(),
            Some(Ink::Red) => Style::new().fg(Color::Red),
            Some(Ink::Green) => Style::new().fg(Color::Green),
            Some(Ink::Yellow) => Style::new().fg(Color::Yellow),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// A process has at most one terminal, so this test runs itself once more on a terminal of its own.
    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        const CHILD: &str = "SYNKLER_TEST_PANIC";
        if std::env::var_os(CHILD).is_some() {
            let _ = on_terminal(|_, _| panic!("a bug"));
            return;
        }
        let name = "cli::watch::screen::tests::a_panic_leaves_the_terminal_as_it_was";
        let own = std::env::current_exe().unwrap();
        let line = format!("stty rows 24 cols 80; stty -a; '{}' --exact {name} --nocapture; stty -a", own.display());
        let mut command = Command::new("script");
        command.args(["--quiet", "--command", &line, "/dev/null"]).env(CHILD, "1").env("TERM", "xterm");
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let flags = |text: &str| {
            let all: Vec<_> = text.split_whitespace().map(ToOwned::to_owned).collect();
            ["echo", "icanon", "isig", "icrnl", "opost"]
                .map(|flag| all.iter().any(|word| word.trim_end_matches(';') == flag))
        };
        let (before, rest) = text.split_once("\x1b[?1049h").expect("it has had the terminal");
        let (_, after) = rest.split_once("\x1b[?1049l").expect("it has given it back");
        assert!(after.contains("a bug"), "it is told where it can be read: {text}");
        assert_eq!((flags(before), flags(after)), ([true; 5], [true; 5]), "{text}");
    }
}
