//! UDP.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;

use socket2::{Domain, Type};
use vswitch_sys::{Train, UdpEndpoint, UdpOptions};

use super::{PATIENCE, check, fill};
use crate::{Context, Host, Result, ensure, ensure_eq};

/// A socket on each of two hosts.
#[derive(Debug)]
pub struct Pair {
    client: UdpSocket,
    server: UdpSocket,
}

impl Pair {
    /// A socket on `from` that sends to one on address `ip` of `to`.
    ///
    /// # Errors
    /// Where `ip` is not there.
    pub fn open(from: &Host, to: &Host, ip: IpAddr) -> Result<Self> {
        let server = socket(to, ip)?;
        server.bind(&SocketAddr::new(ip, 0).into()).context(format_args!("bind to {ip} in {}", to.name()))?;
        let client = socket(from, ip)?;
        client.connect(&server.local_addr()?)?;
        Ok(Self { client: client.into(), server: server.into() })
    }

    /// Sends a datagram of `size` bytes forth, and one back.
    ///
    /// # Errors
    /// Where other bytes arrive, or none.
    pub fn echo(&self, size: usize, seed: u64) -> Result {
        let mut datagram = vec![0; size];
        let mut buf = vec![0; 1 << 16];
        fill(seed, 0, &mut datagram);
        self.client.send(&datagram).context(format_args!("UDP: send {size} bytes"))?;
        let (len, from) = self.server.recv_from(&mut buf).context(format_args!("UDP: receive {size} bytes"))?;
        ensure_eq!(len, size, "length of a UDP datagram");
        check(seed, 0, &buf[..len], "UDP, forth")?;
        fill(!seed, 0, &mut datagram);
        self.server.send_to(&datagram, from).context(format_args!("UDP: send {size} bytes back"))?;
        let len = self.client.recv(&mut buf).context(format_args!("UDP: receive {size} bytes back"))?;
        ensure_eq!(len, size, "length of a UDP datagram on the way back");
        check(!seed, 0, &buf[..len], "UDP, back")
    }
}

fn socket(host: &Host, ip: IpAddr) -> Result<socket2::Socket> {
    let socket = host.socket(Domain::for_address(SocketAddr::new(ip, 0)), Type::DGRAM, None)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends `bytes` in one call that the kernel cuts into datagrams of `segment` bytes, from address `from.1` to `to.1`.
///
/// # Errors
/// Where other datagrams arrive, or none.
pub fn train(from: (&Host, IpAddr), to: (&Host, IpAddr), bytes: usize, segment: u16, seed: u64) -> Result {
    let server = socket(to.0, to.1)?;
    server.bind(&SocketAddr::new(to.1, 0).into())?;
    let address = server.local_addr()?.as_socket().context("a UDP socket has an address")?;
    let server = UdpSocket::from(server);
    let mut client = sender(from)?;
    let mut sent = vec![0; bytes];
    fill(seed, 0, &mut sent);
    let slices = [IoSlice::new(&sent)];
    let train = Train { to: address, tos: 0, segment: NonZeroU16::new(segment), slices: &slices };
    if let Some(error) = client.send(&[train]).error {
        return Err(error).context(format_args!("UDP: send {bytes} bytes in segments of {segment}"));
    }
    let mut buf = vec![0; 1 << 16];
    let mut place = 0;
    for expected in sent.chunks(segment.into()) {
        let len = server.recv(&mut buf).context(format_args!("UDP train: after {place} of {bytes} bytes"))?;
        ensure_eq!(len, expected.len(), "length of the datagram after {place} bytes of {bytes}");
        ensure!(buf[..len] == *expected, "UDP train: the datagram after {place} of {bytes} bytes has other bytes");
        place += len;
    }
    Ok(())
}

/// A socket that never fragments: it sets DF, and its sends fail with EMSGSIZE once the path's MTU is known to be less.
///
/// # Errors
/// Where the address is not the host's.
pub fn sender((host, ip): (&Host, IpAddr)) -> Result<UdpEndpoint> {
    host.call(move || UdpEndpoint::open(SocketAddr::new(ip, 0), &UdpOptions::default())).context(host.name())
}
