//! Hours in minutes: mixed traffic, ports and settings that come and go, daemons that are ended and started again, and
//! a look every second at whether anything grows.
//!
//! ```text
//! cargo run --release -p netns-tests --example soak -- --minutes 60
//! ```
//!
//! ```text
//!      a1  a2  + those that come and go       b1  b2  + those that come and go
//!       |   |                                  |   |
//!      [ h1: never ended ] ---- underlay ---- [ h2: ended and started again ]
//! ```
//!
//! Between `a1` and `a2` nothing may fail at all; what a restart of `h2` interrupts is counted. Every byte is checked, on
//! either way. In the end each host must have the settings that were acknowledged, and no series of samples may have
//! grown: the median of its last quarter is compared with that of its first. Says what it measured as a table, and ends
//! with code 1 where something was wrong.

mod churn;
mod flows;
mod gauges;
mod restarts;
mod verdict;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use netns_tests::{Lab, Node, Result, binaries::binaries};
use nix::sys::signal::Signal;

use churn::Churn;
use flows::{End, Flows};
use gauges::Gauges;
use restarts::Restarts;

/// Between two looks at the gauges.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Parser)]
#[command(about = "Loads two hosts for a while and says whether anything grew")]
struct Options {
    /// How long, in minutes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// Seconds from one restart to the next
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=3600))]
    restart_every: u64,
    /// Seed of all random numbers; printed where none is given
    #[arg(long)]
    seed: Option<u64>,
    /// How VXLAN is carried: udp or uplink, where not as the daemons find best
    #[arg(long, value_parser = ["udp", "uplink"])]
    underlay: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::from(now.subsec_nanos()));
    let seed = options.seed.unwrap_or_else(now);
    println!("soak: {} minutes, --seed {seed}", options.minutes);
    let underlay = options.underlay.as_deref().map(|mode| if mode == "udp" { "udp" } else { "uplink" });
    let outcome = binaries().and_then(|_| {
        let lab = Lab::new(seed, underlay)?;
        let outcome = soak(&lab, &options, seed);
        if !matches!(outcome, Ok(true)) {
            println!("logs and state files: {}", lab.keep().display());
        }
        outcome
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("soak: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was well.
fn soak(lab: &Lab, options: &Options, seed: u64) -> Result<bool> {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let attach = |node: &Node, name: &'static str, number: u8| {
        let words = format!("--address 10.0.0.{number}/24 --address fd00::{number}/64 --access 10");
        let host = node.attach(lab, name, &words)?;
        Result::Ok(End::new(host, number))
    };
    let (a1, a2) = (attach(&h1, "a1", 1)?, attach(&h1, "a2", 2)?);
    let (b1, b2) = (attach(&h2, "b1", 11)?, attach(&h2, "b2", 12)?);
    let ends = [&a1, &a2, &b1, &b2];
    let settings = [churn::settings(h1.vsctl())?, churn::settings(h2.vsctl())?];

    let stop = AtomicBool::new(false);
    let restarts = Restarts::new();
    let mut gauges = Gauges::new(lab, &ends)?;
    let flows = Flows::new(&stop, &restarts, seed);
    let churns = [
        Churn::new(lab, h1.vsctl().clone(), "a1", &stop, seed),
        Churn::new(lab, h2.vsctl().clone(), "b1", &stop, !seed),
    ];
    let length = Duration::from_secs(60 * options.minutes);
    let every = Duration::from_secs(options.restart_every);

    let start = Instant::now();
    let (h1, h2) = thread::scope(|scope| {
        let mut nodes = (h1, h2);
        let mut next = start + every;
        let mut run = || {
            flows.start(scope, [&a1, &a2], [&b1, &b2])?;
            for churn in &churns {
                churn.start(scope, &gauges)?;
            }
            while start.elapsed() < length {
                if Instant::now() >= next {
                    nodes.1.daemon = match restarts.count() % 3 {
                        0 => restarts.restart(lab, &nodes.1, Signal::SIGTERM)?,
                        1 => restarts.restart(lab, &nodes.1, Signal::SIGKILL)?,
                        _ => restarts.take_over(lab, &nodes.1)?,
                    };
                    next = Instant::now() + every;
                }
                gauges.look(start.elapsed(), [&nodes.0, &nodes.1])?;
                thread::sleep(LOOK);
            }
            Result::Ok(())
        };
        let outcome = run();
        stop.store(true, Ordering::Relaxed);
        outcome.map(|()| nodes)
    })?;
    let mut findings = flows.findings();
    findings.extend(churns.iter().flat_map(Churn::findings));

    // Quiet again: all is there that was acknowledged, and nothing else; a restart finds the same; and it works.
    let mut nodes = [h1, h2];
    for (node, settings) in nodes.iter_mut().zip(settings) {
        findings.extend(churn::differences(node, &settings)?);
        node.daemon = restarts.restart(lab, node, Signal::SIGKILL)?;
        findings.extend(churn::differences(node, &settings)?);
    }
    findings.extend(flows::last_words([(&a1, &a2), (&a1, &b1), (&b2, &a2)], seed));
    findings.extend(gauges.leftovers());

    let [first, second] = churns.each_ref().map(Churn::cycles);
    println!("\n| what | count |\n|---|---|");
    println!("| minutes | {:.1} |", start.elapsed().as_secs_f64() / 60.0);
    println!("| restarts (SIGTERM, SIGKILL, takeover in turn) | {} |", restarts.count());
    println!("| ports added and deleted, on the two hosts | {} + {} |", first.ports, second.ports);
    println!("| of these with a namespace made for it and deleted under it | {} + {} |", first.lost, second.lost);
    println!("| VLANs, peers and static addresses added and deleted | {} + {} |", first.settings, second.settings);
    flows.print();
    let grown = verdict::print(gauges.series());
    for finding in findings.iter().chain(&grown) {
        println!("WRONG: {finding}");
    }
    Ok(findings.is_empty() && grown.is_empty())
}
