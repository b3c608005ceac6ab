//! What else is known of a peer that does not answer: whether frames come from it, whether its host is there, and whether
//! this one can ask it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vswitch_core::Instant;
use vswitch_core::switch::PortId;
use vswitch_sys::{Neighbour, Netlink, PingSocket};

use super::super::Control;
use crate::clock;
use crate::health::OwnFault;

/// How long an answer to ICMP echo is waited for.
const PING: Duration = Duration::from_millis(500);

/// Hosts that were asked whether they are there.
#[derive(Debug)]
pub(super) struct Ping {
    socket: io::Result<PingSocket>,
    sequence: u16,
    /// By sequence: whom, when, and its round trip.
    asked: BTreeMap<u16, (IpAddr, Instant)>,
    /// The last round trip of each.
    trips: BTreeMap<IpAddr, Duration>,
}

impl Ping {
    fn open(own: IpAddr) -> Self {
        Self { socket: PingSocket::open(own), sequence: 0, asked: BTreeMap::new(), trips: BTreeMap::new() }
    }

    /// Asks `host`.
    fn ask(&mut self, host: IpAddr) {
        self.sequence = self.sequence.wrapping_add(1);
        if let Ok(socket) = &self.socket {
            let _ = socket.ask(host, self.sequence); // what does not leave is not answered
        }
        self.asked.insert(self.sequence, (host, clock::now()));
    }

    /// Whether an answer is waited for.
    pub(super) fn is_busy(&self) -> bool {
        !self.asked.is_empty()
    }
}

impl Control {
    /// Those of `peers` that sent frames since this was asked of them last. All are asked for in one round over the workers:
    /// an outage may silence a thousand.
    pub(super) fn heard_since(&mut self, peers: &[IpAddr]) -> Vec<IpAddr> {
        let known: Vec<_> = peers.iter().filter_map(|ip| Some((*ip, *self.remotes.get(ip)?))).collect();
        let remotes: Arc<[PortId]> = known.iter().map(|(_, id)| *id).collect();
        let Ok(counted) = self.workers.each(move |worker| worker.datapath.received_from(&remotes)) else {
            return Vec::new();
        };
        let sum = |number| counted.iter().filter_map(|each| each.get(number)).sum::<u64>();
        let mut speaking = Vec::new();
        for (number, (ip, _)) in known.into_iter().enumerate() {
            let frames = sum(number);
            if frames > 0
                && let Some(path) = self.probes.paths.get_mut(&ip)
            {
                path.note_spoken();
            }
            if self.probes.frames.insert(ip, frames).is_some_and(|before| frames > before) {
                speaking.push(ip);
            }
        }
        speaking
    }

    /// Has paths know which of `peers` sent frames since this was looked at last.
    pub(super) fn note_heard(&mut self, peers: &[IpAddr], now: Instant) {
        for ip in self.heard_since(peers) {
            if let Some(path) = self.probes.paths.get_mut(&ip) {
                path.note_frames(now);
            }
        }
    }

    /// Finds out what else is known of peers that do not answer: whether frames come from them, whether their hosts are
    /// there, and whether this one is able to ask.
    pub(super) fn doubt(&mut self, own: IpAddr, peers: &[IpAddr], now: Instant) {
        if peers.is_empty() {
            return;
        }
        self.note_heard(peers, now);
        let fault = self.own_fault();
        for ip in peers {
            if let Some(path) = self.probes.paths.get_mut(ip) {
                path.note_own(fault.clone());
            }
        }
        let ping = self.probes.ping.get_or_insert_with(|| Ping::open(own));
        peers.iter().for_each(|ip| ping.ask(*ip));
    }

    /// What keeps this host from sending to peers, as it is now.
    pub(in crate::control) fn own_fault(&self) -> Option<OwnFault> {
        self.site.underlay?.fault()
    }

    /// Takes the answers of hosts, and gives up those that are late.
    pub(super) fn hear_hosts(&mut self, now: Instant) {
        let Some(ping) = &mut self.probes.ping else { return };
        if let Ok(socket) = &ping.socket {
            while let Ok(Some((from, sequence))) = socket.answer() {
                let Some((ip, at)) = ping.asked.get(&sequence).copied().filter(|(ip, _)| *ip == from) else { continue };
                ping.asked.remove(&sequence);
                ping.trips.insert(ip, clock::now().since(at));
                if let Some(path) = self.probes.paths.get_mut(&ip) {
                    path.note_echo();
                }
            }
        }
        let late: Vec<_> =
            ping.asked.extract_if(.., |_, (_, at)| now.since(*at) >= PING).map(|(_, (ip, _))| ip).collect();
        if late.is_empty() {
            return;
        }
        let netlink = Netlink::open().ok();
        for ip in late {
            let Some(path) = self.probes.paths.get_mut(&ip) else { continue };
            let echo = ping.socket.as_ref().map(drop).map_err(|error| {
                format!(
                    "ICMP echo needs this user's group in net.ipv4.ping_group_range ({error}), and the peer is no neighbour on \
                     the link"
                )
            });
            let neighbour = netlink.as_ref().and_then(|netlink| neighbour(netlink, path.ends().own, ip));
            path.note_no_echo(now, echo, neighbour);
        }
    }

    /// The last round trip of ICMP echo to a host.
    pub(in crate::control) fn host_trip(&self, ip: IpAddr) -> Option<Duration> {
        self.probes.ping.as_ref()?.trips.get(&ip).copied()
    }
}

/// What the kernel knows of `peer`, where that is a neighbour. Two questions for one answer, and of the whole table no more than
/// one entry: where many are late it is long.
fn neighbour(netlink: &Netlink, own: IpAddr, peer: IpAddr) -> Option<Neighbour> {
    let route = netlink.route_from(own, peer).ok().filter(|route| route.gateway.is_none())?;
    netlink.neighbour(route.index, peer).ok()?
}
