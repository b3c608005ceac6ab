//! The thread that answers: all connections in one poll, each bounded in time and bytes.
//!
//! Whoever reaches the address may connect, and none of them costs more than a place among [`CONNECTIONS`]: where all are
//! taken the one that came first goes, and those that are slow go by themselves. The text is made once for all who ask at
//! about the same time.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::http::{self, Asked, HEAD, Page, Refused};
use super::source::Source;

const LISTENER: Token = Token(0);
const FIRST: usize = 1;
/// Connections at one time.
pub(super) const CONNECTIONS: usize = 64;
/// Connections taken in before those there are served again.
const KNOCKS: usize = 64;
/// How long a request may take to come.
pub(super) const ASKING: Duration = Duration::from_secs(5);
/// How long an answer may take to be read.
const READING: Duration = Duration::from_secs(10);
/// How long the other side may take to close, and how much it may send meanwhile: closing on what is unread would take
/// the answer back (RFC 9112 9.6).
const CLOSING: Duration = Duration::from_secs(1);
const UNASKED: usize = 64 << 10;
/// Bytes of answers that are under way, all together; past this the one that came first goes.
const UNREAD: usize = 64 << 20;
/// Until connections that could not be taken in are tried again: the poll names them once only.
const RETRY: Duration = Duration::from_secs(1);

/// Answers until the daemon ends.
pub(super) fn serve(listener: &TcpListener, mut source: Source) -> io::Result<()> {
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(CONNECTIONS + 1);
    let mut all: BTreeMap<usize, Connection> = BTreeMap::new();
    let mut next = FIRST;
    let mut door = Door::Open;
    loop {
        let retry = match door {
            Door::Closed => None,
            Door::Open => Some(Duration::ZERO),
            Door::Stuck => Some(RETRY),
        };
        let now = Instant::now();
        let first = all.values().map(|connection| connection.until.saturating_duration_since(now)).min();
        match poll.poll(&mut events, first.into_iter().chain(retry).min()) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let knocked = door != Door::Closed || events.iter().any(|event| event.token() == LISTENER);
        for event in &events {
            let Token(number) = event.token();
            if let Some(connection) = all.get_mut(&number)
                && !connection.step(&mut source)
            {
                all.remove(&number);
            }
        }
        let now = Instant::now();
        all.retain(|_, connection| connection.until > now || connection.overdue(now));
        while all.values().map(Connection::unread).sum::<usize>() > UNREAD {
            all.pop_first();
        }
        if source.is_over() {
            return Ok(());
        }
        if knocked {
            door = if source.lets_in() {
                accept(listener, poll.registry(), &mut all, &mut next)
            } else {
                Door::Stuck // another daemon is about to take them in
            };
        }
    }
}

/// Whether somebody may wait to be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Nobody, until the poll says so.
    Closed,
    Open,
    /// Somebody may, and cannot for now.
    Stuck,
}

fn accept(
    listener: &TcpListener,
    registry: &mio::Registry,
    all: &mut BTreeMap<usize, Connection>,
    next: &mut usize,
) -> Door {
    for _ in 0..KNOCKS {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Door::Closed,
            // The other side has left already.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => continue,
            Err(error) => {
                tracing::debug!(%error, "who asks for metrics could not connect; it is tried again");
                return Door::Stuck;
            }
        };
        if all.len() >= CONNECTIONS {
            all.pop_first();
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        let watched = stream
            .set_nonblocking(true)
            .and_then(|()| registry.register(&mut SourceFd(&stream.as_raw_fd()), Token(*next), interest));
        match watched {
            Ok(()) => drop(all.insert(*next, Connection::new(stream))),
            Err(error) => tracing::debug!(%error, "who asks for metrics could not be served"),
        }
        *next += 1;
    }
    Door::Open
}

/// Somebody who asks.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    state: State,
    until: Instant,
}

#[derive(Debug)]
enum State {
    /// What has come of the request.
    Asking(Vec<u8>),
    /// What is left to send: the head, then the body from a place on.
    Answering { head: Vec<u8>, body: Arc<str>, sent: usize },
    /// All is sent; how much has come since.
    Closing(usize),
}

/// What came of a step.
enum Step {
    /// There may be more to do.
    On,
    /// Nothing is left to do.
    Done,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, state: State::Asking(Vec::new()), until: Instant::now() + ASKING }
    }

    /// Bytes that wait to be read by the other side.
    fn unread(&self) -> usize {
        match &self.state {
            State::Answering { head, body, sent } => head.len() + body.len() - sent,
            State::Asking(_) | State::Closing(_) => 0,
        }
    }

    /// Does what can be done now; false where the connection is to go.
    fn step(&mut self, source: &mut Source) -> bool {
        loop {
            match self.try_step(source) {
                Ok(Step::On) => {}
                Ok(Step::Done) => return false,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false, // the other side left
            }
        }
    }

    fn try_step(&mut self, source: &mut Source) -> io::Result<Step> {
        match &mut self.state {
            State::Asking(request) => {
                let mut bytes = [0; 2048];
                let room = bytes.len().min(HEAD - request.len());
                let len = self.stream.read(&mut bytes[..room])?;
                if len == 0 {
                    return Ok(Step::Done);
                }
                request.extend_from_slice(&bytes[..len]);
                let Some(asked) = http::read(request) else { return Ok(Step::On) };
                let (head, body) = answer(asked, source);
                self.state = State::Answering { head, body, sent: 0 };
                self.until = Instant::now() + READING;
            }
            State::Answering { head, body, sent } => {
                let left = match head.get(*sent..) {
                    Some(left) if !left.is_empty() => left,
                    _ => &body.as_bytes()[*sent - head.len()..],
                };
                if left.is_empty() {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.state = State::Closing(0);
                    self.until = Instant::now() + CLOSING;
                    return Ok(Step::On);
                }
                *sent += self.stream.write(left)?;
            }
            State::Closing(unasked) => {
                let len = self.stream.read(&mut [0; 2048])?;
                *unasked += len;
                if len == 0 || *unasked > UNASKED {
                    return Ok(Step::Done);
                }
            }
        }
        Ok(Step::On)
    }

    /// Whether there is something to say yet to one whose time is over: that it was slow, as far as it takes it at once.
    fn overdue(&mut self, now: Instant) -> bool {
        let State::Asking(request) = &self.state else { return false };
        if !request.is_empty() {
            let _ = self.stream.write(&Refused::Slow.answer()); // it goes anyway
            let _ = self.stream.shutdown(Shutdown::Write);
            self.state = State::Closing(0);
            self.until = now + CLOSING;
            return true;
        }
        false
    }
}

/// The answer to what was asked.
fn answer(asked: Result<Asked, Refused>, source: &mut Source) -> (Vec<u8>, Arc<str>) {
    let made = asked.and_then(|Asked { page, head_only }| {
        let (content, body) = match page {
            Page::Metrics(format) => (format.content_type(), source.text(format)),
            Page::Health => ("text/plain; charset=utf-8", source.health()),
        };
        let body = body.ok_or(Refused::Unavailable)?;
        let head = http::head("200 OK", content, body.len(), "");
        Ok((head, if head_only { Arc::from("") } else { body }))
    });
    made.unwrap_or_else(|refused| (refused.answer(), Arc::from("")))
}
