//! Chance from a seed: the same seed, the same run.

use synkler::machine::{Random, spread};

/// The machine's own generator, with what a schedule is chosen by.
pub(crate) struct Rng(Random);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d))
    }

    /// Another one that follows from this one, which stays as it is.
    pub(crate) fn apart(&self) -> Self {
        Self(Random(spread(self.0.0 ^ 0x6a09_e667_f3bc_c908)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// A number below `end`; 0 where `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    /// An index below `end`.
    pub(crate) fn index(&mut self, end: usize) -> usize {
        self.0.index(end)
    }

    /// A number of `low..=high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `permille` times of a thousand.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.below(1000) < permille
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// Milliseconds: mostly short, now and then up to `long`.
    pub(crate) fn wait(&mut self, short: u64, long: u64, long_permille: u64) -> u64 {
        if self.chance(long_permille) { self.between(short, long.max(short)) } else { self.between(1, short.max(1)) }
    }
}
