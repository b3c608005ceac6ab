//! TCP, as much as goes through.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use netns_tests::traffic::tcp::Connection;
use netns_tests::{Result, ensure};

use super::{Plan, Sample, observe};
use crate::machine::float;
use crate::meter::{Crew, Role};
use crate::network::Network;

/// Bytes of a write and of a read: few system calls, and yet a buffer that a core's cache holds.
const CHUNK: usize = 128 << 10;

pub(super) fn run(network: &Network, plan: &Plan, streams: u8) -> Result<Sample> {
    let open = |_| Connection::open(&network.client, &network.server, Network::SERVER);
    let connections: Vec<_> = (0..streams).map(open).collect::<Result<_>>()?;
    for connection in &connections {
        connection.client.set_nodelay(plan.no_delay)?;
    }
    let (crew, received) = (Crew::new(plan.apart), AtomicU64::new(0));
    let (first, last, spent) = thread::scope(|scope| {
        for connection in &connections {
            scope.spawn(|| send(&connection.client, &crew));
            scope.spawn(|| receive(&connection.server, &crew, &received));
        }
        let outcome = observe(network, plan, &crew, || received.load(Ordering::Relaxed));
        for connection in &connections {
            // Errors say that it has ended already, which the count tells too.
            let _ = connection.client.shutdown(Shutdown::Both);
            let _ = connection.server.shutdown(Shutdown::Both);
        }
        outcome
    })?;
    ensure!(last > first, "TCP on {streams} connections: nothing came through after the warm-up");
    Ok(Sample { done: float(last - first), loss: None, latency: None, spent })
}

/// Writes until the connection is shut down.
fn send(mut connection: &TcpStream, crew: &Crew) {
    crew.enrol(Role::Client);
    let bytes = vec![0x5a; CHUNK];
    while connection.write_all(&bytes).is_ok() {}
}

fn receive(mut connection: &TcpStream, crew: &Crew, received: &AtomicU64) {
    crew.enrol(Role::Server);
    let mut bytes = vec![0; CHUNK];
    while let Ok(len @ 1..) = connection.read(&mut bytes) {
        received.fetch_add(u64::try_from(len).unwrap_or(0), Ordering::Relaxed);
    }
}
