//! Steps at which a test interrupts the work, as if the process were killed.

/// Comes before each change of the file system.
#[cfg(not(test))]
pub(super) fn step() {}

#[cfg(test)]
pub(super) use testing::{interrupted_at, meddled_at, step};

#[cfg(test)]
mod testing {
    use std::cell::{Cell, RefCell};
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    thread_local! {
        static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
        static MEDDLER: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
    }

    struct Interrupted;

    pub(in super::super) fn step() {
        let left = LEFT.get();
        LEFT.set(left.saturating_sub(1));
        if left == 0 {
            if let Some(meddler) = MEDDLER.take() {
                LEFT.set(usize::MAX);
                return meddler();
            }
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

    /// Does the work, and something else at that step; what came of the work, or nothing where it has fewer steps.
    pub(in super::super) fn meddled_at<T>(
        number: usize,
        meddler: impl FnOnce() + 'static,
        work: impl FnOnce() -> T,
    ) -> Option<T> {
        LEFT.set(number);
        MEDDLER.set(Some(Box::new(meddler)));
        let done = work();
        LEFT.set(usize::MAX);
        MEDDLER.take().is_none().then_some(done)
    }
}
