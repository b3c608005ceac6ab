//! The probes of one peer: when which is due, and what came back.
//!
//! Two things send: an interval, if there is one, and a self-test, which asks a few times in a row, and then for what the path
//! carries. [`Path::poll`] says what to send now and [`Path::deadline`] when to ask again.

use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use vswitch_api::{Health, Vid, Vni};
use vswitch_core::Instant;
use vswitch_sys::Trouble;
use vtep::oam::{self, Kind};

use super::Heard;
use super::findings::{Facts, Host, Verdict};
use super::search::Search;
use super::window::Window;

/// Until an answer is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// A self-test asks so often in a row, and has enough with so many answers.
const ASKED: u8 = 12;
const ENOUGH: u8 = 4;
const SPACING: Duration = Duration::from_millis(60);
/// A self-test ends after so long, however it stands; without any answer, a little earlier.
const LONGEST: Duration = Duration::from_millis(1800);
const SILENT: Duration = Duration::from_millis(900);
/// When a self-test without an answer has the host asked.
const DOUBT: Duration = Duration::from_millis(250);
/// A round of a search lasts a few round trips, but no longer and no shorter; less where nothing is missing. Shorter, and a busy
/// host passes for a narrow path.
const ROUND_LEAST: Duration = Duration::from_millis(200);
const ROUND_MOST: Duration = Duration::from_millis(800);
/// From one search to the next, while probes go on.
const SEARCH_AGAIN: Duration = Duration::from_secs(30);
/// Probes in a row that stay unanswered, until it counts as silent.
const SILENCE: u32 = 3;
/// How long what was found once counts: damaged bytes, and what the network said.
const LASTING: Duration = Duration::from_secs(60);
/// How long a peer counts as heard after a frame of it.
const HEARD: Duration = Duration::from_secs(60);
/// From one question to the host to the next.
const HOST_AGAIN: Duration = Duration::from_secs(5);

/// Where a path begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) own: IpAddr,
    pub(crate) peer: IpAddr,
    /// The UDP port of VXLAN.
    pub(crate) port: u16,
    /// What the interface here carries: no packet is longer.
    pub(crate) mtu: u16,
    /// Bytes around a container's packet.
    pub(crate) overhead: u16,
}

impl Ends {
    /// Bytes of IP and UDP headers.
    pub(crate) const fn headers(&self) -> u16 {
        if self.own.is_ipv4() { 28 } else { 48 }
    }
}

/// A probe to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) sequence: u64,
    /// Bytes of the datagram, at least.
    pub(crate) len: usize,
    pub(crate) networks: Vec<Vni>,
}

/// A probe that was sent.
#[derive(Clone, Debug)]
struct Open {
    at: Instant,
    /// The packet's size, where that is what is asked.
    size: Option<u16>,
    networks: Vec<Vni>,
}

#[derive(Clone, Copy, Debug)]
struct SelfTest {
    started: Instant,
    next: Instant,
    asked: u8,
    answered: u8,
    /// The shortest round trip.
    best: Option<Duration>,
    searches: bool,
}

/// The probes of one peer.
#[derive(Debug)]
pub(crate) struct Path {
    ends: Ends,
    interval: Option<Duration>,
    /// When the next of the interval is due.
    next: Option<Instant>,
    sequence: u64,
    open: BTreeMap<u64, Open>,
    window: Window,
    test: Option<SelfTest>,
    /// What the last self-test found: the shortest round trip.
    tested: Option<Option<Duration>>,
    was_tested: bool,
    search: Option<(Search, Instant)>,
    searched: Option<Instant>,
    path_mtu: Option<u16>,
    networks: BTreeMap<Vni, Vid>,
    /// Where in them the next probe's list begins.
    turn: usize,
    known: BTreeMap<Vni, bool>,
    is_ours: bool,
    answered_at: Option<Instant>,
    heard_at: Option<Instant>,
    complaint: Option<(Trouble, Option<IpAddr>, Instant)>,
    host: Option<Host>,
    host_asked: Option<Instant>,
    seen_as: Option<std::net::SocketAddr>,
    speaks_as: Option<IpAddr>,
    damaged_there: Option<Instant>,
    damaged_here: Option<Instant>,
}

