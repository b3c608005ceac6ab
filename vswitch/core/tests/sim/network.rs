//! Switches and hosts on links, and the time that passes between them.
//!
//! Nothing here waits: time jumps to the next arrival or deadline. All chance comes from one seed, so a run repeats.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use vswitch_core::{Egress, Frame, Instant, Limits, PortId, PortMode, Switch, Verdict, VlanId};

use crate::host::Host;

/// Steps after which a run that has not got where it should is declared stuck.
const STEPS: u32 = 1_000_000;

/// What a link does to frames.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    pub delay: Duration,
    /// Up to this much is added to each frame's delay: frames overtake each other.
    pub jitter: Duration,
    /// Frames lost of a thousand.
    pub loss: u64,
}

pub const CLEAN: Quality = Quality { delay: Duration::from_micros(50), jitter: Duration::ZERO, loss: 0 };

/// Where a link ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Host(usize),
    Port(usize, PortId),
}

#[derive(Debug)]
struct Link {
    ends: [End; 2],
    quality: Quality,
    /// Whether both ends are remotes: frames then carry their VLAN beside them, as a VNI does.
    tunnel: bool,
    carried: u64,
}

#[derive(Debug)]
struct Arrival {
    end: End,
    bytes: Vec<u8>,
    vlan: Option<VlanId>,
}

