//! What two containers keep while a third floods: the kernel's bridge and ours beside each other, in turns.
//!
//! The flooder needs a core as much as the others do, so a share of what they lose is lost to it under any switch: the
//! kernel's bridge says how much. Each figure is taken with and without the flood, one after the other.
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod network;

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use netns_tests::traffic::flood::{Flood, Kind};
use netns_tests::traffic::paced::Paced;
use netns_tests::traffic::tcp::Connection;
use netns_tests::{Result, binaries::binaries};

use crate::network::{Network, Peer};

/// Before what is measured: a window opens, addresses are learned.
const WARM_UP: Duration = Duration::from_millis(300);
/// Between two round trips.
const PACE: Duration = Duration::from_micros(500);

/// Measures what a flood leaves to others.
#[derive(Debug, Parser)]
#[command(name = "overload")]
struct Args {
    /// Measure only floods whose name contains one of these, as `broadcast`
    filters: Vec<String>,
    /// Frames that the flooder offers a second
    #[arg(long, default_value_t = 150_000)]
    rate: u32,
    /// How often each figure is taken
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// How long one figure takes
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// What `cargo bench` says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// What two containers have: bits a second of TCP, and microseconds of a round trip, half of them and of 100 the 99th.
#[derive(Clone, Copy, Debug, Default)]
struct Service {
    throughput: f64,
    trip: f64,
    late: f64,
    lost: f64,
    /// Microseconds of CPU that the switch takes for a frame of the flood; zero where there is none.
    cost: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        // `cargo test --all-targets` starts benches too, and has no minutes to spare.
        println!("what a flood leaves to others is measured with `cargo bench -p benches --bench overload`");
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("overload: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result {
    eprintln!("the switch: {}", binaries()?.vswitchd.display());
    println!(
        "| flood of {}/s | switch | TCP Gb/s alone | flooded | kept | round trip us alone | flooded | x | p99 us alone | flooded \
         | lost | switch us/frame |",
        args.rate
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let networks = [Network::new(Peer::Bridge)?, Network::new(Peer::Vswitch)?];
    let sink = |network: &Network| network.sink.mac("eth0");
    type ToKind = fn([u8; 6]) -> Kind;
    let kinds: [ToKind; 5] =
        [Kind::KnownUnicast, |_| Kind::Broadcast, |_| Kind::Multicast, |_| Kind::UnknownUnicast, Kind::RandomSources];
    for kind in kinds {
        let name = kind([0; 6]).name();
        if !args.filters.is_empty() && !args.filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let mut figures = [(); 2].map(|()| (Vec::new(), Vec::new()));
        for _ in 0..args.turns {
            for (network, (alone, flooded)) in networks.iter().zip(&mut figures) {
                alone.push(network.service(args)?);
                let flood = Flood::start(&network.flooder, "eth0", kind(sink(network)?), args.rate)?;
                let cost = network.cost(args, &flood)?;
                flooded.push(Service { cost, ..network.service(args)? });
                drop(flood);
            }
        }
        for (network, (alone, flooded)) in networks.iter().zip(&figures) {
            println!("{}", Line { name, peer: network.peer, alone: median(alone), flooded: median(flooded) });
        }
    }
    Ok(())
}

impl Network {
    /// What client and server have just now.
    fn service(&self, args: &Args) -> Result<Service> {
        let window = Duration::from_secs_f64(args.seconds);
        let throughput = self.throughput(window)?;
        let paced = Paced::start((&self.client, self.client_ip()), (&self.server, self.server_ip()), PACE)?;
        thread::sleep(window);
        let trips = paced.stop()?;
        let micros = |percent| trips.quantile(percent).as_secs_f64() * 1e6;
        let lost = float(trips.lost.len() as u64) / float(trips.sent.max(1) as u64);
        Ok(Service { throughput, trip: micros(50), late: micros(99), lost, cost: 0.0 })
    }

    /// What the switch takes for a frame of the flood while nobody else sends.
    fn cost(&self, args: &Args, flood: &Flood) -> Result<f64> {
        let (sent, cpu) = (flood.sent(), self.cpu()?);
        thread::sleep(Duration::from_secs_f64(args.seconds));
        let frames = flood.sent() - sent;
        Ok((self.cpu()? - cpu).as_secs_f64() * 1e6 / float(frames.max(1)))
    }

    /// Bits a second.
    fn throughput(&self, window: Duration) -> Result<f64> {
        let connection = Connection::open(&self.client, &self.server, self.server_ip())?;
        let received = AtomicU64::new(0);
        let bytes = thread::scope(|scope| {
            scope.spawn(|| {
                let bytes = vec![0x5a; 128 << 10];
                while (&connection.client).write_all(&bytes).is_ok() {}
            });
            scope.spawn(|| {
                let mut bytes = vec![0; 128 << 10];
                while let Ok(len @ 1..) = (&connection.server).read(&mut bytes) {
                    received.fetch_add(len as u64, Ordering::Relaxed);
                }
            });
            thread::sleep(WARM_UP);
            let (start, before) = (Instant::now(), received.load(Ordering::Relaxed));
            thread::sleep(window);
            let bytes = float(received.load(Ordering::Relaxed) - before) / start.elapsed().as_secs_f64();
            // An error says that it has ended already.
            let _ = connection.client.shutdown(Shutdown::Both);
            let _ = connection.server.shutdown(Shutdown::Both);
            bytes
        });
        Ok(bytes * 8.0)
    }
}

/// A count as a number to reckon with.
#[allow(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
const fn float(count: u64) -> f64 {
    count as f64
}

/// Figure by figure, the middle one.
fn median(services: &[Service]) -> Service {
    let middle = |figure: fn(&Service) -> f64| {
        let mut figures: Vec<_> = services.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    };
    Service {
        throughput: middle(|service| service.throughput),
        trip: middle(|service| service.trip),
        late: middle(|service| service.late),
        lost: middle(|service| service.lost),
        cost: middle(|service| service.cost),
    }
}

/// A line of the table.
struct Line {
    name: &'static str,
    peer: Peer,
    alone: Service,
    flooded: Service,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, peer, alone, flooded } = self;
        write!(f, "| {name} | {peer} | {:.2} | {:.2} ", alone.throughput / 1e9, flooded.throughput / 1e9)?;
        write!(f, "| {:.0} % ", flooded.throughput / alone.throughput * 100.0)?;
        write!(f, "| {:.0} | {:.0} | {:.1} ", alone.trip, flooded.trip, flooded.trip / alone.trip)?;
        write!(f, "| {:.0} | {:.0} ", alone.late, flooded.late)?;
        write!(f, "| {:.1} % | {:.2} |", flooded.lost * 100.0, flooded.cost)
    }
}
