//! What happens to an item, in the words that people read. A node's stage says what that node has done; the state says
//! what that means for the whole hand-over.

use super::{Cause, Mode};

macro_rules! states {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $text:literal;)*) => {
        /// What happens to an item. docs/states.md shows the same table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum State {
            $($(#[$doc])* $variant,)*
        }

        impl State {
            /// Every state, in the order of an item's life.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable word for scripts.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The meaning, for people.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

states! {
    /// The item is not a transfer yet.
    Settling = "settling", "the upload waits until the item no longer changes, or computes its checksum";
    /// The transfer waits for its turn.
    Queued = "queued", "waits for its turn to be sent or fetched";
    /// rsync sends the item to central.
    Uploading = "uploading", "rsync sends the item to central";
    /// A node compares a copy with the announced item.
    Verifying = "verifying", "a node compares its copy with the announced item";
    /// rsync fetches the item from central.
    Downloading = "downloading", "rsync fetches the item from central";
    /// The transfer waits for something else than its turn.
    Waiting = "waiting", "waits for something that ends by itself: space, a node, the broker, an earlier item";
    /// Every receiver has the item; a cleanup is not finished.
    CleaningUp = "cleaning-up", "every receiver has the item, and a cleanup is not finished yet";
    /// Only central's copy is left.
    Delivered = "delivered", "every receiver has the item and every cleanup is done; central keeps its copy for \
     keep_minutes";
    /// An order of an operator pauses the transfer.
    Paused = "paused", "an operator paused the transfer";
    /// The item cannot be sent as it is.
    Blocked = "blocked", "the upload cannot send the item as it is; the reason says why";
    /// An attempt failed, or a person has to act.
    Failed = "failed", "an attempt failed and is repeated, or a person has to act; the reason says which";
    /// The transfer was cancelled or withdrawn.
    Cancelled = "cancelled", "an operator cancelled the transfer, or its upload withdrew it";
}

impl State {
    /// What one node alone can say about a transfer, or about an item that is not a transfer yet: by its stage there,
    /// its cause and the number of failures in a row.
    pub fn of(mode: Mode, stage: &str, cause: Cause, attempts: u32) -> Self {
        match (stage, cause) {
            ("closed", _) => Self::Delivered,
            ("withdrawn" | "withdrawing", _) | (_, Cause::Withdrawn) => Self::Cancelled,
            (_, Cause::Paused) => Self::Paused,
            ("settling" | "hashing", _) => Self::Settling,
            ("blocked", Cause::Predecessor | Cause::Unmarked | Cause::Unsubmitted) | (_, Cause::Space) => Self::Waiting,
            ("blocked", _) | (_, Cause::Leftover | Cause::TooHigh) => Self::Blocked,
            (_, cause) if cause.needs_person() => Self::Failed,
            (_, Cause::Running) if mode == Mode::Download => Self::Downloading,
            (_, Cause::Running) => Self::Uploading,
            (_, Cause::Hashing) => Self::Verifying,
            (_, Cause::Cleaning) => Self::CleaningUp,
            (_, Cause::Mismatch | Cause::Missing | Cause::Transport | Cause::Other) => Self::Failed,
            (_, Cause::Queued) if attempts > 0 => Self::Failed,
            ("releasing" | "delivered", Cause::Queued) => Self::CleaningUp,
            ("placing", Cause::Queued) | ("checking" | "sent", Cause::Acknowledgement) => Self::Verifying,
            (_, Cause::Queued) => Self::Queued,
            ("freed" | "cleaned" | "released", Cause::Acknowledgement) => Self::CleaningUp,
            (_, Cause::Keeping) => Self::Delivered,
            // Arms above handle causes that need a person. Without a wildcard the compiler asks for the state of a new
            // cause.
            (
                _,
                Cause::Settling
                | Cause::Busy
                | Cause::Incomplete
                | Cause::Unmarked
                | Cause::Unsubmitted
                | Cause::Special
                | Cause::Unreadable
                | Cause::Predecessor
                | Cause::Central
                | Cause::Broker
                | Cause::Receivers
                | Cause::Protocol
                | Cause::Steady
                | Cause::Unfit
                | Cause::Modes
                | Cause::Storage
                | Cause::NameTaken
                | Cause::Receipts
                | Cause::Acknowledgement
                | Cause::Cleanup
                | Cause::Disputed
                | Cause::Unmounted
                | Cause::Directory,
            ) => Self::Waiting,
        }
    }

    /// The word for people.
    pub fn shown(self) -> &'static str {
        if self == Self::CleaningUp { "cleaning up" } else { self.as_str() }
    }

    /// If several nodes have to act on a transfer, the state with the smallest number is shown.
    fn rank(self) -> u8 {
        match self {
            Self::Failed | Self::Blocked => 0,
            Self::Uploading | Self::Downloading => 1,
            Self::Verifying => 2,
            Self::CleaningUp => 3,
            Self::Paused => 4,
            Self::Waiting => 5,
            Self::Settling | Self::Queued => 6,
            Self::Cancelled => 7,
            Self::Delivered => 8,
        }
    }
}

/// Why a text is not a [`State`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown state")]
pub struct UnknownState;

impl std::str::FromStr for State {
    type Err = UnknownState;
    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.iter().copied().find(|state| state.as_str() == text || state.shown() == text).ok_or(UnknownState)
    }
}

/// The stage, state and reason of a transfer on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing<'a> {
    /// The node's mode.
    pub mode: Mode,
    /// The node's name.
    pub name: &'a str,
    /// The stable word of the stage there.
    pub stage: &'a str,
    /// The state, as that node alone sees it.
    pub state: State,
    /// Why the transfer waits there, or what it does.
    pub cause: Cause,
    /// Download: central has its receipt.
    pub receipt: bool,
}