pub struct Network {
    pub now: Instant,
    pub switches: Vec<Switch>,
    pub hosts: Vec<Host>,
    /// Dropped by switches, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    seed: u64,
    chance: u64,
    links: Vec<Link>,
    ends: HashMap<End, usize>,
    arrivals: BTreeMap<(Instant, u64), Arrival>,
    sent: u64,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_nanos(1_000_000_000),
            switches: Vec::new(),
            hosts: Vec::new(),
            drops: BTreeMap::new(),
            seed,
            chance: seed,
            links: Vec::new(),
            ends: HashMap::new(),
            arrivals: BTreeMap::new(),
            sent: 0,
        }
    }

    pub fn add_switch(&mut self) -> usize {
        let seed = self.draw();
        self.switches.push(Switch::new(Limits { entries: 1000, per_port: 500 }, seed));
        self.switches.len() - 1
    }

    /// Plugs a host into a new port.
    pub fn plug(&mut self, host: Host, switch: usize, port: u16, mode: PortMode) -> usize {
        let port = PortId::new(port);
        self.hosts.push(host);
        let host = self.hosts.len() - 1;
        self.switches[switch].add_port(port, mode);
        self.link([End::Host(host), End::Port(switch, port)], CLEAN, false);
        host
    }

    /// Joins two switches by a port each; returns the number of the link.
    pub fn join(&mut self, ends: [(usize, u16); 2], mode: &PortMode, quality: Quality) -> usize {
        for (switch, port) in ends {
            self.switches[switch].add_port(PortId::new(port), mode.clone());
        }
        let tunnel = matches!(mode, PortMode::Remote { .. });
        self.link(ends.map(|(switch, port)| End::Port(switch, PortId::new(port))), quality, tunnel)
    }

    fn link(&mut self, ends: [End; 2], quality: Quality, tunnel: bool) -> usize {
        let link = self.links.len();
        for end in ends {
            assert!(self.ends.insert(end, link).is_none(), "{end:?} has a link");
        }
        self.links.push(Link { ends, quality, tunnel, carried: 0 });
        link
    }

    /// Frames that `link` took, lost ones too.
    pub fn carried(&self, link: usize) -> u64 {
        self.links[link].carried
    }

    /// Runs until `done`; panics with the seed where that does not come about.
    pub fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..STEPS {
            if done(self) {
                return;
            }
            assert!(self.step(), "seed {}: nothing left to happen before {what}; {:?}", self.seed, self.drops);
        }
        panic!("seed {}: not {what} after {STEPS} steps, at {:?}; {:?}", self.seed, self.now, self.drops);
    }

    /// Runs until no frame is under way.
    pub fn settle(&mut self) {
        self.send_all();
        self.run_until("settled", |network| network.arrivals.is_empty());
    }

    /// Lets time pass, with whatever falls due.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..STEPS {
            if self.next().is_none_or(|next| next > end) {
                self.now = end;
                return;
            }
            self.step();
        }
        panic!("seed {}: too much happens before {end:?}", self.seed);
    }

    /// Jumps to what happens next and lets it happen; false where nothing is left.
    fn step(&mut self) -> bool {
        self.send_all();
        let Some(next) = self.next() else { return false };
        self.now = self.now.max(next);
        let now = self.now;
        if let Some(first) = self.arrivals.first_entry().filter(|first| first.key().0 <= now) {
            let arrival = first.remove();
            self.arrive(arrival);
        }
        for switch in &mut self.switches {
            if switch.poll_timeout().is_some_and(|deadline| deadline <= now) {
                switch.handle_timeout(now);
                assert!(switch.poll_timeout().is_none_or(|deadline| deadline > now), "a deadline that stays");
            }
        }
        for host in &mut self.hosts {
            if host.poll_timeout(now).is_some_and(|deadline| deadline <= now) {
                host.poll(now);
            }
        }
        true
    }

    fn next(&mut self) -> Option<Instant> {
        let now = self.now;
        let arrival = self.arrivals.keys().next().map(|(at, _)| *at);
        let switches = self.switches.iter().filter_map(Switch::poll_timeout);
        let hosts = self.hosts.iter_mut().filter_map(|host| host.poll_timeout(now));
        arrival.into_iter().chain(switches).chain(hosts).min()
    }

    fn arrive(&mut self, arrival: Arrival) {
        let Arrival { end, bytes, vlan } = arrival;
        let (at, port) = match end {
            End::Host(host) => return self.hosts[host].hear(self.now, bytes),
            End::Port(switch, port) => (switch, port),
        };
        let switch = &mut self.switches[at];
        let verdict = match vlan {
            None => switch.ingress(self.now, port, &bytes),
            Some(vlan) => switch.ingress_remote(self.now, port, vlan, &bytes),
        };
        let ways: Vec<Egress> = match verdict {
            Verdict::Unicast(egress) => vec![egress],
            Verdict::Flood(flood) => switch.flood_targets(&flood).collect(),
            Verdict::Drop(reason) => {
                *self.drops.entry(reason.name()).or_default() += 1;
                return;
            }
        };
        for egress in ways {
            let mut frame = Frame::from_bytes(&bytes);
            frame.retag(egress.tag);
            self.send(End::Port(at, egress.port), egress.vlan, frame.bytes().to_vec());
        }
    }

    /// Sends what the hosts have ready.
    fn send_all(&mut self) {
        for host in 0..self.hosts.len() {
            while let Some(bytes) = self.hosts[host].take_outgoing() {
                self.send(End::Host(host), VlanId::MIN, bytes);
            }
        }
    }

    fn send(&mut self, from: End, vlan: VlanId, bytes: Vec<u8>) {
        let Some(&link) = self.ends.get(&from) else { return };
        let (lost, jitter) = (self.draw() % 1000, self.draw());
        let link = &mut self.links[link];
        link.carried += 1;
        if lost < link.quality.loss {
            return;
        }
        let most = u64::try_from(link.quality.jitter.as_nanos()).unwrap();
        let at = self.now + link.quality.delay + Duration::from_nanos(jitter % (most + 1));
        let end = if link.ends[0] == from { link.ends[1] } else { link.ends[0] };
        let vlan = link.tunnel.then_some(vlan);
        self.sent += 1;
        self.arrivals.insert((at, self.sent), Arrival { end, bytes, vlan });
    }

    /// SplitMix64: small, and the same everywhere.
    fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.chance ^ self.chance >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
