//! Traffic without a pause, every byte of it checked.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use netns_tests::traffic::{self, ping, tcp, udp};
use netns_tests::{Failure, Host, Random, Result, frames};

use crate::restarts::Restarts;

/// The MTU of containers on an underlay of 1500.
const MTU: u16 = 1450;
/// Bytes each way of one TCP connection.
const TCP_BYTES: u64 = 16 << 20;
/// Frames of one flood, and the addresses they are from: enough to fill what a table keeps for them.
const FLOOD: usize = 500;
const FLOOD_ADDRESSES: usize = 4096;
/// Between two floods: they are to disturb, not to keep the others from work.
const FLOOD_PAUSE: Duration = Duration::from_millis(100);
/// As long as it took, and at most this, is the pause behind each: ports are to come and go, too, on few cores.
const BREATH: Duration = Duration::from_millis(300);
/// Until the next try.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Between two pings.
const PING_PAUSE: Duration = Duration::from_millis(20);
/// Findings told of each flow; the rest is counted.
const TOLD: usize = 5;

/// A container that stays.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) host: Host,
    v4: IpAddr,
    v6: IpAddr,
}

impl End {
    pub(crate) fn new(host: Host, number: u8) -> Self {
        let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from_str_radix(&number.to_string(), 16).unwrap_or(0)]);
        Self { host, v4: IpAddr::from([10, 0, 0, number]), v6 }
    }

    /// The same container, for another thread.
    fn twin(&self) -> Result<Self> {
        Ok(Self { host: self.host.twin(self.host.name())?, ..*self })
    }

    fn address(&self, turn: u64) -> IpAddr {
        if turn.is_multiple_of(2) { self.v4 } else { self.v6 }
    }
}

/// One kind of traffic between two containers.
#[derive(Debug)]
struct Tally {
    name: &'static str,
    /// Whether a restart of a daemon may interrupt it.
    over_tunnel: bool,
    done: AtomicU64,
    interrupted: AtomicU64,
    failed: AtomicU64,
    findings: Mutex<Vec<String>>,
}

/// All traffic.
#[derive(Debug)]
pub(crate) struct Flows<'a> {
    stop: &'a AtomicBool,
    restarts: &'a Restarts,
    seed: u64,
    tallies: [Tally; 7],
}

type Work = fn(&End, &End, u64, u64) -> Result;

impl<'a> Flows<'a> {
    pub(crate) fn new(stop: &'a AtomicBool, restarts: &'a Restarts, seed: u64) -> Self {
        let tally = |name, over_tunnel| Tally {
            name,
            over_tunnel,
            done: AtomicU64::new(0),
            interrupted: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            findings: Mutex::default(),
        };
        let tallies = [
            tally("TCP connections, 16 MiB each way, on one host", false),
            tally("TCP connections, 16 MiB each way, by VXLAN", true),
            tally("UDP exchanges, on one host", false),
            tally("UDP exchanges, by VXLAN", true),
            tally("pings, on one host", false),
            tally("pings, by VXLAN", true),
            tally("floods of 500 frames from random addresses", false),
        ];
        Self { stop, restarts, seed, tallies }
    }

