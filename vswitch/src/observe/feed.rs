//! Bytes for somebody who looks on, by a thread of his own.
//!
//! Nobody ever waits for the reader. What is under way to him is counted, for those who send to bound it.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

/// What a chunk costs beside its bytes.
const CHUNK: usize = 64;
/// How often it is looked whether the reader is still there, while nothing comes.
const IDLE: Duration = Duration::from_millis(200);
/// How long a reader may take to take the last words.
const FAREWELL: Duration = Duration::from_millis(200);

/// What the thread is sent.
#[derive(Debug)]
enum Message {
    Chunk(Vec<u8>),
    /// Why nothing more comes.
    End(String),
}

/// Writes down the last words: why nothing more comes.
type LastWords = fn(String, &mut Vec<u8>);

/// The thread's end.
#[derive(Debug)]
pub(crate) struct Feed {
    stream: UnixStream,
    line: Receiver<Message>,
    shared: Arc<Shared>,
    last_words: LastWords,
}

/// The other end.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    line: Sender<Message>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes that were sent and the reader has not taken.
    under_way: AtomicUsize,
    is_closed: AtomicBool,
}

impl Outlet {
    /// Bytes that the reader has not taken.
    pub(crate) fn under_way(&self) -> usize {
        self.shared.under_way.load(Ordering::Relaxed)
    }

    /// Whether the reader has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::Relaxed)
    }

    /// Sends `chunk`; false where the reader has gone.
    pub(crate) fn send(&self, chunk: Vec<u8>) -> bool {
        self.shared.under_way.fetch_add(chunk.len() + CHUNK, Ordering::Relaxed);
        self.line.send(Message::Chunk(chunk)).is_ok()
    }

    /// Tells the reader why nothing more comes.
    pub(crate) fn end(&self, why: &str) {
        let _ = self.line.send(Message::End(why.to_owned())); // who has gone needs no farewell
    }
}

impl Feed {
    /// What serves a reader at the other end of `stream`, which must be a Unix socket, and where its bytes go in.
    pub(crate) fn new(stream: OwnedFd, last_words: LastWords) -> io::Result<(Self, Outlet)> {
        let stream = UnixStream::from(stream);
        stream.local_addr()?; // none but a Unix socket has one
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        let (sender, receiver) = crossbeam_channel::unbounded();
        let shared = Arc::new(Shared::default());
        let outlet = Outlet { line: sender, shared: Arc::clone(&shared) };
        Ok((Self { stream, line: receiver, shared, last_words }, outlet))
    }

    /// Sends what comes until the reader goes, or nothing more comes.
    pub(crate) fn run(mut self) {
        let outcome = self.send_all();
        self.shared.is_closed.store(true, Ordering::Relaxed);
        if let Err(error) = outcome {
            tracing::debug!(%error, "one who looked on has gone");
        }
    }

    fn send_all(&mut self) -> io::Result<()> {
        loop {
            match self.line.recv_timeout(IDLE) {
                Ok(Message::Chunk(chunk)) => {
                    self.stream.write_all(&chunk)?;
                    self.shared.under_way.fetch_sub(chunk.len() + CHUNK, Ordering::Relaxed);
                }
                Ok(Message::End(why)) => {
                    let mut last = Vec::new();
                    (self.last_words)(why, &mut last);
                    self.stream.set_write_timeout(Some(FAREWELL))?;
                    return self.stream.write_all(&last);
                }
                Err(RecvTimeoutError::Timeout) if self.has_left()? => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Whether the reader has closed his end.
    fn has_left(&mut self) -> io::Result<bool> {
        match self.stream.read(&mut [0]) {
            Ok(read) => Ok(read == 0),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
