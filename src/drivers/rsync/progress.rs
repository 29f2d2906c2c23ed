//! Reads rsync's `--info=progress2` output: lines that end in a carriage return, such as `       20000003  99%
//! 70.64MB/s    0:00:00 (xfr#2, to-chk=4/7)`. Other lines are ignored.

/// Longer lines are not progress lines.
const LINE_LIMIT: usize = 200;

/// The progress of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moved {
    /// Bytes of file data handled so far, including those that were there before.
    pub(super) bytes: u64,
    /// Bytes per second.
    pub(super) rate: u64,
}

/// Builds lines from the output of the pipe.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// Takes more output; returns the last progress line that it completed, if any.
    pub(super) fn feed(&mut self, output: &[u8]) -> Option<Moved> {
        let mut last = None;
        for &byte in output {
            if matches!(byte, b'\r' | b'\n') {
                if !self.too_long {
                    last = parse(&self.line).or(last);
                }
                self.line.clear();
                self.too_long = false;
            } else if self.line.len() < LINE_LIMIT {
                self.line.push(byte);
            } else {
                self.too_long = true;
            }
        }
        last
    }
}

fn parse(line: &[u8]) -> Option<Moved> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let bytes = words.next()?.parse().ok()?;
    words.next()?.strip_suffix('%')?;
    let rate = rate(words.next()?)?;
    Some(Moved { bytes, rate })
}

/// `70.64MB/s` in bytes per second; rsync uses powers of 1024.
fn rate(word: &str) -> Option<u64> {
    let word = word.strip_suffix("B/s")?;
    let (number, unit) = match word.char_indices().next_back()? {
        (at, 'k') => (word.get(..at)?, 1024.0),
        (at, 'M') => (word.get(..at)?, 1024.0 * 1024.0),
        (at, 'G') => (word.get(..at)?, 1024.0 * 1024.0 * 1024.0),
        (at, 'T') => (word.get(..at)?, 1024.0 * 1024.0 * 1024.0 * 1024.0),
        _ => (word, 1.0),
    };
    let number: f64 = number.parse().ok()?;
    // `as` saturates; text that is not a number becomes 0.
    Some((number * unit) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_however_it_is_cut() {
        let output = b"\r              3   0%    0.00kB/s    0:00:00  \r       20000003  99%    1.50MB/s    0:00:00 \
            (xfr#2, to-chk=4/7)\r       20000005 100%    2.00GB/s";
        for size in 1..output.len() {
            let mut lines = Lines::default();
            let seen: Vec<Moved> = output.chunks(size).filter_map(|part| lines.feed(part)).collect();
            assert_eq!(seen.last(), Some(&Moved { bytes: 20_000_003, rate: 1_572_864 }));
        }
    }

    #[test]
    fn garbage_is_passed_over() {
        let mut lines = Lines::default();
        for garbage in [
            "sending incremental file list\n",
            "5 files\n",
            "5 50% fast\n",
            "99999999999999999999 1% 1kB/s\n",
            "5 5% kB/s\n",
            "5 5% é/s\n",
            "-5 5% 1.0kB/s\n",
            "\n\r\n",
            "5 5% B/s\n",
        ] {
            assert_eq!(lines.feed(garbage.as_bytes()), None, "{garbage:?}");
        }
        assert_eq!(lines.feed(b"\xff\xfe 1% 1kB/s\n"), None);
        assert_eq!(lines.feed(&vec![b'1'; 1_000_000]), None);
        assert!(lines.line.len() <= LINE_LIMIT);
        assert_eq!(lines.feed(b" 1% 1.00kB/s\r7 1% 1.00kB/s\r"), Some(Moved { bytes: 7, rate: 1024 }));
    }
}
