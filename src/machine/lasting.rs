//! Delays for failures that only a person can fix: a copy that arrives with the same difference twice, and an item that
//! the file system cannot store. Each attempt costs the full size, so after the second one a retry comes at most once
//! an hour.

use std::time::Duration;

use super::shared::Shared;
use super::{Cause, Differences, Digest, Fingerprint, Kind, Reason, Time};

/// The minimum time between two attempts.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// The first value of the growing delay beyond that.
const MORE_FIRST: Duration = Duration::from_secs(5 * 60);
/// The maximum of that growing delay.
const MORE_LAST: Duration = Duration::from_secs(11 * 60 * 60);
/// Attempts before the delays became long; they do not count for their length.
const QUICK: u32 = 2;

impl Cause {
    /// Whether another attempt is useless before a person has acted.
    pub fn is_lasting(self) -> bool {
        matches!(self, Self::Steady | Self::Unfit | Self::Modes)
    }
}

impl Shared {
    /// How long a transfer waits after so many failures in a row if it needs a person: an hour or more.
    pub(super) fn patience(&mut self, attempts: u32) -> Duration {
        HOUR + self.backoff(MORE_FIRST, attempts.saturating_sub(QUICK), MORE_LAST)
    }

    /// When the next attempt of a transfer is due that has waited in this way since then, maybe since before the start.
    pub(super) fn end_of_patience(&mut self, attempts: u32, since: Time) -> Time {
        let wait = self.patience(attempts);
        // If the clock was set back, the wait does not become longer.
        since.after(wait).min(self.now.after(wait))
    }
}

/// Why a copy that differs is refused. `before` is the digest of the last bad copy.
pub(super) fn mismatch(found: Fingerprint, announced: Fingerprint, kind: Kind, before: Option<Box<Digest>>) -> Reason {
    let cause = if before.as_deref() == Some(&found.digest) { Cause::Steady } else { Cause::Mismatch };
    let detail = match kind {
        Kind::File if found.size != announced.size => {
            format!("received {} bytes, announced {}", found.size, announced.size)
        }
        Kind::File | Kind::Symlink => format!("received md5 {}, announced {}", found.digest, announced.digest),
        Kind::Directory => format!("received {found}, announced {announced}"),
    };
    Reason::with(cause, &detail)
}

/// The same reason, with the differences that are now known; `None` if they change nothing. Another attempt cannot
/// separate names that the file system takes for one.
pub(super) fn explained(reason: Option<&Reason>, differences: Option<Differences>) -> Option<Reason> {
    let cause = reason?.cause();
    let Differences { text, folded } = differences?;
    let cause = match cause {
        Cause::Mismatch | Cause::Steady if folded => Cause::Unfit,
        Cause::Mismatch | Cause::Steady => cause,
        _ => return None,
    };
    Some(Reason::with(cause, &text)).filter(|told| Some(told) != reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equally_wrong_twice_needs_a_person() {
        let of = |size, digest| Fingerprint { size, digest: Digest([digest; 16]) };
        let judge = |found: Fingerprint, before: Option<Digest>| {
            mismatch(found, of(5, 1), Kind::File, before.map(Box::new)).cause()
        };
        assert_eq!(judge(of(5, 2), None), Cause::Mismatch);
        assert_eq!(judge(of(5, 2), Some(Digest([3; 16]))), Cause::Mismatch);
        assert_eq!(judge(of(5, 2), Some(Digest([2; 16]))), Cause::Steady);
        let reason = mismatch(of(7, 2), of(5, 1), Kind::File, None);
        assert_eq!(reason.detail(), "received 7 bytes, announced 5");
    }
}
