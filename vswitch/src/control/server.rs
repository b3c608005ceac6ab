//! The control socket: many clients, one request a line, each answered in turn.
//!
//! Everything a client may do is bounded: how many there are, how long a line is, how much of an unread answer is kept.
//! None of it touches a worker's thread.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use mio::net::UnixStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use thiserror::Error;
use vswitch_api::rpc::MAX_REQUEST;

const LISTENER: Token = Token(0);
const SIGNAL: Token = Token(1);
const FIRST_CLIENT: usize = 2;
/// Clients at one time; for one more, the one that has been silent longest is let go.
const CLIENTS: usize = 256;
/// Answers that a client has not read; past this it is let go.
const UNREAD: usize = 64 << 20;
/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Why the control socket cannot serve.
#[derive(Debug, Error)]
pub(crate) enum ServerError {
    #[error("another vswitchd already listens on {}; stop it first, or choose another socket with --socket", .0.display())]
    Taken(PathBuf),
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

/// The listening socket; its file goes when this does.
#[derive(Debug)]
pub(crate) struct Server {
    path: PathBuf,
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
    input: Vec<u8>,
    output: Vec<u8>,
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
            // Left behind by a daemon that was killed.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
        let poll = Poll::new().map_err(ServerError::Poll)?;
        for (fd, token) in [(listener.as_raw_fd(), LISTENER), (signal.as_raw_fd(), SIGNAL)] {
            poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE).map_err(ServerError::Poll)?;
        }
        Ok(Self { path: path.to_owned(), listener, poll, _signal: signal })
    }

    /// Answers every line with the line that `answer` makes of it, until a signal comes.
    pub(crate) fn run(&mut self, mut answer: impl FnMut(Peer, &[u8]) -> Vec<u8>) -> Result<(), ServerError> {
        let mut events = Events::with_capacity(64);
        let mut clients: HashMap<Token, Client> = HashMap::new();
        let mut next = FIRST_CLIENT;
        for turn in 0_u64.. {
            if let Err(error) = self.poll.poll(&mut events, None) {
                if error.kind() == ErrorKind::Interrupted {
                    continue;
                }
                return Err(ServerError::Poll(error));
            }
            for event in &events {
                match event.token() {
                    SIGNAL => return Ok(()),
                    LISTENER => self.accept(&mut clients, &mut next, turn)?,
                    token => {
                        let Some(client) = clients.get_mut(&token) else { continue };
                        client.heard = turn;
                        if client.serve(&mut answer).is_err() {
                            clients.remove(&token);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn accept(&self, clients: &mut HashMap<Token, Client>, next: &mut usize, turn: u64) -> Result<(), ServerError> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "a client could not connect");
                    return Ok(());
                }
            };
            if clients.len() >= CLIENTS
                && let Some(silent) = clients.iter().min_by_key(|(_, client)| client.heard).map(|(&token, _)| token)
            {
                tracing::warn!(limit = CLIENTS, "too many clients at once; the one silent longest is let go");
                clients.remove(&silent);
            }
            let Ok(credentials) = vswitch_sys::fdpass::peer_credentials(&stream) else { continue };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let mut stream = UnixStream::from_std(stream);
            let token = Token(*next);
            *next += 1;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, token, interest).map_err(ServerError::Poll)?;
            let peer = Peer { uid: credentials.uid };
            clients.insert(token, Client { stream, peer, heard: turn, input: Vec::new(), output: Vec::new() });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // a stale file is recognised at the next start anyway
    }
}

impl Client {
    /// Reads what has come, answers whole lines, writes what fits. An error ends the client.
    fn serve(&mut self, answer: &mut impl FnMut(Peer, &[u8]) -> Vec<u8>) -> io::Result<()> {
        self.flush()?;
        let mut chunk = [0; CHUNK];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    let searched = self.input.len();
                    self.input.extend_from_slice(&chunk[..read]);
                    self.answer_lines(searched, answer)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Answers the lines complete in `input`, of which the first `searched` bytes hold no line's end.
    fn answer_lines(&mut self, mut searched: usize, answer: &mut impl FnMut(Peer, &[u8]) -> Vec<u8>) -> io::Result<()> {
        let mut start = 0;
        while let Some(end) = self.input[searched..].iter().position(|&byte| byte == b'\n') {
            let end = searched + end;
            let line = &self.input[start..end];
            if !line.trim_ascii().is_empty() {
                self.output.extend(answer(self.peer, line));
            }
            start = end + 1;
            searched = start;
        }
        self.input.drain(..start);
        self.flush()?;
        if self.input.len() > MAX_REQUEST || self.output.len() > UNREAD {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        let result = loop {
            if written == self.output.len() {
                break Ok(());
            }
            match self.stream.write(&self.output[written..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.output.drain(..written);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixStream as Stream;
    use std::thread;

    /// Runs a server that answers each line with itself, doubled; hands its path to `test`, then ends it.
    fn with_server(test: impl FnOnce(&Path)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/socket");
        let (ours, signal) = Stream::pair().unwrap();
        let mut server = Server::bind(&path, signal.into()).unwrap();
        thread::scope(|scope| {
            let served = scope.spawn(move || server.run(|_, line| [line, line, b"\n"].concat()));
            test(&path);
            drop(ours); // readable: end of file
            served.join().unwrap().unwrap();
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
    fn the_socket_is_not_for_everyone() {
        with_server(|path| assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o660));
    }
}
