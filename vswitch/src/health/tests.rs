//! A path in virtual time: what is asked is answered after a while, or not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use vswitch_api::HealthState::{self, Degraded, Foreign, Healthy, Unreachable};
use vswitch_core::Instant;
use vswitch_sys::{Neighbour, Trouble};
use vtep::oam::{Kind, Message, Read};

use super::Heard;
use super::path::{Ask, Ends, Path};

const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

/// What the underlay does to probes.
#[derive(Clone, Copy)]
struct Underlay {
    trip: Duration,
    mtu: u16,
    /// Each so many-th probe is lost; 0: none, 1: all.
    lost: usize,
    /// As whom the peer sees us.
    seen_as: IpAddr,
    /// Networks it shares.
    shares: fn(u32) -> bool,
    /// The peer knows nothing of us.
    is_stranger: bool,
}

const FINE: Underlay =
    Underlay { trip: Duration::from_millis(2), mtu: 1500, lost: 0, seen_as: OWN, shares: |_| true, is_stranger: false };

struct Sim {
    now: Instant,
    path: Path,
    sent: usize,
    on_the_way: Vec<(Instant, Heard)>,
}

impl Sim {
    fn new(interval: Option<u64>) -> Self {
        let ends = Ends { own: OWN, peer: PEER, port: 4789, mtu: 1500, overhead: 50 };
        let now = Instant::from_nanos(1_000_000_000);
        let mut path = Path::new(ends, interval.map(Duration::from_millis), now);
        let vlan = |vlan: u16| vlan.to_string().parse().unwrap();
        path.set_networks([(100, 10), (200, 20)].map(|(vni, id)| (vni.to_string().parse().unwrap(), vlan(id))).into());
        Self { now, path, sent: 0, on_the_way: Vec::new() }
    }

    /// Lets `time` pass over `underlay`.
    fn run(&mut self, time: Duration, underlay: Underlay) {
        let end = self.now + time;
        for _ in 0..100_000 {
            for ask in self.path.poll(self.now) {
                self.carry(&ask, underlay);
            }
            self.path.doubts_host(self.now);
            let arrival = self.on_the_way.iter().map(|(at, _)| *at).min();
            let next = [self.path.deadline(), arrival].into_iter().flatten().min().unwrap_or(end);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now + Duration::from_micros(1));
            let now = self.now;
            for (_, heard) in self.on_the_way.extract_if(.., |(at, _)| *at <= now) {
                self.path.hear(&heard);
            }
        }
        panic!("it does not come to rest");
    }

    fn carry(&mut self, ask: &Ask, underlay: Underlay) {
        self.sent += 1;
        let is_lost = underlay.lost > 0 && self.sent.is_multiple_of(underlay.lost);
        if is_lost || ask.len + 28 > usize::from(underlay.mtu) {
            return;
        }
        let at = self.now + underlay.trip;
        let networks = ask.networks.iter().filter_map(|vni| vtep::Vni::new(vni.get()));
        let message = Message {
            kind: Kind::Answer { was_damaged: false, is_stranger: underlay.is_stranger },
            key: 0,
            sequence: ask.sequence,
            time: 0,
            asked: PEER,
            sender: underlay.seen_as,
            port: 1,
            networks: networks.filter(|vni| (underlay.shares)(vni.get())).collect(),
        };
        let read = Read { message, is_damaged: false };
        self.on_the_way.push((at, Heard { from: (PEER, 50_000).into(), read, at }));
    }

    fn names(&self) -> Option<(HealthState, Vec<String>)> {
        let health = self.path.health(self.now)?;
        Some((health.state, health.findings.into_iter().map(|finding| finding.name).collect()))
    }
}

fn state(state: HealthState, names: &[&str]) -> Option<(HealthState, Vec<String>)> {
    Some((state, names.iter().map(|&name| name.to_owned()).collect()))
}

