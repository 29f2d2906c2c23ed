//! The clocks of the group: how far they differ from this host's clock.

use std::future::Future;
use std::pin::Pin;

use tokio::time::timeout;

use super::{LOCAL_LIMIT, between, failed, ok, skipped, warning};
use crate::control::types::Finding;
use crate::machine::{Node, Time};

const CHECK: &str = "clock";
/// From this difference on the check warns: times of different nodes can no longer be compared.
const NOTABLE: u64 = 2_000;
/// From this difference on the check fails.
const TOO_FAR: u64 = 60_000;

/// What one node answered when it was asked for the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The node.
    pub node: Node,
    /// When it was asked, its answer, and when the answer arrived; or why there was none.
    pub said: Result<(Time, Time, Time), String>,
}

/// A clock compared with this host's, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Distance {
    /// How far it is ahead, most likely.
    ahead: i64,
    /// The difference at least: the time of the question and the answer could account for the rest.
    sure: u64,
}

fn distance((asked, theirs, heard): (Time, Time, Time)) -> Distance {
    let way = between(asked, heard).max(0);
    let ahead = between(asked, theirs).saturating_sub(way / 2);
    Distance { ahead, sure: ahead.unsigned_abs().saturating_sub(way.unsigned_abs().div_ceil(2)) }
}

pub(super) async fn examine(
    clocks: Option<Pin<Box<dyn Future<Output = Vec<Reading>> + Send>>>,
    daemon_ahead: i64,
) -> Finding {
    let Some(clocks) = clocks else {
        return skipped(CHECK, "only the running daemon can compare clocks with other nodes: synklerctl check");
    };
    match timeout(LOCAL_LIMIT, clocks).await {
        Ok(readings) => word(&readings, daemon_ahead),
        Err(_) => skipped(CHECK, "cannot ask the other nodes for the time"),
    }
}

fn word(readings: &[Reading], daemon_ahead: i64) -> Finding {
    if daemon_ahead.unsigned_abs() >= NOTABLE {
        let text = format!(
            "the daemon's time is {} this host's clock, because the clock was set after the daemon started",
            apart(daemon_ahead)
        );
        return warning(CHECK, text, "systemctl restart synkler");
    }
    let known: Vec<_> = readings
        .iter()
        .filter_map(|Reading { node, said }| said.as_ref().ok().map(|said| (node, distance(*said))))
        .collect();
    let silent = || {
        let mut names =
            readings.iter().filter_map(|Reading { node, said }| said.as_ref().err().map(|_| node.to_string()));
        names.next().map(|first| names.fold(format!("; no answer from {first}"), |all, name| format!("{all}, {name}")))
    };
    let Some(farthest) = known.iter().map(|(_, distance)| distance.sure).max() else {
        let why = if readings.is_empty() { "no other node is alive" } else { "no other node has sent its time" };
        return skipped(CHECK, why);
    };
    if farthest < NOTABLE {
        let text = format!("{} other nodes agree within {} ms", known.len(), farthest.max(1));
        return ok(CHECK, text + &silent().unwrap_or_default());
    }
    let off: Vec<_> = known.iter().filter(|(_, distance)| distance.sure >= NOTABLE).collect();
    let clocks = off
        .iter()
        .map(|(node, Distance { ahead, .. })| format!("the clock of {node} is {} this node's clock", apart(*ahead)));
    let text = clocks.collect::<Vec<_>>().join("; ") + &silent().unwrap_or_default();
    let mend = "timedatectl set-ntp true, then systemctl restart synkler";
    let all = known.len() > 1 && off.len() == known.len() && {
        let (least, most) = known.iter().fold((i64::MAX, i64::MIN), |(least, most), (_, Distance { ahead, .. })| {
            (least.min(*ahead), most.max(*ahead))
        });
        most.abs_diff(least) < NOTABLE
    };
    let cure = if all {
        format!("all other nodes agree, so on this host: {mend}")
    } else {
        format!("on the host with the wrong clock (see date -u): {mend}")
    };
    if farthest < TOO_FAR { warning(CHECK, text, cure) } else { failed(CHECK, text, cure) }
}

fn apart(ahead: i64) -> String {
    let seconds = ahead.unsigned_abs().saturating_add(500) / 1000;
    let way = if ahead < 0 { "behind" } else { "ahead of" };
    match seconds {
        0..120 => format!("{seconds} s {way}"),
        120..7200 => format!("{} min {} s {way}", seconds / 60, seconds % 60),
        _ => format!("{} h {} min {way}", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Mode;

    fn reading(name: &str, asked: u64, theirs: u64, heard: u64) -> Reading {
        let moment = Time::from_millis;
        let node = Node::new(Mode::Download, name.parse().unwrap());
        Reading { node, said: Ok((moment(asked), moment(theirs), moment(heard))) }
    }

    #[test]
    fn half_the_way_is_allowed_for() {
        let moment = Time::from_millis;
        let told = |asked, theirs, heard| {
            let Distance { ahead, sure } = distance((moment(asked), moment(theirs), moment(heard)));
            (ahead, sure)
        };
        assert_eq!(told(1_000_000, 1_000_050, 1_000_100), (0, 0));
        assert_eq!(told(1_000_000, 1_000_000, 1_000_100), (-50, 0));
        assert_eq!(told(1_000_000, 1_600_000, 1_000_000), (600_000, 600_000));
        assert_eq!(told(1_000_000, 400_000, 1_000_000), (-600_000, 600_000));
        assert_eq!(told(1_000_000, 1_003_000, 1_004_000), (1000, 0), "it may all be the way");
        assert_eq!(told(1_000_000, 1_600_000, 1_001_000), (599_500, 599_000));
    }

    #[test]
    fn one_clock_among_many_is_told_from_our_own() {
        let now = 10_000_000;
        let good = || reading("a", now, now + 3, now + 6);
        let fine = word(&[good(), reading("b", now, now + 500, now + 10)], 0);
        assert_eq!((fine.result.as_str(), fine.cure), ("ok", None));
        let one = word(&[good(), reading("b", now, now + 600_000, now)], 0);
        assert_eq!(one.result, "failed");
        assert_eq!(one.text, "the clock of download b is 10 min 0 s ahead of this node's clock");
        assert!(one.cure.unwrap().starts_with("on the host with the wrong clock"));
        let ours = word(&[reading("a", now, now - 600_000, now), reading("b", now, now - 600_100, now)], 0);
        assert!(ours.text.contains("behind this node's clock"), "{}", ours.text);
        assert!(ours.cure.unwrap().starts_with("all other nodes agree, so on this host: timedatectl set-ntp true"));
        assert_eq!(word(&[reading("a", now, now + 5_000, now)], 0).result, "warning");
        assert_eq!(word(&[], 0).result, "skipped");
        let unheard = Reading { said: Err("x".to_owned()), ..good() };
        assert_eq!(word(std::slice::from_ref(&unheard), 0).result, "skipped");
        assert!(word(&[good(), unheard], 0).text.ends_with("; no answer from download a"));
        assert!(word(&[good()], -7_200_000).text.contains("2 h 0 min behind this host's clock"));
    }
}
