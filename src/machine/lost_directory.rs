//! The state of a node whose `file_dir` is not the directory that its journal knows: it does nothing there until the
//! directory is back, or an operator adopts the new one.

use super::random::spread;
use super::shared::Shared;
use super::{Cause, Directory, DirectoryId, Effect, KnownDirectory, Level, Marker, Reason, Record, Verdict, judge};

/// The result of a report about the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing has changed.
    Same,
    /// The known directory is gone.
    Lost,
    /// The known directory is back.
    Back,
}

impl Shared {
    /// Whether the directory at `file_dir` is not the known one, so that no work may be done there.
    pub(super) fn lacks_directory(&self) -> bool {
        self.no_directory.is_some()
    }

    /// Takes the driver's report about `file_dir`.
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
                let turn = self.trust(known);
                if marker.as_ref().is_none_or(|marker| marker.token != known.token) {
                    self.mark(known.token);
                }
                turn
            }
        };
        self.found = Some(found);
        turn
    }

    fn lose(&mut self, why: &str) -> Turn {
        let reason = Reason::with(Cause::Directory, &format!("on {}: {why}", self.me));
        if self.no_directory.as_ref() == Some(&reason) {
            return Turn::Same;
        }
        self.log(Level::Error, None, None, None, format!("nothing is done in file_dir: {reason}"));
        if self.no_directory.replace(reason).is_some() {
            return Turn::Same;
        }
        self.trusted = None;
        self.sort_effects();
        self.effect_first(Effect::Trust(None));
        Turn::Lost
    }

    /// Adopts a directory.
    fn take_directory(&mut self, id: DirectoryId) -> Turn {
        // Does not use the machine's random numbers: those decide its waits, which must not change.
        let token =
            spread(self.now.as_millis() ^ spread(u64::from(self.journal.0) ^ spread(id.inode ^ id.file_system)));
        let turn = self.trust(KnownDirectory { token, id });
        // Only what is trusted is marked.
        self.mark(token);
        turn
    }

    fn mark(&mut self, token: u64) {
        let marker = Marker { token, journal: self.journal, node: self.me.clone() };
        self.effect_first(Effect::Mark(marker));
    }

    fn trust(&mut self, known: KnownDirectory) -> Turn {
        if self.directory != Some(known) {
            self.persist(Record::Directory(known));
            self.directory = Some(known);
        }
        let back = self.no_directory.take().is_some();
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

    /// Adopts the present directory by an operator's order.
    pub(super) fn adopt(&mut self, by: &str) -> Result<String, String> {
        let Some(reason) = self.no_directory.clone() else {
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