#[test]
fn a_self_test_is_short_and_finds_what_is_wrong() {
    let other = IpAddr::from([198, 51, 100, 1]);
    let table = [
        (FINE, state(Healthy, &[]), Some(1500_u16)),
        (Underlay { mtu: 1400, ..FINE }, state(Degraded, &["mtu_smaller"]), Some(1400)),
        (Underlay { mtu: 1499, ..FINE }, state(Degraded, &["mtu_smaller"]), Some(1499)),
        (Underlay { seen_as: other, ..FINE }, state(Degraded, &["source_rewritten"]), Some(1500)),
        (Underlay { shares: |vni| vni != 200, ..FINE }, state(Degraded, &["vni_missing"]), Some(1500)),
        (Underlay { trip: Duration::from_millis(150), ..FINE }, state(Healthy, &[]), Some(1500)),
        (Underlay { is_stranger: true, shares: |_| false, ..FINE }, state(Degraded, &["not_a_peer"]), None),
        (Underlay { lost: 1, ..FINE }, state(Unreachable, &["peer_silent"]), None),
    ];
    for (number, (underlay, expected, mtu)) in table.into_iter().enumerate() {
        let mut sim = Sim::new(None);
        assert_eq!((sim.names(), sim.path.deadline()), (None, None), "nothing is known, and nothing due");
        sim.path.begin_test(sim.now);
        sim.run(Duration::from_millis(1900), underlay);
        assert!(!sim.path.is_busy(), "{number}: it ends");
        assert_eq!(sim.names(), expected, "{number}");
        let health = sim.path.health(sim.now).unwrap();
        assert_eq!(health.path_mtu, mtu.map(u32::from), "{number}");
        assert_eq!(sim.path.tested(), Some((underlay.lost == 0).then_some(underlay.trip)), "{number}");
        assert!(sim.sent < 150, "{number}: {} probes", sim.sent);
        sim.run(Duration::from_secs(5), underlay);
        assert_eq!(sim.path.deadline(), None, "{number}: and then it rests");
    }
}

#[test]
fn an_interval_measures_loss_and_trips() {
    for (lost, share) in [(0, 0.0), (10, 0.1), (4, 0.25)] {
        let mut sim = Sim::new(Some(100));
        sim.run(Duration::from_secs(20), Underlay { lost, ..FINE });
        let health = sim.path.health(sim.now).unwrap();
        assert!((health.loss_share.unwrap() - share).abs() < 0.04, "{:?} of {share}", health.loss_share);
        assert_eq!(health.round_trip_us.map(|trip| (trip.last, trip.p50, trip.p99)), Some((2000, 2000, 2000)));
        assert_eq!((health.jitter_us, health.path_mtu), (Some(0), Some(1500)));
        let expected = if lost == 0 { state(Healthy, &[]) } else { state(Degraded, &["loss"]) };
        assert_eq!(sim.names(), expected);
    }
}

#[test]
fn who_falls_silent_and_comes_back() {
    let mut sim = Sim::new(Some(1000));
    sim.run(Duration::from_secs(10), FINE);
    assert_eq!(sim.names(), state(Healthy, &[]));
    let silent = Underlay { lost: 1, ..FINE };
    sim.run(Duration::from_secs(5), silent);
    assert_eq!(sim.names(), state(Unreachable, &["peer_silent"]), "nobody knows of the host");
    sim.path.note_echo();
    assert_eq!(sim.names(), state(Unreachable, &["port_blocked"]), "it was one of ours");
    sim.path.note_no_echo(sim.now, Ok(()), Some(Neighbour::Silent));
    assert_eq!(sim.names(), state(Unreachable, &["host_unreachable"]));
    sim.path.complain(sim.now, Trouble::PortUnreachable, Some(PEER));
    assert_eq!(sim.names(), state(Unreachable, &["port_blocked"]));
    sim.run(Duration::from_secs(2), Underlay { mtu: 1450, ..FINE });
    sim.run(Duration::from_secs(2), Underlay { mtu: 1450, ..FINE });
    assert_eq!(sim.names(), state(Degraded, &["mtu_smaller", "loss"]), "another path, found at once");
}

