//! How a daemon comes to serve: on its own, with what a service manager kept, or in the place of one that runs.

use std::error::Error;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use vswitch_api::{Carried, Desired, Sandbox};

use crate::args::Run;
use crate::clock;
use crate::control::{Control, Server};
use crate::host;
use crate::metrics::Listener;
use crate::network::Site;
use crate::port::carrier::UnderlayMode;
use crate::port::handed::VxlanDescriptors;
use crate::port::tunnel::{OpenError, TunnelPort};
use crate::privileges::{self, Rights};
use crate::store::{Store, StoreError};
use crate::systemd::{Inheritance, ServiceManager};
use crate::takeover::{Estate, Handed, Heir, Kept, Name, Snapshot, TakeoverError, VtepRecord};
use crate::underlay::Underlay;
use crate::worker::{Datapath, WorkerOptions, Workers};
use crate::{accounts, sandbox};

/// How long sockets may still be held by others after they were let go.
const LETTING_GO: Duration = Duration::from_secs(2);

/// What serves.
type Daemon = (Control, Server);

/// Starts with what there is on disk, and what `inherited` brings.
pub(crate) fn alone(
    run: &Run,
    signal: OwnedFd,
    (mut manager, inherited): (ServiceManager, Inheritance),
) -> Result<Daemon, Box<dyn Error>> {
    let Inheritance { control, left, descriptors } = inherited;
    let server = match control {
        Some(listener) => {
            if run.access.group.is_some() {
                tracing::warn!(
                    "the control socket is the service manager's: who may connect is said there (SocketGroup=, SocketMode=)"
                );
            }
            Server::adopt(&run.socket, listener, run.access.clone(), false, signal)?
        }
        None => Server::bind(&run.socket, run.access.clone(), signal)?,
    };
    let store = Store::open(&run.state_dir)?;
    let desired = desired(run, &store)?;
    let underlay = run.vtep_ip.map(Underlay::find).transpose()?;
    let (estate, vxlan) = Estate::waiting(left.as_ref().map(|left| &left.snapshot), descriptors);
    let tunnels = tunnels(run, underlay, vxlan, &mut manager)?;
    let metrics = Listener::open(run.metrics_addr, None)?; // as long as it may
    let boot = host::boot(); // no file is read once there is a sandbox
    let rights = rights(run, &store)?; // before any thread starts, so that all of them have no more
    // Paused: what waits in queues that were kept would find half of the ports.
    let workers = Workers::start(Datapath::siblings(tunnels, run.bounds, seed()), options(run), &server.waker())?;
    let site = Site { underlay, identity: store.identity(seed)?, source_guard: run.source_guard, boot };
    let mut control = Control::start(desired, (site, run.vtep_port), rights, store, workers, (estate, manager))?;
    control.write_down()?;
    control.record(run.recorder)?;
    control.begin_probes(run.probe_interval)?;
    control.note_sights();
    if let Some(Kept { snapshot, tally }) = left {
        control.restore_learned(snapshot.learned)?;
        control.restore_tally(tally)?;
    }
    control.answer_metrics(metrics, server.waker(), run.sandbox)?;
    control.let_frames_in()?;
    control.wake_containers();
    Ok((control, server))
}

