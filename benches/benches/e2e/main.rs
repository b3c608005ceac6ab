//! The comparison with the kernel's own switch, end to end: the same traffic over the same kind of network, in turns.
//!
//! Every peer's network stands while its rows are measured, and the peers take turns (A B A B ...), so that whatever else
//! the machine does hits all of them. See README.md for how to read the table.

mod apart;
mod args;
mod chart;
mod idle;
mod machine;
mod meter;
mod network;
mod peer;
mod poll;
mod report;
mod row;
mod watched;
mod work;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use netns_tests::{Context as _, Result, binaries::binaries};

use crate::apart::Apart;
use crate::args::Args;
use crate::machine::Machine;
use crate::network::Network;
use crate::peer::{Peer, Place};
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
    if let (Some(samples), Some(path)) = (&args.from, &args.chart) {
        let text = std::fs::read_to_string(samples).context(samples.display())?;
        return draw(&serde_json::from_str(&text).context(samples.display())?, path);
    }
    let binaries = binaries()?;
    let machine = Machine::read(args.congestion.as_deref())?;
    eprintln!("{machine}; the switch: {}", binaries.vswitchd.display());
    let window = Duration::from_secs_f64(args.seconds);
    let plan = Plan { warm_up: WARM_UP, window, no_delay: args.no_delay, apart: None };
    let apart = Apart::on(&machine, args.apart);
    let mut report = Report::new(machine);
    for place in Place::ALL {
        let rows: Vec<_> = Work::ALL.into_iter().filter(|work| args.wants(&row::name(place, *work))).collect();
        if rows.is_empty() {
            continue;
        }
        let (peers, skipped) = place.peers(args.workers);
        report.skipped.extend(skipped);
        let networks = build(place, &peers, args, &mut report.skipped)?;
        for work in rows {
            let row = measure(place, work, &networks, &plan, apart, args)?;
            eprint!("{row}");
            report.rows.push(row);
        }
    }
    if args.wants(&row::name(Place::Poll, Work::PingPong)) {
        report.poll = Some(poll::measure(&plan, args)?);
    }
    report.watched = watched::measure(&plan, args)?;
    for ports in [10, 100] {
        if args.wants(&idle::name(ports)) {
            eprintln!("{} ...", idle::name(ports));
            report.idle.push(idle::run(ports, Duration::from_secs_f64(args.idle_seconds))?);
        }
    }
    print!("{report}");
    let samples = report.json();
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&samples)?;
        std::fs::write(path, json + "\n").context(path.display())?;
    }
    args.chart.as_ref().map_or(Ok(()), |path| draw(&samples, path))
}

fn draw(samples: &serde_json::Value, path: &Path) -> Result {
    std::fs::write(path, chart::svg(samples)?).context(path.display())
}

/// Every peer's network. One that others make, and that cannot be had here, is skipped; ours and the kernel's must stand.
fn build(place: Place, peers: &[Peer], args: &Args, skipped: &mut Vec<String>) -> Result<Vec<(Peer, Network)>> {
    let mut networks = Vec::new();
    for &peer in peers {
        let name = format!("{}: {peer}", place.name());
        match Network::build(place, peer, args.congestion.as_deref()) {
            Ok(network) => networks.push((peer, network)),
            Err(failure) if matches!(peer, Peer::OpenVswitch(_)) => skipped.push(format!("{name}: {failure}")),
            failed => return failed.context(name).map(|_| networks),
        }
    }
    Ok(networks)
}

/// Every peer once, and again, as often as asked for.
fn measure(
    place: Place,
    work: Work,
    networks: &[(Peer, Network)],
    plan: &Plan,
    apart: Option<Apart>,
    args: &Args,
) -> Result<Row> {
    let mut row = Row::new(place, work, networks.iter().map(|&(peer, _)| peer));
    for turn in 1..=args.pairs {
        eprintln!("{} {turn}/{} ...", row.name(), args.pairs);
        for (peer, network) in networks {
            let name = format!("{}: {peer}", row.name());
            let patience = Duration::from_secs_f64(args.patience);
            row.add(*peer, undisturbed(work, network, plan, patience).context(&name)?);
            if let Some(apart) = apart.filter(|_| work != Work::PingPong) {
                let _pinned = apart.pin(&network.daemons)?;
                let plan = Plan { apart: Some(apart), ..*plan };
                row.add_apart(*peer, undisturbed(work, network, &plan, patience).context(&name)?);
            }
        }
    }
    Ok(row)
}

/// A sample of a machine that nobody else uses; after some tries, of one that is as it is.
fn undisturbed(work: Work, network: &Network, plan: &Plan, patience: Duration) -> Result<Sample> {
    for _ in 1..TRIES {
        machine::wait_until_quiet(patience)?;
        let sample = work.run(network, plan)?;
        if !sample.spent.is_disturbed() {
            return Ok(sample);
        }
    }
    machine::wait_until_quiet(patience)?;
    work.run(network, plan)
}
