//! Probes of peers: sent from here, answered by the workers of the other side, and heard of by ours.
//!
//! The workers stamp answers and put them into a queue; the control thread looks into it when a probe is due or waited for,
//! and waits for none. What is sent leaves by a socket of its own, as frames do: from the VTEP's address to the peer's VXLAN
//! port, with DF set.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use vswitch_api::monitor::What;
use vswitch_api::{Code, Health, HealthState, Probe, ProbeAsk, Refusal, RpcError, Vid, Vni};
use vswitch_core::Instant;
use vswitch_sys::{Netlink, PingSocket, ProbeSocket, Trouble};
use vtep::oam::{Kind, Message};

use super::{Control, ControlError};
use crate::clock;
use crate::health::{Ask, Ends, Heard, Host, Keys, Path, ProbeInterval};
use crate::port::OamCounters;

/// Messages that wait to be looked at.
const QUEUE: usize = 1024;
/// How often to look while a self-test goes on.
const LOOK: Duration = Duration::from_millis(10);
/// From one peer's first self-test to the next one's.
const STAGGER: Duration = Duration::from_millis(20);
/// How long an answer to ICMP echo is waited for.
const PING: Duration = Duration::from_millis(500);
/// Tickets remembered.
const TICKETS: usize = 256;
/// Source ports of datagrams between VTEPs (RFC 7348 5); one is tried after the other.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// All that is probed.
#[derive(Debug)]
pub(super) struct Probes {
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
    said: BTreeMap<IpAddr, (HealthState, BTreeSet<String>)>,
    /// What frames each silent peer had sent when that was last looked at.
    frames: BTreeMap<IpAddr, u64>,
    tickets: BTreeMap<u64, (IpAddr, Option<Vni>)>,
    next_ticket: u64,
    sent: u64,
}

/// Hosts that were asked whether they are there.
#[derive(Debug)]
struct Ping {
    socket: io::Result<PingSocket>,
    sequence: u16,
    /// By sequence: whom, when, and its round trip.
    asked: BTreeMap<u16, (IpAddr, Instant)>,
    /// The last round trip of each.
    trips: BTreeMap<IpAddr, Duration>,
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
            tickets: BTreeMap::new(),
            next_ticket: 0,
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
    pub(super) fn tend_probes(&mut self) -> Option<Duration> {
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
        for ip in due {
            let Some(path) = self.probes.paths.get_mut(&ip) else { continue };
            let asks = path.poll(now);
            let doubts = path.doubts_host(now);
            let port = path.ends().port;
            for ask in asks {
                self.probes.send((own, ip, port), &ask);
            }
            if doubts {
                self.doubt(own, ip, now);
            }
            self.probes.news.insert(ip);
        }
        self.hear_probes(now);
        self.hear_hosts(now);
        self.say_health(now);
        let paths = || self.probes.paths.values();
        let next = paths().filter_map(Path::deadline).min().map(|at| at.since(clock::now()));
        let asks = self.probes.ping.as_ref().is_some_and(|ping| !ping.asked.is_empty());
        let busy = (asks || paths().any(Path::is_busy)).then_some(LOOK);
        next.into_iter().chain(busy).min()
    }

    /// The network is another one now.
    pub(super) fn probes_follow(&mut self) {
        self.probes.is_stale = true;
    }

    /// Has a path for each peer that is to be probed, and none for others.
    fn follow_peers(&mut self, now: Instant) {
        let remotes = &self.network.remotes;
        self.probes.paths.retain(|ip, _| remotes.contains_key(ip));
        self.probes.said.retain(|ip, _| remotes.contains_key(ip));
        self.probes.frames.retain(|ip, _| remotes.contains_key(ip));
        if self.probes.interval.is_some() && self.probes.paths.len() < remotes.len() {
            let new: Vec<_> = remotes.keys().copied().filter(|ip| !self.probes.paths.contains_key(ip)).collect();
            for (number, ip) in (0_u32..).zip(new) {
                self.follow(ip, now + STAGGER * number);
            }
        }
        let networks: Vec<_> = self.probes.paths.keys().map(|ip| (*ip, self.networks_of(*ip))).collect();
        for (ip, networks) in networks {
            if let Some(path) = self.probes.paths.get_mut(&ip) {
                path.set_networks(networks);
            }
        }
    }

