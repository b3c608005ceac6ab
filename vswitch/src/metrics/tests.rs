use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::{Events, Poll, Token};
use vswitch_core::switch::Limits;

use super::serve::{ASKING, CONNECTIONS};
use super::*;

/// A listener with its thread, and what stands for the control thread.
struct Scene {
    addr: SocketAddr,
    requests: Receiver<Request>,
    poll: Poll,
    lets_in: Arc<AtomicBool>,
}

impl Scene {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let listener = Listener::open(Some("127.0.0.1:0".parse().unwrap()), None).unwrap();
        let switch = Switch::new(Limits { entries: 16, per_port: 16 }, 1);
        let Metrics { requests, listener, lets_in } = Metrics::start(listener, waker, switch, false).unwrap().unwrap();
        Self { addr: listener.local_addr().unwrap(), requests, poll, lets_in }
    }

    /// Answers whoever asks, until this is dropped.
    fn answering(self) -> SocketAddr {
        let Self { addr, requests, mut poll, .. } = self;
        thread::spawn(move || {
            let mut events = Events::with_capacity(1);
            loop {
                poll.poll(&mut events, None).unwrap();
                for request in requests.try_iter() {
                    drop(request.send(reading::tests::reading()));
                }
            }
        });
        addr
    }
}

fn asked(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const METRICS: &str = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn pages_are_whole() {
    let addr = Scene::new().answering();
    let answer = asked(addr, METRICS);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert!(body.contains("\nvswitch_port_receive_frames_total{port=\"web\"} 2\n"), "{body}");
    assert!(!body.contains("# EOF"));
    let open = asked(addr, "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text\r\n\r\n");
    assert!(open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{open}");
    let head = asked(addr, &METRICS.replace("GET", "HEAD"));
    let (head, body) = head.split_once("\r\n\r\n").unwrap();
    assert!(body.is_empty() && !head.contains("Content-Length: 0"), "{head}");
    assert!(asked(addr, HEALTH).ends_with("\r\n\r\nok\n"));
    assert!(asked(addr, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 404 "));
    // A body nobody asked for does not take the answer back.
    let posted = format!("POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n{}", "x".repeat(50_000));
    assert!(asked(addr, &posted).starts_with("HTTP/1.1 405 "));
}

#[test]
fn who_says_nothing_makes_room_and_who_is_slow_is_told() {
    let addr = Scene::new().answering();
    let silent: Vec<_> = (0..CONNECTIONS * 2).map(|_| TcpStream::connect(addr).unwrap()).collect();
    assert!(asked(addr, METRICS).starts_with("HTTP/1.1 200 "));
    // The first ones had to go, the last ones have time left.
    let mut first = &silent[0];
    first.set_read_timeout(Some(ASKING / 2)).unwrap();
    assert!(matches!(first.read(&mut [0; 16]), Ok(0) | Err(_)));
    let mut last = silent.last().unwrap();
    last.write_all(b"GET /metrics HT").unwrap();
    let start = Instant::now();
    let mut answer = String::new();
    last.set_read_timeout(Some(ASKING * 3)).unwrap();
    last.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(start.elapsed() < ASKING * 2);
    assert!(asked(addr, METRICS).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_daemon_that_does_not_answer_is_not_waited_on_for_long() {
    let scene = Scene::new();
    let start = Instant::now();
    assert!(asked(scene.addr, HEALTH).starts_with("HTTP/1.1 503 "));
    assert!(asked(scene.addr, METRICS).starts_with("HTTP/1.1 503 "));
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(scene.requests.len(), 1, "requests that wait");
}

#[test]
fn who_connects_during_a_takeover_waits_for_the_other_daemon() {
    let scene = Scene::new();
    let lets_in = Arc::clone(&scene.lets_in);
    lets_in.store(false, Ordering::Relaxed);
    let addr = scene.answering();
    let waits = thread::spawn(move || asked(addr, HEALTH));
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(HEALTH.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(stream.read(&mut [0; 16]).is_err(), "it was answered");
    assert!(!waits.is_finished());
    lets_in.store(true, Ordering::Relaxed);
    assert!(waits.join().unwrap().ends_with("ok\n"));
}

#[test]
fn an_inherited_listener_is_used_where_it_is_the_one_wanted() {
    let addr = "127.0.0.1:0".parse().unwrap();
    let Listener(Some((first, _))) = Listener::open(Some(addr), None).unwrap() else { panic!("no listener") };
    let bound = first.local_addr().unwrap();
    assert!(Listener::open(Some(bound), None).unwrap_err().to_string().contains("--metrics-addr"));
    let again =
        |addr| Listener::open(addr, Some(first.try_clone().unwrap().into())).unwrap().0.map(|(listener, _)| listener);
    assert_eq!(again(Some(bound)).unwrap().local_addr().unwrap(), bound);
    assert_eq!(again(Some(addr)).unwrap().local_addr().unwrap(), bound);
    let other = "127.0.0.2:0".parse().unwrap();
    assert_eq!(again(Some(other)).unwrap().local_addr().unwrap().ip(), other.ip());
    assert!(again(None).is_none());
}