impl Path {
    /// Nothing is known yet. With an interval it begins with a self-test, `first` at the earliest.
    pub(crate) fn new(ends: Ends, interval: Option<Duration>, first: Instant) -> Self {
        Self {
            ends,
            interval,
            next: interval.map(|_| first),
            sequence: 0,
            open: BTreeMap::new(),
            window: Window::default(),
            test: None,
            tested: None,
            was_tested: false,
            search: None,
            searched: None,
            path_mtu: None,
            networks: BTreeMap::new(),
            turn: 0,
            known: BTreeMap::new(),
            is_ours: false,
            answered_at: None,
            heard_at: None,
            complaint: None,
            host: None,
            host_asked: None,
            seen_as: None,
            speaks_as: None,
            damaged_there: None,
            damaged_here: None,
        }
    }

    /// Where it begins and ends.
    pub(crate) const fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The networks in which it is a peer.
    pub(crate) fn set_networks(&mut self, networks: BTreeMap<Vni, Vid>) {
        self.known.retain(|vni, _| networks.contains_key(vni));
        self.networks = networks;
    }

    /// Begins a self-test, unless one is under way.
    pub(crate) fn begin_test(&mut self, now: Instant) {
        if self.test.is_none() {
            self.test = Some(SelfTest { started: now, next: now, asked: 0, answered: 0, best: None, searches: false });
            self.tested = None;
            // What was said and found before says nothing of now.
            (self.complaint, self.host, self.host_asked) = (None, None, None);
        }
    }

    /// What the last self-test found, its shortest round trip; `None` while it lasts, or before.
    pub(crate) const fn tested(&self) -> Option<Option<Duration>> {
        self.tested
    }

    /// Whether answers are waited for that a self-test depends on.
    pub(crate) const fn is_busy(&self) -> bool {
        self.test.is_some() || self.search.is_some()
    }