    /// The networks in which `ip` is a peer.
    fn networks_of(&self, ip: IpAddr) -> BTreeMap<Vni, Vid> {
        let Some(remote) = self.network.remotes.get(&ip) else { return BTreeMap::new() };
        let vlans = self.network.vlans.iter();
        let shared = vlans.filter(|(vlan, _)| remote.vlans.contains(crate::network::vlan_id(**vlan)));
        shared.filter_map(|(vlan, setup)| Some((setup.vni?, *vlan))).collect()
    }

    fn follow(&mut self, ip: IpAddr, first: Instant) {
        let Some(underlay) = self.site.underlay else { return };
        let ends = Ends {
            own: underlay.address,
            peer: ip,
            port: self.vtep_port,
            mtu: underlay.mtu,
            overhead: underlay.overhead(),
        };
        let interval = self.probes.interval;
        self.probes.paths.entry(ip).or_insert_with(|| Path::new(ends, interval, first));
    }

    /// Takes what the workers heard, and what the network said.
    fn hear_probes(&mut self, now: Instant) {
        let Probes { queue, paths, socket, news, .. } = &mut self.probes;
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
        let Some(socket) = socket else { return };
        while let Ok(Some(complaint)) = socket.complaint() {
            if let Some(path) = paths.get_mut(&complaint.to.ip().to_canonical()) {
                path.complain(now, complaint.what, complaint.by);
            }
        }
    }

    /// Whether frames came from a peer since this was asked last; not where it never was.
    fn heard_since(&mut self, ip: IpAddr) -> bool {
        let Ok(counted) = self.counted() else { return false };
        let frames = self.remotes.get(&ip).and_then(|id| counted.remotes.get(id)).map_or(0, |row| row.rx_frames);
        self.probes.frames.insert(ip, frames).is_some_and(|before| frames > before)
    }

    /// Finds out what else is known of a peer that does not answer: whether frames come from it, and whether its host is
    /// there.
    fn doubt(&mut self, own: IpAddr, ip: IpAddr, now: Instant) {
        if self.heard_since(ip)
            && let Some(path) = self.probes.paths.get_mut(&ip)
        {
            path.note_frames(now);
        }
        let ping = self.probes.ping.get_or_insert_with(|| Ping {
            socket: PingSocket::open(own),
            sequence: 0,
            asked: BTreeMap::new(),
            trips: BTreeMap::new(),
        });
        ping.sequence = ping.sequence.wrapping_add(1);
        if let Ok(socket) = &ping.socket {
            let _ = socket.ask(ip, ping.sequence); // what does not leave is not answered
        }
        ping.asked.insert(ping.sequence, (ip, clock::now()));
    }

    /// Takes the answers of hosts, and gives up those that are late.
    fn hear_hosts(&mut self, now: Instant) {
        let Some(ping) = &mut self.probes.ping else { return };
        if let Ok(socket) = &ping.socket {
            while let Ok(Some((from, sequence))) = socket.answer() {
                let Some((ip, at)) = ping.asked.get(&sequence).copied().filter(|(ip, _)| *ip == from) else { continue };
                ping.asked.remove(&sequence);
                ping.trips.insert(ip, clock::now().since(at));
                if let Some(path) = self.probes.paths.get_mut(&ip) {
                    path.note_host(Host::Answers);
                }
            }
        }
        let late: Vec<_> =
            ping.asked.extract_if(.., |_, (_, at)| now.since(*at) >= PING).map(|(_, (ip, _))| ip).collect();
        for ip in late {
            let neighbour = Netlink::open().and_then(|netlink| netlink.is_neighbour_there(ip)).ok().flatten();
            let host = match (neighbour, &ping.socket) {
                (Some(true), _) => Host::Answers,
                (Some(false), _) | (None, Ok(_)) => Host::Silent,
                (None, Err(error)) => Host::Unknown(format!(
                    "ICMP echo needs this user's group in net.ipv4.ping_group_range ({error}), and the peer is no neighbour \
                     on the link"
                )),
            };
            if let Some(path) = self.probes.paths.get_mut(&ip) {
                path.note_host(host);
            }
        }
    }

