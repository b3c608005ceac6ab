//! The switch itself: what happens to a frame.
//!
//! `no_std` and free of unsafe, so the compiler proves that nothing here reads a clock, does I/O or starts a thread.
//! The modules stand in the order a frame passes them: [`wire`] parses it, [`switch`] classifies its VLAN, checks and learns
//! its source, looks its destination up and answers with a [`Verdict`]. The caller owns the frame and carries the verdict
//! out.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod addr;
mod frame;
pub mod limit;
mod offload;
mod prefix;
mod reason;
pub mod switch;
mod time;
pub mod wire;

pub use addr::MacAddr;
pub use frame::{Frame, HEADROOM};
pub use limit::RateLimit;
pub use offload::{Checksum, Gso, GsoKind, Offload};
pub use prefix::Prefix;
pub use switch::{Egress, Flood, Guard, Limits, PortId, PortMode, Reason, Switch, Verdict, VlanSet};
pub use time::Instant;
pub use wire::vlan::{Tag, VlanId};
