//! Traffic that goes on beside what a test does: a probe a millisecond, a TCP stream at full rate.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Type};

use super::{PATIENCE, check, fill, tcp};
use crate::{Context, Failure, Host, Result, ensure, ensure_eq};

/// Between two probes.
const INTERVAL: Duration = Duration::from_millis(1);

/// A UDP echo every millisecond, each with its number.
#[derive(Debug)]
pub struct Probes {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    sender: JoinHandle<Result<Vec<Instant>>>,
    echo: JoinHandle<Result>,
    receiver: JoinHandle<Result<Vec<(u32, Instant)>>>,
}

/// What came of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// How many were sent.
    pub sent: u32,
    /// The numbers of those not answered.
    pub lost: Vec<u32>,
    /// The longest round trip.
    pub longest: Duration,
}

impl Probes {
    /// Begins to send from `from` to address `ip` of `to`, once the first was answered.
    ///
    /// # Errors
    /// Where nothing comes through.
    pub fn start(from: &Host, to: &Host, ip: IpAddr) -> Result<Self> {
        let socket = |host: &Host| {
            let socket = host.socket(Domain::for_address(SocketAddr::new(ip, 0)), Type::DGRAM, None)?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            Ok::<_, Failure>(socket)
        };
        let server = socket(to)?;
        server.bind(&SocketAddr::new(ip, 0).into())?;
        let client = socket(from)?;
        client.connect(&server.local_addr()?)?;
        let (server, client) = (UdpSocket::from(server), UdpSocket::from(client));
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stop);
        let echo = thread::spawn(move || echo(&server, &over));
        // A number of its own: neighbours are found, addresses are learned.
        crate::eventually(PATIENCE, "the first probe is answered", || {
            client.send(&u32::MAX.to_be_bytes())?;
            client.recv(&mut [0; 4])?;
            Ok(())
        })?;
        let (over, sending) = (Arc::clone(&stop), client.try_clone()?);
        let sent = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&sent);
        let sender = thread::spawn(move || send(&sending, &over, &counted));
        let over = Arc::clone(&stop);
        let receiver = thread::spawn(move || receive(&client, &over));
        Ok(Self { stop, sent, sender, echo, receiver })
    }

    /// Waits until `more` have been sent from now on.
    ///
    /// # Errors
    /// Where they are not.
    pub fn go_on(&self, more: u32) -> Result {
        let start = self.sent.load(Ordering::Relaxed);
        crate::eventually(PATIENCE, "probes are sent", || {
            let sent = self.sent.load(Ordering::Relaxed) - start;
            ensure!(sent >= more, "{sent} were");
            Ok(())
        })
    }

    /// Stops, and tells what came of all.
    ///
    /// # Errors
    /// Where a socket failed.
    pub fn stop(self) -> Result<Answered> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = joined(self.sender)?;
        let received = joined(self.receiver)?;
        joined(self.echo)?;
        let mut lost = Vec::new();
        let mut longest = Duration::ZERO;
        let mut came = vec![None; sent.len()];
        for (number, at) in received {
            if let Some(place) = came.get_mut(usize::try_from(number)?) {
                *place = Some(at);
            }
        }
        for (number, (sent, came)) in (0..).zip(sent.iter().zip(came)) {
            match came {
                Some(at) => longest = longest.max(at - *sent),
                None => lost.push(number),
            }
        }
        Ok(Answered { sent: u32::try_from(sent.len())?, lost, longest })
    }
}

fn send(socket: &UdpSocket, over: &AtomicBool, counted: &AtomicU32) -> Result<Vec<Instant>> {
    let start = Instant::now();
    let mut sent = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let number = u32::try_from(sent.len())?;
        let now = Instant::now();
        socket.send(&number.to_be_bytes()).context(format_args!("probe {number}"))?;
        sent.push(now);
        counted.store(number + 1, Ordering::Relaxed);
        // Where this thread was late it catches up: the rate is kept.
        thread::park_timeout((start + INTERVAL * (number + 1)).saturating_duration_since(Instant::now()));
    }
    Ok(sent)
}

