//! Three switches, each with a remote for either of the others: a full mesh, which only split horizon keeps from
//! looping.

use vswitch_core::{MacAddr, PortId};

use crate::host::Host;
use crate::network::{CLEAN, Network};
use crate::{access, remote, vlan};

/// Host `n` on switch `n`, and the three links between the switches.
fn mesh() -> (Network, [usize; 3]) {
    let mut network = Network::new(3);
    for n in 0..3 {
        let switch = network.add_switch();
        network.plug(Host::ear(n), switch, 9, access(10));
    }
    // A switch's port n leads to switch n.
    let links = [[(0, 1), (1, 0)], [(1, 2), (2, 1)], [(2, 0), (0, 2)]];
    let links = links.map(|ends| network.join(ends, &remote(&[10]), CLEAN));
    (network, links)
}

/// Frames each host heard.
fn heard(network: &Network) -> [usize; 3] {
    [0, 1, 2].map(|host: usize| network.hosts[host].heard.len())
}

#[test]
fn a_broadcast_arrives_once_everywhere() {
    let (mut network, links) = mesh();
    network.hosts[0].say(MacAddr::BROADCAST);
    network.settle();
    assert_eq!(heard(&network), [0, 1, 1]);
    assert_eq!(links.map(|link| network.carried(link)), [1, 0, 1], "each remote once, and none to another");
    assert!(network.drops.is_empty(), "{:?}", network.drops);
}

#[test]
fn unicast_goes_to_one_once_it_is_known() {
    let (mut network, links) = mesh();
    let [first, second] = [0, 1].map(|host: usize| network.hosts[host].mac);
    network.hosts[0].say(second); // unknown: to all
    network.settle();
    assert_eq!(heard(&network), [0, 1, 1]);
    network.hosts[1].say(first);
    network.settle();
    assert_eq!(heard(&network), [1, 1, 1]);
    network.hosts[0].say(second);
    network.settle();
    assert_eq!(heard(&network), [1, 2, 1]);
    assert_eq!(links.map(|link| network.carried(link)), [3, 0, 1]);
}

#[test]
fn a_station_that_moved_is_found_by_its_first_frame() {
    let (mut network, _) = mesh();
    let moved = network.hosts[1].mac;
    for host in [0, 1] {
        network.hosts[host].say(MacAddr::BROADCAST);
    }
    network.settle();
    assert_eq!(network.switches[0].fdb_get(vlan(10), moved).map(|entry| entry.port), Some(PortId::new(1)));
    network.hosts[2].mac = moved;
    network.hosts[2].say(MacAddr::BROADCAST);
    network.settle();
    let before = heard(&network);
    network.hosts[0].say(moved);
    network.settle();
    assert_eq!(heard(&network), [before[0], before[1], before[2] + 1]);
    assert_eq!(network.switches.iter().map(|switch| switch.counters().moved).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn a_stale_remote_does_not_send_a_frame_on() {
    let (mut network, links) = mesh();
    let third = network.hosts[2].mac;
    // Switch 0 believes that station 2 is behind switch 1, which knows better but must not relay.
    network.hosts[2].say(MacAddr::BROADCAST);
    network.settle();
    network.switches[0].fdb_add_static(vlan(10), third, PortId::new(1)).unwrap();
    network.hosts[0].say(third);
    network.settle();
    assert_eq!(network.drops.get("split_horizon"), Some(&1), "{:?}", network.drops);
    assert_eq!(network.carried(links[0]), 1);
    assert!(network.hosts[2].heard.is_empty());
}
