//! The control socket: many clients, one request a line, each answered in turn.
//!
//! Everything a client may do is bounded: how many there are, how long a line is, and an unread answer is the last one
//! until it is read. Nothing more is read from that client either, so that it waits by itself. None of it touches a
//! worker's thread.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::mem;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use thiserror::Error;
use vswitch_api::rpc::MAX_REQUEST;
use vswitch_sys::fdpass::{self, FDS_MAX};

const LISTENER: Token = Token(0);
const SIGNAL: Token = Token(1);
const FIRST_CLIENT: usize = 2;
/// Clients at one time; for one more, the one that has been silent longest is let go.
const CLIENTS: usize = 256;
/// Bytes of answers that clients have not read, all together; past this the one that has been deaf longest is let go.
const UNREAD: usize = 64 << 20;
/// Until a client that could not connect is tried again, as for want of descriptors: the poll names it once only.
const RETRY: Duration = Duration::from_secs(1);
/// How long clients are answered still that came before another process began to serve.
const FAREWELL: Duration = Duration::from_millis(100);
/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Why the control socket cannot serve.
#[derive(Debug, Error)]
pub(crate) enum ServerError {
    #[error("another vswitchd already listens on {}; stop it first, or choose another socket with --socket", .0.display())]
    Taken(PathBuf),
    #[error("{} is a file, not a socket; choose another path with --socket", .0.display())]
    NotSocket(PathBuf),
    #[error("cannot listen on {}: {error}; choose a socket in a directory you may write to with --socket", .path.display())]
    Listen { path: PathBuf, error: io::Error },
    #[error("the control socket's poll failed: {0}")]
    Poll(io::Error),
}

/// Who sent a request, as the kernel says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
}

/// What answers clients.
pub(crate) trait Service {
    /// Answers a line with a line, and maybe with descriptors.
    fn answer(&mut self, client: Token, peer: Peer, line: &[u8]) -> (Vec<u8>, Vec<OwnedFd>);

    /// The client whose leaving matters, where there is one.
    fn heir(&self) -> Option<Token> {
        None
    }

    /// That client has left.
    fn heir_left(&mut self) {}

    /// When to call [`Self::handle_timeout`].
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// That time has come.
    fn handle_timeout(&mut self) {}

    /// Whether new clients are let in, or may wait at the door for another process to let them in.
    fn lets_in(&self) -> bool {
        true
    }

    /// Whether another process serves from here on.
    fn is_handed_over(&self) -> bool {
        false
    }
}

