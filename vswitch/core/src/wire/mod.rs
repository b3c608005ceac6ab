//! Checked views of the bytes of a frame. A switch must know its Ethernet addresses and one 802.1Q tag; who guards a port
//! also what ARP, IP and neighbour discovery say of their sender.

pub mod ethernet;
pub mod vlan;

pub(crate) mod arp;
pub(crate) mod ipv4;
pub(crate) mod ipv6;
pub(crate) mod neighbour;
mod speaker;

pub use speaker::speaker;
