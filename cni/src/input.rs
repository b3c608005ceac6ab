//! Standard input, bounded in length and in time.

use std::io::{self, IsTerminal, Read};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::protocol::{Code, Failure};

/// What a configuration may have, in bytes: GC lists every attachment of the host in it.
const LIMIT: u64 = 16 << 20;

/// How long a runtime may take to write a configuration.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long VERSION waits for a question that it can do without.
const HASTE: Duration = Duration::from_secs(1);

/// The whole input.
///
/// # Errors
/// Where it cannot be read, has no end, or does not end in time.
pub(crate) fn configuration(input: impl Read + IsTerminal + Send + 'static) -> Result<Vec<u8>, Failure> {
    if input.is_terminal() {
        return Err(failure("it is a terminal: a network configuration is to come from a file or a pipe"));
    }
    read(input, PATIENCE)
}

/// What VERSION is asked with; `None` where there is nothing to read.
pub(crate) fn question(input: impl Read + IsTerminal + Send + 'static) -> Option<Vec<u8>> {
    if input.is_terminal() { None } else { read(input, HASTE).ok() }
}

fn read(input: impl Read + Send + 'static, patience: Duration) -> Result<Vec<u8>, Failure> {
    let (done, bytes) = mpsc::channel();
    // A thread, since a read of a pipe cannot be bounded; it ends with the process.
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let outcome: io::Result<_> = input.take(LIMIT + 1).read_to_end(&mut bytes).map(|_| bytes);
        // Nobody waits any more where it took too long.
        let _ = done.send(outcome);
    });
    let outcome = bytes.recv_timeout(patience).map_err(|_| failure(format!("it did not end within {patience:?}")))?;
    let bytes = outcome.map_err(|error| failure(error.to_string()))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LIMIT {
        return Err(failure(format!("it has more than {LIMIT} bytes")));
    }
    Ok(bytes)
}

fn failure(why: impl AsRef<str>) -> Failure {
    Failure::new(Code::Io, format!("failed to read the network configuration from standard input: {}", why.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn it_is_read_to_its_end() {
        assert_eq!(read(&b"{}"[..], PATIENCE).unwrap(), b"{}");
        assert_eq!(read(io::empty(), PATIENCE).unwrap(), b"");
    }

    #[test]
    fn it_is_bounded() {
        let failure = read(io::repeat(b' '), PATIENCE).unwrap_err();
        assert_eq!(failure.code, 5);
        assert!(failure.details.contains("16777216 bytes"), "{failure}");
        let (_open, silent) = UnixStream::pair().unwrap();
        let failure = read(silent, Duration::from_millis(10)).unwrap_err();
        assert_eq!(failure.code, 5);
        assert!(failure.details.contains("did not end within 10ms"), "{failure}");
    }
}
