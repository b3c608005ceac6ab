//! Many threads, each with its own sibling of one switch, learn, move, forget and look up the same addresses. Whatever
//! the order: an address is only ever found behind a port that it was taught on.
#![allow(clippy::unwrap_used, reason = "a test may stop where it finds itself wrong")]

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use vswitch_core::{Egress, Instant, Limits, MacAddr, PortId, PortMode, Switch, Verdict, VlanId};

const THREADS: u64 = 4;
const STEPS: u64 = 200_000;
/// More than fit, so that addresses push each other out all the time.
const STATIONS: u64 = 6_000;
const LIMITS: Limits = Limits { entries: 4_000, per_port: 300 };
const PORTS: u16 = 32;

/// A sequence of numbers that a seed determines.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % end
    }
}

fn vlan() -> VlanId {
    VlanId::new(7).unwrap()
}

fn mac(station: u64) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 | station)
}

/// The two ports that a station is ever on.
fn homes(station: u64) -> [PortId; 2] {
    let port = u16::try_from(station % u64::from(PORTS)).unwrap();
    [PortId::new(port), PortId::new((port + 7) % PORTS)]
}

fn frame(to: u64, from: u64) -> Vec<u8> {
    [&mac(to).0[..], &mac(from).0, &[0x08, 0x00]].concat()
}

fn switch(seed: u64) -> Switch {
    let mut switch = Switch::new(LIMITS, seed);
    for port in 0..PORTS {
        switch.add_port(PortId::new(port), PortMode::Access(vlan()));
    }
    switch
}

/// One thread's doings; returns how many addresses it found.
fn work(switch: &mut Switch, seed: u64, clock: &AtomicU64) -> u64 {
    let mut dice = Dice(seed);
    let mut found = 0;
    for step in 0..STEPS {
        let now = Instant::from_nanos(clock.fetch_add(100_000, Ordering::Relaxed));
        let (station, other) = (dice.below(STATIONS), dice.below(STATIONS));
        let home = homes(station)[usize::try_from(dice.below(2)).unwrap()];
        match dice.below(2_000) {
            0 => drop(switch.fdb_flush(None, Some(home))),
            1 if step % 8 == 0 => drop(switch.fdb_flush(None, None)),
            2..=20 => drop(switch.fdb_remove(vlan(), mac(station))),
            21..=24 => switch.fdb_add_static(vlan(), mac(station), home).unwrap(),
            25 => switch.handle_timeout(now),
            26..=1_200 => {
                if let Some(port) = switch.fdb_lookup(vlan(), mac(other)) {
                    assert!(homes(other).contains(&port), "seed {seed}, step {step}: {other} behind {port}");
                    found += 1;
                }
            }
            _ => {
                let frames = [frame(other, station), frame(station, station)];
                switch.ingress_batch(now, home, frames.iter().map(Vec::as_slice), |_, place, verdict| {
                    let to = [other, station][place];
                    if let Verdict::Unicast(Egress { port, .. }) = verdict {
                        assert!(homes(to).contains(&port), "seed {seed}, step {step}: {to} behind {port}");
                        found += 1;
                    }
                });
            }
        }
    }
    found
}

#[test]
fn an_address_is_only_found_where_it_was_taught() {
    for seed in [1, 2, 3] {
        println!("seed {seed}");
        let first = switch(seed);
        let start = Barrier::new(usize::try_from(THREADS).unwrap());
        let clock = AtomicU64::new(0);
        let found: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (mut sibling, start, clock) = (first.sibling(), &start, &clock);
                    scope.spawn(move || {
                        start.wait();
                        work(&mut sibling, seed * 1_000 + thread, clock)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(found > STEPS / 4, "seed {seed}: too little was found to prove anything: {found}");

        // What is left is whole: listed once each, within the limits, and found by every sibling.
        let mut left: Vec<_> = first.fdb_entries().collect();
        assert_eq!(left.len(), first.fdb_len());
        assert!(left.len() <= usize::try_from(LIMITS.entries).unwrap());
        left.sort_unstable_by_key(|entry| entry.mac);
        assert!(left.windows(2).all(|pair| pair[0].mac != pair[1].mac), "seed {seed}: listed twice");
        let sibling = first.sibling();
        for entry in left {
            assert_eq!(sibling.fdb_lookup(vlan(), entry.mac), Some(entry.port), "seed {seed}: {}", entry.mac);
        }
    }
}

/// A switch that learned nothing itself reads the table that its sibling made larger.
#[test]
fn a_sibling_follows_when_the_table_grows() {
    let mut one = switch(7);
    let mut two = one.sibling();
    for station in 0..2_000 {
        let [home, _] = homes(station);
        one.ingress(Instant::default(), home, &frame(station + 1, station));
        let [port, _] = homes(station + 1);
        let verdict = two.ingress(Instant::default(), port, &frame(station, station + 1));
        assert!(matches!(verdict, Verdict::Unicast(egress) if egress.port == home), "{station}: {verdict:?}");
    }
    assert_eq!((one.fdb_len(), two.fdb_len()), (2_001, 2_001));
    assert_eq!(one.counters(), two.counters());
}
