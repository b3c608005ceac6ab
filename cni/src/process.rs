//! Programs that are run for an answer, and may hang.

use std::io::{self, Read, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// What a program may write, in bytes.
const OUTPUT: u64 = 1 << 20;

/// Runs a program that reads `input` and writes no more than [`OUTPUT`]; it is killed where it takes longer than `patience`.
/// What it complains of is in the answer where `command` pipes it.
///
/// # Errors
/// Where it cannot be run, takes too long, or writes too much.
pub(crate) fn converse(mut command: Command, input: &[u8], patience: Duration) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let to = child.stdin.take();
    let input = input.to_vec();
    // One that does not read must not stop us, and one that writes while it reads must not stop itself.
    thread::spawn(move || to.map(|mut to| to.write_all(&input)));
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let outcome = wait(&mut child, &out, &err, patience);
    if outcome.is_err() {
        // It may have ended meanwhile.
        let _ = child.kill();
        let _ = child.wait();
    }
    outcome
}

/// What comes from `from`, once all has come.
fn collect<R: Read + Send + 'static>(from: Option<R>) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (done, output) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = from.map_or(Ok(0), |from| from.take(OUTPUT + 1).read_to_end(&mut bytes));
        // Nobody waits any more where it took too long.
        let _ = done.send(read.map(|_| bytes));
    });
    output
}

fn wait(
    child: &mut Child,
    out: &mpsc::Receiver<io::Result<Vec<u8>>>,
    err: &mpsc::Receiver<io::Result<Vec<u8>>>,
    patience: Duration,
) -> io::Result<Output> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("it did not end within {patience:?}"));
    let deadline = Instant::now() + patience;
    let all = |from: &mpsc::Receiver<io::Result<Vec<u8>>>| {
        let left = deadline.saturating_duration_since(Instant::now());
        let bytes = from.recv_timeout(left).map_err(|_| late())??;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > OUTPUT {
            return Err(io::Error::other(format!("it wrote more than {OUTPUT} bytes")));
        }
        Ok(bytes)
    };
    let (stdout, stderr) = (all(out)?, all(err)?);
    // It has closed its output, so that it is about to end.
    let mut pause = Duration::from_micros(50);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Output { status, stdout, stderr });
        }
        if Instant::now() >= deadline {
            return Err(late());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_both_ways() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; echo oops >&2; exit 3"]).stderr(Stdio::piped());
        let output = converse(command, b"hello", Duration::from_secs(20)).unwrap();
        assert_eq!((output.status.code(), &*output.stdout, &*output.stderr), (Some(3), &b"hello"[..], &b"oops\n"[..]));
    }

    #[test]
    fn one_that_does_not_end() {
        for silent in ["exec sleep 600", "exec >&- 2>&-; exec sleep 600"] {
            let mut command = Command::new("sh");
            command.args(["-c", silent]).stderr(Stdio::piped());
            let error = converse(command, b"{}", Duration::from_millis(50)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }
}
