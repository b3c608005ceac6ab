//! Checked views of the bytes of a frame. Only what a switch must know: Ethernet addresses and one 802.1Q tag.

pub mod ethernet;
pub mod vlan;