    /// When [`Self::poll`] is to be called again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let oldest = self.open.values().next().map(|open| open.at + PATIENCE);
        let test = self.test.map(|test| match test.answered {
            0 => test.next.min(test.started + SILENT),
            _ => test.next.min(test.started + LONGEST),
        });
        let search = self.search.as_ref().map(|(_, until)| *until);
        [self.next, oldest, test, search].into_iter().flatten().min()
    }

    /// What to send now.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Ask> {
        let mut asks = Vec::new();
        self.give_up(now);
        if let (Some(next), Some(interval)) = (self.next, self.interval)
            && next <= now
        {
            // After a pause of this process none is made up for.
            self.next = Some(if now.since(next) > interval { now + interval } else { next + interval });
            if self.tested.is_none() {
                self.begin_test(now);
            }
            if self.test.is_none() {
                asks.push(self.ask(now, None));
            }
        }
        self.poll_test(now, &mut asks);
        self.poll_search(now, &mut asks);
        asks
    }

    /// Probes that stayed unanswered for too long are lost.
    fn give_up(&mut self, now: Instant) {
        while let Some(entry) = self.open.first_entry().filter(|entry| now.since(entry.get().at) >= PATIENCE) {
            if entry.remove().size.is_none() {
                self.window.lost();
            }
        }
    }

    fn poll_test(&mut self, now: Instant, asks: &mut Vec<Ask>) {
        let Some(mut test) = self.test else { return };
        let passed = now.since(test.started);
        let has_searched = test.searches && self.search.is_none();
        let is_over = test.answered == 0 && passed >= SILENT
            || passed >= LONGEST
            || has_searched && (test.answered >= ENOUGH || test.asked >= ASKED && self.open.is_empty());
        if is_over {
            self.test = None;
            if self.search.take().is_some() {
                self.path_mtu = None; // that of an earlier search may be wrong by now
            }
            if test.answered == 0 {
                // What is late by now is as good as lost.
                let asked = mem::take(&mut self.open);
                asked.values().for_each(|_| self.window.lost());
            }
            self.tested = Some(test.best);
            self.was_tested = true;
            return;
        }
        if test.next <= now && test.asked < ASKED && test.answered < ENOUGH {
            test.asked += 1;
            asks.push(self.ask(now, None));
        }
        if test.next <= now {
            test.next = now + SPACING;
        }
        if test.answered > 0 && !test.searches {
            test.searches = true;
            self.begin_search(now);
        }
        self.test = Some(test);
    }

    fn begin_search(&mut self, now: Instant) {
        let longest = oam::SHORTEST + 4 * oam::NETWORKS_MAX + usize::from(self.ends.headers());
        let low = u16::try_from(longest).unwrap_or(u16::MAX);
        self.search = Some((Search::new(low, self.ends.mtu), now));
        self.searched = Some(now);
    }

    fn poll_search(&mut self, now: Instant, asks: &mut Vec<Ask>) {
        if self.search.is_none()
            && self.interval.is_some_and(|_| self.answers())
            && self.searched.is_none_or(|at| now.since(at) >= SEARCH_AGAIN)
        {
            self.begin_search(now);
        }
        let Some((mut search, until)) = self.search.take() else { return };
        let is_first = self.searched == Some(until);
        if now < until && !search.is_round_over() {
            self.search = Some((search, until));
            return;
        }
        if !is_first && let Some(found) = search.end_round() {
            self.path_mtu = Some(found);
            return;
        }
        for size in search.sizes() {
            asks.push(self.ask(now, Some(size)));
        }
        let trip = self.window.round_trip().map_or(0, |trip| trip.p99);
        let wait = (Duration::from_micros(trip) * 4).clamp(ROUND_LEAST, ROUND_MOST);
        self.search = Some((search, now + wait));
    }

    fn ask(&mut self, now: Instant, size: Option<u16>) -> Ask {
        self.sequence += 1;
        let count = self.networks.len();
        let from = if count > oam::NETWORKS_MAX { self.turn % count } else { 0 };
        let networks: Vec<Vni> = self
            .networks
            .keys()
            .chain(self.networks.keys())
            .skip(from)
            .take(count.min(oam::NETWORKS_MAX))
            .copied()
            .collect();
        if size.is_none() {
            self.turn = from + networks.len();
        }
        let networks = if size.is_some() { Vec::new() } else { networks };
        self.open.insert(self.sequence, Open { at: now, size, networks: networks.clone() });
        let len = size.map_or(0, |size| usize::from(size.saturating_sub(self.ends.headers())));
        Ask { sequence: self.sequence, len, networks }
    }

    /// A message of the peer came.
    pub(crate) fn hear(&mut self, heard: &Heard) {
        self.is_ours = true;
        let message = &heard.read.message;
        let Kind::Answer { was_damaged } = message.kind else { return };
        let Some(open) = self.open.remove(&message.sequence) else { return };
        if self.tested == Some(None) {
            self.tested = None; // it is there now: with an interval, another self-test is due
        }
        if self.window.lost_in_row() >= SILENCE {
            self.searched = None; // it may be another path
        }
        self.answered_at = Some(heard.at);
        self.complaint = None;
        self.host = None;
        if was_damaged {
            self.damaged_there = Some(heard.at);
        }
        if heard.read.is_damaged {
            self.damaged_here = Some(heard.at);
        } else {
            let seen = std::net::SocketAddr::new(message.sender, message.port);
            self.seen_as = Some(seen).filter(|seen| seen.ip() != self.ends.own);
        }
        let from = heard.from.ip().to_canonical();
        self.speaks_as = Some(from).filter(|from| *from != self.ends.peer);
        let round_trip = heard.at.since(open.at);
        match open.size {
            Some(size) => {
                match &mut self.search {
                    Some((search, _)) => search.passed(size),
                    None => self.path_mtu = self.path_mtu.map(|found| found.max(size)), // late, and it did get there
                }
            }
            None => {
                self.window.answered(round_trip);
                if let Some(test) = &mut self.test {
                    test.answered = test.answered.saturating_add(1);
                    test.best = Some(test.best.map_or(round_trip, |best| best.min(round_trip)));
                }
                if !was_damaged && !heard.read.is_damaged {
                    self.known.extend(open.networks.iter().map(|vni| {
                        let has_it = message.networks.iter().any(|other| other.get() == vni.get());
                        (*vni, has_it)
                    }));
                }
            }
        }
    }

    /// The probe left at another moment than it was asked for.
    pub(crate) fn sent(&mut self, sequence: u64, at: Instant) {
        if let Some(open) = self.open.get_mut(&sequence) {
            open.at = at;
        }
    }

    /// The probe could not leave.
    pub(crate) fn not_sent(&mut self, sequence: u64, now: Instant, why: Trouble) {
        let Some(open) = self.open.remove(&sequence) else { return };
        if open.size.is_none() {
            self.window.lost();
            self.complain(now, why, None);
        }
    }

    /// Somebody said something of a probe.
    pub(crate) fn complain(&mut self, now: Instant, what: Trouble, by: Option<IpAddr>) {
        if !matches!(what, Trouble::TooBig(_)) {
            self.complaint = Some((what, by, now));
        }
    }

    /// Frames came from the peer.
    pub(crate) fn note_frames(&mut self, now: Instant) {
        self.heard_at = Some(now);
    }

    /// Whether it is time to ask whether its host is there.
    pub(crate) fn doubts_host(&mut self, now: Instant) -> bool {
        let in_test = self.test.is_some_and(|test| test.answered == 0 && now.since(test.started) >= DOUBT);
        let is_silent = self.interval.is_some() && self.window.lost_in_row() >= SILENCE;
        let due = self.host_asked.is_none_or(|at| now.since(at) >= HOST_AGAIN);
        let doubts = (in_test || is_silent) && due;
        if doubts {
            self.host_asked = Some(now);
        }
        doubts
    }

    /// What was found out of its host.
    pub(crate) fn note_host(&mut self, host: Host) {
        self.host = Some(host);
    }

    /// Whether it answers.
    fn answers(&self) -> bool {
        self.answered_at.is_some() && self.window.lost_in_row() < SILENCE && self.tested != Some(None)
    }

    /// What was last said of probes, since the last answer.
    pub(crate) fn complaint(&self) -> Option<(Trouble, Option<IpAddr>)> {
        self.complaint.map(|(what, by, _)| (what, by))
    }

    /// The networks of which the peer said whether it shares them.
    pub(crate) const fn shared(&self) -> &BTreeMap<Vni, bool> {
        &self.known
    }

    /// The largest packet that gets there, if that is known.
    pub(crate) const fn path_mtu(&self) -> Option<u16> {
        self.path_mtu
    }

    /// What it all comes to; `None` where that is not known yet.
    pub(crate) fn verdict(&self, now: Instant) -> Option<Verdict> {
        if !self.was_tested {
            return None;
        }
        let lasts = |at: Option<Instant>, time| at.is_some_and(|at| now.since(at) < time);
        let answers = self.answers();
        let facts = Facts {
            answers,
            is_ours: self.is_ours,
            is_heard: lasts(self.heard_at, HEARD),
            complaint: self.complaint.filter(|(_, _, at)| now.since(*at) < LASTING).map(|(what, by, _)| (what, by)),
            host: self.host.clone(),
            seen_as: self.seen_as,
            speaks_as: self.speaks_as,
            damaged: (lasts(self.damaged_there, LASTING), lasts(self.damaged_here, LASTING)),
            path_mtu: self.path_mtu,
            networks: self
                .known
                .iter()
                .filter_map(|(vni, has)| Some((*vni, (*self.networks.get(vni)?, *has))))
                .collect(),
            loss: self.window.loss(),
        };
        Some(facts.judge(&self.ends))
    }

    /// The same with figures.
    pub(crate) fn health(&self, now: Instant) -> Option<Health> {
        let Verdict { state, findings } = self.verdict(now)?;
        Some(Health {
            round_trip_us: self.window.round_trip(),
            loss_share: self.window.loss().0,
            jitter_us: self.window.jitter(),
            path_mtu: self.path_mtu.filter(|_| self.answers()).map(u32::from),
            state,
            findings,
        })
    }
}
