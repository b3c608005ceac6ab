//! Where frames enter and leave: TAP devices and the tunnel.

pub(crate) mod carrier;
pub(crate) mod handed;
mod sockets;
pub(crate) mod tap;
pub(crate) mod tunnel;
mod uplink;
