//! Sizes, durations and widths for people.

use unicode_width::UnicodeWidthChar;

fn cells(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The width of a printable text in terminal cells.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(cells).sum()
}

/// A text that cannot move a cursor or change the direction of text. Characters that are not printable, or have no
/// width, are escaped. Backslashes stay, because item names arrive escaped already.
pub(super) fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '"' | '\'' => line.push(c),
            _ if cells(c) == 0 && !c.is_control() => line.extend(c.escape_unicode()),
            _ => line.extend(c.escape_debug()),
        }
    }
    line
}

fn head(text: &str, room: usize) -> &str {
    let mut used = 0;
    let fits = |(_, c): &(usize, char)| {
        used += cells(*c);
        used <= room
    };
    let end = text.char_indices().take_while(fits).last().map_or(0, |(at, c)| at + c.len_utf8());
    text.get(..end).unwrap_or_default()
}

fn tail(text: &str, room: usize) -> &str {
    let mut used = 0;
    let fits = |(_, c): &(usize, char)| {
        used += cells(*c);
        used <= room
    };
    let start = text.char_indices().rev().take_while(fits).last().map_or(text.len(), |(at, _)| at);
    text.get(start..).unwrap_or_default()
}

/// A text cut to `room` cells at its end.
pub(super) fn cut(text: &str, room: usize) -> String {
    if width(text) <= room { text.to_owned() } else { format!("{}…", head(text, room.saturating_sub(1))) }
}

/// A text cut to `room` cells in its middle, so that a file name keeps its suffix.
pub(super) fn cut_middle(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let behind = room.saturating_sub(1) / 3;
    let before = room.saturating_sub(1 + behind);
    format!("{}…{}", head(text, before), tail(text, behind))
}

/// Below this number, inodes may run out before bytes.
const FEW_INODES: u64 = 10_000;

/// The number of free inodes, if it is low.
pub(super) fn few_inodes(free: Option<u64>) -> Option<String> {
    free.filter(|free| *free < FEW_INODES)
        .map(|free| if free == 1 { "1 inode free".to_owned() } else { format!("{free} inodes free") })
}

/// A text filled with spaces to `room` cells.
pub(super) fn pad(text: &str, room: usize) -> String {
    format!("{text}{}", " ".repeat(room.saturating_sub(width(text))))
}

/// A text in lines of at most `room` cells, broken at spaces if possible; what does not fit into `lines` lines is cut.
pub(super) fn wrap(text: &str, room: usize, lines: usize) -> Vec<String> {
    let mut wrapped = Vec::new();
    let mut rest = text;
    while wrapped.len() + 1 < lines && width(rest) > room {
        let fits = head(rest, room);
        // A break leaves at least a third of the line filled; otherwise the word is broken.
        let at = fits.rfind(' ').filter(|at| *at > fits.len() / 3).unwrap_or(fits.len());
        let (line, left) = rest.split_at_checked(at).unwrap_or((rest, ""));
        if line.is_empty() {
            break;
        }
        wrapped.push(line.trim_end().to_owned());
        rest = left.trim_start();
    }
    wrapped.push(cut(rest, room));
    wrapped
}

/// `300 MB`: powers of 1000, two or three digits.
pub(super) fn size(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// `5min 3s`: the largest relevant units, at most `units` of them.
pub(super) fn span(millis: u64, units: usize) -> String {
    let mut left = millis / 1000;
    let mut parts = Vec::new();
    for (name, seconds) in [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)] {
        let count = left / seconds;
        left %= seconds;
        if count > 0 {
            parts.push(format!("{count}{name}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == units {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// `5min 3s ago`.
pub(super) fn ago(then: u64, now: u64) -> String {
    match now.saturating_sub(then) {
        0..1000 => "just now".to_owned(),
        millis => format!("{} ago", span(millis, 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9949, "9.9 kB"),
            (9950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (300_000_000, "300 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn spans() {
        for (millis, units, text) in [
            (0, 2, "0s"),
            (999, 2, "0s"),
            (12_000, 2, "12s"),
            (303_000, 2, "5min 3s"),
            (303_000, 1, "5min"),
            (3_600_000, 2, "1h"),
            (3_605_000, 2, "1h"),
            (4_260_000, 2, "1h 11min"),
            (90_000_000, 2, "1d 1h"),
        ] {
            assert_eq!(span(millis, units), text);
        }
    }

    #[test]
    fn cuts_keep_to_the_room_in_cells() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
        assert_eq!(cut("漢字漢字", 6), "漢字…");
        assert_eq!(cut_middle("a long name.txt", 10), "a long…txt");
        for room in 0..20 {
            for text in ["漢字漢字漢字漢字漢字.txt", "plain text that is long", "é🎉é🎉é🎉é🎉é🎉"]
            {
                assert!(width(&cut(text, room)) <= room.max(1), "{room}");
                assert!(width(&cut_middle(text, room)) <= room.max(1), "{room}");
                assert!(wrap(text, room, 3).iter().all(|line| width(line) <= room.max(1)), "{room}");
            }
        }
    }

    #[test]
    fn wrapping_breaks_at_spaces_and_ends() {
        assert_eq!(wrap("one two three", 8, 3), ["one two", "three"]);
        assert_eq!(wrap("onetwothreefour", 8, 3), ["onetwoth", "reefour"]);
        assert_eq!(wrap("one two three four five", 8, 2), ["one two", "three f…"]);
        assert_eq!(wrap("", 8, 2), [""]);
    }

    #[test]
    fn nothing_printed_moves_a_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\\x1b\n"), "a\\u{1b}[2Jb\\u{202e}c\\x1b\\n");
        // Control characters of both ranges, bidirectional controls, and characters without width.
        let harmful = ('\0'..' ').chain('\u{7f}'..'\u{a0}').chain([
            '\u{61c}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}',
            '\u{202b}', '\u{202c}', '\u{202d}', '\u{2060}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}', '\u{feff}',
            '\u{301}', '\u{fe0f}', '\u{1160}',
        ]);
        for c in harmful {
            let text = printable(&c.to_string());
            assert!(text.starts_with('\\') && text.is_ascii(), "{:?} is shown as {text:?}", c);
            assert_eq!(printable(&text), text);
        }
    }
}
