//! What looking on costs: the same traffic while nobody looks, while metrics are scraped and the flight recorder runs, and
//! while `vsctl` shows frames as they pass.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use netns_tests::{Context as _, Host, Result, ensure};
use serde_json::{Value, json};

use crate::args::Args;
use crate::network::Network;
use crate::peer::{METRICS_PORT, Peer, Place, Variant};
use crate::row::{self, median};
use crate::work::{Plan, Sample, Work};

/// Prometheus asks every 15 s or so; more often here, so that a short window has more than its share of it.
const BETWEEN_SCRAPES: Duration = Duration::from_secs(1);
const WORKS: [Work; 2] = [Work::Bulk(1), Work::Flood];

/// Who looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watcher {
    Nobody,
    /// Metrics are scraped, and the flight recorder runs.
    Recorder,
    /// `vsctl trace --live`.
    Trace,
}

/// One kind of traffic: its samples by turn, in the order of [`Watcher::ALL`].
#[derive(Debug)]
pub(crate) struct Watched {
    work: Work,
    turns: Vec<[Sample; Watcher::ALL.len()]>,
}

/// Measures what `args` asks for.
pub(crate) fn measure(plan: &Plan, args: &Args) -> Result<Vec<Watched>> {
    let works: Vec<_> = WORKS.into_iter().filter(|work| args.wants(&row::name(Place::Watched, *work))).collect();
    if works.is_empty() {
        return Ok(Vec::new());
    }
    let build = |variant| Network::build(Place::Watched, Peer::Vswitch(variant), args.congestion.as_deref());
    let (plain, recorded) = (build(Variant::Default)?, build(Variant::Recorded)?);
    let sample = |work: Work, watcher: Watcher| {
        crate::machine::wait_until_quiet(Duration::from_secs_f64(args.patience))?;
        let network = if watcher == Watcher::Recorder { &recorded } else { &plain };
        let outcome = watcher.during(network, || work.run(network, plan));
        outcome.context(format_args!("{}: {watcher}", row::name(Place::Watched, work)))
    };
    let turn = |work: Work, turn: u32| {
        eprintln!("{} {turn}/{} ...", row::name(Place::Watched, work), args.pairs);
        let [nobody, recorder, trace] = Watcher::ALL;
        Ok([sample(work, nobody)?, sample(work, recorder)?, sample(work, trace)?])
    };
    let all =
        |work| Ok(Watched { work, turns: (1..=args.pairs).map(|number| turn(work, number)).collect::<Result<_>>()? });
    works.into_iter().map(all).collect()
}

impl Watcher {
    const ALL: [Self; 3] = [Self::Nobody, Self::Recorder, Self::Trace];

    /// Does `work` while this one looks on.
    fn during(self, network: &Network, work: impl FnOnce() -> Result<Sample>) -> Result<Sample> {
        match self {
            Self::Nobody => work(),
            Self::Recorder => thread::scope(|scope| {
                let (end, ended) = channel();
                let host = network.host().context("vswitchd's host")?.twin("scraper")?;
                let scraper = scope.spawn(move || scrape_until(&host, &ended));
                let outcome = work();
                drop(end);
                scraper.join().map_err(|_| netns_tests::Failure::new("the scraper panicked"))??;
                outcome
            }),
            Self::Trace => {
                let mut command = network.daemon().context("vswitchd")?.vsctl().command()?;
                command.args(["trace", "--live"]).stdin(Stdio::null()).stdout(Stdio::null());
                let mut vsctl = command.spawn()?;
                let outcome = work();
                let ended = vsctl.try_wait()?;
                vsctl.kill()?;
                vsctl.wait()?;
                ensure!(ended.is_none(), "vsctl trace --live ended while frames passed");
                outcome
            }
        }
    }
}

/// Scrapes again and again until the other end of `ended` is dropped.
fn scrape_until(host: &Host, ended: &Receiver<()>) -> Result {
    loop {
        let page = host.call(scrape)?;
        ensure!(page.contains("vswitch_port_"), "what is scraped has no ports: {page}");
        if ended.recv_timeout(BETWEEN_SCRAPES) != Err(RecvTimeoutError::Timeout) {
            return Ok(());
        }
    }
}

fn scrape() -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, METRICS_PORT))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

impl Watched {
    pub(crate) const HEADINGS: [&str; 6] =
        ["work", "who looks on", "median (least-most)", "x nobody", "vswitchd's CPU", "x nobody"];

    pub(crate) fn lines(&self) -> Vec<[String; 6]> {
        let line = |(index, watcher): (usize, Watcher)| {
            let rates: Vec<_> = self.rates(index).collect();
            let range =
                (rates.iter().copied().fold(f64::INFINITY, f64::min), rates.iter().copied().fold(0.0, f64::max));
            [
                row::name(Place::Watched, self.work),
                watcher.to_string(),
                format!("{:.2} ({:.2}-{:.2}) {}", median(rates), range.0, range.1, self.work.unit()),
                format!("{:.3}", self.ratio(|work, sample| work.rate(sample), index)),
                format!(
                    "{:.3} {}",
                    median(self.turns.iter().map(|turn| cost(self.work, &turn[index])).collect()),
                    self.work.cost_unit()
                ),
                format!("{:.3}", self.ratio(cost, index)),
            ]
        };
        Watcher::ALL.into_iter().enumerate().map(line).collect()
    }

    fn rates(&self, index: usize) -> impl Iterator<Item = f64> {
        self.turns.iter().map(move |turn| self.work.rate(&turn[index]))
    }

    /// The median, over the turns, of a figure against the same while nobody looked.
    fn ratio(&self, figure: impl Fn(Work, &Sample) -> f64, index: usize) -> f64 {
        median(self.turns.iter().map(|turn| figure(self.work, &turn[index]) / figure(self.work, &turn[0])).collect())
    }

    pub(crate) fn json(&self) -> Value {
        let of = |(index, watcher): (usize, Watcher)| {
            json!({
                "watcher": watcher.to_string(),
                "rates": self.rates(index).collect::<Vec<_>>(),
                "ratio": self.ratio(|work, sample| work.rate(sample), index),
                "ratio_cpu": self.ratio(cost, index),
            })
        };
        let watchers: Vec<_> = Watcher::ALL.into_iter().enumerate().map(of).collect();
        json!({"name": row::name(Place::Watched, self.work), "unit": self.work.unit(), "watchers": watchers})
    }
}

/// CPU seconds of the daemon for a gigabyte or a million frames.
fn cost(work: Work, sample: &Sample) -> f64 {
    sample.spent.daemons.iter().sum::<f64>() / (sample.done / work.batch())
}

impl fmt::Display for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nobody => "nobody",
            Self::Recorder => "metrics, flight recorder",
            Self::Trace => "trace --live",
        })
    }
}
