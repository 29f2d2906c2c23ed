//! What the schedules have been through: a fault that never strikes tests nothing.

/// Things that have to happen somewhere in a full run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Deed {
    Crash,
    CrashBeforeCommit,
    CrashBetweenEffects,
    Forgotten,
    SessionLost,
    MessageLost,
    MessageDoubled,
    MessageRedelivered,
    UnconfirmedLost,
    RunFailed,
    RunHalted,
    RunSpoilt,
    RunShort,
    StorageFailed,
    DiskFull,
    Rotted,
    ScriptFailed,
    Resumed,
    Placed,
    Replaced,
    Occupied,
    PlacedBefore,
    Withdrawn,
    Paused,
    GroupPaused,
    ItemPaused,
    Stopped,
    Retried,
    Bumped,
    Cancelled,
    ForgotPeer,
    Kept,
    Folded,
    Unkept,
    Refused,
    Pruned,
    Stepped,
    Unread,
    HeldForNobody,
    Insisted,
    LeftBehind,
    MadeBeside,
    RunLacksRoom,
    PutBack,
    LacksInodes,
    DirectoryLost,
    StartedWithoutDirectory,
    NotEntered,
    Together,
    TriedAlone,
    /// An operator has submitted an item.
    Submitted,
    /// The marker of an item that is gone was removed.
    Unmarked,
    /// A marker was older than what stands there.
    StaleMarker,
    /// What was announced beside content and modes stood there, too.
    Carried,
    /// Something of an item was not to travel.
    NotCarried,
}

const COUNT: usize = Deed::NotCarried as usize + 1;

/// How often each was done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tally([u64; COUNT]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

impl Tally {
    pub(crate) fn count(&mut self, deed: Deed) {
        self.0[deed as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }

    pub(crate) fn of(&self, deed: Deed) -> u64 {
        self.0[deed as usize]
    }

    /// Every deed and how often it was done.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Deed, u64)> {
        Deed::ALL.iter().map(|deed| (*deed, self.of(*deed)))
    }
}

impl Deed {
    const ALL: [Self; COUNT] = [
        Self::Crash,
        Self::CrashBeforeCommit,
        Self::CrashBetweenEffects,
        Self::Forgotten,
        Self::SessionLost,
        Self::MessageLost,
        Self::MessageDoubled,
        Self::MessageRedelivered,
        Self::UnconfirmedLost,
        Self::RunFailed,
        Self::RunHalted,
        Self::RunSpoilt,
        Self::RunShort,
        Self::StorageFailed,
        Self::DiskFull,
        Self::Rotted,
        Self::ScriptFailed,
        Self::Resumed,
        Self::Placed,
        Self::Replaced,
        Self::Occupied,
        Self::PlacedBefore,
        Self::Withdrawn,
        Self::Paused,
        Self::GroupPaused,
        Self::ItemPaused,
        Self::Stopped,
        Self::Retried,
        Self::Bumped,
        Self::Cancelled,
        Self::ForgotPeer,
        Self::Kept,
        Self::Folded,
        Self::Unkept,
        Self::Refused,
        Self::Pruned,
        Self::Stepped,
        Self::Unread,
        Self::HeldForNobody,
        Self::Insisted,
        Self::LeftBehind,
        Self::MadeBeside,
        Self::RunLacksRoom,
        Self::PutBack,
        Self::LacksInodes,
        Self::DirectoryLost,
        Self::StartedWithoutDirectory,
        Self::NotEntered,
        Self::Together,
        Self::TriedAlone,
        Self::Submitted,
        Self::Unmarked,
        Self::StaleMarker,
        Self::Carried,
        Self::NotCarried,
    ];
}
