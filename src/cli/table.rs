//! A table that fits the width. The first column is cut if there is too little room. The last text of a row is beside
//! the other columns if it fits, else below them.

use super::line::{Ink, Line, NARROWEST, Text};
use super::units::{cut, cut_middle, pad, printable, width, wrap};

/// The minimum width of the first column beside the last text.
const FIRST_ROOM: usize = 24;
/// The indentation of text below a row.
const INDENT: usize = 4;

/// One column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) head: &'static str,
    /// Wider cells are cut; the first column gets the width that the others leave.
    pub(super) most: usize,
    /// Numbers are aligned to the right.
    pub(super) right: bool,
    /// On a narrower terminal the column is left out.
    pub(super) from: usize,
}

impl Column {
    pub(super) const fn left(head: &'static str, most: usize) -> Self {
        Self { head, most, right: false, from: 0 }
    }

    pub(super) const fn right(head: &'static str, most: usize) -> Self {
        Self { head, most, right: true, from: 0 }
    }

    pub(super) const fn from(self, from: usize) -> Self {
        Self { from, ..self }
    }

    fn align(self, text: &str, room: usize) -> String {
        let text = cut(text, room);
        if self.right { format!("{}{text}", " ".repeat(room.saturating_sub(width(&text)))) } else { pad(&text, room) }
    }
}

/// Text after the columns of a row.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    pub(super) text: String,
    /// A text after the last one if it fits there, else on its own line; it is never cut.
    pub(super) end: String,
    pub(super) ink: Option<Ink>,
}

/// One row.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    /// One cell for each column.
    pub(super) cells: Vec<String>,
    /// A mark before the first cell, in its own column; for all rows or for none.
    pub(super) mark: Option<(&'static str, Ink)>,
    pub(super) tail: Tail,
}

/// Rows with their heads.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) columns: &'a [Column],
    /// The head of the last text, the minimum width for it beside the columns, and its maximum number of lines.
    pub(super) tail: (&'static str, usize, usize),
    pub(super) rows: Vec<Row>,
}

impl Table<'_> {
    /// The lines at this width.
    pub(super) fn lay(mut self, text: &mut Text, room: usize) {
        let room = room.max(NARROWEST);
        for cell in self.rows.iter_mut().flat_map(|row| &mut row.cells) {
            *cell = printable(cell);
        }
        let marked = self.rows.iter().any(|row| row.mark.is_some());
        let before = if marked { 2 } else { 0 };
        let mut columns: Vec<_> = self.columns.iter().enumerate().filter(|(_, column)| column.from <= room).collect();
        columns.retain(|(index, _)| *index == 0 || self.rows.iter().any(|row| !cell(row, *index).is_empty()));
        let widest = |(index, column): &(usize, &Column)| {
            let cells = self.rows.iter().map(|row| width(cell(row, *index)));
            cells.max().unwrap_or(0).max(column.head.len()).min(column.most)
        };
        let mut widths: Vec<_> = columns.iter().map(widest).collect();
        let others: usize = widths.iter().skip(1).map(|width| width + 2).sum();
        let free = room.saturating_sub(before + others);
        let (head, least, lines) = self.tail;
        let has_tail = self.rows.iter().any(|row| !row.tail.text.is_empty() || !row.tail.end.is_empty());
        let beside = has_tail && free >= FIRST_ROOM + 2 + least;
        if let Some(first) = widths.first_mut() {
            let most = if beside { (free * 2 / 5).max(free.min(FIRST_ROOM)) } else { free };
            *first = (*first).min(most);
        }
        let taken = before + others + widths.first().copied().unwrap_or(0);
        let (tail_room, indent) =
            if beside { (room - taken - 2, taken + 2) } else { (room - before - INDENT, before + INDENT) };

        let set = |cells: &dyn Fn(usize, &Column) -> String| {
            let mut line = String::new();
            for ((index, column), room) in columns.iter().zip(&widths) {
                let text = cells(*index, column);
                let text = if *index == 0 { cut_middle(&text, *room) } else { text };
                let gap = if *index == 0 { "" } else { "  " };
                line.push_str(&format!("{gap}{}", column.align(&text, *room)));
            }
            line
        };
        let heads = set(&|_, column| column.head.to_owned());
        let heads = if beside { format!("{heads}  {head}") } else { heads.trim_end().to_owned() };
        text.push(Line::new(Ink::Bold, &format!("{}{heads}", " ".repeat(before))));
        for row in &self.rows {
            let mut line = match row.mark {
                Some((mark, ink)) => Line::new(ink, mark).and(None, " "),
                None => Line::new(None, &" ".repeat(before)),
            };
            line = line.and(None, &set(&|index, _| cell(row, index).to_owned()));
            let mut below = wrapped(&row.tail, tail_room, lines).into_iter();
            if beside {
                line = line.and(None, "  ").and(row.tail.ink, &below.next().unwrap_or_default());
            }
            text.push(line);
            for part in below.filter(|part| !part.is_empty()) {
                text.push(Line::new(None, &" ".repeat(indent)).and(row.tail.ink, &part));
            }
        }
    }
}

fn cell(row: &Row, index: usize) -> &str {
    row.cells.get(index).map_or("", String::as_str)
}

fn wrapped(tail: &Tail, room: usize, most: usize) -> Vec<String> {
    let (text, end) = (printable(&tail.text), printable(&tail.end));
    let mut lines = wrap(&text, room, most);
    match lines.last_mut() {
        _ if end.is_empty() => {}
        Some(last) if last.is_empty() => *last = cut(&end, room),
        Some(last) if width(last) + width(&end) + 2 <= room => last.push_str(&format!("; {end}")),
        _ => lines.push(cut(&end, room)),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::left("ITEM", usize::MAX),
        Column::left("FROM", 6).from(60),
        Column::right("SIZE", 9),
        Column::left("NEVER", 9),
    ];

    fn rows() -> Vec<Row> {
        let row = |item: &str, why: &str| Row {
            cells: vec![item.to_owned(), "some-upload".to_owned(), "1.2 MB".to_owned(), String::new()],
            mark: Some(("●", Ink::Green)),
            tail: Tail { text: why.to_owned(), end: "next in 4s".to_owned(), ink: None },
        };
        vec![row("a.txt", ""), row(&"long".repeat(20), "because of this and that and something else")]
    }

    fn laid(room: usize) -> String {
        let mut text = Text::default();
        Table { columns: COLUMNS, tail: ("WHY", 20, 2), rows: rows() }.lay(&mut text, room);
        text.render(false)
    }

    #[test]
    fn it_fits_beside_or_below() {
        let expected = "\
  ITEM                          SIZE
● a.txt                       1.2 MB
      next in 4s
● longlonglonglon…onglonglo…  1.2 MB
      because of this and that and
      something else; next in 4s
";
        let laid_narrow = laid(38);
        assert!(laid_narrow.lines().all(|line| width(line) <= NARROWEST), "{laid_narrow}");
        assert_eq!(laid_narrow.lines().count(), expected.lines().count(), "{laid_narrow}");
        assert!(!laid_narrow.contains("FROM"));
        let wide = laid(100);
        assert!(wide.starts_with("  ITEM "), "{wide}");
        assert!(wide.lines().next().unwrap().ends_with("  WHY"), "{wide}");
        assert!(wide.contains("some-…  1.2 MB  next in 4s\n"), "{wide}");
        assert!(!wide.contains("NEVER"), "a column without content is left out: {wide}");
        for room in 40..200 {
            assert!(laid(room).lines().all(|line| width(line) <= room), "{room}");
        }
    }
}
