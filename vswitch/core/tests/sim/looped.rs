//! A loop behind the switch, on virtual time: two of its ports, or two switches, joined twice.

use std::time::Duration;

use vswitch_core::switch::FdbKind;
use vswitch_core::{MacAddr, PortMode};

use crate::host::Host;
use crate::network::{CLEAN, Network};
use crate::{access, remote, vlan};

/// Two stations on ports 0 and 1 of a switch, which know each other, and a link from its port 2 to its port 3.
fn looped(storm_limit: u32) -> Network {
    let mut network = Network::new(11);
    let switch = network.add_switch();
    network.switches[switch].set_storm_limit(std::num::NonZeroU32::new(storm_limit));
    for n in 0..2 {
        network.plug(Host::ear(n), switch, u16::from(n), access(10));
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let to = network.hosts[to].mac;
        network.hosts[from].say(to);
        network.settle();
    }
    network.join([(switch, 2), (switch, 3)], &access(10), CLEAN);
    network
}

/// Where station 0 is, and whether it is held there.
fn place(network: &Network) -> (u16, bool) {
    let entry = network.switches[0].fdb_get(vlan(10), network.hosts[0].mac).unwrap();
    assert!(matches!(entry.kind, FdbKind::Learned { .. }));
    (entry.port.get(), entry.flapping.is_some())
}

#[test]
fn a_broadcast_goes_round_until_its_station_is_held() {
    let mut network = looped(0);
    network.hosts[0].say(MacAddr::BROADCAST);
    // It comes to rest, though nothing but the hold ends it.
    network.settle();
    assert_eq!(place(&network), (0, true));
    let counters = network.switches[0].counters();
    assert_eq!((counters.moved, counters.flapping), (4, 1));
    assert_eq!(network.drops.keys().copied().collect::<Vec<_>>(), ["mac_flapping"]);
    // All along, each finds the other.
    for (from, to) in [(0, 1), (1, 0)] {
        let (heard, mac) = (network.hosts[to].heard.len(), network.hosts[to].mac);
        network.hosts[from].say(mac);
        network.settle();
        assert_eq!(network.hosts[to].heard.len(), heard + 1);
    }
    // Held, it may broadcast as it likes: each goes to the loop's two ends once, and no further.
    let dropped = network.drops["mac_flapping"];
    for _ in 0..10 {
        network.hosts[0].say(MacAddr::BROADCAST);
    }
    network.settle();
    assert_eq!(network.drops["mac_flapping"], dropped + 20);
}

#[test]
fn a_loop_that_stays_is_noticed_again_and_held_for_longer() {
    let mut network = looped(0);
    for secs in [10, 20, 40, 80, 160, 160] {
        network.hosts[0].say(MacAddr::BROADCAST);
        network.settle();
        assert_eq!(place(&network), (0, true));
        network.pass(Duration::from_secs(secs - 1));
        assert_eq!(place(&network), (0, true), "within {secs} s");
        network.pass(Duration::from_secs(1));
        assert_eq!(place(&network), (0, false), "after {secs} s");
    }
    assert_eq!(network.switches[0].counters().flapping, 6);
}

#[test]
fn what_cannot_be_held_is_lost_to_the_limit() {
    // Nothing is learned behind remotes here, and so the loop's other half never sees an address move.
    let mut network = Network::new(12);
    let switches = [network.add_switch(), network.add_switch()];
    for &switch in &switches {
        network.switches[switch].set_learning(vlan(10), false);
        network.switches[switch].set_storm_limit(std::num::NonZeroU32::new(100));
    }
    network.plug(Host::ear(0), switches[0], 0, access(10));
    let tunnel = network.join([(switches[0], 1), (switches[1], 1)], &remote(&[10]), CLEAN);
    let trunk = PortMode::Trunk { vlans: [vlan(10)].into_iter().collect(), native: None };
    network.join([(switches[0], 2), (switches[1], 2)], &trunk, CLEAN);
    let start = network.now;
    for _ in 0..50 {
        network.hosts[0].say(MacAddr::BROADCAST);
    }
    // A frame that goes round comes by each port more often than the limit lets it, and so is dropped in the end.
    network.settle();
    assert!(network.now.since(start) < Duration::from_secs(1), "{:?}", network.now.since(start));
    assert!(network.drops["storm_broadcast"] >= 40, "{:?}", network.drops);
    // Each switch takes ten at once from either side, and few more while they go round.
    assert!((10..100).contains(&network.carried(tunnel)), "{} frames went by the tunnel", network.carried(tunnel));
}
