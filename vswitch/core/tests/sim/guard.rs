//! TCP between hosts that may say nothing but the truth: address resolution and data pass, a liar does not get through.

use vswitch_core::{Guard, MacAddr, PortId, Prefix};

use crate::host::{Host, v4, v6};
use crate::network::{CLEAN, Network};
use crate::{access, remote};

const LEN: usize = 100_001;

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// Station `n` may say it is that, over IPv4 and IPv6.
fn honest(n: u8) -> Guard {
    Guard::new(Some(vec![mac(n)]), Some(vec![Prefix::host(v4(n).into()), Prefix::host(v6(n).into())]))
}

/// Host 1 on the first switch sends to host 2 on the second, which is at `claimed`; both ports are guarded.
fn transfer(at: fn(u8) -> smoltcp::wire::IpAddress, claimed: u8, seed: u64) -> (Network, usize) {
    let data: Vec<u8> = (0..LEN).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let mut network = Network::new(seed);
    let (a, b) = (network.add_switch(), network.add_switch());
    network.join([(a, 0), (b, 0)], &remote(&[10]), CLEAN);
    network.plug(Host::sender_at(1, [at(1), at(claimed)], data, seed), a, 1, access(10));
    let receiver = network.plug(Host::receiver_at(2, at(claimed), seed ^ 1), b, 1, access(10));
    network.switches[a].set_guard(PortId::new(1), honest(1));
    network.switches[b].set_guard(PortId::new(1), honest(2));
    (network, receiver)
}

#[test]
fn real_stacks_pass() {
    for at in [v4, v6] {
        let (mut network, receiver) = transfer(at, 2, 3);
        network.run_until("all bytes received", |network| network.hosts[receiver].received().len() >= LEN);
        assert!(network.drops.is_empty(), "{:?}", network.drops);
    }
}

#[test]
fn a_host_at_another_address_is_not_heard() {
    for at in [v4, v6] {
        let (mut network, receiver) = transfer(at, 3, 4);
        network.pass(std::time::Duration::from_secs(5));
        assert_eq!(network.hosts[receiver].received(), [0_u8; 0]);
        let reasons: Vec<_> = network.drops.keys().copied().collect();
        assert_eq!(reasons, ["spoofed_ip"], "{:?}", network.drops);
    }
}
