//! The comparison with the kernel's own switch, end to end: the same traffic over the same kind of network, in turns.
//!
//! Every peer's network stands while its rows are measured, and the peers take turns (A B A B ...), so that whatever else
//! the machine does hits all of them. See README.md for how to read the table.

mod args;
mod idle;
mod meter;
mod network;
mod report;
mod row;
mod work;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use netns_tests::{Context as _, Result, binaries::binaries};

use crate::args::Args;
use crate::meter::Machine;
use crate::network::{Network, Peer, Place};
use crate::report::Report;
use crate::row::Row;
use crate::work::{Plan, Sample, Work};

/// Before the window that is measured: connections are made, addresses learned, congestion windows open.
const WARM_UP: Duration = Duration::from_millis(500);

/// How often a sample is taken anew because others used the machine.
const TRIES: u32 = 3;

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        // `cargo test --all-targets` starts benches too, and has no minutes to spare.
        println!("the end-to-end comparison runs with `cargo bench -p benches --bench e2e`");
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("e2e: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result {
    let binaries = binaries()?;
    let machine = Machine::read()?;
    eprintln!("{machine}; the switch: {}", binaries.vswitchd.display());
    let plan = Plan { warm_up: WARM_UP, window: Duration::from_secs_f64(args.seconds) };
    let mut report = Report::new(machine);
    for place in Place::ALL {
        let rows: Vec<_> = Work::ALL.into_iter().filter(|work| args.wants(&row::name(place, *work))).collect();
        if rows.is_empty() {
            continue;
        }
        let networks = build(place)?;
        for work in rows {
            let row = measure(place, work, &networks, &plan, args)?;
            eprint!("{row}");
            report.rows.push(row);
        }
        report.skipped.extend(place.skipped());
    }
    for ports in [10, 100] {
        if args.wants(&idle::name(ports)) {
            eprintln!("{} ...", idle::name(ports));
            report.idle.push(idle::run(ports, Duration::from_secs_f64(args.idle_seconds))?);
        }
    }
    print!("{report}");
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report.json())?;
        std::fs::write(path, json + "\n").context(path.display())?;
    }
    Ok(())
}

fn build(place: Place) -> Result<Vec<(Peer, Network)>> {
    place
        .peers()
        .iter()
        .map(|&peer| Ok((peer, Network::build(place, peer).context(format_args!("{}: {peer}", place.name()))?)))
        .collect()
}

/// Every peer once, and again, as often as asked for.
fn measure(place: Place, work: Work, networks: &[(Peer, Network)], plan: &Plan, args: &Args) -> Result<Row> {
    let mut row = Row::new(place, work, networks.iter().map(|&(peer, _)| peer));
    for turn in 1..=args.pairs {
        eprintln!("{} {turn}/{} ...", row.name(), args.pairs);
        for (peer, network) in networks {
            let run = || undisturbed(work, network, plan, Duration::from_secs_f64(args.patience));
            row.add(*peer, run().context(format_args!("{}: {peer}", row.name()))?);
        }
    }
    Ok(row)
}

/// A sample of a machine that nobody else uses; after some tries, of one that is as it is.
fn undisturbed(work: Work, network: &Network, plan: &Plan, patience: Duration) -> Result<Sample> {
    for _ in 1..TRIES {
        meter::wait_until_quiet(patience)?;
        let sample = work.run(network, plan)?;
        if !sample.spent.is_disturbed() {
            return Ok(sample);
        }
    }
    meter::wait_until_quiet(patience)?;
    work.run(network, plan)
}
