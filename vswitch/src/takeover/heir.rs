//! The daemon that takes over: its side of the conversation.

use std::io::{self, ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use thiserror::Error;
use vswitch_api::{Id, Request, RpcError, Takeover, rpc};
use vswitch_sys::fdpass;

use crate::worker::WorkerError;

use super::{FORMAT, Name, Snapshot, Tally};

/// How long an answer may take. A daemon that does not answer is no reason to wait for ever; it serves on.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the switch could not be taken over.
#[derive(Debug, Error)]
pub(crate) enum TakeoverError {
    #[error("cannot speak to the vswitchd on {}: {error}", .path.display())]
    Connect { path: PathBuf, error: io::Error },
    #[error("the running vswitchd refuses to be taken over: {0}")]
    Refused(RpcError),
    #[error("the running vswitchd does not answer as it should: {0}; it serves on")]
    Broken(io::Error),
    #[error(
        "the running vswitchd did not answer within {} s and is left as it is: it may be stopped (kill -CONT), or the machine \
         too busy; try again when `vsctl status` answers", PATIENCE.as_secs()
    )]
    Silent,
    #[error("the running vswitchd is not understood: {0}; {RESTART}")]
    Garbage(#[from] serde_json::Error),
    #[error("the running vswitchd hands over in form {theirs}, and this one takes form {FORMAT}: {RESTART}")]
    Format { theirs: u32 },
    #[error("the running vswitchd hands over {got} descriptors and names {named}: {RESTART}")]
    Descriptors { got: usize, named: usize },
    #[error("the running vswitchd has waited too long, and serves on; try again when the machine is less busy")]
    TooLate,
    #[error("the workers do not start: {0}")]
    Workers(#[from] WorkerError),
    #[error("the running vswitchd hands over no control socket: {RESTART}")]
    NoSocket,
    #[error("the running vswitchd hands over a VTEP without all of its sockets: {RESTART}")]
    NoSockets,
    #[error(
        "the interface with {0} was made anew and the uplink went with it: stop the running vswitchd and start without \
         --takeover, which keeps the interfaces too, or say --underlay auto"
    )]
    UplinkGone(IpAddr),
    #[error("the running vswitchd has {what} {theirs}, and this one was told {ours}: {RESTART}")]
    Differs { what: &'static str, theirs: String, ours: String },
}

/// The way out of all that a takeover cannot do.
const RESTART: &str = "say the same, or stop it and start without --takeover, which keeps the interfaces too";

/// What the daemon that still serves hands over first.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) snapshot: Snapshot,
    pub(crate) descriptors: Vec<(Name, OwnedFd)>,
}

/// The connection to the daemon that still serves. Where it is dropped before [`Self::commit`], that one goes on.
#[derive(Debug)]
pub(crate) struct Heir {
    stream: UnixStream,
}

impl Heir {
    /// Asks the daemon on `socket` for all there is; `None` where no daemon serves there.
    pub(crate) fn begin(socket: &Path) -> Result<Option<(Self, Handed)>, TakeoverError> {
        let stream = match UnixStream::connect(socket) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(TakeoverError::Connect { path: socket.to_owned(), error }),
        };
        stream.set_read_timeout(Some(PATIENCE)).map_err(TakeoverError::Broken)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(TakeoverError::Broken)?;
        let mut heir = Self { stream };
        let (answer, fds) = heir.call(Takeover::Begin { format: FORMAT })?;
        // The form first: of another one nothing else need be as it is here.
        let theirs = answer["format"].as_u64().and_then(|format| u32::try_from(format).ok()).unwrap_or(0);
        if theirs != FORMAT {
            return Err(TakeoverError::Format { theirs });
        }
        let snapshot: Snapshot = serde_json::from_value(answer)?;
        if snapshot.descriptors.len() != fds.len() {
            return Err(TakeoverError::Descriptors { got: fds.len(), named: snapshot.descriptors.len() });
        }
        let descriptors = snapshot.descriptors.iter().cloned().zip(fds).collect();
        Ok(Some((heir, Handed { snapshot, descriptors })))
    }

    /// Has it leave frames in the kernel's queues; returns what moved until then.
    pub(crate) fn pause(&mut self) -> Result<Tally, TakeoverError> {
        self.ask(Takeover::Pause {})
    }

    /// Tells it that this daemon serves, which makes it end.
    ///
    /// Where it refuses, it serves on, and this one may not; where it says nothing, the lock has decided.
    pub(crate) fn commit(mut self) -> Result<(), TakeoverError> {
        match self.ask::<serde_json::Value>(Takeover::Commit {}) {
            Err(refused @ TakeoverError::Refused(_)) => Err(refused),
            Err(error) => {
                tracing::warn!(%error, "the daemon before this one does not say that it ends");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    fn ask<T: DeserializeOwned>(&mut self, word: Takeover) -> Result<T, TakeoverError> {
        let (answer, _) = self.call(word)?;
        Ok(serde_json::from_value(answer)?)
    }

    /// Says a word and reads the answer, with the descriptors that come along.
    fn call(&mut self, word: Takeover) -> Result<(serde_json::Value, Vec<OwnedFd>), TakeoverError> {
        let request = rpc::write_request(Id::Number(1), &Request::Takeover(word))?;
        // A time-out of a socket is that (socket(7), SO_RCVTIMEO).
        let broken = |error: io::Error| match error.kind() {
            ErrorKind::WouldBlock => TakeoverError::Silent,
            _ => TakeoverError::Broken(error),
        };
        self.stream.write_all(&request).map_err(broken)?;
        let (line, fds) = self.read_line().map_err(broken)?;
        let (_, answer) = rpc::read_answer(&line)?;
        Ok((answer.map_err(TakeoverError::Refused)?, fds))
    }

    fn read_line(&mut self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let (mut line, mut fds) = (Vec::new(), Vec::new());
        let mut chunk = vec![0; 1 << 16];
        loop {
            let (read, more) = fdpass::recv(&self.stream, &mut chunk)?;
            fds.extend(more);
            line.extend_from_slice(&chunk[..read]);
            match line.last() {
                Some(b'\n') => return Ok((line, fds)),
                _ if read == 0 => return Err(ErrorKind::UnexpectedEof.into()),
                _ if line.len() > rpc::MAX_REPLY => return Err(ErrorKind::InvalidData.into()),
                _ => {}
            }
        }
    }
}
