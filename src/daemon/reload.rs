//! Reads the config again, by the same search and in the same environment as at the start.

use tokio::sync::oneshot;

use super::Daemon;
use super::drivers::Cleanup;
use super::settings::{carries_modes, role_settings};
use crate::config::{self, ConfigError, LIVE, Loaded, Role, Settings};
use crate::control::types::Reload;
use crate::machine::InvalidLocation;

/// The caller that waits for the result.
pub(super) type Reply = oneshot::Sender<Result<Reload, String>>;
/// A config that was read, valid or not.
pub(super) type Read = (Result<Loaded, ConfigError>, Option<Reply>);

impl Daemon {
    /// Starts to read the config. The disk may be slow, so the result is handled later.
    pub(super) fn read_config(&self, reply: Option<Reply>) {
        let (origin, reads) = (self.origin.clone(), self.reads.clone());
        tokio::task::spawn_blocking(move || {
            // The daemon may have ended meanwhile.
            let _ = reads.blocking_send((origin.load(), reply));
        });
    }

    /// Applies the values that can change while the daemon runs. An invalid config changes nothing. The caller drains
    /// the effects.
    pub(super) fn take_config(&mut self, (loaded, reply): Read) {
        let outcome = match loaded {
            Ok(loaded) => {
                loaded.notices.iter().for_each(|notice| tracing::info!("{notice}"));
                self.change_to(loaded.settings).map_err(|error| super::answers::in_full(&error))
            }
            Err(error) => Err(error.problems().join("; ")),
        };
        match &outcome {
            Ok(Reload { changed, restart }) => {
                let list = |keys: &[String]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
                tracing::info!(
                    "config reloaded: changed: {}; changed after a restart: {}",
                    list(changed),
                    list(restart)
                );
            }
            Err(problems) => tracing::error!("config not reloaded, the old values stay in force: {problems}"),
        }
        if let Some(reply) = reply {
            drop(reply.send(outcome.map_err(|problems| format!("invalid config, nothing has changed: {problems}"))));
        }
    }

    fn change_to(&mut self, new: Settings) -> Result<Reload, InvalidLocation> {
        let (live, restart): (Vec<_>, Vec<_>) =
            config::differences(&self.settings, &new).into_iter().partition(|key| LIVE.contains(key));
        let names = |keys: Vec<&str>| keys.into_iter().map(str::to_owned).collect();
        if self.settings.mode() == new.mode() {
            let role = match (&self.settings.role, new.role) {
                // What other nodes have been told stays until the next start.
                (Role::Central { host, .. }, Role::Central { receivers, keep, free, keep_modes, .. }) => {
                    Role::Central { host: host.clone(), receivers, keep, free, keep_modes }
                }
                // The watch keeps its patterns.
                (Role::Upload { items, keep, .. }, Role::Upload { settle, slots, cleanup, .. }) => {
                    Role::Upload { settle, slots, cleanup, items: items.clone(), keep: *keep }
                }
                // Staging keeps whose items are.
                (Role::Download { ownership, .. }, Role::Download { slots, cleanup, keep_modes, .. }) => {
                    Role::Download { slots, cleanup, keep_modes, ownership: ownership.clone() }
                }
                (_, role) => role,
            };
            let settings = Settings { role, history: new.history, ..self.settings.clone() };
            self.machine.reconfigure(self.clock.now(), role_settings(&settings, true)?);
            self.drivers.cleanup = Cleanup::of(&settings, &self.drivers.directory, &self.drivers.inputs);
            if let Some(rsync) = &mut self.drivers.rsync {
                rsync.carry_modes(carries_modes(&settings));
            }
            self.settings = settings;
        }
        Ok(Reload { changed: names(live), restart: names(restart) })
    }
}
