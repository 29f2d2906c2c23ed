//! Whether `file_dir` is the directory that the journal knows. Where it is not (a mount is missing, or another file system
//! is there), nothing that stands there counts, and nothing is put there.
//!
//! A directory is known by the marker that this node has put into it. Where it has none (this user may not write there, or
//! a program that removes old files has removed it), it is known by its file system and inode.

use super::random::spread;
use super::shared::Shared;
use super::{Cause, Effect, JournalId, Level, Node, Reason, Record};

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
        (Some(_), Some(_)) => Verdict::Wrong("its marker is of another journal of this node".into()),
        (Some(_), None) => Verdict::Wrong("the marker of this node is not in it".into()),
        (None, _) => Verdict::New,
    }
}

/// What has come of a look at the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing has changed.
    Same,
    /// It is not there any more.
    Lost,
    /// It is there again.
    Back,
}

impl Shared {
    /// Whether nothing may be done in the directory, because it is not the known one.
    pub(super) fn is_astray(&self) -> bool {
        self.astray.is_some()
    }

    /// The driver tells what it has found at `file_dir`.
    pub(super) fn on_directory(&mut self, found: Directory) -> Turn {
        let verdict = judge(self.directory.as_ref(), &self.me, &found);
        let turn = match (&verdict, &found) {
            (Verdict::Wrong(why), _) => self.lose(why),
            (_, Directory::Missing(why)) => self.lose(why),
            (Verdict::New, Directory::Present { id, marker }) => {
                let text = match marker {
                    Some(_) => "file_dir was marked by an earlier journal of this node: it is taken over",
                    None => "file_dir is marked as the directory of this node",
                };
                self.log(Level::Info, None, None, None, text);
                self.take_directory(*id)
            }
            (Verdict::Known, Directory::Present { id, marker }) => {
                let Some(known) = self.directory else { return Turn::Same };
                let known = KnownDirectory { id: *id, ..known };
                if marker.as_ref().is_none_or(|marker| marker.token != known.token) {
                    self.mark(known.token);
                }
                self.trust(known)
            }
        };
        self.found = Some(found);
        turn
    }

    fn lose(&mut self, why: &str) -> Turn {
        let reason = Reason::with(Cause::Directory, &format!("on {}: {why}", self.me));
        if self.astray.as_ref() == Some(&reason) {
            return Turn::Same;
        }
        self.log(Level::Error, None, None, None, format!("nothing is done in file_dir: {reason}"));
        if self.astray.replace(reason).is_some() {
            return Turn::Same;
        }
        self.trusted = None;
        self.sort_effects();
        self.effect_first(Effect::Trust(None));
        Turn::Lost
    }

    /// This directory is the node's own from now on.
    fn take_directory(&mut self, id: DirectoryId) -> Turn {
        // The random numbers of a machine decide its waits: this one is apart from them.
        let token =
            spread(self.now.as_millis() ^ spread(u64::from(self.journal.0) ^ spread(id.inode ^ id.file_system)));
        self.mark(token);
        self.trust(KnownDirectory { token, id })
    }

    fn mark(&mut self, token: u64) {
        let marker = Marker { token, journal: self.journal, node: self.me.clone() };
        self.effect(Effect::Mark(marker));
    }

    fn trust(&mut self, known: KnownDirectory) -> Turn {
        if self.directory != Some(known) {
            self.persist(Record::Directory(known));
            self.directory = Some(known);
        }
        let back = self.astray.take().is_some();
        if self.trusted != Some(known) {
            self.trusted = Some(known);
            self.sort_effects();
            self.effect_first(Effect::Trust(Some(known)));
        }
        if !back {
            return Turn::Same;
        }
        self.log(Level::Info, None, None, None, "file_dir is the known directory again: work goes on");
        Turn::Back
    }

    /// An operator says that the directory that is there now is this node's.
    pub(super) fn adopt(&mut self, by: &str) -> Result<String, String> {
        let Some(reason) = self.astray.clone() else {
            return Err("nothing to do: file_dir is the directory that the journal knows".to_owned());
        };
        match self.found {
            Some(Directory::Present { id, .. }) => {
                let text = format!("file_dir adopted by {by}; before: {reason}");
                self.log(Level::Warn, None, None, None, text);
                self.take_directory(id);
                Ok("adopted: file_dir as it is now is the directory of this node".to_owned())
            }
            Some(Directory::Missing(_)) | None => Err(format!("refused: {}", reason.detail())),
        }
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