    /// Says once in the log what changed.
    fn say_health(&mut self, now: Instant) {
        for ip in &mem::take(&mut self.probes.news) {
            let Some(path) = self.probes.paths.get(ip).filter(|path| !path.is_busy()) else { continue };
            let Some(verdict) = path.verdict(now) else { continue };
            let names: BTreeSet<String> = verdict.findings.iter().map(|finding| finding.name.clone()).collect();
            let before = self.probes.said.get(ip);
            if before.is_some_and(|(state, said)| *state == verdict.state && *said == names) {
                continue;
            }
            let state = verdict.state.name();
            let is_new = |name: &String| before.is_none_or(|(_, said)| !said.contains(name));
            for finding in verdict.findings.iter().filter(|finding| is_new(&finding.name)) {
                let mend = finding.mend.as_deref().unwrap_or("none known");
                tracing::warn!(peer = %ip, state, finding = finding.name, mend, "{}", finding.text);
            }
            if verdict.findings.is_empty() {
                tracing::info!(peer = %ip, state, "the way to a peer");
            }
            self.probes.said.insert(*ip, (verdict.state, names));
            let peer = self.desired.peers().find(|peer| peer.ip == *ip).map(|peer| self.peer_info(peer));
            peer.into_iter().for_each(|peer| self.tell(What::PeerHealth(peer)));
        }
    }

    /// How the way to a peer is, where that is known.
    pub(super) fn health(&self, ip: IpAddr) -> Option<Health> {
        self.probes.paths.get(&ip)?.health(clock::now())
    }

    /// The probes of a peer, where it was probed.
    pub(super) fn path(&self, ip: IpAddr) -> Option<&Path> {
        self.probes.paths.get(&ip)
    }

    /// The last round trip of ICMP echo to a host.
    pub(super) fn host_trip(&self, ip: IpAddr) -> Option<Duration> {
        self.probes.ping.as_ref()?.trips.get(&ip).copied()
    }

    /// Begins a self-test of the way to a peer.
    pub(super) fn test_peer(&mut self, ip: IpAddr) {
        let now = clock::now();
        self.follow(ip, now);
        self.hear_probes(now); // it may have asked us
        self.heard_since(ip); // from here on
        let networks = self.networks_of(ip);
        if let Some(path) = self.probes.paths.get_mut(&ip) {
            path.set_networks(networks);
            path.begin_test(now);
        }
    }

    /// Requests sent, and what workers counted of messages.
    pub(super) fn counted_oam(&self) -> Result<(u64, OamCounters), ControlError> {
        let mut sum = OamCounters::default();
        self.workers.each(|worker| worker.datapath.oam_counters())?.iter().for_each(|counters| sum.add(counters));
        Ok((self.probes.sent, sum))
    }

    /// `peer.probe`: begins a self-test, or says how the one of this ticket is or was.
    pub(super) fn probe(&mut self, ask: &ProbeAsk) -> Result<Probe, RpcError> {
        let ProbeAsk { ip, vlan, ticket } = *ask;
        let ip = ip.to_canonical();
        let ticket = match ticket {
            Some(ticket) if self.probes.tickets.get(&ticket).is_some_and(|(asked, _)| *asked == ip) => ticket,
            Some(ticket) => {
                let message = format!("there is no probe {ticket} of {ip}: ask anew, without a ticket");
                return Err(RpcError::new(Code::NotFound, message));
            }
            None => self.begin_probe(ip, vlan)?,
        };
        self.tend_probes();
        let now = clock::now();
        let path = self.probes.paths.get(&ip).ok_or_else(|| no_peer(ip))?;
        let verdict = path.verdict(now).filter(|_| !path.is_busy());
        let Some(verdict) = verdict else {
            return Ok(Probe {
                ip,
                answered: false,
                round_trip_us: None,
                path_mtu: None,
                foreign: false,
                state: HealthState::Unreachable,
                vnis: None,
                findings: Vec::new(),
                pending: Some(ticket),
            });
        };
        let (_, wanted) = self.probes.tickets.remove(&ticket).unwrap_or((ip, None));
        let best = path.tested().flatten();
        let foreign = verdict.state == HealthState::Foreign;
        let trip = best.or_else(|| self.host_trip(ip).filter(|_| foreign));
        let mut findings = verdict.findings;
        // Asked for one VLAN, another one's is of no interest.
        if let Some(wanted) = wanted.filter(|vni| path.shared().get(vni) == Some(&true)) {
            findings
                .retain(|finding| finding.name != "vni_missing" || finding.text.contains(&format!("VNI {wanted} ")));
        }
        let shared = path.shared().iter().filter(|(_, has_it)| **has_it).map(|(vni, _)| *vni);
        Ok(Probe {
            ip,
            answered: best.is_some(),
            round_trip_us: trip.map(|trip| u64::try_from(trip.as_micros()).unwrap_or(u64::MAX)),
            path_mtu: path.path_mtu().filter(|_| best.is_some()).map(u32::from),
            foreign,
            state: verdict.state,
            vnis: best.map(|_| shared.collect()),
            findings,
            pending: None,
        })
    }