fn receive(socket: &UdpSocket, over: &AtomicBool) -> Result<Vec<(u32, Instant)>> {
    let mut received = Vec::new();
    loop {
        let mut number = [0; 4];
        match socket.recv(&mut number) {
            Ok(_) => received.push((u32::from_be_bytes(number), Instant::now())),
            // Silence, for much longer than a round trip, after the last was sent.
            Err(error) if error.kind() == ErrorKind::WouldBlock && over.load(Ordering::Relaxed) => return Ok(received),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn echo(socket: &UdpSocket, over: &AtomicBool) -> Result {
    loop {
        let mut number = [0; 4];
        match socket.recv_from(&mut number) {
            Ok((len, from)) => drop(socket.send_to(&number[..len], from)?),
            Err(error) if error.kind() == ErrorKind::WouldBlock && over.load(Ordering::Relaxed) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// TCP at full rate, until it is stopped.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    got: Arc<AtomicU64>,
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<Result<u64>>,
}

impl Stream {
    /// Begins to send from `from` to address `ip` of `to`.
    ///
    /// # Errors
    /// Where nothing comes through.
    pub fn start(from: &Host, to: &Host, ip: IpAddr, seed: u64) -> Result<Self> {
        const CHUNK: usize = 100_000;
        let tcp::Connection { mut client, mut server } = tcp::Connection::open(from, to, ip)?;
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            let (mut sent, mut buf) = (0, vec![0; CHUNK]);
            while !over.load(Ordering::Relaxed) {
                fill(seed, sent, &mut buf);
                client.write_all(&buf).context(format_args!("TCP: write after {sent} bytes"))?;
                sent += u64::try_from(buf.len())?;
            }
            Ok(sent)
        });
        let arrived = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&arrived);
        let receiver = thread::spawn(move || {
            let (mut got, mut buf) = (0, vec![0; 1 << 18]);
            loop {
                let len = server.read(&mut buf).context(format_args!("TCP: read after {got} bytes"))?;
                if len == 0 {
                    return Ok(got);
                }
                check(seed, got, &buf[..len], "TCP")?;
                got += u64::try_from(len)?;
                counted.store(got, Ordering::Relaxed);
            }
        });
        Ok(Self { stop, got: arrived, sender, receiver })
    }

    /// Waits until `more` bytes have arrived from now on.
    ///
    /// # Errors
    /// Where they do not.
    pub fn go_on(&self, more: u64) -> Result {
        let start = self.got.load(Ordering::Relaxed);
        crate::eventually(PATIENCE, "bytes arrive", || {
            let got = self.got.load(Ordering::Relaxed) - start;
            ensure!(got >= more, "{got} did");
            Ok(())
        })
    }

    /// Stops, and tells how many bytes arrived, all of them as they were sent.
    ///
    /// # Errors
    /// Where others arrived, or fewer.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = joined(self.sender)?;
        let got = joined(self.receiver)?;
        ensure_eq!(got, sent, "bytes that arrived");
        ensure!(got > 0, "nothing was sent");
        Ok(got)
    }
}

/// A counter of TCP's in `host`, as `/proc/net/netstat` and `/proc/net/snmp` name it (`TCPTimeouts`, `RetransSegs`).
///
/// # Errors
/// Where the kernel has no such counter.
pub fn tcp_counter(host: &Host, name: &'static str) -> Result<u64> {
    let read = |file| host.call(move || std::fs::read_to_string(format!("/proc/thread-self/net/{file}")));
    for text in [read("netstat")?, read("snmp")?] {
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.chunks(2) {
            let [names, values] = pair else { continue };
            let mut both = names.split_whitespace().zip(values.split_whitespace());
            if let Some((_, value)) = both.find(|(known, _)| *known == name) {
                return Ok(value.parse()?);
            }
        }
    }
    Err(Failure::new(format!("the kernel counts no {name}")))
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(Failure::new("a thread of the test panicked")))
}