    /// Starts them, each in a thread of its own: `a` on the host that stays, `b` on the other.
    pub(crate) fn start<'s>(&'s self, scope: &'s Scope<'s, '_>, [a1, a2]: [&End; 2], [b1, b2]: [&End; 2]) -> Result {
        let plan: [(Work, &End, &End); 7] = [
            (connection, a1, a2),
            (connection, a1, b1),
            (datagrams, a2, a1),
            (datagrams, b1, a2),
            (pings, a1, a2),
            (pings, b2, a1),
            (flood, a2, b2),
        ];
        for (tally, (work, from, to)) in self.tallies.iter().zip(plan) {
            let (from, to) = (from.twin()?, to.twin()?);
            scope.spawn(move || self.repeat(tally, work, &from, &to));
        }
        Ok(())
    }

    fn repeat(&self, tally: &Tally, work: Work, from: &End, to: &End) {
        for turn in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let began = Instant::now();
            match work(from, to, turn, self.seed ^ turn) {
                Ok(()) => {
                    tally.done.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(began.elapsed().min(BREATH));
                }
                Err(failure) => {
                    let excused = tally.over_tunnel && self.restarts.excuse(began) && !is_corruption(&failure);
                    if excused { &tally.interrupted } else { &tally.failed }.fetch_add(1, Ordering::Relaxed);
                    let mut findings = tally.findings.lock().unwrap_or_else(PoisonError::into_inner);
                    if !excused && findings.len() < TOLD {
                        findings.push(format!("{}: {failure}", tally.name));
                    }
                    drop(findings);
                    // An interface that is away for a moment fails at once.
                    thread::sleep(AFTER_FAILURE);
                }
            }
        }
    }

    /// What went wrong.
    pub(crate) fn findings(&self) -> Vec<String> {
        let told = |tally: &Tally| tally.findings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let idle = self.tallies.iter().filter(|tally| tally.done.load(Ordering::Relaxed) == 0);
        let idle = idle.map(|tally| format!("{}: not one came through", tally.name));
        self.tallies.iter().flat_map(told).chain(idle).collect()
    }

    /// Prints rows of the table.
    pub(crate) fn print(&self) {
        for Tally { name, done, interrupted, failed, over_tunnel, .. } in &self.tallies {
            let [done, interrupted, failed] = [done, interrupted, failed].map(|count| count.load(Ordering::Relaxed));
            let interrupted =
                if *over_tunnel { format!(", {interrupted} interrupted by a restart") } else { String::new() };
            println!("| {name} | {done}{interrupted}, {failed} failed |");
        }
    }
}

/// Whether bytes came that were not sent, which no restart excuses: the messages of `traffic` then say what was got.
fn is_corruption(failure: &Failure) -> bool {
    failure.to_string().contains(": got ")
}

fn connection(from: &End, to: &End, turn: u64, seed: u64) -> Result {
    let connection = tcp::Connection::open(&from.host, &to.host, to.address(turn))?;
    connection.echo(1, seed)?;
    connection.both_ways(TCP_BYTES, 100_000, seed)
}

fn datagrams(from: &End, to: &End, turn: u64, seed: u64) -> Result {
    let pair = udp::Pair::open(&from.host, &to.host, to.address(turn))?;
    for size in [1, 1000, 1402, 1403, 20_000] {
        pair.echo(size, seed)?;
    }
    udp::train((&from.host, from.address(turn)), (&to.host, to.address(turn)), 20_001, 1000, seed)
}

fn pings(from: &End, to: &End, turn: u64, _: u64) -> Result {
    thread::sleep(PING_PAUSE);
    ping::ping(&from.host, to.address(turn), 56)
}

/// Broadcast and unknown destinations, from addresses of which there are more than anybody has.
fn flood(from: &End, _: &End, turn: u64, seed: u64) -> Result {
    let socket = from.host.packet_socket("eth0")?;
    let mut random = Random::new(seed);
    for number in 0..FLOOD {
        let [.., hi, lo] = random.below(FLOOD_ADDRESSES).to_be_bytes();
        let source = [2, 0xf1, 0, 0, hi, lo];
        let unknown = [2, 0xf2, 0, 0, hi, lo];
        let to = if turn.is_multiple_of(2) { frames::BROADCAST } else { unknown };
        // A queue that is full is part of a flood.
        let _ = socket.send(&frames::probe(to, source, None, u64::try_from(number)?));
    }
    thread::sleep(FLOOD_PAUSE);
    Ok(())
}

/// Whether everything works once it is quiet.
pub(crate) fn last_words(pairs: [(&End, &End); 3], seed: u64) -> Vec<String> {
    let try_one = |(a, b): &(&End, &End)| {
        let families = [(a.v4, b.v4), (a.v6, b.v6)];
        let all = families
            .into_iter()
            .try_for_each(|(from, to)| traffic::everything((&a.host, from), (&b.host, to), MTU, 1 << 20, seed));
        all.err().map(|failure| format!("in the end, {} and {}: {failure}", a.host.name(), b.host.name()))
    };
    pairs.iter().filter_map(try_one).collect()
}
