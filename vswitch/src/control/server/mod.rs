//! The control socket: many clients, one request a line, each answered in turn.
//!
//! Everything a client may do is bounded: how many there are, how long a line is, how many descriptors wait for the end
//! of theirs, and an unread answer is the last one until it is read. Nothing more is read from that client either, so
//! that it waits by itself. None of it touches a worker's thread.

mod client;
mod listen;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use thiserror::Error;

use super::access::{Access, Peer};
use client::Client;

const LISTENER: Token = Token(0);
const SIGNAL: Token = Token(1);
const NEWS: Token = Token(2);
const MOUNTS: Token = Token(3);
const FIRST_CLIENT: usize = 4;
/// Clients at one time; for one more, one of the user who has most is let go.
const CLIENTS: usize = 256;
/// Clients taken in before those who are in are served again.
const KNOCKS: usize = 64;
/// Bytes of answers that clients have not read, all together; past this the one that has been deaf longest is let go.
const UNREAD: usize = 64 << 20;
/// Descriptors whose request has not ended yet, of all clients together who may change; past this the one that sent last is let go.
const UNCLAIMED: usize = 256;
/// Until a client that could not connect is tried again, as for want of descriptors: the poll names it once only.
const RETRY: Duration = Duration::from_secs(1);
/// How long clients are answered still that came before another process began to serve.
const FAREWELL: Duration = Duration::from_millis(100);

/// Why the control socket cannot serve.
#[derive(Debug, Error)]
pub(crate) enum ServerError {
    #[error("another vswitchd already listens on {}; stop it first, or choose another socket with --socket", .0.display())]
    Taken(PathBuf),
    #[error("{} is there and is no socket; choose another path with --socket", .0.display())]
    NotSocket(PathBuf),
    #[error("cannot listen on {}: {error}; choose a socket in a directory you may write to with --socket", .path.display())]
    Listen { path: PathBuf, error: io::Error },
    #[error(
        "cannot give {} to{}: {error}; start vswitchd as root, or as a member of the group",
        .path.display(), owners(*.uid, *.gid)
    )]
    Owner { path: PathBuf, uid: Option<u32>, gid: Option<u32>, error: io::Error },
    #[error("the control socket's poll failed: {0}")]
    Poll(io::Error),
}

fn owners(uid: Option<u32>, gid: Option<u32>) -> String {
    let user = uid.map(|uid| format!(" user {uid}")).unwrap_or_default();
    user + &gid.map(|gid| format!(" group {gid}")).unwrap_or_default()
}

/// A line that a client sent.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) peer: Peer,
    /// Without its end.
    pub(crate) bytes: &'a [u8],
    /// What came with it. Those that the answer leaves here are closed.
    pub(crate) fds: &'a mut Vec<OwnedFd>,
}

/// Who answers.
pub(crate) trait Service {
    /// The answer to a line, its end included, and the descriptors that go with it.
    fn answer(&mut self, client: Token, line: Line<'_>) -> (Vec<u8>, Vec<OwnedFd>);

    /// Does what is due, which there may be more of where `news` came by [`Server::waker`]; says how long until it is to
    /// be called again, if at all.
    fn tend(&mut self, news: bool) -> Option<Duration>;

    /// Something was mounted or unmounted in the daemon's mount namespace.
    fn mounts_changed(&mut self) {}

    /// The client whose leaving matters, where there is one.
    fn heir(&self) -> Option<Token> {
        None
    }

    /// That client has left.
    fn heir_left(&mut self) {}

    /// Whether new clients are let in, or may wait at the door for another process to let them in.
    fn lets_in(&self) -> bool {
        true
    }

    /// Whether another process serves from here on.
    fn is_handed_over(&self) -> bool {
        false
    }
}

/// Why it serves no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A signal came.
    Signal,
    /// Another process serves now, by the same socket.
    HandedOver,
}

