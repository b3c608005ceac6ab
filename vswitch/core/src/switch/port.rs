//! What the switch knows of a port.

use core::fmt;

crate::drop_reasons! {
    /// Why an ingress port cannot bring frames in.
    pub enum PortDrop {
        /// The frame came in on a port that the switch does not have, or as no frame of that port's mode can: from the
        /// tunnel on a local port, or from a local device on a remote.
        UnknownPort => "unknown_port",
            "A few occur when a port is deleted. Many are a fault of the switch: report them with `vsctl capture \
             drops`.",
    }
}

/// A port's number. Tables are indexed by it, so the caller gives out small ones and uses them again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u16);

impl PortId {
    /// Port `index`.
    #[must_use]
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The number, to index a table with.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.0)
    }
}
