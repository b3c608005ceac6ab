//! Where frames enter and leave: TAP devices and the tunnel.

pub(crate) mod tap;
pub(crate) mod tunnel;
mod vnet;
