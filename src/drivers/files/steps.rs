//! Steps at which a test interrupts the work, as if the process were killed.

/// Comes before each change of the file system.
#[cfg(not(test))]
pub(super) fn step() {}

#[cfg(test)]
pub(super) use testing::{interrupted_at, step};

#[cfg(test)]
mod testing {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    thread_local! {
        static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    struct Interrupted;

    pub(in super::super) fn step() {
        let left = LEFT.get();
        LEFT.set(left.saturating_sub(1));
        if left == 0 {
            resume_unwind(Box::new(Interrupted));
        }
    }

    /// Does the work up to that step, as if the process were killed there; what came of it, where it has fewer steps.
    pub(in super::super) fn interrupted_at<T>(number: usize, work: impl FnOnce() -> T) -> Option<T> {
        LEFT.set(number);
        let done = catch_unwind(AssertUnwindSafe(work));
        LEFT.set(usize::MAX);
        match done {
            Ok(done) => Some(done),
            Err(panic) if panic.is::<Interrupted>() => None,
            Err(panic) => resume_unwind(panic),
        }
    }
}