/// A function that only answers.
impl<F: FnMut(Peer, &[u8]) -> Vec<u8>> Service for F {
    fn answer(&mut self, _: Token, peer: Peer, line: &[u8]) -> (Vec<u8>, Vec<OwnedFd>) {
        (self(peer, line), Vec::new())
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
    poll: Poll,
    /// Kept open as long as the poll watches it.
    _signal: OwnedFd,
}

struct Client {
    stream: UnixStream,
    peer: Peer,
    /// The turn of the loop in which it last said something.
    heard: u64,
    /// What has come and is not answered.
    input: Vec<u8>,
    /// How many bytes of `input` from its start are known to hold no line's end.
    searched: usize,
    /// The last answer, as far as it is not written.
    output: Vec<u8>,
    /// Descriptors that go with it, as far as they are not sent; they are fewer than its bytes.
    fds: Vec<OwnedFd>,
}

impl Server {
    /// Listens on `path`, where nobody else may listen; `signal` becomes readable when it is time to end.
    pub(crate) fn bind(path: &Path, signal: OwnedFd) -> Result<Self, ServerError> {
        let failed = |error| ServerError::Listen { path: path.to_owned(), error };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(ServerError::Taken(path.to_owned())),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                // A file of another kind refuses as well, and is not ours to remove.
                if !fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
                    return Err(ServerError::NotSocket(path.to_owned()));
                }
                fs::remove_file(path).map_err(failed)?; // left behind by a daemon that was killed
            }
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
        Self::adopt(path, listener, true, signal)
    }

    /// Goes on with `listener`, which listens on `path` already; its file may be somebody else's to remove.
    pub(crate) fn adopt(
        path: &Path,
        listener: UnixListener,
        removes_file: bool,
        signal: OwnedFd,
    ) -> Result<Self, ServerError> {
        listener.set_nonblocking(true).map_err(|error| ServerError::Listen { path: path.to_owned(), error })?;
        let poll = Poll::new().map_err(ServerError::Poll)?;
        for (fd, token) in [(listener.as_raw_fd(), LISTENER), (signal.as_raw_fd(), SIGNAL)] {
            poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE).map_err(ServerError::Poll)?;
        }
        Ok(Self { path: path.to_owned(), removes_file, listener, poll, _signal: signal })
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

    /// Answers every line with what `service` makes of it, until a signal comes or the service is handed over.
    pub(crate) fn run(&mut self, service: &mut impl Service) -> Result<End, ServerError> {
        let mut events = Events::with_capacity(64);
        let mut clients: HashMap<Token, Client> = HashMap::new();
        // Clients who may go on at once: the poll is edge-triggered and will not name them again.
        let mut ready: Vec<Token> = Vec::new();
        let mut next = FIRST_CLIENT;
        let mut waiting = false; // at the door
        let mut leaving = None;
        for turn in 0_u64.. {
            if service.is_handed_over() {
                let until = *leaving.get_or_insert_with(|| Instant::now() + FAREWELL);
                if clients.is_empty() || Instant::now() >= until {
                    return Ok(End::HandedOver);
                }
            }
            let due = service.poll_timeout().into_iter().chain(leaving).min();
            let due = due.map(|due| due.saturating_duration_since(Instant::now()));
            let timeout = if ready.is_empty() { waiting.then_some(RETRY) } else { Some(Duration::ZERO) };
            let timeout = timeout.into_iter().chain(due).min();
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                if error.kind() == ErrorKind::Interrupted {
                    continue;
                }
                return Err(ServerError::Poll(error));
            }
            let mut knocked = waiting;
            for event in &events {
                match event.token() {
                    SIGNAL => return Ok(End::Signal),
                    LISTENER => knocked = true,
                    token if !ready.contains(&token) => ready.push(token),
                    _ => {}
                }
            }
            if knocked && !service.lets_in() {
                waiting = true;
            } else if knocked {
                let taken = self.accept(&mut clients, &mut next, turn);
                if let (Err(error), false) = (&taken, waiting) {
                    tracing::warn!(%error, "a client could not connect; it is tried again");
                }
                waiting = taken.is_err();
            }
            // One step of each: none keeps the others, or the signal, waiting.
            for token in mem::take(&mut ready) {
                let Some(client) = clients.get_mut(&token) else { continue };
                client.heard = turn;
                match client.step(token, service) {
                    Ok(true) => ready.push(token),
                    Ok(false) => {}
                    Err(_) => drop(clients.remove(&token)),
                }
                while clients.values().map(|client| client.output.len()).sum::<usize>() > UNREAD {
                    tracing::warn!(
                        limit = UNREAD,
                        "too many bytes of answers unread; the client deaf longest is let go"
                    );
                    let_go(&mut clients, |client| !client.output.is_empty());
                }
            }
            if service.heir().is_some_and(|heir| !clients.contains_key(&heir)) {
                service.heir_left();
            }
            if service.poll_timeout().is_some_and(|due| due <= Instant::now()) {
                service.handle_timeout();
            }
        }
        Ok(End::Signal)
    }

    /// Takes in all who wait at the door. After an error somebody may wait still.
    fn accept(&self, clients: &mut HashMap<Token, Client>, next: &mut usize, turn: u64) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            if clients.len() >= CLIENTS {
                tracing::warn!(limit = CLIENTS, "too many clients at once; the one silent longest is let go");
                let_go(clients, |_| true);
            }
            let token = Token(*next);
            *next += 1;
            match self.welcome(stream, token, turn) {
                Ok(client) => drop(clients.insert(token, client)),
                Err(error) => tracing::warn!(%error, "a client could not be served"),
            }
        }
    }

    fn welcome(&self, stream: std::os::unix::net::UnixStream, token: Token, turn: u64) -> io::Result<Client> {
        let peer = Peer { uid: fdpass::peer_credentials(&stream)?.uid };
        stream.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(stream);
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Client { stream, peer, heard: turn, input: Vec::new(), searched: 0, output: Vec::new(), fds: Vec::new() })
    }
}

