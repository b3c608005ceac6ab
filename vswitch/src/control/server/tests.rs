use super::client::CHUNK;
use super::*;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Stream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const MIB: usize = 1 << 20;

fn ours_alone() -> Access {
    Access { owner: nix::unistd::geteuid().as_raw(), group: None, mode: 0o660 }
}

/// Runs a server that answers each line with itself, doubled; hands its path to `test`, then ends it.
fn with_server(test: impl FnOnce(&Path)) {
    with_answers(|line| [line, line, b"\n"].concat(), test);
}

struct Answers<F>(F);

impl<F: FnMut(&[u8]) -> Vec<u8>> Service for Answers<F> {
    fn answer(&mut self, _: Token, line: Line<'_>) -> (Vec<u8>, Vec<OwnedFd>) {
        ((self.0)(line.bytes), Vec::new())
    }

    fn tend(&mut self, _: bool) -> Option<Duration> {
        None
    }
}

fn with_answers(answer: impl FnMut(&[u8]) -> Vec<u8> + Send, test: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/socket");
    let (ours, signal) = Stream::pair().unwrap();
    let mut server = Server::bind(&path, ours_alone(), signal.into()).unwrap();
    thread::scope(|scope| {
        let served = scope.spawn(move || server.run(&mut Answers(answer)));
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
        let sent = (&endless).write_all(&vec![b'x'; vswitch_api::rpc::MAX_REQUEST + 2 * CHUNK]);
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
        let message = Server::bind(path, ours_alone(), signal.into()).unwrap_err().to_string();
        assert!(message.contains("already listens") && message.contains("--socket"), "{message}");
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (_ours, signal) = Stream::pair().unwrap();
    Server::bind(&path, ours_alone(), signal.into()).unwrap();
}

#[test]
fn a_file_that_is_no_socket_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    fs::write(&path, "data").unwrap();
    let (_ours, signal) = Stream::pair().unwrap();
    let message = Server::bind(&path, ours_alone(), signal.into()).unwrap_err().to_string();
    assert!(message.contains("precious") && message.contains("--socket"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"data");
}

#[test]
fn the_socket_is_not_for_everyone() {
    with_server(|path| assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o660));
}
