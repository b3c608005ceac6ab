//! An echo request every millisecond, for as long as something else goes on.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use vswitch_sys::wait_readable;

use super::ping::{answer, request};
use crate::{Failure, Host, Result};

/// Between two requests.
const INTERVAL: Duration = Duration::from_millis(1);
/// How long the last answers may take; what comes later counts as lost.
const LATE: Duration = Duration::from_secs(5);
/// The identifier of its requests. A host sees the answers to its own only.
const ID: u16 = 0x5d1e;

/// A ping that goes on until it is told to end.
#[derive(Debug)]
pub struct Steady {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Count>>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests sent.
    pub sent: usize,
    /// Of these, how many were answered; an answer that comes twice counts once.
    pub answered: usize,
    /// The longest that one took.
    pub slowest: Duration,
}

impl Steady {
    /// Starts to send from `from` to `to`, whose address `from` should know by now.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn start(from: &Host, to: IpAddr) -> Result<Self> {
        let protocol = if to.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
        let address = SocketAddr::new(to, 0);
        let socket = from.socket(Domain::for_address(address), Type::RAW, Some(protocol))?;
        socket.connect(&address.into())?;
        socket.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || Run { socket, to, sent: Vec::new(), count: Count::default() }.go(&told));
        Ok(Self { stop, thread })
    }

    /// Ends it, and waits for the last answers.
    ///
    /// # Errors
    /// Where it could not send.
    pub fn end(self) -> Result<Count> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Failure::new("the sender panicked"))?
    }
}

struct Run {
    socket: Socket,
    to: IpAddr,
    /// When each was sent; none where it is answered.
    sent: Vec<Option<Instant>>,
    count: Count,
}

impl Run {
    fn go(mut self, stop: &AtomicBool) -> Result<Count> {
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let number = self.sent.len();
            let sequence = u16::try_from(number & 0xffff)?;
            self.sent.push(Some(Instant::now()));
            self.socket.send(&request(self.to, ID, sequence, &(number as u64).to_be_bytes()))?;
            next += INTERVAL;
            self.listen(next)?;
        }
        let late = Instant::now() + LATE;
        while self.count.answered < self.sent.len() && Instant::now() < late {
            self.listen(Instant::now() + INTERVAL)?;
        }
        Ok(Count { sent: self.sent.len(), ..self.count })
    }

    /// Takes answers in until `until`.
    fn listen(&mut self, until: Instant) -> Result {
        let mut buf = [0; 2048];
        loop {
            match self.socket.read(&mut buf) {
                Ok(len) => self.hear(&buf[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(());
                    }
                    wait_readable(&self.socket, left)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn hear(&mut self, packet: &[u8]) {
        let number = answer(self.to, ID, packet).and_then(|payload| payload.try_into().ok()).map(u64::from_be_bytes);
        let place = number.and_then(|number| self.sent.get_mut(usize::try_from(number).ok()?));
        if let Some(sent) = place.and_then(Option::take) {
            self.count.answered += 1;
            self.count.slowest = self.count.slowest.max(sent.elapsed());
        }
    }
}
