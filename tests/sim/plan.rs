//! What a seed makes of the world: who takes part, which faults strike, and how often. Every seed switches
//! each kind of fault on or off by itself, so that rare combinations come about.

use synkler::machine::{Extra, Keep, KeepModes, Lot};

use crate::readiness::Says;
use crate::rng::Rng;

/// What a node's cleanup script does when it succeeds. What a download's script makes of its item is its owner's
/// business: there, all but the first two leave it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    /// There is none.
    None,
    /// It moves the item away.
    Removes,
    /// There is none, and synkler itself moves the item away.
    Moves,
    /// It leaves the item where it is.
    Leaves,
    /// It touches the item: `chmod`, `ln`, `setfattr`.
    Touches,
    /// It takes the content out of the item: `truncate`, `find -delete`.
    Empties,
    /// It moves the item away and puts the same content back.
    Returns,
    /// It gives the item another name beside it.
    Renames,
    /// It makes a copy beside the item.
    Copies,
    /// It makes something else of the item beside it, as `gzip` does.
    Converts,
}

impl Script {
    /// Those that leave something behind.
    const MESSY: [Self; 6] = [Self::Touches, Self::Empties, Self::Returns, Self::Renames, Self::Copies, Self::Converts];
}

/// The shape of one schedule. Rates are in thousandths.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) uploads: usize,
    pub(crate) downloads: usize,
    /// How many of the world's names are used.
    pub(crate) names: usize,
    /// How many levels of permanent directories are above them.
    pub(crate) depth: usize,
    /// How users say that an item is complete.
    pub(crate) says: Says,
    /// How long faults strike, in milliseconds.
    pub(crate) faults_ms: u64,
    pub(crate) keep_ms: u64,
    pub(crate) settle_ms: u64,
    pub(crate) slots: u32,
    pub(crate) free_permille: u32,
    /// Central's `receivers`: all downloads, or every one known.
    pub(crate) receivers: bool,
    /// How far each node's clock is ahead.
    pub(crate) skew_ms: Vec<u64>,
    /// Clocks are set anew while a daemon is down.
    pub(crate) clock_jumps: bool,
    pub(crate) scripts: Vec<Script>,
    /// How many items a node's script gets at once; `None` where it gets one.
    pub(crate) lots: Vec<Option<Lot>>,
    /// A script fails where its item is missing.
    pub(crate) strict: bool,
    /// Messages.
    pub(crate) loss: u64,
    pub(crate) twice: u64,
    pub(crate) late: u64,
    pub(crate) late_ms: u64,
    /// Crashes in the midst of carrying out effects, in hundred-thousandths.
    pub(crate) crash: u64,
    pub(crate) lag: u64,
    pub(crate) batch: u64,
    pub(crate) runs_fail: u64,
    pub(crate) runs_skip: u64,
    pub(crate) runs_spoil: u64,
    pub(crate) slow: u64,
    pub(crate) storage_fails: u64,
    pub(crate) scripts_fail: u64,
    /// What receivers, and central, do about modes.
    pub(crate) keep_modes: KeepModes,
    pub(crate) central_modes: KeepModes,
    /// Central's file system keeps no modes.
    pub(crate) spool_flat: bool,
    /// Downloads whose file systems keep none.
    pub(crate) flat: Vec<bool>,
    /// Downloads on whose file systems some contents always come out wrong, in the same way.
    pub(crate) folds: Vec<bool>,
    /// Downloads whose file systems cannot hold some contents, and say so.
    pub(crate) refuses: Vec<bool>,
    /// What uploads let travel beside content and modes.
    pub(crate) keep: Keep,
    /// Whether central's file system has hard links, and whether it lacks the rest.
    pub(crate) spool_links: bool,
    pub(crate) spool_bare: bool,
    /// Downloads whose file systems keep nothing of it.
    pub(crate) bare: Vec<bool>,
    /// Items are big enough to fill central.
    pub(crate) big: bool,
    /// How many inodes central's file system has, where it has a limit.
    pub(crate) spool_inodes: Option<u64>,
    /// The same of each download's.
    pub(crate) inodes: Vec<Option<u64>>,
    /// What fills file systems up takes their inodes and not their bytes.
    pub(crate) crowds: bool,
    /// A node of another version, that shares no protocol with the others until the faults end.
    pub(crate) odd: Option<usize>,
    /// For how long what is over is remembered: longer than the latest word is late.
    pub(crate) history_ms: u64,
    /// Nodes that cannot put a marker into their directory.
    pub(crate) read_only: Vec<bool>,
    /// How many of each act.
    pub(crate) acts: Acts,
}