/// The listening socket; its file goes when this does, unless it is somebody else's.
#[derive(Debug)]
pub(crate) struct Server {
    path: PathBuf,
    removes_file: bool,
    listener: UnixListener,
    access: Access,
    poll: Poll,
    waker: Arc<Waker>,
    /// Kept open as long as the poll watches them.
    _signal: OwnedFd,
    _mounts: Option<File>,
}

/// Those who are connected.
#[derive(Debug)]
struct Clients {
    all: HashMap<Token, Client>,
    next: usize,
}

impl Server {
    /// Listens on `path`, where nobody else may listen; `signal` becomes readable when it is time to end.
    pub(crate) fn bind(path: &Path, access: Access, signal: OwnedFd) -> Result<Self, ServerError> {
        let listener = listen::bind(path, &access)?;
        Self::adopt(path, listener, access, true, signal)
    }

    /// Goes on with `listener`, which listens on `path` already; its file may be somebody else's to remove.
    pub(crate) fn adopt(
        path: &Path,
        listener: UnixListener,
        access: Access,
        removes_file: bool,
        signal: OwnedFd,
    ) -> Result<Self, ServerError> {
        listener.set_nonblocking(true).map_err(|error| ServerError::Listen { path: path.to_owned(), error })?;
        let poll = Poll::new().map_err(ServerError::Poll)?;
        for (fd, token) in [(listener.as_raw_fd(), LISTENER), (signal.as_raw_fd(), SIGNAL)] {
            poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE).map_err(ServerError::Poll)?;
        }
        // It has news whenever something is mounted or unmounted, and costs nothing until then (proc_pid_mountinfo(5)).
        let mounts = File::open("/proc/self/mountinfo").and_then(|mounts| {
            poll.registry().register(&mut SourceFd(&mounts.as_raw_fd()), MOUNTS, Interest::PRIORITY).map(|()| mounts)
        });
        let mounts = mounts.map_err(|error| tracing::warn!(%error, "ports do not follow names of namespaces")).ok();
        let waker = Arc::new(Waker::new(poll.registry(), NEWS).map_err(ServerError::Poll)?);
        Ok(Self {
            path: path.to_owned(),
            removes_file,
            listener,
            access,
            poll,
            waker,
            _signal: signal,
            _mounts: mounts,
        })
    }

    /// Another descriptor of the listening socket.
    pub(crate) fn listener(&self) -> io::Result<OwnedFd> {
        self.listener.try_clone().map(Into::into)
    }

    /// Whether the socket's file goes with this.
    pub(crate) const fn removes_file(&self) -> bool {
        self.removes_file
    }

    /// Says whether it does.
    pub(crate) const fn remove_file(&mut self, removes_file: bool) {
        self.removes_file = removes_file;
    }

    /// Who may do what.
    pub(crate) const fn access(&self) -> &Access {
        &self.access
    }

    /// Tells the service, from any thread, that there is news.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Has `service` answer every line, until a signal comes or another process serves.
    pub(crate) fn run(&mut self, service: &mut dyn Service) -> Result<End, ServerError> {
        let mut events = Events::with_capacity(64);
        let mut clients = Clients { all: HashMap::new(), next: FIRST_CLIENT };
        // Clients who may go on at once: the poll is edge-triggered and will not name them again.
        let mut ready: Vec<Token> = Vec::new();
        let mut door = Door::Closed;
        let mut news = true;
        let mut leaving = None;
        for turn in 0_u64.. {
            let due = service.tend(mem::take(&mut news));
            if service.is_handed_over() {
                let until = *leaving.get_or_insert_with(|| Instant::now() + FAREWELL);
                if clients.all.is_empty() || Instant::now() >= until {
                    return Ok(End::HandedOver);
                }
            }
            let leave = leaving.map(|until: Instant| until.saturating_duration_since(Instant::now()));
            let due = due.into_iter().chain(leave).min();
            let timeout = match door {
                Door::Closed if ready.is_empty() => due,
                Door::Stuck if ready.is_empty() => due.into_iter().chain([RETRY]).min(),
                _ => Some(Duration::ZERO),
            };
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                if error.kind() == ErrorKind::Interrupted {
                    continue;
                }
                return Err(ServerError::Poll(error));
            }
            let mut knocked = door != Door::Closed;
            for event in &events {
                match event.token() {
                    SIGNAL => return Ok(End::Signal),
                    LISTENER => knocked = true,
                    NEWS => news = true,
                    MOUNTS => service.mounts_changed(),
                    token if !ready.contains(&token) => ready.push(token),
                    _ => {}
                }
            }
            if knocked && !service.lets_in() {
                door = Door::Stuck;
            } else if knocked {
                door = self.accept(&mut clients, turn, door);
            }
            // One step of each: none keeps the others, or the signal, waiting.
            for token in mem::take(&mut ready) {
                if clients.step(token, turn, service) {
                    ready.push(token);
                }
            }
            if service.heir().is_some_and(|heir| !clients.all.contains_key(&heir)) {
                service.heir_left();
            }
        }
        Ok(End::Signal)
    }

    /// Takes in those who wait at the door, or the first of them.
    fn accept(&self, clients: &mut Clients, turn: u64, before: Door) -> Door {
        for _ in 0..KNOCKS {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Door::Closed,
                Err(error) => {
                    if before != Door::Stuck {
                        tracing::warn!(%error, "a client could not connect; it is tried again");
                    }
                    return Door::Stuck;
                }
            };
            if clients.all.len() >= CLIENTS {
                clients.make_room();
            }
            let token = clients.token();
            match Client::new(stream, &self.access, turn, self.poll.registry(), token) {
                Ok(client) => drop(clients.all.insert(token, client)),
                Err(error) => tracing::warn!(%error, "a client could not be served"),
            }
        }
        Door::Open
    }
}

