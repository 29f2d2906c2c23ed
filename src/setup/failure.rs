//! Why a command ended early.

/// Wrong arguments, with clap's exit code.
pub(super) const USAGE: u8 = 2;

/// Why a command ended early, and its exit code.
pub(super) struct Failure(pub(super) u8, pub(super) String);

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(1, text)
    }
}
