//! Patience with what only a person can mend: a copy that arrives equally wrong again and again, and what a file system
//! cannot hold. It costs its full size each time, so it is tried twice in an hour at most.

use std::time::Duration;

use super::shared::Shared;
use super::{Cause, Differences, Digest, Fingerprint, Kind, Reason, Time};

/// Between two attempts lies more than this.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// What is added to it grows from this.
const MORE_FIRST: Duration = Duration::from_secs(5 * 60);
/// And it grows to this.
const MORE_LAST: Duration = Duration::from_secs(11 * 60 * 60);
/// These many failures came before the wait was long: they do not count.
const QUICK: u32 = 2;

impl Cause {
    /// Whether another attempt is of no use before somebody has done something about it.
    pub fn is_lasting(self) -> bool {
        matches!(self, Self::Steady | Self::Unfit | Self::Modes)
    }
}

impl Shared {
    /// How long a transfer waits that has failed so many times in a row and needs a person: an hour and more.
    pub(super) fn patience(&mut self, attempts: u32) -> Duration {
        HOUR + self.backoff(MORE_FIRST, attempts.saturating_sub(QUICK), MORE_LAST)
    }

    /// When a transfer is tried again that has been waiting like this since then, maybe since before the start.
    pub(super) fn end_of_patience(&mut self, attempts: u32, since: Time) -> Time {
        let wait = self.patience(attempts);
        // A clock that was set back makes nobody wait longer.
        since.after(wait).min(self.now.after(wait))
    }
}

/// Why a copy is not taken that was found to be something else. `before` is what the last bad one was found to be.
pub(super) fn mismatch(found: Fingerprint, announced: Fingerprint, kind: Kind, before: Option<Box<Digest>>) -> Reason {
    let cause = if before.as_deref() == Some(&found.digest) { Cause::Steady } else { Cause::Mismatch };
    let detail = match kind {
        Kind::File if found.size != announced.size => {
            format!("{} bytes arrived, announced were {}", found.size, announced.size)
        }
        Kind::File | Kind::Symlink => format!("md5 {} arrived, announced was {}", found.digest, announced.digest),
        Kind::Directory => format!("{found} arrived, announced was {announced}"),
    };
    Reason::with(cause, &detail)
}

/// The same reason, now that it is known in what the copy differs; nothing where that changes nothing. Names that have
/// become one will not become two by another attempt.
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
        assert_eq!(reason.detail(), "7 bytes arrived, announced were 5");
    }
}