/// Drops the client that has been silent longest among those like `which`.
fn let_go(clients: &mut HashMap<Token, Client>, which: impl Fn(&Client) -> bool) {
    let silent = clients.iter().filter(|(_, client)| which(client)).min_by_key(|(_, client)| client.heard);
    if let Some((&token, _)) = silent {
        clients.remove(&token);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.removes_file {
            let _ = fs::remove_file(&self.path); // a stale file is recognised at the next start anyway
        }
    }
}

impl Client {
    /// Writes what is left of an answer, else answers a line, else reads on. False where the poll must say when to go
    /// on; an error ends the client.
    fn step(&mut self, token: Token, service: &mut impl Service) -> io::Result<bool> {
        if !self.output.is_empty() {
            return self.flush();
        }
        if let Some(end) = self.input[self.searched..].iter().position(|&byte| byte == b'\n') {
            let line: Vec<_> = self.input.drain(..=self.searched + end).collect();
            self.searched = 0;
            if !line.trim_ascii().is_empty() {
                (self.output, self.fds) = service.answer(token, self.peer, &line[..line.len() - 1]);
            }
            return Ok(true);
        }
        self.searched = self.input.len();
        if self.searched > MAX_REQUEST {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut chunk = [0; CHUNK];
        match self.stream.read(&mut chunk) {
            // All that it asked is answered and written by now.
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.input.extend_from_slice(&chunk[..read]);
                Ok(true)
            }
            Err(error) => try_again(error),
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        let written = if self.fds.is_empty() {
            self.stream.write(&self.output)
        } else {
            // As many as one message takes go with each byte from the first on.
            let count = self.fds.len().min(FDS_MAX);
            let fds: Vec<_> = self.fds[..count].iter().map(AsFd::as_fd).collect();
            let sent = fdpass::send(&self.stream, &self.output[..1], &fds);
            sent.inspect(|_| drop(self.fds.drain(..count)))
        };
        match written {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                self.output.drain(..written);
                Ok(true)
            }
            Err(error) => try_again(error),
        }
    }
}

