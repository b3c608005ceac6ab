//! 64-byte frames, as many as can be sent; those that arrive are counted.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use netns_tests::{Context as _, Host, Result, ensure};
use vswitch_sys::{Inbox, Train, UdpEndpoint, UdpOptions, udp, wait_readable};

use super::{LEAST_PAYLOAD, Plan, Sample, observe};
use crate::machine::float;
use crate::meter::{Crew, Role};
use crate::network::Network;

/// Bytes of the sink's queue: some thousand frames, so that a sink that waits for a core loses none.
const QUEUE: usize = 4 << 20;

/// How long the sink waits before it looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
}

pub(super) fn run(network: &Network, plan: &Plan) -> Result<Sample> {
    let source = endpoint(&network.client, SocketAddr::new(Network::CLIENT, 0))?;
    let sink = endpoint(&network.server, SocketAddr::new(Network::SERVER, 0))?;
    let to = sink.local_addr();
    let (crew, counts, end) = (Crew::new(plan.apart), Counts::default(), AtomicBool::new(false));
    let (first, last, spent) = thread::scope(|scope| {
        scope.spawn(|| send(source, to, &crew, &counts.sent, &end));
        scope.spawn(|| receive(sink, &crew, &counts.received, &end));
        let read = || [&counts.sent, &counts.received].map(|count| count.load(Ordering::Relaxed));
        let outcome = observe(network, plan, &crew, read);
        end.store(true, Ordering::Relaxed);
        outcome
    })?;
    let [sent, received] = [0, 1].map(|count| float(last[count] - first[count]));
    ensure!(received > 0.0, "none of {sent} frames arrived");
    let loss = (1.0 - received / sent).max(0.0);
    Ok(Sample { done: received, loss: Some(loss), latency: None, spent })
}

fn endpoint(host: &Host, local: SocketAddr) -> Result<UdpEndpoint> {
    let options = UdpOptions { receive_buffer: Some(QUEUE), ..UdpOptions::default() };
    host.call(move || UdpEndpoint::open(local, &options)).context(host.name())
}

fn send(mut source: UdpEndpoint, to: SocketAddr, crew: &Crew, sent: &AtomicU64, end: &AtomicBool) {
    crew.enrol(Role::Client);
    let slices = [IoSlice::new(&[0x5a; LEAST_PAYLOAD])];
    let trains = [Train { to, tos: 0, segment: None, slices: &slices }; udp::BATCH];
    while !end.load(Ordering::Relaxed) {
        let outcome = source.send(&trains);
        sent.fetch_add(u64::try_from(outcome.sent).unwrap_or(0), Ordering::Relaxed);
        if outcome.error.is_some() {
            // A queue is full: whoever empties it needs the core.
            thread::yield_now();
        }
    }
}

fn receive(mut sink: UdpEndpoint, crew: &Crew, received: &AtomicU64, end: &AtomicBool) {
    crew.enrol(Role::Server);
    let mut inbox = Inbox::new(udp::BATCH, 2048);
    while !end.load(Ordering::Relaxed) {
        match sink.recv(&mut inbox) {
            Ok(0) => {
                // An error shows in the count of what arrived.
                let _ = wait_readable(&sink, PATIENCE);
            }
            Ok(count) => {
                received.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
            }
            Err(_) => thread::yield_now(),
        }
    }
}
