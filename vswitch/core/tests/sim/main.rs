//! Whole networks in one thread: switches, links with delay, loss and reordering, and hosts, on virtual time.
#![allow(unreachable_pub, reason = "a test has no outside")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it finds itself wrong")]

mod host;
mod network;

mod ageing;
mod guard;
mod looped;
mod tcp;
mod tunnel;

use vswitch_core::{PortMode, VlanId, VlanSet};

fn vlan(vid: u16) -> VlanId {
    VlanId::new(vid).unwrap()
}

fn access(vid: u16) -> PortMode {
    PortMode::Access(vlan(vid))
}

fn remote(vids: &[u16]) -> PortMode {
    PortMode::Remote { vlans: set(vids) }
}

fn set(vids: &[u16]) -> VlanSet {
    vids.iter().copied().map(vlan).collect()
}