/// How often something happens at a random moment of the schedule.
#[derive(Debug)]
pub(crate) struct Acts {
    pub(crate) writes: u64,
    pub(crate) touches: u64,
    pub(crate) removals: u64,
    pub(crate) unfit: u64,
    pub(crate) foreign: u64,
    pub(crate) takes: u64,
    pub(crate) crashes: u64,
    pub(crate) sessions: u64,
    pub(crate) broker_down: u64,
    pub(crate) ssh_down: u64,
    pub(crate) full: u64,
    pub(crate) pauses: u64,
    pub(crate) group_pauses: u64,
    pub(crate) item_pauses: u64,
    pub(crate) retries: u64,
    pub(crate) bumps: u64,
    pub(crate) withdrawals: u64,
    /// A download goes away for long, and an operator has it forgotten.
    pub(crate) forgets: u64,
    pub(crate) rot: u64,
    /// A node loses its journal.
    pub(crate) wipes: u64,
    /// A node's journal is replaced by an older copy.
    pub(crate) restores: u64,
    /// A node forgets what is over.
    pub(crate) prunes: u64,
    /// A host's clock is set while its daemon runs.
    pub(crate) steps: u64,
    /// A node's directory goes away and comes back.
    pub(crate) no_directory: u64,
}

impl Plan {
    pub(crate) fn of(rng: &mut Rng) -> Self {
        // Of its own, so that the seeds of before still mean what they meant.
        let mut own = rng.apart();
        let uploads = rng.between(1, 3) as usize;
        let downloads = rng.between(1, 3) as usize;
        let nodes = 1 + uploads + downloads;
        let mut rate = |most: u64| if rng.chance(500) { rng.between(1, most) } else { 0 };
        let (loss, twice, late) = (rate(250), rate(250), rate(200));
        let (runs_fail, runs_skip, runs_spoil, slow) = (rate(300), rate(200), rate(200), rate(200));
        let (storage_fails, scripts_fail, lag, crash) = (rate(100), rate(500), rate(100), rate(2000));
        let acts = Acts {
            touches: rate(4),
            removals: rate(3),
            unfit: rate(2),
            foreign: rate(4),
            takes: rate(6),
            crashes: rate(5),
            sessions: rate(4),
            broker_down: rate(2),
            ssh_down: rate(2),
            full: rate(2),
            pauses: rate(2),
            group_pauses: rate(2) / 2,
            item_pauses: rate(3),
            retries: rate(4),
            bumps: rate(3),
            withdrawals: rate(3) / 2,
            forgets: rate(4) / 4,
            rot: rate(2),
            wipes: if rate(100) > 90 { 1 } else { 0 },
            restores: 0,
            prunes: 0,
            steps: 0,
            no_directory: 0,
            writes: rng.between(1, 9),
        };
        let script = |rng: &mut Rng| rng.pick(&[Script::Removes, Script::Moves, Script::Leaves, Script::None]);
        Self {
            uploads,
            downloads,
            names: rng.between(1, 4) as usize,
            depth: 0,
            says: Says::Nothing,
            faults_ms: rng.pick(&[20, 60, 300, 900]) * 1000,
            keep_ms: rng.pick(&[0, 1, 60, 600, 1800]) * 1000,
            settle_ms: rng.pick(&[0, 0, 1000, 5000]),
            slots: rng.between(1, 3) as u32,
            free_permille: rng.pick(&[0, 50, 300]),
            receivers: rng.chance(600),
            skew_ms: (0..nodes).map(|_| if rng.chance(300) { rng.below(7_200_000) } else { 0 }).collect(),
            clock_jumps: rng.chance(200),
            scripts: (0..nodes).map(|_| script(rng)).collect(),
            lots: vec![None; nodes],
            strict: rng.chance(700),
            loss,
            twice,
            late,
            late_ms: rng.pick(&[1, 10, 100, 400]) * 1000,
            crash,
            lag,
            batch: rng.between(1, 8),
            runs_fail,
            runs_skip,
            runs_spoil,
            slow,
            storage_fails,
            scripts_fail,
            keep_modes: own.pick(&[KeepModes::Try, KeepModes::Try, KeepModes::Yes, KeepModes::No]),
            central_modes: own.pick(&[KeepModes::Try, KeepModes::Try, KeepModes::Yes, KeepModes::No]),
            spool_flat: own.chance(200),
            flat: (0..downloads).map(|_| own.chance(250)).collect(),
            folds: (0..downloads).map(|_| own.chance(150)).collect(),
            refuses: (0..downloads).map(|_| own.chance(150)).collect(),
            keep: Keep::default(),
            spool_links: true,
            spool_bare: false,
            bare: vec![false; downloads],
            big: rng.chance(200),
            spool_inodes: None,
            inodes: vec![None; downloads],
            crowds: false,
            odd: None,
            history_ms: 0,
            read_only: vec![false; nodes],
            acts,
        }
    }

