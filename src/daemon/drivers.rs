//! Which driver carries out which effect.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::settings::cleanup_of;
use crate::config::{self, Script, Settings};
use crate::drivers::broker::{Broker, DeliveryTag};
use crate::drivers::cleanup;
use crate::drivers::files::{Disposal, FileDir, Files, Lookout, is_untouched};
use crate::drivers::journal::Journal;
use crate::drivers::rsync::Rsync;
use crate::drivers::watch::Watch;
use crate::machine::{Cause, CleanupItem, Cleared, Effect, Input, Mode, Question, Reason};

/// The drivers of one node.
pub(super) struct Drivers {
    pub(super) mode: Mode,
    pub(super) file_dir: PathBuf,
    pub(super) broker: Broker,
    pub(super) directory: FileDir,
    /// Held for its task, which ends with it.
    pub(super) _lookout: Lookout,
    pub(super) files: Files,
    pub(super) rsync: Option<Rsync>,
    pub(super) cleanup: Option<Cleanup>,
    /// Held for its task, which ends with it.
    pub(super) _watch: Option<Watch>,
    pub(super) inputs: mpsc::Sender<Input>,
}

/// What is done with delivered items, and by which driver.
pub(super) enum Cleanup {
    Script(Script, cleanup::Runner, FileDir),
    Own(Disposal, FileDir),
}

impl Cleanup {
    /// As the settings want it, and only in the directory of this node.
    pub(super) fn of(settings: &Settings, directory: &FileDir, inputs: &mpsc::Sender<Input>) -> Option<Self> {
        let (file_dir, directory) = (settings.file_dir.clone(), directory.clone());
        match cleanup_of(settings)? {
            config::Cleanup::Script(script) => {
                let (node, group) = (settings.node.clone(), settings.group.to_string());
                let driver = cleanup::Runner::new(cleanup::Place { node, group, file_dir }, inputs.clone());
                let home = directory.clone();
                Some(Self::Script(script, driver.only_if(move || home.enter().map(drop)), directory))
            }
            config::Cleanup::Move(into) => Some(Self::Own(Disposal::new(file_dir, Some(into)), directory)),
            config::Cleanup::Delete => Some(Self::Own(Disposal::new(file_dir, None), directory)),
        }
    }
}

impl Drivers {
    pub(super) fn acknowledge(&self, tags: Vec<DeliveryTag>) {
        self.broker.acknowledge(tags);
    }

    /// Queries the journal; the answer comes as an input.
    pub(super) fn look_up(&self, journal: &Arc<Journal>, question: Question) {
        let (journal, inputs) = (Arc::clone(journal), self.inputs.clone());
        tokio::spawn(async move {
            match journal.look_up(question.clone()).await {
                Ok(row) => drop(inputs.send(Input::LookedUp { question, row }).await),
                // Without an answer the offer stays unanswered too, so nothing is delivered twice.
                Err(error) => tracing::error!("cannot read the journal: {error}"),
            }
        });
    }

