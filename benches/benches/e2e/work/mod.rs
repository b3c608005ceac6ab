//! The traffic.

mod bulk;
mod flood;
mod pingpong;

use std::thread;
use std::time::Duration;

use netns_tests::Result;

use crate::apart::Apart;
use crate::meter::{Crew, Reading, Spent};
use crate::network::Network;

/// Payload of a UDP datagram whose Ethernet frame has 64 bytes on the wire: 14, 20 and 8 bytes of headers, 4 of checksum.
const LEAST_PAYLOAD: usize = 64 - 14 - 20 - 8 - 4;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// As much TCP as goes through, on so many connections.
    Bulk(u8),
    /// As many 64-byte frames as can be sent, on one UDP flow.
    Flood,
    /// One 64-byte frame there and back, and again.
    PingPong,
}

/// How long it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// Whether TCP sends at once what does not fill a segment.
    pub(crate) no_delay: bool,
    /// Which cores it runs on.
    pub(crate) apart: Option<Apart>,
}

/// How long round trips took, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) mean: f64,
}

/// What one run came to.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Bytes, frames or round trips that came through in the window.
    pub(crate) done: f64,
    /// Of what was sent, the part that did not arrive; only where the sender does not send it again.
    pub(crate) loss: Option<f64>,
    pub(crate) latency: Option<Latency>,
    pub(crate) spent: Spent,
}

impl Work {
    pub(crate) const ALL: [Self; 4] = [Self::Bulk(1), Self::Bulk(4), Self::Flood, Self::PingPong];

    pub(crate) fn name(self) -> String {
        match self {
            Self::Bulk(streams) => format!("tcp-{streams}"),
            Self::Flood => "frames-64".to_owned(),
            Self::PingPong => "ping-pong".to_owned(),
        }
    }

    /// Runs it once.
    pub(crate) fn run(self, network: &Network, plan: &Plan) -> Result<Sample> {
        match self {
            Self::Bulk(streams) => bulk::run(network, plan, streams),
            Self::Flood => flood::run(network, plan),
            Self::PingPong => pingpong::run(network, plan),
        }
    }
}

/// Lets traffic run for the warm-up, and then for the window; what `count` says at both ends of the window, and what was
/// spent in between.
fn observe<T>(network: &Network, plan: &Plan, crew: &Crew, count: impl Fn() -> T) -> Result<(T, T, Spent)> {
    thread::sleep(plan.warm_up);
    let (first, before) = (count(), Reading::take(network, crew)?);
    thread::sleep(plan.window);
    let (last, after) = (count(), Reading::take(network, crew)?);
    Ok((first, last, after.since(&before)))
}
