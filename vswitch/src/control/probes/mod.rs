//! Probes of peers: sent from here, answered by the workers of the other side, and heard of by ours.
//!
//! The workers stamp answers and put them into a queue; the control thread looks into it when a probe is due or waited for,
//! and waits for none. What is sent leaves by a socket of its own, as frames do: from the VTEP's address to the peer's VXLAN
//! port, with DF set.

mod doubt;
mod follow;
mod say;
mod send;
mod ticket;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use vswitch_api::{Health, HealthState};
use vswitch_core::Instant;
use vswitch_sys::ProbeSocket;
use vtep::oam::Kind;

use doubt::Ping;
use ticket::Tickets;

use super::{Control, ControlError};
use crate::clock;
use crate::health::{Heard, Keys, Path, ProbeInterval};
use crate::port::OamCounters;

/// Messages that wait to be looked at.
const QUEUE: usize = 1024;
/// How often to look while a self-test goes on.
const LOOK: Duration = Duration::from_millis(10);

/// All that is probed.
#[derive(Debug)]
pub(in crate::control) struct Probes {
    interval: Option<Duration>,
    keys: Keys,
    queue: (Sender<Heard>, Receiver<Heard>),
    socket: Option<ProbeSocket>,
    ping: Option<Ping>,
    paths: BTreeMap<IpAddr, Path>,
    /// The network is another one than when paths were last made to follow it.
    is_stale: bool,
    /// Peers of which something came since they were last judged.
    news: BTreeSet<IpAddr>,
    /// What was last said of each peer in the log.
    said: BTreeMap<IpAddr, (HealthState, BTreeSet<&'static str>)>,
    /// What frames each silent peer had sent when that was last looked at.
    frames: BTreeMap<IpAddr, u64>,
    tickets: Tickets,
    sent: u64,
}

impl Default for Probes {
    fn default() -> Self {
        Self {
            interval: None,
            keys: Keys::default(),
            queue: crossbeam_channel::bounded(QUEUE),
            socket: None,
            ping: None,
            paths: BTreeMap::new(),
            is_stale: true,
            news: BTreeSet::new(),
            said: BTreeMap::new(),
            frames: BTreeMap::new(),
            tickets: Tickets::default(),
            sent: 0,
        }
    }
}

impl Control {
    /// Has workers pass on what they hear, and peers probed every `interval`.
    pub(crate) fn begin_probes(&mut self, interval: Option<ProbeInterval>) -> Result<(), ControlError> {
        self.probes.interval = interval.map(|ProbeInterval(interval)| interval);
        let (keys, queue) = (self.probes.keys.clone(), self.probes.queue.0.clone());
        self.workers.each(move |worker| worker.datapath.pass_on(keys, queue))?;
        Ok(())
    }

    /// Sends what is due and takes what came; how long until there is more to do.
    pub(in crate::control) fn tend_probes(&mut self) -> Option<Duration> {
        if self.probes.interval.is_none() && self.probes.paths.is_empty() {
            return None;
        }
        let now = clock::now();
        if mem::take(&mut self.probes.is_stale) {
            self.follow_peers(now);
        }
        self.hear_probes(now);
        let own = self.vtep_ip()?;
        let is_due = |path: &Path| path.deadline().is_some_and(|at| at <= now);
        let due: Vec<_> = self.probes.paths.iter().filter(|(_, path)| is_due(path)).map(|(ip, _)| *ip).collect();
        let (mut doubted, mut mute) = (Vec::new(), Vec::new());
        for ip in due {
            let Some(path) = self.probes.paths.get_mut(&ip) else { continue };
            let asks = path.poll(now);
            if path.tested() == Some(None) && path.ended(now) {
                mute.push(ip);
            }
            if path.doubts_host(now) {
                doubted.push(ip);
            }
            let port = path.ends().port;
            for ask in asks {
                self.probes.send((own, ip, port), &ask);
            }
            self.probes.news.insert(ip);
        }
        self.doubt(own, &doubted, now);
        // Once more at the end: in a whole second, more is heard than in a part of it.
        if !mute.is_empty() {
            self.note_heard(&mute, now);
        }
        self.hear_probes(now);
        self.hear_hosts(now);
        self.say_health(now);
        let paths = || self.probes.paths.values();
        let next = paths().filter_map(Path::deadline).min().map(|at| at.since(clock::now()));
        let asks = self.probes.ping.as_ref().is_some_and(Ping::is_busy);
        let busy = (asks || paths().any(Path::is_busy)).then_some(LOOK);
        next.into_iter().chain(busy).min()
    }

    /// Takes what the workers heard, and what the network said.
    fn hear_probes(&mut self, now: Instant) {
        let Probes { queue, paths, news, .. } = &mut self.probes;
        for heard in queue.1.try_iter() {
            let peer = match heard.read.message.kind {
                Kind::Request => heard.from.ip().to_canonical(),
                Kind::Answer { .. } => heard.read.message.asked,
            };
            if let Some(path) = paths.get_mut(&peer) {
                path.hear(&heard);
                news.insert(peer);
            }
        }
        self.probes.hear_network(now);
    }

    /// How the way to a peer is, where that is known.
    pub(in crate::control) fn health(&self, ip: IpAddr) -> Option<Health> {
        self.probes.paths.get(&ip)?.health(clock::now())
    }

    /// The probes of a peer, where it was probed.
    pub(in crate::control) fn path(&self, ip: IpAddr) -> Option<&Path> {
        self.probes.paths.get(&ip)
    }

    /// Begins a self-test of the way to a peer.
    pub(in crate::control) fn test_peer(&mut self, ip: IpAddr) {
        let now = clock::now();
        self.follow(ip, now);
        self.hear_probes(now); // it may have asked us
        self.heard_since(&[ip]); // from here on
        let networks = self.networks_of(ip);
        if let Some(path) = self.probes.paths.get_mut(&ip) {
            path.set_networks(networks);
            path.begin_test(now);
        }
    }

    /// Requests sent, and what workers counted of messages.
    pub(in crate::control) fn counted_oam(&self) -> Result<(u64, OamCounters), ControlError> {
        let mut sum = OamCounters::default();
        self.workers.each(|worker| worker.datapath.oam_counters())?.iter().for_each(|counters| sum.add(counters));
        Ok((self.probes.sent, sum))
    }
}
