//! One client: what it sent and is not answered, and what it was answered and has not read.

use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Stream;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use vswitch_api::rpc::{MAX_DESCRIPTORS, MAX_REQUEST};
use vswitch_sys::fdpass::{self, FDS_MAX};

use super::super::access::{Access, Peer};
use super::{Line, Service};

/// Bytes read at once.
pub(super) const CHUNK: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    peer: Peer,
    /// The turn of the loop in which it last said something.
    heard: u64,
    /// What has come and is not answered.
    input: Vec<u8>,
    /// How many bytes of `input` from its start are known to hold no line's end.
    searched: usize,
    /// What came with `input`.
    fds: Vec<OwnedFd>,
    /// The last answer.
    output: Vec<u8>,
    /// How many bytes of `output` are written.
    written: usize,
    /// Descriptors that go with it, as far as they are not sent; they are fewer than its bytes.
    sending: Vec<OwnedFd>,
}

impl Client {
    pub(super) fn new(
        stream: Stream,
        access: &Access,
        turn: u64,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let peer = access.peer(&stream)?;
        stream.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            peer,
            heard: turn,
            input: Vec::new(),
            searched: 0,
            fds: Vec::new(),
            output: Vec::new(),
            written: 0,
            sending: Vec::new(),
        })
    }

    pub(super) const fn peer(&self) -> Peer {
        self.peer
    }

    pub(super) const fn heard(&self) -> u64 {
        self.heard
    }

    /// Bytes of its answer that it has not read.
    pub(super) const fn unread(&self) -> usize {
        self.output.len() - self.written
    }

    /// Descriptors that came with a request that has not ended yet. The one of somebody who may only look does not count:
    /// he could have those let go who may do more.
    pub(super) const fn unclaimed(&self) -> usize {
        if self.peer.may_change { self.fds.len() } else { 0 }
    }

    /// Writes what is left of an answer, else answers a line, else reads on. False where the poll must say when to go
    /// on; an error ends the client.
    pub(super) fn step(&mut self, token: Token, turn: u64, service: &mut dyn Service) -> io::Result<bool> {
        self.heard = turn;
        if self.unread() > 0 {
            return self.write();
        }
        if let Some(end) = self.input[self.searched..].iter().position(|&byte| byte == b'\n') {
            let line: Vec<_> = self.input.drain(..=self.searched + end).collect();
            self.searched = 0;
            if !line.trim_ascii().is_empty() {
                let line = Line { peer: self.peer, bytes: &line[..line.len() - 1], fds: &mut self.fds };
                (self.output, self.sending) = service.answer(token, line);
                self.written = 0;
            }
            if self.input.is_empty() {
                self.fds.clear(); // whoever did not ask for them gets none
            }
            return Ok(true);
        }
        self.searched = self.input.len();
        if self.searched > MAX_REQUEST {
            return Err(ErrorKind::InvalidData.into());
        }
        self.read()
    }

    fn read(&mut self) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        match fdpass::recv(&self.stream, &mut chunk) {
            // All that it asked is answered and written by now.
            Ok((0, _)) => Err(ErrorKind::UnexpectedEof.into()),
            Ok((read, fds)) => {
                self.input.extend_from_slice(&chunk[..read]);
                // Who may only look has one to send: where to tell him what happens.
                let most = if self.peer.may_change { fds.len() } else { 1_usize.saturating_sub(self.fds.len()) };
                self.fds.extend(fds.into_iter().take(most));
                if self.fds.len() > MAX_DESCRIPTORS { Err(ErrorKind::InvalidData.into()) } else { Ok(true) }
            }
            Err(error) => try_again(error),
        }
    }

    fn write(&mut self) -> io::Result<bool> {
        let left = &self.output[self.written..];
        let written = if self.sending.is_empty() {
            self.stream.write(left)
        } else {
            // As many as one message takes go with each byte from the first on.
            let count = self.sending.len().min(FDS_MAX);
            let fds: Vec<_> = self.sending[..count].iter().map(AsFd::as_fd).collect();
            let sent = fdpass::send(&self.stream, &left[..1], &fds);
            sent.inspect(|_| drop(self.sending.drain(..count)))
        };
        match written {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                self.written += written;
                if self.unread() == 0 {
                    (self.output, self.written) = (Vec::new(), 0); // a list of all addresses is large
                }
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
