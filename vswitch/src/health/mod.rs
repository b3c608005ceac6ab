//! How the way to each peer is: what is sent, when, and what is made of what comes back. Pure: time is an argument, and who
//! sends and receives is `control::probes`.

mod findings;
mod host;
mod interval;
mod own;
mod path;
mod search;
#[cfg(test)]
mod tests;
mod window;

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};

use vswitch_core::Instant;
use vtep::oam;

pub(crate) use findings::{Fault, Finding};
pub(crate) use interval::{ProbeInterval, WrongInterval};
pub(crate) use own::OwnFault;
pub(crate) use path::{Ask, Ends, Path};

/// What makes the key of each peer: whom it was not sent to cannot know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys(RandomState);

impl Keys {
    /// The key of requests to `peer`, and of its answers.
    pub(crate) fn key(&self, peer: IpAddr) -> u64 {
        self.0.hash_one(peer.to_canonical())
    }
}

/// A message that came, and has the right key where it is an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) from: SocketAddr,
    pub(crate) read: oam::Read,
    pub(crate) at: Instant,
}
