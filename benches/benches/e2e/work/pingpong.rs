//! One small datagram there and back, and again: how long a frame takes through everything that sleeps and wakes.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use netns_tests::{Context as _, Host, Result, ensure};

use super::{LEAST_PAYLOAD, Latency, Plan, Sample, observe};
use crate::machine::float;
use crate::meter::{Crew, Role};
use crate::network::Network;

/// A datagram that is not back by then is lost.
const PATIENCE: Duration = Duration::from_millis(100);

/// Nanoseconds the histogram reaches to, with three digits: all that is not lost.
const LONGEST: u64 = 100_000_000;

/// What the client is to do with a round trip.
const WARM_UP: u8 = 0;
const RECORD: u8 = 1;
/// The window is over, and those who look at the client's CPU are not done yet.
const COOL_DOWN: u8 = 2;
const END: u8 = 3;
const _: () = assert!(WARM_UP + 1 == RECORD && RECORD + 1 == COOL_DOWN);

pub(super) fn run(network: &Network, plan: &Plan) -> Result<Sample> {
    let client = socket(&network.client, Network::CLIENT)?;
    let server = socket(&network.server, Network::SERVER)?;
    client.connect(server.local_addr()?)?;
    let (crew, phase, end) = (Crew::new(plan.apart), AtomicU8::new(WARM_UP), AtomicBool::new(false));
    let done = AtomicU64::new(0);
    let (counts, trips) = thread::scope(|scope| {
        scope.spawn(|| echo(&server, &crew, &end));
        let client = scope.spawn(|| ping(&client, &crew, &phase, &done));
        let counted = observe(network, plan, &crew, || {
            // The first look begins the window, the second ends it.
            phase.fetch_add(1, Ordering::Relaxed);
            done.load(Ordering::Relaxed)
        });
        phase.store(END, Ordering::Relaxed);
        let trips = client.join();
        end.store(true, Ordering::Relaxed);
        (counted, trips)
    });
    // Where the client failed, that is why the counts cannot be had.
    let trips = trips.map_err(|_| io::Error::other("the client panicked"))??;
    let (first, last, spent) = counts?;
    ensure!(!trips.times.is_empty(), "no datagram came back; the last error: {:?}", trips.error);
    let done = float(last - first);
    let quantile = |part| float(trips.times.value_at_quantile(part)) / 1e3;
    let latency =
        Latency { p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999), mean: trips.times.mean() / 1e3 };
    let lost = float(trips.lost);
    Ok(Sample { done, loss: Some(lost / (lost + done)), latency: Some(latency), spent })
}

fn socket(host: &Host, ip: IpAddr) -> Result<UdpSocket> {
    let socket = host.call(move || UdpSocket::bind((ip, 0))).context(host.name())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn echo(server: &UdpSocket, crew: &Crew, end: &AtomicBool) {
    crew.enrol(Role::Server);
    let mut datagram = [0; LEAST_PAYLOAD];
    while !end.load(Ordering::Relaxed) {
        if let Ok((len, from)) = server.recv_from(&mut datagram) {
            // The client notices what does not come back.
            let _ = server.send_to(&datagram[..len], from);
        }
    }
}

struct Trips {
    times: Histogram<u64>,
    lost: u64,
    /// Why the latest one could not be sent or received.
    error: Option<io::Error>,
}

fn ping(client: &UdpSocket, crew: &Crew, phase: &AtomicU8, done: &AtomicU64) -> Result<Trips> {
    crew.enrol(Role::Client);
    let mut trips = Trips { times: Histogram::new_with_max(LONGEST, 3)?, lost: 0, error: None };
    let mut number = 0_u64;
    loop {
        let at = phase.load(Ordering::Relaxed);
        if at >= END {
            return Ok(trips);
        }
        number += 1;
        let start = Instant::now();
        let came_back = round_trip(client, number).unwrap_or_else(|error| {
            trips.error = Some(error);
            thread::yield_now();
            false
        });
        let time = start.elapsed();
        if came_back {
            done.fetch_add(1, Ordering::Relaxed);
        }
        if at == RECORD {
            if came_back {
                trips.times.saturating_record(u64::try_from(time.as_nanos())?);
            } else {
                trips.lost += 1;
            }
        }
    }
}

/// Whether datagram `number` came back in time; one from before is passed over.
fn round_trip(client: &UdpSocket, number: u64) -> io::Result<bool> {
    let mut datagram = [0; LEAST_PAYLOAD];
    datagram[..8].copy_from_slice(&number.to_be_bytes());
    client.send(&datagram)?;
    loop {
        let mut answer = [0; LEAST_PAYLOAD];
        match client.recv(&mut answer) {
            Ok(_) if answer == datagram => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
