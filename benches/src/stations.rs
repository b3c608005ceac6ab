//! A switch and stations that talk through it.

use vswitch_core::{Instant, Limits, PortId, PortMode, Switch, VlanId};

use crate::{least, station};

/// Steps through numbers below a power of two so that each comes once and neighbours are far apart.
pub const STRIDE: u32 = 0x9e37_79b1;

/// The VLAN they are in.
#[must_use]
pub fn vlan() -> VlanId {
    VlanId::new(1).unwrap()
}

/// A switch with room for `entries` addresses and four ports.
#[must_use]
pub fn switch(entries: u32) -> Switch {
    let mut switch = Switch::new(Limits { entries, per_port: entries }, 7);
    for port in 0..4 {
        switch.add_port(PortId::new(port), PortMode::Access(vlan()));
    }
    switch
}

/// Teaches it stations 0 to `entries` - 1, on ports 0 to 3 in turn.
pub fn learn(switch: &mut Switch, entries: u32) {
    for number in 0..entries {
        let port = PortId::new(u16::from(number.to_le_bytes()[0] & 3));
        switch.ingress(Instant::default(), port, &least(station(number), station(number ^ 1)));
    }
}

/// Frames of `flows` pairs, the first of them number `first`, among as many stations as `learn` teaches. Stations of a
/// multiple of four are on port 0, the one behind each on port 1.
#[must_use]
pub fn frames(entries: u32, first: u32, flows: u32) -> Vec<[u8; 60]> {
    let frame = |flow: u32| {
        let from = (flow.wrapping_mul(STRIDE) & (entries / 4 - 1)) * 4;
        least(station(from), station(from | 1))
    };
    (first..first + flows).map(frame).collect()
}
