//! Whether `file_dir` is the directory that the journal knows. Where it is not (a mount is missing, or another file system
//! is there), nothing that stands there counts, and nothing is put there.
//!
//! A directory is known by the marker that this node has put into it. Where it has none (this user may not write there, or
//! a program that removes old files has removed it), it is known by its file system and inode.

use super::{JournalId, Node};

/// Which directory it is, as its file system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryId {
    /// The file system's id; its kind where it has none.
    pub file_system: u64,
    /// The directory's inode.
    pub inode: u64,
}

/// What a node has put into its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// Another one for every directory that a node takes as its own.
    pub token: u64,
    /// The journal that knows it.
    pub journal: JournalId,
    /// Whose directory it is.
    pub node: Node,
}

/// The directory that a journal knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDirectory {
    /// What its marker says.
    pub token: u64,
    /// Where it was last.
    pub id: DirectoryId,
}

/// What is found at `file_dir`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directory {
    /// There is none, or it cannot be looked at, and why.
    Missing(Box<str>),
    /// A directory.
    Present {
        /// Which one.
        id: DirectoryId,
        /// The marker in it, of a node of this group and mode.
        marker: Option<Marker>,
    },
}

/// What a directory is to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The one that the journal knows.
    Known,
    /// The journal knows none yet: it becomes this one.
    New,
    /// Another one, or none, and what tells so.
    Wrong(Box<str>),
}

impl KnownDirectory {
    /// Whether this is the one, to that node.
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

/// What is found, to a node whose journal knows this one.
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
            // Another journal of this node was here meanwhile.
            (home, marker(6, "me"), true),
            (bare, None, false),
            // What the node had taken for its own while the mount was missing.
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
