//! Datagrams at a steady pace, there and back: what does not come back was lost on the way.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::End;
use crate::{Context, Result};

/// Bytes of a datagram: its frame has 64 on a wire.
const PAYLOAD: usize = 18;
/// How long the last ones may be under way.
const LAST: Duration = Duration::from_secs(2);

/// Datagrams under way; they end with this.
#[derive(Debug)]
pub struct Paced {
    end: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    client: Option<JoinHandle<Trips>>,
    echo: Option<JoinHandle<()>>,
}

/// What became of them.
#[derive(Clone, Debug, Default)]
pub struct Trips {
    /// How many were sent.
    pub sent: usize,
    /// The numbers of those that did not come back, from 0.
    pub lost: Vec<usize>,
    /// How long the others took, in order of length.
    pub times: Vec<Duration>,
}

impl Trips {
    /// The time that `part` of the trips took at most; zero where there were none.
    #[must_use]
    pub fn quantile(&self, percent: usize) -> Duration {
        let place = (self.times.len() * percent / 100).min(self.times.len().saturating_sub(1));
        self.times.get(place).copied().unwrap_or_default()
    }
}

impl Paced {
    /// Sends a datagram from `a` to `b` every `interval`, which `b` sends back.
    ///
    /// # Errors
    /// Where an address is not its host's.
    pub fn start(a: End<'_>, b: End<'_>, interval: Duration) -> Result<Self> {
        let socket = |(host, ip): End<'_>| -> Result<UdpSocket> {
            let socket = host.call(move || UdpSocket::bind((ip, 0))).context(host.name())?;
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            Ok(socket)
        };
        let (client, server) = (socket(a)?, socket(b)?);
        let to = server.local_addr()?;
        let (end, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let ended = Arc::clone(&end);
        let echo = thread::Builder::new().name("echo".to_owned()).spawn(move || echo(&server, &ended))?;
        let (ended, counted) = (Arc::clone(&end), Arc::clone(&done));
        let client = thread::Builder::new()
            .name("paced".to_owned())
            .spawn(move || pace(&client, to, interval, &ended, &counted))?;
        Ok(Self { end, done, client: Some(client), echo: Some(echo) })
    }

    /// How many have come back so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends it, and waits for those under way.
    ///
    /// # Errors
    /// Where a thread of it panicked.
    pub fn stop(mut self) -> Result<Trips> {
        self.end.store(true, Ordering::Relaxed);
        let trips = self.client.take().map(JoinHandle::join);
        trips.and_then(std::result::Result::ok).context("the thread that sends at a pace panicked")
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let client = self.client.take().map(|client| drop(client.join()));
        let echo = self.echo.take().map(|echo| drop(echo.join()));
        let _ = (client, echo);
    }
}

fn echo(server: &UdpSocket, end: &AtomicBool) {
    let mut datagram = [0; PAYLOAD];
    let mut ended = None;
    loop {
        match server.recv_from(&mut datagram) {
            // What cannot be sent back shows as lost.
            Ok((len, from)) => drop(server.send_to(&datagram[..len], from)),
            Err(_) if ended.is_some_and(|at: Instant| at.elapsed() > LAST) => return,
            Err(_) => {}
        }
        if end.load(Ordering::Relaxed) {
            ended = ended.or_else(|| Some(Instant::now()));
        }
    }
}

fn pace(client: &UdpSocket, to: SocketAddr, interval: Duration, end: &AtomicBool, done: &AtomicU64) -> Trips {
    let mut sent: Vec<Instant> = Vec::new();
    let mut took: Vec<Option<Duration>> = Vec::new();
    let mut due = Instant::now();
    let mut last = None;
    loop {
        let now = Instant::now();
        if last.is_none() && end.load(Ordering::Relaxed) {
            last = Some(now + LAST);
        }
        if last.is_some_and(|last| now > last || took.iter().all(Option::is_some)) {
            break;
        }
        if last.is_none() && now >= due {
            let mut datagram = [0; PAYLOAD];
            datagram[..8].copy_from_slice(&sent.len().to_be_bytes());
            sent.push(now);
            took.push(None);
            // What cannot be sent shows as lost.
            let _ = client.send_to(&datagram, to);
            // One that comes late does not hurry the next.
            due = due.max(now.checked_sub(interval).unwrap_or(now)) + interval;
        }
        let wait = due.saturating_duration_since(Instant::now()).clamp(Duration::from_micros(50), interval);
        let mut datagram = [0; PAYLOAD];
        if client.set_read_timeout(Some(wait)).is_err() {
            break;
        }
        match client.recv(&mut datagram) {
            Ok(PAYLOAD) => {
                let number = datagram.first_chunk().map_or(usize::MAX, |bytes| usize::from_be_bytes(*bytes));
                if let (Some(at), Some(slot @ None)) = (sent.get(number), took.get_mut(number)) {
                    *slot = Some(at.elapsed());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
            _ => {}
        }
    }
    let lost = took.iter().enumerate().filter(|(_, took)| took.is_none()).map(|(number, _)| number).collect();
    let mut times: Vec<_> = took.into_iter().flatten().collect();
    times.sort_unstable();
    Trips { sent: sent.len(), lost, times }
}
