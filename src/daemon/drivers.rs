//! Which driver carries out which effect.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::config::Cleanup;
use crate::drivers::broker::{Broker, DeliveryTag};
use crate::drivers::cleanup;
use crate::drivers::files::{FileDir, Files, Lookout};
use crate::drivers::journal::Journal;
use crate::drivers::rsync::Rsync;
use crate::drivers::watch::Watch;
use crate::machine::{Effect, Input, ItemName, Mode, Question, TransferId};

/// Scripts that start only in the directory that is this node's.
pub(super) fn cleanup_in(
    directory: &FileDir,
    mode: Mode,
    file_dir: &Path,
    inputs: &mpsc::Sender<Input>,
) -> cleanup::Cleanup {
    let directory = directory.clone();
    cleanup::Cleanup::new(mode, file_dir.to_owned(), inputs.clone()).only_if(move || directory.enter().map(drop))
}

/// The outside world of one node.
pub(super) struct Drivers {
    pub(super) mode: Mode,
    pub(super) file_dir: PathBuf,
    pub(super) broker: Broker,
    pub(super) directory: FileDir,
    /// Held for its task, which ends with it.
    pub(super) _lookout: Lookout,
    pub(super) files: Files,
    pub(super) rsync: Option<Rsync>,
    pub(super) cleanup: Option<(Cleanup, cleanup::Cleanup)>,
    /// Held for its task, which ends with it.
    pub(super) _watch: Option<Watch>,
    pub(super) inputs: mpsc::Sender<Input>,
}

impl Drivers {
    /// Runs this script, or the one that is set after a reload.
    pub(super) fn set_cleanup(&mut self, script: Option<Cleanup>) {
        self.cleanup =
            script.map(|script| (script, cleanup_in(&self.directory, self.mode, &self.file_dir, &self.inputs)));
    }

    pub(super) fn acknowledge(&self, tags: Vec<DeliveryTag>) {
        self.broker.acknowledge(tags);
    }

    /// Asks the journal; the answer comes as an input.
    pub(super) fn look_up(&self, journal: &Arc<Journal>, question: Question) {
        let (journal, inputs) = (Arc::clone(journal), self.inputs.clone());
        tokio::spawn(async move {
            match journal.look_up(question.clone()).await {
                Ok(row) => drop(inputs.send(Input::LookedUp { question, row }).await),
                // Without an answer the offer stays unanswered too, so nothing is delivered twice for it.
                Err(error) => tracing::error!("cannot read the journal: {error}"),
            }
        });
    }

    /// What one driver tells may concern another.
    pub(super) fn overhear(&self, input: &Input) {
        if let Input::Progress { .. } = input {
            self.files.read_on();
        }
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.broker.publish(to, message),
            Effect::Hash { item, signature } => self.files.hash(item, signature),
            Effect::Look { transfer, item } => self.files.look(transfer, item),
            Effect::Take { transfer, place, name, kind, modes } => self.files.take(transfer, place, name, kind, modes),
            Effect::Verify { transfer, name, kind, digest, modes } => {
                self.files.verify(transfer, name, kind, digest, modes)
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
            Effect::Cleanup { transfer, item } => self.run_cleanup(transfer, &item),
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

    fn run_cleanup(&self, transfer: TransferId, item: &ItemName) {
        let Some((script, driver)) = &self.cleanup else {
            tracing::error!("bug: {} has no cleanup script", self.mode);
            return;
        };
        let path = self.file_dir.join(OsStr::from_bytes(item.as_bytes()));
        driver.run(transfer, item, &script.argv(item, &path), script.timeout);
    }
}
