//! ICMP echo.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Type, Ipv4HeaderSlice};
use socket2::{Domain, Protocol, Type};

use super::{PATIENCE, check, fill};
use crate::{Failure, Host, Result};

/// Between two requests.
const INTERVAL: Duration = Duration::from_millis(200);

/// Sends echo requests with `size` bytes until one is answered, with the same bytes.
///
/// # Errors
/// Where no answer comes.
pub fn ping(from: &Host, to: IpAddr, size: usize) -> Result {
    ping_within(from, to, size, PATIENCE)
}

/// As [`ping`], for no longer than `patience`.
///
/// # Errors
/// Where no answer comes, or the kernel knows no way.
pub fn ping_within(from: &Host, to: IpAddr, size: usize, patience: Duration) -> Result {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let protocol = if to.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let address = SocketAddr::new(to, 0);
    let mut socket = from.socket(Domain::for_address(address), Type::RAW, Some(protocol))?;
    socket.connect(&address.into())?;
    socket.set_read_timeout(Some(INTERVAL))?;
    let mut payload = vec![0; size];
    fill(id.into(), 0, &mut payload);
    let start = Instant::now();
    let mut buf = vec![0; 1 << 16];
    for seq in 0.. {
        if start.elapsed() > patience {
            break;
        }
        match socket.send(&request(to, id, seq, &payload)) {
            // The neighbour did not answer yet.
            Err(error) if error.kind() == ErrorKind::HostUnreachable => continue,
            outcome => outcome?,
        };
        let sent = Instant::now();
        while sent.elapsed() < INTERVAL {
            let len = match socket.read(&mut buf) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::HostUnreachable => break,
                Err(error) => return Err(error.into()),
            };
            if let Some(answer) = answer(to, id, &buf[..len])
                && answer.len() == size
            {
                return check(id.into(), 0, answer, "ping");
            }
        }
    }
    Err(Failure::new(format!("ping from {} to {to} with {size} bytes: no answer in {patience:?}", from.name())))
}

/// An echo request. The kernel writes ICMPv6 checksums itself.
fn request(to: IpAddr, id: u16, seq: u16, payload: &[u8]) -> Vec<u8> {
    let echo = IcmpEchoHeader { id, seq };
    let mut packet = match to {
        IpAddr::V4(_) => Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), payload).to_bytes().to_vec(),
        IpAddr::V6(_) => etherparse::Icmpv6Header::new(Icmpv6Type::EchoRequest(echo)).to_bytes().to_vec(),
    };
    packet.extend_from_slice(payload);
    packet
}

/// The bytes that an echo reply to `id` carries; `None` for anything else. Raw sockets see the IPv4 header too.
fn answer(from: IpAddr, id: u16, packet: &[u8]) -> Option<&[u8]> {
    let (reply, icmp) = match from {
        IpAddr::V4(_) => (0, packet.get(Ipv4HeaderSlice::from_slice(packet).ok()?.slice().len()..)?),
        IpAddr::V6(_) => (129, packet),
    };
    let (header, payload) = icmp.split_at_checked(8)?;
    (header[0] == reply && header[4..6] == id.to_be_bytes()).then_some(payload)
}
