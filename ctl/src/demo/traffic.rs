//! Ping and TCP between two namespaces, and how long they took.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use vswitch_sys::Netns;

use super::DemoError;
use super::stop::Stop;

/// How long the first answer may take: interfaces come up and neighbours are asked for.
const FIRST: Duration = Duration::from_secs(10);
/// After which a request counts as lost.
const LOST: Duration = Duration::from_secs(2);
/// Between two first requests.
const AGAIN: Duration = Duration::from_millis(200);
/// After which a TCP connection that moves nothing counts as broken.
const STALLED: Duration = Duration::from_secs(5);
/// Bytes written or read at once.
const CHUNK: usize = 256 * 1024;
/// Bytes of an ICMP echo before its data (RFC 792).
const ECHO_HEADER: usize = 8;

/// What was pinged, and the round trips.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Ping {
    /// Bytes of data in each request.
    pub(super) bytes: usize,
    pub(super) sent: usize,
    pub(super) received: usize,
    pub(super) min_us: u64,
    pub(super) avg_us: u64,
    pub(super) max_us: u64,
}

impl Ping {
    fn new(bytes: usize, sent: usize, times: &[Duration]) -> Option<Self> {
        let micros: Vec<u64> = times.iter().map(|time| micros(*time)).collect();
        let received = micros.len();
        let avg_us = micros.iter().sum::<u64>() / u64::try_from(received).ok().filter(|count| *count > 0)?;
        Some(Self { bytes, sent, received, min_us: *micros.iter().min()?, avg_us, max_us: *micros.iter().max()? })
    }
}

/// What TCP moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Tcp {
    pub(super) bytes: u64,
    pub(super) time_us: u64,
    pub(super) mbit_per_s: u64,
}

impl Tcp {
    fn new(bytes: u64, time: Duration) -> Self {
        let time_us = micros(time);
        // A bit in a microsecond is a megabit in a second.
        Self { bytes, time_us, mbit_per_s: bytes.saturating_mul(8) / time_us.max(1) }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Pings `to` from `netns`: first until it answers at all, then `count` times with `bytes` of data.
pub(super) fn ping(netns: &Netns, to: Ipv4Addr, bytes: usize, count: u16, stop: &Stop) -> Result<Ping, DemoError> {
    let failed = |error| DemoError::Ping { to, error };
    let socket = netns.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)))?.map_err(failed)?;
    socket.connect(&SocketAddr::from((to, 0)).into()).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    // The number tells our answers from those to another ping in the same namespace.
    let id = u16::try_from(std::process::id() & 0xffff).unwrap_or_default();
    let mut echo = Echo { socket, id, to, payload: (0..=u8::MAX).cycle().take(bytes).collect() };

    let deadline = Instant::now() + FIRST;
    let mut seq = 0;
    while echo.round(seq, AGAIN, stop)?.is_none() {
        if Instant::now() >= deadline {
            return Err(DemoError::Unanswered { to, patience: FIRST });
        }
        seq = seq.wrapping_add(1);
    }
    let first = seq.wrapping_add(1);
    let mut times = Vec::new();
    for at in 0..count {
        times.extend(echo.round(first.wrapping_add(at), LOST, stop)?);
    }
    match Ping::new(bytes, count.into(), &times) {
        Some(ping) if ping.received == ping.sent => Ok(ping),
        ping => Err(DemoError::Lost { to, sent: count.into(), received: ping.map_or(0, |ping| ping.received) }),
    }
}

struct Echo {
    socket: Socket,
    id: u16,
    to: Ipv4Addr,
    payload: Vec<u8>,
}

impl Echo {
    /// Sends a request and waits for its answer: how long it took, `None` where none came in time.
    fn round(&mut self, seq: u16, patience: Duration, stop: &Stop) -> Result<Option<Duration>, DemoError> {
        let failed = |error| DemoError::Ping { to: self.to, error };
        let start = Instant::now();
        let deadline = start + patience;
        match self.socket.send(&request(self.id, seq, &self.payload)) {
            // Nobody answers for the address yet.
            Err(error) if error.kind() == ErrorKind::HostUnreachable => {}
            outcome => drop(outcome.map_err(failed)?),
        }
        let mut packet = [0; 64 * 1024];
        while stop.readable(self.socket.as_fd(), deadline)? {
            let length = match (&self.socket).read(&mut packet) {
                Ok(length) => length,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::HostUnreachable) => continue,
                Err(error) => return Err(failed(error)),
            };
            if packet.get(..length).is_some_and(|packet| answers(packet, self.id, seq, &self.payload)) {
                return Ok(Some(start.elapsed()));
            }
        }
        Ok(None)
    }
}

