//! What is known of a station's address.

use super::flap::{Flapping, Moved};
use crate::addr::MacAddr;
use crate::switch::port::PortId;
use crate::time::Instant;
use crate::wire::vlan::VlanId;

/// An address in the forwarding database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// The station's address.
    pub mac: MacAddr,
    /// The VLAN it is in.
    pub vlan: VlanId,
    /// The port it is behind.
    pub port: PortId,
    /// How the switch knows.
    pub kind: FdbKind,
    /// Why it does not move for now; `None` where it may.
    pub flapping: Option<Flapping>,
}

/// How the switch knows an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdbKind {
    /// Configured: never moves, ages or makes room.
    Static,
    /// Seen as a source.
    Learned {
        /// When, to within the refresh granularity.
        last_seen: Instant,
    },
}

/// What is remembered of a learned address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// When it was learned, to within 17 ms.
    pub learned: Instant,
    /// How it moved since; `None` where it did not, or so long ago that others that moved took the place.
    pub moved: Option<Moved>,
}
