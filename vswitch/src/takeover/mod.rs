//! How a switch goes on in another process: what it is made of, put into words and descriptors.
//!
//! Two ways lead there. A new daemon asks the running one over the control socket ([`Heir`]), which hands everything over
//! while frames wait in the kernel's queues for some milliseconds. Or a service manager keeps the descriptors while no
//! daemon runs (`systemd`), and what cannot be told from them where the daemon before ended in peace ([`Kept`]).
//!
//! Who serves is decided by the lock on the state directory and by nothing else. The old daemon lets go of it when it has
//! paused; the new one takes it before its workers read the first frame. Where the new one leaves, or falls silent, the
//! old one tries the lock: if it gets it, it serves on; if not, the other serves. So there is no moment at which a process
//! that is killed takes the switch with it, and none at which two read.

mod estate;
mod heir;
mod name;
mod snapshot;

pub(crate) use estate::{Estate, Heirloom};
pub(crate) use heir::{Handed, Heir, TakeoverError};
pub(crate) use name::Name;
pub(crate) use snapshot::{FORMAT, Kept, Learned, PortRecord, Snapshot, Tally, VtepRecord};