    fn begin_probe(&mut self, ip: IpAddr, vlan: Option<Vid>) -> Result<u64, RpcError> {
        if !self.network.remotes.contains_key(&ip) {
            return Err(no_peer(ip));
        }
        let networks = self.networks_of(ip);
        let vni = vlan.map(|vlan| {
            let vni = networks.iter().find(|(_, other)| **other == vlan).map(|(vni, _)| *vni);
            vni.ok_or_else(|| {
                let message = format!(
                    "{ip} is no peer in VLAN {vlan}, or that has no VNI: `vsctl vlan add {vlan} --vni N` and \
                     `vsctl vtep peer add {ip} --vlan {vlan}`"
                );
                RpcError::new(Code::NotFound, message)
            })
        });
        let vni = vni.transpose()?;
        self.test_peer(ip);
        self.probes.next_ticket += 1;
        let ticket = self.probes.next_ticket;
        self.probes.tickets.insert(ticket, (ip, vni));
        while self.probes.tickets.len() > TICKETS {
            self.probes.tickets.pop_first();
        }
        Ok(ticket)
    }
}

impl Probes {
    /// Sends one probe.
    fn send(&mut self, (own, peer, port): (IpAddr, IpAddr, u16), ask: &Ask) {
        let Ask { sequence, len, networks } = ask;
        if self.socket.is_none() {
            self.socket = open(own);
        }
        let Some(path) = self.paths.get_mut(&peer) else { return };
        let Some(socket) = &self.socket else {
            path.not_sent(*sequence, clock::now(), Trouble::Other(0));
            return;
        };
        let now = clock::now();
        let message = Message {
            kind: Kind::Request,
            key: self.keys.key(peer),
            sequence: *sequence,
            time: now.as_nanos(),
            asked: peer,
            sender: own,
            port: socket.local_addr().port(),
            networks: networks.iter().filter_map(|vni| vtep::Vni::new(vni.get())).collect(),
        };
        let bytes = message.write(*len);
        path.sent(*sequence, now);
        let to = SocketAddr::new(peer, port);
        let sent = socket.send(to, &bytes).or_else(|error| {
            // It may be of an earlier datagram, to another peer. What was said is read, and then told no more.
            if error.raw_os_error() == Some(nix::libc::EMSGSIZE) {
                return Err(error);
            }
            while let Ok(Some(complaint)) = socket.complaint() {
                if let Some(path) = self.paths.get_mut(&complaint.to.ip().to_canonical()) {
                    path.complain(now, complaint.what, complaint.by);
                }
            }
            socket.send(to, &bytes)
        });
        match sent {
            Ok(()) => self.sent += 1,
            Err(error) => {
                if let Some(path) = self.paths.get_mut(&peer) {
                    path.not_sent(*sequence, now, trouble(&error));
                }
            }
        }
    }
}

/// A socket on a source port of datagrams between VTEPs, or on any where those are taken.
fn open(own: IpAddr) -> Option<ProbeSocket> {
    let at = |port| ProbeSocket::open(SocketAddr::new(own, port));
    // From the far end: the lanes' ports are spread over the range, and few.
    let socket = SOURCE_PORTS.rev().take(64).find_map(|port| at(port).ok());
    match socket.map_or_else(|| at(0), Ok) {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(%own, %error, "peers cannot be probed");
            None
        }
    }
}

fn trouble(error: &io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(nix::libc::EMSGSIZE) => Trouble::TooBig(0),
        _ => match error.kind() {
            ErrorKind::PermissionDenied => Trouble::Prohibited,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Trouble::HostUnreachable,
            ErrorKind::ConnectionRefused => Trouble::PortUnreachable,
            _ => Trouble::Other(error.raw_os_error().unwrap_or(0)),
        },
    }
}

fn no_peer(ip: IpAddr) -> RpcError {
    let refusal = Refusal::NoPeer { ip };
    RpcError::new(refusal.code(), refusal.to_string())
}
