//! `vswitchd`: ties the switch, the kernel and the user together. Everything a frame meets is in the crates it uses.

mod accounts;
mod announce;
mod args;
mod bounds;
mod clock;
mod control;
mod counters;
mod drops;
mod health;
mod host;
mod log;
mod man;
mod metrics;
mod network;
mod observe;
mod port;
mod privileges;
mod reference;
mod reload;
mod sandbox;
mod start;
mod store;
mod systemd;
mod takeover;
mod too_big;
mod underlay;
mod worker;

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use clap::Parser as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tracing_subscriber::EnvFilter;
use vswitch_sys::HugePages;

use crate::args::{Args, Run};
use crate::control::End;
use crate::systemd::ServiceManager;

/// The FDB of a large network is read all over, for every frame.
#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(page) = args.page() {
        print!("{}", page.text());
        return ExitCode::SUCCESS;
    }
    if args.wants_manual() {
        return match man::write(&mut std::io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE, // nobody listens
        };
    }
    let run = match args.resolve() {
        Ok(run) => run,
        Err(error) => {
            log::last_words(&error);
            return ExitCode::from(2);
        }
    };
    match daemon(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::last_words(&*error);
            ExitCode::FAILURE
        }
    }
}

fn daemon(run: Run) -> Result<(), Box<dyn std::error::Error>> {
    let filter = EnvFilter::try_new(&run.log)
        .map_err(|error| format!("--log {:?}: {error}; say error, warn, info, debug or trace", run.log))?;
    log::begin(filter);
    if let Some(file) = &run.config_file {
        tracing::info!(file = %file.display(), "settings of the config file, where the command line does not say otherwise");
    }
    let (mut manager, inherited) = ServiceManager::meet(); // before anything is opened
    let signal = termination()?; // before any thread starts, so that all of them leave the signals to it
    allow_many_descriptors();
    let reloads = reload::block_hangup()?;
    let taken = if run.takeover { start::in_place(&run, &signal, &mut manager)? } else { None };
    let (mut control, mut server) = match taken {
        Some(daemon) => daemon,
        None => {
            if run.takeover {
                tracing::info!("no vswitchd to take over from: this one starts as usual");
            }
            start::alone(&run, signal, (manager, inherited))?
        }
    };
    tracing::info!(socket = %run.socket.display(), vtep = ?run.vtep_ip, "serving");
    if reloads {
        reload::on_hangup();
    }
    match control.serve(&mut server)? {
        End::Signal => tracing::info!("ending: a signal came"),
        End::HandedOver => {
            tracing::info!("ending: another vswitchd has taken over");
            server.remove_file(false);
        }
    }
    // Before the socket: whoever sees that go may start the next daemon, which wants the ports and the state directory.
    drop(control);
    Ok(())
}

/// Every port has a descriptor for each worker, and for a moment two where they are handed over; the usual soft limit of
/// 1024 is there for programs that use select(2).
fn allow_many_descriptors() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit on open files stays as it was");
    }
}

/// A descriptor that becomes readable when SIGINT or SIGTERM comes.
fn termination() -> nix::Result<OwnedFd> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Into::into)
}
