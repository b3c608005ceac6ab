//! What a runtime waits for: ADD and DEL of `vswitch-cni`, with its own addresses and with those of `host-local`, and of
//! the stock `bridge` plugin with `host-local`, each beside many containers, in turns.
//!
//! A sample is a whole process as a runtime calls it, from its start to its end with a result that was read. What it did
//! is looked at afterwards, outside the sample: the interface is there with the address that the result names, and gone
//! again after DEL.

#[path = "../e2e/machine.rs"]
mod machine;
mod network;
mod peer;
mod plugin;
mod report;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use netns_tests::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::machine::{Machine, wait_until_quiet};
use crate::network::Network;
use crate::peer::{Peer, Task};
use crate::report::{Report, Row};

/// Pairs between two looks whether the machine is quiet.
const PAIRS_A_LOOK: usize = 20;

/// Measures how long a container waits for its network.
#[derive(Debug, Parser)]
#[command(name = "cni")]
struct Args {
    /// Measure only rows whose name contains one of these, as `plain` or `routed`
    filters: Vec<String>,
    /// How many containers each network has all the time
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(..=10_000))]
    containers: u16,
    /// How often each plugin has its turn
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Where the stock plugins are
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/cni")]
    stock: PathBuf,
    /// How long to wait, now and then, for a machine that has nothing else to do
    #[arg(long, default_value_t = 10.0)]
    patience: f64,
    /// Where to write every sample as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What `cargo bench` says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        // `cargo test --all-targets` starts benches too, and has no minutes to spare.
        println!("the latency of the CNI plugins is measured with `cargo bench -p benches --bench cni`");
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("cni: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result {
    own_mounts().context("a mount namespace (needs root)")?;
    let mut report = Report::new(Machine::read(None)?, args.containers);
    for task in Task::ALL {
        if args.filters.is_empty() || args.filters.iter().any(|filter| task.name().contains(filter.as_str())) {
            let row = measure(task, args, &mut report.skipped)?;
            eprint!("{row}");
            report.rows.push(row);
        }
    }
    print!("{report}");
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report.json())? + "\n").context(path.display())?;
    }
    Ok(())
}

/// Every plugin's network with its containers, then all in turns.
fn measure(task: Task, args: &Args, skipped: &mut Vec<String>) -> Result<Row> {
    let mut networks = Vec::new();
    for peer in Peer::ALL {
        match peer.hindrance(&args.stock) {
            Some(why) => skipped.push(format!("{}: {peer}: {why}", task.name())),
            None => networks.push(Network::new(peer, task, &args.stock).context(peer)?),
        }
    }
    let mut row = Row::new(task, networks.iter().map(|network| network.peer))?;
    for number in 0..args.containers {
        for network in &mut networks {
            let sample = network.add(&format!("present-{number}"))?;
            row.filling(network.peer, sample)?;
        }
    }
    for pair in 0..args.pairs as usize {
        if pair.is_multiple_of(PAIRS_A_LOOK) {
            eprintln!("{} {pair}/{} ...", task.name(), args.pairs);
            wait_until_quiet(Duration::from_secs_f64(args.patience))?;
        }
        // Who was first is last next time: whatever one leaves behind, others meet as often as it does.
        networks.reverse();
        let container = format!("turn-{pair}");
        for network in &mut networks {
            let sample = network.add(&container)?;
            row.add(network.peer, sample)?;
        }
        for network in &mut networks {
            let sample = network.del(&container)?;
            row.del(network.peer, sample)?;
        }
    }
    Ok(row)
}

/// A mount namespace in which names of network namespaces end with this process, and the machine's own are not seen.
fn own_mounts() -> Result {
    const NAMED: &str = "/run/netns";
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    DirBuilder::new().recursive(true).mode(0o755).create(NAMED)?;
    Ok(mount(Some("netns"), NAMED, Some("tmpfs"), MsFlags::empty(), None::<&str>)?)
}