/// The host answers no ICMP echo. Its entry among the neighbours is of the time before, and says nothing until the kernel asks.
#[test]
fn a_neighbour_of_the_past_is_no_sign_of_life() {
    let secs = Duration::from_secs;
    let silent = Underlay { lost: 1, ..FINE };
    let not_known = state(Unreachable, &["peer_silent"]);
    for (asked, found) in [(Neighbour::Silent, "host_unreachable"), (Neighbour::Reachable(secs(1)), "port_blocked")] {
        let mut sim = Sim::new(Some(1000));
        sim.run(secs(10), FINE);
        sim.run(secs(5), silent);
        for before in [Neighbour::Reachable(secs(20)), Neighbour::Unproven(secs(20))] {
            sim.path.note_no_echo(sim.now, Ok(()), Some(before));
            assert_eq!(sim.names(), not_known, "{before:?}");
        }
        sim.run(secs(5), silent);
        sim.path.note_no_echo(sim.now, Ok(()), Some(asked));
        assert_eq!(sim.names(), state(Unreachable, &[found]));
        sim.run(secs(30), silent);
        sim.path.note_no_echo(sim.now, Ok(()), Some(Neighbour::Unproven(secs(60))));
        assert_eq!(sim.names(), state(Unreachable, &[found]), "and that counts until the kernel finds out otherwise");
        // Asked once and now: nothing is known of the time since the last answer.
        let mut sim = Sim::new(None);
        for (underlay, neighbour, expected) in [
            (FINE, Neighbour::Unproven(secs(1)), state(Healthy, &[])),
            (silent, Neighbour::Unproven(secs(1)), not_known.clone()),
            (silent, Neighbour::Reachable(secs(20)), state(Unreachable, &["port_blocked"])),
            (silent, asked, state(Unreachable, &[found])),
        ] {
            sim.run(secs(600), underlay);
            sim.path.begin_test(sim.now);
            sim.run(secs(2), underlay);
            sim.path.note_no_echo(sim.now, Ok(()), Some(neighbour));
            assert_eq!(sim.names(), expected, "{neighbour:?}");
        }
    }
}

#[test]
fn a_new_test_believes_nothing_of_an_earlier_one() {
    let mut sim = Sim::new(None);
    sim.path.begin_test(sim.now);
    sim.path.complain(sim.now, Trouble::PortUnreachable, Some(PEER));
    sim.run(Duration::from_secs(3), Underlay { lost: 1, ..FINE });
    assert!(sim.path.complaint().is_some());
    sim.path.note_echo();
    sim.path.begin_test(sim.now);
    assert_eq!(sim.path.complaint(), None);
    sim.run(Duration::from_secs(3), Underlay { lost: 1, ..FINE });
    assert_eq!(sim.names(), state(Unreachable, &["peer_silent"]), "nobody knows of the host");
    // What the path carried once says nothing of a path that is too slow to be searched.
    let far = Underlay { trip: Duration::from_millis(190), ..FINE };
    sim.path.begin_test(sim.now);
    sim.run(Duration::from_secs(3), FINE);
    let mtu = |sim: &Sim| sim.path.health(sim.now).and_then(|health| health.path_mtu);
    assert_eq!(mtu(&sim), Some(1500));
    sim.path.begin_test(sim.now);
    sim.run(Duration::from_secs(3), Underlay { mtu: 1400, ..far });
    assert_ne!(mtu(&sim), Some(1500));
}

