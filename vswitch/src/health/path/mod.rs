//! The probes of one peer: which is due when.
//!
//! Two things send: an interval, if there is one, and a self-test, which asks a few times in a row, and then for what the path
//! carries. [`Path::poll`] says what to send now and [`Path::deadline`] when to ask again; what comes back goes to `known`.

mod known;
mod path_mtu;
mod self_test;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vswitch_api::{Vid, Vni};
use vswitch_core::Instant;
use vswitch_sys::Trouble;
use vtep::oam;

use super::host::Host;
use super::own::OwnFault;
use super::search::Search;
use super::window::Window;
use self_test::SelfTest;

/// Until an answer is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a probe of an interval counts: so long, or as long as so many take.
const LOOK_BACK: Duration = Duration::from_secs(60);
const LOOK_BACK_PROBES: u32 = 10;

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
    /// A self-test asked.
    in_test: bool,
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
    /// All probes of late.
    window: Window,
    /// Those of the last self-test.
    test_window: Window,
    test: Option<SelfTest>,
    /// What the last self-test found: the shortest round trip.
    tested: Option<Option<Duration>>,
    /// When the last self-test ended.
    tested_at: Option<Instant>,
    search: Option<(Search, Instant)>,
    searched: Option<Instant>,
    path_mtu: Option<u16>,
    networks: BTreeMap<Vni, Vid>,
    /// Where in them the next probe's list begins.
    turn: usize,
    known: BTreeMap<Vni, bool>,
    is_ours: bool,
    /// It says that this host is none of its peers.
    is_stranger: bool,
    answered_at: Option<Instant>,
    heard_at: Option<Instant>,
    has_spoken: bool,
    own: Option<OwnFault>,
    complaint: Option<(Trouble, Option<IpAddr>, Instant)>,
    host: Option<Host>,
    host_asked: Option<Instant>,
    seen_as: Option<SocketAddr>,
    speaks_as: Option<IpAddr>,
    damaged_there: Option<Instant>,
    damaged_here: Option<Instant>,
}

impl Path {
    /// Nothing is known yet. With an interval it begins with a self-test, `first` at the earliest.
    pub(crate) fn new(ends: Ends, interval: Option<Duration>, first: Instant) -> Self {
        let look_back = interval.map_or(LOOK_BACK, |interval| LOOK_BACK.max(interval * LOOK_BACK_PROBES));
        Self {
            ends,
            interval,
            next: interval.map(|_| first),
            sequence: 0,
            open: BTreeMap::new(),
            window: Window::new(look_back),
            test_window: Window::new(Duration::MAX),
            test: None,
            tested: None,
            tested_at: None,
            search: None,
            searched: None,
            path_mtu: None,
            networks: BTreeMap::new(),
            turn: 0,
            known: BTreeMap::new(),
            is_ours: false,
            is_stranger: false,
            answered_at: None,
            heard_at: None,
            has_spoken: false,
            own: None,
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

    /// Whether answers are waited for that a self-test depends on.
    pub(crate) const fn is_busy(&self) -> bool {
        self.test.is_some() || self.search.is_some()
    }

    /// When [`Self::poll`] is to be called again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let oldest = self.open.values().next().map(|open| open.at + PATIENCE);
        let test = self.test.map(|test| test.deadline());
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
            let open = entry.remove();
            self.lost(now, &open);
        }
    }

    /// A probe stayed unanswered.
    fn lost(&mut self, now: Instant, open: &Open) {
        if open.size.is_none() {
            self.window.lost(now);
            if open.in_test {
                self.test_window.lost(now);
            }
        }
    }

    /// A probe that leaves now: of `size`, where that is what is asked, else with networks.
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
        let in_test = self.test.is_some();
        self.open.insert(self.sequence, Open { at: now, size, networks: networks.clone(), in_test });
        let len = size.map_or(0, |size| usize::from(size.saturating_sub(self.ends.headers())));
        Ask { sequence: self.sequence, len, networks }
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
        self.lost(now, &open);
        if open.size.is_none() {
            self.complain(now, why, None);
        }
    }
}
