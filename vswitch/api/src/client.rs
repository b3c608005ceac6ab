//! The caller's side of the socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::RpcError;
use crate::request::Request;
use crate::rpc::{self, Id};

/// A connection to the daemon, for one request after the other.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    timeout: Duration,
    limit: usize,
    last: i64,
    read: Vec<u8>,
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon understood and refused.
    #[error("{0}")]
    Refused(RpcError),
    /// Nobody listens there, or the caller may not connect.
    #[error("cannot connect to {}: {error}", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No answer in time. Whether the request was done is unknown.
    #[error("the daemon did not answer within {timeout:?}")]
    Timeout {
        /// How long was waited.
        timeout: Duration,
    },
    /// The daemon went away before it answered.
    #[error("the daemon closed the connection without an answer")]
    Closed,
    /// The answer has no end.
    #[error("the daemon's answer is longer than {limit} bytes")]
    TooLong {
        /// How much is read.
        limit: usize,
    },
    /// The answer is none.
    #[error("the daemon's answer is not understood ({0}): are both of the same version?")]
    Garbage(String),
    /// The connection broke.
    #[error("the connection to the daemon broke: {0}")]
    Io(#[from] io::Error),
}

impl Client {
    /// Connects to the daemon that listens at `path`. `timeout` bounds this and each call.
    ///
    /// # Errors
    /// Where nobody listens, or nobody accepts in time.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        // A full backlog blocks connect(2) for as long as the daemon is stopped, and std cannot bound that: a thread
        // waits instead, and stays behind where it waits in vain.
        let (done, wait) = mpsc::channel();
        let target = path.to_owned();
        thread::spawn(move || done.send(UnixStream::connect(target)));
        match wait.recv_timeout(timeout) {
            Ok(Ok(stream)) => Ok(Self::over(stream, timeout)),
            Ok(Err(error)) => Err(ClientError::Connect { path: path.to_owned(), error }),
            Err(_) => Err(ClientError::Timeout { timeout }),
        }
    }

    /// A client on a stream that is connected already.
    #[must_use]
    pub const fn over(stream: UnixStream, timeout: Duration) -> Self {
        Self { stream, timeout, limit: rpc::MAX_REPLY, last: 0, read: Vec::new() }
    }

    /// The same client with another bound on the length of an answer.
    #[must_use]
    pub fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Sends `request` and waits for its result.
    ///
    /// # Errors
    /// Where the daemon refuses, or no answer comes. After anything but a refusal the connection is of no more use.
    pub fn call<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ClientError> {
        let result = self.call_value(request)?;
        serde_json::from_value(result).map_err(|error| ClientError::Garbage(error.to_string()))
    }

    /// As [`Self::call`], with the result as it came.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_value(&mut self, request: &Request) -> Result<Value, ClientError> {
        self.call_sending(request, |mut stream, bytes| stream.write(bytes))
    }

    /// As [`Self::call_value`]; `first` sends the beginning of the request, and what it likes along with it, and returns
    /// how many bytes of it went.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_sending(
        &mut self,
        request: &Request,
        first: impl FnMut(&UnixStream, &[u8]) -> io::Result<usize>,
    ) -> Result<Value, ClientError> {
        let deadline = Instant::now() + self.timeout;
        self.last += 1;
        let line = rpc::write_request(Id::Number(self.last), request)
            .map_err(|error| ClientError::Garbage(error.to_string()))?;
        let mut rest = self.write(&line, deadline, first)?;
        while !rest.is_empty() {
            rest = self.write(rest, deadline, |mut stream, bytes| stream.write(bytes))?;
        }
        let line = self.read_line(deadline)?;
        let (id, answer) = rpc::read_answer(&line).map_err(|error| ClientError::Garbage(error.to_string()))?;
        // An error about a line the daemon could not read carries no id.
        if id != Id::Number(self.last) && !(id == Id::Null && answer.is_err()) {
            return Err(ClientError::Garbage("it answers another request".to_owned()));
        }
        answer.map_err(ClientError::Refused)
    }

    /// Writes the beginning of `line` by `send`; returns the rest.
    fn write<'a>(
        &self,
        line: &'a [u8],
        deadline: Instant,
        mut send: impl FnMut(&UnixStream, &[u8]) -> io::Result<usize>,
    ) -> Result<&'a [u8], ClientError> {
        loop {
            self.stream.set_write_timeout(Some(self.left(deadline)?))?;
            match send(&self.stream, line) {
                Ok(sent) => return Ok(line.get(sent..).unwrap_or_default()),
                Err(error) => self.broken(error)?,
            }
        }
    }

    /// Reads up to the next newline; what came behind it waits for the next call.
    fn read_line(&mut self, deadline: Instant) -> Result<Vec<u8>, ClientError> {
        let mut searched = 0;
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(end) = self.read[searched..].iter().position(|&byte| byte == b'\n') {
                let rest = self.read.split_off(searched + end + 1);
                return Ok(std::mem::replace(&mut self.read, rest));
            }
            searched = self.read.len();
            if searched > self.limit {
                return Err(ClientError::TooLong { limit: self.limit });
            }
            self.stream.set_read_timeout(Some(self.left(deadline)?))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(got) => self.read.extend_from_slice(&chunk[..got]),
                Err(error) => self.broken(error)?,
            }
        }
    }

    /// The time left; an error where there is none, since a socket takes zero for "wait for ever".
    fn left(&self, deadline: Instant) -> Result<Duration, ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ClientError::Timeout { timeout: self.timeout }) } else { Ok(left) }
    }

    /// What an error of the stream means; `Ok` where one should try again.
    fn broken(&self, error: io::Error) -> Result<(), ClientError> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(ClientError::Timeout { timeout: self.timeout }),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(ClientError::Closed),
            _ => Err(ClientError::Io(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::reply::Flushed;
    use crate::request::{FdbFilter, Query};
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;

    const PATIENT: Duration = Duration::from_secs(60);
    const HASTY: Duration = Duration::from_millis(20);

    fn flush() -> Request {
        Request::Flush(FdbFilter::default())
    }

    /// A client of a daemon that answers the first request with `answer` and then holds the connection until told to end.
    fn pair(answer: &'static [u8], timeout: Duration) -> (Client, JoinHandle<()>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let daemon = thread::spawn(move || {
            let mut byte = [0];
            while byte != *b"\n" {
                theirs.read_exact(&mut byte).unwrap();
            }
            theirs.write_all(answer).unwrap();
            // Until the client is gone.
            let _ = theirs.read(&mut byte);
        });
        (Client::over(ours, timeout), daemon)
    }

    fn fails(answer: &'static [u8], timeout: Duration, limit: usize) -> ClientError {
        let (client, daemon) = pair(answer, timeout);
        let mut client = client.with_limit(limit);
        let error = client.call::<Flushed>(&flush()).unwrap_err();
        drop(client);
        daemon.join().unwrap();
        error
    }

    #[test]
    fn an_answer_is_read() {
        let (mut client, _daemon) = pair(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"flushed\":3}}\n", PATIENT);
        assert_eq!(client.call::<Flushed>(&flush()).unwrap(), Flushed { flushed: 3 });
    }

    #[test]
    fn a_refusal_is_told_apart() {
        let answer = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":3,\"message\":\"no netns\"}}\n";
        let error = fails(answer, PATIENT, 1000);
        assert!(matches!(&error, ClientError::Refused(refusal) if refusal.code == Code::Host), "{error:?}");
        assert_eq!(error.to_string(), "no netns");
        let unread = b"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"too long\"}}\n";
        assert!(matches!(fails(unread, PATIENT, 1000), ClientError::Refused(_)));
    }

    #[test]
    fn what_is_no_answer() {
        let table: [&[u8]; 6] = [
            b"\n",
            b"HTTP/1.1 400 Bad Request\n",
            b"{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"flushed\":3}}\n",
            b"{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{\"flushed\":3}}\n",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"flushed\":\"x\"}}\n",
            b"\xff\xfe\n",
        ];
        for answer in table {
            let error = fails(answer, PATIENT, 1000);
            assert!(matches!(error, ClientError::Garbage(_)), "{answer:?}: {error:?}");
        }
    }

    #[test]
    fn an_answer_without_end() {
        assert!(matches!(fails(&[b'x'; 5000], PATIENT, 1000), ClientError::TooLong { limit: 1000 }));
    }

    #[test]
    fn a_daemon_that_says_nothing() {
        assert!(matches!(fails(b"", HASTY, 1000), ClientError::Timeout { .. }));
        assert!(matches!(fails(b"{\"jsonrpc\"", HASTY, 1000), ClientError::Timeout { .. }));
    }

    #[test]
    fn a_daemon_that_goes_away() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let error = Client::over(ours, PATIENT).call::<Flushed>(&flush()).unwrap_err();
        assert!(matches!(error, ClientError::Closed), "{error:?}");
    }

    #[test]
    fn one_connection_serves_many_calls() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Both answers in one go: the second must wait for its call.
            stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[]}\n{\"jsonrpc\":\"2.0\",\"id\":2,").unwrap();
            stream.write_all(b"\"result\":[]}\n").unwrap();
            let mut asked = String::new();
            stream.read_to_string(&mut asked).unwrap();
            asked
        });
        let mut client = Client::connect(&path, PATIENT).unwrap();
        for _ in 0..2 {
            let none: Vec<crate::PortInfo> = client.call(&Query::PortList {}.into()).unwrap();
            assert_eq!(none, []);
        }
        drop(client);
        let line = |id| format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"port.list\",\"params\":{{}}}}\n");
        assert_eq!(daemon.join().unwrap(), line(1) + &line(2));
    }

    #[test]
    fn nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let error = Client::connect(&path, PATIENT).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(Client::connect(&path, PATIENT), Err(ClientError::Connect { .. })));
    }
}
