//! Ageing on virtual time: hours pass in no time.

use std::time::Duration;

use vswitch_core::MacAddr;
use vswitch_core::switch::fdb::DEFAULT_AGEING;

use crate::host::Host;
use crate::network::Network;
use crate::{access, vlan};

/// Three hosts on one switch, of which the first two are known.
fn known() -> Network {
    let mut network = Network::new(9);
    let switch = network.add_switch();
    for n in 0..3 {
        network.plug(Host::ear(n), switch, u16::from(n), access(10));
    }
    for host in [0, 1] {
        network.hosts[host].say(MacAddr::BROADCAST);
    }
    network.settle();
    network
}

fn say(network: &mut Network, from: usize, to: usize) {
    let to = network.hosts[to].mac;
    network.hosts[from].say(to);
    network.settle();
}

#[test]
fn a_silent_station_is_forgotten_and_flooded_to_again() {
    let mut network = known();
    let bystander = network.hosts[2].heard.len();
    network.pass(DEFAULT_AGEING - Duration::from_secs(1));
    assert_eq!(network.switches[0].fdb_len(), 2);
    say(&mut network, 0, 1);
    assert_eq!(network.hosts[2].heard.len(), bystander);
    // Only station 0 was heard again.
    network.pass(Duration::from_secs(1));
    assert!(network.switches[0].fdb_get(vlan(10), network.hosts[0].mac).is_some());
    assert!(network.switches[0].fdb_get(vlan(10), network.hosts[1].mac).is_none());
    say(&mut network, 0, 1);
    assert_eq!(network.hosts[2].heard.len(), bystander + 1, "flooded again");
}

#[test]
fn a_station_that_speaks_is_kept() {
    let mut network = known();
    for _ in 0..100 {
        network.pass(DEFAULT_AGEING / 2);
        say(&mut network, 0, 1);
        say(&mut network, 1, 0);
    }
    assert_eq!(network.switches[0].counters().learned, 2);
    assert_eq!(network.switches[0].counters().aged, 0);
    network.run_until("all forgotten", |network| network.switches[0].fdb_len() == 0);
    assert_eq!(network.switches[0].counters().aged, 2);
    assert_eq!(network.switches[0].poll_timeout(), None, "nothing left to wait for");
}
