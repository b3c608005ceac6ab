//! TCP between hosts on two switches: every byte must arrive, whatever the link between does.

use std::time::Duration;

use vswitch_core::{MacAddr, PortId, PortMode};

use crate::host::Host;
use crate::network::{CLEAN, Network, Quality};
use crate::{access, remote, set, vlan};

/// Odd on purpose: no multiple of a segment.
const LEN: usize = 300_001;

/// 10.0.0.1 on the first switch, 10.0.0.2 on the second, both in VLAN 10, and an ear beside the first: one in its VLAN
/// and one in VLAN 20. Returns the network and the number of the link between.
fn transfer(seed: u64, between: &PortMode, quality: Quality) -> (Network, usize) {
    let data: Vec<u8> = (0..LEN).map(|n| u8::try_from((n ^ n >> 8 ^ n >> 16) & 0xff).unwrap()).collect();
    let mut network = Network::new(seed);
    let (a, b) = (network.add_switch(), network.add_switch());
    let link = network.join([(a, 0), (b, 0)], between, quality);
    network.plug(Host::sender(1, 2, data.clone(), seed), a, 1, access(10));
    let receiver = network.plug(Host::receiver(2, seed ^ 1), b, 1, access(10));
    network.plug(Host::ear(3), a, 2, access(10));
    network.plug(Host::ear(4), a, 3, access(20));
    network.run_until("all bytes received", |network| network.hosts[receiver].received().len() >= LEN);
    assert!(network.hosts[receiver].received() == data, "seed {seed}: other bytes arrived than were sent");
    (network, link)
}

#[test]
fn across_a_tunnel() {
    let (network, link) = transfer(1, &remote(&[10, 20]), CLEAN);
    assert!(network.carried(link) > u64::try_from(LEN / 1460).unwrap());
    assert!(network.drops.is_empty(), "{:?}", network.drops);
    // The stations were learned on either side of the tunnel, so bystanders heard only what was for all.
    let port = |switch: usize, n| network.switches[switch].fdb_get(vlan(10), MacAddr([2, 0, 0, 0, 0, n])).unwrap().port;
    assert_eq!([port(0, 1), port(0, 2), port(1, 1), port(1, 2)], [1, 0, 0, 1].map(PortId::new));
    let for_all = |bytes: &Vec<u8>| bytes.starts_with(&MacAddr::BROADCAST.0);
    assert!(!network.hosts[2].heard.is_empty() && network.hosts[2].heard.iter().all(for_all));
    assert_eq!(network.hosts[3].heard, Vec::<Vec<u8>>::new(), "another VLAN");
}

#[test]
fn across_a_tunnel_that_loses_and_reorders() {
    for seed in 0..30 {
        // Up to 5.8 % loss, and up to ten times the delay.
        let jitter = Duration::from_millis(seed % 10);
        let quality = Quality { delay: Duration::from_millis(1), jitter, loss: 2 * seed };
        let (network, _) = transfer(seed, &remote(&[10]), quality);
        assert_eq!(network.hosts[3].heard, Vec::<Vec<u8>>::new(), "seed {seed}: another VLAN");
    }
}

#[test]
fn across_trunks() {
    for native in [None, Some(vlan(10)), Some(vlan(20))] {
        let (network, _) = transfer(7, &PortMode::Trunk { vlans: set(&[10, 20]), native }, CLEAN);
        assert!(network.drops.is_empty(), "{native:?}: {:?}", network.drops);
        assert_eq!(network.hosts[3].heard, Vec::<Vec<u8>>::new(), "{native:?}: another VLAN");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let quality = Quality { delay: Duration::from_millis(2), jitter: Duration::from_millis(3), loss: 30 };
    let run = |seed| {
        let (network, link) = transfer(seed, &remote(&[10]), quality);
        (network.now, network.carried(link))
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