impl Standing<'_> {
    fn is_over(&self) -> bool {
        matches!(self.stage, "closed" | "withdrawn")
    }

    fn key(&self) -> (u8, u8, u8, &str) {
        (self.state.rank(), self.cause.precedence(), self.turn(), self.name)
    }

    /// Of equals, central comes first, then download, then upload.
    fn turn(&self) -> u8 {
        match self.mode {
            Mode::Central => 0,
            Mode::Download => 1,
            Mode::Upload => 2,
        }
    }
}

/// The node whose state and reason count for a transfer; `None` if no node knows it. Central's stage says how far the
/// hand-over is, and so which node has to act next. A reason that only a person can end comes first, on any node.
pub fn decisive<'s, 'a>(told: &'s [Standing<'a>]) -> Option<&'s Standing<'a>> {
    let central = told.iter().find(|standing| standing.mode == Mode::Central);
    let first = |is_in_hand: &dyn Fn(&Standing<'_>) -> bool| {
        let others = told.iter().filter(|standing| standing.mode != Mode::Central && !standing.is_over());
        others.filter(|standing| is_in_hand(standing)).min_by_key(|standing| standing.key())
    };
    let upload = |stages: &[&str]| first(&|it| it.mode == Mode::Upload && stages.contains(&it.stage));
    let receiver = first(&|it| it.mode == Mode::Download && !it.receipt);

    let held = central.is_some_and(|it| it.stage == "held");
    // What a receiver reported to central may be out of date: the receiver's own report counts. What central finds out
    // about its own copy counts as it is.
    let is_hearsay = |it: &Standing<'_>| it.mode == Mode::Central && held && it.cause != Cause::Storage;
    let needing = told.iter().filter(|it| !it.is_over() && it.cause.needs_person());
    let needing = needing.filter(|it| receiver.is_none() || !is_hearsay(it));
    if let Some(standing) = needing.min_by_key(|it| (it.cause.precedence(), it.turn(), it.name)) {
        return Some(standing);
    }
    let Some(central) = central else { return first(&|_| true).or(told.first()) };
    let in_hand = match (central.stage, central.cause) {
        // What upload last reported to central may be out of date.
        ("waiting", Cause::Queued) => {
            upload(&["announced", "granted"]).filter(|standing| standing.state == State::Paused)
        }
        ("waiting", _) | ("granted" | "held", Cause::Paused | Cause::Hashing | Cause::Storage) => None,
        ("granted", _) => upload(&["granted", "sending", "checking", "sent"]),
        ("held", _) => receiver,
        ("released", _) => upload(&["releasing", "cleaning", "freed"])
            .into_iter()
            .chain(first(&|it| it.mode == Mode::Download))
            .min_by_key(|standing| standing.key()),
        _ => first(&|_| true),
    };
    in_hand.or(Some(central))
}

#[cfg(test)]
mod tests {
    use super::super::{central, download, upload};
    use super::*;

    const ITEM_STAGES: [&str; 3] = ["settling", "hashing", "blocked"];

