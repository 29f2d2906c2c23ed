//! The protocol versions of a node, and whether two nodes share one.

use std::fmt;

/// The protocol versions that a node supports: all from the lowest to the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protocols {
    min: u64,
    max: u64,
}

/// How the protocol versions of a peer compare with ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Both support this version; it is the highest common one.
    Together(u64),
    /// All versions of the peer are older than ours.
    TooOld,
    /// All versions of the peer are newer than ours.
    TooNew,
}

impl Protocols {
    /// The versions that this program supports.
    pub const OURS: Self = Self { min: 2, max: 2 };

    /// From `min` to `max`; `None` if that is not a range, or begins below 1.
    pub fn new(min: u64, max: u64) -> Option<Self> {
        (1 <= min && min <= max).then_some(Self { min, max })
    }

    /// The lowest.
    pub fn min(self) -> u64 {
        self.min
    }

    /// The highest.
    pub fn max(self) -> u64 {
        self.max
    }

    /// Whether this version is in the range.
    pub fn hold(self, version: u64) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// Compares the versions of a peer with these.
    pub fn fit(self, peer: Self) -> Fit {
        if peer.max < self.min {
            Fit::TooOld
        } else if peer.min > self.max {
            Fit::TooNew
        } else {
            Fit::Together(self.max.min(peer.max))
        }
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "protocol {}", self.min)
        } else {
            write!(f, "protocols {} to {}", self.min, self.max)
        }
    }
}

impl Fit {
    /// The stable word for a peer that shares no version; `None` for one that does.
    pub fn apart(self) -> Option<&'static str> {
        match self {
            Self::Together(_) => None,
            Self::TooOld => Some("too-old"),
            Self::TooNew => Some("too-new"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_talk_in_the_highest_that_both_know() {
        let range = |min, max| Protocols::new(min, max).unwrap();
        for (ours, theirs, fit) in [
            ((2, 2), (2, 2), Fit::Together(2)),
            ((2, 4), (3, 9), Fit::Together(4)),
            ((3, 9), (2, 4), Fit::Together(4)),
            ((2, 9), (3, 4), Fit::Together(4)),
            ((2, 2), (1, 1), Fit::TooOld),
            ((2, 2), (3, 3), Fit::TooNew),
            ((3, 4), (1, 2), Fit::TooOld),
        ] {
            assert_eq!(range(ours.0, ours.1).fit(range(theirs.0, theirs.1)), fit, "{ours:?} {theirs:?}");
            let back = range(theirs.0, theirs.1).fit(range(ours.0, ours.1));
            assert_eq!(back.apart().is_some(), fit.apart().is_some(), "either both can talk or neither");
        }
        assert_eq!((Protocols::new(0, 1), Protocols::new(3, 2)), (None, None));
        assert_eq!(Protocols::OURS.fit(Protocols::OURS), Fit::Together(Protocols::OURS.max()));
    }
}