/// Takes over from the daemon that serves; `None` where none does.
pub(crate) fn in_place(
    run: &Run,
    signal: &OwnedFd,
    manager: &mut ServiceManager,
) -> Result<Option<Daemon>, Box<dyn Error>> {
    let start = Instant::now();
    let Some((mut heir, Handed { snapshot, descriptors })) = Heir::begin(&run.socket)? else { return Ok(None) };
    let store = Store::beside(&run.state_dir)?;
    let underlay = alike(run, &store, &snapshot)?;
    let (metrics, descriptors): (Vec<_>, Vec<_>) =
        descriptors.into_iter().partition(|(name, _)| *name == Name::Metrics);
    let metrics = metrics.into_iter().next().map(|(_, listener)| listener);
    let (listeners, descriptors): (Vec<_>, Vec<_>) =
        descriptors.into_iter().partition(|(name, _)| *name == Name::Control);
    let (estate, vxlan) = Estate::working(&snapshot, descriptors);
    let server = match listeners.into_iter().next() {
        Some((_, listener)) => {
            Server::adopt(&run.socket, listener.into(), run.access.clone(), false, signal.try_clone()?)?
        }
        None => return Err(TakeoverError::NoSocket.into()),
    };
    let tunnels = match underlay {
        Some(underlay) => {
            let (sockets, mut uplink) = vxlan.for_workers(run.workers).ok_or(TakeoverError::NoSockets)?;
            let was = snapshot.vtep.map(|vtep| vtep.index);
            if uplink.is_some() && was != Some(underlay.index) {
                tracing::warn!("the underlay's interface was made anew: VXLAN goes by UDP sockets until a restart");
                uplink = None;
            }
            TunnelPort::adopt(underlay, run.vtep_port, run.underlay, (sockets, uplink))?
        }
        None => Vec::new(),
    };
    let metrics = Listener::open(run.metrics_addr, metrics)?;
    let boot = host::boot();
    let rights = rights(run, &store)?;
    let datapaths = Datapath::siblings(by_worker(run, tunnels), run.bounds, seed());
    let workers = Workers::start(datapaths, options(run), &server.waker())?;
    let site = Site { underlay, identity: store.identity(seed)?, source_guard: run.source_guard, boot };
    let desired = aged(run, snapshot.desired);
    manager.assume(&snapshot.descriptors);
    let inherited = (estate, std::mem::take(manager));
    let mut control = Control::start(desired, (site, run.vtep_port), rights, store, workers, inherited)?;
    control.record(run.recorder)?;
    control.begin_probes(run.probe_interval)?;
    control.restore_learned(snapshot.learned)?;

    // From here on frames wait.
    let tally = heir.pause()?;
    let paused_at = vswitch_core::Instant::from_nanos(tally.paused_at);
    control.restore_tally(tally)?;
    control.take_charge()?;
    let paused = clock::now().since(paused_at);
    // Before the other ends: a service manager would take that for the end of the service.
    control.announce();
    heir.commit()?;
    if let Err(error) = control.answer_metrics(metrics, server.waker(), run.sandbox) {
        tracing::error!(%error, "nobody answers for metrics");
    }
    let mut server = server;
    server.remove_file(snapshot.removes_socket);
    tracing::info!("took over in {} ms, paused {:.1} ms", start.elapsed().as_millis(), paused.as_secs_f64() * 1e3);
    if let Err(error) = control.write_down() {
        tracing::error!(%error, "what was taken over could not be written down");
    }
    control.note_sights();
    Ok(Some((control, server)))
}

/// Refuses what cannot be otherwise in the daemon that takes over. Returns the underlay as it is now.
fn alike(run: &Run, store: &Store, snapshot: &Snapshot) -> Result<Option<Underlay>, Box<dyn Error>> {
    let differs = |what, theirs: String, ours: String| {
        if theirs == ours { Ok(()) } else { Err(TakeoverError::Differs { what, theirs, ours }) }
    };
    let none = || "none".to_owned();
    let vtep = snapshot.vtep;
    if store.place()? != snapshot.state_dir {
        let (theirs, ours) = ("another directory".to_owned(), run.state_dir.display().to_string());
        differs("--state-dir", theirs, ours)?;
    }
    let user = run.user.as_ref().map_or_else(geteuid, |user| user.uid);
    differs("its state as user", store.owner()?.to_string(), user.to_string())?;
    differs("--workers", snapshot.workers.to_string(), run.workers.to_string())?;
    let ip = vtep.map(|vtep| vtep.ip);
    differs(
        "--vtep-ip",
        ip.map_or_else(none, |ip| ip.to_string()),
        run.vtep_ip.map_or_else(none, |ip| ip.to_string()),
    )?;
    let Some(VtepRecord { ip, port, index, mtu, carried }) = vtep else { return Ok(None) };
    differs("--vtep-port", port.to_string(), run.vtep_port.to_string())?;
    match (carried, run.underlay) {
        (Carried::Uplink, UnderlayMode::Udp) => differs("--underlay", "uplink".to_owned(), "udp".to_owned())?,
        (Carried::Udp, UnderlayMode::Uplink) => differs("--underlay", "udp".to_owned(), "uplink".to_owned())?,
        _ => {}
    }
    let here = Underlay::find(ip)?;
    // Sockets go by the address, on whatever interface that is now. An uplink's programs are of one interface.
    if here.index != index && run.underlay == UnderlayMode::Uplink {
        return Err(TakeoverError::UplinkGone(ip).into());
    }
    Ok(Some(Underlay { mtu, ..here }))
}

