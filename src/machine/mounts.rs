//! The mount points inside an item.

use std::sync::Arc;

/// The maximum number of mount points that are remembered for one item.
pub const MOUNT_LIMIT: usize = 64;

/// The paths inside an item at which another file system begins, `.` for the item itself; sorted, at most
/// [`MOUNT_LIMIT`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mounts(Arc<[Box<[u8]>]>);

impl Mounts {
    /// Takes the first [`MOUNT_LIMIT`] of these paths.
    pub fn new(paths: impl IntoIterator<Item = Box<[u8]>>) -> Self {
        let mut paths: Vec<_> = paths.into_iter().take(MOUNT_LIMIT).collect();
        paths.sort_unstable();
        Self(paths.into())
    }

    /// The paths.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|path| &**path)
    }

    /// The first of these paths that is missing in `later`.
    pub fn first_lost(&self, later: &Self) -> Option<&[u8]> {
        self.paths().find(|path| !later.paths().any(|other| other == *path))
    }
}
