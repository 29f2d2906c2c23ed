//! Keeps a session up: restarts it after its end, with increasing delays, and reports why it is down.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, warn};

use crate::machine::{Cause, Node, Random, Reason};

use super::fault::Fault;
use super::receive::Noted;
use super::session::{self, Ended};
use super::topology::node_word;
use super::{BrokerEvent, BrokerSettings, Ends, RECONNECT_LIMIT};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// A session that lasted this long ends a series of failures.
const HEALTHY: Duration = Duration::from_secs(5);

pub(super) async fn run(settings: BrokerSettings, mut ends: Ends) {
    let mut pauses = Pauses::new(&settings.me);
    let mut logged = BTreeSet::new();
    let mut told = None;
    let mut unserved = Unserved::default();
    let mut noted = Noted::default();
    let mut number = 0;
    loop {
        number += 1;
        let outcome = session::run(&settings, number, unserved.for_good(), &mut noted, &mut ends).await;
        let Err(Ended { fault, lasted }) = outcome else { return };
        unserved.note(&fault);
        ends.open.store(false, Ordering::Release);
        if lasted.is_some() {
            logged.clear();
            told = None;
        }
        if lasted.is_some_and(|lasted| lasted >= HEALTHY) {
            pauses.reset();
        }
        let pause = pauses.next(fault.is_lasting());
        let text = format!("{fault} ({settings})");
        if logged.insert(text.clone()) {
            warn!("no session with the broker: {text}; retrying until connected");
        } else {
            debug!(pause = ?pause, "no session with the broker: {text}");
        }
        let reason = Reason::with(Cause::Broker, &text);
        let wait = async {
            if told.as_ref() != Some(&reason) {
                told = Some(reason.clone());
                if ends.events.send(BrokerEvent::Disconnected(reason)).await.is_err() {
                    return false;
                }
            }
            sleep(pause).await;
            true
        };
        let listened_to = tokio::select! {
            _ = &mut ends.stop => return,
            listened_to = wait => listened_to,
        };
        if !listened_to {
            return;
        }
    }
}

/// A queue that cannot be consumed because it has lost its leader. RabbitMQ can lose what a quorum queue needs to elect
/// one, if RabbitMQ is killed right after the queue was created. Such a queue never recovers. Nodes repeat what they
/// owe, so deleting it loses nothing.
#[derive(Default)]
struct Unserved {
    queue: String,
    attempts: u32,
}

impl Unserved {
    const ATTEMPTS: u32 = 2;

    fn note(&mut self, fault: &Fault) {
        match fault {
            Fault::Unserved(queue) if *queue == self.queue => self.attempts += 1,
            Fault::Unserved(queue) => *self = Self { queue: queue.clone(), attempts: 1 },
            _ => *self = Self::default(),
        }
    }

    fn for_good(&self) -> Option<&str> {
        (self.attempts >= Self::ATTEMPTS).then_some(self.queue.as_str())
    }
}

/// The delays between attempts: doubled up to the limit, each shortened by up to a quarter, so that the nodes of a
/// group do not all reconnect at once. The same node always gets the same series.
struct Pauses {
    attempts: u32,
    random: Random,
}

impl Pauses {
    fn new(me: &Node) -> Self {
        // FNV-1a: any hash that differs between nodes would do.
        let seed = node_word(me)
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { attempts: 0, random: Random(seed) }
    }

    fn reset(&mut self) {
        self.attempts = 0;
    }

    fn next(&mut self, lasting: bool) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.attempts)).min(RECONNECT_LIMIT);
        self.attempts = self.attempts.saturating_add(1);
        let longest = if lasting { RECONNECT_LIMIT } else { doubled };
        let thousandths = u32::try_from(self.random.below(250)).unwrap_or(0);
        longest.saturating_sub(longest / 1000 * thousandths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Mode;

    #[test]
    fn a_queue_is_given_up_when_it_stays_without_a_leader() {
        let mut unserved = Unserved::default();
        let lost = Fault::Unserved("q".to_owned());
        unserved.note(&lost);
        assert_eq!(unserved.for_good(), None, "an election may be going on");
        unserved.note(&Fault::Login);
        unserved.note(&lost);
        assert_eq!(unserved.for_good(), None);
        unserved.note(&lost);
        assert_eq!(unserved.for_good(), Some("q"));
        unserved.note(&Fault::Unserved("other".to_owned()));
        assert_eq!(unserved.for_good(), None);
    }

    #[test]
    fn pauses_double_to_the_limit_and_differ_between_nodes() {
        let node = |name: &str| Node::new(Mode::Upload, name.parse().unwrap());
        let mut pauses = Pauses::new(&node("a"));
        let row: Vec<_> = (0..40).map(|_| pauses.next(false)).collect();
        for (attempt, pause) in row.iter().enumerate() {
            let longest = (FIRST_PAUSE * 2_u32.pow(attempt.min(10) as u32)).min(RECONNECT_LIMIT);
            assert!(*pause <= longest && *pause >= longest * 3 / 4, "attempt {attempt}: {pause:?}");
        }
        let mut others = Pauses::new(&node("b"));
        assert_ne!(row, (0..40).map(|_| others.next(false)).collect::<Vec<_>>());
        pauses.reset();
        assert!(pauses.next(false) <= FIRST_PAUSE);
        assert!(pauses.next(true) > RECONNECT_LIMIT / 2, "a person has to mend it first");
    }
}