#[test]
fn one_that_is_none_of_ours() {
    let mut sim = Sim::new(Some(1000));
    let silent = Underlay { lost: 1, ..FINE };
    sim.run(Duration::from_secs(3), silent);
    sim.path.note_echo();
    assert_eq!(sim.names(), state(Foreign, &["peer_silent"]));
    sim.path.note_frames(sim.now);
    assert_eq!(sim.names(), state(Foreign, &[]));
    assert!(sim.sent < 20, "{} probes", sim.sent);
}

#[test]
fn the_path_is_looked_at_again() {
    let mut sim = Sim::new(Some(1000));
    sim.run(Duration::from_secs(5), FINE);
    sim.run(Duration::from_secs(40), Underlay { mtu: 1300, ..FINE });
    assert_eq!(sim.names(), state(Degraded, &["mtu_smaller"]));
    sim.run(Duration::from_secs(40), FINE);
    assert_eq!(sim.names(), state(Healthy, &[]));
}

#[test]
fn all_networks_are_asked_for_in_turn() {
    let mut sim = Sim::new(Some(100));
    let networks: BTreeMap<_, _> = (1..=150)
        .map(|number: u16| (number.to_string().parse().unwrap(), number.to_string().parse().unwrap()))
        .collect();
    sim.path.set_networks(networks);
    sim.run(Duration::from_secs(3), Underlay { shares: |vni| vni != 150, ..FINE });
    assert_eq!(sim.path.shared().len(), 150);
    assert_eq!(sim.names(), state(Degraded, &["vni_missing"]));
}

#[test]
fn a_self_test_does_not_count_what_was_lost_before() {
    let secs = Duration::from_secs;
    let silent = Underlay { lost: 1, ..FINE };
    for interval in [None, Some(1000)] {
        let mut sim = Sim::new(interval);
        for underlay in [silent, silent, FINE] {
            sim.run(secs(10), underlay);
            sim.path.begin_test(sim.now);
            sim.run(secs(3), underlay);
        }
        let verdict = sim.path.tested_verdict(sim.now).unwrap();
        assert_eq!((verdict.state, verdict.findings), (Healthy, vec![]), "{interval:?}");
    }
}

#[test]
fn what_was_asked_once_has_an_age_and_what_is_asked_again_and_again_is_forgotten() {
    let secs = Duration::from_secs;
    let mut sim = Sim::new(None);
    sim.path.begin_test(sim.now);
    sim.run(secs(3), FINE);
    sim.run(secs(600), FINE);
    let asked = sim.path.health(sim.now).unwrap().asked_s.unwrap();
    assert!((600..=603).contains(&asked), "{asked}");
    let mut sim = Sim::new(Some(5000));
    sim.run(secs(60), FINE);
    sim.run(secs(11), Underlay { lost: 1, ..FINE });
    sim.run(secs(50), FINE);
    assert_eq!(sim.names(), state(Degraded, &["loss"]));
    assert_eq!(sim.path.health(sim.now).unwrap().asked_s, None);
    sim.run(secs(20), FINE);
    assert_eq!(sim.names(), state(Healthy, &[]), "a minute later");
}

#[test]
fn who_becomes_a_peer_is_one() {
    let stranger = Underlay { is_stranger: true, shares: |_| false, ..FINE };
    for interval in [None, Some(1000)] {
        let mut sim = Sim::new(interval);
        for (underlay, expected) in
            [(FINE, state(Healthy, &[])), (stranger, state(Degraded, &["not_a_peer"])), (FINE, state(Healthy, &[]))]
        {
            if interval.is_none() {
                sim.path.begin_test(sim.now);
            }
            sim.run(Duration::from_secs(4), underlay);
            assert_eq!(sim.names(), expected);
            let (health, is_stranger) = (sim.path.health(sim.now).unwrap(), underlay.is_stranger);
            assert_eq!(health.loss_share, (!is_stranger).then_some(0.0));
            assert_eq!(sim.path.is_refused(), is_stranger);
            if !is_stranger {
                assert_eq!(health.path_mtu, Some(1500));
            }
        }
    }
}
