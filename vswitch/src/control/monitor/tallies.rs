//! What is dropped, in sums: for each port and reason what came since the last look; and storms, which are drops too.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use vswitch_api::PortName;
use vswitch_api::monitor::What;
use vswitch_core::switch::StormDrop;

use super::place;

/// How long a port must be quiet for its storm to be over.
const QUIET: Duration = Duration::from_secs(3);

/// Where drops are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Where {
    Port(PortName),
    Remote(IpAddr),
    /// The whole VXLAN side, remotes and all.
    Tunnel,
}

/// Frames dropped, by place and reason.
pub(super) type Counts = BTreeMap<Where, BTreeMap<String, u64>>;

#[derive(Debug)]
pub(super) struct Tallies {
    last: Counts,
    storms: BTreeMap<(Where, String), Storm>,
}

#[derive(Debug)]
struct Storm {
    begun: Instant,
    /// When it was last seen to go on.
    last: Instant,
    frames: u64,
}

impl Tallies {
    /// Begins with what was counted so far.
    pub(super) const fn new(counts: Counts) -> Self {
        Self { last: counts, storms: BTreeMap::new() }
    }

    /// Port `name` is gone: one of that name will count anew.
    pub(super) fn forget(&mut self, name: &PortName) {
        self.last.remove(&Where::Port(name.clone()));
    }

    /// What is to be told at `now`, when `counts` are what was counted so far.
    pub(super) fn count(&mut self, now: Instant, counts: Counts) -> Vec<What> {
        let mut told = Vec::new();
        self.add(now, grown(&self.last, &counts), &mut told);
        self.last = counts;
        self.end_storms(|_, storm| now - storm.last >= QUIET, &mut told);
        told
    }

    /// What is to be told at `now` of port `name`, which goes, when `drops` are all it counted: the rest, and that its
    /// storms are over.
    pub(super) fn close(&mut self, now: Instant, name: &PortName, drops: BTreeMap<String, u64>) -> Vec<What> {
        let at = Where::Port(name.clone());
        let mut told = Vec::new();
        let counts = Counts::from([(at.clone(), drops)]);
        self.add(now, grown(&self.last, &counts), &mut told);
        self.last.extend(counts);
        self.end_storms(|storming, _| *storming == at, &mut told);
        told
    }

    /// Tells of drops that came, and of storms that begin with them.
    fn add(&mut self, now: Instant, grown: BTreeMap<(Where, String), u64>, told: &mut Vec<What>) {
        for ((at, reason), frames) in grown {
            let (port, remote) = place(&at);
            if StormDrop::ALL.iter().any(|drop| drop.name() == reason) {
                let storm = self.storms.entry((at, reason.clone())).or_insert_with(|| {
                    told.push(What::StormBegun { port: port.clone(), remote, reason: reason.clone() });
                    Storm { begun: now, last: now, frames: 0 }
                });
                storm.last = now;
                storm.frames += frames;
            }
            told.push(What::Drops { port, remote, reason, frames });
        }
    }

    /// Ends the storms that `are_over`.
    fn end_storms(&mut self, are_over: impl Fn(&Where, &Storm) -> bool, told: &mut Vec<What>) {
        for ((at, reason), storm) in self.storms.extract_if(.., |(at, _), storm| are_over(at, storm)) {
            let (port, remote) = place(&at);
            let lasted_s = (storm.last - storm.begun).as_secs();
            told.push(What::StormEnded { port, remote, reason, frames: storm.frames, lasted_s });
        }
    }
}

