//! Lines with colours, so that one rendering serves a pipe, a terminal and the live view. No content of a line can move
//! a cursor.

use super::units::{cut, printable, width, wrap};
use super::zone::Zone;

/// The narrowest layout; a narrower terminal breaks the lines itself.
pub(super) const NARROWEST: usize = 40;
/// The column at which the labels of a block of fields end.
pub(super) const LABEL: usize = 11;
/// The maximum number of lines of one field.
const FIELD_LINES: usize = 4;

/// The output for which a text is made.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The number of cells in a line.
    pub width: usize,
    /// Whether the output understands colours and bars, and the user wants them.
    pub colour: bool,
    /// The user's time zone.
    pub zone: &'a Zone,
}

impl Look<'_> {
    /// The width for the layout.
    pub(super) fn room(self) -> usize {
        self.width.max(NARROWEST)
    }
}

/// How a part of a line is highlighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Titles and table heads.
    Bold,
    /// Less important text.
    Dim,
    /// Failures.
    Red,
    /// Success, or running work.
    Green,
    /// Pauses and waits.
    Yellow,
}

/// One line of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    parts: Vec<(Option<Ink>, String)>,
}

impl Line {
    /// A line in one colour, or without colour.
    pub(super) fn new(ink: impl Into<Option<Ink>>, text: &str) -> Self {
        Self::default().and(ink, text)
    }

    /// The line with a part appended.
    pub(super) fn and(mut self, ink: impl Into<Option<Ink>>, text: &str) -> Self {
        if !text.is_empty() {
            self.parts.push((ink.into(), printable(text)));
        }
        self
    }

    /// The line with another line appended.
    pub(super) fn join(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// The width in cells.
    pub(super) fn width(&self) -> usize {
        self.parts.iter().map(|(_, text)| width(text)).sum()
    }

    /// The parts, in order, with their colours.
    pub fn parts(&self) -> impl Iterator<Item = (Option<Ink>, &str)> {
        self.parts.iter().map(|(ink, text)| (*ink, text.as_str()))
    }
}

/// Lines, from top to bottom.
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

    /// The text for a file or a terminal, with a line feed after each line; with escape sequences if colours are
    /// wanted.
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

    /// A field with a label; wrapped lines are indented.
    pub(super) fn field(&mut self, room: usize, label: &str, text: &str, ink: impl Into<Option<Ink>>) {
        let ink = ink.into();
        for (index, line) in wrap(&printable(text), room.saturating_sub(LABEL), FIELD_LINES).iter().enumerate() {
            self.labelled(if index == 0 { label } else { "" }, Line::new(ink, line));
        }
    }

    /// A line with a label, without wrapping.
    pub(super) fn labelled(&mut self, label: &str, line: Line) {
        let label = if label.is_empty() { String::new() } else { format!("{label}:") };
        self.push(Line::new(None, &format!("{label:>width$} ", width = LABEL - 1)).join(line));
    }

    /// A title after a coloured dot.
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
