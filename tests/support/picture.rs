//! What stands on a terminal, as a picture: SVG, with nothing but text and rectangles in it.

use std::fmt::Write;

/// One cell, in pixels.
const CELL: (f64, f64) = (8.4, 18.0);
const MARGIN: f64 = 14.0;
const PAPER: &str = "#1b1d23";
const INK: &str = "#d5d8de";
/// The colours of a terminal by number: black, red, green, yellow, blue, magenta, cyan, white.
const COLOURS: [&str; 8] = ["#1b1d23", "#e5706b", "#8cc570", "#dfb659", "#6fa8dc", "#c792ea", "#67c1c1", "#d5d8de"];

/// The screen, down to the last line with anything on it, beneath a title.
pub(crate) fn svg(screen: &vt100::Screen, title: &str) -> String {
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.into(), columns.into());
    let lines: Vec<_> = screen.rows(0, columns).collect();
    let rows = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last as u16 + 1).min(rows);
    let width = f64::from(columns).mul_add(CELL.0, 2.0 * MARGIN);
    let height = f64::from(rows + 1).mul_add(CELL.1, 2.0 * MARGIN);
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" role="img" aria-label="{title}">
<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>
<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" xml:space="preserve">
<text x="{MARGIN}" y="{:.1}" fill="{}">{}</text>"#,
        MARGIN + 13.0,
        COLOURS[4],
        escaped(title)
    );
    for row in 0..rows {
        let top = f64::from(row + 1).mul_add(CELL.1, MARGIN);
        for run in runs(screen, row, columns) {
            let left = f64::from(run.column).mul_add(CELL.0, MARGIN);
            let length = f64::from(run.cells) * CELL.0;
            if let Some(paper) = run.paper {
                let _ = writeln!(
                    svg,
                    r#"<rect x="{left:.1}" y="{top:.1}" width="{length:.1}" height="{}" fill="{paper}"/>"#,
                    CELL.1
                );
            }
            if !run.text.trim().is_empty() {
                let weight = if run.bold { r#" font-weight="bold""# } else { "" };
                let dim = if run.dim { r#" opacity="0.6""# } else { "" };
                // Every run is as long as its cells, whatever font is at hand.
                let _ = writeln!(
                    svg,
                    r#"<text x="{left:.1}" y="{:.1}" fill="{}" textLength="{length:.1}" lengthAdjust="spacingAndGlyphs"{weight}{dim}>{}</text>"#,
                    top + 13.0,
                    run.ink,
                    escaped(&run.text)
                );
            }
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// Cells beside each other that look the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    column: u16,
    cells: u16,
    text: String,
    ink: &'static str,
    paper: Option<&'static str>,
    bold: bool,
    dim: bool,
}

fn runs(screen: &vt100::Screen, row: u16, columns: u16) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column).filter(|cell| !cell.is_wide_continuation()) else { continue };
        let (mut ink, mut paper) = (colour(cell.fgcolor()), colour(cell.bgcolor()));
        if cell.inverse() {
            (ink, paper) = (paper.or(Some(PAPER)), ink.or(Some(INK)));
        }
        let text = if cell.has_contents() { cell.contents().to_owned() } else { " ".to_owned() };
        let cells = if cell.is_wide() { 2 } else { 1 };
        let run = Run { column, cells, text, ink: ink.unwrap_or(INK), paper, bold: cell.bold(), dim: cell.dim() };
        match runs.last_mut() {
            Some(last) if (last.ink, last.paper, last.bold, last.dim) == (run.ink, run.paper, run.bold, run.dim) => {
                last.cells += run.cells;
                last.text.push_str(&run.text);
            }
            _ => runs.push(run),
        }
    }
    for run in runs.iter_mut().filter(|run| run.paper.is_none()) {
        let kept = run.text.trim_end_matches(' ').len();
        run.cells -= u16::try_from(run.text.len() - kept).unwrap();
        run.text.truncate(kept);
    }
    runs
}

fn colour(colour: vt100::Color) -> Option<&'static str> {
    match colour {
        vt100::Color::Idx(number) => Some(COLOURS[usize::from(number % 8)]),
        _ => None,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
