//! Where frames enter and leave: TAP devices and the tunnel.

pub(crate) mod carrier;
mod desk;
pub(crate) mod handed;
mod sockets;
pub(crate) mod tap;
pub(crate) mod tunnel;
mod uplink;

pub(crate) use desk::{OamCounters, OamDrop};