    fn stages(mode: Mode) -> Vec<&'static str> {
        match mode {
            Mode::Upload => upload::Stage::ALL.iter().map(|stage| stage.as_str()).collect(),
            Mode::Central => central::Stage::ALL.iter().map(|stage| stage.as_str()).collect(),
            Mode::Download => download::Stage::ALL.iter().map(|stage| stage.as_str()).collect(),
        }
    }

    fn standing(mode: Mode, name: &'static str, stage: &'static str, cause: Cause) -> Standing<'static> {
        Standing { mode, name, stage, state: State::of(mode, stage, cause, 0), cause, receipt: false }
    }

    /// Causes of every kind that makes a difference.
    const CAUSES: [Cause; 12] = [
        Cause::Paused,
        Cause::Space,
        Cause::Transport,
        Cause::NameTaken,
        Cause::Storage,
        Cause::Running,
        Cause::Hashing,
        Cause::Cleaning,
        Cause::Queued,
        Cause::Acknowledgement,
        Cause::Receipts,
        Cause::Keeping,
    ];

    /// Every stage of a node with each of these, and a node that does not know the transfer.
    fn all(mode: Mode, name: &'static str) -> Vec<Option<Standing<'static>>> {
        let standings = stages(mode)
            .into_iter()
            .flat_map(|stage| CAUSES.iter().map(move |cause| Some(standing(mode, name, stage, *cause))));
        standings.chain([None]).collect()
    }

    #[test]
    fn the_stages_named_here_are_those_of_the_roles() {
        let known: Vec<_> = [Mode::Upload, Mode::Central, Mode::Download].into_iter().flat_map(stages).collect();
        let source = include_str!("state.rs").split("mod tests").next().unwrap();
        let code = source.split("impl State {\n    /// What one node").nth(1).unwrap();
        for quoted in code.split('"').skip(1).step_by(2) {
            let is_state = State::ALL.iter().any(|state| state.as_str() == quoted || state.shown() == quoted);
            assert!(
                known.contains(&quoted) || quoted == "unknown state" || ITEM_STAGES.contains(&quoted) || is_state,
                "{quoted} is no stage"
            );
        }
    }

    #[test]
    fn what_a_node_alone_says_follows_from_its_stage_and_cause() {
        for (mode, stage, cause, attempts, state) in [
            (Mode::Upload, "settling", Cause::Busy, 0, State::Settling),
            (Mode::Upload, "hashing", Cause::Hashing, 0, State::Settling),
            (Mode::Upload, "blocked", Cause::Disputed, 0, State::Blocked),
            (Mode::Upload, "blocked", Cause::Predecessor, 0, State::Waiting),
            (Mode::Upload, "announced", Cause::Central, 0, State::Waiting),
            (Mode::Upload, "granted", Cause::Queued, 0, State::Queued),
            (Mode::Upload, "granted", Cause::Queued, 2, State::Failed),
            (Mode::Upload, "sending", Cause::Running, 2, State::Uploading),
            (Mode::Upload, "sent", Cause::Acknowledgement, 0, State::Verifying),
            (Mode::Upload, "releasing", Cause::Queued, 0, State::CleaningUp),
            (Mode::Upload, "freed", Cause::Acknowledgement, 0, State::CleaningUp),
            (Mode::Central, "waiting", Cause::Space, 0, State::Waiting),
            (Mode::Central, "granted", Cause::Hashing, 0, State::Verifying),
            (Mode::Central, "granted", Cause::Mismatch, 1, State::Failed),
            (Mode::Central, "held", Cause::Receipts, 0, State::Waiting),
            (Mode::Central, "released", Cause::Keeping, 0, State::Delivered),
            (Mode::Download, "wanted", Cause::Paused, 3, State::Paused),
            (Mode::Download, "pulling", Cause::Running, 0, State::Downloading),
            (Mode::Download, "verifying", Cause::Hashing, 0, State::Verifying),
            (Mode::Download, "placing", Cause::NameTaken, 0, State::Failed),
            (Mode::Download, "delivered", Cause::Cleanup, 4, State::Failed),
            (Mode::Download, "cleaned", Cause::Acknowledgement, 0, State::CleaningUp),
            (Mode::Download, "withdrawn", Cause::Withdrawn, 0, State::Cancelled),
        ] {
            assert_eq!(State::of(mode, stage, cause, attempts), state, "{mode} {stage} {cause} {attempts}");
        }
    }

    #[test]
    fn over_every_combination_the_state_is_some_nodes_own_and_hides_no_need_of_a_person() {
        let mut seen = std::collections::BTreeSet::new();
        let (uploads, centrals, downloads) =
            (all(Mode::Upload, "alpha"), all(Mode::Central, "hub"), all(Mode::Download, "delta"));
        for upload in &uploads {
            for central in &centrals {
                for download in &downloads {
                    for receipt in [false, true] {
                        let download = download.map(|standing| Standing { receipt, ..standing });
                        let told: Vec<_> = [*central, *upload, download].into_iter().flatten().collect();
                        let Some(decisive) = decisive(&told) else {
                            assert!(told.is_empty());
                            continue;
                        };
                        assert!(told.contains(decisive));
                        seen.insert(decisive.state);
                        let unfinished = || told.iter().filter(|it| !it.is_over());
                        let first_hand = |it: &&Standing<'_>| it.mode != Mode::Central || it.stage != "held";
                        if unfinished().filter(first_hand).any(|it| it.cause.needs_person()) {
                            assert!(decisive.cause.needs_person(), "{told:?}");
                        }
                        // A transfer on which a script or a receiver still works never looks delivered.
                        let open = |it: &Standing<'_>| !it.is_over() && it.state != State::Delivered;
                        let is_through = central.is_none_or(|it| it.is_over() || it.stage == "released");
                        let late = |it: &&Standing<'_>| it.mode == Mode::Download && open(it);
                        if is_through && told.iter().any(|it| late(&it)) {
                            assert_ne!(decisive.state, State::Delivered, "{told:?}");
                        }
                    }
                }
            }
        }
        let items = [State::Settling, State::Blocked];
        let missing: Vec<_> = State::ALL.iter().filter(|it| !seen.contains(it) && !items.contains(it)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn central_says_who_has_it_in_hand() {
        let up = |stage, cause| standing(Mode::Upload, "alpha", stage, cause);
        let hub = |stage, cause| standing(Mode::Central, "hub", stage, cause);
        let down = |name, stage, cause| standing(Mode::Download, name, stage, cause);
        let got = |standing| Standing { receipt: true, ..standing };
        let cases: Vec<(Vec<Standing<'_>>, State)> = vec![
            (vec![up("announced", Cause::Central)], State::Waiting),
            (vec![hub("waiting", Cause::Queued), up("announced", Cause::Central)], State::Queued),
            (vec![hub("waiting", Cause::Queued), up("announced", Cause::Paused)], State::Paused),
            (vec![hub("waiting", Cause::Receivers), up("announced", Cause::Central)], State::Waiting),
            (vec![hub("granted", Cause::Running), up("granted", Cause::Queued)], State::Queued),
            (vec![hub("granted", Cause::Queued), up("sending", Cause::Running)], State::Uploading),
            (vec![hub("granted", Cause::Running), up("sent", Cause::Acknowledgement)], State::Verifying),
            (vec![hub("granted", Cause::Hashing), up("sent", Cause::Acknowledgement)], State::Verifying),
            (vec![hub("granted", Cause::Running), up("granted", Cause::Transport)], State::Failed),
            (vec![hub("held", Cause::Receipts), up("received", Cause::Receipts)], State::Waiting),
            (
                vec![
                    hub("held", Cause::Receipts),
                    got(down("delta", "cleaning", Cause::Cleaning)),
                    down("echo", "pulling", Cause::Running),
                ],
                State::Downloading,
            ),
            (
                vec![
                    hub("held", Cause::Receipts),
                    down("delta", "wanted", Cause::Queued),
                    down("echo", "verifying", Cause::Hashing),
                ],
                State::Verifying,
            ),
            // The receiver's old report, before its next attempt.
            (vec![hub("held", Cause::NameTaken), down("delta", "placing", Cause::Queued)], State::Verifying),
            (vec![hub("held", Cause::Receipts), got(down("delta", "delivered", Cause::Cleanup))], State::Failed),
            (vec![hub("released", Cause::Keeping), down("delta", "delivered", Cause::Cleanup)], State::Failed),
            (vec![hub("released", Cause::Acknowledgement), up("received", Cause::Receipts)], State::CleaningUp),
            (vec![hub("released", Cause::Acknowledgement), up("cleaning", Cause::Cleaning)], State::CleaningUp),
            (vec![hub("released", Cause::Keeping), down("delta", "cleaning", Cause::Cleaning)], State::CleaningUp),
            (vec![hub("released", Cause::Keeping), up("closed", Cause::Acknowledgement)], State::Delivered),
            (vec![hub("closed", Cause::Acknowledgement), down("delta", "delivered", Cause::Cleanup)], State::Failed),
            (vec![hub("closed", Cause::Acknowledgement), up("closed", Cause::Acknowledgement)], State::Delivered),
        ];
        for (told, state) in cases {
            assert_eq!(decisive(&told).unwrap().state, state, "{told:?}");
        }
        let both = [up("releasing", Cause::Cleanup), down("delta", "delivered", Cause::Cleanup)];
        assert_eq!(decisive(&both).unwrap().mode, Mode::Download);
    }

    #[test]
    fn states_read_their_words() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
            assert_eq!(state.shown().parse(), Ok(*state));
        }
        assert_eq!("held".parse::<State>(), Err(UnknownState));
    }
}