/// The tunnel of each worker: with the sockets that were kept where they are those that are wanted, else with new ones.
fn tunnels(
    run: &Run,
    underlay: Option<Underlay>,
    kept: VxlanDescriptors,
    manager: &mut ServiceManager,
) -> Result<Vec<Option<TunnelPort>>, Box<dyn Error>> {
    let were_kept = !kept.is_empty();
    if were_kept {
        if let (Some(underlay), Some(kept)) = (underlay, kept.for_workers(run.workers)) {
            match TunnelPort::adopt(underlay, run.vtep_port, run.underlay, kept) {
                Ok(tunnels) => return Ok(by_worker(run, tunnels)),
                Err(error) => tracing::warn!(%error, "the VXLAN sockets that were kept cannot be used"),
            }
        }
        // As long as somebody has them, their ports are taken, and what comes in is nobody's.
        manager.forget_vxlan();
    }
    let Some(underlay) = underlay else { return Ok(by_worker(run, Vec::new())) };
    let start = Instant::now();
    let tunnels = loop {
        match TunnelPort::open(underlay, run.vtep_port, run.underlay, run.workers) {
            // A process that the service manager has just forked holds its descriptors until it runs its own program.
            Err(OpenError::Sockets(error)) if were_kept && error.is_in_use() && start.elapsed() < LETTING_GO => {
                thread::sleep(Duration::from_millis(5));
            }
            opened => break opened?,
        }
    };
    if manager.is_there() {
        for (number, tunnel) in (0..).zip(&tunnels) {
            for (name, descriptor) in tunnel.descriptors(number)? {
                manager.keep(&name, &[descriptor.as_fd()]);
            }
        }
    }
    Ok(by_worker(run, tunnels))
}

/// How workers start.
const fn options(run: &Run) -> WorkerOptions {
    WorkerOptions { poll: run.poll, confined: run.sandbox, paused: true }
}

/// One for each worker; none where there is no VTEP.
fn by_worker(run: &Run, tunnels: Vec<TunnelPort>) -> Vec<Option<TunnelPort>> {
    let mut tunnels = tunnels.into_iter();
    (0..run.workers).map(|_| tunnels.next()).collect()
}

/// What to start with: what was last acknowledged, else what the config file says.
fn desired(run: &Run, store: &Store) -> Result<Desired, StoreError> {
    let stored: Option<Desired> = store.load()?;
    Ok(aged(
        run,
        match (stored, &run.config) {
            (Some(stored), _) => stored,
            (None, Some(config)) => config.desired.clone(),
            (None, None) => Desired::default(),
        },
    ))
}

/// The same state with the ageing of the config file, where that names one.
fn aged(run: &Run, desired: Desired) -> Desired {
    match run.config.as_ref().and_then(|config| config.settings.ageing) {
        Some(ageing) => desired.with_ageing(ageing),
        None => desired,
    }
}

/// Gives up what was needed at start only.
fn rights(run: &Run, store: &Store) -> Result<Rights, Box<dyn Error>> {
    match &run.user {
        Some(user) => store.give(user)?,
        // Without the right to pass over others' rights root needs to own it.
        None if geteuid().is_root() => store.give(&accounts::root())?,
        None => {}
    }
    let user = run.user.as_ref().map_or_else(accounts::own_name, |user| user.name.clone()); // it takes a file to be read
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
    tracing::info!(user, capabilities = %privileges, ?sandbox, "gave up what serving does not take");
    Ok(Rights { user, privileges, sandbox })
}

/// Randomness that a container cannot foresee; std seeds its maps from the kernel's.
fn seed() -> u64 {
    RandomState::new().hash_one(0)
}