/// An ICMP echo request.
fn request(id: u16, seq: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![8, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend(seq.to_be_bytes());
    packet.extend(payload);
    let sum = checksum(&packet).to_be_bytes();
    packet[2..4].copy_from_slice(&sum);
    packet
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// Whether `packet`, with its IPv4 header as raw sockets see it, answers the request with the same bytes.
fn answers(packet: &[u8], id: u16, seq: u16, payload: &[u8]) -> bool {
    let icmp = packet.first().and_then(|first| packet.get(usize::from(first & 0x0f) * 4..));
    let Some((header, data)) = icmp.and_then(|icmp| icmp.split_at_checked(ECHO_HEADER)) else { return false };
    header[..2] == [0, 0] && header[4..6] == id.to_be_bytes() && header[6..] == seq.to_be_bytes() && data == payload
}

/// Sends from one namespace to address `to` of another for `time`, as fast as TCP goes.
pub(super) fn tcp(from: &Netns, at: &Netns, to: Ipv4Addr, time: Duration, stop: &Stop) -> Result<Tcp, DemoError> {
    let failed = |error| DemoError::Tcp { to, error };
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None);
    let (client, server) = connect(from.run(socket)?, at.run(socket)?, to).map_err(failed)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| send(&client, &over));
        let receiver = scope.spawn(|| receive(&server));
        let waited = stop.pause(time);
        over.store(true, Ordering::Relaxed);
        if waited.is_err() {
            // Whoever hangs in a call shall not keep the user waiting.
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
        let (sent, received) = (joined(sender), joined(receiver));
        waited?;
        let (bytes, took) = received.map_err(failed)?;
        let sent = sent.map_err(failed)?;
        if sent == bytes && bytes > 0 { Ok(Tcp::new(bytes, took)) } else { Err(DemoError::TcpCut { to, sent, bytes }) }
    })
}

fn connect(
    client: io::Result<Socket>,
    listener: io::Result<Socket>,
    to: Ipv4Addr,
) -> io::Result<(TcpStream, TcpStream)> {
    let (client, listener) = (client?, listener?);
    listener.bind(&SocketAddr::from((to, 0)).into())?;
    listener.listen(1)?;
    client.connect_timeout(&listener.local_addr()?, STALLED)?;
    listener.set_read_timeout(Some(STALLED))?;
    let (server, _) = listener.accept()?;
    client.set_write_timeout(Some(STALLED))?;
    server.set_read_timeout(Some(STALLED))?;
    Ok((client.into(), server.into()))
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Writes until it is `over`; how much was sent.
fn send(mut stream: &TcpStream, over: &AtomicBool) -> io::Result<u64> {
    let chunk = vec![0x5a; CHUNK];
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        sent += u64::try_from(stream.write(&chunk).map_err(stalled)?).unwrap_or_default();
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(sent)
}

/// Reads to the end; how much came, and how long it took.
fn receive(mut stream: &TcpStream) -> io::Result<(u64, Duration)> {
    let start = Instant::now();
    let mut chunk = vec![0; CHUNK];
    let mut received = 0;
    loop {
        match stream.read(&mut chunk).map_err(stalled)? {
            0 => return Ok((received, start.elapsed())),
            length => received += u64::try_from(length).unwrap_or_default(),
        }
    }
}

/// Says what a timeout means.
fn stalled(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::other(format!("nothing moved for {STALLED:?}")),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers() {
        // RFC 1071, section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xff]), !0xff00);
        assert_eq!(checksum(&request(7, 9, b"odd")), 0);

        let mut packet = vec![0x45; 20];
        packet.extend(request(7, 9, b"data"));
        assert!(!answers(&packet, 7, 9, b"data"), "our own request");
        packet[20] = 0;
        assert!(answers(&packet, 7, 9, b"data"));
        assert!(!answers(&packet, 8, 9, b"data"));
        assert!(!answers(&packet, 7, 8, b"data"));
        assert!(!answers(&packet, 7, 9, b"date"));
        for cut in 0..packet.len() {
            assert!(!answers(&packet[..cut], 7, 9, b"data"), "{cut}");
        }
    }

    #[test]
    fn numbers() {
        let times = [300, 100, 200].map(Duration::from_micros);
        let ping = Ping { bytes: 56, sent: 4, received: 3, min_us: 100, avg_us: 200, max_us: 300 };
        assert_eq!(Ping::new(56, 4, &times), Some(ping));
        assert_eq!(Ping::new(56, 4, &[]), None);
        assert_eq!(Tcp::new(250_000_000, Duration::from_secs(2)).mbit_per_s, 1000);
        assert_eq!(Tcp::new(0, Duration::ZERO).mbit_per_s, 0);
    }
}
