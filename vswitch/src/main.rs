//! `vswitchd`: ties the switch, the kernel and the user together. Everything a frame meets is in the crates it uses.

mod accounts;
mod args;
mod bounds;
mod control;
mod counters;
mod drops;
mod host;
mod network;
mod port;
mod privileges;
mod sandbox;
mod store;
mod too_big;
mod underlay;
mod worker;

use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use clap::Parser as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::geteuid;
use tracing_subscriber::EnvFilter;
use vswitch_api::{Desired, Sandbox};
use vswitch_sys::HugePages;

use crate::args::{Args, Run};
use crate::control::{Control, Server};
use crate::network::Site;
use crate::port::tunnel::TunnelPort;
use crate::privileges::Rights;
use crate::store::Store;
use crate::underlay::Underlay;
use crate::worker::{Datapath, Workers};

/// The FDB of a large network is read all over, for every frame.
#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() -> ExitCode {
    let run = match Args::parse().resolve() {
        Ok(run) => run,
        Err(error) => {
            eprintln!("vswitchd: {error}");
            return ExitCode::from(2);
        }
    };
    match daemon(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vswitchd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn daemon(run: Run) -> Result<(), Box<dyn std::error::Error>> {
    let filter = EnvFilter::try_new(&run.log)
        .map_err(|error| format!("--log {:?}: {error}; say error, warn, info, debug or trace", run.log))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    let signal = termination()?; // before any thread starts, so that all of them leave the signals to it
    allow_many_descriptors();
    let mut server = Server::bind(&run.socket, run.access.clone(), signal)?;
    let store = Store::open(&run.state_dir)?;
    let desired = desired(&run, &store)?;
    let underlay = run.vtep_ip.map(Underlay::find).transpose()?;
    let tunnels = match underlay {
        Some(underlay) => TunnelPort::open(underlay, run.vtep_port, run.underlay, run.workers)?,
        None => Vec::new(),
    };
    let rights = rights(&run, &store)?; // before any thread starts, so that all of them have no more
    let mut tunnels = tunnels.into_iter();
    let tunnels = (0..run.workers).map(|_| tunnels.next()).collect();
    let datapaths = Datapath::siblings(tunnels, run.bounds, seed());
    let workers = Workers::start(datapaths, run.poll, run.sandbox, &server.waker())?;
    let site = Site { underlay, identity: store.identity(seed)? };
    let mut control = Control::start(desired, site, run.vtep_port, rights, store, workers)?;
    tracing::info!(socket = %run.socket.display(), vtep = ?run.vtep_ip, "serving");
    control.serve(&mut server)?;
    tracing::info!("ending: a signal came");
    Ok(())
}

/// Gives up what was needed at start only.
fn rights(run: &Run, store: &Store) -> Result<Rights, Box<dyn std::error::Error>> {
    match &run.user {
        Some(user) => store.give(user)?,
        // Without the right to pass over others' rights root needs to own it.
        None if geteuid().is_root() => store.give(&accounts::root())?,
        None => {}
    }
    let privileges = privileges::reduce(run.user.as_ref(), run.enter_namespaces)?;
    let sandbox = match (run.sandbox, privileges.enters()) {
        (false, _) => None,
        (true, true) => sandbox::is_supported().then_some(Sandbox::Workers),
        (true, false) => sandbox::confine_daemon(&run.state_dir, &run.socket)?.then_some(Sandbox::Daemon),
    };
    if run.sandbox && sandbox.is_none() {
        tracing::warn!(
            "no sandbox: this kernel has no Landlock (Linux 5.13), or was not started with it (lsm=landlock)"
        );
    }
    let user = run.user.as_ref().map_or_else(accounts::own_name, |user| user.name.clone());
    tracing::info!(user, capabilities = %privileges, ?sandbox, "gave up what serving does not take");
    Ok(Rights { user, privileges, sandbox })
}

/// Every port has a descriptor for each worker; the usual soft limit of 1024 is there for programs that use select(2).
fn allow_many_descriptors() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit on open files stays as it was");
    }
}

/// What to start with: what was last acknowledged, else what the config file says.
fn desired(run: &Run, store: &Store) -> Result<Desired, store::StoreError> {
    let stored: Option<Desired> = store.load()?;
    let ageing = run.config.as_ref().and_then(|config| config.settings.ageing);
    let desired = match (stored, &run.config) {
        (Some(stored), _) => stored,
        (None, Some(config)) => config.desired.clone(),
        (None, None) => Desired::default(),
    };
    Ok(match ageing {
        Some(ageing) => desired.with_ageing(ageing),
        None => desired,
    })
}

/// Randomness that a container cannot foresee; std seeds its maps from the kernel's.
fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// A descriptor that becomes readable when SIGINT or SIGTERM comes.
fn termination() -> nix::Result<OwnedFd> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Into::into)
}