/// Whether somebody may wait to be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Nobody, until the poll says so.
    Closed,
    /// Somebody may, and can be let in.
    Open,
    /// Somebody does, and cannot for now.
    Stuck,
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.removes_file {
            let _ = fs::remove_file(&self.path); // a stale file is recognised at the next start anyway
        }
    }
}

impl Clients {
    fn token(&mut self) -> Token {
        let token = Token(self.next);
        self.next += 1;
        token
    }

    /// One step of client `token`; whether it may go on at once.
    fn step(&mut self, token: Token, turn: u64, service: &mut dyn Service) -> bool {
        let Some(client) = self.all.get_mut(&token) else { return false };
        let more = client.step(token, turn, service);
        if more.is_err() || self.unclaimed() > UNCLAIMED {
            self.all.remove(&token);
            return false;
        }
        while self.all.values().map(Client::unread).sum::<usize>() > UNREAD {
            tracing::warn!(limit = UNREAD, "too many bytes of answers unread; the client deaf longest is let go");
            self.let_go(|client| client.unread() > 0);
        }
        more.unwrap_or(false)
    }

    fn unclaimed(&self) -> usize {
        self.all.values().map(Client::unclaimed).sum()
    }

    /// Lets the client go that has been silent longest among those of the user who has most: whoever opens connections
    /// without end displaces himself.
    fn make_room(&mut self) {
        let mut users: HashMap<u32, usize> = HashMap::new();
        for client in self.all.values() {
            *users.entry(client.peer().uid).or_default() += 1;
        }
        let Some((&uid, &count)) = users.iter().max_by_key(|(_, count)| **count) else { return };
        tracing::debug!(limit = CLIENTS, uid, count, "too many clients at once; the one silent longest is let go");
        self.let_go(|client| client.peer().uid == uid);
    }

    /// Lets the client go that has been silent longest among those like `which`.
    fn let_go(&mut self, which: impl Fn(&Client) -> bool) {
        let silent = self.all.iter().filter(|(_, client)| which(client)).min_by_key(|(_, client)| client.heard());
        if let Some((&token, _)) = silent {
            self.all.remove(&token);
        }
    }
}