    /// What was thought of later, from a stream of its own: what a seed did before, it still does.
    pub(crate) fn more(&mut self, rng: &mut Rng) {
        if rng.chance(500) {
            for script in self.scripts.iter_mut().filter(|script| !matches!(script, Script::None | Script::Moves)) {
                if rng.chance(700) {
                    *script = rng.pick(&Script::MESSY);
                }
            }
        }
        self.still_more(&mut rng.apart());
        self.limit_inodes(&mut rng.apart());
        self.lose_directories(&mut rng.apart());
        self.make_lots(&mut rng.apart());
        self.depth = rng.apart().apart().pick(&[0, 0, 1, 2]);
        self.says = rng.apart().apart().apart().pick(&[Says::Nothing, Says::Nothing, Says::Marker, Says::Submit]);
        self.carry_extras(&mut rng.apart().apart().apart().apart());
    }

    /// What travels beside content and modes, and where it is lost.
    fn carry_extras(&mut self, rng: &mut Rng) {
        let asked = rng.chance(600);
        self.keep = Extra::ALL.into_iter().filter(|_| rng.chance(600) && asked).collect();
        self.spool_links = !rng.chance(150);
        self.spool_bare = rng.chance(150);
        self.bare = self.bare.iter().map(|_| rng.chance(200)).collect();
    }

    /// Scripts that get several items at once.
    fn make_lots(&mut self, rng: &mut Rng) {
        let most = if rng.chance(600) { 850 } else { 0 };
        for lot in &mut self.lots {
            let (items, bytes) = (rng.pick(&[2, 3, 100]), rng.pick(&[3, 4096, 4096]));
            *lot = rng.chance(most).then_some(Lot { items, bytes });
        }
    }

    /// Mounts that go away.
    fn lose_directories(&mut self, rng: &mut Rng) {
        if rng.chance(150) {
            self.acts.no_directory = rng.between(1, 4);
        }
        self.read_only = self.read_only.iter().map(|_| rng.chance(200)).collect();
    }

    /// What lasts for hours, comes again and again, or turns back.
    fn still_more(&mut self, rng: &mut Rng) {
        if rng.chance(50) {
            self.late = self.late.max(20);
            self.late_ms = rng.between(1, 5) * 3_600_000;
        }
        if rng.chance(100) {
            // The same name, written by all uploads in quick succession.
            self.names = 1;
            self.faults_ms = rng.pick(&[20, 60]) * 1000;
            self.acts.writes = rng.between(15, 40);
        }
        if rng.chance(50) {
            self.receivers = false;
            self.acts.forgets = rng.between(2, 5);
        }
        if rng.chance(100) {
            self.acts.steps = rng.between(1, 4);
        }
        if rng.chance(50) {
            self.acts.restores = 1;
        }
        // What one has lost, another must not have forgotten: that is a matter of days outside.
        if rng.chance(100) && self.acts.wipes + self.acts.restores == 0 {
            self.acts.prunes = rng.between(1, 6);
        }
        if rng.chance(50) {
            self.odd = Some(rng.index(1 + self.uploads + self.downloads));
        }
        // Words come late, and those for a host that is down come later.
        self.history_ms = 2 * self.late_ms + 700_000;
    }

    /// File systems that have few inodes.
    fn limit_inodes(&mut self, rng: &mut Rng) {
        let limit = |rng: &mut Rng, chance, low, high| {
            let limit = rng.between(low, high);
            rng.chance(chance).then_some(limit)
        };
        self.spool_inodes = limit(rng, 400, 30, 50);
        self.inodes = self.inodes.iter().map(|_| limit(rng, 250, 40, 90)).collect();
        self.crowds = rng.chance(300);
    }

    /// After this nothing goes wrong any more.
    pub(crate) fn calm(&mut self) {
        self.loss = 0;
        self.twice = 0;
        self.late = 0;
        self.crash = 0;
        self.lag = 0;
        self.runs_fail = 0;
        self.runs_skip = 0;
        self.runs_spoil = 0;
        self.slow = 0;
        self.storage_fails = 0;
        self.scripts_fail = 0;
    }
}
