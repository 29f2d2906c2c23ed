//! Why something waits, as a code and a text that every node can show.

use std::fmt;
use std::str::FromStr;

/// The maximum length of a detail, in bytes; a longer one is cut.
pub const DETAIL_LIMIT: usize = 300;

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)*) => {
        /// The causes of a wait. The code is stable, for scripts; the text is for people.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cause {
            $($(#[$doc])* $variant,)*
        }

        impl Cause {
            /// Every cause, in the order of a transfer's life.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable word for scripts and messages.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The text for people.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reason_codes! {
    /// The item has changed within `settle_seconds`.
    Settling = "settling", "waiting for the file to stay unchanged (settle_seconds)";
    /// A process has the item open for writing.
    Busy = "busy", "a process has the file open for writing";
    /// The directory holds something that `ignore` matches.
    Incomplete = "incomplete", "the directory is not complete";
    /// It lies in a directory that contains only directories (`item_depth`).
    TooHigh = "too-high", "the item lies above the level of items (item_depth): move it into a directory";
    /// Its marker is missing, or belongs to an earlier content (`ready = "marker"`).
    Unmarked = "unmarked", "waiting for the marker of the item (ready)";
    /// Nobody has submitted it (`ready = "submit"`).
    Unsubmitted = "unsubmitted", "waiting for synklerctl submit (ready)";
    /// It holds a fifo, socket or device.
    Special = "special", "the item contains a fifo, socket or device";
    /// The item cannot be read.
    Unreadable = "unreadable", "cannot read the item";
    /// The item is queued for its digest, or the digest is being computed.
    Hashing = "hashing", "computing the checksum";
    /// An earlier transfer of the same name is not finished.
    Predecessor = "predecessor", "waiting for an earlier transfer of the same name";
    /// Central has not answered yet.
    Central = "central", "waiting for an answer from central";
    /// The broker cannot be reached, refuses this node, or accepts no messages.
    Broker = "broker", "no session with the broker";
    /// Central knows no download in the group.
    Receivers = "receivers", "no download node has joined the group yet";
    /// A peer that the transfer needs shares no protocol version with this node.
    Protocol = "protocol", "a node uses an incompatible protocol version";
    /// Not enough free space.
    Space = "space", "not enough free space";
    /// The transfer is queued for an rsync run.
    Queued = "queued", "queued for rsync";
    /// An rsync run carries the transfer.
    Running = "running", "rsync is running";
    /// rsync or ssh failed.
    Transport = "transport", "rsync failed";
    /// The copy that arrived differs from the announced item.
    Mismatch = "mismatch", "the received copy differs from the announced item";
    /// The copy differs from the announced item in the same way as the previous copy.
    Steady = "mismatch-again", "the received copy differs from the announced item again in the same way: find the \
     cause, then retry";
    /// The file system cannot store the item.
    Unfit = "unfit", "the file system cannot store the item: change the item or the file system, then retry";
    /// The file system does not keep the modes that the config requires.
    Modes = "modes", "the file system does not keep the permission bits that keep_modes = \"yes\" requires";
    /// The copy to fetch does not exist.
    Missing = "missing", "the copy to fetch does not exist";
    /// The local file system returned an error.
    Storage = "storage", "file system error";
    /// Another file has the final name.
    NameTaken = "name-taken", "another file has the name of the item";
    /// Receivers have not given their receipts.
    Receipts = "receipts", "waiting for receipts";
    /// A peer has to acknowledge a message.
    Acknowledgement = "acknowledgement", "waiting for another node to acknowledge";
    /// The cleanup script is at work.
    Cleaning = "cleaning", "cleanup is running";
    /// The cleanup script failed.
    Cleanup = "cleanup", "cleanup failed";
    /// It changed between its receipts and the end of its cleanup script.
    Disputed = "disputed", "the item changed between its receipts and the end of its cleanup: not sent automatically, \
     retry sends it";
    /// A cleanup script has made the item.
    Leftover = "leftover", "created by the cleanup script of another item: not sent automatically, retry sends it";
    /// A file system in the item is no longer mounted.
    Unmounted = "unmounted", "a file system in the item is no longer mounted: mount it again, or retry to send the \
     item without it";
    /// Another directory is at `file_dir`, or none.
    Directory = "directory", "file_dir is not the one it was: is something not mounted?";
    /// Central keeps the copy for `keep_minutes`.
    Keeping = "keeping", "kept for keep_minutes after the last receipt";
    /// An operator paused the transfer.
    Paused = "paused", "paused by an operator";
    /// An operator cancelled the transfer.
    Withdrawn = "withdrawn", "cancelled by an operator";
    /// A peer sent a code that only newer versions know; the detail begins with the code.
    Other = "other", "reason unknown to this version of synkler";
}

impl Cause {
    /// Which of two reasons for the same transfer is shown: the one with the smaller number. First come reasons that
    /// only a person can end, then failures that are retried automatically, then waits for something outside, then
    /// running work, then normal states.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Disputed => 0,
            Self::NameTaken => 1,
            Self::Special => 2,
            Self::Protocol => 3,
            Self::Unreadable => 4,
            Self::Storage => 5,
            Self::Cleanup => 6,
            Self::Space => 7,
            Self::Unmounted => 8,
            Self::Unfit => 9,
            Self::Modes => 10,
            Self::Steady => 11,
            Self::Directory => 12,
            Self::Mismatch => 20,
            Self::Missing => 21,
            Self::Transport => 22,
            Self::Other => 23,
            Self::Broker => 40,
            Self::Receivers => 41,
            Self::Paused => 42,
            Self::Withdrawn => 43,
            Self::Central => 44,
            Self::Busy => 45,
            Self::Incomplete => 46,
            Self::Predecessor => 47,
            Self::Leftover => 48,
            Self::TooHigh => 49,
            Self::Unmarked => 50,
            Self::Unsubmitted => 51,
            Self::Running => 60,
            Self::Cleaning => 61,
            Self::Hashing => 62,
            Self::Queued => 63,
            Self::Settling => 64,
            Self::Receipts => 80,
            Self::Acknowledgement => 81,
            Self::Keeping => 82,
        }
    }

    /// Whether only a person can end this reason.
    pub fn needs_person(self) -> bool {
        self.precedence() < 20
    }

    /// The order of transfers in a list, by the cause and the number of failures in a row: 0 needs attention, 1 is
    /// running, 2 is the rest, 3 is only kept.
    pub fn urgency(self, attempts: u32) -> u8 {
        match self {
            Self::Running => 1,
            _ if attempts > 0 || self.needs_person() => 0,
            Self::Keeping => 3,
            _ => 2,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Why a text is not a [`Cause`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason code")]
pub struct UnknownCause;

impl FromStr for Cause {
    type Err = UnknownCause;
    fn from_str(text: &str) -> Result<Self, UnknownCause> {
        Self::ALL.iter().copied().find(|cause| cause.code() == text).ok_or(UnknownCause)
    }
}

/// Why something waits: a cause and optionally a detail of at most [`DETAIL_LIMIT`] bytes on one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    cause: Cause,
    detail: Box<str>,
}

impl Reason {
    /// A cause without a detail.
    pub fn new(cause: Cause) -> Self {
        Self { cause, detail: "".into() }
    }

    /// A cause with a detail. The detail is made one printable line and cut to [`DETAIL_LIMIT`].
    pub fn with(cause: Cause, detail: &str) -> Self {
        Self { cause, detail: one_line(detail).into() }
    }

    /// The cause.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// The detail; may be empty.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause.text())?;
        match (&*self.detail, self.cause.text().ends_with('?')) {
            ("", _) => Ok(()),
            (detail, false) => write!(f, ": {detail}"),
            // No colon follows a question mark.
            (detail, true) => write!(f, " ({detail})"),
        }
    }
}

impl From<Cause> for Reason {
    fn from(cause: Cause) -> Self {
        Self::new(cause)
    }
}

/// Any text as one printable line of at most [`DETAIL_LIMIT`] bytes.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }).skip_while(|c| c.is_whitespace()) {
        if line.len() + c.len_utf8() > DETAIL_LIMIT {
            break;
        }
        line.push(c);
    }
    // Cutting can leave a space at the end, too.
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_two_reasons_one_comes_first_and_whoever_needs_a_person_before_all_others() {
        for a in Cause::ALL {
            for b in Cause::ALL {
                assert_eq!(a.precedence() == b.precedence(), a == b, "{a} and {b}");
                let before = a.precedence() < b.precedence();
                assert!(before || !a.needs_person() || b.needs_person() || a == b, "{a} before {b}");
                assert!(!(a.urgency(0) == 0 && b.urgency(0) > 0) || before, "{a} before {b}");
            }
            assert_eq!(a.urgency(1), u8::from(*a == Cause::Running), "{a}");
        }
    }

    #[test]
    fn causes_read_their_codes() {
        for cause in Cause::ALL {
            assert_eq!(cause.code().parse::<Cause>().unwrap(), *cause);
        }
        assert!("nonsense".parse::<Cause>().is_err());
    }

    #[test]
    fn details_are_one_bounded_line() {
        let reason = Reason::with(Cause::Transport, &format!("a\nb\x1b[31m{}", "é".repeat(400)));
        assert!(reason.detail().len() <= DETAIL_LIMIT);
        assert!(!reason.detail().chars().any(char::is_control));
        assert_eq!(Reason::with(Cause::Space, "short").to_string(), "not enough free space: short");
    }

    #[test]
    fn one_line_of_one_line_is_the_same() {
        let cut_at_a_space = format!("{} b", "a".repeat(DETAIL_LIMIT - 1));
        for text in [&*cut_at_a_space, "a\u{7}", "\u{7} a", " \n ", "a\u{2003}", &"é".repeat(400)] {
            let line = one_line(text);
            assert_eq!(one_line(&line), line, "{text:?}");
            assert!(line.len() <= DETAIL_LIMIT && line.trim() == line, "{line:?}");
        }
    }
}