/// What came to `before` until it was `after`.
fn grown(before: &Counts, after: &Counts) -> BTreeMap<(Where, String), u64> {
    let mut grown = BTreeMap::new();
    let mut of_remotes: BTreeMap<&str, u64> = BTreeMap::new();
    // Remotes stand before the tunnel, of which they are a part; one that is gone leaves it what it counted.
    for (at, reasons) in after {
        for (reason, &count) in reasons {
            let was = before.get(at).and_then(|reasons| reasons.get(reason)).copied().unwrap_or(0);
            // One that counts less than before is another one.
            let mut frames = if count < was { count } else { count - was };
            match at {
                Where::Port(_) => {}
                Where::Remote(_) => *of_remotes.entry(reason).or_default() += frames,
                Where::Tunnel => frames = frames.saturating_sub(of_remotes.get(&**reason).copied().unwrap_or(0)),
            }
            if frames > 0 {
                grown.insert((at.clone(), reason.clone()), frames);
            }
        }
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORM: &str = "storm_broadcast";
    const OTHER: &str = "queue_full";

    fn port() -> Where {
        Where::Port("a".parse().unwrap())
    }

    fn remote() -> Where {
        Where::Remote("192.0.2.2".parse().unwrap())
    }

    fn counts(all: &[(Where, &str, u64)]) -> Counts {
        let mut counts = Counts::new();
        for (at, reason, count) in all {
            counts.entry(at.clone()).or_default().insert((*reason).to_owned(), *count);
        }
        counts
    }

    fn drops(at: &Where, reason: &str, frames: u64) -> What {
        let (port, remote) = place(at);
        What::Drops { port, remote, reason: reason.to_owned(), frames }
    }

    #[test]
    fn what_came_since_is_told_where_it_was_counted() {
        let start = Instant::now();
        let mut tallies = Tallies::new(counts(&[(port(), OTHER, 5), (Where::Tunnel, OTHER, 2)]));
        let mut count = |all: &[(Where, &str, u64)]| tallies.count(start, counts(all));
        assert_eq!(count(&[(port(), OTHER, 5), (Where::Tunnel, OTHER, 2)]), []);
        assert_eq!(count(&[(port(), OTHER, 7), (Where::Tunnel, OTHER, 2)]), [drops(&port(), OTHER, 2)]);
        // A remote's are the tunnel's too, and told as its own.
        let both = [(remote(), OTHER, 3), (Where::Tunnel, OTHER, 6)];
        assert_eq!(count(&both), [drops(&remote(), OTHER, 3), drops(&Where::Tunnel, OTHER, 1)]);
        // It goes: the tunnel keeps them, and nothing new was dropped.
        assert_eq!(count(&[(Where::Tunnel, OTHER, 6)]), []);
        // Another in its place.
        assert_eq!(count(&[(remote(), OTHER, 1), (Where::Tunnel, OTHER, 7)]), [drops(&remote(), OTHER, 1)]);
        assert_eq!(count(&[(port(), OTHER, 8)]), [drops(&port(), OTHER, 8)]);
        assert_eq!(count(&[(port(), OTHER, 1)]), [drops(&port(), OTHER, 1)]);
        tallies.forget(&"a".parse().unwrap());
        assert_eq!(tallies.count(start, counts(&[(port(), OTHER, 1)])), [drops(&port(), OTHER, 1)]);
    }

    #[test]
    fn a_storm_begins_once_and_ends_when_it_was_quiet() {
        let start = Instant::now();
        let mut tallies = Tallies::new(Counts::new());
        let reason = STORM.to_owned();
        let begun = What::StormBegun { port: "a".to_owned(), remote: None, reason: reason.clone() };
        let ended = |frames, lasted_s| {
            let (port, remote, reason) = ("a".to_owned(), None, reason.clone());
            What::StormEnded { port, remote, reason, frames, lasted_s }
        };
        let dropped = |frames| drops(&port(), STORM, frames);
        // Seconds, what is counted by then, and what is told.
        let table = [
            (0, 10, vec![begun.clone(), dropped(10)]),
            (1, 15, vec![dropped(5)]),
            (2, 15, vec![]),
            (3, 15, vec![]),
            (4, 16, vec![dropped(1)]),
            (6, 16, vec![]),
            (7, 16, vec![ended(16, 4)]),
            (8, 16, vec![]),
            (9, 17, vec![begun, dropped(1)]),
            (12, 17, vec![ended(1, 0)]),
        ];
        for (seconds, count, told) in table {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(tallies.count(now, counts(&[(port(), STORM, count)])), told, "{seconds} s");
        }
    }

    #[test]
    fn a_port_that_goes_tells_the_rest() {
        let start = Instant::now();
        let name = "a".parse().unwrap();
        let counts_of_it =
            |all: &[(&str, u64)]| all.iter().map(|&(reason, count)| (reason.to_owned(), count)).collect();
        let mut tallies = Tallies::new(counts(&[(port(), OTHER, 5), (remote(), OTHER, 9), (Where::Tunnel, OTHER, 9)]));
        assert_eq!(tallies.close(start, &name, counts_of_it(&[(OTHER, 7)])), [drops(&port(), OTHER, 2)]);
        // A change that is taken back: it stays, and so does what it counted.
        let rest = [(remote(), OTHER, 9), (Where::Tunnel, OTHER, 9)];
        let stays = [(port(), OTHER, 8), rest[0].clone(), rest[1].clone()];
        assert_eq!(tallies.count(start, counts(&stays)), [drops(&port(), OTHER, 1)]);
        // Its storm goes with it, those of others do not.
        let storms = [(port(), STORM, 4), (remote(), STORM, 6), (Where::Tunnel, STORM, 6)];
        assert_eq!(tallies.count(start, counts(&storms)).len(), 4);
        let second = start + Duration::from_secs(1);
        let ended =
            What::StormEnded { port: "a".to_owned(), remote: None, reason: STORM.to_owned(), frames: 14, lasted_s: 1 };
        let told = tallies.close(second, &name, counts_of_it(&[(STORM, 14)]));
        assert_eq!(told, [drops(&port(), STORM, 10), ended]);
        tallies.forget(&name);
        assert_eq!(tallies.count(second, counts(&storms[1..])), []);
        // One that begins with the last of it.
        let told = tallies.close(second, &"b".parse().unwrap(), counts_of_it(&[(STORM, 3)]));
        let names: Vec<_> = told.iter().map(|what| serde_json::to_value(what).unwrap()["event"].clone()).collect();
        assert_eq!(names, ["storm.begun", "drops", "storm.ended"]);
    }
}
