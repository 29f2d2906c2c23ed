//! Lines with ink, so that one rendering serves a pipe, a terminal and the live view. Nothing in them can move a
//! cursor, whatever they are made of.

use super::units::{cut, printable, width, wrap};
use super::zone::Zone;

/// The narrowest layout; a narrower terminal breaks the lines itself.
pub(super) const NARROWEST: usize = 40;
/// The labels of a block of fields end here.
pub(super) const LABEL: usize = 11;
/// The most lines one field takes.
const FIELD_LINES: usize = 4;

/// What a text is made for.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// Cells in a line.
    pub width: usize,
    /// Whether colours and bars are understood and wanted.
    pub colour: bool,
    /// The user's time zone.
    pub zone: &'a Zone,
}

impl Look<'_> {
    /// The width to lay out for.
    pub(super) fn room(self) -> usize {
        self.width.max(NARROWEST)
    }
}

/// How a part of a line is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Titles and heads of tables.
    Bold,
    /// What matters less.
    Dim,
    /// What is broken.
    Red,
    /// What is well, or at work.
    Green,
    /// What is held up.
    Yellow,
}

/// One line of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    parts: Vec<(Option<Ink>, String)>,
}

impl Line {
    /// A line all in one ink, or in none.
    pub(super) fn new(ink: impl Into<Option<Ink>>, text: &str) -> Self {
        Self::default().and(ink, text)
    }

    /// The line with more behind it.
    pub(super) fn and(mut self, ink: impl Into<Option<Ink>>, text: &str) -> Self {
        if !text.is_empty() {
            self.parts.push((ink.into(), printable(text)));
        }
        self
    }

    /// The line with all of another behind it.
    pub(super) fn join(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// How many cells it takes.
    pub(super) fn width(&self) -> usize {
        self.parts.iter().map(|(_, text)| width(text)).sum()
    }

    /// The parts, in order, and their inks.
    pub fn parts(&self) -> impl Iterator<Item = (Option<Ink>, &str)> {
        self.parts.iter().map(|(ink, text)| (*ink, text.as_str()))
    }
}

/// Lines, the first one on top.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// The lines.
    pub lines: Vec<Line>,
}

impl Text {
    /// One line.
    pub(super) fn of(line: &str) -> Self {
        Self { lines: vec![Line::new(None, line)] }
    }

    /// The text as it is written to a file or a terminal, with a line feed behind each line; with escape sequences
    /// where colours are wanted.
    pub fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let mut rest = String::new();
            for (ink, part) in line.parts() {
                match ink.filter(|_| colour) {
                    Some(ink) => rest.push_str(&format!("\x1b[{}m{part}\x1b[0m", code(ink))),
                    None => rest.push_str(part),
                }
            }
            text.push_str(rest.trim_end());
            text.push('\n');
        }
        text
    }

    pub(super) fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// A labelled text, wrapped below itself.
    pub(super) fn field(&mut self, room: usize, label: &str, text: &str, ink: impl Into<Option<Ink>>) {
        let ink = ink.into();
        for (index, line) in wrap(&printable(text), room.saturating_sub(LABEL), FIELD_LINES).iter().enumerate() {
            self.labelled(if index == 0 { label } else { "" }, Line::new(ink, line));
        }
    }

    /// A labelled line, as it is.
    pub(super) fn labelled(&mut self, label: &str, line: Line) {
        let label = if label.is_empty() { String::new() } else { format!("{label}:") };
        self.push(Line::new(None, &format!("{label:>width$} ", width = LABEL - 1)).join(line));
    }

    /// A title behind a dot that says how it is.
    pub(super) fn title(&mut self, room: usize, dot: (&str, Ink), title: &str) {
        let title = cut(&printable(title), room.saturating_sub(2));
        self.push(Line::new(dot.1, dot.0).and(None, " ").and(Ink::Bold, &title));
    }
}

const fn code(ink: Ink) -> u8 {
    match ink {
        Ink::Bold => 1,
        Ink::Dim => 2,
        Ink::Red => 31,
        Ink::Green => 32,
        Ink::Yellow => 33,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_move_a_cursor_and_keeps_its_ink() {
        let line = Line::new(Ink::Red, "a\x1b[2J\r\n\u{9b}").and(None, "").and(None, "b\u{202e}  ");
        let text = Text { lines: vec![line] };
        assert_eq!(text.render(false), "a\\u{1b}[2J\\r\\n\\u{9b}b\\u{202e}\n");
        assert_eq!(text.render(true), "\x1b[31ma\\u{1b}[2J\\r\\n\\u{9b}\x1b[0mb\\u{202e}\n");
    }

    #[test]
    fn fields_wrap_below_themselves() {
        let mut text = Text::default();
        text.field(30, "Broker", "not connected since ever and ever", Ink::Red);
        text.title(8, ("●", Ink::Green), "central hub");
        assert_eq!(text.render(false), "   Broker: not connected\n           since ever and ever\n● centr…\n");
    }
}