/// Whether to go on at once after `error`, if at all.
fn try_again(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(false),
        ErrorKind::Interrupted => Ok(true),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixStream as Stream;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    const MIB: usize = 1 << 20;

    /// Runs a server that answers each line with itself, doubled; hands its path to `test`, then ends it.
    fn with_server(test: impl FnOnce(&Path)) {
        with_answers(|line| [line, line, b"\n"].concat(), test);
    }

    fn with_answers(mut answer: impl FnMut(&[u8]) -> Vec<u8> + Send, test: impl FnOnce(&Path)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/socket");
        let (ours, signal) = Stream::pair().unwrap();
        let mut server = Server::bind(&path, signal.into()).unwrap();
        thread::scope(|scope| {
            let mut answer = move |_: Peer, line: &[u8]| answer(line);
            let served = scope.spawn(move || server.run(&mut answer));
            test(&path);
            drop(ours); // readable: end of file
            assert_eq!(served.join().unwrap().unwrap(), End::Signal);
        });
        assert!(!path.exists(), "the socket's file stays behind");
    }

    fn ask(stream: &Stream, line: &str) -> String {
        (&*stream).write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer
    }

    #[test]
    fn lines_whole_split_and_together() {
        with_server(|path| {
            let stream = Stream::connect(path).unwrap();
            assert_eq!(ask(&stream, "ab\n"), "abab\n");
            (&stream).write_all(b"c").unwrap();
            assert_eq!(ask(&stream, "d\n\n \n"), "cdcd\n");
            assert_eq!(ask(&stream, "e\nf\n"), "ee\n");
        });
    }

    /// A line of `len` bytes.
    fn long(len: usize) -> Vec<u8> {
        [vec![b'x'; len - 1], b"\n".to_vec()].concat()
    }

    #[test]
    fn a_client_that_never_stops_keeps_nobody_waiting() {
        const ROUNDS: usize = 1_000_000;
        let (busy, rounds) = (OnceLock::<Stream>::new(), AtomicUsize::new(0));
        let answer = |line: &[u8]| {
            // The next request is there before the answer to this one.
            if line == b"more"
                && rounds.fetch_add(1, Ordering::Relaxed) < ROUNDS
                && let Some(mut stream) = busy.get()
            {
                let _ = stream.read(&mut [0; CHUNK]);
                stream.write_all(b"more\n").unwrap();
            }
            b"done\n".to_vec()
        };
        with_answers(answer, |path| {
            let (stream, other) = (Stream::connect(path).unwrap(), Stream::connect(path).unwrap());
            stream.set_nonblocking(true).unwrap();
            busy.get_or_init(|| stream).write_all(b"more\n").unwrap();
            assert_eq!(ask(&other, "status\n"), "done\n");
        });
        assert!(rounds.into_inner() < ROUNDS, "it was served until it stopped by itself");
    }

    #[test]
    fn an_answer_waits_for_the_one_before_to_be_read() {
        let answered = AtomicUsize::new(0);
        let answer = |line: &[u8]| {
            if line == b"status" {
                return b"fine\n".to_vec();
            }
            answered.fetch_add(1, Ordering::Relaxed);
            long(MIB)
        };
        with_answers(answer, |path| {
            let (deaf, other) = (Stream::connect(path).unwrap(), Stream::connect(path).unwrap());
            (&deaf).write_all(&b"big\n".repeat(50)).unwrap();
            deaf.shutdown(std::net::Shutdown::Write).unwrap();
            for _ in 0..100 {
                assert_eq!(ask(&other, "status\n"), "fine\n");
            }
            assert_eq!(answered.load(Ordering::Relaxed), 1);
            // Nothing is lost, although it said long ago that it has no more to ask.
            let mut rest = Vec::new();
            (&deaf).read_to_end(&mut rest).unwrap();
            assert_eq!(rest.len(), 50 * MIB);
        });
    }

    #[test]
    fn unread_answers_are_bounded_over_all_clients() {
        with_answers(
            |_| long(20 * MIB),
            |path| {
                let deaf: Vec<_> = (0..4).map(|_| Stream::connect(path).unwrap()).collect();
                let read = |mut stream: &Stream| {
                    let mut first = [0];
                    stream.read_exact(&mut first).unwrap(); // it is answered
                };
                for stream in &deaf {
                    (&mut &*stream).write_all(b"big\n").unwrap();
                    read(stream);
                }
                for (stream, whole) in deaf.iter().zip([false, true, true, true]) {
                    stream.shutdown(std::net::Shutdown::Write).unwrap();
                    let mut rest = Vec::new();
                    let _ = (&mut &*stream).read_to_end(&mut rest);
                    assert_eq!(rest.len() + 1 == 20 * MIB, whole);
                }
            },
        );
    }

    #[test]
    fn an_endless_line_ends_that_client_only() {
        with_server(|path| {
            let other = Stream::connect(path).unwrap();
            let endless = Stream::connect(path).unwrap();
            let sent = (&endless).write_all(&vec![b'x'; MAX_REQUEST + 2 * CHUNK]);
            let mut rest = Vec::new();
            let read = (&endless).read_to_end(&mut rest);
            assert!(sent.is_err() || read.is_err() || rest.is_empty());
            assert_eq!(ask(&other, "still\n"), "stillstill\n");
        });
    }

    #[test]
    fn many_idle_clients_lock_nobody_out() {
        with_server(|path| {
            let idle: Vec<_> = (0..CLIENTS + 50).map(|_| Stream::connect(path).unwrap()).collect();
            let stream = Stream::connect(path).unwrap();
            assert_eq!(ask(&stream, "ab\n"), "abab\n");
            drop(idle);
            assert_eq!(ask(&stream, "cd\n"), "cdcd\n");
        });
    }

    #[test]
    fn a_living_daemon_is_not_pushed_aside_and_a_dead_one_is() {
        with_server(|path| {
            let (_ours, signal) = Stream::pair().unwrap();
            let message = Server::bind(path, signal.into()).unwrap_err().to_string();
            assert!(message.contains("already listens") && message.contains("--socket"), "{message}");
        });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stale");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_ours, signal) = Stream::pair().unwrap();
        Server::bind(&path, signal.into()).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        let (_ours, signal) = Stream::pair().unwrap();
        let message = Server::bind(&path, signal.into()).unwrap_err().to_string();
        assert!(message.contains("precious") && message.contains("--socket"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }

    #[test]
    fn the_socket_is_not_for_everyone() {
        with_server(|path| assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o660));
    }
}
