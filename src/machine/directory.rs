//! Whether `file_dir` is the directory that the journal knows. If not (a mount is missing, or another file system is
//! there), the node ignores its content and writes nothing into it.
//!
//! The marker of this node identifies the directory. Without a marker (this user may not write there, or another
//! program removed it), the file system and the inode identify it.

use super::{JournalId, Node};

/// The identity of a directory in its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryId {
    /// The id of the file system; its type if it has no id.
    pub file_system: u64,
    /// The inode of the directory.
    pub inode: u64,
}

/// The file with which a node marks its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// A new value for each directory that a node adopts.
    pub token: u64,
    /// The journal of the node.
    pub journal: JournalId,
    /// The node that uses the directory.
    pub node: Node,
}

/// The directory that a journal knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDirectory {
    /// The token of its marker.
    pub token: u64,
    /// Its identity at the last look.
    pub id: DirectoryId,
}

/// The directory at `file_dir`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directory {
    /// It is missing or cannot be examined, and why.
    Missing(Box<str>),
    /// It is there.
    Present {
        /// Its identity.
        id: DirectoryId,
        /// The marker in it, of a node of this group and mode.
        marker: Option<Marker>,
    },
}

/// What a directory means to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The directory that the journal knows.
    Known,
    /// The journal knows no directory yet: the node adopts this one.
    New,
    /// Another directory, or none, and the evidence.
    Wrong(Box<str>),
}

impl KnownDirectory {
    /// Whether `found` is this directory, for the node `me`.
    pub fn is(&self, me: &Node, found: &Directory) -> bool {
        match found {
            Directory::Missing(_) => false,
            Directory::Present { marker: Some(marker), .. } if marker.token == self.token => true,
            // An earlier or later journal of this node has marked the same directory.
            Directory::Present { id, marker: Some(marker) } => marker.node == *me && *id == self.id,
            Directory::Present { id, marker: None } => *id == self.id,
        }
    }
}

/// Compares the directory at `file_dir` with the one that the journal knows.
pub fn judge(known: Option<&KnownDirectory>, me: &Node, found: &Directory) -> Verdict {
    let marker = match found {
        Directory::Missing(why) => return Verdict::Wrong(why.clone()),
        Directory::Present { marker, .. } => marker,
    };
    match (known, marker) {
        (Some(known), _) if known.is(me, found) => Verdict::Known,
        (_, Some(marker)) if marker.node != *me => {
            Verdict::Wrong(format!("{} uses it: give each node its own file_dir", marker.node).into())
        }
        (Some(_), Some(_)) => Verdict::Wrong("another directory is there, which this node marked earlier".into()),
        (Some(_), None) => Verdict::Wrong("another directory is there, without a marker of this node".into()),
        (None, _) => Verdict::New,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Mode;

    fn node(name: &str) -> Node {
        Node::new(Mode::Download, name.parse().unwrap())
    }

    #[test]
    fn a_directory_is_known_by_its_marker_and_without_one_by_its_place() {
        let (home, bare) = (DirectoryId { file_system: 1, inode: 2 }, DirectoryId { file_system: 3, inode: 4 });
        let known = KnownDirectory { token: 5, id: home };
        let me = node("me");
        let marker = |token, name| Some(Marker { token, journal: JournalId(9), node: node(name) });
        for (id, marker, expected) in [
            (home, marker(5, "me"), true),
            // Mounted elsewhere, or copied with its marker.
            (bare, marker(5, "me"), true),
            (home, None, true),
            // Another journal of this node has marked it in the meantime.
            (home, marker(6, "me"), true),
            (bare, None, false),
            // The mount point, which the node adopted while the mount was missing.
            (bare, marker(6, "me"), false),
            (home, marker(6, "other"), false),
        ] {
            let found = Directory::Present { id, marker };
            assert_eq!(known.is(&me, &found), expected, "{found:?}");
            assert_eq!(judge(Some(&known), &me, &found) == Verdict::Known, expected, "{found:?}");
        }
        for (id, marker) in [(home, None), (home, marker(6, "me")), (bare, marker(7, "me"))] {
            assert_eq!(judge(None, &me, &Directory::Present { id, marker }), Verdict::New, "a new journal");
        }
        let wrong = |known, found| matches!(judge(known, &me, &found), Verdict::Wrong(_));
        assert!(wrong(None, Directory::Present { id: home, marker: marker(6, "other") }));
        assert!(
            wrong(None, Directory::Missing("gone".into())) && wrong(Some(&known), Directory::Missing("gone".into()))
        );
    }
}