    /// An input from one driver may matter to another.
    pub(super) fn overhear(&self, input: &Input) {
        if let Input::Progress { .. } = input {
            self.files.read_on();
        }
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.broker.publish(to, message),
            Effect::Hash { item, signature } => self.files.hash(item, signature),
            Effect::Unmark(item) => self.files.unmark(item),
            Effect::Look { transfer, item } => self.files.look(transfer, item),
            Effect::Take { transfer, place, name, kind, attributes } => {
                self.files.take(transfer, place, name, kind, attributes);
            }
            Effect::Verify { transfer, name, kind, digest, attributes } => {
                self.files.verify(transfer, name, kind, digest, attributes);
            }
            Effect::Place { transfer, name, inode, replace } => self.files.place(transfer, name, inode, replace),
            Effect::Drop(transfer) => self.files.discard(transfer),
            Effect::DropPlace(place) => self.files.discard_place(place),
            Effect::DropArrival { place, name } => self.files.discard_arrival(place, name),
            Effect::Sweep { transfers, places } => self.files.sweep(transfers, &places),
            Effect::Trust(known) => self.files.trust(known),
            Effect::Mark(marker) => self.files.mark(&marker),
            Effect::Measure => self.files.measure(),
            Effect::Run(run) => {
                self.files.expect(&run);
                self.with_rsync(|rsync| rsync.start(run));
            }
            Effect::Halt(run) => self.with_rsync(|rsync| rsync.halt(run)),
            Effect::Cleanup(items) => self.clean_up(items),
            // The loop keeps these to itself.
            Effect::Persist(_) | Effect::Lookup(_) | Effect::Log(_) | Effect::Explain { .. } => {}
        }
    }

    fn with_rsync(&mut self, act: impl FnOnce(&mut Rsync)) {
        match &mut self.rsync {
            Some(rsync) => act(rsync),
            None => tracing::error!("bug: {} has no rsync", self.mode),
        }
    }

    fn clean_up(&self, items: Vec<CleanupItem>) {
        match (&self.cleanup, items.as_slice()) {
            (Some(Cleanup::Script(script, driver, directory)), [_]) => self.run(script, driver, directory, items),
            (Some(Cleanup::Script(script, driver, directory)), _) if script.takes_all() => {
                self.run(script, driver, directory, items);
            }
            (Some(Cleanup::Own(disposal, directory)), [item]) => {
                self.dispose(disposal.clone(), directory.clone(), item.clone());
            }
            // The machine decided on it before the config was reloaded: it tries each alone.
            (Some(_), _) => {
                let inputs = self.inputs.clone();
                tokio::spawn(async move {
                    for item in items {
                        let outcome = Err(Reason::with(Cause::Cleanup, "cleanup_script has just been changed"));
                        let _ = inputs.send(Input::Cleaned { transfer: item.transfer, outcome }).await;
                    }
                });
            }
            (None, _) => tracing::error!("bug: {} has no cleanup", self.mode),
        }
    }

    /// Starts a script for those of the items that are still as they were delivered.
    fn run(&self, script: &Script, driver: &cleanup::Runner, directory: &FileDir, items: Vec<CleanupItem>) {
        let (script, driver, directory, inputs) =
            (script.clone(), driver.clone(), directory.clone(), self.inputs.clone());
        let file_dir = self.file_dir.clone();
        tokio::spawn(async move {
            let (home, asked) = (file_dir.clone(), items.clone());
            let look = move || -> Vec<_> {
                let look = |item| match directory.enter() {
                    Ok(_entered) => is_untouched(&home, item),
                    Err(why) => Err(why),
                };
                asked.iter().map(look).collect()
            };
            let Ok(looks) = tokio::task::spawn_blocking(look).await else { return };
            let mut fit = Vec::new();
            for (item, look) in items.into_iter().zip(looks) {
                let outcome = match look {
                    Ok(true) => {
                        fit.push(item);
                        continue;
                    }
                    Ok(false) => Ok(Cleared::Changed),
                    Err(why) => Err(why),
                };
                // Nobody listens any more only when the daemon is on its way out.
                let _ = inputs.send(Input::Cleaned { transfer: item.transfer, outcome }).await;
            }
            let path = |item: &CleanupItem| file_dir.join(OsStr::from_bytes(item.item.as_bytes()));
            if script.takes_all() && !fit.is_empty() {
                let argv = script.argv_of_all(&fit.iter().map(path).collect::<Vec<_>>());
                driver.run_for_all(&fit, &argv, script.timeout);
            } else if let [item] = fit.as_slice() {
                driver.run(item, &script.argv(&item.item, &path(item)), script.timeout);
            }
        });
    }

    fn dispose(&self, disposal: Disposal, directory: FileDir, item: CleanupItem) {
        let inputs = self.inputs.clone();
        // Not on a thread of the files' own: a copy to another file system may take hours.
        tokio::spawn(async move {
            let transfer = item.transfer;
            let run = move || {
                // Keeps the directory open until the item is gone.
                let _entered = directory.enter()?;
                disposal.run(transfer, &item.item, item.signature, &item.fingerprint)
            };
            let outcome = tokio::task::spawn_blocking(run).await.unwrap_or_else(|failed| {
                tracing::error!("bug: a cleanup failed: {failed}");
                Err(Reason::with(Cause::Cleanup, "internal error; see the log"))
            });
            // Nobody listens any more only when the daemon is on its way out.
            let _ = inputs.send(Input::Cleaned { transfer, outcome }).await;
        });
    }
}
